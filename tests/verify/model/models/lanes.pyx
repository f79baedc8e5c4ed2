"""Two lanes into one book: the pipeline's own book stages, each with its rings, on one shared book.

It checks these claims: A stage that times out tries again, until each transaction is applied or
refused exactly once. The book is the sum of the applied transactions. Each lane passes on its own
applied transactions in order.
"""

from libc.stdint cimport uint64_t

from velox.core.atomic cimport load_relaxed
from velox.core.order_book cimport Books, OrderBook
from velox.core.clock cimport Clock
from velox.core.records cimport (
    KIND_ADD, KIND_CANCEL, SIDE_ASK, STATUSES, Transaction,
)
from velox.core.ring cimport (
    TransactionRing, transaction_ring, transaction_ring_close, transaction_ring_drained,
    transaction_ring_pop, transaction_ring_push,
)
from velox.core.shared_book cimport shared_book, shared_book_quantity
from velox.runtime.book_stage cimport BookStage, book_stage
from velox.runtime.stage cimport Control, stage

from models.model cimport check, model_allocate, model_finish, model_name, model_thread, wait

from velox.core.order_book import Books, OrderBook
from velox.core.clock import Clock
from velox.core.ring import TransactionRing
from velox.runtime.book_stage import BookStage
from velox.runtime.stage import Control

cdef enum:
    LANES = 2
    MOST_RECORDS = 4
    MOST_LEVELS = 64
    BASE = 1000                         # the price of the lowest level

cdef struct lane:
    book_stage *stage_state
    stage stage                         # the stage's own lies in a Python object
    transaction_ring *output
    uint64_t count
    Transaction record[MOST_RECORDS]
    bint refused[MOST_RECORDS]

cdef struct plan:
    shared_book *book
    lane lane[LANES]


cdef void run(void *state) noexcept nogil:
    cdef lane *self = <lane *>state
    cdef uint64_t timeouts
    while not self.stage.finished:
        # Relaxed: this thread alone counts them.
        timeouts = load_relaxed(&self.stage_state.timeouts)
        if self.stage.do_work(self.stage.self) == 0 and not self.stage.finished \
                and load_relaxed(&self.stage_state.timeouts) == timeouts:
            wait()


cdef void check_lane(lane *self, uint64_t *expected) noexcept nogil:
    cdef Transaction out
    cdef Transaction *each
    cdef uint64_t number, refused = 0, rejected = 0
    for number in range(self.count):
        each = &self.record[number]
        if self.refused[number]:
            refused += 1
            continue
        check(transaction_ring_pop(self.output, &out, 1) == 1 and out.id == each.id
              and out.kind == each.kind and out.price == each.price and out.size == each.size,
              "what was applied goes on, in order")
        if each.kind == KIND_ADD:
            expected[each.price - BASE] += each.size
        else:
            expected[each.price - BASE] -= each.size
    check(transaction_ring_drained(self.output), "and nothing else")
    for number in range(STATUSES):
        rejected += load_relaxed(&self.stage_state.rejected[number])
    check(rejected == refused and load_relaxed(&self.stage_state.applied) == self.count - refused
          and load_relaxed(&self.stage_state.emitted) == self.count - refused,
          "the stage counts each transaction once")


cdef void check_book(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t expected[MOST_LEVELS]
    cdef uint64_t level, index
    for level in range(MOST_LEVELS):
        expected[level] = 0
    for index in range(LANES):
        check_lane(&self.lane[index], expected)
    for level in range(MOST_LEVELS):
        check(<uint64_t>shared_book_quantity(self.book, SIDE_ASK, BASE + level) == expected[level],
              "the book is the sum of what was applied")


KINDS = {"add": KIND_ADD, "cancel": KIND_CANCEL}
NAMES = [b"lane 1", b"lane 2"]


def prepare(lanes, tries, batch=2):
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    cdef OrderBook made = OrderBook(64, 1, BASE, writers=2)
    cdef Books books = Books([made])
    cdef Clock clock = Clock("virtual")
    cdef Control control = Control()
    cdef TransactionRing input, output
    cdef BookStage middle
    cdef lane *each
    kept = [made, books, clock, control]
    self.book = made.core.shared
    self.book.tries = tries
    model_name(self, "plan")
    model_name(self.book, "book")
    for number, records in enumerate(lanes):
        each = &self.lane[<int>number]
        input, output = TransactionRing(MOST_RECORDS), TransactionRing(MOST_RECORDS)
        middle = BookStage(input, output, books, clock, control, batch=batch)
        kept += [input, output, middle]
        for index, (kind, price, size, refused) in enumerate(records):
            each.record[<int>index].id = index + 1
            each.record[<int>index].side = SIDE_ASK
            each.record[<int>index].kind = KINDS[kind]
            each.record[<int>index].price = BASE + price
            each.record[<int>index].size = size
            each.refused[<int>index] = refused
        each.count = len(records)
        transaction_ring_push(input.ring, each.record, each.count)
        transaction_ring_close(input.ring)
        each.output = output.ring
        each.stage_state = middle.book_stage
        each.stage = middle.stage
        each.stage_state.stage = &each.stage
        model_name(&input.ring.head, "input.head")
        model_name(&input.ring.tail, "input.tail")
        model_name(&output.ring.head, "output.head")
        model_thread(<const char *>NAMES[number], run, each)
    model_finish(check_book, self)
    return kept
