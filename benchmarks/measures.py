"""What is measured, and how its result is checked first: for asv, for the targets, for the peers.

Each function checks once that what it is about to time does its work, then times it once and
returns nanoseconds an operation, unless it says otherwise. None has a warm-up of its own.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from statistics import median
from typing import Literal

import numpy as np
import numpy.typing as npt

import velox
from benchmarks import records
from velox import feeds
from velox.runtime.hardware import usable_cpus

RECORDS = 1024
READS = 20_000
# One record in so many moves the best prices of the synthetic market (of the Binance stream, one
# in 28).
MARKET_MOVES = 6
QUIET_S = 1.0
MIB = 1 << 20
LOW, HIGH = (1_000_000, 7), (1_000_100, 11)


def require(what: str, found: object, expected: object) -> None:
    """Raise if a result is not what it must be: a wrong answer has no speed."""
    if found != expected:
        raise RuntimeError(f"{what} is {found!r}, but must be {expected!r}")


def _now_ns() -> int:
    return time.perf_counter_ns()


def pin(place: int) -> None:
    """Pin the calling thread to the CPU of that place, in the order of filling them."""
    usable = usable_cpus()
    if usable.can_pin and place < len(usable.order):
        with suppress(OSError):
            os.sched_setaffinity(0, {usable.order[place]})


# Rings, from Python


def ring_bulk(rounds: int = 200) -> float:
    """Push 1024 records into a ring and pop them again, a record."""
    ring, many = velox.TransactionRing(), records.synthetic()[:RECORDS]
    require("what the ring gives back", ring.push(many), RECORDS)
    require("what the ring gives back", ring.pop().tobytes(), many.tobytes())
    start_ns = _now_ns()
    for _ in range(rounds):
        ring.push(many)
        ring.pop()
    return (_now_ns() - start_ns) / (rounds * RECORDS)


def ring_single(rounds: int = 20_000) -> float:
    """Push one record into a ring and pop it again."""
    ring, one = velox.TransactionRing(), records.synthetic()[RECORDS : RECORDS + 1]
    require("what the ring takes", ring.push(one), 1)
    require("what the ring gives back", ring.pop(1).tobytes(), one.tobytes())
    start_ns = _now_ns()
    for _ in range(rounds):
        ring.push(one)
        ring.pop(1)
    return (_now_ns() - start_ns) / rounds


def round_trip(trips: int = 200_000) -> tuple[float, float]:
    """Send one transaction at a time to a thread on another CPU, and get it back, over two rings.

    Returns
    -------
    p50, p99 : float
        In ns, there and back.
    """
    # Not at the top: asv also runs on commits that do not have it, and all else works there.
    from velox.bench import round_trips  # noqa: PLC0415

    found = round_trips(trips)
    require("the number of round trips", found.count, trips)
    return found.percentile(50), found.percentile(99)


# Books


def levels_of(transactions: npt.NDArray[np.void]) -> dict[tuple[int, int], int]:
    """Return the levels that records of absolute quantities leave, by side and price."""
    levels: dict[tuple[int, int], int] = {}
    for kind, side, price, size in transactions[["kind", "side", "price", "size"]].tolist():
        if kind == velox.Kind.CLEAR:
            levels = {key: held for key, held in levels.items() if key[0] != side}
        elif kind == velox.Kind.SET and size:
            levels[side, price] = size
        else:
            levels.pop((side, price), None)
    return levels


def held_by(book: velox.OrderBook) -> dict[tuple[int, int], int]:
    """Return every level of a book, by side and price."""
    snapshot = book.snapshot()
    snapshot = snapshot[snapshot["kind"] != velox.Kind.CLEAR]
    size = np.where(
        snapshot["kind"] == velox.Kind.SET_WIDE, snapshot["id"], snapshot["size"]
    ).tolist()
    return dict(
        zip(
            zip(snapshot["side"].tolist(), snapshot["price"].tolist(), strict=True),
            size,
            strict=True,
        )
    )


@cache
def _binance_book(levels: int) -> velox.OrderBook:
    recording = records.binance()
    if recording is None:
        raise RuntimeError("VELOX_DATA names no folder with the Binance stream")
    book = velox.OrderBook(levels, recording.instruments[0].tick_size)
    require("records applied", book.apply(recording.transactions).applied, len(recording))
    require("levels held", held_by(book) == levels_of(recording.transactions), True)
    return book


def book_binance(levels: int) -> float:
    """Apply the recorded Binance stream, from its snapshot on; every level is kept."""
    book, recording = _binance_book(levels), records.binance()
    assert recording is not None
    start_ns = _now_ns()
    applied = book.apply(recording.transactions).applied
    elapsed_ns = _now_ns() - start_ns
    require("records applied", applied, len(recording))
    return elapsed_ns / applied


@contextmanager
def full_speed_writer(book: velox.OrderBook, every: int = MARKET_MOVES) -> Iterator[None]:
    """While the block runs, let a thread apply records without pause.

    One in `every` moves the best bid, between `LOW` and `HIGH`; the others change what lies below.
    """
    moves = np.zeros(100_000 // (2 * every) * 2 * every, velox.TRANSACTION_DTYPE)
    below = np.arange(len(moves))
    moves["kind"] = velox.Kind.SET
    moves["price"] = LOW[0] - records.TICK_SIZE * (1 + below % 50)
    moves["size"] = 1 + below % 3
    for first, kind in ((0, velox.Kind.SET), (every, velox.Kind.DELETE)):
        best = slice(first, None, 2 * every)
        moves["price"][best], moves["size"][best] = HIGH
        moves["kind"][best] = kind
    book.set(velox.Side.BID, *LOW)
    over = threading.Event()
    passes: list[int] = []

    def write() -> None:
        pin(1)
        while not over.is_set():
            passes.append(book.apply(moves).applied)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        while not passes:
            time.sleep(0)
        yield
    finally:
        over.set()
        thread.join()
    require("records that the writer applied", set(passes), {len(moves)})


def top_under_writer(
    runs: int = 100, patience_s: float = 10.0, *, every: int = MARKET_MOVES
) -> tuple[float, float]:
    """Read the best prices in C while a thread on another CPU changes them at full speed.

    One record in `every` moves them. Reads are made in runs of 20 000; a run during which the
    writer did not write, because the host let it wait, is left out.

    Returns
    -------
    ns : float
        A read, in the median of the runs.
    again : float
        The share of reads that had to be made again, inside the call.
    """
    # Not at the top: asv also runs on commits that do not have it, and all else works there.
    from velox.bench import probes  # noqa: PLC0415

    book = velox.OrderBook(1024, records.TICK_SIZE)
    costs: list[float] = []
    repeated: list[float] = []

    def read() -> None:
        pin(0)
        end = time.monotonic() + patience_s
        while len(costs) < runs and time.monotonic() < end:
            elapsed_ns, again, changes = probes.top_reads(book, READS, low=LOW, high=HIGH)
            # The first read alone counts as a change.
            if changes > 1:
                costs.append(elapsed_ns / READS)
                repeated.append(again / READS)

    with full_speed_writer(book, every):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
    require("whether the writer ever wrote meanwhile", bool(costs), True)
    return median(costs), sum(repeated) / len(repeated)


def depth_from_python(*, busy: bool, reads: int = 2_000) -> float:
    """Read ten levels a side from Python, of a book that a thread writes at full speed or not."""
    book = velox.OrderBook(1024, records.TICK_SIZE)
    book.set(velox.Side.BID, *LOW)
    if not busy:
        return _read_depth(book, reads)
    with full_speed_writer(book):
        return _read_depth(book, reads)


def _read_depth(book: velox.OrderBook, reads: int) -> float:
    for _ in range(10):
        depth = book.depth(10)
        best = int(depth["bid_price"][0]), int(depth["bid_quantity"][0])
        require("whether the best level is one of two", best in (LOW, HIGH), True)
    start_ns = _now_ns()
    for _ in range(reads):
        book.depth(10)
    return (_now_ns() - start_ns) / reads


# Clock, flow, feeds


def counter(reads: int = 1_000_000) -> float:
    """Read the processor's counter in C, in order and unscaled: what the hardware costs."""
    from velox.bench import probes  # noqa: PLC0415

    return probes.ticks_read(reads) / reads


def flow(count: int = 200_000) -> float:
    """Generate a synthetic market, a transaction."""
    generator = velox.MarketFlow(1)
    start_ns = _now_ns()
    made = generator.generate(count)
    elapsed_ns = _now_ns() - start_ns
    require("whether every record is one", velox.validate(made), None)
    return elapsed_ns / count


def feed(format: str) -> float:
    """Read a recording, a record."""
    paths = records.recorded(format)
    start_ns = _now_ns()
    recording = feeds.load(paths, format)
    elapsed_ns = _now_ns() - start_ns
    require("lines left out", recording.skipped, 0)
    require("whether it holds records", len(recording) > 0, True)
    return elapsed_ns / len(recording)


# The whole pipeline


def _delivered(report: velox.Report, expected: int | None = None) -> int:
    ledger = report.ledger
    ledger.check(forwarding=True)
    require("transactions rejected", sum(ledger.rejected.values()), 0)
    require("transactions dropped", ledger.dropped, 0)
    if expected is not None:
        require("transactions delivered", ledger.delivered_transactions, expected)
    return ledger.delivered_transactions


def replay(placement: Literal["shared", "paired"], *, writers: int = 1, passes: int = 50) -> float:
    """Replay an array as fast as it is taken, a transaction; from the start to the last bundle."""
    transactions = records.synthetic()
    book = velox.OrderBook(
        1024,
        records.TICK_SIZE,
        base_price=records.BASE_PRICE - 512 * records.TICK_SIZE,
        writers=writers,
    )
    report = velox.Pipeline(
        velox.ReplayIngress(transactions, repeat=passes),
        books=book,
        config=velox.PipelineConfig(placement=placement, writers=writers),
    ).run()
    made = _delivered(report, passes * len(transactions))
    return report.elapsed_s * 1e9 / made


def run_max(duration_s: float = 0.5) -> float:
    """Generate flow as fast as it is taken, a transaction; placed as `velox run` places it."""
    report = velox.Pipeline(velox.PoissonIngress(rate="max", seed=1)).run(duration_s)
    return report.elapsed_s * 1e9 / _delivered(report)


def transit(rate: float = 100_000, duration_s: float = 2.0) -> dict[str, float]:
    """Run at a rate, and return percentiles in ns and what was dropped.

    Returns
    -------
    dict of str to float
        ``late_p50``, ``transit_p99``, … and ``dropped``.
    """
    report = velox.Pipeline(velox.PoissonIngress(rate=rate, seed=1)).run(duration_s)
    require("whether the ledger balances", report.ledger.balanced, True)
    found: dict[str, float] = {"dropped": report.ledger.dropped}
    for name, histogram in report.latency.items():
        for label, percentile in (("p50", 50.0), ("p99", 99.0), ("p99_9", 99.9)):
            found[f"{name}_{label}"] = histogram.percentile(percentile)
    return found


def idle_cpu(idle: str = "backoff") -> float:
    """Let a pipeline wait for transactions that do not come, and return its share of one CPU."""
    ingress = velox.PushIngress()
    with velox.Pipeline(ingress, config=velox.PipelineConfig(placement="shared", idle=idle)):
        # It has sunk into its longest sleep by then.
        time.sleep(0.1)
        start, cpu = time.monotonic(), time.process_time()
        time.sleep(QUIET_S)
        share = (time.process_time() - cpu) / (time.monotonic() - start)
        one = np.zeros(1, velox.TRANSACTION_DTYPE)
        one["price"], one["size"] = 100, 1
        require("whether it still takes what comes", ingress.push(one), 1)
    return share


# What the process takes

FIRST_BUNDLE = """
import time, numpy as np, velox
imported = time.monotonic_ns()
ingress, output = velox.PushIngress(), velox.PullOutput()
orders = np.zeros(16, velox.TRANSACTION_DTYPE)
orders["price"], orders["size"] = 1_000_000, 1
with velox.Pipeline(ingress, output):
    ingress.push(orders)
    while True:
        with output.poll() as bundles:
            if len(bundles):
                first = time.monotonic_ns()
                assert bundles["count"].sum() == 16
                break
print(imported, first)
"""


def first_bundle() -> float:
    """Start an interpreter, and return ns from there to its first bundle."""
    begin = time.monotonic_ns()
    done = subprocess.run(
        [sys.executable, "-c", FIRST_BUNDLE], capture_output=True, text=True, check=True
    )
    return int(done.stdout.split()[1]) - begin


IMPORT = """
import time
begin = time.perf_counter_ns()
import velox
print(time.perf_counter_ns() - begin)
"""


def import_velox() -> float:
    """Import `velox`, NumPy included, in a new interpreter, and return the ns that it took."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def memory_stated(pipeline: velox.Pipeline) -> int:
    """Return what the rings, books and histograms of a pipeline say that they take, in bytes."""
    rings = sum(each.memory_bytes for each in pipeline._rings.values())
    books = sum(each.memory_bytes for each in pipeline.books.values())
    output = pipeline.output
    histograms = [output.delivery, output.total, *(each.late for each in pipeline.ingresses)]
    histograms += [pipeline._bundle_stage.transit, pipeline._bundle_stage.hold]
    return rings + books + sum(each.memory_bytes for each in histograms)


def resident_bytes() -> int:
    """Return how much memory the process has in use now."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        # Elsewhere only the peak is to be had; it does not shrink, and growth still shows.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_growth(duration_s: float = 2.0) -> tuple[int, int]:
    """Run at full rate, and return the bytes stated, and the bytes by which the process grew.

    Growth is what it had at the end more than a quarter of the time after the start. What it takes
    to build must be what the parts state, but for objects of the interpreter.
    """
    before = resident_bytes()
    pipeline = velox.Pipeline(velox.PoissonIngress(rate="max", seed=1))
    stated = memory_stated(pipeline)
    require("whether more was taken than is stated", resident_bytes() - before < stated + MIB, True)
    with pipeline:
        time.sleep(duration_s / 4)
        settled = resident_bytes()
        time.sleep(duration_s * 3 / 4)
        grown = resident_bytes() - settled
    _delivered(pipeline.report())
    return stated, grown
