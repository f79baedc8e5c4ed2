"""The bundle builder: records go into an open bundle, in place in its ring, until it seals.

A bundle is sealed by its sixteenth record or by its deadline, `timeout_ns` after the first was
accepted. Its owner also seals it when the input runs dry, and at the end. One thread owns it.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcpy, memset

from velox.core.atomic cimport atomic_u64, count
from velox.core.histogram cimport histogram, histogram_record_n
from velox.core.latency cimport elapsed_ns
from velox.core.records cimport (
    BUNDLE_CAPACITY,
    SEAL_REASONS,
    SEAL_SIZE,
    SEAL_TIMEOUT,
    Bundle,
    Transaction,
)
from velox.core.ring cimport bundle_ring, bundle_ring_claim, bundle_ring_publish

cdef extern from *:
    """
    #define VELOX_NO_DEADLINE UINT64_MAX
    """
    const uint64_t NO_DEADLINE "VELOX_NO_DEADLINE"

# The most lanes of a pipeline: rings whose records one stage bundles.
cpdef enum:
    MAX_LANES = 16

cdef struct bundle_builder:
    bundle_ring *ring
    histogram *hold                                 # accepted -> sealed, in ns
    uint64_t timeout_ns
    Bundle *open                                    # a claimed slot of the ring, or NULL
    uint64_t deadline_ns                            # of the open bundle, or NO_DEADLINE
    # Records that were accepted together are held equally long, so each `add` makes one entry.
    uint32_t additions
    uint32_t added[BUNDLE_CAPACITY]
    uint64_t added_ns[BUNDLE_CAPACITY]
    atomic_u64 sealed[SEAL_REASONS]                 # bundles, by reason; this thread writes
    atomic_u64 sealed_transactions


cdef inline void bundle_builder_init(
        bundle_builder *self, bundle_ring *ring, histogram *hold,
        uint64_t timeout_ns) noexcept nogil:
    memset(self, 0, sizeof(bundle_builder))
    self.ring = ring
    self.hold = hold
    self.timeout_ns = timeout_ns
    self.deadline_ns = NO_DEADLINE


cdef inline void bundle_builder_seal(
        bundle_builder *self, uint32_t reason, uint64_t now_ns) noexcept nogil:
    """Publish the open bundle. There must be one."""
    cdef Bundle *bundle = self.open
    cdef uint32_t i
    if bundle.count < BUNDLE_CAPACITY:
        # The slot is reused. Records of an older bundle must not stay in it.
        memset(&bundle.transactions[bundle.count], 0,
               (BUNDLE_CAPACITY - bundle.count) * sizeof(Transaction))
    bundle.reason = reason
    bundle.sealed_ts_ns = now_ns
    for i in range(self.additions):
        histogram_record_n(self.hold, elapsed_ns(self.added_ns[i], now_ns), self.added[i])
    count(&self.sealed[reason], 1)
    count(&self.sealed_transactions, bundle.count)
    bundle_ring_publish(self.ring, 1)
    self.open = NULL
    self.deadline_ns = NO_DEADLINE


cdef inline uint32_t bundle_builder_add(
        bundle_builder *self, const Transaction *first, uint64_t n, uint64_t now_ns) noexcept nogil:
    """Accept up to `n` records into one bundle, and return how many fitted.

    Returns 0 if the ring has no room for another bundle, or if `n` is 0. Then no bundle is opened.
    """
    cdef Bundle *bundle = self.open
    cdef uint64_t granted
    cdef uint32_t accepted
    if n == 0:
        return 0
    if bundle == NULL:
        bundle = bundle_ring_claim(self.ring, 1, &granted)
        if granted == 0:
            return 0
        bundle.count = 0
        self.open = bundle
        # Saturating: a clock at the end of its range must not wrap into the past.
        self.deadline_ns = now_ns + min(self.timeout_ns, NO_DEADLINE - 1 - now_ns)
        self.additions = 0
    accepted = <uint32_t>min(n, <uint64_t>(BUNDLE_CAPACITY - bundle.count))
    memcpy(&bundle.transactions[bundle.count], first, accepted * sizeof(Transaction))
    bundle.count += accepted
    self.added[self.additions] = accepted
    self.added_ns[self.additions] = now_ns
    self.additions += 1
    if bundle.count == BUNDLE_CAPACITY:
        bundle_builder_seal(self, SEAL_SIZE, now_ns)
    return accepted


cdef inline bint bundle_builder_expire(bundle_builder *self, uint64_t now_ns) noexcept nogil:
    """Seal the open bundle if its deadline has come, and return whether it had."""
    if self.open == NULL or now_ns < self.deadline_ns:
        return False
    bundle_builder_seal(self, SEAL_TIMEOUT, now_ns)
    return True
