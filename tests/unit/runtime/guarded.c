/* A strategy that emits what a table says, and writes down what it hears and sees. */

#include <string.h>

#include <velox/strategy.h>

struct heard {
    velox_report report;        /* of a market record the head alone */
    velox_view view;
    velox_order order;          /* in the slot that the view names */
};

struct table {
    uint64_t calls;             /* so far; also how many rows of heard are filled */
    uint64_t answers;           /* whether each block is answered by the same order again */
    velox_transaction emit[64][16];
    uint32_t emits[64];
    struct heard heard[512];
};

int32_t guarded(const velox_transaction *record, velox_view *view, velox_transaction *out,
                uint32_t room, void *user_data)
{
    struct table *table = user_data;
    uint64_t call = table->calls++;
    if (call < 512) {
        struct heard *heard = &table->heard[call];
        if (record->kind >= VELOX_PLACED)
            memcpy(&heard->report, record, sizeof heard->report);
        else
            heard->report.record = *record;
        heard->view = *view;
        if (view->order_slot < view->order_capacity)
            heard->order = view->orders[view->order_slot];
    }
    if (record->kind == VELOX_BLOCKED && table->answers) {
        out[0] = *record;
        out[0].kind = VELOX_ADD;
        return 1;
    }
    if (call >= 64 || table->emits[call] > room)
        return 0;
    memcpy(out, table->emit[call], table->emits[call] * sizeof *out);
    return (int32_t)table->emits[call];
}
