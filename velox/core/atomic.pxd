"""The only module that uses C11 atomics, the pause and sleep calls, and the tick counter directly.

Every other module reaches ``<stdatomic.h>`` through the names below, each of which says its memory
order. They are macros, not functions, so that a sanitizer or a model checker sees each call site
with the source line of its caller.

The atomic types are opaque, so that a plain read or ``+=`` of one does not compile.
"""

from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    """
    #ifndef VELOX_ATOMIC_INCLUDED
    #define VELOX_ATOMIC_INCLUDED
    #if defined(__cplusplus)
    #error "Velox's declarations are C11: cimport them in a module that Cython compiles as C"
    #endif
    #include <sched.h>
    #include <stdatomic.h>
    #include <stdint.h>
    #include <time.h>

    _Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "64-bit atomics must be lock-free");
    _Static_assert(sizeof(_Atomic(uint64_t)) == 8, "an atomic must have the size of its value");

    #define velox_load_relaxed(p) atomic_load_explicit((p), memory_order_relaxed)
    #define velox_load_acquire(p) atomic_load_explicit((p), memory_order_acquire)
    #define velox_store_relaxed(p, v) atomic_store_explicit((p), (v), memory_order_relaxed)
    #define velox_store_release(p, v) atomic_store_explicit((p), (v), memory_order_release)
    #define velox_fetch_add_relaxed(p, v) atomic_fetch_add_explicit((p), (v), memory_order_relaxed)
    #define velox_cas_strong_release_else_relaxed(p, e, d) \\
        atomic_compare_exchange_strong_explicit((p), (e), (d), \\
                                                memory_order_release, memory_order_relaxed)
    #define velox_cas_strong_acquire_else_relaxed(p, e, d) \\
        atomic_compare_exchange_strong_explicit((p), (e), (d), \\
                                                memory_order_acquire, memory_order_relaxed)
    #define velox_cas_weak_acq_rel_else_relaxed(p, e, d) \\
        atomic_compare_exchange_weak_explicit((p), (e), (d), \\
                                              memory_order_acq_rel, memory_order_relaxed)
    #define velox_cas_weak_release_else_relaxed(p, e, d) \\
        atomic_compare_exchange_weak_explicit((p), (e), (d), \\
                                              memory_order_release, memory_order_relaxed)

    /* What separates two lines that different threads write: twice 64 bytes, because x86 fetches
       lines in adjacent pairs and Apple's lines are 128 bytes long. */
    #define VELOX_FALSE_SHARING 128

    static inline void velox_relax(void)
    {
    #if defined(__x86_64__)
        __builtin_ia32_pause();
    #elif defined(__aarch64__)
        /* isb stalls for about as long as x86's pause; yield is a no-op on most cores */
        __asm__ volatile("isb" ::: "memory");
    #else
    #error "velox runs on x86-64 and aarch64"
    #endif
    }

    static inline void velox_give_core_away(void) { sched_yield(); }

    static inline void velox_sleep_ns(uint64_t ns)
    {
        struct timespec span = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
        nanosleep(&span, NULL);
    }

    /* Ticks, read not before the loads that precede it: what a thread learnt from another through
       an acquire load, it then stamps with no earlier tick. */
    static inline uint64_t velox_ticks_ordered(void)
    {
    #if defined(__x86_64__)
        /* rdtsc alone may run ahead of earlier loads; lfence lets it start after they are done */
        __builtin_ia32_lfence();
        return __builtin_ia32_rdtsc();
    #else
        /* the branch on what was loaded and the isb order the read */
        uint64_t value;
        __asm__ volatile("isb\\n\\tmrs %0, cntvct_el0" : "=r"(value) :: "memory");
        return value;
    #endif
    }

    /* What the architecture states as the counter's rate; 0 where it states none. */
    static inline uint64_t velox_ticks_per_second(void)
    {
    #if defined(__aarch64__)
        uint64_t value;
        __asm__("mrs %0, cntfrq_el0" : "=r"(value));
        return value;
    #else
        return 0;
    #endif
    }

    /* macOS counts CLOCK_MONOTONIC in microseconds; CLOCK_UPTIME_RAW is the nanosecond clock there,
       and the one of Python's time.monotonic_ns(). */
    #if defined(__APPLE__)
    #define VELOX_KERNEL_CLOCK CLOCK_UPTIME_RAW
    #else
    #define VELOX_KERNEL_CLOCK CLOCK_MONOTONIC
    #endif

    static inline uint64_t velox_kernel_ns(void)
    {
        struct timespec now;
        clock_gettime(VELOX_KERNEL_CLOCK, &now);
        return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    }
    #endif
    """
    ctypedef struct atomic_u64 "_Atomic(uint64_t)":
        pass
    ctypedef struct atomic_i64 "_Atomic(int64_t)":
        pass

    enum:
        FALSE_SHARING "VELOX_FALSE_SHARING"

    uint64_t load_relaxed "velox_load_relaxed"(const atomic_u64 *obj) noexcept nogil
    uint64_t load_acquire "velox_load_acquire"(const atomic_u64 *obj) noexcept nogil
    void store_relaxed "velox_store_relaxed"(atomic_u64 *obj, uint64_t value) noexcept nogil
    void store_release "velox_store_release"(atomic_u64 *obj, uint64_t value) noexcept nogil
    uint64_t fetch_add_relaxed "velox_fetch_add_relaxed"(
        atomic_u64 *obj, uint64_t value) noexcept nogil
    bint cas_strong_release_else_relaxed "velox_cas_strong_release_else_relaxed"(
        atomic_u64 *obj, uint64_t *expected, uint64_t desired) noexcept nogil
    bint cas_strong_acquire_else_relaxed "velox_cas_strong_acquire_else_relaxed"(
        atomic_u64 *obj, uint64_t *expected, uint64_t desired) noexcept nogil
    bint cas_weak_acq_rel_else_relaxed "velox_cas_weak_acq_rel_else_relaxed"(
        atomic_u64 *obj, uint64_t *expected, uint64_t desired) noexcept nogil
    bint cas_weak_release_else_relaxed "velox_cas_weak_release_else_relaxed"(
        atomic_u64 *obj, uint64_t *expected, uint64_t desired) noexcept nogil

    int64_t load_i64_relaxed "velox_load_relaxed"(const atomic_i64 *obj) noexcept nogil
    int64_t load_i64_acquire "velox_load_acquire"(const atomic_i64 *obj) noexcept nogil
    void store_i64_relaxed "velox_store_relaxed"(atomic_i64 *obj, int64_t value) noexcept nogil
    void store_i64_release "velox_store_release"(atomic_i64 *obj, int64_t value) noexcept nogil

    void relax "velox_relax"() noexcept nogil
    # Let another thread have this core.
    void give_core_away "velox_give_core_away"() noexcept nogil
    void sleep_ns "velox_sleep_ns"(uint64_t ns) noexcept nogil
    uint64_t ticks_ordered "velox_ticks_ordered"() noexcept nogil
    uint64_t ticks_per_second "velox_ticks_per_second"() noexcept nogil
    uint64_t kernel_ns "velox_kernel_ns"() noexcept nogil


cdef inline void count(atomic_u64 *counter, uint64_t n) noexcept nogil:
    """Add to a counter that one thread writes and any may read. Uses no locked instruction.

    Relaxed suffices: a counter orders nothing, and its only writer sees its own stores.
    """
    store_relaxed(counter, load_relaxed(counter) + n)
