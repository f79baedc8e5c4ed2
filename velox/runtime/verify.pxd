"""Compares books with what a recording expects, on the thread that writes the books."""

from libc.stdint cimport UINT64_MAX, int32_t, int64_t, uint8_t, uint64_t

from velox.core.atomic cimport atomic_u64
from velox.core.book cimport books
from velox.core.mailbox cimport depth_row
from velox.runtime.checksum cimport checksum_function

# What was expected and found at the first mismatch.
cdef struct mismatch:
    uint64_t check
    uint64_t taken
    uint8_t side
    int64_t level
    int64_t expected_price, expected_quantity
    int64_t found_price, found_quantity

cdef struct verifier:
    books *books
    const int64_t *positions        # records of a pass that are applied when the check is due
    const uint8_t *markets
    const int64_t *prices           # [check][side][level], or NULL
    const int64_t *quantities
    const int32_t *checksums        # [check], or NULL
    checksum_function checksum      # how the venue computes them
    uint64_t price_decimals         # of the prices that it is computed of
    uint64_t checks
    uint64_t depth                  # levels a side that a check covers
    uint64_t pass_length            # from one pass to the next, in records taken
    int64_t *found_prices           # room for `depth` levels
    int64_t *found_quantities
    depth_row *found_rows           # the same for a checksum
    uint64_t next_check             # within the pass
    uint64_t pass_start             # where the records of the pass begin, among all taken
    atomic_u64 checked
    atomic_u64 mismatched
    mismatch first_mismatch


# The number of records taken at which the next check is due.
cdef inline uint64_t verifier_next(const verifier *self) noexcept nogil:
    if self.checks == 0:
        return UINT64_MAX
    return self.pass_start + <uint64_t>self.positions[self.next_check]


cdef void verifier_check(verifier *self) noexcept nogil


cdef class Verifier:
    cdef verifier *verifier
    cdef readonly object checks
    cdef list kept
