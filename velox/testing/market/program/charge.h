/* Compute units that this program spends beyond its own work, so that it costs what the real
 * program costs. The figures are differences between the two, measured by
 * `python -m tests.verify.market.compute`; each is spent where its name says.
 */
#ifndef VELOX_MARKET_CHARGE_H
#define VELOX_MARKET_CHARGE_H

#include "vm.h"

enum {
    CHARGE_CREATE = 5550,
    CHARGE_TOKEN_VAULT = 1690, /* a vault of SPL Token; one of Token-2022 costs enough */
    VAULT_SEARCHES = 3,        /* not units: how often a vault's address is searched */
    CHARGE_SEAT = 1140,
    CHARGE_DEPOSIT = 2700,
    CHARGE_WITHDRAW = 3350,
    CHARGE_EXPAND = 900,
    CHARGE_FREE_BLOCK = 12,    /* a free block that is counted */
    CHARGE_GROWTH = 720,       /* each time that the market grows */
    CHARGE_BATCH = 1250,
    CHARGE_SWAP = 4080,
    CHARGE_TEMPORARY_SEAT = 720,
    CHARGE_SWAP_2022 = 850,    /* a side of Token-2022 */
    CHARGE_ESTIMATE = 250,     /* a swap of quote atoms, and each order that it looks at */
    CHARGE_PLACE = 350,
    CHARGE_REST = 70,
    CHARGE_CANCEL = 70,
    CHARGE_REMOVAL = 275,      /* an order leaves the book, filled, cancelled or expired */
    CHARGE_SEARCH = 50,        /* an order that a cancel without a hint passes */
    CHARGE_FILL = 148,
    CHARGE_SALE = 240,         /* a fill whose taker sells, beyond CHARGE_FILL */
};

/* Spend so many units, about: a turn of the loop is two instructions. */
static inline void charge(u64 units)
{
#ifdef MUTANT_FREE
    (void)units;
#else
    u64 turns = units / 2;
    do
        __asm__ volatile("" : "+r"(turns));
    while (--turns);
#endif
}

#endif
