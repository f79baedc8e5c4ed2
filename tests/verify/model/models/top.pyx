"""The line with the best bid and ask: one writer, any readers.

Claimed: what a reader gets was published, whole, and is no older than what it got before; an
attempt fails only where a new version came out meanwhile.
"""

from libc.stdint cimport int64_t, uint64_t

from velox.core.atomic cimport atomic_u64, load_acquire, store_release
from velox.core.top cimport book_top, top_line, top_line_publish, top_line_try_read

from models.model cimport check, model_allocate, model_name, model_thread

cdef struct plan:
    top_line *line
    uint64_t versions
    uint64_t reads
    atomic_u64 told             # the newest version of which the readers were told otherwise


cdef book_top version_of(int number) noexcept nogil:
    cdef book_top top
    top.bid_price = 10 * number + (1 if number else 0)
    top.bid_quantity = 10 * number + (2 if number else 0)
    top.ask_price = 10 * number + (3 if number else 0)
    top.ask_quantity = 10 * number + (4 if number else 0)
    return top


cdef void publish(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef book_top top
    cdef int number
    for number in range(1, <int>self.versions + 1):
        top = version_of(number)
        top_line_publish(self.line, &top)
    # Release, of the model's own: who hears of the last version must also be able to read it.
    store_release(&self.told, self.versions)


cdef void read(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t done = 0, failed = 0, told
    cdef int64_t number, seen = 0
    cdef book_top top, expected
    while done < self.reads:
        told = load_acquire(&self.told)
        if not top_line_try_read(self.line, &top):
            failed += 1
            check(failed <= self.versions, "an attempt fails for a new version alone")
            continue
        number = top.bid_price // 10
        expected = version_of(<int>number)
        check(top.bid_price == expected.bid_price and top.bid_quantity == expected.bid_quantity
              and top.ask_price == expected.ask_price
              and top.ask_quantity == expected.ask_quantity, "a reader gets one whole version")
        check(number >= seen, "a reader gets no older version than before")
        check(number >= <int64_t>told, "a reader gets what it was told of")
        seen = number
        done += 1


def prepare(versions, readers, reads):
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    self.line = <top_line *>model_allocate(sizeof(top_line))
    self.versions = versions
    self.reads = reads
    model_name(self, "plan")
    model_name(&self.told, "told")
    model_name(&self.line.version, "version")
    model_name(&self.line.even, "even slot")
    model_name(&self.line.odd, "odd slot")
    model_thread("writer", publish, self)
    model_thread("reader", read, self)
    if readers > 1:
        model_thread("reader 2", read, self)
