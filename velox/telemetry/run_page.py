"""The page of one run, or of several beside each other: ``velox report``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from velox.core.histogram import LatencyHistogram
from velox.runtime.report_text import LATENCIES, duration
from velox.telemetry.page import (
    Axis,
    Curve,
    chart,
    counts_axis,
    duration_axis,
    figures_grid,
    page,
    percentile_axis,
    section,
    table,
    time_axis,
)
from velox.telemetry.runs import Run

__all__ = ["MOST_RUNS", "run_page"]

#: Each run has a colour of its own.
MOST_RUNS = 8
PERCENTILES = (50.0, 90.0, 99.0, 99.9, 99.99)
# The latencies that are drawn when several runs lie beside each other.
COMPARED = ("transit", "hold", "delivery", "total")


def run_page(runs: Sequence[Run], title: str | None = None) -> str:
    """Return the page of some runs.

    Parameters
    ----------
    runs : sequence of Run
        One to `MOST_RUNS`.
    title : str, optional
        By default the names of the runs.

    Returns
    -------
    str
        An HTML document that loads nothing.
    """
    names = " · ".join(run.name for run in runs)
    first = runs[0].document
    lead = f"velox {first['velox']} {first['command']} on {first['machine']}"
    if len(runs) > 1:
        lead = f"{len(runs)} runs beside each other. The first: {lead}"
    sections = [*(_summary(run, alone=len(runs) == 1) for run in runs)]
    sections += [_latency(runs), _course(runs), _ledger(runs), _host(runs), _settings(runs)]
    return page(title or names, lead, sections)


def _figure(value: float | None) -> str:
    return "-" if value is None else duration(round(value))


def _summary(run: Run, *, alone: bool) -> str:
    document = run.document
    latency = document["latency_ns"]
    passed = document["passed"]
    figures = [
        ("result", "passed" if passed else "failed", "good" if passed else "bad"),
        ("throughput", f"{document['throughput_per_s']:,.0f}/s", ""),
        ("transit, p50", _figure(latency.get("transit", {}).get("p50")), ""),
        ("transit, p99", _figure(latency.get("transit", {}).get("p99")), ""),
        ("late, p99: the host", _figure(latency.get("late", {}).get("p99")), ""),
        ("records delivered", f"{document['ledger'].get('delivered_transactions', 0):,}", ""),
    ]
    parts = [figures_grid(figures)]
    told = [("error", each) for each in document["errors"]]
    told += [("warning", each) for each in document["warnings"]]
    if told:
        parts.append(
            table(
                ["", "what the run said"], told, marked=range(len(document["errors"])), words=True
            )
        )
    return section("Result" if alone else f"Result: {run.name}", *parts)


def _points(histogram: LatencyHistogram) -> Iterator[tuple[float, float]]:
    """The steps of a distribution, as far as it has values: its last step is at 1 - 1 / N."""
    seen, edges = 0, histogram.edges()
    counts = histogram.counts()
    for bucket in counts.nonzero()[0]:
        yield 100.0 * seen / histogram.count, float(edges[bucket + 1] - 1)
        seen += int(counts[bucket])
    if seen:
        last = 100.0 * (1 - 1 / histogram.count)
        yield last, float(edges[counts.nonzero()[0][-1] + 1] - 1)


def _distribution(name: str, histogram: LatencyHistogram, color: int) -> Curve:
    return Curve(name, sorted(_points(histogram)), color, steps=True)


def _latency(runs: Sequence[Run]) -> str:
    parts = []
    if len(runs) == 1:
        curves = [
            _distribution(hop, histogram, -1 if hop == "late" else number)
            for number, (hop, histogram) in enumerate(runs[0].latency.items())
            if histogram.count
        ]
        parts.append(_percentile_chart("Latency of each hop, by percentile", curves))
    else:
        for hop in COMPARED:
            curves = [
                _distribution(run.name, run.latency[hop], number)
                for number, run in enumerate(runs)
                if run.latency[hop].count
            ]
            if hop == "transit":
                curves += [
                    _distribution(f"{run.name}: late, the host", run.latency["late"], -1)
                    for run in runs
                    if run.latency["late"].count
                ]
            parts.append(_percentile_chart(f"{hop}: {LATENCIES[hop]}", curves))
    heads = ["", "records", *(f"p{each:g}" for each in PERCENTILES), "max"]
    rows = []
    for run in runs:
        for hop, histogram in run.latency.items():
            name = hop if len(runs) == 1 else f"{run.name}: {hop}"
            figures = ["-"] * (len(PERCENTILES) + 1)
            if histogram.count:
                figures = [duration(each) for each in histogram.percentiles(PERCENTILES)]
                figures.append(_figure(run.document["latency_ns"].get(hop, {}).get("max")))
            rows.append([name, f"{histogram.count:,}", *figures])
    parts.append(table(heads, rows))
    return section(
        "Latency",
        *parts,
        note="Each nine of the percentiles has the same width. A curve ends where its run has no "
        "more values. 'late' is how late the host let the generator be: no pipeline is below it. "
        "A latency is counted from the time at which a record was due, so waits are not left out.",
    )


def _percentile_chart(title: str, curves: Sequence[Curve]) -> str:
    least = min((1 - curve.points[-1][0] / 100 for curve in curves), default=1.0)
    values = [value for curve in curves for _, value in curve.points]
    return chart(title, curves, percentile_axis(least), duration_axis(values, "latency"))


def _course(runs: Sequence[Run]) -> str:
    rates = [
        Curve(run.name, list(_rates(run.document["seconds"])), number)
        for number, run in enumerate(runs)
    ]
    parts = [
        _time_chart("Records delivered a second", rates, counts_axis(_values(rates), "records/s"))
    ]
    tails = []
    for number, run in enumerate(runs):
        rows = run.document["seconds"]
        for name, color in (("p50", number), ("p99", number + len(runs))):
            key = f"transit_{name}_ns"
            points = [(row["elapsed_s"], row[key]) for row in rows if row.get(key) is not None]
            tails.append(Curve(name if len(runs) == 1 else f"{run.name}: {name}", points, color))
    parts.append(
        _time_chart("transit, second by second", tails, duration_axis(_values(tails), "transit"))
    )
    return section("Course", *parts)


def _rates(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[float, float]]:
    before_s, before = 0.0, 0
    for row in rows:
        passed = row["elapsed_s"] - before_s
        if passed > 0:
            yield row["elapsed_s"], (row["delivered_transactions"] - before) / passed
            before_s, before = row["elapsed_s"], row["delivered_transactions"]


def _values(curves: Sequence[Curve]) -> list[float]:
    return [value for curve in curves for _, value in curve.points]


def _time_chart(title: str, curves: Sequence[Curve], y: Axis) -> str:
    times = [time for curve in curves for time, _ in curve.points]
    return chart(title, curves, time_axis(times), y)


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a JSON value, each with its path. Counts that are all 0 share a row."""
    if isinstance(value, dict) and name and value and set(value.values()) == {0}:
        yield name, "0"
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from _flat(each, f"{name}.{key}" if name else key)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield name, f"{value:,}"
    elif isinstance(value, str):
        yield name, value
    else:
        yield name, json.dumps(value)


def _beside(runs: Sequence[Run], key: str, *, mark_differences: bool) -> str:
    """One JSON object of each run, a row a leaf and a column a run."""
    columns = [dict(_flat(run.document.get(key) or {})) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = [[name, *(column.get(name, "-") for column in columns)] for name in names]
    differ = [number for number, row in enumerate(rows) if len(set(row[1:])) > 1]
    return table(["", *(run.name for run in runs)], rows, marked=differ if mark_differences else ())


def _ledger(runs: Sequence[Run]) -> str:
    rings = [
        [run.name, *(f"{run.document['full'].get(ring, 0):,}" for ring in _rings(runs))]
        for run in runs
    ]
    parts = [_beside(runs, "ledger", mark_differences=False)]
    parts.append(
        table(["", *_rings(runs)], rings, caption="How often a ring was full for its producer")
    )
    return section(
        "Ledger and rings",
        *parts,
        note="Every record is accounted for. Each stage counts for itself, and the counts must "
        "agree to the unit.",
    )


def _rings(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(ring for run in runs for ring in run.document["full"]))


def _host(runs: Sequence[Run]) -> str:
    rows = []
    for run in runs:
        document, plan = run.document, run.document["plan"]
        threads = "; ".join(
            f"{each.get('name')} on "
            + ("any CPU" if each.get("cpu") is None else f"CPU {each.get('cpu')}")
            for each in plan.get("runners", ())
        )
        clock = document["clock"]
        rows += [
            [f"{run.name}: machine", document["machine"]],
            [f"{run.name}: threads", f"{plan.get('placement')}: {threads or 'none'}"],
            [f"{run.name}: clock", f"{clock.get('source')}, {clock.get('resolution_ns')} ns"],
        ]
    gaps = []
    for run in runs:
        for each in run.document["hiccups"]:
            found = each.get("gap_ns", {})
            cpu = each.get("cpu")
            gaps.append(
                [
                    f"{run.name}: " + ("any CPU" if cpu is None else f"CPU {cpu}"),
                    f"{each.get('gaps_per_s', 0):,.0f}",
                    f"{each.get('taken_share', 0):.2%}",
                    *(_figure(found.get(name)) for name in ("p50", "p99", "p99_9", "max")),
                ]
            )
    parts = [table(["", ""], rows, words=True)]
    if gaps:
        heads = ["hiccups", "gaps/s", "taken", "p50", "p99", "p99.9", "max"]
        parts.append(
            table(
                heads,
                gaps,
                caption="What the host took from a thread that only read "
                "the clock, on the same CPUs",
            )
        )
    return section("Host", *parts)


def _settings(runs: Sequence[Run]) -> str:
    note = "Settings that differ are coloured." if len(runs) > 1 else ""
    return section("Settings", _beside(runs, "config", mark_differences=True), note=note)
