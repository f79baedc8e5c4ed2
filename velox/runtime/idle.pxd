"""What a thread does when its stages had no work.

======== ====================================================== ========================
name     does                                                   for
======== ====================================================== ========================
spin     pauses the processor, for ever                         a core of its own
yield    100 pauses, then gives its core away, again and again  more threads than cores
backoff  10 pauses, 20 yields, then sleeps 1 us to 1 ms,        a machine that has other
         doubling; never past a stage's deadline                things to do
======== ====================================================== ========================

If `spin` runs on a core that another thread needs, that thread stops for a whole time slice. A
sleep ends 1 to 50 us late. Shortly before a deadline, the thread therefore yields and does not
sleep.
"""

cimport cython
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t

from velox.core.atomic cimport give_core_away, kernel_ns, relax, sleep_ns
from velox.core.bundle cimport NO_DEADLINE
from velox.core.clock cimport clock_now, clock_source
from velox.runtime.stage cimport stage

cdef enum:
    IDLE_SPIN = 0
    IDLE_YIELD = 1
    IDLE_BACKOFF = 2

cdef enum:
    # A thread that is alone gains nothing by polling less often. With another thread at the other
    # end of a ring, an empty poll takes the cache line that the other writes. A wait leaves the
    # line there, but adds to the latency. The wait is a time, not a number of pauses: a pause takes
    # 40 to 140 cycles, depending on the processor. Measured on 16 cores of a Xeon whose pause takes
    # 60 ns, with `dedicated`: 32 pauses gave a median transit of 1.5 us and at most 36 M/s. 4
    # pauses gave 0.9 us and 43 M/s. One pause was no better.
    PAUSES_ALONE = 1
    PAUSE_TOGETHER_NS = 200
    PAUSES_BEFORE_YIELD = 100
    BACKOFF_PAUSES = 10
    BACKOFF_YIELDS = 20
    SLEEP_FIRST_NS = 1_000
    SLEEP_LONGEST_NS = 1_000_000
    # How late a short sleep may end. The thread stays awake for a deadline nearer than this.
    SLEEP_SLACK_NS = 60_000

cdef struct idle_state:
    uint32_t strategy
    uint32_t pauses             # of one round of `spin`
    uint32_t rounds             # idle rounds in a row
    uint64_t next_sleep_ns


# C division, whatever the directives of the module that includes this file.
@cython.cdivision(True)
cdef inline uint32_t pauses_within(uint64_t ns) noexcept nogil:
    """How many pauses this processor makes in that time: 1 to 64.

    The measurement itself takes about 30 us.
    """
    cdef uint64_t start_ns, pauses
    cdef uint64_t shortest_ns = UINT64_MAX
    cdef uint32_t _
    # Take the shortest of several bursts, since other work on the host can only make a burst
    # longer.
    for _ in range(8):
        start_ns = kernel_ns()
        for _ in range(64):
            relax()
        shortest_ns = min(shortest_ns, kernel_ns() - start_ns)
    pauses = 64 * ns // max(shortest_ns, <uint64_t>1)
    return <uint32_t>max(<uint64_t>1, min(pauses, <uint64_t>64))


cdef inline void idle_reset(idle_state *self) noexcept nogil:
    self.rounds = 0
    self.next_sleep_ns = SLEEP_FIRST_NS


cdef inline uint64_t earliest_deadline(stage *const *stages, uint32_t n) noexcept nogil:
    cdef uint64_t earliest = NO_DEADLINE
    cdef uint32_t i
    for i in range(n):
        if stages[i].deadline != NULL and not stages[i].finished:
            earliest = min(earliest, stages[i].deadline(stages[i].self))
    return earliest


cdef inline void idle_wait(
        idle_state *self, stage *const *stages, uint32_t n,
        const clock_source *clock) noexcept nogil:
    cdef uint64_t deadline_ns, now_ns, span_ns
    cdef uint32_t _
    self.rounds += 1
    if self.strategy == IDLE_SPIN:
        for _ in range(self.pauses):
            relax()
    elif self.strategy == IDLE_YIELD:
        if self.rounds <= PAUSES_BEFORE_YIELD:
            relax()
        else:
            give_core_away()
    elif self.rounds <= BACKOFF_PAUSES:
        relax()
    elif self.rounds <= BACKOFF_PAUSES + BACKOFF_YIELDS:
        give_core_away()
    else:
        span_ns = self.next_sleep_ns
        deadline_ns = earliest_deadline(stages, n)
        if deadline_ns != NO_DEADLINE:
            now_ns = clock_now(clock)
            if deadline_ns <= now_ns + SLEEP_SLACK_NS:
                give_core_away()
                return
            span_ns = min(span_ns, deadline_ns - now_ns - SLEEP_SLACK_NS)
        sleep_ns(span_ns)
        self.next_sleep_ns = min(2 * self.next_sleep_ns, <uint64_t>SLEEP_LONGEST_NS)
