"""Nanoseconds on the kernel's monotonic timeline, from the cheapest reliable source.

clock_source, 40 bytes, written once before it is shared (except `virtual_ns`)::

     0       1       2       3       4       5       6       7
    +-------+-------+-------+-------+-------+-------+-------+-------+
  0 | kind: CLOCK_COUNTER, CLOCK_KERNEL or CLOCK_VIRTUAL            |
    +-------+-------+-------+-------+-------+-------+-------+-------+
  8 | base_ticks: the counter at the line's first point             |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 16 | base_ns: the kernel's clock at that point                     |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 24 | multiplier: nanoseconds a tick, in units of 2**-48            |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 32 | virtual_ns: the time of a clock that is driven by hand        |
    +-------+-------+-------+-------+-------+-------+-------+-------+

`base_ticks` is read before the clock exists, so no reader of the clock can be before it, and the
difference below never wraps.
"""

from libc.stdint cimport uint64_t

from velox.core.atomic cimport atomic_u64, kernel_ns, load_acquire, store_release, ticks_ordered

cdef extern from *:
    """
    #ifndef VELOX_CLOCK_INCLUDED
    #define VELOX_CLOCK_INCLUDED
    /* With 48 bits of fraction a tick's length is rounded by less than 1e-11 of itself for any
       counter up to 100 GHz, and the product is 128 bits wide: it overflows in no uptime. */
    #define VELOX_CLOCK_SHIFT 48

    static inline uint64_t velox_clock_scale(uint64_t elapsed_ticks, uint64_t multiplier)
    {
        return (uint64_t)((unsigned __int128)elapsed_ticks * multiplier >> VELOX_CLOCK_SHIFT);
    }

    static inline uint64_t velox_clock_slope(uint64_t elapsed_ns, uint64_t elapsed_ticks)
    {
        unsigned __int128 scaled = (unsigned __int128)elapsed_ns << VELOX_CLOCK_SHIFT;
        return (uint64_t)((scaled + elapsed_ticks / 2) / elapsed_ticks);
    }
    #endif
    """
    enum:
        CLOCK_SHIFT "VELOX_CLOCK_SHIFT"

    uint64_t clock_scale "velox_clock_scale"(
        uint64_t elapsed_ticks, uint64_t multiplier) noexcept nogil
    uint64_t clock_slope "velox_clock_slope"(
        uint64_t elapsed_ns, uint64_t elapsed_ticks) noexcept nogil

cdef enum:
    CLOCK_COUNTER = 0
    CLOCK_KERNEL = 1
    CLOCK_VIRTUAL = 2

cdef struct clock_source:
    uint64_t kind
    uint64_t base_ticks
    uint64_t base_ns
    uint64_t multiplier
    atomic_u64 virtual_ns


cdef inline uint64_t clock_ticks(const clock_source *clock) noexcept nogil:
    """The raw reading. A hot path may keep it, and `clock_ticks_to_ns` converts it later."""
    if clock.kind == CLOCK_COUNTER:
        # Ordered, so that a stamp taken after a message arrived is not before the stamp in the
        # message.
        return ticks_ordered()
    if clock.kind == CLOCK_KERNEL:
        return kernel_ns()
    # Acquire: a thread that sees the time also sees what the driver wrote before it moved the
    # clock.
    return load_acquire(&clock.virtual_ns)


cdef inline uint64_t clock_ticks_to_ns(const clock_source *clock, uint64_t reading) noexcept nogil:
    """The time at which `clock_ticks` of this clock returned `reading`."""
    if clock.kind == CLOCK_COUNTER:
        return clock.base_ns + clock_scale(reading - clock.base_ticks, clock.multiplier)
    return reading


cdef inline uint64_t clock_now(const clock_source *clock) noexcept nogil:
    """Nanoseconds on the kernel's monotonic timeline; never less than a reading seen before."""
    return clock_ticks_to_ns(clock, clock_ticks(clock))


cdef inline void clock_set_virtual(clock_source *clock, uint64_t now_ns) noexcept nogil:
    """Move a virtual clock forward. Only one thread may call this."""
    # Release pairs with the acquire in clock_ticks.
    store_release(&clock.virtual_ns, now_ns)


cdef class Clock:
    cdef clock_source *clock
    cdef readonly str source
    cdef readonly str reason
    cdef double measured_overhead_ns
    cdef void require_virtual(self, str method) except *
