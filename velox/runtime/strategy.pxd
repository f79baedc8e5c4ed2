"""The strategy: a C function between the order book and the bundles.

From Cython::

    from velox.runtime.strategy cimport Strategy, book_view, new_strategy
    from velox.core.records cimport Record

    cdef int quote(const Record *record, const book_view *book, Record *out,
                   unsigned int room, void *user_data) noexcept nogil:
        ...

    strategy = new_strategy(quote, NULL, None)
"""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

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

cdef enum:
    STRATEGY_ROOM = 16

ctypedef int32_t (*strategy_function)(
    const Transaction *record, const book_view *book, Transaction *out, uint32_t room,
    void *user_data) noexcept nogil


cdef class Strategy:
    cdef strategy_function function
    cdef void *user_data
    cdef readonly str name
    cdef tuple kept                 # the function and the data, kept alive
    cdef list exceptions            # those that a compiled Python function raised; or None
    cdef object exception_of(self, int answer)


# `owner` holds the memory that `user_data` points to. It is kept alive as long as the strategy.
cdef Strategy new_strategy(strategy_function function, void *user_data, object owner)
