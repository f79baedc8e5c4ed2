"""The clock: its sources, the line from ticks to nanoseconds, and its guarantees."""

from __future__ import annotations

import subprocess
import sys
import time
from threading import Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import refused
from velox.bench.probes import HandOver
from velox.core.clock import Clock, judge_tsc
from velox.errors import ConfigError

HERE = Clock()
COUNTERS = ("tsc", "cntvct")


def counter_clock() -> Clock:
    for source in COUNTERS:
        try:
            return Clock(source)
        except ConfigError:
            continue
    pytest.skip("this processor has no counter of constant rate")


@pytest.mark.parametrize("source", ["auto", "kernel"])
def test_a_reading_lies_between_two_of_the_kernel(source: str) -> None:
    clock = Clock(source)
    # A counter's line and the kernel's clock may part by some microseconds a second.
    allowed_ns = 1_000_000
    before = time.monotonic_ns()
    now = clock.now()
    after = time.monotonic_ns()
    assert before - allowed_ns <= now <= after + allowed_ns


@pytest.mark.parametrize("source", ["auto", "kernel", "virtual"])
def test_readings_of_one_thread_never_fall(source: str) -> None:
    clock = Clock(source)
    readings = [clock.now() for _ in range(10_000)]
    assert readings == sorted(readings)


@pytest.mark.parametrize("source", ["auto", "kernel"])
def test_time_passes(source: str) -> None:
    clock = Clock(source)
    start = clock.now()
    assert any(clock.now() > start for _ in range(100_000))


@pytest.mark.parametrize("source", ["auto", "kernel", "virtual"])
def test_a_message_is_never_received_before_it_was_sent(source: str) -> None:
    game = HandOver(Clock(source))
    throws = 5_000
    results: dict[int, tuple[int, int]] = {}
    other = Thread(target=lambda: results.update({1: game.play(1, throws)}))
    other.start()
    results[0] = game.play(0, throws)
    other.join()
    assert results == {0: (throws, 0), 1: (throws, 0)}


def test_a_player_without_a_partner_gives_up() -> None:
    assert HandOver(Clock("virtual")).play(0, 3, patience=10) == (0, 0)


def test_a_game_has_two_sides() -> None:
    with refused(ConfigError, field="side", value=2):
        HandOver(Clock("virtual")).play(2, 1)  # type: ignore[arg-type]


def test_auto_names_the_source_it_chose_and_why() -> None:
    assert HERE.source in (*COUNTERS, "kernel")
    assert len(HERE.reason) > 10


def test_an_unknown_source_is_refused_by_name() -> None:
    with refused(ConfigError, field="source", value="sundial"):
        Clock("sundial")  # type: ignore[call-overload]


def test_the_counter_of_another_architecture_is_refused() -> None:
    present = counter_clock().source
    for source in COUNTERS:
        if source != present:
            with refused(ConfigError, field="source"):
                Clock(source)


def test_the_kernel_can_be_asked_for() -> None:
    clock = Clock("kernel")
    assert (clock.source, clock.reason) == ("kernel", "requested")
    assert clock.frequency_hz == 1_000_000_000
    reading = clock.ticks()
    assert clock.ticks_to_ns(reading) == reading


@pytest.mark.parametrize(
    ("invariant", "system", "clocksource", "trusted", "word"),
    [
        (True, "linux", "tsc", True, "invariant"),
        (True, "linux", "kvm-clock", False, "kvm-clock"),
        (True, "linux", "hyperv_clocksource_tsc_page", False, "hyperv"),
        (True, "linux", "hpet", False, "hpet"),
        (True, "linux", None, False, "cannot be read"),
        (False, "linux", "tsc", False, "CPUID"),
        (True, "darwin", None, True, "invariant"),
        (False, "darwin", None, False, "CPUID"),
    ],
)
def test_the_tsc_is_trusted_where_the_kernel_keeps_time_with_it(
    invariant: bool, system: str, clocksource: str | None, trusted: bool, word: str
) -> None:
    verdict, reason = judge_tsc(invariant, system, clocksource)
    assert verdict is trusted
    assert word in reason


def test_a_tick_is_converted_without_rounding_error_over_years() -> None:
    clock = counter_clock()
    base = clock.ticks()
    start = clock.ticks_to_ns(base)
    for days in (1, 365, 3650):
        ticks = clock.frequency_hz * 86_400 * days
        elapsed = clock.ticks_to_ns(base + ticks) - start
        exact = 86_400 * days * 1_000_000_000
        # The frequency is rounded to 1 Hz, so that is all that they may differ by.
        assert abs(elapsed - exact) <= exact // clock.frequency_hz + 1


@given(step=st.integers(0, 2**50), further=st.integers(0, 2**50))
def test_the_line_from_ticks_to_nanoseconds_rises(step: int, further: int) -> None:
    clock = counter_clock()
    base = clock.ticks()
    first = clock.ticks_to_ns(base + step)
    second = clock.ticks_to_ns(base + step + further)
    assert first <= second
    # Floors of a sum and of its parts differ by one at most.
    part = clock.ticks_to_ns(base + further) - clock.ticks_to_ns(base)
    assert abs((second - first) - part) <= 1


@pytest.mark.parametrize("ticks", [-1, 2**64])
def test_what_no_clock_reads_is_no_reading(ticks: int) -> None:
    with refused(ConfigError, field="ticks", value=ticks):
        Clock().ticks_to_ns(ticks)


def test_a_counter_read_before_the_line_began_is_refused() -> None:
    with refused(ConfigError, field="ticks", value=0):
        counter_clock().ticks_to_ns(0)


@pytest.mark.parametrize("method", ["set", "advance", "ticks_to_ns"])
@pytest.mark.parametrize("value", [1.5, "1", None])
def test_a_time_that_is_no_integer_is_refused(method: str, value: Any) -> None:
    clock = Clock("virtual")
    with pytest.raises(ConfigError, match=f"= {value!r}: must be an integer"):
        getattr(clock, method)(value)
    assert clock.now() == 0


def test_clocks_of_one_process_share_one_line() -> None:
    first, second = Clock(), Clock()
    assert first.frequency_hz == second.frequency_hz
    reading = first.ticks()
    assert first.ticks_to_ns(reading) == second.ticks_to_ns(reading)


def test_a_clock_keeps_its_line_when_the_counter_is_measured_again() -> None:
    clock = counter_clock()
    reading = clock.ticks()
    ns, frequency = clock.ticks_to_ns(reading), clock.frequency_hz
    Clock.recalibrate()
    assert (clock.ticks_to_ns(reading), clock.frequency_hz) == (ns, frequency)
    again = Clock(clock.source)  # type: ignore[arg-type]
    assert abs(again.frequency_hz - frequency) < frequency // 1000
    assert abs(again.drift_ns()) < 1_000_000


IMPORT_THEN_MEASURE = """
from velox.core.clock import Clock
from velox.errors import ConfigError
imported = Clock("kernel").now()
clock = Clock()
try:
    clock.ticks_to_ns(-1)
except ConfigError as error:
    line_begins = int(str(error).rsplit(" ", 1)[1])
assert clock.source == "kernel" or clock.ticks_to_ns(line_begins) >= imported
"""


def test_importing_the_module_calibrates_nothing() -> None:
    subprocess.run([sys.executable, "-c", IMPORT_THEN_MEASURE], check=True)


def test_what_a_reading_costs_is_measured_once() -> None:
    clock = Clock()
    assert clock.overhead_ns > 0
    assert clock.overhead_ns == clock.overhead_ns
    assert clock.resolution_ns >= 1.0


def test_a_virtual_clock_stands_until_it_is_moved() -> None:
    clock = Clock("virtual")
    assert (clock.now(), clock.now()) == (0, 0)
    clock.advance(250)
    clock.advance(0)
    assert clock.now() == clock.ticks() == 250
    clock.set(2**64 - 1)
    assert clock.now() == 2**64 - 1


@pytest.mark.parametrize("ns", [99, -1, 2**64])
def test_a_virtual_clock_neither_runs_backwards_nor_over(ns: int) -> None:
    clock = Clock("virtual")
    clock.set(100)
    with refused(ConfigError, field="ns", value=ns):
        clock.set(ns)
    assert clock.now() == 100


def test_a_virtual_clock_does_not_advance_by_less_than_nothing() -> None:
    with refused(ConfigError, field="ns", value=-1):
        Clock("virtual").advance(-1)


@pytest.mark.parametrize("move", [lambda clock: clock.advance(1), lambda clock: clock.set(2**63)])
def test_only_a_virtual_clock_is_driven_by_hand(move: object) -> None:
    with refused(ConfigError, field="source", value="kernel"):
        move(Clock("kernel"))  # type: ignore[operator]


def test_a_virtual_clock_does_not_drift() -> None:
    with refused(ConfigError, field="source", value="virtual"):
        Clock("virtual").drift_ns()
