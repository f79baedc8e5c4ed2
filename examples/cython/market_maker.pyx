# distutils: extra_compile_args = -std=c11
"""The market maker of examples/market_maker.py, in Cython."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memset

from velox.core.records cimport (
    KIND_ADD, KIND_BLOCKED, KIND_CANCEL, KIND_PLACED, KIND_TIMER, Transaction,
)
from velox.core.orders cimport ORDER_FREE, ORDER_GONE, ORDER_SENT, order_slot
from velox.runtime.strategy cimport new_feedback_strategy, strategy_view

cdef enum:
    MARKETS = 2

cdef struct quotes:
    int64_t half_spread             # ticks from the fair price to a quote
    int64_t lots                    # of each quote
    int64_t skew                    # ticks by which quotes move for each lot of inventory
    int64_t limit                   # lots of inventory at which one side is no longer quoted
    uint64_t next_id
    uint64_t ids[MARKETS][2]        # of the quote of each side
    int64_t prices[MARKETS][2]      # of the quote of each side; 0: there is none


cdef class State:
    """What the strategy keeps; the book's thread writes it."""

    cdef quotes quotes


cdef const order_slot *find(const strategy_view *view, uint64_t id) noexcept nogil:
    cdef uint32_t slot
    for slot in range(view.order_capacity):
        if view.orders[slot].id == id and ORDER_FREE < view.orders[slot].state < ORDER_GONE:
            return &view.orders[slot]
    return NULL


cdef void write(Transaction *order, uint64_t id, int side, int64_t price, int64_t lots,
                uint8_t market, int kind) noexcept nogil:
    memset(order, 0, sizeof(Transaction))
    order.id = id
    order.price = price
    order.size = <uint32_t>lots
    order.side = <uint8_t>side
    order.kind = <uint8_t>kind
    order.market = market


cdef int32_t quote(const Transaction *record, strategy_view *view, Transaction *out,
                   uint32_t room, void *user_data) noexcept nogil:
    """Replace each quote whose price is no longer the wanted one."""
    cdef quotes *state = <quotes *>user_data
    cdef uint8_t market = record.market
    cdef int64_t tick = view.book.tick_size
    cdef int64_t inventory = view.inventory_lots
    cdef int64_t[2] wanted
    cdef int64_t fair, price
    cdef uint64_t *ids
    cdef int64_t *prices
    cdef const order_slot *working
    cdef int side
    cdef int32_t made = 0
    if market >= MARKETS:
        return 0
    ids = state.ids[market]
    prices = state.prices[market]
    if record.kind > KIND_PLACED and record.kind != KIND_TIMER:
        for side in range(2):
            if record.id == ids[side] and find(view, record.id) == NULL:
                prices[side] = 0        # the quote has ended
        if record.kind == KIND_BLOCKED:
            return 0

    wanted[0] = wanted[1] = 0
    if view.book.bid_quantity > 0 and view.book.ask_quantity > 0 and view.feed_state == 0:
        fair = (view.book.bid_price * view.book.ask_quantity
                + view.book.ask_price * view.book.bid_quantity) \
            // (view.book.bid_quantity + view.book.ask_quantity) - state.skew * inventory * tick
        if fair > 0:
            wanted[0] = min((fair // tick - state.half_spread) * tick, view.book.ask_price - tick)
            wanted[1] = max(((fair + tick - 1) // tick + state.half_spread) * tick,
                            view.book.bid_price + tick)
        if inventory >= state.limit:
            wanted[0] = 0
        if inventory <= -state.limit:
            wanted[1] = 0

    for side in range(2):
        price = max(wanted[side], <int64_t>0)
        if price == prices[side]:
            continue
        working = find(view, ids[side])
        if working != NULL and working.state == ORDER_SENT:
            continue                    # the venue has not answered yet
        if prices[side] != 0:
            write(&out[made], ids[side], side, prices[side], state.lots, market, KIND_CANCEL)
            made += 1
        if price != 0:
            ids[side] = state.next_id
            state.next_id += 1
            write(&out[made], ids[side], side, price, state.lots, market, KIND_ADD)
            made += 1
        prices[side] = price
    return made


def make(half_spread=1, lots=2, skew=1, limit=20):
    """The strategy, with these parameters."""
    cdef State state = State()
    state.quotes.half_spread = half_spread
    state.quotes.lots = lots
    state.quotes.skew = skew
    state.quotes.limit = limit
    state.quotes.next_id = 1
    return new_feedback_strategy(quote, &state.quotes, state)
