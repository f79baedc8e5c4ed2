"""The bell: a consumer sleeps on a descriptor, the stage that fills the ring raises it.

The descriptor is an atomic word here, which ``runtime/seam.h`` puts in the kernel's place. It
orders less than the kernel does: a raise releases, a lowering acquires. Claimed: the consumer, who
waits for the descriptor alone, takes every bundle and sees the end, wherever its first wait begins.
"""

from libc.stdint cimport intptr_t, uint64_t

from velox.core.atomic cimport atomic_u64, load_relaxed, relax
from velox.core.ring cimport (
    BundleRing, bundle_ring, bundle_ring_claim, bundle_ring_close, bundle_ring_drained,
    bundle_ring_length, bundle_ring_peek, bundle_ring_publish, bundle_ring_release,
)
from velox.runtime.bell cimport bell, bell_arm, bell_look, bell_settle
from velox.runtime.stage cimport stage

from models.model cimport check, model_allocate, model_finish, model_name, model_thread, wait

from velox.core.ring import BundleRing

cdef struct plan:
    bundle_ring *ring
    bell bell
    stage stage
    atomic_u64 descriptor
    uint64_t items
    uint64_t taken
    uint64_t polls                  # without a wait, before the first that waits
    bint ends_empty                 # the ring is closed once it is empty: no bundle waits for that


cdef void fill(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t granted, pushed = 0
    while not self.stage.finished:
        if pushed < self.items:
            bundle_ring_claim(self.ring, 1, &granted)
            if granted > 0:
                bundle_ring_publish(self.ring, 1)
                pushed += 1
        elif not self.ends_empty or bundle_ring_length(self.ring) == 0:
            bundle_ring_close(self.ring)
        bell_look(&self.bell)
        if self.stage.finished:
            break
        if pushed < self.items:
            if bundle_ring_length(self.ring) == self.ring.capacity:
                wait()
        elif self.ends_empty and bundle_ring_length(self.ring) > 0:
            wait()


cdef bint poll(plan *self) noexcept nogil:
    """Take one bundle; whether there was one, or there never will be."""
    cdef uint64_t granted
    bundle_ring_peek(self.ring, 1, &granted)
    if granted == 0:
        return bundle_ring_drained(self.ring)
    self.taken += 1
    bundle_ring_release(self.ring, 1)
    return True


cdef void take(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t _
    for _ in range(self.polls):
        poll(self)
    bell_arm(&self.bell)
    while not (bundle_ring_length(self.ring) == 0 and bundle_ring_drained(self.ring)):
        # As a selector does: it looks at the descriptor and at nothing else.
        while load_relaxed(&self.descriptor) == 0:
            wait()
        if not poll(self):
            # Rung for nothing: it looks again at once.
            relax()
        bell_settle(&self.bell)


cdef void balance(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    check(self.taken == self.items, "every bundle was taken")
    check(load_relaxed(&self.descriptor) != 0, "the end leaves the descriptor raised")


def prepare(items, capacity=2, polls=0, ends_empty=False):
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    cdef BundleRing ring = BundleRing(capacity)
    self.ring = ring.ring
    self.items = items
    self.polls = polls
    self.ends_empty = ends_empty
    self.bell.ring = ring.ring
    self.bell.stage = &self.stage
    self.bell.readable = self.bell.raised = <intptr_t>&self.descriptor
    model_name(self, "plan")
    model_name(&self.bell.armed, "armed")
    model_name(&self.descriptor, "descriptor")
    model_name(&ring.ring.head, "head")
    model_name(&ring.ring.closed, "closed")
    model_name(&ring.ring.tail, "tail")
    model_thread("stage", fill, self)
    model_thread("consumer", take, self)
    model_finish(balance, self)
    return ring
