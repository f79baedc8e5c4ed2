"""Axes: where a value lies, and which values have a tick."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from velox.runtime.report_text import duration

__all__ = ["Axis", "counts_axis", "duration_axis", "percentile_axis", "time_axis"]

MOST_TICKS = 8


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a chart.

    Attributes
    ----------
    label : str
    low, high : float
        The ends, as positions.
    position : callable
        Takes a value, returns its position between the ends.
    ticks : tuple of (float, str)
        Values and their texts.
    text : callable
        Writes any value, for the table and the pointer.
    """

    label: str
    low: float
    high: float
    position: Callable[[float], float]
    ticks: tuple[tuple[float, str], ...]
    text: Callable[[float], str]


def percentile_axis(least_share: float) -> Axis:
    """Return HdrHistogram's axis of percentiles: each nine has the same width.

    Parameters
    ----------
    least_share : float
        The share of the values above the last point: 1 / N for N values.
    """
    nines = max(2, math.ceil(-math.log10(max(least_share, 1e-12))))
    ticks = [(0.0, "0 %"), (50.0, "50 %")]
    ticks += [
        (percentile, _percentile(percentile)) for percentile in map(_nines, range(1, nines + 1))
    ]
    return Axis(
        label="share of the records that took at most this long",
        low=0.0,
        high=float(nines),
        position=lambda percentile: -math.log10(max(1 - percentile / 100, 10.0**-nines)),
        ticks=tuple(ticks),
        text=_percentile,
    )


def _nines(count: int) -> float:
    return 100 * (1 - 10.0**-count)


def _percentile(percentile: float) -> str:
    decimals = max(0, math.ceil(-math.log10(max(1 - percentile / 100, 1e-12)) - 1e-9) - 2)
    return f"{percentile:.{decimals}f} %"


def duration_axis(values: Iterable[float], label: str = "") -> Axis:
    """Return a logarithmic axis of nanoseconds. Values below 1 ns lie on 1 ns."""
    known = [max(1.0, value) for value in values] or [1.0]
    low, high = math.floor(math.log10(min(known))), math.ceil(math.log10(max(known)))
    high = max(high, low + 1)
    return Axis(
        label=label,
        low=float(low),
        high=float(high),
        position=lambda value: math.log10(max(1.0, value)),
        ticks=tuple((10.0**power, _decade(power)) for power in range(low, high + 1)),
        text=lambda value: duration(round(value)),
    )


def _decade(power: int) -> str:
    unit = ("ns", "µs", "ms", "s", "ks", "Ms")[power // 3] if power < 18 else "ns"
    return f"{10 ** (power % 3 if power < 18 else power)} {unit}"


def counts_axis(values: Iterable[float], label: str = "") -> Axis:
    """Return a linear axis of counts from 0."""
    return _linear(0.0, max([0.0, *values]), label, lambda value: f"{value:,.0f}")


def time_axis(values: Iterable[float], label: str = "seconds since the start") -> Axis:
    """Return a linear axis of seconds from 0."""
    return _linear(0.0, max([0.0, *values]), label, lambda value: f"{value:g} s")


def _linear(low: float, high: float, label: str, text: Callable[[float], str]) -> Axis:
    step = _step((high - low) / MOST_TICKS)
    last = math.ceil(high / step - 1e-9) or 1
    return Axis(
        label=label,
        low=low,
        high=last * step,
        position=lambda value: value,
        ticks=tuple((number * step, text(number * step)) for number in range(last + 1)),
        text=text,
    )


def _step(least: float) -> float:
    """Return the smallest of 1, 2 and 5 times a power of ten that is not below `least`."""
    if least <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
