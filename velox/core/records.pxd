"""The three records that travel through Velox, byte for byte the same in C, in a ring, in a NumPy
array and in a file. Little-endian, packed, without holes.

Record, 32 bytes::

     0       1       2       3       4       5       6       7
    +-------+-------+-------+-------+-------+-------+-------+-------+
  0 | id                                                            |
    +-------+-------+-------+-------+-------+-------+-------+-------+
  8 | price, in 1e-4 of the quote currency                          |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 16 | size, in lots                 | side  | kind  | flags | market|
    +-------+-------+-------+-------+-------+-------+-------+-------+
 24 | ingress_ts_ns                                                 |
    +-------+-------+-------+-------+-------+-------+-------+-------+

Bundle, 528 bytes::

     0       1       2       3       4       5       6       7
    +-------+-------+-------+-------+-------+-------+-------+-------+
  0 | transactions[16], 32 bytes each                               |
    |                                                               |
    +-------+-------+-------+-------+-------+-------+-------+-------+
512 | count, 1..16                  | reason                        |
    +-------+-------+-------+-------+-------+-------+-------+-------+
520 | sealed_ts_ns                                                  |
    +-------+-------+-------+-------+-------+-------+-------+-------+

Report, 128 bytes: what became of one of our orders. It starts with a record, so a strategy gets a
report by the same pointer as a record of the market. What the account needs is in the first 64::

     0       1       2       3       4       5       6       7
    +-------+-------+-------+-------+-------+-------+-------+-------+
  0 | id: our order, or 0                                           |
    +-------+-------+-------+-------+-------+-------+-------+-------+
  8 | price: of the execution, or of the order                      |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 16 | size: lots of this event      | side  | kind  | flags | market|
    +-------+-------+-------+-------+-------+-------+-------+-------+
 24 | ingress_ts_ns: arrival here, by the pipeline's clock          |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 32 | base_amount: what was traded, with REPORT_AMOUNTS             |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 40 | quote_amount: what was paid or received for it                |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 48 | fee: signed, in the unit of quote_amount; a rebate is negative|
    +-------+-------+-------+-------+-------+-------+-------+-------+
 56 | sequence: the source's number of this report, or 0            |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 64 | venue_ts_ns: the venue's own time of the event, or 0          |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 72 | venue_order: the venue's number of the order, or 0            |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 80 | ahead: quantity in front of the order in its queue, or -1     |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 88 | leaves: lots still open       | reason                        |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 96 | reserved[4]: zeros                                            |
    +-------+-------+-------+-------+-------+-------+-------+-------+

velox.Kind says what `size` and `leaves` mean in each kind of report.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

cdef enum:
    BUNDLE_CAPACITY = 16

cdef enum:
    SIDE_BID = 0
    SIDE_ASK = 1

# The effect of a record on its level; velox.Kind documents each.
cdef enum:
    KIND_ADD = 0
    KIND_CANCEL = 1
    KIND_EXECUTE = 2
    KIND_SET = 3
    KIND_SET_WIDE = 4
    KIND_DELETE = 5
    KIND_CLEAR = 6
    KIND_TRADE = 7
    KINDS = 8                   # what a book takes; it rejects every other kind
    # What became of our orders. These start at REPORT_KINDS and never reach a book.
    KIND_PLACED = 16
    KIND_FILLED = 17
    KIND_CANCELLED = 18
    KIND_REJECTED = 19
    KIND_CANCEL_REJECTED = 20
    KIND_EXPIRED = 21
    KIND_BLOCKED = 22
    KIND_UNKNOWN = 23
    KIND_TIMER = 24
    KIND_RESYNC = 25
    REPORT_KINDS = 16
    REPORT_KINDS_END = 26

cdef enum:
    FLAG_MBP = 16
    FLAG_SNAPSHOT = 32
    FLAG_TOB = 64
    FLAG_LAST = 128

# The flags of a report; velox.ReportFlags documents each.
cdef enum:
    REPORT_MAKER = 1
    REPORT_LAST = 2
    REPORT_AMOUNTS = 4
    REPORT_BEGIN = 8

# Why a bundle was sealed; velox.SealReason documents each.
cdef enum:
    SEAL_SIZE = 0
    SEAL_TIMEOUT = 1
    SEAL_IDLE = 2
    SEAL_DRAIN = 3
    SEAL_REASONS = 4

# The result of applying a record to a book; velox.Rejection documents each.
cdef enum:
    STATUS_APPLIED = 0
    STATUS_KIND = 1
    STATUS_SIDE = 2
    STATUS_MARKET = 3
    STATUS_SIZE = 4
    STATUS_PRICE = 5
    STATUS_OFF_TICK = 6
    STATUS_OUT_OF_WINDOW = 7
    STATUS_UNDERFLOW = 8
    STATUS_OVERFLOW = 9
    STATUS_CROSSED = 10
    STATUS_BOOK_FULL = 11
    STATUSES = 12
    # Not a rejection: the bounded retries of a shared book ran out; the caller tries again.
    STATUS_TIMEOUT = 12

cdef packed struct Transaction:
    uint64_t id
    int64_t price
    uint32_t size
    uint8_t side
    uint8_t kind
    uint8_t flags
    uint8_t market
    uint64_t ingress_ts_ns

cdef packed struct Bundle:
    Transaction transactions[BUNDLE_CAPACITY]
    uint32_t count
    uint32_t reason
    uint64_t sealed_ts_ns

cdef packed struct Report:
    Transaction record
    int64_t base_amount
    int64_t quote_amount
    int64_t fee
    uint64_t sequence
    uint64_t venue_ts_ns
    uint64_t venue_order
    int64_t ahead
    uint32_t leaves
    uint32_t reason
    uint64_t reserved[4]

# Gives C access to a NumPy array. It checks `dtype` and contiguity, and raises RecordError. The
# pointer is valid while the caller holds the array.
cdef Transaction *transactions_of(object array, Py_ssize_t *count) except? NULL
cdef Bundle *bundles_of(object array, Py_ssize_t *count) except? NULL
cdef Report *reports_of(object array, Py_ssize_t *count) except? NULL
cdef object new_transactions(Py_ssize_t count)
cdef object new_bundles(Py_ssize_t count)
cdef object new_reports(Py_ssize_t count)
# A read-only array over memory that `owner` keeps alive.
cdef object view_transactions(const Transaction *first, Py_ssize_t count, object owner)
cdef object view_bundles(const Bundle *first, Py_ssize_t count, object owner)
cdef object view_reports(const Report *first, Py_ssize_t count, object owner)

cdef uint8_t transaction_fault(const Transaction *transaction) noexcept nogil
