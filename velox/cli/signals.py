"""Requests from outside to stop a command."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Signals"]

# Two signals this close count as one request: a wrapper such as `timeout` may pass on the signal
# that the terminal has sent to both processes.
ONE_REQUEST_S = 0.3


class Signals:
    """Counts requests to stop.

    A request is Ctrl-C, the stop of a service manager, or a terminal that closes.

    A request is only counted, because a normal stop of a pipeline takes milliseconds. Submission to
    Solana takes longer, and reads how many requests there were. In a block of `immediate`, nothing
    needs a normal stop, and a request raises KeyboardInterrupt.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.

    Attributes
    ----------
    requests : int
        The number of requests so far.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests = 0
        self._clock = clock
        self._latest = float("-inf")
        self._immediate = False
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """bool: Whether there was a request."""
        return self.requests > 0

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # nohup ignores hangups, so a hangup that is ignored stays ignored.
                if number == signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN:
                    continue
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            # A further request must not kill the process while it exits.
            signal.signal(number, signal.SIG_IGN if self.requested else handler)

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """In the block, a request raises KeyboardInterrupt, also one from before the block."""
        self._immediate = True
        try:
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._immediate = False

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = self._clock()
        if now - self._latest >= ONE_REQUEST_S:
            self.requests += 1
            self._latest = now
        if self._immediate:
            raise KeyboardInterrupt
