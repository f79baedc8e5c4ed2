/* Strategies that cost next to nothing themselves, for benchmarks/workloads.py.

   They are compiled with the header of the revision that is measured. So both revisions ask the
   same function, and neither needs a module that the other does not have. */

#include <velox/strategy.h>

int32_t nothing(const velox_transaction *record, const velox_book_view *book,
                velox_transaction *out, uint32_t room, void *user_data)
{
    (void)record, (void)book, (void)out, (void)room, (void)user_data;
    return 0;
}

int32_t forward(const velox_transaction *record, const velox_book_view *book,
                velox_transaction *out, uint32_t room, void *user_data)
{
    (void)book, (void)room, (void)user_data;
    out[0] = *record;
    return 1;
}

/* When this returns, callgrind writes what it has counted and starts again from zero. It must be
   called from C: callgrind does not see a call that libffi makes as the start of a function. */
__attribute__((noinline)) void velox_counted(void)
{
    __asm__ volatile("" ::: "memory");
}

int velox_mark(void)
{
    velox_counted();
    return 0;
}
