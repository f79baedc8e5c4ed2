"""A short end-to-end test of each part, quick enough for an emulated processor."""

from __future__ import annotations

import platform
import threading
from pathlib import Path

import numpy as np
import pytest

import velox


def market(count: int) -> np.ndarray:
    return velox.MarketFlow(4).generate(count)


def test_records_are_laid_out_as_everywhere() -> None:
    assert velox.TRANSACTION_DTYPE.itemsize == 32
    assert velox.BUNDLE_DTYPE.itemsize == 528
    velox.validate(market(1_000))


def test_a_ring_carries_everything_in_order_between_threads() -> None:
    sent = market(20_000)
    ring = velox.TransactionRing(64, first_index=2**64 - 1_000)
    taken: list[np.ndarray] = []

    def consume() -> None:
        while sum(map(len, taken)) < len(sent):
            taken.append(ring.pop(50))

    consumer = threading.Thread(target=consume)
    consumer.start()
    pushed = 0
    while pushed < len(sent):
        pushed += ring.push(sent[pushed : pushed + 37])
    consumer.join()
    assert np.concatenate(taken).tobytes() == sent.tobytes()


def test_both_books_hold_what_the_flow_left() -> None:
    flow = velox.MarketFlow(5)
    records = flow.generate(20_000)
    single = velox.OrderBook(1024, 100)
    shared = velox.OrderBook(1024, 100, 1_000_000 - 51_200, writers="n")
    assert single.apply(records).applied == shared.apply(records).applied == len(records)
    assert single.snapshot().tobytes() == shared.snapshot().tobytes()
    left = flow.statistics()
    assert (single.best_bid, single.best_ask) == (left.best_bid, left.best_ask)


def test_a_histogram_counts_what_it_is_given() -> None:
    histogram = velox.LatencyHistogram()
    histogram.record_many(np.arange(1, 10_001, dtype=np.uint64))
    assert histogram.count == 10_000
    assert histogram.min == 1


def test_the_processors_counter_keeps_time() -> None:
    source = {"aarch64": "cntvct", "x86_64": "tsc"}.get(platform.machine(), "kernel")
    try:
        clock = velox.Clock(source)
    except velox.errors.VeloxError as refusal:
        pytest.skip(f"the counter cannot be trusted here: {refusal}")
    times = [clock.now() for _ in range(1_000)]
    assert times == sorted(times)
    assert times[-1] > times[0]


@pytest.mark.parametrize("placement", ["invoker", "shared", "paired"])
@pytest.mark.parametrize("writers", [1, 2])
def test_a_pipeline_delivers_exactly_what_its_books_applied(
    tmp_path: Path, placement: str, writers: int
) -> None:
    records = market(5_000)
    records["size"][::50] = 0
    config = velox.PipelineConfig(placement=placement, writers=writers, idle="yield")
    book = velox.OrderBook(
        1024, 100, 1_000_000 - 51_200 if writers > 1 else None, writers="n" if writers > 1 else 1
    )
    output = velox.CaptureOutput(tmp_path / "capture.npy")
    report = velox.Pipeline(velox.ReplayIngress(records), output, books=book, config=config).run()
    assert report.ledger.balanced
    assert report.ledger.rejected["size"] > 0
    bundles = np.load(output.path)
    kept = bundles["transactions"][np.arange(16) < bundles["count"][:, np.newaxis]]
    statuses = np.zeros(len(records), np.uint8)
    velox.OrderBook(1024, 100).apply(records, statuses)
    assert kept["id"].tolist() == records["id"][statuses == 0].tolist()
