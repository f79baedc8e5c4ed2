"""The risk gate beside a plain one in unlimited integers, and each limit by itself."""

from __future__ import annotations

import threading
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support import orders, refused
from tests.unit.core.order_model import Model
from tests.unit.core.risk_model import Gate
from tests.unit.core.test_orders import UNITS, amounts, markets, prices, report, sides, sizes
from velox import (
    TRANSACTION_DTYPE,
    Block,
    KillSwitch,
    Kind,
    Limits,
    MarketLimits,
    OrderTable,
    ReportFlags,
    RiskGate,
    Side,
)
from velox.errors import ConfigError

SECOND = 10**9
BIG = 2**63 - 1
FILLED, AMOUNTS = Kind.FILLED, ReportFlags.AMOUNTS
VALUES = {255: Fraction(1, 1_000_000), 1: Fraction(2, 3)}

few = st.none() | st.integers(1, 6)
rates = st.none() | st.sampled_from([1, 3, 7, 10**9])
market_limits = st.builds(
    MarketLimits,
    max_order_lots=st.none() | st.integers(1, 9),
    lot_step=st.sampled_from([None, None, 1, 2]),
    price_step=st.sampled_from([None, None, 1, 5]),
    max_notional=st.none() | st.integers(90, 700) | st.just(2**126),
    collar=st.none() | st.integers(0, 6) | st.just(2**62 - 1),
    max_position=st.none() | st.integers(0, 20) | st.just(2**62),
    max_open_orders=st.none() | st.integers(0, 6),
    orders_per_second=rates,
    cancels_per_second=rates,
    duplicate_ns=st.sampled_from([None, None, None, SECOND // 2]),
    max_feed_age_ns=st.sampled_from([None, None, SECOND]),
    self_trade=st.booleans(),
    max_loss=st.none() | st.integers(0, 500),
    max_drawdown=st.none() | st.integers(0, 500),
)
all_limits = st.builds(
    Limits,
    each=st.none() | market_limits | market_limits,
    markets=st.dictionaries(st.sampled_from([0, 1]), market_limits, max_size=2),
    max_open_orders=st.none() | st.integers(0, 9),
    orders_per_second=rates,
    cancels_per_second=rates,
    max_loss=st.none() | st.integers(0, 900),
    max_drawdown=st.none() | st.integers(0, 900),
)
ids = st.one_of(st.integers(0, 200), st.integers(0, 5))


class GateMachine(RuleBasedStateMachine):
    """A gate beside the model: any orders, reports, touches, times and limits."""

    @initialize(limits=all_limits)
    def make(self, limits: Limits) -> None:
        self.table = OrderTable(64, base_units=UNITS)
        self.gate = RiskGate(self.table, limits, value_units=VALUES)
        self.model = Gate(Model(64, UNITS), limits, VALUES)
        self.begin(5 * SECOND)
        for market in (0, 1, 255):
            self.touch(market=market, bid=99, ask=101, feed_state=0, age=0)

    def begin(self, now: int) -> None:
        self.gate.begin(now)
        self.model.begin(now)

    @rule(elapsed=st.sampled_from([0, 1, 10**6, SECOND // 3, SECOND, 10**18]))
    def pass_the_time(self, elapsed: int) -> None:
        self.begin(min(self.model.now + elapsed, 2**62))

    @rule(limits=all_limits)
    def set_limits(self, limits: Limits) -> None:
        self.gate.set_limits(limits)
        self.model.next_limits = limits

    @rule(
        market=markets,
        bid=st.sampled_from([99, 98, 100, 0, BIG]),
        ask=st.sampled_from([101, 102, 100, 0, BIG]),
        feed_state=st.sampled_from([0, 0, 0, 0, 1, 8]),
        age=st.sampled_from([0, 0, SECOND, SECOND + 1]),
    )
    def touch(self, market: int, bid: int, ask: int, feed_state: int, age: int) -> None:
        then = self.model.now - age
        self.gate.touch(market, bid, ask, feed_state=feed_state, market_ns=then)
        self.model.touch(market, bid, ask, feed_state, then)

    def both(self, **fields: int) -> None:
        row = orders(1, first_id=fields.pop("id"))
        for name, value in fields.items():
            row[name] = value
        whole = dict(zip(TRANSACTION_DTYPE.names or (), row[0].tolist(), strict=True))
        (first,) = self.gate.screen(row)
        expected = self.model.screen(whole)
        assert (first or None) == min(expected, default=None), Block(first) if first else 0
        if expected:
            assert self.gate.reasons == expected

    @rule(
        id=ids,
        market=markets,
        side=st.sampled_from([0, 1, 0, 1, 0, 1, 2]),
        price=st.one_of(prices, st.sampled_from([0, -3, 100, 100])),
        size=st.one_of(sizes, st.just(0)),
        kind=st.sampled_from([0, 0, 0, 0, 0, 0, 1, 3, 17]),
    )
    def screen(self, **fields: int) -> None:
        self.both(**fields)

    @rule(
        first=st.integers(1000, 10**6), count=st.integers(1, 30), market=markets, side=sides,
        price=st.integers(97, 103), size=st.integers(1, 3),
    )  # fmt: skip
    def screen_many(
        self, first: int, count: int, market: int, side: int, price: int, size: int
    ) -> None:
        """Orders within the envelope, of which most take the short way."""
        for id in range(first, first + count):
            self.both(
                id=id, market=market, side=side, price=price + id % 2, size=size + id % 3
            )  # fmt: skip

    @rule(
        data=st.data(),
        kind=st.sampled_from([*range(16, 24), FILLED, FILLED, FILLED]),
        size=sizes,
        exact=st.booleans(),
        amounts=st.tuples(amounts, amounts),
        price=st.integers(90, 110),
    )
    def hear(
        self,
        data: st.DataObject,
        kind: int,
        size: int,
        amounts: tuple[int, int],
        price: int,
        *,
        exact: bool,
    ) -> None:
        known = list(self.model.orders.orders.values())
        if not known:
            return
        order = data.draw(st.sampled_from(known))
        row = report(
            Kind(kind), id=order.id, market=order.market, side=order.side, price=price,
            size=min(size, order.leaves) or 1, base_amount=amounts[0], quote_amount=amounts[1],
            flags=AMOUNTS if exact and kind == FILLED else 0, fee=1,
        )  # fmt: skip
        whole = dict(zip(row.dtype.names or (), row[0].tolist(), strict=True))
        (outcome,) = self.gate.report(row)
        assert outcome == self.model.orders.report(whole)
        if outcome <= 3 and self.model.marks:
            self.model.mark(order.market)

    @rule()
    def a_person_arms_the_switch(self) -> None:
        self.gate.kill.arm("a test")
        self.model.killed = False

    @rule()
    def kill(self) -> None:
        self.gate.kill.kill()
        self.model.killed = True

    @invariant()
    def counts_what_the_model_counts(self) -> None:
        gate, model = self.gate, self.model
        assert (gate.passed, gate.cancels, gate.kills) == (
            model.passed, model.cancels, model.kills,
        )  # fmt: skip
        assert gate.kill.killed == model.killed
        assert gate.blocked == {each.name.lower(): n for each, n in model.blocked.items()}
        assert gate.cancels_over_rate == model.over_rate
        for market in (0, 1, 255):
            assert self.table.account(market)[3:5] == (
                model.orders.open(market, 0),
                model.orders.open(market, 1),
            )


TestGateMachine = GateMachine.TestCase
TestGateMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# Each limit by itself


def gate_with(**limits: Any) -> RiskGate:
    gate = RiskGate(OrderTable(), Limits(each=MarketLimits(**limits)))
    gate.begin(SECOND)
    gate.touch(0, 99, 101)
    return gate


def screened(gate: RiskGate, *rows: dict[str, int]) -> list[str]:
    found = []
    for row in rows:
        fields = {"price": 100, "size": 1, **row}
        identity = fields.pop("id", None) or 1 + gate.passed + sum(gate.blocked.values())
        (reason,) = gate.screen(orders(1, first_id=identity, **fields))
        found.append(Block(reason).name if reason else "")
    return found


@pytest.mark.parametrize(
    ("limits", "passes", "blocked", "reason"),
    [
        ({"max_order_lots": 5}, {"size": 5}, {"size": 6}, "LOTS"),
        ({}, {}, {"size": 0}, "LOTS"),
        ({"lot_step": 3}, {"size": 6}, {"size": 5}, "LOT_STEP"),
        ({"price_step": 5}, {"price": 95}, {"price": 96}, "PRICE_STEP"),
        ({"max_notional": 500}, {"size": 5}, {"size": 5, "price": 101}, "NOTIONAL"),
        ({"max_notional": 2**94}, {"size": 1}, {"size": 2**32 - 1, "price": BIG}, "NOTIONAL"),
        ({"collar": 2}, {"price": 103}, {"price": 104}, "COLLAR"),
        ({"collar": 2}, {"price": 99}, {"price": 98}, "COLLAR"),
        ({"max_position": 7}, {"size": 7}, {"size": 8}, "POSITION"),
        ({}, {}, {"price": 0}, "PRICE"),
        ({}, {}, {"price": -1}, "PRICE"),
        ({}, {}, {"side": 2}, "SIDE"),
        ({}, {}, {"kind": Kind.SET}, "KIND"),
    ],
)
def test_a_limit_passes_what_it_allows_and_blocks_what_is_just_beyond(
    limits: Any, passes: Any, blocked: Any, reason: str
) -> None:
    assert screened(gate_with(**limits), {"side": 0, **passes}) == [""]
    # After an order within the limits, so that the short way is tried too.
    gate = gate_with(**limits)
    screened(gate, {"side": 0, "size": 3 if "lot_step" in limits else 1, "price": 100})
    gate.report(report(Kind.CANCELLED, id=1))
    assert screened(gate, blocked) == [reason]


def test_the_worst_case_of_the_position_counts_every_order_that_is_not_gone() -> None:
    gate = gate_with(max_position=10)
    assert screened(gate, {"size": 6}, {"size": 5}, {"size": 4}) == ["", "POSITION", ""]
    # Of the other side just as many, whatever the bids.
    assert screened(gate, {"side": 1, "size": 10, "price": 101}) == [""]
    gate.report(report(FILLED, id=1, size=6, price=100))
    assert screened(gate, {"size": 1}, {"side": 1, "size": 6, "price": 101}) == ["POSITION", ""]
    gate.report(report(Kind.UNKNOWN, id=3))
    assert screened(gate, {"size": 1}) == ["POSITION"]
    gate.report(report(Kind.REJECTED, id=3))
    assert screened(gate, {"size": 4}, {"size": 1}) == ["", "POSITION"]


def test_orders_come_no_faster_than_their_rate_and_cancels_pass_anyhow() -> None:
    gate = gate_with(orders_per_second=2, order_burst=3, cancels_per_second=1)
    assert screened(gate, *[{}] * 5) == ["", "", "", "RATE", "RATE"]
    gate.begin(SECOND + SECOND // 2 - 1)
    assert screened(gate, {}) == ["RATE"]
    gate.begin(SECOND + SECOND // 2)
    assert screened(gate, {}, {}) == ["", "RATE"]
    gate.begin(2**63)
    assert screened(gate, *[{}] * 4) == ["", "", "", "RATE"]
    assert screened(gate, {"kind": 1, "id": 1}, {"kind": 1, "id": 2}) == ["", ""]
    assert (gate.cancels, gate.cancels_over_rate) == (2, 1)


def test_a_rate_over_all_markets_is_shared() -> None:
    gate = RiskGate(OrderTable(), Limits(orders_per_second=3))
    gate.begin(SECOND)
    rows = [{"market": market} for market in (0, 1, 0, 1)]
    assert screened(gate, *rows) == ["", "", "", "RATE"]


def test_a_bad_feed_blocks_and_a_cancel_passes() -> None:
    gate = gate_with(max_feed_age_ns=100)
    gate.touch(0, 99, 101, market_ns=SECOND)
    assert screened(gate, {}) == [""]
    gate.touch(0, 99, 101, feed_state=2, market_ns=SECOND)
    assert screened(gate, {}, {"kind": 1, "id": 1}) == ["FEED", ""]
    gate.touch(0, 99, 101, market_ns=SECOND)
    gate.begin(SECOND + 100)
    assert screened(gate, {}) == [""]
    gate.begin(SECOND + 101)
    assert screened(gate, {}) == ["FEED"]


def test_a_collar_without_a_reference_blocks() -> None:
    gate = gate_with(collar=BIG >> 2)
    assert screened(gate, {}) == [""]
    gate.touch(0, 99, 0)
    assert screened(gate, {}, {"side": 1, "price": 101}) == ["COLLAR", ""]


def test_our_own_orders_do_not_meet() -> None:
    gate = gate_with()
    assert screened(gate, {"side": 1, "price": 103}, {"price": 103}) == ["", "SELF_TRADE"]
    assert screened(gate, {"price": 102}, {"side": 1, "price": 102}) == ["", "SELF_TRADE"]
    gate.report(report(Kind.CANCELLED, id=1, side=1))
    assert screened(gate, {"price": 104}) == [""]
    assert screened(gate_with(self_trade=True), {"side": 1}, {"side": 0}) == ["", ""]


def test_a_duplicate_is_blocked_for_a_time() -> None:
    gate = gate_with(duplicate_ns=10)
    assert screened(gate, {}, {}, {"size": 2}, {}) == ["", "DUPLICATE", "", "DUPLICATE"]
    gate.begin(SECOND + 9)
    assert screened(gate, {}) == ["DUPLICATE"]
    gate.begin(SECOND + 10)
    assert screened(gate, {}) == [""]


def test_a_loss_sets_the_kill_switch_and_only_a_person_arms_it() -> None:
    gate = gate_with(max_loss=50)
    screened(gate, {"size": 10, "price": 101})
    gate.report(report(FILLED, id=1, size=10, price=101))
    assert (gate.equity, gate.kill.killed) == (-20, False)
    gate.touch(0, 96, 101)
    assert (gate.equity, gate.kill.killed, gate.kills) == (-50, False, 0)
    gate.touch(0, 95, 101)
    assert (gate.equity, gate.kill.killed, gate.kills) == (-60, True, 1)
    gate.touch(0, 105, 106)
    assert screened(gate, {}, {"kind": 1, "id": 1}) == ["KILLED", ""]
    assert gate.kill.arm("Ada")
    assert screened(gate, {}) == [""]


def test_a_drawdown_is_from_the_highest_equity() -> None:
    gate = gate_with(max_drawdown=30)
    screened(gate, {"size": 10})
    gate.report(report(FILLED, id=1, size=10, price=100))
    gate.touch(0, 110, 111)
    gate.touch(0, 107, 108)
    assert not gate.kill.killed
    gate.touch(0, 106, 107)
    assert gate.kill.killed


def test_a_position_that_is_not_certain_blocks_until_a_resync() -> None:
    gate = gate_with()
    gate.report(report(FILLED, price=-1, size=1))
    assert screened(gate, {}) == ["ACCOUNT"]
    gate.report(report(Kind.RESYNC, flags=ReportFlags.BEGIN))
    gate.report(report(Kind.RESYNC, flags=ReportFlags.LAST | AMOUNTS))
    assert screened(gate, {}) == [""]


def test_a_market_without_limits_takes_no_order() -> None:
    gate = RiskGate(OrderTable(), Limits(each=None, markets={3: MarketLimits()}))
    assert screened(gate, {"market": 3}, {"market": 4}) == ["", "NO_LIMITS"]


# The swap


def test_new_limits_hold_from_the_next_batch_on_and_old_ones_are_freed() -> None:
    gate = gate_with(max_order_lots=5)
    assert screened(gate, {"size": 5}) == [""]
    gate.set_limits(Limits(each=MarketLimits(max_order_lots=2)))
    assert screened(gate, {"size": 5}) == [""]
    gate.begin(SECOND)
    assert screened(gate, {"size": 3}, {"size": 2}) == ["LOTS", ""]
    for lots in range(1, 9):
        gate.set_limits(Limits(each=MarketLimits(max_order_lots=lots)))
        assert gate.blocks_kept == lots + 1
    gate.begin(SECOND)
    gate.set_limits(Limits())
    assert gate.blocks_kept == 2


def test_limits_change_under_a_gate_that_runs() -> None:
    gate = gate_with(max_order_lots=1)
    stop = threading.Event()

    def change() -> None:
        while not stop.is_set():
            for lots in (1, 2):
                gate.set_limits(Limits(each=MarketLimits(max_order_lots=lots)))

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for number in range(1, 3000):
            gate.begin(SECOND + number)
            assert gate.screen(orders(1, first_id=number, size=3, price=100)) == [Block.LOTS]
            assert gate.screen(orders(1, first_id=number, size=1, price=100)) == [0]
            gate.report(report(Kind.REJECTED, id=number))
    finally:
        stop.set()
        thread.join()
    assert gate.passed == 2999


# The switch


def test_memory_that_is_not_a_switch_is_refused() -> None:
    for memory in (bytearray(255), bytes(256), bytearray(b"x" * 256), "text"):
        with refused(ConfigError, field="memory"):
            KillSwitch(memory)  # type: ignore[arg-type]


def test_one_memory_is_one_switch_and_anything_unknown_in_it_blocks() -> None:
    memory = np.zeros(32, np.uint64)
    first, second = KillSwitch(memory), KillSwitch(memory)
    assert (first.killed, second.killed) == (False, False)
    assert second.kill("enough")
    assert (first.killed, first.why) == (True, "enough")
    assert first.arm("Ada")
    for state in (0, 2, 77, 2**64 - 1):
        memory[1] = state
        assert first.killed
        assert first.arm("Ada")
    with refused(ConfigError, field="person", value=" "):
        first.arm(" ")
    assert not first.arm("Ada")


# What is refused


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("max_order_lots", 0),
        ("max_order_lots", 2**32),
        ("lot_step", 0),
        ("collar", -1),
        ("max_notional", 1.5),
        ("max_position", True),
        ("orders_per_second", 0),
        ("order_burst", 5),
        ("max_loss", "5"),
        ("self_trade", 1),
    ],
)
def test_a_limit_that_cannot_be_used_is_named(field: str, value: Any) -> None:
    with refused(ConfigError, field=field, value=value):
        MarketLimits(**{field: value})


def test_limits_of_markets_are_limits_of_markets() -> None:
    for wrong in ({256: MarketLimits()}, {0: Limits()}, [MarketLimits()]):
        with pytest.raises(ConfigError):
            Limits(markets=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError):
        RiskGate(OrderTable(), MarketLimits())  # type: ignore[arg-type]


def test_limits_name_what_was_given() -> None:
    limits = Limits(
        each=MarketLimits(collar=3), markets={2: MarketLimits(self_trade=True)}, max_loss=9
    )
    assert list(limits.given()) == [
        ("total", "max_loss", 9),
        ("each", "collar", 3),
        ("market.2", "self_trade", True),
    ]


def test_the_side_of_an_order_is_the_side_of_its_limit() -> None:
    gate = gate_with(max_position=5)
    assert screened(gate, {"side": Side.ASK, "size": 5, "price": 101}) == [""]
    assert screened(gate, {"side": Side.ASK, "size": 1, "price": 101}) == ["POSITION"]
