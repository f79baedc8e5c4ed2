"""Is each memory order needed? Weaken one at a time, and see whether a model notices.

The checker sees the order of every call, and can take less of it without a new build. An order that
no model misses is either stronger than it must be, or is needed where no model looks: it must be
listed, with the reason why it stays, in ``orders.toml``. So the audit also shows that the models
look at all.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from . import checker
from .build import Tree
from .checker import (
    FAILED,
    KINDS,
    NO_ACQUIRE,
    NO_FAILURE_ACQUIRE,
    NO_RELEASE,
    ORDERS,
    SWAP,
    UNFINISHED,
    Configuration,
)

REASONS = Path(__file__).with_name("orders.toml")
ACQUIRES, RELEASES = {"acquire", "acq_rel", "seq_cst"}, {"release", "acq_rel", "seq_cst"}
#: What one weakening is tried with, in each configuration: walks, and then executions in order.
WALKS, MOST = 3000, 30_000


@dataclass(frozen=True, order=True)
class Order:
    """One memory order of one line of the code."""

    line: str
    kind: int
    order: int
    failure_order: int

    @property
    def weakenings(self) -> list[int]:
        name = ORDERS[self.order]
        found = [NO_ACQUIRE] if name in ACQUIRES else []
        found += [NO_RELEASE] if name in RELEASES else []
        if self.kind == SWAP and ORDERS[self.failure_order] in ACQUIRES:
            found.append(NO_FAILURE_ACQUIRE)
        return found


@dataclass(frozen=True)
class Weakened:
    """What became of one weakening."""

    order: Order
    weakening: int
    killer: str
    message: str
    executions: int
    exhaustive: bool


WITHOUT = {NO_ACQUIRE: "acquire", NO_RELEASE: "release", NO_FAILURE_ACQUIRE: "failure acquire"}

_collected: tuple[dict[Order, set[int]], dict[Order, list[Configuration]]] | None = None


def collect(
    configurations: Sequence[Configuration],
) -> tuple[dict[Order, set[int]], dict[Order, list[Configuration]]]:
    """The code addresses behind each order, and the configurations that come there."""
    global _collected  # noqa: PLW0603 - once a process
    if _collected is not None:
        return _collected
    users: dict[int, list[Configuration]] = {}
    described: dict[int, tuple[int, int, int]] = {}
    before: dict[int, int] = {}
    cost = {}
    for configuration in configurations:
        start = perf_counter()
        checker.explore(configuration, walks=50, most=500)
        cost[configuration.label] = perf_counter() - start
        sites, count = checker.sites()
        for number in range(count):
            site = sites[number]
            described[site.code] = (site.kind, site.order, site.failure_order)
            if site.executed > before.get(site.code, 0):
                users.setdefault(site.code, []).append(configuration)
            before[site.code] = site.executed
    lines = checker.source_lines(list(described))
    codes: dict[Order, set[int]] = {}
    by_order: dict[Order, list[Configuration]] = {}
    for code, (kind, order, failure_order) in described.items():
        line = lines[code][0]
        if line.startswith("models/"):
            continue
        key = Order(line, kind, order, failure_order)
        codes.setdefault(key, set()).add(code)
        for user in users[code]:
            if user not in by_order.setdefault(key, []):
                by_order[key].append(user)
    for found in by_order.values():
        found.sort(key=lambda each: cost[each.label])
    _collected = codes, by_order
    return _collected


def weaken(codes: set[int], weakening: int) -> None:
    sites, count = checker.sites()
    for number in range(count):
        if sites[number].code in codes:
            sites[number].weakened = weakening


def orders(configurations: Sequence[Configuration]) -> list[Order]:
    return sorted(collect(configurations)[0])


def try_without(order: Order, weakening: int, configurations: Sequence[Configuration]) -> Weakened:
    codes, users = collect(configurations)
    weaken(codes[order], weakening)
    executions, exhaustive = 0, True
    try:
        # Walks first, everywhere: most weakenings fall to one of the first.
        for walks, most in ((WALKS, 1), (0, MOST)):
            for configuration in users[order]:
                finding = checker.explore(configuration, walks=walks, most=most)
                executions += finding.walks + finding.executions
                if finding.verdict == FAILED:
                    return Weakened(
                        order, weakening, finding.label, finding.message, executions, False
                    )
                if most > 1:
                    exhaustive = exhaustive and finding.verdict != UNFINISHED
        return Weakened(order, weakening, "", "", executions, exhaustive)
    finally:
        weaken(codes[order], 0)


def start_worker(directory: Path) -> None:
    checker.use(Tree(directory))


def main(tree: Tree, configurations: Sequence[Configuration]) -> int:
    reasons = tomllib.loads(REASONS.read_text(encoding="utf-8"))["keep"]
    used = set()
    failures = killed = kept = 0
    with ProcessPoolExecutor(
        os.cpu_count(), initializer=start_worker, initargs=(tree.directory,)
    ) as pool:
        found = pool.submit(orders, configurations).result()
        jobs = [
            pool.submit(try_without, order, weakening, configurations)
            for order in found
            for weakening in order.weakenings
        ]
        for job in jobs:
            done = job.result()
            order, without = done.order, WITHOUT[done.weakening]
            text = checker.source_text(tree, order.line)
            print(f"{order.line:30} {KINDS[order.kind]:7} {ORDERS[order.order]:8} "
                  f"without {without:16}", end="")  # fmt: skip
            if done.killer:
                killed += 1
                print(f" killed by {done.killer}, execution {done.executions}", flush=True)
                continue
            name = order.line.rpartition(":")[0]
            reason = None
            for number, each in enumerate(reasons):
                if (each["file"], each["code"], each["without"]) == (name, text, without):
                    reason = each["reason"]
                    used.add(number)
            how = "all" if done.exhaustive else "some"
            print(f" SURVIVED {how} {done.executions} executions", flush=True)
            print(f"    {text}")
            if reason is None:
                failures += 1
                print("    and nothing in orders.toml says why it stays")
            else:
                kept += 1
                print(f"    stays: {' '.join(reason.split())}")
    print(f"\n{killed} weakenings killed, {kept} survived with a reason, {failures} without")
    for number, each in enumerate(reasons):
        if number not in used and covered(each, found):
            failures += 1
            print(f"orders.toml has a reason too many: {each['file']}: {each['code']}")
    return int(failures > 0)


def covered(reason: dict[str, str], found: Sequence[Order]) -> bool:
    """Whether this run looked at the reason's file at all."""
    return any(order.line.rpartition(":")[0] == reason["file"] for order in found)
