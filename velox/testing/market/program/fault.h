/* Faults that a program built with FAULTS has on purpose; without it there are none, and no code.
 *
 * Which fault it is stands in read-only data, 32 bytes that the host writes before it loads the
 * program:
 *
 *     0 mark 16     16 kind u64     24 at u64
 */
#ifndef VELOX_MARKET_FAULT_H
#define VELOX_MARKET_FAULT_H

#include "vm.h"

enum {
    NO_FAULT,
    OUT_OF_COMPUTE,   /* the place number `at` of a batch never ends */
    FAILS_MIDWAY,     /* the place number `at` of a batch fails as Custom(9 999) */
    GARBAGE_EVENTS,   /* before each event: others cut off, too long, unknown, and empty ones */
    FLOODED_LOG,      /* 10 000 bytes of log before the first event */
    GARBAGE_ANSWER,   /* return data of `at` bytes that are no answer */
    NO_ANSWER,        /* no return data */
    SHORT_ANSWER,     /* an answer that counts one order more than it holds */
    CHANGED_LAYOUT,   /* version 1 of the header: other places of the sequence and the roots */
};

#define FAULT_CODE 9999

#ifdef FAULTS

struct fault {
    u64 mark[2], kind, at;
};
extern const volatile struct fault fault;

static inline int has_fault(u64 kind) { return fault.kind == kind; }
static inline u64 fault_at(void) { return fault.at; }

#else

static inline int has_fault(u64 kind) { return (void)kind, 0; }
static inline u64 fault_at(void) { return 0; }

#endif

#endif
