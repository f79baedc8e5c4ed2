"""The pipeline: placements, policies, lifecycle, and a ledger that balances under all of them."""

from __future__ import annotations

import copy
import ctypes
import itertools
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import (
    assert_adds_up,
    in_another_thread,
    inside,
    orders,
    pass_the_time_until,
    refused,
    shared_books_are_built,
)
from velox import (
    STRATEGY_CTYPE,
    TRANSACTION_DTYPE,
    BundleRing,
    CaptureOutput,
    DiscardOutput,
    Instrument,
    Kind,
    MarketFlow,
    OrderBook,
    Pipeline,
    PipelineConfig,
    PoissonIngress,
    PullOutput,
    PushIngress,
    ReplayIngress,
)
from velox.config import stage_names
from velox.core.order_book import Books
from velox.errors import (
    BookError,
    CaptureError,
    ConfigError,
    PipelineError,
    VeloxError,
)
from velox.runtime import pipeline as module
from velox.runtime.checks import DepthChecks
from velox.runtime.hardware import UsableCpus

PLACEMENTS = ["invoker", "shared", "paired", "dedicated"]
SHARED_BOOK = pytest.mark.skipif(
    not shared_books_are_built(), reason="books of several writers are not built"
)


def config(placement: str = "invoker", **options: Any) -> PipelineConfig:
    """Yielding runners: the machine under the tests may have fewer cores than they."""
    return PipelineConfig(placement=placement, **{"idle": "yield", **options})


def recorded(count: int, *, gap_ns: int = 100, **fields: Any) -> Any:
    due = 10**9 + gap_ns * np.arange(count, dtype=np.uint64)
    return orders(count, **{"ingress_ts_ns": due, **fields})


# Step by step, on a virtual clock


def test_one_transaction_travels_a_stage_a_step(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    pipeline = Pipeline(
        ReplayIngress(recorded(1)),
        CaptureOutput(path),
        config=config(bundle_timeout_ns=500),
    )
    assert pipeline.clock.source == "virtual"
    # Each step calls the stages in order, so that one takes it all the way to an open bundle.
    assert pipeline.step() == 3
    statistics = pipeline.statistics()
    assert (statistics.pushed, statistics.applied, statistics.emitted) == (1, 1, 1)
    assert statistics.sealed_bundles == 0
    # Nothing is left to replay, so the bundle drains.
    while pipeline.step() != -1:
        pass
    pipeline.stop()
    (bundle,) = np.load(path)
    assert (bundle["count"], bundle["reason"], bundle["sealed_ts_ns"]) == (1, 3, 10**9)


def test_waiting_costs_no_time() -> None:
    hour_ns = 3600 * 10**9
    pipeline = Pipeline(ReplayIngress(recorded(24, gap_ns=hour_ns)), config=config())
    report = pipeline.run()
    assert report.elapsed_s >= 23 * 3600
    assert report.ledger.bundles["timeout"] == 23
    assert report.latency["hold"].count == 24
    assert report.latency["late"].max == 0


def test_a_bundle_is_sealed_at_its_deadline_to_the_nanosecond(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    records = recorded(4)
    records["ingress_ts_ns"] = [1_000, 1_499, 1_500, 9_000]
    ingress = ReplayIngress(records)
    Pipeline(ingress, CaptureOutput(path), config=config(bundle_timeout_ns=500)).run()
    bundles = np.load(path)
    assert bundles["count"].tolist() == [2, 1, 1]
    assert bundles["reason"].tolist() == [1, 1, 3]
    assert bundles["sealed_ts_ns"][:2].tolist() == [1_500, 2_000]


def test_an_idle_seal_waits_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    ingress = ReplayIngress(recorded(40, gap_ns=1_000))
    report = Pipeline(ingress, CaptureOutput(path), config=config(seal="idle")).run()
    assert report.ledger.bundles == {"size": 0, "timeout": 0, "idle": 40, "drain": 0}
    assert report.latency["hold"].max == 0


def test_the_same_replay_gives_the_same_bytes(tmp_path: Path) -> None:
    captures = []
    for number in range(2):
        path = tmp_path / f"{number}.npy"
        flow = PoissonIngress(rate=200_000, seed=9)
        Pipeline(flow, CaptureOutput(path), config=config()).run(duration=0.01)
        bundles = np.load(path)
        assert len(bundles) > 10
        again = tmp_path / f"{number}-replayed.npy"
        Pipeline(ReplayIngress(inside(bundles)), CaptureOutput(again), config=config()).run()
        captures.append((path.read_bytes(), again.read_bytes()))
    assert captures[0] == captures[1]


def test_a_replay_on_a_virtual_clock_repeats_the_run_that_it_recorded(tmp_path: Path) -> None:
    first, second = tmp_path / "first.npy", tmp_path / "second.npy"
    Pipeline(ReplayIngress(recorded(1_000)), CaptureOutput(first), config=config()).run()
    Pipeline(ReplayIngress(inside(np.load(first))), CaptureOutput(second), config=config()).run()
    assert first.read_bytes() == second.read_bytes()


def test_a_duration_is_kept_on_the_virtual_clock() -> None:
    report = Pipeline(PoissonIngress(rate=50_000, seed=1), config=config()).run(duration=0.01)
    # To the last delivery, which an open bundle puts at the end itself.
    assert 0.0099 < report.elapsed_s <= 0.01
    assert 300 < report.ledger.generated < 700


def test_a_duration_that_no_virtual_clock_would_ever_reach_is_refused() -> None:
    pipeline = Pipeline(PoissonIngress(rate="max"), config=config())
    with pytest.raises(ConfigError, match="virtual"):
        pipeline.run(duration=0.001)


def test_statistics_know_the_time_on_a_virtual_clock() -> None:
    pipeline = Pipeline(PoissonIngress(rate=50_000, seed=1), config=config())
    for _ in range(200):
        pipeline.step()
    assert pipeline.clock.now() > 0
    assert pipeline.statistics().elapsed_s == pytest.approx(pipeline.clock.now() / 1e9)


# The ledger

on_fulls = st.sampled_from(["block", "drop"])


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("on_full", ["block", "drop"])
@pytest.mark.parametrize("seal", ["timeout", "idle"])
@pytest.mark.parametrize("capacity", [2, 4, 8])
def test_the_ledger_balances_through_the_smallest_rings(
    placement: str, on_full: str, seal: str, capacity: int, tmp_path: Path
) -> None:
    path = tmp_path / "out.npy"
    records = recorded(600)
    records["price"][::7] = -1
    pipeline = Pipeline(
        ReplayIngress(records, repeat=2),
        CaptureOutput(path),
        config=config(
            placement,
            on_full=on_full,
            seal=seal,
            transaction_capacity=capacity,
            bundle_capacity=capacity,
            bundle_timeout_ns=1_000,
        ),
    )
    report = pipeline.run()
    assert_adds_up(pipeline)
    ledger = report.ledger
    assert ledger.generated == 2 * 600 + 2
    assert ledger.rejected["price"] == sum(ledger.rejected.values())
    if on_full == "block":
        assert ledger.dropped == 0
        assert ledger.rejected["price"] == 2 * len(records[::7])
        wanted = np.delete(records["id"], np.s_[::7]).tolist()
        made = inside(np.load(path))
        assert made["id"][made["kind"] == Kind.ADD].tolist() == wanted * 2
    assert report.passed
    assert sum(ledger.bundles.values()) == len(np.load(path))


@settings(max_examples=60)
@given(
    count=st.integers(0, 300),
    gap_ns=st.integers(0, 3_000),
    on_full=on_fulls,
    seal=st.sampled_from(["timeout", "idle"]),
    transaction_capacity=st.sampled_from([2, 4, 8, 32, 4096]),
    bundle_capacity=st.sampled_from([2, 4, 8, 1024]),
    batch=st.sampled_from([1, 2, 3, 7, 256]),
    timeout_ns=st.integers(1, 50_000),
    steps=st.integers(0, 60),
)
def test_the_ledger_balances_wherever_the_run_is_stopped(
    *,
    count: int,
    gap_ns: int,
    on_full: Any,
    seal: Any,
    transaction_capacity: int,
    bundle_capacity: int,
    batch: int,
    timeout_ns: int,
    steps: int,
) -> None:
    pipeline = Pipeline(
        ReplayIngress(recorded(count, gap_ns=gap_ns)),
        config=config(
            on_full=on_full,
            seal=seal,
            transaction_capacity=transaction_capacity,
            bundle_capacity=bundle_capacity,
            batch=batch,
            bundle_timeout_ns=timeout_ns,
        ),
    )
    pipeline.start()
    for _ in range(steps):
        pipeline.step()
    pipeline.stop()
    assert_adds_up(pipeline)
    ledger = pipeline.ledger()
    assert ledger.pushed == ledger.delivered_transactions
    latency = pipeline.latency()
    assert latency["hold"].count == latency["transit"].count == ledger.emitted
    assert latency["total"].count == ledger.delivered_transactions
    assert latency["delivery"].count == ledger.delivered_bundles
    # On this clock time passes only from deadline to deadline.
    assert latency["hold"].max <= timeout_ns


def test_each_rejection_is_counted_by_its_reason() -> None:
    records = recorded(6)
    records["kind"][0] = 99
    records["side"][1] = 9
    records["market"][2] = 200
    records["price"][3] = 0
    records["kind"][4] = Kind.CANCEL
    pipeline = Pipeline(ReplayIngress(records), books=[Instrument()], config=config())
    report = pipeline.run()
    assert {reason: n for reason, n in report.ledger.rejected.items() if n} == {
        "kind": 1,
        "side": 1,
        "market": 1,
        "price": 1,
        "underflow": 1,
    }
    assert report.ledger.applied == 1
    assert any("rejected 1 records: underflow" in each for each in report.warnings)
    assert_adds_up(pipeline)


@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("idle", ["yield", "backoff"])
def test_every_transaction_is_delivered_once_and_in_order(
    placement: str, idle: str, tmp_path: Path
) -> None:
    path = tmp_path / "out.npy"
    records = recorded(3_000)
    Pipeline(ReplayIngress(records), CaptureOutput(path), config=config(placement, idle=idle)).run()
    out = inside(np.load(path))
    assert np.array_equal(out["id"], records["id"])
    assert np.array_equal(out["price"], records["price"])


# Lanes


@SHARED_BOOK
@pytest.mark.parametrize("lanes", [2, 4])
@pytest.mark.parametrize("placement", PLACEMENTS)
@pytest.mark.parametrize("capacity", [2, 8, 4096])
def test_lanes_write_one_book_and_lose_nothing(
    lanes: int, placement: str, capacity: int, tmp_path: Path
) -> None:
    path = tmp_path / "out.npy"
    each = 400
    book = OrderBook(writers=lanes, base_price=999_000, levels=2048)
    pipeline = Pipeline(
        [
            ReplayIngress(recorded(each, first_id=lane * each + 1, price=1_000_000 + lane % 2))
            for lane in range(lanes)
        ],
        CaptureOutput(path),
        books=book,
        config=config(placement, lanes=lanes, writers=lanes, transaction_capacity=capacity),
    )
    report = pipeline.run()
    assert_adds_up(pipeline)
    assert report.ledger.applied == lanes * each
    assert book.quantity(0, 1_000_000) + book.quantity(0, 1_000_001) == lanes * each
    ids = inside(np.load(path))["id"]
    assert sorted(ids.tolist()) == list(range(1, lanes * each + 1))
    for lane in range(lanes):
        mine = ids[(ids - 1) // each == lane]
        assert (np.diff(mine.astype(np.int64)) == 1).all()


@SHARED_BOOK
def test_lanes_of_flow_find_the_window_of_their_book() -> None:
    pipeline = Pipeline(
        [PoissonIngress(rate=100_000, seed=lane) for lane in range(2)],
        config=config(lanes=2, writers=2),
    )
    report = pipeline.run(duration=0.005)
    assert_adds_up(pipeline)
    assert report.ledger.rejected["out_of_window"] == 0


@pytest.mark.parametrize("writers", [1, pytest.param(2, marks=SHARED_BOOK)])
def test_the_book_of_a_recording_has_the_step_of_its_prices(writers: int) -> None:
    coarse, fine = MarketFlow(1, tick_size=400), MarketFlow(2, tick_size=500, market=7)
    recorded = np.concatenate([coarse.generate(5000), fine.generate(5000)])
    recorded["price"][-1] += 20
    pipeline = Pipeline(ReplayIngress(recorded), config=config(writers=writers))
    steps = {market: book.instrument.tick_size for market, book in pipeline.books.items()}
    assert steps == {0: 400, 7: 20}
    assert pipeline.run().ledger.rejected["off_tick"] == 0


def test_a_step_is_known_only_where_every_price_is() -> None:
    recorded = MarketFlow(1, tick_size=400).generate(100)
    both = [ReplayIngress(recorded), PoissonIngress(tick_size=1000)]
    pushed = [ReplayIngress(recorded), PushIngress()]
    for ingresses, step in ((both, 200), (pushed, 1)):
        lanes = PipelineConfig(placement="shared", lanes=2, writers=2)
        assert Pipeline(ingresses, config=lanes).books[0].instrument.tick_size == step


def test_a_book_of_one_writer_is_refused_to_several_lanes() -> None:
    with refused(ConfigError, field="books"):
        Pipeline(
            [PushIngress(), PushIngress()],
            books=OrderBook(),
            config=config("shared", lanes=2, writers=2),
        )


# Misuse


def test_the_number_of_ingresses_is_that_of_the_lanes() -> None:
    with refused(ConfigError, field="lanes", value=1):
        Pipeline([PushIngress(), PushIngress()])
    with refused(ConfigError, field="lanes", value=2):
        Pipeline(PushIngress(), config=config("shared", lanes=2, writers=2))
    with refused(ConfigError, field="lanes", value=1):
        Pipeline([])


@pytest.mark.parametrize("wrong", [None, 5, "flow.npy", orders(1), [orders(1)], DiscardOutput()])
def test_what_is_no_ingress_is_refused_by_name(wrong: Any) -> None:
    with refused(ConfigError, field="ingress"):
        Pipeline(wrong)


@pytest.mark.parametrize("wrong", ["out.npy", 5, BundleRing(2), PushIngress()])
def test_what_is_no_output_is_refused_by_name(wrong: Any) -> None:
    with refused(ConfigError, field="output"):
        Pipeline(ReplayIngress(orders(1)), wrong)


@pytest.mark.parametrize("wrong", [5, {"placement": "shared"}, "shared"])
def test_what_is_no_config_is_refused_by_name(wrong: Any) -> None:
    with refused(ConfigError, field="config"):
        Pipeline(ReplayIngress(orders(1)), config=wrong)


def test_an_ingress_for_two_lanes_is_refused() -> None:
    same = ReplayIngress(orders(1))
    with pytest.raises((PipelineError, ConfigError, BookError)):
        Pipeline([same, same], config=config(lanes=2, writers=2))


@pytest.mark.parametrize("parts", [(PushIngress, DiscardOutput), (PoissonIngress, PullOutput)])
def test_the_invoker_takes_no_part_that_python_drives(parts: Any) -> None:
    with refused(ConfigError, field="placement", value="invoker"):
        Pipeline(parts[0](), parts[1](), config=config())


def test_a_virtual_clock_needs_the_invoker() -> None:
    with pytest.raises(ConfigError, match="virtual"):
        Pipeline(PoissonIngress(), config=config("shared", clock="virtual"))


def depth_checks(position: int, market: int = 0) -> DepthChecks:
    return DepthChecks(
        position=np.array([position]),
        market=np.array([market], np.uint8),
        prices=np.array([[[1_000_000], [0]]]),
        quantities=np.array([[[position], [0]]]),
    )


def test_checks_need_a_replay_that_loses_nothing() -> None:
    with refused(ConfigError, field="checks"):
        Pipeline(PoissonIngress(), checks=depth_checks(1), config=config())
    with refused(ConfigError, field="on_full"):
        Pipeline(ReplayIngress(orders(2)), checks=depth_checks(1), config=config(on_full="drop"))
    with refused(ConfigError, field="checks"):
        Pipeline(ReplayIngress(orders(2)), checks=depth_checks(1, market=4), config=config())
    with refused(ConfigError, field="checks.position"):
        Pipeline(ReplayIngress(orders(2)), checks=depth_checks(3), config=config())


@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize("batch", [1, 3, 256])
def test_a_check_is_made_after_its_transaction_and_in_each_pass(repeat: int, batch: int) -> None:
    pipeline = Pipeline(
        ReplayIngress(orders(20), repeat=repeat),
        checks=depth_checks(11),
        config=config(batch=batch),
    )
    report = pipeline.run()
    assert report.verification == (repeat, 0, None)
    assert report.passed


def test_a_book_that_is_not_what_it_must_be_is_told_with_both_numbers() -> None:
    checks = depth_checks(11)
    checks.quantities[0, 0, 0] = 12
    report = Pipeline(ReplayIngress(orders(20)), checks=checks, config=config()).run()
    assert report.verification is not None
    assert report.verification.mismatched == 1
    text = report.verification.first_mismatch or ""
    assert "after transaction 11, market 0: bid level 0 is 11 at 100.0000" in text
    assert "expected 12 at 100.0000" in text
    assert not report.passed


def test_books_may_be_books_a_book_or_instruments() -> None:
    for books in (
        Books([Instrument(market=2), Instrument(market=5)]),
        [Instrument(market=2), Instrument(market=5)],
    ):
        pipeline = Pipeline(
            ReplayIngress(orders(4, market=[2, 5, 2, 5])), books=books, config=config()
        )
        assert pipeline.run().ledger.applied == 4
        assert pipeline.books[2].best_bid_quantity == 2
    book = OrderBook()
    Pipeline(ReplayIngress(orders(4)), books=book, config=config()).run()
    assert book.best_bid_quantity == 4


def test_the_markets_of_a_replay_are_found() -> None:
    pipeline = Pipeline(ReplayIngress(orders(4, market=[9, 0, 3, 9])), config=config())
    assert sorted(pipeline.books) == [0, 3, 9]
    assert pipeline.run().ledger.applied == 4


def test_books_without_any_book_are_refused() -> None:
    with pytest.raises((ConfigError, BookError)):
        Pipeline(ReplayIngress(orders(1)), books=[], config=config())


# The life of a pipeline


@pytest.mark.parametrize("placement", ["invoker", "shared"])
def test_a_pipeline_runs_once(placement: str) -> None:
    pipeline = Pipeline(ReplayIngress(orders(5)), config=config(placement))
    pipeline.run()
    with pytest.raises(PipelineError, match="runs once"):
        pipeline.start()
    with pytest.raises(PipelineError, match="runs once"):
        pipeline.run()


@pytest.mark.parametrize("placement", ["invoker", "shared"])
def test_a_stop_may_be_repeated_and_needs_no_start(placement: str) -> None:
    pipeline = Pipeline(ReplayIngress(orders(5)), config=config(placement))
    pipeline.stop()
    assert pipeline.state == "new"
    pipeline.start()
    assert pipeline.state == "running"
    pipeline.stop()
    pipeline.stop()
    assert pipeline.state == "stopped"


def test_a_report_comes_after_the_stop() -> None:
    pipeline = Pipeline(ReplayIngress(orders(5)), config=config())
    for _ in range(2):
        with pytest.raises(PipelineError, match="not been stopped"):
            pipeline.report()
        pipeline.step()
    pipeline.stop()
    assert pipeline.report().ledger.delivered_transactions == 5


def test_a_pipeline_that_never_started_has_nothing_to_tell() -> None:
    pipeline = Pipeline(PushIngress(), config=config("shared"))
    assert pipeline.statistics() == (0.0,) + (0,) * 9
    assert pipeline.ledger().balanced
    assert {name: each.count for name, each in pipeline.latency().items()} == dict.fromkeys(
        ["late", "transit", "hold", "delivery", "total"], 0
    )
    assert not pipeline.wait(0)


def test_only_the_invoker_is_stepped() -> None:
    pipeline = Pipeline(PushIngress(), config=config("shared"))
    with pytest.raises(PipelineError, match="its threads step"):
        pipeline.step()


def test_the_invoker_is_not_waited_for() -> None:
    pipeline = Pipeline(ReplayIngress(orders(5)), config=config())
    pipeline.start()
    with pytest.raises(PipelineError, match="invoker"):
        pipeline.wait(0)
    pipeline.stop()


def test_a_finite_run_ends_by_itself() -> None:
    pipeline = Pipeline(ReplayIngress(orders(500)), config=config("paired"))
    pipeline.start()
    assert pipeline.wait()
    assert pipeline.state == "running"
    pipeline.stop()
    assert_adds_up(pipeline)


def test_a_wait_gives_up_at_its_timeout() -> None:
    with Pipeline(PushIngress(), config=config("shared")) as pipeline:
        assert not pipeline.wait(0)
        assert not pipeline.wait(0.001)


def test_a_block_that_raises_stops_the_pipeline_and_raises() -> None:
    ingress = PushIngress()
    pipeline = Pipeline(ingress, config=config("shared"))
    with pytest.raises(KeyError), pipeline:
        ingress.push(orders(20))
        raise KeyError
    assert pipeline.state == "stopped"
    assert_adds_up(pipeline)
    assert pipeline.report().ledger.delivered_transactions == 20


def test_a_block_that_raises_keeps_its_error_and_notes_the_other(tmp_path: Path) -> None:
    ingress = PushIngress()
    output = CaptureOutput(os.devnull)
    with (
        pytest.raises(KeyError) as raised,
        Pipeline(ingress, output, config=config("shared")),
    ):
        raise KeyError
    assert any("while the pipeline was stopped" in note for note in raised.value.__notes__)


def test_statistics_may_be_read_while_it_runs_and_never_go_back() -> None:
    ingress = PoissonIngress(rate="max", seed=2)
    with Pipeline(ingress, config=config("shared")) as pipeline:
        before = pipeline.statistics()
        while before.delivered_transactions < 2_000:
            now = in_another_thread(pipeline.statistics)
            assert all(b <= n for b, n in zip(before, now, strict=True))
            assert now.delivered_transactions <= pipeline.statistics().pushed
            before = now
        assert pipeline.latency()["total"].count >= 2_000
    assert pipeline.statistics().delivered_transactions == pipeline.ledger().pushed


def test_while_it_runs_the_books_are_not_for_others_to_write() -> None:
    pipeline = Pipeline(PushIngress(), config=config("shared"))
    book = pipeline.books[0]
    book.add(0, 100, 1)
    with pipeline:
        with pytest.raises(BookError, match="another thread"):
            book.add(0, 100, 1)
        assert book.best_bid == 100
    book.add(0, 100, 1)
    assert book.best_bid_quantity == 2


def test_every_book_of_a_running_pipeline_answers_its_readers() -> None:
    """They take turns to be looked after, one at a time; these get no records of their own."""
    instruments = [Instrument(name=str(market), market=market) for market in range(7)]
    with Pipeline(PushIngress(), books=Books(instruments), config=config("shared")) as pipeline:
        for book in pipeline.books.values():
            assert not book.depth(3)["bid_quantity"].any()
            assert book.statistics().mailbox_fills == 1


def test_two_pipelines_do_not_write_one_book() -> None:
    book = OrderBook()
    first_ingress = PushIngress()
    second = Pipeline(PushIngress(), books=book, config=config("shared"))
    with Pipeline(first_ingress, books=book, config=config("shared")) as first:
        with pytest.raises(BookError, match="another thread"):
            second.start()
        assert second.state == "stopped"
        first_ingress.push(orders(10))
    assert_adds_up(first)
    assert book.best_bid_quantity == 10
    third = Pipeline(ReplayIngress(orders(1)), books=book, config=config())
    third.run()
    assert book.best_bid_quantity == 11


def test_a_thread_that_cannot_be_pinned_is_an_error_with_its_cause_if_strict(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    imagined = UsableCpus(allowed=(0, 1023), quota=None, count=2, why="imagined")
    monkeypatch.setattr(module, "usable_cpus", lambda: imagined)
    pipeline = Pipeline(
        PushIngress(),
        config=config({"orderbook": 0, "bundle": 1023, "output": 1023, "ingress": 0}, strict=True),
    )
    if not imagined.can_pin or sys.platform != "linux":
        pytest.skip("threads cannot be pinned here")
    with pytest.raises(PipelineError, match="cannot be pinned to cpu 1023") as raised:
        pipeline.start()
    assert isinstance(raised.value.__cause__, OSError)
    assert pipeline.state == "stopped"
    assert not any(thread.name.startswith("velox") for thread in threading.enumerate())
    pipeline.books[0].add(0, 100, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="threads cannot be pinned here")
def test_a_thread_that_cannot_be_pinned_runs_unpinned_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = min(os.sched_getaffinity(0))
    imagined = UsableCpus(allowed=(first, 1023), quota=None, count=2, why="imagined")
    monkeypatch.setattr(module, "usable_cpus", lambda: imagined)
    placed = {"orderbook": first, "bundle": 1023, "output": 1023, "ingress": first}
    pipeline = Pipeline(PoissonIngress(rate=1000, seed=1), config=config(placed, idle="backoff"))
    assert [each.cpu for each in pipeline.plan.runners] == [first, 1023]
    report = pipeline.run(0.05)
    assert report.ledger.balanced
    assert pipeline.pins_refused
    assert report.to_dict()["cpus"] == [first, None]
    [warning] = [each for each in report.warnings if "pinned" in each]
    assert "velox-bundle cannot be pinned to CPU 1023 (Invalid argument)" in warning
    assert warning in report.to_dict()["warnings"]


def test_without_pins_no_thread_is_pinned_and_nothing_is_warned_of() -> None:
    pipeline = Pipeline(
        PoissonIngress(rate=1000, seed=1), config=config("shared", pin=False, idle="backoff")
    )
    report = pipeline.run(0.05)
    assert report.to_dict()["cpus"] == [None]
    assert not [each for each in report.warnings if "pin" in each]
    for named in ({"cpus": (0,)}, {"placement": dict.fromkeys(stage_names(1), 0)}):
        with refused(ConfigError, field="pin", value=False):
            PipelineConfig(pin=False, **named)  # type: ignore[arg-type]


def test_several_threads_may_stop_a_pipeline_at_once() -> None:
    for _ in range(20):
        output = PullOutput()
        pipeline = Pipeline(
            PoissonIngress(rate=50_000, seed=1), output, config=config("shared", idle="backoff")
        )
        pipeline.start()
        errors: list[BaseException] = []

        def stop(pipeline: Pipeline = pipeline, errors: list[BaseException] = errors) -> None:
            try:
                pipeline.stop()
                assert pipeline.report().ledger.balanced
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=stop) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors


def test_a_program_that_forgets_to_stop_can_still_end() -> None:
    program = """if True:
        import velox
        config = velox.PipelineConfig(placement="shared", idle="backoff")
        velox.Pipeline(velox.PushIngress(), config=config).start()
    """
    ended = subprocess.run([sys.executable, "-c", program], timeout=5, check=False)
    assert ended.returncode == 0


def test_an_interrupt_does_not_keep_a_stop_from_delivering_everything() -> None:
    output = PullOutput()
    options = config("shared", transaction_capacity=64, bundle_capacity=2)
    pipeline = Pipeline(PoissonIngress(rate="max", seed=1), output, config=options)
    pipeline.start()
    pass_the_time_until(lambda: pipeline.ingresses[0].ring.statistics().full > 0)
    polling, let_go = threading.Event(), threading.Event()

    def hold_a_poll_open() -> None:
        with output.poll():
            polling.set()
            let_go.wait()

    def interrupt(number: int, frame: object) -> None:
        let_go.set()
        raise KeyboardInterrupt

    holder = threading.Thread(target=hold_a_poll_open)
    holder.start()
    polling.wait()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        with pytest.raises(KeyboardInterrupt):
            pipeline.stop()
    finally:
        signal.signal(signal.SIGALRM, before)
        holder.join()
    at_work = [thread for thread in threading.enumerate() if thread.name.startswith("velox")]
    while any(thread.is_alive() for thread in at_work):
        output.drain()
    assert at_work == []
    assert pipeline.state == "stopped"
    assert_adds_up(pipeline)


@pytest.mark.parametrize("placement", ["shared", "paired", "dedicated"])
def test_an_interrupted_run_delivers_what_is_under_way(placement: str) -> None:
    pipeline: Pipeline

    @STRATEGY_CTYPE
    def slow(record: int, book: int, out: int, room: int, user_data: int | None) -> int:
        """Take what is under way to the interrupt, and most of it beyond the stop."""
        while not pipeline._control.stopped:
            os.sched_yield()
        for _ in range(100):
            os.sched_yield()
        ctypes.memmove(out, record, TRANSACTION_DTYPE.itemsize)
        return 1

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    pipeline = Pipeline(
        ReplayIngress(orders(5_000)),
        strategy=slow,
        config=config(placement, transaction_capacity=64),
    )
    pipeline.start()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(KeyboardInterrupt):
            pipeline.run()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert not any(thread.name.startswith("velox") for thread in threading.enumerate())
    assert_adds_up(pipeline)
    assert pipeline.report().ledger.delivered_transactions >= 64


# Parts that Python drives


def test_threads_take_turns_to_push() -> None:
    ingress = PushIngress()
    with Pipeline(ingress, config=config("shared", transaction_capacity=8)) as pipeline:
        for number in range(8):
            pushed = in_another_thread(
                lambda first=100 * number + 1: ingress.push(orders(100, first_id=first))
            )
            assert pushed == 100
    assert_adds_up(pipeline)
    assert pipeline.ledger().delivered_transactions == 800


def test_two_threads_that_push_at_once_are_told_and_lose_nothing() -> None:
    ingress = PushIngress()
    pushed, refused = [0, 0], [0, 0]

    def feed(number: int) -> None:
        while pushed[number] < 2_000:
            try:
                pushed[number] += ingress.push(orders(100))
            except PipelineError:
                refused[number] += 1

    with Pipeline(ingress, config=config("shared", transaction_capacity=8)) as pipeline:
        threads = [threading.Thread(target=feed, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert_adds_up(pipeline)
    assert pipeline.ledger().pushed == sum(pushed) == 4_000


def test_a_stop_ends_a_push_that_waits() -> None:
    ingress, output = PushIngress(), PullOutput()
    pipeline = Pipeline(
        ingress,
        output,
        config=config("shared", transaction_capacity=2, bundle_capacity=2, seal="idle"),
    )
    pipeline.start()
    outcome: list[int] = []
    thread = threading.Thread(target=lambda: outcome.append(ingress.push(orders(10_000))))
    thread.start()
    pass_the_time_until(lambda: pipeline.statistics().sealed_bundles == 2)
    pipeline.stop()
    thread.join()
    assert outcome == [pipeline.ledger().pushed]
    assert outcome[0] < 10_000
    assert_adds_up(pipeline)
    with pytest.raises(PipelineError, match="stopped"):
        ingress.push(orders(1))
    total = 0
    while not output.exhausted:
        with output.poll(1) as bundles:
            total += int(bundles["count"].sum())
    assert total == outcome[0]


def test_a_feed_that_closes_ends_the_run() -> None:
    ingress = PushIngress()
    pipeline = Pipeline(ingress, config=config("paired"))
    pipeline.start()
    ingress.push(orders(33))
    ingress.close()
    assert pipeline.wait()
    pipeline.stop()
    assert pipeline.report().ledger.delivered_transactions == 33


def test_a_stop_keeps_for_later_polls_what_nobody_polled() -> None:
    output = PullOutput()
    pipeline = Pipeline(
        ReplayIngress(orders(5_000)), output, config=config("shared", bundle_capacity=4)
    )
    pipeline.start()
    pass_the_time_until(lambda: pipeline.statistics().sealed_bundles == 4)
    pipeline.stop()
    assert_adds_up(pipeline)
    assert not output.exhausted
    numbers: list[int] = []
    for wanted in itertools.cycle([1, 3, None, 2]):
        if output.exhausted:
            break
        with output.poll(wanted) as bundles:
            numbers += inside(bundles)["id"].tolist()
    assert numbers == list(range(1, pipeline.ledger().pushed + 1))


# Reports


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_report_is_ready_for_json(placement: str) -> None:
    report = Pipeline(ReplayIngress(orders(50)), config=config(placement)).run()
    again = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert again["ledger"]["balanced"] is True
    assert again["placement"] == placement
    assert set(again["latency_ns"]) == {"late", "transit", "hold", "delivery", "total"}
    assert set(again["full"]) == {"ingress", "orderbook", "bundle"}


def test_the_throughput_does_not_count_the_time_after_the_last_delivery() -> None:
    pipeline = Pipeline(ReplayIngress(recorded(101, gap_ns=10_000_000)), config=config())
    pipeline.start()
    while pipeline.step() != -1:
        pass
    pipeline.clock.advance(10**10)
    pipeline.stop()
    assert pipeline.report().elapsed_s == pytest.approx(1.0)


def test_what_was_dropped_is_a_warning_with_what_to_do_about_it() -> None:
    ingress = PushIngress()
    options = config("shared", on_full="drop", transaction_capacity=2)
    with Pipeline(ingress, config=options) as pipeline:
        while ingress.dropped == 0:
            assert ingress.push(orders(1_000)) >= 0
    assert_adds_up(pipeline)
    assert any("transaction_capacity" in each for each in pipeline.report().warnings)


def test_a_failure_is_raised_by_run_and_the_report_is_there_all_the_same(tmp_path: Path) -> None:
    pipeline = Pipeline(ReplayIngress(orders(50)), CaptureOutput(os.devnull), config=config())
    with pytest.raises(VeloxError):
        pipeline.run()
    report = pipeline.report()
    assert report.ledger.balanced
    assert report.ledger.delivered_transactions == 50


def test_errors_are_of_velox_and_of_the_kind_that_python_expects() -> None:
    assert issubclass(CaptureError, OSError)
    assert issubclass(PipelineError, RuntimeError)
    assert issubclass(ConfigError, ValueError)


def test_an_interpreter_that_exits_ends_a_pipeline_that_still_runs(tmp_path: Path) -> None:
    """A run of its own: it needs an interpreter that exits."""
    program = (
        "import sys, velox\n"
        "capture = velox.CaptureOutput(sys.argv[1])\n"
        "pipeline = velox.Pipeline(velox.PoissonIngress('max', 1), capture)\n"
        "pipeline.start()\n"
        "while pipeline.statistics().delivered_bundles == 0:\n"
        "    pass\n"
    )
    path = tmp_path / "capture.npy"
    ended = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(np.load(path)) > 0


@pytest.mark.parametrize("attempt", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_pipeline_is_neither_copied_nor_pickled(attempt: Any) -> None:
    pipeline = Pipeline(ReplayIngress(orders(4)), DiscardOutput(), config=config())
    with pytest.raises(TypeError, match="a Pipeline has threads and rings of its own"):
        attempt(pipeline)
