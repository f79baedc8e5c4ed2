"""The work that is compared between two revisions of Velox, as a program of its own.

``benchmarks.instructions`` and ``benchmarks.against`` start this file in each revision's tree::

    PYTHONPATH=TREE python -P benchmarks/workloads.py prepare|count|time FOLDER [WORKLOAD ...]

The same file must run in every revision that is compared. So it imports nothing of ``benchmarks``,
and of Velox only public names: ``velox.X``, ``velox.feeds.load`` and the C header of strategies.
The single exception is `_ring`, which says so.

FOLDER holds the inputs, the same bytes for both revisions: ``flow.npy``, ``markets.npy``,
``binance.npy`` and ``inputs.json``. ``prepare`` compiles the strategies. ``count`` does each work
once, for callgrind. ``time`` does each several times. The last two print one line of JSON.
"""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

import velox
from velox import feeds

__all__ = ["WORKLOADS", "UnavailableError", "Workload"]

SOURCE = Path(__file__).with_name("strategies.c")
COUNTED = 60_000
MARKETS = 64
LEVELS = 1024
BINANCE_LEVELS = 8192
# No bundle is sealed by time, so that the same records make the same bundles on a slow CPU too.
TIMEOUT_NS = 10**10
# What is counted. The stages' own functions: not what the runner does between them, and not Python.
# Or one method of Python, called from the main thread: not the functions that it calls in turn.
STAGES = "*do_work*"
APPLY = "__pyx_pw_*OrderBook_*apply"
PUSH_AND_POP = "__pyx_pw_*ring_push_pop"
GATE = "__pyx_pw_*gate_check"
RECORD = "__pyx_pw_*LatencyHistogram_*record_many"
ADD = "__pyx_pw_*BundleBuilder_*add"

# Operations done, and the nanoseconds that they took.
Done = tuple[int, int]
Work = Callable[[], Done]
Records = npt.NDArray[np.void]


class UnavailableError(Exception):
    """This work cannot be done here: the revision or the machine lacks something."""


@dataclass(frozen=True)
class Inputs:
    """The folder of inputs, and how much of them to use."""

    folder: Path
    counting: bool

    @property
    def facts(self) -> dict[str, Any]:
        """dict: What ``inputs.json`` says."""
        found: dict[str, Any] = json.loads((self.folder / "inputs.json").read_text("utf-8"))
        return found

    def records(self, name: str) -> Records:
        """Return the records of a file, the first 60 000 of them where they are counted."""
        path = self.folder / f"{name}.npy"
        if not path.exists():
            raise UnavailableError(f"VELOX_DATA names no folder with the {name} recording")
        found: Records = np.load(path)
        return found[:COUNTED].copy() if self.counting else found


@dataclass(frozen=True)
class Workload:
    """One piece of work.

    Attributes
    ----------
    title : str
    make : callable
        Takes `Inputs`, prepares, and returns the function that does the work once and checks it.
    counted : str or None
        The functions whose instructions count, as a pattern of names; None: it is timed only.
    reads : str
        The file of records that it needs.
    runs : int
        How often the work is timed by one process, after one run that does not count.
    """

    title: str
    make: Callable[[Inputs], Work]
    counted: str | None = None
    reads: str = "flow"
    runs: int = 5


def require(what: str, found: object, expected: object) -> None:
    """Raise if a result is wrong: a wrong answer has no speed."""
    if found != expected:
        raise RuntimeError(f"{what}: found {found!r}, expected {expected!r}")


def _book(inputs: Inputs, *, writers: int = 1, market: int = 0) -> velox.OrderBook:
    tick_size, middle = inputs.facts["tick_size"], inputs.facts["base_price"]
    base_price = middle - LEVELS // 2 * tick_size
    return velox.OrderBook(LEVELS, tick_size, base_price, writers=writers, market=market)


# Pipelines


def _strategy(inputs: Inputs, name: str, *, reports: bool) -> velox.Strategy:
    library = ctypes.CDLL(str(inputs.folder / "strategies.so"))
    address = ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    assert address is not None
    if not reports:
        return velox.Strategy(address)
    try:
        return velox.Strategy(address, reports=True)
    except TypeError:
        raise UnavailableError("a strategy takes no reports in this revision") from None


def _pipeline(
    inputs: Inputs,
    *,
    records: str = "flow",
    due_ns: int = 0,
    writers: int = 1,
    markets: int = 1,
    strategy: str | None = None,
    reports: bool = False,
    placement: Any = "shared",
) -> Work:
    """From records in an array to bundles that leave.

    `due_ns` is the time from one record to the next. Every record is late, whatever the CPU, and
    each by a time of its own. With 0 the records that move together are due together.
    """
    transactions = inputs.records(records)
    if due_ns:
        transactions["ingress_ts_ns"] = 1 + due_ns * np.arange(len(transactions), dtype=np.uint64)
    repeat = 1 if inputs.counting else 20
    asked = None if strategy is None else _strategy(inputs, strategy, reports=reports)
    made = repeat * len(transactions)

    def work() -> Done:
        books = [_book(inputs, writers=writers, market=each) for each in range(markets)]
        report = velox.Pipeline(
            velox.ReplayIngress(transactions, speed=1.0 if due_ns else "max", repeat=repeat),
            strategy=asked,
            books=velox.Books(books),
            config=velox.PipelineConfig(
                placement=placement, writers=writers, bundle_timeout_ns=TIMEOUT_NS
            ),
        ).run()
        require("records applied", report.ledger.applied, made)
        require("whether the ledger balances", report.ledger.balanced, True)
        return made, round(report.elapsed_s * 1e9)

    return work


# Parts


def _binance(inputs: Inputs) -> Work:
    """Apply the recorded Binance stream, from its snapshot on."""
    transactions = inputs.records("binance")
    book = velox.OrderBook(BINANCE_LEVELS, inputs.facts["binance_tick_size"])

    def work() -> Done:
        start_ns = time.perf_counter_ns()
        applied = book.apply(transactions).applied
        elapsed_ns = time.perf_counter_ns() - start_ns
        require("records applied", applied, len(transactions))
        return applied, elapsed_ns

    return work


def _gate(inputs: Inputs) -> Work:
    """Check orders that pass, one side after the other, against every limit but duplicates.

    The loop is a module of `velox.bench`, as in `_ring`.
    """
    try:
        from velox.bench.loops import gate_check  # noqa: PLC0415
    except ImportError as missing:
        raise UnavailableError(f"this revision has no risk gate: {missing}") from missing
    rounds = COUNTED if inputs.counting else 4_000_000
    together = 4000
    orders = np.zeros(together, velox.TRANSACTION_DTYPE)
    turn = np.arange(together)
    orders["id"], orders["side"], orders["size"] = 1 + turn, turn & 1, 1 + turn % 50
    orders["price"] = np.where(turn & 1, 1_001_000 - turn % 500, 999_000 + turn % 500)
    limits = velox.Limits(
        each=velox.MarketLimits(
            max_order_lots=100,
            max_notional=10**12,
            collar=5_000,
            max_position=10**15,
            max_open_orders=4096,
            max_loss=10**15,
            max_drawdown=10**15,
        ),
    )

    def work() -> Done:
        elapsed_ns = 0
        for _ in range(rounds // together):
            gate = velox.RiskGate(velox.OrderTable(4096), limits)
            gate.begin(10**9)
            gate.touch(0, 999_900, 1_000_100)
            # The first order of each side computes the envelope.
            require("orders blocked", int(gate.screen(orders[:2]).sum()), 0)
            elapsed_ns += gate_check(gate, orders)
        return rounds // together * together, elapsed_ns

    return work


def _ring(inputs: Inputs) -> Work:
    """Push one record and pop it again, in C.

    The loop is a module of `velox.bench`, not a public name. A revision without it has no figure.
    """
    try:
        from velox.bench import loops  # noqa: PLC0415
    except ImportError as missing:
        raise UnavailableError(f"this revision has no velox.bench.loops: {missing}") from missing
    operations = COUNTED if inputs.counting else 4_000_000
    return lambda: (operations, loops.ring_push_pop(velox.TransactionRing(), operations))


def _histogram(inputs: Inputs) -> Work:
    """Record values that are spread over the buckets as latencies are."""
    count = COUNTED if inputs.counting else 2_000_000
    values = np.random.default_rng(1).lognormal(6, 1.5, count).astype(np.uint64)

    def work() -> Done:
        histogram = velox.LatencyHistogram()
        start_ns = time.perf_counter_ns()
        histogram.record_many(values)
        elapsed_ns = time.perf_counter_ns() - start_ns
        require("values in the histogram", histogram.count, count)
        return count, elapsed_ns

    return work


def _bundle(inputs: Inputs) -> Work:
    """Add records to bundles; what takes the bundles from their ring is not measured."""
    transactions = inputs.records("flow")
    # As many as fill the ring of 1024 bundles.
    together, rounds = 16 * 1024, 1 if inputs.counting else 20
    chunks = [
        transactions[first : first + together]
        for first in range(0, len(transactions) - together + 1, together)
    ]
    expected = rounds * together * len(chunks)

    def work() -> Done:
        ring = velox.BundleRing()
        builder = velox.BundleBuilder(ring)
        elapsed_ns = taken = 0
        for chunk in rounds * chunks:
            start_ns = time.perf_counter_ns()
            builder.add(chunk, now_ns=0)
            elapsed_ns += time.perf_counter_ns() - start_ns
            taken += int(ring.pop()["count"].sum())
        require("records in bundles", taken, expected)
        return expected, elapsed_ns

    return work


def _load(inputs: Inputs) -> Work:
    """Read the recorded Binance stream from its file."""
    paths = inputs.facts["binance_paths"]
    if not paths:
        raise UnavailableError("VELOX_DATA names no folder with the binance recording")

    def work() -> Done:
        start_ns = time.perf_counter_ns()
        recording = feeds.load(paths, "binance")
        elapsed_ns = time.perf_counter_ns() - start_ns
        require("records", len(recording), inputs.facts["binance_records"])
        return len(recording), elapsed_ns

    return work


WORKLOADS = {
    "pipeline": Workload("pipeline, one writer", _pipeline, STAGES),
    "shared-book": Workload("pipeline, shared book", partial(_pipeline, writers=2), STAGES),
    "forward": Workload(
        "pipeline, strategy that forwards", partial(_pipeline, strategy="forward"), STAGES
    ),
    "nothing": Workload(
        "pipeline, strategy that does nothing", partial(_pipeline, strategy="nothing"), STAGES
    ),
    "forward-reports": Workload(
        "pipeline, strategy that forwards and takes reports",
        partial(_pipeline, strategy="forward", reports=True),
        STAGES,
    ),
    "nothing-reports": Workload(
        "pipeline, strategy that does nothing and takes reports",
        partial(_pipeline, strategy="nothing", reports=True),
        STAGES,
    ),
    "markets": Workload(
        "pipeline, 64 markets",
        partial(_pipeline, records="markets", markets=MARKETS),
        STAGES,
        reads="markets",
    ),
    "due-times": Workload("pipeline, distinct due times", partial(_pipeline, due_ns=1), STAGES),
    "paired": Workload("pipeline, two threads", partial(_pipeline, placement="paired"), runs=3),
    "binance": Workload("book apply, Binance", _binance, APPLY, reads="binance"),
    "ring": Workload("ring push and pop", _ring, PUSH_AND_POP),
    "gate": Workload("risk gate, an order that passes", _gate, GATE),
    "histogram": Workload("histogram record", _histogram, RECORD),
    "bundle": Workload("bundle add", _bundle, ADD),
    "load": Workload("load, Binance", _load, reads="binance", runs=1),
}


def _compile_strategies(folder: Path) -> None:
    command = [
        *shlex.split(os.environ.get("CC", "cc")),
        "-std=c11",
        "-O3",
        "-fPIC",
        "-shared",
        f"-I{velox.get_include()}",
        str(SOURCE),
        "-o",
        str(folder / "strategies.so"),
    ]
    subprocess.run(command, check=True)


def main(arguments: list[str]) -> int:
    """Do what the command line asks for, in the tree that PYTHONPATH names."""
    action, folder, *names = arguments
    tree, imported = Path(os.environ["PYTHONPATH"]).resolve(), Path(velox.__file__).resolve()
    # Without this check, another velox than the requested one could be measured silently.
    require("the folder of velox", imported.parents[1], tree)
    if action == "prepare":
        _compile_strategies(Path(folder))
        return 0
    do = _count if action == "count" else _time
    found: dict[str, Any] = {"process": os.getpid()}
    for name in names:
        try:
            found[name] = do(WORKLOADS[name], Path(folder))
        except UnavailableError as why:
            found[name] = {"unavailable": str(why)}
    print(json.dumps(found))
    return 0


def _count(workload: Workload, folder: Path) -> dict[str, Any]:
    """Do the work once, between two marks for callgrind."""
    mark = ctypes.CDLL(str(folder / "strategies.so")).velox_mark
    work = workload.make(Inputs(folder, counting=True))
    mark()
    operations, _ = work()
    mark()
    return {"operations": operations}


def _time(workload: Workload, folder: Path) -> dict[str, Any]:
    work = workload.make(Inputs(folder, counting=False))
    if workload.runs > 1:
        work()
    costs = []
    for _ in range(workload.runs):
        operations, elapsed_ns = work()
        costs.append(elapsed_ns / operations)
    return {"ns": median(costs)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
