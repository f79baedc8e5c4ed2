"""The C interface of an ingress: its struct, and the functions that its `do_work` calls.

A source in Cython derives from `Ingress` and declares a struct whose first field is an `ingress`.
Its ``__cinit__`` calls `make` with the struct's size and sets `stage.do_work` and `stage.self`.
`do_work` pushes at most `batch` records: it claims slots of the ring, fills them, counts them, and
publishes them. ``docs/howto/add-a-source-or-sink.md`` shows one.
"""

from libc.stdint cimport uint64_t

from velox.core.atomic cimport atomic_u64, count
from velox.core.clock cimport Clock, clock_source
from velox.core.histogram cimport LatencyHistogram, histogram, histogram_record_n
from velox.core.latency cimport elapsed_ns
from velox.core.ring cimport (
    TransactionRing,
    transaction_ring,
    transaction_ring_close,
    transaction_ring_room,
)
from velox.runtime.stage cimport Control, Stage, control, stage

cdef enum:
    # A record pushed later than this after it was due counts as late.
    LATE_NS = 1_000

# The first field of the struct of every ingress.
cdef struct ingress:
    stage *stage
    transaction_ring *ring
    const clock_source *clock
    const control *control
    histogram *late                 # due -> pushed, in ns
    uint64_t batch                  # the most that one do_work moves
    bint drop                       # a full ring drops and counts the newest record; else it waits
    # A due record waits for room. The stage then has no deadline: a deadline in the past would keep
    # an idle runner awake.
    bint blocked
    atomic_u64 generated            # only the ingress's own thread writes the counters
    atomic_u64 pushed
    atomic_u64 dropped
    atomic_u64 late_count


cdef class Ingress(Stage):
    cdef ingress *ingress
    cdef readonly LatencyHistogram late
    cdef readonly TransactionRing ring
    cdef Clock clock
    cdef Control control

    cdef int make(self, size_t size) except -1


cdef inline int ingress_finish(ingress *self) noexcept nogil:
    """Close the ring, end the stage and return 0, which `do_work` returns in turn."""
    transaction_ring_close(self.ring)
    self.stage.finished = True
    return 0


cdef inline void ingress_record_late(ingress *self, uint64_t due_ns, uint64_t now_ns,
                                     uint64_t n) noexcept nogil:
    """Record how late `n` records were that were due at `due_ns` and pushed at `now_ns`."""
    cdef uint64_t late_ns = elapsed_ns(due_ns, now_ns)
    histogram_record_n(self.late, late_ns, n)
    if late_ns > LATE_NS:
        count(&self.late_count, n)


cdef inline bint ingress_is_full(ingress *self, uint64_t claimed) noexcept nogil:
    """Whether the ring has no room beyond `claimed` slots.

    The check is needed because a claim also ends where the ring wraps.
    """
    return transaction_ring_room(self.ring, claimed + 1) <= claimed
