"""The table of own orders and the account, beside a plain model in unlimited integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support import orders, refused
from tests.unit.core.order_model import REMEMBERED, Model, Order
from velox import REPORT_RECORD_DTYPE, Kind, ReportFlags, Side
from velox.core.orders import (
    ORDER_DTYPE,
    OrderFlags,
    OrderRefusal,
    OrderState,
    OrderTable,
    ReportOutcome,
)
from velox.errors import ConfigError, RecordError

AMOUNTS, BEGIN, LAST = ReportFlags.AMOUNTS, ReportFlags.BEGIN, ReportFlags.LAST
BIG = 2**63 - 1


def report(kind: Kind, **fields: Any) -> np.ndarray[Any, Any]:
    row = np.zeros(1, REPORT_RECORD_DTYPE)
    row["kind"], row["ahead"] = kind, -1
    for name, value in fields.items():
        row[name] = value
    return row


def told(table: OrderTable, kind: Kind, **fields: Any) -> ReportOutcome:
    (outcome,) = table.report(report(kind, **fields))
    return ReportOutcome(outcome)


def sent(table: OrderTable, id: int, **fields: Any) -> None:
    assert table.send(orders(1, first_id=id, **fields)) == 1


def cancelled(table: OrderTable, id: int) -> None:
    assert table.send(orders(1, first_id=id, kind=Kind.CANCEL)) == 1


def order_of(table: OrderTable, id: int) -> Any:
    (found,) = (order for order in table.orders(gone=True) if order["id"] == id)
    return found


# A model


ids = st.one_of(st.integers(0, 12), st.integers(0, 90), st.just(2**64 - 1))
prices = st.one_of(st.integers(95, 105), st.just(BIG), st.just(1))
sizes = st.one_of(st.integers(1, 9), st.just(2**32 - 1))
amounts = st.one_of(st.integers(0, 50), st.just(BIG))
markets = st.sampled_from([0, 0, 0, 1, 255])
sides = st.sampled_from([0, 1])
UNITS = {255: 1_000_000}


class OrdersMachine(RuleBasedStateMachine):
    """A table beside the model, through any sequence of orders and reports."""

    @initialize()
    def make(self) -> None:
        self.table = OrderTable(64, base_units=UNITS)
        self.model = Model(64, UNITS)
        self.flooded = False
        self.model.in_slots = self.in_slots  # type: ignore[method-assign]

    def in_slots(self, found: list[Order]) -> list[Order]:
        # Of several orders that a resync ends, those of the first slots are forgotten first.
        slots = self.table.orders(gone=True)["id"].tolist()
        return sorted(found, key=lambda order: slots.index(order.id))

    @rule(id=ids, market=markets, side=sides, price=prices, size=sizes)
    def send(self, id: int, market: int, side: int, price: int, size: int) -> None:
        refusal = self.model.refusal(id)
        assert self.table.refusal(id) == refusal
        row = orders(1, first_id=id, market=market, side=side, price=price, size=size)
        assert self.table.send(row, now_ns=5) == (refusal is None)
        if refusal is None:
            self.model.send(id, market, side, price, size)

    @rule(first=st.integers(100, 10_000), count=st.integers(1, 80), side=sides)
    def send_many(self, first: int, count: int, side: int) -> None:
        for id in range(first, first + count):
            self.send(id=id, market=0, side=side, price=100 + id % 5, size=1)

    @rule(id=ids)
    def cancel(self, id: int) -> None:
        assert self.table.send(orders(1, first_id=id, kind=Kind.CANCEL)) == 1
        self.model.cancel(id)

    def both(self, **fields: int) -> None:
        row = report(Kind(fields["kind"])) if fields["kind"] in list(Kind) else report(Kind.PLACED)
        for name, value in fields.items():
            row[name] = value
        whole = dict(zip(REPORT_RECORD_DTYPE.names or (), row[0].tolist(), strict=True))
        (outcome,) = self.table.report(row)
        assert outcome == self.model.report(whole)

    @rule(
        kind=st.sampled_from([*range(16, 26), Kind.FILLED, Kind.FILLED, 0, 15, 26, 255]),
        id=ids,
        market=markets,
        side=st.sampled_from([0, 1, 0, 1, 0, 1, 2]),
        price=st.one_of(prices, st.just(0), st.just(-5)),
        size=st.one_of(sizes, st.just(0)),
        flags=st.integers(0, 15),
        base_amount=st.one_of(amounts, st.just(-1)),
        quote_amount=st.one_of(amounts, st.just(-1)),
        fee=st.one_of(st.integers(-20, 20), st.just(-BIG)),
        sequence=st.one_of(st.just(0), st.integers(0, 40), st.just(2**64 - 1)),
    )
    def hear(self, **fields: int) -> None:
        self.both(**fields)

    @rule(
        data=st.data(),
        kind=st.sampled_from([*range(16, 24), Kind.FILLED, Kind.FILLED, Kind.RESYNC]),
        size=sizes,
        exact=st.booleans(),
        amounts=st.tuples(amounts, amounts),
    )
    def hear_of_an_order(
        self, data: st.DataObject, kind: int, size: int, amounts: tuple[int, int], *, exact: bool
    ) -> None:
        known = list(self.model.orders.values())
        if not known:
            return
        order = data.draw(st.sampled_from(known))
        self.both(
            kind=kind,
            id=order.id,
            market=order.market,
            side=order.side,
            price=order.price,
            size=min(size, order.leaves) or 1,
            flags=AMOUNTS if exact and kind == Kind.FILLED else 0,
            base_amount=amounts[0],
            quote_amount=amounts[1],
            fee=3,
        )

    @rule(market=markets, exact=st.booleans(), number=st.integers(0, 30), keep=st.integers(1, 3))
    def resync(self, market: int, number: int, keep: int, *, exact: bool) -> None:
        self.both(kind=Kind.RESYNC, market=market, flags=BEGIN)
        for order in [each for each in self.model.live if each.market == market][::keep]:
            self.both(
                kind=Kind.RESYNC, market=market, id=order.id, side=order.side, size=2, price=99
            )
        flags = LAST | AMOUNTS if exact else LAST
        self.both(
            kind=Kind.RESYNC, market=market, flags=flags, base_amount=7, quote_amount=-9, fee=1,
            sequence=number,
        )  # fmt: skip

    @precondition(lambda self: not self.flooded)
    @rule(first=st.integers(1000, 9000), count=st.integers(REMEMBERED - 40, REMEMBERED + 40))
    def hear_more_numbers_than_are_remembered(self, first: int, count: int) -> None:
        self.flooded = True
        rows = np.repeat(report(Kind.PLACED, id=77), count)
        rows["sequence"] = np.arange(first, first + count)
        whole = dict(zip(REPORT_RECORD_DTYPE.names or (), rows[0].tolist(), strict=True))
        expected = [self.model.report({**whole, "sequence": n}) for n in rows["sequence"].tolist()]
        assert self.table.report(rows).tolist() == expected

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        model, table = self.model, self.table
        for market in (0, 1, 255):
            position = model.position(market)
            assert table.account(market) == (
                position.inventory,
                position.cash,
                position.fees,
                model.open(market, 0),
                model.open(market, 1),
                position.doubtful,
            )
            for side in (0, 1):
                assert table.best(market, side) == model.best(market, side)
        counts = table.counts()
        assert counts == (
            model.sent,
            model.sent - model.placed - model.rejected,
            model.placed,
            model.rejected,
            model.adopted,
            model.finished,
            len(model.live),
            model.cancels,
        )
        assert 0 <= counts.in_flight <= counts.live
        found = {
            int(row["id"]): (
                row["market"], row["side"], row["price"], row["leaves"], row["filled"],
                row["state"], bool(row["flags"] & OrderFlags.CANCEL_SENT),
                bool(row["flags"] & OrderFlags.ADOPTED),
            )
            for row in table.orders()
        }  # fmt: skip
        assert found == {
            order.id: (
                order.market, order.side, order.price, order.leaves, order.filled,
                order.state, order.cancelling, order.adopted,
            )
            for order in model.live
        }  # fmt: skip
        assert table.outcomes() == {
            outcome.name.lower(): count for outcome, count in model.outcomes.items()
        }


TestOrdersMachine = OrdersMachine.TestCase
TestOrdersMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# The life of an order


def test_an_order_goes_from_sent_to_gone_and_its_lots_count_all_the_way() -> None:
    table = OrderTable()
    sent(table, 7, size=10, side=Side.ASK, market=3, price=101)
    assert table.account(3).open_ask == 10
    assert order_of(table, 7)["state"] == OrderState.SENT
    same = {"id": 7, "side": Side.ASK, "market": 3, "price": 101}
    assert told(table, Kind.PLACED, size=10, ahead=40, venue_ts_ns=9, **same) == 0
    assert order_of(table, 7)[["state", "ahead", "venue_ns"]].tolist() == (2, 40, 9)
    assert told(table, Kind.FILLED, size=4, fee=2, sequence=1, **same) == 0
    assert order_of(table, 7)[["state", "leaves", "filled", "sequence"]].tolist() == (3, 6, 4, 1)
    cancelled(table, 7)
    assert order_of(table, 7)["state"] == OrderState.CANCELLING
    assert table.account(3) == (-4, 404, 2, 0, 6, False)
    assert told(table, Kind.CANCELLED, size=6, sequence=2, reason=5, **same) == 0
    assert order_of(table, 7)[["state", "leaves", "reason"]].tolist() == (6, 0, 5)
    assert table.account(3) == (-4, 404, 2, 0, 0, False)
    assert table.counts() == (1, 0, 1, 0, 0, 1, 0, 1)


def test_an_unknown_order_stays_exposed_until_a_resync_does_not_name_it() -> None:
    table = OrderTable()
    sent(table, 1, size=5)
    assert told(table, Kind.UNKNOWN, id=1, size=5) == ReportOutcome.TAKEN
    assert table.account(0).open_bid == 5
    assert table.counts().in_flight == 1
    told(table, Kind.RESYNC, flags=BEGIN)
    assert table.account(0).open_bid == 5
    told(table, Kind.RESYNC, flags=LAST | AMOUNTS, base_amount=3, quote_amount=-300, fee=1)
    assert table.account(0) == (3, -300, 1, 0, 0, False)
    assert table.counts() == (1, 0, 0, 1, 0, 1, 0, 0)


def test_a_resync_leaves_an_order_alone_whose_answer_is_still_to_come() -> None:
    table = OrderTable()
    sent(table, 1)
    told(table, Kind.RESYNC, flags=BEGIN)
    sent(table, 2)
    told(table, Kind.PLACED, id=2, size=1)
    told(table, Kind.RESYNC, flags=LAST)
    assert table.orders()["id"].tolist() == [1, 2]


def test_after_a_restart_a_resync_fills_an_empty_table() -> None:
    table = OrderTable()
    told(table, Kind.RESYNC, flags=BEGIN, market=2)
    assert told(table, Kind.RESYNC, id=9, market=2, side=1, price=105, size=4) == 0
    told(table, Kind.RESYNC, flags=LAST | AMOUNTS, market=2, base_amount=12, sequence=50)
    assert order_of(table, 9)[["state", "leaves", "price"]].tolist() == (2, 4, 105)
    assert table.account(2)[:1] + table.account(2)[3:] == (12, 0, 4, False)
    # What the position covers is not counted again.
    old = {"id": 9, "market": 2, "side": 1, "price": 105, "size": 1}
    assert told(table, Kind.FILLED, sequence=50, **old) == ReportOutcome.DOUBLED
    assert told(table, Kind.FILLED, sequence=51, **old) == ReportOutcome.TAKEN
    assert table.account(2).inventory == 11


def test_a_resync_that_never_began_changes_nothing() -> None:
    table = OrderTable()
    outcome = told(table, Kind.RESYNC, flags=LAST | AMOUNTS, base_amount=9)
    assert (outcome, table.account(0).inventory) == (ReportOutcome.MALFORMED, 0)


# Money


def test_the_part_of_a_lot_is_carried_and_never_floored() -> None:
    table = OrderTable(base_units={0: 1_000_000})
    sent(table, 1, size=1, price=100)
    for number in range(1, 4):
        told(
            table, Kind.FILLED, id=1, price=100, flags=AMOUNTS, base_amount=333_333,
            quote_amount=33, sequence=number,
        )  # fmt: skip
    assert table.account(0)[:2] == (999_999, -99)


def test_sums_are_exact_beyond_64_bits() -> None:
    table = OrderTable()
    for number in range(1, 9):
        told(
            table, Kind.FILLED, flags=AMOUNTS, base_amount=BIG, quote_amount=BIG, fee=-BIG,
            sequence=number,
        )  # fmt: skip
    assert table.account(0)[:3] == (8 * BIG, -8 * BIG, -8 * BIG)
    told(table, Kind.FILLED, price=BIG, size=2**32 - 1, side=1)
    assert table.account(0)[:2] == (8 * BIG - 2**32 + 1, -8 * BIG + BIG * (2**32 - 1))


def test_a_lot_of_several_units_needs_the_exact_amounts() -> None:
    table = OrderTable(base_units={0: 10})
    assert told(table, Kind.FILLED, price=1, size=1) == ReportOutcome.MALFORMED
    assert table.account(0) == (0, 0, 0, 0, 0, True)


# Reports that come late, twice or never


def test_a_fill_counts_once_whatever_its_order_has_become() -> None:
    table = OrderTable()
    sent(table, 1, size=5, price=10)
    told(table, Kind.CANCELLED, id=1, size=5)
    fill = {"id": 1, "size": 2, "price": 10, "sequence": 8}
    assert told(table, Kind.FILLED, **fill) == ReportOutcome.LATE_FILL
    assert told(table, Kind.FILLED, **fill) == ReportOutcome.DOUBLED
    assert told(table, Kind.FILLED, **{**fill, "id": 99, "sequence": 9}) == 2
    assert table.account(0) == (4, -40, 0, 0, 0, False)
    assert table.counts().finished == 1


def test_one_number_in_two_markets_is_two_reports() -> None:
    table = OrderTable()
    assert told(table, Kind.FILLED, market=1, price=1, size=1, sequence=4) == 2
    assert told(table, Kind.FILLED, market=2, price=1, size=1, sequence=4) == 2


def test_a_fill_before_its_placement_is_a_placement() -> None:
    table = OrderTable()
    sent(table, 1, size=5)
    assert told(table, Kind.FILLED, id=1, size=2, price=1) == ReportOutcome.TAKEN
    assert table.counts().placed == 1
    assert told(table, Kind.PLACED, id=1, size=3) == ReportOutcome.REPEATED
    assert order_of(table, 1)[["state", "leaves"]].tolist() == (OrderState.PARTIAL, 3)


def test_a_number_too_old_to_be_known_is_not_counted_and_says_so() -> None:
    table = OrderTable()
    many = np.concatenate([report(Kind.PLACED, sequence=n) for n in range(2, REMEMBERED + 4)])
    table.report(many)
    assert told(table, Kind.FILLED, price=1, size=1, sequence=1) == ReportOutcome.STALE
    assert table.account(0) == (0, 0, 0, 0, 0, True)


def test_a_fill_of_the_other_side_is_not_believed() -> None:
    table = OrderTable()
    sent(table, 1, size=5)
    assert told(table, Kind.FILLED, id=1, side=1, size=2, price=1) == ReportOutcome.MALFORMED
    assert table.account(0) == (0, 0, 0, 5, 0, True)


# Slots


def test_a_full_table_refuses_and_takes_the_slot_that_is_longest_gone() -> None:
    table = OrderTable(64)
    assert table.send(orders(70)) == 64
    assert table.refusal(65) is OrderRefusal.TABLE_FULL
    assert table.refusal(3) is OrderRefusal.ID_IN_USE
    assert table.refusal(0) is OrderRefusal.ID_ZERO
    for id in (9, 4):
        told(table, Kind.REJECTED, id=id, size=1)
    sent(table, 65)
    assert told(table, Kind.REJECTED, id=9, size=1) == ReportOutcome.UNKNOWN_ID
    assert told(table, Kind.REJECTED, id=4, size=1) == ReportOutcome.LATE


def test_an_id_may_be_used_again_once_its_order_is_gone() -> None:
    table = OrderTable(64)
    for _ in range(200):
        sent(table, 5, size=3)
        assert table.account(0).open_bid == 3
        told(table, Kind.FILLED, id=5, size=3, price=1)
    assert table.account(0).inventory == 600
    assert table.counts() == (200, 0, 200, 0, 0, 200, 0, 0)


# What is refused


@pytest.mark.parametrize("capacity", [0, 32, 65, 8192, -64, 64.0, "64", None, True])
def test_a_capacity_is_a_power_of_two_within_limits(capacity: Any) -> None:
    with refused(ConfigError, field="capacity", value=capacity):
        OrderTable(capacity)


@pytest.mark.parametrize("units", [{256: 1}, {-1: 1}, {0: 0}, {0: 2**63}, {0: 1.5}, {0: True}])
def test_base_units_are_positive_integers_of_markets(units: Any) -> None:
    with pytest.raises(ConfigError):
        OrderTable(base_units=units)


@pytest.mark.parametrize(
    ("field", "value"), [("kind", Kind.TRADE), ("kind", Kind.FILLED), ("side", 2), ("size", 0)]
)
def test_only_orders_and_cancels_are_sent(field: str, value: int) -> None:
    table = OrderTable()
    rows = orders(2)
    rows[field][1] = value
    with refused(RecordError, index=1, field=field, value=value):
        table.send(rows)
    assert table.counts().sent == 0


def test_a_slot_is_64_bytes() -> None:
    assert ORDER_DTYPE.itemsize == 64
    assert ORDER_DTYPE.fields is not None
    assert ORDER_DTYPE.fields["state"][1] == 40
    assert ORDER_DTYPE.fields["sequence"][1] == 56
