/* The strategy of a Velox pipeline, for any language that can make a C function pointer.

   A strategy is a function between the order book and the bundles. The pipeline calls it on the
   book's thread after each record that the book applied. The function reads the record and the
   book, writes the records to emit, and returns how many. It must not block, allocate or take the
   GIL: it runs at the pipeline's speed.

   There are two versions of the ABI. A strategy of version 2 sees market records alone. A strategy
   of version 3 also gets reports of its orders and timers, through the same function, and a longer
   view.

   This header is the ABI. It needs neither Python nor Cython. */

#ifndef VELOX_STRATEGY_H
#define VELOX_STRATEGY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The name of a PyCapsule that holds a velox_strategy; its context is the user_data. */
#define VELOX_STRATEGY_CAPSULE "velox_strategy/2"

/* The name of a PyCapsule that holds a velox_feedback_strategy; its context is the user_data. */
#define VELOX_FEEDBACK_CAPSULE "velox_strategy/3"

/* How many records a strategy can emit in one call. `out` lies in the ring behind the strategy: do
   not keep a pointer into it after the call. `out` holds zeros, except for records that an earlier
   call wrote and did not return. A write past `room` overwrites other memory. */
#define VELOX_STRATEGY_ROOM 16

enum { VELOX_BID = 0, VELOX_ASK = 1 };

/* Kinds of records. From 16 on they are reports, which no book takes. */
enum {
    VELOX_ADD = 0,
    VELOX_CANCEL = 1,
    VELOX_EXECUTE = 2,
    VELOX_SET = 3,
    VELOX_SET_WIDE = 4,
    VELOX_DELETE = 5,
    VELOX_CLEAR = 6,
    VELOX_TRADE = 7,
    VELOX_PLACED = 16,
    VELOX_FILLED = 17,
    VELOX_CANCELLED = 18,
    VELOX_REJECTED = 19,
    VELOX_CANCEL_REJECTED = 20,
    VELOX_EXPIRED = 21,
    VELOX_BLOCKED = 22,
    VELOX_UNKNOWN = 23,
    VELOX_TIMER = 24,
    VELOX_RESYNC = 25
};

/* 32 bytes; drawn in velox/core/records.pxd. */
typedef struct __attribute__((packed)) velox_transaction {
    uint64_t id;
    int64_t price;          /* 10^-price_decimals of the quote currency; 1e-4 by default */
    uint32_t size;          /* lots */
    uint8_t side;           /* 0 bid, 1 ask */
    uint8_t kind;           /* VELOX_ADD and so on */
    uint8_t flags;
    uint8_t market;
    uint64_t ingress_ts_ns; /* 0 in an emitted record: the time of the input record is taken */
} velox_transaction;

/* The book of the record's market, after the record, 80 bytes:

     0  bid_price       8  bid_quantity    16  ask_price     24  ask_quantity
    32  position       40  now_ns          48  tick_size     56  market (u64)
    64  book           72  depth

   A quantity of 0 means that the side is empty; its price is then 0. */
typedef struct velox_book_view {
    int64_t bid_price;
    int64_t bid_quantity;
    int64_t ask_price;
    int64_t ask_quantity;
    uint64_t position;      /* records that this book's stage has taken so far, this one included */
    uint64_t now_ns;        /* the pipeline's clock when it took the batch that holds the record */
    int64_t tick_size;      /* in the unit of prices */
    uint64_t market;
    void *book;             /* for depth */
    /* Copies the best n levels of a side, best first. Returns how many it copied; 0 for a side that
       is neither 0 nor 1. */
    int64_t (*depth)(void *book, uint8_t side, int64_t n, int64_t *prices, int64_t *quantities);
} velox_book_view;

/* Returns how many records it wrote to out, 0 to room. A negative number stops the pipeline with a
   StrategyError that carries the number.

   Each record needs a known kind, a side, and a market that has a book. Kinds 0 to 2 need a size.
   Kinds 0 to 5 need a positive price on the market's tick grid. Other records are blocked and
   counted, or stop the pipeline: see the setting on_bad_order. A record that the book applied may
   always be forwarded. */
typedef int32_t (*velox_strategy)(const velox_transaction *record, const velox_book_view *book,
                                  velox_transaction *out, uint32_t room, void *user_data);

/* The state of an order. */
enum {
    VELOX_ORDER_FREE = 0,       /* the slot has held no order yet */
    VELOX_ORDER_SENT = 1,
    VELOX_ORDER_OPEN = 2,
    VELOX_ORDER_PARTIAL = 3,
    VELOX_ORDER_CANCELLING = 4,
    VELOX_ORDER_UNKNOWN = 5,    /* nobody knows what became of it: it stays exposed */
    VELOX_ORDER_GONE = 6        /* it has ended; its fields stay until the slot is needed */
};

/* One order of the strategy, 64 bytes:

     0  id              8  price           16  leaves (u32)  20  filled (u32)
    24  ahead          32  sent_ns         40  state, side, flags, market (u8 each)
    44  reason (u32)   48  venue_ns        56  sequence

   A slot whose state is VELOX_ORDER_FREE or VELOX_ORDER_GONE holds no working order. */
typedef struct velox_order {
    uint64_t id;
    int64_t price;
    uint32_t leaves;        /* lots that can still be filled */
    uint32_t filled;        /* lots filled so far */
    int64_t ahead;          /* lots before it in its level's queue; -1: not known */
    uint64_t sent_ns;       /* the pipeline's clock when the order left the strategy */
    uint8_t state;
    uint8_t side;
    uint8_t flags;
    uint8_t market;
    uint32_t reason;        /* why it was rejected or blocked */
    uint64_t venue_ns;      /* the venue's time of its last report; 0: not known */
    uint64_t sequence;      /* of its last report; 0: none yet */
} velox_order;

/* What is known of the feed of a market: 0, or the sum of some of these. */
enum {
    VELOX_FEED_UNKNOWN = 1, /* no record applied yet, or the book has been cleared since */
    VELOX_FEED_CROSSED = 2, /* the best bid is at or over the best ask */
    VELOX_FEED_STALE = 4,   /* no record for longer than a limit */
    VELOX_FEED_GAP = 8      /* messages are missing */
};

/* The view of a strategy of version 3, 256 bytes. The book view is its head:

     0       1       2       3       4       5       6       7
    +-------+-------+-------+-------+-------+-------+-------+-------+
  0 | book: velox_book_view, 80 bytes                               |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 80 | size, 256                     | version, 3                    |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 88 | price_decimals                | feed_state                    |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 96 | inventory                                                     |
    +-------+-------+-------+-------+-------+-------+-------+-------+
104 | cash                                                          |
    +-------+-------+-------+-------+-------+-------+-------+-------+
112 | fees                                                          |
    +-------+-------+-------+-------+-------+-------+-------+-------+
120 | open_bid                                                      |
    +-------+-------+-------+-------+-------+-------+-------+-------+
128 | open_ask                                                      |
    +-------+-------+-------+-------+-------+-------+-------+-------+
136 | orders                                                        |
    +-------+-------+-------+-------+-------+-------+-------+-------+
144 | order_capacity                | order_slot                    |
    +-------+-------+-------+-------+-------+-------+-------+-------+
152 | timer_at_ns: the strategy may write it                        |
    +-------+-------+-------+-------+-------+-------+-------+-------+
160 | market_ns                                                     |
    +-------+-------+-------+-------+-------+-------+-------+-------+
168 | inventory_lots                                                |
    +-------+-------+-------+-------+-------+-------+-------+-------+
176 | reserved, 10 words of 0                                       |
    +-------+-------+-------+-------+-------+-------+-------+-------+

   A later version may only give names to reserved words, or grow at the end. Check `size` before
   you read a field that this version does not have. */
#define VELOX_VIEW_VERSION 3

typedef struct velox_view {
    velox_book_view book;
    uint32_t size;              /* bytes that the pipeline filled */
    uint32_t version;           /* VELOX_VIEW_VERSION */
    uint32_t price_decimals;    /* of this market, 0 to 18 */
    uint32_t feed_state;        /* VELOX_FEED_UNKNOWN and so on */
    int64_t inventory;          /* what the fills left, in the venue's own units of the base */
    int64_t cash;               /* in the venue's own units of the quote */
    int64_t fees;               /* paid, in the same units; under 0: received */
    int64_t open_bid;           /* lots sent or resting */
    int64_t open_ask;
    const velox_order *orders;  /* the slots of the order table, of all markets */
    uint32_t order_capacity;    /* how many slots; 0: there is no table */
    uint32_t order_slot;        /* of the order that this report is about; UINT32_MAX: none */
    /* When the strategy wants a timer for this market, on the pipeline's clock; 0: none. It holds
       until it fires or until the strategy writes another time. A time that has passed fires at
       once. */
    uint64_t timer_at_ns;
    uint64_t market_ns;         /* ingress_ts_ns of the market's last applied record; 0: none yet */
    int64_t inventory_lots;     /* the inventory in whole lots, rounded toward 0 */
    uint64_t reserved[10];
} velox_view;

/* A strategy of version 3. It is called after each applied record of a market, for each report of
   its orders (VELOX_PLACED and so on), and for each timer (VELOX_TIMER).

   In a report, `id` is the order's, `price` the price and `size` the lots of this event. `side` is
   the order's, `ingress_ts_ns` the time of arrival here. `record` points to the head of a
   velox_report.

   In a timer, `id` counts the timers from 1. `size` is how many periods it stands for: more than 1
   if the pipeline was late, 0 if the strategy asked for it. `market` is the market of the view:
   with several markets, each has its own. `ingress_ts_ns` is when it was due. */
typedef int32_t (*velox_feedback_strategy)(const velox_transaction *record, velox_view *view,
                                           velox_transaction *out, uint32_t room,
                                           void *user_data);

/* A report: what became of an order. 128 bytes, drawn in velox/core/records.pxd, which says what
   each field means in each kind. */
typedef struct __attribute__((packed)) velox_report {
    velox_transaction record;
    int64_t base_amount;    /* of a fill, in the venue's own units, with VELOX_REPORT_AMOUNTS */
    int64_t quote_amount;
    int64_t fee;            /* under 0: a rebate */
    uint64_t sequence;      /* the source's number of this report; 0: none */
    uint64_t venue_ts_ns;   /* the venue's time of the event; 0: not known */
    uint64_t venue_order;   /* the venue's number of the order; 0: not known */
    int64_t ahead;          /* quantity in front of the order in its queue; -1: not known */
    uint32_t leaves;        /* lots still open */
    uint32_t reason;        /* a code of the source's */
    uint64_t reserved[4];   /* zeros */
} velox_report;

/* `flags` of a report. */
enum {
    VELOX_REPORT_MAKER = 1,     /* a fill of an order that rested */
    VELOX_REPORT_LAST = 2,      /* nothing of the order is left */
    VELOX_REPORT_AMOUNTS = 4,   /* base_amount and quote_amount are given */
    VELOX_REPORT_BEGIN = 8      /* of a VELOX_RESYNC: the first one */
};

/* Where a program in C gives its reports to a pipeline: what the capsule `pipeline.reports.capsule`
   holds. One thread alone may push. Returns how many were taken, from the front: fewer than n if
   the ring is full. Keep the rest, and push them again. */
#define VELOX_REPORTS_CAPSULE "velox_reports/1"

typedef struct velox_reports {
    void *ring;
    uint64_t (*push)(void *ring, const velox_report *reports, uint64_t n);
} velox_reports;

/* What a shared library says of a strategy, so that `--strategy lib.so:quote` can load it. The
   library exports a velox_strategy_info named `quote_info` beside the function `quote`. Without it,
   the function is of version 2 and takes no parameters. */
enum { VELOX_INT64 = 0, VELOX_UINT64 = 1, VELOX_FLOAT64 = 2 };

typedef struct velox_parameter {
    const char *name;
    uint32_t type;              /* VELOX_INT64 and so on; each takes 8 bytes */
    uint32_t offset;            /* in the state */
} velox_parameter;

typedef struct velox_strategy_info {
    uint32_t size;              /* sizeof(velox_strategy_info) */
    uint32_t version;           /* of the ABI: 2 or 3 */
    uint64_t state_size;        /* bytes of the state; the user_data is such a block, of zeros */
    const void *state;          /* the state's first value, or NULL for zeros */
    const velox_parameter *parameters;  /* settable by --param */
    uint64_t parameter_count;
} velox_strategy_info;

#ifndef __cplusplus
_Static_assert(sizeof(velox_transaction) == 32, "velox_transaction is 32 bytes");
_Static_assert(sizeof(velox_book_view) == 80, "velox_book_view is 80 bytes");
_Static_assert(sizeof(velox_order) == 64, "velox_order is 64 bytes");
_Static_assert(sizeof(velox_view) == 256, "velox_view is 256 bytes");
_Static_assert(offsetof(velox_view, timer_at_ns) == 152, "timer_at_ns is at 152");
_Static_assert(sizeof(velox_report) == 128, "velox_report is 128 bytes");
#endif

#ifdef __cplusplus
}
#endif

#endif
