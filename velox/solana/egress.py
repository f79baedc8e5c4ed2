"""The threads between bundles and the chain: one takes in, one steps, one follows to the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from velox.errors import JournalError, SubmitError
from velox.solana.chain_ledger import ChainLedger
from velox.solana.submit import Submitter

__all__ = ["Egress", "Source", "Stopping"]

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


class Egress:
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
        self.stopping: Stopping | None = None
        self._error: BaseException | None = None
        self._source = source
        self._submitter = submitter
        self._sleep = sleep
        self._taken_in = threading.Event()
        self._threads = [
            self._thread("velox-intake", self._take_in),
            self._thread("velox-egress", self._step),
        ]

    @property
    def error(self) -> BaseException | None:
        """BaseException or None: What failed, the disk or the observer: nothing more is sent."""
        return self._error or self._submitter.broken

    def start(self) -> None:
        """Start to take in and to send; the pipeline may start before or after."""
        for thread in self._threads:
            thread.start()

    def finish(
        self,
        deadline_s: float,
        *,
        requests: Callable[[], int] = lambda: 0,
        watch: Callable[[], None] = lambda: None,
    ) -> ChainLedger:
        """Follow a source that comes to its end, its last bundles too.

        Parameters
        ----------
        deadline_s : float
            As in `Submitter.close`, from when everything has been taken in.
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
        """
        closing = self._thread("velox-closing", lambda: self._close(deadline_s, requests))
        closing.start()
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
        for thread in self._threads:
            thread.join()
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
