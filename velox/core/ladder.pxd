"""One side of a book with one writer: an exact ladder of price levels.

Keys. A bid at tick `t` has the key ``t ^ INT64_MAX``, an ask the key `t`. On both sides the smaller
key is the better price, so the same functions serve both sides without a branch. Ticks are positive
and fit 63 bits. So do keys, and no sum below can wrap.

Window. The quantities of the keys ``base <= key < base + levels`` lie in an array, at
``key & (levels - 1)``: when the window moves, only the levels that leave or enter it move. The
levels worse than the window are in the cold store. After a move the best key lies a quarter of the
way into the window (three quarters, in ticks, for bids). The window moves

- when a better key falls before it, to a quarter before that key;
- when its best lies in its last quarter, and look-ups in the cold store since the last move have
  cost as much as a move (`credit`), so that moves at most double the work;
- when it is empty, to the best of the cold store;
- when the cold store is full, to begin at the best key, where the window holds the most levels.

Between calls, these statements hold:

1. a level is in exactly one of window and cold store, with a quantity over 0;
2. every cold key is ``>= base + levels``;
3. if the window is empty, so is the cold store;
4. `best` is the smallest key and lies in the window; it is NO_KEY if the side is empty.

So a new level finds no room if and only if more levels than the cold store's capacity would lie
`levels` or more ticks behind the best. That depends on the levels of the book, not on earlier moves
of the window.
"""

from libc.stdint cimport INT64_MAX, int64_t, uint64_t

from velox.core.atomic cimport atomic_u64, count, load_relaxed, store_relaxed
from velox.core.bitmap cimport NO_SLOT, bitmap, bitmap_flip, bitmap_next
from velox.core.cold cimport (
    cold_clear, cold_count, cold_gather, cold_put, cold_quantity, cold_room, cold_search, cold_sort,
    cold_store, cold_vacate,
)

cdef extern from *:
    const uint64_t NO_KEY "UINT64_MAX"                  # worse than every key, on either side
    const Py_ssize_t PY_SSIZE_T_MAX
    const uint64_t NOWHERE "((uint64_t)1 << 63)"        # base of a window that holds no key


cdef struct ladder:
    int64_t *quantities         # [levels], in lots
    bitmap occupied
    uint64_t base
    uint64_t best
    uint64_t levels             # a power of two
    uint64_t mirror             # key = tick ^ mirror
    uint64_t credit             # cold updates since the window moved
    # Written by one writer, read by any thread. Relaxed, since they order nothing.
    atomic_u64 hot
    atomic_u64 moves
    cold_store cold


# The progress of a copy of the best levels.
cdef struct ladder_copy:
    uint64_t key                # of the window's next level
    Py_ssize_t hot              # levels copied from the window
    Py_ssize_t looked           # levels of the cold store looked at


cdef inline bint ladder_in_window(const ladder *self, uint64_t key) noexcept nogil:
    return key - self.base < self.levels


cdef inline uint64_t ladder_seat(const ladder *self, uint64_t best) noexcept nogil:
    """The base for which `best` lies a quarter of the way into the window."""
    return best - min(best, self.levels // 4)


cdef inline uint64_t ladder_next(const ladder *self, uint64_t key) noexcept nogil:
    """The first occupied key of the window at or after `key`.

    If there is none, the result lies after the window: the search wraps around the array, and finds
    the slots before `key` one window further on.
    """
    cdef uint64_t mask = self.levels - 1
    cdef uint64_t slot = bitmap_next(&self.occupied, key & mask)
    if slot == NO_SLOT:
        slot = bitmap_next(&self.occupied, 0)
        if slot == NO_SLOT:
            return NO_KEY
    return key + (slot - key & mask)


cdef inline void ladder_move(ladder *self, uint64_t base) noexcept nogil:
    """Move the window.

    The caller must have checked that the cold store has room for the levels that leave.
    """
    cdef uint64_t mask = self.levels - 1
    cdef uint64_t end = self.base + self.levels
    cdef uint64_t key, place
    cdef uint64_t position
    cdef uint64_t hot = load_relaxed(&self.hot)
    if base < self.base and self.best != NO_KEY:
        key = ladder_next(self, max(self.best, base + self.levels))
        while key < end:
            cold_put(&self.cold, key, self.quantities[key & mask])
            self.quantities[key & mask] = 0
            bitmap_flip(&self.occupied, key & mask, 1)
            hot -= 1
            key = ladder_next(self, key)
        if hot == 0:
            self.best = NO_KEY
    elif base > self.base:
        # From the end: a removal fills its gap with the last level, which has already been visited.
        position = cold_count(&self.cold)
        while position > 0:
            position -= 1
            key = self.cold.levels[position].key
            if key - base < self.levels:
                self.quantities[key & mask] = self.cold.levels[position].quantity
                bitmap_flip(&self.occupied, key & mask, 1)
                hot += 1
                self.best = min(self.best, key)
                place = cold_search(&self.cold, key)
                cold_vacate(&self.cold, place)
    store_relaxed(&self.hot, hot)
    self.base = base
    self.credit = 0
    count(&self.moves, 1)


cdef inline void ladder_best_left(ladder *self) noexcept nogil:
    """Find the next best level after the best was removed, and move the window if needed."""
    cdef uint64_t position, nearest
    self.best = ladder_next(self, self.best)
    if self.best == NO_KEY:
        if cold_count(&self.cold) != 0:
            nearest = NO_KEY
            for position in range(cold_count(&self.cold)):
                nearest = min(nearest, self.cold.levels[position].key)
            ladder_move(self, ladder_seat(self, nearest))
    elif self.best - self.base >= self.levels - self.levels // 4 \
            and self.credit >= cold_count(&self.cold):
        ladder_move(self, ladder_seat(self, self.best))


cdef inline bint ladder_put_hot(ladder *self, uint64_t key, int64_t quantity) noexcept nogil:
    """Set a level of the window; 0 removes it.

    Returns whether the level is or was the best, or better.
    """
    cdef uint64_t slot = key & (self.levels - 1)
    cdef uint64_t best = self.best
    cdef uint64_t was = self.quantities[slot] != 0
    cdef uint64_t now = quantity != 0
    self.quantities[slot] = quantity
    bitmap_flip(&self.occupied, slot, was ^ now)
    store_relaxed(&self.hot, load_relaxed(&self.hot) + now - was)
    # A branch here would be mispredicted half the time. So a removed level counts as NO_KEY.
    self.best = min(best, key | (now - 1))
    if key > best:
        return False
    if key == best and now == 0:
        ladder_best_left(self)
    return True


cdef inline int64_t ladder_quantity(const ladder *self, uint64_t key) noexcept nogil:
    if ladder_in_window(self, key):
        return self.quantities[key & (self.levels - 1)]
    if key < self.base:
        return 0
    return cold_quantity(&self.cold, key)


cdef inline void ladder_put(ladder *self, uint64_t key, int64_t quantity) noexcept nogil:
    """Set any level; 0 removes it. A new one needs `ladder_reserve` first."""
    if ladder_in_window(self, key):
        ladder_put_hot(self, key, quantity)
    elif key > self.base:
        self.credit += 1
        cold_put(&self.cold, key, quantity)
    # No level lies before the window, so there is nothing to remove.


cdef inline bint ladder_can_move(const ladder *self, uint64_t base) noexcept nogil:
    """Whether the cold store has room for the levels outside a window that begins at `base`."""
    cdef uint64_t room = cold_room(&self.cold)
    cdef uint64_t end = self.base + self.levels
    cdef uint64_t key
    if self.best == NO_KEY or load_relaxed(&self.hot) <= room:
        return True
    key = ladder_next(self, max(self.best, base + self.levels))
    while key < end:
        if room == 0:
            return False
        room -= 1
        key = ladder_next(self, key + 1)
    return True


cdef inline bint ladder_reserve(ladder *self, uint64_t key) noexcept nogil:
    """Make room for a new level at `key`. False if there is no room; the book is then unchanged."""
    cdef uint64_t base
    if ladder_in_window(self, key):
        return True
    if self.best == NO_KEY:
        ladder_move(self, ladder_seat(self, key))
        return True
    if key > self.base:
        if cold_room(&self.cold) != 0:
            return True
        if self.base == self.best:
            return False
        ladder_move(self, self.best)
        return ladder_in_window(self, key) or cold_room(&self.cold) != 0
    base = ladder_seat(self, key)
    if not ladder_can_move(self, base):
        base = key
        if not ladder_can_move(self, base):
            return False
    ladder_move(self, base)
    return True


cdef inline void ladder_clear(ladder *self) noexcept nogil:
    cdef uint64_t key = self.best
    while key != NO_KEY:
        self.quantities[key & (self.levels - 1)] = 0
        bitmap_flip(&self.occupied, key & (self.levels - 1), 1)
        key = ladder_next(self, key)
    self.best = NO_KEY
    store_relaxed(&self.hot, 0)
    cold_clear(&self.cold)


cdef inline uint64_t ladder_count(const ladder *self) noexcept nogil:
    return load_relaxed(&self.hot) + cold_count(&self.cold)


cdef inline bint ladder_meets(const ladder *self, uint64_t key) noexcept nogil:
    """Whether a level of the other side, with that side's `key`, would trade against the best.

    The best has the key ``best ^ INT64_MAX`` on the other side. For NO_KEY that is negative as a
    signed number; no key is negative.
    """
    return <int64_t>key <= <int64_t>(self.best ^ <uint64_t>INT64_MAX)


cdef inline bint ladder_covers(const ladder *self, uint64_t limit,
                               uint64_t quantity) noexcept nogil:
    """Whether the levels up to the key `limit` hold at least `quantity` in total."""
    cdef uint64_t end = self.base + self.levels
    cdef uint64_t key = self.best
    cdef uint64_t total = 0
    cdef uint64_t position
    # The sum cannot wrap: it exceeds `quantity` by at most one level, and each is at most
    # INT64_MAX.
    while key < end and key <= limit and total < quantity:
        total += <uint64_t>self.quantities[key & (self.levels - 1)]
        key = ladder_next(self, key + 1)
    for position in range(cold_count(&self.cold)):
        if total >= quantity:
            break
        if self.cold.levels[position].key <= limit:
            total += <uint64_t>self.cold.levels[position].quantity
    return total >= quantity


cdef inline void ladder_copy_begin(const ladder *self, ladder_copy *copy) noexcept nogil:
    copy.key = self.best
    copy.hot = copy.looked = 0


cdef inline bint ladder_gather(const ladder *self, ladder_copy *copy, Py_ssize_t n,
                               Py_ssize_t most, int64_t *keys, int64_t *quantities,
                               Py_ssize_t stride) noexcept nogil:
    """Continue a copy of the `n` best levels, by `most` levels each of window and cold store.

    True once the copy is complete; `ladder_arrange` then sorts it and computes prices. Each level
    of the window costs a bit scan. If the window holds fewer than `n` levels, the whole cold store
    is searched.
    """
    cdef uint64_t end = self.base + self.levels
    cdef Py_ssize_t stop = copy.hot + min(most, n - copy.hot)
    cdef Py_ssize_t cold
    while copy.hot < stop and copy.key < end:
        keys[copy.hot * stride] = <int64_t>copy.key
        quantities[copy.hot * stride] = self.quantities[copy.key & (self.levels - 1)]
        copy.hot += 1
        copy.key = ladder_next(self, copy.key + 1)
    if copy.hot == n or copy.key < end:
        return copy.hot == n
    cold = <Py_ssize_t>cold_count(&self.cold)
    stop = copy.looked + min(most, cold - copy.looked)
    cold_gather(&self.cold, copy.looked, stop, n - copy.hot, keys + copy.hot * stride,
                quantities + copy.hot * stride, stride)
    copy.looked = stop
    return stop == cold


cdef inline Py_ssize_t ladder_arrange(const ladder *self, const ladder_copy *copy, Py_ssize_t n,
                                      int64_t tick_size, int64_t *prices, int64_t *quantities,
                                      Py_ssize_t stride) noexcept nogil:
    """Sort a complete copy, best first, replace keys by prices, and return how many levels it has.

    It reads only the constant fields of the ladder, since a writer may be writing again.
    """
    cdef Py_ssize_t cold = min(n - copy.hot, copy.looked)
    cdef Py_ssize_t row
    cold_sort(prices + copy.hot * stride, quantities + copy.hot * stride, stride, cold)
    for row in range(copy.hot + cold):
        prices[row * stride] = (prices[row * stride] ^ <int64_t>self.mirror) * tick_size
    return copy.hot + cold


cdef inline Py_ssize_t ladder_depth(const ladder *self, Py_ssize_t n, int64_t tick_size,
                                    int64_t *prices, int64_t *quantities,
                                    Py_ssize_t stride) noexcept nogil:
    """Copy up to `n` levels, best first, `stride` numbers apart; return how many."""
    cdef ladder_copy copy
    ladder_copy_begin(self, &copy)
    ladder_gather(self, &copy, n, PY_SSIZE_T_MAX, prices, quantities, stride)
    return ladder_arrange(self, &copy, n, tick_size, prices, quantities, stride)
