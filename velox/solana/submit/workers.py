"""The threads between bundles and the chain: one takes in, one steps, one follows to the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from velox.errors import ConfigError, JournalError, SubmitError, ThreadError
from velox.runtime.threads import start_thread
from velox.solana.orders.outcomes import ChainLedger
from velox.solana.submit.submitter import Submitter, checked_deadline

__all__ = ["Source", "Stopping", "SubmissionWorkers"]

# How long a source may take to come to its end, in seconds, unless told: one whose pipeline has
# stopped takes milliseconds.
SOURCE_S = 10.0
# How long each thread sleeps when there is nothing to do, in seconds.
IDLE_S = 0.001
# The longest that one who waits for the end waits to be asked again, in seconds.
LOOK_AGAIN_S = 0.05


class Source(Protocol):
    """Where bundles come from: a `velox.PullOutput`, or what can be asked like one."""

    @property
    def exhausted(self) -> bool:
        """bool: Whether there will be no more."""

    def poll(self) -> AbstractContextManager[npt.NDArray[np.void]]:
        """Return those that are there, of BUNDLE_DTYPE; they may be none."""


class Stopping(NamedTuple):
    """How things stood when sending ended before its time.

    Attributes
    ----------
    waiting : int
        Orders that were not sent.
    flying : int
        Transactions that are followed.
    """

    waiting: int
    flying: int


class SubmissionWorkers:
    """Carries bundles from where they come from to the chain, beside a pipeline that runs.

    Parameters
    ----------
    source : Source
    submitter : Submitter
        Nobody else may use it, from `start` to the end of `finish`; but its `statistics` and
        `ledger` may be asked for.
    sleep : callable
        Waits for so many seconds.

    Attributes
    ----------
    stopping : Stopping or None
        Not None once sending has ended, by an error or by a request, before all was sent.

    Raises
    ------
    ConfigError
        The source has no bundles that could be polled, or the submitter is none.

    Notes
    -----
    The intake never waits for the network, so the pipeline does not either: what the chain cannot
    take is netted or shed. Where either fails, bundles are still taken from the source, so that the
    pipeline can stop in order; `finish` then raises the error.
    """

    def __init__(
        self,
        source: Source,
        submitter: Submitter,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not callable(getattr(source, "poll", None)):
            raise ConfigError(f"source = {source!r}: must be polled for bundles, as PullOutput is")
        if not isinstance(submitter, Submitter):
            raise ConfigError(f"submitter = {submitter!r}: must be a Submitter")
        self.stopping: Stopping | None = None
        self._error: BaseException | None = None
        self._source = source
        self._submitter = submitter
        self._sleep = sleep
        self._taken_in = threading.Event()
        self._intake_thread = self._thread("velox-intake", self._take_in)
        self._step_thread = self._thread("velox-egress", self._step)
        self._started = False

    @property
    def error(self) -> BaseException | None:
        """BaseException or None: What failed, the disk or the observer: nothing more is sent."""
        return self._error or self._submitter.broken

    def start(self) -> None:
        """Start to take in and to send; the pipeline may start before or after.

        Raises
        ------
        SubmitError
            It was started before.
        ThreadError
            The system has no thread left; nothing was taken in.
        """
        if self._started:
            raise SubmitError("start of an egress that was started before")
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
        """Follow a source that comes to its end, its last bundles too.

        Parameters
        ----------
        deadline_s : float
            As in `Submitter.close`, from when everything has been taken in.
        source_s : float
            The longest that the source may take to come to its end.
        requests : callable
            How often somebody has asked for an end. Once: what waits is shed, and what is under way
            is followed, without being sent again. Twice: it is given up, as unknown.
        watch : callable
            Is called on this thread, some twenty times a second.

        Returns
        -------
        ChainLedger

        Raises
        ------
        SubmitError
            A thread failed, the disk or the observer; that error is the cause. The submitter is
            closed all the same. Where it was the disk, what was under way has been followed.

            Or the source has not come to its end, and everything goes on: stop the pipeline, and
            finish again. Or it was never started.
        ConfigError
            The deadline is none.
        ThreadError
            The system has no thread left; the submitter is not closed.
        """
        checked_deadline(deadline_s)
        if not self._started:
            raise SubmitError("finish of an egress that was not started")
        until = time.monotonic() + source_s
        while self._intake_thread.is_alive():
            self._intake_thread.join(LOOK_AGAIN_S)
            watch()
            if time.monotonic() >= until:
                raise SubmitError(
                    f"finish: bundles still come after {source_s:g} s: stop the pipeline first"
                )
        closing = self._thread("velox-closing", lambda: self._close(deadline_s, requests))
        start_thread(closing)
        while closing.is_alive():
            closing.join(LOOK_AGAIN_S)
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
            self._submitter.intake(bundles)
        except Exception as error:
            # Nobody sees to the rest; but the pipeline, which waits for room, must be able to end.
            self._error = self._error or error
            self._taken_in.set()

    def _step(self) -> None:
        while not self._taken_in.is_set():
            if not self._submitter.step():
                self._sleep(IDLE_S)

    def _close(self, deadline_s: float, requests: Callable[[], int]) -> None:
        while self._step_thread.is_alive():
            if requests():
                self._submitter.hold()
            self._step_thread.join(LOOK_AGAIN_S)
        # What the disk does not take can be followed; after any other failure nothing is sure.
        follows = self.error is None or isinstance(self.error, JournalError)
        self._submitter.close(
            deadline_s if follows else 0.0,
            send_waiting=lambda: self._sends(requests),
            hurry=lambda: requests() > 1,
        )

    def _sends(self, requests: Callable[[], int]) -> bool:
        """Whether what waits is still sent; notes how things stood when that was over."""
        if not requests() and self.error is None:
            return True
        if self.stopping is None:
            statistics = self._submitter.statistics()
            self.stopping = Stopping(statistics.queued, statistics.flying)
        return False
