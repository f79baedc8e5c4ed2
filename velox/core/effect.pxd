"""The effect of each kind of record on the quantity of its level.

It is a table rather than branches, since a processor cannot predict the next kind in a feed.
"""

from cython cimport unlikely
from libc.stdint cimport uint8_t, uint64_t

from velox.core.records cimport (
    STATUS_APPLIED, STATUS_OVERFLOW, STATUS_UNDERFLOW, Transaction,
)

cdef extern from *:
    """
    #ifndef VELOX_EFFECT_INCLUDED
    #define VELOX_EFFECT_INCLUDED
    #include <stdint.h>
    #define VELOX_ALL (~UINT64_C(0))
    /* Masks: of what was held, of what the record says in its size and in its id; `taken` negates
       that, in two's complement. */
    __attribute__((unused)) static const struct velox_effect {
        uint64_t held, size, id, taken;
    } velox_effects[] = {
        {VELOX_ALL, VELOX_ALL, 0, 0},            /* KIND_ADD */
        {VELOX_ALL, VELOX_ALL, 0, VELOX_ALL},    /* KIND_CANCEL */
        {VELOX_ALL, VELOX_ALL, 0, VELOX_ALL},    /* KIND_EXECUTE */
        {0, VELOX_ALL, 0, 0},                    /* KIND_SET */
        {0, 0, VELOX_ALL, 0},                    /* KIND_SET_WIDE */
        {0, 0, 0, 0},                            /* KIND_DELETE */
        {0, 0, 0, 0},                            /* KIND_CLEAR, of every level */
        {VELOX_ALL, 0, 0, 0},                    /* KIND_TRADE */
    };
    #endif
    """
    ctypedef struct effect "struct velox_effect":
        uint64_t held
        uint64_t size
        uint64_t id
        uint64_t taken
    const effect *EFFECTS "velox_effects"       # by kind; KINDS of them


cdef inline uint64_t effect_amount(uint8_t kind, const Transaction *record) noexcept nogil:
    """Return how much a record adds, takes or sets."""
    return (record.size & EFFECTS[kind].size) | (record.id & EFFECTS[kind].id)


cdef inline uint8_t effect_apply(uint8_t kind, uint64_t held, uint64_t amount, uint64_t most,
                                 uint64_t *quantity) noexcept nogil:
    """Compute the new quantity of a level that holds `held` and can hold `most`; return a status.

    The sum of `held` and an added amount must not wrap. If too much is taken, the difference wraps
    and is above `most`, since `most` is at most INT64_MAX. If too much is added, the sum is above
    `most` too.
    """
    cdef uint64_t taken = EFFECTS[kind].taken
    quantity[0] = (held & EFFECTS[kind].held) + ((amount ^ taken) - taken)
    if unlikely(quantity[0] > most):
        return STATUS_UNDERFLOW if taken else STATUS_OVERFLOW
    return STATUS_APPLIED
