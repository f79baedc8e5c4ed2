"""One thread that calls its stages in order, again and again, until all of them have finished."""

from libc.stdint cimport uint32_t, uint64_t

from velox.core.atomic cimport atomic_u64
from velox.core.clock cimport Clock, clock_source
from velox.runtime.idle cimport idle_state
from velox.runtime.stage cimport stage

cdef enum:
    MOST_STAGES = 64

cdef struct runner:
    stage *stages[MOST_STAGES]
    uint32_t stage_count
    idle_state idle
    const clock_source *clock
    uint64_t finished_ns        # when the last stage finished, or 0
    atomic_u64 cycles           # duty cycles that moved something
    atomic_u64 idle_cycles


cdef class Runner:
    cdef runner *runner
    cdef readonly str name
    cdef readonly object cpu
    cdef readonly tuple stages
    cdef Clock clock

    cdef void pass_time(self, uint64_t until_ns) noexcept nogil
