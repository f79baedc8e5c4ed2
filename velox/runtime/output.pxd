"""Where bundles leave: what every output is, and counts."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from velox.core.atomic cimport atomic_u64, count
from velox.core.clock cimport Clock, clock_now, clock_source
from velox.core.histogram cimport LatencyHistogram, histogram, histogram_record
from velox.core.latency cimport elapsed_ns, record_since_due
from velox.core.records cimport Bundle
from velox.core.ring cimport BundleRing, bundle_ring
from velox.runtime.stage cimport Control, Stage, Turn, control, stage

# What the kinds of output share; the first field of the struct of each.
cdef struct output:
    stage *stage
    bundle_ring *ring
    const clock_source *clock
    control *control
    uint64_t batch
    histogram *delivery                 # sealed -> taken, in ns, one value a bundle
    histogram *total                    # due -> taken, in ns, one value a transaction
    atomic_u64 delivered_bundles        # the output's own thread writes these
    atomic_u64 delivered_transactions
    atomic_u64 undelivered_bundles
    atomic_u64 undelivered_transactions


cdef inline uint64_t output_transactions(const Bundle *first, uint64_t n) noexcept nogil:
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


cdef class Output(Stage):
    cdef output *output
    cdef readonly LatencyHistogram delivery
    cdef readonly LatencyHistogram total
    cdef readonly BundleRing ring
    cdef Clock clock
    cdef Control control

    cdef int make(self, size_t size) except -1


cdef struct capture_output:
    output output
    int descriptor
    int failure                         # errno of the write that failed, or 0


cdef class CaptureOutput(Output):
    cdef capture_output *capture
    cdef readonly str path
    cdef object file


cdef class PullOutput(Output):
    cdef Turn turn
    cdef object backlog                 # what a stop took out of the ring for whoever polls next

    cdef void taken(self, const Bundle *first, uint64_t n) noexcept nogil
