"""A bitmap of up to 2**18 occupied slots, in three tiers of 64-bit words.

A leaf word holds 64 slots; a bit of a summary word says that a leaf word is not zero; a bit of the
top word says the same of a summary word. The next occupied slot is at most four bit scans away.

::

    top          one word              bit s: summaries[s] != 0
    summaries    levels / 4096 words   bit w: leaves[64 s + w] != 0
    leaves       levels / 64 words     bit b: slot 64 w + b is occupied

One thread writes and reads it; other threads see copies (`velox.core.mailbox`).
"""

from cython cimport unlikely
from libc.stdint cimport UINT64_MAX, uint64_t

cdef extern from *:
    """
    #define velox_lowest_bit(word) ((uint64_t)__builtin_ctzll(word))
    """
    # The word must not be zero.
    uint64_t lowest_bit "velox_lowest_bit"(uint64_t word) noexcept nogil
    const uint64_t NO_SLOT "UINT64_MAX"


cdef struct bitmap:
    uint64_t *leaves
    uint64_t *summaries
    uint64_t top


cdef inline void bitmap_flip(bitmap *self, uint64_t slot, uint64_t changes) noexcept nogil:
    """If `changes` is 1, occupy a vacant slot or vacate an occupied one. If it is 0, do nothing.

    It does not branch on `changes`, since a processor cannot predict whether a level comes or goes.
    """
    cdef uint64_t word = slot >> 6
    cdef uint64_t before = self.leaves[word]
    cdef uint64_t after = before ^ changes << (slot & 63)
    cdef uint64_t summary
    self.leaves[word] = after
    # They differ in one bit at most: they have no bit in common only where one of them is zero.
    if unlikely(before & after == 0):
        summary = self.summaries[word >> 6] ^ changes << (word & 63)
        self.summaries[word >> 6] = summary
        self.top = self.top & ~(<uint64_t>1 << (word >> 6)) | \
            <uint64_t>(summary != 0) << (word >> 6)


cdef inline uint64_t bitmap_next(const bitmap *self, uint64_t slot) noexcept nogil:
    """The first occupied slot at or after `slot`; NO_SLOT if there is none."""
    cdef uint64_t word = slot >> 6
    cdef uint64_t bits = self.leaves[word] & UINT64_MAX << (slot & 63)
    cdef uint64_t summary
    if bits == 0:
        # Two shifts: for bit 63, one shift would be by 64, which is undefined.
        summary = word >> 6
        bits = self.summaries[summary] & UINT64_MAX << (word & 63) << 1
        if bits == 0:
            bits = self.top & UINT64_MAX << summary << 1
            if bits == 0:
                return NO_SLOT
            summary = lowest_bit(bits)
            bits = self.summaries[summary]
        word = summary << 6 | lowest_bit(bits)
        bits = self.leaves[word]
    return word << 6 | lowest_bit(bits)
