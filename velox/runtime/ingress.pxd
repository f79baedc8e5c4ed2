"""Where transactions enter: what every ingress is, and counts."""

from libc.stdint cimport uint32_t, uint64_t

from velox.core.atomic cimport atomic_u64, count
from velox.core.clock cimport Clock, clock_source
from velox.core.flow cimport MarketFlow, market_flow
from velox.core.histogram cimport LatencyHistogram, histogram
from velox.core.records cimport Transaction
from velox.core.ring cimport TransactionRing, transaction_ring
from velox.runtime.stage cimport Control, Stage, Turn, control, stage

cdef enum:
    # A transaction pushed later than this after it was due counts as late.
    LATE_NS = 1_000

cdef extern from *:
    """
    /* 146 years: two of them still fit the 63 bits of a clock. */
    #define VELOX_LONGEST_NS (UINT64_C(1) << 62)
    """
    const uint64_t LONGEST_NS "VELOX_LONGEST_NS"

# What the kinds of ingress share; the first field of the struct of each.
cdef struct ingress:
    stage *stage
    transaction_ring *ring
    const clock_source *clock
    const control *control
    histogram *late                 # due -> pushed, in ns
    uint64_t batch                  # the most that one do_work moves
    bint drop                       # what does not fit is dropped and counted; else it waits
    # What is due waits for room: no deadline, for no time brings that about. One in the past would
    # keep a runner awake that has nothing to do.
    bint blocked
    atomic_u64 generated            # the ingress's own thread writes these
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


cdef struct poisson_ingress:
    ingress ingress
    market_flow *flow
    bint unpaced                    # rate="max": everything is due now
    bint started
    uint64_t next_due_ns


cdef class PoissonIngress(Ingress):
    cdef poisson_ingress *poisson
    cdef readonly MarketFlow flow
    cdef readonly object rate
    cdef readonly object seed


cdef struct replay_ingress:
    ingress ingress
    const Transaction *records
    uint64_t length
    const Transaction *clears       # what empties the books before each pass but the first
    uint64_t clears_length
    bint clearing                   # inside `clears`, not `records`
    uint64_t position               # in whichever of the two it is
    uint64_t passes_left            # after this one
    bint scheduled                  # by the records' own time; else everything is due now
    double ns_per_ns                # how much slower than the recording
    uint64_t pass_start_ns          # the clock when the first record of this pass is due
    uint64_t last_due_ns


cdef class ReplayIngress(Ingress):
    cdef replay_ingress *replay
    cdef readonly object speed
    cdef readonly object repeat
    cdef readonly object transactions


cdef class PushIngress(Ingress):
    cdef Turn turn
    cdef bint stamp
    cdef bint running

    cdef uint64_t push_for_a_while(
        self, const Transaction *first, uint64_t n, uint64_t due_ns,
        uint32_t patience) noexcept nogil
