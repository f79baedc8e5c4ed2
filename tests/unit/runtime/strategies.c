/* Strategies that the tests compile against the published header alone. */

#include <velox/strategy.h>

#include <string.h>

int32_t forward(const velox_transaction *record, const velox_book_view *book,
                velox_transaction *out, uint32_t room, void *user_data)
{
    (void)book; (void)room; (void)user_data;
    out[0] = *record;
    return 1;
}

/* Emits as many as the record's size says, numbered. */
int32_t several(const velox_transaction *record, const velox_book_view *book,
                velox_transaction *out, uint32_t room, void *user_data)
{
    (void)book; (void)user_data;
    uint32_t count = record->size < room ? record->size : room;
    for (uint32_t i = 0; i < count; i++) {
        memset(&out[i], 0, sizeof out[i]);
        out[i].id = record->id * 100 + i;
        out[i].price = record->price;
        out[i].size = 1;
    }
    return (int32_t)count;
}

/* Emits as many as the record's size says, of all ones where that is allowed.
   user_data: how many bytes of the room were not 0 before. */
int32_t fill(const velox_transaction *record, const velox_book_view *book,
             velox_transaction *out, uint32_t room, void *user_data)
{
    uint32_t count = record->size < room ? record->size : room;
    (void)book;
    for (size_t i = 0; i < room * sizeof *out; i++)
        *(uint64_t *)user_data += ((const uint8_t *)out)[i] != 0;
    memset(out, 0xff, count * sizeof *out);
    for (uint32_t i = 0; i < count; i++) {
        out[i].id = record->id * 100 + i;
        out[i].price = record->price;
        out[i].side = 1;
        out[i].kind = 1;
        out[i].market = record->market;
    }
    return (int32_t)count;
}

/* Writes all of its room, and then returns what `several` does. */
int32_t scribble(const velox_transaction *record, const velox_book_view *book,
                 velox_transaction *out, uint32_t room, void *user_data)
{
    memset(out, 0xff, room * sizeof *out);
    return several(record, book, out, room, user_data);
}

/* Writes its number, a price and a size, and nothing else. */
int32_t terse(const velox_transaction *record, const velox_book_view *book,
              velox_transaction *out, uint32_t room, void *user_data)
{
    (void)book; (void)room; (void)user_data;
    out[0].id = record->id;
    out[0].price = record->price;
    out[0].size = 7;
    return 1;
}

/* Emits user_data[0] records, which follow user_data[0] itself. */
int32_t dictated(const velox_transaction *record, const velox_book_view *book,
                 velox_transaction *out, uint32_t room, void *user_data)
{
    const uint64_t *count = user_data;
    (void)record; (void)book; (void)room;
    memcpy(out, count + 1, *count * sizeof *out);
    return (int32_t)*count;
}

/* Forwards; and into user_data, 3 int64, how many levels a side has that there is not. */
int32_t look_aside(const velox_transaction *record, const velox_book_view *book,
                   velox_transaction *out, uint32_t room, void *user_data)
{
    int64_t *found = user_data;
    int64_t price, quantity;
    found[0] = book->depth(book->book, 2, 1, &price, &quantity);
    found[1] = book->depth(book->book, 255, 1, &price, &quantity);
    found[2] = book->depth(book->book, 0, -1, &price, &quantity);
    return forward(record, book, out, room, user_data);
}

/* user_data: { the id to return at, what to return } */
int32_t give_up(const velox_transaction *record, const velox_book_view *book,
                velox_transaction *out, uint32_t room, void *user_data)
{
    const int64_t *orders = user_data;
    if ((int64_t)record->id == orders[0])
        return (int32_t)orders[1];
    return forward(record, book, out, room, NULL);
}

/* user_data: 10 int64 that receive the view, and the room. */
int32_t watch(const velox_transaction *record, const velox_book_view *book,
              velox_transaction *out, uint32_t room, void *user_data)
{
    int64_t *seen = user_data;
    (void)record; (void)out;
    seen[0] = book->bid_price;
    seen[1] = book->bid_quantity;
    seen[2] = book->ask_price;
    seen[3] = book->ask_quantity;
    seen[4] = (int64_t)book->position;
    seen[5] = (int64_t)book->now_ns;
    seen[6] = book->tick_size;
    seen[7] = (int64_t)book->market;
    seen[8] = room;
    seen[9]++;
    return 0;
}

/* user_data: 2 x (count, 8 prices, 8 quantities) */
int32_t look_deep(const velox_transaction *record, const velox_book_view *book,
                  velox_transaction *out, uint32_t room, void *user_data)
{
    int64_t *seen = user_data;
    (void)record; (void)out; (void)room;
    for (uint8_t side = 0; side < 2; side++, seen += 17)
        seen[0] = book->depth(book->book, side, 8, seen + 1, seen + 9);
    return 0;
}

/* A market maker: joins both sides of a spread of at least two ticks, one tick inside it, whenever
   the inside moves. user_data: { last bid, last ask, quotes sent } */
int32_t make_market(const velox_transaction *record, const velox_book_view *book,
                    velox_transaction *out, uint32_t room, void *user_data)
{
    int64_t *state = user_data;
    (void)record; (void)room;
    if (book->bid_quantity == 0 || book->ask_quantity == 0)
        return 0;
    if (book->bid_price == state[0] && book->ask_price == state[1])
        return 0;
    state[0] = book->bid_price;
    state[1] = book->ask_price;
    if (book->ask_price - book->bid_price < 3 * book->tick_size)
        return 0;
    memset(out, 0, 2 * sizeof *out);
    out[0].id = (uint64_t)++state[2];
    out[0].price = book->bid_price + book->tick_size;
    out[0].size = 1;
    out[0].side = 0;
    out[1].id = (uint64_t)++state[2];
    out[1].price = book->ask_price - book->tick_size;
    out[1].size = 1;
    out[1].side = 1;
    return 2;
}
