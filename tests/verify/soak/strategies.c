/* Strategies whose emissions can be computed from what they are given, so that they can be checked.

   user_data is uint64_t[4]: calls so far, the call that fails (0: none), what that call returns as
   a signed number, and the fan. Several lanes may call at once, hence the atomic addition. */

#include "velox/strategy.h"

int32_t velox_soak_strategy(const velox_transaction *record, const velox_book_view *book,
                            velox_transaction *out, uint32_t room, void *user_data)
{
    uint64_t *state = user_data;
    uint64_t call = __atomic_add_fetch(&state[0], 1, __ATOMIC_RELAXED);
    uint32_t copies = state[3] > 0 ? (uint32_t)(record->id % state[3]) : 1;
    (void)book;
    if (call == state[1])
        return (int32_t)(int64_t)state[2];
    if (copies > room)
        copies = room;
    for (uint32_t i = 0; i < copies; i++)
        out[i] = *record;
    return (int32_t)copies;
}
