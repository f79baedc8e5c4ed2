from __future__ import annotations

import os

import pytest

from tests.support import refused
from velox.core.clock import Clock
from velox.core.histogram import LatencyHistogram
from velox.errors import ConfigError, PipelineError
from velox.runtime import hiccups
from velox.runtime.gaps import shortest_step, watch
from velox.runtime.hiccups import Hiccups, measure_hiccups
from velox.runtime.stage import Control

can_pin = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system cannot pin threads to CPUs"
)


@pytest.mark.parametrize("source", ["auto", "kernel"])
def test_every_step_is_a_gap_where_every_step_counts(source: str) -> None:
    gaps = LatencyHistogram()
    elapsed_ns, taken_ns = watch(
        Clock(source), gaps, Control(), threshold_ns=0, duration_ns=1_000_000
    )
    assert elapsed_ns == taken_ns >= 1_000_000
    assert gaps.count > 1
    assert gaps.max <= elapsed_ns


def test_no_step_is_a_gap_where_none_is_long_enough() -> None:
    gaps = LatencyHistogram()
    elapsed_ns, taken_ns = watch(
        Clock(), gaps, Control(), threshold_ns=2**63, duration_ns=1_000_000
    )
    assert elapsed_ns >= 1_000_000
    assert (taken_ns, gaps.count) == (0, 0)


def test_the_gaps_are_those_over_the_threshold_and_add_up_to_what_was_taken() -> None:
    clock, gaps = Clock(), LatencyHistogram()
    threshold_ns = 2 * shortest_step(clock)
    elapsed_ns, taken_ns = watch(
        clock, gaps, Control(), threshold_ns=threshold_ns, duration_ns=20_000_000
    )
    assert 0 <= taken_ns <= elapsed_ns
    if gaps.count:
        assert threshold_ns <= gaps.min <= gaps.max <= taken_ns
        # The mean takes each value at the middle of its bucket, which is less than 1 % wide.
        assert gaps.mean * gaps.count == pytest.approx(taken_ns, rel=0.01)


def test_a_stop_ends_the_watch() -> None:
    control = Control()
    control.stop()
    assert watch(Clock(), LatencyHistogram(), control, threshold_ns=1, duration_ns=2**64 - 1) == (
        0,
        0,
    )


def test_a_virtual_clock_has_no_gaps_to_look_for() -> None:
    with refused(ConfigError, field="clock", value="virtual"):
        watch(Clock("virtual"), LatencyHistogram(), Control(), threshold_ns=1, duration_ns=1)
    with refused(ConfigError, field="clock", value="virtual"):
        shortest_step(Clock("virtual"))
    with refused(ConfigError, field="clock", value="virtual"):
        measure_hiccups([None], 0.001, clock=Clock("virtual"))


def test_the_shortest_step_is_at_least_a_nanosecond() -> None:
    assert shortest_step(Clock()) >= 1
    assert shortest_step(Clock(), 0) == 1


@can_pin
def test_every_usable_cpu_is_looked_at_once() -> None:
    mine = os.sched_getaffinity(0)
    found = measure_hiccups(duration=0.01)
    assert [each.cpu for each in found] == sorted(mine)
    assert os.sched_getaffinity(0) == mine
    for each in found:
        assert each.elapsed_s >= 0.01
        assert 0.0 <= each.taken_share <= 1.0
        assert each.threshold_ns >= hiccups.THRESHOLD_STEPS


@can_pin
def test_the_cpus_asked_for_are_looked_at_in_their_order() -> None:
    cpu = max(os.sched_getaffinity(0))
    assert [each.cpu for each in measure_hiccups([None, cpu, cpu], 0.001)] == [None, cpu]


@can_pin
@pytest.mark.parametrize(
    "cpus",
    [[], [99_999]],
)
def test_cpus_that_cannot_be_looked_at_are_refused(cpus: list[int]) -> None:
    with refused(ConfigError, field="cpus", value=cpus):
        measure_hiccups(cpus, 0.001)


@pytest.mark.parametrize("duration", [0, -1, float("nan"), float("inf"), 2e9, "1"])
def test_a_duration_that_is_none_is_refused(duration: float) -> None:
    with refused(ConfigError, field="duration"):
        measure_hiccups([None], duration)


@can_pin
def test_a_thread_that_cannot_be_pinned_ends_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: int, cpus: set[int]) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "sched_setaffinity", refuse)
    cpu = min(os.sched_getaffinity(0))
    with pytest.raises(PipelineError, match=f"cannot be pinned to CPU {cpu}"):
        measure_hiccups([None, cpu], 3600.0)


def test_rates_and_shares_are_of_the_time_that_was_looked_at() -> None:
    gaps = LatencyHistogram()
    for _ in range(10):
        gaps.record(1_000_000)
    found = Hiccups(cpu=3, threshold_ns=160, elapsed_s=0.5, taken_s=0.01, gaps=gaps)
    assert (found.gaps_per_s, found.taken_share) == (20.0, 0.02)
    assert found.to_dict() == {
        "cpu": 3,
        "threshold_ns": 160,
        "elapsed_s": 0.5,
        "taken_share": 0.02,
        "gaps_per_s": 20.0,
        "gap_ns": gaps.to_dict(),
    }
    unlooked = Hiccups(cpu=None, threshold_ns=160, elapsed_s=0.0, taken_s=0.0, gaps=gaps)
    assert (unlooked.gaps_per_s, unlooked.taken_share) == (0.0, 0.0)


def test_what_found_no_gap_has_no_lengths_of_them() -> None:
    found = Hiccups(cpu=0, threshold_ns=160, elapsed_s=0.5, taken_s=0.0, gaps=LatencyHistogram())
    names = ("p50", "p90", "p99", "p99_9", "max")
    assert found.to_dict()["gap_ns"] == {"count": 0, **dict.fromkeys(names)}
