"""Wakes a Python thread that waits for bundles, through a file descriptor.

A `bell` is a stage on the thread that fills the bundle ring, behind the stage that does so. It
rings, that is, it raises the descriptor, if it is armed and the ring is not empty. The consumer
arms it once the ring is empty::

    consumer    the ring is empty -> lower the descriptor -> armed = 1 -> wait for the descriptor
    stage       armed = 1, and the ring is not empty -> raise the descriptor -> armed = 0

`armed` says whose the descriptor is. While it is 1 only the stage raises it, and then writes 0.
While it is 0 only the consumer lowers it, and then writes 1. It is 0 until somebody waits for the
first time. The consumer then arms it, whatever the ring holds.

No wake-up is lost. The stage looks again in each duty cycle, so either order of "a bundle was
published" and "the bell was armed" ends in a ring. When the ring is closed, the stage rings a last
time, armed or not. The consumer looks for `closed` after it has lowered the descriptor. If it took
back that last ring, it sees `closed`, and raises the descriptor itself.
"""

cimport cython
from libc.stdint cimport intptr_t

from velox.core.atomic cimport atomic_u64, load_acquire, load_relaxed, store_release
from velox.core.ring cimport BundleRing, bundle_ring
from velox.runtime.descriptor cimport descriptor_lower, descriptor_raise
from velox.runtime.stage cimport Stage, stage

cdef struct bell:
    stage *stage
    bundle_ring *ring
    atomic_u64 armed
    intptr_t readable                   # what the consumer waits for
    intptr_t raised                     # what the stage writes to


cdef inline int bell_look(bell *self) noexcept nogil:
    """Stage: ring if there is a reason to. Return 0, since nothing moves."""
    # Relaxed: this thread writes closed and head. A tail from before the consumer's last release
    # rings for nothing; it never hides a bundle.
    if load_relaxed(&self.ring.closed):
        descriptor_raise(self.raised)
        self.stage.finished = True
    # Acquire: the consumer has lowered the descriptor before.
    elif load_acquire(&self.armed) and (
            load_relaxed(&self.ring.head) != load_relaxed(&self.ring.tail)):
        descriptor_raise(self.raised)
        # Release: the consumer lowers what is raised.
        store_release(&self.armed, 0)
    return 0


cdef inline void bell_arm(bell *self) noexcept nogil:
    """Consumer: let the stage ring. The descriptor must be lowered."""
    # Release: the stage raises what is lowered.
    store_release(&self.armed, 1)


cdef inline void bell_settle(bell *self) noexcept nogil:
    """Consumer: once the ring is empty, lower the descriptor and arm the bell."""
    # Acquire, armed: the stage has raised the descriptor before. Relaxed, head: a bundle that came
    # since is one that the armed bell rings for. Relaxed, tail: this thread writes it.
    if load_acquire(&self.armed) or (
            load_relaxed(&self.ring.head) != load_relaxed(&self.ring.tail)):
        return
    descriptor_lower(self.readable)
    # Relaxed: if the last ring was lowered, the kernel has ordered `closed` before it.
    if load_relaxed(&self.ring.closed):
        descriptor_raise(self.raised)
    else:
        bell_arm(self)


@cython.final
cdef class Bell(Stage):
    cdef bell *bell
    cdef BundleRing ring
