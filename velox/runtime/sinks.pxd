"""The sinks that Velox brings: their structs."""

from libc.stdint cimport uint64_t

from velox.core.records cimport Bundle
from velox.runtime.bell cimport Bell
from velox.runtime.output cimport Output, output
from velox.runtime.stage cimport Turn

cdef struct capture_output:
    output output
    int descriptor
    int failure                         # errno of the write that failed, or 0


cdef class CaptureOutput(Output):
    cdef capture_output *capture
    cdef readonly str path
    cdef object file


cdef class PullOutput(Output):
    cdef Turn turn
    cdef bint draining                  # a stop has the turn; read and written under the GIL
    cdef object backlog                 # bundles that a stop took from the ring, for the next poll
    cdef Bell bell
    cdef bint awaited                   # somebody waits, so the bell is in use

    cdef bint ready(self) noexcept
    cdef void use_bell(self) noexcept
    cdef void settle(self) noexcept
    cdef int wait(self, double seconds) except -1
    cdef void taken(self, const Bundle *first, uint64_t n) noexcept nogil
