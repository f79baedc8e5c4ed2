"""The risk gate: what stands between a strategy and the bundles.

Every order is checked before it leaves. A cancel always passes, also after a kill. The limits are
an immutable block; the gate takes a newer block between two batches, by one load of a pointer.

An order takes the short way if it lies within an envelope: a price range, a number of lots and an
allowance of orders, computed from the limits, the touch and the account. Within the envelope no
limit can be passed. Outside of it, or if anything has changed, `risk_decide` looks at each limit
exactly, tells all reasons, and computes the envelope anew.

market_gate, 128 bytes, the second half of a market_account::

     0       1       2       3       4       5       6       7
    +-------+-------+-------+-------+-------+-------+-------+-------+
  0 | low[2]: the least price of the envelope, of bids and of asks  |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 16 | span[2]: from there to the greatest                           |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 32 | room[2]: lots up to the limit of the position                 |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 48 | lots: the most of one order                                   |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 56 | reserved                                                      |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 64 | allowance: orders before the rates and counts are looked at   |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 72 | price_cap: price_cap * lots is within the limit of a notional |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 80 | collar                                                        |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 88 | touch[2]: the best bid and ask; 0: none                       |
    +-------+-------+-------+-------+-------+-------+-------+-------+
104 | feed_state: 0, or what is wrong with the feed                 |
    +-------+-------+-------+-------+-------+-------+-------+-------+
112 | market_ns: when the market's last record arrived              |
    +-------+-------+-------+-------+-------+-------+-------+-------+
120 | reserved                                                      |
    +-------+-------+-------+-------+-------+-------+-------+-------+

The swap of limits. The gate's thread is the one reader of a block. It takes `newest` with an
acquire, uses that block until its next look, and then says in `in_use` which block it has taken. A
writer frees a block only when `in_use` names a later one. Neither ever waits for the other.
"""

from cython cimport likely, unlikely
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t, uintptr_t

from velox.core.atomic cimport (
    FALSE_SHARING,
    atomic_u64,
    load_acquire,
    store_release,
)
from velox.core.kill cimport KillSwitch, kill_armed, kill_switch
from velox.core.orders cimport (
    ORDER_MARKETS,
    OrderTable,
    market_account,
    order_table,
    wide,
)
from velox.core.records cimport SIDE_ASK, SIDE_BID, Report, Transaction

# Why an order is blocked; velox.Block documents each. The mask of a reason is 1 << reason.
cdef enum:
    BLOCK_NONE = 0
    BLOCK_KILLED = 1
    BLOCK_NO_LIMITS = 2
    BLOCK_KIND = 3
    BLOCK_ID_ZERO = 4
    BLOCK_ID_IN_USE = 5
    BLOCK_TABLE_FULL = 6
    BLOCK_ACCOUNT = 7
    BLOCK_FEED = 8
    BLOCK_SIDE = 9
    BLOCK_PRICE = 10
    BLOCK_PRICE_STEP = 11
    BLOCK_LOTS = 12
    BLOCK_LOT_STEP = 13
    BLOCK_NOTIONAL = 14
    BLOCK_COLLAR = 15
    BLOCK_POSITION = 16
    BLOCK_OPEN_ORDERS = 17
    BLOCK_RATE = 18
    BLOCK_DUPLICATE = 19
    BLOCK_SELF_TRADE = 20
    BLOCK_REASONS = 21

cdef extern from *:
    """
    #define VELOX_NO_COLLAR (INT64_C(1) << 62)
    """
    const int64_t NO_COLLAR "VELOX_NO_COLLAR"

cdef enum:
    RECENT_ORDERS = 16
    NO_RATE = 0
    TOKEN = 1_000_000_000       # what an order takes from a bucket
    MAX_RATE = 1_000_000_000    # orders a second
    MAX_BURST = 1_000_000

# The limits of one market. A limit that is not given has a value that no order reaches.
cdef struct market_limits:
    wide max_notional           # price times lots
    wide max_loss
    wide max_drawdown
    uint64_t given              # 0: no order passes
    uint64_t max_lots
    uint64_t lot_step
    int64_t price_step
    int64_t collar
    int64_t max_position        # lots, either way
    uint64_t max_open
    uint64_t rate               # orders a second, or NO_RATE
    uint64_t burst
    uint64_t cancel_rate
    uint64_t cancel_burst
    uint64_t duplicate_ns
    uint64_t max_age_ns
    uint64_t self_trade         # whether our own orders may meet

cdef struct limits_block:
    uint64_t number             # ascends from 1
    limits_block *older         # that may still be in use; for the writer
    market_limits total         # over all markets: max_open, rates, max_loss, max_drawdown
    market_limits markets[ORDER_MARKETS]

# A token bucket in units of a nanosecond's worth: an order takes a second's, 10**9.
cdef struct bucket:
    uint64_t tokens
    uint64_t filled_ns          # up to when

cdef struct recent_order:
    int64_t price
    uint64_t size_and_side
    uint64_t sent_ns
    uint64_t used

cdef struct market_gate:
    int64_t low[2]
    uint64_t span[2]
    int64_t room[2]
    uint64_t lots
    uint64_t unused
    int64_t allowance
    int64_t price_cap
    int64_t collar
    int64_t touch[2]
    uint64_t feed_state
    uint64_t market_ns
    uint64_t reserved

# What only the long way needs.
cdef struct market_risk:
    bucket orders
    bucket cancels
    wide equity                 # at the last mark
    wide best_equity
    uint64_t is_marked          # whether there was one
    int64_t lent                # the allowance that was granted
    int64_t value_numerator     # quote in a unit of inventory at a price of 1
    int64_t value_denominator
    uint64_t recent_at
    recent_order recent[RECENT_ORDERS]

cdef struct risk_gate:
    market_account *accounts
    kill_switch *kill
    uint64_t now_ns
    const limits_block *limits  # the block that is being used
    order_table *orders
    market_risk *rest           # ORDER_MARKETS
    bucket total_orders
    bucket total_cancels
    uint64_t lender             # the market that has the allowance, or ORDER_MARKETS: none
    bint is_timed               # whether a limit of the block depends on the time
    bint shares                 # whether an allowance of one market is taken from the others
    bint marks                  # whether a limit of the block depends on the equity
    wide total_equity
    wide total_best_equity
    uint64_t last_mask          # every reason of the last block
    # Written by the gate's thread, read by any.
    atomic_u64 passed
    atomic_u64 cancels
    atomic_u64 cancels_over_rate
    atomic_u64 killed           # times that a loss or a drawdown set the switch
    atomic_u64 blocked[BLOCK_REASONS]   # by the first reason
    char padding[FALSE_SHARING]
    atomic_u64 newest           # the address of the newest block; a writer stores it
    char padding_of_writer[FALSE_SHARING - 8]
    atomic_u64 in_use           # the number of the block that the gate's thread uses
    char padding_of_reader[FALSE_SHARING - 8]


cdef inline void limits_publish(risk_gate *self, limits_block *block) noexcept nogil:
    """Writer: make a block the newest. Its number is above that of every block before."""
    # Release: the gate's thread that takes the block sees its contents.
    store_release(&self.newest, <uint64_t><uintptr_t>block)


cdef inline uint64_t limits_in_use(const risk_gate *self) noexcept nogil:
    """Writer: no block with a number under this one is read any more."""
    # Acquire: the gate's reads of older blocks come before what the writer does to them.
    return load_acquire(&self.in_use)


cdef inline bint limits_take(risk_gate *self) noexcept nogil:
    """The gate's thread: use the newest block; return whether it is another than before."""
    # Acquire: the block's contents come with its address.
    cdef const limits_block *block = <const limits_block *><uintptr_t>load_acquire(&self.newest)
    if likely(block == self.limits):
        return False
    self.limits = block
    # Release: our reads of the block before come before its end.
    store_release(&self.in_use, block.number)
    return True


# Make a gate of a table, a switch and a first block of limits, all of which outlive it.
cdef risk_gate *risk_gate_new(order_table *orders, kill_switch *kill,
                              limits_block *limits) noexcept nogil
cdef void risk_gate_free(risk_gate *self) noexcept nogil
cdef void risk_reload(risk_gate *self) noexcept nogil
# Take from the buckets what was used of the allowance, and end it.
cdef void risk_settle(risk_gate *self) noexcept nogil
# Every reason why an order is blocked, as a mask; 0: it passes, and counts against the limits.
cdef uint64_t risk_decide(risk_gate *self, const Transaction *order) noexcept nogil
# The same for an order within the envelope for which the allowance does not suffice.
cdef uint64_t risk_renew(risk_gate *self, const Transaction *order) noexcept nogil
cdef void risk_mark(risk_gate *self, uint8_t market) noexcept nogil
# Screen one record that a strategy emits, and put it into the table if it passes. Return the first
# reason why it is blocked, or BLOCK_NONE. `last_mask` then has all of them.
cdef uint32_t risk_screen(risk_gate *self, const Transaction *order) noexcept nogil
# Take a report into the table, as `orders_report` does.
cdef uint32_t risk_report(risk_gate *self, const Report *report, uint32_t *slot) noexcept nogil


cdef inline market_gate *gate_of(const risk_gate *self, uint64_t market) noexcept nogil:
    return <market_gate *>&self.accounts[market].gate[0]


cdef inline void risk_begin(risk_gate *self, uint64_t now_ns) noexcept nogil:
    """Begin a batch: take newer limits, and the time for the rates."""
    self.now_ns = now_ns
    if unlikely(limits_take(self)):
        risk_reload(self)
    elif self.is_timed:
        risk_settle(self)


cdef inline void risk_set_prices(market_gate *market) noexcept nogil:
    """Compute the range of prices from the touch; an empty one if the feed is not good."""
    cdef int64_t reference
    cdef int64_t low, high
    cdef int side
    for side in range(2):
        reference = market.touch[1 - side]
        low = 1
        high = market.price_cap
        if market.collar != NO_COLLAR:
            low = max(low, reference - market.collar)
            # It does not overflow: a collar is at most 2**62, and a sum over that is no limit.
            if reference <= NO_COLLAR:
                high = min(high, reference + market.collar)
        if market.feed_state != 0 or high < low or (reference == 0 and market.collar != NO_COLLAR):
            low = -1
            high = -1
        market.low[side] = low
        market.span[side] = <uint64_t>high - <uint64_t>low


cdef inline void risk_touch(risk_gate *self, uint8_t at, int64_t bid, int64_t ask,
                            uint64_t feed_state, uint64_t market_ns) noexcept nogil:
    """Tell the best prices of a market, 0 if a side is empty, and the state of its feed."""
    cdef market_gate *market = gate_of(self, at)
    market.market_ns = market_ns
    if bid == market.touch[SIDE_BID] and ask == market.touch[SIDE_ASK] \
            and feed_state == market.feed_state:
        return
    market.touch[SIDE_BID] = bid
    market.touch[SIDE_ASK] = ask
    market.feed_state = feed_state
    risk_set_prices(market)


cdef inline uint64_t risk_check(risk_gate *self, const Transaction *order,
                                uint64_t side) noexcept nogil:
    """Every reason why an order of a known side is blocked, as a mask; 0: it passes, and counts.

    The part that follows a decrement restores it, or computes the number anew.
    """
    cdef market_account *account = &self.accounts[order.market]
    cdef market_gate *market = <market_gate *>&account.gate[0]
    cdef int64_t price = order.price
    cdef uint64_t size = order.size
    if unlikely(price <= account.best[SIDE_BID] if side else price >= account.best[SIDE_ASK]):
        return risk_decide(self, order)
    if unlikely(<uint64_t>price - <uint64_t>market.low[side] > market.span[side]):
        return risk_decide(self, order)
    if unlikely(not kill_armed(self.kill)):
        return risk_decide(self, order)
    market.room[side] -= <int64_t>size
    if unlikely(market.room[side] < 0):
        return risk_decide(self, order)
    if unlikely(size - 1 >= market.lots):
        return risk_decide(self, order)
    market.allowance -= 1
    if unlikely(market.allowance < 0):
        return risk_renew(self, order)
    return 0


cdef class RiskGate:
    cdef risk_gate *gate
    cdef readonly OrderTable orders
    cdef readonly KillSwitch kill
    cdef readonly object limits
    cdef limits_block *blocks       # those that are not freed yet, the newest first
    cdef uint64_t number            # of the newest
    cdef int add_block(self, object limits) except -1
    cdef int checked_market(self, object market) except -1
