"""Measures the cost of each part of Velox on this machine: ``python -m velox bench``.

Every benchmark checks its result before it reports a time, and raises if the result is wrong. The
figures are means over many operations in a row: costs, not latencies; ``ring.round_trip`` alone is
a median. The histograms of a `velox.Report` have the latencies of a pipeline.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Literal

import numpy as np

from velox.bench import loops, strategies
from velox.config import PipelineConfig
from velox.core.bundle import BundleBuilder
from velox.core.clock import Clock
from velox.core.flow import MarketFlow
from velox.core.histogram import LatencyHistogram
from velox.core.order_book import OrderBook
from velox.core.records import Kind
from velox.core.ring import BundleRing, TransactionRing
from velox.errors import ConfigError, LedgerError
from velox.runtime.hardware import usable_cpus
from velox.runtime.pipeline import Pipeline
from velox.runtime.sources import ReplayIngress
from velox.runtime.strategy import Strategy
from velox.runtime.threads import start_thread

__all__ = ["Result", "measure", "names", "round_trips", "run"]

REPETITIONS = 7
SEED = 1
BATCH = 256
LEVELS = 1024
TICK_SIZE = 100
BASE_PRICE = 1_000_000
PASSES = 4


@dataclass(frozen=True, slots=True)
class Result:
    """Nanoseconds an operation, over the repetitions of one benchmark.

    Attributes
    ----------
    ns_per_op : float
        Their median.
    min, max : float
    """

    ns_per_op: float
    min: float
    max: float

    def to_dict(self) -> dict[str, float]:
        """Return the three figures, ready for JSON."""
        return {"ns_per_op": self.ns_per_op, "min": self.min, "max": self.max}


def names() -> tuple[str, ...]:
    """Every benchmark, in the order in which `run` makes them.

    Examples
    --------
    >>> names()[:2]
    ('ring.push_pop', 'ring.two_threads.single')
    """
    return tuple(_BENCHMARKS)


def run(chosen: Iterable[str] | None = None) -> Iterator[tuple[str, Result]]:
    """Run benchmarks, one after the other.

    Parameters
    ----------
    chosen : iterable of str, optional
        Of `names`; all of them if not given.

    Yields
    ------
    name : str
    result : Result

    Raises
    ------
    ConfigError
        There is no benchmark of that name.
    LedgerError
        A benchmark's result is wrong, so its time is not valid.

    Notes
    -----
    Thread-safety: one at a time, on a machine that does nothing else.

    Examples
    --------
    >>> [(name, result)] = run(["clock.now"])
    >>> 0 < result.min <= result.ns_per_op <= result.max
    True
    """
    wanted = names() if chosen is None else tuple(chosen)
    for name in wanted:
        _require_known(name)
    return _results(wanted)


def measure(name: str) -> float:
    """Run one benchmark once, without a warm-up.

    Parameters
    ----------
    name : str
        Of `names`.

    Returns
    -------
    float
        Nanoseconds an operation.

    Raises
    ------
    ConfigError
        There is no benchmark of that name.
    LedgerError
        The benchmark's result is wrong, so its time is not valid.

    Examples
    --------
    >>> measure("clock.now") > 0
    True
    """
    _require_known(name)
    benchmark, operations = _BENCHMARKS[name]
    return _cost(benchmark, operations)


def _require_known(name: str) -> None:
    if name not in _BENCHMARKS:
        raise ConfigError(f"must be one of {', '.join(names())}", field="benchmark", value=name)


def _results(wanted: tuple[str, ...]) -> Iterator[tuple[str, Result]]:
    for name in wanted:
        benchmark, operations = _BENCHMARKS[name]
        # The first one faults the memory in and warms the caches and the branch predictors.
        benchmark(operations)
        costs = [_cost(benchmark, operations) for _ in range(REPETITIONS)]
        yield name, Result(median(costs), min(costs), max(costs))


# Takes the number of operations to make. Returns how many it made, and the nanoseconds that they
# took.
Benchmark = Callable[[int], tuple[int, int]]


def _cost(benchmark: Benchmark, operations: int) -> float:
    made, elapsed_ns = benchmark(operations)
    return elapsed_ns / made


def _require(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise LedgerError(f"{what} is {found!r}, but must be {expected!r}")


def _ring_push_pop(operations: int) -> tuple[int, int]:
    return operations, loops.ring_push_pop(TransactionRing(), operations)


def _ring_two_threads(operations: int, *, batch: int, tight: bool = False) -> tuple[int, int]:
    """One thread pushes and one pops, on two CPUs where there are two."""
    ring = TransactionRing()
    elapsed_ns = _on_two_cpus(
        lambda: loops.consume(ring, operations, batch, tight),
        lambda: loops.produce(ring, operations, batch, tight),
    )
    return operations, elapsed_ns


def round_trips(operations: int) -> LatencyHistogram:
    """Send one record at a time to a thread on another CPU, which sends it back.

    Parameters
    ----------
    operations : int

    Returns
    -------
    LatencyHistogram
        The time of each round trip over two rings, in ns. It includes one reading of the clock.

    Raises
    ------
    LedgerError
        The record that came back was not the one that was sent.
    """
    there, back, trips, clock = TransactionRing(), TransactionRing(), LatencyHistogram(), Clock()
    _on_two_cpus(
        lambda: loops.round_trips(there, back, operations, trips, clock),
        lambda: loops.send_back(there, back, operations),
    )
    return trips


def _ring_round_trip(operations: int) -> tuple[int, int]:
    """The median of the trips. Interruptions by the host would dominate a mean."""
    trips = round_trips(operations)
    _require("the number of round trips", trips.count, operations)
    return operations, trips.percentile(50) * operations


def _on_two_cpus(timed: Callable[[], int], other: Callable[[], None]) -> int:
    """Run both at once, and return the result of the first."""
    usable = usable_cpus()
    other_cpu, timed_cpu = usable.order[:2] if len(usable.order) > 1 else (None, None)
    # Both run on threads of their own, so that the affinity of the calling thread does not change.
    found: list[int] = []
    refused: list[LedgerError] = []

    def run_other() -> None:
        _pin(other_cpu)
        other()

    def run_timed() -> None:
        _pin(timed_cpu)
        try:
            found.append(timed())
        except LedgerError as error:
            refused.append(error)

    # Daemon threads: if one thread fails, the other waits for it for ever.
    threads = [
        threading.Thread(target=each, name=f"velox-{each.__name__}", daemon=True)
        for each in (run_other, run_timed)
    ]
    for thread in threads:
        start_thread(thread)
    for thread in threads:
        thread.join()
    for error in refused:
        raise error
    return found[0]


def _pin(cpu: int | None) -> None:
    """Pin the calling thread. If the system refuses, its scheduler places the thread."""
    if cpu is not None and hasattr(os, "sched_setaffinity"):
        with suppress(OSError):
            os.sched_setaffinity(0, {cpu})


def _book_apply(operations: int, *, writers: Literal[1, 2]) -> tuple[int, int]:
    flow = MarketFlow(SEED, tick_size=TICK_SIZE, base_price=BASE_PRICE)
    events = flow.generate(operations)
    book = OrderBook(
        LEVELS,
        TICK_SIZE,
        base_price=BASE_PRICE - LEVELS // 2 * TICK_SIZE,
        writers=writers,
    )
    start_ns = time.monotonic_ns()
    applied = book.apply(events).applied
    elapsed_ns = time.monotonic_ns() - start_ns
    _require("the number of events applied", applied, operations)
    held, expected = book.snapshot(), flow.snapshot()
    # The records begin with two that clear the book, before its levels.
    levels = held[held["kind"] != Kind.CLEAR]
    same = [np.array_equal(levels[field], expected[field]) for field in ("side", "price", "size")]
    _require("whether the book holds what the flow left", all(same), True)
    return operations, elapsed_ns


def _book_best(operations: int) -> tuple[int, int]:
    book = OrderBook(LEVELS, TICK_SIZE)
    flow = MarketFlow(SEED, tick_size=TICK_SIZE, base_price=BASE_PRICE)
    book.apply(flow.generate(10_000))
    resting = flow.statistics()
    assert resting.best_bid is not None
    assert resting.best_ask is not None
    return operations, loops.book_best(book, operations, resting.best_bid, resting.best_ask)


def _bundle_add(operations: int) -> tuple[int, int]:
    builder = BundleBuilder(BundleRing())
    elapsed_ns = loops.bundle_add(builder.ring, builder.hold, operations)
    return operations, elapsed_ns


def _clock_now(operations: int) -> tuple[int, int]:
    return operations, loops.clock_read(Clock(), operations)


def _histogram_record(operations: int) -> tuple[int, int]:
    histogram = LatencyHistogram()
    elapsed_ns = loops.histogram_fill(histogram, operations)
    _require("the sum of the histogram's counts", int(np.sum(histogram.counts())), operations)
    return operations, elapsed_ns


def _pipeline(
    operations: int, *, placement: Literal["shared", "paired"], strategy: str | None = None
) -> tuple[int, int]:
    """The time from the start of the threads to the last bundle taken, for each record."""
    flow = MarketFlow(SEED, tick_size=TICK_SIZE, base_price=BASE_PRICE)
    ingress = ReplayIngress(flow.generate(operations), repeat=PASSES)
    state = np.zeros(strategies.MARKET_MAKER_STATE, np.int64)
    asked = None if strategy is None else Strategy(strategies.address(strategy), user_data=state)
    config = PipelineConfig(placement=placement)
    report = Pipeline(ingress, strategy=asked, config=config).run()
    ledger = report.ledger
    _require("the number rejected", sum(ledger.rejected.values()), 0)
    _require("the number applied", ledger.applied, ledger.generated)
    expected = {"nothing": 0, "market_maker": int(state[-1])}.get(str(strategy), ledger.generated)
    _require("the number delivered", ledger.delivered_transactions, expected)
    return ledger.generated, round(report.elapsed_s * 1e9)


# name -> the benchmark, and how many operations make some 20 to 40 ms
_BENCHMARKS: dict[str, tuple[Benchmark, int]] = {
    "ring.push_pop": (_ring_push_pop, 4_000_000),
    "ring.two_threads.single": (partial(_ring_two_threads, batch=1), 1_000_000),
    "ring.two_threads.tight": (partial(_ring_two_threads, batch=1, tight=True), 500_000),
    "ring.two_threads.batch": (partial(_ring_two_threads, batch=BATCH), 8_000_000),
    "ring.round_trip": (_ring_round_trip, 50_000),
    "book.apply.one_writer": (partial(_book_apply, writers=1), 1_000_000),
    "book.apply.cas": (partial(_book_apply, writers=2), 500_000),
    "book.best": (_book_best, 8_000_000),
    "bundle.add": (_bundle_add, 4_000_000),
    "clock.now": (_clock_now, 1_000_000),
    "histogram.record": (_histogram_record, 8_000_000),
    "pipeline.shared": (partial(_pipeline, placement="shared"), 100_000),
    "pipeline.paired": (partial(_pipeline, placement="paired"), 100_000),
    "strategy.nothing": (partial(_pipeline, placement="shared", strategy="nothing"), 100_000),
    "strategy.forward": (partial(_pipeline, placement="shared", strategy="forward"), 100_000),
    "strategy.market_maker": (
        partial(_pipeline, placement="shared", strategy="market_maker"),
        100_000,
    ),
    "strategy.paired": (partial(_pipeline, placement="paired", strategy="forward"), 100_000),
}
