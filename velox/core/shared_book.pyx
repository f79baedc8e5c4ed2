"""The levels of a book with several writers: functions not inlined, and `SharedLadder`.

``shared_book.pxd`` describes the protocol, and ``docs/explanation/shared-book.md`` proves it.
"""

import numpy as np
cimport cython
cimport numpy as cnp
from libc.string cimport memcpy

from velox.core.atomic cimport (
    cas_weak_release_else_relaxed,
    fetch_add_relaxed,
    relax,
)
from velox.core.effect cimport effect_amount
from velox.core.memory cimport (
    HUGE_PAGES_AUTO, STATIC_ASSERT, allocate_pages, page_choice, release_memory,
)
from velox.core.records cimport (
    KIND_DELETE,
    STATUSES,
    SIDE_ASK,
    STATUS_SIDE,
    Transaction,
    transaction_fault,
    transactions_of,
)

from velox.core.instrument import MAX_LEVELS, MIN_LEVELS
from velox.core.records import Rejection
from velox.errors import BookError

cdef extern from *:
    int count_trailing_zeros "__builtin_ctz"(uint32_t bits) noexcept nogil
    int count_ones "__builtin_popcount"(uint32_t bits) noexcept nogil
    const int64_t INT64_MIN

cnp.import_array()

__all__ = ["TIMEOUT", "SharedLadder"]

TIMEOUT = STATUS_TIMEOUT

cdef enum:
    CLEANUP_SHARE = 8      # an update makes so many times the tries that a clean-up makes
    LONGEST_WAIT = 6       # doublings of the pause after a lost compare-and-swap: 64 relaxes
    BEST_TRIES = 64        # collects that a reader of the best makes before it takes the last one
    WITNESSES = 16         # words that one collect can vouch for

cdef struct shared_witness:
    atomic_u64 *word
    uint64_t value

# A walk over the occupied levels of one side, best first.
cdef struct shared_walk:
    atomic_u64 *words
    uint32_t tier               # the walk stands at bit `index` of this tier
    uint64_t index
    uint32_t witnessed          # how many loads came before the one that ended the step
    shared_witness witness[WITNESSES]


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(shared_book) == 128)
    STATIC_ASSERT(<size_t>&(<shared_book *>NULL).base_tick == 8)
    STATIC_ASSERT(<size_t>&(<shared_book *>NULL).stride == 16)
    STATIC_ASSERT(<size_t>&(<shared_book *>NULL).root == 24)
    STATIC_ASSERT(<size_t>&(<shared_book *>NULL).tries == 28)
    STATIC_ASSERT(<size_t>&(<shared_book *>NULL).tier == 32)
    STATIC_ASSERT(<size_t>&(<shared_book *>NULL).reserved == 72)


assert_layout()


cdef shared_book *shared_book_new(
        uint64_t levels, int64_t base_tick, page_choice when) noexcept nogil:
    cdef uint64_t tier[5]
    cdef uint64_t words = 0, count = levels
    cdef uint32_t root = 0
    cdef shared_book *book
    while True:
        tier[root] = words
        words += count
        if count == 1:
            break
        count = (count + 31) >> 5
        root += 1
    words = (words + 15) & ~<uint64_t>15      # the next side starts at a multiple of 128 bytes
    book = <shared_book *>allocate_pages(
        sizeof(shared_book) + 2 * words * sizeof(uint64_t), when)
    if book != NULL:
        book.levels = levels
        book.base_tick = base_tick
        book.stride = words
        book.root = root
        book.tries = SHARED_BOOK_TRIES
        memcpy(book.tier, tier, (root + 1) * sizeof(uint64_t))
    return book


cdef void shared_book_free(shared_book *book) noexcept nogil:
    release_memory(book)


cdef uint64_t shared_book_bytes(const shared_book *book) noexcept nogil:
    return sizeof(shared_book) + 2 * book.stride * sizeof(uint64_t)


cdef uint64_t shared_book_count(shared_book *book, uint8_t side) noexcept nogil:
    cdef atomic_u64 *words = shared_book_words(book, side)
    cdef uint64_t rank
    cdef uint64_t count = 0
    for rank in range(book.levels):
        # Relaxed: a count over many words is not exact at one instant in any case.
        count += (load_relaxed(words + rank) & LEVEL_QUANTITY) != 0
    return count


cdef bint try_again(uint32_t tries, uint32_t *lost) noexcept nogil:
    """Wait after a lost compare-and-swap, twice as long each time.

    False if that was the last try.
    """
    cdef uint32_t _pause
    if lost[0] + 1 >= tries:
        return False
    for _pause in range(<uint32_t>1 << min(lost[0], <uint32_t>LONGEST_WAIT)):
        relax()
    lost[0] += 1
    return True


cdef bint shared_book_try_again(shared_book *book, uint32_t *lost) noexcept nogil:
    return try_again(book.tries, lost)


cdef bint shared_book_announce(
        shared_book *book, atomic_u64 *words, uint32_t tier, uint64_t index,
        uint32_t *lost) noexcept nogil:
    """Rule 1: set bit `index` of a tier, for a word below it that this thread saw vacant.

    The same rule fills the bitmap's own words, so the root comes first. False if the tries ran out.
    A bit may then stay set over a vacant word, which is allowed.
    """
    cdef atomic_u64 *word = words + book.tier[tier] + (index >> 5)
    cdef uint64_t seen
    while True:
        # Acquire: this word is vacant, so its bit is announced to the next tier. That must come
        # after the withdrawal that vacated it, and after what the withdrawal had read. If the word
        # was occupied, another thread announced it. A thread that sees our update must see that
        # announcement too.
        seen = load_acquire(word)
        if not seen & BITMAP_OCCUPIED and tier < book.root:
            if not shared_book_announce(book, words, tier + 1, index >> 5, lost):
                return False
        # Release: a thread that sees this bit also sees its word announced above. No acquire: the
        # word never has the same value twice, so this reads the value that was acquired just now.
        # Relaxed on failure: what it read is not used.
        if cas_weak_release_else_relaxed(
                word, &seen, (seen | <uint64_t>1 << (index & 31)) + BITMAP_VERSION):
            return True
        if not shared_book_try_again(book, lost):
            return False


cdef void withdraw(
        shared_book *book, atomic_u64 *words, uint32_t tier, uint64_t index,
        uint64_t above, uint32_t *lost) noexcept nogil:
    """Rule 2: clear the bit of a word that was made vacant after `above`, its parent, was read.

    The update is complete without it, and each new counter may cost another thread's update a try.
    So it gives up if the word is filled again or another thread has cleared the bit. It also gives
    up after an eighth of an update's tries, over all tiers. A bit over a vacant word costs readers
    a visit, and the next thread that empties the word tries again.
    """
    cdef atomic_u64 *word = words + book.tier[tier] + index
    cdef atomic_u64 *parent = words + book.tier[tier + 1] + (index >> 5)
    cdef uint64_t bit = <uint64_t>1 << (index & 31)
    cdef uint64_t value = LEVEL_QUANTITY if tier == 0 else BITMAP_OCCUPIED
    cdef uint64_t step = LEVEL_EPOCH if tier == 0 else BITMAP_VERSION
    cdef bint has_grandparent = tier + 1 < book.root
    cdef uint64_t seen, cleared, far_above = 0
    cdef uint32_t tries = max(book.tries // CLEANUP_SHARE, <uint32_t>1)
    while above & bit:
        if has_grandparent:
            # Relaxed: the swap of the parent releases this load, as the swap of the word released
            # `above`.
            far_above = load_relaxed(words + book.tier[tier + 2] + (index >> 10))
        cleared = (above & ~bit) + BITMAP_VERSION
        # Release: a thread that does not see the bit finds the word vacant. Acquire: a thread that
        # does not see the parent's own bit, cleared below, also finds vacant the words that other
        # threads withdrew from it. Relaxed on failure: what it read is not used.
        if cas_weak_acq_rel_else_relaxed(parent, &above, cleared):
            if has_grandparent and not cleared & BITMAP_OCCUPIED:
                withdraw(book, words, tier + 1, index >> 5, far_above, lost)
            return
        if not try_again(tries, lost):
            return
        # Relaxed: the swap of the word, later in this function, releases this load.
        above = load_relaxed(parent)
        while above & bit:
            # Relaxed: the value is only a guess for the swap, or a reason to give up, which needs
            # no order.
            seen = load_relaxed(word)
            if seen & value:
                return
            # Vacant again, under a new counter. A thread that announced before this must announce
            # again. Release: `above` was read before. Acquire: as for the swap of the parent.
            # Relaxed on failure: what it read is not used.
            if cas_weak_acq_rel_else_relaxed(word, &seen, seen + step):
                break
            if not try_again(tries, lost):
                return


cdef void shared_book_withdraw(
        shared_book *book, atomic_u64 *words, uint32_t tier, uint64_t index,
        uint64_t above) noexcept nogil:
    cdef uint32_t lost = 0
    withdraw(book, words, tier, index, above, &lost)


cdef void start_walk(shared_book *book, uint8_t side, shared_walk *walk) noexcept nogil:
    walk.words = shared_book_words(book, side)
    walk.tier = book.root
    walk.index = 0
    walk.witnessed = 0


cdef uint64_t walk_load(shared_walk *walk, uint64_t offset) noexcept nogil:
    """Read a word and record its value."""
    # Acquire: a missing bit or a vacant level must not be older than the levels that this reader
    # loads next. The load of a level also comes after the loads of its path.
    cdef uint64_t value = load_acquire(walk.words + offset)
    if walk.witnessed < WITNESSES:
        walk.witness[walk.witnessed].word = walk.words + offset
        walk.witness[walk.witnessed].value = value
    walk.witnessed += 1
    return value


cdef bint walk_next(
        shared_book *book, shared_walk *walk, uint64_t *rank, uint64_t *quantity) noexcept nogil:
    """Find the next occupied level, best first. False after the last.

    A level that stays occupied is never skipped, since its bits stay set in every tier. Bits over
    vacant words are skipped.
    """
    cdef uint64_t index = walk.index
    cdef uint32_t tier = walk.tier
    cdef uint32_t occupied
    while index < book.levels >> (5 * (tier - 1)):
        occupied = <uint32_t>walk_load(walk, book.tier[tier] + (index >> 5)) >> (index & 31)
        if occupied == 0:
            if tier == book.root:
                break
            index = (index >> 5) + 1
            tier += 1
        elif tier > 1:
            index = (index + count_trailing_zeros(occupied)) << 5
            tier -= 1
        else:
            index += count_trailing_zeros(occupied)
            quantity[0] = walk_load(walk, index) & LEVEL_QUANTITY
            if quantity[0] != 0:
                rank[0] = index
                walk.index = index + 1
                walk.tier = 1
                return True
            index += 1
    return False


cdef bint walk_held(shared_walk *walk) noexcept nogil:
    """Whether all words of a walk are unchanged. If so, they all had these values at one instant.

    The last word is not checked: the instant is that of its read. If a walk met more bits over
    vacant words than it could record, the result is False.
    """
    cdef uint32_t number
    if walk.witnessed > WITNESSES:
        return False
    for number in range(walk.witnessed - 1):
        # Relaxed: these loads come after the acquiring load of the last word. If the writer of the
        # last word's value had seen a change on the path, the change is visible here.
        if load_relaxed(walk.witness[number].word) != walk.witness[number].value:
            return False
    return True


cdef bint shared_book_best(
        shared_book *book, uint8_t side, int64_t *tick, int64_t *quantity) noexcept nogil:
    """Find the best level of a side, and its quantity.

    Linearizable: the answer was true at one instant of the call. The words that led to it are read
    twice, and their counters show whether they changed. If 64 such attempts fail, the answer is the
    last level that one of them found. Then only this holds: the level was occupied at one instant
    of the call, and no better level was occupied throughout the call. False then means that no
    level was occupied throughout the call.
    """
    cdef shared_walk walk
    cdef uint64_t rank = 0, held = 0
    cdef int _collect
    cdef bint found = False, present
    for _collect in range(BEST_TRIES):
        start_walk(book, side, &walk)
        present = walk_next(book, &walk, &rank, &held)
        if walk_held(&walk):
            found = present
            break
        found = found or present
        relax()
    if found:
        tick[0] = shared_book_tick(book, side, rank)
        quantity[0] = <int64_t>held
    return found


cdef Py_ssize_t shared_book_depth(
        shared_book *book, uint8_t side, Py_ssize_t n,
        int64_t *ticks, int64_t *quantities, Py_ssize_t stride) noexcept nogil:
    """Write the best `n` levels of a side.

    Each is exact at one instant of the call, not all at the same.

    Before the last level reported, no level that was occupied throughout the call is missing.
    """
    cdef shared_walk walk
    cdef uint64_t rank, held
    cdef Py_ssize_t count = 0
    start_walk(book, side, &walk)
    while count < n and walk_next(book, &walk, &rank, &held):
        ticks[count * stride] = shared_book_tick(book, side, rank)
        quantities[count * stride] = <int64_t>held
        count += 1
    return count


cdef uint8_t shared_book_clear(shared_book *book, uint8_t side) noexcept nogil:
    """Empty every level of a side that is occupied throughout the call."""
    cdef shared_walk walk
    cdef uint64_t rank, held
    start_walk(book, side, &walk)
    while walk_next(book, &walk, &rank, &held):
        if shared_book_update(
                book, side, KIND_DELETE, shared_book_tick(book, side, rank), 0) == STATUS_TIMEOUT:
            return STATUS_TIMEOUT
    return STATUS_APPLIED


cdef void apply_all(
        shared_book *book, const Transaction *first, Py_ssize_t count, bint retry,
        uint8_t *statuses, int64_t *best, uint64_t *totals) noexcept nogil:
    """Apply records in a loop.

    Writes the status of each, the best tick after it, and the totals.
    """
    cdef Py_ssize_t index
    cdef uint64_t quantity
    cdef int64_t held
    cdef uint8_t status
    for index in range(count):
        status = transaction_fault(&first[index])
        if status == STATUS_APPLIED:
            quantity = effect_amount(first[index].kind, &first[index])
            while True:
                status = shared_book_update(
                    book, first[index].side, first[index].kind, first[index].price, quantity)
                if status != STATUS_TIMEOUT or not retry:
                    break
                totals[STATUS_TIMEOUT] += 1
        statuses[index] = status
        totals[status] += 1
        if best != NULL and (
                status == STATUS_SIDE
                or not shared_book_best(book, first[index].side, &best[index], &held)):
            best[index] = INT64_MIN


@cython.final
cdef class SharedLadder:
    """The price levels of one market, written by several threads at once without a lock.

    It is the part of a shared `OrderBook` that holds quantities. It has integer ticks and a fixed
    window, and knows no prices in currency and no crossing policy. Each update changes one level
    and is linearizable. No record is ever half applied.

    Parameters
    ----------
    levels : int, default 1024
        Price levels a side, a power of two, 64 to 262 144; 8 bytes each and 3 % more.
    base_tick : int, default 0
        The lowest tick of the window ``[base_tick, base_tick + levels)``, which never moves.
    tries : int, default 100
        Lost compare-and-swaps after which an update gives up with `TIMEOUT`; at least 1.

    Attributes
    ----------
    levels, base_tick, tries : int
        As given.

    Raises
    ------
    BookError
        A parameter is out of its range; the message names it.
    MemoryError
        There is not enough memory for the levels.

    Notes
    -----
    Every method may be called from any thread at any time. ``docs/explanation/shared-book.md``
    describes the protocol, and what holds for a reader while others write.

    Examples
    --------
    >>> from velox import Kind, Side
    >>> from velox.core.shared_book import SharedLadder
    >>> ladder = SharedLadder(1024, base_tick=10_000)
    >>> ladder.update(Side.BID, Kind.ADD, 10_025, 7)
    0
    >>> ladder.best(Side.BID)
    (10025, 7)
    """

    def __cinit__(self, levels=1024, *, base_tick=0, tries=SHARED_BOOK_TRIES):
        if not MIN_LEVELS <= levels <= MAX_LEVELS or levels & (levels - 1):
            raise BookError(
                f"must be a power of two, {MIN_LEVELS} to {MAX_LEVELS}",
                field="levels", value=levels)
        if not -2**63 <= base_tick <= 2**63 - levels:
            raise BookError(
                f"the window of {levels} ticks does not fit 64 bits",
                field="base_tick", value=base_tick)
        if not 1 <= tries < 2**32:
            raise BookError("must be at least 1, and fit 32 bits", field="tries", value=tries)
        self.book = shared_book_new(levels, base_tick, HUGE_PAGES_AUTO)
        if self.book == NULL:
            raise MemoryError(f"no memory for a ladder of {levels} levels")
        self.book.tries = tries

    def __dealloc__(self):
        shared_book_free(self.book)

    @property
    def levels(self):
        return self.book.levels

    @property
    def base_tick(self):
        return self.book.base_tick

    @property
    def tries(self):
        return self.book.tries

    def update(self, uint8_t side, uint8_t kind, int64_t tick, uint64_t quantity=0):
        """Change one level.

        Parameters
        ----------
        side : Side
        kind : Kind
            ``CLEAR`` ignores `tick` and `quantity`, and empties the levels one after the other.
            ``TRADE`` changes nothing.
        tick : int
        quantity : int, default 0
            The quantity to add, to take or to set. A level holds up to 2**47 - 1.

        Returns
        -------
        int
            0 if applied, else a `Rejection`, or `TIMEOUT`: nothing changed, try again. (A ``CLEAR``
            that timed out may have emptied some levels; it can be repeated.)
        """
        cdef uint8_t status = STATUS_SIDE
        if side <= SIDE_ASK:
            status = shared_book_update(self.book, side, kind, tick, quantity)
        # Relaxed: a counter orders nothing.
        fetch_add_relaxed(&self.totals[status], 1)
        return status

    def apply(self, transactions, *, retry=False, best=None):
        """Apply records in order, without the GIL; `price` is the tick.

        Parameters
        ----------
        transactions : ndarray, shape (n,), dtype TRANSACTION_DTYPE
            The records; no other thread may write them meanwhile. ``SET_WIDE`` takes its quantity
            from `id`, every other kind from `size`.
        retry : bool, default False
            Whether to repeat an update that timed out until it succeeds.
        best : ndarray, shape (n,), dtype int64, optional
            Receives the best tick of each record's side, read right after the record, or ``-2**63``
            if the side was empty.

        Returns
        -------
        ndarray, shape (n,), dtype uint8
            For each record 0, a `Rejection` or `TIMEOUT`.

        Raises
        ------
        RecordError
            `transactions` is not such an array.
        BookError
            `best` is not such an array.
        """
        cdef Py_ssize_t count
        cdef const Transaction *first = transactions_of(transactions, &count)
        cdef cnp.ndarray statuses = np.empty(count, np.uint8)
        cdef uint8_t *status = <uint8_t *>cnp.PyArray_DATA(statuses)
        cdef int64_t *best_tick = NULL
        cdef uint64_t totals[STATUSES + 1]
        cdef bint again = retry
        cdef int number
        if best is not None:
            if not (isinstance(best, np.ndarray) and best.dtype == np.int64
                    and best.shape == (count,) and best.flags.carray):
                raise BookError(
                    f"must be a writable contiguous array of {count} int64",
                    field="best", value=best)
            best_tick = <int64_t *>cnp.PyArray_DATA(<cnp.ndarray>best)
        for number in range(STATUSES + 1):
            totals[number] = 0
        with nogil:
            apply_all(self.book, first, count, again, status, best_tick, totals)
        for number in range(STATUSES + 1):
            # Relaxed: a counter orders nothing.
            fetch_add_relaxed(&self.totals[number], totals[number])
        return statuses

    def best(self, uint8_t side):
        """The best level of a side, as it was at one instant of the call.

        Parameters
        ----------
        side : Side

        Returns
        -------
        tuple of (int, int) or None
            Tick and quantity; None where the side is empty.
        """
        cdef int64_t tick, quantity
        check_side(side)
        if shared_book_best(self.book, side, &tick, &quantity):
            return tick, quantity
        return None

    def quantity(self, uint8_t side, int64_t tick):
        """The quantity of a level; 0 if it is empty or outside the window.

        Parameters
        ----------
        side : Side
        tick : int

        Returns
        -------
        int
        """
        check_side(side)
        return shared_book_quantity(self.book, side, tick)

    def depth(self, uint8_t side, Py_ssize_t n):
        """The best levels of a side.

        Each is exact at one instant of the call; while other threads write, not all at the same.

        Parameters
        ----------
        side : Side
        n : int
            How many levels at most; must not be negative.

        Returns
        -------
        ndarray, shape (m, 2), dtype int64
            Tick and quantity a row, best first; ``m <= n``.

        Raises
        ------
        BookError
            `n` is negative.
        """
        cdef cnp.ndarray ticks, quantities
        check_side(side)
        if n < 0:
            raise BookError("must not be negative", field="n", value=n)
        n = min(n, <Py_ssize_t>self.book.levels)
        ticks = np.empty(n, np.int64)
        quantities = np.empty(n, np.int64)
        n = shared_book_depth(
            self.book, side, n, <int64_t *>cnp.PyArray_DATA(ticks),
            <int64_t *>cnp.PyArray_DATA(quantities), 1)
        return np.column_stack((ticks[:n], quantities[:n]))

    def marked(self, uint8_t side):
        """How many bits are set in each tier of a side's bitmap.

        For diagnosis while no thread writes. The first number is that of the occupied levels, plus
        the bits that a thread gave up clearing. Each such bit costs a reader a visit.

        Parameters
        ----------
        side : Side

        Returns
        -------
        tuple of int
            The leaves first, the root last.
        """
        cdef atomic_u64 *words
        cdef uint64_t number, count
        cdef uint32_t tier
        check_side(side)
        words = shared_book_words(self.book, side)
        counts = []
        for tier in range(1, self.book.root + 1):
            count = 0
            for number in range(max(self.book.levels >> (5 * tier), <uint64_t>1)):
                # Relaxed: a count over many words is not exact at one instant in any case.
                count += count_ones(<uint32_t>load_relaxed(
                    words + self.book.tier[tier] + number))
            counts.append(count)
        return tuple(counts)

    def counters(self):
        """How often each status was the result of an update, over all threads.

        Returns
        -------
        dict of str to int
            ``"applied"``, the names of `Rejection` in lower case, and ``"timeout"``, which counts
            also the timeouts that `apply` retried.
        """
        names = ["applied", *(reason.name.lower() for reason in Rejection), "timeout"]
        # Relaxed: a counter orders nothing.
        return {name: load_relaxed(&self.totals[number]) for number, name in enumerate(names)}


cdef int check_side(uint8_t side) except -1:
    if side > SIDE_ASK:
        raise BookError("must be 0 (bid) or 1 (ask)", field="side", value=side)
    return 0
