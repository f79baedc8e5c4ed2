"""The table of a strategy's own orders, and the account of what was traded.

The table has a fixed number of slots. A slot keeps its order after the order is gone, until another
order needs the slot, so that late reports still find it. An order that was sent counts against the
limits at once, whatever is known of it.

order_slot, 64 bytes::

     0       1       2       3       4       5       6       7
    +-------+-------+-------+-------+-------+-------+-------+-------+
  0 | id                                                            |
    +-------+-------+-------+-------+-------+-------+-------+-------+
  8 | price                                                         |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 16 | leaves: lots that can still be filled | filled: lots so far   |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 24 | ahead: quantity in front of it, or -1                         |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 32 | sent_ns                                                       |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 40 | state | side  | flags | market| reason: of the last report    |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 48 | venue_ns: the venue's time of the last report                 |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 56 | sequence: of the last report that had one                     |
    +-------+-------+-------+-------+-------+-------+-------+-------+

States: a report moves an order along an arrow or leaves it where it is::

                    +--------- CANCELLING ----------+
                    |               ^               |
                    v               |               v
     FREE --> SENT --> OPEN --> PARTIAL -------->  GONE --> (the slot's next order)
                |        |          |               ^
                +--------+----------+--> UNKNOWN ---+

A fill always counts, once. Two reports with one sequence are one report. The account does not
depend on the table: a fill of an order that is gone or unknown counts too.

market_account, 256 bytes::

     0       1       2       3       4       5       6       7
    +-------+-------+-------+-------+-------+-------+-------+-------+
  0 | inventory, 128 bits: base bought less base sold               |
 16 | cash, 128 bits: quote received less quote paid                |
 32 | fees, 128 bits: fees paid less rebates                        |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 48 | open[2]: lots of bids and of asks that can still be filled    |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 64 | best[2]: the best prices of our own bids and asks             |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 80 | base_unit: units of inventory in a lot                        |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 88 | covered: reports up to this sequence are in the position      |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 96 | forgotten: sequences up to this may have been seen            |
    +-------+-------+-------+-------+-------+-------+-------+-------+
104 | doubtful: a fill could not be counted; cleared by a resync    |
    +-------+-------+-------+-------+-------+-------+-------+-------+
112 | version: how often anything above has changed                 |
    +-------+-------+-------+-------+-------+-------+-------+-------+
120 | live: orders that are not gone| resyncing: a resync has begun |
    +-------+-------+-------+-------+-------+-------+-------+-------+
128 | gate[16]: the risk gate's part; drawn in risk.pxd             |
    +-------+-------+-------+-------+-------+-------+-------+-------+

One thread sends and reports. Any thread may read the counters.
"""

from libc.stdint cimport UINT32_MAX, int64_t, uint8_t, uint32_t, uint64_t

from velox.core.atomic cimport atomic_u64
from velox.core.key_map cimport key_map, key_map_find
from velox.core.records cimport Report, Transaction

cdef extern from *:
    """
    #ifndef VELOX_WIDE_INCLUDED
    #define VELOX_WIDE_INCLUDED
    typedef __int128 velox_wide_int;
    #endif
    """
    # Never converted to a Python object by Cython: it would be cut to 64 bits.
    ctypedef long long wide "velox_wide_int"

cdef enum:
    ORDER_FREE = 0
    ORDER_SENT = 1
    ORDER_OPEN = 2
    ORDER_PARTIAL = 3
    ORDER_CANCELLING = 4
    ORDER_UNKNOWN = 5
    ORDER_GONE = 6

# The flags of a slot.
cdef enum:
    ORDER_PLACED = 1            # the venue has had it
    ORDER_CANCEL_SENT = 2       # a cancel was sent and not refused
    ORDER_ADOPTED = 4           # a resync named it; this table did not send it
    ORDER_UNNAMED = 8           # a resync under way has not named it

# Why an order cannot be sent; velox.core.orders.OrderRefusal documents each.
cdef enum:
    REFUSAL_NONE = 0
    REFUSAL_ID_ZERO = 1
    REFUSAL_ID_IN_USE = 2
    REFUSAL_TABLE_FULL = 3

# What a report did; velox.core.orders.ReportOutcome documents each. A strategy is shown a report
# whose outcome is at most OUTCOME_LAST_SHOWN.
cdef enum:
    OUTCOME_TAKEN = 0
    OUTCOME_LATE_FILL = 1
    OUTCOME_FOREIGN_FILL = 2
    OUTCOME_OVERFILLED = 3
    OUTCOME_LAST_SHOWN = 3
    OUTCOME_DOUBLED = 4
    OUTCOME_REPEATED = 5
    OUTCOME_LATE = 6
    OUTCOME_UNKNOWN_ID = 7
    OUTCOME_STALE = 8
    OUTCOME_MALFORMED = 9
    OUTCOME_NO_SLOT = 10
    OUTCOMES = 11

cdef enum:
    ORDER_MARKETS = 256
    MIN_ORDERS = 64
    MAX_ORDERS = 4096
    SEEN_REPORTS = 4096         # sequences that are remembered, over all markets
    SEEN_BITS = 13              # of the table that finds them, twice as large

cdef struct order_slot:
    uint64_t id
    int64_t price
    uint32_t leaves
    uint32_t filled
    int64_t ahead
    uint64_t sent_ns
    uint8_t state
    uint8_t side
    uint8_t flags
    uint8_t market
    uint32_t reason
    uint64_t venue_ns
    uint64_t sequence

cdef struct market_account:
    wide inventory
    wide cash
    wide fees
    int64_t open[2]
    int64_t best[2]
    int64_t base_unit
    uint64_t covered
    uint64_t forgotten
    uint64_t doubtful
    uint64_t version
    uint32_t live
    uint32_t resyncing
    uint64_t gate[16]

cdef struct seen_report:
    uint64_t sequence
    uint64_t market

cdef struct order_table:
    order_slot *slots
    market_account *accounts        # ORDER_MARKETS
    uint32_t capacity
    uint32_t used                   # slots that were ever used: the first ones
    uint64_t live                   # orders that are not gone
    key_map by_id
    # Slots of orders that are gone, the oldest first: a ring of `capacity`.
    uint32_t *gone
    uint64_t gone_head
    uint64_t gone_tail
    # The numbers of reports that were taken, the oldest first: a ring of SEEN_REPORTS.
    seen_report *seen
    uint64_t seen_head
    key_map by_sequence
    # The table's own thread writes these.
    atomic_u64 sent                 # = in flight + placed + rejected
    atomic_u64 placed
    atomic_u64 rejected
    atomic_u64 adopted
    atomic_u64 finished             # orders that are gone, sent or adopted
    atomic_u64 cancels
    atomic_u64 outcomes[OUTCOMES]


cdef order_table *order_table_new(uint32_t capacity) noexcept nogil
cdef void order_table_free(order_table *self) noexcept nogil
# The best price of a side without orders: a bid below all, an ask above all.
cdef int64_t no_best(uint8_t side) noexcept nogil
# Put an order of kind ADD into the table; return its slot. It must not be refused.
cdef uint32_t orders_sent(order_table *self, const Transaction *order,
                          uint64_t now_ns) noexcept nogil
# Note that a cancel was sent; return the slot of its order, or UINT32_MAX if it is not live.
cdef uint32_t orders_cancel_sent(order_table *self, const Transaction *order) noexcept nogil
# Take a report of any kind from KIND_PLACED to KIND_RESYNC, except KIND_TIMER. Return what it did;
# `slot` becomes the slot of its order, or UINT32_MAX.
cdef uint32_t orders_report(order_table *self, const Report *report, uint32_t *slot) noexcept nogil
# A sum as 64 bits; the nearest one if it does not fit.
cdef int64_t saturated(wide value) noexcept nogil
cdef object wide_to_int(wide value)


cdef inline uint32_t orders_refusal(const order_table *self, uint64_t id) noexcept nogil:
    """Why an order with this id cannot be sent, or REFUSAL_NONE."""
    cdef uint32_t at
    if id == 0:
        return REFUSAL_ID_ZERO
    at = key_map_find(&self.by_id, id, 0)
    if at != UINT32_MAX and self.slots[at].state != ORDER_GONE:
        return REFUSAL_ID_IN_USE
    # The slot of its own predecessor, which is gone, is one of the free ones.
    return REFUSAL_TABLE_FULL if self.live == self.capacity else REFUSAL_NONE


cdef class OrderTable:
    cdef order_table *table
