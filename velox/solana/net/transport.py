"""One HTTP exchange, behind an interface that a test or a program can replace.

`Endpoint` asks a `Transport` for each exchange. `HttpTransport`, over `httpcore`, is the real one.
It has no redirects, cookies, proxies of the environment or decompression, and it connects only to
the host that was checked. `velox.testing.transport` has one that a test controls.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Final, Protocol

import httpcore

from velox.solana.net.address import Address
from velox.solana.net.deadline import DeadlineBackend, timeouts_until

__all__ = [
    "ExchangeFailedError",
    "HttpRequest",
    "HttpResponse",
    "HttpTransport",
    "Transport",
    "TransportFactory",
]

_MAX_CONNECTIONS: Final = 16
_KEEP_ALIVE_S: Final = 30.0


class ExchangeFailedError(Exception):
    """An exchange that brought no response. `why` says what happened, and holds no header."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One HTTP request. Its `repr` shows the verb alone: the rest may hold credentials.

    Attributes
    ----------
    verb : str
        ``"GET"`` or ``"POST"``.
    target : str
        Path and query.
    headers : tuple of (str, str)
    content : bytes
        The body.
    max_response_bytes : int or None
        The longest body of its response, if that is less than the transport takes.
    """

    verb: str
    target: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    content: bytes = field(repr=False)
    max_response_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One HTTP response.

    Attributes
    ----------
    status : int
    headers : mapping of str to str
        Names are in lower case.
    content : bytes
        The body, without decompression.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes


class Transport(Protocol):
    """Makes HTTP exchanges with one address. Any thread may use it."""

    def exchange(self, request: HttpRequest, timeout_s: float) -> HttpResponse:
        """Send a request, and return the response.

        Parameters
        ----------
        request : HttpRequest
        timeout_s : float
            Seconds until the last byte of the response; more than 0.

        Raises
        ------
        ExchangeFailedError
            There is no response in that time, or one that breaks HTTP or is too long.
        """
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


#: Makes the transport to an address, which takes responses of at most so many bytes.
TransportFactory = Callable[[Address, int], Transport]


_FAILURES: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    OSError,
    UnicodeError,  # a name that the resolver cannot encode
)


class HttpTransport:
    """HTTP/1.1 over a pool of connections. Any thread may use it.

    An exchange ends within its timeout, whatever the server does. Only the resolution of a host
    name is not bounded, since the system does that.

    Parameters
    ----------
    address : Address
    max_response_bytes : int
        The longest body of a response.
    """

    def __init__(self, address: Address, max_response_bytes: int) -> None:
        self._address = address
        self._max_response_bytes = max_response_bytes
        self._pool = httpcore.ConnectionPool(
            ssl_context=_tls_context() if address.scheme == "https" else None,
            max_connections=_MAX_CONNECTIONS,
            keepalive_expiry=_KEEP_ALIVE_S,
            network_backend=DeadlineBackend(),
        )

    @property
    def open_connections(self) -> int:
        """How many connections the pool holds."""
        return len(self._pool.connections)

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def exchange(self, request: HttpRequest, timeout_s: float) -> HttpResponse:
        """Send a request, and return the response; see `Transport.exchange`."""
        url = httpcore.URL(
            scheme=self._address.scheme,
            host=self._address.host,
            port=self._address.port,
            target=request.target,
        )
        most = self._max_response_bytes
        if request.max_response_bytes is not None:
            most = min(most, request.max_response_bytes)
        # The error is raised outside of the handler: an httpcore error holds the request, and so
        # its headers.
        try:
            with self._pool.stream(
                request.verb,
                url,
                headers=list(request.headers),
                content=request.content,
                extensions={"timeout": timeouts_until(timeout_s)},
            ) as response:
                headers = {
                    name.decode("latin-1").lower(): value.decode("latin-1")
                    for name, value in response.headers
                }
                status, content = response.status, bytearray()
                compressed = headers.get("content-encoding", "identity").lower() != "identity"
                for chunk in () if compressed else response.iter_stream():
                    content += chunk
                    if len(content) > most:
                        break
            why = ""
        except _FAILURES as error:
            why = _why(error, timeout_s)
        if not why and compressed:
            why = "the answer is compressed, which was not requested"
        if not why and len(content) > most:
            why = f"the answer has more than {most} bytes"
        if why:
            raise ExchangeFailedError(why)
        return HttpResponse(status, headers, bytes(content))


@cache
def _tls_context() -> ssl.SSLContext:
    """Return the context that all TLS connections share; it takes tens of milliseconds to make."""
    return httpcore.default_ssl_context()


def _why(error: Exception, timeout_s: float) -> str:
    if isinstance(error, httpcore.TimeoutException):
        return f"no answer within {timeout_s:g} s"
    return f"{type(error).__name__}: {error}"
