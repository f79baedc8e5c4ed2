/* Transfer fees of a Token-2022 mint, as a swap takes them into account.
 *
 * Behind the account type at 165, extensions follow one another:
 *
 *     0 kind u16     2 length u16     4 its bytes
 *
 * and those of kind 1, the transfer fee, are
 *
 *     0 authorities 2 x 32     64 withheld u64     72 older fee 18     90 newer fee 18
 *
 * a fee being its first epoch u64, its most atoms u64, and hundredths of a percent u16.
 */
#include "market.h"

#define EXTENSIONS_AT 166
#define TRANSFER_FEE 1
#define TRANSFER_FEE_BYTES 108
#define NEWER_AT 90
#define WHOLE 10000ull

/* The newer fee, or 0 where there is none. The real program takes it in every epoch, also in those
 * in which Token-2022 still takes the older one; so does this one. */
static const u8 *newer_fee(const struct account *mint)
{
    if (!mint)
        return 0;
    const u8 *at = mint->data + EXTENSIONS_AT, *end = mint->data + *mint->length;
    while (at + 4 <= end) {
        u64 kind = read_u16(at), length = read_u16(at + 2);
        at += 4;
        if (at + length > end)
            break;
        if (kind == TRANSFER_FEE && length == TRANSFER_FEE_BYTES)
            return at + NEWER_AT;
        at += length;
    }
    return 0;
}

/* ceil(a x b / c); `c` has at most 32 bits. */
static void scale(u64 a, u64 b, u64 c, struct wide *result)
{
    struct wide product, divisor = {c, 0}, rest;
    multiply(a, b, &product);
    wide_divide(&product, &divisor, result, &rest);
    if (rest.low) {
        result->low++;
        if (result->low == 0)
            result->high++;
    }
}

u64 after_fee(const struct account *mint, u64 atoms)
{
    const u8 *fee = newer_fee(mint);
    struct wide taken;
    if (!fee)
        return atoms;
    u64 most = read_u64(fee + 8);
    scale(atoms, read_u16(fee + 16), WHOLE, &taken);
    return atoms - (taken.high == 0 && taken.low < most ? taken.low : most);
}

u64 before_fee(const struct account *mint, u64 atoms)
{
    const u8 *fee = newer_fee(mint);
    struct wide sent;
    if (!fee || atoms == 0)
        return atoms;
    u64 most = read_u64(fee + 8), part = read_u16(fee + 16);
    if (part < WHOLE) {
        scale(atoms, WHOLE, WHOLE - part, &sent);
        struct wide taken = {sent.low - atoms, sent.high - (sent.low < atoms)};
        if (taken.high == 0 && taken.low < most)
            return sent.high == 0 ? sent.low : atoms;
    }
    /* The fee is at its most; what needs more than 64 bits is left as it is. */
    return atoms + most < atoms ? atoms : atoms + most;
}
