"""The histogram against HdrHistogram's own Python port, and at its edges."""

from __future__ import annotations

import pickle
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import refused
from velox.core.histogram import HOUR_NS, LatencyHistogram
from velox.errors import ConfigError, RecordError

PERCENTILES = [0.0, 0.1, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0]

LAYOUTS = [(1, HOUR_NS, 2), (1, 10**9, 3), (1, 1000, 1), (1000, HOUR_NS, 2), (7, 2**63 - 1, 2)]
layouts = st.sampled_from(LAYOUTS)
# Short and long latencies alike: a uniform draw would hardly ever give a short one.
values = st.integers(0, 41).flatmap(lambda bits: st.integers(0, 2**bits))
recordings = st.lists(values, min_size=1, max_size=200)


def histogram_of(recorded: list[int], layout: tuple[int, int, int]) -> LatencyHistogram:
    histogram = LatencyHistogram(*layout)
    histogram.record_many(np.array(recorded, np.uint64))
    return histogram


def oracle_of(recorded: list[int], layout: tuple[int, int, int]) -> HdrHistogram:
    oracle = HdrHistogram(*layout)
    for value in recorded:
        assert oracle.record_value(value)
    return oracle


@given(recorded=recordings, layout=layouts)
@example(recorded=[0], layout=LAYOUTS[0])
@example(recorded=[255, 256, 257, 511, 512], layout=LAYOUTS[0])
def test_counts_percentiles_and_mean_are_those_of_hdrhistogram(
    recorded: list[int], layout: tuple[int, int, int]
) -> None:
    histogram = LatencyHistogram(*layout)
    recorded = [min(value, histogram.limit) for value in recorded]
    histogram.record_many(np.array(recorded, np.int64))
    oracle = oracle_of(recorded, layout)
    assert [oracle.get_count_at_index(i) for i in range(oracle.counts_len)] == list(
        histogram.counts()
    )
    assert histogram.percentiles(PERCENTILES) == [
        oracle.get_value_at_percentile(percentile) for percentile in PERCENTILES
    ]
    assert histogram.mean == pytest.approx(oracle.get_mean_value(), rel=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_buckets_are_those_of_hdrhistogram(layout: tuple[int, int, int]) -> None:
    histogram, oracle = LatencyHistogram(*layout), HdrHistogram(*layout)
    edges = histogram.edges().tolist()
    assert edges[:-1] == [oracle.get_value_from_index(i) for i in range(oracle.counts_len)]
    assert edges[-1] == histogram.limit + 1
    assert histogram.limit >= histogram.highest


@given(recorded=recordings)
def test_counts_go_to_hdrhistogram_and_come_back(recorded: list[int]) -> None:
    histogram = histogram_of(recorded, LAYOUTS[0])
    oracle = HdrHistogram(*LAYOUTS[0])
    counts, edges = histogram.counts(), histogram.edges()
    for index in np.flatnonzero(counts):
        oracle.record_value(int(edges[index]), int(counts[index]))
    decoded = HdrHistogram.decode(oracle.encode())
    back = LatencyHistogram.from_counts(
        np.array([decoded.get_count_at_index(i) for i in range(decoded.counts_len)], np.uint64),
        min=histogram.min,
        max=histogram.max,
    )
    assert back == histogram
    assert back.percentiles(PERCENTILES) == histogram.percentiles(PERCENTILES)


@given(value=st.integers(0, 2**42 - 1))
def test_a_value_lies_within_its_bucket_and_the_bucket_within_its_error(value: int) -> None:
    histogram = LatencyHistogram()
    histogram.record(value)
    (index,) = np.flatnonzero(histogram.counts())
    low, high = histogram.edges()[index : index + 2].tolist()
    assert low <= value < high
    assert high - low <= max(1, low / 100)


@given(recorded=recordings)
def test_extremes_are_exact(recorded: list[int]) -> None:
    histogram = histogram_of(recorded, LAYOUTS[0])
    assert (histogram.min, histogram.max) == (min(recorded), max(recorded))
    assert histogram.count == len(recorded)


def test_an_empty_histogram_has_no_figures() -> None:
    empty = LatencyHistogram()
    assert empty.to_dict() == {"count": 0, **dict.fromkeys(("p50", "p90", "p99", "p99_9", "max"))}
    assert (empty.min, empty.mean, empty.saturated, empty.percentile(50)) == (0, 0.0, 0, 0)


def test_the_usual_figures_are_integers_in_nanoseconds() -> None:
    figures = histogram_of(list(range(1, 101)), LAYOUTS[0]).to_dict()
    assert figures == {"count": 100, "p50": 50, "p90": 90, "p99": 99, "p99_9": 100, "max": 100}
    assert all(type(figure) is int for figure in figures.values())


def test_the_default_takes_two_halves_of_36_kib() -> None:
    histogram = LatencyHistogram()
    assert histogram.counts().nbytes == 36 * 1024
    assert histogram.memory_bytes == 2 * (36 * 1024 + 128) + 256


def test_a_value_over_the_limit_counts_in_the_last_bucket_as_saturated() -> None:
    histogram = LatencyHistogram()
    for value in (histogram.limit, histogram.limit + 1, 2**64 - 1, histogram.limit + 2, 5):
        histogram.record(value)
    assert histogram.counts()[-1] == 4
    assert histogram.saturated == 3
    assert histogram.count == 5
    assert (histogram.min, histogram.max) == (5, 2**64 - 1)
    assert histogram.percentile(100) == histogram.limit


@given(first=recordings, second=recordings)
def test_merging_is_recording_both(first: list[int], second: list[int]) -> None:
    merged = histogram_of(first, LAYOUTS[2])
    merged.merge(histogram_of(second, LAYOUTS[2]))
    assert merged == histogram_of(first + second, LAYOUTS[2])


def test_a_histogram_merged_into_itself_doubles() -> None:
    histogram = histogram_of([1, 2, 2**50], LAYOUTS[0])
    histogram.merge(histogram)
    assert histogram == histogram_of([1, 2, 2**50] * 2, LAYOUTS[0])


@pytest.mark.parametrize(
    ("field", "layout"),
    [
        ("lowest = 2", (2, HOUR_NS, 2)),
        ("highest = 5000", (1, 5000, 2)),
        ("significant_digits = 3", (1, HOUR_NS, 3)),
    ],
)
def test_histograms_of_different_layouts_are_not_merged(
    field: str, layout: tuple[int, int, int]
) -> None:
    with pytest.raises(ConfigError, match=field):
        LatencyHistogram().merge(LatencyHistogram(*layout))


def test_a_snapshot_is_independent() -> None:
    histogram = histogram_of([10, 20], LAYOUTS[0])
    snapshot = histogram.snapshot()
    histogram.record(30)
    snapshot.record(40)
    assert (histogram.count, histogram.max) == (3, 30)
    assert (snapshot.count, snapshot.max) == (3, 40)


def test_recording_goes_on_after_any_number_of_snapshots() -> None:
    histogram = LatencyHistogram()
    for value in range(300):
        histogram.record(value)
        snapshot = histogram.snapshot()
        assert (snapshot.count, snapshot.min, snapshot.max) == (value + 1, 0, value)


def test_reset_forgets_everything() -> None:
    histogram = histogram_of([3, 2**60], LAYOUTS[0])
    histogram.reset()
    assert histogram == LatencyHistogram()
    histogram.record(7)
    assert (histogram.count, histogram.min, histogram.max, histogram.saturated) == (1, 7, 7, 0)


@given(recorded=recordings, layout=layouts)
def test_pickling_keeps_all(recorded: list[int], layout: tuple[int, int, int]) -> None:
    histogram = histogram_of(recorded, layout)
    assert pickle.loads(pickle.dumps(histogram)) == histogram


def test_an_empty_histogram_can_be_pickled() -> None:
    assert pickle.loads(pickle.dumps(LatencyHistogram(1, 10, 1))) == LatencyHistogram(1, 10, 1)


def test_histograms_differ_where_their_records_differ() -> None:
    assert histogram_of([1001], LAYOUTS[0]) != histogram_of([1002], LAYOUTS[0])
    assert LatencyHistogram() != LatencyHistogram(significant_digits=1)
    assert LatencyHistogram() != 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lowest": 0}, "lowest = 0"),
        ({"lowest": 1.5}, "lowest = 1.5"),
        ({"lowest": 2**62, "highest": 2**63 - 1}, "lowest"),
        ({"highest": 1}, "highest = 1"),
        ({"highest": 2**63}, f"highest = {2**63}"),
        ({"significant_digits": 0}, "significant_digits = 0"),
        ({"significant_digits": 6}, "significant_digits = 6"),
        ({"significant_digits": True}, "significant_digits = True"),
    ],
)
def test_an_impossible_layout_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LatencyHistogram(**arguments)


@pytest.mark.parametrize("value", [-1, 2**64, 1.5, "1", None])
def test_what_is_no_integer_of_64_bits_is_refused(value: Any) -> None:
    histogram = LatencyHistogram()
    with refused(RecordError, field="value", value=value):
        histogram.record(value)
    assert histogram.count == 0


def test_of_an_array_with_a_negative_value_nothing_is_recorded() -> None:
    histogram = LatencyHistogram()
    with pytest.raises(RecordError, match=r"values\[2\] = -5") as caught:
        histogram.record_many(np.array([1, 2, -5], np.int64))
    assert (caught.value.index, caught.value.field) == (2, "values")
    assert histogram.count == 0


@pytest.mark.parametrize(
    "array",
    [[1, 2], np.zeros(3, np.float64), np.zeros((2, 2), np.uint64), np.zeros(6, np.uint64)[::2]],
)
def test_what_is_no_array_of_nanoseconds_is_refused(array: object) -> None:
    with pytest.raises(RecordError, match="values: expected"):
        LatencyHistogram().record_many(array)  # type: ignore[arg-type]


def test_an_empty_array_records_nothing() -> None:
    histogram = LatencyHistogram()
    histogram.record_many(np.zeros(0, np.uint64))
    assert histogram.count == 0


@pytest.mark.parametrize(
    "percentile", [-0.1, 100.1, float("nan"), None, "50", b"50", True, [50], 1j, 10**400]
)
def test_a_percentile_outside_0_to_100_is_refused(percentile: Any) -> None:
    with refused(ConfigError, field="percentile"):
        LatencyHistogram().percentile(percentile)


@pytest.mark.parametrize("percentiles", [None, 50])
def test_percentiles_that_are_no_sequence_are_refused(percentiles: Any) -> None:
    with refused(ConfigError, field="percentiles"):
        LatencyHistogram().percentiles(percentiles)


def test_a_percentile_may_be_any_number() -> None:
    histogram = histogram_of([10, 20], LAYOUTS[0])
    assert histogram.percentiles(iter([50, np.float32(50), Fraction(50)])) == [10, 10, 10]


@given(recorded=recordings)
def test_the_usual_figures_are_those_of_percentile(recorded: list[int]) -> None:
    histogram = histogram_of(recorded, LAYOUTS[0])
    figures = histogram.to_dict()
    assert [figures[name] for name in ("p50", "p90", "p99", "p99_9")] == histogram.percentiles(
        [50, 90, 99, 99.9]
    )
    assert figures["max"] == (max(recorded) if recorded else 0)


def test_counts_of_another_layout_are_refused() -> None:
    with refused(ConfigError, field="counts"):
        LatencyHistogram.from_counts(np.zeros(7, np.uint64))


@pytest.mark.parametrize(
    ("contradiction", "field"),
    [
        ({"min": 4}, "min"),
        ({"max": 4}, "max"),
        ({"min": -1}, "min"),
        ({"max": 2**64}, "max"),
        ({"saturated": 1}, "saturated"),
    ],
)
def test_extremes_that_contradict_the_counts_are_refused(
    contradiction: dict[str, int], field: str
) -> None:
    counts = np.zeros(4608, np.uint64)
    counts[[10, 20]] = 1
    with refused(RecordError, field=field) as caught:
        LatencyHistogram.from_counts(counts, **contradiction)
    assert caught.value.field == field


def test_extremes_of_no_counts_are_refused() -> None:
    with pytest.raises(RecordError, match="no counts"):
        LatencyHistogram.from_counts(np.zeros(4608, np.uint64), min=3)


def test_a_negative_count_is_refused() -> None:
    counts = np.zeros(4608, np.int64)
    counts[3] = -1
    with pytest.raises(RecordError, match=r"counts\[3\] = -1"):
        LatencyHistogram.from_counts(counts)


def test_counts_alone_give_the_ends_of_the_outermost_buckets() -> None:
    counts = np.zeros(4608, np.uint64)
    counts[[300, 400]] = [2, 3]
    histogram = LatencyHistogram.from_counts(counts)
    edges = histogram.edges()
    assert (histogram.min, histogram.max) == (edges[300], edges[401] - 1)
    assert np.array_equal(histogram.counts(), counts)
