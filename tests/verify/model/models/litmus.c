/* The checker's own test: small programs whose outcomes under C11 are known.

   Each is two to four threads over three words and a plain one; what its registers held when all
   had returned is one outcome, a decimal digit each. The sets that must come out, exactly, stand
   in litmus.py. (The programs are those of the literature: Alglave, Maranget, Tautschnig, "Herding
   Cats", 2014, and Boehm and Adve, "Foundations of the C++ Concurrency Memory Model", 2008.) */

#include "model.h"

#include <stdatomic.h>
#include <string.h>

typedef struct {
    _Alignas(8) atomic_ullong x, y, z;
    _Alignas(64) unsigned long long data;
    _Alignas(64) unsigned long long r[6];
} state;

typedef struct {
    const char *name;
    model_body threads[MODEL_THREADS];
    int registers;
} litmus;

static const litmus *running;
static state *shared;

#define load(word, order) atomic_load_explicit(&s->word, memory_order_##order)
#define store(word, value, order) atomic_store_explicit(&s->word, value, memory_order_##order)
#define add(word, value, order) atomic_fetch_add_explicit(&s->word, value, memory_order_##order)
#define fence(order) atomic_thread_fence(memory_order_##order)
#define THREAD(name, ...)                                                                          \
    static void name(void *pointer) { state *s = pointer; __VA_ARGS__; }

/* Store buffering: may each thread miss the other's store? */
THREAD(sb_0, store(x, 1, relaxed); s->r[0] = load(y, relaxed))
THREAD(sb_1, store(y, 1, relaxed); s->r[1] = load(x, relaxed))
THREAD(sb_ra_0, store(x, 1, release); s->r[0] = load(y, acquire))
THREAD(sb_ra_1, store(y, 1, release); s->r[1] = load(x, acquire))
THREAD(sb_sc_0, store(x, 1, seq_cst); s->r[0] = load(y, seq_cst))
THREAD(sb_sc_1, store(y, 1, seq_cst); s->r[1] = load(x, seq_cst))
THREAD(sb_fence_0, store(x, 1, relaxed); fence(seq_cst); s->r[0] = load(y, relaxed))
THREAD(sb_fence_1, store(y, 1, relaxed); fence(seq_cst); s->r[1] = load(x, relaxed))

/* Message passing: who sees the flag, does he see the message? */
THREAD(mp_rlx_0, store(x, 1, relaxed); store(y, 1, relaxed))
THREAD(mp_rlx_1, s->r[0] = load(y, relaxed); s->r[1] = load(x, relaxed))
THREAD(mp_ra_0, store(x, 1, relaxed); store(y, 1, release))
THREAD(mp_ra_1, s->r[0] = load(y, acquire); s->r[1] = load(x, relaxed))
THREAD(mp_fence_0, store(x, 1, relaxed); fence(release); store(y, 1, relaxed))
THREAD(mp_fence_1, s->r[0] = load(y, relaxed); fence(acquire); s->r[1] = load(x, relaxed))
THREAD(mp_plain_0, s->data = 7; store(y, 1, release))
THREAD(mp_plain_1, s->r[0] = load(y, acquire); if (s->r[0]) s->r[1] = s->data)
THREAD(mp_race_0, s->data = 7; store(y, 1, relaxed))
THREAD(mp_race_1, s->r[0] = load(y, relaxed); if (s->r[0]) s->r[1] = s->data)
static void mp_copy_0(void *pointer)
{
    state *s = pointer;
    unsigned long long seven = 7;
    memcpy(&s->data, &seven, sizeof seven);
    store(y, 1, relaxed);
}

/* Load buffering: may each thread read what the other stores later? RC11 says no; hardware may. */
THREAD(lb_0, s->r[0] = load(x, relaxed); store(y, 1, relaxed))
THREAD(lb_1, s->r[1] = load(y, relaxed); store(x, 1, relaxed))
THREAD(lb_2, store(z, 1, relaxed))
THREAD(lb_seen_0, s->r[0] = load(z, relaxed); store(y, 1, relaxed); s->r[2] = load(x, relaxed))
THREAD(lb_seen_1, s->r[1] = load(z, relaxed); store(x, 1, relaxed); s->r[3] = load(y, relaxed))
/* Not so with one word, whose order of stores is everyone's. */
THREAD(lb_count_0, s->r[0] = load(z, relaxed); add(x, 1, relaxed); add(x, 1, relaxed))
THREAD(lb_count_1, s->r[1] = load(z, relaxed); add(x, 1, relaxed); add(x, 1, relaxed))

/* Write-to-read causality, over a third thread. */
THREAD(wrc_0, store(x, 1, relaxed))
THREAD(wrc_ra_1, s->r[0] = load(x, acquire); store(y, s->r[0], release))
THREAD(wrc_ra_2, s->r[1] = load(y, acquire); s->r[2] = load(x, relaxed))
THREAD(wrc_rlx_1, s->r[0] = load(x, relaxed); store(y, s->r[0], relaxed))
THREAD(wrc_rlx_2, s->r[1] = load(y, relaxed); s->r[2] = load(x, relaxed))
THREAD(isa2_0, store(x, 1, relaxed); store(y, 1, release))
THREAD(isa2_1, s->r[0] = load(y, acquire); store(z, s->r[0], release))
THREAD(isa2_2, s->r[1] = load(z, acquire); s->r[2] = load(x, relaxed))

/* Independent reads of independent writes: do two readers agree on the order of two writers? */
THREAD(iriw_w_0, store(x, 1, release))
THREAD(iriw_w_1, store(y, 1, release))
THREAD(iriw_r_0, s->r[0] = load(x, acquire); s->r[1] = load(y, acquire))
THREAD(iriw_r_1, s->r[2] = load(y, acquire); s->r[3] = load(x, acquire))
THREAD(iriw_sc_w_0, store(x, 1, seq_cst))
THREAD(iriw_sc_w_1, store(y, 1, seq_cst))
THREAD(iriw_sc_r_0, s->r[0] = load(x, seq_cst); s->r[1] = load(y, seq_cst))
THREAD(iriw_sc_r_1, s->r[2] = load(y, seq_cst); s->r[3] = load(x, seq_cst))

/* Coherence: one word never goes back. */
THREAD(co_0, store(x, 1, relaxed); store(x, 2, relaxed))
THREAD(corr_1, s->r[0] = load(x, relaxed); s->r[1] = load(x, relaxed))
THREAD(cowr_0, store(x, 1, relaxed); s->r[0] = load(x, relaxed))
THREAD(two_two_w_0, store(x, 1, relaxed); store(y, 2, relaxed))
THREAD(two_two_w_1, store(y, 1, relaxed); store(x, 2, relaxed))
THREAD(ordered_w_1, while (!load(y, acquire)) model_wait(); store(x, 2, relaxed))

/* A release sequence: an update by another thread continues it, a store does not (C++20). */
THREAD(rs_0, s->data = 7; store(x, 1, release))
THREAD(rs_1, add(x, 1, relaxed))
THREAD(rs_2, s->r[0] = load(x, acquire); if (s->r[0] == 2) s->r[1] = s->data)
THREAD(rs_store_0, s->data = 7; store(x, 1, release); store(x, 2, relaxed))

/* Updates lose nothing; a load and a store do. */
THREAD(update, add(x, 1, relaxed))
THREAD(not_update, store(x, load(x, relaxed) + 1, relaxed))
static void swap(void *pointer, int number, bool weak)
{
    state *s = pointer;
    unsigned long long zero = 0;
    s->r[number] = weak
        ? atomic_compare_exchange_weak_explicit(&s->x, &zero, number + 1, memory_order_relaxed,
                                                memory_order_relaxed)
        : atomic_compare_exchange_strong_explicit(&s->x, &zero, number + 1, memory_order_relaxed,
                                                  memory_order_relaxed);
}
THREAD(swap_0, swap(s, 0, false))
THREAD(swap_1, swap(s, 1, false))
THREAD(weak_swap_0, swap(s, 0, true))
THREAD(weak_swap_1, swap(s, 1, true))

/* Waiting. */
THREAD(spin_0, store(x, 1, relaxed))
THREAD(spin_1, while (!load(x, relaxed)) model_wait(); s->r[0] = 1)
THREAD(relax_1, while (!load(x, relaxed)) model_relax(); s->r[0] = 1)
THREAD(bounded_1, for (int look = 0; look < 10 && !s->r[0]; look++) { s->r[0] = load(x, relaxed);
                                                                    model_relax(); })
THREAD(nothing, (void)s)

/* Plain beside atomic. */
THREAD(mixed_0, *(unsigned long long *)&s->x = 1)
THREAD(mixed_1, s->r[0] = load(x, acquire))

static const litmus programs[] = {
    {"SB relaxed", {sb_0, sb_1}, 2},
    {"SB release acquire", {sb_ra_0, sb_ra_1}, 2},
    {"SB seq_cst", {sb_sc_0, sb_sc_1}, 2},
    {"SB seq_cst fences", {sb_fence_0, sb_fence_1}, 2},
    {"MP relaxed", {mp_rlx_0, mp_rlx_1}, 2},
    {"MP release acquire", {mp_ra_0, mp_ra_1}, 2},
    {"MP release only", {mp_ra_0, mp_rlx_1}, 2},
    {"MP acquire only", {mp_rlx_0, mp_ra_1}, 2},
    {"MP fences", {mp_fence_0, mp_fence_1}, 2},
    {"MP plain data", {mp_plain_0, mp_plain_1}, 2},
    {"MP plain data, relaxed", {mp_race_0, mp_race_1}, 2},
    {"MP copied data, relaxed", {mp_copy_0, mp_race_1}, 2},
    {"LB relaxed", {lb_0, lb_1}, 2},
    {"LB preconditions", {lb_seen_0, lb_seen_1, lb_2}, 4},
    {"counters in one word", {lb_count_0, lb_count_1, lb_2}, 2},
    {"WRC relaxed", {wrc_0, wrc_rlx_1, wrc_rlx_2}, 3},
    {"WRC release acquire", {wrc_0, wrc_ra_1, wrc_ra_2}, 3},
    {"ISA2 release acquire", {isa2_0, isa2_1, isa2_2}, 3},
    {"IRIW release acquire", {iriw_w_0, iriw_w_1, iriw_r_0, iriw_r_1}, 4},
    {"IRIW seq_cst", {iriw_sc_w_0, iriw_sc_w_1, iriw_sc_r_0, iriw_sc_r_1}, 4},
    {"CoRR", {co_0, corr_1}, 2},
    {"CoWR", {cowr_0, spin_0}, 1},
    {"2+2W", {two_two_w_0, two_two_w_1}, 0},
    {"stores in order", {mp_ra_0, ordered_w_1}, 0},
    {"release sequence, update", {rs_0, rs_1, rs_2}, 2},
    {"release sequence, store", {rs_store_0, rs_2}, 2},
    {"two updates", {update, update}, 0},
    {"two loads and stores", {not_update, not_update}, 0},
    {"strong swaps", {swap_0, swap_1}, 2},
    {"weak swaps", {weak_swap_0, weak_swap_1}, 2},
    {"wait", {spin_0, spin_1}, 1},
    {"wait for no store", {nothing, spin_1}, 1},
    {"relax", {spin_0, relax_1}, 1},
    {"relax for no store", {nothing, relax_1}, 1},
    {"bounded relax", {spin_0, bounded_1}, 1},
    {"plain beside atomic", {mixed_0, mixed_1}, 1},
};

/* The registers, and the words' final values where there are no registers. */
static void finish(void *pointer)
{
    state *s = pointer;
    unsigned long long digits = 0;
    for (int number = 0; number < running->registers; number++)
        digits = 10 * digits + s->r[number];
    if (running->registers == 0)
        digits = 10 * load(x, relaxed) + load(y, relaxed);
    model_outcome(digits);
}

const char *litmus_name(unsigned number)
{
    return number < sizeof programs / sizeof *programs ? programs[number].name : NULL;
}

void litmus_prepare(unsigned number)
{
    static const char *const names[] = {"T0", "T1", "T2", "T3"};
    model_begin();
    running = &programs[number];
    shared = model_allocate(sizeof *shared);
    model_name(&shared->x, "x");
    model_name(&shared->y, "y");
    model_name(&shared->z, "z");
    model_name(&shared->data, "data");
    model_name(shared->r, "registers");
    for (int thread = 0; thread < MODEL_THREADS && running->threads[thread] != NULL; thread++)
        model_thread(names[thread], running->threads[thread], shared);
    model_finish(finish, shared);
    model_end();
}
