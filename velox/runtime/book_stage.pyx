"""The stage that applies records to their books and calls the strategy."""

cimport cython
from cython cimport unlikely
from libc.stdint cimport INT64_MAX, UINT32_MAX, int64_t, uint8_t, uint32_t, uint64_t
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
from velox.core.bundle cimport NO_DEADLINE
from velox.core.clock cimport Clock, clock_now
from velox.core.grid cimport tick_grid_divide, tick_grid_holds
from velox.core.memory cimport allocate, release_memory
from velox.core.order_book cimport Books
from velox.core.orders cimport OUTCOME_LAST_SHOWN, market_account, saturated
from velox.core.records cimport (
    KIND_ADD,
    KIND_BLOCKED,
    KIND_CLEAR,
    KIND_EXECUTE,
    KIND_SET_WIDE,
    KINDS,
    SIDE_ASK,
    SIDE_BID,
    STATUS_APPLIED,
    STATUS_KIND,
    STATUS_MARKET,
    STATUS_OFF_TICK,
    STATUS_PRICE,
    STATUS_SIDE,
    STATUS_SIZE,
    STATUS_TIMEOUT,
    KIND_TIMER,
    REPORT_KINDS,
    REPORT_KINDS_END,
    Report,
    Transaction,
)
from velox.core.risk cimport (
    BLOCK_KIND,
    BLOCK_LOTS,
    BLOCK_NO_LIMITS,
    BLOCK_NONE,
    BLOCK_PRICE,
    BLOCK_PRICE_STEP,
    BLOCK_SIDE,
    RiskGate,
    risk_begin,
    risk_mark,
    risk_report,
    risk_screen,
    risk_touch,
)
from velox.core.ring cimport (
    ReportRing,
    TransactionRing,
    report_ring_length,
    report_ring_peek,
    report_ring_release,
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
from velox.runtime.strategy cimport (
    FEED_CROSSED,
    FEED_UNKNOWN,
    STRATEGY_ROOM,
    VIEW_VERSION,
    Strategy,
    book_view,
    strategy_view,
)
from velox.runtime.verify cimport verifier_check, verifier_next

from velox.core.records import Rejection
from velox.errors import BookError, ConfigError, PipelineError, StrategyError

__all__ = ["BookStage"]

cdef enum:
    TOGETHER = 128              # what a fast strategy makes is handed over by so many, 8 us at most
    SLOW_NS = 64                # a record: a slower one hands over each, for the latency's sake
    TIMED = 4                   # records in a batch from which the time of one can be told
    HEAR_EACH = 16              # so many records are applied between two looks for reports

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
    self.strategy_failed = self.silent = True
    self.failed_at = load_relaxed(&self.applied)
    control_stop(self.control)
    return -1


cdef int stop_at(book_stage *self, uint8_t fault, int index, const Transaction *order,
                 int made) noexcept nogil:
    """Stop the run at a bad record."""
    self.bad_reason = fault
    self.bad_index = index
    self.bad_order = order[0]
    return fail(self, made)


cdef uint32_t fault_reason(uint8_t fault) noexcept nogil:
    """The reason of the gate that is nearest to the fault of a record."""
    if fault == STATUS_KIND:
        return BLOCK_KIND
    if fault == STATUS_SIDE:
        return BLOCK_SIDE
    if fault == STATUS_MARKET:
        return BLOCK_NO_LIMITS
    if fault == STATUS_SIZE:
        return BLOCK_LOTS
    return BLOCK_PRICE if fault == STATUS_PRICE else BLOCK_PRICE_STEP


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
            return stop_at(self, fault, i, &out[i], made)
        else:
            count(&self.blocked[fault], 1)
    wipe(out + passed, made - passed)
    count(&self.emitted, made)
    count(&self.passed, passed)
    return passed


cdef void show_account(book_stage *self, strategy_view *view) noexcept nogil:
    """Write what the account has of a market into its view."""
    cdef const market_account *account = &self.gate.accounts[view.book.market]
    view.inventory = saturated(account.inventory)
    view.cash = saturated(account.cash)
    view.fees = saturated(account.fees)
    view.open_bid = account.open[SIDE_BID]
    view.open_ask = account.open[SIDE_ASK]
    view.inventory_lots = view.inventory
    if account.base_unit != 1:
        view.inventory_lots = saturated(account.inventory // account.base_unit)


cdef void note_block(book_stage *self, const Transaction *order, uint32_t reason) noexcept nogil:
    """Keep a block for the strategy, which hears of it when reports are heard."""
    cdef Report *report
    if self.blocks_head - self.blocks_tail == TOLD_BLOCKS:
        # A strategy that answers each block with another order would never be done.
        count(&self.untold, 1)
        return
    report = &self.blocks[self.blocks_head & (TOLD_BLOCKS - 1)]
    self.blocks_head += 1
    memset(report, 0, sizeof(Report))
    report.record = order[0]
    report.record.kind = KIND_BLOCKED
    report.record.flags = 0
    report.record.ingress_ts_ns = self.now_ns
    report.ahead = -1
    report.reason = reason


cdef int limit(book_stage *self, const Transaction *record, Transaction *out,
               int made) noexcept nogil:
    """Let what the strategy made pass the gate; what passes moves up, and its room is wiped.

    Returns how many passed, or -1 if this was the strategy's last call.
    """
    cdef int i
    cdef int passed = 0
    cdef uint8_t fault
    cdef uint32_t reason
    for i in range(made):
        fault = STATUS_APPLIED if order_is_good(self, &out[i]) else order_fault(self, &out[i])
        if unlikely(fault != STATUS_APPLIED):
            if self.stops_at_bad_order:
                return stop_at(self, fault, i, &out[i], made)
            count(&self.blocked[fault], 1)
            note_block(self, &out[i], fault_reason(fault))
            continue
        reason = risk_screen(self.gate, &out[i])
        if reason != BLOCK_NONE:
            note_block(self, &out[i], reason)
            continue
        if out[i].kind == KIND_ADD:
            show_account(self, self.view_of[out[i].market])
        if passed != i:
            out[passed] = out[i]
        if out[passed].ingress_ts_ns == 0:
            out[passed].ingress_ts_ns = record.ingress_ts_ns
        passed += 1
    wipe(out + passed, made - passed)
    count(&self.emitted, made)
    count(&self.passed, passed)
    return passed


# The view that a strategy gets. For each of the two, the compiler makes functions of their own.
ctypedef fused any_view:
    book_view
    strategy_view


cdef inline int ask(book_stage *self, const Transaction *record, any_view *view,
                    Transaction *out) noexcept nogil:
    """Call the strategy; returns how many records pass, or -1 if it failed."""
    cdef int i
    cdef int made
    if any_view is strategy_view:
        made = self.feedback(record, view, out, self.room, self.user_data)
        # Less one, so that 0 is the latest time.
        if unlikely(view.timer_at_ns - 1 < self.wanted_ns - 1):
            want_timer(self, view)
        if self.gate != NULL and made > 0 and made <= <int>self.room:
            return limit(self, record, out, made)
    else:
        made = self.strategy(record, view, out, self.room, self.user_data)
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


cdef inline bint outlet_open(book_stage *self, outlet *out) noexcept nogil:
    """Make room for one call of the strategy; False if the output is too full."""
    if out.free - out.filled < self.room:
        transaction_ring_publish(self.output, out.filled)
        out.free = out.filled = 0
        if transaction_ring_room(self.output, self.room) < self.room:
            return False
        out.slots = transaction_ring_claim(self.output, self.output.capacity, &out.free)
    return True


cdef bint outlet_ask_aside(book_stage *self, outlet *out, const Transaction *record,
                           any_view *view) noexcept nogil:
    """Call the strategy where the free slots end with the ring.

    The output is written aside and copied around the end. Returns False if the strategy failed.
    """
    cdef int made = ask(self, record, view, self.aside)
    if made < 0:
        return False
    transaction_ring_push(self.output, self.aside, made)
    wipe(self.aside, made)
    self.clean -= min(self.clean, <uint64_t>made)
    out.free = 0
    return True


cdef void outlet_wipe(book_stage *self, outlet *out) noexcept nogil:
    """Wipe more than the next call needs, so that not every call has to."""
    cdef uint64_t wiped = min(out.free - out.filled, 2 * <uint64_t>self.room)
    wipe(out.slots + out.filled + self.clean, wiped - self.clean)
    self.clean = wiped


cdef inline bint outlet_ask(book_stage *self, outlet *out, const Transaction *record,
                            any_view *view) noexcept nogil:
    """Call the strategy, which writes into the outlet's slots; False if it failed."""
    cdef int made
    if unlikely(out.free < self.room):
        return outlet_ask_aside(self, out, record, view)
    if self.clean < self.room:
        outlet_wipe(self, out)
    made = ask(self, record, view, out.slots + out.filled)
    if unlikely(made < 0):
        return False
    out.filled += made
    self.clean -= made
    if out.filled >= self.together:
        transaction_ring_publish(self.output, out.filled)
        out.slots += out.filled
        out.free -= out.filled
        out.filled = 0
    return True


cdef bint outlet_tell(book_stage *self, outlet *out, const Transaction *record,
                      strategy_view *view) noexcept nogil:
    """Call a strategy that takes reports, at one of them or at a timer."""
    return outlet_ask(self, out, record, view)


cdef uint64_t consult(book_stage *self, outlet *outside, const Transaction *first, uint64_t n,
                      any_view *_) noexcept nogil:
    """Apply records one by one. The strategy writes what it emits into the output's slots.

    Returns how many were consumed. It stops early if the output may lack room for the next call, if
    another lane was faster, or if the strategy failed. Of the last argument only the type counts.
    """
    cdef strategy_view *view
    cdef book_top top
    cdef const Transaction *record
    cdef uint8_t status
    cdef uint64_t done = 0
    cdef bint goes_on
    # A copy, so that the compiler may keep it in registers.
    cdef outlet out = outside[0]
    while done < n:
        if not outlet_open(self, &out):
            break
        record = first + done
        status = books_apply_one(self.books, record, &top)
        if status != STATUS_APPLIED:
            if refused(self, status) == 0:
                break
            done += 1
            continue
        count(&self.applied, 1)
        done += 1
        view = self.view_of[record.market]
        view.book.bid_price = top.bid_price
        view.book.bid_quantity = top.bid_quantity
        view.book.ask_price = top.ask_price
        view.book.ask_quantity = top.ask_quantity
        view.book.position = self.taken + done
        view.book.now_ns = self.now_ns
        if any_view is strategy_view:
            view.market_ns = record.ingress_ts_ns
            # An empty side has price 0.
            view.feed_state = FEED_CROSSED * (
                (top.ask_price != 0) & (top.bid_price >= top.ask_price)
            ) | FEED_UNKNOWN * (record.kind == KIND_CLEAR)
            if self.gate != NULL:
                risk_touch(self.gate, record.market, top.bid_price, top.ask_price, view.feed_state,
                           record.ingress_ts_ns)
            goes_on = outlet_ask(self, &out, record, view)
        else:
            goes_on = outlet_ask(self, &out, record, &view.book)
        if not goes_on:
            break
    outside[0] = out
    return done


# Reports and timers


cdef uint64_t earliest_wanted(const book_stage *self) noexcept nogil:
    """When the first timer that the strategy asked for is due, or NO_DEADLINE."""
    cdef uint64_t earliest = NO_DEADLINE
    cdef uint32_t i
    for i in range(self.view_count):
        if self.views[i].timer_at_ns != 0:
            earliest = min(earliest, self.views[i].timer_at_ns)
    return earliest


cdef void want_timer(book_stage *self, strategy_view *view) noexcept nogil:
    """Note that a view asks for a timer before all others.

    A time that has passed means the next nanosecond. Otherwise a strategy that always asks for such
    a time would stop a virtual clock.
    """
    view.timer_at_ns = max(view.timer_at_ns, self.now_ns + 1)
    self.wanted_ns = min(self.wanted_ns, view.timer_at_ns)


cdef uint8_t hear_one(book_stage *self, outlet *out, Report *report) noexcept nogil:
    """Give one report to the strategy. Returns its status, to be counted."""
    cdef Transaction *record = &report.record
    cdef strategy_view *view = self.view_of[record.market]
    cdef uint32_t outcome
    if record.kind < REPORT_KINDS or record.kind >= REPORT_KINDS_END or record.kind == KIND_TIMER:
        return REPORT_KIND
    if view == NULL:
        return REPORT_MARKET
    if record.ingress_ts_ns == 0:
        record.ingress_ts_ns = self.now_ns
    if self.gate != NULL:
        outcome = risk_report(self.gate, report, &view.order_slot)
        show_account(self, view)
        if outcome > OUTCOME_LAST_SHOWN:
            view.order_slot = UINT32_MAX
            return REPORT_HEARD
    if not self.silent:
        view.book.position = self.taken
        view.book.now_ns = self.now_ns
        outlet_tell(self, out, record, view)
    view.order_slot = UINT32_MAX
    return REPORT_HEARD


cdef uint64_t tell_blocks(book_stage *self, outlet *out) noexcept nogil:
    """Tell the strategy of the orders that were blocked before this call; returns how many.

    Returns 0 if an answer was blocked too. Otherwise a strategy that sends each blocked order again
    would keep the stage busy for ever, and a virtual clock would not move.
    """
    cdef uint64_t last = self.blocks_head
    cdef uint64_t told = 0
    cdef strategy_view *view
    cdef Report block
    while self.blocks_tail != last and not self.silent and outlet_open(self, out):
        # A copy: the slot may be taken again during the call.
        block = self.blocks[self.blocks_tail & (TOLD_BLOCKS - 1)]
        self.blocks_tail += 1
        view = self.view_of[block.record.market]
        if view == NULL:
            view = &self.views[0]       # of a market that there is not
        view.book.position = self.taken
        view.book.now_ns = self.now_ns
        outlet_tell(self, out, &block.record, view)
        told += 1
    return told if self.blocks_head == last else 0


cdef uint64_t hear(book_stage *self, outlet *out) noexcept nogil:
    """Take reports that have arrived, at most a batch; returns how many.

    It stops early if the output may lack room for the next call.
    """
    cdef uint64_t available
    cdef uint64_t done = 0
    cdef uint64_t most = self.batch
    cdef Report *first
    if self.ending:
        # Relaxed: only this thread writes tail.
        most = min(most, self.last_report - load_relaxed(&self.reports.tail))
    first = report_ring_peek(self.reports, most, &available)
    while done < available and (self.silent or outlet_open(self, out)):
        count(&self.heard[hear_one(self, out, first + done)], 1)
        done += 1
    report_ring_release(self.reports, done)
    if self.gate != NULL:
        done += tell_blocks(self, out)
    return done


cdef void fire(book_stage *self, outlet *out, strategy_view *view, uint64_t due_ns,
               uint64_t periods) noexcept nogil:
    """Give the strategy a timer of a market."""
    cdef Report timer
    cdef Transaction *record = &timer.record
    memset(&timer, 0, sizeof(timer))
    self.timers += 1
    record.id = self.timers
    record.size = <uint32_t>min(periods, <uint64_t>UINT32_MAX)
    record.kind = KIND_TIMER
    record.market = <uint8_t>view.book.market
    record.ingress_ts_ns = due_ns
    count(&self.fired, 1)
    view.book.position = self.taken
    view.book.now_ns = self.now_ns
    outlet_tell(self, out, record, view)


cdef uint64_t fire_period(book_stage *self, outlet *out) noexcept nogil:
    """Fire the timer of the next market in this round; a round is one timer for each market."""
    if self.period_view == 0:
        self.periods = (self.now_ns - self.period_due_ns) // self.period_ns + 1
    fire(self, out, &self.views[self.period_view], self.period_due_ns, self.periods)
    self.period_view += 1
    if self.period_view == self.view_count:
        self.period_view = 0
        self.period_due_ns += self.periods * self.period_ns
    return 1


cdef uint64_t fire_wanted(book_stage *self, outlet *out) noexcept nogil:
    """Fire the first timer that the strategy asked for, if one is due."""
    cdef uint64_t due_ns = earliest_wanted(self)
    cdef uint32_t i = 0
    if due_ns > self.now_ns:
        # The strategy has moved it, or does not want it any more.
        self.wanted_ns = due_ns
        return 0
    while self.views[i].timer_at_ns != due_ns:
        i += 1
    self.views[i].timer_at_ns = 0
    self.wanted_ns = earliest_wanted(self)
    fire(self, out, &self.views[i], due_ns, 0)
    return 1


cdef uint64_t fire_timers(book_stage *self, outlet *out) noexcept nogil:
    """Fire all timers that are due, the earliest first; returns how many.

    At the same time, those of the period come first, then the lower market. It stops early if the
    output may lack room for the next call.
    """
    cdef uint64_t fired = 0
    while min(self.period_due_ns, self.wanted_ns) <= self.now_ns and not self.strategy_failed \
            and outlet_open(self, out):
        if self.period_due_ns <= self.wanted_ns:
            fired += fire_period(self, out)
        else:
            fired += fire_wanted(self, out)
    return fired


cdef uint64_t feedback_deadline(void *pointer) noexcept nogil:
    cdef const book_stage *self = <book_stage *>pointer
    if self.strategy_failed or self.ending:
        return NO_DEADLINE
    return min(self.period_due_ns, self.wanted_ns)


cdef bint all_heard(book_stage *self) noexcept nogil:
    """Whether the stage is done: its input has ended, and it took all reports from before that.

    A report that arrives later stays in the ring. If the strategy answered each report, and each
    answer caused another, the stage would never end.
    """
    if not self.ending:
        if not transaction_ring_drained(self.input):
            return False
        self.ending = True
        # Relaxed: a report is read only after `report_ring_peek` has acquired the head. A report
        # that was pushed before the input was closed counts, since the look at `closed` acquires.
        self.last_report = load_relaxed(&self.reports.head)
    # Relaxed: only this thread writes tail.
    return load_relaxed(&self.reports.tail) == self.last_report


cdef int feedback_do_work(void *pointer) noexcept nogil:
    """The work of a stage whose strategy takes reports and timers."""
    cdef book_stage *self = <book_stage *>pointer
    cdef outlet out
    cdef uint64_t available, n, step, moved
    cdef uint32_t view
    cdef uint64_t done = 0
    cdef bint slow
    cdef const Transaction *first = transaction_ring_peek(self.input, self.batch, &available)
    out.slots = NULL
    out.free = out.filled = 0
    books_poll(self.books)
    self.now_ns = clock_now(self.clock)
    if self.gate != NULL:
        risk_begin(self.gate, self.now_ns)
    moved = hear(self, &out)
    while done < available:
        n = min(available - done, <uint64_t>HEAR_EACH)
        if self.verifier != NULL:
            n = min(n, verifier_next(self.verifier) - self.taken)
        if self.strategy_failed:
            apply(self, first + done, n, &step)
        else:
            step = consult(self, &out, first + done, n, <strategy_view *>NULL)
        if step == 0:
            break
        done += step
        self.taken += step
        while self.verifier != NULL and verifier_next(self.verifier) == self.taken:
            verifier_check(self.verifier)
        if done < available and (report_ring_length(self.reports) > 0
                                 or self.blocks_head != self.blocks_tail):
            moved += hear(self, &out)
    transaction_ring_release(self.input, done)
    if self.gate != NULL and self.gate.marks:
        for view in range(self.view_count):
            risk_mark(self.gate, <uint8_t>self.views[view].book.market)
    if available == 0 and all_heard(self):
        transaction_ring_publish(self.output, out.filled)
        transaction_ring_close(self.output)
        self.stage.finished = True
        count(&self.untold, self.blocks_head - self.blocks_tail)
        self.blocks_tail = self.blocks_head
        return <int>moved
    if not self.ending:
        moved += fire_timers(self, &out)
    transaction_ring_publish(self.output, out.filled)
    if done >= TIMED:
        # As in book_do_work.
        slow = clock_now(self.clock) - self.now_ns > done * SLOW_NS
        self.together = 1 if slow else TOGETHER
    return <int>(done + moved)


cdef int book_do_work(void *pointer) noexcept nogil:
    cdef book_stage *self = <book_stage *>pointer
    cdef outlet out
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
        out.slots = NULL
        out.free = out.filled = 0
    while done < available:
        n = available - done
        if self.verifier != NULL:
            n = min(n, verifier_next(self.verifier) - self.taken)
        if self.strategy == NULL:
            step = forward(self, first + done, n)
        elif self.strategy_failed:
            apply(self, first + done, n, &step)
        else:
            step = consult(self, &out, first + done, n, <book_view *>NULL)
        if step == 0:
            break
        done += step
        self.taken += step
        while self.verifier != NULL and verifier_next(self.verifier) == self.taken:
            verifier_check(self.verifier)
    if self.strategy != NULL:
        transaction_ring_publish(self.output, out.filled)
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
    reports : ReportRing, optional
        Where reports come from, for a strategy that takes them.
    timer_ns : int, optional
        The period of the timers of a strategy that takes reports.
    gate : RiskGate, optional
        Limits and tracks the orders of a strategy that takes reports. Without one they are neither.
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
        A setting cannot be used, `output` has fewer slots than `room`, or the strategy takes
        reports and there is no ring for them.
    """

    def __cinit__(self, TransactionRing input not None, TransactionRing output not None,
                  Books books not None, Clock clock not None, Control control not None, *,
                  Strategy strategy=None, ReportRing reports=None, timer_ns=None,
                  RiskGate gate=None, Verifier verifier=None, batch=256,
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
        feedback = strategy is not None and strategy.reports
        if feedback != (reports is not None):
            raise ConfigError(
                "are for a strategy that takes them, and such a strategy needs them",
                field="reports", value=reports)
        if timer_ns is not None and not feedback:
            raise ConfigError(
                "needs a strategy that takes reports and timers", field="timer_ns", value=timer_ns)
        if gate is not None and not feedback:
            raise ConfigError(
                "needs a strategy that takes reports, which tell what became of its orders",
                field="gate", value=gate)
        input.attach_consumer()
        output.attach_producer()
        if reports is not None:
            reports.attach_consumer()
        self.name = name
        self.kept = [input, output, clock, control]
        self.reports = reports
        self.gate = gate
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
            self.book_stage.feedback = strategy.feedback
            self.book_stage.user_data = strategy.user_data
            self.make_views(books)
        if verifier is not None:
            self.book_stage.verifier = verifier.verifier
        self.book_stage.period_due_ns = self.book_stage.wanted_ns = NO_DEADLINE
        self.stage.do_work = book_do_work
        if feedback:
            self.book_stage.reports = reports.ring
            self.book_stage.period_ns = 0 if timer_ns is None else timer_ns
            self.stage.do_work = feedback_do_work
            self.stage.deadline = feedback_deadline
        if gate is not None:
            self.use_gate(gate)
        self.stage.self = self.book_stage

    cdef int make_views(self, Books books) except -1:
        """Make a view for each market; what never changes is written here, once."""
        cdef strategy_view *view
        self.book_stage.views = <strategy_view *>allocate(len(books) * sizeof(strategy_view))
        if self.book_stage.views == NULL:
            raise MemoryError("no memory for the views of a strategy")
        for each in sorted(books.values(), key=lambda each: each.market):
            view = &self.book_stage.views[self.book_stage.view_count]
            self.book_stage.view_count += 1
            self.book_stage.view_of[<int>each.market] = view
            view.book.tick_size = each.tick_size
            view.book.market = each.market
            view.book.book = books.table.by_market[<int>each.market]
            view.book.depth = view_depth
            view.size = sizeof(strategy_view)
            view.version = VIEW_VERSION
            view.price_decimals = each.price_decimals
            view.feed_state = FEED_UNKNOWN
            view.order_slot = UINT32_MAX
        return 0

    cdef int use_gate(self, RiskGate gate) except -1:
        """Screen what the strategy emits, and show it its orders and its account."""
        cdef uint32_t i
        cdef strategy_view *view
        self.book_stage.blocks = <Report *>allocate(TOLD_BLOCKS * sizeof(Report))
        if self.book_stage.blocks == NULL:
            raise MemoryError("no memory for blocked orders")
        self.book_stage.gate = gate.gate
        for i in range(self.book_stage.view_count):
            view = &self.book_stage.views[i]
            view.orders = gate.orders.table.slots
            view.order_capacity = gate.orders.table.capacity
            # Until the first record of a market its feed is not known.
            risk_touch(gate.gate, <uint8_t>view.book.market, 0, 0, FEED_UNKNOWN, 0)
            show_account(self.book_stage, view)
        return 0

    def __dealloc__(self):
        if self.book_stage != NULL:
            release_memory(self.book_stage.views)
            release_memory(self.book_stage.blocks)
        release_memory(self.book_stage)

    def begin(self):
        if not books_begin_writing((<Books>self.books).table):
            raise BookError("another thread is writing these books")
        if self.book_stage.period_ns:
            self.book_stage.period_due_ns = (
                clock_now(self.book_stage.clock) + self.book_stage.period_ns)

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
        """dict of str to int: Records blocked: those that no book could take, by the name of the
        `Rejection`, and those that the gate blocked, by ``risk_`` and the name of the `Block`.
        """
        blocked = {
            reason.name.lower(): load_relaxed(&self.book_stage.blocked[<int>reason])
            for reason in BAD_FIELD
        }
        if self.gate is not None:
            blocked |= {f"risk_{name}": n for name, n in self.gate.blocked.items()}
        return blocked

    @property
    def untold(self):
        """int: Blocked orders of which the strategy did not hear, because it made too many."""
        return load_relaxed(&self.book_stage.untold)

    @property
    def passed(self):
        """int: Records passed on; without a strategy, all that were applied."""
        if self.strategy is None:
            return load_relaxed(&self.book_stage.emitted)
        return load_relaxed(&self.book_stage.passed)

    @property
    def timeouts(self):
        """int: How often a shared book was too busy, so that a record was tried again."""
        return load_relaxed(&self.book_stage.timeouts)

    @property
    def heard(self):
        """dict of str to int: Reports taken: ``heard`` by the strategy, or refused by a reason.

        ``kind``: no kind of report, or one that the pipeline makes itself. ``market``: there is no
        such market.
        """
        return {
            "heard": load_relaxed(&self.book_stage.heard[REPORT_HEARD]),
            "kind": load_relaxed(&self.book_stage.heard[REPORT_KIND]),
            "market": load_relaxed(&self.book_stage.heard[REPORT_MARKET]),
        }

    @property
    def timers(self):
        """int: Timers given to the strategy."""
        return load_relaxed(&self.book_stage.fired)

    def settle(self):
        """Take the reports that arrived after the stage had ended; the strategy is not called.

        Returns
        -------
        int
            How many were taken.

        Raises
        ------
        PipelineError
            The stage has not ended.
        """
        cdef uint64_t taken = 0
        cdef uint64_t step = 1
        if self.reports is None:
            return 0
        if not self.stage.finished:
            raise PipelineError("settle of a book stage that has not ended")
        self.book_stage.silent = True
        self.book_stage.ending = False
        while step > 0:
            step = hear(self.book_stage, NULL)
            taken += step
        self.book_stage.ending = True
        return taken
