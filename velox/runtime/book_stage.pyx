"""The stage that applies transactions to their books, and calls the strategy."""

cimport cython
from libc.stdint cimport int64_t, uint8_t
from libc.string cimport memcpy, memset

from velox.core.atomic cimport count, load_relaxed
from velox.core.book cimport (
    Books,
    book,
    book_top,
    book_writer_depth,
    book_writer_top,
    books_apply,
    books_begin_writing,
    books_end_writing,
    books_poll,
)
from velox.core.clock cimport Clock, clock_now
from velox.core.memory cimport allocate, release_memory
from velox.core.records cimport STATUS_APPLIED, STATUS_TIMEOUT, Transaction
from velox.core.ring cimport (
    TransactionRing,
    transaction_ring_claim,
    transaction_ring_close,
    transaction_ring_drained,
    transaction_ring_peek,
    transaction_ring_publish,
    transaction_ring_push,
    transaction_ring_release,
    transaction_ring_room,
)
from velox.runtime.stage cimport Control, control_stop
from velox.runtime.strategy cimport STRATEGY_ROOM, book_view
from velox.runtime.verify cimport verifier_check, verifier_next

from velox.core.records import Rejection
from velox.errors import BookError, StrategyError

__all__ = ["BookStage"]


cdef uint64_t apply(book_stage *self, const Transaction *first, uint64_t n,
                    uint64_t *consumed) noexcept nogil:
    """Apply up to `n` transactions, to the first that was not; returns how many were.

    `consumed` counts a rejected one too: it has been dealt with.
    """
    cdef uint8_t status
    cdef uint64_t applied = books_apply(self.books, first, n, &status)
    consumed[0] = applied
    count(&self.applied, applied)
    if status == STATUS_TIMEOUT:
        # Another lane was faster a hundred times; the transaction stays in the ring.
        count(&self.timeouts, 1)
    elif status != STATUS_APPLIED:
        count(&self.rejected[status], 1)
        consumed[0] += 1
    return applied


cdef uint64_t forward(book_stage *self, const Transaction *first, uint64_t n) noexcept nogil:
    """Apply, and pass on what was applied; returns how many were consumed."""
    cdef uint64_t room, applied, consumed
    cdef Transaction *slots = transaction_ring_claim(self.output, n, &room)
    if room == 0:
        return 0
    applied = apply(self, first, room, &consumed)
    memcpy(slots, first, applied * sizeof(Transaction))
    count(&self.emitted, applied)
    transaction_ring_publish(self.output, applied)
    return consumed


cdef int64_t view_depth(void *market_book, uint8_t side, int64_t n, int64_t *prices,
                        int64_t *quantities) noexcept nogil:
    return book_writer_depth(<book *>market_book, side, n, prices, quantities)


cdef uint64_t consult(book_stage *self, const Transaction *record) noexcept nogil:
    """Apply one record and ask the strategy; returns 1 once it is consumed."""
    cdef Transaction emitted[STRATEGY_ROOM]
    cdef book_view view
    cdef book_top top
    cdef book *market_book
    cdef uint64_t consumed
    cdef int count_or_failure, i
    if transaction_ring_room(self.output, self.room) < self.room:
        return 0
    if apply(self, record, 1, &consumed) == 0 or self.strategy_failed:
        return consumed
    market_book = self.books.by_market[record.market]
    top = book_writer_top(market_book)
    view.bid_price = top.bid_price
    view.bid_quantity = top.bid_quantity
    view.ask_price = top.ask_price
    view.ask_quantity = top.ask_quantity
    view.position = self.taken + 1
    view.now_ns = self.now_ns
    view.tick_size = market_book.grid.tick_size
    view.market = record.market
    view.book = market_book
    view.depth = view_depth
    # What the strategy leaves out is 0, and not of another transaction.
    memset(emitted, 0, sizeof(emitted))
    count_or_failure = self.strategy(record, &view, emitted, self.room, self.user_data)
    if count_or_failure < 0 or count_or_failure > <int>self.room:
        # The books stay exact to the end: the stage goes on without its strategy.
        self.strategy_failure = count_or_failure
        self.strategy_failed = True
        self.failed_at = load_relaxed(&self.applied)
        control_stop(self.control)
        return consumed
    for i in range(count_or_failure):
        if emitted[i].ingress_ts_ns == 0:
            emitted[i].ingress_ts_ns = record.ingress_ts_ns
    transaction_ring_push(self.output, emitted, count_or_failure)
    count(&self.emitted, count_or_failure)
    return consumed


cdef int book_do_work(void *pointer) noexcept nogil:
    cdef book_stage *self = <book_stage *>pointer
    cdef uint64_t available, n, step
    cdef uint64_t done = 0
    cdef const Transaction *first = transaction_ring_peek(self.input, self.batch, &available)
    books_poll(self.books)
    if available == 0:
        if transaction_ring_drained(self.input):
            transaction_ring_close(self.output)
            self.stage.finished = True
        return 0
    if self.strategy != NULL:
        self.now_ns = clock_now(self.clock)
    while done < available:
        n = available - done
        if self.verifier != NULL:
            n = min(n, verifier_next(self.verifier) - self.taken)
        if self.strategy == NULL:
            step = forward(self, first + done, n)
        else:
            step = consult(self, first + done)
        if step == 0:
            break
        done += step
        self.taken += step
        while self.verifier != NULL and verifier_next(self.verifier) == self.taken:
            verifier_check(self.verifier)
    transaction_ring_release(self.input, done)
    return <int>done


@cython.final
cdef class BookStage(Stage):
    """Applies transactions to their books, and passes on what the strategy makes of them.

    Parameters
    ----------
    input, output : TransactionRing
    books : Books
    clock : Clock
    control : Control
    strategy : Strategy, optional
        The default passes each applied transaction on unchanged.
    verifier : Verifier, optional
    batch : int
        The most transactions that one call moves.
    """

    def __cinit__(self, TransactionRing input not None, TransactionRing output not None,
                  Books books not None, Clock clock not None, Control control not None, *,
                  Strategy strategy=None, Verifier verifier=None, batch=256, name="orderbook"):
        input.attach_consumer()
        output.attach_producer()
        self.name = name
        self.kept = [input, output, clock, control]
        self.books = books
        self.strategy = strategy
        self.verifier = verifier
        self.book_stage = <book_stage *>allocate(sizeof(book_stage))
        if self.book_stage == NULL:
            raise MemoryError("no memory for a book stage")
        self.book_stage.stage = &self.stage
        self.book_stage.input = input.ring
        self.book_stage.output = output.ring
        self.book_stage.books = books.table
        self.book_stage.clock = clock.clock
        self.book_stage.control = control.control
        self.book_stage.batch = batch
        self.book_stage.room = min(STRATEGY_ROOM, output.capacity)
        if strategy is not None:
            self.book_stage.strategy = strategy.function
            self.book_stage.user_data = strategy.user_data
        if verifier is not None:
            self.book_stage.verifier = verifier.verifier
        self.stage.do_work = book_do_work
        self.stage.self = self.book_stage

    def __dealloc__(self):
        release_memory(self.book_stage)

    def begin(self):
        if not books_begin_writing((<Books>self.books).table):
            raise BookError("another thread is writing these books")

    def end(self):
        books_end_writing((<Books>self.books).table)
        self.check()

    cdef int check(self) except -1:
        if self.book_stage.strategy_failed:
            failure = self.book_stage.strategy_failure
            raise StrategyError(
                f"the strategy returned {failure} at transaction {self.book_stage.failed_at}, "
                "which is " + ("its own error code" if failure < 0 else
                               f"more than its room of {self.book_stage.room}"))
        return 0

    @property
    def applied(self):
        """int: Transactions that changed their book as they say."""
        return load_relaxed(&self.book_stage.applied)

    @property
    def rejected(self):
        """dict of str to int: Transactions refused, by the lower-case name of the `Rejection`."""
        return {
            reason.name.lower(): load_relaxed(&self.book_stage.rejected[<int>reason])
            for reason in Rejection
        }

    @property
    def emitted(self):
        """int: Transactions passed on."""
        return load_relaxed(&self.book_stage.emitted)

    @property
    def timeouts(self):
        """int: How often a shared book was too busy, and the transaction was tried again."""
        return load_relaxed(&self.book_stage.timeouts)
