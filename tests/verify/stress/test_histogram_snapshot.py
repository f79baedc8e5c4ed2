"""Snapshots taken while another thread records are histograms of exactly a prefix."""

from __future__ import annotations

from threading import Barrier, Thread

import numpy as np
import numpy.typing as npt
import pytest

from tests.support import rounds
from velox.core.histogram import LatencyHistogram

RECORDS = rounds(1_000_000)
Sequence = npt.NDArray[np.uint64]


def scattered() -> Sequence:
    latencies = np.random.default_rng(7).lognormal(7, 2, RECORDS)
    return np.minimum(latencies, 1e12).astype(np.uint64)


def ever_longer() -> Sequence:
    """Every record is a new maximum: the rare path, all the time, and saturated at the end."""
    return (np.arange(RECORDS, dtype=np.uint64) + 1) * np.uint64(5 * 10**12 // RECORDS)


def ever_shorter() -> Sequence:
    return ever_longer()[::-1].copy()


def always_the_same() -> Sequence:
    return np.full(RECORDS, 700, np.uint64)


def record_in_pieces(histogram: LatencyHistogram, sequence: Sequence, piece: int) -> None:
    """Pauses between the pieces let readers find the writer idle as well as busy."""
    for start in range(0, len(sequence), piece):
        histogram.record_many(sequence[start : start + piece])


def assert_prefix(snapshot: LatencyHistogram, sequence: Sequence) -> int:
    """That the snapshot holds the first records of the sequence, and nothing else."""
    counts = snapshot.counts()
    count = int(counts.sum())
    assert snapshot.count == count
    prefix = sequence[:count]
    limit = np.uint64(snapshot.limit)
    expected = np.searchsorted(snapshot.edges(), np.minimum(prefix, limit), side="right") - 1
    assert np.array_equal(np.bincount(expected, minlength=len(counts)), counts)
    assert snapshot.saturated == np.count_nonzero(prefix > limit)
    if count:
        assert (snapshot.min, snapshot.max) == (prefix.min(), prefix.max())
    return count


@pytest.mark.parametrize("make", [scattered, ever_longer, ever_shorter, always_the_same])
@pytest.mark.parametrize("piece", [RECORDS, 1000])
def test_a_snapshot_taken_meanwhile_is_the_histogram_of_a_prefix(
    make: type[Sequence], piece: int
) -> None:
    sequence = make()
    histogram = LatencyHistogram()
    snapshots: list[LatencyHistogram] = []
    start = Barrier(2)

    def write() -> None:
        start.wait()
        record_in_pieces(histogram, sequence, piece)

    writer = Thread(target=write)
    writer.start()
    start.wait()
    while writer.is_alive() and len(snapshots) < 500:
        snapshots.append(histogram.snapshot())
    writer.join()
    # The whole, and a few dozen of those taken: checking one costs more than taking it.
    chosen = snapshots[:: max(1, len(snapshots) // 40)]
    prefixes = [assert_prefix(snapshot, sequence) for snapshot in chosen]
    assert prefixes == sorted(prefixes)
    assert assert_prefix(histogram.snapshot(), sequence) == RECORDS


def test_two_readers_at_once_both_get_prefixes() -> None:
    sequence = scattered()
    histogram = LatencyHistogram()
    taken: tuple[list[LatencyHistogram], list[LatencyHistogram]] = ([], [])
    writer = Thread(target=record_in_pieces, args=(histogram, sequence, RECORDS // 20))

    def read(into: list[LatencyHistogram]) -> None:
        for _ in range(30):
            into.append(histogram.snapshot())

    readers = [Thread(target=read, args=(into,)) for into in taken]
    for thread in (writer, *readers):
        thread.start()
    for thread in (writer, *readers):
        thread.join()
    for snapshots in taken:
        prefixes = [assert_prefix(snapshot, sequence) for snapshot in snapshots]
        assert prefixes == sorted(prefixes)


def test_merging_from_a_histogram_under_way_takes_a_prefix() -> None:
    sequence = scattered()
    histogram, merged = LatencyHistogram(), LatencyHistogram()
    writer = Thread(target=record_in_pieces, args=(histogram, sequence, RECORDS))
    writer.start()
    merged.merge(histogram)
    writer.join()
    assert_prefix(merged, sequence)


def test_threads_that_record_at_once_lose_nothing() -> None:
    histogram = LatencyHistogram()
    values = np.full(RECORDS // 8, 100, np.uint64)
    barrier = Barrier(2)

    def write() -> None:
        barrier.wait()
        for _ in range(8):
            histogram.record_many(values)
            histogram.record(100)

    writers = [Thread(target=write) for _ in range(2)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert histogram.count == 2 * 8 * (len(values) + 1)
