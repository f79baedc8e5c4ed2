/* A strategy that does what a table says; `tables.py` has its layout, and the same in Python.

   C checks no index. The tables for it stay inside the room and the scratch. */

#include <velox/strategy.h>

#include <string.h>

enum { OPERATIONS = 6, WIDTH = 2 + 4 * OPERATIONS, SCRATCH = 8 };
enum { WRITE, FORWARD, KEEP, LOAD, STORE, DEPTH };

static void write_field(velox_transaction *order, int64_t field, int64_t value)
{
    switch (field) {
    case 0: order->id = (uint64_t)value; break;
    case 1: order->price = value; break;
    case 2: order->size = (uint32_t)value; break;
    case 3: order->side = (uint8_t)value; break;
    case 4: order->kind = (uint8_t)value; break;
    case 5: order->flags = (uint8_t)value; break;
    case 6: order->market = (uint8_t)value; break;
    default: order->ingress_ts_ns = (uint64_t)value; break;
    }
}

int32_t velox_table_strategy(const velox_transaction *record, const velox_book_view *book,
                             velox_transaction *out, uint32_t room, void *user_data)
{
    int64_t *table = user_data;
    const int64_t *call = table + WIDTH * ++table[0];
    int64_t *scratch = table + 2;
    int64_t prices[SCRATCH], quantities[SCRATCH];

    if (call[0])
        memset(out, 0, room * sizeof *out);
    for (const int64_t *at = call + 2; at < call + WIDTH; at += 4) {
        int64_t index = at[1], field = at[2], value = at[3];
        switch (at[0]) {
        case WRITE: write_field(&out[index], field, value); break;
        case FORWARD: out[index] = *record; break;
        case KEEP: scratch[index] = value; break;
        case LOAD: table[1] = scratch[index]; break;
        case STORE: scratch[index] = (int64_t)out[field].id + table[1]; break;
        default:
            if (book->depth(book->book, (uint8_t)field, index, prices, quantities) > index)
                return -99;
        }
    }
    return (int32_t)call[1];
}
