"""Sinks of bundles: a counter, a capture file, and Python code that polls."""

import os
import time
from collections import deque

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, EIO, errno

from velox.core.atomic cimport count, give_core_away
from velox.core.records cimport view_bundles
from velox.core.ring cimport (
    BundleRing, bundle_ring_length, bundle_ring_peek, bundle_ring_release, checked_count,
)
from velox.runtime.bell cimport Bell, bell_arm, bell_settle
from velox.runtime.descriptor cimport descriptor_raise, descriptor_wait
from velox.runtime.output cimport output_finish_if_drained, output_taken, output_transactions
from velox.runtime.stage cimport checked_timeout, control_stop

from velox.errors import CaptureError, PipelineError
from velox.runtime.capture import begin_capture, finish_capture

cdef extern from "<unistd.h>" nogil:
    ssize_t write(int descriptor, const void *bytes, size_t size) noexcept

__all__ = ["CaptureOutput", "DiscardOutput", "PullOutput"]

# A wait for bundles looks for signals at least this often.
cdef double LONGEST_WAIT_S = 1.0


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

    def attach(self, BundleRing ring not None, *args, **kwargs):
        """Join a pipeline; see `Output.attach`."""
        Output.attach(self, ring, *args, **kwargs)
        self.follower = self.bell = Bell(ring)

    def poll(self, max_bundles=None, timeout=None):
        """Take the bundles that are ready, or wait for some.

        Parameters
        ----------
        max_bundles : int, optional
            The most to take.
        timeout : float, optional
            If no bundle is ready, wait for one: at most so many seconds, without the GIL. The wait
            also ends when the pipeline ends. Without it, or if it is 0, the call does not wait.

        Returns
        -------
        context manager
            Entering it waits, and gives a read-only array of BUNDLE_DTYPE, shape (n,), which is
            empty if no bundle is ready. The array lies in the ring. Leaving the ``with`` block
            returns its memory to the pipeline, so copy what you need longer. If the block raises,
            the bundles still count as delivered.

        Raises
        ------
        PipelineError
            No pipeline in this process has this output, or another poll is open.
        RingError
            `max_bundles` is not a count.
        ConfigError
            `timeout` is negative or not a number.

        Notes
        -----
        Thread-safety: one thread at a time; several may take turns. A poll that waits has the turn.
        Bundles that are left when the pipeline stops are kept for later polls. A signal is handled
        during the wait, so Ctrl-C ends it.
        """
        return Poll(self, max_bundles, timeout)

    def fileno(self):
        """Return a file descriptor that is readable when a poll would find something.

        It is for ``select``, `selectors` and ``asyncio``'s ``add_reader``. It is readable while
        bundles are ready, and for ever once the pipeline has ended; see `exhausted`. Sometimes it
        is readable and the poll finds nothing. Do not read from it and do not close it: it closes
        with this output.

        Returns
        -------
        int

        Raises
        ------
        PipelineError
            No pipeline has this output.

        Notes
        -----
        An eventfd on Linux and a pipe elsewhere. It becomes readable in the duty cycle that seals a
        bundle, or in the next one: with idle "backoff", the thread may sleep 1 ms before that.
        Thread-safety: as `poll`.
        """
        if self.bell is None:
            raise PipelineError("fileno of an output that no pipeline has")
        self.use_bell()
        return self.bell.fileno()

    cdef void use_bell(self) noexcept:
        if not self.awaited:
            self.awaited = True
            # It has not rung yet, whatever the ring holds.
            bell_arm(self.bell.bell)

    cdef void settle(self) noexcept:
        """Arm the bell if the ring is empty. The caller has the turn, and the GIL."""
        if self.awaited and not self.stage.finished:
            bell_settle(self.bell.bell)

    cdef bint ready(self) noexcept:
        """Whether a poll finds bundles, or none will ever come. The caller has the turn."""
        if self.backlog or bundle_ring_length(self.output.ring) > 0:
            return True
        output_finish_if_drained(self.output)
        return self.stage.finished

    cdef int wait(self, double seconds) except -1:
        """Wait until `ready`, or until the time is up. The caller has the turn."""
        cdef double end = time.monotonic() + seconds
        cdef double left = seconds
        self.use_bell()
        while not self.ready() and left > 0:
            self.settle()
            with nogil:
                descriptor_wait(self.bell.bell.readable, min(left, LONGEST_WAIT_S))
            PyErr_CheckSignals()
            left = end - time.monotonic()
        return 0

    def begin(self):
        self.turn.stay()

    def end(self):
        # No more bundles will come. This holds also if the pipeline never ran.
        self.stage.finished = True
        descriptor_raise(self.bell.bell.raised)

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
    cdef object timeout
    cdef uint64_t lent
    cdef bint entered

    def __cinit__(self, PullOutput source not None, max_bundles, timeout):
        self.source = source
        self.max_bundles = max_bundles
        self.timeout = timeout

    def __enter__(self):
        cdef uint64_t wanted
        cdef const Bundle *first
        if self.source.ring is None:
            raise PipelineError("poll of an output that no pipeline has")
        wanted = self.source.output.ring.capacity
        cdef double seconds = 0.0
        if self.max_bundles is not None:
            wanted = checked_count(self.max_bundles, "max_bundles")
        if self.timeout is not None:
            seconds = checked_timeout(self.timeout)
        if self.source.turn.is_forked():
            raise PipelineError("poll in a fork of the pipeline's process, which has its threads")
        while not self.source.turn.take():
            # A pipeline that stops copies the ring's bundles elsewhere and then lets polls in:
            # retry soon.
            if not self.source.draining:
                raise PipelineError("another poll is open; an output takes one at a time")
            with nogil:
                give_core_away()
        if seconds > 0:
            try:
                self.source.wait(seconds)
            except BaseException:
                self.source.turn.leave()
                raise
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
        self.source.settle()
        self.source.turn.leave()
        return False
