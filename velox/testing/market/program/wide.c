/* Integers of 128 bits: schoolbook products of 32-bit digits, and Knuth's division.
 *
 * Division by at most 64 bits is algorithm D of The Art of Computer Programming, volume 2, 4.3.1,
 * with two 32-bit digits; a longer divisor leaves a quotient of 64 bits, which is estimated from
 * the leading bits and then corrected once.
 */
#include "wide.h"

#define LOW32 0xffffffffull

void multiply(u64 a, u64 b, struct wide *product)
{
    u64 a0 = a & LOW32, a1 = a >> 32, b0 = b & LOW32, b1 = b >> 32;
    u64 low = a0 * b0, cross = a1 * b0 + (low >> 32);
    u64 middle = a0 * b1 + (cross & LOW32);
    product->low = (middle << 32) | (low & LOW32);
    product->high = a1 * b1 + (cross >> 32) + (middle >> 32);
}

int wide_multiply(const struct wide *a, u64 b, struct wide *product)
{
    struct wide low, high;
    multiply(a->low, b, &low);
    if (a->high == 0) {
        *product = low;
        return 1;
    }
    multiply(a->high, b, &high);
    product->low = low.low;
    product->high = low.high + high.low;
    return high.high == 0 && product->high >= high.low;
}

static inline u64 leading_zeros(u64 x)
{
    u64 zeros = 0;
    for (u64 width = 32; width; width >>= 1)
        if (x >> (64 - width) == 0) {
            zeros += width;
            x <<= width;
        }
    return zeros;
}

/* One digit of the quotient: the three digits `top` (two) and `next`, by `divisor`, whose highest
 * bit is set. Replaces `top` by the two digits of the remainder. */
static inline u64 digit(u64 *top, u64 next, u64 divisor)
{
    u64 d1 = divisor >> 32, d0 = divisor & LOW32;
    u64 guess = *top / d1, rest = *top - guess * d1;
    while (guess > LOW32 || guess * d0 > ((rest << 32) | next)) {
        guess--;
        rest += d1;
        if (rest > LOW32)
            break;
    }
    *top = ((*top << 32) | next) - guess * divisor;
    return guess;
}

/* `high` x 2^64 + `low` by a `divisor` above `high` and with its highest bit set. */
static u64 divide_normalised(u64 high, u64 low, u64 divisor, u64 *remainder)
{
    u64 top = high;
    u64 first = digit(&top, low >> 32, divisor);
    u64 second = digit(&top, low & LOW32, divisor);
    *remainder = top;
    return (first << 32) | second;
}

void wide_divide(const struct wide *a, const struct wide *b, struct wide *quotient,
                 struct wide *remainder)
{
    u64 high = a->high, low = a->low, rest;
    if (b->high == 0) {
        u64 divisor = b->low;
        if (high == 0) {
            quotient->high = 0;
            quotient->low = low / divisor;
            remainder->low = low - quotient->low * divisor;
            remainder->high = 0;
            return;
        }
        quotient->high = high / divisor;
        high -= quotient->high * divisor;
        u64 shift = leading_zeros(divisor);
        if (shift) {
            divisor <<= shift;
            high = (high << shift) | (low >> (64 - shift));
            low <<= shift;
        }
        quotient->low = divide_normalised(high, low, divisor, &rest);
        remainder->low = rest >> shift;
        remainder->high = 0;
        return;
    }
    /* The quotient has at most 64 bits. Halving the dividend keeps its high word below the
     * divisor's leading 64 bits; the estimate is then right or one too great. */
    u64 shift = leading_zeros(b->high);
    u64 lead = shift ? (b->high << shift) | (b->low >> (64 - shift)) : b->high;
    u64 guess = divide_normalised(high >> 1, (high << 63) | (low >> 1), lead, &rest);
    guess >>= 63 - shift;
    if (guess)
        guess--;
    struct wide taken;
    wide_multiply(b, guess, &taken);
    u64 rest_low = low - taken.low;
    u64 rest_high = high - taken.high - (low < taken.low);
    struct wide left = {rest_low, rest_high};
    if (!wide_less(left, *b)) {
        guess++;
        rest_low = left.low - b->low;
        rest_high = left.high - b->high - (left.low < b->low);
    }
    quotient->low = guess;
    quotient->high = 0;
    remainder->low = rest_low;
    remainder->high = rest_high;
}
