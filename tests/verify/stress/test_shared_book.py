"""The shared ladder under real threads: nothing is lost, and no completed add is ever missed."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from tests.support import rounds
from velox.core.records import TRANSACTION_DTYPE, Kind, Side
from velox.core.shared_book import TIMEOUT, SharedLadder

APPLIED = 0
EMPTY = -(2**63)

threads = pytest.mark.parametrize("threads", [2, 4, 8])
sides = pytest.mark.parametrize("side", Side)


def together(*bodies: Callable[[], np.ndarray]) -> list[np.ndarray]:
    """Run each body in a thread of its own, all at once, and return what they return."""
    barrier = Barrier(len(bodies))
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []

    def body(number: int, work: Callable[[], np.ndarray]) -> np.ndarray:
        # Spread by hand: left alone, short threads tend to start on one core, one after the other.
        if cores:
            os.sched_setaffinity(0, {cores[number % len(cores)]})
        barrier.wait()
        return work()

    with ThreadPoolExecutor(len(bodies)) as pool:
        return list(pool.map(body, range(len(bodies)), bodies))


def stream(side: Side, ticks: np.ndarray, kinds: np.ndarray) -> np.ndarray:
    records = np.zeros(len(ticks), TRANSACTION_DTYPE)
    records["side"], records["price"], records["kind"], records["size"] = side, ticks, kinds, 1
    return records


def toggles(side: Side, ticks: np.ndarray) -> np.ndarray:
    """Add a lot at each tick and take it away again."""
    return stream(side, np.repeat(ticks, 2), np.tile([Kind.ADD, Kind.CANCEL], len(ticks)))


def applied_change(records: np.ndarray, statuses: np.ndarray, levels: int) -> np.ndarray:
    """What the records that were said to be applied changed, by tick."""
    applied = records[statuses == APPLIED]
    signs = np.where(applied["kind"] == Kind.ADD, 1, -1)
    return np.bincount(applied["price"], weights=signs, minlength=levels).astype(np.int64)


def assert_holds(ladder: SharedLadder, side: Side, expected: np.ndarray, slack: int) -> None:
    occupied = np.flatnonzero(expected)
    best_first = occupied[::-1] if side == Side.BID else occupied
    depth = ladder.depth(side, ladder.levels)
    assert depth[:, 0].tolist() == best_first.tolist()
    assert depth[:, 1].tolist() == expected[best_first].tolist()
    assert ladder.best(side) == (tuple(depth[0].tolist()) if len(depth) else None)
    # A withdrawal that loses every try leaves a bit behind; a thread has one under way at most.
    for tier, marked in enumerate(ladder.marked(side)):
        needed = len(np.unique(occupied >> 5 * tier))
        assert needed <= marked <= needed + slack


@sides
@threads
@pytest.mark.parametrize(
    ("levels", "used"),
    [(64, 1), (64, 3), (1024, 64), (2**18, 2**18)],
    ids=["one level", "three levels", "one leaf or two", "every tier"],
)
def test_quantities_are_the_sum_of_what_each_thread_was_told(levels, used, threads, side):
    generator = np.random.default_rng(levels + used + threads)
    candidates = generator.permutation(np.arange(1, levels))[:used]
    ladder = SharedLadder(levels)
    count = rounds(60_000)
    streams = [
        stream(side, generator.choice(candidates, count), generator.integers(0, 2, count))
        for _ in range(threads)
    ]
    told = together(*(lambda records=records: ladder.apply(records) for records in streams))
    expected = sum(
        applied_change(records, statuses, levels)
        for records, statuses in zip(streams, told, strict=True)
    )
    assert_holds(ladder, side, expected, slack=threads)


def comes_of_one_order(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two threads' adds (above 0) and takings (below 0) of one level can be told so.

    Columns: the change, and whether it was applied; a taking that was not found too little there.
    Each thread's come in their order. What a level holds after so many of each is the same whatever
    came first, so that it is enough to know which pairs of counts can be reached.
    """
    sums = [np.concatenate(([0], np.cumsum(each[:, 0] * each[:, 1]))) for each in (first, second)]
    counts = np.arange(len(second) + 1)
    reached = counts == 0
    for done in range(len(first) + 1):
        if done:
            change, applied = first[done - 1]
            held = sums[0][done - 1] + sums[1]
            reached &= (held + change >= 0) == applied
        # From each pair reached, the second thread may go on until it was told something else.
        fits = (sums[0][done] + sums[1][:-1] + second[:, 0] >= 0) == second[:, 1]
        barred = np.maximum.accumulate(np.concatenate(([0], np.where(fits, 0, counts[1:]))))
        reached = np.maximum.accumulate(np.where(reached, counts, -1)) >= barred
    return bool(reached[-1])


@pytest.mark.parametrize(
    ("first", "second", "possible"),
    [
        ([(1, 1)], [(-1, 1)], True),
        ([(1, 1)], [(-1, 0)], True),
        ([(1, 1)], [(-2, 1)], False),
        ([(1, 1), (-1, 1)], [(-1, 1)], False),
        ([(2, 1), (1, 1)], [(1, 1), (-1, 0)], False),
    ],
)
def test_an_order_is_found_only_where_there_is_one(first, second, possible):
    assert comes_of_one_order(np.array(first), np.array(second)) == possible


@sides
@pytest.mark.parametrize("seed", range(4))
def test_what_two_threads_were_told_comes_of_one_order_on_each_level(side, seed):
    generator = np.random.default_rng(seed)
    ladder = SharedLadder(64)
    count = rounds(20_000)
    streams = []
    for _ in range(2):
        records = stream(
            side, 1 + generator.integers(0, 40, count), generator.integers(0, 2, count)
        )
        records["size"] = generator.integers(1, 4, len(records))
        streams.append(records)
    told = together(*(lambda records=records: ladder.apply(records) for records in streams))
    assert TIMEOUT not in np.concatenate(told)
    for tick in range(1, 41):
        histories = []
        for records, statuses in zip(streams, told, strict=True):
            here = records["price"] == tick
            signs = np.where(records["kind"] == Kind.ADD, 1, -1)
            changes = signs[here] * records["size"][here].astype(np.int64)
            histories.append(np.stack((changes, statuses[here] == APPLIED), axis=1))
        assert comes_of_one_order(*histories)


@threads
def test_an_update_that_timed_out_changed_nothing(threads):
    ladder = SharedLadder(64, tries=1)
    streams = [toggles(Side.BID, np.full(rounds(100_000), 33)) for _ in range(threads)]
    told = together(*(lambda records=records: ladder.apply(records) for records in streams))
    expected = sum(
        applied_change(records, statuses, 64)
        for records, statuses in zip(streams, told, strict=True)
    )
    timeouts = sum(int((statuses == TIMEOUT).sum()) for statuses in told)
    assert ladder.quantity(Side.BID, 33) == expected[33]
    assert ladder.best(Side.BID) == ((33, expected[33]) if expected[33] else None)
    assert ladder.counters()["timeout"] == timeouts


@threads
def test_with_retries_no_update_is_lost(threads):
    ladder = SharedLadder(64, tries=2)
    count = rounds(100_000)
    records = stream(Side.ASK, np.full(count, 5), np.full(count, Kind.ADD))
    told = together(*[lambda: ladder.apply(records, retry=True)] * threads)
    assert not np.concatenate(told).any()
    assert ladder.best(Side.ASK) == (5, count * threads)


def missed(ladder: SharedLadder, side: Side, ticks: np.ndarray) -> np.ndarray:
    """How often a thread, having just added at a tick, read a best that was worse."""
    records = toggles(side, ticks)
    best = np.zeros(len(records), np.int64)
    assert not ladder.apply(records, retry=True, best=best).any()
    seen, own = best[0::2], ticks
    worse = seen < own if side == Side.BID else seen > own
    return np.count_nonzero(worse | (seen == EMPTY))


@sides
@threads
@pytest.mark.parametrize(
    ("levels", "spread"),
    [(64, 0), (64, 1), (1024, 1), (1024, 33), (2**18, 1025), (2**18, 2**15 - 7)],
    ids=["one level", "one leaf", "one leaf of many", "one summary", "two summaries", "the root"],
)
def test_a_completed_add_is_never_missed(levels, spread, threads, side):
    ladder = SharedLadder(levels)
    generator = np.random.default_rng(spread)
    ticks = [
        1 + spread * ((number + generator.integers(0, 2, rounds(40_000))) % 8)
        for number in range(threads)
    ]
    counts = together(*(lambda own=own: missed(ladder, side, own) for own in ticks))
    assert sum(counts) == 0
    assert_holds(ladder, side, np.zeros(levels, np.int64), slack=threads)


def reads(ladder: SharedLadder, side: Side, count: int) -> np.ndarray:
    """The best as read `count` times in a row."""
    best = np.zeros(count, np.int64)
    ladder.apply(stream(side, np.ones(count), np.full(count, Kind.TRADE)), best=best)
    return best


@sides
def test_a_reader_never_sees_a_best_that_was_at_no_instant_the_best(side):
    # One writer walks {500} {500 far} {far} {far near} and back, `near` the worst of the three:
    # it never is the best, but a scan that passes `far` too early and `500` too late finds it.
    far, near = (1000, 3) if side == Side.BID else (3, 1000)
    ladder = SharedLadder(1024)
    ladder.update(side, Kind.ADD, 500, 1)
    there = [(far, Kind.ADD), (500, Kind.CANCEL), (near, Kind.ADD)]
    back = [(500, Kind.ADD), (near, Kind.CANCEL), (far, Kind.CANCEL)]
    ticks, kinds = np.array((there + back) * rounds(200_000)).T
    records = stream(side, ticks, kinds)
    told, best = together(
        lambda: ladder.apply(records), lambda: reads(ladder, side, rounds(1_000_000))
    )
    assert not told.any()
    assert set(np.unique(best)) <= {500, far}
    assert ladder.best(side) == (500, 1)


@sides
def test_a_level_that_moves_by_adding_before_removing_is_never_out_of_sight(side):
    path = 1 + np.cumsum(np.random.default_rng(7).integers(1, 999, rounds(300_000) + 1)) % (
        2**13 - 1
    )
    ladder = SharedLadder(2**13)
    ladder.update(side, Kind.ADD, int(path[0]), 1)
    moves = np.stack((path[1:], path[:-1]), axis=1).ravel()
    records = stream(side, moves, np.tile([Kind.ADD, Kind.CANCEL], len(path) - 1))
    told, best, again = together(
        lambda: ladder.apply(records),
        lambda: reads(ladder, side, rounds(300_000)),
        lambda: reads(ladder, side, rounds(300_000)),
    )
    assert not told.any()
    assert EMPTY not in best
    assert EMPTY not in again
    assert ladder.best(side) == (path[-1], 1)


@threads
def test_a_clear_beside_writers_leaves_only_what_they_added(threads):
    ladder = SharedLadder(1024)
    generator = np.random.default_rng(threads)
    count = rounds(50_000)
    streams = [
        stream(Side.BID, generator.integers(1, 1024, count), np.zeros(count))
        for _ in range(threads - 1)
    ]
    clears = stream(Side.BID, np.ones(300), np.full(300, Kind.CLEAR))
    together(
        lambda: ladder.apply(clears, retry=True),
        *(lambda records=records: ladder.apply(records, retry=True) for records in streams),
    )
    most = sum(np.bincount(records["price"], minlength=1024) for records in streams)
    depth = ladder.depth(Side.BID, 1024)
    assert (depth[:, 1] <= most[depth[:, 0]]).all()
    assert ladder.update(Side.BID, Kind.CLEAR, 0) == APPLIED
    assert_holds(ladder, Side.BID, np.zeros(1024, np.int64), slack=threads)
