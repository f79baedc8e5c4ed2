"""The risk gate: the exact decision on each order, and the swap of limits."""

import operator
from enum import IntEnum

import numpy as np
cimport cython
from cython cimport likely, unlikely
from libc.stdint cimport INT64_MAX, UINT32_MAX, UINT64_MAX

from velox.core.atomic cimport count, load_relaxed
from velox.core.kill cimport kill_set
from velox.core.memory cimport STATIC_ASSERT, allocate, release_memory
from velox.core.orders cimport (
    OUTCOME_LAST_SHOWN,
    REFUSAL_ID_ZERO,
    REFUSAL_NONE,
    orders_cancel_sent,
    orders_refusal,
    orders_report,
    orders_sent,
    wide_to_int,
)
from velox.core.records cimport KIND_ADD, KIND_CANCEL, reports_of, transactions_of

from velox.core.limits import Limits
from velox.errors import ConfigError

__all__ = ["Block", "RiskGate"]

cdef extern from *:
    """
    #define VELOX_WIDE_MAX ((velox_wide_int)(~(unsigned __int128)0 >> 1))
    /* So that the sum over all markets fits. */
    #define VELOX_VALUE_MAX ((velox_wide_int)1 << 118)
    #define velox_first_bit(mask) ((uint32_t)__builtin_ctzll(mask))
    #define velox_wide_multiply(a, b, c) __builtin_mul_overflow((a), (b), (c))
    """
    const wide WIDE_MAX "VELOX_WIDE_MAX"
    const wide VALUE_MAX "VELOX_VALUE_MAX"
    uint32_t first_bit "velox_first_bit"(uint64_t mask) noexcept nogil
    bint multiply_overflows "velox_wide_multiply"(wide a, wide b, wide *product) noexcept nogil


class Block(IntEnum):
    """Why the risk gate blocks an order. With several reasons, the first of this list is told.

    =============== ================================================================
    ``KILLED``      the kill switch is set
    ``NO_LIMITS``   the market has no limits, so no order passes
    ``KIND``        the record is neither an ADD nor a CANCEL
    ``ID_ZERO``     the id is 0
    ``ID_IN_USE``   an order with this id is not gone
    ``TABLE_FULL``  the order table has no free slot
    ``ACCOUNT``     a fill could not be counted: the position is not certain until a resync
    ``FEED``        the market's book is unknown, crossed or stale, or records are missing
    ``SIDE``        the side is neither bid nor ask
    ``PRICE``       the price is not positive
    ``PRICE_STEP``  the price is not a multiple of the step
    ``LOTS``        the size is 0 or over the limit
    ``LOT_STEP``    the size is not a multiple of the step
    ``NOTIONAL``    price times size is over the limit
    ``COLLAR``      the price is too far from the opposite side's best, or that side is empty
    ``POSITION``    the position could pass its limit
    ``OPEN_ORDERS`` too many orders are not gone
    ``RATE``        too many orders a second
    ``DUPLICATE``   the same side, price and size a short time after another
    ``SELF_TRADE``  it would meet one of our own orders
    =============== ================================================================
    """

    KILLED = BLOCK_KILLED
    NO_LIMITS = BLOCK_NO_LIMITS
    KIND = BLOCK_KIND
    ID_ZERO = BLOCK_ID_ZERO
    ID_IN_USE = BLOCK_ID_IN_USE
    TABLE_FULL = BLOCK_TABLE_FULL
    ACCOUNT = BLOCK_ACCOUNT
    FEED = BLOCK_FEED
    SIDE = BLOCK_SIDE
    PRICE = BLOCK_PRICE
    PRICE_STEP = BLOCK_PRICE_STEP
    LOTS = BLOCK_LOTS
    LOT_STEP = BLOCK_LOT_STEP
    NOTIONAL = BLOCK_NOTIONAL
    COLLAR = BLOCK_COLLAR
    POSITION = BLOCK_POSITION
    OPEN_ORDERS = BLOCK_OPEN_ORDERS
    RATE = BLOCK_RATE
    DUPLICATE = BLOCK_DUPLICATE
    SELF_TRADE = BLOCK_SELF_TRADE


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(market_gate) == 128)
    STATIC_ASSERT(<size_t>&(<market_gate *>NULL).lots == 48)
    STATIC_ASSERT(<size_t>&(<market_gate *>NULL).touch == 88)
    STATIC_ASSERT(<size_t>&(<market_gate *>NULL).market_ns == 112)


assert_layout()


cdef risk_gate *risk_gate_new(order_table *orders, kill_switch *kill,
                              limits_block *limits) noexcept nogil:
    """A gate; NULL if there is no memory."""
    cdef risk_gate *self = <risk_gate *>allocate(sizeof(risk_gate))
    cdef int each
    if self == NULL:
        return NULL
    self.rest = <market_risk *>allocate(ORDER_MARKETS * sizeof(market_risk))
    if self.rest == NULL:
        risk_gate_free(self)
        return NULL
    self.orders = orders
    self.accounts = orders.accounts
    self.kill = kill
    self.lender = ORDER_MARKETS
    for each in range(ORDER_MARKETS):
        # More than any bucket holds: each starts full.
        self.rest[each].orders.tokens = self.rest[each].cancels.tokens = UINT64_MAX
        self.rest[each].value_numerator = self.rest[each].value_denominator = 1
    self.total_orders.tokens = self.total_cancels.tokens = UINT64_MAX
    limits_publish(self, limits)
    limits_take(self)
    risk_reload(self)
    return self


cdef void risk_gate_free(risk_gate *self) noexcept nogil:
    if self == NULL:
        return
    release_memory(self.rest)
    release_memory(self)


cdef inline bint is_timed(const market_limits *limits) noexcept nogil:
    return limits.rate != NO_RATE or limits.cancel_rate != NO_RATE \
        or limits.max_age_ns != UINT64_MAX


cdef inline bint looks_at_equity(const market_limits *limits) noexcept nogil:
    return limits.max_loss != WIDE_MAX or limits.max_drawdown != WIDE_MAX


cdef void risk_settle(risk_gate *self) noexcept nogil:
    cdef uint64_t used
    if self.lender == ORDER_MARKETS:
        return
    used = self.rest[self.lender].lent - gate_of(self, self.lender).allowance
    # What is not limited has a full bucket whenever it is asked.
    self.rest[self.lender].orders.tokens -= min(
        used * TOKEN, self.rest[self.lender].orders.tokens)
    self.total_orders.tokens -= min(used * TOKEN, self.total_orders.tokens)
    self.rest[self.lender].lent = gate_of(self, self.lender).allowance = 0
    self.lender = ORDER_MARKETS


cdef inline void forget(risk_gate *self, uint8_t market) noexcept nogil:
    """Let the next order of a market take the long way."""
    gate_of(self, market).lots = 0


cdef void risk_reload(risk_gate *self) noexcept nogil:
    """Forget every envelope, for the limits are others."""
    cdef int each
    cdef market_gate *market
    cdef const limits_block *block = self.limits
    risk_settle(self)
    self.is_timed = is_timed(&block.total)
    self.marks = looks_at_equity(&block.total)
    self.shares = block.total.max_open != UINT64_MAX
    for each in range(ORDER_MARKETS):
        self.is_timed |= is_timed(&block.markets[each])
        self.marks |= looks_at_equity(&block.markets[each])
        forget(self, <uint8_t>each)
        market = gate_of(self, each)
        market.allowance = 0
        market.price_cap = 0
        market.collar = block.markets[each].collar
        risk_set_prices(market)
    self.shares |= self.is_timed


cdef void refill(bucket *self, uint64_t rate, uint64_t burst, uint64_t now_ns) noexcept nogil:
    """Fill a bucket up to now."""
    cdef uint64_t most = burst * TOKEN
    cdef uint64_t elapsed = now_ns - self.filled_ns if now_ns > self.filled_ns else 0
    if rate == NO_RATE:
        self.tokens = UINT64_MAX
        return
    self.filled_ns = max(self.filled_ns, now_ns)
    if self.tokens >= most:
        self.tokens = most
        return
    # Capped first: the product of a long time and a rate does not fit.
    elapsed = min(elapsed, most // rate + 1)
    self.tokens = min(most, self.tokens + elapsed * rate)


cdef bint feed_is_stale(const risk_gate *self, uint8_t market) noexcept nogil:
    cdef uint64_t then = gate_of(self, market).market_ns
    cdef uint64_t age = self.now_ns - then if self.now_ns > then else 0
    return age > self.limits.markets[market].max_age_ns


cdef void grant(risk_gate *self, uint8_t at, uint64_t pending) noexcept nogil:
    """Allow as many orders as the rates and the counts leave, besides `pending` of them."""
    cdef market_gate *market = gate_of(self, at)
    cdef const market_limits *limits = &self.limits.markets[at]
    cdef const market_limits *total = &self.limits.total
    cdef uint64_t here = self.accounts[at].live + pending
    cdef uint64_t all_live = self.orders.live + pending
    cdef uint64_t most = MAX_BURST
    most = min(most, limits.max_open - here if limits.max_open > here else 0)
    most = min(most, total.max_open - all_live if total.max_open > all_live else 0)
    most = min(most, self.rest[at].orders.tokens // TOKEN)
    most = min(most, self.total_orders.tokens // TOKEN)
    market.allowance = <int64_t>most
    self.rest[at].lent = market.allowance
    # Only what is shared, or used up by time, has to be settled.
    if self.shares:
        self.lender = at


cdef void refill_orders(risk_gate *self, uint8_t market) noexcept nogil:
    cdef const market_limits *limits = &self.limits.markets[market]
    refill(&self.rest[market].orders, limits.rate, limits.burst, self.now_ns)
    refill(&self.total_orders, self.limits.total.rate, self.limits.total.burst, self.now_ns)


cdef uint64_t risk_renew(risk_gate *self, const Transaction *order) noexcept nogil:
    """Look at the rates and at the age of a market's feed, which the time has changed."""
    cdef market_gate *market = gate_of(self, order.market)
    market.allowance += 1               # `risk_check` took one that was not there
    risk_settle(self)
    refill_orders(self, order.market)
    grant(self, order.market, 0)
    if market.allowance <= 0 or feed_is_stale(self, order.market):
        return risk_decide(self, order)
    market.allowance -= 1
    return 0


cdef wide worst_position(const market_account *account, uint8_t side, uint64_t size) noexcept nogil:
    """The position, in units and to the side, if all open orders of a side were filled."""
    cdef wide open = (<wide>account.open[side] + size) * account.base_unit
    return open - account.inventory if side == SIDE_ASK else open + account.inventory


cdef int64_t room_of(const market_account *account, const market_limits *limits,
                     uint8_t side) noexcept nogil:
    """How many lots of a side the limit of the position leaves."""
    cdef wide room = (<wide>limits.max_position * account.base_unit
                      - worst_position(account, side, 0))
    if room <= 0:
        return 0
    if account.base_unit != 1:
        room = room // account.base_unit
    return INT64_MAX if room > INT64_MAX else <int64_t>room


cdef bint is_duplicate(const risk_gate *self, const Transaction *order,
                       uint64_t duplicate_ns) noexcept nogil:
    cdef const market_risk *rest = &self.rest[order.market]
    cdef const recent_order *recent
    cdef int each
    for each in range(RECENT_ORDERS):
        recent = &rest.recent[each]
        if recent.used and recent.price == order.price \
                and recent.size_and_side == (<uint64_t>order.size << 1 | order.side) \
                and (self.now_ns <= recent.sent_ns
                     or self.now_ns - recent.sent_ns < duplicate_ns):
            return True
    return False


cdef void remember(risk_gate *self, const Transaction *order) noexcept nogil:
    cdef market_risk *rest = &self.rest[order.market]
    cdef recent_order *recent = &rest.recent[rest.recent_at & (RECENT_ORDERS - 1)]
    rest.recent_at += 1
    recent.price = order.price
    recent.size_and_side = <uint64_t>order.size << 1 | order.side
    recent.sent_ns = self.now_ns
    recent.used = 1


cdef inline uint64_t reason(uint32_t block, bint applies) noexcept nogil:
    return <uint64_t>applies << block


cdef uint64_t faults(risk_gate *self, const Transaction *order) noexcept nogil:
    """Every reason against an order, of an account and buckets that are up to date."""
    cdef uint8_t side = order.side
    cdef int64_t price = order.price
    cdef uint32_t size = order.size
    cdef const market_account *account = &self.accounts[order.market]
    cdef const market_gate *market = gate_of(self, order.market)
    cdef const market_limits *limits = &self.limits.markets[order.market]
    cdef const market_limits *total = &self.limits.total
    cdef int64_t opposite
    cdef uint64_t mask = 0
    mask |= reason(BLOCK_KILLED, not kill_armed(self.kill))
    mask |= reason(BLOCK_NO_LIMITS, not limits.given)
    mask |= reason(BLOCK_ACCOUNT, account.doubtful != 0)
    mask |= reason(BLOCK_FEED, market.feed_state != 0 or feed_is_stale(self, order.market))
    mask |= reason(BLOCK_PRICE, price <= 0)
    mask |= reason(BLOCK_LOTS, size == 0 or size > limits.max_lots)
    mask |= reason(BLOCK_LOT_STEP, size % limits.lot_step != 0)
    mask |= reason(
        BLOCK_OPEN_ORDERS, account.live >= limits.max_open or self.orders.live >= total.max_open)
    mask |= reason(
        BLOCK_RATE,
        self.rest[order.market].orders.tokens < TOKEN or self.total_orders.tokens < TOKEN)
    if side > SIDE_ASK:
        return mask | reason(BLOCK_SIDE, True)
    mask |= reason(
        BLOCK_POSITION,
        limits.max_position != INT64_MAX
        and worst_position(account, side, size) > <wide>limits.max_position * account.base_unit)
    mask |= reason(
        BLOCK_DUPLICATE,
        limits.duplicate_ns != 0 and is_duplicate(self, order, limits.duplicate_ns))
    if price <= 0:
        return mask
    opposite = market.touch[1 - side]
    mask |= reason(BLOCK_PRICE_STEP, price % limits.price_step != 0)
    mask |= reason(BLOCK_NOTIONAL, <wide>price * size > limits.max_notional)
    mask |= reason(
        BLOCK_COLLAR,
        limits.collar != NO_COLLAR
        and (opposite <= 0 or price - opposite > limits.collar
             or opposite - price > limits.collar))
    mask |= reason(
        BLOCK_SELF_TRADE,
        not limits.self_trade and account.open[1 - side] != 0
        and (price <= account.best[SIDE_BID] if side == SIDE_ASK
             else price >= account.best[SIDE_ASK]))
    return mask


cdef void enclose(risk_gate *self, const Transaction *order) noexcept nogil:
    """Compute the envelope around an order that passes."""
    cdef market_gate *market = gate_of(self, order.market)
    cdef const market_account *account = &self.accounts[order.market]
    cdef const market_limits *limits = &self.limits.markets[order.market]
    cdef wide lots
    cdef int side
    market.lots = min(limits.max_lots, <uint64_t>UINT32_MAX)
    market.price_cap = INT64_MAX
    if limits.max_notional < <wide>INT64_MAX * UINT32_MAX:
        # A quarter above this order's price, so that the next ones are within.
        market.price_cap = order.price + min(order.price >> 2, INT64_MAX - order.price)
        lots = limits.max_notional // market.price_cap
        if lots < <wide>market.lots:
            market.lots = <uint64_t>lots
    # These are looked at in the long way alone.
    if limits.lot_step != 1 or limits.price_step != 1 or limits.duplicate_ns != 0:
        market.lots = 0
    for side in range(2):
        market.room[side] = INT64_MAX if limits.max_position == INT64_MAX \
            else room_of(account, limits, <uint8_t>side)
    market.room[order.side] -= order.size
    risk_set_prices(market)


cdef uint64_t risk_decide(risk_gate *self, const Transaction *order) noexcept nogil:
    cdef uint64_t mask
    risk_settle(self)
    refill_orders(self, order.market)
    mask = faults(self, order)
    if mask != 0:
        forget(self, order.market)
        return mask
    # The order is not in the table yet.
    self.rest[order.market].orders.tokens -= TOKEN
    self.total_orders.tokens -= TOKEN
    grant(self, order.market, 1)
    enclose(self, order)
    remember(self, order)
    return 0


cdef void take_cancel(risk_gate *self, const Transaction *order) noexcept nogil:
    """Count a cancel, which always passes."""
    cdef const market_limits *limits = &self.limits.markets[order.market]
    cdef const market_limits *total = &self.limits.total
    cdef bucket *here = &self.rest[order.market].cancels
    cdef bucket *all_markets = &self.total_cancels
    count(&self.cancels, 1)
    orders_cancel_sent(self.orders, order)
    if limits.cancel_rate == NO_RATE and total.cancel_rate == NO_RATE:
        return
    refill(here, limits.cancel_rate, limits.cancel_burst, self.now_ns)
    refill(all_markets, total.cancel_rate, total.cancel_burst, self.now_ns)
    if here.tokens < TOKEN or all_markets.tokens < TOKEN:
        count(&self.cancels_over_rate, 1)
        return
    here.tokens -= TOKEN
    all_markets.tokens -= TOKEN


cdef uint64_t refuse(risk_gate *self, const Transaction *order) noexcept nogil:
    """Why an order is blocked whose kind, side or id is not right."""
    cdef uint32_t refusal = orders_refusal(self.orders, order.id)
    if order.kind != KIND_ADD:
        return <uint64_t>1 << BLOCK_KIND
    if refusal != REFUSAL_NONE:
        return <uint64_t>1 << (BLOCK_ID_ZERO - REFUSAL_ID_ZERO + refusal)
    return risk_decide(self, order)


cdef uint32_t risk_screen(risk_gate *self, const Transaction *order) noexcept nogil:
    cdef uint64_t mask
    cdef uint32_t first
    if order.kind == KIND_CANCEL:
        take_cancel(self, order)
        return BLOCK_NONE
    if unlikely(order.kind != KIND_ADD or order.side > SIDE_ASK
                or orders_refusal(self.orders, order.id) != REFUSAL_NONE):
        mask = refuse(self, order)
    elif order.side == SIDE_BID:
        mask = risk_check(self, order, SIDE_BID)
    else:
        mask = risk_check(self, order, SIDE_ASK)
    if likely(mask == 0):
        orders_sent(self.orders, order, self.now_ns)
        count(&self.passed, 1)
        return BLOCK_NONE
    self.last_mask = mask
    first = first_bit(mask)
    count(&self.blocked[first], 1)
    return first


cdef uint32_t risk_report(risk_gate *self, const Report *report, uint32_t *slot) noexcept nogil:
    cdef uint32_t outcome = orders_report(self.orders, report, slot)
    # The position, the open orders or our own best price may have changed.
    forget(self, report.record.market)
    # A resync adds orders, which count in all markets.
    risk_settle(self)
    if outcome <= OUTCOME_LAST_SHOWN and self.marks:
        risk_mark(self, report.record.market)
    return outcome


cdef wide value_of(const risk_gate *self, uint8_t at, int64_t mark) noexcept nogil:
    """The inventory of a market at a price, rounded down, within VALUE_MAX either way."""
    cdef const market_risk *rest = &self.rest[at]
    cdef wide inventory = self.accounts[at].inventory
    cdef wide value
    cdef wide quotient
    if multiply_overflows(inventory, mark, &value) \
            or multiply_overflows(value, rest.value_numerator, &value):
        return -VALUE_MAX if inventory < 0 else VALUE_MAX
    quotient = value
    if rest.value_denominator != 1:
        quotient = value // rest.value_denominator
        # C rounds toward 0.
        if value < 0 and quotient * rest.value_denominator != value:
            quotient -= 1
    return min(max(quotient, -VALUE_MAX), VALUE_MAX)


cdef bint passes_limit(wide equity, wide *best, const market_limits *limits) noexcept nogil:
    """Whether an equity is under its floor, or too far under its highest."""
    if equity > best[0]:
        best[0] = equity
    return (limits.max_loss != WIDE_MAX and equity < -limits.max_loss) \
        or (limits.max_drawdown != WIDE_MAX and best[0] - equity > limits.max_drawdown)


cdef void risk_mark(risk_gate *self, uint8_t at) noexcept nogil:
    """Value a market at the price at which its position could be closed now.

    A side that is empty has no price: the equity then stays as it was at the last mark.
    """
    cdef const market_account *account = &self.accounts[at]
    cdef market_risk *rest = &self.rest[at]
    cdef int64_t mark = gate_of(self, at).touch[SIDE_ASK if account.inventory < 0 else SIDE_BID]
    cdef wide equity
    cdef bint passed
    if mark <= 0 and account.inventory != 0:
        return
    equity = account.cash - account.fees
    if account.inventory != 0:
        equity += value_of(self, at, mark)
    self.total_equity += equity - rest.equity
    rest.equity = equity
    passed = passes_limit(equity, &rest.best_equity, &self.limits.markets[at])
    passed |= passes_limit(self.total_equity, &self.total_best_equity, &self.limits.total)
    if passed and kill_set(self.kill):
        count(&self.killed, 1)


cdef wide int_to_wide(object value):
    """An integer of at most 127 bits and a sign."""
    cdef int64_t high = value >> 64
    cdef uint64_t low = value & 0xFFFF_FFFF_FFFF_FFFF
    return <wide>high << 64 | low


cdef void fill_limits(market_limits *self, object limits, object total):
    """Write a `MarketLimits`, or the totals of a `Limits`, as C has them."""
    def given(name, otherwise):
        value = getattr(limits, name, None)
        return otherwise if value is None else value

    self.given = 1
    self.max_lots = given("max_order_lots", UINT32_MAX)
    self.lot_step = given("lot_step", 1)
    self.price_step = given("price_step", 1)
    self.max_notional = WIDE_MAX
    self.max_loss = WIDE_MAX
    self.max_drawdown = WIDE_MAX
    if not total and limits.max_notional is not None:
        self.max_notional = int_to_wide(limits.max_notional)
    if limits.max_loss is not None:
        self.max_loss = int_to_wide(limits.max_loss)
    if limits.max_drawdown is not None:
        self.max_drawdown = int_to_wide(limits.max_drawdown)
    self.collar = given("collar", NO_COLLAR)
    self.max_position = given("max_position", INT64_MAX)
    self.max_open = given("max_open_orders", UINT64_MAX)
    self.rate = given("orders_per_second", NO_RATE)
    self.burst = given("order_burst", min(self.rate, <uint64_t>MAX_BURST))
    self.cancel_rate = given("cancels_per_second", NO_RATE)
    self.cancel_burst = given("cancel_burst", min(self.cancel_rate, <uint64_t>MAX_BURST))
    self.duplicate_ns = given("duplicate_ns", 0)
    self.max_age_ns = given("max_feed_age_ns", UINT64_MAX)
    self.self_trade = given("self_trade", False)


@cython.final
cdef class RiskGate:
    """Screens the orders of a strategy, and keeps its table and account.

    Parameters
    ----------
    orders : OrderTable
        From now on the gate sends and reports for it.
    limits : Limits, optional
        Without it, only what is never allowed is blocked: ids in use, a bad feed, self-trades.
    kill : KillSwitch, optional
        Several gates may share one. A new one, if not given.
    value_units : dict of int to fractions.Fraction, optional
        By market, the quote in one unit of inventory at a price of 1, in the unit of cash; 1 if not
        given. For the equity alone.

    Raises
    ------
    ConfigError
        A parameter cannot be used.
    MemoryError

    Notes
    -----
    Thread-safety: one thread screens, touches and reports. Any thread may call `set_limits`, read
    the counts and set the kill switch. Nothing waits for the other.

    Examples
    --------
    >>> import numpy as np
    >>> from velox import TRANSACTION_DTYPE, Limits, MarketLimits, OrderTable
    >>> gate = RiskGate(OrderTable(), Limits(each=MarketLimits(max_order_lots=10)))
    >>> orders = np.zeros(2, TRANSACTION_DTYPE)
    >>> orders["id"], orders["price"], orders["size"] = [1, 2], 1_000_000, [10, 11]
    >>> [Block(reason).name if reason else "passed" for reason in gate.screen(orders)]
    ['passed', 'LOTS']
    """

    def __cinit__(self, OrderTable orders not None, limits=None, kill=None, *, value_units=None):
        cdef int market
        self.orders = orders
        self.kill = KillSwitch() if kill is None else kill
        self.add_block(Limits() if limits is None else limits)
        self.gate = risk_gate_new(orders.table, self.kill.word, self.blocks)
        if self.gate == NULL:
            raise MemoryError("no memory for a risk gate")
        for each, unit in (value_units or {}).items():
            if not isinstance(each, int) or not 0 <= each < ORDER_MARKETS:
                raise ConfigError("must be 0 to 255", field="value_units", value=each)
            if not (0 < unit.numerator < 2**63 and unit.denominator < 2**63):
                raise ConfigError(
                    "must be a positive fraction of 63 bits", field=f"value_units[{each}]",
                    value=unit)
            market = each
            self.gate.rest[market].value_numerator = unit.numerator
            self.gate.rest[market].value_denominator = unit.denominator

    def __dealloc__(self):
        cdef limits_block *block = self.blocks
        cdef limits_block *older
        risk_gate_free(self.gate)
        while block != NULL:
            older = block.older
            release_memory(block)
            block = older

    cdef int add_block(self, object limits) except -1:
        """Make a block of limits the newest of those that are kept."""
        cdef limits_block *block
        cdef int market
        if not isinstance(limits, Limits):
            raise ConfigError("must be Limits", field="limits", value=limits)
        block = <limits_block *>allocate(sizeof(limits_block))
        if block == NULL:
            raise MemoryError("no memory for limits")
        fill_limits(&block.total, limits, True)
        for market in range(ORDER_MARKETS):
            each = limits.of(market)
            if each is not None:
                fill_limits(&block.markets[market], each, False)
            else:
                block.markets[market] = block.total
                block.markets[market].given = 0
        self.number += 1
        block.number = self.number
        block.older = self.blocks
        self.blocks = block
        self.limits = limits
        return 0

    def set_limits(self, limits):
        """Replace the limits. They hold from the next batch on.

        Parameters
        ----------
        limits : Limits

        Raises
        ------
        ConfigError
            It is not a `Limits`; the limits stay as they are.

        Notes
        -----
        Rates and drawdowns go on from where they are. The old limits are freed once the gate's
        thread has taken the new ones.
        """
        cdef limits_block *block
        cdef limits_block *unused
        cdef uint64_t in_use
        self.add_block(limits)
        limits_publish(self.gate, self.blocks)
        in_use = limits_in_use(self.gate)
        block = self.blocks
        while block != NULL and block.number > in_use:
            block = block.older
        if block == NULL:
            return
        unused = block.older
        block.older = NULL
        while unused != NULL:
            block = unused.older
            release_memory(unused)
            unused = block

    @property
    def blocks_kept(self):
        """int: Blocks of limits that are not freed yet, the one in use included."""
        cdef const limits_block *block = self.blocks
        n = 0
        while block != NULL:
            n += 1
            block = block.older
        return n

    def begin(self, now_ns):
        """Begin a batch: take newer limits, and set the time.

        Parameters
        ----------
        now_ns : int
            From any clock in ns.
        """
        risk_begin(self.gate, operator.index(now_ns))

    def touch(self, market, bid, ask, *, feed_state=0, market_ns=0):
        """Tell the best prices of a market's book, and value the position at them.

        Parameters
        ----------
        market : int
        bid, ask : int
            0 if the side is empty.
        feed_state : int
            0, or what is wrong with the feed: then orders are blocked.
        market_ns : int
            When the market's last record arrived.
        """
        cdef uint8_t at = self.checked_market(market)
        risk_touch(self.gate, at, bid, ask, feed_state, market_ns)
        if self.gate.marks:
            risk_mark(self.gate, at)

    cdef int checked_market(self, object market) except -1:
        if isinstance(market, bool) or not isinstance(market, int) \
                or not 0 <= market < ORDER_MARKETS:
            raise ConfigError("must be 0 to 255", field="market", value=market)
        return market

    def screen(self, orders):
        """Screen orders and cancels, and send those that pass.

        Parameters
        ----------
        orders : ndarray, shape (n,), dtype TRANSACTION_DTYPE

        Returns
        -------
        ndarray, shape (n,), dtype uint8
            The first reason of each, a `Block`; 0 if it passed.

        Raises
        ------
        RecordError
            `orders` is not a contiguous array of that dtype.
        """
        cdef Py_ssize_t n, index
        cdef const Transaction *first = transactions_of(orders, &n)
        reasons = np.empty(n, np.uint8)
        for index in range(n):
            reasons[index] = risk_screen(self.gate, &first[index])
        return reasons

    def report(self, reports):
        """Take reports, as `OrderTable.report` does, and value the position.

        Parameters
        ----------
        reports : ndarray, shape (n,), dtype REPORT_RECORD_DTYPE

        Returns
        -------
        ndarray, shape (n,), dtype uint8
            The `ReportOutcome` of each.
        """
        cdef Py_ssize_t n, index
        cdef uint32_t slot
        cdef const Report *first = reports_of(reports, &n)
        outcomes = np.empty(n, np.uint8)
        for index in range(n):
            outcomes[index] = risk_report(self.gate, &first[index], &slot)
        return outcomes

    @property
    def reasons(self):
        """set of Block: Every reason of the last order that was blocked."""
        return {block for block in Block if self.gate.last_mask >> <int>block & 1}

    @property
    def equity(self):
        """int: The sum of all markets' equities at their last mark."""
        return wide_to_int(self.gate.total_equity)

    @property
    def passed(self):
        """int: Orders that passed."""
        return load_relaxed(&self.gate.passed)

    @property
    def cancels(self):
        """int: Cancels, all of which passed."""
        return load_relaxed(&self.gate.cancels)

    @property
    def cancels_over_rate(self):
        """int: Cancels that came faster than their rate."""
        return load_relaxed(&self.gate.cancels_over_rate)

    @property
    def kills(self):
        """int: How often a loss or a drawdown has set the kill switch."""
        return load_relaxed(&self.gate.killed)

    @property
    def blocked(self):
        """dict of str to int: Orders blocked, by the lower-case name of the first `Block`."""
        return {
            block.name.lower(): load_relaxed(&self.gate.blocked[<int>block]) for block in Block
        }
