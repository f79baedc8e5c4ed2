"""The file descriptor that tells a Python thread that there are bundles."""

cimport cython

from velox.core.memory cimport allocate, release_memory
from velox.runtime.descriptor cimport descriptor_close, descriptor_open

import os

from velox.errors import PipelineError

__all__ = ["Bell"]


cdef int bell_do_work(void *pointer) noexcept nogil:
    return bell_look(<bell *>pointer)


@cython.final
cdef class Bell(Stage):
    """Makes a file descriptor readable while a ring holds bundles, and once it is closed.

    It is a stage for the thread that fills the ring, behind the stage that fills it.

    Parameters
    ----------
    ring : BundleRing

    Raises
    ------
    PipelineError
        The process has no file descriptor left.
    """

    def __cinit__(self, BundleRing ring not None):
        cdef int refusal
        self.name = "bell"
        self.ring = ring
        self.bell = <bell *>allocate(sizeof(bell))
        if self.bell == NULL:
            raise MemoryError("no memory for a bell")
        self.bell.readable = self.bell.raised = -1
        self.bell.ring = ring.ring
        self.bell.stage = &self.stage
        self.stage.do_work = bell_do_work
        self.stage.self = self.bell
        refusal = descriptor_open(&self.bell.readable, &self.bell.raised)
        if refusal != 0:
            raise PipelineError(
                "an output that Python polls needs a file descriptor, and the process has none "
                f"left: {os.strerror(refusal)}") from OSError(refusal, os.strerror(refusal))

    def __dealloc__(self):
        if self.bell != NULL:
            descriptor_close(self.bell.readable, self.bell.raised)
            release_memory(self.bell)

    def fileno(self):
        """Return the file descriptor that is readable while the ring holds bundles."""
        return self.bell.readable
