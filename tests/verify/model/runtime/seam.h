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

#endif
