"""The book stage with a strategy that writes into the output's slots, and the output's consumer.

It checks these claims: The consumer gets each record of the strategy once, whole and in order,
however full the ring is and wherever it wraps. The strategy gets a slot only when it is empty and
its reader has finished with it. The strategy is called once for each applied transaction.
"""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from velox.core.atomic cimport load_relaxed
from velox.core.order_book cimport Books, OrderBook
from velox.core.clock cimport Clock
from velox.core.records cimport KIND_ADD, Transaction
from velox.core.ring cimport (
    TransactionRing, transaction_ring, transaction_ring_close, transaction_ring_drained,
    transaction_ring_pop, transaction_ring_push, transaction_ring_slots,
)
from velox.runtime.book_stage cimport BookStage, book_stage
from velox.runtime.stage cimport Control, stage
from velox.runtime.strategy cimport book_view, new_strategy

from models.model cimport check, model_allocate, model_finish, model_name, model_thread, wait

from velox.core.order_book import Books, OrderBook
from velox.core.clock import Clock
from velox.core.ring import TransactionRing
from velox.runtime.book_stage import BookStage
from velox.runtime.stage import Control

cdef enum:
    MOST_RECORDS = 8

cdef struct plan:
    book_stage *stage_state
    stage stage                         # the stage's own lies in a Python object
    transaction_ring *output
    uint64_t asked
    uint64_t applied
    uint64_t made
    uint64_t taken
    uint64_t count
    Transaction record[MOST_RECORDS]


cdef uint64_t pattern(uint64_t number) noexcept nogil:
    return <uint64_t>0x0101010101010101 * (number + 1)


cdef int32_t make(const Transaction *record, const book_view *book, Transaction *out,
                  uint32_t room, void *state) noexcept nogil:
    """As many as the record has lots, less one; numbered through."""
    cdef plan *self = <plan *>state
    cdef uint64_t index
    self.asked += 1
    check(book.position == record.id and book.ask_price == 1, "the view is that of the record")
    for index in range(room):
        check(out[index].id == 0 and out[index].price == 0 and out[index].ingress_ts_ns == 0,
              "the room is empty")
    for index in range(record.size - 1):
        out[index].id = out[index].price = pattern(self.made)
        out[index].size = 1
        self.made += 1
    return <int32_t>record.size - 1


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
                  "what was made comes whole and in order")
            self.taken += 1
        elif transaction_ring_drained(self.output):
            break
        else:
            wait()


cdef void all_taken(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    check(self.asked == self.applied, "the strategy is asked about each once")
    check(self.taken == self.made, "everything is taken")
    check(load_relaxed(&self.stage_state.applied) == self.applied
          and load_relaxed(&self.stage_state.emitted) == self.made,
          "the stage counts each transaction once")


def prepare(made, capacity, batch=4, first=0):
    """`made`: for each record how many the strategy makes of it; -1 where it is refused."""
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    cdef Books books = Books([OrderBook(64, 1, cold_levels=4, depth_capacity=2)])
    cdef Clock clock = Clock("virtual")
    cdef Control control = Control()
    cdef TransactionRing input = TransactionRing(MOST_RECORDS)
    cdef TransactionRing output = TransactionRing(capacity, first_index=first % 2**64)
    # A pipeline's room is 16, and its rings hold more: too many steps to look at each.
    cdef BookStage middle = BookStage(
        input, output, books, clock, control, batch=batch, room=min(16, capacity),
        strategy=new_strategy(make, self, None))
    for index, count in enumerate(made):
        self.record[<int>index].id = index + 1
        self.record[<int>index].side = 1
        self.record[<int>index].kind = KIND_ADD
        self.record[<int>index].price = 1
        self.record[<int>index].size = count + 1
        self.record[<int>index].ingress_ts_ns = 7
        self.applied += count >= 0
    self.count = len(made)
    transaction_ring_push(input.ring, self.record, self.count)
    transaction_ring_close(input.ring)
    self.output = output.ring
    self.stage_state = middle.book_stage
    self.stage = middle.stage
    self.stage_state.stage = &self.stage
    model_name(self, "plan")
    model_name(&output.ring.head, "output.head")
    model_name(&output.ring.closed, "output.closed")
    model_name(&output.ring.tail, "output.tail")
    model_name(transaction_ring_slots(output.ring), "output.slots")
    model_thread("book stage", work, self)
    model_thread("taker", take, self)
    model_finish(all_taken, self)
    return [books, clock, control, input, output, middle]
