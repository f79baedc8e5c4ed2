"""The stage contract.

A stage is a C function `do_work` and the struct that it works on. One call moves a bounded batch
and returns how many items moved; 0 means that nothing happened. It does not block, allocate, lock,
log or raise. One runner calls it, always from the same thread.

A stage ends by setting `finished`: its input is closed and empty, and it has closed its output.
"""

cimport cython
from libc.stdint cimport uint64_t

from velox.core.atomic cimport atomic_u64, load_relaxed, store_relaxed

ctypedef int (*do_work_function)(void *self) noexcept nogil
# When do_work must be called even if nothing arrives, in ns of the pipeline's clock.
ctypedef uint64_t (*deadline_function)(void *self) noexcept nogil

cdef struct stage:
    do_work_function do_work
    deadline_function deadline      # NULL: never
    void *self
    bint finished                   # the stage's own thread writes and reads

cdef struct control:
    atomic_u64 stop                 # anyone sets it; ingress stages end, the others drain


cdef inline void control_stop(control *self) noexcept nogil:
    # Relaxed: the flag carries no data. Closing the rings orders what follows.
    store_relaxed(&self.stop, 1)


cdef inline bint control_stopped(const control *self) noexcept nogil:
    # Relaxed: as in control_stop.
    return load_relaxed(&self.stop) != 0


# The seconds of a `timeout` that is not None, or a ConfigError.
cdef double checked_timeout(object timeout) except -1


@cython.final
cdef class Control:
    cdef control *control


@cython.final
cdef class Turn:
    cdef atomic_u64 *holder             # the thread whose turn it is, or 0
    cdef unsigned long process          # which process, counted by forks, the threads run in

    cdef void stay(self) noexcept
    cdef bint is_forked(self) noexcept
    cdef bint take(self) noexcept
    cdef bint is_mine(self) noexcept
    cdef void leave(self) noexcept nogil


cdef class Stage:
    cdef stage stage
    cdef readonly str name
    # The objects that its struct points into. This reference keeps them alive.
    cdef list kept

    cdef int check(self) except -1
