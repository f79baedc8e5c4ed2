/* The market that an instruction works on, and what all parts of the program share. */
#ifndef VELOX_MARKET_MARKET_H
#define VELOX_MARKET_MARKET_H

#include "tree.h"

/* Error codes of the market. */
enum {
    DEPOSIT_WITHOUT_SEAT = 1,
    WRONG_TOKEN_ACCOUNT = 2,
    INVALID_CANCEL = 3,
    NO_FREE_BLOCK = 4,
    SEAT_MISSING = 5, /* or already there, where one is claimed */
    POST_ONLY_CROSSES = 6,
    ALREADY_EXPIRED = 7,
    SWAP_LIMIT = 8,
    WRONG_HINT = 10,
    OVERFLOW = 14,
    GLOBAL_MISSING = 15,
    WRONG_VAULT = 17,
    EXPONENT_TOO_LOW = 102,
    EXPONENT_TOO_HIGH = 103,
    BASE_OVERFLOW = 105,  /* base atoms for quote atoms beyond 64 bits */
    PRICE_OVERFLOW = 108, /* beyond 128 bits */
    ATOMS_OVERFLOW = 109, /* beyond 64 bits */
};

#define PRICE_DECIMALS 18
#define ONE 1000000000000000000ull /* 10^18: a price of 1 */

#define ANSWERS 1024

struct answer {
    u64 sequence;
    u32 index;
} __attribute__((packed));

/* What one place asks for. */
struct request {
    struct wide price;
    u64 atoms;
    u32 seat, last_slot;
    u8 is_bid, type;
};

/* What became of it. `index` is NOWHERE where nothing rests. */
struct placed {
    u64 sequence, base, quote;
    u32 index;
};

/* Globals, on the heap: the VM has none that can be written. It clears them. */
struct scratch {
    u64 account_count, accounts_taken;
    struct account accounts[MAX_ACCOUNTS];
    u8 *data;
    u64 data_length;
    const struct key *program;

    struct account *market;
    struct header *header;
    u8 *blocks;
    u64 slot;

    struct request request;
    struct placed placed;
    u64 event[32];
    struct account_info infos[6];
    struct account_meta metas[6];
    u8 call_data[64];
    u64 buffer[32];

    u32 answer_count;
    struct answer answers[ANSWERS];
};

#define G ((struct scratch *)HEAP)

static inline struct order *order_at(u32 index) { return (struct order *)(G->blocks + index); }
static inline struct seat *seat_at(u32 index) { return (struct seat *)(G->blocks + index); }

static inline struct tree orders_of(int is_bid)
{
    struct tree_root *root = is_bid ? &G->header->bids : &G->header->asks;
    struct tree tree = {G->blocks, &root->root, &root->best};
    return tree;
}

/* market.c: blocks, seats and their balances. */

/* Put a zeroed block on top of the free ones. */
void release_block(u32 index);
/* Take the top free block, or NOWHERE. */
u32 take_block(void);
/* The number of free blocks, counted up to `limit`. */
u64 free_blocks(u64 limit);
/* The block of a trader's seat, or NOWHERE. */
u32 find_seat(const struct key *trader);
/* Hang a new seat into the tree. */
status add_seat(const struct key *trader, u32 *index);
void remove_seat(u32 index);
/* Check that a block is the trader's seat, as a caller says. */
status check_seat_hint(u32 index, const struct key *trader);
status credit(u32 seat, int is_base, u64 atoms);
status debit(u32 seat, int is_base, u64 atoms);

/* price.c: what atoms cost. */

/* mantissa x 10^exponent, for an exponent from -18 to `highest`. */
status price_of(u32 mantissa, int exponent, int highest, struct wide *price);
/* price x base / 10^18, rounded up or down. */
status quote_for_base(const struct wide *price, u64 base, int up, u64 *quote);
/* quote x 10^18 / price, rounded up or down. */
status base_for_quote(const struct wide *price, u64 quote, int up, u64 *base);
/* The price at which a filled reverse order comes back on the other side. */
status reverse_price(const struct wide *price, int to_ask, int is_tight, u64 spread,
                     struct wide *result);

/* matching.c */

/* Match G->request, and let the rest rest. The result is in G->placed. */
status place(void);
/* Take out an order, and give its funds back. */
status cancel(u32 index);
/* Cancel the order of `seat` with this number; searches both sides. */
status cancel_by_sequence(u32 seat, u64 sequence);
/* Base atoms that `quote` atoms trade for on the other side's orders. */
status base_for_quote_on_book(int is_bid, int up, u64 quote, u64 *base);

/* fees.c: what the transfer fee of a mint (0: none) leaves of what is sent, and asks to be sent. */
u64 after_fee(const struct account *mint, u64 atoms);
u64 before_fee(const struct account *mint, u64 atoms);

/* events.c: what the log tells. */
void log_create(const struct key *creator);
void log_seat(const struct key *trader);
void log_transfer(int is_deposit, const struct key *trader, const struct key *mint, u64 atoms);
void log_cancel(const struct key *trader, u64 sequence);
void log_place(const struct key *owner, const struct key *payer);
void log_fill(const struct order *maker, u64 base, u64 quote, u64 taker_sequence);

/* accounts.c: the instruction's accounts, and calls of other programs. */

/* Take the input apart into G. */
void parse_input(u8 *input);
/* The next account, or 0 where there are no more. */
struct account *next_account(void);
/* The next account, which must have signed. */
status next_signer(struct account **signer);
/* The next account, which must be writable and have signed. */
status next_payer(struct account **payer);
/* The next account, which must be the System program. */
status next_system(void);
/* The next account, which must be a token program. */
status next_token_program(struct account **program);
/* The next account, which must be a market; binds it. */
status next_market(void);
status bind_market(struct account *account);
/* Make room for blocks, which the payer's rent pays for. */
status grow(struct account *payer, u32 blocks);
/* Grow by a block if none is free. */
status grow_if_full(struct account *payer);
/* Rent-exempt lamports of an account of this size. */
u64 rent_exempt(u64 bytes);
int is_token_program(const struct key *key);
int is_token_2022_program(const struct key *key);
int is_any_token_program(const struct key *key);
/* The next account, which must be a mint of a token program. */
status next_mint(struct account **mint);
status check_mint(const struct account *mint);
/* Whether there is such an account and a token program owns it. */
int is_of_token_program(const struct account *account);
/* What stands where a global account may: it is none that this program knows. */
status refuse_global(const struct account *account);
/* The mint of a token account, whatever else it is. */
const struct key *mint_of(const struct account *tokens);
/* Make an account G's market, without a look at it. */
void bind(struct account *account);
/* The next account, which must be the address of a mint's vault, and without data. */
status next_vault(struct account **vault, const struct account *mint, u8 *bump);
/* Create the vault of a mint, a token account that owns itself. */
status create_vault(struct account *payer, struct account *vault, struct account *mint, u8 bump);

struct transfer {
    struct account *from, *to, *authority;
    const struct key *program, *mint_key;
    struct account *mint; /* for Token-2022 */
    u64 atoms;
    u8 decimals, bump;
    u8 from_vault; /* the vault signs, by its seeds */
};
/* Move tokens. */
status transfer_tokens(const struct transfer *transfer);

#endif
