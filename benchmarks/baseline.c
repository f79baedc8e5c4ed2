/* What a plain loop needs for the work of Velox's whole pipeline, on one thread and without stages.
 *
 * Records of an array are stamped when they are due, validated, put on Velox's price grid and
 * applied to a book of its design: quantities by level, a bitmap over them, the best of each side,
 * and the top of the book published for readers, or compare-and-swaps where there may be several
 * writers. What was applied is copied into bundles of 16, in the slots of a ring of 1024; these are
 * stamped when sealed, and taken again. Five histograms of HDR's layout record what Velox's do, at
 * the same moments: that decides how often the clock is read.
 *
 * What it leaves out is what a pipeline is for: rings between stages and the two copies into them,
 * loops that look whether there is work, counters that other threads may read, markets, prices
 * outside one window, placement, shutdown. Its compare-and-swap variant has no protocol
 * that keeps the bitmap right while others write: it is a bound, not a book to be shared.
 *
 * A third variant asks a strategy, of Velox's signature and through a pointer, after each record, and
 * copies what it makes into the bundles.
 *
 * Compiled and called by benchmarks/baseline.py. C11, gcc or clang.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SIDES 2
#define LEVELS 1024
#define WORDS (LEVELS / 64)
#define BUNDLE 16
#define RING 1024
#define BATCH 256
#define TOGETHER 64     /* that share a reading of the clock, as in the pipeline's bundle stage */
#define MAGNITUDE 7     /* log2 of the sub-buckets to a power of two: 2 significant digits */
#define BUCKETS 4608    /* up to one hour, in ns */
#define NONE LEVELS     /* the best level of an empty side */

enum { BID, ASK };
enum { ADD, CANCEL, EXECUTE, SET, SET_WIDE, DELETE, CLEAR, TRADE, KINDS };
enum { SEAL_SIZE, SEAL_TIMEOUT, SEAL_IDLE, SEAL_DRAIN, SEAL_REASONS };
enum { LATE, TRANSIT, HOLD, DELIVERY, TOTAL, HISTOGRAMS };

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/* One loop a variant, with nothing called in it. */
#define INLINE static inline __attribute__((always_inline))

struct transaction {
    uint64_t id;
    int64_t price;
    uint32_t size;
    uint8_t side, kind, flags, market;
    uint64_t ingress_ts_ns;
};
_Static_assert(sizeof(struct transaction) == 32, "as velox/core/records.pxd");

struct view {
    int64_t bid_price, bid_quantity, ask_price, ask_quantity;
    uint64_t position, now_ns;
    int64_t tick_size;
    uint64_t market;
    void *book;
    int64_t (*depth)(void *book, uint8_t side, int64_t n, int64_t *prices, int64_t *quantities);
};
_Static_assert(sizeof(struct view) == 80, "as velox/include/velox/strategy.h");

typedef int32_t (*strategy)(const struct transaction *record, const struct view *book,
                            struct transaction *out, uint32_t room, void *user_data);
#define ROOM 16

struct bundle {
    struct transaction transactions[BUNDLE];
    uint32_t count, reason;
    uint64_t sealed_ts_ns;
};
_Static_assert(sizeof(struct bundle) == 528, "as velox/core/records.pxd");

struct side {
    _Alignas(64) uint64_t quantities[LEVELS];
    uint64_t occupied[WORDS];
    uint64_t summary;       /* bit w: occupied[w] != 0 */
    uint64_t best;          /* the best level's index, or NONE; unused by compare-and-swap */
};

struct top {
    _Alignas(128) uint64_t version;
    int64_t slots[2][4];
};

struct histogram {
    uint64_t minimum, maximum;
    uint64_t counts[BUCKETS];
};

struct baseline {
    struct side sides[SIDES];
    struct top top;
    int64_t tick_size, first_tick;          /* of the window's LEVELS ticks */
    uint64_t inverse, limit;                /* of the tick size's odd part; see core/grid.pxd */
    unsigned shift;
    uint64_t applied, rejected, emitted, crossed, sealed[SEAL_REASONS], bundles, delivered;
    uint64_t timeout_ns, base_ticks, base_ns, multiplier;
    struct histogram histograms[HISTOGRAMS];
    struct bundle ring[RING];
};

/* --- the clock ------------------------------------------------------------------------------ */

static uint64_t kernel_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
    __builtin_ia32_lfence();
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t value;
    __asm__ volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(value) :: "memory");
    return value;
#endif
}

static inline uint64_t now_ns(const struct baseline *self)
{
    if (self->multiplier == 0)
        return kernel_ns();
    return self->base_ns
        + (uint64_t)((unsigned __int128)(ticks() - self->base_ticks) * self->multiplier >> 48);
}

static void calibrate(struct baseline *self)
{
    uint64_t end_ns, end_ticks;
    self->base_ns = kernel_ns();
    self->base_ticks = ticks();
    do {
        end_ns = kernel_ns();
        end_ticks = ticks();
    } while (end_ns - self->base_ns < 20000000);
    self->multiplier = (uint64_t)(((unsigned __int128)(end_ns - self->base_ns) << 48)
                                  / (end_ticks - self->base_ticks));
}

/* --- the histograms --------------------------------------------------------------------------- */

static inline void record(struct histogram *self, uint64_t from_ns, uint64_t to_ns, uint64_t n)
{
    uint64_t value = to_ns > from_ns ? to_ns - from_ns : 0;
    unsigned shift = 63u - (unsigned)__builtin_clzll(value | ((2u << MAGNITUDE) - 1)) - MAGNITUDE;
    uint64_t index = ((uint64_t)shift << MAGNITUDE) + (value >> shift);
    if (unlikely(value < self->minimum))
        self->minimum = value;
    if (unlikely(value > self->maximum))
        self->maximum = value;
    self->counts[index < BUCKETS ? index : BUCKETS - 1] += n;
}

/* --- the book --------------------------------------------------------------------------------- */

/* Better levels have smaller indices on both sides. */
static inline uint64_t index_of(const struct baseline *self, unsigned side, uint64_t tick)
{
    uint64_t ask = tick - (uint64_t)self->first_tick;
    return side == BID ? LEVELS - 1 - ask : ask;
}

static inline int64_t price_of(const struct baseline *self, unsigned side, uint64_t index)
{
    uint64_t ask = side == BID ? LEVELS - 1 - index : index;
    return (self->first_tick + (int64_t)ask) * self->tick_size;
}

static inline uint64_t first_occupied(const struct side *self)
{
    uint64_t word;
    if (self->summary == 0)
        return NONE;
    word = (uint64_t)__builtin_ctzll(self->summary);
    return word * 64 + (uint64_t)__builtin_ctzll(self->occupied[word]);
}

static inline int crosses(uint64_t bid, uint64_t ask)
{
    return bid != NONE && ask != NONE && bid + ask <= LEVELS - 1;
}

static inline void publish_top(struct baseline *self)
{
    uint64_t version = self->top.version + 1;
    int64_t *slot = self->top.slots[version & 1];
    unsigned side;
    for (side = 0; side < SIDES; side++) {
        uint64_t best = self->sides[side].best;
        slot[2 * side] = best == NONE ? 0 : price_of(self, side, best);
        slot[2 * side + 1] = best == NONE ? 0 : (int64_t)self->sides[side].quantities[best];
    }
    __atomic_store_n(&self->top.version, version, __ATOMIC_RELEASE);
}

static void clear_side(struct baseline *self, unsigned side)
{
    memset(&self->sides[side], 0, sizeof(struct side));
    self->sides[side].best = NONE;
}

/* What the record makes of a level that holds `held`; all ones where it cannot. */
static inline uint64_t quantity_after(const struct transaction *record, uint64_t held)
{
    int relative = record->kind <= EXECUTE;
    int takes = record->kind == CANCEL || record->kind == EXECUTE;
    uint64_t amount = record->kind == SET_WIDE ? record->id : record->size;
    uint64_t result;
    if (unlikely(relative && amount == 0))
        return UINT64_MAX;
    amount = record->kind == DELETE ? 0 : amount;
    result = (relative ? held : 0) + (takes ? -amount : amount);
    return unlikely(result > INT64_MAX) ? UINT64_MAX : result;
}

/* The level of a record; NONE if it lies outside the window, or is not a record. */
static inline uint64_t level_of(const struct baseline *self, const struct transaction *record)
{
    uint64_t quotient, tick, index;
    if (unlikely(record->side > ASK || record->price <= 0))
        return NONE;
    quotient = (uint64_t)record->price * self->inverse;
    tick = quotient >> self->shift | quotient << (-self->shift & 63);
    if (unlikely(tick > self->limit))
        return NONE;
    index = index_of(self, record->side, tick);
    return likely(index < LEVELS) ? index : NONE;
}

INLINE int apply_alone(struct baseline *self, const struct transaction *record)
{
    struct side *side;
    uint64_t index, word, before, after, quantity, best;
    if (unlikely(record->kind >= CLEAR)) {
        if (record->kind >= KINDS || record->side > ASK)
            return 0;
        if (record->kind == CLEAR && self->sides[record->side].best != NONE) {
            clear_side(self, record->side);
            publish_top(self);
        }
        return 1;
    }
    index = level_of(self, record);
    if (unlikely(index == NONE))
        return 0;
    side = &self->sides[record->side];
    quantity = quantity_after(record, side->quantities[index]);
    if (unlikely(quantity == UINT64_MAX))
        return 0;
    side->quantities[index] = quantity;
    word = index / 64;
    before = side->occupied[word];
    after = (before & ~(UINT64_C(1) << (index & 63))) | (uint64_t)(quantity != 0) << (index & 63);
    side->occupied[word] = after;
    if ((before == 0) != (after == 0))
        side->summary ^= UINT64_C(1) << word;
    best = side->best;
    if (quantity != 0)
        side->best = index < best ? index : best;
    else if (index == best)
        side->best = first_occupied(side);
    if (index <= best)
        publish_top(self);
    if (unlikely(quantity != 0 && crosses(self->sides[BID].best, self->sides[ASK].best)))
        self->crossed++;
    return 1;
}

INLINE int apply_shared(struct baseline *self, const struct transaction *record)
{
    struct side *side, *other;
    uint64_t index, word, bit, held, quantity, opposite;
    if (unlikely(record->kind >= CLEAR)) {
        if (record->kind >= KINDS || record->side > ASK)
            return 0;
        if (record->kind == CLEAR)
            clear_side(self, record->side);
        return 1;
    }
    index = level_of(self, record);
    if (unlikely(index == NONE))
        return 0;
    side = &self->sides[record->side];
    other = &self->sides[record->side ^ 1];
    word = index / 64;
    bit = UINT64_C(1) << (index & 63);
    held = __atomic_load_n(&side->quantities[index], __ATOMIC_ACQUIRE);
    do {
        quantity = quantity_after(record, held);
        if (unlikely(quantity == UINT64_MAX))
            return 0;
        if (held == 0 && quantity != 0
                && __atomic_fetch_or(&side->occupied[word], bit, __ATOMIC_ACQ_REL) == 0)
            __atomic_fetch_or(&side->summary, UINT64_C(1) << word, __ATOMIC_ACQ_REL);
    } while (!__atomic_compare_exchange_n(&side->quantities[index], &held, quantity, 1,
                                          __ATOMIC_ACQ_REL, __ATOMIC_RELAXED));
    if (held != 0 && quantity == 0
            && __atomic_and_fetch(&side->occupied[word], ~bit, __ATOMIC_ACQ_REL) == 0)
        __atomic_fetch_and(&side->summary, ~(UINT64_C(1) << word), __ATOMIC_ACQ_REL);
    if (quantity != 0 && (record->kind == ADD || record->kind == SET || record->kind == SET_WIDE)) {
        opposite = first_occupied(other);
        if (unlikely(crosses(record->side == BID ? index : opposite,
                             record->side == BID ? opposite : index)))
            __atomic_fetch_add(&self->crossed, 1, __ATOMIC_RELAXED);
    }
    return 1;
}

/* --- the bundles ------------------------------------------------------------------------------ */

struct open_bundle {
    struct bundle *bundle;
    uint64_t deadline_ns;
    uint32_t accepted, additions;           /* of its transactions, how many, and in how many steps */
    uint32_t added[BUNDLE];
    uint64_t added_ns[BUNDLE];
};

static inline void seal(struct baseline *self, struct open_bundle *open, uint32_t reason,
                        uint64_t at_ns)
{
    struct bundle *bundle = open->bundle;
    uint32_t i;
    if (bundle->count < BUNDLE)
        memset(&bundle->transactions[bundle->count], 0,
               (BUNDLE - bundle->count) * sizeof(struct transaction));
    bundle->reason = reason;
    bundle->sealed_ts_ns = at_ns;
    for (i = 0; i < open->additions; i++)
        record(&self->histograms[HOLD], open->added_ns[i], at_ns, open->added[i]);
    self->sealed[reason]++;
    self->bundles++;
    open->bundle = NULL;
}

/* What has been put into the open bundle since the last time was accepted at `at_ns`. */
static inline void accept(struct baseline *self, struct open_bundle *open, uint64_t at_ns)
{
    if (open->additions == 0)
        open->deadline_ns = at_ns + self->timeout_ns;
    open->added[open->additions] = open->bundle->count - open->accepted;
    open->added_ns[open->additions++] = at_ns;
    open->accepted = open->bundle->count;
    if (open->accepted == BUNDLE)
        seal(self, open, SEAL_SIZE, at_ns);
}

static void take(struct baseline *self, uint64_t *taken, struct bundle *capture)
{
    uint64_t at_ns = now_ns(self);
    uint32_t i, run;
    for (; *taken < self->bundles; ++*taken) {
        const struct bundle *bundle = &self->ring[*taken % RING];
        record(&self->histograms[DELIVERY], bundle->sealed_ts_ns, at_ns, 1);
        for (i = 0; i < bundle->count; i += run) {
            uint64_t due_ns = bundle->transactions[i].ingress_ts_ns;
            for (run = 1; i + run < bundle->count
                          && bundle->transactions[i + run].ingress_ts_ns == due_ns; run++)
                ;
            record(&self->histograms[TOTAL], due_ns, at_ns, run);
        }
        self->delivered += bundle->count;
        if (capture != NULL)
            capture[*taken] = *bundle;
    }
}

static inline void put(struct baseline *self, struct open_bundle *open,
                       const struct transaction *record, uint64_t due_ns, uint64_t at_ns)
{
    struct transaction *place;
    if (open->bundle == NULL) {
        open->bundle = &self->ring[self->bundles % RING];
        open->bundle->count = open->accepted = open->additions = 0;
    }
    place = &open->bundle->transactions[open->bundle->count];
    *place = *record;
    place->ingress_ts_ns = due_ns;
    self->emitted++;
    if (++open->bundle->count == BUNDLE)
        accept(self, open, at_ns);
}

/* --- the strategy ----------------------------------------------------------------------------- */

/* What it makes of the record lies in `out`, which is zeros before. */
static inline int32_t ask(struct baseline *self, const struct transaction *record, uint64_t due_ns,
                          uint64_t at_ns, strategy strategy, void *user_data,
                          struct transaction *out)
{
    const struct side *bids = &self->sides[BID], *asks = &self->sides[ASK];
    struct transaction stamped = *record;
    struct view view = {
        .bid_price = bids->best == NONE ? 0 : price_of(self, BID, bids->best),
        .bid_quantity = bids->best == NONE ? 0 : (int64_t)bids->quantities[bids->best],
        .ask_price = asks->best == NONE ? 0 : price_of(self, ASK, asks->best),
        .ask_quantity = asks->best == NONE ? 0 : (int64_t)asks->quantities[asks->best],
        .position = self->applied + self->rejected,
        .now_ns = at_ns,
        .tick_size = self->tick_size,
        .market = record->market,
        .book = self,
    };
    stamped.ingress_ts_ns = due_ns;
    return strategy(&stamped, &view, out, ROOM, user_data);
}

/* --- the loop --------------------------------------------------------------------------------- */

INLINE uint64_t run(struct baseline *self, const struct transaction *records, uint64_t n,
                    uint64_t passes, struct bundle *capture,
                    int (*apply)(struct baseline *, const struct transaction *),
                    strategy strategy, void *user_data)
{
    struct open_bundle open = {.bundle = NULL};
    struct transaction out[ROOM] = {{0}};
    uint64_t taken = 0, start_ns = kernel_ns(), pass, first, part, i;
    int32_t made, j;
    for (pass = 0; pass < passes; pass++) {
        for (first = 0; first < n; first += BATCH) {
            uint64_t end = first + BATCH < n ? first + BATCH : n;
            uint64_t due_ns = now_ns(self);
            record(&self->histograms[LATE], due_ns, now_ns(self), end - first);
            for (part = first; part < end; part += TOGETHER) {
                uint64_t part_end = part + TOGETHER < end ? part + TOGETHER : end;
                uint64_t emitted = self->emitted, at_ns = now_ns(self);
                if (open.bundle != NULL && unlikely(at_ns >= open.deadline_ns))
                    seal(self, &open, SEAL_TIMEOUT, at_ns);
                for (i = part; i < part_end; i++) {
                    if (unlikely(!apply(self, &records[i]))) {
                        self->rejected++;
                        continue;
                    }
                    self->applied++;
                    if (strategy == NULL) {
                        put(self, &open, &records[i], due_ns, at_ns);
                        continue;
                    }
                    made = ask(self, &records[i], due_ns, at_ns, strategy, user_data, out);
                    for (j = 0; j < made; j++)
                        put(self, &open, &out[j], due_ns, at_ns);
                    if (made > 0)
                        memset(out, 0, (size_t)made * sizeof *out);
                }
                if (open.bundle != NULL && open.bundle->count > open.accepted)
                    accept(self, &open, at_ns);
                record(&self->histograms[TRANSIT], due_ns, at_ns, self->emitted - emitted);
            }
            take(self, &taken, capture);
        }
    }
    if (open.bundle != NULL)
        seal(self, &open, SEAL_DRAIN, now_ns(self));
    take(self, &taken, capture);
    return kernel_ns() - start_ns;
}

/* --- the face --------------------------------------------------------------------------------- */

struct baseline *baseline_new(int64_t tick_size, int64_t base_price, uint64_t timeout_ns,
                              int counter)
{
    struct baseline *self = aligned_alloc(128, (sizeof(struct baseline) + 127) / 128 * 128);
    uint64_t odd = (uint64_t)tick_size;
    unsigned i;
    if (self == NULL)
        return NULL;
    memset(self, 0, sizeof(*self));
    for (i = 0; i < HISTOGRAMS; i++)
        self->histograms[i].minimum = UINT64_MAX;
    self->timeout_ns = timeout_ns;
    self->tick_size = tick_size;
    self->first_tick = base_price / tick_size;
    self->limit = UINT64_MAX / odd;
    for (; !(odd & 1); odd >>= 1)
        self->shift++;
    self->inverse = odd;
    for (i = 0; i < 5; i++)
        self->inverse *= 2 - odd * self->inverse;
    clear_side(self, BID);
    clear_side(self, ASK);
    if (counter)
        calibrate(self);
    return self;
}

void baseline_free(struct baseline *self) { free(self); }

/* Nanoseconds that `passes` over the records took. `capture`: room for every bundle, or NULL.
   `strategy`: NULL, or one to be asked, of the book with one writer alone. */
uint64_t baseline_run(struct baseline *self, const struct transaction *records, uint64_t n,
                      uint64_t passes, int shared, strategy strategy, void *user_data,
                      struct bundle *capture)
{
    if (strategy != NULL)
        return run(self, records, n, passes, capture, apply_alone, strategy, user_data);
    return shared ? run(self, records, n, passes, capture, apply_shared, NULL, NULL)
                  : run(self, records, n, passes, capture, apply_alone, NULL, NULL);
}

uint64_t baseline_applied(const struct baseline *self) { return self->applied; }
uint64_t baseline_emitted(const struct baseline *self) { return self->emitted; }
uint64_t baseline_rejected(const struct baseline *self) { return self->rejected; }
uint64_t baseline_crossed(const struct baseline *self) { return self->crossed; }
uint64_t baseline_bundles(const struct baseline *self) { return self->bundles; }
uint64_t baseline_delivered(const struct baseline *self) { return self->delivered; }

/* How many values a histogram holds: every transaction, or for deliveries every bundle. */
uint64_t baseline_recorded(const struct baseline *self, unsigned histogram)
{
    uint64_t sum = 0;
    unsigned i;
    for (i = 0; i < BUCKETS; i++)
        sum += self->histograms[histogram].counts[i];
    return sum;
}
