/* Events: a discriminant, then the fields, in one "Program data" line of the log.
 *
 *     create    136  market 8, creator 40, base mint 72, quote mint 104
 *     seat       72  market 8, trader 40
 *     deposit,  112  market 8, trader 40, mint 72, atoms 104
 *     withdraw
 *     cancel     80  market 8, trader 40, sequence 72
 *     place     120  market 8, trader 40, price 72, atoms 88, sequence 96, index u32 104,
 *                    last slot u32 108, type u8 112, is a bid u8 113, padding
 *     place v2  152  market 8, owner 40, payer 72, then as place
 *     fill      232  market 8, maker 40, taker 72, base mint 104, quote mint 136, price 168,
 *                    base atoms 184, quote atoms 192, maker's sequence 200, taker's 208,
 *                    taker buys u8 216, maker is global u8 217, padding
 */
#include "market.h"

#define WORDS(offset) (G->event + (offset) / 8)

/* The first eight bytes of each event, as a little-endian integer. */
#define CREATE_EVENT 0x47278f85060b1f21ull
#define SEAT_EVENT 0x38a390dad2984d81ull
#define DEPOSIT_EVENT 0xbc6d68342218d617ull
#define WITHDRAW_EVENT 0x23885f123f6fda70ull
#define CANCEL_EVENT 0xd7ffebf421474116ull
#define PLACE_EVENT 0x78a4132fd5f7769dull
#define PLACE_V2_EVENT 0x8d010588eb9f61bdull
#define FILL_EVENT 0xa904714b03f2e63aull

static inline void begin(u64 discriminant)
{
    G->event[0] = discriminant;
    copy_words(WORDS(8), G->market->key, KEY_BYTES);
}

/* What is no event, and logs that leave no room for one: only where a fault asks for it. */
static void log_garbage(u64 length)
{
    static const char text[] = "Program data: !!!! Program return: Program log: \\u001b[2J";
    static const u8 unknown[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    struct slice parts[3] = {{G->event, length - 1}, {unknown, 12}, {G->event, 0}};
    if (has_fault(GARBAGE_EVENTS)) {
        sol_log_(text, sizeof text - 1);
        sol_log_data(&parts[0], 1);
        sol_log_data(&parts[1], 1);
        sol_log_data(&parts[2], 1);
        sol_log_data(parts, 3);
        parts[0].length = length + 8;
        sol_log_data(&parts[0], 1);
    }
    if (has_fault(FLOODED_LOG))
        for (u64 line = 0; line < 10000 / sizeof text; line++)
            sol_log_(text, sizeof text - 1);
}

static inline void emit(u64 length)
{
    struct slice event = {G->event, length};
    log_garbage(length);
    sol_log_data(&event, 1);
}

void log_create(const struct key *creator)
{
    begin(CREATE_EVENT);
    copy_words(WORDS(40), creator, KEY_BYTES);
    copy_words(WORDS(72), &G->header->base_mint, 2 * KEY_BYTES);
    emit(136);
}

void log_seat(const struct key *trader)
{
    begin(SEAT_EVENT);
    copy_words(WORDS(40), trader, KEY_BYTES);
    emit(72);
}

void log_transfer(int is_deposit, const struct key *trader, const struct key *mint, u64 atoms)
{
    begin(is_deposit ? DEPOSIT_EVENT : WITHDRAW_EVENT);
    copy_words(WORDS(40), trader, KEY_BYTES);
    copy_words(WORDS(72), mint, KEY_BYTES);
    *WORDS(104) = atoms;
    emit(112);
}

void log_cancel(const struct key *trader, u64 sequence)
{
    begin(CANCEL_EVENT);
    copy_words(WORDS(40), trader, KEY_BYTES);
    *WORDS(72) = sequence;
    emit(80);
}

void log_place(const struct key *owner, const struct key *payer)
{
    const struct request *request = &G->request;
    u64 *at = WORDS(72);
    begin(payer ? PLACE_V2_EVENT : PLACE_EVENT);
    copy_words(WORDS(40), owner, KEY_BYTES);
    if (payer) {
        copy_words(at, payer, KEY_BYTES);
        at += 4;
    }
    at[0] = request->price.low;
    at[1] = request->price.high;
    at[2] = request->atoms;
    at[3] = G->placed.sequence;
    at[4] = (u64)G->placed.index | (u64)request->last_slot << 32;
    at[5] = (u64)request->type | (u64)request->is_bid << 8;
    emit(payer ? 152 : 120);
}

void log_fill(const struct order *maker, u64 base, u64 quote, u64 taker_sequence)
{
    begin(FILL_EVENT);
    copy_words(WORDS(40), &seat_at(maker->seat)->trader, KEY_BYTES);
    copy_words(WORDS(72), &seat_at(G->request.seat)->trader, KEY_BYTES);
    copy_words(WORDS(104), &G->header->base_mint, 2 * KEY_BYTES);
    *WORDS(168) = maker->price.low;
    *WORDS(176) = maker->price.high;
    *WORDS(184) = base;
    *WORDS(192) = quote;
    *WORDS(200) = maker->sequence;
    *WORDS(208) = taker_sequence;
    *WORDS(216) = !maker->is_bid;
    *WORDS(224) = 0;
    emit(232);
}
