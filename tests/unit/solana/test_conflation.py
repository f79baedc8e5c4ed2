"""What is not sent, and that nothing is lost or changed by it."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velox import BUNDLE_DTYPE, TRANSACTION_DTYPE, Kind
from velox.errors import ConfigError
from velox.solana.chain_ledger import Outcome, Tally
from velox.solana.conflation import OrderQueue, Pack, transactions_in
from velox.solana.desk import Desk, State

ADD, CANCEL, EXECUTE = int(Kind.ADD), int(Kind.CANCEL), int(Kind.EXECUTE)


def records(*rows: tuple[int, ...]) -> Any:
    """Of (kind, id, price, size) and perhaps (side, market)."""
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

    def take(self, most: int = 100) -> Pack:
        pack = self.queue.take(up_to(most))
        assert pack is not None
        return pack

    def land(self, pack: Pack) -> None:
        self.queue.landed(pack)
        self.tally.settle(pack.tickets, Outcome.LANDED)

    def lose(self, pack: Pack) -> None:
        self.queue.lost(pack)
        self.tally.settle(pack.tickets, Outcome.EXPIRED)

    def sent(self, most: int = 100) -> list[tuple[int, int, int]]:
        """Kind, id and size of what goes out, which lands."""
        pack = self.queue.take(up_to(most))
        if pack is None:
            return []
        self.land(pack)
        return [(int(r["kind"]), int(r["id"]), int(r["size"])) for r in pack.records()]


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


def test_a_cancel_with_an_id_of_nobody_takes_the_newest_at_its_level() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5), (ADD, 2, 100, 5), (ADD, 3, 101, 5), (CANCEL, 9, 100, 7))
    assert watched.sent() == [(ADD, 1, 3), (ADD, 3, 5)]
    assert watched.ends[1] == watched.ends[3] == (Outcome.CONFLATED, "")


def test_a_cancel_of_nothing_fails_and_says_so() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5, 0, 0), (CANCEL, 9, 100, 5, 1, 0), (CANCEL, 1, 99, 5, 0, 1))
    assert watched.ends == {
        1: (Outcome.FAILED, "nothing_to_cancel"),
        2: (Outcome.FAILED, "nothing_to_cancel"),
    }


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
    pack = watched.take()
    ((cancelled, left),) = pack.cancels.items()
    assert (cancelled.price, left) == (100, 0)
    assert [each.price for each in pack.places] == [101]


def test_a_partial_cancel_of_a_resting_order_places_the_rest_again() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    watched.sent()
    watched.push((CANCEL, 1, 100, 1), (CANCEL, 1, 100, 1))
    pack = watched.take()
    assert list(pack.cancels.values()) == [3]
    assert pack.records()["size"].tolist() == [1, 1]


def test_what_touches_an_order_under_way_waits_for_it() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    pack = watched.take()
    watched.push((CANCEL, 1, 100, 5), (ADD, 2, 100, 1))
    assert watched.take().records()["id"].tolist() == [2]
    assert watched.queue.take(up_to(9)) is None
    watched.land(pack)
    assert watched.sent() == [(CANCEL, 1, 5)]


def test_a_cancel_that_waited_for_an_order_that_never_came_fails() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    pack = watched.take()
    watched.push((CANCEL, 1, 100, 5))
    watched.lose(pack)
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
    pack = watched.take()
    ((cancelled, left),) = pack.cancels.items()
    assert (cancelled.price, left, pack.records()["size"].tolist()) == (100, 0, [5])


def test_a_cancel_of_an_unsent_replacement_cancels_what_it_was_to_replace() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    watched.sent()
    watched.push((ADD, 1, 101, 9), (CANCEL, 1, 101, 9))
    assert watched.sent() == [(CANCEL, 1, 5)]
    assert len(watched.queue.desk) == 0


def test_a_pack_takes_the_oldest_that_fit() -> None:
    watched = Watched()
    watched.push(*((ADD, id, 100, id) for id in range(1, 6)))
    assert watched.sent(2) == [(ADD, 1, 1), (ADD, 2, 2)]
    assert watched.sent(9) == [(ADD, 3, 3), (ADD, 4, 4), (ADD, 5, 5)]


def test_lanes_do_not_share_a_pack() -> None:
    watched = Watched(lane_of_market=[market % 2 for market in range(256)])
    watched.push(*((ADD, id, 100, 1, 0, id % 2) for id in range(1, 6)))
    assert [each[1] for each in watched.sent()] == [1, 3, 5]
    assert watched.queue.oldest_lane == 0
    assert [each[1] for each in watched.sent()] == [2, 4]
    assert watched.queue.oldest_lane is None


def test_a_cancel_of_more_orders_than_a_transaction_holds_fails_and_changes_nothing() -> None:
    watched = Watched()
    watched.push(*((ADD, id, 100, 1) for id in range(1, 6)))
    watched.sent()
    watched.push((CANCEL, 0, 100, 5))
    assert watched.queue.take(lambda records, cancels, places: cancels < 5) is None
    assert watched.ends[5] == (Outcome.FAILED, "too_many_orders")
    assert [each.planned for each in watched.queue.desk.resting()] == [1] * 5


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


def test_a_shed_replacement_leaves_the_order_that_it_was_to_replace() -> None:
    watched = Watched(capacity=1)
    watched.push((ADD, 1, 100, 5))
    watched.sent()
    watched.push((ADD, 1, 101, 5), (ADD, 2, 102, 5))
    assert watched.sent() == [(ADD, 2, 5)]
    watched.push((CANCEL, 1, 0, 5))  # no price: refused
    watched.push((CANCEL, 1, 101, 5))
    assert watched.sent() == [(CANCEL, 1, 5)]


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
    desk = Desk(most_resting=2)
    watched = Watched(desk=desk)
    for id in range(1, 5):
        watched.push((ADD, id, 100, 1))
        watched.sent()
    assert ([each.id for each in desk.resting()], desk.forgotten, len(desk)) == ([3, 4], 2, 2)


# What the chain would hold if each order were sent by itself.


class OneByOne:
    """Our orders, each applied as it comes; the book that conflation must not change."""

    def __init__(self) -> None:
        self.orders: list[list[int]] = []  # id, level, lots, oldest first

    def apply(self, record: Any) -> None:
        kind, id, size = int(record["kind"]), int(record["id"]), int(record["size"])
        level = int(record["market"]), int(record["side"]), int(record["price"])
        same = [each for each in self.orders if id and each[0] == id and each[3] == level[0]]
        if kind == ADD:
            for each in same:
                self.orders.remove(each)
            self.orders.append([id, level, size, level[0]])
            return
        meant = same[-1:] or [each for each in reversed(self.orders) if each[1] == level]
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
        for _, level, lots, _ in self.orders:
            totals[level] += lots
        return dict(totals)


ORDERS = st.tuples(
    st.sampled_from([ADD, ADD, CANCEL]),
    st.integers(0, 4),
    st.integers(1, 2),
    st.integers(1, 4),
    st.integers(0, 1),
    st.integers(0, 1),
)
MOVES = st.lists(
    st.one_of(
        ORDERS,
        st.tuples(st.just("take"), st.integers(1, 4)),
        st.tuples(st.sampled_from(["end", "back"]), st.integers(0, 3)),
    ),
    max_size=40,
)


@settings(max_examples=400)
@given(MOVES)
def test_once_all_has_landed_each_level_holds_what_it_would_without_conflation(
    moves: list[Any],
) -> None:
    watched, one_by_one, flying = Watched(), OneByOne(), []
    for move in moves:
        if move[0] == "take":
            pack = watched.queue.take(up_to(move[1]))
            if pack is not None:
                flying.append(pack)
        elif move[0] in ("end", "back"):
            if flying:
                end = watched.land if move[0] == "end" else watched.queue.give_back
                end(flying.pop(move[1] % len(flying)))
        else:
            watched.push(move)
            one_by_one.apply(records(move)[0])
    while flying or len(watched.queue):
        pack = watched.queue.take(up_to(3))
        if pack is not None:
            flying.append(pack)
        if flying:
            watched.land(flying.pop(0))
    held: Counter[Any] = Counter()
    for standing in watched.queue.desk.resting():
        held[standing.level] += standing.chain
        assert standing.planned == standing.chain
    assert dict(held) == one_by_one.levels()
    orders = sum(1 for move in moves if move[0] in (ADD, CANCEL) and len(move) == 6)
    assert len(watched.ends) == orders
    assert watched.tally.ledger().delivered == orders


@settings(max_examples=400)
@given(
    st.lists(
        st.one_of(
            ORDERS,
            st.tuples(st.just("take"), st.integers(1, 4)),
            st.tuples(st.sampled_from(["land", "lose", "give back", "alone"]), st.integers(0, 3)),
        ),
        max_size=40,
    ),
    st.sampled_from(["oldest", "newest"]),
)
def test_whatever_is_lost_each_order_ends_once_and_the_desk_is_what_the_chain_executed(
    moves: list[Any], shedding: Any
) -> None:
    watched, chain, flying = Watched(capacity=6, shedding=shedding), Counter(), []

    def execute(pack: Pack) -> None:
        for standing, left in pack.cancels.items():
            chain[standing.level] += left - standing.chain
        for standing, size in zip(pack.places, pack.sizes, strict=True):
            chain[standing.level] += size
        watched.land(pack)

    ends = {"land": execute, "lose": watched.lose, "give back": watched.queue.give_back}
    ends["alone"] = lambda pack: watched.queue.give_back(pack, alone=True)
    pushed = 0
    for move in moves:
        if move[0] == "take":
            pack = watched.queue.take(up_to(move[1]))
            if pack is not None:
                flying.append(pack)
        elif move[0] in ends:
            if flying:
                ends[move[0]](flying.pop(move[1] % len(flying)))
        else:
            watched.push(move)
            pushed += 1
    for pack in flying:
        execute(pack)
    while len(watched.queue):
        pack = watched.queue.take(up_to(3))
        if pack is not None:
            execute(pack)
    held: Counter[Any] = Counter()
    for standing in watched.queue.desk.resting():
        held[standing.level] += standing.chain
        assert standing.planned == standing.chain > 0
        assert standing.state is State.RESTING
    assert {level: lots for level, lots in chain.items() if lots} == dict(held)
    assert sorted(watched.ends) == list(range(pushed))
    assert watched.tally.ledger().balanced


def test_what_is_drained_leaves_the_desk_as_the_chain_is() -> None:
    watched = Watched()
    watched.push((ADD, 1, 100, 5))
    watched.sent()
    watched.push((CANCEL, 1, 100, 2), (ADD, 1, 101, 5), (ADD, 2, 100, 1))
    assert watched.queue.drain() == [1, 2, 3]
    (standing,) = watched.queue.desk.resting()
    assert (standing.planned, standing.chain, len(watched.queue)) == (5, 5, 0)
