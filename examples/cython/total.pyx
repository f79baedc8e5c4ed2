# distutils: extra_compile_args = -std=c11
"""Reads a ring in place, without the GIL, as a stage would."""

from libc.stdint cimport uint64_t

from velox.core.records cimport Transaction
from velox.core.ring cimport TransactionRing, transaction_ring_peek, transaction_ring_release


def total(TransactionRing ring not None):
    """The sum of the sizes of what is in the ring, which is empty afterwards."""
    cdef const Transaction *first
    cdef uint64_t n, i
    cdef uint64_t lots = 0
    with nogil:
        while True:
            first = transaction_ring_peek(ring.ring, ring.ring.capacity, &n)
            if n == 0:
                break
            for i in range(n):
                lots += first[i].size
            transaction_ring_release(ring.ring, n)
    return lots
