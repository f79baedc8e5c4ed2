"""The shared ladder in one thread, against a dictionary."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import MARKET_KINDS, refused
from velox.core.records import TRANSACTION_DTYPE, Kind, Rejection, Side
from velox.core.shared_book import TIMEOUT, SharedLadder
from velox.errors import BookError, RecordError

APPLIED = 0
EMPTY = -(2**63)
LARGEST = 2**47 - 1
TAKES = (Kind.CANCEL, Kind.EXECUTE)
ALL_LEVELS = [1 << power for power in range(6, 19)]


def better_first(side: int, ticks: list[int]) -> list[int]:
    return sorted(ticks, reverse=side == Side.BID)


class DictLadder:
    """The same contract, without bits, epochs or threads."""

    def __init__(self, levels: int, base_tick: int) -> None:
        self.window = range(base_tick, base_tick + levels)
        self.sides: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def update(self, side: int, kind: int, tick: int, quantity: int) -> int:
        if kind == Kind.CLEAR:
            self.sides[side].clear()
            return APPLIED
        if tick not in self.window:
            return Rejection.OUT_OF_WINDOW
        held = self.sides[side].get(tick, 0)
        wanted = {
            Kind.ADD: held + quantity,
            Kind.CANCEL: held - quantity,
            Kind.EXECUTE: held - quantity,
            Kind.SET: quantity,
            Kind.SET_WIDE: quantity,
            Kind.DELETE: 0,
            Kind.TRADE: held,
        }[Kind(kind)]
        if wanted < 0:
            return Rejection.UNDERFLOW
        if wanted > LARGEST:
            return Rejection.OVERFLOW
        self.sides[side][tick] = wanted
        if wanted == 0:
            del self.sides[side][tick]
        return APPLIED

    def depth(self, side: int) -> list[list[int]]:
        return [[tick, self.sides[side][tick]] for tick in better_first(side, self.sides[side])]


def tiers_of(levels: int) -> int:
    return -(-(levels.bit_length() - 1) // 5)


def marks(levels: int, ticks: list[int], model: DictLadder) -> tuple[int, ...]:
    """How many words of each tier have an occupied level under them."""
    offsets = [tick - model.window.start for tick in ticks]
    return tuple(
        len({offset >> 5 * tier for offset in offsets}) for tier in range(tiers_of(levels))
    )


def assert_same(ladder: SharedLadder, model: DictLadder, n: int = 2**18) -> None:
    for side in Side:
        expected = model.depth(side)
        assert ladder.depth(side, n).tolist() == expected[:n]
        assert ladder.best(side) == (tuple(expected[0]) if expected else None)
        assert ladder.marked(side) == marks(ladder.levels, [tick for tick, _ in expected], model)


def records(count: int) -> np.ndarray:
    return np.zeros(count, TRANSACTION_DTYPE)


def test_a_new_ladder_is_empty_on_both_sides():
    ladder = SharedLadder()
    assert (ladder.levels, ladder.base_tick, ladder.tries) == (1024, 0, 100)
    for side in Side:
        assert ladder.best(side) is None
        assert ladder.depth(side, 10).shape == (0, 2)
        assert ladder.quantity(side, 0) == 0
        assert ladder.marked(side) == (0, 0)


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize("levels", ALL_LEVELS)
def test_every_edge_of_every_tier_is_found_alone_and_in_order(levels, side):
    base = 10**12
    ladder = SharedLadder(levels, base_tick=base)
    edges = {0, 1, levels - 1, levels // 2}
    edges |= {offset for power in range(5, 18, 5) for offset in range((1 << power) - 1, levels)[:3]}
    for offset in edges:
        assert ladder.update(side, Kind.ADD, base + offset, offset + 1) == APPLIED
        assert ladder.best(side) == (base + offset, offset + 1)
        assert ladder.update(side, Kind.DELETE, base + offset) == APPLIED
        assert ladder.best(side) is None
    for offset in edges:
        ladder.update(side, Kind.ADD, base + offset, offset + 1)
    expected = [[base + offset, offset + 1] for offset in better_first(side, list(edges))]
    assert ladder.depth(side, levels).tolist() == expected
    assert ladder.depth(side, 2).tolist() == expected[:2]


def test_the_best_bid_is_the_highest_and_the_best_ask_the_lowest():
    ladder = SharedLadder(64, base_tick=100)
    for tick in (110, 130, 120):
        ladder.update(Side.BID, Kind.ADD, tick, 1)
        ladder.update(Side.ASK, Kind.ADD, tick + 20, 2)
    assert ladder.best(Side.BID) == (130, 1)
    assert ladder.best(Side.ASK) == (130, 2)


def test_a_tick_outside_the_window_is_refused_on_either_end():
    ladder = SharedLadder(64, base_tick=-32)
    for side in Side:
        for tick in (-33, 32, -(2**63), 2**63 - 1):
            assert ladder.update(side, Kind.ADD, tick, 1) == Rejection.OUT_OF_WINDOW
            assert ladder.quantity(side, tick) == 0
        assert ladder.update(side, Kind.ADD, -32, 1) == APPLIED
        assert ladder.update(side, Kind.ADD, 31, 1) == APPLIED
    assert ladder.best(Side.BID) == (31, 1)
    assert ladder.best(Side.ASK) == (-32, 1)


@pytest.mark.parametrize("base", [-(2**63), 2**63 - 64])
def test_a_window_may_touch_either_end_of_the_integers(base):
    ladder = SharedLadder(64, base_tick=base)
    for side in Side:
        assert ladder.update(side, Kind.ADD, base, 1) == APPLIED
        assert ladder.update(side, Kind.ADD, base + 63, 2) == APPLIED
    assert ladder.best(Side.BID) == (base + 63, 2)
    assert ladder.best(Side.ASK) == (base, 1)
    assert ladder.update(Side.BID, Kind.ADD, -1 - base, 1) == Rejection.OUT_OF_WINDOW


@pytest.mark.parametrize("kind", TAKES)
def test_taking_more_than_a_level_holds_changes_nothing(kind):
    ladder = SharedLadder()
    assert ladder.update(Side.BID, kind, 5, 1) == Rejection.UNDERFLOW
    ladder.update(Side.BID, Kind.ADD, 5, 3)
    assert ladder.update(Side.BID, kind, 5, 4) == Rejection.UNDERFLOW
    assert ladder.best(Side.BID) == (5, 3)
    assert ladder.update(Side.BID, kind, 5, 3) == APPLIED
    assert ladder.best(Side.BID) is None


def test_a_level_holds_47_bits_and_refuses_one_lot_more():
    ladder = SharedLadder()
    assert ladder.update(Side.ASK, Kind.SET_WIDE, 5, LARGEST) == APPLIED
    assert ladder.update(Side.ASK, Kind.ADD, 5, 1) == Rejection.OVERFLOW
    assert ladder.update(Side.ASK, Kind.ADD, 5, 2**64 - 1) == Rejection.OVERFLOW
    assert ladder.update(Side.ASK, Kind.SET, 5, LARGEST + 1) == Rejection.OVERFLOW
    assert ladder.quantity(Side.ASK, 5) == LARGEST
    assert ladder.update(Side.ASK, Kind.CANCEL, 5, LARGEST) == APPLIED
    assert ladder.update(Side.ASK, Kind.ADD, 6, LARGEST + 1) == Rejection.OVERFLOW
    assert ladder.best(Side.ASK) is None


def test_an_update_that_changes_nothing_is_applied():
    ladder = SharedLadder()
    for kind in (Kind.ADD, Kind.CANCEL, Kind.SET, Kind.DELETE, Kind.TRADE):
        assert ladder.update(Side.BID, kind, 7, 0) == APPLIED
    assert ladder.best(Side.BID) is None
    assert not any(ladder.marked(Side.BID))


def test_an_unknown_kind_or_side_is_refused():
    ladder = SharedLadder()
    for kind in (Kind.TRADE + 1, Kind.PLACED, Kind.RESYNC, 255):
        assert ladder.update(Side.BID, kind, 7, 1) == Rejection.KIND
    assert ladder.update(2, Kind.ADD, 7, 1) == Rejection.SIDE
    for ask in (ladder.best, ladder.marked):
        with refused(BookError, field="side", value=2):
            ask(2)
    with refused(BookError, field="side", value=3):
        ladder.quantity(3, 7)
    with refused(BookError, field="side", value=4):
        ladder.depth(4, 1)


def test_a_clear_empties_one_side_and_leaves_the_other():
    ladder = SharedLadder(2048)
    for tick in range(0, 2048, 3):
        for side in Side:
            ladder.update(side, Kind.ADD, tick, 1)
    assert ladder.update(Side.BID, Kind.CLEAR, 10**9) == APPLIED
    assert ladder.best(Side.BID) is None
    assert not any(ladder.marked(Side.BID))
    assert ladder.marked(Side.ASK) == (len(range(0, 2048, 3)), 64, 2)


def test_a_level_outlives_every_value_of_its_epoch():
    ladder = SharedLadder(64)
    one_level = records(2 * (2**17 + 3))
    one_level["price"], one_level["size"] = 9, 5
    one_level["kind"][1::2] = Kind.CANCEL
    best = np.zeros(len(one_level), np.int64)
    assert not ladder.apply(one_level, best=best).any()
    assert (best[0::2] == 9).all()
    assert (best[1::2] == EMPTY).all()
    assert not any(ladder.marked(Side.BID))


def test_apply_takes_the_price_as_the_tick_and_answers_every_record():
    ladder = SharedLadder(64, base_tick=1)
    batch = records(8)
    batch["price"] = [3, 3, 3, 99, 5, 4, 0, 3]
    batch["kind"] = [0, 2, 1, 0, Kind.SET_WIDE, 0, 0, 8]
    batch["size"] = [6, 2, 5, 1, 0, 0, 1, 1]
    batch["id"][4] = LARGEST
    best = np.zeros(8, np.int64)
    statuses = ladder.apply(batch, best=best)
    assert statuses.dtype == np.uint8
    assert statuses.tolist() == [
        APPLIED,
        APPLIED,
        Rejection.UNDERFLOW,
        Rejection.OUT_OF_WINDOW,
        APPLIED,
        Rejection.SIZE,
        Rejection.PRICE,
        Rejection.KIND,
    ]
    assert best.tolist() == [3, 3, 3, 3, 5, 5, 5, 5]
    assert ladder.depth(Side.BID, 9).tolist() == [[5, LARGEST], [3, 4]]


def test_apply_refuses_a_side_without_looking_for_its_best():
    batch = records(1)
    batch["price"], batch["size"], batch["side"] = 1, 1, 2
    best = np.zeros(1, np.int64)
    assert SharedLadder().apply(batch, best=best).tolist() == [Rejection.SIDE]
    assert best.tolist() == [EMPTY]


def test_apply_refuses_arrays_that_are_not_what_it_needs():
    ladder = SharedLadder()
    with pytest.raises(RecordError):
        ladder.apply(np.zeros(3))
    read_only = np.zeros(3, np.int64)
    read_only.flags.writeable = False
    for best in (np.zeros(2, np.int64), np.zeros(3), [0, 0, 0], read_only):
        with refused(BookError, field="best"):
            ladder.apply(records(3), best=best)


def test_the_counters_count_every_outcome_of_both_doors():
    ladder = SharedLadder()
    ladder.update(Side.BID, Kind.ADD, 1, 1)
    ladder.update(Side.BID, Kind.ADD, -1, 1)
    batch = records(3)
    batch["price"], batch["size"], batch["kind"] = 1, 1, Kind.CANCEL
    ladder.apply(batch)
    counters = {name: count for name, count in ladder.counters().items() if count}
    assert counters == {"applied": 2, "out_of_window": 1, "underflow": 2}
    assert list(ladder.counters())[TIMEOUT] == "timeout"


@pytest.mark.parametrize("levels", [0, -64, 32, 63, 100, 2**19])
def test_levels_must_be_a_power_of_two_in_range(levels):
    with refused(BookError, field="levels", value=levels):
        SharedLadder(levels)


def test_a_window_that_leaves_the_integers_is_refused():
    for base in (2**63 - 63, -(2**63) - 1):
        with refused(BookError, field="base_tick"):
            SharedLadder(64, base_tick=base)


def test_an_update_needs_at_least_one_try():
    with refused(BookError, field="tries", value=0):
        SharedLadder(tries=0)
    assert SharedLadder(tries=1).update(Side.BID, Kind.ADD, 1, 1) == APPLIED


def test_depth_refuses_a_negative_number_of_levels():
    with refused(BookError, field="n", value=-1):
        SharedLadder().depth(Side.BID, -1)


UPDATES = st.lists(
    st.tuples(
        st.sampled_from(list(Side)),
        st.sampled_from([*MARKET_KINDS, Kind.ADD, Kind.SET]),
        st.one_of(st.integers(0, 5), st.integers(28, 36), st.integers(-2, 2**18 + 2)),
        st.one_of(st.integers(0, 3), st.integers(LARGEST - 1, LARGEST + 1)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(levels=st.sampled_from(ALL_LEVELS), base=st.integers(-(10**6), 10**6), updates=UPDATES)
def test_any_sequence_of_updates_leaves_what_a_dictionary_holds(levels, base, updates):
    ladder = SharedLadder(levels, base_tick=base)
    model = DictLadder(levels, base)
    for side, kind, offset, quantity in updates:
        tick = base + offset
        assert ladder.update(side, kind, tick, quantity) == model.update(side, kind, tick, quantity)
        assert ladder.quantity(side, tick) == model.sides[side].get(tick, 0)
        assert_same(ladder, model, n=3)
    assert_same(ladder, model)
