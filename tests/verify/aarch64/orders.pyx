"""The ring's operations, each in a function of its own, so that its instructions can be read."""

from libc.stdint cimport uint64_t

from velox.core.records cimport Transaction
from velox.core.ring cimport (
    transaction_ring,
    transaction_ring_claim,
    transaction_ring_close,
    transaction_ring_drained,
    transaction_ring_peek,
    transaction_ring_publish,
    transaction_ring_release,
)


cdef public void velox_order_publish(transaction_ring *ring, uint64_t n) noexcept nogil:
    transaction_ring_publish(ring, n)


cdef public void velox_order_release(transaction_ring *ring, uint64_t n) noexcept nogil:
    transaction_ring_release(ring, n)


cdef public void velox_order_close(transaction_ring *ring) noexcept nogil:
    transaction_ring_close(ring)


cdef public Transaction *velox_order_claim(transaction_ring *ring, uint64_t wanted,
                                           uint64_t *granted) noexcept nogil:
    return transaction_ring_claim(ring, wanted, granted)


cdef public Transaction *velox_order_peek(transaction_ring *ring, uint64_t wanted,
                                          uint64_t *granted) noexcept nogil:
    return transaction_ring_peek(ring, wanted, granted)


cdef public bint velox_order_drained(transaction_ring *ring) noexcept nogil:
    return transaction_ring_drained(ring)
