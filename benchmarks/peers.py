"""Velox's parts against what a Python user would pick instead, on the same records in one run.

::

    pip install -e '.[peers]'
    python -m benchmarks.peers

Peers that are not installed are named and left out. Each entrant first does the whole job once and
is compared with a reference of plain dicts; what it drops or does not do stands beside its figure.
Records are converted to each entrant's objects before the clock starts. A figure is the median of
rounds in which all entrants of a table take turns; the ratio is to Velox's.

The books get the recorded Binance stream where ``VELOX_DATA`` names the folder that holds it, else
a synthetic market.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

import velox
from benchmarks import measures, records
from benchmarks.sampling import Sample, alternate
from velox.runtime.hardware import describe_machine

__all__ = ["main"]

# What one round of a table moves; --quick divides it.
QUEUE_RECORDS = 20_000
BOOK_RECORDS = 100_000
HISTOGRAM_VALUES = 20_000
BULK = 1024

Levels = dict[tuple[int, int], int]


class AbsentError(Exception):
    """The entrant is not installed, or cannot run here."""


@dataclass(frozen=True)
class Entrant:
    """One column of a comparison.

    Attributes
    ----------
    name : str
    prepare : callable
        Takes how many records a round moves. Imports what it needs, does the job once, compares,
        and returns what times a round, in ns an operation, and what it found out on the way.
    note : str
        What it drops or does not do.
    package : str
        On PyPI; empty for what comes with Python, and for Velox.
    """

    name: str
    prepare: Callable[[int], tuple[Callable[[], float], str]]
    note: str
    package: str = ""

    @property
    def title(self) -> str:
        """str: Its name, with its version where it has one of its own."""
        try:
            head, comma, how = self.name.partition(",")
            return f"{head} {version(self.package)}{comma}{how}" if self.package else self.name
        except PackageNotFoundError:
            return self.name


def needed(module: str) -> Any:
    """Import a peer, or say that it is not here."""
    try:
        return import_module(module)
    except Exception as error:
        # Also what an extension made for another interpreter raises.
        raise AbsentError(f"{type(error).__name__}: {error}") from error


def timed(work: Callable[[], object], operations: int) -> Callable[[], float]:
    """Return what times one call of `work`, in ns an operation."""

    def measure() -> float:
        start_ns = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - start_ns) / operations

    return measure


# Queues: a record of 32 bytes in and out again


def as_bytes(count: int) -> list[bytes]:
    transactions = records.synthetic()
    return [transactions[i % len(transactions)].tobytes() for i in range(count)]


def velox_single(count: int) -> tuple[Callable[[], float], str]:
    rounds = max(1, count)
    return partial(measures.ring_single, rounds), ""


def one_by_one(
    put: Callable[[bytes], object], get: Callable[[], bytes], count: int
) -> tuple[Callable[[], float], str]:
    items = as_bytes(count)
    for item in items[:100]:
        put(item)
        measures.require("what the queue gives back", get(), item)

    def work() -> None:
        for item in items:
            put(item)
            get()

    return timed(work, count), ""


def simple_queue_single(count: int) -> tuple[Callable[[], float], str]:
    made: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    return one_by_one(made.put, made.get, count)


def queue_single(count: int) -> tuple[Callable[[], float], str]:
    made: queue.Queue[bytes] = queue.Queue(4096)
    return one_by_one(made.put, made.get, count)


def deque_single(count: int) -> tuple[Callable[[], float], str]:
    made: deque[bytes] = deque(maxlen=4096)
    return one_by_one(made.append, made.popleft, count)


def faster_fifo_single(count: int) -> tuple[Callable[[], float], str]:
    made = needed("faster_fifo").Queue(max_size_bytes=1 << 20)
    return one_by_one(made.put, made.get, count)


def velox_bulk(count: int) -> tuple[Callable[[], float], str]:
    return partial(measures.ring_bulk, max(1, count // BULK)), ""


def faster_fifo_bulk(count: int) -> tuple[Callable[[], float], str]:
    made = needed("faster_fifo").Queue(max_size_bytes=1 << 20)
    items = as_bytes(BULK)
    rounds = max(1, count // BULK)

    def pass_on() -> list[bytes]:
        made.put_many(items)
        found: list[bytes] = []
        while len(found) < BULK:
            found += made.get_many(max_messages_to_get=BULK)
        return found

    measures.require("what the queue gives back", pass_on(), items)

    def work() -> None:
        for _ in range(rounds):
            pass_on()

    return timed(work, rounds * BULK), ""


def chunk_bulk(count: int, *, copy: bool) -> tuple[Callable[[], float], str]:
    made: queue.SimpleQueue[Any] = queue.SimpleQueue()
    many = records.synthetic()[:BULK]
    rounds = max(1, count)

    def work() -> None:
        for _ in range(rounds):
            made.put(many.copy() if copy else many)
            made.get()

    made.put(many.copy())
    measures.require("what the queue gives back", made.get().tobytes(), many.tobytes())
    return timed(work, rounds * BULK), ""


# Queues: from one thread, or process, to another


def velox_threads(count: int, *, batch: int) -> tuple[Callable[[], float], str]:
    transactions = np.resize(records.synthetic(), count)

    def work() -> None:
        ring = velox.TransactionRing()
        last: list[int] = []

        def consume() -> None:
            taken = 0
            while taken < count:
                found = ring.pop(batch)
                taken += len(found)
                if len(found):
                    last[:] = [int(found["id"][-1])]
                else:
                    time.sleep(0)

        thread = threading.Thread(target=consume)
        thread.start()
        pushed = 0
        while pushed < count:
            step = ring.push(transactions[pushed : pushed + batch])
            pushed += step
            if not step:
                time.sleep(0)
        thread.join()
        measures.require("the last record taken", last, [int(transactions["id"][-1])])

    return timed(work, count), ""


def simple_queue_threads(count: int) -> tuple[Callable[[], float], str]:
    items = as_bytes(count)

    def work() -> None:
        made: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        taken: list[bytes] = []

        def consume() -> None:
            for _ in range(count):
                taken[:] = [made.get()]

        thread = threading.Thread(target=consume)
        thread.start()
        for item in items:
            made.put(item)
        thread.join()
        measures.require("the last record taken", taken, items[-1:])

    return timed(work, count), ""


def _consume_in_process(made: Any, count: int, many: bool, last: Any) -> None:
    taken = 0
    found: bytes = b""
    while taken < count:
        if many:
            batch = made.get_many(max_messages_to_get=BULK)
            taken += len(batch)
            found = batch[-1]
        else:
            found = made.get()
            taken += 1
    last.send_bytes(found)


def between_processes(
    made: Any, count: int, *, many: bool, context: Any
) -> tuple[Callable[[], float], str]:
    items = as_bytes(count)

    def measure() -> float:
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_consume_in_process, args=(made, count + 1, many, theirs))
        process.start()
        # The first tells that the other process runs; it is not timed.
        made.put(items[0])
        while not made.empty():
            time.sleep(0.001)
        start_ns = time.perf_counter_ns()
        if many:
            for first in range(0, count, BULK):
                made.put_many(items[first : first + BULK], timeout=60)
        else:
            for item in items:
                made.put(item)
        last = mine.recv_bytes()
        elapsed_ns = time.perf_counter_ns() - start_ns
        process.join()
        measures.require("the last record taken", last, items[-1])
        return elapsed_ns / count

    measure()
    return measure, ""


def multiprocessing_queue(count: int) -> tuple[Callable[[], float], str]:
    context = multiprocessing.get_context("fork")
    return between_processes(context.Queue(), count, many=False, context=context)


def faster_fifo_processes(count: int, *, many: bool) -> tuple[Callable[[], float], str]:
    made = needed("faster_fifo").Queue(max_size_bytes=1 << 20)
    context = multiprocessing.get_context("fork")
    return between_processes(made, count, many=many, context=context)


# Books: set a level to an absolute quantity; 0 deletes it


@dataclass(frozen=True)
class Stream:
    """Absolute levels, by event: the same for every book."""

    transactions: Any
    events: list[tuple[int, int]]
    tick_size: int

    @property
    def levels(self) -> Levels:
        return measures.levels_of(self.transactions)


def stream(count: int) -> Stream:
    recording = records.binance()
    if recording is None:
        return Stream(
            absolute(count), [(i, i + 16) for i in range(0, count, 16)], records.TICK_SIZE
        )
    found = recording.transactions[:count]
    # What opens the book are two clears; an empty book needs none, and few peers have them.
    found = found[found["kind"] == velox.Kind.SET]
    ends = (np.flatnonzero(found["flags"] & velox.Flags.LAST) + 1).tolist()
    ends = ends if ends and ends[-1] == len(found) else [*ends, len(found)]
    begins = [0, *ends[:-1]]
    return Stream(found, list(zip(begins, ends, strict=True)), recording.instruments[0].tick_size)


def absolute(count: int) -> Any:
    """Turn a synthetic market of orders into one of absolute levels."""
    made = records.synthetic(max(count + 2, 1000))[2 : count + 2].copy()
    levels: Levels = {}
    sizes = []
    for side, price, size, kind in made[["side", "price", "size", "kind"]].tolist():
        held = levels.get((side, price), 0) + (size if kind == velox.Kind.ADD else -size)
        levels[side, price] = held
        sizes.append(held)
    made["kind"], made["size"] = velox.Kind.SET, sizes
    return made


def best_of(levels: Levels) -> tuple[int | None, int | None]:
    bids = [price for side, price in levels if side == velox.Side.BID]
    asks = [price for side, price in levels if side == velox.Side.ASK]
    return max(bids, default=None), min(asks, default=None)


def judged(held: Levels, best: tuple[int | None, int | None], expected: Levels) -> str:
    """Say what of the market an entrant kept; the best prices must be right."""
    kept = sum(held.get(key) == size for key, size in expected.items())
    stale = sum(key not in expected for key in held)
    found = []
    if kept < len(expected):
        found.append(f"kept {kept} of {len(expected)} levels")
    if stale:
        found.append(f"{stale} levels that are none")
    if best != best_of(expected):
        found.append(f"best prices {best}, not {best_of(expected)}")
    return "; ".join(found) or "every level right"


def velox_book(count: int, *, best: bool) -> tuple[Callable[[], float], str]:
    given = stream(count)
    book = velox.OrderBook(8192, given.tick_size)
    slices = [given.transactions[begin:end] for begin, end in given.events]

    def work() -> None:
        book.clear()
        if not best:
            book.apply(given.transactions)
            return
        for each in slices:
            book.apply(each)
            _ = book.best_bid, book.best_ask

    work()
    found = judged(measures.held_by(book), (book.best_bid, book.best_ask), given.levels)
    return timed(work, len(given.transactions)), found


def velox_book_single(count: int) -> tuple[Callable[[], float], str]:
    given = stream(count)
    book = velox.OrderBook(8192, given.tick_size)
    rows = given.transactions[["side", "price", "size"]].tolist()

    def work() -> None:
        book.clear()
        put = book.set
        for side, price, size in rows:
            put(side, price, size)

    work()
    found = judged(measures.held_by(book), (book.best_bid, book.best_ask), given.levels)
    return timed(work, len(rows)), found


def mapping_book(
    count: int,
    *,
    best: bool,
    sides: Callable[[], tuple[Any, Any]],
    best_bid: Callable[[Any], int],
    best_ask: Callable[[Any], int],
) -> tuple[Callable[[], float], str]:
    """Time a book made of two mappings, of bids and of asks."""
    given = stream(count)
    rows = given.transactions[["side", "price", "size"]].tolist()
    events = [rows[begin:end] for begin, end in given.events]
    both = sides()

    def work() -> None:
        nonlocal both
        both = sides()
        for event in events:
            for side, price, size in event:
                if size:
                    both[side][price] = size
                elif price in both[side]:
                    del both[side][price]
            if best and len(both[0]) and len(both[1]):
                best_bid(both[0])
                best_ask(both[1])

    work()
    held = {
        (side, price): both[side][price]
        for side in (0, 1)
        for price in (both[side].keys() if hasattr(both[side], "keys") else both[side])
    }
    found = judged(held, (best_bid(both[0]), best_ask(both[1])), given.levels)
    return timed(work, len(rows)), found


def dict_book(count: int, *, best: bool) -> tuple[Callable[[], float], str]:
    return mapping_book(count, best=best, sides=lambda: ({}, {}), best_bid=max, best_ask=min)


def sorted_book(count: int, *, best: bool) -> tuple[Callable[[], float], str]:
    made = needed("sortedcontainers").SortedDict
    return mapping_book(
        count,
        best=best,
        sides=lambda: (made(), made()),
        best_bid=lambda bids: bids.peekitem(-1)[0],
        best_ask=lambda asks: asks.peekitem(0)[0],
    )


def order_book_book(count: int, *, best: bool) -> tuple[Callable[[], float], str]:
    made = needed("order_book").OrderBook

    def sides() -> tuple[Any, Any]:
        book = made()
        return book.bids, book.asks

    return mapping_book(
        count,
        best=best,
        sides=sides,
        best_bid=lambda bids: bids.index(0)[0],
        best_ask=lambda asks: asks.index(0)[0],
    )


def lrvx_book(count: int, *, best: bool) -> tuple[Callable[[], float], str]:
    made = needed("lrvx").OrderBook
    given = stream(count)
    scale = velox.PRICE_SCALE
    events = []
    for begin, end in given.events:
        event = given.transactions[begin:end]
        bids, asks = event[event["side"] == velox.Side.BID], event[event["side"] == velox.Side.ASK]
        events.append(
            tuple(
                np.ascontiguousarray(each, np.float64)
                for each in (
                    bids["price"] / scale,
                    bids["size"],
                    asks["price"] / scale,
                    asks["size"],
                )
            )
        )
    book = made(given.tick_size / scale)

    def work() -> None:
        book.clear()
        for event in events:
            book.apply_delta(*event)
            if best:
                book.best_bid()
                book.best_ask()

    def fixed(price: float | None) -> int | None:
        return None if price is None else round(price * scale)

    work()
    expected = given.levels
    held = {
        (side, round(price * scale)): round(size)
        for side, rows in ((0, book.get_bids(1 << 20)), (1, book.get_asks(1 << 20)))
        for price, size in rows.tolist()
    }
    found = judged(held, (fixed(book.best_bid()), fixed(book.best_ask())), expected)
    return timed(work, len(given.transactions)), found


def nautilus_book(count: int, *, best: bool) -> tuple[Callable[[], float], str]:
    made = needed("nautilus_trader.model.book").OrderBook
    data = needed("nautilus_trader.model.data")
    enums = needed("nautilus_trader.model.enums")
    objects = needed("nautilus_trader.model.objects")
    identifiers = needed("nautilus_trader.model.identifiers")
    instrument = identifiers.InstrumentId.from_str("BTCUSDT.BINANCE")
    given = stream(count)
    scale = velox.PRICE_SCALE

    def delta(side: int, price: int, size: int) -> Any:
        order = data.BookOrder(
            enums.OrderSide.BUY if side == velox.Side.BID else enums.OrderSide.SELL,
            objects.Price(price / scale, 4),
            objects.Quantity(size, 0),
            price,
        )
        action = enums.BookAction.UPDATE if size else enums.BookAction.DELETE
        return data.OrderBookDelta(instrument, action, order, 0, 0, 0, 0)

    rows = given.transactions[["side", "price", "size"]].tolist()
    events = [
        data.OrderBookDeltas(instrument, [delta(*row) for row in rows[begin:end]])
        for begin, end in given.events
    ]
    book = made(instrument, enums.BookType.L2_MBP)

    def work() -> None:
        book.reset()
        for event in events:
            book.apply_deltas(event)
            if best:
                book.best_bid_price()
                book.best_ask_price()

    def fixed(price: Any) -> int | None:
        return None if price is None else round(float(price) * scale)

    work()
    held = {
        (side, fixed(level.price) or 0): round(level.size())
        for side, levels in ((0, book.bids()), (1, book.asks()))
        for level in levels
    }
    found = judged(held, (fixed(book.best_bid_price()), fixed(book.best_ask_price())), given.levels)
    return timed(work, len(rows)), found


# Histograms: record a latency


def values(count: int) -> Any:
    return np.random.default_rng(1).lognormal(6, 1.5, count).astype(np.uint64)


def velox_histogram(count: int, *, many: bool) -> tuple[Callable[[], float], str]:
    given = values(count)
    single = given.tolist()
    made = velox.LatencyHistogram()

    def work() -> None:
        if many:
            made.record_many(given)
        else:
            record = made.record
            for value in single:
                record(value)

    work()
    measures.require("values recorded", made.count, count)
    return timed(work, count), ""


def hdrhistogram(count: int) -> tuple[Callable[[], float], str]:
    made = needed("hdrh.histogram").HdrHistogram(1, 3_600_000_000_000, 2)
    given = values(count).tolist()

    def work() -> None:
        record = made.record_value
        for value in given:
            record(value)

    work()
    reference = velox.LatencyHistogram()
    reference.record_many(values(count))
    measures.require("values recorded", made.get_total_count(), count)
    measures.require(
        "the 99th percentile", made.get_value_at_percentile(99), reference.percentile(99)
    )
    return timed(work, count), ""


GIL = "Python objects, under the GIL"

TABLES: dict[str, tuple[int, list[Entrant]]] = {
    "a record in and out of a queue, singly, one thread": (
        QUEUE_RECORDS,
        [
            Entrant("velox.TransactionRing", velox_single, "copies 32 bytes twice, in and out"),
            Entrant("queue.SimpleQueue", simple_queue_single, f"unbounded; {GIL}"),
            Entrant("queue.Queue", queue_single, f"a lock a call; {GIL}"),
            Entrant("collections.deque", deque_single, f"drops the oldest when full; {GIL}"),
            Entrant("faster-fifo", faster_fifo_single, "pickles; a lock a call", "faster-fifo"),
        ],
    ),
    f"a record in and out of a queue, {BULK} at a time, one thread": (
        QUEUE_RECORDS,
        [
            Entrant("velox.TransactionRing", velox_bulk, "copies each record twice"),
            Entrant(
                "queue.SimpleQueue, array copied",
                partial(chunk_bulk, copy=True),
                "one object a batch: allocates; the taker cannot take fewer",
            ),
            Entrant(
                "queue.SimpleQueue, array itself",
                partial(chunk_bulk, copy=False),
                "passes a reference: nothing is copied, the giver must not write again",
            ),
            Entrant("faster-fifo", faster_fifo_bulk, "pickles each record", "faster-fifo"),
        ],
    ),
    "a record from one Python thread, or process, to another": (
        QUEUE_RECORDS,
        [
            Entrant(
                "velox.TransactionRing, 256", partial(velox_threads, batch=256), "threads only"
            ),
            Entrant(
                "velox.TransactionRing, singly", partial(velox_threads, batch=1), "threads only"
            ),
            Entrant("queue.SimpleQueue, singly", simple_queue_threads, f"threads only; {GIL}"),
            Entrant(
                "multiprocessing.Queue", multiprocessing_queue, "processes; pickles, a pipe, a lock"
            ),
            Entrant(
                "faster-fifo, singly",
                partial(faster_fifo_processes, many=False),
                "processes; pickles; a lock a call",
                "faster-fifo",
            ),
            Entrant(
                f"faster-fifo, {BULK}",
                partial(faster_fifo_processes, many=True),
                "processes; pickles; a lock a batch",
                "faster-fifo",
            ),
        ],
    ),
    "a level set in an order book": (
        BOOK_RECORDS,
        [
            Entrant("velox.OrderBook.apply", partial(velox_book, best=False), "aggregates only"),
            Entrant("velox.OrderBook.set", velox_book_single, "one call a level"),
            Entrant("dict", partial(dict_book, best=False), f"no order; {GIL}"),
            Entrant(
                "sortedcontainers",
                partial(sorted_book, best=False),
                GIL,
                "sortedcontainers",
            ),
            Entrant("order-book", partial(order_book_book, best=False), GIL, "order-book"),
            Entrant("lrvx (flox-py)", partial(lrvx_book, best=False), "floats", "lrvx"),
            Entrant(
                "nautilus_trader",
                partial(nautilus_book, best=False),
                "an object a level, made before the clock starts",
                "nautilus_trader",
            ),
        ],
    ),
    "the same, and the best prices read after each event": (
        BOOK_RECORDS // 4,
        [
            Entrant("velox.OrderBook.apply", partial(velox_book, best=True), "aggregates only"),
            Entrant("dict, max and min", partial(dict_book, best=True), GIL),
            Entrant("sortedcontainers", partial(sorted_book, best=True), GIL, "sortedcontainers"),
            Entrant("order-book", partial(order_book_book, best=True), GIL, "order-book"),
            Entrant("lrvx (flox-py)", partial(lrvx_book, best=True), "floats", "lrvx"),
            Entrant(
                "nautilus_trader",
                partial(nautilus_book, best=True),
                "an object a level, made before the clock starts",
                "nautilus_trader",
            ),
        ],
    ),
    "a latency recorded": (
        HISTOGRAM_VALUES,
        [
            Entrant("velox.LatencyHistogram, array", partial(velox_histogram, many=True), ""),
            Entrant(
                "velox.LatencyHistogram", partial(velox_histogram, many=False), "a call a value"
            ),
            Entrant("hdrhistogram", hdrhistogram, "a call a value; pure Python", "hdrhistogram"),
        ],
    ),
}


@dataclass(frozen=True)
class Row:
    """What a table says of one entrant; `sample` is None for one that is not here."""

    entrant: Entrant
    sample: Sample | None
    found: str


def compare(entrants: Sequence[Entrant], count: int, rounds: int) -> Iterator[Row]:
    """Prepare and check all, then measure them in turns."""
    ready: dict[str, Callable[[], float]] = {}
    found: dict[str, str] = {}
    for each in entrants:
        try:
            ready[each.name], found[each.name] = each.prepare(count)
        except AbsentError as error:
            found[each.name] = f"not here: {error}"
    samples = alternate(ready, rounds, warm_up=rounds > 1)
    for each in entrants:
        yield Row(each, samples.get(each.name), found[each.name])


def printed(row: Row, reference: Sample, *, judge: bool) -> str:
    """Return a row of a table, as Markdown."""
    note = "; ".join(filter(None, (row.found, row.entrant.note)))
    if row.sample is None:
        return f"| {row.entrant.title} | - | - | {note} |"
    if judge and not row.sample.repeats:
        note = f"{note}; does not repeat within 10 %".removeprefix("; ")
    ns = row.sample.median
    return f"| {row.entrant.title} | {ns:,.1f} | {ns / reference.median:,.2f} | {note} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one table a job, in Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--rounds", type=int, default=8, metavar="N", help="(8)")
    parser.add_argument("--only", metavar="TEXT", default="", help="tables with it in their title")
    parser.add_argument("--json", metavar="PATH", help="write the figures too")
    parser.add_argument(
        "--quick", action="store_true", help="one short round, to see that it works"
    )
    options = parser.parse_args(arguments)
    rounds, part = (1, 20) if options.quick else (options.rounds, 1)
    source = "the Binance stream" if records.binance() is not None else "a synthetic market"
    print(f"velox {velox.__version__}, {describe_machine()}; books: {source}; rounds: {rounds}")
    results: dict[str, Any] = {}
    for title, (count, entrants) in TABLES.items():
        if options.only not in title:
            continue
        print(f"\n{title}\n\n| | ns | ratio | what it keeps, drops or does not do |")
        print("|---|---|---|---|")
        rows = list(compare(entrants, max(BULK, count // part), rounds))
        reference = rows[0].sample
        assert reference is not None
        for row in rows:
            print(printed(row, reference, judge=not options.quick), flush=True)
        results[title] = {
            row.entrant.title: {
                **(row.sample.to_dict() if row.sample else {}),
                "found": row.found,
                "note": row.entrant.note,
            }
            for row in rows
        }
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"machine": describe_machine(), "tables": results}, file, indent=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
