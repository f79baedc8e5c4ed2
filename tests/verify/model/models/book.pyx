"""`OrderBook` with one writer at a time: which thread uses the ladders, and what readers get.

Each event adds a better bid and replaces the asks, so far away that the windows of both sides move
and bids go to the cold store. It checks these claims: A reader gets one whole event, never an older
one than before. No thread reads a ladder while another changes it, and no two threads change it at
once. A writer that was refused has changed nothing.
"""

from libc.stdint cimport UINT64_MAX, int64_t, uint8_t, uint64_t

from velox.core.atomic cimport atomic_u64, load_acquire, load_relaxed, store_release
from velox.core.book cimport (
    book, book_read, book_read_top, books, books_apply, books_begin_writing,
    books_end_writing,
)
from velox.core.mailbox cimport depth_counts, depth_row
from velox.core.order_book cimport OrderBook
from velox.core.records cimport (
    FLAG_LAST, KIND_CLEAR, KIND_SET, SIDE_ASK, SIDE_BID, Transaction,
)
from velox.core.top cimport book_top

from models.model cimport check, model_allocate, model_finish, model_name, model_thread

from velox.core.order_book import OrderBook

cdef enum:
    RECORDS = 3                         # of an event
    MOST_EVENTS = 4

cdef struct plan:
    books *table
    book *core
    uint64_t events
    uint64_t applied                    # events; only who writes the book may touch it
    uint64_t refused[2]
    uint64_t writers
    uint64_t tops
    uint64_t depths
    atomic_u64 told                     # the newest event that readers were told of otherwise
    Transaction record[MOST_EVENTS][RECORDS]


cdef int64_t price_of(int64_t event) noexcept nogil:
    return 1000 + 500 * event


cdef bint write_event(plan *self) noexcept nogil:
    cdef uint8_t status
    cdef uint64_t number
    if not books_begin_writing(self.table):
        return False
    number = self.applied
    # In two calls, so that readers may be answered in between.
    check(books_apply(self.table, self.record[number], 1, &status) == 1
          and books_apply(self.table, &self.record[number][1], RECORDS - 1, &status) == RECORDS - 1,
          "an event is applied whole")
    self.applied = number + 1
    # Release, of the model's own: who hears of it must not get less.
    store_release(&self.told, number + 1)
    books_end_writing(self.table)
    return True


cdef void write(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t _number
    for _number in range(self.events):
        self.refused[0] += not write_event(self)


cdef void write_too(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    self.refused[1] += not write_event(self)


cdef void check_sides(plan *self, int64_t bid_price, int64_t bid_quantity, int64_t ask_price,
                      int64_t ask_quantity, int64_t *seen) noexcept nogil:
    check(bid_quantity == ask_quantity, "both sides are of one event")
    check(bid_quantity == 0 and bid_price == 0 and ask_price == 0
          or bid_price == price_of(bid_quantity) and ask_price == bid_price + 1,
          "prices and quantities are of one event")
    check(bid_quantity >= seen[0], "a reader gets no older event than before")
    seen[0] = bid_quantity


cdef void read_tops(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t _number
    cdef int64_t seen = 0
    cdef book_top top
    for _number in range(self.tops):
        top = book_read_top(self.core)
        check_sides(self, top.bid_price, top.bid_quantity, top.ask_price, top.ask_quantity, &seen)


cdef void read_depths(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t _number, told
    cdef int64_t seen = 0
    cdef depth_row rows[2]
    cdef depth_counts counts
    for _number in range(self.depths):
        told = load_acquire(&self.told)
        check(book_read(self.core, 2, rows, &counts, UINT64_MAX), "no deadline passes")
        check_sides(self, rows[0].bid_price, rows[0].bid_quantity, rows[0].ask_price,
                    rows[0].ask_quantity, &seen)
        check(counts.bids == min(seen, 2) and counts.asks == min(seen, 1)
              and rows[1].bid_quantity == max(seen - 1, 0) and rows[1].ask_quantity == 0
              and rows[1].bid_price == (price_of(seen - 1) if seen > 1 else 0),
              "behind the best bid stands that of the event before")
        check(seen >= <int64_t>told, "a depth is of no earlier moment than its reading")


cdef void check_end(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef book_top top = book_read_top(self.core)
    check(self.applied + self.refused[0] + self.refused[1] == self.events + (self.writers > 1),
          "an event is applied once, or refused")
    check(top.bid_quantity == <int64_t>self.applied, "what was applied is published")
    check(load_relaxed(&self.core.sides[SIDE_BID].moves) == self.applied
          and load_relaxed(&self.core.sides[SIDE_ASK].moves) == self.applied,
          "the windows move with every event")


def prepare(events, writers=1, tops=0, depths=0):
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    cdef OrderBook made = OrderBook(64, publish="event", cold_levels=4, depth_capacity=2)
    cdef Transaction *record
    self.table = made.table
    self.core = made.core
    self.events = events
    self.writers = writers
    self.tops = tops
    self.depths = depths
    for number in range(MOST_EVENTS):
        for index in range(RECORDS):
            record = &self.record[<int>number][<int>index]
            record.side = SIDE_BID if index == 1 else SIDE_ASK
            record.kind = KIND_CLEAR if index == 0 else KIND_SET
            record.price = price_of(number + 1) + (index != 1)
            record.size = number + 1
            record.flags = FLAG_LAST if index == RECORDS - 1 else 0
    model_name(self, "plan")
    model_name(&self.told, "told")
    model_name(self.core, "book")
    model_name(self.core.access, "state")
    model_name(self.core.top, "version")
    model_name(&self.core.mail.want, "want")
    model_name(&self.core.mail.have, "have")
    model_name(self.core.mail.letters, "letters")
    model_thread("writer", write, self)
    if writers > 1:
        model_thread("writer 2", write_too, self)
    if tops:
        model_thread("reader of tops", read_tops, self)
    if depths:
        model_thread("reader of depths", read_depths, self)
    model_finish(check_end, self)
    return made
