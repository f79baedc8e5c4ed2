/* The search: which thread goes next, and what it reads.

   Threads are coroutines that stop before each atomic operation which another thread could notice.
   An execution is the list of choices made at these points; the search runs it again up to its
   last choice with an alternative left, and takes that one: depth first, without stored states.

   Sleep sets keep it from running two orders of independent operations. An alternative is a thread
   *and the store it reads*, so that a load of an older store commutes with a new store, and what is
   explored is each graph of who reads from whom once.

   (Godefroid, "Partial-Order Methods for the Verification of Concurrent Systems", 1996; reads-from
   labels as in Kokologiannakis et al., "Effective Stateless Model Checking for C/C++ Concurrency",
   POPL 2018.) */

#define _GNU_SOURCE
#include "checker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum {
    STACK_BYTES = 256 << 10,
    DEPTH = 1 << 14,
    ALTERNATIVES = 64,
    SLEEPERS = 128,
    LOOKS = 512,                        /* words that one round of a spin loop looks at */
    WARM_UP = 16,
    LOCAL_RUN = 20000,                  /* rounds without a choice, before it is called a hang */
    SITES = 4096,
};

enum thread_state { READY, WAITING, RETURNED };
enum execution_end { COMPLETE, ABANDONED, FAILED };

typedef struct {
    uint32_t offset;
    uint32_t first, last;               /* positions read in this round */
} look;

typedef struct {
    const char *name;
    model_body body;
    void *state;
} thread_plan;

typedef struct {
    enum thread_state state;
    bool started;
    bool strict;                        /* waits for news whatever happens */
    bool impatient;                     /* looks again without news, until it looks elsewhere */
    bool changed;                       /* has stored since it last relaxed */
    int choice;
    uint32_t looks, looks_before, spurious, patience;
    look looked[LOOKS];                 /* in this round of a spin loop, and in the one before */
    look looked_before[LOOKS];
    operation pending;
    ucontext_t context;
    jmp_buf resume;
} coroutine;

typedef struct {
    uint8_t thread;
    bool writes;
    bool everywhere;                    /* a fence, or a wait that ends: depends on all words */
    bool in_order;                      /* sequentially consistent */
    int16_t choice;
    uint32_t offset;
} alternative;

typedef struct {
    uint32_t count, taken, sleepers;
    alternative alternatives[ALTERNATIVES];
    alternative sleeping[SLEEPERS];
} choice_point;

bool preparing, checking;
model_event events[EVENTS];
uint32_t event_count;
const model_options *options;

static thread_plan plans[MODEL_THREADS];
static uint32_t planned;
static model_body final_body;
static void *final_state;

static coroutine coroutines[MODEL_THREADS];
static _Alignas(64) uint8_t stacks[MODEL_THREADS][STACK_BYTES];
static uint32_t current;
static jmp_buf scheduler, abandon;
static model_result *result;

static choice_point *points;
static uint32_t depth, recorded;        /* of this execution; of the one that is run again */
static bool walking;
static uint64_t random_state;
static const char *replay;
static uint64_t steps;
static uint32_t local_run;

/* Which threads ever load and store a word, a bit each, in any execution. An operation on a word
   that no other thread stores to (for a store: or reads) is not a choice. */
static uint8_t loaders[WORDS], storers[WORDS];
static bool learned;

static model_site sites[SITES];
static uint32_t site_count;
static uint32_t site_slots[2 * SITES];

/* ---- the model ---- */

void model_thread(const char *name, model_body body, void *state)
{
    if (planned == MODEL_THREADS) {
        fprintf(stderr, "a model has at most %d threads\n", MODEL_THREADS);
        abort();
    }
    plans[planned++] = (thread_plan){name, body, state};
}

void model_finish(model_body check, void *state)
{
    final_body = check;
    final_state = state;
}

void model_forget(void)
{
    planned = 0;
    final_body = NULL;
}

const char *thread_name(uint32_t thread)
{
    return thread == FINAL ? "the final check" : plans[thread].name;
}

const char *model_thread_name(uint32_t thread)
{
    return thread_name(thread);
}

const char *describe(uint32_t offset)
{
    static char text[2][96];
    static int turn;
    uint32_t within;
    const char *name = model_describe(offset, &within);
    turn = !turn;
    snprintf(text[turn], sizeof text[turn], "%s+%u", name, within);
    return text[turn];
}

_Noreturn void fail(enum model_verdict verdict, uintptr_t first, uintptr_t second,
                    const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(result->message, sizeof result->message, format, arguments);
    va_end(arguments);
    result->verdict = verdict;
    result->accesses[0] = first;
    result->accesses[1] = second;
    longjmp(abandon, FAILED);
}

_Noreturn static void give_up(void)
{
    longjmp(abandon, ABANDONED);
}

void model_check(bool condition, const char *claim)
{
    if (checking && !condition)
        fail(MODEL_FAILED, 0, 0, "%s: not so: %s", thread_name(current), claim);
}

void model_outcome(uint64_t value)
{
    uint32_t place = 0;
    if (walking)
        return;
    while (place < result->outcomes && result->outcome[place] != value)
        place++;
    if (place == MODEL_OUTCOMES)
        fail(MODEL_UNSUPPORTED, 0, 0, "more outcomes than can be told apart");
    if (place == result->outcomes) {
        result->outcomes++;
        result->outcome[place] = value;
        result->outcome_count[place] = 0;
    }
    result->outcome_count[place]++;
}

uint64_t model_ticks(void)
{
    return event_count;
}

/* ---- sites ---- */

static model_site *site_of(const operation *op)
{
    uint32_t slot = (uint32_t)(op->code * 0x9E3779B97F4A7C15u >> 32) % (2 * SITES);
    model_site *site;
    while (site_slots[slot] != 0) {
        site = &sites[site_slots[slot] - 1];
        if (site->code == op->code)
            return site;
        slot = (slot + 1) % (2 * SITES);
    }
    if (site_count == SITES)
        fail(MODEL_UNSUPPORTED, op->code, 0, "more atomic operations in the code than expected");
    site_slots[slot] = site_count + 1;
    site = &sites[site_count++];
    *site = (model_site){.code = op->code, .kind = op->kind, .order = op->order,
                         .failure_order = op->failure_order};
    return site;
}

uint32_t model_sites(model_site **first)
{
    *first = sites;
    return site_count;
}

uint32_t model_events(const model_event **first)
{
    *first = events;
    return event_count;
}

static void weaken(operation *op, uint8_t weakening)
{
    if (weakening == MODEL_NO_ACQUIRE)
        op->order = op->order == ACQ_REL ? RELEASE : RELAXED;
    else if (weakening == MODEL_NO_RELEASE)
        op->order = op->order == ACQ_REL ? ACQUIRE : RELAXED;
    else if (weakening == MODEL_NO_FAILURE_ACQUIRE)
        op->failure_order = RELAXED;
}

/* ---- threads ---- */

static void start(void)
{
    coroutine *self = &coroutines[current];
    plans[current].body(plans[current].state);
    self->state = RETURNED;
    longjmp(scheduler, 1);
}

static void run_thread(uint32_t thread)
{
    coroutine *self = &coroutines[thread];
    current = thread;
    local_run = 0;
    if (setjmp(scheduler) != 0)
        return;
    if (self->started)
        longjmp(self->resume, 1);
    self->started = true;
    getcontext(&self->context);
    self->context.uc_stack.ss_sp = stacks[thread];
    self->context.uc_stack.ss_size = STACK_BYTES;
    self->context.uc_link = NULL;
    makecontext(&self->context, start, 0);
    setcontext(&self->context);
}

static void to_scheduler(coroutine *self)
{
    if (setjmp(self->resume) == 0)
        longjmp(scheduler, 1);
}

static look *find_look(look *looked, uint32_t count, uint32_t offset)
{
    for (uint32_t i = 0; i < count; i++)
        if (looked[i].offset == offset)
            return &looked[i];
    return NULL;
}

static void remember_look(coroutine *self, uint32_t offset, uint32_t position)
{
    look *before = find_look(self->looked, self->looks, offset);
    if (before != NULL) {
        before->last = position;
    } else {
        if (self->looks == LOOKS)
            fail(MODEL_UNSUPPORTED, 0, 0, "%s looks at too many words in one round",
                 thread_name(current));
        self->looked[self->looks++] = (look){offset, position, position};
    }
}

/* A store of the value that was there already is no news, nor is one of its own. */
static bool differs(const coroutine *self, uint32_t offset, uint32_t first, uint32_t last)
{
    for (uint32_t position = first + 1; position <= last; position++)
        if (memory_author(offset, position) != (uint32_t)(self - coroutines)
            && memory_value(offset, position) != memory_value(offset, first))
            return true;
    return false;
}

static bool has_news(const coroutine *self)
{
    for (uint32_t i = 0; i < self->looks; i++)
        if (differs(self, self->looked[i].offset, self->looked[i].last,
                    memory_newest(self->looked[i].offset)))
            return true;
    return false;
}

static bool saw_news(const coroutine *self)
{
    for (uint32_t i = 0; i < self->looks; i++)
        if (differs(self, self->looked[i].offset, self->looked[i].first, self->looked[i].last))
            return true;
    return false;
}

static void wait_for_news(coroutine *self, bool strict)
{
    /* A look that missed what was there already is the same as a later look that sees it. */
    if (has_news(self))
        give_up();
    self->strict = strict;
    self->state = WAITING;
    to_scheduler(self);
}

void model_wait(void)
{
    coroutine *self = &coroutines[current];
    if (self->looks == 0)
        fail(MODEL_UNSUPPORTED, 0, 0, "%s waits and has not looked at anything",
             thread_name(current));
    /* What changed within the round may have been found only after it was needed. */
    if (!saw_news(self))
        wait_for_news(self, true);
    self->looks = 0;
}

void model_relax(void)
{
    coroutine *self = &coroutines[current];
    if (!checking || current == FINAL)
        return;
    if (self->impatient) {
        if (++local_run > LOCAL_RUN)
            fail(MODEL_FAILED, 0, 0, "%s spins for ever", thread_name(current));
        return;
    }
    if (self->looks == 0)
        return;
    if (!self->changed && self->looks == self->looks_before
        && memcmp(self->looked, self->looked_before, self->looks * sizeof(look)) == 0)
        wait_for_news(self, false);
    if (self->impatient)
        return;
    memcpy(self->looked_before, self->looked, self->looks * sizeof(look));
    self->looks_before = self->looks;
    self->looks = 0;
    self->changed = false;
}

/* Nothing that another thread does can change what this operation does, or the reverse. */
static bool is_local(const operation *op)
{
    uint32_t word = op->offset / 8;
    uint8_t self = (uint8_t)(1u << current);
    if (op->kind == FENCE)
        return op->order != SEQ_CST;
    if (op->kind == LOAD || op->kind == SWAP) {
        learned |= !(loaders[word] & self);
        loaders[word] |= self;
    }
    if (op->kind != LOAD) {
        learned |= !(storers[word] & self);
        storers[word] |= self;
        if (op->kind == UPDATE)
            loaders[word] |= self;
        return ((loaders[word] | storers[word]) & ~self) == 0;
    }
    return (storers[word] & ~self) == 0;
}

static bool changes(const model_event *event)
{
    return memory_value(event->offset, (uint32_t)event->position)
        != memory_value(event->offset, (uint32_t)event->position - 1);
}

outcome perform(operation op)
{
    coroutine *self = &coroutines[current];
    model_site *site;
    int choice = AT_END;
    bool local;
    outcome done;
    if (current != FINAL && self->impatient) {
        const look *again = find_look(self->looked, self->looks, op.offset);
        if (op.kind == LOAD && again != NULL)
            return (outcome){memory_value(op.offset, again->last), true};
        self->impatient = false;
        self->looks = self->looks_before = 0;
    }
    site = site_of(&op);
    site->executed++;
    weaken(&op, site->weakened);
    if (event_count == EVENTS || ++steps > options->most_steps)
        fail(MODEL_FAILED, op.code, 0, "an execution of more than %llu operations",
             (unsigned long long)steps - 1);
    if (current == FINAL) {
        done = memory_perform(FINAL, &op, AT_END);
        event_count++;
        return done;
    }
    local = is_local(&op);
    if (local && replay == NULL) {
        if (++local_run > LOCAL_RUN)
            fail(MODEL_FAILED, op.code, 0, "%s never returns", thread_name(current));
    } else {
        self->pending = op;
        to_scheduler(self);
        choice = self->choice;
    }
    done = memory_perform(current, &op, choice);
    if (op.kind == SWAP && op.weak && !done.succeeded && done.seen == op.expected)
        self->spurious--;
    if (events[event_count].written) {
        if (!local && changes(&events[event_count])) {
            self->changed = true;
            self->looks = 0;
        }
    } else if (op.kind != FENCE) {
        remember_look(self, op.offset, (uint32_t)events[event_count].position);
    }
    event_count++;
    return done;
}

void access_plainly(uintptr_t address, size_t size, bool write, uintptr_t code)
{
    if (!checking || size == 0)
        return;
    if (memory_holds(address))
        memory_access(current, address, size, write, code);
    else if (write && current != FINAL && address - (uintptr_t)stacks >= sizeof stacks)
        fail(MODEL_UNSUPPORTED, code, 0, "%s writes outside the arena", thread_name(current));
}

/* ---- choices ---- */

static bool independent(const alternative *a, const alternative *b)
{
    if (a->thread == b->thread)
        return false;
    if (a->everywhere || b->everywhere)
        return !(a->in_order && b->in_order) && !(a->everywhere && b->writes)
            && !(b->everywhere && a->writes);
    if (a->offset != b->offset)
        return true;
    if (a->in_order && b->in_order)
        return !(a->writes || b->writes);
    if (options->sequential)
        return !(a->writes || b->writes);
    return !(a->writes && b->writes);
}

static bool asleep(const choice_point *point, const alternative *one)
{
    for (uint32_t i = 0; i < point->sleepers; i++)
        if (point->sleeping[i].thread == one->thread && point->sleeping[i].choice == one->choice)
            return true;
    return false;
}

static void offer(choice_point *point, alternative one)
{
    if (asleep(point, &one))
        return;
    if (point->count == ALTERNATIVES)
        fail(MODEL_UNSUPPORTED, 0, 0, "more alternatives than expected at one point");
    point->alternatives[point->count++] = one;
}

static void offer_operation(choice_point *point, uint32_t thread)
{
    const operation *op = &coroutines[thread].pending;
    alternative one = {.thread = (uint8_t)thread, .in_order = op->order == SEQ_CST,
                       .choice = AT_END, .offset = op->offset, .writes = true};
    uint32_t oldest, newest;
    if (op->kind == FENCE) {
        one.writes = false;
        one.everywhere = true;
        offer(point, one);
        return;
    }
    oldest = memory_oldest(thread, op);
    newest = memory_newest(op->offset);
    if (op->kind == STORE || op->kind == UPDATE) {
        offer(point, one);
        return;
    }
    if (op->kind == SWAP && memory_value(op->offset, newest) == op->expected)
        offer(point, one);
    one.writes = false;
    for (uint32_t position = newest + 1; position-- > oldest;) {
        bool equal = memory_value(op->offset, position) == op->expected;
        one.choice = (int16_t)position;
        if (op->kind == LOAD || !equal || (op->weak && coroutines[thread].spurious > 0))
            offer(point, one);
    }
}

static void fill(choice_point *point)
{
    point->count = point->taken = point->sleepers = 0;
    if (depth > 0 && !walking && !options->naive && replay == NULL) {
        const choice_point *before = &points[depth - 1];
        const alternative *taken = &before->alternatives[before->taken];
        for (uint32_t i = 0; i < before->sleepers + before->taken; i++) {
            const alternative *one = i < before->sleepers
                ? &before->sleeping[i] : &before->alternatives[i - before->sleepers];
            if (!independent(one, taken))
                continue;
            if (point->sleepers == SLEEPERS)
                fail(MODEL_UNSUPPORTED, 0, 0, "a sleep set larger than expected");
            point->sleeping[point->sleepers++] = *one;
        }
    }
    for (uint32_t thread = 0; thread < planned; thread++) {
        coroutine *self = &coroutines[thread];
        if (self->state == READY)
            offer_operation(point, thread);
        else if (self->state == WAITING && !self->strict && self->patience > 0)
            offer(point, (alternative){.thread = (uint8_t)thread, .everywhere = true,
                                       .choice = NO_CHOICE});
    }
}

static uint32_t random_below(uint32_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)(random_state % limit);
}

/* A thread first, so that one with many stores to read does not come up more often. */
static uint32_t walk(const choice_point *point)
{
    uint32_t thread = point->alternatives[random_below(point->count)].thread;
    uint32_t first = 0, count = 0;
    while (point->alternatives[first].thread != thread)
        first++;
    while (first + count < point->count && point->alternatives[first + count].thread == thread)
        count++;
    return first + random_below(count);
}

/* "a" to "d" for the thread, and "." for AT_END, "!" for no news, or the position. */
static uint32_t replayed(const choice_point *point)
{
    int thread, choice = AT_END;
    if (*replay == 0)
        fail(MODEL_UNFINISHED, 0, 0, "the replay ends here");
    thread = *replay++ - 'a';
    if (*replay == '.' || *replay == '!')
        choice = *replay++ == '.' ? AT_END : NO_CHOICE;
    else
        choice = (int)strtol(replay, (char **)&replay, 10);
    for (uint32_t i = 0; i < point->count; i++)
        if (point->alternatives[i].thread == thread && point->alternatives[i].choice == choice)
            return i;
    /* What had no alternative was performed without asking. */
    for (uint32_t i = 0; i < point->count; i++)
        if (point->alternatives[i].thread == thread && choice == AT_END)
            return i;
    fail(MODEL_UNSUPPORTED, 0, 0, "the replay does not fit this code");
}

static void wake_with_news(void)
{
    for (uint32_t thread = 0; thread < planned; thread++) {
        coroutine *self = &coroutines[thread];
        if (self->state == WAITING && has_news(self)) {
            self->state = READY;
            run_thread(thread);
        }
    }
}

/* Everyone waits. A bounded loop may still run out; an unbounded one is a fault. */
static void wake_without_news(void)
{
    for (uint32_t thread = 0; thread < planned; thread++) {
        coroutine *self = &coroutines[thread];
        if (self->state == WAITING && !self->strict) {
            self->state = READY;
            self->impatient = true;
            run_thread(thread);
            return;
        }
    }
    for (uint32_t thread = 0; thread < planned; thread++)
        if (coroutines[thread].state == WAITING)
            fail(MODEL_FAILED, 0, 0, "no thread can go on: %s waits for %s", thread_name(thread),
                 describe(coroutines[thread].looked[0].offset));
}

static bool all_returned(void)
{
    for (uint32_t thread = 0; thread < planned; thread++)
        if (coroutines[thread].state != RETURNED)
            return false;
    return true;
}

static bool all_wait(void)
{
    for (uint32_t thread = 0; thread < planned; thread++) {
        const coroutine *self = &coroutines[thread];
        if (self->state == READY
            || (self->state == WAITING && !self->strict && self->patience > 0))
            return false;
    }
    return true;
}

static void take(const alternative *one)
{
    coroutine *self = &coroutines[one->thread];
    if (one->choice == NO_CHOICE) {
        self->patience--;
        self->impatient = true;
        self->state = READY;
        events[event_count++] = (model_event){.thread = one->thread, .kind = IMPATIENCE,
                                              .choice = NO_CHOICE, .read_from = -1};
    }
    self->choice = one->choice;
    run_thread(one->thread);
}

static void run_threads(void)
{
    for (uint32_t thread = 0; thread < planned; thread++)
        run_thread(thread);
    for (;;) {
        choice_point *point;
        wake_with_news();
        if (all_returned())
            return;
        if (all_wait()) {
            wake_without_news();
            continue;
        }
        if (depth == DEPTH)
            fail(MODEL_UNSUPPORTED, 0, 0, "an execution of too many choices");
        point = &points[depth];
        if (depth >= recorded) {
            fill(point);
            if (point->count == 0)
                give_up();
            point->taken = walking ? walk(point) : replay != NULL ? replayed(point) : 0;
        }
        depth++;
        take(&point->alternatives[point->taken]);
    }
}

static enum execution_end execute(bool verify)
{
    int end = setjmp(abandon);
    checking = false;
    if (end != 0)
        return (enum execution_end)end;
    event_count = depth = 0;
    result->steps += steps;
    steps = 0;
    for (uint32_t thread = 0; thread < planned; thread++) {
        coroutine *self = &coroutines[thread];
        self->state = READY;
        self->started = self->impatient = self->changed = false;
        self->looks = self->looks_before = 0;
        self->spurious = options->spurious;
        self->patience = options->patience;
    }
    memory_begin(verify);
    checking = true;
    run_threads();
    memory_begin_final();
    current = FINAL;
    if (final_body != NULL)
        final_body(final_state);
    checking = false;
    return COMPLETE;
}

/* The next execution in order; false after the last. */
static bool advance(void)
{
    while (depth > 0) {
        choice_point *point = &points[depth - 1];
        if (point->taken + 1 < point->count) {
            point->taken++;
            recorded = depth;
            return true;
        }
        depth--;
    }
    return false;
}

static void search(void)
{
    bool more = true;
    recorded = 0;
    learned = false;
    while (more) {
        enum execution_end end = execute(false);
        if (end == FAILED)
            return;
        result->executions++;
        result->complete += end == COMPLETE;
        if (learned) {
            /* What was thought to concern one thread alone does not: all over again. */
            learned = false;
            recorded = depth = 0;
            result->executions = result->complete = 0;
            result->outcomes = 0;
            continue;
        }
        if (result->executions == options->most_executions) {
            result->verdict = MODEL_UNFINISHED;
            return;
        }
        more = advance();
    }
}

static void random_execution(uint64_t number)
{
    random_state = (number + 1) * 0x9E3779B97F4A7C15u | 1;
    execute(true);
}

void model_explore(const model_options *given, model_result *filled)
{
    options = given;
    result = filled;
    memset(result, 0, sizeof *result);
    memset(loaders, 0, sizeof loaders);
    memset(storers, 0, sizeof storers);
    if (points == NULL)
        points = malloc(DEPTH * sizeof *points);
    if (points == NULL)
        abort();
    steps = 0;
    memory_snapshot();
    recorded = 0;
    replay = NULL;
    walking = true;
    /* What concerns one thread alone is found out first, whatever else is found. */
    for (uint64_t number = 0; number < WARM_UP; number++)
        random_execution(number);
    memset(result, 0, sizeof *result);
    if (given->replay != NULL) {
        walking = false;
        replay = given->replay;
        execute(true);
    } else {
        while (result->walks < given->walks && result->verdict == MODEL_PASSED) {
            random_execution(given->seed + result->walks);
            result->walks++;
        }
        walking = false;
        if (result->verdict == MODEL_PASSED)
            search();
    }
    result->steps += steps;
    result->limits = memory_limits();
    options = NULL;
}
