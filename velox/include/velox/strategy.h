/* The strategy of a Velox pipeline, as any language that makes a C function pointer sees it.

   Between the order book and the bundles stands the strategy: a function that is called on the
   book's thread after each record that the book applied. It reads the record and the book, writes
   the transactions that shall leave, and returns how many. It must not block, allocate or take the
   GIL: it runs at the pipeline's speed.

   This header is the ABI. It needs nothing of Python or of Cython. */

#ifndef VELOX_STRATEGY_H
#define VELOX_STRATEGY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The name of a PyCapsule that holds a velox_strategy; its context is the user_data. */
#define VELOX_STRATEGY_CAPSULE "velox_strategy/2"

/* The room that a strategy has for what it emits at one record. It lies in the ring behind the
   strategy: a pointer into it is of no use after the call. A strategy finds zeros there, except what
   an earlier call wrote and did not return. A write past the room overwrites other memory. */
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
    uint64_t ingress_ts_ns; /* left 0 in what a strategy emits: that of the record is taken */
} velox_transaction;

/* The book of the record's market, after the record, 80 bytes:

     0  bid_price       8  bid_quantity    16  ask_price     24  ask_quantity
    32  position       40  now_ns          48  tick_size     56  market (u64)
    64  book           72  depth

   A quantity of 0 says that the side is empty; its price is then 0. */
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

/* Returns how many transactions it wrote to out, 0 to room; less than 0 stops the pipeline with a
   StrategyError that carries the number. Each transaction must have a known kind, side and market, a
   size where its kind adds or takes, and a price on the market's tick grid where its kind has one
   (CLEAR and TRADE have none). Others are blocked and counted, or stop the pipeline: on_bad_order.
   What the book applied may always be forwarded. */
typedef int32_t (*velox_strategy)(const velox_transaction *record, const velox_book_view *book,
                                  velox_transaction *out, uint32_t room, void *user_data);

#ifndef __cplusplus
_Static_assert(sizeof(velox_transaction) == 32, "velox_transaction is 32 bytes");
_Static_assert(sizeof(velox_book_view) == 80, "velox_book_view is 80 bytes");
#endif

#ifdef __cplusplus
}
#endif

#endif
