"""Every target of Velox's speed, measured in one run: ``python -m benchmarks.targets``.

A figure is the median of its rounds. What belongs together is measured in turns: the pipeline with
the C loop that does the same work, the clock with the counter under it. ``of target`` is the share
of the target that was used, or for a rate the share that was reached. A verdict on figures that do
not repeat within 10 % says so, and is worth as much; the host's own hiccups, before and after,
stand beside.

``VELOX_DATA`` names the folder of recorded market data that the book's targets need; without it
they are left out, and named.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import velox
from benchmarks import baseline, measures, records
from benchmarks.sampling import Sample, alternate
from velox import bench
from velox.runtime.hardware import describe_machine
from velox.runtime.hiccups import measure_hiccups
from velox.telemetry import terminal

__all__ = ["main"]

KIB = 1024


@dataclass(frozen=True)
class Figure:
    """One target and what was measured.

    Attributes
    ----------
    what : str
    unit : str
    target : float
    sample : Sample or None
        None where it could not be measured; `note` says why.
    at_least : bool
        Whether more is better.
    note : str
    """

    what: str
    unit: str
    target: float
    sample: Sample | None
    at_least: bool = False
    note: str = ""

    @property
    def met(self) -> bool:
        """bool: Whether the median is on the right side of the target."""
        if self.sample is None:
            return False
        value = self.sample.median
        return value >= self.target if self.at_least else value <= self.target

    @property
    def verdict(self) -> str:
        """str: ``met`` or ``missed``, and whether the figure repeats."""
        if self.sample is None:
            return "not measured"
        steady = "" if self.sample.repeats else ", does not repeat"
        return ("met" if self.met else "missed") + steady

    def row(self) -> str:
        """Return it as a row of a Markdown table."""
        sign = "at least" if self.at_least else "at most"
        wanted = f"{sign} {self.target:,.6g} {self.unit}"
        note = f" ({self.note})" if self.note else ""
        if self.sample is None:
            return f"| {self.what} | {wanted} | | | | {self.verdict}{note} |"
        low, high = self.sample.spread
        share = self.sample.median / self.target if self.target else float("nan")
        return (
            f"| {self.what} | {wanted} | {self.sample.median:,.4g} | {low:,.4g} to {high:,.4g} "
            f"| {share:.2f} | {self.verdict}{note} |"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it, ready for JSON."""
        return {
            "what": self.what,
            "unit": self.unit,
            "target": self.target,
            "at_least": self.at_least,
            "verdict": self.verdict,
            "note": self.note,
            "measured": self.sample.to_dict() if self.sample else None,
        }


def _each(sample: Sample, function: Callable[..., float], *others: Sample) -> Sample:
    """Return a sample whose rounds are a function of those of others, round by round."""
    rounds = zip(sample.rounds, *(each.rounds for each in others), strict=True)
    return Sample(tuple(function(*each) for each in rounds))


def _millions(ns: float) -> float:
    return 1e3 / ns


def pipelines(rounds: int, *, quick: bool) -> Iterator[Figure]:
    """The whole pipeline, beside the C loop that does its work."""
    passes = 2 if quick else baseline.PASSES
    try:
        pairs = baseline.measures(passes)
    except RuntimeError as error:
        pairs, note = {}, str(error).splitlines()[0]
    else:
        note = ""
    timers: dict[str, Callable[[], float]] = {
        "one": lambda: measures.replay("shared", passes=passes),
        "paired": lambda: measures.replay("paired", passes=passes),
        "CAS": lambda: measures.replay("shared", writers=2, passes=passes),
        "max": lambda: measures.run_max(0.02 if quick else 0.5),
    }
    forward = next(each for each in baseline.VARIANTS if each.strategy == "forward")
    for placement in ("shared", "paired"):
        timers[f"forward, {placement}"] = lambda placement=placement: (
            baseline.velox_ns_a_transaction(records.synthetic(), passes, forward, placement)
        )
    for variant in ("one writer", "CAS", forward.name) if pairs else ():
        timers[f"C, {variant}"] = pairs[variant][1]
    found = alternate(timers, rounds, warm_up=not quick)
    yield Figure("pipeline, one thread, array to bundles", "ns", 13, found["one"])
    ratio = _each(found["one"], lambda a, b: a / b, found["C, one writer"]) if pairs else None
    if pairs:
        note = f"C: {found['C, one writer'].median:.1f} ns"
    yield Figure("the same, to a plain C loop of the same work", "times", 1.2, ratio, note=note)
    cas_note = f"C without the protocol: {found['C, CAS'].median:.1f} ns" if pairs else ""
    yield Figure("pipeline, CAS book", "ns", 19, found["CAS"], note=cas_note)
    asked = found["forward, shared"]
    yield Figure(
        "pipeline, a strategy that forwards, to the default",
        "times",
        2,
        _each(asked, lambda a, b: a / b, found["one"]),
        note=f"{asked.median:.1f} ns",
    )
    if pairs:
        ratio = _each(asked, lambda a, b: a / b, found[f"C, {forward.name}"])
        note = f"C: {found[f'C, {forward.name}'].median:.1f} ns"
    yield Figure("the same, to a plain C loop that asks it", "times", 1.5, ratio, note=note)
    yield Figure(
        "the same, paired, to the default",
        "times",
        2,
        _each(found["forward, paired"], lambda a, b: a / b, found["paired"]),
        note=f"{found['forward, paired'].median:.1f} ns",
    )
    yield Figure(
        "replay at full speed, shared", "M/s", 60, _each(found["one"], _millions), at_least=True
    )
    yield Figure(
        "replay at full speed, paired", "M/s", 40, _each(found["paired"], _millions), at_least=True
    )
    yield Figure("run --rate max", "M/s", 25, _each(found["max"], _millions), at_least=True)


def parts(rounds: int, *, quick: bool) -> Iterator[Figure]:
    """Rings, books, histogram and clock."""
    again: list[float] = []
    slow: list[float] = []

    def top() -> float:
        ns, repeated = measures.top_under_writer(2 if quick else 100)
        again.append(repeated)
        return ns

    def trip() -> float:
        p50, p99 = measures.round_trip(2_000 if quick else 200_000)
        slow.append(p99)
        return p50

    timers: dict[str, Callable[[], float]] = {
        "batched": lambda: bench.measure("ring.two_threads.batch"),
        "singly": lambda: bench.measure("ring.two_threads.single"),
        "tight": lambda: bench.measure("ring.two_threads.tight"),
        "trip": trip,
        "bulk": measures.ring_bulk,
        "single": measures.ring_single,
        "top": top,
        "record": lambda: bench.measure("histogram.record"),
        "clock": lambda: bench.measure("clock.now"),
        "counter": measures.counter,
    }
    binance = records.binance() is not None
    if binance:
        timers["8192"] = lambda: measures.book_binance(8192)
        timers["65536"] = lambda: measures.book_binance(65536)
    found = alternate(timers, rounds, warm_up=not quick)
    yield Figure("ring across two cores, batched", "ns", 9, found["batched"])
    yield Figure(
        "ring across two cores, singly", "ns", 40, found["singly"], note="waits as a runner does"
    )
    yield Figure("the same, one pause between polls", "ns", 60, found["tight"])
    yield Figure(
        "round trip between two cores, two rings, p50",
        "ns",
        800,
        found["trip"],
        note=f"p99: {terminal.duration(round(Sample(tuple(slow)).median))}",
    )
    yield Figure("ring from Python, bulk push and pop, a record", "ns", 4, found["bulk"])
    yield Figure("ring from Python, single push and pop", "ns", 300, found["single"])
    for levels in ("8192", "65536"):
        note = "" if binance else "VELOX_DATA names no folder with the Binance stream"
        yield Figure(
            f"book apply, Binance, {levels} levels", "ns", 12, found.get(levels), note=note
        )
    share = sum(again) / len(again)
    yield Figure(
        "top of book under a full-speed writer",
        "ns",
        15,
        found["top"],
        note=f"{share:.2%} read again, inside the call",
    )
    yield Figure("histogram record", "ns", 2, found["record"])
    yield Figure(
        "clock read in ns, over the counter's own cost",
        "ns",
        1,
        _each(found["clock"], lambda a, b: a - b, found["counter"]),
        note=f"counter: {found['counter'].median:.1f} ns",
    )


def latencies(rounds: int, *, quick: bool) -> Iterator[Figure]:
    """Transit at the default rate; a percentile is the end of its bucket, less than 1 % wide."""
    made = [measures.transit(duration_s=0.1 if quick else 2.0) for _ in range(rounds)]

    def sample(function: Callable[[dict[str, float]], float]) -> Sample:
        return Sample(tuple(function(each) for each in made))

    dropped = sum(each["dropped"] for each in made)
    yield Figure(
        "transit at 100 000/s, p50",
        "ns",
        200,
        sample(lambda each: each["transit_p50"]),
        note=f"dropped in all: {dropped:.0f}",
    )
    for name, label, target in (("p99", "p99", 300), ("p99.9", "p99_9", 1000)):
        late = Sample(tuple(each[f"late_{label}"] for each in made)).median
        yield Figure(
            f"transit over late, {name}",
            "ns",
            target,
            sample(lambda each, label=label: each[f"transit_{label}"] - each[f"late_{label}"]),
            note=f"late: {terminal.duration(round(late))}",
        )


def processes(rounds: int, *, quick: bool) -> Iterator[Figure]:
    """What the process takes: CPU, time to start, memory."""
    few = max(2, rounds // 2)
    idle = Sample(tuple(100 * measures.idle_cpu() for _ in range(1 if quick else few)))
    yield Figure("idle CPU with backoff, of one core", "%", 3, idle)
    found = alternate(
        {
            "first": lambda: measures.first_bundle() / 1e6,
            "import": lambda: measures.import_velox() / 1e6,
        },
        rounds,
        warm_up=not quick,
    )
    yield Figure("interpreter's start to first bundle", "ms", 300, found["first"])
    yield Figure("import of velox, with NumPy", "ms", 120, found["import"])
    memory = [measures.memory_growth(0.2 if quick else 2.0) for _ in range(1 if quick else few)]
    grown = Sample(tuple(grown / KIB for _, grown in memory))
    stated = memory[0][0] / KIB
    note = f"rings, books and histograms state {stated:,.0f} KiB"
    # The interpreter may take a few pages. A leak grows with the number of transactions.
    yield Figure("growth in steady state", "KiB", 64, grown, note=note)


GROUPS = {"pipelines": pipelines, "parts": parts, "latencies": latencies, "processes": processes}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table, and write JSON if asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.targets", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)}; all")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="(10)")
    parser.add_argument("--json", metavar="PATH", help="write the figures too")
    parser.add_argument(
        "--quick", action="store_true", help="one short round, to see that it works"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.groups).difference(GROUPS)
    if unknown:
        parser.error(f"{sorted(unknown)[0]!r} is none of {', '.join(GROUPS)}")
    rounds = 1 if options.quick else options.rounds
    if rounds < 1:
        parser.error(f"--rounds {rounds}: must be at least 1")
    watched_s = 0.05 if options.quick else 1.0
    machine = describe_machine()
    before = measure_hiccups(duration=watched_s)
    print(f"velox {velox.__version__}, {machine}\n")
    print("\n".join(terminal.hiccup_table(before)), "\n")
    print("| what | target | median | quartiles | of target | verdict |")
    print("|---|---|---|---|---|---|")
    figures: list[Figure] = []
    for name in options.groups or GROUPS:
        for figure in GROUPS[name](rounds, quick=options.quick):
            print(figure.row(), flush=True)
            figures.append(figure)
    after = measure_hiccups(duration=watched_s)
    print()
    print("\n".join(terminal.hiccup_table(after)))
    missed = [each.what for each in figures if not each.met]
    print(f"\n{len(figures) - len(missed)} of {len(figures)} targets met; {rounds} rounds")
    if options.json:
        result = {
            "velox": velox.__version__,
            "machine": machine,
            "rounds": rounds,
            "hiccups_before": [each.to_dict() for each in before],
            "hiccups_after": [each.to_dict() for each in after],
            "figures": [each.to_dict() for each in figures],
        }
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(result, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
