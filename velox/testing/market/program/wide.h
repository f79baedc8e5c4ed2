/* Integers of 128 bits, without the library calls that the VM does not have. */
#ifndef VELOX_MARKET_WIDE_H
#define VELOX_MARKET_WIDE_H

#include "vm.h"

struct wide {
    u64 low, high;
};

static inline int wide_less(struct wide a, struct wide b)
{
    return a.high < b.high || (a.high == b.high && a.low < b.low);
}

static inline int wide_equal(struct wide a, struct wide b)
{
    return a.high == b.high && a.low == b.low;
}

static inline int wide_zero(struct wide a) { return (a.low | a.high) == 0; }

/* The whole product of two 64-bit integers. */
void multiply(u64 a, u64 b, struct wide *product);

/* `a` x `b`, or 0 where the product needs more than 128 bits. */
int wide_multiply(const struct wide *a, u64 b, struct wide *product);

/* `a` / `b` and the remainder, both of 128 bits. `b` is not 0. */
void wide_divide(const struct wide *a, const struct wide *b, struct wide *quotient,
                 struct wide *remainder);

#endif
