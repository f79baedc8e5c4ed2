"""The order queue: it leaves out orders, and the book at the venue is still the same."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velox import BUNDLE_DTYPE, TRANSACTION_DTYPE, Kind
from velox.errors import ConfigError
from velox.solana.orders.outcomes import Outcome, Tally
from velox.solana.orders.queue import OrderBatch, OrderQueue, transactions_in
from velox.solana.orders.working import RestingOrder, WorkingOrders

ADD, CANCEL, EXECUTE = int(Kind.ADD), int(Kind.CANCEL), int(Kind.EXECUTE)


def records(*rows: tuple[int, ...]) -> Any:
    """Records from (kind, id, price, size), with side and market if given."""
    made = np.zeros(len(rows), TRANSACTION_DTYPE)
    for record, (kind, id, price, size, *more) in zip(made, rows, strict=True):
        record["kind"], record["id"], record["price"], record["size"] = kind, id, price, size
        if more:
            record["side"], record["market"] = more
    return made


def up_to(most: int) -> Any:
    return lambda records, cancels, places: records <= most


class Watched:
    """A queue, and how each order ended."""

    def __init__(self, **options: Any) -> None:
        self.ends: dict[int, tuple[Outcome, str]] = {}
        self.tally = Tally(self.note)
        self.queue = OrderQueue(self.tally, **options)

    def note(self, tickets: Any, outcome: Outcome, reason: str) -> None:
        for ticket in tickets:
            assert int(ticket) not in self.ends, "an order ended twice"
            self.ends[int(ticket)] = outcome, reason

    def push(self, *rows: tuple[int, ...]) -> None:
        self.queue.push(records(*rows))
        self.queue.settle()

    def take(self, most: int = 100) -> OrderBatch:
        batch = self.queue.take(up_to(most))
        assert batch is not None
        return batch

    def land(self, batch: OrderBatch) -> None:
        self.queue.landed(batch)
        self.tally.settle(batch.tickets, Outcome.LANDED)

    def lose(self, batch: OrderBatch) -> None:
        self.queue.lost(batch)
        self.tally.settle(batch.tickets, Outcome.EXPIRED)

    def sent(self, most: int = 100) -> list[tuple[int, int, int]]:
        """Take a batch and let it land; return kind, id and size of its orders."""
        batch = self.queue.take(up_to(most))
        if batch is None:
            return []
        self.land(batch)
        return [(int(r["kind"]), int(r["id"]), int(r["size"])) for r in batch.records()]


def test_bundles_give_their_transactions_in_order() -> None:
    bundles = np.zeros(2, BUNDLE_DTYPE)
    bundles["transactions"]["id"] = np.arange(32).reshape(2, 16)
    bundles["count"] = 2, 3
    assert transactions_in(bundles)["id"].tolist() == [0, 1, 16, 17, 18]
    with pytest.raises(ConfigError, match="BUNDLE_DTYPE"):
        transactions_in(np.zeros(2, TRANSACTION_DTYPE))


def test_market_data_is_counted_and_not_sent() -> None:
    watched = Watched()
    watched.push((EXECUTE, 1, 100, 5), (ADD, 2, 100, 5), (int(Kind.CLEAR), 0, 0, 0))
    assert watched.sent() == [(ADD, 2, 5)]
    ledger = watched.tally.ledger()
    assert (ledger.delivered, ledger.market_data, ledger.landed) == (3, 2, 1)
    assert ledger.balanced


def test_a_cancel_of_an_unsent_add_sends_neither() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5), (CANCEL, 1, 100, 5))
    assert watched.sent() == []
    assert watched.ends == {0: (Outcome.CONFLATED, ""), 1: (Outcome.CONFLATED, "")}


def test_a_smaller_cancel_makes_the_unsent_add_smaller() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5), (CANCEL, 1, 100, 2))
    assert watched.sent() == [(ADD, 1, 3)]
    assert watched.ends[1] == (Outcome.CONFLATED, "")


def test_a_cancel_with_the_id_of_nobody_takes_the_newest_at_its_level() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5), (ADD, 2, 100, 5), (ADD, 3, 101, 5), (CANCEL, 0, 100, 7))
    assert watched.sent() == [(ADD, 1, 3), (ADD, 3, 5)]
    assert watched.ends[1] == watched.ends[3] == (Outcome.CONFLATED, "")


def test_a_cancel_of_nothing_fails_and_says_so() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5, 0, 0), (CANCEL, 0, 100, 5, 1, 0), (CANCEL, 1, 100, 5, 0, 1))
    nothing = Outcome.FAILED, "nothing_to_cancel"
    assert watched.ends == {1: nothing, 2: nothing}


@pytest.mark.parametrize("landed", [True, False])
def test_a_cancel_with_an_id_takes_nothing_but_the_order_with_that_id(landed: bool) -> None:
    watched = Watched()
    watched.push((ADD, 11, 100, 5), (ADD, 12, 100, 5), (ADD, 0, 100, 5))
    if landed:
        watched.sent()
    nothing = Outcome.FAILED, "nothing_to_cancel"
    watched.push((CANCEL, 11, 100, 5), (CANCEL, 11, 100, 5), (CANCEL, 13, 100, 5))
    assert (watched.ends[4], watched.ends[5]) == (nothing, nothing)
    watched.sent()
    watched.push((CANCEL, 11, 100, 5))
    assert watched.ends[6] == nothing
    assert [each.id for each in watched.queue.working.resting()] == [12, 0]


def test_a_later_quote_with_the_same_id_replaces_an_unsent_one() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5), (ADD, 1, 101, 6))
    assert watched.sent() == [(ADD, 1, 6)]
    assert watched.ends[0] == (Outcome.CONFLATED, "")


def test_orders_without_an_id_are_not_taken_for_one_another() -> None:
    watched = Watched()
    watched.push((ADD, 0, 100, 5), (ADD, 0, 101, 6), (CANCEL, 0, 101, 6))
    assert watched.sent() == [(ADD, 0, 5)]


def test_a_quote_that_rests_is_cancelled_in_the_transaction_that_replaces_it() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    watched.sent()
    watched.push((ADD, 1, 101, 6))
    batch = watched.take()
    ((cancelled, left),) = batch.cancels.items()
    assert (cancelled.price, left) == (100, 0)
    assert [each.price for each in batch.places] == [101]


def test_a_partial_cancel_of_a_resting_order_places_the_rest_again() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    watched.sent()
    watched.push((CANCEL, 1, 100, 1), (CANCEL, 1, 100, 1))
    batch = watched.take()
    assert list(batch.cancels.values()) == [3]
    assert batch.records()["size"].tolist() == [1, 1]


def test_what_touches_an_order_under_way_waits_for_it() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    batch = watched.take()
    watched.push((CANCEL, 1, 100, 5), (ADD, 2, 100, 1))
    assert watched.take().records()["id"].tolist() == [2]
    assert watched.queue.take(up_to(9)) is None
    watched.land(batch)
    assert watched.sent() == [(CANCEL, 1, 5)]


def test_a_cancel_that_waited_for_an_order_that_never_came_fails() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    batch = watched.take()
    watched.push((CANCEL, 1, 100, 5))
    watched.lose(batch)
    assert watched.queue.take(up_to(9)) is None
    assert watched.ends[1] == (Outcome.FAILED, "nothing_to_cancel")


def test_a_cancel_of_a_quote_that_never_replaced_another_cancels_the_other() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    watched.sent()
    watched.push((ADD, 1, 101, 9))
    replacement = watched.take()
    watched.push((CANCEL, 1, 101, 9))
    watched.lose(replacement)
    batch = watched.take()
    ((cancelled, left),) = batch.cancels.items()
    assert (cancelled.price, left, batch.records()["size"].tolist()) == (100, 0, [5])


def test_a_cancel_of_an_unsent_replacement_cancels_what_it_was_to_replace() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    watched.sent()
    watched.push((ADD, 1, 101, 9), (CANCEL, 1, 101, 9))
    assert watched.sent() == [(CANCEL, 1, 5)]
    assert len(watched.queue.working) == 0


def test_a_batch_takes_the_oldest_that_fit() -> None:
    watched = Watched()
    watched.push(*((ADD, id, 100, id) for id in range(1, 6)))
    assert watched.sent(2) == [(ADD, 1, 1), (ADD, 2, 2)]
    assert watched.sent(9) == [(ADD, 3, 3), (ADD, 4, 4), (ADD, 5, 5)]


def test_routes_do_not_share_a_batch() -> None:
    watched = Watched(route_of_market=[market % 2 for market in range(256)])
    watched.push(*((ADD, id, 100, 1, 0, id % 2) for id in range(1, 6)))
    assert [each[1] for each in watched.sent()] == [1, 3, 5]
    assert watched.queue.oldest_route == 0
    assert [each[1] for each in watched.sent()] == [2, 4]
    assert watched.queue.oldest_route is None


def test_a_cancel_of_more_orders_than_a_transaction_holds_fails_and_changes_nothing() -> None:
    watched = Watched()
    watched.push(*((ADD, id, 100, 1) for id in range(1, 6)))
    watched.sent()
    watched.push((CANCEL, 0, 100, 5))
    assert watched.queue.take(lambda records, cancels, places: cancels < 5) is None
    assert watched.ends[5] == (Outcome.FAILED, "too_many_orders")
    assert [each.planned for each in watched.queue.working.resting()] == [1] * 5


@pytest.mark.parametrize(("shedding", "left"), [("oldest", [3, 4]), ("newest", [1, 2])])
@pytest.mark.parametrize("settled", [True, False])
def test_over_its_capacity_a_queue_sheds_as_told(
    shedding: Any, left: list[int], settled: bool
) -> None:
    watched = Watched(capacity=2, shedding=shedding)
    for id in range(1, 5):
        watched.queue.push(records((ADD, id, 100, 1)))
        if settled:
            watched.queue.settle()
    watched.queue.settle()
    assert [each[1] for each in watched.sent()] == left
    assert watched.tally.ledger().shed == 2


def test_adds_are_shed_before_cancels() -> None:
    watched = Watched(capacity=2)
    watched.push((ADD, 1, 100, 5), (ADD, 2, 100, 5))
    watched.sent()
    watched.push((CANCEL, 1, 100, 5), (ADD, 3, 100, 1), (ADD, 4, 100, 1), (CANCEL, 2, 100, 5))
    assert watched.sent() == [(CANCEL, 1, 5), (CANCEL, 2, 5)]


@pytest.mark.parametrize("settled", [True, False])
def test_what_a_shed_add_was_to_replace_is_cancelled_all_the_same(settled: bool) -> None:
    watched = Watched(capacity=1)
    watched.push((ADD, 1, 100, 5))
    watched.sent()
    for row in ((ADD, 1, 101, 5), (ADD, 2, 102, 5)):
        watched.queue.push(records(row))
        if settled:
            watched.queue.settle()
    watched.queue.settle()
    assert watched.ends[1] == (Outcome.SHED, "")
    batch = watched.take()
    assert batch.tickets == [2]
    sent = [(int(r["kind"]), int(r["id"]), int(r["size"])) for r in batch.records()]
    assert sent == [(CANCEL, 1, 5), (ADD, 2, 5)]
    watched.land(batch)
    assert [each.id for each in watched.queue.working.resting()] == [2]
    ledger = watched.tally.ledger()
    assert (ledger.delivered, ledger.landed, ledger.shed) == (3, 2, 1)
    assert ledger.balanced


def test_with_the_newest_shed_an_unsent_quote_does_not_outlive_a_later_one() -> None:
    watched = Watched(capacity=2, shedding="newest")
    for id, price in ((1, 100), (2, 102), (3, 103), (1, 101)):
        watched.queue.push(records((ADD, id, price, 5)))
    watched.queue.settle()
    assert watched.ends == {
        0: (Outcome.CONFLATED, ""),
        2: (Outcome.SHED, ""),
        3: (Outcome.SHED, ""),
    }
    assert watched.sent() == [(ADD, 2, 5)]


def test_cancellations_that_shed_adds_leave_behind_are_shed_by_nothing() -> None:
    watched = Watched(capacity=2)
    for id in range(1, 6):
        watched.push((ADD, id, 100, 5))
        watched.sent()
    watched.push(*((ADD, id, 101, 5) for id in range(1, 6)))
    watched.push((ADD, 6, 102, 5), (ADD, 7, 102, 5))
    assert [watched.ends.get(ticket) for ticket in range(5, 10)] == [(Outcome.SHED, "")] * 5
    watched.push((CANCEL, 1, 100, 5))
    assert watched.ends[12] == (Outcome.FAILED, "nothing_to_cancel")
    assert [each[:2] for each in watched.sent()] == [
        *((CANCEL, id) for id in range(1, 6)),
        (ADD, 6),
        (ADD, 7),
    ]


def test_a_bulk_of_shed_orders_leaves_no_more_behind_than_there_are_ids_of_ours() -> None:
    watched = Watched(capacity=2)
    watched.push((ADD, 1, 100, 5), (ADD, 2, 100, 5))
    watched.sent()
    for id in range(3, 2000):
        watched.queue.push(records((ADD, id, 100, 5), (ADD, 1, 101, 5)))
    assert sum(len(orders) for orders, _ in watched.queue._revoked) < 20
    watched.queue.settle()
    (cancelled,) = watched.take().cancels
    assert (cancelled.id, cancelled.price) == (1, 100)


# An id means one order.


def test_an_add_waits_while_an_order_with_its_id_is_under_way() -> None:
    watched = Watched()
    watched.push((ADD, 11, 100, 5))
    watched.sent()
    watched.push((CANCEL, 11, 100, 5))
    cancel = watched.take()
    watched.push((ADD, 11, 90, 5))
    assert watched.queue.take(up_to(9)) is None
    watched.land(cancel)
    assert watched.sent() == [(ADD, 11, 5)]


def test_an_id_means_the_older_order_again_whose_cancellation_is_lost() -> None:
    watched = Watched()
    watched.push((ADD, 11, 100, 5))
    watched.sent()
    watched.push((CANCEL, 11, 100, 5))
    cancel = watched.take()
    watched.push((ADD, 11, 90, 5))
    watched.lose(cancel)
    replacement = watched.take()
    assert [each.price for each in replacement.cancels] == [100]
    watched.lose(replacement)
    found = watched.queue.working.find(0, 11)
    assert found is not None
    assert found.price == 100
    watched.push((ADD, 11, 80, 5))
    batch = watched.take()
    assert [each.price for each in batch.cancels] == [100]
    assert [each.price for each in batch.places] == [80]


def recovered(places: int, *, left: int = 0) -> tuple[Watched, OrderBatch]:
    """A queue with an order 11 of 5 at 100 that rests, and a batch that cancels it."""
    watched, batch = Watched(), OrderBatch()
    order = RestingOrder(-2, 11, 0, 0, 100, 5)
    watched.queue.working.admit(order)
    order.chain = 5
    watched.queue.working.rest(order)
    batch.cancels[order] = left
    if places:
        batch.places.append(RestingOrder(-1, 11, 0, 0, 101, places))
        batch.sizes.append(places)
    watched.queue.adopt(batch)
    return watched, batch


def test_what_a_lost_batch_of_an_earlier_process_was_to_replace_is_what_the_id_means() -> None:
    watched, batch = recovered(7)
    assert watched.queue.working.find(0, 11) is batch.places[0]
    watched.queue.lost(batch)
    watched.push((ADD, 11, 90, 5))
    assert [(each.price, left) for each, left in watched.take().cancels.items()] == [(100, 0)]


def test_a_lost_partial_cancel_of_an_earlier_process_gives_the_lots_back() -> None:
    watched, batch = recovered(0, left=2)
    (order,) = batch.cancels
    watched.push((CANCEL, 11, 100, 4))
    assert (order.planned, order.taken) == (0, 5)
    watched.queue.lost(batch)
    assert (order.planned, order.taken, order.chain) == (3, 2, 5)
    assert list(watched.take().cancels.values()) == [3]


def test_what_others_fill_of_a_cancelled_order_is_not_given_back_by_a_lost_cancel() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    watched.queue.landed(watched.take(), [17])
    watched.push((CANCEL, 1, 100, 5))
    cancel = watched.take()
    watched.queue.working.fill(0, 17, 3)
    watched.lose(cancel)
    (order,) = watched.queue.working.resting()
    assert (order.planned, order.chain) == (2, 2)


def test_an_order_that_was_taken_for_gone_and_rests_after_all_can_be_cancelled() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    watched.queue.landed(watched.take(), [17])
    watched.push((CANCEL, 1, 100, 2))
    cancel = watched.take()
    # A smaller fill, in whole lots.
    watched.queue.working.fill(0, 17, 5)
    watched.queue.landed(cancel, [], [18])
    watched.push((CANCEL, 1, 100, 5))
    assert [(each.sequence, left) for each, left in watched.take().cancels.items()] == [(18, 0)]


def test_a_cancel_of_more_lots_than_a_record_holds_takes_them_all_the_same() -> None:
    watched, most = Watched(), 2**32 - 1
    watched.push((ADD, 1, 100, most), (ADD, 2, 101, most))
    watched.sent()
    watched.push((ADD, 1, 101, 1), (CANCEL, 0, 101, most))
    batch = watched.take()
    assert batch.records()["size"].tolist() == [most]
    assert sorted(batch.cancels.values()) == [0, 1]


# No order of ours meets one that was to go before it.

BID, ASK = 0, 1


def test_an_add_waits_for_the_cancellation_of_what_it_would_meet() -> None:
    watched = Watched()
    watched.push((ADD, 11, 100, 5, BID, 0))
    bid = watched.take()
    watched.push((CANCEL, 11, 100, 5, BID, 0), (ADD, 12, 100, 5, ASK, 0), (ADD, 13, 101, 5, ASK, 0))
    assert watched.take().records()["id"].tolist() == [13]
    watched.land(bid)
    assert watched.sent(1) == [(CANCEL, 11, 5)]
    assert watched.sent() == [(ADD, 12, 5)]


def test_a_cancel_under_way_is_waited_for_too() -> None:
    watched = Watched()
    watched.push((ADD, 11, 100, 5, BID, 0))
    watched.sent()
    watched.push((CANCEL, 11, 100, 2, BID, 0))
    cancel = watched.take()
    watched.push((ADD, 12, 99, 5, ASK, 0))
    assert watched.queue.take(up_to(9)) is None
    watched.land(cancel)
    # It matches the three that are left, on purpose.
    assert watched.sent() == [(ADD, 12, 5)]


def test_a_cancel_and_the_add_that_would_meet_what_it_cancels_share_a_transaction() -> None:
    watched = Watched()
    watched.push((ADD, 11, 100, 5, BID, 0))
    watched.sent()
    watched.push((CANCEL, 11, 100, 5, BID, 0), (ADD, 12, 100, 5, ASK, 0))
    assert watched.sent() == [(CANCEL, 11, 5), (ADD, 12, 5)]


def test_an_add_that_meets_an_order_which_is_to_stay_is_not_held_back() -> None:
    watched = Watched()
    watched.push((ADD, 11, 100, 5, BID, 0))
    bid = watched.take()
    watched.push((ADD, 12, 100, 5, ASK, 0), (CANCEL, 11, 100, 5, BID, 0))
    assert watched.sent() == [(ADD, 12, 5)]
    watched.land(bid)


def test_an_add_fails_where_what_it_waited_for_stays() -> None:
    watched = Watched()
    watched.push((ADD, 11, 100, 5, BID, 0))
    watched.sent()
    watched.push((CANCEL, 11, 100, 5, BID, 0))
    cancel = watched.take()
    watched.push((ADD, 12, 100, 5, ASK, 0), (ADD, 13, 101, 5, ASK, 0))
    watched.lose(cancel)
    assert watched.ends[2] == (Outcome.FAILED, "meets_ours")
    # The cancel has failed, so a later order may match the old one.
    watched.push((ADD, 14, 100, 5, ASK, 0))
    assert watched.sent() == [(ADD, 13, 5), (ADD, 14, 5)]


def test_an_add_does_not_fail_for_an_order_that_was_to_go_only_after_it_came() -> None:
    watched = Watched()
    watched.push((ADD, 11, 102, 5, BID, 0), (ADD, 12, 100, 5, BID, 0))
    watched.sent()
    watched.push((CANCEL, 11, 102, 5, BID, 0))
    first = watched.take()
    watched.push((ADD, 13, 100, 5, ASK, 0), (CANCEL, 12, 100, 5, BID, 0))
    watched.lose(watched.take())
    assert 3 not in watched.ends
    watched.land(first)
    assert watched.sent() == [(ADD, 13, 5)]


def test_an_add_waits_for_what_an_earlier_process_is_cancelling() -> None:
    watched, batch = recovered(0)
    watched.push((ADD, 12, 100, 5, ASK, 0))
    assert watched.queue.take(up_to(9)) is None
    watched.land(batch)
    assert watched.sent() == [(ADD, 12, 5)]


def test_an_add_fails_with_the_cancel_before_it_that_is_too_large() -> None:
    watched = Watched()
    watched.push((ADD, 11, 100, 5, BID, 0), (ADD, 12, 100, 5, BID, 0))
    watched.sent()
    watched.push((CANCEL, 0, 100, 9, BID, 0), (ADD, 13, 100, 5, ASK, 0))
    assert watched.queue.take(lambda records, cancels, places: cancels < 2) is None
    assert watched.ends[2] == (Outcome.FAILED, "too_many_orders")
    assert watched.ends[3] == (Outcome.FAILED, "meets_ours")


def test_what_an_add_was_to_replace_that_fails_so_is_met_by_no_later_one() -> None:
    watched = Watched()
    watched.push((ADD, 11, 100, 5, BID, 0), (ADD, 12, 105, 5, ASK, 0))
    watched.sent()
    watched.push((CANCEL, 11, 100, 5, BID, 0))
    cancel = watched.take()
    watched.push((ADD, 12, 99, 5, ASK, 0), (ADD, 13, 105, 5, BID, 0), (ADD, 14, 104, 5, BID, 0))
    watched.lose(cancel)
    assert watched.ends[3] == watched.ends[4] == (Outcome.FAILED, "meets_ours")
    assert watched.sent() == [(ADD, 14, 5)]


def test_a_requote_keeps_the_place_of_the_cancellation_that_it_takes_over() -> None:
    watched = Watched()
    watched.push((ADD, 11, 100, 5, BID, 0))
    watched.sent()
    watched.push((ADD, 11, 90, 5, BID, 0), (ADD, 12, 100, 5, ASK, 0), (ADD, 11, 91, 5, BID, 0))
    batch = watched.take(1)
    assert [(each.id, each.price) for each in (*batch.cancels, *batch.places)] == [
        (11, 100),
        (11, 91),
    ]
    assert watched.queue.take(up_to(9)) is None
    watched.land(batch)
    assert watched.sent() == [(ADD, 12, 5)]


def test_quotes_that_pass_each_other_do_not_wait_for_each_other_for_ever() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5, BID, 0), (ADD, 2, 105, 5, ASK, 0))
    watched.sent()
    watched.push((ADD, 1, 90, 5, BID, 0), (ADD, 2, 99, 5, ASK, 0), (ADD, 1, 106, 5, BID, 0))
    # The requote would match an ask that is to be cancelled: only its cancel goes first.
    assert watched.sent(1) == [(CANCEL, 1, 5)]
    assert watched.sent(1) == [(ADD, 2, 5)]
    assert watched.sent(1) == [(ADD, 1, 5)]


def test_orders_that_no_market_can_carry_fail_at_once() -> None:
    watched = Watched()
    watched.push((ADD, 1, 0, 5, 0, 0), (ADD, 2, 100, 0, 0, 0), (ADD, 3, 100, 5, 2, 0))
    assert set(watched.ends.values()) == {(Outcome.FAILED, "invalid")}
    assert len(watched.ends) == 3


@pytest.mark.parametrize("options", [{"capacity": 0}, {"shedding": "random"}])
def test_a_setting_that_cannot_be_used_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        OrderQueue(Tally(), **options)


def test_the_oldest_resting_orders_are_forgotten_over_the_bound() -> None:
    working = WorkingOrders(most_resting=2)
    watched = Watched(working=working)
    for id in range(1, 5):
        watched.push((ADD, id, 100, 1))
        watched.sent()
    assert ([each.id for each in working.resting()], len(working)) == ([3, 4], 2)


# What the chain would hold if each order were sent by itself.


class OneByOne:
    """Our orders, each applied as it comes in. Netting must give the same book."""

    def __init__(self) -> None:
        self.orders: list[list[Any]] = []  # id, level, lots, market, ticket; oldest first
        self.ticket = -1

    def apply(self, record: Any) -> None:
        self.ticket += 1
        kind, id, size = int(record["kind"]), int(record["id"]), int(record["size"])
        level = int(record["market"]), int(record["side"]), int(record["price"])
        same = [each for each in self.orders if id and each[0] == id and each[3] == level[0]]
        if kind == ADD:
            for each in same:
                self.orders.remove(each)
            self.orders.append([id, level, size, level[0], self.ticket])
            return
        # The level may be found without an id.
        meant = same if id else [each for each in reversed(self.orders) if each[1] == level]
        for each in meant:
            amount = min(size, each[2])
            each[2] -= amount
            size -= amount
            if not each[2]:
                self.orders.remove(each)
            if not size:
                break

    def levels(self) -> dict[Any, int]:
        totals: dict[Any, int] = defaultdict(int)
        for _, level, lots, *_ in self.orders:
            totals[level] += lots
        return dict(totals)


class Market:
    """The resting orders after all executions. None of our orders may match another of ours."""

    def __init__(self) -> None:
        self.lots: dict[RestingOrder, int] = {}
        # By the ticket of an ADD: the planned lots of our other orders when it came in.
        self.expected: dict[int, dict[int, int]] = {}

    def execute(self, batch: OrderBatch) -> None:
        for order, left in batch.cancels.items():
            assert self.lots[order] == order.chain > left
            self.lots[order] = left
            if not left:
                del self.lots[order]
        for order, size in zip(batch.places, batch.sizes, strict=True):
            assert size > 0
            self.lots[order] = size
        named = Counter((each.market, each.id) for each in self.lots if each.id)
        assert set(named.values()) <= {1}, "two orders with one id"
        for one in self.lots:
            for other in self.lots:
                if one.market == other.market and one.side < other.side:
                    self._look(*sorted((one, other), key=lambda each: each.ticket))

    def _look(self, earlier: RestingOrder, later: RestingOrder) -> None:
        bid, ask = sorted((earlier, later), key=lambda each: each.side)
        if bid.price >= ask.price and later.ticket in self.expected:
            expected = self.expected[later.ticket].get(earlier.ticket, self.lots[earlier])
            assert self.lots[earlier] <= expected, "it traded with what was to go"

    def levels(self) -> dict[Any, int]:
        totals: dict[Any, int] = defaultdict(int)
        for order, lots in self.lots.items():
            totals[order.level] += lots
        return dict(totals)


def assert_working_orders_are(watched: Watched, market: Market) -> None:
    resting = watched.queue.working.resting()
    assert {each: each.chain for each in resting} == market.lots
    assert len(watched.queue.working) == len(resting)
    for order in resting:
        assert (order.planned, order.taken) == (order.chain, 0)
    assert not any(watched.queue.working.leaving.meets(each) for each in resting)


ORDERS = st.tuples(
    st.sampled_from([ADD, ADD, CANCEL]),
    st.integers(0, 4),
    st.integers(1, 3),
    st.integers(1, 4),
    st.integers(0, 1),
    st.sampled_from([0, 0, 0, 1]),
)
TAKE = st.tuples(st.just("take"), st.integers(1, 4))


def moves(*ends: str) -> Any:
    """Random orders, batches and outcomes."""
    end = st.tuples(st.sampled_from(ends), st.integers(0, 3))
    return st.lists(st.one_of(ORDERS, ORDERS, TAKE, end), max_size=60)


class Run:
    """A queue, the market of its batches, and the batches in flight."""

    def __init__(self, **options: Any) -> None:
        self.options = options
        self.watched, self.market = Watched(**options), Market()
        self.in_flight: list[OrderBatch] = []
        self.pushed = 0

    def execute(self, batch: OrderBatch) -> None:
        self.market.execute(batch)
        self.watched.land(batch)

    def take(self, most: int) -> None:
        batch = self.watched.queue.take(up_to(most))
        if batch is not None:
            self.in_flight.append(batch)

    def push(self, row: tuple[int, ...], *, settle: bool = True) -> None:
        placed = [each for batch in self.in_flight for each in batch.places]
        self.market.expected[self.pushed] = {
            each.ticket: max(0, each.planned) for each in (*self.market.lots, *placed)
        }
        self.watched.queue.push(records(row))
        self.pushed += 1
        if settle:
            self.watched.queue.settle()

    def move(self, what: Any, number: int) -> None:
        queue = self.watched.queue
        if what == "take":
            self.take(number)
        elif what == "restart":
            self.restart()
        elif self.in_flight:
            batch = self.in_flight.pop(number % len(self.in_flight))
            ends: dict[str, Any] = {
                "land": self.execute,
                "lose": self.watched.lose,
                "give back": queue.give_back,
                "alone": lambda batch: queue.give_back(batch, alone=True),
            }
            if not batch.entries and what != "land":
                # From an earlier process: the queue does not have its orders.
                what = "lose"
            ends[what](batch)

    def restart(self) -> None:
        """Restart as another process, which knows the resting orders and those in flight."""
        assert sorted(self.watched.ends) == sorted(set(self.watched.ends))
        before, self.watched = self.market, Watched(**self.options)
        in_flight, self.in_flight = self.in_flight, []
        self.market, self.pushed, ticket = Market(), 0, -1000
        replaced: dict[RestingOrder, RestingOrder] = {}

        def again(old: RestingOrder, lots: int) -> RestingOrder:
            nonlocal ticket
            ticket += 1
            return RestingOrder(ticket, old.id, old.market, old.side, old.price, lots)

        for old, lots in before.lots.items():
            replaced[old] = again(old, lots)
            self.watched.queue.working.admit(replaced[old])
            replaced[old].chain = lots
            self.watched.queue.working.rest(replaced[old])
            self.market.lots[replaced[old]] = lots
        for old_batch in in_flight:
            batch = OrderBatch(cancels={replaced[old]: 0 for old in old_batch.cancels})
            placed = [*zip(old_batch.places, old_batch.sizes, strict=True)]
            for old, lots in (*placed, *((old, left) for old, left in old_batch.cancels.items())):
                if lots:
                    batch.places.append(again(old, lots))
                    batch.sizes.append(lots)
            self.watched.queue.adopt(batch)
            self.in_flight.append(batch)

    def finish(self) -> None:
        """Let everything land."""
        self.watched.queue.settle()
        while self.in_flight or len(self.watched.queue):
            self.take(3)
            if self.in_flight:
                self.execute(self.in_flight.pop(0))
        assert_working_orders_are(self.watched, self.market)
        assert sorted(self.watched.ends) == list(range(self.pushed))
        assert self.watched.tally.ledger().delivered == self.pushed
        assert self.watched.tally.ledger().balanced


@settings(max_examples=600)
@given(moves("land", "give back", "alone"))
def test_once_all_has_landed_each_level_holds_what_it_would_without_conflation(
    moves: list[Any],
) -> None:
    run, one_by_one = Run(), OneByOne()
    for move in moves:
        if len(move) == 2:
            run.move(*move)
            continue
        # What all earlier orders are to leave, sent or not.
        expected = {each[4]: each[2] for each in one_by_one.orders}
        run.push(move)
        run.market.expected[one_by_one.ticket + 1] = defaultdict(int, expected)
        one_by_one.apply(records(move)[0])
    run.finish()
    assert run.market.levels() == one_by_one.levels()


@settings(max_examples=600)
@given(
    moves("land", "lose", "give back", "alone", "restart"), st.sampled_from(["oldest", "newest"])
)
def test_whatever_is_lost_each_order_ends_once_and_the_working_orders_are_what_the_chain_executed(
    moves: list[Any], shedding: Any
) -> None:
    run = Run(capacity=6, shedding=shedding)
    for move in moves:
        if len(move) == 2:
            run.move(*move)
        else:
            run.push(move)
    run.finish()


@settings(max_examples=600)
@given(
    moves("land", "give back", "settle", "settle"),
    st.sampled_from(["oldest", "newest"]),
    st.integers(1, 4),
)
def test_whatever_is_shed_no_order_outlives_a_later_one_with_its_id(
    moves: list[Any], shedding: Any, capacity: int
) -> None:
    run = Run(capacity=capacity, shedding=shedding)
    newest: dict[tuple[int, int], int] = {}
    for move in moves:
        if move[0] == "settle":
            run.watched.queue.settle()
        elif len(move) == 2:
            run.move(*move)
        else:
            if move[0] == ADD:
                newest[move[5], move[1]] = run.pushed
            run.push(move, settle=False)
    run.finish()
    for order in run.market.lots:
        assert not order.id or newest[order.market, order.id] == order.ticket


def test_what_is_drained_leaves_the_working_orders_as_the_chain_is() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    watched.sent()
    watched.push((CANCEL, 1, 100, 2), (ADD, 1, 101, 5), (ADD, 2, 100, 1))
    assert watched.queue.drain() == [1, 2, 3]
    (order,) = watched.queue.working.resting()
    assert (order.planned, order.chain, len(watched.queue)) == (5, 5, 0)


def test_a_cancel_by_level_means_no_order_at_another_price() -> None:
    watched = Watched()
    watched.push((ADD, 7, 100, 10))
    watched.sent()
    watched.push((ADD, 7, 105, 3))
    replacement = watched.take()
    watched.push((CANCEL, 0, 105, 3))
    watched.lose(replacement)
    assert watched.queue.take(up_to(9)) is None
    assert watched.ends[2] == (Outcome.FAILED, "nothing_to_cancel")
    assert [each.planned for each in watched.queue.working.resting()] == [10]


def test_an_add_waits_for_all_who_take_from_what_it_replaces() -> None:
    watched = Watched()
    watched.push((ADD, 7, 100, 10))
    watched.sent()
    watched.push((ADD, 8, 100, 5))
    in_flight = watched.take()
    # The cancellation waits for the order in flight, and the new order waits for the cancellation.
    watched.push((CANCEL, 0, 100, 15), (ADD, 7, 105, 4))
    assert watched.queue.take(up_to(9)) is None
    watched.land(in_flight)
    batch = watched.queue.take(up_to(9))
    assert batch is not None
    assert {each.id for each in batch.cancels} == {7, 8}
    assert [each.price for each in batch.places] == [105]
