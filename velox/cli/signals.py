"""Requests from outside to end a command."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Signals"]

# What comes this soon after another is no second request: who has started this command, a wrapper
# or a `timeout`, may pass on what the terminal has sent to both.
ONE_REQUEST_S = 0.3


class Signals:
    """Requests from outside to end: Ctrl-C, a service manager's stop, a terminal that closes.

    A request is only noted: a pipeline's stop in order takes milliseconds, and there is nothing
    that cutting it short would make better. What takes longer, the way to the chain, asks how many
    there were. Where nothing needs an order, in a block of `immediate`, it raises
    KeyboardInterrupt.

    Parameters
    ----------
    clock : callable
        Monotonic seconds.

    Attributes
    ----------
    requests : int
        How many there were.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.requests = 0
        self._clock = clock
        self._latest = float("-inf")
        self._immediate = False
        self._previous: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """bool: Whether there was any."""
        return self.requests > 0

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                # nohup's word stands.
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
            # One who asked more than once must not end the process after all, at its very end.
            signal.signal(number, signal.SIG_IGN if self.requested else handler)

    @contextmanager
    def immediate(self) -> Iterator[None]:
        """Let a request, also one that has come already, end the block at once."""
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
