"""Prometheus' protobuf format, which alone carries native histograms to Prometheus 2.

The messages are those of ``io.prometheus.client`` (prometheus/client_model, ``metrics.proto``). A
native histogram of schema 5 has 32 buckets for each power of two, 2.2 % wide: the upper bound of
bucket i is 2^(i/32). The counts of `LatencyHistogram` are at most 1 % wide, so each of its buckets
goes into the bucket of its middle.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import numpy as np
from prometheus_client.metrics_core import Metric

from velox.core.histogram import LatencyHistogram
from velox.telemetry.metrics.families import sum_seconds

__all__ = ["CONTENT_TYPE", "SCHEMA", "encode"]

CONTENT_TYPE = (
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
)
SCHEMA = 5
BUCKETS_A_DOUBLING = 1 << SCHEMA
# Values up to this count as zero: half a nanosecond.
ZERO_THRESHOLD_S = 5e-10
TYPES = {"counter": 0, "gauge": 1, "histogram": 4}
VARINT, FIXED64, BYTES = 0, 1, 2


def encode(metrics: Iterable[Metric], latency: dict[str, LatencyHistogram]) -> bytes:
    """Encode metrics; those of type histogram become native ones, from `latency`.

    Parameters
    ----------
    metrics : iterable of prometheus_client.Metric
    latency : dict of str to LatencyHistogram
        In ns, by the value of the label ``hop``.

    Returns
    -------
    bytes
        MetricFamily messages, each behind its length.
    """
    return b"".join(_delimited(_family(each, latency)) for each in metrics)


def _family(metric: Metric, latency: dict[str, LatencyHistogram]) -> bytes:
    kind = "gauge" if metric.type in ("info", "unknown") else metric.type
    name = metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")
    parts = [_text(1, name), _text(2, metric.documentation), _number(3, TYPES[kind])]
    if kind == "histogram":
        parts += [
            _bytes(4, _labels({"hop": hop}) + _bytes(7, _native(histogram)))
            for hop, histogram in latency.items()
        ]
        return b"".join(parts)
    field = 3 if kind == "counter" else 2
    for sample in metric.samples:
        # A counter may also have a sample of when it was made.
        if sample.name == name:
            parts.append(
                _bytes(4, _labels(sample.labels) + _bytes(field, _double(1, sample.value)))
            )
    return b"".join(parts)


def _labels(labels: dict[str, str]) -> bytes:
    return b"".join(_bytes(1, _text(1, name) + _text(2, value)) for name, value in labels.items())


def _native(histogram: LatencyHistogram) -> bytes:
    zeros, buckets = native_buckets(histogram)
    parts = [
        _number(1, histogram.count),
        _double(2, sum_seconds(histogram)),
        _number(5, _zigzag(SCHEMA)),
        _double(6, ZERO_THRESHOLD_S),
        _number(7, zeros),
    ]
    deltas: list[bytes] = []
    before = 0
    for offset, counts in _spans(buckets):
        parts.append(_bytes(12, _number(1, _zigzag(offset)) + _number(2, len(counts))))
        for count in counts:
            deltas.append(_number(13, _zigzag(count - before)))
            before = count
    if not buckets:
        # A span without buckets says that this is a native histogram.
        parts.append(_bytes(12, _number(1, 0) + _number(2, 0)))
    return b"".join(parts + deltas)


def native_buckets(histogram: LatencyHistogram) -> tuple[int, dict[int, int]]:
    """Return how many values are 0, and the counts of the others by the bucket's index."""
    counts, edges = histogram.counts(), histogram.edges()
    used = np.flatnonzero(counts)
    middles = (edges[used].astype(float) + edges[used + 1].astype(float) - 1) / 2
    zeros, buckets = 0, dict[int, int]()
    for middle, count in zip(middles, counts[used].tolist(), strict=True):
        if middle == 0:
            zeros += count
        else:
            index = int(np.ceil(np.log2(middle / 1e9) * BUCKETS_A_DOUBLING - 1e-9))
            buckets[index] = buckets.get(index, 0) + count
    return zeros, buckets


def _spans(buckets: dict[int, int]) -> Iterator[tuple[int, list[int]]]:
    """Runs of neighbouring buckets: the gap to the one before, and the counts."""
    run: list[int] = []
    end = start = 0
    for index in sorted(buckets):
        if run and index == start + len(run):
            run.append(buckets[index])
            continue
        if run:
            yield start - end, run
            end = start + len(run)
        start, run = index, [buckets[index]]
    if run:
        yield start - end, run


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def _zigzag(value: int) -> int:
    return value * 2 if value >= 0 else -value * 2 - 1


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3 | VARINT) + _varint(value)


def _double(field: int, value: float) -> bytes:
    return _varint(field << 3 | FIXED64) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | BYTES) + _delimited(value)


def _text(field: int, value: str) -> bytes:
    return _bytes(field, value.encode())


def _delimited(value: bytes) -> bytes:
    return _varint(len(value)) + value
