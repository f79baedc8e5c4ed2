"""Synthetic order flow for a pipeline, from a market model that keeps its own book.

`TRADERS` traders have at most one order each in the book. At each event one trader, drawn
uniformly, acts. A trader with a resting order withdraws it. A trader without one places an order,
or takes from the opposite best. docs/explanation/order-flow.md names the model and its limits. It
was chosen because it is cheap. The book is bounded by construction, so nothing is allocated. An
order lives in its trader's place, so no search is needed. Every draw is an event, so no draw is
rejected.

Each event uses one 64-bit draw and integer arithmetic: the market is the same everywhere. ::

     63            48 47           32 31        22 21           10 9          0
    +----------------+---------------+------------+---------------+------------+
    | take, or place | buy, or sell  | size       | distance      | trader     |
    +----------------+---------------+------------+---------------+------------+

Internally, prices are in ticks. Both sides share one circular window of levels, since no tick can
be on both sides. Tick t is in slot ``t % LEVELS``. That is unambiguous while the worst bid and the
worst ask lie less than `LEVELS` apart. Orders and levels are the nodes of one array::

    0                       TRADERS               TRADERS + LEVELS
    +-----------------------+---------------------+
    | each trader's order   | the levels, by slot |
    +-----------------------+---------------------+

A level and its orders, oldest first, form a ring of nodes whose sentinel is the level. So an order
can be added or removed without a branch. A node::

     0       1       2       3       4       5       6       7
    +-------+-------+-------+-------+-------+-------+-------+-------+
  0 | next          | previous      | quantity; of an order: 0 is none
    +-------+-------+-------+-------+-------+-------+-------+-------+
"""

cimport cython
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from numpy.random cimport bitgen_t

from velox.core.memory cimport release_memory
from velox.core.records cimport (
    FLAG_LAST, KIND_ADD, KIND_CANCEL, KIND_EXECUTE, SIDE_ASK, SIDE_BID, Transaction)

cdef extern from *:
    """
    #ifndef VELOX_FLOW_INCLUDED
    #define VELOX_FLOW_INCLUDED
    #define velox_flow_leading_zeros(value) __builtin_clzll(value)
    #define velox_flow_trailing_zeros(value) __builtin_ctzll(value)
    #endif
    """
    ctypedef unsigned long long uint128_t "unsigned __int128"
    uint64_t leading_zeros "velox_flow_leading_zeros"(uint64_t value) noexcept nogil
    uint64_t trailing_zeros "velox_flow_trailing_zeros"(uint64_t value) noexcept nogil

cdef enum:
    TRADERS = 1024              # the most orders that can rest
    LEVELS = 512                # the worst bid and the worst ask lie less than this apart
    LEVEL_WORDS = LEVELS >> 6   # a division here would be compiled as its includer likes
    DISTANCES = 4096            # entries of the inverse distributions, and of log2
    SIZES = 1024
    LOGARITHMS = 256
    DRAWS = 64                  # taken from the bit generator at a time

    DISTANCE_SHIFT = 10
    SIZE_SHIFT = 22
    BUY_SHIFT = 32
    TAKE_SHIFT = 48

    EVEN_ODDS = 32768           # of 65536
    TAKE_ODDS = 11796           # of 65536: 18 % of those who have no order resting
    TAKE_SIZES = 4              # a taker takes so many sizes, which often clears a level

cdef struct market_flow_node:
    uint16_t next
    uint16_t previous
    uint32_t quantity

cdef struct market_flow:
    # By side, in ticks. A side that becomes empty keeps its last best, to which the other side
    # refers.
    int64_t best[2]
    int64_t worst[2]
    int64_t reference[2]        # orders of the side are placed at distances from it
    int64_t limit[2]            # the furthest tick that the side may use
    uint64_t levels[2]          # occupied

    uint64_t id                 # of the next event
    uint64_t first_id
    uint64_t added
    uint64_t executed
    int64_t tick_size
    int64_t twice_base          # twice the mid that the market starts from, in ticks
    int64_t pull                # how much of buy_odds half a tick off the base costs, in 2^-16
    uint32_t buy_odds           # of 65536
    bint drift
    bint order_ids
    uint8_t market

    uint64_t gap_state
    uint64_t gap_scale          # the mean gap times ln 2, in 2^-32 ns
    uint64_t gap_fraction       # what earlier gaps left over, in 2^-32 ns

    bitgen_t *generator
    uint64_t drawn              # of draws[]
    uint64_t draws[DRAWS]
    uint64_t occupied[LEVEL_WORDS]
    market_flow_node nodes[TRADERS + LEVELS]
    uint16_t slots[TRADERS]     # of the trader's order
    uint64_t ids[TRADERS]       # of its event
    uint16_t sizes[SIZES]
    uint8_t distances[DISTANCES]
    uint64_t logarithms[LOGARITHMS + 2]

# NULL if there is no memory. Preconditions, which MarketFlow checks: base_price is a multiple of
# tick_size; every price within half_width ticks of it is in [tick_size, 2^62); half_width is at
# most 2^32, and 0 means no bound; reach is 1 to 255; rate is 1 to 1e9 events a second. The
# generator must outlive the flow. Nothing else may draw from it while the flow does.
cdef market_flow *market_flow_new(
    bitgen_t *generator, uint64_t first_id, int64_t tick_size, int64_t base_price, uint8_t market,
    bint drift, int64_t half_width, uint8_t reach, double rate) noexcept nogil
cdef void market_flow_fill(market_flow *flow, Transaction *out, size_t count) noexcept nogil


@cython.final
cdef class MarketFlow:
    cdef market_flow *flow
    cdef readonly object bit_generator
    cdef uint64_t elapsed_ns


cdef inline void market_flow_delete(market_flow *flow) noexcept nogil:
    release_memory(flow)


cdef inline int64_t market_flow_up(const market_flow *flow, int64_t tick) noexcept nogil:
    """The nearest occupied tick above; there must be one."""
    cdef uint64_t slot = <uint64_t>(tick + 1) & (LEVELS - 1)
    cdef uint64_t word = slot >> 6
    cdef uint64_t bits = flow.occupied[word] >> (slot & 63) << (slot & 63)
    while bits == 0:
        word = (word + 1) & (LEVEL_WORDS - 1)
        bits = flow.occupied[word]
    return tick + 1 + <int64_t>(((word << 6) + trailing_zeros(bits) - slot) & (LEVELS - 1))


cdef inline int64_t market_flow_down(const market_flow *flow, int64_t tick) noexcept nogil:
    """The nearest occupied tick below; there must be one."""
    cdef uint64_t slot = <uint64_t>(tick - 1) & (LEVELS - 1)
    cdef uint64_t word = slot >> 6
    cdef uint64_t beyond = 63 - (slot & 63)
    cdef uint64_t bits = flow.occupied[word] << beyond >> beyond
    while bits == 0:
        word = (word - 1) & (LEVEL_WORDS - 1)
        bits = flow.occupied[word]
    return tick - 1 - <int64_t>(
        (slot - ((word << 6) + 63 - leading_zeros(bits))) & (LEVELS - 1))


cdef inline void market_flow_move(market_flow *flow, int side, int64_t tick) noexcept nogil:
    """Move the best price of a side."""
    cdef int64_t off
    flow.best[side] = tick
    if flow.drift:
        flow.reference[1 - side] = tick
        off = flow.best[SIDE_BID] + flow.best[SIDE_ASK] - flow.twice_base
        # A shift, not a division: the rounding of a division depends on the directives of the
        # module that cimports it.
        flow.buy_odds = <uint32_t>(EVEN_ODDS - ((off * flow.pull) >> 16))


cdef inline void market_flow_grow(
        market_flow *flow, int side, int64_t tick, uint32_t size) noexcept nogil:
    """Add a quantity to a level, which may be empty before."""
    cdef uint64_t slot = <uint64_t>tick & (LEVELS - 1)
    cdef market_flow_node *level = &flow.nodes[TRADERS + slot]
    cdef int64_t outward = 2 * side - 1
    cdef bint first = flow.levels[side] == 0
    cdef int64_t worst = flow.worst[side]
    # A processor cannot predict whether a level comes or goes, so this uses arithmetic, not a
    # branch.
    flow.levels[side] += level.quantity == 0
    flow.occupied[slot >> 6] |= <uint64_t>1 << (slot & 63)
    level.quantity += size
    flow.worst[side] = tick if first | (outward * (tick - worst) > 0) else worst
    if first | (outward * (tick - flow.best[side]) < 0):
        market_flow_move(flow, side, tick)


cdef inline void market_flow_shrink(
        market_flow *flow, int side, int64_t tick, uint32_t size) noexcept nogil:
    """Take a quantity from a level, which may be empty afterwards."""
    cdef uint64_t slot = <uint64_t>tick & (LEVELS - 1)
    cdef market_flow_node *level = &flow.nodes[TRADERS + slot]
    cdef uint64_t emptied
    level.quantity -= size
    emptied = level.quantity == 0
    flow.levels[side] -= emptied
    flow.occupied[slot >> 6] &= ~(emptied << (slot & 63))
    if emptied & ((tick == flow.best[side]) | (tick == flow.worst[side])):
        if flow.levels[side] == 0:
            return
        if tick == flow.best[side]:
            market_flow_move(
                flow, side,
                market_flow_up(flow, tick) if side == SIDE_ASK else market_flow_down(flow, tick))
        else:
            flow.worst[side] = (
                market_flow_down(flow, tick) if side == SIDE_ASK else market_flow_up(flow, tick))


cdef inline void market_flow_take(
        market_flow *flow, int side, uint32_t size, Transaction *out) noexcept nogil:
    """Execute at the best of `side`, in time priority, at most the quantity that rests there."""
    cdef int64_t tick = flow.best[side]
    cdef uint64_t sentinel = TRADERS + (<uint64_t>tick & (LEVELS - 1))
    cdef market_flow_node *level = &flow.nodes[sentinel]
    cdef uint64_t first = level.next
    cdef market_flow_node *order = &flow.nodes[first]
    size = min(size, level.quantity)
    out.price = tick * flow.tick_size
    out.size = size
    out.side = <uint8_t>side
    out.kind = KIND_EXECUTE
    flow.executed += 1
    market_flow_shrink(flow, side, tick, size)
    while first != sentinel and size >= order.quantity:
        size -= order.quantity
        order.quantity = 0
        first = order.next
        order = &flow.nodes[first]
    level.next = <uint16_t>first
    order.previous = <uint16_t>sentinel
    # If the queue has ended, `order` is the level itself, and nothing is left to take.
    order.quantity -= size


cdef inline void market_flow_withdraw(
        market_flow *flow, uint64_t trader, Transaction *out) noexcept nogil:
    """Remove the trader's order from the book."""
    cdef market_flow_node *order = &flow.nodes[trader]
    cdef uint64_t lowest = <uint64_t>flow.worst[SIDE_BID]
    cdef int64_t tick = <int64_t>(lowest + ((flow.slots[trader] - lowest) & (LEVELS - 1)))
    cdef int side = tick >= flow.best[SIDE_ASK]
    out.price = tick * flow.tick_size
    out.size = order.quantity
    out.side = <uint8_t>side
    out.kind = KIND_CANCEL
    if flow.order_ids:
        out.id = flow.ids[trader]
    flow.nodes[order.previous].next = order.next
    flow.nodes[order.next].previous = order.previous
    market_flow_shrink(flow, side, tick, order.quantity)
    order.quantity = 0


cdef inline void market_flow_place(
        market_flow *flow, uint64_t trader, int side, int64_t distance, uint32_t size,
        Transaction *out) noexcept nogil:
    """Add the trader's order to the queue of a level, at a distance from the opposite best."""
    cdef int64_t outward = 2 * side - 1
    cdef int64_t tick = flow.reference[side] + outward * distance
    cdef uint64_t sentinel
    cdef market_flow_node *level
    cdef market_flow_node *order = &flow.nodes[trader]
    if cython.unlikely(outward * (tick - flow.limit[side]) > 0):
        tick = flow.limit[side]
    if cython.unlikely(outward * (tick - flow.worst[1 - side]) >= LEVELS):
        # The window is full: withdraw the outermost order of the other side instead.
        sentinel = TRADERS + (<uint64_t>flow.worst[1 - side] & (LEVELS - 1))
        market_flow_withdraw(flow, flow.nodes[sentinel].next, out)
        return
    sentinel = TRADERS + (<uint64_t>tick & (LEVELS - 1))
    level = &flow.nodes[sentinel]
    out.price = tick * flow.tick_size
    out.size = size
    out.side = <uint8_t>side
    out.kind = KIND_ADD
    order.quantity = size
    order.next = <uint16_t>sentinel
    order.previous = level.previous
    flow.nodes[level.previous].next = <uint16_t>trader
    level.previous = <uint16_t>trader
    flow.slots[trader] = <uint16_t>(sentinel - TRADERS)
    flow.ids[trader] = out.id
    flow.added += 1
    market_flow_grow(flow, side, tick, size)


cdef inline void market_flow_next(market_flow *flow, Transaction *out) noexcept nogil:
    """Make the next event, without its time."""
    cdef uint64_t draw, index, trader
    cdef uint32_t size
    cdef int side
    if flow.drawn == DRAWS:
        for index in range(<uint64_t>DRAWS):
            flow.draws[index] = flow.generator.next_uint64(flow.generator.state)
        flow.drawn = 0
    draw = flow.draws[flow.drawn]
    flow.drawn += 1
    trader = draw & (TRADERS - 1)
    out.id = flow.id
    flow.id += 1
    out.flags = FLAG_LAST
    out.market = flow.market
    out.ingress_ts_ns = 0
    if flow.nodes[trader].quantity != 0:
        market_flow_withdraw(flow, trader, out)
        return
    side = ((draw >> BUY_SHIFT) & 65535) >= flow.buy_odds
    size = flow.sizes[(draw >> SIZE_SHIFT) & (SIZES - 1)]
    if (draw >> TAKE_SHIFT) < TAKE_ODDS and flow.levels[1 - side] != 0:
        market_flow_take(flow, 1 - side, TAKE_SIZES * size, out)
    else:
        market_flow_place(
            flow, trader, side, flow.distances[(draw >> DISTANCE_SHIFT) & (DISTANCES - 1)],
            size, out)


cdef inline uint64_t market_flow_gap(market_flow *flow) noexcept nogil:
    """Nanoseconds from one event to the next, exponential with mean 1e9 / rate.

    -ln u for u = (1 + m) 2^-(k + 1) is ln 2 (k + 1 - log2(1 + m)). log2 is interpolated by Newton's
    forward differences, 1e-8 off at most. It uses integers only, so it does not depend on the
    platform's libm.
    """
    cdef uint64_t bits, exponent, step, rise, bend, logarithm
    cdef uint128_t gap
    cdef const uint64_t *entry
    # SplitMix64 (Steele, Lea and Flood 2014), with a seed from the bit generator. Gaps have a
    # stream of their own, so a call of `gaps` does not change the events.
    flow.gap_state += <uint64_t>0x9E3779B97F4A7C15
    bits = flow.gap_state
    bits = (bits ^ (bits >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    bits = (bits ^ (bits >> 27)) * <uint64_t>0x94D049BB133111EB
    bits = (bits ^ (bits >> 31)) | 1
    exponent = leading_zeros(bits)
    bits <<= exponent
    entry = &flow.logarithms[(bits >> 55) & (LOGARITHMS - 1)]
    step = (bits >> 31) & 0xFFFFFF
    rise = entry[1] - entry[0]
    bend = rise - (entry[2] - entry[1])
    logarithm = (
        entry[0] + ((rise * step) >> 24) + ((bend * ((step * (0x1000000 - step)) >> 24)) >> 25))
    gap = ((<uint128_t>flow.gap_scale * (((exponent + 1) << 40) - logarithm)) >> 40)
    gap += flow.gap_fraction
    # The fraction of a nanosecond is added to the next gap, so the rate is exact at any speed.
    flow.gap_fraction = <uint32_t>gap
    return <uint64_t>(gap >> 32)
