"""Where the executor of a strategy's orders gives its reports to the pipeline.

From Cython::

    from velox.core.records cimport Report
    from velox.core.ring cimport report_ring_push

    taken = report_ring_push(port.ring.ring, reports, count)    # without the GIL
"""

from libc.stdint cimport uint64_t

from velox.core.records cimport Report
from velox.core.ring cimport ReportRing

# velox_reports of velox/strategy.h.
cdef struct report_producer:
    void *ring
    uint64_t (*push)(void *ring, const Report *reports, uint64_t n) noexcept nogil


cdef class ReportPort:
    cdef readonly ReportRing ring
    cdef object markets                 # bool by market
    cdef report_producer producer       # what a capsule points to
