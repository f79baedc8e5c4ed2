"""A living market to feed a pipeline with: the synthetic order flow and the shadow of its book.

`TRADERS` traders each have at most one order in the book. One of them, drawn uniformly, acts at
each event: whoever has an order resting withdraws it, whoever has none places one, or takes from
the opposite best. That is the zero-intelligence book of Smith, Farmer, Gillemot and Krishnamurthy
(2003) and of Cont, Stoikov and Talreja (2010), with a finite source: independent traders who act
at Poisson times cancel at a rate proportional to what rests, and the sum of their clocks is a
Poisson process of constant rate, which is what lets the gaps between events be independent of them.
Being finite, the book is bounded by construction: it needs no allocation and no rejected draw.

Prices are held in ticks, a level in slot ``tick % LEVELS`` of a circular window that holds both
sides, since no tick can be on both. Each level's orders are a circular doubly linked list in time
priority, with the level itself as its sentinel, so that linking and unlinking have no branches.

    nodes    | 0 .. TRADERS-1: the trader's order | TRADERS .. TRADERS+LEVELS-1: the levels |

All of it is integer arithmetic over one 64-bit draw an event::

     63           48 47           32 31       22 21         10 9         0
    +---------------+---------------+-----------+-------------+-----------+
    | take or place | buy or sell   | size      | distance    | trader    |
    +---------------+---------------+-----------+-------------+-----------+
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from numpy.random cimport bitgen_t

from velox.core.records cimport (
    FLAG_LAST, KIND_ADD, KIND_CANCEL, KIND_EXECUTE, SIDE_ASK, SIDE_BID, Transaction)

cdef extern from *:
    """
    #define velox_leading_zeros(value) __builtin_clzll(value)
    #define velox_trailing_zeros(value) __builtin_ctzll(value)
    #define velox_unlikely(condition) __builtin_expect(!!(condition), 0)
    """
    ctypedef unsigned long long uint128_t "unsigned __int128"
    int leading_zeros "velox_leading_zeros"(uint64_t value) noexcept nogil
    int trailing_zeros "velox_trailing_zeros"(uint64_t value) noexcept nogil
    bint unlikely "velox_unlikely"(bint condition) noexcept nogil

cdef enum:
    TRADERS = 1024              # the most orders that ever rest
    LEVELS = 512                # how many ticks the worst bid and the worst ask lie apart, at most
    LEVEL_WORDS = LEVELS // 64
    DISTANCES = 4096
    SIZES = 1024
    DRAWS = 64                  # taken from the bit generator at a time
    LOGARITHMS = 256

    TRADER_MASK = TRADERS - 1
    LEVEL_MASK = LEVELS - 1
    DISTANCE_SHIFT = 10
    SIZE_SHIFT = 22
    BUY_SHIFT = 32
    TAKE_SHIFT = 48

    EVEN_ODDS = 32768           # of 65536: as many buy as sell
    TAKE_ODDS = 11796           # of 65536: how often a trader without an order takes

cdef struct market_flow_node:
    uint16_t next
    uint16_t previous
    uint32_t quantity           # of an order or of a level; an order of 0 is none

cdef struct market_flow:
    # By side. A side without orders keeps its last best, so that the other has a reference.
    int64_t best[2]
    int64_t worst[2]
    int64_t reference[2]        # the tick which orders of the side stay clear of
    int64_t limit[2]            # the furthest tick that the side may use
    uint64_t levels[2]

    uint64_t id
    int64_t tick_size
    int64_t twice_base          # in ticks
    int64_t pull                # how strongly the mid is drawn to the base; 0 where it is not
    uint32_t buy_odds           # of 65536
    bint drift
    uint8_t market
    uint64_t executed
    uint64_t added

    uint64_t gap_state
    uint64_t gap_scale          # the mean gap times ln 2, in 2^-32 ns
    uint64_t gap_fraction       # what earlier gaps left over, in 2^-32 ns

    bitgen_t *generator
    uint64_t cursor
    uint64_t draws[DRAWS]
    uint64_t occupied[LEVEL_WORDS]
    market_flow_node nodes[TRADERS + LEVELS]
    uint16_t slots[TRADERS]
    uint16_t sizes[SIZES]
    uint8_t distances[DISTANCES]
    uint64_t logarithms[LOGARITHMS + 2]


cdef market_flow *market_flow_new(
    bitgen_t *generator, uint64_t first_id, int64_t tick_size, int64_t base_price, uint8_t market,
    bint drift, int64_t half_width, int reach, double rate) noexcept nogil
cdef void market_flow_fill(market_flow *flow, Transaction *out, size_t count) noexcept nogil


cdef inline int64_t market_flow_up(const market_flow *flow, int64_t tick) noexcept nogil:
    """The nearest occupied tick above; there must be one."""
    cdef uint64_t slot = <uint64_t>(tick + 1) & LEVEL_MASK
    cdef uint64_t word = slot >> 6
    cdef uint64_t bits = flow.occupied[word] >> (slot & 63) << (slot & 63)
    while bits == 0:
        word = (word + 1) & (LEVEL_WORDS - 1)
        bits = flow.occupied[word]
    return tick + 1 + <int64_t>(((word << 6) + <uint64_t>trailing_zeros(bits) - slot) & LEVEL_MASK)


cdef inline int64_t market_flow_down(const market_flow *flow, int64_t tick) noexcept nogil:
    """The nearest occupied tick below; there must be one."""
    cdef uint64_t slot = <uint64_t>(tick - 1) & LEVEL_MASK
    cdef uint64_t word = slot >> 6
    cdef uint64_t beyond = 63 - (slot & 63)
    cdef uint64_t bits = flow.occupied[word] << beyond >> beyond
    while bits == 0:
        word = (word - 1) & (LEVEL_WORDS - 1)
        bits = flow.occupied[word]
    return tick - 1 - <int64_t>(
        (slot - ((word << 6) + 63 - <uint64_t>leading_zeros(bits))) & LEVEL_MASK)


cdef inline void market_flow_move(market_flow *flow, int side, int64_t tick) noexcept nogil:
    """A new best price."""
    cdef int64_t odds
    flow.best[side] = tick
    if flow.drift:
        flow.reference[1 - side] = tick
        odds = EVEN_ODDS - (
            (flow.best[SIDE_BID] + flow.best[SIDE_ASK] - flow.twice_base) * flow.pull / 65536)
        flow.buy_odds = <uint32_t>min(max(odds, EVEN_ODDS / 2), EVEN_ODDS + EVEN_ODDS / 2)


cdef inline void market_flow_vacate(market_flow *flow, int side, int64_t tick) noexcept nogil:
    """A level that has become empty."""
    cdef uint64_t slot = <uint64_t>tick & LEVEL_MASK
    flow.occupied[slot >> 6] &= ~(<uint64_t>1 << (slot & 63))
    flow.levels[side] -= 1
    if flow.levels[side] == 0:
        return
    if tick == flow.best[side]:
        market_flow_move(
            flow, side,
            market_flow_up(flow, tick) if side == SIDE_ASK else market_flow_down(flow, tick))
    elif tick == flow.worst[side]:
        flow.worst[side] = (
            market_flow_down(flow, tick) if side == SIDE_ASK else market_flow_up(flow, tick))


cdef inline void market_flow_withdraw(
        market_flow *flow, uint64_t trader, Transaction *out) noexcept nogil:
    cdef market_flow_node *order = &flow.nodes[trader]
    cdef uint64_t slot = flow.slots[trader]
    cdef market_flow_node *level = &flow.nodes[TRADERS + slot]
    cdef int64_t lowest = flow.worst[SIDE_BID]
    cdef int64_t tick = lowest + <int64_t>((slot - <uint64_t>lowest) & LEVEL_MASK)
    cdef int side = tick >= flow.best[SIDE_ASK]
    out.price = tick * flow.tick_size
    out.size = order.quantity
    out.side = <uint8_t>side
    out.kind = KIND_CANCEL
    flow.nodes[order.previous].next = order.next
    flow.nodes[order.next].previous = order.previous
    level.quantity -= order.quantity
    order.quantity = 0
    if level.quantity == 0:
        market_flow_vacate(flow, side, tick)


cdef inline void market_flow_take(
        market_flow *flow, int side, uint32_t size, Transaction *out) noexcept nogil:
    """Execute at the best of `side`, in time priority, as much as rests there at most."""
    cdef int64_t tick = flow.best[side]
    cdef uint64_t sentinel = TRADERS + (<uint64_t>tick & LEVEL_MASK)
    cdef market_flow_node *level = &flow.nodes[sentinel]
    cdef market_flow_node *order
    cdef uint64_t first = level.next
    size = min(size, level.quantity)
    out.price = tick * flow.tick_size
    out.size = size
    out.side = <uint8_t>side
    out.kind = KIND_EXECUTE
    flow.executed += 1
    level.quantity -= size
    order = &flow.nodes[first]
    while first != sentinel and size >= order.quantity:
        size -= order.quantity
        order.quantity = 0
        first = order.next
        order = &flow.nodes[first]
    level.next = <uint16_t>first
    order.previous = <uint16_t>sentinel
    if first == sentinel:
        market_flow_vacate(flow, side, tick)
    else:
        order.quantity -= size


cdef inline void market_flow_place(
        market_flow *flow, uint64_t trader, int side, int64_t distance, uint32_t size,
        Transaction *out) noexcept nogil:
    cdef int64_t outward = 2 * side - 1
    cdef int64_t tick = flow.reference[side] + outward * distance
    cdef uint64_t slot, sentinel
    cdef market_flow_node *level
    cdef market_flow_node *order = &flow.nodes[trader]
    if unlikely(outward * (tick - flow.limit[side]) > 0):
        tick = flow.limit[side]
    if unlikely(outward * (tick - flow.worst[1 - side]) >= LEVELS):
        # The window is full: the order furthest on the other side is withdrawn instead.
        slot = <uint64_t>flow.worst[1 - side] & LEVEL_MASK
        market_flow_withdraw(flow, flow.nodes[TRADERS + slot].next, out)
        return
    slot = <uint64_t>tick & LEVEL_MASK
    sentinel = TRADERS + slot
    level = &flow.nodes[sentinel]
    out.price = tick * flow.tick_size
    out.size = size
    out.side = <uint8_t>side
    out.kind = KIND_ADD
    flow.added += 1
    order.quantity = size
    order.next = <uint16_t>sentinel
    order.previous = level.previous
    flow.nodes[level.previous].next = <uint16_t>trader
    level.previous = <uint16_t>trader
    flow.slots[trader] = <uint16_t>slot
    flow.occupied[slot >> 6] |= <uint64_t>1 << (slot & 63)
    if unlikely(flow.levels[side] == 0):
        flow.worst[side] = tick
        market_flow_move(flow, side, tick)
    elif outward * (tick - flow.best[side]) < 0:
        market_flow_move(flow, side, tick)
    elif outward * (tick - flow.worst[side]) > 0:
        flow.worst[side] = tick
    flow.levels[side] += level.quantity == 0
    level.quantity += size


cdef inline void market_flow_next(market_flow *flow, Transaction *out) noexcept nogil:
    cdef uint64_t draw, index, trader
    cdef uint32_t size
    cdef int side
    if flow.cursor == DRAWS:
        for index in range(<uint64_t>DRAWS):
            flow.draws[index] = flow.generator.next_uint64(flow.generator.state)
        flow.cursor = 0
    draw = flow.draws[flow.cursor]
    flow.cursor += 1
    trader = draw & TRADER_MASK
    out.id = flow.id
    flow.id += 1
    out.flags = FLAG_LAST
    out.market = flow.market
    out.ingress_ts_ns = 0
    if flow.nodes[trader].quantity != 0:
        market_flow_withdraw(flow, trader, out)
        return
    side = (draw >> BUY_SHIFT & 65535) >= flow.buy_odds
    size = flow.sizes[draw >> SIZE_SHIFT & (SIZES - 1)]
    if draw >> TAKE_SHIFT < TAKE_ODDS and flow.levels[1 - side] != 0:
        market_flow_take(flow, 1 - side, size, out)
    else:
        market_flow_place(
            flow, trader, side, flow.distances[draw >> DISTANCE_SHIFT & (DISTANCES - 1)], size, out)


cdef inline uint64_t market_flow_gap(market_flow *flow) noexcept nogil:
    """Nanoseconds to the next event: exponential."""
    cdef uint64_t bits, exponent, step, first, second, logarithm, deviate
    cdef const uint64_t *entry
    cdef uint128_t gap
    flow.gap_state += <uint64_t>0x9E3779B97F4A7C15
    bits = flow.gap_state
    bits = (bits ^ (bits >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    bits = (bits ^ (bits >> 27)) * <uint64_t>0x94D049BB133111EB
    bits = (bits ^ (bits >> 31)) | 1
    exponent = <uint64_t>leading_zeros(bits)
    bits <<= exponent
    entry = &flow.logarithms[(bits >> 55) & (LOGARITHMS - 1)]
    step = bits >> 31 & 0xFFFFFF
    first = entry[1] - entry[0]
    second = first - (entry[2] - entry[1])
    logarithm = (entry[0] + (first * step >> 24)
                 + (second * (step * (0x1000000 - step) >> 24) >> 25))
    deviate = ((exponent + 1) << 40) - logarithm
    gap = (<uint128_t>flow.gap_scale * deviate >> 40) + flow.gap_fraction
    flow.gap_fraction = <uint32_t>gap
    return <uint64_t>(gap >> 32)
