"""A transport with which a test observes, delays, answers or fails exchanges."""

from __future__ import annotations

import json
from collections.abc import Callable

from velox.solana.net.address import Address
from velox.solana.net.transport import (
    HttpRequest,
    HttpResponse,
    HttpTransport,
    Transport,
    TransportFactory,
)

__all__ = ["Interceptor", "method_of", "rate_limited"]

#: Sends the request on, and returns the response.
Forward = Callable[[], HttpResponse]


def method_of(request: HttpRequest) -> str:
    """Return the JSON-RPC method that a request calls; ``""`` if it calls none."""
    if not request.content:
        return ""
    return str(json.loads(request.content).get("method", ""))


def rate_limited(retry_after_s: float | None = None) -> HttpResponse:
    """Return the response of a server that has no room, status 429.

    Parameters
    ----------
    retry_after_s : float or None
        Its ``Retry-After``, whole seconds; None leaves the header out.
    """
    headers = {} if retry_after_s is None else {"retry-after": f"{retry_after_s:.0f}"}
    return HttpResponse(429, headers, b"")


class Interceptor:
    """Stands between clients and the network.

    An instance is a `TransportFactory`: pass it as ``transport=`` to a client. Each exchange calls
    `handler` with the request and a function that forwards it. What the handler returns is the
    response. Without a handler, requests are forwarded.

    Parameters
    ----------
    transport : callable
        Makes the transport that requests are forwarded to.

    Attributes
    ----------
    handler : callable or None
        From a `HttpRequest` and a function that forwards it, to a `HttpResponse`. It may be
        replaced at any time. To fail an exchange, it raises `ExchangeFailedError`.
    requests : list of HttpRequest
        The requests so far.

    Examples
    --------
    >>> from velox.solana.net.rpc import RpcClient
    >>> interceptor = Interceptor()
    >>> interceptor.handler = lambda request, forward: rate_limited(20)
    >>> rpc = RpcClient("http://127.0.0.1:8899", retries=0, transport=interceptor)
    >>> rpc.get_slot()
    Traceback (most recent call last):
    velox.errors.RateLimitedError: http://127.0.0.1:8899: too many requests; again in 20.000 s
    """

    def __init__(self, transport: TransportFactory = HttpTransport) -> None:
        self.handler: Callable[[HttpRequest, Forward], HttpResponse] | None = None
        self.requests: list[HttpRequest] = []
        self._transport = transport

    @property
    def methods(self) -> list[str]:
        """The JSON-RPC methods of the requests so far, in order."""
        return [method_of(request) for request in self.requests]

    def __call__(self, address: Address, max_response_bytes: int) -> Transport:
        """Return a transport to `address` that calls the handler."""
        return _Intercepted(self, self._transport(address, max_response_bytes))


class _Intercepted:
    def __init__(self, interceptor: Interceptor, transport: Transport) -> None:
        self._interceptor = interceptor
        self._transport = transport

    def exchange(self, request: HttpRequest, timeout_s: float) -> HttpResponse:
        self._interceptor.requests.append(request)
        handler = self._interceptor.handler
        if handler is None:
            return self._transport.exchange(request, timeout_s)
        return handler(request, lambda: self._transport.exchange(request, timeout_s))

    def close(self) -> None:
        self._transport.close()
