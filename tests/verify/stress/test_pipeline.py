"""Real threads at full rate, stopped wherever they happen to be: nothing is lost uncounted.

Every ring starts a little before 2**64, so that its indices wrap under way. Every element follows
from its id: a strategy looks at each on the book's thread, as it comes out of the first ring, and
the output at each in its bundle, which so has passed the other two.
"""

from __future__ import annotations

import ctypes
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import (
    Array,
    assert_adds_up,
    compiled,
    inside,
    orders,
    pass_the_time_until,
    rounds,
    shared_books_are_built,
)
from velox import (
    BundleRing,
    CaptureOutput,
    Kind,
    OrderBook,
    Pipeline,
    PipelineConfig,
    PoissonIngress,
    PullOutput,
    PushIngress,
    ReplayIngress,
    Strategy,
    TransactionRing,
)
from velox.errors import StrategyError

THREADED = ["shared", "paired", "dedicated"]
IDLES = ["spin", "yield", "backoff"]
SHARED_BOOK = pytest.mark.skipif(
    not shared_books_are_built(), reason="books of several writers are not built"
)


# So many items in, an index passes 2**64.
TRANSACTIONS_TO_THE_WRAP, BUNDLES_TO_THE_WRAP = 21, 2


class NearTheWrap(Pipeline):
    """A pipeline whose rings' indices start shortly before 2**64."""

    def _transaction_ring(self) -> TransactionRing:
        first = 2**64 - TRANSACTIONS_TO_THE_WRAP
        return TransactionRing(self.config.transaction_capacity, first_index=first)

    def _bundle_ring(self) -> BundleRing:
        first = 2**64 - BUNDLES_TO_THE_WRAP
        return BundleRing(self.config.bundle_capacity, first_index=first)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    source = Path(__file__).with_name("patterns.c")
    return compiled(source, tmp_path_factory.mktemp("patterns"))


def checking(library: ctypes.CDLL, *, first_id: int) -> Strategy:
    """Passes on patterned transactions with ids from there on; anything else is an error."""
    return Strategy(library.check_pattern, user_data=np.array([first_id], np.uint64))


def patterned(count: int, *, first_id: int = 1) -> Array:
    """Valid adds, each of whose fields follows from its id."""
    records = orders(count, first_id=first_id)
    mixed = records["id"] * np.uint64(0x9E3779B97F4A7C15)
    records["price"] += (mixed >> np.uint64(57)).astype(np.int64)
    records["size"] = (mixed & np.uint64(0xFFFF)) + np.uint64(1)
    records["flags"] = mixed >> np.uint64(56)
    return records


def assert_taken_exactly(bundles: Array, first_id: int) -> int:
    """Bundles as they lie in the ring hold the transactions that come next; returns how many."""
    records = inside(bundles)
    expected = patterned(len(records), first_id=first_id)
    expected["ingress_ts_ns"] = records["ingress_ts_ns"]
    assert records.tobytes() == expected.tobytes()
    assert bundles["count"].min() >= 1
    assert bundles["count"].max() <= 16
    assert len(records) == bundles["count"].sum()
    assert (np.diff(bundles["sealed_ts_ns"].astype(np.int64)) >= 0).all()
    return len(records)


def assert_holds_exactly(path: Path, records: Array) -> None:
    """Each record once, in order, with every byte but its time as it was."""
    out = inside(np.load(path))
    out["ingress_ts_ns"] = records["ingress_ts_ns"]
    assert out.tobytes() == records.tobytes()


@pytest.mark.parametrize("placement", THREADED)
@pytest.mark.parametrize("idle", IDLES)
@pytest.mark.parametrize("seal", ["timeout", "idle"])
def test_a_stop_at_any_moment_of_a_replay_at_full_rate_loses_nothing(
    placement: Any, idle: Any, seal: Any, library: ctypes.CDLL, tmp_path: Path
) -> None:
    generator = random.Random(f"{placement} {idle} {seal}")
    records = patterned(100_000)
    for attempt in range(rounds(4)):
        path = tmp_path / f"{attempt}.npy"
        moment = int(generator.expovariate(1 / 3_000))
        # Without a strategy the book stage passes records on by separate code.
        looks = generator.random() < 0.5
        pipeline = NearTheWrap(
            ReplayIngress(records),
            CaptureOutput(path),
            strategy=checking(library, first_id=1) if looks else None,
            config=PipelineConfig(
                placement=placement,
                idle=idle,
                seal=seal,
                # A strategy needs room for 16 records.
                transaction_capacity=2 ** generator.randint(4 if looks else 1, 12),
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
    pipeline = NearTheWrap(
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
    pipeline = NearTheWrap(
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


def test_ten_pipelines_at_once_do_not_disturb_each_other(
    library: ctypes.CDLL, tmp_path: Path
) -> None:
    pipelines = [
        NearTheWrap(
            ReplayIngress(patterned(3_000, first_id=10_000 * number + 1)),
            CaptureOutput(tmp_path / f"{number}.npy"),
            strategy=checking(library, first_id=10_000 * number + 1),
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
    pipeline = NearTheWrap(
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
@pytest.mark.parametrize("idle", IDLES)
@pytest.mark.parametrize("looks", [False, True])
def test_every_element_is_what_it_was_wherever_it_is_taken(
    placement: Any, idle: Any, looks: bool, library: ctypes.CDLL
) -> None:
    ingress, output = PushIngress(), PullOutput()
    total = rounds(2_000)

    def feed() -> None:
        sent = 0
        generator = random.Random(3)
        while sent < total:
            count = min(total - sent, generator.randint(1, 200))
            assert ingress.push(patterned(count, first_id=sent + 1)) == count
            sent += count
        ingress.close()

    taken = 0
    with NearTheWrap(
        ingress,
        output,
        strategy=checking(library, first_id=1) if looks else None,
        config=PipelineConfig(
            placement=placement, idle=idle, transaction_capacity=64, bundle_capacity=4
        ),
    ) as pipeline:
        feeder = threading.Thread(target=feed)
        feeder.start()
        while not output.exhausted:
            with output.poll() as bundles:
                if len(bundles):
                    taken += assert_taken_exactly(bundles, taken + 1)
        feeder.join()
    assert_adds_up(pipeline)
    assert taken == total
    assert ingress.ring.statistics().popped > TRANSACTIONS_TO_THE_WRAP
    assert output.ring.statistics().popped > BUNDLES_TO_THE_WRAP


@pytest.mark.parametrize("placement", THREADED)
@pytest.mark.parametrize("field", ["price", "size", "flags", "side", "id"])
def test_a_corrupted_element_is_found_at_the_book(
    placement: Any, field: str, library: ctypes.CDLL
) -> None:
    records = patterned(500)
    records[field][300] ^= 1
    pipeline = NearTheWrap(
        ReplayIngress(records),
        strategy=checking(library, first_id=1),
        config=PipelineConfig(placement=placement, idle="yield", transaction_capacity=64),
    )
    with pytest.raises(StrategyError):
        pipeline.run()
    assert pipeline.ledger().delivered_transactions == 300


@pytest.mark.parametrize("field", ["price", "size", "flags", "side", "id"])
def test_a_corrupted_element_is_found_in_its_bundle(field: str) -> None:
    output = PullOutput()
    records = patterned(16)
    records[field][7] ^= 1
    with (
        NearTheWrap(ReplayIngress(records), output, config=PipelineConfig(idle="yield")),
        pytest.raises(AssertionError),
    ):
        while not output.exhausted:
            with output.poll() as bundles:
                if len(bundles):
                    assert_taken_exactly(bundles, 1)


@SHARED_BOOK
@pytest.mark.parametrize("placement", THREADED)
@pytest.mark.parametrize("lanes", [2, 4])
def test_lanes_at_full_rate_leave_the_book_exact(
    placement: Any, lanes: int, library: ctypes.CDLL, tmp_path: Path
) -> None:
    path = tmp_path / "out.npy"
    each = rounds(5_000)
    feeds = [patterned(each, first_id=lane * each + 1) for lane in range(lanes)]
    book = OrderBook(writers=lanes, base_price=999_500, levels=1024)
    pipeline = NearTheWrap(
        [ReplayIngress(records) for records in feeds],
        CaptureOutput(path),
        books=book,
        strategy=checking(library, first_id=0),
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
    out = inside(np.load(path))
    assert len(out) == len(every)
    for lane, records in enumerate(feeds):
        mine = out[(out["id"] - 1) // each == lane]
        mine["ingress_ts_ns"] = records["ingress_ts_ns"]
        assert mine.tobytes() == records.tobytes()
