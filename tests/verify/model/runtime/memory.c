/* C11's memory, as a machine that runs one operation at a time.

   Of every word that is accessed atomically all stores are kept, in modification order. A thread
   has a *view*: of each word the oldest store that it may still read. A release store carries its
   thread's view along, an acquire load that reads it takes the view over; so whatever happened
   before is seen, and nothing else has to be. Views also hold vector clocks, by which two plain
   accesses to one byte, one of them a write and neither before the other, are found to be a data
   race.

   (The view-based formulation of RC11: Lahav, Vafeiadis, Kang, Hur, Dreyer, "Repairing Sequential
   Consistency in C/C++11", PLDI 2017; Kang et al., "A Promising Semantics for Relaxed-Memory
   Concurrency", POPL 2017, without its promises.) */

#include "checker.h"

#include <stdio.h>
#include <string.h>

enum { LINE = 64, NAMES = 64, NO_EVENT = -1, NO_THREAD = 0xff };

typedef struct {
    uint32_t length;                    /* words beyond it stand at position 0 */
    uint32_t clock[ALL_THREADS];
    uint16_t position[LOCATIONS];
} view;

typedef struct {
    uint64_t value;
    view *message;                      /* what an acquire load that reads it learns, or NULL */
    int32_t event;
    uint32_t clock;                     /* its thread's, when it was made */
    uint8_t thread;
    bool update;                        /* follows the store that it read without a gap */
    bool after_relaxed_load;            /* hardware may perform it before that load */
} store;

typedef struct {
    uint32_t offset;
    uint32_t count;
    uint8_t size;
    store *stores[POSITIONS];
} location;

typedef struct {
    view seen;                          /* what happened before the thread's next operation */
    view pending;                       /* what an acquire fence would add */
    view released;                      /* seen at the last release fence */
    bool has_released;
    bool loaded_relaxed;
} thread_memory;

static _Alignas(128) uint8_t arena[ARENA_BYTES];
static uint8_t prepared[ARENA_BYTES];
static uint32_t arena_used;
static bool line_written[ARENA_BYTES / LINE];
static uint32_t written_lines[ARENA_BYTES / LINE];
static uint32_t written_line_count;

static struct {
    uint32_t offset;
    const char *name;
} names[NAMES];
static uint32_t name_count;

static location locations[LOCATIONS];
static uint32_t location_count;
static uint32_t location_of[WORDS];     /* 1 + number, in the execution that `stamp` says */
static uint32_t stamp[WORDS];
static uint32_t execution;
static store stores[STORES];
static view messages[STORES];
static uint32_t store_count, message_count;
static thread_memory memories[ALL_THREADS];
static view sequential;                 /* what the last sequentially consistent fence saw */
static uint32_t limits;
static uint32_t buffered_authors;       /* whose early stores others have read: a bit a thread */
static const location *buffered_word;   /* where the first was read */
static bool buffered_words_differ;

/* Clocks go on from execution to execution: what is older than the present one is no race. */
static uint32_t clock_base;
static uint32_t write_clock[ARENA_BYTES];
static uint8_t write_thread[ARENA_BYTES];
static uint32_t read_clock[ALL_THREADS][ARENA_BYTES];
static uint32_t atomic_write_clock[ALL_THREADS][WORDS];
static uint32_t atomic_read_clock[ALL_THREADS][WORDS];
/* For reports. */
static uintptr_t write_code[WORDS];
static uintptr_t read_code[ALL_THREADS][WORDS];

/* ---- the arena ---- */

bool memory_holds(uintptr_t address)
{
    return address - (uintptr_t)arena < ARENA_BYTES;
}

void *memory_allocate(size_t size)
{
    uint32_t offset = arena_used;
    size = (size + 127) & ~(size_t)127;
    if (size > ARENA_BYTES - arena_used)
        return NULL;
    arena_used += size;
    return arena + offset;
}

void model_begin(void)
{
    memset(arena, 0, arena_used);
    arena_used = 0;
    name_count = 0;
    limits = 0;
    model_forget();
    preparing = true;
}

void model_end(void)
{
    preparing = false;
}

void *model_allocate(size_t size)
{
    return memory_allocate(size);
}

void model_name(const void *address, const char *name)
{
    if (memory_holds((uintptr_t)address) && name_count < NAMES) {
        names[name_count].offset = (uint32_t)((const uint8_t *)address - arena);
        names[name_count++].name = name;
    }
}

const char *model_describe(uint32_t offset, uint32_t *within)
{
    const char *name = "arena";
    *within = offset;
    for (uint32_t i = 0; i < name_count; i++) {
        if (names[i].offset <= offset && offset - names[i].offset <= *within) {
            *within = offset - names[i].offset;
            name = names[i].name;
        }
    }
    return name;
}

void memory_snapshot(void)
{
    memcpy(prepared, arena, arena_used);
    memset(line_written, 0, sizeof line_written);
    written_line_count = 0;
}

static void mark_written(uint32_t offset, size_t size)
{
    for (uint32_t line = offset / LINE; line <= (offset + size - 1) / LINE; line++) {
        if (!line_written[line]) {
            line_written[line] = true;
            written_lines[written_line_count++] = line;
        }
    }
}

uint32_t memory_limits(void)
{
    return limits;
}

/* ---- views ---- */

static uint32_t view_position(const view *self, uint32_t number)
{
    return number < self->length ? self->position[number] : 0;
}

static void view_raise(view *self, uint32_t number, uint32_t position)
{
    if (number >= self->length) {
        memset(self->position + self->length, 0,
               (number + 1 - self->length) * sizeof self->position[0]);
        self->length = number + 1;
    }
    if (self->position[number] < position)
        self->position[number] = (uint16_t)position;
}

static void view_copy(view *self, const view *other)
{
    memcpy(self, other, offsetof(view, position) + other->length * sizeof other->position[0]);
}

static void view_join(view *self, const view *other)
{
    uint32_t common = self->length < other->length ? self->length : other->length;
    for (uint32_t thread = 0; thread < ALL_THREADS; thread++)
        if (self->clock[thread] < other->clock[thread])
            self->clock[thread] = other->clock[thread];
    for (uint32_t number = 0; number < common; number++)
        if (self->position[number] < other->position[number])
            self->position[number] = other->position[number];
    if (other->length > self->length) {
        memcpy(self->position + common, other->position + common,
               (other->length - common) * sizeof self->position[0]);
        self->length = other->length;
    }
}

static void view_clear(view *self)
{
    self->length = 0;
    for (uint32_t thread = 0; thread < ALL_THREADS; thread++)
        self->clock[thread] = clock_base;
}

/* ---- one execution ---- */

void memory_begin(bool verify)
{
    for (uint32_t thread = 0; thread < ALL_THREADS; thread++)
        if (clock_base < memories[thread].seen.clock[thread])
            clock_base = memories[thread].seen.clock[thread];
    if (clock_base > UINT32_MAX / 2) {
        memset(write_clock, 0, sizeof write_clock);
        memset(read_clock, 0, sizeof read_clock);
        memset(atomic_write_clock, 0, sizeof atomic_write_clock);
        memset(atomic_read_clock, 0, sizeof atomic_read_clock);
        clock_base = 0;
    }
    for (uint32_t thread = 0; thread < ALL_THREADS; thread++) {
        view_clear(&memories[thread].seen);
        memories[thread].seen.clock[thread]++;
        view_clear(&memories[thread].pending);
        memories[thread].has_released = false;
        memories[thread].loaded_relaxed = false;
    }
    view_clear(&sequential);
    while (written_line_count > 0) {
        uint32_t line = written_lines[--written_line_count];
        line_written[line] = false;
        memcpy(arena + line * LINE, prepared + line * LINE, LINE);
    }
    location_count = store_count = message_count = 0;
    buffered_authors = 0;
    buffered_words_differ = false;
    execution++;
    if (verify && memcmp(arena, prepared, arena_used) != 0) {
        uint32_t offset = 0;
        while (arena[offset] == prepared[offset])
            offset++;
        fail(MODEL_UNSUPPORTED, 0, 0, "%s was written by code that the checker does not see",
             describe(offset));
    }
}

void memory_begin_final(void)
{
    for (uint32_t thread = 0; thread < MODEL_THREADS; thread++)
        view_join(&memories[FINAL].seen, &memories[thread].seen);
}

static store *append(location *word, uint64_t value, view *message, uint8_t thread)
{
    store *made;
    if (store_count == STORES || word->count == POSITIONS)
        fail(MODEL_UNSUPPORTED, 0, 0, "%s: more stores than an execution may have",
             describe(word->offset));
    made = &stores[store_count++];
    *made = (store){.value = value, .message = message, .event = (int32_t)event_count,
                    .thread = thread};
    word->stores[word->count++] = made;
    return made;
}

static location *location_at(uint32_t offset, uint8_t size)
{
    uint32_t index = offset / 8;
    location *word;
    if (stamp[index] != execution) {
        uint64_t value = 0;
        if (location_count == LOCATIONS)
            fail(MODEL_UNSUPPORTED, 0, 0, "more words than an execution may have");
        stamp[index] = execution;
        location_of[index] = location_count;
        word = &locations[location_count++];
        word->offset = offset;
        word->size = size;
        word->count = 0;
        memcpy(&value, arena + offset, size);
        append(word, value, NULL, NO_THREAD)->event = NO_EVENT;
    }
    word = &locations[location_of[index]];
    if (word->offset != offset || word->size != size)
        fail(MODEL_UNSUPPORTED, 0, 0, "%s: atomics of different sizes in one word",
             describe(offset));
    return word;
}

uint32_t memory_offset(uintptr_t address, size_t size)
{
    if (!memory_holds(address))
        fail(MODEL_UNSUPPORTED, 0, 0, "an atomic that lies outside the arena");
    if (address % size != 0)
        fail(MODEL_UNSUPPORTED, 0, 0, "an atomic at a misaligned address");
    return (uint32_t)(address - (uintptr_t)arena);
}

uint32_t memory_newest(uint32_t offset)
{
    return locations[location_of[offset / 8]].count - 1;
}

uint64_t memory_value(uint32_t offset, uint32_t position)
{
    return locations[location_of[offset / 8]].stores[position]->value;
}

uint32_t memory_author(uint32_t offset, uint32_t position)
{
    return locations[location_of[offset / 8]].stores[position]->thread;
}

uint32_t memory_oldest(uint32_t thread, const operation *op)
{
    location *word = location_at(op->offset, op->size);
    uint32_t number = (uint32_t)(word - locations);
    uint32_t oldest = view_position(&memories[thread].seen, number);
    if (options->sequential)
        return word->count - 1;
    if (op->order == SEQ_CST && view_position(&sequential, number) > oldest)
        oldest = view_position(&sequential, number);
    return oldest;
}

/* ---- data races ---- */

_Noreturn static void report_race(uint32_t thread, uint32_t offset, bool write, uintptr_t code,
                                  uint32_t other, bool other_wrote, uintptr_t other_code)
{
    fail(MODEL_FAILED, code, other_code, "data race: %s %s %s, and %s %s it at any time",
         thread_name(thread), write ? "writes" : "reads", describe(offset), thread_name(other),
         other_wrote ? "writes" : "reads");
}

static void check_plain(uint32_t thread, uint32_t offset, size_t size, bool write, uintptr_t code)
{
    const uint32_t *clock = memories[thread].seen.clock;
    for (uint32_t byte = offset; byte < offset + size; byte++) {
        if (write_clock[byte] > clock[write_thread[byte]])
            report_race(thread, byte, write, code, write_thread[byte], true,
                        write_code[byte / 8]);
        for (uint32_t other = 0; write && other < MODEL_THREADS; other++)
            if (read_clock[other][byte] > clock[other])
                report_race(thread, byte, true, code, other, false, read_code[other][byte / 8]);
    }
}

static void check_atomic(uint32_t thread, uint32_t offset, size_t size, bool write, uintptr_t code)
{
    const uint32_t *clock = memories[thread].seen.clock;
    for (uint32_t word = offset / 8; word <= (offset + size - 1) / 8; word++) {
        for (uint32_t other = 0; other < MODEL_THREADS; other++) {
            if (atomic_write_clock[other][word] > clock[other])
                report_race(thread, offset, write, code, other, true, write_code[word]);
            if (write && atomic_read_clock[other][word] > clock[other])
                report_race(thread, offset, true, code, other, false, read_code[other][word]);
        }
    }
}

void memory_access(uint32_t thread, uintptr_t address, size_t size, bool write, uintptr_t code)
{
    uint32_t offset = (uint32_t)(address - (uintptr_t)arena);
    uint32_t now = memories[thread].seen.clock[thread];
    check_plain(thread, offset, size, write, code);
    check_atomic(thread, offset, size, write, code);
    for (uint32_t word = offset / 8; word <= (offset + size - 1) / 8; word++) {
        if (write && stamp[word] == execution)
            fail(MODEL_UNSUPPORTED, code, 0, "%s: a plain write to an atomic", describe(offset));
        if (write)
            write_code[word] = code;
        else
            read_code[thread][word] = code;
    }
    if (write) {
        mark_written(offset, size);
        memset(write_thread + offset, (int)thread, size);
    }
    for (uint32_t byte = offset; byte < offset + size; byte++)
        (write ? write_clock : read_clock[thread])[byte] = now;
}

/* ---- atomic operations ---- */

static view *new_message(const view *source)
{
    if (message_count == STORES)
        fail(MODEL_UNSUPPORTED, 0, 0, "more stores than an execution may have");
    view_copy(&messages[message_count], source);
    return &messages[message_count++];
}

static void read_store(uint32_t thread, location *word, uint32_t position, uint8_t order)
{
    thread_memory *self = &memories[thread];
    const store *read = word->stores[position];
    view_raise(&self->seen, (uint32_t)(word - locations), position);
    if (read->message != NULL)
        view_join(acquires(order) ? &self->seen : &self->pending, read->message);
    if (read->thread == thread || read->thread == NO_THREAD)
        return;
    if (!acquires(order))
        self->loaded_relaxed = true;
    /* No thread reads what the final check stores, and earlier events cannot depend on it. */
    if (read->after_relaxed_load && thread != FINAL
        && self->seen.clock[read->thread] < read->clock) {
        /* It takes two to read each other's future, and two words: coherence forbids it in one. */
        if (buffered_authors == 0)
            buffered_word = word;
        buffered_words_differ = buffered_words_differ || word != buffered_word;
        buffered_authors |= 1u << read->thread;
        if (buffered_words_differ && buffered_authors & (buffered_authors - 1))
            limits |= MODEL_LOAD_BUFFERING;
    }
}

static void write_store(uint32_t thread, location *word, uint64_t value, uint8_t order,
                        bool early, bool continues, const view *continued)
{
    store *made;
    thread_memory *self = &memories[thread];
    uint32_t number = (uint32_t)(word - locations);
    uint32_t position = word->count;
    view *message = NULL;
    view_raise(&self->seen, number, position);
    if (releases(order))
        message = new_message(&self->seen);
    else if (self->has_released)
        message = new_message(&self->released);
    if (continued != NULL) {
        if (message == NULL)
            message = new_message(continued);
        else
            view_join(message, continued);
    }
    made = append(word, value, message, (uint8_t)thread);
    made->clock = self->seen.clock[thread];
    made->update = continues;
    made->after_relaxed_load = early && message == NULL;
    memcpy(arena + word->offset, &value, word->size);
    mark_written(word->offset, word->size);
    if (releases(order))
        self->seen.clock[thread]++;
    if (order == SEQ_CST)
        view_raise(&sequential, number, position);
}

static void fence(uint32_t thread, uint8_t order)
{
    thread_memory *self = &memories[thread];
    if (acquires(order)) {
        view_join(&self->seen, &self->pending);
        self->loaded_relaxed = false;
    }
    if (order == SEQ_CST) {
        view_join(&self->seen, &sequential);
        view_copy(&sequential, &self->seen);
    }
    if (releases(order)) {
        view_copy(&self->released, &self->seen);
        self->has_released = true;
        self->seen.clock[thread]++;
    }
}

static uint64_t updated(const operation *op, uint64_t old)
{
    uint64_t mask = UINT64_MAX >> (64 - 8 * op->size);
    switch (op->update) {
    case ADD: return (old + op->operand) & mask;
    case SUBTRACT: return (old - op->operand) & mask;
    case AND: return old & op->operand;
    case OR: return old | op->operand;
    case XOR: return old ^ op->operand;
    case NAND: return ~(old & op->operand) & mask;
    default: return op->operand;
    }
}

outcome memory_perform(uint32_t thread, const operation *op, int choice)
{
    thread_memory *self = &memories[thread];
    model_event *event = &events[event_count];
    bool early = self->loaded_relaxed;
    outcome result = {0, true};
    location *word;
    uint32_t newest, position, index;
    *event = (model_event){.thread = (uint8_t)thread, .kind = op->kind, .order = op->order,
                           .choice = (int16_t)choice, .read_from = NO_EVENT,
                           .offset = op->offset, .code = op->code};
    if (op->order == SEQ_CST)
        limits |= MODEL_SEQUENTIAL_CONSISTENCY;
    if (op->kind == FENCE) {
        fence(thread, op->order);
        return result;
    }
    word = location_at(op->offset, op->size);
    newest = word->count - 1;
    position = choice == AT_END ? newest : (uint32_t)choice;
    index = op->offset / 8;
    if (op->kind != STORE) {
        result.seen = word->stores[position]->value;
        event->seen = result.seen;
        event->position = (int16_t)position;
        event->read_from = word->stores[position]->event;
    }
    if (op->kind == SWAP)
        result.succeeded = choice == AT_END && result.seen == op->expected;
    if (op->kind == LOAD || !result.succeeded) {
        uint8_t order = op->kind == LOAD ? op->order : op->failure_order;
        event->order = order;
        check_plain(thread, op->offset, op->size, false, op->code);
        atomic_read_clock[thread][index] = self->seen.clock[thread];
        read_code[thread][index] = op->code;
        read_store(thread, word, position, order);
        return result;
    }
    check_plain(thread, op->offset, op->size, true, op->code);
    atomic_write_clock[thread][index] = self->seen.clock[thread];
    write_code[index] = op->code;
    event->written = true;
    event->value = op->kind == UPDATE ? updated(op, result.seen) : op->operand;
    if (op->kind == STORE) {
        /* C11 would also let it come earlier in the modification order, but for updates, which
           follow what they read without a gap. */
        position = view_position(&self->seen, (uint32_t)(word - locations));
        while (++position <= newest)
            if (!word->stores[position]->update)
                limits |= MODEL_UNORDERED_STORES;
        write_store(thread, word, event->value, op->order, early, false, NULL);
    } else {
        const view *continued = word->stores[newest]->message;
        read_store(thread, word, newest, op->order);
        write_store(thread, word, event->value, op->order, early, true, continued);
    }
    event->position = (int16_t)(word->count - 1);
    return result;
}
