"""Histograms in HdrHistogram's own format, against its Python port, in both directions."""

from __future__ import annotations

import base64
import ctypes
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support import refused
from velox.core.histogram import HOUR_NS, LatencyHistogram
from velox.errors import ConfigError, RecordError
from velox.telemetry import HistogramLog, decode_histogram, encode_histogram

PERCENTILES = [0.0, 25.0, 50.0, 90.0, 99.0, 99.9, 100.0]
LAYOUTS = [(1, HOUR_NS, 2), (1, 10**9, 3), (1, 1000, 1), (1000, HOUR_NS, 2), (7, 2**62, 2)]

# Short and long latencies alike: a uniform draw would hardly ever give a short one.
values = st.integers(0, 41).flatmap(lambda bits: st.integers(0, 2**bits))
recordings = st.lists(values, max_size=200)
layouts = st.sampled_from(LAYOUTS)


def histogram_of(
    recorded: list[int], layout: tuple[int, int, int] = LAYOUTS[0]
) -> LatencyHistogram:
    histogram = LatencyHistogram(*layout)
    histogram.record_many(np.array([min(v, histogram.limit) for v in recorded], np.uint64))
    return histogram


def oracle_of(histogram: LatencyHistogram) -> HdrHistogram:
    oracle = HdrHistogram(histogram.lowest, histogram.highest, histogram.significant_digits)
    for index in np.flatnonzero(counts := histogram.counts()):
        assert oracle.record_value(int(histogram.edges()[index]), int(counts[index]))
    return oracle


# One histogram


@given(recorded=recordings, layout=layouts)
@example(recorded=[], layout=LAYOUTS[0])
@example(recorded=[0], layout=LAYOUTS[0])
@example(recorded=[0, 2, 5], layout=LAYOUTS[0])
@example(recorded=[2**62], layout=LAYOUTS[4])
def test_hdrhistogram_decodes_every_count(
    recorded: list[int], layout: tuple[int, int, int]
) -> None:
    histogram = histogram_of(recorded, layout)
    decoded = HdrHistogram.decode(encode_histogram(histogram))
    assert [decoded.get_count_at_index(i) for i in range(decoded.counts_len)] == list(
        histogram.counts()
    )
    assert decoded.get_total_count() == len(recorded)
    if recorded:
        assert [decoded.get_value_at_percentile(each) for each in PERCENTILES] == (
            histogram.percentiles(PERCENTILES)
        )


@given(recorded=recordings, layout=layouts)
def test_the_bytes_are_those_of_hdrhistogram(
    recorded: list[int], layout: tuple[int, int, int]
) -> None:
    histogram = histogram_of(recorded, layout)
    theirs = base64.b64decode(oracle_of(histogram).encode())
    ours = base64.b64decode(encode_histogram(histogram))
    assert zlib.decompress(ours[8:]) == zlib.decompress(theirs[8:])
    assert ours[:4] == theirs[:4]


@given(recorded=recordings, layout=layouts)
def test_what_hdrhistogram_encodes_is_decoded(
    recorded: list[int], layout: tuple[int, int, int]
) -> None:
    histogram = histogram_of(recorded, layout)
    decoded = decode_histogram(oracle_of(histogram).encode().decode())
    assert np.array_equal(decoded.counts(), histogram.counts())
    assert (decoded.lowest, decoded.highest, decoded.significant_digits) == layout


@pytest.mark.parametrize("count", [1, 63, 64, 2**31, 2**55, 2**56 - 1, 2**56, 2**62, 2**63 - 1])
def test_a_count_of_any_size_goes_there_and_back(count: int) -> None:
    counts = np.zeros(LatencyHistogram().counts().size, np.uint64)
    counts[[3, 4, 7, -1]] = count, 1, 2, 3
    if count == 2**63 - 1:
        counts[[4, 7, -1]] = 0
    encoded = encode_histogram(LatencyHistogram.from_counts(counts))
    assert np.array_equal(decode_histogram(encoded).counts(), counts)
    if count < 2**62:
        # The port loses the highest bit of a ninth byte; the format keeps it.
        oracle = HdrHistogram.decode(encoded)
        assert [oracle.get_count_at_index(i) for i in range(oracle.counts_len)] == list(counts)


def test_raw_counts_put_into_hdrhistogram_encode_to_the_same_payload() -> None:
    histogram = histogram_of(list(range(0, 100_000, 7)))
    counts = histogram.counts()
    oracle = HdrHistogram(1, HOUR_NS, 2)
    ctypes.memmove(ctypes.addressof(oracle.counts), counts.ctypes.data, counts.nbytes)
    used = np.flatnonzero(counts)
    oracle.set_internal_tacking_values(int(used[0]), int(used[-1]), int(counts.sum()))
    theirs, ours = (base64.b64decode(e) for e in (oracle.encode(), encode_histogram(histogram)))
    assert zlib.decompress(theirs[8:]) == zlib.decompress(ours[8:])


def test_a_count_that_hdr_cannot_hold_is_refused() -> None:
    counts = np.zeros(LatencyHistogram().counts().size, np.uint64)
    counts[9] = 2**63
    with refused(RecordError, field="counts", index=9, value=2**63):
        encode_histogram(LatencyHistogram.from_counts(counts))


def test_a_saturated_value_stands_in_the_last_bucket() -> None:
    histogram = LatencyHistogram()
    histogram.record(2**64 - 1)
    decoded = decode_histogram(encode_histogram(histogram))
    assert (decoded.count, decoded.max, decoded.saturated) == (1, histogram.limit, 0)


def wrapped(payload: bytes, *, cookie: int = 0x1C849314, surplus: int = 0) -> str:
    compressed = zlib.compress(payload)
    wrapper = struct.pack(">II", cookie, len(compressed) + surplus)
    return base64.b64encode(wrapper + compressed).decode()


def payload(body: bytes = b"", **changed: object) -> bytes:
    fields = {
        "cookie": 0x1C849313,
        "length": len(body),
        "offset": 0,
        "digits": 2,
        "lowest": 1,
        "highest": HOUR_NS,
        "ratio": 1.0,
    }
    assert changed.keys() <= fields.keys()
    return struct.pack(">IIIIQQd", *(fields | changed).values()) + body


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("HISTF*", "not base64"),
        ("HISTFé", "not base64"),
        ("", "wrapper's size = 0: must be at least 8"),
        (wrapped(payload(), cookie=0x1C849302), "cookie = 0x1c849302: must be 0x1c849314"),
        (wrapped(payload(), surplus=1), r"length = \d+: but \d+ bytes follow"),
        (base64.b64encode(struct.pack(">II", 0x1C849314, 1) + b"?").decode(), "cannot be inflated"),
        (
            base64.b64encode(
                struct.pack(">II", 0x1C849314, len(zlib.compress(payload())) - 4)
                + zlib.compress(payload())[:-4]
            ).decode(),
            "cannot be inflated: not one whole stream",
        ),
        (wrapped(payload()[:-1]), "header's size = 39: must be at least 40"),
        (wrapped(payload(cookie=0x1C849301)), "cookie = 0x1c849301: must be 0x1c849313: V2"),
        (wrapped(payload(length=1)), "payload length = 1: but 0 bytes follow"),
        (wrapped(payload(offset=1)), "index offset = 1: must be 0"),
        (wrapped(payload(ratio=0.5)), r"ratio = 0\.5: must be 1"),
        (wrapped(payload(digits=0)), "significant_digits = 0: must be 1 to 5"),
        (wrapped(payload(lowest=0)), "lowest = 0: must be at least 1"),
        (wrapped(payload(b"\x80")), "counts = 1 bytes: they end within a number"),
        (wrapped(payload(b"\x02" * 4609)), "buckets = 4609 or more: but the layout has 4608"),
        (wrapped(payload(b"\xff" * 9)), r"buckets = 9223372036854775808 or more"),
    ],
)
def test_what_is_no_encoding_is_refused(text: str, why: str) -> None:
    with pytest.raises(RecordError, match=why):
        decode_histogram(text)


@given(data=st.binary(max_size=60))
def test_any_counts_decode_or_are_refused(data: bytes) -> None:
    try:
        decoded = decode_histogram(wrapped(payload(data)))
    except RecordError:
        return
    assert decode_histogram(encode_histogram(decoded)) == decoded


# The log


def test_a_standard_reader_gets_each_interval_with_its_tag_and_times(tmp_path: Path) -> None:
    path = tmp_path / "run.hlog"
    transit, hold = LatencyHistogram(), LatencyHistogram()
    with path.open("wb") as file:
        log = HistogramLog(file, 1_700_000_000.25, "velox 0, a machine\nof two lines")
        transit.record_many(np.array([100, 200, 30_000], np.uint64))
        log.write_interval({"transit": transit.snapshot(), "hold": hold.snapshot()}, until_s=1.0)
        transit.record(200)
        hold.record(7)
        log.write_interval({"transit": transit.snapshot(), "hold": hold.snapshot()}, until_s=2.5)
    reader = HistogramLogReader(str(path), HdrHistogram(1, HOUR_NS, 2))
    intervals = []
    while (each := reader.get_next_interval_histogram()) is not None:
        intervals.append(each)
    reader.close()
    assert reader.get_start_time_sec() == 1_700_000_000.25
    assert [each.get_tag() for each in intervals] == ["transit", "hold"] * 2
    assert [each.get_total_count() for each in intervals] == [3, 0, 1, 1]
    assert [each.get_start_time_stamp() for each in intervals] == (
        [1_700_000_000_250.0] * 2 + [1_700_000_001_250.0] * 2
    )
    assert [each.get_end_time_stamp() for each in intervals] == (
        [1_700_000_001_250.0] * 2 + [1_700_000_002_750.0] * 2
    )
    assert intervals[2].get_max_value() == 200


@given(parts=st.lists(recordings, min_size=1, max_size=4))
def test_the_intervals_add_up_to_the_whole(parts: list[list[int]]) -> None:
    file, histogram = io.BytesIO(), LatencyHistogram()
    log = HistogramLog(file, 0.0)
    for number, part in enumerate(parts):
        histogram.record_many(np.array(part, np.uint64))
        log.write_interval({"all": histogram.snapshot()}, until_s=float(number + 1))
    lines = [line for line in file.getvalue().decode().splitlines() if line.startswith("Tag=")]
    whole = HdrHistogram(1, HOUR_NS, 2)
    for line, part in zip(lines, parts, strict=True):
        *_, encoded = line.split(",")
        assert decode_histogram(encoded).count == len(part)
        whole.decode_and_add(encoded)
    assert [whole.get_count_at_index(i) for i in range(whole.counts_len)] == list(
        histogram.counts()
    )


def test_the_maximum_of_an_interval_is_in_milliseconds_and_not_rounded_away() -> None:
    file, histogram = io.BytesIO(), LatencyHistogram()
    log = HistogramLog(file, 0.0)
    histogram.record(90)
    log.write_interval({"a": histogram.snapshot()}, until_s=1.0)
    histogram.record(2_500_000)
    log.write_interval({"a": histogram.snapshot()}, until_s=2.0)
    log.write_interval({"a": histogram.snapshot()}, until_s=3.0)
    maxima = [line.split(",")[3] for line in file.getvalue().decode().splitlines()[-3:]]
    assert maxima == ["0.000090", "2.506751", "0.000000"]


@pytest.mark.parametrize("tag", ["", "a,b", "a b", "a\n"])
def test_a_tag_that_would_end_its_field_is_refused(tag: str) -> None:
    file = io.BytesIO()
    log = HistogramLog(file, 0.0)
    written = file.getvalue()
    with refused(ConfigError, field="tag", value=tag):
        log.write_interval({tag: LatencyHistogram()}, until_s=1.0)
    assert file.getvalue() == written


def test_an_interval_neither_ends_before_it_begins_nor_loses_counts() -> None:
    log = HistogramLog(io.BytesIO(), 0.0)
    log.write_interval({"a": histogram_of([5])}, until_s=1.0)
    with refused(ConfigError, field="until_s", value=0.5):
        log.write_interval({"a": histogram_of([5])}, until_s=0.5)
    with refused(ConfigError, field="until_s"):
        log.write_interval({"a": histogram_of([5])}, until_s=float("nan"))
    with refused(ConfigError, field="tag", value="a"):
        log.write_interval({"a": histogram_of([6])}, until_s=2.0)
    with refused(ConfigError, field="tag", value="a"):
        log.write_interval({"a": histogram_of([5], LAYOUTS[2])}, until_s=2.0)
