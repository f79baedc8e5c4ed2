/* Seen before anything else by every module of a model build: what would reach past the checker,
   the pause instruction and the tick counter, is led to it. */

#ifndef VELOX_MODEL_SEAM_H
#define VELOX_MODEL_SEAM_H

#include <immintrin.h>
#include <stdint.h>

void model_relax(void);
uint64_t model_ticks(void);

#define __builtin_ia32_pause() model_relax()
#define __builtin_ia32_rdtsc() model_ticks()
#define __builtin_ia32_lfence() ((void)0)

/* A file descriptor is an atomic word, whose address stands in its place. A raise releases and a
   lowering acquires: less than the lock of the kernel's eventfd or pipe. */
#define VELOX_DESCRIPTOR_INCLUDED
#define velox_descriptor_raise(raised)                                                             \
    ((void)__atomic_exchange_n((uint64_t *)(raised), 1, __ATOMIC_RELEASE))
#define velox_descriptor_lower(readable)                                                           \
    ((void)__atomic_exchange_n((uint64_t *)(readable), 0, __ATOMIC_ACQUIRE))
#define velox_descriptor_open(readable, raised) (*(readable) = *(raised) = -1, 0)
#define velox_descriptor_close(readable, raised) ((void)(readable), (void)(raised))
#define velox_descriptor_wait(readable, seconds) ((void)(readable), (void)(seconds), 0)

#endif
