/* Between the checker's three parts: the sanitizer's interface, the memory, the search. */

#ifndef VELOX_CHECKER_H
#define VELOX_CHECKER_H

#include "model.h"

enum {
    ARENA_BYTES = 1 << 20,
    WORDS = ARENA_BYTES / 8,
    FINAL = MODEL_THREADS,      /* the number under which the final check runs */
    ALL_THREADS = MODEL_THREADS + 1,
    LOCATIONS = 512,            /* words that one execution accesses atomically */
    POSITIONS = 256,            /* stores to one of them */
    STORES = 8192,              /* stores in all */
    EVENTS = 1 << 16,
};

enum operation_kind {
    LOAD,
    STORE,
    UPDATE,                     /* exchange, fetch_add and their kind */
    SWAP,                       /* compare-and-swap */
    FENCE,
    IMPATIENCE,                 /* a wait that ends with no news */
};

/* The numbers of the compiler and of the sanitizer's interface. */
enum memory_order { RELAXED, CONSUME, ACQUIRE, RELEASE, ACQ_REL, SEQ_CST };
enum update_kind { EXCHANGE, ADD, SUBTRACT, AND, OR, XOR, NAND };

typedef struct {
    uint8_t kind;
    uint8_t size;
    uint8_t order;
    uint8_t failure_order;      /* of a compare-and-swap */
    uint8_t update;
    bool weak;
    uint32_t offset;            /* in the arena */
    uint64_t operand;           /* stored, or combined with what is there */
    uint64_t expected;
    uintptr_t code;
} operation;

typedef struct {
    uint64_t seen;
    bool succeeded;
} outcome;

/* A choice is the position, in its word's modification order, of the store to read; or this one:
   to read the newest and to write, if it is to write, after it. */
enum { AT_END = -1, NO_CHOICE = -2 };

/* ---- memory.c: C11's memory, one execution at a time ---- */

void memory_begin(bool verify);         /* the arena as it was prepared, nothing read or written */
void memory_begin_final(void);          /* the final check has seen everything */
uint32_t memory_oldest(uint32_t thread, const operation *op);
uint32_t memory_newest(uint32_t offset);
uint64_t memory_value(uint32_t offset, uint32_t position);
uint32_t memory_author(uint32_t offset, uint32_t position);
outcome memory_perform(uint32_t thread, const operation *op, int choice);
void memory_access(uint32_t thread, uintptr_t address, size_t size, bool write, uintptr_t code);
bool memory_holds(uintptr_t address);
uint32_t memory_offset(uintptr_t address, size_t size);
uint32_t memory_limits(void);           /* enum model_limit, of all executions so far */
void memory_snapshot(void);
void *memory_allocate(size_t size);

/* ---- search.c: the scheduler and its choices ---- */

extern bool preparing;                  /* between model_begin and model_end */
extern bool checking;                   /* a model's thread or its final check is running */
extern model_event events[EVENTS];
extern uint32_t event_count;
extern const model_options *options;
void model_forget(void);
outcome perform(operation op);
void access_plainly(uintptr_t address, size_t size, bool write, uintptr_t code);
_Noreturn void fail(enum model_verdict verdict, uintptr_t first, uintptr_t second,
                    const char *format, ...) __attribute__((format(printf, 4, 5)));
const char *thread_name(uint32_t thread);
const char *describe(uint32_t offset);

static inline bool acquires(uint8_t order)
{
    return order == ACQUIRE || order == CONSUME || order == ACQ_REL || order == SEQ_CST;
}

static inline bool releases(uint8_t order)
{
    return order == RELEASE || order == ACQ_REL || order == SEQ_CST;
}

#endif
