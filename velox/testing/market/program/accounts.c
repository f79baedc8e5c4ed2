/* The instruction's accounts: taking the input apart, checks, rent, growth, and token transfers. */
#include "market.h"

#define ROOM_BYTES 10240
#define NOT_A_DUPLICATE 255

void parse_input(u8 *input)
{
    u64 count = read_u64(input);
    u8 *at = input + 8;
    for (u64 number = 0; number < count; number++) {
        if (*at == NOT_A_DUPLICATE) {
            u64 length = read_u64(at + 80);
            if (number < MAX_ACCOUNTS) {
                struct account *account = &G->accounts[number];
                account->signer = at[1];
                account->writable = at[2];
                account->executable = at[3];
                account->key = (const struct key *)(at + 8);
                account->owner = (const struct key *)(at + 40);
                account->lamports = (u64 *)(at + 72);
                account->length = (u64 *)(at + 80);
                account->data = at + 88;
                account->first_length = length;
            }
            at += 88 + length + ROOM_BYTES;
            at = (u8 *)(((u64)at + 7) & ~7ull);
            if (number < MAX_ACCOUNTS)
                G->accounts[number].rent_epoch = read_u64(at);
            at += 8;
        } else {
            if (number < MAX_ACCOUNTS)
                G->accounts[number] = G->accounts[at[0]];
            at += 8;
        }
    }
    G->account_count = count < MAX_ACCOUNTS ? count : MAX_ACCOUNTS;
    G->data_length = read_u64(at);
    G->data = at + 8;
    G->program = (const struct key *)(at + 8 + G->data_length);
}

struct account *next_account(void)
{
    if (G->accounts_taken == G->account_count)
        return 0;
    return &G->accounts[G->accounts_taken++];
}

static inline void copy_unaligned(u8 *to, const struct key *key)
{
    for (u64 at = 0; at < 4; at++)
        *(u64 *)(to + 8 * at) = key->word[at];
}

static const struct key system_program = {{0, 0, 0, 0}};
/* TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA */
static const struct key token_program = {
    {0x93a165d7e1f6dd06ull, 0xac79ebce46e1cbd9ull, 0x91375b5fed85b41cull, 0xa900ff7e85f58c3aull}};
/* TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb */
static const struct key token_2022_program = {
    {0xde8f75eee1f6dd06ull, 0xdacd6ce4bc5d4218ull, 0x270db9834dfc1ab6ull, 0xfc8ba1d828f9bdfeull}};

int is_token_program(const struct key *key) { return same_key(key, &token_program); }
int is_token_2022_program(const struct key *key) { return same_key(key, &token_2022_program); }

int is_any_token_program(const struct key *key)
{
    return is_token_program(key) || is_token_2022_program(key);
}

status next_signer(struct account **signer)
{
    *signer = next_account();
    if (!*signer)
        return NOT_ENOUGH_ACCOUNTS;
#ifdef MUTANT_UNSIGNED
    return OK;
#else
    return (*signer)->signer ? OK : MISSING_SIGNATURE;
#endif
}

status next_payer(struct account **payer)
{
    *payer = next_account();
    if (!*payer)
        return NOT_ENOUGH_ACCOUNTS;
    if (!(*payer)->writable)
        return INVALID_INSTRUCTION_DATA;
    return (*payer)->signer ? OK : MISSING_SIGNATURE;
}

status next_system(void)
{
    struct account *account = next_account();
    if (!account)
        return NOT_ENOUGH_ACCOUNTS;
    return same_key(account->key, &system_program) ? OK : INCORRECT_PROGRAM;
}

status next_token_program(struct account **program)
{
    *program = next_account();
    if (!*program)
        return NOT_ENOUGH_ACCOUNTS;
    return is_any_token_program((*program)->key) ? OK : INCORRECT_PROGRAM;
}

void bind(struct account *account)
{
    G->market = account;
    G->header = (struct header *)account->data;
    G->blocks = account->data + HEADER_BYTES;
}

status bind_market(struct account *account)
{
    if (!same_key(account->owner, G->program))
        return ILLEGAL_OWNER;
    if (*account->length < HEADER_BYTES)
        PANIC();
    bind(account);
    return G->header->discriminant == DISCRIMINANT ? OK : INVALID_ACCOUNT_DATA;
}

status next_market(void)
{
    struct account *account = next_account();
    return account ? bind_market(account) : NOT_ENOUGH_ACCOUNTS;
}

#define MINT_BYTES 82
#define ACCOUNT_TYPE_AT 165 /* of Token-2022, where extensions follow: 1 is a mint */

status check_mint(const struct account *mint)
{
    const u8 *data = mint->data;
    u64 length = *mint->length;
    int extended = is_token_2022_program(mint->owner);
    if (!extended && !is_token_program(mint->owner))
        return INCORRECT_PROGRAM;
    if (length != MINT_BYTES &&
        !(extended && length > ACCOUNT_TYPE_AT && data[ACCOUNT_TYPE_AT] == 1))
        return INVALID_ACCOUNT_DATA;
    /* An option of the authority, supply, decimals, initialised, an option of the freezer. */
    if (read_u32(data) > 1 || data[45] > 1 || *(const u32 *)(data + 46) > 1)
        return INVALID_ACCOUNT_DATA;
    return data[45] ? OK : UNINITIALIZED;
}

status next_mint(struct account **mint)
{
    *mint = next_account();
    return *mint ? check_mint(*mint) : NOT_ENOUGH_ACCOUNTS;
}

int is_of_token_program(const struct account *account)
{
    return account && is_any_token_program(account->owner);
}

status refuse_global(const struct account *account)
{
    if (!account || *account->length == 0)
        return OK;
    return same_key(account->owner, G->program) ? INVALID_ACCOUNT_DATA : ILLEGAL_OWNER;
}

const struct key *mint_of(const struct account *tokens)
{
    if (*tokens->length < KEY_BYTES)
        PANIC();
    return (const struct key *)tokens->data;
}

/* Calls of other programs. */

/* Add an account to the call in G. The lengths are read again: a call may have changed them. */
static void pass(u64 at, const struct account *account, int signer, int writable)
{
    struct account_info *info = &G->infos[at];
    info->key = account->key;
    info->lamports = account->lamports;
#ifdef MUTANT_STALE_LENGTH
    info->length = account->first_length;
#else
    info->length = *account->length;
#endif
    info->data = account->data;
    info->owner = account->owner;
    info->rent_epoch = account->rent_epoch;
    info->signer = account->signer;
    info->writable = account->writable;
    info->executable = account->executable;
    G->metas[at].key = account->key;
    G->metas[at].signer = (u8)signer;
    G->metas[at].writable = (u8)writable;
}

/* Call `program` with the accounts that were passed and the data in G->call_data. */
static status call(const struct key *program, u64 accounts, u64 data_length,
                   const struct seeds *seeds)
{
    struct instruction instruction = {program, G->metas, accounts, G->call_data, data_length};
    return sol_invoke_signed_c(&instruction, G->infos, (int)accounts, seeds, seeds ? 1 : 0);
}

/* What the rent sysvar holds. */
struct rent {
    u64 lamports_per_byte_year;
    u64 threshold; /* an IEEE double: years that are paid for */
    u8 burn_percent;
    u8 padding[7];
};

u64 rent_exempt(u64 bytes)
{
    struct rent rent;
    sol_get_rent_sysvar(&rent);
    u64 yearly = (bytes + 128) * rent.lamports_per_byte_year;
    /* The double is fraction x 2^(exponent - 52), with a one before the fraction. */
    u64 exponent = (rent.threshold >> 52) & 0x7ff;
    struct wide fraction = {(rent.threshold & ((1ull << 52) - 1)) | 1ull << 52, 0}, product;
    wide_multiply(&fraction, yearly, &product);
    u64 shift = 1023 + 52 - exponent;
    if (shift == 0 || shift >= 64)
        return shift ? 0 : product.low;
    return product.low >> shift | product.high << (64 - shift);
}

static status pay(struct account *from, struct account *to, u64 lamports)
{
    u32 *data = (u32 *)G->call_data;
    data[0] = 2; /* Transfer */
    data[1] = (u32)lamports;
    data[2] = (u32)(lamports >> 32);
    pass(0, from, 1, 1);
    pass(1, to, 0, 1);
    return call(&system_program, 2, 12, 0);
}

status grow(struct account *payer, u32 blocks)
{
    struct account *market = G->market;
    if (!payer->writable)
        return INVALID_INSTRUCTION_DATA;
    charge(CHARGE_GROWTH);
    u64 old_length = *market->length, length = old_length + (u64)blocks * BLOCK_BYTES;
    /* The rent of the growth, whatever the market has. */
    TRY(pay(payer, market, rent_exempt(length) - rent_exempt(old_length)));
    if (length > market->first_length + ROOM_BYTES)
        return INVALID_REALLOC;
    *market->length = length;
    for (u32 number = 0; number < blocks; number++) {
        u32 index = G->header->block_bytes;
        G->header->block_bytes += BLOCK_BYTES;
        release_block(index);
    }
    return OK;
}

status grow_if_full(struct account *payer)
{
    return G->header->free == NOWHERE ? grow(payer, 1) : OK;
}

#define TOKEN_ACCOUNT_BYTES 165

/* A vault's address comes from this word, the market and the mint. */
static const char vault_seed[] = "vault";

/* The bytes that Token-2022 wants for an account of this mint. */
static status token_account_bytes(struct account *mint, u64 *bytes)
{
    struct key program;
    G->call_data[0] = 21; /* GetAccountDataSize */
    pass(0, mint, 0, 0);
    TRY(call(&token_2022_program, 1, 1, 0));
    *bytes = 0;
    sol_get_return_data(bytes, 8, &program);
    return OK;
}

status next_vault(struct account **vault, const struct account *mint, u8 *bump)
{
    struct key address;
    struct slice seed[3] = {
        {vault_seed, sizeof vault_seed - 1}, {G->market->key, KEY_BYTES}, {mint->key, KEY_BYTES}};
    *vault = next_account();
    if (!*vault)
        return NOT_ENOUGH_ACCOUNTS;
    if (*(*vault)->length != 0)
        return INVALID_ACCOUNT_DATA;
    for (int search = 0; search < VAULT_SEARCHES; search++)
        sol_try_find_program_address(seed, 3, G->program, &address, bump);
    return same_key(&address, (*vault)->key) ? OK : WRONG_VAULT;
}

status create_vault(struct account *payer, struct account *vault, struct account *mint, u8 bump)
{
    struct slice seed[4] = {{vault_seed, sizeof vault_seed - 1},
                            {G->market->key, KEY_BYTES},
                            {mint->key, KEY_BYTES},
                            {&bump, 1}};
    struct seeds seeds = {seed, 4};
    u64 bytes = TOKEN_ACCOUNT_BYTES;
    const struct key *program = mint->owner;
    if (is_token_2022_program(program))
        TRY(token_account_bytes(mint, &bytes));
    else
        charge(CHARGE_TOKEN_VAULT);
    u64 rent = rent_exempt(bytes);
    u32 *word = (u32 *)G->call_data;
    if (*vault->lamports == 0) {
        word[0] = 0; /* CreateAccount */
        word[1] = (u32)rent;
        word[2] = (u32)(rent >> 32);
        word[3] = (u32)bytes;
        word[4] = (u32)(bytes >> 32);
        copy_unaligned(G->call_data + 20, program);
        pass(0, payer, 1, 1);
        pass(1, vault, 1, 1);
        TRY(call(&system_program, 2, 52, &seeds));
    } else {
        /* The account holds lamports that were sent to it before. */
        if (rent > *vault->lamports)
            TRY(pay(payer, vault, rent - *vault->lamports));
        word[0] = 8; /* Allocate */
        word[1] = (u32)bytes;
        word[2] = (u32)(bytes >> 32);
        pass(0, vault, 1, 1);
        TRY(call(&system_program, 1, 12, &seeds));
        word[0] = 1; /* Assign */
        copy_unaligned(G->call_data + 4, program);
        pass(0, vault, 1, 1);
        TRY(call(&system_program, 1, 36, &seeds));
    }
    G->call_data[0] = 18; /* InitializeAccount3: the vault owns itself */
    copy_unaligned(G->call_data + 1, vault->key);
    pass(0, vault, 0, 1);
    pass(1, mint, 0, 0);
    return call(program, 2, 33, 0);
}

status transfer_tokens(const struct transfer *transfer)
{
    struct slice seed[4] = {{vault_seed, sizeof vault_seed - 1},
                            {G->market->key, KEY_BYTES},
                            {transfer->mint_key, KEY_BYTES},
                            {&transfer->bump, 1}};
    struct seeds seeds = {seed, 4};
    u64 at = 0, length = 9;
    int checked = is_token_2022_program(transfer->program);
    if (checked && !transfer->mint)
        PANIC();
    G->call_data[0] = checked ? 12 : 3; /* TransferChecked, Transfer */
    for (u64 byte = 0; byte < 8; byte++)
        G->call_data[1 + byte] = (u8)(transfer->atoms >> 8 * byte);
    if (checked) {
        G->call_data[9] = transfer->decimals;
        length = 10;
    }
    pass(at++, transfer->from, 0, 1);
    if (checked) {
        /* The mint is the market's, whatever account was given for it. */
        pass(at, transfer->mint, 0, 0);
        G->metas[at++].key = transfer->mint_key;
    }
    pass(at++, transfer->to, 0, 1);
    pass(at++, transfer->authority, 1, 0);
    return call(transfer->program, at, length, transfer->from_vault ? &seeds : 0);
}
