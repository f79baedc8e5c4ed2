"""The levels of one market, which any number of threads write and read without a lock.

They are quantities by price level, with a bitmap above them that finds the best in a few loads.

Every word is a counter over a value, and is *vacant* while its value is zero::

     63                  47                                              0
    +-------------------+-------------------------------------------------+
    | epoch, 17 bits    | quantity, 47 bits                               |   a level: tier 0
    +-------------------+-------------------------------------------------+
     63                                31                                0
    +---------------------------------+-----------------------------------+
    | version, 32 bits                | occupied, one bit a word below    |   the bitmap: tiers 1..
    +---------------------------------+-----------------------------------+

Two rules hold between every tier and the one above it. ``docs/explanation/shared-book.md`` proves
them:

1. *Announce*: a thread that fills a vacant word first sets its bit in the word above, always under
a new version, even if the bit is set already. 2. *Withdraw*: a thread that vacates a word gives it
a new counter. Then it clears the word's bit by a compare-and-swap against what the word above held
*before*. If that fails, it repeats both steps.

So a word that is not vacant has its bit set, at every instant. A set bit does not imply that its
word is not vacant. A quantity that stays above zero costs one compare-and-swap and no write to the
bitmap.

One block, 128-aligned, with no pointer inside::

      0                               8
     +-------------------------------+-------------------------------+
   0 | levels                        | base_tick                     |
     +-------------------------------+---------------+---------------+
  16 | stride, in words              | root          | tries         |
     +-------------------------------+---------------+---------------+
  32 | tier[0]                       | tier[1]                       |
     +-------------------------------+-------------------------------+
  48 | tier[2]                       | tier[3]                       |
     +-------------------------------+-------------------------------+
  64 | tier[4]                       | reserved[0]                   |
     +-------------------------------+-------------------------------+
  80 | reserved[1..6]                                                |
     +---------------------------------------------------------------+
 128 | bids: `stride` words, tier t from word tier[t] on             |
     +---------------------------------------------------------------+
     | asks: `stride` words                                          |
     +---------------------------------------------------------------+

A level lies at its *rank*, its distance from the best price that the window can hold, so that the
best level of either side is its lowest bit.
"""

from cython cimport likely, unlikely
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from velox.core.atomic cimport (
    atomic_u64,
    cas_weak_acq_rel_else_relaxed,
    load_acquire,
    load_relaxed,
)
from velox.core.effect cimport EFFECTS, effect_apply
from velox.core.memory cimport page_choice
from velox.core.records cimport (
    KINDS,
    KIND_CLEAR,
    SIDE_BID,
    STATUSES,
    STATUS_APPLIED,
    STATUS_KIND,
    STATUS_OUT_OF_WINDOW,
    STATUS_OVERFLOW,
    STATUS_TIMEOUT,
    STATUS_UNDERFLOW,
)

cdef extern from *:
    """
    #ifndef VELOX_SHARED_BOOK_INCLUDED
    #define VELOX_SHARED_BOOK_INCLUDED
    /* Wider than an enumerator of C11 may be. */
    #define VELOX_LEVEL_QUANTITY ((UINT64_C(1) << 47) - 1)
    #define VELOX_LEVEL_EPOCH (UINT64_C(1) << 47)
    #define VELOX_BITMAP_OCCUPIED ((UINT64_C(1) << 32) - 1)
    #define VELOX_BITMAP_VERSION (UINT64_C(1) << 32)
    #endif
    """
    const uint64_t LEVEL_QUANTITY "VELOX_LEVEL_QUANTITY"     # the value of a level; its maximum
    const uint64_t LEVEL_EPOCH "VELOX_LEVEL_EPOCH"           # one step of its counter
    const uint64_t BITMAP_OCCUPIED "VELOX_BITMAP_OCCUPIED"
    const uint64_t BITMAP_VERSION "VELOX_BITMAP_VERSION"

cdef enum:
    SHARED_BOOK_TRIES = 100      # compare-and-swaps that an update may lose before it times out

cdef struct shared_book:
    uint64_t levels
    int64_t base_tick
    uint64_t stride
    uint32_t root
    uint32_t tries
    uint64_t tier[5]
    uint64_t reserved[7]

# `levels` is a power of two, 64 to 2**18, and base_tick + levels fits 64 bits.
# NULL: there is no memory.
cdef shared_book *shared_book_new(
    uint64_t levels, int64_t base_tick, page_choice when) noexcept nogil
# Its size in bytes.
cdef uint64_t shared_book_bytes(const shared_book *book) noexcept nogil
# The number of levels of a side that were occupied when each was read.
cdef uint64_t shared_book_count(shared_book *book, uint8_t side) noexcept nogil
# Call it when no thread uses the book any more. NULL is allowed.
cdef void shared_book_free(shared_book *book) noexcept nogil

# False if the side is empty. The definition describes what holds while others write.
cdef bint shared_book_best(
    shared_book *book, uint8_t side, int64_t *tick, int64_t *quantity) noexcept nogil
# Best first, `stride` numbers apart; returns how many levels it wrote, at most `n`.
cdef Py_ssize_t shared_book_depth(
    shared_book *book, uint8_t side, Py_ssize_t n,
    int64_t *ticks, int64_t *quantities, Py_ssize_t stride) noexcept nogil

# Functions for the uncommon paths of an update.
cdef uint8_t shared_book_clear(shared_book *book, uint8_t side) noexcept nogil
cdef bint shared_book_announce(
    shared_book *book, atomic_u64 *words, uint32_t tier, uint64_t index,
    uint32_t *lost) noexcept nogil
cdef void shared_book_withdraw(
    shared_book *book, atomic_u64 *words, uint32_t tier, uint64_t index,
    uint64_t above) noexcept nogil
cdef bint shared_book_try_again(shared_book *book, uint32_t *lost) noexcept nogil


cdef inline atomic_u64 *shared_book_words(shared_book *book, uint8_t side) noexcept nogil:
    """The first word of a side: its levels by rank, and then its bitmap."""
    return <atomic_u64 *>(book + 1) + side * book.stride


cdef inline uint64_t shared_book_rank(
        shared_book *book, uint8_t side, int64_t tick) noexcept nogil:
    """The rank of a tick; `levels` or more if the tick lies outside the window.

    The arithmetic is unsigned, so a tick below the window wraps to far above it. Counting from the
    other end of a power of two is an exclusive or, which is its own inverse.
    """
    # Minus 1, the side is a mask: all ones for SIDE_BID, 0 for SIDE_ASK. Sides cannot be guessed.
    return (<uint64_t>tick - <uint64_t>book.base_tick) ^ (
        (book.levels - 1) & (<uint64_t>side - 1))


cdef inline int64_t shared_book_tick(
        shared_book *book, uint8_t side, uint64_t rank) noexcept nogil:
    """The tick at a rank of the window."""
    return book.base_tick + <int64_t>(rank ^ (book.levels - 1 if side == SIDE_BID else 0))


cdef inline int64_t shared_book_quantity(
        shared_book *book, uint8_t side, int64_t tick) noexcept nogil:
    """The quantity of a level; 0 for a tick outside the window."""
    cdef uint64_t rank = shared_book_rank(book, side, tick)
    if rank >= book.levels:
        return 0
    # Acquire: a thread that sees this quantity also sees every update before it.
    return <int64_t>(load_acquire(shared_book_words(book, side) + rank) & LEVEL_QUANTITY)


cdef inline bint shared_book_is_clear(
        shared_book *book, uint8_t side, int64_t tick) noexcept nogil:
    """Whether this thread sees that a side has no level at a tick of the window and no better one.

    False may be wrong, since a bit may be set over a vacant level. It takes two loads for 1024
    levels.
    """
    cdef atomic_u64 *words = shared_book_words(book, side)
    cdef uint64_t rank = shared_book_rank(book, side, tick)
    cdef uint64_t seen = 0
    cdef uint64_t index
    cdef uint32_t tier
    for tier in range(book.root, 0, -1):
        index = rank >> (5 * (tier - 1))
        # The bits of better levels. Relaxed: coherence shows every bit of an update that happened
        # before this load. Of other updates, the result says nothing.
        seen |= (load_relaxed(words + book.tier[tier] + (index >> 5)) & BITMAP_OCCUPIED) \
            << (63 - (index & 31)) << (tier > 1)
    return seen == 0


cdef inline uint8_t shared_book_update(
        shared_book *book, uint8_t side, uint8_t kind, int64_t tick,
        uint64_t quantity) noexcept nogil:
    """Change one level, also while other threads change it; `side` is SIDE_BID or SIDE_ASK.

    Every status but STATUS_APPLIED means that nothing changed. STATUS_TIMEOUT: other threads
    changed the level first `tries` times in a row, and the caller must try again. Only KIND_CLEAR
    changes many levels, one after the other. If it times out, it may have emptied some of them; it
    is safe to repeat.
    """
    cdef atomic_u64 *words = shared_book_words(book, side)
    cdef uint64_t rank, seen, held, wanted, above = 0
    cdef uint32_t lost = 0
    cdef uint8_t status
    if unlikely(kind == KIND_CLEAR):
        return shared_book_clear(book, side)
    rank = shared_book_rank(book, side, tick)
    if unlikely(rank >= book.levels):
        return STATUS_OUT_OF_WINDOW
    if unlikely(kind >= KINDS):
        return STATUS_KIND
    quantity &= EFFECTS[kind].size | EFFECTS[kind].id
    if unlikely(quantity > LEVEL_QUANTITY):
        # Whatever the level holds.
        return STATUS_UNDERFLOW if EFFECTS[kind].taken else STATUS_OVERFLOW
    while True:
        # Acquire: a status, or a change of nothing, rests on this load alone. The caller must see
        # what led to it. In rule 2 it also is the load that orders an announcement after the
        # withdrawal that it read.
        seen = load_acquire(words + rank)
        held = seen & LEVEL_QUANTITY
        status = effect_apply(kind, held, quantity, LEVEL_QUANTITY, &wanted)
        if unlikely(status != STATUS_APPLIED or wanted == held):
            return status
        if unlikely(held == 0):
            if not shared_book_announce(book, words, 1, rank, &lost):
                return STATUS_TIMEOUT
        elif unlikely(wanted == 0):
            wanted = LEVEL_EPOCH
            # Relaxed: the swap below releases this load to a thread that finds the level vacant. So
            # this load cannot have read an announcement made after that swap.
            above = load_relaxed(words + book.tier[1] + (rank >> 5))
        # Release: a thread that sees the new quantity also sees the bit announced for it, and all
        # that this thread did before. Acquire: the bit of a level that another thread filled is
        # that thread's doing, and this update must not be complete without it. Relaxed on failure:
        # what it read is not used. The difference changes the quantity. If the level becomes empty,
        # it also changes the epoch.
        if likely(cas_weak_acq_rel_else_relaxed(words + rank, &seen, seen - held + wanted)):
            if unlikely(wanted == LEVEL_EPOCH):
                shared_book_withdraw(book, words, 0, rank, above)
            return STATUS_APPLIED
        if not shared_book_try_again(book, &lost):
            return STATUS_TIMEOUT


cdef class SharedLadder:
    cdef shared_book *book
    cdef atomic_u64 totals[STATUSES + 1]
