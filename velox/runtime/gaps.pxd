"""Gaps of the host: times at which a thread that only reads the clock did not run."""

from libc.stdint cimport uint64_t

from velox.core.clock cimport clock_source
from velox.core.histogram cimport histogram
from velox.runtime.stage cimport control

cdef struct watch_result:
    uint64_t elapsed_ns
    uint64_t taken_ns               # the sum of the gaps recorded

cdef watch_result watch_clock(
    const clock_source *clock, const control *until, histogram *gaps, uint64_t threshold_ns,
    uint64_t duration_ns) noexcept nogil
