"""The clock of a pipeline: the processor's counter, the kernel's clock, or a virtual clock."""

cimport cython
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free

from velox.core.atomic cimport (
    kernel_ns, sleep_ns, store_relaxed, ticks_ordered, ticks_per_second,
)
from velox.core.memory cimport STATIC_ASSERT, allocate

import sys
from pathlib import Path
from threading import Lock

from velox.core.choices import CLOCK_SOURCES
from velox.errors import ConfigError

__all__ = ["Clock", "judge_tsc"]

cdef extern from *:
    """
    #include <time.h>
    #if defined(__x86_64__)
    #include <cpuid.h>
    #define VELOX_COUNTER "tsc"
    #else
    #define VELOX_COUNTER "cntvct"
    #endif

    static int velox_tsc_is_invariant(void)
    {
    #if defined(__x86_64__)
        unsigned int a, b, c, d;
        return __get_cpuid(0x80000007u, &a, &b, &c, &d) && (d >> 8 & 1);
    #else
        return 0;
    #endif
    }

    static double velox_kernel_resolution_ns(void)
    {
        struct timespec step;
        clock_getres(VELOX_KERNEL_CLOCK, &step);
        return (double)step.tv_sec * 1e9 + (double)step.tv_nsec;
    }
    """
    const char *COUNTER "VELOX_COUNTER"
    bint tsc_is_invariant "velox_tsc_is_invariant"() noexcept nogil
    double kernel_resolution_ns "velox_kernel_resolution_ns"() noexcept nogil

cdef enum:
    # Each end of the line is known to some 20 ns. Over 20 ms, that is 1 or 2 parts in a million.
    CALIBRATION_NS = 20_000_000
    BRACKETS = 64
    OVERHEAD_BATCHES = 32
    OVERHEAD_READINGS = 256

CLOCKSOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")

cdef struct clock_point:
    uint64_t ticks
    uint64_t ns

# The process's line from ticks to nanoseconds. A multiplier of 0 means that it is not measured yet.
cdef struct clock_line:
    clock_point first
    uint64_t multiplier

cdef clock_line calibrated
calibrated.multiplier = 0
calibration_lock = Lock()
counter = COUNTER.decode()
verdict = None


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(clock_source) == 40)
    STATIC_ASSERT(<size_t>&(<clock_source *>NULL).base_ticks == 8)
    STATIC_ASSERT(<size_t>&(<clock_source *>NULL).base_ns == 16)
    STATIC_ASSERT(<size_t>&(<clock_source *>NULL).multiplier == 24)
    STATIC_ASSERT(<size_t>&(<clock_source *>NULL).virtual_ns == 32)


assert_layout()


cdef clock_point narrowest_bracket() noexcept nogil:
    """Read one point of the line: the kernel's clock between two readings of the counter.

    It takes the narrowest of several attempts, since an interrupt or a lost core widens one.
    """
    cdef clock_point point
    cdef uint64_t before, after, ns
    cdef uint64_t width = <uint64_t>-1
    cdef int _attempt
    point.ticks = point.ns = 0
    for _attempt in range(BRACKETS):
        before = ticks_ordered()
        ns = kernel_ns()
        after = ticks_ordered()
        if after - before < width:
            width = after - before
            point.ticks = before + width // 2
            point.ns = ns
    return point


cdef uint64_t measure(const clock_point *first) noexcept nogil:
    """Return the slope from `first` to now, at least CALIBRATION_NS later; 0 without ticks."""
    cdef uint64_t elapsed = kernel_ns() - first.ns
    cdef clock_point last
    while elapsed < CALIBRATION_NS:
        sleep_ns(CALIBRATION_NS - elapsed)
        elapsed = kernel_ns() - first.ns
    last = narrowest_bracket()
    if last.ticks <= first.ticks:
        return 0
    return clock_slope(last.ns - first.ns, last.ticks - first.ticks)


cdef void calibrate(clock_line *line) noexcept nogil:
    """Compute the line from its first point to now.

    Start a new line if the slope changed too much.
    """
    cdef uint64_t multiplier, difference
    if line.multiplier != 0:
        # The longer the line, the better its slope is known.
        multiplier = measure(&line.first)
        difference = (multiplier - line.multiplier if multiplier > line.multiplier
                      else line.multiplier - multiplier)
        if difference <= line.multiplier // 1000:
            line.multiplier = multiplier
            return
        # The machine slept or moved to another host, so the old line no longer fits.
    line.first = narrowest_bracket()
    if ticks_per_second() != 0:
        line.multiplier = clock_slope(1_000_000_000, ticks_per_second())
    else:
        line.multiplier = measure(&line.first)


def judge_tsc(invariant, operating_system, clocksource):
    """Decide whether the TSC may be used in place of the kernel's monotonic clock.

    Parameters
    ----------
    invariant : bool
        Bit 8 of EDX in CPUID leaf 0x80000007: constant rate in every power state.
    operating_system : str
        As `sys.platform` has it.
    clocksource : str or None
        What Linux keeps time with now; None where that cannot be read.

    Returns
    -------
    trusted : bool
    reason : str
        Why, in words.

    Notes
    -----
    The TSC is trusted exactly where the kernel keeps its own time with it. The kernel has then
    checked that all processors agree, and it keeps watching the TSC if the hardware may be
    unreliable. This also holds in a virtual machine. ``kvm-clock`` and
    ``hyperv_clocksource_tsc_page`` also read the TSC, but through a scale and an offset. The
    hypervisor may replace these at any moment, for instance when it moves the machine to another
    host. A fixed line cannot follow that.

    Examples
    --------
    >>> judge_tsc(True, "linux", "tsc")[0], judge_tsc(True, "linux", "kvm-clock")[0]
    (True, False)
    """
    if not invariant:
        return False, "CPUID does not call the TSC invariant"
    if operating_system != "linux":
        return True, "invariant TSC"
    if clocksource is None:
        return False, f"{CLOCKSOURCE} cannot be read, so the TSC's standing is unknown"
    if clocksource != "tsc":
        return False, f"the kernel keeps time with {clocksource}, not with the TSC itself"
    return True, "invariant TSC, with which the kernel keeps its own time"


def current_clocksource():
    """What Linux keeps time with; None where that cannot be read."""
    try:
        return CLOCKSOURCE.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None


cdef object judge_counter():
    """Whether this processor's counter may be the clock, and why."""
    if counter == "tsc":
        return judge_tsc(tsc_is_invariant(), sys.platform, current_clocksource())
    return True, "the architecture's counter, of constant rate and in step on all processors"


cdef object process_verdict(bint again):
    global verdict
    with calibration_lock:
        if again or verdict is None:
            verdict = judge_counter()
        return verdict


cdef clock_line process_line(bint again):
    with calibration_lock:
        if again or calibrated.multiplier == 0:
            with nogil:
                calibrate(&calibrated)
        return calibrated


cdef object checked_integer(str name, object value):
    if not hasattr(value, "__index__"):
        raise ConfigError("must be an integer", field=name, value=value)
    return value


@cython.final
cdef class Clock:
    """Nanoseconds on the kernel's monotonic timeline, from the cheapest reliable source.

    Parameters
    ----------
    source : {"auto", "tsc", "cntvct", "kernel", "virtual"}, default "auto"
        ``tsc`` and ``cntvct`` scale the processor's own counter (x86-64 and aarch64); ``kernel``
        calls ``clock_gettime``; ``virtual`` starts at 0 and is driven by hand. ``auto`` uses the
        counter if it is reliable (see `judge_tsc`), else the kernel.

    Attributes
    ----------
    source : str
        The source in use, never ``"auto"``.
    reason : str
        Why that one.

    Raises
    ------
    ConfigError
        The source is unknown, or does not exist on this processor.

    Notes
    -----
    The timeline is ``CLOCK_MONOTONIC`` on Linux and ``CLOCK_UPTIME_RAW`` on macOS: in both cases
    that of `time.monotonic_ns`. A straight line converts the counter to that timeline. NTP changes
    the rate of the kernel's clock. So the two drift apart by up to some microseconds a second until
    `recalibrate`: `drift_ns` tells.

    The first clock of a process on x86-64 measures the counter for 20 ms without the GIL. Later
    ones use the same result.

    Readings are monotonic across threads: a thread that got a reading from another thread through
    an acquire load never reads less. Any number of threads may read a clock. A virtual one has one
    driver.

    Examples
    --------
    >>> from velox.core.clock import Clock
    >>> clock = Clock()
    >>> start = clock.now()
    >>> clock.now() >= start
    True
    >>> hand_driven = Clock("virtual")
    >>> hand_driven.advance(100_000)
    >>> hand_driven.now()
    100000
    """

    def __cinit__(self, source="auto"):
        if source not in CLOCK_SOURCES:
            raise ConfigError(
                f"must be one of {', '.join(CLOCK_SOURCES)}", field="source", value=source)
        self.clock = <clock_source *>allocate(sizeof(clock_source))
        if self.clock == NULL:
            raise MemoryError
        self.measured_overhead_ns = -1.0
        if source == "virtual":
            self.clock.kind = CLOCK_VIRTUAL
            self.source, self.reason = "virtual", "driven by hand"
            return
        self.clock.kind = CLOCK_KERNEL
        self.source, self.reason = "kernel", "requested"
        if source == "kernel":
            return
        if source not in ("auto", counter):
            raise ConfigError(
                f"this processor has none, only {counter!r}", field="source", value=source)
        if source == "tsc" and not tsc_is_invariant():
            raise ConfigError(
                judge_tsc(False, sys.platform, None)[1], field="source", value="tsc")
        trusted, self.reason = process_verdict(False)
        if not trusted:
            if source == "auto":
                return
            self.reason = f"requested, although {self.reason}"
        cdef clock_line line = process_line(False)
        if line.multiplier == 0:
            self.reason = f"{counter} does not advance"
            if source == "auto":
                return
            raise ConfigError(self.reason, field="source", value=source)
        self.source = counter
        self.clock.kind = CLOCK_COUNTER
        self.clock.base_ticks = line.first.ticks
        self.clock.base_ns = line.first.ns
        self.clock.multiplier = line.multiplier

    def __dealloc__(self):
        free(self.clock)

    def __repr__(self):
        return f"Clock(source={self.source!r}, frequency_hz={self.frequency_hz})"

    @staticmethod
    def recalibrate():
        """Check the counter again, and measure it over the whole life of the process.

        Clocks made from now on use the result. Existing clocks keep their line, since threads read
        it without synchronization. So compute a difference only from readings of one clock.

        If the process has no counter clock yet, this calibrates it for the first time (20 ms).
        """
        process_verdict(True)
        process_line(True)

    def now(self):
        """The time.

        Returns
        -------
        int
            Nanoseconds.
        """
        return clock_now(self.clock)

    def ticks(self):
        """The source's raw reading: ticks of a counter, or nanoseconds of any other source.

        Returns
        -------
        int
        """
        return clock_ticks(self.clock)

    def ticks_to_ns(self, ticks):
        """Convert a reading of `ticks` to the time at which it was made.

        Parameters
        ----------
        ticks : int
            A reading, not a difference of two.

        Returns
        -------
        int
            Nanoseconds, on the timeline of `now`.

        Raises
        ------
        ConfigError
            The reading is from before the process calibrated its counter.
        """
        if not self.clock.base_ticks <= checked_integer("ticks", ticks) < 2**64:
            raise ConfigError(
                f"not a reading of this clock, whose line begins at {self.clock.base_ticks}",
                field="ticks", value=ticks)
        return clock_ticks_to_ns(self.clock, ticks)

    def advance(self, ns):
        """Move a virtual clock forward.

        Parameters
        ----------
        ns : int
            By how many nanoseconds; not negative.

        Raises
        ------
        ConfigError
            The clock is not virtual, or `ns` is negative.
        """
        self.require_virtual("advance")
        if checked_integer("ns", ns) < 0:
            raise ConfigError("a clock does not run backwards", field="ns", value=ns)
        self.set(self.now() + ns)

    def set(self, ns):
        """Set a virtual clock.

        Parameters
        ----------
        ns : int
            The new time, in nanoseconds; not before the present one.

        Raises
        ------
        ConfigError
            The clock is not virtual, or `ns` is in its past, or over 64 bits.
        """
        self.require_virtual("set")
        if not self.now() <= checked_integer("ns", ns) < 2**64:
            raise ConfigError(
                f"a clock does not run backwards, nor over 64 bits; it shows {self.now()}",
                field="ns", value=ns)
        clock_set_virtual(self.clock, ns)

    cdef void require_virtual(self, str method) except *:
        if self.clock.kind != CLOCK_VIRTUAL:
            raise ConfigError(
                f"{method} moves a virtual clock alone", field="source", value=self.source)

    def drift_ns(self):
        """How far this clock is ahead of the kernel's.

        Returns
        -------
        int
            Nanoseconds; negative where it is behind. Known to about the width of one call of the
            kernel's clock.

        Raises
        ------
        ConfigError
            The clock is virtual.
        """
        if self.clock.kind == CLOCK_VIRTUAL:
            raise ConfigError(
                "a virtual clock shares no timeline with the kernel", field="source",
                value=self.source)
        cdef uint64_t before, kernel, after
        cdef uint64_t width = <uint64_t>-1
        cdef int64_t drift = 0
        cdef int _attempt
        with nogil:
            for _attempt in range(BRACKETS):
                before = clock_now(self.clock)
                kernel = kernel_ns()
                after = clock_now(self.clock)
                if after - before < width:
                    width = after - before
                    drift = <int64_t>(before + width // 2 - kernel)
        return drift

    @property
    def frequency_hz(self):
        """Ticks a second, rounded (int)."""
        if self.clock.kind != CLOCK_COUNTER:
            return 1_000_000_000
        # One second divided by the length of a tick, in the slope's fixed-point unit.
        return clock_slope(1_000_000_000, self.clock.multiplier)

    @property
    def resolution_ns(self):
        """The smallest step between two readings of `now`, in nanoseconds (float)."""
        if self.clock.kind == CLOCK_COUNTER:
            return max(1.0, 1e9 / self.frequency_hz)
        if self.clock.kind == CLOCK_KERNEL:
            return kernel_resolution_ns()
        return 1.0

    @property
    def overhead_ns(self):
        """The time that one reading takes in C, in nanoseconds (float).

        Measured once, in some 100 us.
        """
        cdef uint64_t start, elapsed
        cdef uint64_t fastest = <uint64_t>-1
        cdef int _batch, _reading
        # Storing each reading keeps the compiler from leaving out the arithmetic.
        cdef atomic_u64 latest
        if self.measured_overhead_ns < 0.0:
            with nogil:
                for _batch in range(OVERHEAD_BATCHES):
                    start = kernel_ns()
                    for _reading in range(OVERHEAD_READINGS):
                        store_relaxed(&latest, clock_now(self.clock))
                    elapsed = kernel_ns() - start
                    # The fastest batch counts, since interrupts and other programs only make a
                    # batch slower.
                    fastest = min(fastest, elapsed)
            self.measured_overhead_ns = fastest / <double>OVERHEAD_READINGS
        return self.measured_overhead_ns
