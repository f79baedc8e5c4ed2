"""What Python pays to use the parts: each call crosses into C once."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

import velox
from benchmarks import measures, records
from benchmarks.scaled import NsAnOperation

# A call, and how many operations it is.
Work = tuple[Callable[[], object], int]


def _book() -> velox.OrderBook:
    transactions = records.synthetic()
    book = velox.OrderBook(1024, records.TICK_SIZE)
    measures.require("records applied", book.apply(transactions).applied, len(transactions))
    measures.require("whether it has both sides", book.spread is not None, True)
    return book


def _book_apply() -> Work:
    book, transactions = _book(), records.synthetic()
    return lambda: book.apply(transactions), len(transactions)


def _book_set() -> Work:
    book = velox.OrderBook(1024, records.TICK_SIZE)
    book.set(velox.Side.BID, 1_000_000, 5)
    measures.require("the best bid", book.top()[:2], (1_000_000, 5))
    return lambda: book.set(velox.Side.BID, 1_000_000, 5), 1


def _shared_book_apply() -> Work:
    transactions = records.synthetic()
    base_price = records.BASE_PRICE - 512 * records.TICK_SIZE
    book = velox.OrderBook(1024, records.TICK_SIZE, base_price, writers=2)
    measures.require("records applied", book.apply(transactions).applied, len(transactions))
    return lambda: book.apply(transactions), len(transactions)


def _book_best_bid() -> Work:
    book = _book()
    measures.require("the best bid", book.best_bid, book.top().bid_price)
    return lambda: book.best_bid, 1


def _book_snapshot() -> Work:
    book = _book()
    measures.require("levels", len(book.snapshot()), len(measures.held_by(book)) + 2)
    return book.snapshot, 1


def _histogram_record() -> Work:
    histogram = velox.LatencyHistogram()
    histogram.record(1234)
    measures.require("what it holds", (histogram.count, histogram.max), (1, 1234))
    return lambda: histogram.record(1234), 1


def _histogram_record_many() -> Work:
    values = np.random.default_rng(1).lognormal(6, 1.5, 100_000).astype(np.uint64)
    histogram = velox.LatencyHistogram()
    histogram.record_many(values)
    measures.require("what it holds", histogram.count, len(values))
    return lambda: histogram.record_many(values), len(values)


def _histogram_snapshot() -> Work:
    histogram = velox.LatencyHistogram()
    histogram.record(1234)
    measures.require("whether a snapshot is equal", histogram.snapshot() == histogram, True)
    return histogram.snapshot, 1


def _clock_now() -> Work:
    clock = velox.Clock()
    measures.require("whether time goes on", clock.now() <= clock.now(), True)
    return clock.now, 1


def _bundle_add() -> Work:
    transactions = records.synthetic()[:1024]
    ring = velox.BundleRing()
    builder = velox.BundleBuilder(ring)

    def work() -> object:
        builder.add(transactions, now_ns=0)
        return ring.pop()

    measures.require("transactions bundled", int(np.sum(work()["count"])), 1024)
    return work, 1024


OPERATIONS: dict[str, Callable[[], Work]] = {
    "book.apply, a record": _book_apply,
    "book.apply, CAS, a record": _shared_book_apply,
    "book.set": _book_set,
    "book.best_bid": _book_best_bid,
    "book.snapshot": _book_snapshot,
    "histogram.record": _histogram_record,
    "histogram.record_many, a value": _histogram_record_many,
    "histogram.snapshot": _histogram_snapshot,
    "clock.now": _clock_now,
    "bundles added and popped, a transaction": _bundle_add,
}


class Calls(NsAnOperation):
    param_names = ("call",)
    params = (list(OPERATIONS),)

    def setup(self, call: str) -> None:
        super().setup()
        self.work, self.operations = OPERATIONS[call]()
        start_ns = time.perf_counter_ns()
        self.work()
        # As often as takes some 10 ms.
        self.calls = max(1, 10_000_000 // max(1, time.perf_counter_ns() - start_ns))

    def time_call(self, call: str) -> None:
        work = self.work
        start_ns = time.perf_counter_ns()
        for _ in range(self.calls):
            work()
        elapsed_ns = time.perf_counter_ns() - start_ns
        self.add(elapsed_ns / (self.calls * self.operations))


class Ring(NsAnOperation):
    version = "2"

    def time_push_and_pop_of_one(self) -> None:
        self.add(measures.ring_single(2_000))

    def time_push_and_pop_of_1024_a_record(self) -> None:
        self.add(measures.ring_bulk())


class Depth(NsAnOperation):
    """Ten levels a side: of an idle book by a copy, of one being written through its mailbox."""

    param_names = ("book",)
    params = (["idle", "written at full speed"],)

    def time_depth_of_10(self, book: str) -> None:
        self.add(measures.depth_from_python(busy=book != "idle", reads=500))
