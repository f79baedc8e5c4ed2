"""The threads of a pipeline, one for each runner. All are pinned before any of them runs."""

from __future__ import annotations

import _thread
import os
import threading
import time
from collections.abc import Sequence

from velox.errors import PipelineError, ThreadError
from velox.runtime.runner import Runner

__all__ = ["Latch", "RunnerThreads", "start_thread"]

# How long a wait may miss the event if an interrupt prevented the release of a lock.
LOOK_AGAIN_S = 0.05


class Latch:
    """An event that is set once.

    Any number of threads may wait for it, and an interrupt cannot break it.

    `threading.Event` waits under a lock that a KeyboardInterrupt can leave held: Python code takes
    the lock, and the interrupt may come before the block that releases it. Then the thread that
    sets the event waits for ever, and so does every thread that waits for it.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._lock = _thread.allocate_lock()
        self._lock.acquire()

    def set(self) -> None:
        """End every wait, also later ones. One thread may call it, also more than once."""
        if not self._is_set:
            self._is_set = True
            self._lock.release()

    def is_set(self) -> bool:
        """Say whether it is."""
        return self._is_set

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for `timeout` seconds at most; returns whether it is."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._is_set:
            left = LOOK_AGAIN_S if end is None else min(LOOK_AGAIN_S, end - time.monotonic())
            if left <= 0:
                return False
            if self._lock.acquire(timeout=left):
                self._lock.release()
        return True


def start_thread(thread: threading.Thread) -> None:
    """Start a new thread.

    Raises
    ------
    ThreadError
        The system cannot start another thread.
    """
    try:
        thread.start()
    except RuntimeError as error:
        raise ThreadError(f"thread {thread.name}: the system has none left: {error}") from error


class RunnerThreads:
    """Runs runners, each on a thread of its own.

    Parameters
    ----------
    runners : sequence of Runner
    strict : bool
        Whether a runner that cannot be pinned prevents the start.

    Attributes
    ----------
    unpinned : dict of str to str
        What the system said of each runner that it refused to pin, by the runner's name.

    Notes
    -----
    The threads do not keep the interpreter alive. The caller must end them.
    """

    def __init__(self, runners: Sequence[Runner], *, strict: bool = True) -> None:
        self.unpinned: dict[str, str] = {}
        self._strict = strict
        self._settled = [Latch() for _ in runners]
        self._go = Latch()
        self._refusals: list[BaseException] = []
        # Not Thread.join: an exception that interrupts it can make a live thread look stopped
        # (CPython before 3.13). The memory that the thread works on would then be freed.
        self._ended = [Latch() for _ in runners]
        self._threads = [
            threading.Thread(target=self._run, args=each, name=each[0].name, daemon=True)
            for each in zip(runners, self._settled, self._ended, strict=True)
        ]

    def _run(self, runner: Runner, settled: Latch, ended: Latch) -> None:
        try:
            runner.settle()
        except PipelineError as error:
            if self._strict:
                self._refusals.append(error)
            else:
                cause = error.__cause__
                self.unpinned[runner.name] = (
                    os.strerror(cause.errno)
                    if isinstance(cause, OSError) and cause.errno is not None
                    else str(error)
                )
        settled.set()
        self._go.wait()
        if not self._refusals:
            runner.run()
        ended.set()

    def start(self) -> None:
        """Wait until every thread runs on its CPU, then let all of them start their runners.

        Raises
        ------
        PipelineError
            A thread could not be pinned although it must be, or not be started (`ThreadError`).
            Then no thread runs.
        """
        try:
            for thread in self._threads:
                start_thread(thread)
            for settled in self._settled:
                settled.wait()
        except BaseException as error:
            # An interrupt, or a thread that did not start: no thread may run, and no thread may
            # wait for ever.
            self._refusals.append(error)
        self._go.set()
        if self._refusals:
            self.join()
            raise self._refusals[0]

    @property
    def released(self) -> bool:
        """bool: Whether the runners were started."""
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
        """Wait until the threads, which have nothing left to do, have ended."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
