"""The interface of a stage, for Python."""

cimport cython
from cpython.pythread cimport PyThread_get_thread_ident

from velox.core.atomic cimport cas_strong_acquire_else_relaxed, load_relaxed, store_release
from velox.core.memory cimport allocate, release_memory
from velox.core.process cimport forks

from contextlib import suppress

from velox.errors import ConfigError

__all__ = ["Control", "Stage"]


cdef double checked_timeout(object timeout) except -1:
    cdef double seconds = -1.0
    with suppress(TypeError, ValueError, OverflowError):
        seconds = float(timeout)
    if isinstance(timeout, (bool, str)) or not seconds >= 0:
        raise ConfigError("must be a number of seconds, or None", field="timeout", value=timeout)
    return seconds


@cython.final
cdef class Control:
    """The stop flag that a pipeline's stages share."""

    def __cinit__(self):
        self.control = <control *>allocate(sizeof(control))
        if self.control == NULL:
            raise MemoryError("no memory for a pipeline's control block")

    def __dealloc__(self):
        release_memory(self.control)

    def stop(self):
        """Tell the ingress to end. Records under way are still delivered."""
        control_stop(self.control)

    @property
    def stopped(self):
        """bool: Whether the pipeline has been told to stop."""
        return bool(control_stopped(self.control))


@cython.final
cdef class Turn:
    """Lets one thread in at a time. A second thread is refused and does not wait.

    It passes one end of a ring from one Python thread to the next, and detects two threads at once.
    """

    def __cinit__(self):
        self.holder = <atomic_u64 *>allocate(sizeof(atomic_u64))
        if self.holder == NULL:
            raise MemoryError("no memory for a turn")
        self.stay()

    def __dealloc__(self):
        release_memory(self.holder)

    cdef void stay(self) noexcept:
        self.process = forks

    cdef bint is_forked(self) noexcept:
        return self.process != forks

    cdef bint take(self) noexcept:
        cdef uint64_t free = 0
        # Acquire: this thread sees what the previous thread did at this end of the ring.
        return cas_strong_acquire_else_relaxed(self.holder, &free, PyThread_get_thread_ident())

    cdef bint is_mine(self) noexcept:
        # Relaxed: if this thread has the turn, it wrote the word itself.
        return load_relaxed(self.holder) == PyThread_get_thread_ident()

    cdef void leave(self) noexcept nogil:
        # Release: pairs with the acquire in take.
        store_release(self.holder, 0)


cdef class Stage:
    """One step of a pipeline: a C function that a runner calls again and again.

    Attributes
    ----------
    name : str
    """

    cdef int check(self) except -1:
        """Raise the stage's error, once its runner has returned."""
        return 0

    def begin(self):
        """Prepare. The pipeline calls it once, before any runner starts."""

    def end(self):
        """Clean up, and raise the stage's error.

        The pipeline calls it once, after every runner returned.
        """
        self.check()

    @property
    def finished(self):
        """bool: Whether the stage has ended normally. Read it after its runner has returned."""
        return bool(self.stage.finished)
