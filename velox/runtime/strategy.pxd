"""The strategy: a C function between the order book and the bundles.

From Cython::

    from velox.runtime.strategy cimport Strategy, book_view, new_strategy
    from velox.core.records cimport Record

    cdef int quote(const Record *record, const book_view *book, Record *out,
                   unsigned int room, void *user_data) noexcept nogil:
        ...

    strategy = new_strategy(quote, NULL, None)

A strategy that also gets reports and timers takes a `strategy_view` in place of the `book_view`,
and is made by `new_feedback_strategy`.
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

from velox.core.orders cimport order_slot
from velox.core.records cimport Transaction

# The same layout as in velox/include/velox/strategy.h, which explains it.
cdef struct book_view:
    int64_t bid_price
    int64_t bid_quantity
    int64_t ask_price
    int64_t ask_quantity
    uint64_t position
    uint64_t now_ns
    int64_t tick_size
    uint64_t market
    void *book
    int64_t (*depth)(void *book, uint8_t side, int64_t n,
                     int64_t *prices, int64_t *quantities) noexcept nogil

cdef struct strategy_view:
    book_view book
    uint32_t size
    uint32_t version
    uint32_t price_decimals
    uint32_t feed_state
    int64_t inventory
    int64_t cash
    int64_t fees
    int64_t open_bid
    int64_t open_ask
    const order_slot *orders
    uint32_t order_capacity
    uint32_t order_slot
    uint64_t timer_at_ns
    uint64_t market_ns
    int64_t inventory_lots
    uint64_t reserved[10]

cdef enum:
    STRATEGY_ROOM = 16
    VIEW_VERSION = 3

# The state of a market's feed, in a view.
cdef enum:
    FEED_UNKNOWN = 1
    FEED_CROSSED = 2
    FEED_STALE = 4
    FEED_GAP = 8

ctypedef int32_t (*strategy_function)(
    const Transaction *record, const book_view *book, Transaction *out, uint32_t room,
    void *user_data) noexcept nogil

ctypedef int32_t (*feedback_function)(
    const Transaction *record, strategy_view *view, Transaction *out, uint32_t room,
    void *user_data) noexcept nogil


cdef class Strategy:
    cdef strategy_function function         # NULL: it takes reports
    cdef feedback_function feedback         # NULL: it sees market records alone
    cdef void *user_data
    cdef readonly str name
    cdef readonly object source     # a StrategySource, or None
    cdef tuple kept                 # the function and the data, kept alive
    cdef list exceptions            # those that a compiled Python function raised; or None
    cdef void take(self, void *address, bint reports) noexcept
    cdef object exception_of(self, int answer)


# `owner` holds the memory that `user_data` points to. It is kept alive as long as the strategy.
cdef Strategy new_strategy(strategy_function function, void *user_data, object owner)
cdef Strategy new_feedback_strategy(feedback_function function, void *user_data, object owner)
