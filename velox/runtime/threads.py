"""The threads of a pipeline: one a runner, all of them settled before any of them runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from velox.errors import PipelineError
from velox.runtime.runner import Runner

__all__ = ["RunnerThreads"]


class RunnerThreads:
    """Runs runners, each on a thread of its own.

    Parameters
    ----------
    runners : sequence of Runner

    Notes
    -----
    The threads do not keep the interpreter alive: who starts them sees to it that they end.
    """

    def __init__(self, runners: Sequence[Runner]) -> None:
        self._settled = threading.Semaphore(0)
        self._go = threading.Event()
        self._refusals: list[BaseException] = []
        # Not Thread.join: an exception that interrupts it can make a live thread look stopped
        # (CPython before 3.13), and what it works on would then be torn down under it.
        self._ended = [threading.Event() for _ in runners]
        self._threads = [
            threading.Thread(target=self._run, args=each, name=each[0].name, daemon=True)
            for each in zip(runners, self._ended, strict=True)
        ]

    def _run(self, runner: Runner, ended: threading.Event) -> None:
        try:
            runner.settle()
        except PipelineError as error:
            self._refusals.append(error)
        self._settled.release()
        self._go.wait()
        if not self._refusals:
            runner.run()
        ended.set()

    def start(self) -> None:
        """Let every thread settle on its CPU, and then all of them run at once.

        Raises
        ------
        PipelineError
            One could not be pinned; none runs then.
        """
        try:
            for thread in self._threads:
                thread.start()
            for _ in self._threads:
                self._settled.acquire()
        except BaseException as error:
            # An interrupt, or no thread to be had: none may run, and none may wait for ever.
            self._refusals.append(error)
        self._go.set()
        if self._refusals:
            self.join()
            raise self._refusals[0]

    @property
    def released(self) -> bool:
        """bool: Whether the runners were let go, and run or have run."""
        return self._go.is_set() and not self._refusals

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every runner has returned.

        Parameters
        ----------
        timeout : float, optional
            The longest to wait, in seconds.

        Returns
        -------
        bool
            Whether they have.
        """
        end = None if timeout is None else time.monotonic() + timeout
        return all(
            ended.wait(None if end is None else max(0.0, end - time.monotonic()))
            for ended in self._ended
        )

    def join(self) -> None:
        """Wait for the threads themselves, which have nothing left to do."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
