"""The cold store: exact, bounded storage for levels outside a book's window.

An open-addressed index of positions (linear probing, at most half full, no tombstones) over a dense
array of levels. Moving the window therefore visits only the levels that exist, not every slot of a
hash table.

A key keeps its low four bits in the index. So sixteen neighbouring prices share one cache line,
since successive updates often have neighbouring prices.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from velox.core.atomic cimport atomic_u64, load_relaxed, store_relaxed

cdef enum:
    COLD_MAX_LEVELS = 1 << 24


cdef struct cold_level:
    uint64_t key
    int64_t quantity


cdef struct cold_store:
    cold_level *levels      # [capacity], the first `count` in use, in no order
    uint32_t *index         # [mask + 1]: 0 for nothing, or 1 + a position in `levels`
    uint32_t mask
    uint32_t shift          # 64 - the bits of a block number
    uint64_t capacity
    atomic_u64 count        # one writer, any reader: relaxed, it orders nothing


cdef inline uint64_t cold_index_size(uint64_t capacity) noexcept nogil:
    cdef uint64_t size = 64
    while size < 2 * capacity:
        size *= 2
    return size


cdef inline uint64_t cold_count(const cold_store *self) noexcept nogil:
    return load_relaxed(&self.count)


cdef inline uint64_t cold_room(const cold_store *self) noexcept nogil:
    return self.capacity - load_relaxed(&self.count)


cdef inline uint64_t cold_home(const cold_store *self, uint64_t key) noexcept nogil:
    """Where the search for a key begins; 2**64 over the golden ratio scatters the blocks."""
    return ((key >> 4) * <uint64_t>0x9E3779B97F4A7C15 >> self.shift) << 4 | key & 15


cdef inline uint64_t cold_search(const cold_store *self, uint64_t key) noexcept nogil:
    """The place of a key in the index, or the empty place where it would go."""
    cdef uint64_t place = cold_home(self, key)
    # The loop ends, since at least half of the index is empty.
    while self.index[place] != 0 and self.levels[self.index[place] - 1].key != key:
        place = place + 1 & self.mask
    return place


cdef inline int64_t cold_quantity(const cold_store *self, uint64_t key) noexcept nogil:
    cdef uint32_t position = self.index[cold_search(self, key)]
    return self.levels[position - 1].quantity if position else 0


cdef inline void cold_vacate(cold_store *self, uint64_t place) noexcept nogil:
    """Remove the level at a place of the index; later levels close both gaps."""
    cdef uint64_t position = self.index[place] - 1
    cdef uint64_t last = load_relaxed(&self.count) - 1
    cdef uint64_t probe = place
    # The index comes first, while every key can still be looked up. An entry moves back into the
    # gap unless its own search begins after the gap.
    while True:
        probe = probe + 1 & self.mask
        if self.index[probe] == 0:
            break
        if (probe - cold_home(self, self.levels[self.index[probe] - 1].key) & self.mask) \
                >= (probe - place & self.mask):
            self.index[place] = self.index[probe]
            place = probe
    self.index[place] = 0
    if position != last:
        self.index[cold_search(self, self.levels[last].key)] = <uint32_t>position + 1
        self.levels[position] = self.levels[last]
    store_relaxed(&self.count, last)


cdef inline void cold_put(cold_store *self, uint64_t key, int64_t quantity) noexcept nogil:
    """Set a level; 0 removes it. The caller must have made room for a new one."""
    cdef uint64_t place = cold_search(self, key)
    cdef uint64_t position = self.index[place]
    if position != 0:
        if quantity != 0:
            self.levels[position - 1].quantity = quantity
        else:
            cold_vacate(self, place)
    elif quantity != 0:
        position = load_relaxed(&self.count)
        self.levels[position].key = key
        self.levels[position].quantity = quantity
        self.index[place] = <uint32_t>position + 1
        store_relaxed(&self.count, position + 1)


cdef inline void cold_clear(cold_store *self) noexcept nogil:
    if load_relaxed(&self.count) != 0:
        memset(self.index, 0, (self.mask + 1) * sizeof(uint32_t))
        store_relaxed(&self.count, 0)


cdef inline void cold_sift(int64_t *keys, int64_t *quantities, Py_ssize_t stride,
                           Py_ssize_t root, Py_ssize_t count) noexcept nogil:
    """Sift down the level at `root` in a heap whose largest key is on top."""
    cdef int64_t key = keys[root * stride]
    cdef int64_t quantity = quantities[root * stride]
    cdef Py_ssize_t child = 2 * root + 1
    while child < count:
        if child + 1 < count and keys[(child + 1) * stride] > keys[child * stride]:
            child += 1
        if keys[child * stride] <= key:
            break
        keys[root * stride] = keys[child * stride]
        quantities[root * stride] = quantities[child * stride]
        root = child
        child = 2 * root + 1
    keys[root * stride] = key
    quantities[root * stride] = quantity


cdef inline void cold_rise(int64_t *keys, int64_t *quantities, Py_ssize_t stride,
                           Py_ssize_t place) noexcept nogil:
    """Sift up the level at `place`, which follows such a heap."""
    cdef int64_t key = keys[place * stride]
    cdef int64_t quantity = quantities[place * stride]
    cdef Py_ssize_t parent
    while place > 0:
        parent = (place - 1) >> 1
        if keys[parent * stride] >= key:
            break
        keys[place * stride] = keys[parent * stride]
        quantities[place * stride] = quantities[parent * stride]
        place = parent
    keys[place * stride] = key
    quantities[place * stride] = quantity


cdef inline void cold_gather(const cold_store *self, Py_ssize_t start, Py_ssize_t end,
                             Py_ssize_t n, int64_t *keys, int64_t *quantities,
                             Py_ssize_t stride) noexcept nogil:
    """Add the levels from `start` to `end` to a copy of the `n` levels with the smallest keys.

    Call it from 0 to the end of the store, in pieces of any length; then `cold_sort` sorts the
    copy. If there are more than `n` levels, the copy is a heap in the caller's arrays. It allocates
    nothing and takes at most O(log n) a level.
    """
    cdef bint crowded = <Py_ssize_t>cold_count(self) > n
    cdef Py_ssize_t position
    for position in range(start, end):
        if position < n:
            keys[position * stride] = <int64_t>self.levels[position].key
            quantities[position * stride] = self.levels[position].quantity
            if crowded:
                cold_rise(keys, quantities, stride, position)
        elif <int64_t>self.levels[position].key < keys[0]:
            keys[0] = <int64_t>self.levels[position].key
            quantities[0] = self.levels[position].quantity
            cold_sift(keys, quantities, stride, 0, n)


cdef inline void cold_sort(int64_t *keys, int64_t *quantities, Py_ssize_t stride,
                           Py_ssize_t count) noexcept nogil:
    """Sort levels by their keys."""
    cdef Py_ssize_t position
    cdef int64_t key, quantity
    for position in range((count >> 1) - 1, -1, -1):
        cold_sift(keys, quantities, stride, position, count)
    for position in range(count - 1, 0, -1):
        key = keys[0]
        quantity = quantities[0]
        keys[0] = keys[position * stride]
        quantities[0] = quantities[position * stride]
        keys[position * stride] = key
        quantities[position * stride] = quantity
        cold_sift(keys, quantities, stride, 0, position)
