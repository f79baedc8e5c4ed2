"""Compares runs: by how much each figure differs, and whether that is more than chance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from velox.core.histogram import LatencyHistogram
from velox.errors import ConfigError
from velox.runtime.report_text import LATENCIES, duration
from velox.telemetry.runs import Run

__all__ = ["Difference", "compare", "comparison_lines", "settings_that_differ"]

RESAMPLES = 2_000
SEED = 0
CONFIDENCE = 95.0
# With fewer seconds a side, an interval says nothing.
LEAST_SECONDS = 5
PERCENTILES = (50.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure before and after.

    Attributes
    ----------
    name : str
    before, after : float
        In ns, or records a second.
    ratio : float or None
        After over before; None if only the figure before is 0.
    interval : tuple of float or None
        Between which two ratios the true one lies, with a confidence of 95 %; None where the runs
        have too few seconds.
    """

    name: str
    before: float
    after: float
    ratio: float | None
    interval: tuple[float, float] | None = None

    @property
    def clear(self) -> bool:
        """bool: Whether the interval excludes 1: the runs differ by more than their own noise."""
        return self.interval is not None and not self.interval[0] <= 1.0 <= self.interval[1]

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "name": self.name,
            "before": self.before,
            "after": self.after,
            "ratio": self.ratio,
            "interval": None if self.interval is None else list(self.interval),
            "clear": self.clear,
        }


def compare(before: Sequence[Run], after: Sequence[Run]) -> list[Difference]:
    """Compare runs with other runs.

    Parameters
    ----------
    before, after : sequence of Run
        Several runs of a side are taken together, second by second. Take them in turns: a busy
        minute of the host then falls on both sides.

    Returns
    -------
    list of Difference
        The throughput and the median and P99 of ``transit`` with an interval, from the seconds of
        the runs; then percentiles of each latency over the whole runs, without one.

    Raises
    ------
    ConfigError
        A side has no run.

    Notes
    -----
    The interval is the percentile bootstrap of Efron (1979): the seconds of each side are drawn
    anew with replacement, 2000 times with a fixed seed, and the ratio of their medians is taken.
    Seconds that depend on each other make it too narrow.
    """
    if not before or not after:
        raise ConfigError("must name at least one run on each side", field="runs", value=[])
    found = []
    for name, figure in _BY_SECOND.items():
        difference = _difference(name, _seconds(before, figure), _seconds(after, figure))
        if difference is not None:
            found.append(difference)
    for hop in LATENCIES:
        left, right = _together(before, hop), _together(after, hop)
        if left.count and right.count:
            for percentile in PERCENTILES:
                values = left.percentile(percentile), right.percentile(percentile)
                found.append(_ratio(f"{hop}, p{percentile:g}", *values))
    return found


def settings_that_differ(before: Sequence[Run], after: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings that are not the same in all runs, with the values of each run."""
    configs = [run.document["config"] for run in [*before, *after]]
    names = dict.fromkeys(name for config in configs for name in config)
    values = {name: [config.get(name) for config in configs] for name in names}
    return {name: found for name, found in values.items() if any(x != found[0] for x in found)}


def comparison_lines(differences: Sequence[Difference]) -> list[str]:
    """Return a comparison as a table for a terminal.

    Examples
    --------
    >>> print(*comparison_lines([Difference("transit, p50", 100.0, 150.0, 1.5, (1.4, 1.6))]),
    ...       sep="\\n")
    figure                      before      after   ratio   95 % interval
    transit, p50                100 ns     150 ns    1.50   1.40 to 1.60  differs
    """
    lines = [f"{'figure':<24}{'before':>10} {'after':>10} {'ratio':>7}   95 % interval"]
    for each in differences:
        write = _rate if each.name.endswith("/s") else _duration
        between = ""
        if each.interval is not None:
            low, high = each.interval
            between = f"   {low:.2f} to {high:.2f}" + ("  differs" if each.clear else "")
        ratio = "-" if each.ratio is None else f"{each.ratio:.2f}"
        lines.append(
            f"{each.name:<24}{write(each.before):>10} {write(each.after):>10} {ratio:>7}{between}"
        )
    return lines


def _rate(value: float) -> str:
    return f"{value:,.0f}"


def _duration(value: float) -> str:
    return duration(round(value))


def _together(runs: Sequence[Run], hop: str) -> LatencyHistogram:
    whole = runs[0].latency[hop].snapshot()
    for run in runs[1:]:
        whole.merge(run.latency[hop])
    return whole


def _rates(rows: Sequence[dict[str, Any]]) -> list[float]:
    times = np.array([0.0, *(row["elapsed_s"] for row in rows)])
    counts = np.array([0, *(row["delivered_transactions"] for row in rows)])
    passed = np.diff(times)
    return list(np.diff(counts)[passed > 0] / passed[passed > 0])


def _column(name: str) -> Callable[[Sequence[dict[str, Any]]], list[float]]:
    return lambda rows: [row[name] for row in rows if row.get(name) is not None]


_BY_SECOND: dict[str, Callable[[Sequence[dict[str, Any]]], list[float]]] = {
    "throughput, records/s": _rates,
    "transit a second, p50": _column("transit_p50_ns"),
    "transit a second, p99": _column("transit_p99_ns"),
}


def _seconds(
    runs: Sequence[Run], figure: Callable[[Sequence[dict[str, Any]]], list[float]]
) -> npt.NDArray[np.float64]:
    return np.array([value for run in runs for value in figure(run.document["seconds"])], float)


def _ratio(
    name: str, before: float, after: float, interval: tuple[float, float] | None = None
) -> Difference:
    # 0 ns is a time that many records of a hop take.
    ratio = after / before if before else None if after else 1.0
    return Difference(name, float(before), float(after), ratio, interval)


def _difference(
    name: str, before: npt.NDArray[np.float64], after: npt.NDArray[np.float64]
) -> Difference | None:
    if not len(before) or not len(after):
        return None
    interval = None
    if min(len(before), len(after)) >= LEAST_SECONDS and before.min() > 0:
        draw = np.random.default_rng(SEED)
        medians = [
            np.median(side[draw.integers(0, len(side), (RESAMPLES, len(side)))], axis=1)
            for side in (before, after)
        ]
        tail = (100 - CONFIDENCE) / 2
        low, high = np.percentile(medians[1] / medians[0], [tail, 100 - tail])
        interval = float(low), float(high)
    return _ratio(name, float(np.median(before)), float(np.median(after)), interval)
