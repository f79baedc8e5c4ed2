// The market maker of examples/market_maker.py, in C++.
//
//     c++ -std=c++17 -O2 -shared -fPIC -I"$(python -c 'import velox; print(velox.get_include())')"
//         -o market_maker.so market_maker.cpp
//     velox run --strategy ./market_maker.so:quote --param half_spread=2

#include <velox/strategy.h>

#include <algorithm>
#include <iterator>

namespace {

constexpr int markets = 2;

struct State {
    int64_t half_spread;            // ticks from the fair price to a quote
    int64_t lots;                   // of each quote
    int64_t skew;                   // ticks by which quotes move for each lot of inventory
    int64_t limit;                  // lots of inventory at which one side is no longer quoted
    uint64_t next_id;
    uint64_t ids[markets][2];       // of the quote of each side
    int64_t prices[markets][2];     // of the quote of each side; 0: there is none
};

const velox_order *find(const velox_view &view, uint64_t id)
{
    for (uint32_t slot = 0; slot < view.order_capacity; slot++) {
        const velox_order &order = view.orders[slot];
        if (order.id == id && order.state > VELOX_ORDER_FREE && order.state < VELOX_ORDER_GONE)
            return &order;
    }
    return nullptr;
}

velox_transaction order_of(uint64_t id, int side, int64_t price, int64_t lots, uint8_t market,
                           int kind)
{
    velox_transaction order{};
    order.id = id;
    order.price = price;
    order.size = static_cast<uint32_t>(lots);
    order.side = static_cast<uint8_t>(side);
    order.kind = static_cast<uint8_t>(kind);
    order.market = market;
    return order;
}

const velox_parameter parameters[] = {
    {"half_spread", VELOX_INT64, offsetof(State, half_spread)},
    {"lots", VELOX_INT64, offsetof(State, lots)},
    {"skew", VELOX_INT64, offsetof(State, skew)},
    {"limit", VELOX_INT64, offsetof(State, limit)},
};
const State first{1, 2, 1, 20, 1, {}, {}};

}  // namespace

extern "C" {

extern const velox_strategy_info quote_info;
const velox_strategy_info quote_info{sizeof(velox_strategy_info), 3, sizeof(State), &first,
                                     parameters, std::size(parameters)};

int32_t quote(const velox_transaction *record, velox_view *view, velox_transaction *out, uint32_t,
              void *user_data)
{
    State &state = *static_cast<State *>(user_data);
    const uint8_t market = record->market;
    if (market >= markets)
        return 0;
    uint64_t *ids = state.ids[market];
    int64_t *prices = state.prices[market];
    if (record->kind > VELOX_PLACED && record->kind != VELOX_TIMER) {
        for (int side = 0; side < 2; side++)
            if (record->id == ids[side] && !find(*view, record->id))
                prices[side] = 0;   // the quote has ended
        if (record->kind == VELOX_BLOCKED)
            return 0;
    }

    const velox_book_view &book = view->book;
    const int64_t tick = book.tick_size, inventory = view->inventory_lots;
    int64_t wanted[2] = {0, 0};
    if (book.bid_quantity > 0 && book.ask_quantity > 0 && view->feed_state == 0) {
        const int64_t micro = book.bid_price * book.ask_quantity + book.ask_price * book.bid_quantity;
        const int64_t fair = micro / (book.bid_quantity + book.ask_quantity)
            - state.skew * inventory * tick;
        if (fair > 0) {
            const int64_t below = fair / tick, above = (fair + tick - 1) / tick;
            wanted[0] = std::min((below - state.half_spread) * tick, book.ask_price - tick);
            wanted[1] = std::max((above + state.half_spread) * tick, book.bid_price + tick);
        }
        if (inventory >= state.limit)
            wanted[0] = 0;
        if (inventory <= -state.limit)
            wanted[1] = 0;
    }

    int32_t made = 0;
    for (int side = 0; side < 2; side++) {
        const int64_t price = std::max<int64_t>(wanted[side], 0);
        if (price == prices[side])
            continue;
        const velox_order *working = find(*view, ids[side]);
        if (working && working->state == VELOX_ORDER_SENT)
            continue;               // the venue has not answered yet
        if (prices[side] != 0)
            out[made++] = order_of(ids[side], side, prices[side], state.lots, market, VELOX_CANCEL);
        if (price != 0) {
            ids[side] = state.next_id++;
            out[made++] = order_of(ids[side], side, price, state.lots, market, VELOX_ADD);
        }
        prices[side] = price;
    }
    return made;
}

}  // extern "C"
