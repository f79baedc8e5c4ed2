"""Deadlines of exchanges: one for each exchange, and one that the exchanges of a thread share.

httpcore takes a timeout for each read and write. A server that sends single bytes slowly could
block its client for ever. `DeadlineBackend` reads those timeouts as one moment of `time.monotonic`,
so an exchange ends at its deadline whatever the server does.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import httpcore

__all__ = ["DeadlineBackend", "time_left_s", "time_limit", "timeouts_until"]

_TIME_LEFT: ContextVar[Callable[[], float]] = ContextVar("time_left", default=lambda: float("inf"))


def time_left_s() -> float:
    """Return how many seconds an exchange that begins now may take, by `time_limit`."""
    return _TIME_LEFT.get()()


@contextmanager
def time_limit(left_s: Callable[[], float]) -> Iterator[None]:
    """Give all exchanges of this thread one common deadline, within a ``with`` statement.

    Parameters
    ----------
    left_s : callable
        Returns how many seconds are left. An exchange ends after that time, or after its own
        timeout if that is shorter. If no time is left, the exchange raises `TransportError` and
        sends nothing.
    """
    token = _TIME_LEFT.set(left_s)
    try:
        yield
    finally:
        _TIME_LEFT.reset(token)


def timeouts_until(timeout_s: float) -> dict[str, float]:
    """Return httpcore's ``timeout`` extension for an exchange over a `DeadlineBackend`.

    httpcore itself waits for a free connection, for a span. It hands the other values to the
    backend, which reads them as a moment of `time.monotonic`.
    """
    moment = time.monotonic() + timeout_s
    return {"pool": timeout_s, "connect": moment, "read": moment, "write": moment}


def _left(moment: float | None, late: type[Exception]) -> float | None:
    if moment is None:
        return None
    left = moment - time.monotonic()
    if left <= 0:
        raise late
    return left


class _DeadlineStream(httpcore.NetworkStream):
    """A stream whose timeouts are moments of `time.monotonic`."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        try:
            left = _left(timeout, httpcore.ConnectTimeout)
        except httpcore.ConnectTimeout:
            # httpcore closes a stream whose handshake fails, but not one that never begins it.
            self.close()
            raise
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class DeadlineBackend(httpcore.SyncBackend):
    """A network backend of httpcore whose timeouts are moments; see `timeouts_until`."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left = _left(timeout, httpcore.ConnectTimeout)
        return _DeadlineStream(super().connect_tcp(host, port, left, local_address, socket_options))
