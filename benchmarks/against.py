"""Nanoseconds a record, this tree against another revision, in turns.

::

    python -m benchmarks.against [REV [MEASURE ...]] [--rounds N] [--instructions] [--json PATH]

REV is built beside this tree and kept in a cache. Each turn is a process of its own, so that what
the system's loader and allocator happen to do differs from turn to turn and not from side to side.
In a round every measure is made once on each side, one right after the other: a pair. The order of
the measures and of the sides is shuffled. A pair's ratio is this tree's time to REV's: below 1,
this tree is faster. Trust the ratios, not the nanoseconds.

With ``--instructions``, callgrind counts the same work too; see `benchmarks.instructions`.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import velox
from benchmarks import instructions
from benchmarks.revisions import BASELINE, RevisionError, built_revision, working_tree
from benchmarks.sampling import Sample
from benchmarks.sides import MeasureError, Side, chosen, sides
from benchmarks.workloads import WORKLOADS
from velox.runtime.hardware import describe_machine

__all__ = ["Pairs", "main", "take_turns"]

FAILED = 2


@dataclass(frozen=True)
class Pairs:
    """One measure on both sides, in pairs made one right after the other.

    Attributes
    ----------
    here, reference : tuple of float
        Nanoseconds an operation, pair by pair.
    unavailable : str
        Why there are none; empty if there are.
    """

    here: tuple[float, ...] = ()
    reference: tuple[float, ...] = ()
    unavailable: str = ""

    @property
    def ratios(self) -> Sample:
        """Sample: This tree's time to the reference's, pair by pair."""
        return Sample(tuple(a / b for a, b in zip(self.here, self.reference, strict=True)))

    def row(self, title: str) -> str:
        """Return it as a line of the table."""
        if self.unavailable:
            return f"{title:<36}  skipped: {self.unavailable}"
        ratios = self.ratios
        note = "" if ratios.repeats or len(self.here) < 2 else "  does not repeat within 10 %"
        return (
            f"{title:<36}{Sample(self.reference).median:>12.2f}{Sample(self.here).median:>12.2f}"
            f"{ratios.median:>9.3f}{min(ratios.rounds):>9.3f}{max(ratios.rounds):>9.3f}{note}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        if self.unavailable:
            return {"unavailable": self.unavailable}
        ratios = self.ratios
        return {
            "here_ns": list(self.here),
            "reference_ns": list(self.reference),
            "ratio": {
                "median": ratios.median,
                "min": min(ratios.rounds),
                "max": max(ratios.rounds),
                "repeats": ratios.repeats,
            },
        }


def take_turns(
    here: Side, reference: Side, names: Sequence[str], rounds: int, dice: random.Random
) -> dict[str, Pairs]:
    """Measure both sides in shuffled turns.

    Parameters
    ----------
    here, reference : Side
    names : sequence of str
        Of `WORKLOADS`.
    rounds : int
        Pairs a measure.
    dice : random.Random
        What shuffles.

    Raises
    ------
    MeasureError
        A turn failed.
    """
    made: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    refused: dict[str, str] = {}
    for _ in range(rounds):
        order = [name for name in names if name not in refused]
        dice.shuffle(order)
        for name in order:
            ns: dict[str, float] = {}
            turns = {"here": here, "reference": reference}
            for which in dice.sample(sorted(turns), k=2):
                found = turns[which].run("time", name)[name]
                if "unavailable" in found:
                    refused[name] = f"{found['unavailable']} ({turns[which].label})"
                    break
                ns[which] = float(found["ns"])
            else:
                made[name].append((ns["here"], ns["reference"]))
    return {
        name: Pairs(unavailable=refused[name])
        if name in refused
        else Pairs(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))
        for name, pairs in made.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of both sides, and write JSON if asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument(
        "revision", nargs="?", default=BASELINE, metavar="REV", help=f"a commit ({BASELINE[:7]})"
    )
    parser.add_argument(
        "measures", nargs="*", metavar="MEASURE", help=f"{', '.join(WORKLOADS)} (all)"
    )
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="pairs a measure (10)")
    parser.add_argument("--instructions", action="store_true", help="count instructions too")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures too")
    options = parser.parse_args(arguments)
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds}: must be at least 1")
    try:
        _run(options, chosen(options.measures, tuple(WORKLOADS)))
    except (RevisionError, MeasureError, ValueError, OSError) as error:
        print(f"against: {error}", file=sys.stderr)
        return FAILED
    return 0


def _run(options: argparse.Namespace, names: Sequence[str]) -> None:
    counted = [name for name in names if name in instructions.ROWS] if options.instructions else []
    if counted and instructions.valgrind_version() is None:
        raise ValueError("--instructions: valgrind is not installed")
    trees = working_tree(), built_revision(options.revision)
    label = trees[1].label
    with sides(trees, names) as (here, reference):
        pairs = take_turns(here, reference, names, options.rounds, random.Random())
        print(f"velox {velox.__version__}, {describe_machine()}")
        print(f"ns a record, medians of {options.rounds} pairs in shuffled turns\n")
        print(
            f"{'measure':<36}{label:>12}{'here':>12}{'ratio':>9}{'min':>9}{'max':>9}",
            *(found.row(WORKLOADS[name].title) for name, found in pairs.items()),
            sep="\n",
            flush=True,
        )
        counts: list[dict[str, instructions.Count | str]] = []
        if counted:
            counts = instructions.count_all(
                (here, reference), counted, jobs=min(8, os.cpu_count() or 1)
            )
            rows = instructions.compare(*counts)
            print("", *instructions.comparison(rows, label), sep="\n")
    if options.json:
        document = _document(options.revision, pairs)
        for which, tree, each in zip(("here", "reference"), trees, counts, strict=False):
            document[f"instructions_{which}"] = instructions.to_document(tree, each)
        options.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def _document(revision: str, pairs: Mapping[str, Pairs]) -> dict[str, Any]:
    return {
        "velox": velox.__version__,
        "machine": describe_machine(),
        "revision": revision,
        "measures": {name: found.to_dict() for name, found in pairs.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
