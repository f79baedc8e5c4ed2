"""The sinks that Velox brings: their structs."""

from libc.stdint cimport uint64_t

from velox.core.records cimport Bundle
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

    cdef void taken(self, const Bundle *first, uint64_t n) noexcept nogil
