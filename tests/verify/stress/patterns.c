/* A strategy that knows what each transaction must be, compiled against the published header. */

#include <velox/strategy.h>

/* Passes on what has the pattern of its id (`patterned` in test_pipeline.py); anything else stops the
   pipeline. user_data: the id that comes next, or 0 where several lanes have no common order. */
int32_t check_pattern(const velox_transaction *record, const velox_book_view *book,
                      velox_transaction *out, uint32_t room, void *user_data)
{
    uint64_t *next = user_data;
    uint64_t mixed = record->id * UINT64_C(0x9E3779B97F4A7C15);
    (void)book; (void)room;
    if (*next != 0 && record->id != (*next)++)
        return -2;
    if (record->price != 1000000 + (int64_t)(mixed >> 57)
        || record->size != (uint32_t)(mixed & 0xFFFF) + 1 || record->flags != (uint8_t)(mixed >> 56)
        || record->side != 0 || record->kind != 0 || record->market != 0)
        return -1;
    out[0] = *record;
    return 1;
}
