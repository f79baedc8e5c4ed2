/* What the Solana VM gives a program: memory, accounts and system calls.
 *
 * The input, at 0x400000000 (all integers little-endian):
 *
 *     0  accounts                u64
 *     8  each account            88 + n + 10 240 bytes, to a multiple of 8, then its rent epoch
 *          0 duplicate u8 (255: none; else its number, and 7 bytes of padding are all)
 *          1 signer, writable, executable   3 x u8, then 4 of padding
 *          8 key       32        40 owner   32
 *         72 lamports  u64       80 n       u64      88 data
 *     .  bytes of instruction    u64, then they
 *     .  program's address       32
 *
 * A growing account may use the 10 240 bytes behind its data: its length is written at 80.
 * There are no globals that can be written. What lives across calls lies in `struct scratch`, at
 * the heap's begin; the VM clears it before each invocation.
 */
#ifndef VELOX_MARKET_VM_H
#define VELOX_MARKET_VM_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef signed char i8;

#define HEAP 0x300000000ull
#define MAX_ACCOUNTS 16
#define KEY_BYTES 32

/* An address or a public key; aligned, since all of them lie at multiples of 8. */
struct key {
    u64 word[4];
};

/* An account of the instruction. */
struct account {
    const struct key *key;
    const struct key *owner;
    u64 *lamports;
    u64 *length; /* bytes of data; changed by a call of another program */
    u8 *data;
    u64 rent_epoch;
    u64 first_length; /* of data, before this instruction */
    u8 signer, writable, executable;
};

/* What a call of another program is made of, in the layout of sol_invoke_signed_c. */
struct account_meta {
    const struct key *key;
    u8 writable, signer;
};

struct instruction {
    const struct key *program;
    const struct account_meta *accounts;
    u64 account_count;
    const u8 *data;
    u64 data_length;
};

struct account_info {
    const struct key *key;
    u64 *lamports;
    u64 length;
    u8 *data;
    const struct key *owner;
    u64 rent_epoch;
    u8 signer, writable, executable;
};

/* A run of bytes: a seed, or one field of a log. */
struct slice {
    const void *at;
    u64 length;
};

struct seeds {
    const struct slice *seed;
    u64 count;
};

extern u64 sol_log_data(const struct slice *fields, u64 count);
extern u64 sol_log_(const char *text, u64 length);
extern u64 sol_set_return_data(const void *data, u64 length);
extern u64 sol_get_return_data(void *data, u64 length, struct key *program);
extern u64 sol_get_clock_sysvar(void *clock);
extern u64 sol_get_rent_sysvar(void *rent);
extern u64 sol_panic_(const char *file, u64 length, u64 line, u64 column);
extern u64 sol_try_find_program_address(const struct slice *seeds, u64 count,
                                        const struct key *program, struct key *address, u8 *bump);
extern u64 sol_invoke_signed_c(const struct instruction *instruction,
                               const struct account_info *infos, int count,
                               const struct seeds *seeds, int signers);

/* Ends the transaction as ProgramFailedToComplete. */
#define PANIC() ((void)sol_panic_("", 0, 0, 0))

/* A status: 0, Custom(n) as n, or an error of the runtime as kind << 32. Custom(0) has a name. */
typedef u64 status;

#define OK 0ull
#define CUSTOM_ZERO (1ull << 32)
#define INVALID_ARGUMENT (2ull << 32)
#define INVALID_INSTRUCTION_DATA (3ull << 32)
#define INVALID_ACCOUNT_DATA (4ull << 32)
#define INSUFFICIENT_FUNDS (6ull << 32)
#define INCORRECT_PROGRAM (7ull << 32)
#define MISSING_SIGNATURE (8ull << 32)
#define ALREADY_INITIALIZED (9ull << 32)
#define UNINITIALIZED (10ull << 32)
#define NOT_ENOUGH_ACCOUNTS (11ull << 32)
#define BORSH_IO_ERROR (15ull << 32)
#define ILLEGAL_OWNER (18ull << 32)
#define INVALID_REALLOC (20ull << 32)

#define TRY(call)                       \
    do {                                \
        status status_ = (call);        \
        if (status_ != OK)              \
            return status_;             \
    } while (0)

static inline u16 read_u16(const u8 *at) { return *(const u16 *)at; }
static inline u32 read_u32(const u8 *at) { return *(const u32 *)at; }
static inline u64 read_u64(const u8 *at) { return *(const u64 *)at; }

static inline int same_key(const struct key *a, const struct key *b)
{
    return a->word[0] == b->word[0] && a->word[1] == b->word[1] && a->word[2] == b->word[2] &&
           a->word[3] == b->word[3];
}

/* `length` is a multiple of 8, and both sides are aligned. */
static inline void copy_words(void *to, const void *from, u64 length)
{
    for (u64 at = 0; at < length; at += 8)
        *(u64 *)((u8 *)to + at) = *(const u64 *)((const u8 *)from + at);
}

static inline void clear_words(void *to, u64 length)
{
    for (u64 at = 0; at < length; at += 8)
        *(u64 *)((u8 *)to + at) = 0;
}

#endif
