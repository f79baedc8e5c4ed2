"""The threads between a pipeline's output and the chain: one takes in, one steps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from velox.errors import SubmitError
from velox.runtime.output import PullOutput
from velox.solana.chain_ledger import ChainLedger
from velox.solana.submit import Submitter

__all__ = ["Egress"]

# How long each thread sleeps when there is nothing to do, in seconds.
IDLE_S = 0.001


class Egress:
    """Carries bundles from a `PullOutput` to the chain, beside a pipeline that runs.

    Parameters
    ----------
    output : PullOutput
    submitter : Submitter
        Nobody else may use it, from `start` to the end of `finish`.
    sleep : callable
        Waits for so many seconds.

    Notes
    -----
    The intake never waits for the network, so the pipeline does not either: what the chain cannot
    take is netted or shed. Where either fails, bundles are still taken from the output, so that the
    pipeline can stop in order; `finish` then raises the error.
    """

    def __init__(
        self,
        output: PullOutput,
        submitter: Submitter,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._output = output
        self._submitter = submitter
        self._sleep = sleep
        self._taken_in = threading.Event()
        self._error: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._guard, args=(each,), name=name, daemon=True)
            for each, name in ((self._take_in, "velox-intake"), (self._step, "velox-egress"))
        ]

    def start(self) -> None:
        """Start both threads; the pipeline must have been made, and may start before or after."""
        for thread in self._threads:
            thread.start()

    def finish(self, deadline_s: float) -> ChainLedger:
        """Follow the stopped pipeline's last bundles to their end.

        Parameters
        ----------
        deadline_s : float
            As in `Submitter.close`.

        Returns
        -------
        ChainLedger

        Raises
        ------
        SubmitError
            A thread failed, the disk or the observer; that error is the cause. The submitter is
            closed all the same.
        """
        for thread in self._threads:
            thread.join()
        try:
            ledger = self._submitter.close(0.0 if self._error is not None else deadline_s)
        except Exception as error:
            self._error = self._error or error
        if self._error is not None:
            raise SubmitError(f"submission stopped: {self._error}") from self._error
        return ledger

    def _guard(self, body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            self._error = self._error or error

    def _take_in(self) -> None:
        try:
            while not self._output.exhausted:
                with self._output.poll() as bundles:
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
