"""Instructions and mispredicted branches a record, counted by callgrind.

::

    python -m benchmarks.instructions [ROW ...] [--json PATH]
    python -m benchmarks.instructions [ROW ...] --against [REV or PATH.json]

Each row runs one workload once, in a child under valgrind, on records from a file. What counts is
inside the pipeline's stages, or inside the one call that the row names. The interpreter, the start
and the threads do not count. Counts repeat within 0.05 %, also on a busy machine.

With ``--against``, the same rows are counted in another revision, which is built first. The exit
status is 1 if a row grew by more than 1 %, or by more than `ACCEPTED` allows it. A file that
``--json`` wrote on this machine serves as well as a revision. The exit status is 2 if something
could not be counted.

Counts are not time: see ``docs/performance/measuring-a-change.md``.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any, Final

import velox
from benchmarks.revisions import BASELINE, RevisionError, Tree, built_revision, working_tree
from benchmarks.sides import MeasureError, Side, chosen, sides
from benchmarks.workloads import WORKLOADS
from velox.runtime.hardware import describe_machine

__all__ = [
    "LIMIT",
    "ROWS",
    "Count",
    "Counts",
    "Row",
    "compare",
    "comparison",
    "count_all",
    "from_document",
    "functions",
    "judge",
    "main",
    "parse_counts",
    "table",
    "to_document",
    "valgrind_version",
]

# Of the reference: a row may grow by 1 %.
LIMIT = 0.01
# Rows that may grow by more over `BASELINE`, and what they pay for.
ACCEPTED: Final = {
    "forward": (0.11, "each record that a strategy emits is checked"),
}
ROWS = tuple(name for name, each in WORKLOADS.items() if each.counted is not None)
GROWN, FAILED = 1, 2


@dataclass(frozen=True)
class Count:
    """What callgrind counted of one workload, round by round.

    Attributes
    ----------
    operations : int
        Records, or what else the workload counts, in a round.
    instructions, mispredicted : tuple of int
        In all operations of each round. Mispredicted are conditional and indirect branches, by
        callgrind's simple predictor.
    """

    operations: int
    instructions: tuple[int, ...]
    mispredicted: tuple[int, ...]

    @property
    def per_operation(self) -> float:
        """float: Instructions an operation; the median of the rounds."""
        return median(self.instructions) / self.operations

    @property
    def mispredicted_per_operation(self) -> float:
        """float: Mispredicted branches an operation; the median of the rounds."""
        return median(self.mispredicted) / self.operations

    @property
    def spread(self) -> float:
        """float: The range of the rounds, as a share of their median; 0 for one round."""
        return (max(self.instructions) - min(self.instructions)) / median(self.instructions)


# By the row's name. A string says why there is no count.
Counts = Mapping[str, Count | str]


@dataclass(frozen=True)
class Row:
    """One row of two revisions, compared.

    Attributes
    ----------
    name : str
    here, reference : Count or str
        A string says why there is no count.
    limit : float
        By how much of the reference it may grow.
    """

    name: str
    here: Count | str
    reference: Count | str
    limit: float = LIMIT

    @property
    def ratio(self) -> float | None:
        """float or None: Instructions here to those of the reference; None if one is missing."""
        if isinstance(self.here, str) or isinstance(self.reference, str):
            return None
        return self.here.per_operation / self.reference.per_operation

    @property
    def grown(self) -> bool:
        """bool: Whether it grew by more than its limit."""
        return self.ratio is not None and self.ratio > 1 + self.limit

    @property
    def lost(self) -> bool:
        """bool: Whether the reference has a count and this tree has none."""
        return isinstance(self.here, str) and isinstance(self.reference, Count)

    @property
    def verdict(self) -> str:
        """str: What the gate says of it."""
        if self.lost:
            return f"no count here: {self.here}"
        if isinstance(self.here, str):
            return f"skipped: {self.here}"
        if isinstance(self.reference, str):
            return f"no reference: {self.reference}"
        within = "within the limit" if self.limit == LIMIT else f"within {self.limit:.0%}"
        return f"grew by more than {self.limit:.0%}" if self.grown else within


def parse_counts(text: str) -> dict[str, int]:
    """Read the totals of a file that callgrind wrote.

    Parameters
    ----------
    text : str
        The file: ``events:`` names the counters, ``totals:`` holds their sums.

    Returns
    -------
    dict of str to int
        Such as ``{"Ir": 10152366, "Bc": 1205160, "Bcm": 33105, "Bi": 4761, "Bim": 12}``.

    Raises
    ------
    ValueError
        A line or a counter is missing, the lines do not match, or nothing was counted.
    """
    lines = {}
    for key in ("events", "totals"):
        found = re.search(rf"^{key}:(.*)$", text, re.MULTILINE)
        if found is None:
            raise ValueError(f"callgrind's file has no line {key!r}")
        lines[key] = found[1].split()
    # Counters that are 0 at the end of the line may be left out.
    missing = len(lines["events"]) - len(lines["totals"])
    if missing < 0:
        raise ValueError("callgrind's file has more totals than events")
    totals = [int(each) for each in lines["totals"]] + [0] * missing
    counts = dict(zip(lines["events"], totals, strict=True))
    for name in ("Ir", "Bcm", "Bim"):
        if name not in counts:
            raise ValueError(f"callgrind's file has no counter {name!r}")
    if not counts["Ir"]:
        raise ValueError("callgrind counted nothing; are the modules stripped of symbols?")
    return counts


def valgrind_version() -> str | None:
    """Return the version of valgrind, such as ``3.19.0``; None if it is not installed."""
    if shutil.which("valgrind") is None:
        return None
    done = subprocess.run(["valgrind", "--version"], capture_output=True, text=True, check=True)
    return done.stdout.strip().removeprefix("valgrind-")


def count_all(
    measured: Sequence[Side], names: Sequence[str], *, rounds: int = 1, jobs: int = 1
) -> list[dict[str, Count | str]]:
    """Count rows on each side; one child counts all rows of a side, one after the other.

    Parameters
    ----------
    measured : sequence of Side
    names : sequence of str
        Of `ROWS`.
    rounds : int
        How often each is counted.
    jobs : int
        How many children run at once.

    Returns
    -------
    list of dict
        One for each side.

    Raises
    ------
    MeasureError
        A child failed, or callgrind counted nothing.
    """
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [
            [pool.submit(_count, side, names, turn) for turn in range(rounds)] for side in measured
        ]
        try:
            made = [[each.result() for each in turns] for turns in waiting]
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return [{name: _together([each[name] for each in turns]) for name in names} for turns in made]


def _together(rounds: Sequence[Count | str]) -> Count | str:
    counts = [each for each in rounds if isinstance(each, Count)]
    if len(counts) < len(rounds):
        return next(each for each in rounds if isinstance(each, str))
    return Count(
        counts[0].operations,
        tuple(value for each in counts for value in each.instructions),
        tuple(value for each in counts for value in each.mispredicted),
    )


def functions(tree: Path, pattern: str) -> list[str]:
    """Return the names of compiled functions of a tree's extension modules.

    Callgrind takes patterns itself, but finds only one of two that begin alike.

    Parameters
    ----------
    tree : Path
        What holds the folder ``velox``.
    pattern : str
        As `fnmatch` has it.

    Returns
    -------
    list of str
        None where the modules are stripped of their symbols.

    Raises
    ------
    ValueError
        There is no ``nm``.
    """
    return fnmatch.filter(_symbols(tree), pattern)


@cache
def _symbols(tree: Path) -> tuple[str, ...]:
    modules = sorted(str(path) for path in (tree / "velox").rglob("*.so"))
    if shutil.which("nm") is None:
        raise ValueError("nm, of binutils, is not installed")
    done = subprocess.run(["nm", *modules], capture_output=True, text=True, check=True)
    lines = (line.split() for line in done.stdout.splitlines())
    return tuple(sorted({line[2] for line in lines if len(line) == 3 and line[1] in "tT"}))


def _count(side: Side, names: Sequence[str], turn: int) -> dict[str, Count | str]:
    out = side.folder / f"callgrind.{turn}"
    patterns = dict.fromkeys(str(WORKLOADS[name].counted) for name in names)
    found = side.run(
        "count",
        *names,
        under=[
            "valgrind",
            "--quiet",
            "--tool=callgrind",
            "--branch-sim=yes",
            "--collect-atstart=no",
            *(
                f"--toggle-collect={function}"
                for pattern in patterns
                for function in functions(side.tree.folder, pattern)
            ),
            "--dump-after=velox_counted",
            f"--callgrind-out-file={out}",
        ],
    )
    counts: dict[str, Count | str] = {}
    part = 0
    for name in names:
        if "unavailable" in found[name]:
            counts[name] = str(found[name]["unavailable"])
            continue
        # One part was written before the work, the next after it.
        part += 2
        try:
            totals = parse_counts(Path(f"{out}.{part}").read_text("utf-8"))
        except (OSError, ValueError) as error:
            pattern = WORKLOADS[name].counted
            raise MeasureError(side.label, name, f"functions like {pattern!r}: {error}") from error
        counts[name] = Count(
            found[name]["operations"], (totals["Ir"],), (totals["Bcm"] + totals["Bim"],)
        )
    return counts


def compare(here: Counts, reference: Counts, *, baseline: bool = False) -> list[Row]:
    """Put the rows of this tree beside those of a reference, which may be the baseline."""
    limits = {name: limit for name, (limit, _) in ACCEPTED.items()} if baseline else {}
    return [
        Row(name, count, reference.get(name, "not counted"), limits.get(name, LIMIT))
        for name, count in here.items()
    ]


# Files


def _conditions() -> dict[str, str]:
    """Return what counts depend on, besides the sources."""
    return {
        "machine": describe_machine(),
        "python": sys.version.split()[0],
        "valgrind": valgrind_version() or "",
    }


def to_document(tree: Tree, counts: Counts) -> dict[str, Any]:
    """Return counts ready for JSON, with what they depend on."""
    rows: dict[str, Any] = {}
    for name, count in counts.items():
        if isinstance(count, str):
            rows[name] = {"unavailable": count}
            continue
        rows[name] = {
            "title": WORKLOADS[name].title,
            "operations": count.operations,
            "instructions": list(count.instructions),
            "mispredicted": list(count.mispredicted),
            "instructions_per_operation": count.per_operation,
            "mispredicted_per_operation": count.mispredicted_per_operation,
            "spread": count.spread,
        }
    return {
        "velox": velox.__version__,
        "revision": tree.commit or tree.label,
        "conditions": _conditions(),
        "rows": rows,
    }


def from_document(
    path: Path, conditions: Mapping[str, str] | None = None
) -> tuple[str, dict[str, Count | str]]:
    """Read counts that `to_document` made.

    Parameters
    ----------
    path : Path
    conditions : mapping of str to str, optional
        What must be the same; those of this machine if not given.

    Returns
    -------
    label : str
    counts : dict

    Raises
    ------
    ValueError
        The file holds no counts, or they were made under other conditions.
    """
    wanted = _conditions() if conditions is None else conditions
    try:
        document = json.loads(path.read_text("utf-8"))
        revision, rows = str(document["revision"]), dict(document["rows"])
        found = dict(document["conditions"])
        counts: dict[str, Count | str] = {
            name: str(row["unavailable"])
            if "unavailable" in row
            else Count(
                int(row["operations"]), tuple(row["instructions"]), tuple(row["mispredicted"])
            )
            for name, row in rows.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: no counts of benchmarks.instructions: {error!r}") from error
    for name, value in wanted.items():
        if found.get(name) != value:
            raise ValueError(
                f"{path}: counted with {name} = {found.get(name)!r}, this is {value!r}; "
                "compare with a revision instead"
            )
    return revision[:7] if re.fullmatch("[0-9a-f]{40}", revision) else path.name, counts


# Text


def table(counts: Counts) -> list[str]:
    """Return the lines of a table of one tree."""
    lines = [f"{'row':<36}{'instructions':>14}{'mispredicted':>14}{'spread':>10}"]
    for name, count in counts.items():
        title = WORKLOADS[name].title
        if isinstance(count, str):
            lines.append(f"{title:<36}  skipped: {count}")
            continue
        spread = f"{count.spread:.3%}" if len(count.instructions) > 1 else ""
        lines.append(
            f"{title:<36}{count.per_operation:>14.2f}{count.mispredicted_per_operation:>14.4f}"
            f"{spread:>10}".rstrip()
        )
    return lines


def comparison(rows: Sequence[Row], label: str) -> list[str]:
    """Return the lines of a table of two revisions."""

    def cell(count: Count | str, *, mispredicted: bool = False) -> str:
        if isinstance(count, str):
            return ""
        if mispredicted:
            return f"{count.mispredicted_per_operation:.4f}"
        return f"{count.per_operation:.2f}"

    lines = [
        f"{'':<36}{'instructions a record':>24}{'':>9}{'mispredicted':>22}",
        f"{'row':<36}{label:>12}{'here':>12}{'ratio':>9}{label:>12}{'here':>10}",
    ]
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.4f}"
        lines.append(
            f"{WORKLOADS[row.name].title:<36}{cell(row.reference):>12}{cell(row.here):>12}"
            f"{ratio:>9}{cell(row.reference, mispredicted=True):>12}"
            f"{cell(row.here, mispredicted=True):>10}  {row.verdict}"
        )
    return lines


def judge(rows: Sequence[Row]) -> tuple[int, str]:
    """Return the exit status of the gate, and why."""
    lost = [row.name for row in rows if row.lost]
    grown = [row.name for row in rows if row.grown]
    if lost:
        return FAILED, f"no count here of {', '.join(lost)}"
    if grown:
        return GROWN, f"grew by more than the limit: {', '.join(grown)}"
    compared = sum(row.ratio is not None for row in rows)
    if not compared:
        return FAILED, "no row could be compared"
    return 0, f"none of {compared} rows grew by more than its limit"


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print, and judge if a reference is given."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"{', '.join(ROWS)} (all)")
    parser.add_argument(
        "--against",
        nargs="?",
        const=BASELINE,
        metavar="REV",
        help=f"a revision, or a file of --json; {BASELINE[:7]} without a value",
    )
    parser.add_argument("--rounds", type=int, default=1, metavar="N", help="counts a row (1)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=min(8, os.cpu_count() or 1),
        metavar="N",
        help="children at once (one a CPU)",
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the counts of this tree")
    options = parser.parse_args(arguments)
    for name in ("rounds", "jobs"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} {getattr(options, name)}: must be at least 1")
    try:
        return _run(options, chosen(options.rows, ROWS))
    except (RevisionError, MeasureError, ValueError, OSError) as error:
        print(f"instructions: {error}", file=sys.stderr)
        return FAILED


def _run(options: argparse.Namespace, names: Sequence[str]) -> int:
    found = valgrind_version()
    if found is None:
        raise ValueError("valgrind is not installed")
    stored = options.against is not None and options.against.endswith(".json")
    label, reference = from_document(Path(options.against)) if stored else ("", {})
    trees = [working_tree()]
    if options.against is not None and not stored:
        trees.append(built_revision(options.against))
        label = trees[1].label
    with sides(trees, names) as measured:
        counted = count_all(measured, names, rounds=options.rounds, jobs=options.jobs)
    here = counted[0]
    if options.json:
        document = to_document(trees[0], here)
        options.json.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    print(f"velox {velox.__version__}, {describe_machine()}, valgrind {found}")
    print("a record, or an item of the row; one run each is exact to 0.05 %\n")
    if options.against is None:
        print("\n".join(table(here)))
        return 0
    baseline = options.against == BASELINE
    rows = compare(here, reference if stored else counted[1], baseline=baseline)
    print("\n".join(comparison(rows, label)))
    status, reason = judge(rows)
    print(f"\n{reason}")
    return status


if __name__ == "__main__":
    sys.exit(main())
