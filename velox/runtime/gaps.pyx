"""Gaps of the host: times at which a thread that only reads the clock did not run."""

from cython cimport unlikely
from libc.stdint cimport UINT64_MAX, uint64_t

from velox.core.clock cimport CLOCK_VIRTUAL, Clock, clock_now, clock_source
from velox.core.histogram cimport LatencyHistogram, histogram, histogram_record
from velox.runtime.stage cimport Control, control, control_stopped

from velox.errors import ConfigError

__all__ = ["shortest_step", "watch"]


cdef watch_result watch_clock(
        const clock_source *clock, const control *until, histogram *gaps, uint64_t threshold_ns,
        uint64_t duration_ns) noexcept nogil:
    cdef watch_result result
    cdef uint64_t start_ns = clock_now(clock)
    cdef uint64_t end_ns = start_ns + min(duration_ns, UINT64_MAX - start_ns)
    cdef uint64_t last_ns = start_ns
    cdef uint64_t now_ns
    result.taken_ns = 0
    while last_ns < end_ns and not control_stopped(until):
        now_ns = clock_now(clock)
        if unlikely(now_ns - last_ns >= threshold_ns):
            # The time that this takes counts towards the next step. It is far below the threshold.
            histogram_record(gaps, now_ns - last_ns)
            result.taken_ns += now_ns - last_ns
        last_ns = now_ns
    result.elapsed_ns = last_ns - start_ns
    return result


cdef int refuse_virtual(Clock clock) except -1:
    if clock.clock.kind == CLOCK_VIRTUAL:
        raise ConfigError(
            "it has no gaps but those that its driver makes", field="clock", value="virtual")
    return 0


def shortest_step(Clock clock not None, uint64_t readings=10_000):
    """The shortest time from one reading of a clock to the next that differs.

    Parameters
    ----------
    clock : Clock
        Not a virtual one.
    readings : int
        How many to make.

    Returns
    -------
    int
        Nanoseconds, at least 1: what a reading costs, or the clock's resolution if that is more.

    Raises
    ------
    ConfigError
        The clock is virtual.

    Notes
    -----
    Thread-safety: any thread. It holds the GIL, for less than a millisecond by default.
    """
    cdef uint64_t last_ns, now_ns
    cdef uint64_t shortest_ns = UINT64_MAX
    refuse_virtual(clock)
    last_ns = clock_now(clock.clock)
    for _ in range(readings):
        now_ns = clock_now(clock.clock)
        if now_ns != last_ns:
            shortest_ns = min(shortest_ns, now_ns - last_ns)
        last_ns = now_ns
    return shortest_ns if shortest_ns != UINT64_MAX else 1


def watch(Clock clock not None, LatencyHistogram gaps not None, Control until not None, *,
          uint64_t threshold_ns, uint64_t duration_ns):
    """Read the clock without pause, and record every step that took too long. Without the GIL.

    Parameters
    ----------
    clock : Clock
        Not a virtual one.
    gaps : LatencyHistogram
        Takes the steps, in ns; this thread becomes its writer.
    until : Control
        Ends the loop early when it is stopped.
    threshold_ns : int
        The shortest step to record.
    duration_ns : int

    Returns
    -------
    elapsed_ns, taken_ns : int
        How long the loop ran, and the sum of the recorded steps.

    Raises
    ------
    ConfigError
        The clock is virtual.

    Notes
    -----
    Thread-safety: one thread a histogram.
    """
    cdef watch_result result
    refuse_virtual(clock)
    with nogil:
        result = watch_clock(clock.clock, until.control, gaps.histogram, threshold_ns,
                             duration_ns)
    return result.elapsed_ns, result.taken_ns
