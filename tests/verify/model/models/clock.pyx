"""The virtual clock: a thread that sees the time also sees what its driver did before."""

from libc.stdint cimport uint64_t

from velox.core.clock cimport Clock, clock_now, clock_set_virtual, clock_source

from models.model cimport check, model_allocate, model_name, model_thread, wait


cdef struct plan:
    clock_source *clock
    uint64_t start_ns
    uint64_t steps
    uint64_t done[4]


cdef void drive(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t step
    for step in range(1, self.steps + 1):
        self.done[step] = step
        clock_set_virtual(self.clock, self.start_ns + step)


cdef void read(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t now_ns, step = 0, before = 0
    while step < self.steps:
        now_ns = clock_now(self.clock)
        step = now_ns - self.start_ns
        check(step >= before, "time does not go back")
        check(self.done[step] == step, "what happened before that time is seen")
        if step == before:
            wait()
        before = step


def prepare(steps):
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    cdef Clock clock = Clock("virtual")
    self.clock = clock.clock
    self.start_ns = clock.now()
    self.steps = steps
    model_name(self, "plan")
    model_name(&self.clock.virtual_ns, "time")
    model_thread("driver", drive, self)
    model_thread("reader", read, self)
    return clock
