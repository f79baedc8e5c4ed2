/* The strategy of a Velox pipeline, for any language that can make a C function pointer.

   A strategy is a function between the order book and the bundles. The pipeline calls it on the
   book's thread after each record that the book applied. The function reads the record and the
   book, writes the records to emit, and returns how many. It must not block, allocate or take the
   GIL: it runs at the pipeline's speed.

   This header is the ABI. It needs neither Python nor Cython. */

#ifndef VELOX_STRATEGY_H
#define VELOX_STRATEGY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The name of a PyCapsule that holds a velox_strategy; its context is the user_data. */
#define VELOX_STRATEGY_CAPSULE "velox_strategy/2"

/* How many records a strategy can emit in one call. `out` lies in the ring behind the strategy: do
   not keep a pointer into it after the call. `out` holds zeros, except for records that an earlier
   call wrote and did not return. A write past `room` overwrites other memory. */
#define VELOX_STRATEGY_ROOM 16

/* 32 bytes; drawn in velox/core/records.pxd. */
typedef struct __attribute__((packed)) velox_transaction {
    uint64_t id;
    int64_t price;          /* 1e-4 of the quote currency */
    uint32_t size;          /* lots */
    uint8_t side;           /* 0 bid, 1 ask */
    uint8_t kind;           /* 0 ADD, 1 CANCEL, 2 EXECUTE, 3 SET, 4 SET_WIDE, 5 DELETE, 6 CLEAR,
                               7 TRADE */
    uint8_t flags;
    uint8_t market;
    uint64_t ingress_ts_ns; /* 0 in an emitted record: the time of the input record is taken */
} velox_transaction;

/* What became of one of our orders, 128 bytes; drawn in velox/core/records.pxd. A record of a kind
   from 16 on is the head of one: 16 PLACED, 17 FILLED, 18 CANCELLED, 19 REJECTED,
   20 CANCEL_REJECTED, 21 EXPIRED, 22 BLOCKED, 23 UNKNOWN, 24 TIMER, 25 RESYNC. */
typedef struct velox_report {
    velox_transaction record;
    int64_t base_amount;    /* what was traded, in the venue's own units */
    int64_t quote_amount;   /* what was paid or received for it */
    int64_t fee;            /* in the unit of quote_amount; a rebate is negative */
    uint64_t sequence;      /* the source's number of this report; 0: none */
    uint64_t venue_ts_ns;   /* the venue's own time; 0: not known */
    uint64_t venue_order;   /* the venue's number of the order; 0: not known */
    int64_t ahead;          /* quantity in front of the order; -1: not known */
    uint32_t leaves;        /* lots still open */
    uint32_t reason;        /* why it was rejected, cancelled or blocked */
    uint64_t reserved[4];   /* zeros */
} velox_report;

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
    int64_t tick_size;      /* 1e-4 */
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

#ifndef __cplusplus
_Static_assert(sizeof(velox_transaction) == 32, "velox_transaction is 32 bytes");
_Static_assert(sizeof(velox_report) == 128, "velox_report is 128 bytes");
_Static_assert(sizeof(velox_book_view) == 80, "velox_book_view is 80 bytes");
#endif

#ifdef __cplusplus
}
#endif

#endif
