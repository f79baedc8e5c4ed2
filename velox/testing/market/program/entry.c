/* The program's instructions. The first byte of the data is the tag:
 *
 *     tag                 data after it (an option is 0, or 1 and a u32)
 *       0 create          -
 *       1 claim a seat    ignored
 *       2 deposit         atoms u64, option of the seat's index
 *       3 withdraw        the same
 *       4 swap            in u64, out u64, base goes in u8, in is exact u8
 *       5 expand          - or free blocks u32
 *       6 batch           option of the seat's index
 *                         u32 n, n x (sequence u64, option of the order's index)     cancels
 *                         u32 n, n x (atoms u64, mantissa u32, exponent i8, bid u8,
 *                                     last slot u32, type u8)                         places
 *      13 swap v2         as swap; the second account is the owner, who signs too
 *
 * The data is checked whole before any account. A batch answers with u32 n, n x (sequence u64,
 * index u32), one for each place.
 */
#include "market.h"

enum {
    CREATE = 0,
    CLAIM_SEAT = 1,
    DEPOSIT = 2,
    WITHDRAW = 3,
    SWAP = 4,
    EXPAND = 5,
    BATCH = 6,
    SWAP_V2 = 13,
};

#define PLACE_BYTES 19
#define HIGHEST_EXPONENT 8
#define DECIMALS_AT 44 /* of a mint */
#define BALANCE_AT 64  /* of a token account */

/* Reading the data. A read beyond its end gives 0 and sets `failed`. */
struct reader {
    const u8 *at, *end;
    u64 failed;
};

static inline const u8 *take(struct reader *reader, u64 bytes)
{
    const u8 *at = reader->at;
    if ((u64)(reader->end - at) < bytes) {
        reader->failed = 1;
        reader->at = reader->end;
        return (const u8 *)&reader->failed; /* eight readable bytes */
    }
    reader->at = at + bytes;
    return at;
}

static inline int read_flag(struct reader *reader)
{
    u8 flag = *take(reader, 1);
    if (flag > 1)
        reader->failed = 1;
    return flag == 1;
}

/* NOWHERE where there is none; *given tells whether there is one. */
static inline u32 read_option(struct reader *reader, int *given)
{
    *given = read_flag(reader);
    return *given ? read_u32(take(reader, 4)) : NOWHERE;
}

static inline int is_read_whole(const struct reader *reader)
{
    return !reader->failed && reader->at == reader->end;
}

static inline struct reader read_data(void)
{
    struct reader reader = {G->data + 1, G->data + G->data_length, 0};
    return reader;
}

/* The time of the instruction. */
static void read_clock(void)
{
    u64 clock[5];
    sol_get_clock_sysvar(clock);
    G->slot = clock[0];
}

static status create(void)
{
    struct account *payer, *market, *base, *quote, *base_vault, *quote_vault, *token;
    u8 bumps[2];
    TRY(next_payer(&payer));
    if (!(market = next_account()))
        return NOT_ENOUGH_ACCOUNTS;
    if (!same_key(market->owner, G->program))
        return ILLEGAL_OWNER;
    bind(market);
    struct header *header = G->header;
    if (*market->length != HEADER_BYTES || header->discriminant != 0)
        return INVALID_ACCOUNT_DATA;
    TRY(next_system());
    TRY(next_mint(&base));
    TRY(next_mint(&quote));
    TRY(next_vault(&base_vault, base, &bumps[0]));
    TRY(next_vault(&quote_vault, quote, &bumps[1]));
    TRY(next_token_program(&token));
    TRY(next_token_program(&token));
    if (same_key(base->key, quote->key))
        return CUSTOM_ZERO;
    charge(CHARGE_CREATE);
    TRY(create_vault(payer, base_vault, base, bumps[0]));
    TRY(create_vault(payer, quote_vault, quote, bumps[1]));
    clear_words(header, HEADER_BYTES);
    header->discriminant = DISCRIMINANT;
    header->base_decimals = base->data[DECIMALS_AT];
    header->quote_decimals = quote->data[DECIMALS_AT];
    header->base_bump = bumps[0];
    header->quote_bump = bumps[1];
    copy_words(&header->base_mint, base->key, KEY_BYTES);
    copy_words(&header->quote_mint, quote->key, KEY_BYTES);
    copy_words(&header->base_vault, base_vault->key, KEY_BYTES);
    copy_words(&header->quote_vault, quote_vault->key, KEY_BYTES);
    header->bids.root = header->bids.best = NOWHERE;
    header->asks.root = header->asks.best = NOWHERE;
    header->seats = header->free = NOWHERE;
    log_create(payer->key);
    return grow_if_full(payer);
}

static status claim_seat(void)
{
    struct account *payer;
    u32 index;
    TRY(next_signer(&payer));
    TRY(next_market());
    TRY(next_system());
    charge(CHARGE_SEAT);
    if (find_seat(payer->key) != NOWHERE)
        return SEAT_MISSING;
    TRY(add_seat(payer->key, &index));
    log_seat(payer->key);
    return grow_if_full(payer);
}

static status expand(void)
{
    struct account *payer;
    int counted = G->data_length >= 5;
    TRY(next_payer(&payer));
    TRY(next_market());
    TRY(next_system());
    charge(CHARGE_EXPAND);
    if (!counted)
        return free_blocks(2) < 2 ? grow(payer, 1) : OK;
    u32 wanted = read_u32(G->data + 1);
    /* Where there are just as many, the real program pays a rent of 0; so does this one. */
    u64 free = free_blocks((u64)wanted + 1);
    return free > wanted ? OK : grow(payer, (u32)(wanted - free));
}

/* The seat of a trader, by a hint or by a search; NOWHERE where there is none. */
static status seat_of(const struct key *trader, int hinted, u32 hint, u32 *seat)
{
    if (hinted) {
        TRY(check_seat_hint(hint, trader));
        *seat = hint;
    } else {
        *seat = find_seat(trader);
    }
    return OK;
}

static u64 balance(const struct account *tokens)
{
    if (*tokens->length < BALANCE_AT + 8)
        PANIC();
    return read_u64(tokens->data + BALANCE_AT);
}

static status move(int is_deposit)
{
    struct account *payer, *tokens, *vault, *token, *mint;
    struct reader reader = read_data();
    struct transfer transfer;
    int hinted;
    u32 seat;
    u64 atoms = read_u64(take(&reader, 8));
    u32 hint = read_option(&reader, &hinted);
    if (!is_read_whole(&reader))
        return BORSH_IO_ERROR;
    TRY(next_signer(&payer));
    TRY(next_market());
    if (!(tokens = next_account()) || !(vault = next_account()))
        return NOT_ENOUGH_ACCOUNTS;
    const struct header *header = G->header;
    int is_base = same_key(mint_of(tokens), &header->base_mint);
    if (!is_base && !same_key(mint_of(tokens), &header->quote_mint))
        return WRONG_TOKEN_ACCOUNT;
    if (!is_any_token_program(tokens->owner))
        return ILLEGAL_OWNER;
    if (*tokens->length < 2 * KEY_BYTES)
        PANIC();
    if (!same_key((const struct key *)tokens->data + 1, payer->key))
        return ILLEGAL_OWNER;
#ifndef MUTANT_ANY_VAULT
    if (!same_key(vault->key, is_base ? &header->base_vault : &header->quote_vault))
        return INVALID_INSTRUCTION_DATA;
#endif
    TRY(next_token_program(&token));
    TRY(next_mint(&mint));
    charge(is_deposit ? CHARGE_DEPOSIT : CHARGE_WITHDRAW);
    transfer.from = is_deposit ? tokens : vault;
    transfer.to = is_deposit ? vault : tokens;
    transfer.authority = is_deposit ? payer : vault;
    transfer.program = token->key;
    transfer.mint_key = is_base ? &header->base_mint : &header->quote_mint;
    transfer.mint = mint;
    transfer.atoms = atoms;
    transfer.decimals = is_base ? header->base_decimals : header->quote_decimals;
    transfer.bump = is_base ? header->base_bump : header->quote_bump;
    transfer.from_vault = !is_deposit;
    if (is_deposit) {
        u64 before = balance(vault);
        TRY(transfer_tokens(&transfer));
        atoms = balance(vault) - before;
        TRY(seat_of(payer->key, hinted, hint, &seat));
        if (seat == NOWHERE)
            return DEPOSIT_WITHOUT_SEAT;
        TRY(credit(seat, is_base, atoms));
    } else {
        TRY(transfer_tokens(&transfer));
        TRY(seat_of(payer->key, hinted, hint, &seat));
        if (seat == NOWHERE)
            PANIC();
        TRY(debit(seat, is_base, atoms));
    }
    log_transfer(is_deposit, payer->key, transfer.mint_key, atoms);
    return OK;
}

/* Check a batch's data, and find its cancels and places. */
static status check_batch(const u8 **cancels, const u8 **places)
{
    struct reader reader = read_data();
    int given;
    read_option(&reader, &given);
    *cancels = reader.at;
    u32 count = read_u32(take(&reader, 4));
    for (u32 number = 0; number < count && !reader.failed; number++) {
        take(&reader, 8);
        read_option(&reader, &given);
    }
    *places = reader.at;
    count = read_u32(take(&reader, 4));
    for (u32 number = 0; number < count && !reader.failed; number++) {
        const u8 *at = take(&reader, PLACE_BYTES);
        if (reader.failed || at[13] > 1 || at[18] >= ORDER_TYPES)
            return BORSH_IO_ERROR;
    }
    return is_read_whole(&reader) ? OK : BORSH_IO_ERROR;
}

static status cancel_by_hint(u32 seat, u64 sequence, u32 index)
{
    if (index % BLOCK_BYTES)
        return WRONG_HINT;
    if ((u64)index + BLOCK_BYTES > *G->market->length - HEADER_BYTES)
        PANIC();
    const struct order *order = order_at(index);
#ifdef MUTANT_TRUSTS_HINTS
    return cancel(index);
#endif
    if (order->node.kind != ORDER || order->seat != seat || order->sequence != sequence)
        return WRONG_HINT;
    return cancel(index);
}

static status cancel_all(const struct key *trader, u32 seat, const u8 *at)
{
    u32 count = read_u32(at);
    at += 4;
    for (u32 number = 0; number < count; number++) {
        u64 sequence = read_u64(at);
        charge(CHARGE_CANCEL);
        if (at[8]) {
            TRY(cancel_by_hint(seat, sequence, read_u32(at + 9)));
            at += 13;
        } else {
            TRY(cancel_by_sequence(seat, sequence));
            at += 9;
        }
        log_cancel(trader, sequence);
    }
    return OK;
}

static status place_all(struct account *payer, u32 seat, const u8 *at)
{
    struct request *request = &G->request;
    u32 count = read_u32(at);
    at += 4;
    for (u32 number = 0; number < count; number++)
        if (at[number * PLACE_BYTES + 18] == GLOBAL)
            PANIC(); /* there are no global accounts */
    for (u32 number = 0; number < count; number++, at += PLACE_BYTES) {
        u8 type = at[18];
        int highest = type == REVERSE ? 3 : type == REVERSE_TIGHT ? 0 : HIGHEST_EXPONENT;
        request->atoms = read_u64(at);
        request->is_bid = at[13];
        request->last_slot = read_u32(at + 14);
        request->type = type;
        request->seat = seat;
        if (has_fault(OUT_OF_COMPUTE) && number == fault_at())
            for (;;)
                charge(1000);
        if (has_fault(FAILS_MIDWAY) && number == fault_at())
            return FAULT_CODE;
        TRY(price_of(read_u32(at + 8), (int)(i8)at[12], highest, &request->price));
        TRY(place());
        log_place(payer->key, 0);
        if (number < ANSWERS) {
            G->answers[number].sequence = G->placed.sequence;
            G->answers[number].index = G->placed.index;
        }
        TRY(grow_if_full(payer));
    }
    G->answer_count = count;
    return OK;
}

/* For either mint, five accounts of global orders may follow: the mint, its global account, that
 * one's vault, the market's vault and the token program. The global account is not read: where it
 * does not exist, which is the only case that this program knows, the real one does not either. */
static status batch_globals(void)
{
    for (int side = 0; side < 2; side++) {
        struct account *mint = next_account();
        if (!mint)
            return OK;
        TRY(check_mint(mint));
        if (!next_account())
            return NOT_ENOUGH_ACCOUNTS;
        if (!same_key(mint->key, &G->header->base_mint) &&
            !same_key(mint->key, &G->header->quote_mint))
            return GLOBAL_MISSING;
        for (int others = 0; others < 3; others++)
            next_account();
    }
    return OK;
}

static void answer(void)
{
    u64 length = 4 + (u64)G->answer_count * sizeof(struct answer);
    if (has_fault(NO_ANSWER))
        return;
    if (has_fault(SHORT_ANSWER))
        G->answer_count++;
    if (has_fault(GARBAGE_ANSWER)) {
        u8 *at = (u8 *)&G->answer_count;
        length = fault_at();
        for (u64 byte = 0; byte < length; byte++)
            at[byte] = (u8)(byte * 167 + 13);
    }
    sol_set_return_data(&G->answer_count, length);
}

static status batch(void)
{
    struct account *payer;
    const u8 *cancels, *places;
    u32 seat;
    TRY(check_batch(&cancels, &places));
    TRY(next_signer(&payer));
    TRY(next_market());
    TRY(next_system());
    TRY(batch_globals());
    charge(CHARGE_BATCH);
    read_clock();
    TRY(seat_of(payer->key, G->data[1], read_u32(G->data + 2), &seat));
    TRY(cancel_all(payer->key, seat, cancels));
    TRY(place_all(payer, seat, places));
    answer();
    return OK;
}

/* The accounts of a swap. */
struct swap {
    struct account *payer, *owner, *tokens[2], *vaults[2], *mints[2];
    const struct key *programs[2];
    u64 in, out;
    int base_in, exact_in;
};

static status swap_accounts(struct swap *swap)
{
    struct account *token, *account;
    /* The owner signs. A payer of rent beside it signs only where rent is due. */
    swap->payer = swap->owner = next_account();
    if (!swap->payer || !(account = next_account()))
        return NOT_ENOUGH_ACCOUNTS;
    if (!same_key(account->owner, G->program)) {
        swap->owner = account;
        if (!(account = next_account()))
            return NOT_ENOUGH_ACCOUNTS;
    }
    if (!swap->owner->signer)
        return MISSING_SIGNATURE;
    TRY(bind_market(account));
    TRY(next_system());
    const struct key *mints = &G->header->base_mint, *vaults = &G->header->base_vault;
    for (int side = 0; side < 2; side++) {
        if (!(account = next_account()))
            return NOT_ENOUGH_ACCOUNTS;
        if (!is_any_token_program(account->owner))
            return ILLEGAL_OWNER;
        if (!same_key(mint_of(account), &mints[side]))
            return INVALID_ACCOUNT_DATA;
        swap->tokens[side] = account;
    }
    for (int side = 0; side < 2; side++) {
        if (!(account = next_account()))
            return NOT_ENOUGH_ACCOUNTS;
        if (!same_key(account->key, &vaults[side]))
            return INVALID_INSTRUCTION_DATA;
        swap->vaults[side] = account;
    }
    TRY(next_token_program(&token));
    swap->programs[0] = swap->programs[1] = token->key;
    swap->mints[0] = swap->mints[1] = 0;
    account = next_account();
    if (is_of_token_program(account)) {
        TRY(check_mint(account));
        swap->mints[0] = account;
        account = next_account();
    }
    if (account && is_any_token_program(account->key)) {
        swap->programs[1] = account->key;
        account = next_account();
    }
    if (is_of_token_program(account)) {
        TRY(check_mint(account));
        swap->mints[1] = account;
        account = next_account();
    }
    return refuse_global(account);
}

static status swap_transfer(const struct swap *swap, int side, int from_vault, u64 atoms)
{
    struct transfer transfer;
    const struct header *header = G->header;
    if (is_token_2022_program(swap->programs[side]))
        charge(CHARGE_SWAP_2022);
    transfer.from = from_vault ? swap->vaults[side] : swap->tokens[side];
    transfer.to = from_vault ? swap->tokens[side] : swap->vaults[side];
    transfer.authority = from_vault ? swap->vaults[side] : swap->owner;
    transfer.program = swap->programs[side];
    transfer.mint_key = side ? &header->quote_mint : &header->base_mint;
    transfer.mint = swap->mints[side];
    transfer.atoms = atoms;
    transfer.decimals = side ? header->quote_decimals : header->base_decimals;
    transfer.bump = side ? header->quote_bump : header->base_bump;
    transfer.from_vault = (u8)from_vault;
    return transfer_tokens(&transfer);
}

/* The mint whose fee counts on a side, or 0: none of SPL Token has a fee. */
static const struct account *fee_mint(const struct swap *swap, int side)
{
    return is_token_2022_program(swap->programs[side]) ? swap->mints[side] : 0;
}

static status swap(void)
{
    struct swap swap;
    struct reader reader = read_data();
    struct request *request = &G->request;
    swap.in = read_u64(take(&reader, 8));
    swap.out = read_u64(take(&reader, 8));
    swap.base_in = read_flag(&reader);
    swap.exact_in = read_flag(&reader);
    if (!is_read_whole(&reader))
        return BORSH_IO_ERROR;
    TRY(swap_accounts(&swap));
    charge(CHARGE_SWAP);
    read_clock();
    u32 seat = find_seat(swap.owner->key);
    int is_new = seat == NOWHERE;
    if (is_new) {
        charge(CHARGE_TEMPORARY_SEAT);
        TRY(add_seat(swap.owner->key, &seat));
        TRY(grow_if_full(swap.payer));
    }
    u64 base_before = seat_at(seat)->base, quote_before = seat_at(seat)->quote;
    int in_side = swap.base_in ? 0 : 1;
    u64 arrives = after_fee(fee_mint(&swap, in_side), swap.in);
    u64 leaves = swap.exact_in ? swap.out : before_fee(fee_mint(&swap, !in_side), swap.out);
    TRY(credit(seat, swap.base_in, arrives));
    if (swap.exact_in && balance(swap.tokens[in_side]) < swap.in)
        return OVERFLOW;
    request->seat = seat;
    request->is_bid = !swap.base_in;
    request->type = IMMEDIATE_OR_CANCEL;
    request->last_slot = 0;
    if (swap.base_in) {
        request->price.low = 1;
        request->price.high = 0;
    } else {
        TRY(price_of(0xffffffffu, HIGHEST_EXPONENT, HIGHEST_EXPONENT, &request->price));
    }
    if (swap.exact_in == swap.base_in)
        request->atoms = swap.exact_in ? arrives : leaves;
    else
        TRY(base_for_quote_on_book(request->is_bid, !swap.exact_in,
                                   swap.exact_in ? arrives : leaves, &request->atoms));
    TRY(place());
    u64 base_after = seat_at(seat)->base, quote_after = seat_at(seat)->quote;
    u64 paid, got;
    if (swap.base_in) {
        paid = base_before + swap.in - base_after;
        got = quote_after - quote_before;
    } else {
        paid = quote_before + swap.in - quote_after;
        got = base_after - base_before;
    }
    /* The limits are of what was traded; of a trade with oneself less is moved. */
    u64 traded_in = swap.base_in ? G->placed.base : G->placed.quote;
    u64 traded_out = swap.base_in ? G->placed.quote : G->placed.base;
    if (swap.exact_in ? traded_out < swap.out : traded_in > swap.in)
        return SWAP_LIMIT;
    /* A fee may leave less of `in` than is traded: the seat does not pay the rest. */
    if (base_after < base_before || quote_after < quote_before)
        return OVERFLOW;
    TRY(swap_transfer(&swap, in_side, 0, paid));
    TRY(swap_transfer(&swap, !in_side, 1, got));
    seat_at(seat)->base = base_before;
    seat_at(seat)->quote = quote_before;
    if (is_new)
        remove_seat(seat);
    if (G->header->free == NOWHERE)
        return NO_FREE_BLOCK;
    log_place(swap.owner->key, swap.payer->key);
    return OK;
}

static status run(void)
{
    switch (G->data[0]) {
    case CREATE:
        return create();
    case CLAIM_SEAT:
        return claim_seat();
    case DEPOSIT:
        return move(1);
    case WITHDRAW:
        return move(0);
    case SWAP:
    case SWAP_V2:
        return swap();
    case EXPAND:
        return expand();
    case BATCH:
        return batch();
    default:
        return INVALID_INSTRUCTION_DATA;
    }
}

/* The fields of version 1 of the header, which only a fault writes: the sequence at 192 instead of
 * 144, and roots and bests of both sides the other way round. The same step goes there and back. */
static void change_layout(void)
{
    for (u64 number = 0; number < G->account_count; number++) {
        struct account *account = &G->accounts[number];
        struct header *header = (struct header *)account->data;
        if (!account->writable || !same_key(account->owner, G->program) ||
            *account->length < HEADER_BYTES || header->discriminant != DISCRIMINANT)
            continue;
        u64 sequence = header->next_sequence;
        header->next_sequence = header->reserved[0];
        header->reserved[0] = sequence;
        struct tree_root bids = header->bids;
        header->bids.root = header->asks.best;
        header->asks.best = bids.root;
        header->bids.best = header->asks.root;
        header->asks.root = bids.best;
        header->version ^= 1;
        return;
    }
}

u64 entrypoint(u8 *input)
{
    parse_input(input);
    if (G->data_length == 0)
        return INVALID_INSTRUCTION_DATA;
    int changed = has_fault(CHANGED_LAYOUT);
    if (changed && G->data[0] != CREATE)
        change_layout();
    status result = run();
    if (changed && result == OK)
        change_layout();
    return result;
}
