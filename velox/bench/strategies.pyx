"""Strategies that do almost nothing, to measure the cost of calling a strategy."""

from libc.stdint cimport int32_t, int64_t, uint32_t

from velox.core.records cimport KIND_ADD, KIND_DELETE, SIDE_BID, Transaction
from velox.runtime.strategy cimport book_view, strategy_function

from velox.errors import ConfigError

__all__ = ["MARKET_MAKER_STATE", "address", "names"]

# The market maker's state: the prices of its bid and ask, and how many orders it sent.
MARKET_MAKER_STATE = 3


cdef int32_t nothing(const Transaction *record, const book_view *book, Transaction *out,
                     uint32_t room, void *user_data) noexcept nogil:
    return 0


cdef int32_t forward(const Transaction *record, const book_view *book, Transaction *out,
                     uint32_t room, void *user_data) noexcept nogil:
    out[0] = record[0]
    return 1


cdef int32_t market_maker(const Transaction *record, const book_view *book, Transaction *out,
                          uint32_t room, void *user_data) noexcept nogil:
    """Keep a bid and an ask one tick outside the best prices, as examples/market_maker.py does."""
    cdef int64_t *state = <int64_t *>user_data
    cdef int64_t best, wanted
    cdef int32_t made = 0
    cdef int side
    for side in range(2):
        best = book.bid_price if side == SIDE_BID else book.ask_price
        wanted = best - book.tick_size if side == SIDE_BID else best + book.tick_size
        if best == 0 or wanted == state[side]:
            continue
        if state[side] != 0:
            send(&out[made], record, state, side, state[side], KIND_DELETE)
            made += 1
        send(&out[made], record, state, side, wanted, KIND_ADD)
        made += 1
        state[side] = wanted
    return made


cdef inline void send(Transaction *order, const Transaction *record, int64_t *state, int side,
                      int64_t price, int kind) noexcept nogil:
    state[2] += 1
    order.id = state[2]
    order.price = price
    order.size = 1
    order.side = side
    order.kind = kind
    order.market = record.market


cdef strategy_function function_of(str name) except NULL:
    if name == "nothing":
        return nothing
    if name == "forward":
        return forward
    if name == "market_maker":
        return market_maker
    raise ConfigError(f"must be one of {', '.join(names())}", field="strategy", value=name)


def names():
    """Those that `address` knows.

    Returns
    -------
    tuple of str
    """
    return ("nothing", "forward", "market_maker")


def address(str name not None):
    """Return the address of a strategy, for `velox.Strategy` and for C code that calls it.

    Parameters
    ----------
    name : {"nothing", "forward", "market_maker"}
        ``market_maker`` keeps `MARKET_MAKER_STATE` int64, zeros at first, in its user data.

    Returns
    -------
    int

    Raises
    ------
    ConfigError
        There is no strategy of that name.
    """
    return <size_t><void *>function_of(name)
