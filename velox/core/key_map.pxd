"""A hash table of a fixed size from a key and a tag to a number.

Open addressing with linear probing. A removal moves later entries back, so there are no tombstones
and a table does not slow down with use (Knuth, "The Art of Computer Programming", volume 3, 6.4,
algorithm R). The owner keeps it at most half full. One thread uses it; nothing allocates.

Entry, 16 bytes::

     0       1       2       3       4       5       6       7
    +-------+-------+-------+-------+-------+-------+-------+-------+
  0 | key                                                           |
    +-------+-------+-------+-------+-------+-------+-------+-------+
  8 | tag                           | value + 1, or 0: vacant       |
    +-------+-------+-------+-------+-------+-------+-------+-------+
"""

from libc.stdint cimport UINT32_MAX, uint32_t, uint64_t

cdef extern from *:
    """
    /* 2**64 divided by the golden ratio */
    #define VELOX_KEY_MAP_GOLDEN UINT64_C(0x9E3779B97F4A7C15)
    #define VELOX_KEY_MAP_TAG UINT64_C(0xC2B2AE3D27D4EB4F)
    """
    const uint64_t KEY_MAP_GOLDEN "VELOX_KEY_MAP_GOLDEN"
    const uint64_t KEY_MAP_TAG "VELOX_KEY_MAP_TAG"

cdef struct key_map_entry:
    uint64_t key
    uint32_t tag
    uint32_t value_and_1

cdef struct key_map:
    key_map_entry *entries      # a power of two of them, zeroed; at least twice what is put in
    uint64_t mask
    uint32_t shift              # 64 minus the binary logarithm of their number


cdef inline void key_map_init(key_map *self, key_map_entry *entries, uint32_t bits) noexcept nogil:
    """Use 2**bits zeroed entries; `bits` is 1 to 31."""
    self.entries = entries
    self.mask = (<uint64_t>1 << bits) - 1
    self.shift = 64 - bits


cdef inline uint64_t key_map_home(const key_map *self, uint64_t key, uint32_t tag) noexcept nogil:
    return ((key ^ tag * KEY_MAP_TAG) * KEY_MAP_GOLDEN) >> self.shift


cdef inline uint32_t key_map_find(const key_map *self, uint64_t key, uint32_t tag) noexcept nogil:
    """The number of a key, or UINT32_MAX."""
    cdef uint64_t at = key_map_home(self, key, tag)
    while self.entries[at].value_and_1 != 0:
        if self.entries[at].key == key and self.entries[at].tag == tag:
            return self.entries[at].value_and_1 - 1
        at = (at + 1) & self.mask
    return UINT32_MAX


cdef inline void key_map_put(
        key_map *self, uint64_t key, uint32_t tag, uint32_t value) noexcept nogil:
    """Add a key that is not in it; `value` is less than UINT32_MAX."""
    cdef uint64_t at = key_map_home(self, key, tag)
    while self.entries[at].value_and_1 != 0:
        at = (at + 1) & self.mask
    self.entries[at].key = key
    self.entries[at].tag = tag
    self.entries[at].value_and_1 = value + 1


cdef inline void key_map_remove(key_map *self, uint64_t key, uint32_t tag) noexcept nogil:
    """Remove a key, if it is in it."""
    cdef uint64_t hole = key_map_home(self, key, tag)
    cdef uint64_t at, home
    while self.entries[hole].key != key or self.entries[hole].tag != tag:
        if self.entries[hole].value_and_1 == 0:
            return
        hole = (hole + 1) & self.mask
    if self.entries[hole].value_and_1 == 0:
        return                  # a vacant entry keeps an old key
    at = hole
    while True:
        at = (at + 1) & self.mask
        if self.entries[at].value_and_1 == 0:
            break
        # It may fill the hole unless its home lies after the hole, up to where it is.
        home = key_map_home(self, self.entries[at].key, self.entries[at].tag)
        if (at - home & self.mask) >= (at - hole & self.mask):
            self.entries[hole] = self.entries[at]
            hole = at
    self.entries[hole].value_and_1 = 0
