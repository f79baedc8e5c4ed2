# distutils: extra_compile_args = -std=c11
"""A strategy in Cython: lifts the ask when the bid is much the heavier side."""

from libc.stdint cimport int32_t, uint32_t, uint64_t

from velox.core.records cimport KIND_ADD, SIDE_BID, Transaction
from velox.runtime.strategy cimport Strategy, book_view, new_strategy


cdef class State:
    """What the strategy keeps; the book's thread writes it."""

    cdef uint64_t counters[2]

    @property
    def seen(self):
        """int: Updates that the strategy was asked about."""
        return self.counters[0]

    @property
    def sent(self):
        """int: Orders that it sent."""
        return self.counters[1]


cdef int32_t lift(const Transaction *record, const book_view *book, Transaction *out,
                  uint32_t room, void *user_data) noexcept nogil:
    cdef uint64_t *counters = <uint64_t *>user_data
    counters[0] += 1
    if book.ask_quantity == 0 or book.bid_quantity < 4 * book.ask_quantity:
        return 0
    counters[1] += 1
    out[0].id = counters[1]
    out[0].price = book.ask_price
    out[0].size = 1
    out[0].side = SIDE_BID
    out[0].kind = KIND_ADD
    out[0].flags = 0
    out[0].market = record.market
    out[0].ingress_ts_ns = 0
    return 1


def make():
    """The strategy, and the state that it counts in."""
    cdef State state = State()
    cdef Strategy strategy = new_strategy(lift, state.counters, state)
    return strategy, state
