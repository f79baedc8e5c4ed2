"""Gives readers the depth of a book while its one writer writes.

A reader asks by incrementing `want`. The writer reads `want` between records. It writes a letter
with the best levels of both sides, and stores in `have` the last request that it answered. One
letter answers every reader that asked before the letter was begun. Without readers, the writer only
loads a cache line that no thread writes.

Mailbox, 256 bytes, and two letters::

     0                                              128
    +-------+--------------------------------------+
    | want  |                                      |   readers write
    +-------+--------------------------------------+
     128     136     144     152     160            256
    +-------+-------+-------+-------+--------------+
    | have  |version| letter| capa- |              |   the writer writes
    |       |       | *     | city  |              |
    +-------+-------+-------+-------+--------------+

    letter: bid count, ask count, bid prices[capacity], bid quantities[capacity],
            ask prices[capacity], ask quantities[capacity]; 8 bytes each

Letters alternate as the slots of `velox.core.top` do, and the proof there holds here too. Version
`v` is letter ``v & 1``. Its words are written with release, and read with acquire between two loads
of the version. A reader waits until its request is answered. It never waits for a writer that
stopped within a letter.
"""

from libc.stdint cimport int64_t, uint64_t

from velox.core.atomic cimport (
    atomic_i64, atomic_u64, fetch_add_relaxed, load_acquire, load_i64_acquire, load_relaxed,
    store_i64_release, store_release,
)
from velox.core.memory cimport STATIC_ASSERT

# One row of a depth: prices in 1e-4, quantities in lots, 0 and 0 where a side has no level.
cdef struct depth_row:
    int64_t bid_price
    int64_t bid_quantity
    int64_t ask_price
    int64_t ask_quantity

cdef struct depth_counts:
    Py_ssize_t bids
    Py_ssize_t asks

cdef struct mailbox:
    atomic_u64 want
    uint64_t padding_want[15]
    atomic_u64 have
    atomic_u64 version
    atomic_i64 *letters
    Py_ssize_t capacity
    uint64_t padding_have[12]


cdef inline void mailbox_assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(mailbox) == 256)
    STATIC_ASSERT(<size_t>&(<mailbox *>NULL).have == 128)
    STATIC_ASSERT(<size_t>&(<mailbox *>NULL).version == 136)
    STATIC_ASSERT(sizeof(depth_row) == 32)


cdef inline size_t letter_words(Py_ssize_t capacity) noexcept nogil:
    return 2 + 4 * <size_t>capacity


cdef inline uint64_t mailbox_ask(mailbox *self) noexcept nogil:
    """Make a reader's request, and return its number for `mailbox_try_read`."""
    # Relaxed: the request carries no data, and the answer is ordered by `have`.
    return fetch_add_relaxed(&self.want, 1) + 1


cdef inline uint64_t mailbox_asked(const mailbox *self) noexcept nogil:
    """Called by the writer: return the newest request, or 0 if all are answered."""
    # Relaxed: a request that is seen late is only answered late.
    cdef uint64_t want = load_relaxed(&self.want)
    return want if want != load_relaxed(&self.have) else 0


cdef inline void mailbox_write(mailbox *self, uint64_t request, const depth_row *rows,
                               depth_counts counts) noexcept nogil:
    """Called by the writer: answer every request up to `request`."""
    # Relaxed: the writer reads what it stored itself.
    cdef uint64_t version = load_relaxed(&self.version) + 1
    cdef atomic_i64 *letter = self.letters + (version & 1) * letter_words(self.capacity)
    cdef atomic_i64 *bids = letter + 2
    cdef atomic_i64 *asks = bids + 2 * self.capacity
    cdef Py_ssize_t row
    # Release, all of them: a reader that sees one also sees the version before this one.
    store_i64_release(&letter[0], counts.bids)
    store_i64_release(&letter[1], counts.asks)
    for row in range(counts.bids):
        store_i64_release(&bids[row], rows[row].bid_price)
        store_i64_release(&bids[self.capacity + row], rows[row].bid_quantity)
    for row in range(counts.asks):
        store_i64_release(&asks[row], rows[row].ask_price)
        store_i64_release(&asks[self.capacity + row], rows[row].ask_quantity)
    # Release: a reader that sees the version sees its letter.
    store_release(&self.version, version)
    # Release: a reader that sees its request answered sees at least this version.
    store_release(&self.have, request)


cdef inline bint mailbox_try_read(const mailbox *self, uint64_t request, Py_ssize_t n,
                                  depth_row *rows, depth_counts *counts) noexcept nogil:
    """Try once to read up to `n` rows of each side.

    False if the request is not answered, or a newer letter came meanwhile.

    `counts` receives how many levels the letter holds, which may be more than `n`. Rows after a
    side's last level are not changed.
    """
    cdef uint64_t version
    cdef const atomic_i64 *letter
    cdef const atomic_i64 *bids
    cdef const atomic_i64 *asks
    cdef Py_ssize_t row
    # Acquire: pairs with the release of `have`, so that the version read next is new enough.
    if load_acquire(&self.have) < request:
        return False
    # Acquire: this thread sees the letter that the version names.
    version = load_acquire(&self.version)
    letter = self.letters + (version & 1) * letter_words(self.capacity)
    bids = letter + 2
    asks = bids + 2 * self.capacity
    # Acquire, all of them: after a word of a later version, the last load below also returns that
    # version. The counts are at most `capacity` in every version.
    counts.bids = load_i64_acquire(&letter[0])
    counts.asks = load_i64_acquire(&letter[1])
    for row in range(min(n, counts.bids)):
        rows[row].bid_price = load_i64_acquire(&bids[row])
        rows[row].bid_quantity = load_i64_acquire(&bids[self.capacity + row])
    for row in range(min(n, counts.asks)):
        rows[row].ask_price = load_i64_acquire(&asks[row])
        rows[row].ask_quantity = load_i64_acquire(&asks[self.capacity + row])
    # Relaxed: the acquires above keep this load after them.
    return load_relaxed(&self.version) == version
