/* The market's blocks, the seats in them, and the seats' balances. */
#include "market.h"

void release_block(u32 index)
{
    u8 *block = G->blocks + index;
    clear_words(block, BLOCK_BYTES);
    *(u32 *)block = G->header->free;
    G->header->free = index;
}

u32 take_block(void)
{
    u32 index = G->header->free;
    if (index != NOWHERE)
        G->header->free = *(u32 *)(G->blocks + index);
    return index;
}

u64 free_blocks(u64 limit)
{
    u64 count = 0;
    for (u32 at = G->header->free; at != NOWHERE && count < limit; at = *(u32 *)(G->blocks + at)) {
        charge(CHARGE_FREE_BLOCK);
        count++;
    }
    return count;
}

/* Below, equal or above 0 as `a` comes before, with or after `b`, byte by byte. */
static int compare_keys(const struct key *a, const struct key *b)
{
    for (int word = 0; word < 4; word++)
        if (a->word[word] != b->word[word])
            return __builtin_bswap64(a->word[word]) < __builtin_bswap64(b->word[word]) ? -1 : 1;
    return 0;
}

u32 find_seat(const struct key *trader)
{
    u32 at = G->header->seats;
    while (at != NOWHERE) {
        int order = compare_keys(trader, &seat_at(at)->trader);
        if (order == 0)
            break;
        at = order < 0 ? seat_at(at)->node.left : seat_at(at)->node.right;
    }
    return at;
}

static inline struct tree seats(void)
{
    struct tree tree = {G->blocks, &G->header->seats, 0};
    return tree;
}

status add_seat(const struct key *trader, u32 *index)
{
    u32 parent = NOWHERE, at = G->header->seats;
    int right = 0;
    while (at != NOWHERE) {
        parent = at;
        right = compare_keys(trader, &seat_at(at)->trader) > 0;
        at = right ? seat_at(at)->node.right : seat_at(at)->node.left;
    }
    u32 block = take_block();
    if (block == NOWHERE)
        return NO_FREE_BLOCK;
    struct seat *seat = seat_at(block);
    clear_words(seat, BLOCK_BYTES);
    seat->node.kind = SEAT;
    copy_words(&seat->trader, trader, KEY_BYTES);
    struct tree tree = seats();
    tree_insert(&tree, block, parent, right);
    *index = block;
    return OK;
}

void remove_seat(u32 index)
{
    struct tree tree = seats();
    tree_remove(&tree, index);
    release_block(index);
}

status check_seat_hint(u32 index, const struct key *trader)
{
    if (index % BLOCK_BYTES)
        return WRONG_HINT;
    if ((u64)index + BLOCK_BYTES > *G->market->length - HEADER_BYTES)
        PANIC();
    if (seat_at(index)->node.kind != SEAT || !same_key(&seat_at(index)->trader, trader))
        return WRONG_HINT;
    return OK;
}

status credit(u32 index, int is_base, u64 atoms)
{
    struct seat *seat = seat_at(index);
    u64 *balance = is_base ? &seat->base : &seat->quote;
    u64 after = *balance + atoms;
    if (after < atoms)
        return OVERFLOW;
    *balance = after;
    return OK;
}

status debit(u32 index, int is_base, u64 atoms)
{
    struct seat *seat = seat_at(index);
    u64 *balance = is_base ? &seat->base : &seat->quote;
    if (*balance < atoms)
        return INSUFFICIENT_FUNDS;
    *balance -= atoms;
    return OK;
}
