/* Placing, filling, cancelling.
 *
 * The best order of a side is the rightmost node of its tree. Equal prices hang to the left, so
 * that walking to the predecessor meets them first in, first out.
 *
 * Quote atoms of a fill are rounded for the taker if the maker is filled whole, else against it:
 *
 *     maker filled   taker buys   taker sells
 *     whole          down         up
 *     in part        up           down
 *
 * A bid locks its quote rounded up. If a sale takes less from it than it then no longer locks, its
 * maker gets the difference.
 */
#include "market.h"

static inline int is_reverse(u8 type) { return type >= REVERSE; }

/* Lock the funds of an order that will rest. */
static status lock(u32 seat, int is_bid, const struct wide *price, u64 atoms)
{
    u64 locked = atoms;
    if (is_bid)
        TRY(quote_for_base(price, atoms, 1, &locked));
    return debit(seat, !is_bid, locked);
}

/* Hang a new order into its side's tree. */
__attribute__((noinline)) static status rest(const struct order *order, u32 *index)
{
    struct tree tree = orders_of(order->is_bid);
    u32 parent = NOWHERE, at = *tree.root;
    int right = 0;
    while (at != NOWHERE) {
        const struct order *other = order_at(at);
        parent = at;
        right = order->is_bid ? wide_less(other->price, order->price)
                              : wide_less(order->price, other->price);
#ifdef MUTANT_LAST_IN_FIRST_OUT
        right = right || wide_equal(order->price, other->price);
#endif
        at = right ? other->node.right : other->node.left;
    }
    charge(CHARGE_REST);
    u32 block = take_block();
    if (block == NOWHERE)
        return NO_FREE_BLOCK;
    copy_words(order_at(block), order, BLOCK_BYTES);
    tree_insert(&tree, block, parent, right);
    *index = block;
    return OK;
}

static void take_out(u32 index)
{
    charge(CHARGE_REMOVAL);
    struct tree tree = orders_of(order_at(index)->is_bid);
    tree_remove(&tree, index);
    release_block(index);
}

status cancel(u32 index)
{
    const struct order *order = order_at(index);
    u64 locked = order->atoms;
    if (order->is_bid)
        TRY(quote_for_base(&order->price, order->atoms, 1, &locked));
    TRY(credit(order->seat, !order->is_bid, locked));
    take_out(index);
    return OK;
}

status cancel_by_sequence(u32 seat, u64 sequence)
{
    u32 found = NOWHERE;
    for (int is_bid = 0; is_bid < 2; is_bid++)
        for (u32 at = *orders_of(is_bid).best; at != NOWHERE; at = tree_before(G->blocks, at)) {
            charge(CHARGE_SEARCH);
#ifdef MUTANT_CANCELS_FOR_ANYBODY
            if (order_at(at)->sequence == sequence && seat != NOWHERE)
#else
            if (order_at(at)->sequence == sequence && order_at(at)->seat == seat)
#endif
                found = at;
        }
    if (found == NOWHERE)
        return INVALID_CANCEL;
    return cancel(found);
}

static inline int within_one(const struct wide *a, const struct wide *b)
{
    struct wide low = wide_less(*a, *b) ? *a : *b, high = wide_less(*a, *b) ? *b : *a;
    low.low++;
    if (low.low == 0)
        low.high++;
    return !wide_less(low, high);
}

/* An order of the same seat and type on the way to `order`'s place, at most 1 off in price. */
__attribute__((noinline)) static u32 find_twin(const struct order *order)
{
    u32 top = *orders_of(order->is_bid).root, at = top;
    /* Equal prices may lie on both sides of one another: left first, then back up to the right. */
    while (at != NOWHERE) {
        const struct order *other = order_at(at);
        if (other->seat == order->seat && other->type == order->type &&
            within_one(&other->price, &order->price))
            return at;
        int equal = wide_equal(other->price, order->price);
        int right = order->is_bid ? wide_less(other->price, order->price)
                                  : wide_less(order->price, other->price);
        u32 next = right ? other->node.right : other->node.left;
        if (equal && next == NOWHERE)
            next = other->node.right;
        while (next == NOWHERE && at != top) {
            u32 above = order_at(at)->node.parent;
            const struct order *father = order_at(above);
            if (father->node.left == at && wide_equal(father->price, order->price))
                next = father->node.right;
            at = above;
        }
        at = next;
    }
    return NOWHERE;
}

/* Place what comes back from a reverse order of which `base` atoms were filled for `quote`. */
__attribute__((noinline)) static status come_back(const struct order *maker, u64 base, u64 quote)
{
    struct order *order = (struct order *)G->buffer;
    int is_bid = !maker->is_bid, is_tight = maker->type == REVERSE_TIGHT;
    clear_words(order, BLOCK_BYTES);
    order->node.kind = ORDER;
    order->seat = maker->seat;
    order->type = maker->type;
    order->spread = maker->spread;
    order->is_bid = (u8)is_bid;
    TRY(reverse_price(&maker->price, !is_bid, is_tight, maker->spread, &order->price));
    order->atoms = base;
    if (is_bid)
        TRY(base_for_quote(&order->price, quote, 0, &order->atoms));
    if (order->atoms == 0)
        return OK;
    u32 index = find_twin(order);
    if (index != NOWHERE) {
        struct order *twin = order_at(index);
        /* The sum is checked before the funds, as in the real program. */
        u64 merged = twin->atoms + order->atoms;
        if (merged < order->atoms)
            return OVERFLOW;
        /* As the real program does: at the new order's price, though the twin's may be 1 off. */
        TRY(lock(twin->seat, is_bid, &order->price, order->atoms));
        twin->atoms = merged;
        return OK;
    }
#ifdef MUTANT_FREE_REVERSE
    order->sequence = G->header->next_sequence++;
    return rest(order, &index);
#endif
    order->sequence = G->header->next_sequence++;
    TRY(lock(order->seat, is_bid, &order->price, order->atoms));
    return rest(order, &index);
}

/* Fill G->request against the order `index`; the remaining atoms of the request are reduced. */
__attribute__((noinline)) static status fill(u32 index, u64 *remaining)
{
    const struct request *taker = &G->request;
    struct order *maker = order_at(index);
    u32 seat = maker->seat;
    int is_bid = taker->is_bid, whole = *remaining >= maker->atoms;
    u64 base = whole ? maker->atoms : *remaining, quote;
    TRY(quote_for_base(&maker->price, base, is_bid != whole, &quote));
    charge(CHARGE_FILL);
    G->placed.base += base;
    G->placed.quote += quote;
    if (G->placed.quote < quote)
        return OVERFLOW;
    if (!is_bid) {
        u64 before, after;
        charge(CHARGE_SALE);
        TRY(quote_for_base(&maker->price, maker->atoms, 1, &before));
        TRY(quote_for_base(&maker->price, maker->atoms - base, 1, &after));
#ifndef MUTANT_NO_BONUS
        TRY(credit(seat, 0, before - after - quote));
#endif
    }
    TRY(credit(seat, !is_bid, is_bid ? quote : base));
    TRY(debit(taker->seat, !is_bid, is_bid ? quote : base));
    TRY(credit(taker->seat, is_bid, is_bid ? base : quote));
    seat_at(seat)->volume += quote;
    seat_at(taker->seat)->volume += quote;
    log_fill(maker, base, quote, G->header->next_sequence);
    *remaining -= base;
    struct order filled;
    copy_words(&filled, maker, BLOCK_BYTES);
    if (whole)
        take_out(index);
    else
        maker->atoms -= base;
    if (is_reverse(filled.type))
        TRY(come_back(&filled, base, quote));
    return OK;
}

static inline int is_expired(const struct order *order)
{
#ifdef MUTANT_EXPIRES_EARLY
    return order->last_slot != 0 && order->last_slot <= G->slot;
#else
    return order->last_slot != 0 && order->last_slot < G->slot;
#endif
}

static inline int is_beyond(const struct order *maker, const struct request *taker)
{
    return taker->is_bid ? wide_less(taker->price, maker->price)
                         : wide_less(maker->price, taker->price);
}

status place(void)
{
    const struct request *request = &G->request;
    struct placed *placed = &G->placed;
    u64 remaining = request->atoms;
    int is_bid = request->is_bid;
    if (request->seat == NOWHERE)
        return SEAT_MISSING;
    if (!is_reverse(request->type) && request->last_slot && request->last_slot <= G->slot)
        return ALREADY_EXPIRED;
    charge(CHARGE_PLACE);
    placed->base = 0;
    placed->quote = 0;
    placed->index = NOWHERE;
    const u32 *best = orders_of(!is_bid).best;
    while (remaining && *best != NOWHERE) {
        const struct order *maker = order_at(*best);
        if (is_expired(maker)) {
            TRY(cancel(*best));
            continue;
        }
        if (is_beyond(maker, request))
            break;
        if (request->type == POST_ONLY || request->type == GLOBAL)
            return POST_ONLY_CROSSES;
        TRY(fill(*best, &remaining));
    }
    G->header->quote_volume += placed->quote;
    placed->sequence = G->header->next_sequence++;
    if (request->type == IMMEDIATE_OR_CANCEL || remaining == 0 || wide_zero(request->price))
        return OK;
    TRY(lock(request->seat, is_bid, &request->price, remaining));
    struct order *order = (struct order *)G->buffer;
    clear_words(order, BLOCK_BYTES);
    order->node.kind = ORDER;
    order->price = request->price;
    order->atoms = remaining;
    order->sequence = placed->sequence;
    order->seat = request->seat;
    order->is_bid = (u8)is_bid;
    order->type = request->type;
    if (is_reverse(request->type))
        order->spread = (u16)request->last_slot;
    else
        order->last_slot = request->last_slot;
    return rest(order, &placed->index);
}

status base_for_quote_on_book(int is_bid, int up, u64 quote, u64 *base)
{
    u64 total = 0;
    charge(CHARGE_ESTIMATE);
    for (u32 at = *orders_of(!is_bid).best; at != NOWHERE; at = tree_before(G->blocks, at)) {
        const struct order *maker = order_at(at);
        u64 wanted, taken;
        charge(CHARGE_ESTIMATE);
        if (is_expired(maker))
            continue;
        TRY(base_for_quote(&maker->price, quote, up, &wanted));
        int whole = wanted >= maker->atoms;
        u64 matched = whole ? maker->atoms : wanted;
        if (total + matched < total)
            return OVERFLOW;
        total += matched;
        if (!whole)
            break;
        TRY(quote_for_base(&maker->price, matched, is_bid != whole, &taken));
        if (taken > quote)
            return OVERFLOW;
        quote -= taken;
    }
    *base = total;
    return OK;
}
