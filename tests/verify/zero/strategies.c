/* Strategies that are as quiet as they should be, and ones that are not. */

#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "velox/strategy.h"

#define STRATEGY(name, body) \
    int32_t name(const velox_transaction *record, const velox_book_view *book, \
                 velox_transaction *out, uint32_t room, void *user_data) \
    { \
        (void)book, (void)room, (void)user_data; \
        body; \
        out[0] = *record; \
        return 1; \
    }

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static void *volatile kept;

STRATEGY(velox_quiet, )
STRATEGY(velox_looks_deep, int64_t prices[8]; int64_t quantities[8];
         (void)book->depth(book->book, 0, 8, prices, quantities))
STRATEGY(velox_counts, __atomic_fetch_add((uint64_t *)user_data, 1, __ATOMIC_RELAXED))
STRATEGY(velox_allocates, kept = malloc(24); free(kept))
STRATEGY(velox_locks, pthread_mutex_lock(&mutex); pthread_mutex_unlock(&mutex))
STRATEGY(velox_calls_the_kernel, syscall(SYS_getppid))

/* Sends an order of its own at every second record and cancels it at the next. */
int32_t velox_guarded(const velox_transaction *record, velox_view *view, velox_transaction *out,
                      uint32_t room, void *user_data)
{
    (void)room, (void)user_data;
    if (record->kind >= VELOX_PLACED || view->book.bid_price == 0)
        return 0;
    out[0].id = 1 + view->book.position / 2;
    out[0].price = view->book.bid_price;
    out[0].size = 1;
    out[0].market = record->market;
    out[0].kind = view->book.position & 1 ? VELOX_CANCEL : VELOX_ADD;
    return 1;
}

/* Waits until `counter` has grown by `wanted`, or for `most` turns of the scheduler; returns by how
   much it grew, or -1 if `beat` moved: another thread of Python ran. Called with the GIL held. */
int64_t velox_hold(const uint64_t *counter, const uint64_t *beat, uint64_t wanted, uint64_t most)
{
    uint64_t begin = __atomic_load_n(counter, __ATOMIC_RELAXED);
    uint64_t heard = __atomic_load_n(beat, __ATOMIC_RELAXED);
    uint64_t grown = 0;
    for (uint64_t i = 0; i < most && grown < wanted; i++) {
        sched_yield();
        grown = __atomic_load_n(counter, __ATOMIC_RELAXED) - begin;
    }
    return __atomic_load_n(beat, __ATOMIC_RELAXED) == heard ? (int64_t)grown : -1;
}
