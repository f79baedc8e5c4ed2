"""The book stage with a strategy that takes reports, the executor that pushes them, and a taker.

Claimed: each report comes whole, once and in order, however full its ring is; what the strategy
answers comes out in the same order, and none of it is lost; the stage ends, and has then heard what
was pushed before its input ended; what came later is still in the ring.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from velox.core.atomic cimport load_relaxed
from velox.core.clock cimport Clock
from velox.core.order_book cimport Books, OrderBook
from velox.core.records cimport KIND_ADD, KIND_FILLED, REPORT_KINDS, Report, Transaction
from velox.core.ring cimport (
    ReportRing, TransactionRing, report_ring, report_ring_length, report_ring_push,
    report_ring_slots, transaction_ring, transaction_ring_close, transaction_ring_drained,
    transaction_ring_pop, transaction_ring_push,
)
from velox.runtime.book_stage cimport REPORT_HEARD, BookStage, book_stage
from velox.runtime.stage cimport Control, stage
from velox.runtime.strategy cimport new_feedback_strategy, strategy_view

from models.model cimport check, model_allocate, model_finish, model_name, model_thread, wait

from velox.core.clock import Clock
from velox.core.order_book import Books, OrderBook
from velox.core.ring import ReportRing, TransactionRing
from velox.runtime.book_stage import BookStage
from velox.runtime.stage import Control

cdef enum:
    MOST_RECORDS = 8

cdef struct plan:
    book_stage *stage_state
    stage stage                         # the stage's own lies in a Python object
    transaction_ring *input
    transaction_ring *output
    report_ring *reports
    bint closes                         # the executor ends the input, once all is pushed
    uint64_t asked
    uint64_t heard
    uint64_t taken
    uint64_t records
    uint64_t count
    Transaction record[MOST_RECORDS]


cdef uint64_t pattern(uint64_t number) noexcept nogil:
    return <uint64_t>0x0101010101010101 * (number + 1)


cdef int32_t answer(const Transaction *record, strategy_view *view, Transaction *out,
                    uint32_t room, void *state) noexcept nogil:
    """One order for each report, none for a record of the market."""
    cdef plan *self = <plan *>state
    cdef const Report *report = <const Report *>record
    if record.kind < REPORT_KINDS:
        self.asked += 1
        check(record.id == self.asked, "the records of the market come in order")
        return 0
    check(record.id == pattern(self.heard) and report.sequence == record.id
          and report.base_amount == <int64_t>record.id and report.leaves == 5,
          "a report comes whole and in order")
    out.id = out.price = record.id
    out.size = 1
    self.heard += 1
    return 1


cdef void execute(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Report report
    cdef uint64_t pushed = 0
    while pushed < self.count:
        memset(&report, 0, sizeof(report))
        report.record.kind = KIND_FILLED
        report.record.id = report.sequence = pattern(pushed)
        report.record.ingress_ts_ns = 7
        report.base_amount = pattern(pushed)
        report.leaves = 5
        if report_ring_push(self.reports, &report, 1) == 1:
            pushed += 1
        else:
            wait()
    if self.closes:
        transaction_ring_close(self.input)


cdef void work(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    while not self.stage.finished:
        if self.stage.do_work(self.stage.self) == 0 and not self.stage.finished:
            wait()


cdef void take(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Transaction item
    while True:
        if transaction_ring_pop(self.output, &item, 1) == 1:
            check(item.id == pattern(self.taken) and item.price == <int64_t>item.id
                  and item.size == 1 and item.ingress_ts_ns == 7,
                  "an answer comes whole and in order")
            self.taken += 1
        elif transaction_ring_drained(self.output):
            break
        else:
            wait()


cdef void all_taken(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    check(self.asked == self.records, "each record of the market is shown once")
    check(self.taken == self.heard, "each answer is taken")
    check(self.heard + report_ring_length(self.reports) == self.count,
          "a report is heard or still in the ring")
    check(not self.closes or self.heard == self.count,
          "what was pushed before the input ended is heard")
    check(load_relaxed(&self.stage_state.heard[REPORT_HEARD]) == self.heard
          and load_relaxed(&self.stage_state.emitted) == self.heard,
          "the stage counts each report once")


def prepare(records, reports, capacity, report_capacity, closes=True, batch=4, first=0):
    """`records` of the market are there from the start; the executor pushes `reports`."""
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    cdef Books books = Books([OrderBook(64, 1, cold_levels=4, depth_capacity=2)])
    cdef Clock clock = Clock("virtual")
    cdef Control control = Control()
    cdef TransactionRing input = TransactionRing(MOST_RECORDS)
    cdef TransactionRing output = TransactionRing(capacity)
    cdef ReportRing told = ReportRing(report_capacity, first_index=first % 2**64)
    cdef BookStage middle = BookStage(
        input, output, books, clock, control, batch=batch, room=1, reports=told,
        strategy=new_feedback_strategy(answer, self, None))
    for index in range(records):
        self.record[<int>index].id = index + 1
        self.record[<int>index].side = 1
        self.record[<int>index].kind = KIND_ADD
        self.record[<int>index].price = 1
        self.record[<int>index].size = 1
        self.record[<int>index].ingress_ts_ns = 7
    self.records = records
    self.count = reports
    self.closes = closes
    transaction_ring_push(input.ring, self.record, self.records)
    if not closes:
        transaction_ring_close(input.ring)
    self.input = input.ring
    self.output = output.ring
    self.reports = told.ring
    self.stage_state = middle.book_stage
    self.stage = middle.stage
    self.stage_state.stage = &self.stage
    model_name(self, "plan")
    model_name(&input.ring.closed, "input.closed")
    model_name(&output.ring.head, "output.head")
    model_name(&output.ring.tail, "output.tail")
    model_name(&told.ring.head, "reports.head")
    model_name(&told.ring.tail, "reports.tail")
    model_name(report_ring_slots(told.ring), "reports.slots")
    model_thread("executor", execute, self)
    model_thread("book stage", work, self)
    model_thread("taker", take, self)
    model_finish(all_taken, self)
    return [books, clock, control, input, output, told, middle]
