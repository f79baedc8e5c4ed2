"""One thread that calls its stages in order: pinning, naming, and the loop."""

import sys

cimport cython

from velox.core.atomic cimport count, load_relaxed
from velox.core.bundle cimport NO_DEADLINE
from velox.core.clock cimport CLOCK_VIRTUAL, clock_now, clock_set_virtual
from velox.core.memory cimport allocate, release_memory
from velox.runtime.idle cimport (
    IDLE_BACKOFF,
    IDLE_SPIN,
    IDLE_YIELD,
    PAUSES_ALONE,
    PAUSE_TOGETHER_NS,
    earliest_deadline,
    idle_reset,
    idle_wait,
    pauses_within,
)
from velox.runtime.stage cimport Stage

from velox.errors import ConfigError, PipelineError

cdef extern from *:
    """
    #include <errno.h>
    #include <pthread.h>
    #include <stdint.h>
    #if defined(__linux__)
    #include <sched.h>
    #include <sys/prctl.h>
    static int velox_pin(int cpu)
    {
        cpu_set_t set;
        if (cpu < 0 || cpu >= CPU_SETSIZE)
            return EINVAL;
        CPU_ZERO(&set);
        CPU_SET(cpu, &set);
        return pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
    }
    static void velox_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }
    /* The kernel may otherwise end a short sleep 50 us late, to wake threads together. */
    static void velox_sleep_precisely(void) { prctl(PR_SET_TIMERSLACK, 1000, 0, 0, 0); }
    #else
    static int velox_pin(int cpu) { (void)cpu; return ENOTSUP; }
    static void velox_name_thread(const char *name) { pthread_setname_np(name); }
    static void velox_sleep_precisely(void) {}
    #endif
    """
    int pin "velox_pin"(int cpu) noexcept nogil
    void name_thread "velox_name_thread"(const char *name) noexcept nogil
    void sleep_precisely "velox_sleep_precisely"() noexcept nogil

__all__ = ["Runner"]

cdef dict STRATEGIES = {"spin": IDLE_SPIN, "yield": IDLE_YIELD, "backoff": IDLE_BACKOFF}


cdef int duty_cycle(runner *self, bint *finished) noexcept nogil:
    """Call each stage once, and return how many items moved in all."""
    cdef int moved = 0
    cdef uint32_t i
    cdef bint all_finished = True
    cdef stage *each
    for i in range(self.stage_count):
        each = self.stages[i]
        if not each.finished:
            moved += each.do_work(each.self)
            all_finished = all_finished and each.finished
    finished[0] = all_finished
    if all_finished and self.finished_ns == 0:
        self.finished_ns = clock_now(self.clock)
    return moved


cdef void run_until_finished(runner *self) noexcept nogil:
    cdef bint finished = False
    idle_reset(&self.idle)
    while True:
        if duty_cycle(self, &finished) > 0:
            count(&self.cycles, 1)
            idle_reset(&self.idle)
        elif not finished:
            count(&self.idle_cycles, 1)
            idle_wait(&self.idle, self.stages, self.stage_count, self.clock)
        if finished:
            return


@cython.final
cdef class Runner:
    """Runs stages on one thread: the caller's, or a thread pinned to a CPU.

    Parameters
    ----------
    name : str
        The thread's name, at most 15 bytes.
    stages : sequence of Stage
        Called in this order.
    clock : Clock
    idle : {"spin", "yield", "backoff"}
    cpu : int, optional
        Where to pin the thread; not pinned if not given.
    alone : bool
        Whether no other thread is at the other end of any of the stages' rings.

    Attributes
    ----------
    name, cpu, stages
    """

    def __cinit__(self, name, stages, Clock clock not None, *, idle="spin", cpu=None,
                  alone=False):
        cdef Stage member
        if idle not in STRATEGIES:
            raise ConfigError(f"must be one of {', '.join(STRATEGIES)}", field="idle", value=idle)
        self.stages = tuple(stages)
        if not 1 <= len(self.stages) <= MOST_STAGES:
            raise ConfigError(
                f"a runner takes 1 to {MOST_STAGES} stages, not {len(self.stages)}", field="stages")
        self.name = name
        self.cpu = cpu
        self.clock = clock
        self.runner = <runner *>allocate(sizeof(runner))
        if self.runner == NULL:
            raise MemoryError("no memory for a runner")
        for index, each in enumerate(self.stages):
            if not isinstance(each, Stage):
                raise ConfigError(
                    f"must be a Stage, not {type(each).__name__}", field=f"stages[{index}]")
            member = each
            if member.stage.do_work == NULL:
                raise ConfigError(
                    "no runner drives it", field=member.name or type(member).__name__)
            # An ingress or output gets its ring from the pipeline; other stages get theirs when
            # they are made.
            if getattr(member, "ring", self) is None:
                raise ConfigError("no pipeline has taken it", field=member.name)
            self.runner.stages[index] = &member.stage
        self.runner.stage_count = len(self.stages)
        self.runner.idle.strategy = STRATEGIES[idle]
        self.runner.idle.pauses = PAUSES_ALONE if alone else pauses_within(PAUSE_TOGETHER_NS)
        self.runner.clock = clock.clock

    def __dealloc__(self):
        release_memory(self.runner)

    def settle(self):
        """Name and pin the calling thread.

        Raises
        ------
        PipelineError
            The system refused to pin it.
        """
        cdef bytes name = self.name.encode()[:15]
        cdef int refusal
        if sys.platform == "linux" or sys.platform == "darwin":
            name_thread(name)
        sleep_precisely()
        if self.cpu is not None:
            refusal = pin(self.cpu)
            if refusal != 0:
                raise PipelineError(f"{self.name} cannot be pinned to cpu {self.cpu}") \
                    from OSError(refusal, "pthread_setaffinity_np")

    def run(self):
        """Call the stages until all have finished. Blocks, without the GIL."""
        with nogil:
            run_until_finished(self.runner)

    def step(self):
        """Call each stage once, and return how many items moved.

        If nothing moved, a virtual clock advances to the stages' next deadline: waiting then takes
        no time.

        Returns
        -------
        int
            Items moved, or -1 when all stages have finished.
        """
        cdef bint finished = False
        cdef int moved
        with nogil:
            moved = duty_cycle(self.runner, &finished)
            if moved == 0 and not finished:
                self.pass_time(NO_DEADLINE)
        return -1 if finished and moved == 0 else moved

    def drive(self, steps=None, until_ns=None):
        """Call `step` many times.

        Parameters
        ----------
        steps : int, optional
            The most to make. Ctrl-C has no effect within a call.
        until_ns : int, optional
            When to end, on the runner's clock. A virtual clock goes no further.

        Returns
        -------
        bool
            Whether all stages have finished, or the clock has reached `until_ns`.
        """
        cdef uint64_t left = 2**64 - 1 if steps is None else steps
        cdef uint64_t end_ns = NO_DEADLINE if until_ns is None else until_ns
        cdef bint ended = False
        with nogil:
            while left > 0 and not ended:
                left -= 1
                if duty_cycle(self.runner, &ended) == 0 and not ended:
                    ended = end_ns != NO_DEADLINE and clock_now(self.runner.clock) >= end_ns
                    if not ended:
                        self.pass_time(end_ns)
        return bool(ended)

    cdef void pass_time(self, uint64_t until_ns) noexcept nogil:
        """Advance a virtual clock to the next deadline, but not past `until_ns`."""
        cdef uint64_t deadline_ns
        if self.runner.clock.kind == CLOCK_VIRTUAL:
            deadline_ns = min(
                until_ns, earliest_deadline(self.runner.stages, self.runner.stage_count))
            if deadline_ns != NO_DEADLINE and deadline_ns > clock_now(self.runner.clock):
                clock_set_virtual(self.clock.clock, deadline_ns)

    @property
    def finished_ns(self):
        """int: When the last stage finished, on the runner's clock; 0 before that."""
        return self.runner.finished_ns

    @property
    def cycles(self):
        """int: Duty cycles that moved something."""
        return load_relaxed(&self.runner.cycles)

    @property
    def idle_cycles(self):
        """int: Duty cycles in which nothing moved."""
        return load_relaxed(&self.runner.idle_cycles)
