"""Real threads at full rate, stopped wherever they happen to be: nothing is lost uncounted."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import (
    Array,
    assert_adds_up,
    inside,
    orders,
    pass_the_time_until,
    rounds,
    shared_books_are_built,
)
from velox import (
    CaptureOutput,
    Kind,
    OrderBook,
    Pipeline,
    PipelineConfig,
    PoissonIngress,
    PullOutput,
    PushIngress,
    ReplayIngress,
)

THREADED = ["shared", "paired", "dedicated"]
IDLES = ["spin", "yield", "backoff"]
SHARED_BOOK = pytest.mark.skipif(
    not shared_books_are_built(), reason="books of several writers are not built"
)


def patterned(count: int, *, first_id: int = 1) -> Array:
    """Valid adds, each of whose fields follows from its id."""
    records = orders(count, first_id=first_id)
    mixed = records["id"] * np.uint64(0x9E3779B97F4A7C15)
    records["price"] += (mixed >> np.uint64(57)).astype(np.int64)
    records["size"] = (mixed & np.uint64(0xFFFF)) + np.uint64(1)
    records["flags"] = mixed >> np.uint64(56)
    return records


def assert_holds_exactly(path: Path, records: Array) -> None:
    """Each record once, in order, with every byte but its time as it was."""
    out = inside(np.load(path))
    out["ingress_ts_ns"] = records["ingress_ts_ns"]
    assert out.tobytes() == records.tobytes()


@pytest.mark.parametrize("placement", THREADED)
@pytest.mark.parametrize("idle", IDLES)
@pytest.mark.parametrize("seal", ["timeout", "idle"])
def test_a_stop_at_any_moment_of_a_replay_at_full_rate_loses_nothing(
    placement: Any, idle: Any, seal: Any, tmp_path: Path
) -> None:
    generator = random.Random(f"{placement} {idle} {seal}")
    records = patterned(100_000)
    for attempt in range(rounds(4)):
        path = tmp_path / f"{attempt}.npy"
        moment = int(generator.expovariate(1 / 3_000))
        pipeline = Pipeline(
            ReplayIngress(records),
            CaptureOutput(path),
            config=PipelineConfig(
                placement=placement,
                idle=idle,
                seal=seal,
                transaction_capacity=2 ** generator.randint(1, 12),
                bundle_capacity=2 ** generator.randint(1, 10),
                batch=generator.choice([1, 3, 16, 256]),
            ),
        )
        pipeline.start()
        pass_the_time_until(
            lambda run=pipeline, at=moment: run.statistics().delivered_transactions >= at
        )
        pipeline.stop()
        assert_adds_up(pipeline)
        ledger = pipeline.report().ledger
        assert ledger.dropped == 0
        assert ledger.delivered_transactions == ledger.pushed >= moment
        assert_holds_exactly(path, records[: ledger.pushed])


@pytest.mark.parametrize("placement", THREADED)
@pytest.mark.parametrize("idle", IDLES)
def test_a_feed_that_is_faster_than_the_pipeline_drops_and_counts(
    placement: Any, idle: Any, tmp_path: Path
) -> None:
    path = tmp_path / "out.npy"
    ingress = PoissonIngress(rate="max", seed=4)
    pipeline = Pipeline(
        ingress,
        CaptureOutput(path),
        config=PipelineConfig(
            placement=placement, idle=idle, on_full="drop", transaction_capacity=64
        ),
    )
    pipeline.start()
    pass_the_time_until(lambda: pipeline.statistics().delivered_transactions >= rounds(5_000))
    pipeline.stop()
    assert_adds_up(pipeline)
    ledger = pipeline.report().ledger
    assert ledger.generated == ledger.pushed + ledger.dropped
    ids = inside(np.load(path))["id"].astype(np.int64)
    assert len(ids) == ledger.applied
    assert (np.diff(ids) > 0).all()


@pytest.mark.parametrize("placement", THREADED)
def test_an_open_loop_feed_that_is_stopped_adds_up(placement: Any) -> None:
    pipeline = Pipeline(
        PoissonIngress(rate=500_000, seed=4),
        config=PipelineConfig(placement=placement, idle="yield"),
    )
    pipeline.start()
    pass_the_time_until(lambda: pipeline.statistics().delivered_transactions >= rounds(3_000))
    pipeline.stop()
    assert_adds_up(pipeline)
    report = pipeline.report()
    assert report.latency["late"].count == report.ledger.pushed
    assert report.latency["total"].count == report.ledger.delivered_transactions


def test_ten_pipelines_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    pipelines = [
        Pipeline(
            ReplayIngress(patterned(3_000, first_id=10_000 * number + 1)),
            CaptureOutput(tmp_path / f"{number}.npy"),
            config=PipelineConfig(
                placement="dedicated", idle="yield", transaction_capacity=16, bundle_capacity=4
            ),
        )
        for number in range(10)
    ]
    for pipeline in pipelines:
        pipeline.start()
    for number, pipeline in enumerate(pipelines):
        assert pipeline.wait()
        pipeline.stop()
        assert_adds_up(pipeline)
        expected = patterned(3_000, first_id=10_000 * number + 1)
        assert_holds_exactly(tmp_path / f"{number}.npy", expected)


@pytest.mark.parametrize("placement", THREADED)
def test_a_book_that_is_read_meanwhile_is_never_seen_torn(placement: Any) -> None:
    # Quantity and price move together: at price p the level holds p lots.
    count = rounds(4_000)
    records = orders(2 * count)
    prices = 1_000_000 + np.arange(count) % 50
    records["price"][0::2] = records["size"][0::2] = prices
    records["price"][1::2] = prices
    records["kind"][1::2] = Kind.DELETE
    pipeline = Pipeline(
        ReplayIngress(records, repeat=3),
        config=PipelineConfig(placement=placement, idle="yield"),
    )
    book = pipeline.books[0]
    with pipeline:
        looks = 0
        while not pipeline.wait(0) or looks == 0:
            top = book.top()
            assert (top.bid_price or 0) == top.bid_quantity
            looks += 1
    assert_adds_up(pipeline)
    assert pipeline.ledger().rejected == dict.fromkeys(pipeline.ledger().rejected, 0)


@pytest.mark.parametrize("placement", THREADED)
def test_python_at_both_ends_keeps_every_transaction(placement: Any) -> None:
    ingress, output = PushIngress(), PullOutput()
    total = rounds(2_000)
    taken: list[Any] = []

    def feed() -> None:
        sent = 0
        generator = random.Random(3)
        while sent < total:
            count = min(total - sent, generator.randint(1, 200))
            assert ingress.push(orders(count, first_id=sent + 1)) == count
            sent += count
        ingress.close()

    with Pipeline(
        ingress,
        output,
        config=PipelineConfig(
            placement=placement, idle="yield", transaction_capacity=64, bundle_capacity=4
        ),
    ) as pipeline:
        feeder = threading.Thread(target=feed)
        feeder.start()
        while not output.exhausted:
            with output.poll() as bundles:
                if len(bundles):
                    taken.append(inside(bundles))
        feeder.join()
    assert_adds_up(pipeline)
    assert np.array_equal(np.concatenate(taken)["id"], np.arange(1, total + 1, dtype=np.uint64))


@SHARED_BOOK
@pytest.mark.parametrize("placement", THREADED)
@pytest.mark.parametrize("lanes", [2, 4])
def test_lanes_at_full_rate_leave_the_book_exact(
    placement: Any, lanes: int, tmp_path: Path
) -> None:
    path = tmp_path / "out.npy"
    each = rounds(5_000)
    feeds = []
    for lane in range(lanes):
        generator = np.random.default_rng(lane)
        records = orders(each, first_id=lane * each + 1)
        records["price"] += generator.integers(0, 40, each)
        records["size"] = generator.integers(1, 9, each)
        feeds.append(records)
    book = OrderBook(writers=lanes, base_price=999_500, levels=1024)
    pipeline = Pipeline(
        [ReplayIngress(records) for records in feeds],
        CaptureOutput(path),
        books=book,
        config=PipelineConfig(
            placement=placement,
            idle="yield",
            lanes=lanes,
            writers=lanes,
            transaction_capacity=64,
            bundle_capacity=8,
        ),
    )
    pipeline.run()
    assert_adds_up(pipeline)
    every = np.concatenate(feeds)
    for price in np.unique(every["price"]).tolist():
        expected = int(every["size"][every["price"] == price].sum())
        assert book.quantity(0, price) == expected
    out = inside(np.load(path))["id"]
    assert np.array_equal(np.sort(out), np.arange(1, lanes * each + 1, dtype=np.uint64))
    for lane in range(lanes):
        mine = out[(out - 1) // each == lane].astype(np.int64)
        assert (np.diff(mine) == 1).all()
