"""A book against the plainest book there is: a dict a side, and the rules written down directly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.support import MARKET_KINDS
from velox.core.order_book import OrderBook
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, Rejection, Side

LEVELS = 64
COLD_LEVELS = 6
HIGHEST = 2**63 - 1


class Model:
    """What an `OrderBook` promises, without a window, a bitmap or a cold store."""

    def __init__(self, tick_size: int, on_cross: str) -> None:
        self.tick_size = tick_size
        self.on_cross = on_cross
        self.sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.crossed = self.uncrossed = self.matched = 0

    def best(self, side: int) -> int | None:
        levels = self.sides[side]
        if not levels:
            return None
        return min(levels) if side else max(levels)

    def crosses(self, side: int, tick: int) -> bool:
        other = self.best(1 - side)
        return other is not None and (tick <= other if side else tick >= other)

    def has_room(self, side: int, tick: int) -> bool:
        ticks = [*self.sides[side], tick]
        best = min(ticks) if side else max(ticks)
        return sum(abs(each - best) >= LEVELS for each in ticks) <= COLD_LEVELS

    def apply(self, kind: int, side: int, price: int, size: int, wide: int) -> int:  # noqa: PLR0911, PLR0912
        if kind > Kind.TRADE:
            return Rejection.KIND
        if side > Side.ASK:
            return Rejection.SIDE
        if kind == Kind.TRADE:
            return 0
        levels, others = self.sides[side], self.sides[1 - side]
        if kind == Kind.CLEAR:
            levels.clear()
            return 0
        if price <= 0:
            return Rejection.PRICE
        tick, off = divmod(price, self.tick_size)
        if off:
            return Rejection.OFF_TICK
        held = levels.get(tick, 0)
        relative = kind in {Kind.ADD, Kind.CANCEL, Kind.EXECUTE}
        if relative and size == 0:
            return Rejection.SIZE
        after = {
            Kind.ADD: held + size,
            Kind.CANCEL: held - size,
            Kind.EXECUTE: held - size,
            Kind.SET: size,
            Kind.SET_WIDE: wide,
            Kind.DELETE: 0,
        }[Kind(kind)]
        if after < 0:
            return Rejection.UNDERFLOW
        if after > HIGHEST:
            return Rejection.OVERFLOW
        meets = after > 0 and self.crosses(side, tick)
        if meets and self.on_cross == "reject":
            return Rejection.CROSSED
        fills = 0
        if meets and self.on_cross == "match" and kind == Kind.ADD:
            within = [q for t, q in others.items() if (t <= tick if side == 0 else t >= tick)]
            fills = min(size, sum(within))
        rests = after > 0 and not (fills and fills == size)
        if rests and not held and not self.has_room(side, tick):
            return Rejection.BOOK_FULL
        if meets and fills:
            self.matched += fills
            rest = fills
            while rest:
                best = self.best(1 - side)
                assert best is not None
                traded = min(rest, others[best])
                others[best] -= traded
                rest -= traded
                if not others[best]:
                    del others[best]
            after -= fills
        elif meets and self.on_cross != "count":
            while self.crosses(side, tick):
                best = self.best(1 - side)
                assert best is not None
                del others[best]
                self.uncrossed += 1
        if after:
            levels[tick] = after
        else:
            levels.pop(tick, None)
        if after and self.on_cross == "count" and kind in (Kind.ADD, Kind.SET, Kind.SET_WIDE):
            self.crossed += self.crosses(side, tick)
        return 0


def rows(levels: dict[int, int], side: int, tick_size: int) -> list[tuple[int, int]]:
    return [(tick * tick_size, levels[tick]) for tick in sorted(levels, reverse=side == 0)]


class BookAgainstModel(RuleBasedStateMachine):
    @initialize(
        tick_size=st.sampled_from([1, 2, 3, 100, 1 << 20, 96]),
        on_cross=st.sampled_from(["count", "reject", "uncross", "match"]),
        near=st.sampled_from(["low", "middle", "high"]),
        seeded=st.booleans(),
    )
    def make(self, tick_size: int, on_cross: str, near: str, seeded: bool) -> None:
        self.tick_size = tick_size
        highest = HIGHEST // tick_size
        self.lowest = {"low": 1, "middle": highest // 2, "high": highest - 4 * LEVELS}[near]
        base = (self.lowest + 2 * LEVELS) * tick_size if seeded else None
        self.book = OrderBook(
            LEVELS,
            tick_size,
            base,
            on_cross=on_cross,  # type: ignore[arg-type]
            cold_levels=COLD_LEVELS,
            depth_capacity=4,
        )
        self.model = Model(tick_size, on_cross)

    ticks = st.one_of(
        st.integers(0, 4 * LEVELS),
        st.integers(2 * LEVELS - 3, 2 * LEVELS + 3),
        st.sampled_from([0, LEVELS - 1, LEVELS, 2 * LEVELS, 4 * LEVELS]),
    )
    changes = st.tuples(
        st.sampled_from([*MARKET_KINDS, Kind.ADD, Kind.SET, Kind.SET, Kind.DELETE, 8]),
        st.sampled_from([0, 1, 0, 1, 0, 1, 2]),
        ticks,
        st.sampled_from([0, 0, 0, 0, 0, 0, 1]),
        st.one_of(st.integers(0, 5), st.just(2**32 - 1)),
        st.sampled_from([0, 1, HIGHEST, HIGHEST - 1, HIGHEST + 1]),
    )

    @rule(batch=st.lists(changes, min_size=1, max_size=20))
    def apply(self, batch: list[tuple[int, int, int, int, int, int]]) -> None:
        records = np.zeros(len(batch), TRANSACTION_DTYPE)
        expected = []
        for record, (kind, side, tick, off, size, wide) in zip(records, batch, strict=True):
            price = min((self.lowest + tick) * self.tick_size + off, HIGHEST)
            record["kind"], record["side"], record["price"] = kind, side, price
            record["size"], record["id"] = size, wide
            expected.append(int(self.model.apply(kind, side, price, size, wide)))
        statuses = np.empty(len(batch), np.uint8)
        result = self.book.apply(records, statuses)
        assert statuses.tolist() == expected
        assert result.applied == expected.count(0)
        assert sum(result.rejected.values()) == len(expected) - result.applied

    @rule(start=ticks, direction=st.sampled_from([-1, 1]), side=st.integers(0, 1))
    def walk_the_best(self, start: int, direction: int, side: int) -> None:
        """A level a tick at a time, the one before removed: the window must follow."""
        batch = []
        for step in range(2 * LEVELS):
            tick = max(0, min(start + direction * step, 4 * LEVELS))
            batch.append((Kind.SET, side, tick, 0, 3, 0))
            batch.append((Kind.DELETE, side, tick - direction, 0, 0, 0))
        self.apply([each for each in batch if 0 <= each[2] <= 4 * LEVELS])

    @rule()
    def load_its_own_snapshot(self) -> None:
        snapshot = self.book.snapshot()
        self.book.load(snapshot)
        for side in (0, 1):
            self.model.apply(Kind.CLEAR, side, 0, 0, 0)
        for record in snapshot:
            kind, side, price, size, wide = record[["kind", "side", "price", "size", "id"]].item()
            self.model.apply(kind, side, price, size, wide)
        assert snapshot.tobytes() == self.book.snapshot().tobytes()

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        for side, name in ((0, "bid"), (1, "ask")):
            expected = rows(self.model.sides[side], side, self.tick_size)
            depth = self.book.depth(4 * LEVELS + 2)
            held = zip(
                depth[f"{name}_price"].tolist(), depth[f"{name}_quantity"].tolist(), strict=True
            )
            assert [row for row in held if row[1]] == expected
            few = self.book.depth(3)
            assert few[f"{name}_price"].tolist() == ([p for p, _ in expected] + [0] * 3)[:3]
            for price, quantity in expected[:2] + expected[-2:]:
                assert self.book.quantity(side, price) == quantity

    @invariant()
    def publishes_the_best(self) -> None:
        expected: list[int | None] = []
        for side in (0, 1):
            best = self.model.best(side)
            expected += [None, 0] if best is None else [
                best * self.tick_size, self.model.sides[side][best]
            ]  # fmt: skip
        assert list(self.book.top()) == expected

    @invariant()
    def is_not_crossed_where_crossing_is_not_let_through(self) -> None:
        top = self.book.top()
        if self.model.on_cross != "count" and None not in top:
            assert top.bid_price < top.ask_price

    @invariant()
    def counts_what_the_model_counts(self) -> None:
        statistics = self.book.statistics()
        assert statistics.crossed == self.model.crossed
        assert statistics.uncrossed == self.model.uncrossed
        assert statistics.matched == self.model.matched
        assert len(self.book) == len(self.model.sides[0]) + len(self.model.sides[1])
        assert len(self.book) == statistics.window_levels + statistics.cold_levels
        assert statistics.cold_levels <= 2 * COLD_LEVELS


BookAgainstModel.TestCase.settings = settings(
    max_examples=60, stateful_step_count=20, print_blob=True, deadline=None
)
TestBookAgainstModel = BookAgainstModel.TestCase


@pytest.mark.parametrize("levels", [64, 128, 4096])
@pytest.mark.parametrize("seed", [1, 2])
def test_a_wandering_market_stays_exact(levels: int, seed: int) -> None:
    """Long enough for many moves of the window, with a cold store that is large and busy."""
    generator = np.random.default_rng(seed)
    count = 20_000
    records = np.zeros(count, TRANSACTION_DTYPE)
    centre = 100_000 + np.cumsum(generator.integers(-40, 41, count))
    side = generator.integers(0, 2, count)
    distance = (generator.pareto(0.7, count) * 5).clip(0, 50_000).astype(np.int64) + 1
    records["price"] = (centre + np.where(side == 0, -distance, distance)).clip(1)
    records["side"], records["kind"] = side, Kind.SET
    records["size"] = generator.integers(0, 3, count)
    records["flags"] = Flags.LAST
    book = OrderBook(levels)
    plain: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for begin in range(0, count, 500):
        part = records[begin : begin + 500]
        assert book.apply(part).applied == len(part)
        for price, size, which in zip(
            part["price"].tolist(), part["size"].tolist(), part["side"].tolist(), strict=True
        ):
            plain[which][price] = size
        expected = [
            (0, price, plain[0][price])
            for price in sorted(plain[0], reverse=True)
            if plain[0][price]
        ] + [(1, price, plain[1][price]) for price in sorted(plain[1]) if plain[1][price]]
        levels_held = book.snapshot()[2:][["side", "price", "size"]].tolist()
        assert levels_held == expected
    assert book.statistics().recentres > 2


def test_a_far_price_set_and_deleted_over_and_over_stays_exact() -> None:
    """Each set throws the whole window out, each delete brings it back."""
    book = OrderBook(64)
    for price in range(1000, 1060):
        book.add(Side.ASK, price, price)
    flips = np.zeros(2000, TRANSACTION_DTYPE)
    flips["side"], flips["kind"], flips["price"] = Side.ASK, Kind.SET, 10
    flips["size"][::2] = 7
    before = book.snapshot().tobytes()
    assert book.apply(flips).applied == 2000
    assert book.snapshot().tobytes() == before
    assert book.statistics().recentres >= 2000
    book.apply(flips[:1])
    assert book.best_ask == 10
    assert book.depth(2)["ask_price"].tolist() == [10, 1000]
