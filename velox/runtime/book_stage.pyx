"""The stage that applies records to their books and calls the strategy."""

cimport cython
from cython cimport unlikely
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy, memset

from velox.core.atomic cimport count, load_relaxed
from velox.core.book cimport (
    book,
    book_top,
    book_writer_depth,
    books_apply,
    books_apply_one,
    books_begin_writing,
    books_end_writing,
    books_poll,
)
from velox.core.clock cimport Clock, clock_now
from velox.core.grid cimport tick_grid_divide, tick_grid_holds
from velox.core.memory cimport allocate, release_memory
from velox.core.order_book cimport Books
from velox.core.records cimport (
    KIND_CLEAR,
    KIND_EXECUTE,
    KIND_SET_WIDE,
    KINDS,
    SIDE_ASK,
    STATUS_APPLIED,
    STATUS_KIND,
    STATUS_MARKET,
    STATUS_OFF_TICK,
    STATUS_PRICE,
    STATUS_SIDE,
    STATUS_SIZE,
    STATUS_TIMEOUT,
    Transaction,
)
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
from velox.errors import BookError, ConfigError, StrategyError

__all__ = ["BookStage"]

cdef enum:
    TOGETHER = 128              # what a fast strategy makes is handed over by so many, 8 us at most
    SLOW_NS = 64                # a record: a slower one hands over each, for the latency's sake
    TIMED = 4                   # records in a batch from which the time of one can be told

# What a strategy may emit wrongly, by the field that is wrong.
BAD_FIELD = {
    Rejection.KIND: ("kind", "is no kind of transaction"),
    Rejection.SIDE: ("side", "is neither 0 (bid) nor 1 (ask)"),
    Rejection.MARKET: ("market", "has no book"),
    Rejection.SIZE: ("size", "must not be 0 for this kind"),
    Rejection.PRICE: ("price", "must be positive"),
    Rejection.OFF_TICK: ("price", "is not a multiple of the tick size "),
}


cdef uint64_t refused(book_stage *self, uint8_t status) noexcept nogil:
    """Count why a record was not applied. Returns 1 if the record is dealt with, 0 if it must be
    tried again.
    """
    if status == STATUS_TIMEOUT:
        # Another lane was faster a hundred times. The record stays in the ring.
        count(&self.timeouts, 1)
        return 0
    count(&self.rejected[status], 1)
    return 1


cdef uint64_t apply(book_stage *self, const Transaction *first, uint64_t n,
                    uint64_t *consumed) noexcept nogil:
    """Apply up to `n` records, up to the first that is not applied; returns how many were applied.

    `consumed` also counts a rejected record: it is dealt with.
    """
    cdef uint8_t status
    cdef uint64_t applied = books_apply(self.books, first, n, &status)
    consumed[0] = applied
    count(&self.applied, applied)
    if status != STATUS_APPLIED:
        consumed[0] += refused(self, status)
    return applied


cdef uint64_t forward(book_stage *self, const Transaction *first, uint64_t n) noexcept nogil:
    """Apply records and forward those that were applied; returns how many were consumed."""
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
    if side > SIDE_ASK or n <= 0:
        return 0
    return book_writer_depth(<book *>market_book, side, n, prices, quantities)


cdef inline void wipe(Transaction *slots, uint64_t n) noexcept nogil:
    memset(slots, 0, n * sizeof(Transaction))


cdef uint8_t order_fault(const book_stage *self, const Transaction *order) noexcept nogil:
    """Why no state of its book could take a record, or STATUS_APPLIED.

    A record that was applied has no fault, so it may always be forwarded.
    """
    cdef const book *market = self.books.by_market[order.market]
    cdef uint8_t kind = order.kind
    if kind >= KINDS:
        return STATUS_KIND
    if order.side > SIDE_ASK:
        return STATUS_SIDE
    if market == NULL:
        return STATUS_MARKET
    if kind >= KIND_CLEAR:
        return STATUS_APPLIED           # these two have no price
    if order.price <= 0:
        return STATUS_PRICE
    if not tick_grid_holds(&market.grid, tick_grid_divide(&market.grid, order.price)):
        return STATUS_OFF_TICK
    # The quantity of KIND_SET_WIDE lies in its id.
    if (kind <= KIND_EXECUTE and order.size == 0) \
            or (kind == KIND_SET_WIDE and order.id > <uint64_t>INT64_MAX):
        return STATUS_SIZE
    return STATUS_APPLIED


cdef inline bint order_is_good(const book_stage *self, const Transaction *order) noexcept nogil:
    """Whether `order_fault` finds none. The common kinds take no branch that cannot be guessed."""
    cdef const book *market = self.books.by_market[order.market]
    cdef uint64_t kind = order.kind
    cdef bint bad
    if unlikely(market == NULL or kind >= KIND_CLEAR):
        return order_fault(self, order) == STATUS_APPLIED
    bad = order.side > SIDE_ASK
    bad |= not tick_grid_holds(&market.grid, tick_grid_divide(&market.grid, order.price))
    bad |= (order.size == 0) & (kind <= KIND_EXECUTE)
    bad |= (kind == KIND_SET_WIDE) & (order.id > <uint64_t>INT64_MAX)
    return not bad


cdef int fail(book_stage *self, int made) noexcept nogil:
    """Stop the run. The stage goes on without its strategy, so the books stay exact to the end."""
    self.strategy_failure = made
    self.strategy_failed = True
    self.failed_at = load_relaxed(&self.applied)
    control_stop(self.control)
    return -1


cdef int screen(book_stage *self, const Transaction *record, Transaction *out, int made,
                int first) noexcept nogil:
    """Block each bad record of what the strategy made, the first of which is at `first`.

    Those that pass move up, and the room behind them is wiped. Returns how many passed, or -1 if
    this was the strategy's last call.
    """
    cdef int i
    cdef int passed = first
    cdef uint8_t fault
    for i in range(first, made):
        fault = order_fault(self, &out[i])
        if fault == STATUS_APPLIED:
            out[passed] = out[i]
            if out[passed].ingress_ts_ns == 0:
                out[passed].ingress_ts_ns = record.ingress_ts_ns
            passed += 1
        elif self.stops_at_bad_order:
            self.bad_reason = fault
            self.bad_index = i
            self.bad_order = out[i]
            return fail(self, made)
        else:
            count(&self.blocked[fault], 1)
    wipe(out + passed, made - passed)
    count(&self.emitted, made)
    count(&self.passed, passed)
    return passed


cdef inline int ask(book_stage *self, const Transaction *record, const book_view *view,
                    Transaction *out) noexcept nogil:
    """Call the strategy; returns how many records pass, or -1 if it failed."""
    cdef int i
    cdef int made = self.strategy(record, view, out, self.room, self.user_data)
    if unlikely(made < 0 or made > <int>self.room):
        return fail(self, made)
    for i in range(made):
        if unlikely(not order_is_good(self, &out[i])):
            return screen(self, record, out, made, i)
        if out[i].ingress_ts_ns == 0:
            out[i].ingress_ts_ns = record.ingress_ts_ns
    count(&self.emitted, made)
    count(&self.passed, made)
    return made


cdef uint64_t consult(book_stage *self, const Transaction *first, uint64_t n) noexcept nogil:
    """Apply records one by one. The strategy writes what it emits into the output's slots.

    Returns how many were consumed. It stops early if the output may lack room for the next call, if
    another lane was faster, or if the strategy failed.
    """
    cdef book_view view
    cdef book_top top
    cdef const Transaction *record
    cdef uint8_t status
    cdef Transaction *slots = NULL
    cdef uint64_t free = 0              # slots from there on, in one run
    cdef uint64_t filled = 0            # the first of them, not published yet
    cdef uint64_t done = 0
    cdef uint64_t wiped
    cdef int made
    view.now_ns = self.now_ns
    view.depth = view_depth
    while done < n:
        if free - filled < self.room:
            transaction_ring_publish(self.output, filled)
            free = filled = 0
            if transaction_ring_room(self.output, self.room) < self.room:
                break
            slots = transaction_ring_claim(self.output, self.output.capacity, &free)
        record = first + done
        status = books_apply_one(self.books, record, &top)
        if status != STATUS_APPLIED:
            if refused(self, status) == 0:
                break
            done += 1
            continue
        count(&self.applied, 1)
        done += 1
        view.bid_price = top.bid_price
        view.bid_quantity = top.bid_quantity
        view.ask_price = top.ask_price
        view.ask_quantity = top.ask_quantity
        view.position = self.taken + done
        view.market = record.market
        view.book = self.books.by_market[record.market]
        view.tick_size = (<book *>view.book).grid.tick_size
        if free < self.room:
            # The free slots end with the ring, so the output is written aside and copied around the
            # end.
            made = ask(self, record, &view, self.aside)
            if made < 0:
                break
            transaction_ring_push(self.output, self.aside, made)
            wipe(self.aside, made)
            self.clean -= min(self.clean, <uint64_t>made)
            free = 0
        else:
            if self.clean < self.room:
                # Wipe more than this call needs, so that not every call has to.
                wiped = min(free - filled, 2 * <uint64_t>self.room)
                wipe(slots + filled + self.clean, wiped - self.clean)
                self.clean = wiped
            made = ask(self, record, &view, slots + filled)
            if made < 0:
                break
            filled += made
            self.clean -= made
            if filled >= self.together:
                transaction_ring_publish(self.output, filled)
                slots += filled
                free -= filled
                filled = 0
    transaction_ring_publish(self.output, filled)
    return done


cdef int book_do_work(void *pointer) noexcept nogil:
    cdef book_stage *self = <book_stage *>pointer
    cdef uint64_t available, n, step
    cdef uint64_t done = 0
    cdef bint slow
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
        elif self.strategy_failed:
            apply(self, first + done, n, &step)
        else:
            step = consult(self, first + done, n)
        if step == 0:
            break
        done += step
        self.taken += step
        while self.verifier != NULL and verifier_next(self.verifier) == self.taken:
            verifier_check(self.verifier)
    transaction_ring_release(self.input, done)
    if self.strategy != NULL and done >= TIMED:
        # Each record of a slow strategy is published at once. Publishing each alone would slow a
        # fast strategy down.
        slow = clock_now(self.clock) - self.now_ns > done * SLOW_NS
        self.together = 1 if slow else TOGETHER
    return <int>done


@cython.final
cdef class BookStage(Stage):
    """Applies records to their books and forwards what the strategy emits.

    Parameters
    ----------
    input, output : TransactionRing
    books : Books
    clock : Clock
    control : Control
    strategy : Strategy, optional
        The default forwards each applied record unchanged.
    verifier : Verifier, optional
    batch : int
        The most records that one call moves.
    on_bad_order : {"block", "stop"}
        What happens to a record that the strategy emits and that no book could take.
    room : int
        How many records the strategy can emit in one call. A pipeline's is always the default, 16.
        The model checker takes less, so that its rings can be small.

    Raises
    ------
    ConfigError
        A setting cannot be used, or `output` has fewer slots than `room`.
    """

    def __cinit__(self, TransactionRing input not None, TransactionRing output not None,
                  Books books not None, Clock clock not None, Control control not None, *,
                  Strategy strategy=None, Verifier verifier=None, batch=256,
                  on_bad_order="block", room=STRATEGY_ROOM, name="orderbook"):
        if batch < 1:
            raise ConfigError("must be at least 1", field="batch", value=batch)
        if on_bad_order not in ("block", "stop"):
            raise ConfigError("must be 'block' or 'stop'", field="on_bad_order", value=on_bad_order)
        if not 1 <= room <= STRATEGY_ROOM:
            raise ConfigError(f"must be 1 to {STRATEGY_ROOM}", field="room", value=room)
        if strategy is not None and output.capacity < room:
            raise ConfigError(
                f"must be at least {room} with a strategy, which can emit {room} records in one "
                "call", field="output.capacity", value=output.capacity)
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
        self.book_stage.room = room
        self.book_stage.stops_at_bad_order = on_bad_order == "stop"
        self.book_stage.together = TOGETHER
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
            if self.book_stage.bad_reason != STATUS_APPLIED:
                raise self.bad_order_error()
            position = self.book_stage.failed_at
            raised = self.strategy.exception_of(failure)
            if raised is not None:
                raise StrategyError(
                    f"{self.strategy.name} raised {type(raised).__name__}: {raised}",
                    position=position) from raised
            raise StrategyError(
                "its own error code" if failure < 0 else
                f"more than its room of {self.book_stage.room} records",
                returned=failure, position=position)
        return 0

    cdef object bad_order_error(self):
        order = self.book_stage.bad_order
        reason = Rejection(self.book_stage.bad_reason)
        field, why = BAD_FIELD[reason]
        if reason == Rejection.SIZE and order.kind == KIND_SET_WIDE:
            field, why = "id", "is no quantity"
        elif reason == Rejection.OFF_TICK:
            why += str(self.book_stage.books.by_market[order.market].grid.tick_size)
        value = {"kind": order.kind, "side": order.side, "market": order.market, "id": order.id,
                 "size": order.size, "price": order.price}[field]
        return StrategyError(
            f"{self.strategy.name} emitted out[{self.book_stage.bad_index}].{field} = {value}, "
            f"which {why}", position=self.book_stage.failed_at, reason=reason.name.lower())

    @property
    def applied(self):
        """int: Records that changed their book."""
        return load_relaxed(&self.book_stage.applied)

    @property
    def rejected(self):
        """dict of str to int: Records refused, by the lower-case name of the `Rejection`."""
        return {
            reason.name.lower(): load_relaxed(&self.book_stage.rejected[<int>reason])
            for reason in Rejection
        }

    @property
    def emitted(self):
        """int: Records that the strategy emitted: those blocked and those passed."""
        return load_relaxed(&self.book_stage.emitted)

    @property
    def blocked(self):
        """dict of str to int: Records that no book could take, by the name of the `Rejection`."""
        return {
            reason.name.lower(): load_relaxed(&self.book_stage.blocked[<int>reason])
            for reason in BAD_FIELD
        }

    @property
    def passed(self):
        """int: Records passed on; without a strategy, all that were applied."""
        if self.book_stage.strategy == NULL:
            return load_relaxed(&self.book_stage.emitted)
        return load_relaxed(&self.book_stage.passed)

    @property
    def timeouts(self):
        """int: How often a shared book was too busy, so that a record was tried again."""
        return load_relaxed(&self.book_stage.timeouts)
