"""The sources that Velox brings: their structs."""

from libc.stdint cimport uint32_t, uint64_t

from velox.core.flow cimport MarketFlow, market_flow
from velox.core.records cimport Transaction
from velox.runtime.ingress cimport Ingress, ingress
from velox.runtime.stage cimport Turn

cdef extern from *:
    """
    /* 146 years: two of them still fit the 63 bits of a clock. */
    #define VELOX_LONGEST_NS (UINT64_C(1) << 62)
    """
    const uint64_t LONGEST_NS "VELOX_LONGEST_NS"

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
