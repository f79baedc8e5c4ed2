"""A strategy's own orders, and the account of what was traded."""

import operator
from enum import IntEnum, IntFlag
from typing import NamedTuple

import numpy as np
cimport cython
cimport numpy as cnp
from libc.stdint cimport INT64_MAX, INT64_MIN
from libc.string cimport memcpy

from velox.core.atomic cimport count, load_relaxed
from velox.core.key_map cimport key_map_entry, key_map_init, key_map_put, key_map_remove
from velox.core.memory cimport STATIC_ASSERT, allocate, release_memory
from velox.core.records cimport (
    KIND_ADD,
    KIND_CANCEL,
    KIND_CANCEL_REJECTED,
    KIND_CANCELLED,
    KIND_FILLED,
    KIND_PLACED,
    KIND_RESYNC,
    KIND_TIMER,
    KIND_UNKNOWN,
    REPORT_AMOUNTS,
    REPORT_BEGIN,
    REPORT_KINDS,
    REPORT_KINDS_END,
    REPORT_LAST,
    SIDE_ASK,
    SIDE_BID,
    reports_of,
    transactions_of,
)

from velox.errors import ConfigError, RecordError

cnp.import_array()

__all__ = [
    "ORDER_DTYPE",
    "Account",
    "OrderCounts",
    "OrderFlags",
    "OrderRefusal",
    "OrderState",
    "OrderTable",
    "ReportOutcome",
]


class OrderState(IntEnum):
    """The state of a slot of an `OrderTable`.

    ============== =================================================================
    ``FREE``       no order yet
    ``SENT``       sent; nothing was heard of it
    ``OPEN``       it rests at the venue
    ``PARTIAL``    a part of it is filled
    ``CANCELLING`` a cancel was sent
    ``UNKNOWN``    nobody knows what became of it; it stays exposed until a report or a resync
    ``GONE``       filled, cancelled, rejected, expired or blocked; the slot can be used again
    ============== =================================================================
    """

    FREE = ORDER_FREE
    SENT = ORDER_SENT
    OPEN = ORDER_OPEN
    PARTIAL = ORDER_PARTIAL
    CANCELLING = ORDER_CANCELLING
    UNKNOWN = ORDER_UNKNOWN
    GONE = ORDER_GONE


class OrderFlags(IntFlag):
    """Further properties of an order of an `OrderTable`.

    =============== ================================================================
    ``PLACED``      the venue has had the order
    ``CANCEL_SENT`` a cancel was sent and not refused
    ``ADOPTED``     a resync named it; this table did not send it
    ``UNNAMED``     a resync under way has not named it yet
    =============== ================================================================
    """

    NONE = 0
    PLACED = ORDER_PLACED
    CANCEL_SENT = ORDER_CANCEL_SENT
    ADOPTED = ORDER_ADOPTED
    UNNAMED = ORDER_UNNAMED


class OrderRefusal(IntEnum):
    """Why an `OrderTable` cannot take an order.

    ============== =================================================================
    ``ID_ZERO``    the id is 0
    ``ID_IN_USE``  an order with this id is not gone
    ``TABLE_FULL`` each slot has an order that is not gone
    ============== =================================================================
    """

    ID_ZERO = REFUSAL_ID_ZERO
    ID_IN_USE = REFUSAL_ID_IN_USE
    TABLE_FULL = REFUSAL_TABLE_FULL


class ReportOutcome(IntEnum):
    """What a report did to an `OrderTable`. Up to ``OVERFILLED``, the strategy sees the report.

    ================ ===============================================================
    ``TAKEN``        it changed its order
    ``LATE_FILL``    a fill of an order that was gone; it counts
    ``FOREIGN_FILL`` a fill of an order that is not in the table; it counts
    ``OVERFILLED``   a fill of more lots than the order had left; it counts in full
    ``DOUBLED``      a report with this sequence was taken before
    ``REPEATED``     it told nothing new, such as a placement after a fill
    ``LATE``         its order was gone already
    ``UNKNOWN_ID``   no order in the table has its id
    ``STALE``        its sequence is so old that it may have been taken before; a fill makes the
                     account doubtful
    ``MALFORMED``    it contradicts itself or its order; a fill makes the account doubtful
    ``NO_SLOT``      a resync named an order, and the table is full; the account is doubtful
    ================ ===============================================================
    """

    TAKEN = OUTCOME_TAKEN
    LATE_FILL = OUTCOME_LATE_FILL
    FOREIGN_FILL = OUTCOME_FOREIGN_FILL
    OVERFILLED = OUTCOME_OVERFILLED
    DOUBLED = OUTCOME_DOUBLED
    REPEATED = OUTCOME_REPEATED
    LATE = OUTCOME_LATE
    UNKNOWN_ID = OUTCOME_UNKNOWN_ID
    STALE = OUTCOME_STALE
    MALFORMED = OUTCOME_MALFORMED
    NO_SLOT = OUTCOME_NO_SLOT


class Account(NamedTuple):
    """What was traded in one market, and what can still be.

    Attributes
    ----------
    inventory : int
        Base bought less base sold, in units of which a lot has `base_unit`.
    cash : int
        Quote received less quote paid, in the venue's own unit, or in lots times the unit of
        prices. Fees are apart.
    fees : int
        Fees paid less rebates received, in the unit of `cash`.
    open_bid, open_ask : int
        Lots of orders that can still be filled, whatever is known of them.
    doubtful : bool
        Whether a fill could not be counted. A resync that gives the position clears it.
    """

    inventory: int
    cash: int
    fees: int
    open_bid: int
    open_ask: int
    doubtful: bool


class OrderCounts(NamedTuple):
    """How many orders went where: ``sent = in_flight + placed + rejected``.

    Attributes
    ----------
    sent : int
        Orders that the table was told of.
    in_flight : int
        Of these, those of which nothing decisive was heard.
    placed : int
        Those that reached the venue: placed, filled or cancelled there.
    rejected : int
        Those that did not: rejected, blocked or expired before anything else, or missing in a
        resync.
    adopted : int
        Orders that a resync named and the table did not know.
    finished : int
        Orders, sent or adopted, that are gone.
    live : int
        Orders that are not: ``sent + adopted = finished + live``.
    cancels : int
        Cancels sent.
    """

    sent: int
    in_flight: int
    placed: int
    rejected: int
    adopted: int
    finished: int
    live: int
    cancels: int


ORDER_DTYPE = np.dtype([
    ("id", "<u8"),
    ("price", "<i8"),
    ("leaves", "<u4"),
    ("filled", "<u4"),
    ("ahead", "<i8"),
    ("sent_ns", "<u8"),
    ("state", "u1"),
    ("side", "u1"),
    ("flags", "u1"),
    ("market", "u1"),
    ("reason", "<u4"),
    ("venue_ns", "<u8"),
    ("sequence", "<u8"),
])


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(wide) == 16)
    STATIC_ASSERT(sizeof(order_slot) == 64)
    STATIC_ASSERT(<size_t>&(<order_slot *>NULL).leaves == 16)
    STATIC_ASSERT(<size_t>&(<order_slot *>NULL).ahead == 24)
    STATIC_ASSERT(<size_t>&(<order_slot *>NULL).state == 40)
    STATIC_ASSERT(<size_t>&(<order_slot *>NULL).reason == 44)
    STATIC_ASSERT(<size_t>&(<order_slot *>NULL).venue_ns == 48)
    STATIC_ASSERT(<size_t>&(<order_slot *>NULL).sequence == 56)
    STATIC_ASSERT(sizeof(market_account) == 256)
    STATIC_ASSERT(<size_t>&(<market_account *>NULL).open == 48)
    STATIC_ASSERT(<size_t>&(<market_account *>NULL).best == 64)
    STATIC_ASSERT(<size_t>&(<market_account *>NULL).live == 120)
    STATIC_ASSERT(<size_t>&(<market_account *>NULL).gate == 128)


assert_layout()


cdef int64_t no_best(uint8_t side) noexcept nogil:
    return INT64_MAX if side == SIDE_ASK else INT64_MIN


cdef int64_t saturated(wide value) noexcept nogil:
    if value > <wide>INT64_MAX:
        return INT64_MAX
    if value < <wide>INT64_MIN:
        return INT64_MIN
    return <int64_t>value


cdef object wide_to_int(wide value):
    cdef int64_t high = <int64_t>(value >> 64)
    cdef uint64_t low = <uint64_t>value
    return (<object>high << 64) | <object>low


cdef order_table *order_table_new(uint32_t capacity) noexcept nogil:
    """An empty table of a power of two slots; NULL if there is no memory."""
    cdef order_table *self = <order_table *>allocate(sizeof(order_table))
    cdef int market
    cdef uint32_t bits = 1
    cdef key_map_entry *by_id
    cdef key_map_entry *by_sequence
    if self == NULL:
        return NULL
    while (<uint32_t>1 << bits) < 2 * capacity:
        bits += 1
    self.capacity = capacity
    self.slots = <order_slot *>allocate(capacity * sizeof(order_slot))
    self.accounts = <market_account *>allocate(ORDER_MARKETS * sizeof(market_account))
    self.gone = <uint32_t *>allocate(capacity * sizeof(uint32_t))
    self.seen = <seen_report *>allocate(SEEN_REPORTS * sizeof(seen_report))
    by_id = <key_map_entry *>allocate((<size_t>1 << bits) * sizeof(key_map_entry))
    by_sequence = <key_map_entry *>allocate((<size_t>1 << SEEN_BITS) * sizeof(key_map_entry))
    key_map_init(&self.by_id, by_id, bits)
    key_map_init(&self.by_sequence, by_sequence, SEEN_BITS)
    if self.slots == NULL or self.accounts == NULL or self.gone == NULL or self.seen == NULL \
            or by_id == NULL or by_sequence == NULL:
        order_table_free(self)
        return NULL
    for market in range(ORDER_MARKETS):
        self.accounts[market].base_unit = 1
        self.accounts[market].best[SIDE_BID] = no_best(SIDE_BID)
        self.accounts[market].best[SIDE_ASK] = no_best(SIDE_ASK)
    return self


cdef void order_table_free(order_table *self) noexcept nogil:
    if self == NULL:
        return
    release_memory(self.slots)
    release_memory(self.accounts)
    release_memory(self.gone)
    release_memory(self.seen)
    release_memory(self.by_id.entries)
    release_memory(self.by_sequence.entries)
    release_memory(self)


cdef inline bint better(uint8_t side, int64_t price, int64_t other) noexcept nogil:
    return price < other if side == SIDE_ASK else price > other


cdef inline bint is_live(const order_slot *order) noexcept nogil:
    return order.state != ORDER_FREE and order.state != ORDER_GONE


cdef void find_best(order_table *self, uint8_t market, uint8_t side) noexcept nogil:
    """Look for the best price of a side among the orders that are left."""
    cdef int64_t best = no_best(side)
    cdef const order_slot *order
    cdef uint32_t at
    for at in range(self.used):
        order = &self.slots[at]
        if is_live(order) and order.market == market and order.side == side \
                and better(side, order.price, best):
            best = order.price
    self.accounts[market].best[side] = best


cdef void set_leaves(order_table *self, order_slot *order, uint32_t leaves) noexcept nogil:
    """Change what can still be filled, and with it the exposure."""
    self.accounts[order.market].open[order.side] += <int64_t>leaves - <int64_t>order.leaves
    order.leaves = leaves


cdef void set_price(order_table *self, order_slot *order, int64_t price) noexcept nogil:
    """Change the price of a live order to where the venue has it."""
    cdef int64_t before = order.price
    cdef int64_t *best = &self.accounts[order.market].best[order.side]
    if price == before:
        return
    order.price = price
    if better(order.side, price, best[0]):
        best[0] = price
    elif before == best[0]:
        find_best(self, order.market, order.side)


cdef uint32_t take_slot(order_table *self, uint64_t id) noexcept nogil:
    """A zeroed slot for an order with this id. There must be one, and no live order may have it."""
    cdef uint32_t at
    cdef uint32_t before = key_map_find(&self.by_id, id, 0)
    cdef order_slot *order
    if before != UINT32_MAX:
        # The slot of the order that had this id forgets it, and waits for its turn.
        key_map_remove(&self.by_id, id, 0)
        self.slots[before].id = 0
    if self.used < self.capacity:
        at = self.used
        self.used += 1
    else:
        at = self.gone[self.gone_head & (self.capacity - 1)]
        self.gone_head += 1
    order = &self.slots[at]
    if order.id != 0:
        key_map_remove(&self.by_id, order.id, 0)
    order[0] = order_slot(
        id=id, price=0, leaves=0, filled=0, ahead=-1, sent_ns=0, state=ORDER_FREE, side=0,
        flags=0, market=0, reason=0, venue_ns=0, sequence=0)
    key_map_put(&self.by_id, id, 0, at)
    self.live += 1
    return at


cdef void expose(order_table *self, order_slot *order, uint32_t leaves) noexcept nogil:
    """Count a new order's lots, and its price if it is the best of its side."""
    cdef market_account *account = &self.accounts[order.market]
    set_leaves(self, order, leaves)
    if better(order.side, order.price, account.best[order.side]):
        account.best[order.side] = order.price
    account.live += 1
    account.version += 1


cdef uint32_t orders_sent(order_table *self, const Transaction *order,
                          uint64_t now_ns) noexcept nogil:
    cdef uint32_t at = take_slot(self, order.id)
    cdef order_slot *slot = &self.slots[at]
    slot.price = order.price
    slot.sent_ns = now_ns
    slot.state = ORDER_SENT
    slot.side = order.side
    slot.market = order.market
    expose(self, slot, order.size)
    count(&self.sent, 1)
    return at


cdef uint32_t orders_cancel_sent(order_table *self, const Transaction *order) noexcept nogil:
    cdef uint32_t at = key_map_find(&self.by_id, order.id, 0)
    cdef order_slot *slot
    count(&self.cancels, 1)
    if at == UINT32_MAX or not is_live(&self.slots[at]):
        return UINT32_MAX
    slot = &self.slots[at]
    slot.flags |= ORDER_CANCEL_SENT
    if slot.state != ORDER_UNKNOWN:
        slot.state = ORDER_CANCELLING
    return at


cdef inline uint8_t resting_state(const order_slot *order) noexcept nogil:
    """The state of an order that the venue has."""
    if order.flags & ORDER_CANCEL_SENT:
        return ORDER_CANCELLING
    return ORDER_PARTIAL if order.filled else ORDER_OPEN


cdef inline void decide(order_table *self, order_slot *order, bint placed) noexcept nogil:
    """Count an order as placed or as rejected, the first time that either is known."""
    if order.flags & (ORDER_PLACED | ORDER_ADOPTED):
        return
    if placed:
        order.flags |= ORDER_PLACED
        count(&self.placed, 1)
    else:
        count(&self.rejected, 1)


cdef void finish(order_table *self, uint32_t at) noexcept nogil:
    """An order is gone: nothing of it can be filled any more."""
    cdef order_slot *order = &self.slots[at]
    set_leaves(self, order, 0)
    order.state = ORDER_GONE
    self.live -= 1
    self.accounts[order.market].live -= 1
    self.gone[self.gone_tail & (self.capacity - 1)] = at
    self.gone_tail += 1
    if order.price == self.accounts[order.market].best[order.side]:
        find_best(self, order.market, order.side)
    count(&self.finished, 1)


cdef bint is_malformed(const order_table *self, const Report *report) noexcept nogil:
    cdef const Transaction *record = &report.record
    if record.kind < REPORT_KINDS or record.kind >= REPORT_KINDS_END or record.kind == KIND_TIMER \
            or record.side > SIDE_ASK:
        return True
    if record.kind == KIND_RESYNC:
        # An order needs a price; the last report that gives no position has no amounts.
        return record.id != 0 and (record.price <= 0 or record.size == 0)
    if record.kind != KIND_FILLED:
        return False
    if record.flags & REPORT_AMOUNTS:
        return report.base_amount < 0 or report.quote_amount < 0
    # Without amounts a lot must be one unit of the inventory.
    return record.price <= 0 or record.size == 0 or self.accounts[record.market].base_unit != 1


cdef uint32_t recognise(order_table *self, const Report *report) noexcept nogil:
    """OUTCOME_TAKEN for a report that is new, and remember its number."""
    cdef market_account *account = &self.accounts[report.record.market]
    cdef uint32_t market = report.record.market
    cdef seen_report *oldest
    if report.sequence == 0:
        return OUTCOME_TAKEN
    if report.sequence <= account.covered \
            or key_map_find(&self.by_sequence, report.sequence, market) != UINT32_MAX:
        return OUTCOME_DOUBLED
    if report.sequence <= account.forgotten:
        return OUTCOME_STALE
    oldest = &self.seen[self.seen_head & (SEEN_REPORTS - 1)]
    if self.seen_head >= SEEN_REPORTS:
        key_map_remove(&self.by_sequence, oldest.sequence, <uint32_t>oldest.market)
        self.accounts[oldest.market].forgotten = max(
            self.accounts[oldest.market].forgotten, oldest.sequence)
    oldest.sequence = report.sequence
    oldest.market = market
    key_map_put(&self.by_sequence, report.sequence, market,
                <uint32_t>(self.seen_head & (SEEN_REPORTS - 1)))
    self.seen_head += 1
    return OUTCOME_TAKEN


cdef void add_fill(order_table *self, const Report *report) noexcept nogil:
    """Add a fill to the account, exactly."""
    cdef market_account *account = &self.accounts[report.record.market]
    cdef wide base = report.record.size
    cdef wide quote = <wide>report.record.price * report.record.size
    if report.record.flags & REPORT_AMOUNTS:
        base = report.base_amount
        quote = report.quote_amount
    if report.record.side == SIDE_BID:
        account.inventory += base
        account.cash -= quote
    else:
        account.inventory -= base
        account.cash += quote
    account.fees += report.fee


cdef uint32_t fill(order_table *self, const Report *report, uint32_t at) noexcept nogil:
    cdef order_slot *order
    cdef uint32_t size = report.record.size
    cdef uint32_t outcome = OUTCOME_TAKEN
    add_fill(self, report)
    if at == UINT32_MAX:
        return OUTCOME_FOREIGN_FILL
    order = &self.slots[at]
    # Saturating: the count is for the strategy's eyes.
    order.filled = UINT32_MAX if size > UINT32_MAX - order.filled else order.filled + size
    if not is_live(order):
        return OUTCOME_LATE_FILL
    if size > order.leaves:
        outcome = OUTCOME_OVERFILLED
        size = order.leaves
    decide(self, order, True)
    set_leaves(self, order, order.leaves - size)
    if order.leaves == 0 or report.record.flags & REPORT_LAST:
        finish(self, at)
    else:
        order.state = resting_state(order)
    return outcome


cdef uint32_t adopt(order_table *self, const Report *report, uint32_t at,
                    uint32_t *slot) noexcept nogil:
    """A resync names an order that rests."""
    cdef const Transaction *record = &report.record
    cdef order_slot *order
    if at == UINT32_MAX or not is_live(&self.slots[at]):
        if self.live == self.capacity:
            self.accounts[record.market].doubtful = 1
            return OUTCOME_NO_SLOT
        at = take_slot(self, record.id)
        slot[0] = at
        order = &self.slots[at]
        order.price = record.price
        order.side = record.side
        order.market = record.market
        order.flags = ORDER_PLACED | ORDER_ADOPTED
        order.state = ORDER_OPEN
        order.ahead = report.ahead
        order.venue_ns = report.venue_ts_ns
        expose(self, order, record.size)
        count(&self.adopted, 1)
        return OUTCOME_TAKEN
    order = &self.slots[at]
    decide(self, order, True)
    order.flags &= ~ORDER_UNNAMED
    set_leaves(self, order, record.size)
    set_price(self, order, record.price)
    order.state = resting_state(order)
    return OUTCOME_TAKEN


cdef uint32_t resync(order_table *self, const Report *report, uint32_t at,
                     uint32_t *slot) noexcept nogil:
    cdef const Transaction *record = &report.record
    cdef market_account *account = &self.accounts[record.market]
    cdef order_slot *order
    cdef uint32_t each
    if record.flags & REPORT_BEGIN:
        account.resyncing = 1
        for each in range(self.used):
            order = &self.slots[each]
            # Of an order that is only sent, the answer is still to come.
            if order.market == record.market and is_live(order) and order.state != ORDER_SENT \
                    and (order.state != ORDER_CANCELLING or order.flags & ORDER_PLACED):
                order.flags |= ORDER_UNNAMED
        return OUTCOME_TAKEN
    if not account.resyncing:
        return OUTCOME_MALFORMED
    if record.id != 0:
        return adopt(self, report, at, slot)
    if not record.flags & REPORT_LAST:
        return OUTCOME_MALFORMED
    account.resyncing = 0
    for each in range(self.used):
        order = &self.slots[each]
        if order.market == record.market and is_live(order) and order.flags & ORDER_UNNAMED:
            order.flags &= ~ORDER_UNNAMED
            decide(self, order, False)
            finish(self, each)
    if record.flags & REPORT_AMOUNTS:
        account.inventory = report.base_amount
        account.cash = report.quote_amount
        account.fees = report.fee
        account.covered = max(account.covered, report.sequence)
        account.doubtful = 0
    return OUTCOME_TAKEN


cdef uint32_t change(order_table *self, const Report *report, uint32_t at) noexcept nogil:
    """Take a report that is neither a fill nor of a resync, of an order that is live."""
    cdef const Transaction *record = &report.record
    cdef order_slot *order = &self.slots[at]
    cdef uint8_t kind = record.kind
    if kind == KIND_PLACED:
        if order.flags & ORDER_PLACED:
            if order.state == ORDER_UNKNOWN:
                order.state = resting_state(order)
                return OUTCOME_TAKEN
            return OUTCOME_REPEATED
        decide(self, order, True)
        if record.price > 0:
            set_price(self, order, record.price)
        order.state = resting_state(order)
        return OUTCOME_TAKEN
    if kind == KIND_CANCEL_REJECTED:
        if not order.flags & ORDER_CANCEL_SENT:
            return OUTCOME_REPEATED
        order.flags &= ~ORDER_CANCEL_SENT
        if order.state == ORDER_CANCELLING:
            order.state = resting_state(order) if order.flags & ORDER_PLACED else ORDER_SENT
        return OUTCOME_TAKEN
    if kind == KIND_UNKNOWN:
        if order.state == ORDER_UNKNOWN:
            return OUTCOME_REPEATED
        order.state = ORDER_UNKNOWN
        return OUTCOME_TAKEN
    # CANCELLED, REJECTED, EXPIRED, BLOCKED: nothing is left.
    decide(self, order, kind == KIND_CANCELLED)
    finish(self, at)
    return OUTCOME_TAKEN


cdef inline void doubt(market_account *account, const Transaction *record) noexcept nogil:
    """A report could not be counted. If it is a fill, the position is no longer certain."""
    if record.kind == KIND_FILLED:
        account.doubtful = 1


cdef uint32_t take(order_table *self, const Report *report, uint32_t *slot) noexcept nogil:
    cdef const Transaction *record = &report.record
    cdef market_account *account = &self.accounts[record.market]
    cdef order_slot *order = NULL
    cdef uint32_t outcome
    cdef uint32_t at = UINT32_MAX
    slot[0] = UINT32_MAX
    if is_malformed(self, report):
        doubt(account, record)
        return OUTCOME_MALFORMED
    if record.id != 0:
        at = key_map_find(&self.by_id, record.id, 0)
    if at != UINT32_MAX:
        order = &self.slots[at]
        slot[0] = at
        if order.side != record.side or order.market != record.market:
            doubt(account, record)
            return OUTCOME_MALFORMED
    if record.kind == KIND_RESYNC:
        return resync(self, report, at, slot)
    outcome = recognise(self, report)
    if outcome != OUTCOME_TAKEN:
        if outcome == OUTCOME_STALE:
            doubt(account, record)
        return outcome
    if record.kind == KIND_FILLED:
        outcome = fill(self, report, at)
    elif at == UINT32_MAX:
        return OUTCOME_UNKNOWN_ID
    elif not is_live(&self.slots[at]):
        return OUTCOME_LATE
    else:
        outcome = change(self, report, at)
    if at != UINT32_MAX and outcome <= OUTCOME_LAST_SHOWN:
        order.reason = report.reason
        order.venue_ns = report.venue_ts_ns
        if report.sequence != 0:
            order.sequence = report.sequence
        if report.ahead >= 0:
            order.ahead = report.ahead
    return outcome


cdef uint32_t orders_report(order_table *self, const Report *report, uint32_t *slot) noexcept nogil:
    cdef uint32_t outcome = take(self, report, slot)
    count(&self.outcomes[outcome], 1)
    self.accounts[report.record.market].version += 1
    return outcome


cdef uint32_t checked_capacity(object capacity) except 0:
    try:
        value = 0 if isinstance(capacity, bool) else operator.index(capacity)
    except TypeError:
        raise ConfigError("must be an integer", field="capacity", value=capacity) from None
    if not MIN_ORDERS <= value <= MAX_ORDERS or value & (value - 1):
        raise ConfigError(
            f"must be a power of two, {MIN_ORDERS} to {MAX_ORDERS}", field="capacity",
            value=capacity)
    return value


cdef uint8_t checked_market(object market) except? 0:
    try:
        value = -1 if isinstance(market, bool) else operator.index(market)
    except TypeError:
        raise ConfigError("must be an integer", field="market", value=market) from None
    if not 0 <= value < ORDER_MARKETS:
        raise ConfigError(f"must be 0 to {ORDER_MARKETS - 1}", field="market", value=market)
    return value


@cython.final
cdef class OrderTable:
    """A strategy's own orders and its account, as a pipeline keeps them.

    Parameters
    ----------
    capacity : int
        How many orders can be live at once: a power of two, 64 to 4096.
    base_units : dict of int to int, optional
        By market, how many units of the inventory a lot has; 1 if not given. With more than 1 every
        fill must give its exact amounts.

    Raises
    ------
    ConfigError
        A parameter cannot be used.
    MemoryError

    Notes
    -----
    Thread-safety: one thread at a time sends and reports. Any thread may call `counts` and
    `outcomes`. All memory is allocated here. An order is found by hashing, and a change of the best
    of our own prices looks at all slots.

    Examples
    --------
    >>> import numpy as np
    >>> from velox import Kind, REPORT_RECORD_DTYPE, TRANSACTION_DTYPE
    >>> table = OrderTable()
    >>> order = np.zeros(1, TRANSACTION_DTYPE)
    >>> order["id"], order["price"], order["size"] = 7, 1_000_000, 5
    >>> table.send(order)
    1
    >>> fill = np.zeros(1, REPORT_RECORD_DTYPE)
    >>> fill["id"], fill["price"], fill["size"], fill["kind"] = 7, 1_000_000, 2, Kind.FILLED
    >>> table.report(fill).tolist() == [ReportOutcome.TAKEN]
    True
    >>> table.account(0)[:4]
    (2, -2000000, 0, 3)
    """

    def __cinit__(self, capacity=64, *, base_units=None):
        self.table = order_table_new(checked_capacity(capacity))
        if self.table == NULL:
            raise MemoryError(f"no memory for {capacity} orders")
        cdef uint8_t market
        for each, unit in (base_units or {}).items():
            market = checked_market(each)
            if isinstance(unit, bool) or not isinstance(unit, int) or not 1 <= unit < 2**63:
                raise ConfigError(
                    "must be an integer, 1 to 2**63 - 1", field=f"base_units[{each}]", value=unit)
            self.table.accounts[market].base_unit = unit

    def __dealloc__(self):
        order_table_free(self.table)

    def send(self, orders, *, now_ns=0):
        """Take orders and cancels that leave.

        Parameters
        ----------
        orders : ndarray, shape (n,), dtype TRANSACTION_DTYPE
            Of kind ADD or CANCEL.
        now_ns : int
            The time, for `sent_ns` of the orders.

        Returns
        -------
        int
            How many were taken, from the front. Fewer than n if an order is refused: see `refusal`.

        Raises
        ------
        RecordError
            `orders` is not a contiguous array of that dtype, or one has another kind, no side, or
            a size of 0.
        """
        cdef Py_ssize_t n, index
        cdef const Transaction *first = transactions_of(orders, &n)
        for index in range(n):
            if first[index].kind not in (KIND_ADD, KIND_CANCEL):
                raise RecordError(
                    "must be ADD or CANCEL", array="orders", index=index, field="kind",
                    value=first[index].kind)
            if first[index].kind == KIND_CANCEL:
                continue
            if first[index].side > SIDE_ASK:
                raise RecordError(
                    "is neither 0 (bid) nor 1 (ask)", array="orders", index=index, field="side",
                    value=first[index].side)
            if first[index].size == 0:
                raise RecordError(
                    "must not be 0", array="orders", index=index, field="size", value=0)
        for index in range(n):
            if first[index].kind == KIND_CANCEL:
                orders_cancel_sent(self.table, &first[index])
            elif orders_refusal(self.table, first[index].id) != REFUSAL_NONE:
                return index
            else:
                orders_sent(self.table, &first[index], now_ns)
        return n

    def refusal(self, id):
        """Why an order with this id cannot be sent now.

        Returns
        -------
        OrderRefusal or None
        """
        cdef uint32_t reason = orders_refusal(self.table, id)
        return None if reason == REFUSAL_NONE else OrderRefusal(reason)

    def report(self, reports):
        """Take reports, in order.

        Parameters
        ----------
        reports : ndarray, shape (n,), dtype REPORT_RECORD_DTYPE

        Returns
        -------
        ndarray, shape (n,), dtype uint8
            The `ReportOutcome` of each.

        Raises
        ------
        RecordError
            `reports` is not a contiguous array of that dtype.
        """
        cdef Py_ssize_t n, index
        cdef uint32_t slot
        cdef const Report *first = reports_of(reports, &n)
        outcomes = np.empty(n, np.uint8)
        for index in range(n):
            outcomes[index] = orders_report(self.table, &first[index], &slot)
        return outcomes

    def account(self, market):
        """What was traded in a market, and what can still be.

        Parameters
        ----------
        market : int
            0 to 255.

        Returns
        -------
        Account

        Raises
        ------
        ConfigError
            There is no such market.
        """
        cdef market_account *account = &self.table.accounts[checked_market(market)]
        return Account(
            wide_to_int(account.inventory), wide_to_int(account.cash), wide_to_int(account.fees),
            account.open[SIDE_BID], account.open[SIDE_ASK], bool(account.doubtful))

    def best(self, market, side):
        """The best price of our own live orders of a side.

        Returns
        -------
        int or None
            None if there is no order.
        """
        cdef market_account *account = &self.table.accounts[checked_market(market)]
        if side not in (SIDE_BID, SIDE_ASK):
            raise ConfigError("must be 0 (bid) or 1 (ask)", field="side", value=side)
        cdef uint8_t own = SIDE_ASK if side == SIDE_ASK else SIDE_BID
        return account.best[own] if account.open[own] else None     # a live order has lots left

    def orders(self, *, gone=False):
        """The orders that are live.

        Parameters
        ----------
        gone : bool
            Whether to give those too that are gone and whose slots have no new order.

        Returns
        -------
        ndarray, shape (n,), dtype ORDER_DTYPE
            A copy, in the order of their slots.
        """
        slots = np.empty(self.table.used, ORDER_DTYPE)
        memcpy(cnp.PyArray_DATA(slots), self.table.slots, self.table.used * sizeof(order_slot))
        states = slots["state"]
        if gone:
            return slots[states != ORDER_FREE]
        return slots[(states != ORDER_FREE) & (states != ORDER_GONE)]

    def counts(self):
        """How many orders went where.

        Returns
        -------
        OrderCounts
        """
        sent = load_relaxed(&self.table.sent)
        placed = load_relaxed(&self.table.placed)
        rejected = load_relaxed(&self.table.rejected)
        adopted = load_relaxed(&self.table.adopted)
        finished = load_relaxed(&self.table.finished)
        return OrderCounts(
            sent, sent - placed - rejected, placed, rejected, adopted, finished,
            sent + adopted - finished, load_relaxed(&self.table.cancels))

    def outcomes(self):
        """How many reports there were, by the lower-case name of their `ReportOutcome`.

        Returns
        -------
        dict of str to int
        """
        return {
            outcome.name.lower(): load_relaxed(&self.table.outcomes[<int>outcome])
            for outcome in ReportOutcome
        }

    @property
    def capacity(self):
        """int: How many orders can be live at once."""
        return self.table.capacity

    @property
    def live(self):
        """int: Orders that are not gone."""
        return self.table.live

    def __repr__(self):
        return f"<OrderTable {self.table.live}/{self.table.capacity}>"
