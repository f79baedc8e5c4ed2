"""Where the executor of a strategy's orders gives its reports to the pipeline."""

cimport cython
from cpython.pycapsule cimport (
    PyCapsule_GetContext,
    PyCapsule_New,
    PyCapsule_SetContext,
)
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject
from libc.stdint cimport uint64_t

import numpy as np

from velox.core.memory cimport STATIC_ASSERT
from velox.core.records cimport (
    KIND_TIMER,
    REPORT_KINDS,
    REPORT_KINDS_END,
    SIDE_ASK,
    Report,
    reports_of,
)
from velox.core.ring cimport ReportRing, report_ring, report_ring_push

from velox.errors import RecordError

cdef extern from "velox/strategy.h":
    const char *CAPSULE_NAME "VELOX_REPORTS_CAPSULE"
    ctypedef struct published_producer "velox_reports":
        pass
    ctypedef struct published_report "velox_report":
        pass

__all__ = ["ReportPort"]

MARKETS = 256


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(report_producer) == sizeof(published_producer))
    STATIC_ASSERT(sizeof(Report) == sizeof(published_report))


assert_layout()


cdef uint64_t push(void *ring, const Report *reports, uint64_t n) noexcept nogil:
    return report_ring_push(<report_ring *>ring, reports, n)


cdef void forget(object capsule) noexcept:
    """Let the port go that a capsule kept alive."""
    Py_DECREF(<object>PyCapsule_GetContext(capsule))


@cython.final
cdef class ReportPort:
    """The producer's side of a pipeline's report ring: `Pipeline.reports`.

    Whoever executes the strategy's orders pushes here what became of them. The book's thread takes
    the reports and gives them to the strategy, in this order.

    Parameters
    ----------
    ring : ReportRing
        A book stage takes from it.
    markets : iterable of int
        The markets that have a book.

    Attributes
    ----------
    ring : ReportRing
        For Cython: ``report_ring_push(port.ring.ring, reports, n)`` needs no GIL.

    Notes
    -----
    Thread-safety: one thread may push, the first that does. `hand_over` lets another one do it. In
    Cython and C nothing checks this.
    """

    def __init__(self, ReportRing ring not None, markets):
        self.ring = ring
        self.markets = np.zeros(MARKETS, bool)
        self.markets[list(markets)] = True
        self.producer.ring = ring.ring
        self.producer.push = push

    def push(self, reports):
        """Push copies of reports, as many as there is room for.

        Parameters
        ----------
        reports : ndarray, shape (n,), dtype REPORT_RECORD_DTYPE
            An `ingress_ts_ns` of 0 means the time at which the book stage takes the report, in ns
            of the pipeline's clock.

        Returns
        -------
        int
            How many were taken, from the front of `reports`. The ring is full if that is less than
            n: keep the rest, and push them again. A report that you do not push is lost.

        Raises
        ------
        RecordError
            `reports` is not a contiguous array of that dtype, or one of them is no report, has no
            side, or is of a market without a book. Nothing was pushed then.
        RingError
            Another thread is the producer.
        """
        cdef Py_ssize_t n
        cdef Py_ssize_t i
        cdef Report *first = reports_of(reports, &n)
        for i in range(n):
            if not REPORT_KINDS <= first[i].record.kind < REPORT_KINDS_END \
                    or first[i].record.kind == KIND_TIMER:
                raise RecordError(
                    "is no report that a pipeline takes", array="reports", index=i, field="kind",
                    value=first[i].record.kind)
            if first[i].record.side > SIDE_ASK:
                raise RecordError(
                    "is neither 0 (bid) nor 1 (ask)", array="reports", index=i, field="side",
                    value=first[i].record.side)
            if not self.markets[first[i].record.market]:
                raise RecordError(
                    "has no book", array="reports", index=i, field="market",
                    value=first[i].record.market)
        return self.ring.push(reports)

    def hand_over(self):
        """Let another thread become the producer. Call it on the thread that pushed so far."""
        self.ring.hand_over("producer")

    @property
    def capsule(self):
        """PyCapsule: A ``velox_reports`` of ``velox/strategy.h``, for a producer in C.

        It keeps the ring alive.
        """
        capsule = PyCapsule_New(<void *>&self.producer, CAPSULE_NAME, forget)
        Py_INCREF(self)
        PyCapsule_SetContext(capsule, <PyObject *>self)
        return capsule

    def __len__(self):
        return len(self.ring)

    def __repr__(self):
        return f"<ReportPort {len(self.ring)}/{self.ring.capacity}>"
