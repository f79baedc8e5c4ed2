"""Sinks of bundles: a counter, a capture file, and Python code that polls."""

import os
from collections import deque

cimport cython
from libc.errno cimport EINTR, EIO, errno

from velox.core.atomic cimport count, give_core_away
from velox.core.records cimport view_bundles
from velox.core.ring cimport bundle_ring_peek, bundle_ring_release, checked_count
from velox.runtime.output cimport output_finish_if_drained, output_taken, output_transactions
from velox.runtime.stage cimport control_stop

from velox.errors import CaptureError, PipelineError
from velox.runtime.capture import begin_capture, finish_capture

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int descriptor, const void *bytes, size_t size) noexcept

__all__ = ["CaptureOutput", "DiscardOutput", "PullOutput"]


cdef int discard_do_work(void *pointer) noexcept nogil:
    cdef output *self = <output *>pointer
    cdef uint64_t n
    cdef const Bundle *first = bundle_ring_peek(self.ring, self.batch, &n)
    if n == 0:
        return output_finish_if_drained(self)
    output_taken(self, first, n)
    count(&self.delivered_bundles, n)
    count(&self.delivered_transactions, output_transactions(first, n))
    bundle_ring_release(self.ring, n)
    return <int>n


@cython.final
cdef class DiscardOutput(Output):
    """Counts and times the bundles and discards them."""

    def __cinit__(self):
        self.stage.do_work = discard_do_work
        self.stage.self = self.output


cdef uint64_t write_bundles(capture_output *self, const Bundle *first, uint64_t n) noexcept nogil:
    """Returns how many whole bundles were written; fewer than `n` if a write failed."""
    cdef const char *bytes = <const char *>first
    cdef uint64_t size = n * sizeof(Bundle)
    cdef uint64_t written = 0
    cdef ssize_t step
    while written < size:
        step = write(self.descriptor, bytes + written, size - written)
        if step > 0:
            written += step
        elif step == 0:
            # POSIX allows it. No retry: it might never succeed.
            self.failure = EIO
            break
        elif errno != EINTR:
            self.failure = errno
            break
    return written // sizeof(Bundle)


cdef int capture_do_work(void *pointer) noexcept nogil:
    cdef capture_output *self = <capture_output *>pointer
    cdef output *base = &self.output
    cdef uint64_t n
    cdef uint64_t written = 0
    cdef const Bundle *first = bundle_ring_peek(base.ring, base.batch, &n)
    if n == 0:
        return output_finish_if_drained(base)
    output_taken(base, first, n)
    if self.failure == 0:
        written = write_bundles(self, first, n)
        if self.failure != 0:
            # Later bundles cannot be written. They are still counted.
            control_stop(base.control)
    count(&base.delivered_bundles, written)
    count(&base.delivered_transactions, output_transactions(first, written))
    count(&base.undelivered_bundles, n - written)
    count(&base.undelivered_transactions, output_transactions(first + written, n - written))
    bundle_ring_release(base.ring, n)
    return <int>n


@cython.final
cdef class CaptureOutput(Output):
    """Writes the bundles to a ``.npy`` file that NumPy maps.

    Parameters
    ----------
    path : path
        Created, or emptied, when the pipeline starts. A second file beside it,
        ``PATH.markets.json``, then says what the markets are: their names, ticks, lots, and
        decimals of prices.

    Attributes
    ----------
    path : str

    Raises
    ------
    CaptureError
        The file cannot be created or written. The pipeline's stop raises a write error, with the
        system's error as its cause. The bundles written before that are complete.

    Notes
    -----
    The file is complete after every stop, also after an interrupt or an error. After a kill,
    `recover_capture` completes it. ``write(2)`` is called on the output's thread, straight from the
    ring: give that thread a core of its own if the latency of other stages matters.

    Examples
    --------
    >>> bundles = np.load("flow.npy", mmap_mode="r")                            # doctest: +SKIP
    >>> bundles["transactions"][0]["price"][:bundles["count"][0]]               # doctest: +SKIP
    """

    def __cinit__(self, path):
        self.make(sizeof(capture_output))
        self.capture = <capture_output *>self.output
        self.path = os.fsdecode(path)
        self.stage.do_work = capture_do_work
        self.stage.self = self.capture

    def begin(self):
        self.file = begin_capture(self.path, self.instruments)
        self.capture.descriptor = self.file.fileno()

    def end(self):
        if self.file is not None:
            file, self.file = self.file, None
            finish_capture(file, self.path, self.delivered_bundles)
        self.check()

    cdef int check(self) except -1:
        if self.capture.failure != 0:
            number = self.capture.failure
            raise CaptureError(
                f"cannot be written: {os.strerror(number)}", path=self.path, number=number,
                bundles=self.delivered_bundles,
            ) from OSError(number, os.strerror(number), self.path)
        return 0


cdef class PullOutput(Output):
    """Bundles that Python polls, without a copy, from one thread at a time.

    Examples
    --------
    >>> import numpy as np, velox
    >>> output = velox.PullOutput()
    >>> with velox.Pipeline(velox.PoissonIngress(rate="max", seed=1), output) as pipeline:
    ...     taken = 0
    ...     while taken < 1000:
    ...         with output.poll() as bundles:
    ...             taken += int(bundles["count"].sum())
    """

    driven = False

    def __cinit__(self, *args, **kwargs):
        self.turn = Turn()
        self.backlog = deque()

    def __init__(self):
        pass

    def poll(self, max_bundles=None):
        """Take the bundles that are ready.

        Parameters
        ----------
        max_bundles : int, optional
            The most to take.

        Returns
        -------
        context manager
            Entering it gives a read-only array of BUNDLE_DTYPE, shape (n,), which is empty if no
            bundle is ready. The array lies in the ring. Leaving the ``with`` block returns its
            memory to the pipeline, so copy what you need longer. If the block raises, the bundles
            still count as delivered.

        Raises
        ------
        PipelineError
            No pipeline in this process has this output, or another poll is open.
        RingError
            `max_bundles` is not a count.

        Notes
        -----
        Thread-safety: one thread at a time; several may take turns. Bundles that are left when the
        pipeline stops are kept for later polls.
        """
        return Poll(self, max_bundles)

    def begin(self):
        self.turn.stay()

    def end(self):
        # No more bundles will come. This holds also if the pipeline never ran.
        self.stage.finished = True

    @property
    def exhausted(self):
        """bool: Whether the pipeline has ended and everything has been polled."""
        return bool(self.stage.finished) and not self.backlog

    def drain(self):
        """Copy the ring's bundles to memory from which later polls take them.

        Called when the pipeline stops.

        Returns
        -------
        bool
            Whether the ring is closed and empty, so that nothing more will come.
        """
        cdef uint64_t n
        cdef const Bundle *first
        if self.ring is None:
            raise PipelineError("drain of an output that no pipeline has")
        if not self.turn.take():
            if self.turn.is_mine():
                raise PipelineError(
                    "stop from within a poll of the pipeline's output: leave the with block first")
            return False
        self.draining = True
        first = bundle_ring_peek(self.output.ring, self.output.ring.capacity, &n)
        if n > 0:
            kept = view_bundles(first, n, None).copy()
            kept.flags.writeable = False
            self.backlog.append(kept)
            self.taken(first, n)
            bundle_ring_release(self.output.ring, n)
        else:
            output_finish_if_drained(self.output)
        self.draining = False
        self.turn.leave()
        return bool(self.stage.finished)

    cdef void taken(self, const Bundle *first, uint64_t n) noexcept nogil:
        output_taken(self.output, first, n)
        count(&self.output.delivered_bundles, n)
        count(&self.output.delivered_transactions, output_transactions(first, n))


@cython.final
cdef class Poll:
    cdef PullOutput source
    cdef object max_bundles
    cdef uint64_t lent
    cdef bint entered

    def __cinit__(self, PullOutput source not None, max_bundles):
        self.source = source
        self.max_bundles = max_bundles

    def __enter__(self):
        cdef uint64_t wanted
        cdef const Bundle *first
        if self.source.ring is None:
            raise PipelineError("poll of an output that no pipeline has")
        wanted = self.source.output.ring.capacity
        if self.max_bundles is not None:
            wanted = checked_count(self.max_bundles, "max_bundles")
        if self.source.turn.is_forked():
            raise PipelineError("poll in a fork of the pipeline's process, which has its threads")
        while not self.source.turn.take():
            # A pipeline that stops copies the ring's bundles elsewhere and then lets polls in:
            # retry soon.
            if not self.source.draining:
                raise PipelineError("another poll is open; an output takes one at a time")
            with nogil:
                give_core_away()
        self.entered = True
        self.lent = 0
        if self.source.backlog:
            return self.from_backlog(wanted)
        first = bundle_ring_peek(self.source.output.ring, wanted, &self.lent)
        if self.lent == 0 and wanted > 0:
            output_finish_if_drained(self.source.output)
        self.source.taken(first, self.lent)
        return view_bundles(first, self.lent, self.source.ring)

    cdef object from_backlog(self, uint64_t wanted):
        bundles = self.source.backlog.popleft()
        if wanted < <uint64_t>len(bundles):
            self.source.backlog.appendleft(bundles[wanted:])
            bundles = bundles[:wanted]
        return bundles

    def __exit__(self, kind, value, traceback):
        if not self.entered:
            return False
        self.entered = False
        if self.lent > 0:
            bundle_ring_release(self.source.output.ring, self.lent)
        self.lent = 0
        self.source.turn.leave()
        return False
