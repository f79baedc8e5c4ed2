"""Encodes histograms for HdrHistogram's tools: single histograms, and logs of intervals.

The encoding is HdrHistogram's V2, compressed: a header, then the counts of the buckets as ZigZag
LEB128 numbers. A negative number is a run of empty buckets. All of it is deflated and in base64.
`LatencyHistogram` has HDR's buckets, so that every count is exact. The format has no place for the
exact extremes: a reader takes the ends of the outermost buckets.

A log is text, with one line for each interval and tag::

    #[Histogram log format version 1.3]
    #[StartTime: 1700000000.000 (seconds since epoch), 2023-11-14T22:13:20+00:00]
    #[BaseTime: 1700000000.000 (seconds since epoch)]
    "StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"
    Tag=transit,0.000000,1.000000,0.007039,HISTFAAAA…

Times are in seconds, those of intervals since the base time; the maximum is in milliseconds, the
end of its bucket.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import IO

import numpy as np
import numpy.typing as npt

from velox.core.histogram import LatencyHistogram
from velox.core.integers import INT64_MAX
from velox.errors import ConfigError, RecordError

__all__ = ["HistogramLog", "decode_histogram", "encode_histogram"]

# The low digit of a V2 cookie says that counts take up to 8 bytes.
COOKIE = 0x1C849303 | 0x10
COMPRESSED_COOKIE = 0x1C849304 | 0x10
# cookie, length of the counts, index offset, digits, lowest, highest, ratio of integers to doubles
HEADER = struct.Struct(">IIIIQQd")
WRAPPER = struct.Struct(">II")
# A count of 64 bits takes this many bytes: eight of 7 bits, and one of 8 bits.
LONGEST_NUMBER = 9
LARGEST_COUNT = INT64_MAX

NS_A_MILLISECOND = 1_000_000
# Characters that would end a tag or the line.
TAG = re.compile(r"[^,\s]+")


def encode_histogram(histogram: LatencyHistogram) -> str:
    """Encode a histogram for HdrHistogram's tools.

    Parameters
    ----------
    histogram : LatencyHistogram
        Another thread may record into it meanwhile: a snapshot is encoded.

    Returns
    -------
    str
        V2, compressed, in base64; beginning with ``HISTF``.

    Raises
    ------
    RecordError
        A count is over ``2**63 - 1``, which HDR cannot hold.

    Notes
    -----
    Values over `LatencyHistogram.limit` count in the last bucket, as in the histogram. Their exact
    values are lost. Thread-safety: any thread.

    Examples
    --------
    >>> latency = LatencyHistogram()
    >>> for ns in (80, 90, 90, 5_000):
    ...     latency.record(ns)
    >>> decode_histogram(encode_histogram(latency)).counts()[80:91].tolist()
    [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
    """
    return _encode(
        histogram.counts(), histogram.lowest, histogram.highest, histogram.significant_digits
    )


def _encode(
    counts: npt.NDArray[np.uint64], lowest: int, highest: int, significant_digits: int
) -> str:
    body = bytearray()
    end = 0
    for index in np.flatnonzero(counts).tolist():
        empty = index - end
        if empty:
            _put(body, -empty)
        count = int(counts[index])
        if count > LARGEST_COUNT:
            raise RecordError(
                "must be below 2**63", field="counts", index=int(index), value=int(count)
            )
        _put(body, count)
        end = index + 1
    header = HEADER.pack(COOKIE, len(body), 0, significant_digits, lowest, highest, 1.0)
    compressed = zlib.compress(header + body)
    wrapper = WRAPPER.pack(COMPRESSED_COOKIE, len(compressed))
    return base64.b64encode(wrapper + compressed).decode("ascii")


def _put(body: bytearray, number: int) -> None:
    """Append a number as ZigZag LEB128: 7 bits a byte, the ninth byte whole."""
    left = (number << 1) ^ (number >> 63)
    for _ in range(LONGEST_NUMBER - 1):
        if left < 0x80:
            break
        body.append(left & 0x7F | 0x80)
        left >>= 7
    body.append(left)


def decode_histogram(text: str) -> LatencyHistogram:
    """Decode what `encode_histogram`, or any HdrHistogram of version 2, has encoded.

    Parameters
    ----------
    text : str
        Base64 of a compressed V2 histogram.

    Returns
    -------
    LatencyHistogram
        Its extremes are the ends of the outermost buckets in use.

    Raises
    ------
    RecordError
        The text is not such an encoding; the message says what is wrong.

    Notes
    -----
    Thread-safety: any thread.
    """
    try:
        data = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise RecordError(f"not base64: {error}", field="histogram") from None
    cookie, length = _unpack(WRAPPER, data, "wrapper")
    if cookie != COMPRESSED_COOKIE:
        raise _wrong("cookie", f"{cookie:#x}", f"must be {COMPRESSED_COOKIE:#x}: compressed V2")
    if length != len(data) - WRAPPER.size:
        raise _wrong("length", length, f"but {len(data) - WRAPPER.size} bytes follow")
    header, body = _inflated(data[WRAPPER.size :])
    cookie, length, offset, digits, lowest, highest, ratio = header
    if cookie != COOKIE:
        raise _wrong("cookie", f"{cookie:#x}", f"must be {COOKIE:#x}: V2")
    if length != len(body):
        raise _wrong("payload length", length, f"but {len(body)} bytes follow")
    if offset != 0:
        raise _wrong("index offset", offset, "must be 0: shifted histograms are not read")
    # Some writers leave the ratio of a histogram of integers 0.
    if ratio not in (0.0, 1.0):
        raise _wrong("ratio", ratio, "must be 1: a histogram of doubles is not read")
    try:
        empty = LatencyHistogram(lowest, highest, digits)
    except ConfigError as error:
        raise RecordError(str(error), field="histogram") from None
    counts = empty.counts()
    _fill(counts, body)
    return LatencyHistogram.from_counts(counts, lowest, highest, digits)


def _wrong(name: str, value: object, why: str) -> RecordError:
    return RecordError(f"{name} = {value}: {why}", field="histogram")


def _unpack(layout: struct.Struct, data: bytes, name: str) -> tuple[int, ...]:
    if len(data) < layout.size:
        raise _wrong(f"{name}'s size", len(data), f"must be at least {layout.size}")
    return layout.unpack_from(data)


# The most bytes that the counts of the largest layout take.
MOST_BYTES = HEADER.size + LONGEST_NUMBER * 2**24


def _inflated(compressed: bytes) -> tuple[tuple[int, ...], bytes]:
    inflater = zlib.decompressobj()
    try:
        payload = inflater.decompress(compressed, MOST_BYTES)
    except zlib.error as error:
        raise RecordError(f"cannot be inflated: {error}", field="histogram") from None
    if not inflater.eof or inflater.unused_data:
        raise RecordError("cannot be inflated: not one whole stream", field="histogram")
    return _unpack(HEADER, payload, "header"), payload[HEADER.size :]


def _fill(counts: npt.NDArray[np.uint64], body: bytes) -> None:
    index = 0
    for number in _numbers(body):
        if number < 0:
            index -= number
        elif index < len(counts):
            counts[index] = number
            index += 1
        else:
            index += 1
        if index > len(counts):
            raise _wrong("buckets", f"{index} or more", f"but the layout has {len(counts)}")


def _numbers(body: bytes) -> Iterator[int]:
    position = 0
    while position < len(body):
        number = 0
        for place in range(LONGEST_NUMBER):
            if position == len(body):
                raise _wrong("counts", f"{len(body)} bytes", "they end within a number")
            byte = body[position]
            position += 1
            if place == LONGEST_NUMBER - 1:
                number |= byte << 7 * place
            else:
                number |= (byte & 0x7F) << 7 * place
                if byte < 0x80:
                    break
        yield (number >> 1) ^ -(number & 1)


class HistogramLog:
    """Writes a log of intervals, to be read by any HdrHistogram tool.

    Parameters
    ----------
    file : binary file
    start_s : float
        When the first interval begins, in seconds since 1970.
    comment : str, optional
        One line about what is logged and where.

    Notes
    -----
    Each interval is written to the file at once. A reader can so follow the log, and a run that is
    killed leaves a valid log.

    Thread-safety: one thread.

    Examples
    --------
    >>> import io
    >>> file, latency = io.BytesIO(), LatencyHistogram()
    >>> log = HistogramLog(file, 1_700_000_000.0)
    >>> latency.record(7_000)
    >>> log.write_interval({"transit": latency}, until_s=1.0)
    >>> print(file.getvalue().decode().splitlines()[-1][:44])
    Tag=transit,0.000000,1.000000,0.007007,HISTF
    """

    def __init__(self, file: IO[bytes], start_s: float, comment: str | None = None) -> None:
        self._file = file
        self._since_s = 0.0
        self._before: dict[str, LatencyHistogram] = {}
        moment = datetime.fromtimestamp(start_s, UTC).isoformat(timespec="seconds")
        lines = [] if comment is None else [f"#[{' '.join(comment.split())}]"]
        lines += [
            "#[Histogram log format version 1.3]",
            f"#[StartTime: {start_s:.3f} (seconds since epoch), {moment}]",
            f"#[BaseTime: {start_s:.3f} (seconds since epoch)]",
            '"StartTimestamp","Interval_Length","Interval_Max","Interval_Compressed_Histogram"',
        ]
        self._put(lines)

    @property
    def until_s(self) -> float:
        """float: When the last interval ended, in seconds since the start; 0 before the first."""
        return self._since_s

    def write_interval(self, histograms: Mapping[str, LatencyHistogram], *, until_s: float) -> None:
        """Log what has been recorded since the last interval.

        Parameters
        ----------
        histograms : mapping of str to LatencyHistogram
            By tag: all that has been recorded since the start. Snapshots, so that each belongs to
            one moment.
        until_s : float
            When this interval ends, in seconds since the start.

        Raises
        ------
        ConfigError
            A tag is empty, or holds a comma or a space; the interval ends before it begins; or a
            histogram has fewer values than at the last interval.
        OSError
            The file cannot be written.
        """
        if not until_s >= self._since_s:
            raise ConfigError(
                f"the interval begins at {self._since_s}", field="until_s", value=until_s
            )
        lines = [
            self._line(tag, histogram, until_s - self._since_s)
            for tag, histogram in histograms.items()
        ]
        self._put(lines)
        self._before.update(histograms)
        self._since_s = until_s

    def _line(self, tag: str, histogram: LatencyHistogram, length_s: float) -> str:
        if not TAG.fullmatch(tag):
            raise ConfigError(
                "must not be empty, nor hold a comma or a space", field="tag", value=tag
            )
        counts = histogram.counts()
        before = self._before.get(tag)
        if before is not None:
            earlier = before.counts()
            if len(earlier) != len(counts) or (earlier > counts).any():
                raise ConfigError("holds less than at the last interval", field="tag", value=tag)
            counts -= earlier
        used = np.flatnonzero(counts)
        largest = int(histogram.edges()[used[-1] + 1]) - 1 if len(used) else 0
        encoded = _encode(counts, histogram.lowest, histogram.highest, histogram.significant_digits)
        times = f"{self._since_s:.6f},{length_s:.6f},{largest / NS_A_MILLISECOND:.6f}"
        return f"Tag={tag},{times},{encoded}"

    def _put(self, lines: list[str]) -> None:
        self._file.write("".join(line + "\n" for line in lines).encode("utf-8"))
        self._file.flush()
