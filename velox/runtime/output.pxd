"""The C interface of an output: its struct, and the functions that its `do_work` calls.

A sink in Cython derives from `Output` and declares a struct whose first field is an `output`. Its
``__cinit__`` calls `make` with the struct's size and sets `stage.do_work` and `stage.self`.
`do_work` peeks at most `batch` bundles of the ring, times and counts them, and releases them.
``docs/howto/add-a-source-or-sink.md`` shows one.
"""

from libc.stdint cimport uint64_t

from velox.core.atomic cimport atomic_u64, count
from velox.core.clock cimport Clock, clock_now, clock_source
from velox.core.histogram cimport LatencyHistogram, histogram, histogram_record
from velox.core.latency cimport elapsed_ns, record_since_due
from velox.core.records cimport Bundle
from velox.core.ring cimport BundleRing, bundle_ring, bundle_ring_drained
from velox.runtime.stage cimport Control, Stage, control, stage

# The first field of the struct of every output.
cdef struct output:
    stage *stage
    bundle_ring *ring
    const clock_source *clock
    control *control
    uint64_t batch
    histogram *delivery                 # sealed -> taken, in ns, one value a bundle
    histogram *total                    # due -> taken, in ns, one value a record
    atomic_u64 delivered_bundles        # only the output's own thread writes the counters
    atomic_u64 delivered_transactions
    atomic_u64 undelivered_bundles
    atomic_u64 undelivered_transactions


cdef inline uint64_t output_transactions(const Bundle *first, uint64_t n) noexcept nogil:
    """Return how many records `n` bundles hold."""
    cdef uint64_t transactions = 0
    cdef uint64_t i
    for i in range(n):
        transactions += first[i].count
    return transactions


cdef inline void output_taken(output *self, const Bundle *first, uint64_t n) noexcept nogil:
    """Count and time bundles at the moment they are taken."""
    cdef uint64_t now_ns = clock_now(self.clock)
    cdef uint64_t i
    for i in range(n):
        histogram_record(self.delivery, elapsed_ns(first[i].sealed_ts_ns, now_ns))
        record_since_due(self.total, first[i].transactions, first[i].count, now_ns)


cdef inline int output_finish_if_drained(output *self) noexcept nogil:
    """End the stage if the ring is closed and empty. Return 0, which `do_work` returns in turn."""
    if bundle_ring_drained(self.ring):
        self.stage.finished = True
    return 0


cdef class Output(Stage):
    cdef output *output
    cdef readonly LatencyHistogram delivery
    cdef readonly LatencyHistogram total
    cdef readonly BundleRing ring
    cdef public tuple instruments
    cdef readonly Stage follower
    cdef Clock clock
    cdef Control control

    cdef int make(self, size_t size) except -1
