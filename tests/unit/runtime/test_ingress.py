"""Ingresses: the records that each pushes, their due times, and the counters."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import Array, in_another_thread, orders, pass_the_time_until, refused
from velox import (
    BUNDLE_DTYPE,
    TRANSACTION_DTYPE,
    BundleRing,
    Clock,
    Ingress,
    Kind,
    Pipeline,
    PipelineConfig,
    PoissonIngress,
    PullOutput,
    PushIngress,
    ReplayIngress,
    TransactionRing,
    validate,
)
from velox.errors import ConfigError, PipelineError, RecordError
from velox.runtime.bundle_stage import BundleStage
from velox.runtime.runner import Runner
from velox.runtime.stage import Control

START_NS = 1_000_000


class Bench:
    """One ingress on a virtual clock, stepped by hand into a ring that the test empties."""

    def __init__(self, ingress: Ingress, *, capacity: int = 64, **options: Any) -> None:
        self.ingress = ingress
        self.clock = Clock("virtual")
        self.clock.set(START_NS)
        self.control = Control()
        self.ring = TransactionRing(capacity)
        ingress.attach(self.ring, self.clock, self.control, **options)
        ingress.begin()
        self.runner = Runner("bench", [ingress], self.clock) if ingress.driven else None

    def step(self) -> int:
        assert self.runner is not None
        return self.runner.step()

    def counts(self) -> tuple[int, int, int]:
        return self.ingress.generated, self.ingress.pushed, self.ingress.dropped

    def pump(self, count: int | None = None) -> Array:
        """Step until the ingress has ended, or `count` transactions came, emptying the ring."""
        taken = []
        total = 0
        while self.step() != -1 and (count is None or total < count):
            taken.append(self.ring.pop())
            total += len(taken[-1])
        taken.append(self.ring.pop())
        return np.concatenate(taken)


# Poisson


def test_the_same_seed_gives_the_same_transactions() -> None:
    first, again = (Bench(PoissonIngress(rate=1e6, seed=5)).pump(500) for _ in range(2))
    assert first.tobytes() == again.tobytes()
    other = Bench(PoissonIngress(rate=1e6, seed=6)).pump(500)
    assert first.tobytes() != other.tobytes()


def test_the_ring_and_the_batch_do_not_change_what_is_generated() -> None:
    wide = Bench(PoissonIngress(rate=1e6, seed=5), capacity=4096).pump(300)[:300]
    narrow = Bench(PoissonIngress(rate=1e6, seed=5), capacity=2, batch=1).pump(300)[:300]
    assert wide.tobytes() == narrow.tobytes()


def test_each_transaction_is_due_an_exponential_time_after_the_one_before() -> None:
    records = Bench(PoissonIngress(rate=1e6, seed=5), capacity=4096).pump(20_000)
    validate(records)
    due = records["ingress_ts_ns"].astype(np.int64)
    gaps = np.diff(due)
    assert (gaps >= 0).all()
    assert due[0] >= START_NS
    # The mean of n exponential gaps is within 5 of its standard deviations.
    assert abs(gaps.mean() - 1_000) < 5 * 1_000 / len(gaps) ** 0.5
    assert abs(gaps.std() - 1_000) < 50


def test_a_late_generator_keeps_the_due_times_and_says_how_late_it_was() -> None:
    punctual = Bench(PoissonIngress(rate=1e6, seed=5)).pump(50)[:50]
    bench = Bench(PoissonIngress(rate=1e6, seed=5))
    bench.step()
    bench.clock.set(START_NS + 10_000_000)
    bench.step()
    late = bench.ring.pop()
    shared = min(len(late), 50)
    assert late[:shared].tobytes() == punctual[:shared].tobytes()
    lateness = bench.clock.now() - late["ingress_ts_ns"].astype(np.int64)
    assert bench.ingress.late.count == len(late)
    assert bench.ingress.late.max == lateness.max()
    assert bench.ingress.late_count == (lateness > 1_000).sum() == len(late)
    assert bench.ingress.behind_ns > 9_000_000


def test_what_is_due_waits_for_room_under_block() -> None:
    bench = Bench(PoissonIngress(rate=1e6, seed=5), capacity=2, on_full="block")
    bench.step()
    bench.clock.set(START_NS + 1_000_000)
    assert bench.step() == 2
    assert bench.step() == 0
    assert bench.counts() == (2, 2, 0)
    first = bench.ring.pop()
    assert bench.step() == 2
    both = np.concatenate([first, bench.ring.pop()])
    assert both.tobytes() == Bench(PoissonIngress(rate=1e6, seed=5)).pump(4)[:4].tobytes()


def test_the_newest_is_dropped_and_counted_under_drop() -> None:
    bench = Bench(PoissonIngress(rate=1e6, seed=5), capacity=2, on_full="drop", batch=10)
    bench.step()
    bench.clock.set(START_NS + 1_000_000)
    assert bench.step() == 10
    assert bench.step() == 10
    assert bench.counts() == (20, 2, 18)
    kept = bench.ring.pop()
    assert bench.step() == 10
    assert bench.counts() == (30, 4, 26)
    again = bench.ring.pop()
    every = Bench(PoissonIngress(rate=1e6, seed=5)).pump(30)
    assert kept.tobytes() == every[:2].tobytes()
    assert again.tobytes() == every[20:22].tobytes()


@pytest.mark.parametrize("capacity", [2, 4, 8, 64])
def test_a_ring_that_wraps_is_not_mistaken_for_a_full_one(capacity: int) -> None:
    bench = Bench(PoissonIngress(rate=1e6, seed=5), capacity=capacity, on_full="drop", batch=1)
    bench.step()
    bench.clock.set(START_NS + 1_000_000)
    for _ in range(100):
        assert bench.step() == 1
        assert len(bench.ring.pop()) == 1
    assert bench.counts() == (100, 100, 0)


@pytest.mark.parametrize("on_full", ["block", "drop"])
def test_unpaced_flow_is_due_when_there_is_room(on_full: str) -> None:
    bench = Bench(PoissonIngress(rate="max", seed=5), capacity=8, on_full=on_full, batch=4)
    assert [bench.step() for _ in range(3)] == [4, 4, 0 if on_full == "block" else 4]
    assert bench.counts() == ((8, 8, 0) if on_full == "block" else (12, 8, 4))
    records = bench.ring.pop()
    assert (records["ingress_ts_ns"] == START_NS).all()
    assert bench.ingress.late.max == 0
    assert bench.ingress.behind_ns == 0


def test_open_loop_flow_drops_by_default_and_unpaced_flow_blocks() -> None:
    assert PoissonIngress(rate=10).default_on_full == "drop"
    assert PoissonIngress(rate="max").default_on_full == "block"
    assert ReplayIngress(orders(1)).default_on_full == "block"
    assert PushIngress().default_on_full == "block"


@pytest.mark.parametrize(
    "rate", [0, 0.5, -1, True, float("nan"), float("inf"), 1e10, "fast", None, [1]]
)
def test_a_rate_that_no_clock_can_pace_is_refused(rate: Any) -> None:
    with refused(ConfigError, field="rate"):
        PoissonIngress(rate=rate)


def test_a_stop_ends_the_flow_and_closes_its_ring() -> None:
    bench = Bench(PoissonIngress(rate=1e6, seed=5))
    bench.pump(10)
    before = bench.counts()
    bench.control.stop()
    assert bench.step() == -1
    assert bench.ring.closed
    assert bench.ingress.finished
    assert bench.counts() == before


def blocked_ingresses() -> list[Ingress]:
    recording = orders(20)
    recording["ingress_ts_ns"] = START_NS
    return [
        PoissonIngress(rate="max"),
        PoissonIngress(rate=1e9),
        ReplayIngress(recording),
        ReplayIngress(recording, speed=1.0),
    ]


@pytest.mark.parametrize("ingress", blocked_ingresses(), ids=["max", "1e9", "replay", "scheduled"])
def test_an_ingress_that_waits_for_room_has_no_deadline(ingress: Ingress) -> None:
    """A runner that backs off would wake for one that is past, again and again, and never sleep."""
    clock, control, ring = Clock("virtual"), Control(), TransactionRing(4)
    clock.set(START_NS)
    ingress.attach(ring, clock, control, on_full="block")
    to_bundle = TransactionRing(4)
    to_bundle.push(orders(1))
    bundles = BundleStage([to_bundle], BundleRing(), clock, timeout_ns=1_000_000)
    runner = Runner("bench", [ingress, bundles], clock)
    # A virtual clock goes on to the earliest deadline: the bundle's, if nothing else is due.
    for _ in range(100):
        runner.step()
    assert ingress.pushed == 4
    assert bundles.sealed["timeout"] == 1


# Replay


def recording(count: int, *, gap_ns: int = 1_000, start_ns: int = 5_000_000) -> Array:
    return orders(count, ingress_ts_ns=start_ns + gap_ns * np.arange(count, dtype=np.uint64))


@pytest.mark.parametrize("capacity", [2, 8, 1024])
@pytest.mark.parametrize("count", [1, 2, 3, 255, 256, 257, 1000])
def test_a_replay_pushes_its_recording_and_ends(capacity: int, count: int) -> None:
    bench = Bench(ReplayIngress(recording(count)), capacity=capacity)
    out = bench.pump()
    assert out.tobytes() == recording(count).tobytes()
    assert bench.counts() == (count, count, 0)
    assert bench.ring.closed
    assert bench.ingress.finished


@pytest.mark.parametrize("repeat", [1, 3])
def test_an_empty_recording_ends_at_once(repeat: int) -> None:
    bench = Bench(ReplayIngress(recording(0), repeat=repeat))
    assert bench.step() == -1
    assert bench.ring.closed
    assert bench.counts() == (0, 0, 0)


def test_on_a_virtual_clock_time_is_the_recordings_own() -> None:
    records = recording(5, gap_ns=70)
    bench = Bench(ReplayIngress(records, speed="max"))
    assert bench.clock.now() == records["ingress_ts_ns"][0]
    seen = []
    while bench.step() != -1:
        popped = bench.ring.pop()
        seen += [(int(each["id"]), bench.clock.now()) for each in popped]
    assert [number for number, _ in seen] == [1, 2, 3, 4, 5]
    assert [now for _, now in seen] == records["ingress_ts_ns"].tolist()


@pytest.mark.parametrize(("speed", "gaps"), [(1.0, 1_000), (2.0, 500), (0.5, 2_000)])
def test_the_speed_scales_the_recordings_gaps(speed: float, gaps: int) -> None:
    ring, clock = TransactionRing(64), Clock("kernel")
    ingress = ReplayIngress(recording(10), speed=speed)
    ingress.attach(ring, clock, Control())
    ingress.begin()
    Runner("bench", [ingress], clock).drive()
    due = ring.pop()["ingress_ts_ns"].astype(np.int64)
    assert np.diff(due).tolist() == [gaps] * 9


def test_time_does_not_go_back_where_the_recordings_does() -> None:
    records = recording(5)
    records["ingress_ts_ns"] = [5_000, 9_000, 6_000, 4_000, 10_000]
    out = Bench(ReplayIngress(records)).pump()
    base = int(out["ingress_ts_ns"][0])
    assert (out["ingress_ts_ns"] - base).tolist() == [0, 4_000, 4_000, 4_000, 5_000]


def test_the_books_are_cleared_before_each_pass_but_the_first() -> None:
    records = recording(3)
    records["market"] = [1, 7, 1]
    ingress = ReplayIngress(records, repeat=3)
    out = Bench(ingress).pump()
    assert ingress.pass_length == 3 + 4
    assert len(out) == 3 + 2 * 7
    kinds = out["kind"].tolist()
    one_pass = [Kind.CLEAR] * 4 + [Kind.ADD] * 3
    assert kinds == one_pass[4:] + one_pass * 2
    cleared = set(zip(out["market"][3:7].tolist(), out["side"][3:7].tolist(), strict=True))
    assert cleared == {(1, 0), (1, 1), (7, 0), (7, 1)}
    assert (np.diff(out["ingress_ts_ns"].astype(np.int64)) >= 0).all()
    validate(out)


def test_a_recording_that_clears_its_own_books_is_repeated_as_it_is() -> None:
    records = recording(5)
    records["kind"][:2] = Kind.CLEAR
    records["side"][:2] = [0, 1]
    ingress = ReplayIngress(records, repeat=2)
    assert ingress.pass_length == 5
    assert Bench(ingress).pump()["id"].tolist() == [1, 2, 3, 4, 5] * 2


def test_a_replay_drops_the_newest_where_it_is_told_to() -> None:
    bench = Bench(ReplayIngress(recording(10, gap_ns=0)), capacity=4, on_full="drop")
    assert bench.step() == 10
    assert bench.counts() == (10, 4, 6)
    assert bench.ring.pop()["id"].tolist() == [1, 2, 3, 4]
    assert bench.step() == -1


@given(
    capacity=st.sampled_from([1, 2, 4, 8, 16]),
    batch=st.integers(1, 20),
    pops=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    drop=st.booleans(),
)
def test_no_record_is_lost_uncounted(
    capacity: int, batch: int, pops: list[int], drop: bool
) -> None:
    bench = Bench(
        ReplayIngress(recording(60, gap_ns=0)),
        capacity=capacity,
        batch=batch,
        on_full="drop" if drop else "block",
    )
    out: list[int] = []
    for wanted in pops:
        moved = bench.step()
        assert moved <= batch
        out += bench.ring.pop(wanted)["id"].tolist()
        generated, pushed, dropped = bench.counts()
        assert generated == pushed + dropped
        assert pushed == len(out) + len(bench.ring)
    out += bench.ring.pop()["id"].tolist()
    assert out == sorted(set(out))
    if not drop:
        assert bench.counts()[2] == 0
        assert out == list(range(1, len(out) + 1))


def test_a_npy_file_is_mapped(tmp_path: Path) -> None:
    path = tmp_path / "flow.npy"
    np.save(path, recording(100))
    for given_path in (path, str(path)):
        assert Bench(ReplayIngress(given_path)).pump().tobytes() == recording(100).tobytes()
    mapped = np.load(path, mmap_mode="r")
    assert Bench(ReplayIngress(mapped)).pump().tobytes() == recording(100).tobytes()


def test_a_read_only_recording_is_fine() -> None:
    records = recording(10)
    records.setflags(write=False)
    assert len(Bench(ReplayIngress(records, repeat=2)).pump()) == 10 + 2 + 10


def test_a_replay_outlives_the_name_of_its_array() -> None:
    bench = Bench(ReplayIngress(recording(1000)))
    assert bench.pump().tobytes() == recording(1000).tobytes()


@pytest.mark.parametrize("speed", [0, -1, float("nan"), float("inf"), "fast", None])
def test_a_speed_that_is_no_positive_number_is_refused(speed: Any) -> None:
    with refused(ConfigError, field="speed"):
        ReplayIngress(orders(1), speed=speed)


@pytest.mark.parametrize("repeat", [0, -1, 1.5, True, None, "2"])
def test_a_repeat_that_is_no_count_is_refused(repeat: Any) -> None:
    with refused(ConfigError, field="repeat"):
        ReplayIngress(orders(1), repeat=repeat)


def test_a_repeat_may_be_a_numpy_integer() -> None:
    assert Bench(ReplayIngress(orders(5), repeat=np.int64(2))).ingress.repeat == 2


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros(3, BUNDLE_DTYPE), [1], None, 5])
def test_a_replay_takes_only_transactions(wrong: Any) -> None:
    with pytest.raises(RecordError):
        ReplayIngress(wrong)


def test_a_npy_file_of_something_else_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "other.npy", np.zeros(3))
    with pytest.raises(RecordError):
        ReplayIngress(tmp_path / "other.npy")


# Push


def test_a_push_goes_in_as_it_is_but_for_its_time() -> None:
    bench = Bench(PushIngress())
    assert bench.ingress.push(orders(10, ingress_ts_ns=7)) == 10
    out = bench.ring.pop()
    assert (out["ingress_ts_ns"] == START_NS).all()
    out = out.copy()
    out["ingress_ts_ns"] = 7
    assert out.tobytes() == orders(10, ingress_ts_ns=7).tobytes()
    assert bench.counts() == (10, 10, 0)


def test_a_push_may_bring_its_own_time() -> None:
    bench = Bench(PushIngress(stamp=False))
    bench.ingress.push(orders(3, ingress_ts_ns=START_NS - 500))
    assert bench.ring.pop()["ingress_ts_ns"].tolist() == [START_NS - 500] * 3
    assert (bench.ingress.late.min, bench.ingress.late.max) == (500, 500)


def test_a_push_across_the_wrap_of_the_ring_is_whole() -> None:
    bench = Bench(PushIngress(), capacity=8)
    bench.ingress.push(orders(5))
    bench.ring.pop()
    assert bench.ingress.push(orders(8, first_id=6)) == 8
    assert bench.ring.pop()["id"].tolist() == list(range(6, 14))


def test_under_drop_a_push_returns_at_once_and_counts_the_rest() -> None:
    bench = Bench(PushIngress(), capacity=4, on_full="drop")
    assert bench.ingress.push(orders(10)) == 4
    assert bench.counts() == (10, 4, 6)
    assert bench.ring.pop()["id"].tolist() == [1, 2, 3, 4]


def test_a_push_of_nothing_is_nothing() -> None:
    bench = Bench(PushIngress())
    assert bench.ingress.push(orders(0)) == 0
    assert bench.counts() == (0, 0, 0)


@pytest.mark.parametrize("timeout", [0, 0.0, 0.001])
def test_a_push_with_a_timeout_leaves_what_finds_no_room_to_its_caller(timeout: float) -> None:
    bench = Bench(PushIngress(), capacity=4)
    records = orders(10)
    assert bench.ingress.push(records, timeout) == 4
    assert bench.ingress.push(records[4:], timeout=timeout) == 0
    assert bench.counts() == (4, 4, 0)
    bench.ring.pop(2)
    assert bench.ingress.push(records[4:], timeout) == 2
    assert bench.ring.pop()["id"].tolist() == [3, 4, 5, 6]


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True])
def test_a_timeout_that_is_none_is_refused(timeout: Any) -> None:
    bench = Bench(PushIngress())
    with refused(ConfigError, field="timeout"):
        bench.ingress.push(orders(1), timeout=timeout)
    assert bench.counts() == (0, 0, 0)


def test_several_threads_may_take_turns() -> None:
    bench = Bench(PushIngress())
    for number in range(1, 5):
        pushed = in_another_thread(lambda n=number: bench.ingress.push(orders(1, first_id=n)))
        assert pushed == 1
    assert bench.ring.pop()["id"].tolist() == [1, 2, 3, 4]


def test_a_push_that_waits_is_a_turn_and_a_stop_ends_it() -> None:
    bench = Bench(PushIngress(), capacity=2)
    outcome: list[int] = []
    thread = threading.Thread(target=lambda: outcome.append(bench.ingress.push(orders(5))))
    thread.start()
    pass_the_time_until(lambda: bench.ingress.pushed == 2)
    with pytest.raises(PipelineError, match="another thread is pushing"):
        bench.ingress.push(orders(1))
    bench.control.stop()
    thread.join()
    assert outcome == [2]
    assert bench.counts() == (2, 2, 0)


def test_a_push_that_waits_keeps_the_moment_of_the_push() -> None:
    clock, ring = Clock("kernel"), TransactionRing(2)
    ingress = PushIngress()
    ingress.attach(ring, clock, Control())
    ingress.begin()
    thread = threading.Thread(target=lambda: ingress.push(orders(64)))
    thread.start()
    taken = []
    while sum(map(len, taken)) < 64:
        for _ in range(2_000):
            os.sched_yield()
        taken.append(ring.pop())
    thread.join()
    assert len(set(np.concatenate(taken)["ingress_ts_ns"].tolist())) == 1


def test_close_ends_the_flow_and_may_be_repeated() -> None:
    bench = Bench(PushIngress())
    bench.ingress.push(orders(1))
    bench.ingress.close()
    bench.ingress.close()
    assert bench.ring.closed
    with pytest.raises(PipelineError, match="stopped"):
        bench.ingress.push(orders(1))
    assert bench.counts() == (1, 1, 0)


def test_a_refused_push_leaves_the_turn_free() -> None:
    bench = Bench(PushIngress())
    with pytest.raises(RecordError):
        bench.ingress.push(np.zeros(3))
    assert bench.ingress.push(orders(1)) == 1


def test_without_a_pipeline_nothing_can_be_pushed_or_closed() -> None:
    with pytest.raises(PipelineError, match="no pipeline"):
        PushIngress().push(orders(1))
    with pytest.raises(PipelineError, match="no pipeline"):
        PushIngress().close()


def test_a_push_before_the_start_is_refused_rather_than_left_waiting() -> None:
    ingress = PushIngress()
    pipeline = Pipeline(ingress, PullOutput(), config=PipelineConfig(placement="shared"))
    assert pipeline.state == "new"
    with pytest.raises(PipelineError, match="not running"):
        ingress.push(orders(1))


# All


@pytest.mark.parametrize(
    "ingress",
    [PoissonIngress(), ReplayIngress(orders(1)), PushIngress()],
    ids=lambda each: type(each).__name__,
)
def test_an_ingress_belongs_to_one_pipeline(ingress: Ingress) -> None:
    Bench(ingress)
    with pytest.raises(PipelineError, match="already belongs to a pipeline"):
        Bench(ingress)


def test_the_dtype_of_what_is_pushed_is_that_of_the_records() -> None:
    assert Bench(ReplayIngress(orders(2))).pump().dtype == TRANSACTION_DTYPE
