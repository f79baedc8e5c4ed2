"""``python -m tests.verify.zero``: what each stage thread asked for in steady state, as JSON.

To be run under ``LD_PRELOAD`` of what `count.c` compiles to. With ``--memory``: how the process
grew over ten million transactions; without ``LD_PRELOAD``.
"""

from __future__ import annotations

import ctypes
import itertools
import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import velox

from .native import strategies

ROWS_BEFORE = 20_000
ROWS_MEASURED = 40_000
PUSHED_AT_ONCE = 1_000


class Row(ctypes.Structure):
    """``struct row`` of `count.c`."""

    _fields_ = (
        ("name", ctypes.c_char * 16),
        ("heap", ctypes.c_uint64),
        ("locks", ctypes.c_uint64),
        ("kernel", ctypes.c_uint64),
        ("kernel_by_number", ctypes.c_uint64 * 512),
        ("refused", ctypes.c_int),
    )


@dataclass(frozen=True)
class Scenario:
    """One pipeline, described by its parts."""

    ingress: str
    output: str
    strategy: str | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        settings = (f"{key}={value}" for key, value in self.config.items())
        return " ".join([self.ingress, self.output, self.strategy or "forward", *settings])


def scenarios() -> Iterator[Scenario]:
    """Each placement with each ingress, output and strategy; then other settings."""
    for placement, ingress, output, strategy in itertools.product(
        ["shared", "paired", "dedicated"],
        ["poisson", "paced", "replay", "push"],
        ["discard", "capture", "pull"],
        [None, "velox_quiet"],
    ):
        yield Scenario(ingress, output, strategy, {"placement": placement})
    for changes in (
        {"seal": "idle"},
        {"publish": "event"},
        {"on_cross": "match"},
        {"on_full": "drop"},
        {"writers": 2},
        {"lanes": 2, "writers": 2},
        {"transaction_capacity": 16, "bundle_capacity": 2, "batch": 3},
        {"clock": "kernel"},
        {"idle": "yield"},
        {"idle": "backoff"},
    ):
        for ingress in ("poisson", "paced"):
            yield Scenario(
                ingress, "discard", "velox_looks_deep", {"placement": "paired", **changes}
            )
    for placement in ("shared", "paired"):
        for ingress in ("poisson", "paced"):
            yield Scenario(ingress, "discard", "velox_guarded", {"placement": placement})
    for loud in ("velox_allocates", "velox_locks", "velox_calls_the_kernel"):
        yield Scenario("poisson", "discard", loud, {"placement": "shared"})


class Measured:
    """A scenario that runs."""

    def __init__(self, scenario: Scenario, directory: Path, row: Callable[[bytes], Any]) -> None:
        self.row = row
        self.market = velox.MarketFlow(9).generate(50_000)
        lanes = scenario.config.get("lanes", 1)
        self.ingresses = [self.ingress(scenario.ingress, lane) for lane in range(lanes)]
        outputs: dict[str, Callable[[], velox.Output]] = {
            "discard": velox.DiscardOutput,
            "capture": lambda: velox.CaptureOutput(directory / "capture.npy"),
            "pull": velox.PullOutput,
        }
        self.output = outputs[scenario.output]()
        function = getattr(strategies(), scenario.strategy) if scenario.strategy else None
        risk = None
        if scenario.strategy == "velox_guarded":
            function = velox.Strategy(function, reports=True)
            limits = velox.MarketLimits(max_order_lots=5, max_position=40, duplicate_ns=1)
            risk = velox.RiskGate(velox.OrderTable(64), velox.Limits(each=limits, max_loss=10**9))
        self.pipeline = velox.Pipeline(
            self.ingresses,
            self.output,
            strategy=function,
            risk=risk,
            books=self.book(scenario) if scenario.config.get("writers", 1) > 1 else None,
            config=velox.PipelineConfig.from_mapping(scenario.config),
        )
        self.position = 0

    def ingress(self, kind: str, lane: int) -> velox.Ingress:
        if kind == "push":
            return velox.PushIngress()
        if kind == "replay":
            return velox.ReplayIngress(self.market, repeat=1 << 40)
        rate = "max" if kind == "poisson" else 400_000
        return velox.PoissonIngress(rate, lane)

    def book(self, scenario: Scenario) -> velox.OrderBook:
        return velox.OrderBook(4096, 100, 1_000_000 - 2048 * 100, writers="n")

    def until(self, delivered: int) -> None:
        """Do Python's part until so many transactions were delivered."""
        (first, *_), output = self.ingresses, self.output
        while output.delivered_transactions < delivered:
            if isinstance(first, velox.PushIngress):
                end = self.position + PUSHED_AT_ONCE
                first.push(self.market[self.position : end])
                self.position = end % len(self.market)
            if isinstance(output, velox.PullOutput):
                with output.poll():
                    pass
            os.sched_yield()

    def counts(self) -> dict[str, dict[str, Any]]:
        return {
            each.name: self.count(each.name)
            for each in threading.enumerate()
            if each.name.startswith("velox-")
        }

    def count(self, name: str) -> dict[str, Any]:
        row = self.row(name.encode()).contents
        return {
            "heap": row.heap,
            "locks": row.locks,
            "kernel": row.kernel,
            "by_number": {n: count for n, count in enumerate(row.kernel_by_number) if count},
            "refused": row.refused,
        }

    def measure(self) -> dict[str, Any]:
        with self.pipeline:
            self.until(ROWS_BEFORE)
            before = self.counts()
            self.until(self.output.delivered_transactions + ROWS_MEASURED)
            after = self.counts()
        difference = {}
        for name, then in before.items():
            now = after[name]
            difference[name] = {key: now[key] - then[key] for key in ("heap", "locks", "kernel")}
            difference[name]["numbers"] = sorted(
                n for n, count in now["by_number"].items() if count > then["by_number"].get(n, 0)
            )
            difference[name]["before"] = then["kernel"]
            difference[name]["refused"] = now["refused"]
        return {
            "idle": self.pipeline.plan.idle,
            "clock": self.pipeline.clock.source,
            "threads": difference,
        }


def count_everything() -> dict[str, Any]:
    library = ctypes.CDLL(None)
    library.velox_count_row.restype = ctypes.POINTER(Row)
    library.velox_count_row.argtypes = [ctypes.c_char_p]
    results = {}
    with tempfile.TemporaryDirectory() as directory:
        for scenario in scenarios():
            measured = Measured(scenario, Path(directory), library.velox_count_row)
            results[scenario.name] = measured.measure()
    return results


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def grow() -> dict[str, Any]:
    """Run ten million transactions past each placement, and see whether the process grew."""
    results = {}
    for placement in ("shared", "paired"):
        pipeline = velox.Pipeline(
            velox.PoissonIngress("max", 3), config=velox.PipelineConfig(placement=placement)
        )
        book = pipeline.books[0]

        def at(delivered: int, pipeline: velox.Pipeline = pipeline) -> int:
            while pipeline.output.delivered_transactions < delivered:
                pipeline.wait(0.01)
            return resident_bytes()

        with pipeline:
            first, book_first = at(1_000_000), book.memory_bytes
            last, book_last = at(11_000_000), book.memory_bytes
        results[placement] = {"resident": [first, last], "book": [book_first, book_last]}
    return results


if __name__ == "__main__":
    found = grow() if "--memory" in sys.argv else count_everything()
    # Not np.savez or the like: the test reads text.
    json.dump(found, sys.stdout, default=np.ndarray.tolist)
