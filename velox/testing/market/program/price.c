/* What atoms cost: a price is quote atoms for 10^18 base atoms, in 128 bits. */
#include "market.h"

static const u64 powers_of_ten[] = {
    1ull,
    10ull,
    100ull,
    1000ull,
    10000ull,
    100000ull,
    1000000ull,
    10000000ull,
    100000000ull,
    1000000000ull,
    10000000000ull,
    100000000000ull,
    1000000000000ull,
    10000000000000ull,
    100000000000000ull,
    1000000000000000ull,
    10000000000000000ull,
    100000000000000000ull,
    1000000000000000000ull,
};

status price_of(u32 mantissa, int exponent, int highest, struct wide *price)
{
    if (exponent > highest)
        return EXPONENT_TOO_HIGH;
    if (exponent < -PRICE_DECIMALS)
        return EXPONENT_TOO_LOW;
    u64 zeros = (u64)(exponent + PRICE_DECIMALS), first = zeros;
    if (first > PRICE_DECIMALS)
        first = PRICE_DECIMALS;
    multiply(mantissa, powers_of_ten[first], price);
    if (zeros > first)
        wide_multiply(price, powers_of_ten[zeros - first], price);
    return OK;
}

status quote_for_base(const struct wide *price, u64 base, int up, u64 *quote)
{
    static const struct wide one = {ONE, 0};
    struct wide product, result, rest;
    if (!wide_multiply(price, base, &product))
        return PRICE_OVERFLOW;
    wide_divide(&product, &one, &result, &rest);
#ifdef MUTANT_ROUND_DOWN
    up = 0;
#endif
    if (up && rest.low) {
        result.low++;
        if (result.low == 0)
            result.high++;
    }
    if (result.high)
        return ATOMS_OVERFLOW;
    *quote = result.low;
    return OK;
}

status base_for_quote(const struct wide *price, u64 quote, int up, u64 *base)
{
    struct wide product, result, rest;
    if (wide_zero(*price))
        return BASE_OVERFLOW;
    multiply(quote, ONE, &product);
    wide_divide(&product, price, &result, &rest);
    if (up && !wide_zero(rest)) {
        result.low++;
        if (result.low == 0)
            result.high++;
    }
    if (result.high)
        return BASE_OVERFLOW;
    *base = result.low;
    return OK;
}

#define SPREAD_UNITS 100000ull
#define TIGHT_SPREAD_UNITS 100000000ull

status reverse_price(const struct wide *price, int to_ask, int is_tight, u64 spread,
                     struct wide *result)
{
    u64 units = is_tight ? TIGHT_SPREAD_UNITS : SPREAD_UNITS;
    struct wide product, rest, divisor = {to_ask ? units - spread : units, 0};
    if (!wide_multiply(price, to_ask ? units : units - spread, &product))
        return PRICE_OVERFLOW;
    wide_divide(&product, &divisor, result, &rest);
    if (!to_ask && rest.low) {
        result->low++;
        if (result->low == 0)
            result->high++;
    }
    return OK;
}
