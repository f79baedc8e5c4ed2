"""JSON over HTTP, bounded in time and in size, with every answer checked."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from velox.errors import ConfigError, EndpointRefusedError, RateLimitedError, TransportError
from velox.solana.net.address import Secret, require_loopback
from velox.solana.net.answer import Answer, Peer, retry_after_s
from velox.solana.net.deadline import time_left_s
from velox.solana.net.rate_limit import Backoff
from velox.solana.net.transport import (
    ExchangeFailedError,
    HttpRequest,
    HttpResponse,
    HttpTransport,
    TransportFactory,
)

__all__ = ["Endpoint"]

#: The longest answers, by method; those of others are bounded by the endpoint. Parsing takes much
#: longer than reading, and many times the memory.
MAX_RESPONSE_BYTES: Final = MappingProxyType(
    dict.fromkeys(
        (
            "getBalance",
            "getBlockHeight",
            "getEpochInfo",
            "getGenesisHash",
            "getLatestBlockhash",
            "getSlot",
            "getTipAccounts",
            "sendBundle",
        ),
        1 << 14,
    )
    # A refusal after a preflight has logs.
    | {"sendTransaction": 1 << 17, "simulateTransaction": 1 << 18}
    | {"getSignatureStatuses": 1 << 17, "getTransaction": 1 << 18}
    | {"getSignaturesForAddress": 1 << 20}
)

# Where a long error page may say how long to wait.
_RETRY_TEXT_BYTES = 4096


class Endpoint(Peer):
    """One HTTP endpoint: JSON-RPC by `call`, plain JSON by `get`. Any thread may use it.

    An exchange ends within `timeout_s`, and within the `time_limit` of its thread. Redirects and
    compressed answers are refused.

    Parameters
    ----------
    url : str
        Where it is; see `require_loopback`.
    timeout_s : float
        Seconds from the start of a call to the last byte of its answer.
    allow_mainnet : bool
        Whether it may be on another machine.
    allow_plaintext : bool
        Whether another machine may be reached by http.
    headers : mapping of str to Secret, optional
        Sent with every request. They need https, except to this machine.
    max_response_bytes : int
        The longest body of an answer.
    clock : callable
        Monotonic nanoseconds, for `backoff`.
    rng : random.Random, optional
        The source of the backoff's jitter.
    transport : callable
        Makes the `Transport` from the address and `max_response_bytes`.

    Attributes
    ----------
    backoff : Backoff
        How long the caller should wait before the next request. `Endpoint` itself refuses no
        request.
    transport : Transport
        What makes the exchanges.

    Raises
    ------
    EndpointRefusedError
        See `require_loopback`; or credentials would travel unencrypted.
    ConfigError
        The timeout is not positive and finite.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        allow_mainnet: bool = False,
        allow_plaintext: bool = False,
        headers: Mapping[str, Secret] | None = None,
        max_response_bytes: int = 16 << 20,
        clock: Callable[[], int] = time.monotonic_ns,
        rng: random.Random | None = None,
        transport: TransportFactory = HttpTransport,
    ) -> None:
        if not 0 < timeout_s < float("inf"):
            raise ConfigError(f"timeout_s: must be a positive number of seconds, not {timeout_s}")
        address = require_loopback(url, allow_mainnet, allow_plaintext)
        self._headers = dict(headers or {})
        if self._headers and address.scheme == "http" and not address.is_loopback:
            raise EndpointRefusedError(address.label, "credentials need https")
        super().__init__(address, self._headers.values())
        self.timeout_s = timeout_s
        self.backoff = Backoff(clock, rng)
        self._numbers = itertools.count(1)  # `next` of it is atomic
        self.transport = transport(address, max_response_bytes)

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    def call(
        self,
        method: str,
        params: Sequence[object] = (),
        *,
        path: str = "",
        query: str = "",
        independent: bool = False,
    ) -> Answer:
        """Call a JSON-RPC method once.

        Parameters
        ----------
        method : str
            Its name.
        params : sequence
            Its parameters.
        path, query : str
            Appended to those of the URL.
        independent : bool
            Whether a failure of this call does not concern other methods. It then does not change
            `backoff`.

        Returns
        -------
        Answer
            The ``result``.

        Raises
        ------
        RpcError
            The endpoint answered with an error.
        RateLimitedError
            The endpoint has no room: status 429, or an error code that means it.
        TransportError
            There is no answer, or it is malformed.
        """
        number = next(self._numbers)
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
        body = json.dumps(request, separators=(",", ":")).encode()
        with nullcontext() if independent else self._tracking(method):
            response = self._exchange("POST", method, path, query, body)
            if response.status != 200:
                # Some endpoints send their errors under a status other than 200.
                with suppress(TransportError):
                    document = self.parse(method, response.content)
                    if isinstance(document, dict) and document.get("error") is not None:
                        return self.result(method, number, document)
                raise self._status_failure(method, response)
            document = self.parse(method, response.content)
            return self.result(method, number, document, response.headers)

    def get(self, what: str) -> Answer:
        """Fetch the JSON document at the URL. Fractions are read as `Decimal`.

        Parameters
        ----------
        what : str
            The name of the document in errors.

        Raises
        ------
        RateLimitedError, TransportError
            As `call`.
        """
        with self._tracking(what):
            response = self._exchange("GET", what, "", "", b"")
            if response.status != 200:
                raise self._status_failure(what, response)
            document = self.parse(what, response.content, Decimal)
            return Answer(self, what, document, "document", response.headers)

    def _status_failure(self, method: str, response: HttpResponse) -> TransportError:
        text = response.content.decode(errors="replace")
        return self.failure(method, f"status {response.status}: {text}")

    @contextmanager
    def _tracking(self, method: str) -> Iterator[None]:
        """Record in `backoff` how a call ends."""
        try:
            yield
        except RateLimitedError as error:
            self.backoff.failed(method, error.retry_after_s)
            raise
        except TransportError:
            self.backoff.failed(method)
            raise
        # An `RpcError` records nothing: some endpoints say by one that they have no room.
        self.backoff.answered(method)

    def _exchange(self, verb: str, method: str, path: str, query: str, body: bytes) -> HttpResponse:
        timeout_s = min(self.timeout_s, time_left_s())
        if timeout_s <= 0:
            raise self.failure(method, "not sent: no time is left")
        request = HttpRequest(
            verb,
            self.address.target(path, query),
            (
                ("host", self.label.partition("://")[2]),
                ("accept", "application/json"),
                ("accept-encoding", "identity"),
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                ("user-agent", "velox"),
                *((name, secret.reveal()) for name, secret in self._headers.items()),
            ),
            body,
            MAX_RESPONSE_BYTES.get(method),
        )
        # The error is raised outside of the handler, so that it does not hold the request.
        try:
            response, why = self.transport.exchange(request, timeout_s), ""
        except ExchangeFailedError as error:
            why = error.why
        if why:
            raise self.failure(method, why)
        if response.status == 429:
            text = response.content[:_RETRY_TEXT_BYTES].decode(errors="replace")
            raise RateLimitedError(self.label, retry_after_s(text, response.headers))
        if 300 <= response.status < 400:
            raise self.failure(method, f"redirect refused (status {response.status})")
        return response
