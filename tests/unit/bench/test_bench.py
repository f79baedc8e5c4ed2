from __future__ import annotations

import threading

import numpy as np
import pytest

from tests.support import refused
from velox import bench
from velox.bench import loops, strategies
from velox.core.bundle import BundleBuilder
from velox.core.clock import Clock
from velox.core.histogram import LatencyHistogram
from velox.core.order_book import OrderBook
from velox.core.records import TRANSACTION_DTYPE, Side
from velox.core.ring import BundleRing, TransactionRing
from velox.errors import ConfigError, LedgerError

NAMES = (
    "ring.push_pop",
    "ring.two_threads.single",
    "ring.two_threads.tight",
    "ring.two_threads.batch",
    "ring.round_trip",
    "book.apply.one_writer",
    "book.apply.cas",
    "book.best",
    "bundle.add",
    "clock.now",
    "histogram.record",
    "pipeline.shared",
    "pipeline.paired",
    "strategy.nothing",
    "strategy.forward",
    "strategy.market_maker",
    "strategy.paired",
)


@pytest.fixture(autouse=True)
def once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "REPETITIONS", 1)


def test_the_names_are_those_that_are_documented() -> None:
    assert bench.names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_checks_its_result_and_gives_a_positive_cost(name: str) -> None:
    [(made, result)] = bench.run([name])
    assert made == name
    assert 0 < result.min <= result.ns_per_op <= result.max
    assert set(result.to_dict()) == {"ns_per_op", "min", "max"}


def test_an_unknown_benchmark_is_refused_before_any_other_runs() -> None:
    with refused(ConfigError, field="benchmark", value="ring.pop"):
        bench.run(["clock.now", "ring.pop"])


def test_the_cost_is_the_median_between_the_extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    elapsed = iter([10**9, 30, 10, 20])
    monkeypatch.setattr(bench, "REPETITIONS", 3)
    monkeypatch.setitem(bench._BENCHMARKS, "clock.now", (lambda n: (n, next(elapsed)), 10))
    assert list(bench.run(["clock.now"])) == [("clock.now", bench.Result(2.0, 1.0, 3.0))]


def test_wrong_best_prices_have_no_speed() -> None:
    book = OrderBook(64)
    book.add(Side.BID, 100, 1)
    book.add(Side.ASK, 101, 1)
    assert loops.book_best(book, 10, 100, 101) > 0
    with pytest.raises(LedgerError, match="0 reads of the best prices were right, of 10"):
        loops.book_best(book, 10, 100, 102)


@pytest.mark.parametrize("batch", [1, 3])
def test_what_was_not_pushed_in_order_has_no_speed(batch: int) -> None:
    ring = TransactionRing(8)
    others = np.zeros(5, TRANSACTION_DTYPE)
    ring.push(others)
    with pytest.raises(LedgerError, match="0 transactions handed over were right, of 5"):
        loops.consume(ring, 5, batch)


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_two_threads_hand_over_more_than_the_ring_holds(batch: int) -> None:
    ring = TransactionRing(4)
    producer = threading.Thread(target=loops.produce, args=(ring, 1_000, batch))
    producer.start()
    assert loops.consume(ring, 1_000, batch) > 0
    producer.join()
    assert len(ring) == 0


@pytest.mark.parametrize("tight", [False, True])
def test_two_threads_hand_over_however_they_wait(tight: bool) -> None:
    ring = TransactionRing(4)
    producer = threading.Thread(target=loops.produce, args=(ring, 1_000, 1, tight))
    producer.start()
    assert loops.consume(ring, 1_000, 1, tight) > 0
    producer.join()


def test_every_round_trip_is_recorded() -> None:
    trips = bench.round_trips(1_000)
    assert trips.count == 1_000
    assert 0 < trips.min <= trips.percentile(50) <= trips.max


def test_what_comes_back_and_was_not_sent_has_no_speed() -> None:
    there, back = TransactionRing(8), TransactionRing(8)
    back.push(np.zeros(4, TRANSACTION_DTYPE))
    with pytest.raises(LedgerError, match="0 round trips were right, of 4"):
        loops.round_trips(there, back, 3, LatencyHistogram(), Clock())


def test_a_strategy_to_be_timed_is_one_of_those_that_are_named() -> None:
    assert len({strategies.address(name) for name in strategies.names()}) == 3
    with refused(ConfigError, field="strategy", value="arbitrage"):
        strategies.address("arbitrage")


def test_a_ring_that_is_not_empty_has_no_push_pop_speed() -> None:
    ring = TransactionRing(4)
    ring.push(np.zeros(1, TRANSACTION_DTYPE))
    with pytest.raises(LedgerError, match="pops were right, of 10"):
        loops.ring_push_pop(ring, 10)


def test_a_bundle_loop_leaves_out_no_transaction() -> None:
    builder = BundleBuilder(BundleRing(2))
    assert loops.bundle_add(builder.ring, builder.hold, 100) > 0
    assert builder.hold.count == 96


def test_a_histogram_loop_records_every_value() -> None:
    histogram = LatencyHistogram()
    assert loops.histogram_fill(histogram, 1_000) > 0
    assert histogram.count == 1_000
    assert 1 <= histogram.min <= histogram.max <= 2**20


def test_a_clock_loop_reads_any_clock() -> None:
    assert loops.clock_read(Clock("kernel"), 10) > 0
