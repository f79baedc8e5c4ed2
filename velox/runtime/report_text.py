"""The parts of a report as lines of text. Nothing here prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from velox.core.histogram import LatencyHistogram
from velox.runtime.ledger import Ledger
from velox.runtime.verify import Verification

__all__ = [
    "LATENCIES",
    "MARKETS_SHOWN",
    "cells",
    "duration",
    "latency_table",
    "more_markets",
    "percentile_cells",
    "row",
    "seals",
    "verification",
]

# name -> start and end of the latency, as docs/explanation/measuring.md explains
LATENCIES = {
    "late": "due → pushed",
    "transit": "due → accepted into a bundle",
    "hold": "accepted → sealed",
    "delivery": "sealed → taken by the output",
    "total": "due → taken by the output",
}
PERCENTILES = (("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9))
LABEL_WIDTH = 11
# A terminal shows this many markets; JSON has them all.
MARKETS_SHOWN = 16
COLUMN_WIDTH = 9
UNITS = (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000))


def duration(ns: int) -> str:
    """Write nanoseconds in the unit that fits, with three digits.

    Examples
    --------
    >>> duration(127), duration(1_536), duration(99_950), duration(2_801_663), duration(10**12)
    ('127 ns', '1.54 µs', '100 µs', '2.80 ms', '1000 s')
    """
    for unit, scale in UNITS:
        # A value that would round up to 1000 of the smaller unit uses this one.
        if ns * 10 >= scale * 9_995 // 1_000:
            value = ns / scale
            decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{decimals}f} {unit}"
    return f"{ns} ns"


def row(label: str, text: str) -> str:
    """Put a label in front of a text, in a column of its own."""
    return f"{label:<{LABEL_WIDTH}} {text}"


def cells(texts: Sequence[str]) -> str:
    """Put texts into columns, a space apart even if one is wider than its column."""
    return "".join(f" {each:>{COLUMN_WIDTH - 1}}" for each in texts)


def percentile_cells(histogram: LatencyHistogram, percentiles: Sequence[float]) -> list[str]:
    """Write the percentiles of a histogram and its maximum; dashes if it is empty.

    A percentile is the upper end of its bucket, less than 1 % above the value. JSON, ``.hlog`` and
    `LatencyHistogram.percentile` say the same number. The maximum is exact, so that a percentile
    may lie above it by the width of a bucket.
    """
    if not histogram.count:
        return ["-"] * (len(percentiles) + 1)
    return [duration(value) for value in (*histogram.percentiles(percentiles), histogram.max)]


def latency_table(latency: Mapping[str, LatencyHistogram]) -> list[str]:
    """Write the five latencies, a line each, with the columns of `percentile_cells`."""
    lines = [row("latency", cells([*(name for name, _ in PERCENTILES), "max"]))]
    for name, histogram in latency.items():
        texts = percentile_cells(histogram, [percentile for _, percentile in PERCENTILES])
        lines.append(f"{row('  ' + name, cells(texts))}   {LATENCIES[name]}")
    return lines


def seals(ledger: Ledger) -> str:
    """Return a text that says why bundles were sealed, and how full they were.

    Examples
    --------
    >>> from velox.runtime.ledger import Ledger
    >>> seals(Ledger(bundles={"size": 3, "timeout": 1, "idle": 0, "drain": 0},
    ...              sealed_transactions=50))
    'size 75.0%, timeout 25.0%; 12.5 records a bundle'
    """
    bundles = sum(ledger.bundles.values())
    if not bundles:
        return "none"
    shares = [f"{why} {count / bundles:.1%}" for why, count in ledger.bundles.items() if count]
    return f"{', '.join(shares)}; {ledger.sealed_transactions / bundles:.1f} records a bundle"


def more_markets(count: int) -> list[str]:
    """Say how many markets are not shown."""
    return [row("", f"and {count - MARKETS_SHOWN:,} more")] if count > MARKETS_SHOWN else []


def verification(result: Verification) -> list[str]:
    """Return the result of the verification in a form for scripts."""
    lines = [f"verified={result.checked} mismatched={result.mismatched}"]
    if result.first_mismatch is not None:
        lines.append(f"first mismatch: {result.first_mismatch}")
    return lines
