"""The kill switch: one word that any thread, process or person can set, and the risk gate reads.

Only KILL_ARMED lets orders pass. Every other value blocks them: a file of zeros, a file of another
program, a word that is half known. So what goes wrong with the switch stops the orders.

Switch, 256 bytes, in memory or in a mapped file::

     0       1       2       3       4       5       6       7
    +-------+-------+-------+-------+-------+-------+-------+-------+
  0 | magic: "VELOXKL1"                                             |
    +-------+-------+-------+-------+-------+-------+-------+-------+
  8 | state: KILL_ARMED, or anything else                           |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 16 | reserved, zeros                                               |
    +-------+-------+-------+-------+-------+-------+-------+-------+
 64 | why, in UTF-8, to the end: who killed, or who armed           |
    +-------+-------+-------+-------+-------+-------+-------+-------+
"""

from libc.stdint cimport uint64_t

from velox.core.atomic cimport (
    atomic_u64,
    cas_strong_acquire_else_relaxed,
    cas_strong_release_else_relaxed,
    load_relaxed,
)

cdef enum:
    KILL_BYTES = 256
    KILL_WHY = 64

# The values of the state.
cdef enum:
    KILL_ARMED = 1
    KILL_SET = 2

cdef struct kill_switch:
    uint64_t magic
    atomic_u64 state
    uint64_t reserved[6]
    char why[KILL_BYTES - KILL_WHY]


cdef inline bint kill_armed(const kill_switch *self) noexcept nogil:
    """Whether orders may pass."""
    # Relaxed: the word orders nothing else. A store is seen as soon as the hardware shows it.
    return load_relaxed(&self.state) == KILL_ARMED


cdef inline bint kill_set(kill_switch *self) noexcept nogil:
    """Block all orders from now on; return whether they were not blocked before.

    Several threads may do it at once, so it is a compare-and-swap, and exactly one of them did it.
    """
    cdef uint64_t state = KILL_ARMED
    # Release: who sees the switch set also sees what its setter did before, such as count a loss.
    return cas_strong_release_else_relaxed(&self.state, &state, KILL_SET)


cdef inline bint kill_arm(kill_switch *self, uint64_t seen) noexcept nogil:
    """Let orders pass again, if the state is still the one that a person has seen."""
    # Acquire: who arms the switch has seen what its last setter did before.
    return cas_strong_acquire_else_relaxed(&self.state, &seen, KILL_ARMED)


cdef class KillSwitch:
    cdef kill_switch *word
    cdef Py_buffer view             # of memory that is not its own
    cdef bint is_borrowed
    cdef readonly object path       # of the file that it lies in, or None
    cdef void explain(self, str why)
