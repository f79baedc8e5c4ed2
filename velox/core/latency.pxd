"""Latencies of records, from the time in each record to one common end."""

from libc.stdint cimport uint64_t

from velox.core.histogram cimport histogram, histogram_record_n
from velox.core.records cimport Transaction


cdef inline uint64_t elapsed_ns(uint64_t start_ns, uint64_t end_ns) noexcept nogil:
    """0 if `start_ns` lies in the future, which a caller's own timestamps may."""
    return end_ns - start_ns if end_ns > start_ns else 0


cdef inline void record_since_due(
        histogram *self, const Transaction *first, uint64_t n, uint64_t now_ns) noexcept nogil:
    """Record how long ago each of `n` records was due.

    Records that were due at the same moment, such as a whole batch of a replay, are recorded at
    once.
    """
    cdef uint64_t due_ns, run
    cdef uint64_t i = 0
    while i < n:
        due_ns = first[i].ingress_ts_ns
        run = 1
        while i + run < n and first[i + run].ingress_ts_ns == due_ns:
            run += 1
        histogram_record_n(self, elapsed_ns(due_ns, now_ns), run)
        i += run
