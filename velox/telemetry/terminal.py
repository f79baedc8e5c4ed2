"""Text for a terminal: the start of a run, its progress and its results.

Every function returns lines and prints nothing. The text of a report itself is in
`velox.runtime.report_text`, so that ``print(report)`` needs nothing from here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from velox.runtime.doctor import Finding, Severity
from velox.runtime.hiccups import Hiccups
from velox.runtime.huge_pages import HugePages
from velox.runtime.placement import Plan
from velox.runtime.report import Report, Statistics
from velox.runtime.report_text import (
    MARKETS_SHOWN,
    cells,
    duration,
    more_markets,
    percentile_cells,
    row,
)

__all__ = [
    "benchmark_heading",
    "benchmark_line",
    "closing",
    "doctor_opening",
    "duration",
    "finding_lines",
    "hiccup_opening",
    "hiccup_table",
    "opening",
    "progress",
    "recording_lines",
]

BENCHMARK_WIDTH = 24


class Benchmarked(Protocol):
    """Nanoseconds an operation: the median of several repetitions, and the extremes."""

    @property
    def ns_per_op(self) -> float: ...
    @property
    def min(self) -> float: ...
    @property
    def max(self) -> float: ...


def opening(
    *,
    version: str,
    machine: str,
    plan: Plan,
    clock: Mapping[str, Any],
    huge_pages: HugePages,
    source: str,
) -> list[str]:
    """Describe the run that is about to start, its threads, and why they run there.

    Parameters
    ----------
    version, machine : str
    plan : Plan
    clock : mapping
        ``source`` and ``reason``.
    huge_pages : HugePages
        Of the rings and books.
    source : str
        Where the records come from.
    """
    threads = [
        f"{each.name}: {', '.join(each.stages)}, on "
        + ("any CPU" if each.cpu is None else f"CPU {each.cpu}")
        for each in plan.runners
    ] or ["none of its own: the main thread calls every stage"]
    return [
        f"velox {version}",
        row("machine", machine),
        row("placement", f"{plan.placement}, idle {plan.idle} ({plan.why})"),
        *(row("threads" if i == 0 else "", each) for i, each in enumerate(threads)),
        row("clock", f"{clock['source']} ({clock['reason']})"),
        row("huge pages", str(huge_pages)),
        row("source", source),
    ]


def progress(second: int, statistics: Statistics) -> str:
    """Return the line of one second: how many items have passed each stage since the start.

    Examples
    --------
    >>> progress(1, Statistics(1.0, 98988, 98988, 0, 98988, 0, 98988, 18283, 18283, 98988))
    '[  1s] ingress=98,988 orderbook=98,988 bundles=18,283 output=18,283'
    """
    return (
        f"[{second:3d}s] ingress={statistics.pushed:,} orderbook={statistics.applied:,} "
        f"bundles={statistics.sealed_bundles:,} output={statistics.delivered_bundles:,}"
    )


def hiccup_opening(*, version: str, machine: str, clock: Mapping[str, Any]) -> list[str]:
    """Describe the measurement that is about to start, for `velox bench` and `velox hiccups`.

    Parameters
    ----------
    version, machine : str
    clock : mapping
        ``source`` and ``reason``.
    """
    return [
        *doctor_opening(version=version, machine=machine),
        row("clock", f"{clock['source']} ({clock['reason']})"),
    ]


def hiccup_table(hiccups: Sequence[Hiccups]) -> list[str]:
    """Return the hiccups of the host, a line for each CPU.

    `over` is the shortest gap that differs clearly from the loop's own steps. `taken` is the share
    of the time that lies in gaps. The rest is as in `latency_table`.
    """
    if not hiccups:
        return []
    heads = ["over", "gaps/s", "taken", "p50", "p99", "p99.9", "max"]
    lines = [row("hiccups", cells(heads))]
    for each in hiccups:
        texts = [duration(each.threshold_ns), f"{each.gaps_per_s:,.0f}", f"{each.taken_share:.2%}"]
        texts += percentile_cells(each.gaps, (50.0, 99.0, 99.9))
        label = "  any CPU" if each.cpu is None else f"  CPU {each.cpu}"
        lines.append(f"{row(label, cells(texts))}   the host's own, over {each.elapsed_s:.3g} s")
    return lines


def doctor_opening(*, version: str, machine: str) -> list[str]:
    """Describe the machine that is about to be examined.

    Parameters
    ----------
    version, machine : str
    """
    return [f"velox {version}", row("machine", machine)]


def finding_lines(findings: Sequence[Finding]) -> list[str]:
    """Return what the doctor found, in the order given; the fine findings share their last lines.

    Parameters
    ----------
    findings : sequence of Finding
        The most severe first.

    Examples
    --------
    >>> from velox.runtime.doctor import Evidence
    >>> slow = Finding("clock", Severity.HIGH, "It is slow.", (Evidence("/c", "hpet"),), "tsc")
    >>> fine = Finding("numa", Severity.FINE, "There is one node.")
    >>> print(*finding_lines([slow, fine]), sep="\\n")
    high        clock: It is slow.
                  /c: hpet
                  remedy: tsc
    <BLANKLINE>
    fine        numa
    """
    lines: list[str] = []
    for each in findings:
        if each.severity == Severity.FINE:
            continue
        lines.append(row(each.severity.name.lower(), f"{each.id}: {each.summary}"))
        lines.extend(row("", f"  {proof.source}: {proof.text}") for proof in each.evidence)
        if each.remedy:
            lines.append(row("", f"  remedy: {each.remedy}"))
        lines.append("")
    fine = ", ".join(each.id for each in findings if each.severity == Severity.FINE)
    return [*lines, row("fine", fine or "nothing")]


def closing(report: Report, hiccups: Sequence[Hiccups] = ()) -> list[str]:
    """Return a report's lines, with the host's hiccups below the latencies."""
    return report.lines(hiccup_table(hiccups))


def recording_lines(value: Mapping[str, Any]) -> list[str]:
    """What a recording lacks and what was left aside, for the end of a replay.

    Parameters
    ----------
    value : mapping
        `velox.feeds.Recording.to_dict`.

    Examples
    --------
    >>> known = [{"market": 0, "name": "X", "bid": "1.50", "ask": "1.62", "levels": None}]
    >>> value = {"records": 1234, "skipped": 0, "gaps": 2, "contradictions": 0, "unknown": 5,
    ...          "reordered": 0}
    >>> print(*recording_lines({**value, "ignored": {"ping": 3}, "known": known}), sep="\\n")
    <BLANKLINE>
    recording   1,234 records; 0 lines skipped, 2 gaps, 0 contradictions, 5 checks beyond the depth
    ignored     ping 3
    known       X: bids from 1.50, asks to 1.62
    """
    counts = (
        f"{value['records']:,} records; {value['skipped']:,} lines skipped, "
        f"{value['gaps']:,} gaps, {value['contradictions']:,} contradictions, "
        f"{value['unknown']:,} checks beyond the depth"
    )
    if value["reordered"]:
        counts += f", {value['reordered']:,} messages reordered"
    ignored = ", ".join(f"{name} {count:,}" for name, count in value["ignored"].items())
    lines = ["", row("recording", counts), row("ignored", ignored or "nothing")]
    for number, market in enumerate(value["known"][:MARKETS_SHOWN]):
        lines.append(row("" if number else "known", f"{market['name']}: {_extent(market)}"))
    return lines + more_markets(len(value["known"]))


def _extent(known: Mapping[str, Any]) -> str:
    """Say how deep one book is known."""
    parts = [
        *([f"bids from {known['bid']}"] if known["bid"] is not None else []),
        *([f"asks to {known['ask']}"] if known["ask"] is not None else []),
        *([f"{known['levels']:,} levels a side"] if known["levels"] is not None else []),
    ]
    return ", ".join(parts) or "the recording tells of no limit"


def benchmark_line(name: str, result: Benchmarked) -> str:
    """Return the line of one benchmark, in nanoseconds an operation."""
    figures = [f"{each:>10.2f}" for each in (result.ns_per_op, result.min, result.max)]
    return f"{name:<{BENCHMARK_WIDTH}}{''.join(figures)}"


def benchmark_heading() -> str:
    """Return the heading of the lines of `benchmark_line`."""
    return " " * BENCHMARK_WIDTH + "".join(f"{head:>10}" for head in ("ns/op", "min", "max"))
