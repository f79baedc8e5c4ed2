"""The Python API of the bundle builder in ``bundle.pxd``, for use without a pipeline."""

import operator

cimport cython

from velox.core.atomic cimport load_relaxed
from velox.core.histogram cimport LatencyHistogram
from velox.core.memory cimport allocate, release_memory
from velox.core.records cimport SEAL_DRAIN, SEAL_IDLE, transactions_of
from velox.core.ring cimport BundleRing

from velox.core.records import SealReason
from velox.errors import ConfigError, RingError

__all__ = ["BundleBuilder"]


cdef uint64_t checked_time(object now_ns) except? 0:
    try:
        moment = operator.index(now_ns)
    except TypeError:
        raise ConfigError("must be an integer", field="now_ns", value=now_ns) from None
    if not 0 <= moment < 2**63:
        raise ConfigError("must be 0 to 2**63 - 1", field="now_ns", value=now_ns)
    return moment


@cython.final
cdef class BundleBuilder:
    """Groups records by sixteen, or by a timeout, in place in a `BundleRing`.

    Parameters
    ----------
    ring : BundleRing
        Takes the sealed bundles. The builder is its producer: no other code may push.
    timeout_ns : int
        How long a bundle stays open after its first transaction.

    Attributes
    ----------
    ring : BundleRing
    hold : LatencyHistogram
        Accepted to sealed, in ns, one value a transaction.

    Notes
    -----
    Thread-safety: one thread at a time. The caller passes the time, from any clock in ns that does
    not go back.

    Examples
    --------
    >>> import numpy as np
    >>> from velox import BundleBuilder, BundleRing, TRANSACTION_DTYPE
    >>> builder = BundleBuilder(BundleRing())
    >>> builder.add(np.zeros(20, TRANSACTION_DTYPE), now_ns=0)
    20
    >>> builder.deadline_ns, builder.expire(now_ns=100_000)
    (100000, True)
    >>> [(int(b["count"]), int(b["reason"])) for b in builder.ring.pop()]
    [(16, 0), (4, 1)]
    """

    cdef bundle_builder *builder
    cdef readonly BundleRing ring
    cdef readonly LatencyHistogram hold

    def __cinit__(self, BundleRing ring not None, *, timeout_ns=100_000):
        try:
            timeout_ns = operator.index(timeout_ns)
        except TypeError:
            raise ConfigError("must be an integer", field="timeout_ns", value=timeout_ns) from None
        if not 1 <= timeout_ns < 2**62:
            raise ConfigError("must be 1 to 2**62 - 1", field="timeout_ns", value=timeout_ns)
        self.ring = ring
        self.hold = LatencyHistogram()
        self.builder = <bundle_builder *>allocate(sizeof(bundle_builder))
        if self.builder == NULL:
            raise MemoryError("no memory for a bundle builder")
        bundle_builder_init(self.builder, ring.ring, self.hold.histogram, timeout_ns)

    def __dealloc__(self):
        release_memory(self.builder)

    cdef int check_ring(self) except -1:
        self.ring.become_producer()
        # Relaxed: only this thread writes closed.
        if load_relaxed(&self.ring.ring.closed):
            raise RingError("closed, so its builder takes no more", field="ring")
        return 0

    def add(self, transactions, *, now_ns):
        """Accept records, after sealing the open bundle if its deadline has come.

        Parameters
        ----------
        transactions : ndarray, shape (n,), dtype TRANSACTION_DTYPE
        now_ns : int

        Returns
        -------
        int
            How many were accepted; fewer than n where the ring is full.

        Raises
        ------
        RingError
            The ring is closed, or another thread is its producer.
        RecordError
            `transactions` is not a contiguous array of that dtype.
        """
        cdef Py_ssize_t n
        cdef Py_ssize_t accepted = 0
        cdef uint32_t step
        cdef const Transaction *first = transactions_of(transactions, &n)
        cdef uint64_t moment_ns = checked_time(now_ns)
        self.check_ring()
        bundle_builder_expire(self.builder, moment_ns)
        while accepted < n:
            step = bundle_builder_add(self.builder, first + accepted, n - accepted, moment_ns)
            if step == 0:
                break
            accepted += step
        return accepted

    def expire(self, *, now_ns):
        """Seal the open bundle if its deadline has come.

        Returns
        -------
        bool
            Whether one was sealed.
        """
        cdef uint64_t moment_ns = checked_time(now_ns)
        self.check_ring()
        return bool(bundle_builder_expire(self.builder, moment_ns))

    def seal(self, *, now_ns, reason=SealReason.DRAIN):
        """Seal the open bundle now, whatever its size.

        Parameters
        ----------
        now_ns : int
        reason : SealReason
            `SealReason.IDLE` or `SealReason.DRAIN`.

        Returns
        -------
        bool
            Whether there was one.
        """
        if reason not in (SEAL_IDLE, SEAL_DRAIN):
            raise ConfigError(
                "must be SealReason.IDLE or SealReason.DRAIN", field="reason", value=reason)
        cdef uint64_t moment_ns = checked_time(now_ns)
        self.check_ring()
        if self.builder.open == NULL:
            return False
        bundle_builder_seal(self.builder, reason, moment_ns)
        return True

    @property
    def deadline_ns(self):
        """int or None: When the open bundle must be sealed; None if no bundle is open."""
        return None if self.builder.deadline_ns == NO_DEADLINE else self.builder.deadline_ns

    @property
    def sealed(self):
        """dict of SealReason to int: Bundles sealed so far."""
        return {reason: load_relaxed(&self.builder.sealed[<int>reason]) for reason in SealReason}
