"""An order book in C, and a table of books by market.

Several threads may write a book that was made for several writers (`shared`), and read it directly.
Any other book has one writer at a time (`books_begin_writing`). Other threads read its best prices
from the top line. They read its depth from the ladder itself while no thread writes, and else from
the mailbox.

The state word of a book, on 128 bytes of its own::

    IDLE ----> WRITING ----> IDLE      the writer, for a whole run
      \\------> READING ----> IDLE      a reader, for one copy
                  \\----> WANTED ----> WRITING

A writer that finds a reader sets WANTED and waits. The reader looks every few dozen levels; it then
stops its copy and hands the book over to that writer.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from velox.core.atomic cimport atomic_u64
from velox.core.grid cimport tick_grid
from velox.core.ladder cimport ladder
from velox.core.mailbox cimport depth_counts, depth_row, mailbox
from velox.core.memory cimport page_choice
from velox.core.records cimport Transaction
from velox.core.shared_book cimport shared_book
from velox.core.top cimport book_top, top_line

cdef enum:
    MARKETS = 256

cdef enum:
    BOOK_IDLE = 0
    BOOK_WRITING = 1
    BOOK_READING = 2
    BOOK_WANTED = 3             # a reader's still, and some writer's next

# What a book does with an update that leaves the best bid at or over the best ask; see OrderBook.
cdef enum:
    CROSS_COUNT = 0
    CROSS_REJECT = 1
    CROSS_UNCROSS = 2
    CROSS_MATCH = 3

# The value of one lot: mantissa / 10**decimals.
cdef struct decimal_unit:
    uint64_t mantissa           # under 2**63, so that a quantity of lots fits 128 bits
    uint64_t decimals           # at most 36

cdef struct book_access:
    atomic_u64 state
    uint64_t padding[15]

# Three groups lie on cache lines of their own: the two sides; what never changes and every reader
# loads; and what the writer stores at each record. So the writer takes no line away from readers of
# the best prices.
cdef struct book:
    ladder sides[2]             # SIDE_BID, SIDE_ASK
    shared_book *shared         # of a book with several writers; NULL: the ladders, for one
    tick_grid grid
    top_line *top
    mailbox *mail
    depth_row *staging          # [mail.capacity], where the writer gathers a letter
    book_access *access
    decimal_unit lot
    uint8_t market
    uint8_t on_cross
    bint careful                # by_event, or a policy other than CROSS_COUNT
    bint by_event               # publish at Flags.LAST, not at every record
    uint64_t padding[3]
    bint in_event               # since the last Flags.LAST there was a record
    bint is_crossed             # the best bid is at or over the best ask
    bint top_changed            # and the best prices or quantities differ from those published
    # Written by the writers, read by any thread. Relaxed: the counters order nothing.
    atomic_u64 applied
    atomic_u64 rejected
    atomic_u64 crossed
    atomic_u64 uncrossed
    atomic_u64 matched
    atomic_u64 published
    atomic_u64 letters
    uint64_t padding_counters[7]

cdef struct books:
    book *by_market[MARKETS]    # NULL: no such market
    book *members[MARKETS]      # the first `count`: those of by_market that allow one writer
    size_t count
    size_t next                 # member to be polled

# Applies records in order, stops at the first that was not applied, and returns how many were
# applied before it. `status` is STATUS_APPLIED if all were. After a rejection the caller continues
# with the next record. After STATUS_TIMEOUT it tries the same record again later.
cdef size_t books_apply(books *self, const Transaction *first, size_t count,
                        uint8_t *status) noexcept nogil
# Applies one record and returns its status. If applied, `top` is the newest state of its book.
cdef uint8_t books_apply_one(books *self, const Transaction *record, book_top *top) noexcept nogil

# Returns False, and changes nothing, if another thread writes a book that allows one writer.
cdef bint books_begin_writing(books *self) noexcept nogil
# Publishes the changes that are not yet published, then lets readers in.
cdef void books_end_writing(books *self) noexcept nogil
# Answers readers that wait for a depth, a few books at a time. The writer calls it once a duty
# cycle. Readers of a book that is being written are answered sooner.
cdef void books_poll(books *self) noexcept nogil

# On any thread. `book_read` copies the best `n` levels of one state, with zeros where a side has
# fewer; False if `deadline`, in ns of the kernel's clock, passed while a writer did not answer.
cdef book_top book_read_top(const book *self) noexcept nogil
cdef bint book_read(book *self, Py_ssize_t n, depth_row *rows, depth_counts *counts,
                    uint64_t deadline) noexcept nogil

# Plain reads of the newest state. Call them on the writer's thread, or while no thread writes.
cdef Py_ssize_t book_writer_depth(book *self, uint8_t side, Py_ssize_t n, int64_t *prices,
                                  int64_t *quantities) noexcept nogil
cdef depth_counts book_writer_rows(book *self, Py_ssize_t n, depth_row *rows) noexcept nogil

# A book without levels, of the shared kind for several writers; NULL if there is no memory. Once it
# is in a table, its market must not change.
cdef book *book_new(bint several_writers, uint64_t levels, int64_t base_tick,
                    uint64_t cold_levels, Py_ssize_t depth_capacity, int64_t tick_size,
                    page_choice when) noexcept nogil
cdef void book_free(book *self) noexcept nogil
cdef void books_add(books *self, book *member) noexcept nogil
# How many levels a side has; approximate while other threads write.
cdef uint64_t book_levels(const book *self, uint8_t side) noexcept nogil

# Between a successful `book_try_begin_reading` and `book_end_reading` any thread may read the
# ladders directly. `book_try_begin_reading` fails if a writer has the book.
cdef bint book_try_begin_reading(book *self) noexcept nogil
cdef void book_end_reading(book *self) noexcept nogil
