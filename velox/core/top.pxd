"""The best bid and ask, which a book's one writer publishes for any number of readers.

Two slots and a version, 128 bytes of their own. Version `v` is in slot ``v & 1``; the writer fills
the other slot and then moves the version on. A reader loads the version, the slot that it names,
and the version again. If both numbers are equal, the slot was complete.

Top line, 128 bytes::

     0       8       16      24      32      40              64
    +-------+-------+-------+-------+-------+---------------+
    |version| bid   | bid   | ask   | ask   |               |   the slot of even versions
    |       | price | quant.| price | quant.|               |
    +-------+-------+-------+-------+-------+---------------+
     64      72      80      88      96                     128
    +-------+-------+-------+-------+-----------------------+
    | bid   | bid   | ask   | ask   |                       |   the slot of odd versions
    | price | quant.| price | quant.|                       |
    +-------+-------+-------+-------+-----------------------+

Why two slots, and not one under a sequence lock: with one slot, a writer that loses its processor
half-way leaves the slot unreadable until it runs again. With two, the readers use the previous
version. A read is repeated only if a whole new version was published during it.

Proof, in C11's terms. Let a reader load version `v` first and last.

1. Nothing older. The store of `v` is a release after the stores to its slot, and the first load is
   an acquire that reads it. So the slot's stores happen before the reader's loads of the slot.
   These loads cannot return the slot's content from before `v` (write-read coherence).
2. Nothing newer. The slot is next written for ``v + 2``, by release stores that follow the store of
   version ``v + 1`` in the writer's program. Suppose that one of the reader's acquire loads took
   such a value. Then the store of ``v + 1`` would happen before the reader's last load, which could
   not return `v` (read-write coherence). But it returned `v`.

The last load may be relaxed: step 2 orders it after the loads of the data, which are acquires.
There is no fence and no locked instruction; on x86-64 each of these operations is a plain move. A
version of 64 bits does not wrap.
"""

from libc.stdint cimport int64_t, uint64_t

from velox.core.atomic cimport (
    atomic_i64, atomic_u64, load_acquire, load_i64_acquire, load_relaxed, store_i64_release,
    store_release,
)
from velox.core.memory cimport STATIC_ASSERT

# Prices in 1e-4, quantities in lots; an empty side has quantity 0 and price 0.
cdef struct book_top:
    int64_t bid_price
    int64_t bid_quantity
    int64_t ask_price
    int64_t ask_quantity

cdef struct top_slot:
    atomic_i64 bid_price
    atomic_i64 bid_quantity
    atomic_i64 ask_price
    atomic_i64 ask_quantity

cdef struct top_line:
    atomic_u64 version
    top_slot even
    uint64_t padding_even[3]
    top_slot odd
    uint64_t padding_odd[4]


cdef inline void top_line_assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(top_line) == 128)
    STATIC_ASSERT(<size_t>&(<top_line *>NULL).even == 8)
    STATIC_ASSERT(<size_t>&(<top_line *>NULL).odd == 64)


cdef inline void top_line_publish(top_line *self, const book_top *top) noexcept nogil:
    """Called by the writer. A zeroed line is version 0 of an empty book."""
    # Relaxed: the writer reads what it stored itself.
    cdef uint64_t version = load_relaxed(&self.version) + 1
    cdef top_slot *slot = &self.odd if version & 1 else &self.even
    # Release: a reader that sees one of these also sees the version before this one (step 2).
    store_i64_release(&slot.bid_price, top.bid_price)
    store_i64_release(&slot.bid_quantity, top.bid_quantity)
    store_i64_release(&slot.ask_price, top.ask_price)
    store_i64_release(&slot.ask_quantity, top.ask_quantity)
    # Release: a reader that sees the version sees its slot (step 1).
    store_release(&self.version, version)


cdef inline bint top_line_try_read(const top_line *self, book_top *top) noexcept nogil:
    """Try once to read; for any thread. False if a new version was published meanwhile."""
    # Acquire: this thread sees the slot that the version names (step 1).
    cdef uint64_t version = load_acquire(&self.version)
    cdef const top_slot *slot = &self.odd if version & 1 else &self.even
    # Acquire: after a value of a later version, the last load also returns that version (step 2).
    top.bid_price = load_i64_acquire(&slot.bid_price)
    top.bid_quantity = load_i64_acquire(&slot.bid_quantity)
    top.ask_price = load_i64_acquire(&slot.ask_price)
    top.ask_quantity = load_i64_acquire(&slot.ask_quantity)
    # Relaxed: the acquires above keep this load after them.
    return load_relaxed(&self.version) == version
