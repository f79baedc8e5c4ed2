"""The engine of an order book: exact price levels, readable from every thread while one writes.

It is C throughout: ``book.pxd`` declares it, and `velox.core.order_book` is its Python API.
"""

from cython cimport unlikely
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint32_t, uint64_t

from velox.core.atomic cimport (
    atomic_i64, cas_strong_acquire_else_relaxed, cas_strong_release_else_relaxed, count,
    fetch_add_relaxed, give_core_away, kernel_ns, load_acquire, load_relaxed, relax, store_release,
)
from velox.core.cold cimport cold_index_size, cold_level
from velox.core.effect cimport EFFECTS, effect_amount, effect_apply
from velox.core.grid cimport tick_grid_divide, tick_grid_holds, tick_grid_initialise
from velox.core.ladder cimport (
    NOWHERE, NO_KEY, ladder, ladder_arrange, ladder_clear, ladder_copy, ladder_copy_begin,
    ladder_count, ladder_covers, ladder_depth, ladder_gather, ladder_in_window, ladder_meets,
    ladder_put, ladder_put_hot, ladder_quantity, ladder_reserve,
)
from velox.core.mailbox cimport (
    depth_counts, depth_row, letter_words, mailbox, mailbox_ask, mailbox_asked,
    mailbox_assert_layout, mailbox_try_read, mailbox_write,
)
from velox.core.memory cimport (
    STATIC_ASSERT, allocate, allocate_pages, page_choice, release_memory,
)
from velox.core.records cimport (
    FLAG_LAST, KIND_ADD, KIND_CLEAR, KIND_EXECUTE, KIND_SET, KIND_SET_WIDE, KINDS, SIDE_ASK,
    SIDE_BID, STATUS_APPLIED, STATUS_BOOK_FULL, STATUS_CROSSED, STATUS_KIND, STATUS_MARKET,
    STATUS_OFF_TICK, STATUS_PRICE, STATUS_SIDE, STATUS_SIZE, STATUS_TIMEOUT, Transaction,
)
from velox.core.shared_book cimport (
    shared_book_best, shared_book_count, shared_book_depth, shared_book_free,
    shared_book_is_clear, shared_book_new, shared_book_quantity, shared_book_update,
)
from velox.core.top cimport (
    book_top, top_line, top_line_assert_layout, top_line_publish, top_line_try_read,
)

cdef enum:
    # Records between two checks of the mailbox: 1 to 2 us. The cost is too small to measure.
    POLL_INTERVAL = 128
    POLLED_AT_ONCE = 16         # quiet markets; of 256 each has its turn in 16 duty cycles
    SPINS_BEFORE_YIELD = 64
    # Levels that a reader copies between two checks for a writer. A writer waits at most that long.
    COPIED_TOGETHER = 64


cdef void assert_layout() noexcept nogil:
    top_line_assert_layout()
    mailbox_assert_layout()
    STATIC_ASSERT(sizeof(book_access) == 128)
    STATIC_ASSERT(sizeof(ladder) == 128)
    STATIC_ASSERT(<size_t>&(<book *>NULL).sides == 0)
    STATIC_ASSERT(<size_t>&(<book *>NULL).shared == 256)
    STATIC_ASSERT(<size_t>&(<book *>NULL).in_event == 384)
    STATIC_ASSERT(sizeof(book) == 512)


assert_layout()


# --- memory -------------------------------------------------------------------------------------

cdef bint ladder_allocate(ladder *self, uint64_t levels, uint64_t cold_levels,
                          uint64_t mirror, page_choice when) noexcept nogil:
    cdef uint64_t leaves = levels // 64
    cdef uint64_t index = cold_index_size(cold_levels)
    self.levels = levels
    self.mirror = mirror
    self.base = NOWHERE
    self.best = NO_KEY
    self.quantities = <int64_t *>allocate_pages(levels * sizeof(int64_t), when)
    self.occupied.leaves = <uint64_t *>allocate_pages(leaves * sizeof(uint64_t), when)
    self.occupied.summaries = <uint64_t *>allocate_pages(
        (leaves + 63) // 64 * sizeof(uint64_t), when)
    self.cold.capacity = cold_levels
    self.cold.mask = index - 1
    self.cold.shift = 64 + 4
    while index > 1:
        index //= 2
        self.cold.shift -= 1
    self.cold.levels = <cold_level *>allocate_pages(cold_levels * sizeof(cold_level), when)
    self.cold.index = <uint32_t *>allocate_pages(
        (self.cold.mask + 1) * sizeof(uint32_t), when)
    return (self.quantities != NULL and self.occupied.leaves != NULL
            and self.occupied.summaries != NULL and self.cold.levels != NULL
            and self.cold.index != NULL)


cdef void ladder_release(ladder *self) noexcept nogil:
    release_memory(self.quantities)
    release_memory(self.occupied.leaves)
    release_memory(self.occupied.summaries)
    release_memory(self.cold.levels)
    release_memory(self.cold.index)


cdef void book_free(book *self) noexcept nogil:
    if self == NULL:
        return
    shared_book_free(self.shared)
    ladder_release(&self.sides[SIDE_BID])
    ladder_release(&self.sides[SIDE_ASK])
    if self.mail != NULL:
        release_memory(self.mail.letters)
    release_memory(self.mail)
    release_memory(self.staging)
    release_memory(self.top)
    release_memory(self.access)
    release_memory(self)


cdef book *book_new(bint several_writers, uint64_t levels, int64_t base_tick,
                    uint64_t cold_levels, Py_ssize_t depth_capacity,
                    int64_t tick_size, page_choice when) noexcept nogil:
    """Make a book without levels; NULL if there is no memory."""
    cdef book *self = <book *>allocate(sizeof(book))
    cdef bint sides_made
    if self == NULL:
        return NULL
    if several_writers:
        self.shared = shared_book_new(levels, base_tick, when)
        sides_made = self.shared != NULL
    else:
        # Allocate both sides even if the first fails: `book_free` releases both.
        sides_made = (
            ladder_allocate(&self.sides[SIDE_BID], levels, cold_levels, <uint64_t>INT64_MAX,
                            when)
            & ladder_allocate(&self.sides[SIDE_ASK], levels, cold_levels, 0, when))
    tick_grid_initialise(&self.grid, tick_size)
    self.top = <top_line *>allocate(sizeof(top_line))
    self.access = <book_access *>allocate(sizeof(book_access))
    self.staging = <depth_row *>allocate_pages(depth_capacity * sizeof(depth_row), when)
    self.mail = <mailbox *>allocate(sizeof(mailbox))
    if self.mail != NULL:
        self.mail.capacity = depth_capacity
        self.mail.letters = <atomic_i64 *>allocate_pages(
            2 * letter_words(depth_capacity) * 8, when)
    if not sides_made or self.top == NULL or self.access == NULL or self.staging == NULL \
            or self.mail == NULL or self.mail.letters == NULL:
        book_free(self)
        return NULL
    return self


cdef void books_add(books *self, book *member) noexcept nogil:
    self.by_market[member.market] = member
    if member.shared == NULL:
        self.members[self.count] = member
        self.count += 1


# --- the writer ---------------------------------------------------------------------------------

cdef inline int64_t ladder_best_quantity(const ladder *self) noexcept nogil:
    return self.quantities[self.best & (self.levels - 1)] if self.best != NO_KEY else 0


cdef inline int64_t ladder_best_price(const ladder *self, int64_t tick_size) noexcept nogil:
    return <int64_t>(self.best ^ self.mirror) * tick_size if self.best != NO_KEY else 0


cdef book_top shared_top(const book *self) noexcept nogil:
    """Return the best of each side.

    Each is exact at one instant; while others write, the two instants may differ.
    """
    cdef book_top top
    cdef int64_t tick = 0
    top.bid_price = top.bid_quantity = top.ask_price = top.ask_quantity = 0
    if shared_book_best(self.shared, SIDE_BID, &tick, &top.bid_quantity):
        top.bid_price = tick * self.grid.tick_size
    if shared_book_best(self.shared, SIDE_ASK, &tick, &top.ask_quantity):
        top.ask_price = tick * self.grid.tick_size
    return top


cdef inline book_top ladders_top(const book *self) noexcept nogil:
    cdef book_top top
    top.bid_price = ladder_best_price(&self.sides[SIDE_BID], self.grid.tick_size)
    top.bid_quantity = ladder_best_quantity(&self.sides[SIDE_BID])
    top.ask_price = ladder_best_price(&self.sides[SIDE_ASK], self.grid.tick_size)
    top.ask_quantity = ladder_best_quantity(&self.sides[SIDE_ASK])
    return top


cdef inline void book_publish(book *self) noexcept nogil:
    cdef book_top top = ladders_top(self)
    top_line_publish(self.top, &top)
    self.top_changed = False
    count(&self.published, 1)


cdef inline void book_top_moved(book *self) noexcept nogil:
    """Note that the best of a side changed, or its quantity."""
    self.is_crossed = self.sides[SIDE_BID].best != NO_KEY \
        and ladder_meets(&self.sides[SIDE_ASK], self.sides[SIDE_BID].best)
    if self.by_event:
        self.top_changed = True
    else:
        book_publish(self)


cdef Py_ssize_t book_side(const book *self, uint8_t side, Py_ssize_t n, int64_t *prices,
                          int64_t *quantities, Py_ssize_t stride) noexcept nogil:
    """Write the best `n` levels of a side, `stride` numbers apart; return how many."""
    cdef Py_ssize_t written, row
    if self.shared == NULL:
        return ladder_depth(&self.sides[side], n, self.grid.tick_size, prices, quantities, stride)
    written = shared_book_depth(self.shared, side, n, prices, quantities, stride)
    for row in range(written):
        prices[row * stride] *= self.grid.tick_size
    return written


cdef depth_counts book_copy(const book *self, Py_ssize_t n, depth_row *rows) noexcept nogil:
    cdef depth_counts counts
    counts.bids = book_side(self, SIDE_BID, n, &rows.bid_price, &rows.bid_quantity, 4)
    counts.asks = book_side(self, SIDE_ASK, n, &rows.ask_price, &rows.ask_quantity, 4)
    return counts


cdef uint64_t book_levels(const book *self, uint8_t side) noexcept nogil:
    """How many levels a side has."""
    if self.shared == NULL:
        return ladder_count(&self.sides[side])
    return shared_book_count(self.shared, side)


cdef inline void book_poll(book *self) noexcept nogil:
    """Answer the readers, unless an event is half applied."""
    cdef uint64_t request = mailbox_asked(self.mail)
    cdef depth_counts counts
    if unlikely(request != 0 and not self.in_event):
        counts = book_copy(self, self.mail.capacity, self.staging)
        mailbox_write(self.mail, request, self.staging, counts)
        count(&self.letters, 1)


cdef inline void book_end_event(book *self) noexcept nogil:
    self.in_event = False
    if self.top_changed:
        book_publish(self)
    book_poll(self)


cdef depth_counts book_writer_rows(book *self, Py_ssize_t n, depth_row *rows) noexcept nogil:
    return book_copy(self, n, rows)


cdef Py_ssize_t book_writer_depth(book *self, uint8_t side, Py_ssize_t n, int64_t *prices,
                                  int64_t *quantities) noexcept nogil:
    return book_side(self, side, n, prices, quantities, 1)


cdef inline uint8_t quantity_after(const Transaction *record, int64_t held,
                                   int64_t *quantity) noexcept nogil:
    """Compute the quantity of a level that holds `held`, after a record whose kind has a price."""
    cdef uint64_t amount = effect_amount(record.kind, record)
    if unlikely((amount | ~EFFECTS[record.kind].held) == 0):
        return STATUS_SIZE
    return effect_apply(record.kind, <uint64_t>held, amount, <uint64_t>INT64_MAX,
                        <uint64_t *>quantity)


cdef inline bint sets_or_adds(uint8_t kind) noexcept nogil:
    return kind == KIND_ADD or kind == KIND_SET or kind == KIND_SET_WIDE


cdef void book_count_crossing(book *self, const Transaction *record, uint64_t key) noexcept nogil:
    """Count a crossing if the level that the record set crosses the other side."""
    if sets_or_adds(record.kind) and ladder_meets(&self.sides[record.side ^ 1], key):
        count(&self.crossed, 1)


cdef void book_uncross(book *self, ladder *other, uint64_t key) noexcept nogil:
    """Remove the levels of the other side that the new level crosses."""
    while ladder_meets(other, key):
        ladder_put_hot(other, other.best, 0)
        count(&self.uncrossed, 1)


cdef int64_t book_match(book *self, ladder *other, uint64_t key, int64_t rest) noexcept nogil:
    """Trade against the other side, best first, and return the rest of the quantity."""
    cdef int64_t held, traded
    while rest > 0 and ladder_meets(other, key):
        held = ladder_best_quantity(other)
        traded = min(rest, held)
        ladder_put_hot(other, other.best, held - traded)
        count(&self.matched, <uint64_t>traded)
        rest -= traded
    return rest


cdef uint8_t book_update_priced(book *self, const Transaction *record, uint64_t key) noexcept nogil:
    """Apply an update with a price on the grid, in every case."""
    cdef ladder *own = &self.sides[record.side]
    cdef ladder *other = &self.sides[record.side ^ 1]
    cdef uint64_t best = own.best
    cdef int64_t held = ladder_quantity(own, key)
    cdef int64_t quantity = 0
    cdef bint matches = self.on_cross == CROSS_MATCH and record.kind == KIND_ADD
    cdef bint meets, rests
    cdef uint8_t status = quantity_after(record, held, &quantity)
    if status != STATUS_APPLIED:
        return status
    meets = quantity > 0 and self.on_cross != CROSS_COUNT and ladder_meets(other, key)
    if meets and self.on_cross == CROSS_REJECT:
        return STATUS_CROSSED
    # An order that trades in full leaves no level and must not move the window. It trades up to its
    # own price. The other side writes that price as this key.
    rests = quantity > 0 and not (
        meets and matches and ladder_covers(other, key ^ <uint64_t>INT64_MAX, record.size))
    if rests and held == 0 and not ladder_reserve(own, key):
        return STATUS_BOOK_FULL
    if meets:
        if matches:
            # The level was empty; otherwise the book would have been crossed before.
            quantity = book_match(self, other, key, record.size)
        else:
            book_uncross(self, other, key)
    if quantity > 0 or held > 0:
        ladder_put(own, key, quantity)
    if meets or key <= best:
        book_top_moved(self)
    if self.on_cross == CROSS_COUNT and quantity > 0 and self.is_crossed:
        book_count_crossing(self, record, key)
    return STATUS_APPLIED


cdef uint8_t book_update_unpriced(book *self, const Transaction *record) noexcept nogil:
    if record.kind >= KINDS:
        return STATUS_KIND
    if record.side > SIDE_ASK:
        return STATUS_SIDE
    if record.kind == KIND_CLEAR and self.sides[record.side].best != NO_KEY:
        ladder_clear(&self.sides[record.side])
        book_top_moved(self)
    return STATUS_APPLIED


cdef uint8_t book_update_carefully(book *self, const Transaction *record) noexcept nogil:
    """Apply one record of this book's market, in every case.

    `book_update` handles the common case.
    """
    cdef uint64_t tick
    if record.kind >= KIND_CLEAR:
        return book_update_unpriced(self, record)
    if record.side > SIDE_ASK:
        return STATUS_SIDE
    if record.price <= 0:
        return STATUS_PRICE
    tick = tick_grid_divide(&self.grid, record.price)
    if not tick_grid_holds(&self.grid, tick):
        return STATUS_OFF_TICK
    return book_update_priced(self, record, tick ^ self.sides[record.side].mirror)


cdef inline uint8_t book_update(book *self, const Transaction *record) noexcept nogil:
    """Apply one record of this book's market, which counts crossings and publishes each change."""
    cdef ladder *own
    cdef uint64_t tick, key
    cdef int64_t quantity = 0
    cdef uint8_t status
    if unlikely(record.kind >= KIND_CLEAR or record.side > SIDE_ASK):
        return book_update_carefully(self, record)
    tick = tick_grid_divide(&self.grid, record.price)
    own = &self.sides[record.side]
    key = tick ^ own.mirror
    if unlikely(not tick_grid_holds(&self.grid, tick) or not ladder_in_window(own, key)):
        return book_update_carefully(self, record)
    status = quantity_after(record, own.quantities[key & (own.levels - 1)], &quantity)
    if unlikely(status != STATUS_APPLIED):
        return status
    if ladder_put_hot(own, key, quantity):
        book_top_moved(self)
    if unlikely(self.is_crossed and quantity > 0):
        book_count_crossing(self, record, key)
    return STATUS_APPLIED


cdef inline uint8_t shared_update(book *self, const Transaction *record) noexcept nogil:
    """Apply one record of this book's market, also while other threads write it."""
    cdef uint8_t kind = record.kind
    cdef uint8_t status
    cdef uint64_t tick = 0
    cdef int64_t other = 0, quantity
    if unlikely(kind >= KINDS):
        return STATUS_KIND
    if unlikely(record.side > SIDE_ASK):
        return STATUS_SIDE
    if kind < KIND_CLEAR:
        if unlikely(record.price <= 0):
            return STATUS_PRICE
        tick = tick_grid_divide(&self.grid, record.price)
        if unlikely(not tick_grid_holds(&self.grid, tick)):
            return STATUS_OFF_TICK
        if unlikely(kind <= KIND_EXECUTE and record.size == 0):
            return STATUS_SIZE
    elif kind != KIND_CLEAR:
        return STATUS_APPLIED
    status = shared_book_update(self.shared, record.side, kind, <int64_t>tick,
                                effect_amount(kind, record))
    # Every kind makes this check, since a branch on the kind would be mispredicted. Most records
    # need no other.
    if status != STATUS_APPLIED or kind >= KIND_CLEAR \
            or shared_book_is_clear(self.shared, record.side ^ 1, <int64_t>tick):
        return status
    # Only a level that was set or added can have crossed. With other writers, their update may be
    # the reason.
    if sets_or_adds(kind) \
            and shared_book_best(self.shared, record.side ^ 1, &other, &quantity) \
            and (<int64_t>tick >= other if record.side == SIDE_BID else <int64_t>tick <= other) \
            and shared_book_quantity(self.shared, record.side, <int64_t>tick) > 0:
        # Relaxed: a counter orders nothing.
        fetch_add_relaxed(&self.crossed, 1)
    return status


cdef size_t shared_apply(book *self, const Transaction *first, size_t limit,
                         uint8_t *status) noexcept nogil:
    """As `book_apply`, on a book that others write at the same time."""
    cdef size_t index = 0
    cdef uint8_t outcome = STATUS_APPLIED
    while index < limit and first[index].market == self.market:
        outcome = shared_update(self, &first[index])
        if unlikely(outcome != STATUS_APPLIED):
            if outcome != STATUS_TIMEOUT:
                # Relaxed, here and below: counters order nothing.
                fetch_add_relaxed(&self.rejected, 1)
            break
        index += 1
    fetch_add_relaxed(&self.applied, index)
    status[0] = outcome
    return index


cdef size_t book_apply_carefully(book *self, const Transaction *first, size_t limit,
                                 uint8_t *status) noexcept nogil:
    """`book_apply` of a book that has a policy for crossings, or publishes by event."""
    cdef size_t index = 0
    cdef uint8_t outcome = STATUS_APPLIED
    while index < limit and first[index].market == self.market:
        outcome = book_update_carefully(self, &first[index])
        if self.by_event:
            self.in_event = True
            if first[index].flags & FLAG_LAST:
                book_end_event(self)
        if unlikely(outcome != STATUS_APPLIED):
            break
        index += 1
    status[0] = outcome
    return index


cdef inline size_t book_apply(book *self, const Transaction *first, size_t limit,
                              uint8_t *status) noexcept nogil:
    """Apply the records that follow one another for this book; stops as `books_apply` does."""
    cdef const Transaction *record = first
    cdef const Transaction *end = first + limit
    cdef size_t index
    cdef uint8_t outcome = STATUS_APPLIED
    if self.careful:
        index = book_apply_carefully(self, first, limit, &outcome)
    else:
        while record < end and record.market == self.market:
            outcome = book_update(self, record)
            if unlikely(outcome != STATUS_APPLIED):
                break
            record += 1
        index = record - first
    count(&self.applied, index)
    if unlikely(outcome != STATUS_APPLIED):
        count(&self.rejected, 1)
    status[0] = outcome
    return index


cdef uint8_t unrouted_fault(const Transaction *record) noexcept nogil:
    """Return why a record whose market has no book is refused.

    Kind and side are checked first.
    """
    if record.kind >= KINDS:
        return STATUS_KIND
    return STATUS_SIDE if record.side > SIDE_ASK else STATUS_MARKET


cdef size_t books_apply(books *self, const Transaction *first, size_t limit,
                        uint8_t *status) noexcept nogil:
    cdef size_t done = 0
    cdef book *target
    status[0] = STATUS_APPLIED
    while done < limit and status[0] == STATUS_APPLIED:
        target = self.by_market[first[done].market]
        if unlikely(target == NULL):
            status[0] = unrouted_fault(&first[done])
            break
        if unlikely(target.shared != NULL):
            done += shared_apply(target, first + done, limit - done, status)
            continue
        done += book_apply(target, first + done, min(limit - done, <size_t>POLL_INTERVAL), status)
        book_poll(target)
    return done


cdef uint8_t books_apply_one(books *self, const Transaction *record, book_top *top) noexcept nogil:
    cdef book *target = self.by_market[record.market]
    cdef uint8_t status
    if unlikely(target == NULL):
        return unrouted_fault(record)
    if unlikely(target.shared != NULL):
        shared_apply(target, record, 1, &status)
        top[0] = shared_top(target)
        return status
    if unlikely(target.careful):
        book_apply_carefully(target, record, 1, &status)
    else:
        status = book_update(target, record)
    book_poll(target)
    if unlikely(status != STATUS_APPLIED):
        count(&target.rejected, 1)
        return status
    count(&target.applied, 1)
    top[0] = ladders_top(target)
    return STATUS_APPLIED


cdef void books_poll(books *self) noexcept nogil:
    # The table has no members if every book allows several writers. They may all write at once.
    cdef uint64_t left = min(<uint64_t>self.count, <uint64_t>POLLED_AT_ONCE)
    while left > 0:
        book_poll(self.members[self.next])
        self.next = self.next + 1 if self.next + 1 < self.count else 0
        left -= 1


# --- access to the ladder -----------------------------------------------------------------------

cdef inline void wait_a_little(uint64_t *attempts) noexcept nogil:
    relax()
    attempts[0] += 1
    if attempts[0] % SPINS_BEFORE_YIELD == 0:
        # The thread that this one waits for may need this core.
        give_core_away()


cdef bint book_begin_writing(book *self) noexcept nogil:
    cdef uint64_t attempts = 0
    cdef uint64_t state = BOOK_IDLE
    # Acquire: the previous writer or reader has finished with the ladder. Relaxed on failure: a
    # thread that is refused, or waits, touches nothing.
    while not cas_strong_acquire_else_relaxed(&self.access.state, &state, BOOK_WRITING):
        if state != BOOK_READING:
            return False
        # Release, against load buffering: what was loaded before this (readers' requests) is not
        # what they do after they see it.
        if cas_strong_release_else_relaxed(&self.access.state, &state, BOOK_WANTED):
            # Acquire: the reader that handed over has read. No other thread stores this over
            # WANTED.
            while load_acquire(&self.access.state) != BOOK_WRITING:
                wait_a_little(&attempts)
            return True
        state = BOOK_IDLE
    return True


cdef void book_end_writing(book *self) noexcept nogil:
    book_end_event(self)
    # Release: the thread that takes the state next sees every change of the ladder.
    store_release(&self.access.state, BOOK_IDLE)


cdef bint books_begin_writing(books *self) noexcept nogil:
    cdef size_t index
    for index in range(self.count):
        if not book_begin_writing(self.members[index]):
            while index > 0:
                index -= 1
                store_release(&self.members[index].access.state, BOOK_IDLE)
            return False
    return True


cdef void books_end_writing(books *self) noexcept nogil:
    cdef size_t index
    for index in range(self.count):
        book_end_writing(self.members[index])


cdef bint book_try_begin_reading(book *self) noexcept nogil:
    cdef uint64_t state = BOOK_IDLE
    # Acquire: this thread sees the last writer's changes. Relaxed on failure: nothing is read.
    return cas_strong_acquire_else_relaxed(&self.access.state, &state, BOOK_READING)


cdef bint book_is_wanted(book *self) noexcept nogil:
    # Relaxed: it carries no data. If it is seen late, the writer waits for some levels more.
    return load_relaxed(&self.access.state) == BOOK_WANTED


cdef void book_end_reading(book *self) noexcept nogil:
    cdef uint64_t state = BOOK_READING
    # Release, both: the next writer's changes come after this reader's loads. Relaxed on failure:
    # only one thing can have changed, that a writer wants the book. It gets the book from the store
    # below.
    if not cas_strong_release_else_relaxed(&self.access.state, &state, BOOK_IDLE):
        store_release(&self.access.state, BOOK_WRITING)


# --- readers ------------------------------------------------------------------------------------

cdef bint side_gather(book *self, uint8_t side, ladder_copy *copy, Py_ssize_t n, int64_t *prices,
                      int64_t *quantities) noexcept nogil:
    """Copy one side. Returns False if a writer came meanwhile; the copy is then incomplete."""
    ladder_copy_begin(&self.sides[side], copy)
    while not book_is_wanted(self):
        if ladder_gather(&self.sides[side], copy, n, COPIED_TOGETHER, prices, quantities, 4):
            return True
    return False


cdef bint book_read_ladders(book *self, Py_ssize_t n, depth_row *rows,
                            depth_counts *counts) noexcept nogil:
    """Copy up to `n` levels of each side, best first.

    False if a writer has the book or wants it.
    """
    cdef ladder_copy bids, asks
    cdef bint whole
    if not book_try_begin_reading(self):
        return False
    whole = side_gather(self, SIDE_BID, &bids, n, &rows.bid_price, &rows.bid_quantity) \
        and side_gather(self, SIDE_ASK, &asks, n, &rows.ask_price, &rows.ask_quantity)
    book_end_reading(self)
    if whole:
        # Sort only now: sorting takes longer than copying.
        counts.bids = ladder_arrange(&self.sides[SIDE_BID], &bids, n, self.grid.tick_size,
                                     &rows.bid_price, &rows.bid_quantity, 4)
        counts.asks = ladder_arrange(&self.sides[SIDE_ASK], &asks, n, self.grid.tick_size,
                                     &rows.ask_price, &rows.ask_quantity, 4)
    return whole


cdef bint book_read(book *self, Py_ssize_t n, depth_row *rows, depth_counts *counts,
                    uint64_t deadline) noexcept nogil:
    """Copy `n` rows of one state, with zeros where a side is shorter. False after the deadline.

    A thread that holds the state never needs the GIL to release it. So the caller may hold the GIL;
    only other Python threads then wait.
    """
    cdef uint64_t attempts = 0
    cdef uint64_t request = 0
    cdef Py_ssize_t row
    while True:
        if self.shared != NULL:
            counts[0] = book_copy(self, n, rows)
            break
        if book_read_ladders(self, n, rows, counts):
            break
        if n <= self.mail.capacity:
            if request == 0:
                request = mailbox_ask(self.mail)
            if mailbox_try_read(self.mail, request, n, rows, counts):
                break
        if attempts % SPINS_BEFORE_YIELD == 0 and kernel_ns() >= deadline:
            return False
        wait_a_little(&attempts)
    counts.bids = min(n, counts.bids)
    counts.asks = min(n, counts.asks)
    for row in range(counts.bids, n):
        rows[row].bid_price = rows[row].bid_quantity = 0
    for row in range(counts.asks, n):
        rows[row].ask_price = rows[row].ask_quantity = 0
    return True


cdef book_top book_read_top(const book *self) noexcept nogil:
    """Read the top line.

    It repeats only while new versions come faster than four words are copied.
    """
    cdef book_top top
    cdef uint64_t attempts = 0
    if self.shared != NULL:
        return shared_top(self)
    while not top_line_try_read(self.top, &top):
        wait_a_little(&attempts)
    return top
