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
