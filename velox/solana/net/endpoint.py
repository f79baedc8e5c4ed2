"""JSON over HTTP: bounded in time and in size, and believed only as far as it was checked.

Plain `httpcore` rather than a browser-like client: no redirects, cookies, proxies of the
environment or decompression that would have to be switched off, and a connection goes to the very
host that was checked.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import itertools
import json
import random
import re
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, NoReturn, TypeVar
from urllib.parse import unquote, urlsplit

import httpcore
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.errors import (
    ConfigError,
    EndpointRefusedError,
    RateLimitedError,
    RpcError,
    TransportError,
)
from velox.solana.net.rate_limit import Backoff

__all__ = [
    "MAX_RETRY_AFTER_S",
    "Address",
    "Answer",
    "Endpoint",
    "Peer",
    "Secret",
    "require_loopback",
    "time_left_s",
    "time_limit",
    "tls_context",
]

#: The longest wait, in seconds, that an endpoint can impose by a "Retry after".
MAX_RETRY_AFTER_S: Final = 60.0

_U64_MAX: Final = 2**64 - 1
_MAX_TEXTS: Final = 100_000
_DEEPEST: Final = 100  # levels of an answer; beyond them a `repr` of it might not end well
_RATE_LIMIT_CODES: Final = frozenset({-32097, -32429})  # Jito's, and that of some RPC providers
_RETRY_AFTER: Final = re.compile(r"retry after ([0-9]{1,9}) ?ms", re.IGNORECASE)
_TIME_LEFT: ContextVar[Callable[[], float]] = ContextVar("time_left", default=lambda: float("inf"))
_URL: Final = re.compile(r"[!#-\[\]_a-z~]+")  # visible ASCII, but for "\^`{|}
_HOST: Final = re.compile(r"[A-Za-z0-9._-]+")
_VISIBLE: Final = re.compile(r"[!-~]+")
_Key = TypeVar("_Key", Pubkey, Hash, Signature)


def time_left_s() -> float:
    """Return how many seconds an exchange that begins here may take, by `time_limit`."""
    return _TIME_LEFT.get()()


@contextmanager
def time_limit(left_s: Callable[[], float]) -> Iterator[None]:
    """End every exchange of this thread, within a ``with`` statement, when a common time is over.

    Parameters
    ----------
    left_s : callable
        How many seconds are left. An exchange ends after so many, if its own timeout is not
        shorter; where none are left it is a `TransportError` before anything is sent.
    """
    token = _TIME_LEFT.set(left_s)
    try:
        yield
    finally:
        _TIME_LEFT.reset(token)


class Secret:
    """A credential that no `repr`, format or pickle shows.

    Parameters
    ----------
    value : str
        Visible ASCII, without spaces.
    what : str
        What it is, for the error: the value itself is in no message.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str, what: str = "credential") -> None:
        if not isinstance(value, str) or not _VISIBLE.fullmatch(value):
            raise ConfigError(f"{what}: must be visible ASCII characters, and at least one")
        self._value = value

    def reveal(self) -> str:
        """Return the credential itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written down")


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint is. Its `repr` and `str` leave out path and query: they may hold a key.

    Attributes
    ----------
    scheme : str
        ``"http"`` or ``"https"``; ``"ws"`` or ``"wss"`` for a websocket.
    host : str
        A name or an address, without brackets.
    port : int or None
        The port, where the URL names one.
    path, query : str
        As in the URL.
    """

    scheme: str
    host: str
    port: int | None
    path: str = field(repr=False)
    query: str = field(repr=False)

    @classmethod
    def parse(cls, url: str, schemes: tuple[str, ...] = ("http", "https")) -> Address:
        """Read a URL.

        Raises
        ------
        EndpointRefusedError
            Not a URL of one of `schemes`, or one that carries a user or a password.
        """
        # Nothing of a URL that is not understood is repeated: it may hold a credential anywhere.
        if not isinstance(url, str) or not _URL.fullmatch(url):
            raise EndpointRefusedError("endpoint", "not a URL")
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError:
            host = ""
        if not host:
            raise EndpointRefusedError("endpoint", "not a URL with a host and a valid port")
        if "@" in parts.netloc:
            raise EndpointRefusedError(host, "a user or a password in a URL ends up in logs")
        if parts.scheme not in schemes:
            raise EndpointRefusedError(host, f"not one of {', '.join(schemes)}: {parts.scheme!r}")
        if not (_HOST.fullmatch(host) or _is_address(host)):
            raise EndpointRefusedError("endpoint", "not the name or the address of a host")
        return cls(parts.scheme, host, port, parts.path, parts.query)

    @property
    def label(self) -> str:
        """Scheme, host and port: what errors call the endpoint."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port is None else f":{self.port}")

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there cannot leave this machine."""
        if self.host.lower() == "localhost":
            return True
        return _is_address(self.host) and ipaddress.ip_address(self.host).is_loopback

    def target(self, path: str = "", query: str = "") -> str:
        """Return the target of a request to `path` under this address."""
        queries = "&".join(part for part in (self.query, query) if part)
        whole = (self.path.rstrip("/") + path if path else self.path) or "/"
        return f"{whole}?{queries}" if queries else whole

    def secrets(self) -> list[str]:
        """Return what may be a key in it: providers put theirs into the path or the query."""
        parts = [self.query, *re.split("[&=]", self.query), self.path, *self.path.split("/")]
        parts += [unquote(part) for part in parts]  # as a server may repeat it
        return [part for part in parts if len(part) >= 8 and _VISIBLE.fullmatch(part)]

    def __str__(self) -> str:
        return self.label


def require_loopback(url: str, allow_mainnet: bool) -> Address:
    """Refuse an endpoint beyond this machine, unless that was allowed in so many words.

    Parameters
    ----------
    url : str
        An HTTP or websocket URL.
    allow_mainnet : bool
        Whether any host will do.

    Returns
    -------
    Address
        What the URL says. A connection is made from this, never from the URL again.

    Raises
    ------
    EndpointRefusedError
        Not such a URL, or another machine's while `allow_mainnet` is false.
    """
    address = Address.parse(url, ("http", "https", "ws", "wss"))
    if not (allow_mainnet or address.is_loopback):
        raise EndpointRefusedError(
            address.label,
            "not on this machine; allow_mainnet = true lets real funds be spent there",
        )
    return address


@cache
def tls_context() -> ssl.SSLContext:
    """Return what every TLS connection uses; it takes tens of milliseconds to make."""
    return httpcore.default_ssl_context()


class Answer:
    """One value of an endpoint's answer, and where in it: what is wrong can be named.

    Each method checks what it returns, and raises `TransportError` where the endpoint lied.
    """

    __slots__ = ("_method", "_path", "_peer", "headers", "value")

    def __init__(
        self,
        peer: Peer,
        method: str,
        value: Any,
        path: str = "result",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._peer = peer
        self._method = method
        self._path = path
        self.value = value
        self.headers = headers or {}

    def wrong(self, why: str) -> TransportError:
        """Make the error that says what is wrong here."""
        return self._peer.failure(self._method, f"{self._path}: {why}")

    def _child(self, value: Any, step: str) -> Answer:
        return Answer(self._peer, self._method, value, self._path + step)

    def _is_not(self, what: str) -> TransportError:
        kinds = {dict: "an object", list: "an array", type(None): "null"}
        shown = kinds.get(type(self.value)) or repr(self._peer.shown(str(self.value), 40))
        return self.wrong(f"must be {what}, not {shown}")

    def __getitem__(self, key: str) -> Answer:
        """Return a member of an object, which must be there."""
        if not isinstance(self.value, dict):
            raise self._is_not("an object")
        if key not in self.value:
            raise self.wrong(f"has no {key!r}")
        return self._child(self.value[key], f".{key}")

    def get(self, *keys: str) -> Answer | None:
        """Return the first of these members that is there and not null."""
        if not isinstance(self.value, dict):
            raise self._is_not("an object")
        for key in keys:
            if self.value.get(key) is not None:
                return self._child(self.value[key], f".{key}")
        return None

    def items(self, at_most: int) -> list[Answer]:
        """Return the elements of an array."""
        if not isinstance(self.value, list):
            raise self._is_not("an array")
        if len(self.value) > at_most:
            raise self.wrong(f"has {len(self.value)} elements, where {at_most} may be")
        return [self._child(item, f"[{i}]") for i, item in enumerate(self.value)]

    def integer(self, at_most: int = _U64_MAX) -> int:
        """Return an integer from 0 to `at_most`."""
        if type(self.value) is not int or not 0 <= self.value <= at_most:
            raise self._is_not(f"an integer from 0 to {at_most}")
        return self.value

    def text(self) -> str:
        """Return a string."""
        if not isinstance(self.value, str):
            raise self._is_not("a string")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """Return an array of strings, lines of a log for example."""
        return tuple(item.text() for item in self.items(_MAX_TEXTS))

    def boolean(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self._is_not("true or false")
        return self.value

    def one_of(self, *choices: str) -> str:
        """Return a string that is one of these."""
        if self.value not in choices:
            raise self._is_not(f"one of {', '.join(choices)}")
        return str(self.value)

    def binary(self) -> bytes:
        """Return the bytes of ``[text, "base64"]``."""
        parts = self.items(2)
        if len(parts) != 2 or parts[1].value != "base64":
            raise self._is_not('[text, "base64"]')
        try:
            return base64.b64decode(parts[0].text(), validate=True)
        except (binascii.Error, ValueError):
            pass
        raise parts[0]._is_not("base64")

    def pubkey(self) -> Pubkey:
        """Return a public key in base58."""
        return self._base58(Pubkey.from_string, "a public key", 44)

    def hash(self) -> Hash:
        """Return a hash in base58."""
        return self._base58(Hash.from_string, "a hash", 44)

    def signature(self) -> Signature:
        """Return a signature in base58."""
        return self._base58(Signature.from_string, "a signature", 88)

    def _base58(self, read: Callable[[str], _Key], what: str, longest: int) -> _Key:
        text = self.text()
        if len(text) <= longest and text.isascii() and text.isalnum():
            try:
                return read(text)
            except ValueError:
                pass
        raise self._is_not(f"{what} in base58")


class Peer:
    """The other side of a connection: what it says is read here, and what it is called in errors.

    What an error repeats of it is shortened, freed of control characters and of every credential
    that it was sent.

    Parameters
    ----------
    address : Address
        Where it is.
    secrets : iterable of Secret
        What it is sent, besides what the address holds.
    """

    def __init__(self, address: Address, secrets: Iterable[Secret] = ()) -> None:
        self.address = address
        self.label = address.label
        self._secrets = [*map(Secret, address.secrets()), *secrets]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label!r})"

    def failure(self, method: str, why: str) -> TransportError:
        """Make the error that says why an answer is none."""
        return TransportError(self.label, method, self.shown(why))

    def shown(self, text: str, longest: int = 300) -> str:
        """Make a stranger's words fit for an error: without secrets, on one line, not long."""
        scrubbed: str = self.scrub(text)  # before it is cut: half a secret is one, too
        shown = "".join(c if c.isprintable() else " " for c in scrubbed[: longest + 1])
        return shown if len(shown) <= longest else shown[:longest] + "…"

    def scrub(self, value: Any) -> Any:
        """Return JSON without the credentials that it echoes, and that can be printed."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret.reveal(), "[redacted]")
            return value.encode(errors="replace").decode()
        if isinstance(value, list):
            return [self.scrub(item) for item in value]
        if isinstance(value, dict):
            return {self.scrub(key): self.scrub(item) for key, item in value.items()}
        return value

    def parse(
        self,
        method: str,
        content: bytes | str,
        parse_float: Callable[[str], Any] = float,
    ) -> Any:
        """Read JSON, of a reasonable depth."""
        try:
            document = json.loads(content, parse_float=parse_float, parse_constant=_no_constant)
            if _depth(document) <= _DEEPEST:
                return document
        except (ValueError, ArithmeticError, RecursionError):
            pass
        raise self.failure(method, f"not usable JSON: {_text(content)}")

    def result(
        self, method: str, number: int, document: Any, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the result in a JSON-RPC answer to request `number`, or raise its error."""
        if not isinstance(document, dict):
            raise self.failure(method, "neither a result nor an error")
        error, answers = document.get("error"), document.get("id")
        # One who did not read the request, as one that throttles, knows no id.
        if (answers is not None or error is None) and (
            type(answers) is not int or answers != number
        ):
            raise self.failure(method, f"answers request {answers!r}, not {number}")
        if error is not None:
            raise self._refusal(method, error)
        if "result" not in document:
            raise self.failure(method, "neither a result nor an error")
        return Answer(self, method, document["result"], headers=headers)

    def _refusal(self, method: str, error: Any) -> RpcError | RateLimitedError:
        if not isinstance(error, dict):
            error = {"message": error}
        code, message = error.get("code"), error.get("message")
        if type(code) is not int or abs(code) > _U64_MAX:
            code = None
        text = message if isinstance(message, str) else json.dumps(self.scrub(message))
        if code in _RATE_LIMIT_CODES:
            return RateLimitedError(self.label, _retry_after_s(text))
        return RpcError(self.label, method, code, self.shown(text), self.scrub(error.get("data")))


class Endpoint(Peer):
    """One HTTP endpoint: JSON-RPC by `call`, plain JSON by `get`. Any thread may use it.

    An exchange ends within `timeout_s`, and within a `time_limit` that it is made in, whatever the
    other side does (only the resolution of a name, which is the system's, is not bounded).
    Redirects and compressed answers are refused.

    Parameters
    ----------
    url : str
        Where; see `require_loopback`.
    timeout_s : float
        Seconds from the start of a call to the last byte of its answer.
    allow_mainnet : bool
        Whether it may be another machine.
    headers : mapping of str to Secret, optional
        Sent with every request, over https or to this machine alone.
    max_response_bytes : int
        What an answer may have, headers aside.
    clock : callable
        Monotonic nanoseconds, for `respite`.
    rng : random.Random, optional
        Where its jitter comes from.

    Attributes
    ----------
    respite : Backoff
        Until when it is to be left alone. To keep that is the caller's: nothing is refused here.

    Raises
    ------
    EndpointRefusedError
        See `require_loopback`; or credentials that would travel in clear text.
    ConfigError
        A timeout that is not positive and finite.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 5.0,
        allow_mainnet: bool = False,
        headers: Mapping[str, Secret] | None = None,
        max_response_bytes: int = 16 << 20,
        clock: Callable[[], int] = time.monotonic_ns,
        rng: random.Random | None = None,
    ) -> None:
        if not 0 < timeout_s < float("inf"):
            raise ConfigError(f"timeout_s: must be a positive number of seconds, not {timeout_s}")
        address = require_loopback(url, allow_mainnet)
        if address.scheme not in ("http", "https"):
            raise EndpointRefusedError(address.label, "must be http or https")
        self._headers = dict(headers or {})
        if self._headers and address.scheme == "http" and not address.is_loopback:
            raise EndpointRefusedError(address.label, "credentials are sent by https alone")
        super().__init__(address, self._headers.values())
        self.timeout_s = timeout_s
        self.respite = Backoff(clock, rng)
        self._max_response_bytes = max_response_bytes
        self._numbers = itertools.count(1)  # `next` of it is atomic
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls_context() if address.scheme == "https" else None,
            max_connections=16,
            keepalive_expiry=30.0,
            network_backend=_DeadlineBackend(),
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def call(
        self,
        method: str,
        params: Sequence[object] = (),
        *,
        path: str = "",
        query: str = "",
        apart: bool = False,
    ) -> Answer:
        """Call a method by JSON-RPC, once.

        Parameters
        ----------
        method : str
            Its name.
        params : sequence
            Its parameters.
        path, query : str
            Appended to those of the URL.
        apart : bool
            Whether a failure says nothing of other methods: the endpoint is not left alone then.

        Returns
        -------
        Answer
            The ``result``.

        Raises
        ------
        RpcError
            The endpoint answered with an error.
        RateLimitedError
            It has no room, by status 429 or by one of the codes in use for it.
        TransportError
            No answer, or none that can be believed.
        """
        number = next(self._numbers)
        request = {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
        body = json.dumps(request, separators=(",", ":")).encode()
        with nullcontext() if apart else self._heeded(method):
            status, headers, content = self._exchange("POST", method, path, query, body)
            if status != 200:
                # Some send their errors under another status, as HTTP would have it.
                with suppress(TransportError):
                    document = self.parse(method, content)
                    if isinstance(document, dict) and document.get("error") is not None:
                        return self.result(method, number, document)
                raise self.failure(method, f"status {status}: {_text(content)}")
            return self.result(method, number, self.parse(method, content), headers)

    def get(self, what: str) -> Answer:
        """Fetch the JSON document of the URL itself; fractions arrive as `Decimal`.

        Parameters
        ----------
        what : str
            What errors call it.

        Raises
        ------
        RateLimitedError, TransportError
            As for `call`.
        """
        with self._heeded(what):
            status, headers, content = self._exchange("GET", what, "", "", b"")
            if status != 200:
                raise self.failure(what, f"status {status}: {_text(content)}")
            return Answer(self, what, self.parse(what, content, Decimal), "document", headers)

    @contextmanager
    def _heeded(self, method: str) -> Iterator[None]:
        """Leave the endpoint alone for a while if this fails."""
        try:
            yield
        except RateLimitedError as error:
            self.respite.failed(method, error.retry_after_s)
            raise
        except TransportError:
            self.respite.failed(method)
            raise
        # Not so after an `RpcError`: it may be some endpoint's way to say that it has no room.
        self.respite.answered(method)

    def _exchange(
        self, verb: str, method: str, path: str, query: str, body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        url = httpcore.URL(
            scheme=self.address.scheme,
            host=self.address.host,
            port=self.address.port,
            target=self.address.target(path, query),
        )
        timeout_s = min(self.timeout_s, time_left_s())
        if timeout_s <= 0:
            raise self.failure(method, "not asked: no time is left")
        # The error is made outside: what httpcore raises holds the request, and so its headers.
        try:
            with self._pool.stream(
                verb,
                url,
                headers=[
                    ("host", self.label.partition("://")[2]),
                    ("accept", "application/json"),
                    ("accept-encoding", "identity"),
                    ("content-type", "application/json"),
                    ("content-length", str(len(body))),
                    ("user-agent", "velox"),
                    *((name, secret.reveal()) for name, secret in self._headers.items()),
                ],
                content=body,
                extensions={"timeout": _within(timeout_s)},
            ) as response:
                headers = {
                    name.decode("latin-1").lower(): value.decode("latin-1")
                    for name, value in response.headers
                }
                status, content = response.status, bytearray()
                compressed = headers.get("content-encoding", "identity").lower() != "identity"
                for chunk in () if compressed else response.iter_stream():
                    content += chunk
                    if len(content) > self._max_response_bytes:
                        break
            why = ""
        except _FAILURES as error:
            why = _why(error, timeout_s)
        if why:
            raise self.failure(method, why)
        if compressed:
            raise self.failure(method, "a compressed answer, which was not asked for")
        if len(content) > self._max_response_bytes:
            raise self.failure(method, f"an answer of over {self._max_response_bytes} bytes")
        if status == 429:
            raise RateLimitedError(self.label, _retry_after_s(_text(content[:4096]), headers))
        if 300 <= status < 400:
            raise self.failure(method, f"redirect refused (status {status})")
        return status, headers, bytes(content)


_FAILURES: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    OSError,
    UnicodeError,  # a name that the resolver cannot encode
)


def _text(content: bytes | bytearray | str) -> str:
    return content if isinstance(content, str) else content.decode(errors="replace")


def _why(error: Exception, timeout_s: float) -> str:
    if isinstance(error, httpcore.TimeoutException):
        return f"no answer within {timeout_s:g} s"
    return f"{type(error).__name__}: {error}"


def _retry_after_s(text: str, headers: Mapping[str, str] | None = None) -> float | None:
    """Read how long to wait; a wait beyond `MAX_RETRY_AFTER_S` is cut to it."""
    if match := _RETRY_AFTER.search(text):
        return min(int(match[1]) / 1000, MAX_RETRY_AFTER_S)
    headers = headers or {}
    header = headers.get("retry-after", "")
    if header.isascii() and header.isdigit():
        return min(float(header[:9]), MAX_RETRY_AFTER_S)
    until = _moment(header)
    if until is None:
        return None
    # By the clock of whoever says it; ours may be off.
    now = _moment(headers.get("date", "")) or datetime.now(UTC)
    return min(max((until - now).total_seconds(), 0.0), MAX_RETRY_AFTER_S)


def _moment(date: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_address(host: str) -> bool:
    if "%" in host:  # a zone, which is written in too many ways
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _within(timeout_s: float) -> dict[str, float]:
    # httpcore waits for a free connection itself, and hands the others through, unread, to the
    # backend, which takes them as a moment of `time.monotonic`. A span for each read would let a
    # server that sends a byte now and then hold its caller for ever.
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
    """A stream whose timeouts are moments; see `_within`."""

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
            self.close()  # as a stream does whose handshake fails; nobody else would
            raise
        return _DeadlineStream(self._stream.start_tls(ssl_context, server_hostname, left))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _DeadlineBackend(httpcore.SyncBackend):
    """A network whose timeouts are moments; see `_within`."""

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
