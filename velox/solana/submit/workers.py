"""The threads of a submission: one takes bundles in, one runs the submitter, one closes it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from velox.errors import ConfigError, JournalError, SubmitError, ThreadError
from velox.runtime.markets import refuse_other_scales
from velox.runtime.threads import start_thread
from velox.solana.orders.outcomes import ChainLedger
from velox.solana.orders.queue import transactions_in
from velox.solana.orders.strategy_reports import StrategyReports
from velox.solana.submit.submitter import Submitter, checked_deadline

__all__ = ["Source", "Stopping", "SubmissionWorkers"]

# How long a source may take to end, in seconds, by default. After the pipeline has stopped it takes
# milliseconds.
SOURCE_S = 10.0
# The sleep of each thread when there is nothing to do, in seconds.
IDLE_S = 0.001
# The interval at which `finish` calls `watch`, in seconds.
POLL_S = 0.05


class Source(Protocol):
    """A source of bundles: a `velox.PullOutput`, or an object with the same methods."""

    @property
    def exhausted(self) -> bool:
        """bool: Whether no more bundles will come."""

    def poll(self) -> AbstractContextManager[npt.NDArray[np.void]]:
        """Return the available bundles, of BUNDLE_DTYPE; there may be none."""


class Stopping(NamedTuple):
    """The state when sending stopped early.

    Attributes
    ----------
    waiting : int
        Orders that were not sent.
    in_flight : int
        Transactions that are still followed.
    """

    waiting: int
    in_flight: int


class SubmissionWorkers:
    """Carries bundles from a source to a submitter, on threads of its own.

    Parameters
    ----------
    source : Source
        If it has `instruments`, as the outputs of a pipeline have, their prices must have 4
        decimals.
    submitter : Submitter
        From `start` to the end of `finish`, call only its `statistics`, `ledger`, `holdings` and,
        from one thread, `reports`. With `reports` given here, leave those to the worker.
    reports : StrategyReports, optional
        Tells a pipeline what became of its orders. The submitter's observer must be its `observe`.
    sleep : callable
        Waits for so many seconds.

    Attributes
    ----------
    stopping : Stopping or None
        Set once sending has stopped early, by an error or by a request.

    Raises
    ------
    ConfigError
        The source cannot be polled for bundles, or the submitter is not a `Submitter`.

    Notes
    -----
    Taking bundles in never waits for the network, so the pipeline does not wait either. Orders that
    the chain cannot take are netted or shed. After an error bundles are still taken from the
    source, so that the pipeline can stop in order. `finish` then raises the error.
    """

    def __init__(
        self,
        source: Source,
        submitter: Submitter,
        *,
        reports: StrategyReports | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not callable(getattr(source, "poll", None)):
            raise ConfigError(f"source = {source!r}: must have poll(), as PullOutput has")
        if not isinstance(submitter, Submitter):
            raise ConfigError(f"submitter = {submitter!r}: must be a Submitter")
        self.stopping: Stopping | None = None
        self._error: BaseException | None = None
        self._source = source
        self._submitter = submitter
        self._reports = reports
        self._sleep = sleep
        self._taken_in = threading.Event()
        self._intake_thread = self._thread("velox-intake", self._take_in)
        self._step_thread = self._thread("velox-submit", self._step)
        self._started = False

    @property
    def error(self) -> BaseException | None:
        """BaseException or None: The error of the disk or the observer that stopped sending."""
        return self._error or self._submitter.broken

    def start(self) -> None:
        """Start the threads. The pipeline may start before or after.

        Raises
        ------
        SubmitError
            The workers were started already.
        ConfigError
            A market of the source has prices of other than 4 decimals.
        ThreadError
            The system has no thread left. Nothing was taken in.
        """
        if self._started:
            raise SubmitError("the workers were started already")
        # The source polls nothing before it has a pipeline, which says what its markets are.
        refuse_other_scales(getattr(self._source, "instruments", ()), field="source")
        self._started = True
        start_thread(self._step_thread)
        try:
            start_thread(self._intake_thread)
        except ThreadError:
            self._taken_in.set()
            self._step_thread.join()
            raise

    def finish(
        self,
        deadline_s: float,
        *,
        source_s: float = SOURCE_S,
        requests: Callable[[], int] = lambda: 0,
        watch: Callable[[], None] = lambda: None,
    ) -> ChainLedger:
        """Wait for the source to end, and follow every order to its outcome.

        Parameters
        ----------
        deadline_s : float
            As in `Submitter.close`, counted from the end of the source.
        source_s : float
            The longest time for the source to end.
        requests : callable
            Returns how often a stop was requested. After one request, waiting orders are shed, and
            transactions in flight are followed but not resent. After two, they end as unknown.
        watch : callable
            Called on this thread, about twenty times a second.

        Returns
        -------
        ChainLedger

        Raises
        ------
        SubmitError
            The disk or the observer failed; that error is the cause. The submitter is closed all
            the same. After an error of the disk, the transactions in flight were still followed.

            Or the source has not ended: stop the pipeline, and call this again. Or the workers
            were not started.
        ConfigError
            `deadline_s` is out of range.
        ThreadError
            The system has no thread left. The submitter is not closed.
        """
        checked_deadline(deadline_s)
        if not self._started:
            raise SubmitError("the workers were not started")
        until = time.monotonic() + source_s
        while self._intake_thread.is_alive():
            self._intake_thread.join(POLL_S)
            watch()
            if time.monotonic() >= until:
                raise SubmitError(
                    f"the source has not ended after {source_s:g} s: stop the pipeline first"
                )
        closing = self._thread("velox-closing", lambda: self._close(deadline_s, requests))
        start_thread(closing)
        while closing.is_alive():
            closing.join(POLL_S)
            watch()
        if self.error is not None:
            raise SubmitError(f"submission stopped: {self.error}") from self.error
        return self._submitter.ledger()

    def _thread(self, name: str, body: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=self._guard, args=(body,), name=name, daemon=True)

    def _guard(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            self._error = self._error or error

    def _take_in(self) -> None:
        try:
            while not self._source.exhausted:
                with self._source.poll() as bundles:
                    taken = len(bundles)
                    if not self._taken_in.is_set():
                        self._intake(bundles)
                if not taken:
                    self._sleep(IDLE_S)
        finally:
            self._taken_in.set()

    def _intake(self, bundles: npt.NDArray[np.void]) -> None:
        try:
            orders = transactions_in(bundles)
            if self._reports is not None:
                self._reports.taken_in(orders)
            self._submitter.submit(orders)
        except Exception as error:
            # The rest is dropped, but still taken: the pipeline must be able to end.
            self._error = self._error or error
            self._taken_in.set()

    def _step(self) -> None:
        try:
            while not self._taken_in.is_set():
                worked = self._submitter.step()
                if not worked + self._tell():
                    self._sleep(IDLE_S)
        finally:
            if self._reports is not None:
                self._reports.hand_over()

    def _tell(self) -> int:
        """Tell the pipeline what became of its orders; returns how many reports it took."""
        if self._reports is None:
            return 0
        return self._reports.pump(self._submitter.reports())

    def _close(self, deadline_s: float, requests: Callable[[], int]) -> None:
        while self._step_thread.is_alive():
            if requests():
                self._submitter.hold()
            self._step_thread.join(POLL_S)
        # After an error of the disk, transactions in flight can still be followed. After others it
        # cannot.
        follows = self.error is None or isinstance(self.error, JournalError)
        self._submitter.close(
            deadline_s if follows else 0.0,
            send_waiting=lambda: self._sends(requests),
            hurry=lambda: requests() > 1,
        )
        self._tell()
        if self._reports is not None:
            self._reports.hand_over()

    def _sends(self, requests: Callable[[], int]) -> bool:
        """Return whether orders that wait are still sent. Sets `stopping` once they are not."""
        if not requests() and self.error is None:
            return True
        if self.stopping is None:
            statistics = self._submitter.statistics()
            self.stopping = Stopping(statistics.queued, statistics.in_flight)
        return False
