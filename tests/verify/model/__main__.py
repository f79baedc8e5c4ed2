"""``python -m tests.verify.model``: check the compiled code under C11's memory model."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter

from . import audit, checker, litmus, mutants
from .build import BuildError, Tree, base_tree, refusal
from .catalogue import COMPLETE, CONFIGURATIONS, QUICK
from .checker import Configuration, Finding

VERDICTS = ("passed", "FAILED", "UNSUPPORTED", "UNFINISHED")


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.verify.model",
        description="Check the compiled code under C11's memory model.",
    )
    parser.add_argument("only", nargs="*", help="models or configurations, by part of their name")
    parser.add_argument("--quick", action="store_true", help="a small part, in seconds")
    parser.add_argument("--audit", action="store_true", help="weaken each memory order in turn")
    parser.add_argument("--mutants", action="store_true", help="break the code in each known way")
    parser.add_argument("--tree", type=Path, help=argparse.SUPPRESS)  # of one mutant
    parser.add_argument("--seed", type=int, default=1, help="of the random executions")
    parser.add_argument("--walks", type=int, help="random executions of each configuration")
    parser.add_argument("--replay", metavar="CHOICES", help="one execution, of one configuration")
    parser.add_argument(
        "--sequential",
        action="store_true",
        help="explore interleavings alone, as if memory were sequentially consistent",
    )
    options = parser.parse_args(given)
    # The mutants have names of their own, and look at them themselves.
    known = options.mutants or chosen(options.only, False)
    if not known:
        parser.error(f"{' '.join(options.only)}: in no configuration's name")
    return options


def chosen(only: Sequence[str], quick: bool) -> list[Configuration]:
    return [
        configuration
        for configuration in CONFIGURATIONS
        if (not quick or configuration.label in QUICK)
        and (not only or any(part in configuration.label for part in only))
    ]


def start_worker(directory: Path) -> None:
    checker.use(Tree(directory))


def check(configuration: Configuration, seed: int, walks: int | None, sequential: bool) -> Finding:
    return checker.explore(configuration, seed=seed, walks=walks, sequential=sequential)


def first_failure(tree: Tree, configurations: Sequence[Configuration], seed: int) -> int:
    """All that is asked of a mutant: walks everywhere, then searches, until something fails."""
    checker.use(tree)
    for walks, most in ((2000, 1), (0, 200_000)):
        for configuration in configurations:
            finding = checker.explore(configuration, seed=seed, walks=walks, most=most)
            if finding.verdict in (checker.FAILED, checker.UNSUPPORTED):
                number = finding.walks + finding.executions + 1
                print(f"{finding.label}, execution {number}: {finding.message}")
                return 1
    return 0


def judge(configuration: Configuration, finding: Finding, sequential: bool) -> str:
    """What is wrong; empty if nothing is."""
    if not finding.passed:
        return finding.explanation()
    pinned = COMPLETE.get(configuration.label)
    if finding.complete != pinned and not sequential:
        return f"{finding.complete} complete executions, {pinned} in catalogue.py"
    return ""


def print_row(finding: Finding, wrong: str) -> None:
    verdict = VERDICTS[finding.verdict] if not wrong or finding.verdict else "FAILED"
    print(
        f"{finding.label:44} {finding.executions:>10} {finding.complete:>9} "
        f"{finding.seconds:>8.2f} s  {verdict}",
        flush=True,
    )
    if wrong:
        print(f"    {wrong}")
        for line in finding.trace:
            print(f"    {line}")
        if finding.replay:
            print(
                f'    again: python -m tests.verify.model "{finding.label}"'
                f" --replay {finding.replay}"
            )


def check_litmus(tree: Tree) -> int:
    rows = litmus.run(tree)
    failures = [row for row in rows if row[1]]
    total = Finding(
        f"litmus ({len(rows)} programs)", int(bool(failures)), "", 0, 0,
        sum(found.executions for found, _ in rows), sum(found.complete for found, _ in rows),
        0, sum(found.seconds for found, _ in rows), {},
    )  # fmt: skip
    print_row(total, "; ".join(f"{found.label}: {wrong}" for found, wrong in failures))
    return len(failures)


def check_models(
    tree: Tree, configurations: Sequence[Configuration], options: argparse.Namespace
) -> int:
    failures = 0
    with ProcessPoolExecutor(
        os.cpu_count(), initializer=start_worker, initargs=(tree.directory,)
    ) as pool:
        jobs = [
            pool.submit(check, configuration, options.seed, options.walks, options.sequential)
            for configuration in configurations
        ]
        for configuration, job in zip(configurations, jobs, strict=True):
            finding = job.result()
            wrong = judge(configuration, finding, options.sequential)
            failures += bool(wrong)
            print_row(finding, wrong)
    return failures


def replay(tree: Tree, options: argparse.Namespace) -> int:
    configurations = chosen(options.only, False)
    exact = [each for each in configurations if [each.label] == options.only] or configurations
    if len(exact) != 1:
        sys.exit("--replay needs the name of one configuration")
    checker.use(tree)
    finding = checker.explore(exact[0], replay=options.replay)
    print(finding.explanation() or "nothing is wrong with this execution")
    for line in finding.trace:
        print(line)
    return int(bool(finding.message))


def check_all(tree: Tree, options: argparse.Namespace, built: float) -> int:
    start = perf_counter()
    print(f"{'':44} {'executions':>10} {'complete':>9} {'time':>10}  verdict")
    failures = 0 if options.only else check_litmus(tree)
    failures += check_models(tree, chosen(options.only, options.quick), options)
    print(
        f"\nbuilt in {built:.1f} s, checked in {perf_counter() - start:.1f} s; "
        + (f"{failures} failed" if failures else "all passed")
    )
    return int(failures > 0)


def act(options: argparse.Namespace) -> int:
    if options.tree:
        configurations = chosen(options.only, False)
        return first_failure(Tree(options.tree), configurations, options.seed)
    if options.mutants:
        return mutants.main(options.only)
    start = perf_counter()
    tree = base_tree()
    if options.replay:
        return replay(tree, options)
    if options.audit:
        return audit.main(tree, chosen(options.only, False))
    return check_all(tree, options, perf_counter() - start)


def main(given: Sequence[str] | None = None) -> int:
    options = arguments(given)
    reason = refusal()
    if reason is not None:
        print(f"cannot run here: {reason}")
        return 2
    try:
        return act(options)
    except BuildError as error:
        print(error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
