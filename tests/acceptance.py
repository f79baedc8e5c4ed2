"""The checks that a longer run makes stronger: ``python -m tests.acceptance``.

A check is one command, and one seed makes one round of it. The short form runs the first round of
each, and ``.ci/run`` calls it. The long form runs every round, each with the next seed. It may take
hours, so each round that ends is written to a log with its commit and its result. A round that has
passed at the commit is not run again, so an interrupted run goes on where it was.

::

    python -m tests.acceptance                 every round of every check
    python -m tests.acceptance --short         the first round of each
    python -m tests.acceptance soak fuzz       these checks alone
    python -m tests.acceptance --list          what there is, and what the log says of it

The log is ``build/acceptance/log.jsonl``, with the output of each round beside it. The exit status
is 0 if no round failed, else 1.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "build" / "acceptance"
SEED = 20
# The exit status of a command that cannot run here; its output says what it needs.
CANNOT = 77


@dataclass(frozen=True)
class Check:
    """One command, run once for each seed.

    Attributes
    ----------
    name : str
    about : str
        What it shows.
    command : str
        ``{seed}`` is replaced by the round's seed, ``python`` by this interpreter.
    rounds : int
        Rounds of the long form.
    environment : mapping of str to str
        Variables of the command. ``{seed}`` is replaced in their values, too.
    needs : str
        A variable of the environment without which the check is skipped.
    long_only : bool
        Whether the short form leaves it out, because another gate runs its first round.
    """

    name: str
    about: str
    command: str
    rounds: int
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: str = ""
    long_only: bool = False

    def command_of(self, seed: int) -> list[str]:
        words = shlex.split(self.command.format(seed=seed))
        return [sys.executable if word == "python" else word for word in words]

    def environment_of(self, seed: int) -> dict[str, str]:
        return {name: value.format(seed=seed) for name, value in self.environment.items()}


CHECKS = (
    Check(
        "soak",
        "random configurations, stops and interrupts; every ledger balances",
        "python -m tests.verify.soak --seed {seed} --seconds 45",
        rounds=80,
    ),
    Check(
        "fuzz",
        "any bytes give a valid result or a typed error",
        "python -m tests.verify.fuzz all --seed {seed} --seconds 6",
        rounds=100,
    ),
    Check(
        "fuzz-bounds",
        "the same under AddressSanitizer and UBSan: no read outside a buffer",
        "tests/verify/stress/sanitized address,undefined "
        "-m tests.verify.fuzz all --without-atheris --seed {seed} --seconds 6",
        rounds=100,
    ),
    Check(
        "lines",
        "the scanner and the careful form read the same of 10^6 mutated lines",
        "python -m tests.verify.fuzz.lines --lines 50000 --seed {seed}",
        rounds=20,
    ),
    Check(
        "strategies",
        "a strategy that random tables drive changes no order, book or count",
        "python -m tests.verify.strategy --tables 5000 --seed {seed}",
        rounds=20,
    ),
    Check(
        "kills",
        "kill -9 at any moment: no order is executed twice",
        "python -m pytest -q -p no:cacheprovider tests/integration/solana/test_kill.py",
        rounds=20,
        environment={"VELOX_KILLS": "200"},
    ),
    Check(
        "market",
        "the market program and the real one do the same",
        "python -m tests.verify.market --count 20000 --seed {seed}",
        rounds=50,
        needs="VELOX_MANIFEST_SO",
    ),
    Check(
        "conservation",
        "vaults hold what seats have and orders lock, and trees are whole, after each instruction",
        "python -m tests.verify.market --alone --count 20000 --seed {seed} --hostile 0.1",
        rounds=50,
    ),
    Check(
        "walks",
        "random executions under the C11 memory model",
        "python -m tests.verify.model --seed {seed} --walks 20000",
        rounds=20,
        long_only=True,
    ),
    Check(
        "memory",
        "a submitter that sends 10 000 bundles needs no more memory",
        "python -m pytest -q -p no:cacheprovider tests/integration/solana/test_memory.py",
        rounds=3,
        environment={"VELOX_BUNDLES": "10000"},
        long_only=True,
    ),
    Check(
        "properties",
        "every property test, with twenty times the examples",
        "python -m pytest -q -p no:cacheprovider -m hypothesis --hypothesis-profile=acceptance "
        "--hypothesis-seed={seed} tests/unit",
        rounds=3,
        long_only=True,
    ),
    Check(
        "races",
        "the stress tests with all their rounds, under ThreadSanitizer",
        "tests/verify/stress/sanitized thread",
        rounds=1,
        environment={"VELOX_STRESS": "1"},
        long_only=True,
    ),
    Check(
        "bounds",
        "the stress tests with all their rounds, under AddressSanitizer and UBSan",
        "tests/verify/stress/sanitized address,undefined",
        rounds=1,
        environment={"VELOX_STRESS": "1"},
        long_only=True,
    ),
)


class Log:
    """Rounds that have ended, one JSON object a line.

    Parameters
    ----------
    folder : Path
        Made if it is not there. Holds ``log.jsonl`` and the output of each round.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "log.jsonl"
        folder.mkdir(parents=True, exist_ok=True)

    def entries(self) -> Iterator[dict[str, Any]]:
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                yield json.loads(line)

    def passed(self, commit: str) -> set[tuple[str, int]]:
        """The rounds that need not be run again. Empty if the tree has uncommitted changes."""
        return {
            (each["check"], each["seed"])
            for each in self.entries()
            if each["result"] == "passed" and each["commit"] == commit and "+" not in commit
        }

    def add(self, **entry: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def output_of(self, check: Check, seed: int) -> Path:
        return self.folder / f"{check.name}-{seed}.txt"


def current_commit() -> str:
    """Return the commit of the tree, with a ``+`` if the tree differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    return (git("rev-parse", "HEAD") or "unknown") + ("+" if git("status", "--porcelain") else "")


def run_round(check: Check, seed: int, log: Log, commit: str) -> str:
    """Run one round, write it to the log, and return ``passed``, ``failed`` or ``skipped``."""
    output, command = log.output_of(check, seed), check.command_of(seed)
    begin = time.monotonic()
    with output.open("wb") as file:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **check.environment_of(seed)},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    result = {0: "passed", CANNOT: "skipped"}.get(done.returncode, "failed")
    seconds = round(time.monotonic() - begin, 1)
    log.add(
        check=check.name,
        seed=seed,
        commit=commit,
        result=result,
        seconds=seconds,
        ended=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        environment=check.environment_of(seed),
        output=output.name,
    )
    print(f"{check.name}, seed {seed}: {result} in {seconds:g} s", flush=True)
    if result == "failed":
        print("\n".join(output.read_text(errors="replace").splitlines()[-40:]), flush=True)
    return result


def run(
    checks: Sequence[Check], log: Log, commit: str, *, seed: int = SEED, short: bool = False
) -> int:
    """Run the rounds that have not passed yet; return how many failed."""
    passed = set() if short else log.passed(commit)
    failed = 0
    for check in checks:
        if check.needs and not os.environ.get(check.needs):
            print(f"{check.name}: skipped, needs {check.needs}", flush=True)
            continue
        if short and check.long_only:
            continue
        rounds = range(seed, seed + (1 if short else check.rounds))
        for each in rounds:
            if (check.name, each) not in passed:
                failed += run_round(check, each, log, commit) == "failed"
    return failed


def show(checks: Sequence[Check], log: Log, commit: str) -> None:
    passed = log.passed(commit)
    for check in checks:
        done = sum(name == check.name for name, _ in passed)
        print(f"{check.name:12} {done:3} of {check.rounds:3} rounds passed: {check.about}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.acceptance",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = [check.name for check in CHECKS]
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"{', '.join(names)} (all)")
    parser.add_argument("--short", action="store_true", help="only the first round of each")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the first round ({SEED})")
    parser.add_argument("--list", action="store_true", help="run nothing")
    given = parser.parse_args(arguments)
    for name in given.checks:
        if name not in names:
            parser.error(f"no check {name!r}; there are {', '.join(names)}")
    checks = [check for check in CHECKS if check.name in (given.checks or names)]
    log, commit = Log(FOLDER), current_commit()
    if given.list:
        show(checks, log, commit)
        return 0
    failed = run(checks, log, commit, seed=given.seed, short=given.short)
    print(f"commit {commit}: {failed} rounds failed; the log is {log.path}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
