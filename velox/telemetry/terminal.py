"""What a run came to, as text for a terminal.

Every function returns lines; nobody here prints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from velox.core.histogram import LatencyHistogram
from velox.runtime.hiccups import Hiccups
from velox.runtime.huge_pages import HugePages
from velox.runtime.ledger import Ledger
from velox.runtime.placement import Plan
from velox.runtime.report import LATENCIES, Report, Statistics
from velox.runtime.verify import Verification

__all__ = [
    "benchmark_heading",
    "benchmark_line",
    "closing",
    "duration",
    "hiccup_opening",
    "hiccup_table",
    "latency_table",
    "opening",
    "progress",
    "seals",
    "verification",
]

PERCENTILES = (("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9))
LABEL_WIDTH = 11
COLUMN_WIDTH = 9
UNITS = (("s", 1_000_000_000), ("ms", 1_000_000), ("µs", 1_000))
BENCHMARK_WIDTH = 24


class Benchmarked(Protocol):
    """Nanoseconds an operation: the median of several repetitions, and the extremes."""

    @property
    def ns_per_op(self) -> float: ...
    @property
    def min(self) -> float: ...
    @property
    def max(self) -> float: ...


def duration(ns: int) -> str:
    """Write nanoseconds in the unit that fits, with three digits.

    Examples
    --------
    >>> duration(127), duration(1_536), duration(99_950), duration(2_801_663), duration(10**12)
    ('127 ns', '1.54 µs', '100 µs', '2.80 ms', '1000 s')
    """
    for unit, scale in UNITS:
        # What would round up to a thousand of the smaller unit is one of this.
        if ns * 10 >= scale * 9_995 // 1_000:
            value = ns / scale
            decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
            return f"{value:.{decimals}f} {unit}"
    return f"{ns} ns"


def _row(label: str, text: str) -> str:
    return f"{label:<{LABEL_WIDTH}} {text}"


def _cells(texts: Sequence[str]) -> str:
    """Columns, one space apart also where one is wider than others."""
    return "".join(f" {each:>{COLUMN_WIDTH - 1}}" for each in texts)


def opening(
    *,
    version: str,
    machine: str,
    plan: Plan,
    clock: Mapping[str, Any],
    huge_pages: HugePages,
    source: str,
) -> list[str]:
    """Say what is about to run, where, and why there.

    Parameters
    ----------
    version, machine : str
    plan : Plan
    clock : mapping
        ``source`` and ``reason``.
    huge_pages : HugePages
        Of the rings and books.
    source : str
        Where the transactions come from.
    """
    threads = [
        f"{each.name}: {', '.join(each.stages)}, on "
        + ("any CPU" if each.cpu is None else f"CPU {each.cpu}")
        for each in plan.runners
    ] or ["none of its own: the main thread calls every stage"]
    return [
        f"velox {version}",
        _row("machine", machine),
        _row("placement", f"{plan.placement}, idle {plan.idle} ({plan.why})"),
        *(_row("threads" if i == 0 else "", each) for i, each in enumerate(threads)),
        _row("clock", f"{clock['source']} ({clock['reason']})"),
        _row("huge pages", str(huge_pages)),
        _row("source", source),
    ]


def progress(second: int, statistics: Statistics) -> str:
    """One line a second: what has passed each stage since the start.

    Examples
    --------
    >>> progress(1, Statistics(1.0, 98988, 98988, 0, 98988, 0, 98988, 18283, 18283, 98988))
    '[  1s] ingress=98,988 orderbook=98,988 bundles=18,283 output=18,283'
    """
    return (
        f"[{second:3d}s] ingress={statistics.pushed:,} orderbook={statistics.applied:,} "
        f"bundles={statistics.sealed_bundles:,} output={statistics.delivered_bundles:,}"
    )


def latency_table(latency: Mapping[str, LatencyHistogram]) -> list[str]:
    """The five latencies, a line each.

    A percentile is the upper end of its bucket, less than 1 % above the value; it is cut off at the
    maximum, which is exact.
    """
    heads = [name for name, _ in PERCENTILES] + ["max"]
    lines = [_row("latency", _cells(heads))]
    for name, histogram in latency.items():
        if histogram.count:
            most = histogram.max
            found = histogram.percentiles([percentile for _, percentile in PERCENTILES])
            cells = [duration(min(value, most)) for value in found] + [duration(most)]
        else:
            cells = ["-"] * len(heads)
        row = _row("  " + name, _cells(cells))
        lines.append(f"{row}   {LATENCIES[name]}")
    return lines


def seals(ledger: Ledger) -> str:
    """Why bundles were sealed, and how full they were.

    Examples
    --------
    >>> from velox.runtime.ledger import Ledger
    >>> seals(Ledger(bundles={"size": 3, "timeout": 1, "idle": 0, "drain": 0},
    ...              sealed_transactions=50))
    'size 75.0%, timeout 25.0%; 12.5 transactions a bundle'
    """
    bundles = sum(ledger.bundles.values())
    if not bundles:
        return "none"
    shares = [f"{why} {count / bundles:.1%}" for why, count in ledger.bundles.items() if count]
    return f"{', '.join(shares)}; {ledger.sealed_transactions / bundles:.1f} transactions a bundle"


def verification(result: Verification) -> list[str]:
    """How the books compared with the recording's own oracle, in a form that a script can read."""
    lines = [f"verified={result.checked} mismatched={result.mismatched}"]
    if result.first_mismatch is not None:
        lines.append(f"first mismatch: {result.first_mismatch}")
    return lines


def hiccup_opening(*, version: str, machine: str, clock: Mapping[str, Any]) -> list[str]:
    """Say what is about to be measured where, for the command that measures nothing else.

    Parameters
    ----------
    version, machine : str
    clock : mapping
        ``source`` and ``reason``.
    """
    return [
        f"velox {version}",
        _row("machine", machine),
        _row("clock", f"{clock['source']} ({clock['reason']})"),
    ]


def hiccup_table(hiccups: Sequence[Hiccups]) -> list[str]:
    """What the host took from each CPU, a line each.

    `over` is the shortest gap that can be told from the loop that looks for them, `taken` the share
    of the time that lies in gaps. The rest is as in `latency_table`.
    """
    if not hiccups:
        return []
    heads = ["over", "gaps/s", "taken", "p50", "p99", "p99.9", "max"]
    lines = [_row("hiccups", _cells(heads))]
    for each in hiccups:
        cells = [duration(each.threshold_ns), f"{each.gaps_per_s:,.0f}", f"{each.taken_share:.2%}"]
        if each.gaps.count:
            most = each.gaps.max
            found = each.gaps.percentiles([50.0, 99.0, 99.9])
            cells += [duration(min(value, most)) for value in found] + [duration(most)]
        else:
            cells += ["-"] * 4
        label = "  any CPU" if each.cpu is None else f"  CPU {each.cpu}"
        row = _row(label, _cells(cells))
        lines.append(f"{row}   the host's own, over {each.elapsed_s:.3g} s")
    return lines


def closing(report: Report, hiccups: Sequence[Hiccups] = ()) -> list[str]:
    """The ledger, the throughput, the latencies beside the host's hiccups, and the verification."""
    ledger = report.ledger
    late = f"{report.late_count:,} of {ledger.pushed:,} pushed over 1 µs after they were due"
    full = ", ".join(f"{name} {count:,}" for name, count in report.full.items())
    lines = [
        "",
        *ledger.format(forwarding=report.forwarding).splitlines(),
        "",
        _row("throughput", f"{report.throughput_per_s:,.0f}/s over {report.elapsed_s:.3f} s"),
        _row("seals", seals(ledger)),
        _row("late", late),
        _row("ring full", full),
    ]
    if report.timeouts:
        lines.append(_row("book busy", f"{report.timeouts:,} transactions were tried again"))
    lines += ["", *latency_table(report.latency)]
    if hiccups:
        lines += ["", *hiccup_table(hiccups)]
    if report.verification is not None:
        lines += ["", *verification(report.verification)]
    return lines


def benchmark_line(name: str, result: Benchmarked) -> str:
    """One benchmark, in nanoseconds an operation."""
    cells = [f"{each:>10.2f}" for each in (result.ns_per_op, result.min, result.max)]
    return f"{name:<{BENCHMARK_WIDTH}}{''.join(cells)}"


def benchmark_heading() -> str:
    """What stands over the lines of `benchmark_line`."""
    return " " * BENCHMARK_WIDTH + "".join(f"{head:>10}" for head in ("ns/op", "min", "max"))
