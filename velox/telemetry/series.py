"""The course of a run: its counters second by second, in bounded space."""

from __future__ import annotations

from typing import Any

import numpy as np

from velox.core.histogram import LatencyHistogram
from velox.runtime.report import Statistics

__all__ = ["Course"]

MOST_ROWS = 3_600
PERCENTILES = (50.0, 99.0)
HALF_A_SECOND = 0.5


class Course:
    """Collects a row a second. A long run has a row for every 2, 4, 8 … seconds instead.

    A row has the counters at its end, and the percentiles of ``transit`` in its seconds: the
    highest of any second, so that no slow second is lost.

    Parameters
    ----------
    most : int
        The most rows that are kept.

    Notes
    -----
    Thread-safety: one thread.
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._rows: list[dict[str, Any]] = []
        self._seconds_a_row = 1
        self._pending: list[dict[str, Any]] = []
        self._counts: np.ndarray[Any, np.dtype[np.uint64]] | None = None

    def add(self, statistics: Statistics, transit: LatencyHistogram) -> None:
        """Take the counters and the latencies since the start, once a second."""
        self._pending.append(self._row(statistics, transit))
        if len(self._pending) == self._seconds_a_row:
            self._rows.append(_joined(self._pending))
            self._pending = []
            if len(self._rows) == self._most:
                pairs = zip(self._rows[::2], self._rows[1::2], strict=False)
                self._rows = [_joined(list(pair)) for pair in pairs]
                self._seconds_a_row *= 2

    def finish(self, statistics: Statistics, transit: LatencyHistogram) -> None:
        """Take the end of the run. A part of a second goes to the row before it."""
        last = self._pending or self._rows
        row = self._row(statistics, transit)
        if last and statistics.elapsed_s - last[-1]["elapsed_s"] < HALF_A_SECOND:
            row = _joined([last.pop(), row])
        last.append(row)

    def _row(self, statistics: Statistics, transit: LatencyHistogram) -> dict[str, Any]:
        counts = transit.counts()
        interval = counts if self._counts is None else counts - self._counts
        self._counts = counts
        found: list[int | None] = [None] * len(PERCENTILES)
        if interval.any():
            seconds = LatencyHistogram.from_counts(
                interval, transit.lowest, transit.highest, transit.significant_digits
            )
            found = [*seconds.percentiles(PERCENTILES)]
        return statistics._asdict() | {
            f"transit_p{percentile:g}_ns": value
            for percentile, value in zip(PERCENTILES, found, strict=True)
        }

    def to_list(self) -> list[dict[str, Any]]:
        """Return the rows, ready for JSON."""
        return [*self._rows, *([_joined(self._pending)] if self._pending else [])]


def _joined(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """One row for several: the last counters, the highest percentiles."""
    joined = dict(rows[-1])
    for name in joined:
        if name.startswith("transit_"):
            joined[name] = max((row[name] for row in rows if row[name] is not None), default=None)
    return joined
