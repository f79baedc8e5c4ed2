"""The swap of limits between a writer and the gate's thread, and the kill switch.

Claimed of the limits: the gate's thread reads whole blocks, none older than before, and none that
the writer has taken back. Claimed of the switch: of several who set it one is told so; who knows
that it was set finds it set; and who arms it has seen what the one who set it did before.
"""

from libc.stdint cimport uint64_t

from velox.core.atomic cimport atomic_u64, load_acquire, load_relaxed, store_release
from velox.core.kill cimport KILL_ARMED, kill_arm, kill_armed, kill_set, kill_switch
from velox.core.risk cimport (
    limits_block, limits_in_use, limits_publish, limits_take, market_limits, risk_gate,
)

from models.model cimport check, model_allocate, model_finish, model_name, model_thread

cdef enum:
    MOST = 5

# The head of a block, without its markets, which the swap does not touch.
cdef struct head:
    uint64_t number
    limits_block *older
    market_limits total

cdef struct plan:
    risk_gate *gate
    limits_block *blocks[MOST]
    uint64_t swaps
    uint64_t batches
    kill_switch *kill
    uint64_t losses[2]          # of each killer: written before it sets the switch
    uint64_t did[2]             # whether it was told that it set it
    uint64_t armed
    uint64_t arms
    uint64_t killers
    atomic_u64 told[2]          # set after the switch


cdef void fill(limits_block *block, uint64_t number) noexcept nogil:
    block.number = number
    block.total.max_lots = 10 * number


cdef void swap(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t number, in_use
    cdef uint64_t taken_back = 0
    for number in range(1, self.swaps + 1):
        fill(self.blocks[number], number + 1)
        limits_publish(self.gate, self.blocks[number])
        in_use = limits_in_use(self.gate)
        check(in_use <= number + 1, "no block is in use before it is published")
        while taken_back + 1 < in_use:
            # What the product frees. A gate that still reads it races with this.
            self.blocks[taken_back].total.max_lots = 0
            self.blocks[taken_back].number = 0
            taken_back += 1


cdef void take(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t _batch
    cdef uint64_t seen = 1
    for _batch in range(self.batches):
        limits_take(self.gate)
        check(self.gate.limits.number >= seen, "limits do not go back")
        seen = self.gate.limits.number
        check(self.gate.limits.total.max_lots == 10 * seen, "a block is read whole")


cdef void swapped(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    check(limits_in_use(self.gate) == self.gate.limits.number, "the gate says what it uses")
    limits_take(self.gate)
    check(self.gate.limits.number == self.swaps + 1, "a batch takes the newest limits")


cdef void set_switch(plan *self, int killer) noexcept nogil:
    self.losses[killer] = 7
    self.did[killer] = kill_set(self.kill)
    store_release(&self.told[killer], 1)


cdef void set_first(void *state) noexcept nogil:
    set_switch(<plan *>state, 0)


cdef void set_second(void *state) noexcept nogil:
    set_switch(<plan *>state, 1)


cdef void ask(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t told = load_acquire(&self.told[0]) | load_acquire(&self.told[1])
    cdef bint armed = kill_armed(self.kill)
    if not self.arms:
        check(not (told and armed), "who knows of a kill finds the switch set")


cdef void arm(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t seen = load_relaxed(&self.kill.state)
    if seen == KILL_ARMED:
        return
    self.armed = kill_arm(self.kill, seen)
    if self.armed and self.killers == 1:
        check(self.losses[0] == 7, "who arms has seen what led to the kill")


cdef void settled(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t did = self.did[0] + self.did[1]
    check(did >= 1, "somebody set the switch")
    check(did <= 1 + self.armed, "one alone is told that he set it")
    check(kill_armed(self.kill) == (did == self.armed), "it is set unless it was armed after")


def prepare(swaps=0, batches=0, killers=0, arms=False):
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    cdef int index
    model_name(self, "plan")
    self.swaps = swaps
    self.batches = batches
    self.killers = killers
    self.arms = arms
    if swaps:
        self.gate = <risk_gate *>model_allocate(sizeof(risk_gate))
        model_name(self.gate, "gate")
        model_name(&self.gate.newest, "newest")
        model_name(&self.gate.in_use, "in_use")
        for index in range(swaps + 1):
            self.blocks[index] = <limits_block *>model_allocate(sizeof(head))
            model_name(self.blocks[index], "block")
        fill(self.blocks[0], 1)
        limits_publish(self.gate, self.blocks[0])
        limits_take(self.gate)
        model_thread("writer", swap, self)
        model_thread("gate", take, self)
        model_finish(swapped, self)
        return
    self.kill = <kill_switch *>model_allocate(sizeof(kill_switch))
    model_name(self.kill, "switch")
    model_name(&self.kill.state, "state")
    store_release(&self.kill.state, KILL_ARMED)
    model_name(&self.told, "told")
    model_thread("killer", set_first, self)
    if killers > 1:
        model_thread("killer 2", set_second, self)
    model_thread("gate", ask, self)
    if arms:
        model_thread("person", arm, self)
    model_finish(settled, self)
