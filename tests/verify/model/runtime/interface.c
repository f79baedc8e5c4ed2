/* What the compiler calls under -fsanitize=thread, and the few functions of the C library whose
   work it cannot see. Outside of an exploration all of it passes through. */

#define _GNU_SOURCE
#include "checker.h"

#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default"), used))
#define CODE ((uintptr_t)__builtin_return_address(0))

EXPORT void __tsan_init(void) {}
EXPORT void __tsan_func_entry(void *caller) { (void)caller; }
EXPORT void __tsan_func_exit(void) {}
EXPORT void __tsan_vptr_update(void **address, void *value) { (void)address, (void)value; }

#define PLAIN(name, size, write)                                                                   \
    EXPORT void __tsan_##name(void *address)                                                       \
    {                                                                                              \
        access_plainly((uintptr_t)address, size, write, CODE);                                     \
    }
#define PLAIN_OF(size)                                                                             \
    PLAIN(read##size, size, false)                                                                 \
    PLAIN(write##size, size, true)                                                                 \
    PLAIN(unaligned_read##size, size, false)                                                       \
    PLAIN(unaligned_write##size, size, true)                                                       \
    PLAIN(volatile_read##size, size, false)                                                        \
    PLAIN(volatile_write##size, size, true)                                                        \
    PLAIN(unaligned_volatile_read##size, size, false)                                              \
    PLAIN(unaligned_volatile_write##size, size, true)
PLAIN_OF(1)
PLAIN_OF(2)
PLAIN_OF(4)
PLAIN_OF(8)
PLAIN_OF(16)

EXPORT void __tsan_read_range(void *address, size_t size)
{
    access_plainly((uintptr_t)address, size, false, CODE);
}

EXPORT void __tsan_write_range(void *address, size_t size)
{
    access_plainly((uintptr_t)address, size, true, CODE);
}

#define OPERATION(kind_, bytes, address, order_)                                                   \
    {.kind = kind_, .size = bytes, .order = (uint8_t)(order_),                                     \
     .offset = memory_offset((uintptr_t)(address), bytes), .code = CODE}

#define UPDATE_OF(bits, type, name, kind_, builtin)                                                \
    EXPORT type __tsan_atomic##bits##_##name(volatile type *address, type value, int order)        \
    {                                                                                              \
        if (!checking)                                                                             \
            return builtin(address, value, __ATOMIC_SEQ_CST);                                      \
        operation op = OPERATION(UPDATE, bits / 8, address, order);                                \
        op.update = kind_;                                                                         \
        op.operand = value;                                                                        \
        return (type)perform(op).seen;                                                             \
    }

#define SWAP_OF(bits, type, name, is_weak)                                                         \
    EXPORT int __tsan_atomic##bits##_compare_exchange_##name(                                      \
        volatile type *address, type *expected, type value, int order, int failure_order)          \
    {                                                                                              \
        outcome done;                                                                              \
        if (!checking)                                                                             \
            return __atomic_compare_exchange_n(address, expected, value, false, __ATOMIC_SEQ_CST,  \
                                               __ATOMIC_SEQ_CST);                                  \
        operation op = OPERATION(SWAP, bits / 8, address, order);                                  \
        op.failure_order = (uint8_t)failure_order;                                                 \
        op.weak = is_weak;                                                                         \
        op.operand = value;                                                                        \
        op.expected = *expected;                                                                   \
        done = perform(op);                                                                        \
        if (!done.succeeded)                                                                       \
            *expected = (type)done.seen;                                                           \
        return done.succeeded;                                                                     \
    }

#define ATOMIC_OF(bits, type)                                                                      \
    EXPORT type __tsan_atomic##bits##_load(const volatile type *address, int order)                \
    {                                                                                              \
        if (!checking)                                                                             \
            return __atomic_load_n(address, __ATOMIC_SEQ_CST);                                     \
        operation op = OPERATION(LOAD, bits / 8, address, order);                                  \
        return (type)perform(op).seen;                                                             \
    }                                                                                              \
    EXPORT void __tsan_atomic##bits##_store(volatile type *address, type value, int order)         \
    {                                                                                              \
        if (!checking) {                                                                           \
            __atomic_store_n(address, value, __ATOMIC_SEQ_CST);                                    \
            return;                                                                                \
        }                                                                                          \
        operation op = OPERATION(STORE, bits / 8, address, order);                                 \
        op.operand = value;                                                                        \
        perform(op);                                                                               \
    }                                                                                              \
    UPDATE_OF(bits, type, exchange, EXCHANGE, __atomic_exchange_n)                                 \
    UPDATE_OF(bits, type, fetch_add, ADD, __atomic_fetch_add)                                      \
    UPDATE_OF(bits, type, fetch_sub, SUBTRACT, __atomic_fetch_sub)                                 \
    UPDATE_OF(bits, type, fetch_and, AND, __atomic_fetch_and)                                      \
    UPDATE_OF(bits, type, fetch_or, OR, __atomic_fetch_or)                                         \
    UPDATE_OF(bits, type, fetch_xor, XOR, __atomic_fetch_xor)                                      \
    UPDATE_OF(bits, type, fetch_nand, NAND, __atomic_fetch_nand)                                   \
    SWAP_OF(bits, type, strong, false)                                                             \
    SWAP_OF(bits, type, weak, true)
ATOMIC_OF(8, uint8_t)
ATOMIC_OF(16, uint16_t)
ATOMIC_OF(32, uint32_t)
ATOMIC_OF(64, uint64_t)

EXPORT void __tsan_atomic_thread_fence(int order)
{
    if (checking)
        perform((operation){.kind = FENCE, .order = (uint8_t)order, .code = CODE});
    else
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

EXPORT void __tsan_atomic_signal_fence(int order) { (void)order; }

/* The 16-byte atomics are left out on purpose: a module that uses one does not link. */

/* ---- with -Wl,--wrap: the C library ---- */

EXPORT void *__wrap_memcpy(void *target, const void *source, size_t size)
{
    access_plainly((uintptr_t)source, size, false, CODE);
    access_plainly((uintptr_t)target, size, true, CODE);
    return memcpy(target, source, size);
}

EXPORT void *__wrap_memmove(void *target, const void *source, size_t size)
{
    access_plainly((uintptr_t)source, size, false, CODE);
    access_plainly((uintptr_t)target, size, true, CODE);
    return memmove(target, source, size);
}

EXPORT void *__wrap_memset(void *target, int byte, size_t size)
{
    access_plainly((uintptr_t)target, size, true, CODE);
    return memset(target, byte, size);
}

EXPORT int __wrap_sched_yield(void)
{
    model_relax();
    return 0;
}

EXPORT int __wrap_posix_memalign(void **block, size_t alignment, size_t size)
{
    if (!preparing)
        return posix_memalign(block, alignment, size);
    *block = memory_allocate(size);
    return *block == NULL;
}

EXPORT void __wrap_free(void *block)
{
    if (!memory_holds((uintptr_t)block))
        free(block);
}
