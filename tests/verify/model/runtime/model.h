/* What a model says to the checker.

   A model is a set of threads, each a C function over one block of shared state, and a function
   that checks the state when all of them have returned. The state lies in the checker's arena:
   whatever `posix_memalign` returns between `model_begin` and `model_end`, and what
   `model_allocate` returns. Before each execution the arena is put back to what it held when
   `model_explore` was called, so that a model is prepared once, in ordinary code. */

#ifndef VELOX_MODEL_H
#define VELOX_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MODEL_THREADS = 4,          /* that a model may have */
    MODEL_MESSAGE = 256,
    MODEL_OUTCOMES = 64,        /* different values of `model_outcome` in one exploration */
};

typedef void (*model_body)(void *state);

/* Preparation. `model_begin` forgets the model before it. */
void model_begin(void);
void model_end(void);
void *model_allocate(size_t size);                      /* zeroed, 128-byte aligned */
void model_name(const void *address, const char *name); /* how traces call what lies there */
void model_thread(const char *name, model_body body, void *state);
void model_finish(model_body check, void *state);

/* From a thread or from the final check. */
void model_check(bool condition, const char *claim);    /* ends the execution where it is false */
void model_outcome(uint64_t value);                     /* a litmus test's registers */

/* A thread has looked, found nothing to do, and changed nothing that another can see. It goes on
   when one of the words that it looked at has a newer value. */
void model_wait(void);
/* What the pause instruction becomes in code under test. If the thread has read the same values as
   before the last pause, and changed nothing, it waits as above. */
void model_relax(void);
/* What the tick counter becomes: the number of operations so far. */
uint64_t model_ticks(void);

/* The search, for tests/verify/model/checker.py. */
typedef struct {
    uint64_t walks;             /* random executions before the search */
    uint64_t seed;
    uint64_t most_executions;   /* then the search gives up, and says so */
    uint64_t most_steps;        /* of one execution */
    uint32_t spurious;          /* failures of weak compare-and-swaps, a thread and execution */
    uint32_t patience;          /* waits of a thread that may end with no news, an execution */
    bool naive;                 /* search without sleep sets: the same outcomes, far slower */
    bool sequential;            /* loads read the newest store alone: interleavings, not C11 */
    const char *replay;         /* the choices of one execution, instead of a search */
} model_options;

enum model_limit {          /* what the checker knows that it did not explore; see README.md */
    MODEL_LOAD_BUFFERING = 1,
    MODEL_UNORDERED_STORES = 2,
    MODEL_SEQUENTIAL_CONSISTENCY = 4,
};

enum model_verdict {
    MODEL_PASSED,
    MODEL_FAILED,               /* a claim, a data race, a thread that waits for ever */
    MODEL_UNSUPPORTED,          /* the model leaves what the checker can judge */
    MODEL_UNFINISHED,           /* most_executions was reached */
};

typedef struct {
    uint32_t verdict;
    uint32_t limits;            /* enum model_limit, a bit each */
    uint64_t walks;             /* random executions made */
    uint64_t executions;        /* made by the search, abandoned ones included */
    uint64_t complete;          /* of these, the ones in which every thread returned */
    uint64_t steps;             /* atomic operations */
    uint32_t outcomes;
    uint64_t outcome[MODEL_OUTCOMES];
    uint64_t outcome_count[MODEL_OUTCOMES];
    char message[MODEL_MESSAGE];
    uintptr_t accesses[2];      /* where in the code the failure lies; 0 for none */
} model_result;

/* One atomic operation of the execution that failed. */
typedef struct {
    uint8_t thread;
    uint8_t kind;               /* enum operation_kind */
    uint8_t order;              /* as weakened */
    uint8_t written;            /* whether `value` was stored */
    int16_t choice;             /* for the replay */
    int16_t position;           /* of the store read or made, in its word's modification order */
    int32_t read_from;          /* the event whose store was read, or -1 */
    uint32_t offset;            /* in the arena */
    uint64_t seen;
    uint64_t value;
    uintptr_t code;
} model_event;

/* One place in the code that executes an atomic operation. */
typedef struct {
    uintptr_t code;
    uint8_t kind;
    uint8_t order;
    uint8_t failure_order;
    uint8_t weakened;           /* enum model_weakening */
    uint64_t executed;
} model_site;

enum model_weakening {
    MODEL_AS_WRITTEN,
    MODEL_NO_ACQUIRE,
    MODEL_NO_RELEASE,
    MODEL_NO_FAILURE_ACQUIRE,
};

void model_explore(const model_options *options, model_result *result);
uint32_t model_events(const model_event **events);
uint32_t model_sites(model_site **sites);
/* The name and the offset within it of what lies in the arena. */
const char *model_describe(uint32_t offset, uint32_t *within);
const char *model_thread_name(uint32_t thread);

#endif
