"""JSON that an endpoint sent, checked before it is used, and safe to repeat in an error."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NoReturn, TypeVar

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.core.integers import UINT64_MAX
from velox.errors import RateLimitedError, RpcError, TransportError
from velox.solana.net.address import Address, Secret

__all__ = ["MAX_RETRY_AFTER_S", "Answer", "Peer", "retry_after_s"]

#: The longest wait, in seconds, that an endpoint can impose by a "Retry after".
MAX_RETRY_AFTER_S: Final = 60.0

_MAX_TEXTS: Final = 100_000
# Levels of nested JSON. The `repr` of a deeper document could overflow the stack.
_MAX_DEPTH: Final = 100
_RATE_LIMIT_CODES: Final = frozenset({-32097, -32429})  # Jito's, and that of some RPC providers
_RETRY_AFTER: Final = re.compile(r"retry after ([0-9]{1,9}) ?ms", re.IGNORECASE)
_Key = TypeVar("_Key", Pubkey, Hash, Signature)


class Answer:
    """One value of an endpoint's answer, and its path in the document for errors.

    Each method checks the value that it returns. It raises `TransportError` if the value has
    another type or is out of range.
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

    def invalid(self, why: str) -> TransportError:
        """Return the error that says what is wrong with this value."""
        return self._peer.failure(self._method, f"{self._path}: {why}")

    def _child(self, value: Any, step: str) -> Answer:
        return Answer(self._peer, self._method, value, self._path + step)

    def _expected(self, what: str) -> TransportError:
        kinds = {dict: "an object", list: "an array", type(None): "null"}
        shown = kinds.get(type(self.value)) or repr(self._peer.printable(str(self.value), 40))
        return self.invalid(f"must be {what}, not {shown}")

    def __getitem__(self, key: str) -> Answer:
        """Return a member of an object; it must be present."""
        if not isinstance(self.value, dict):
            raise self._expected("an object")
        if key not in self.value:
            raise self.invalid(f"has no {key!r}")
        return self._child(self.value[key], f".{key}")

    def get(self, *keys: str) -> Answer | None:
        """Return the first of these members that is present and not null."""
        if not isinstance(self.value, dict):
            raise self._expected("an object")
        for key in keys:
            if self.value.get(key) is not None:
                return self._child(self.value[key], f".{key}")
        return None

    def items(self, at_most: int) -> list[Answer]:
        """Return the elements of an array."""
        if not isinstance(self.value, list):
            raise self._expected("an array")
        if len(self.value) > at_most:
            raise self.invalid(f"has {len(self.value)} elements; at most {at_most} are allowed")
        return [self._child(item, f"[{i}]") for i, item in enumerate(self.value)]

    def integer(self, at_most: int = UINT64_MAX) -> int:
        """Return an integer from 0 to `at_most`."""
        if type(self.value) is not int or not 0 <= self.value <= at_most:
            raise self._expected(f"an integer from 0 to {at_most}")
        return self.value

    def text(self) -> str:
        """Return a string."""
        if not isinstance(self.value, str):
            raise self._expected("a string")
        return self.value

    def texts(self) -> tuple[str, ...]:
        """Return an array of strings, such as the lines of a log."""
        return tuple(item.text() for item in self.items(_MAX_TEXTS))

    def boolean(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self._expected("true or false")
        return self.value

    def one_of(self, *choices: str) -> str:
        """Return a string that is one of these."""
        if self.value not in choices:
            raise self._expected(f"one of {', '.join(choices)}")
        return str(self.value)

    def binary(self) -> bytes:
        """Return the bytes of ``[text, "base64"]``."""
        parts = self.items(2)
        if len(parts) != 2 or parts[1].value != "base64":
            raise self._expected('[text, "base64"]')
        try:
            return base64.b64decode(parts[0].text(), validate=True)
        except (binascii.Error, ValueError):
            pass
        raise parts[0]._expected("base64")

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
        raise self._expected(f"{what} in base58")


class Peer:
    """Reads the answers of an endpoint, and names it in errors.

    An error repeats the endpoint's text in a shortened form, without control characters and without
    the credentials that were sent.

    Parameters
    ----------
    address : Address
        Where it is.
    secrets : iterable of Secret
        The credentials that it is sent, in addition to those in the address.
    """

    def __init__(self, address: Address, secrets: Iterable[Secret] = ()) -> None:
        self.address = address
        self.label = address.label
        self._secrets = [*map(Secret, address.secrets()), *secrets]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.label!r})"

    def failure(self, method: str, why: str) -> TransportError:
        """Return the error that says why there is no usable answer."""
        return TransportError(self.label, method, self.printable(why))

    def printable(self, text: str, longest: int = 300) -> str:
        """Return a text of the endpoint for an error: without secrets, on one line, shortened."""
        redacted: str = self.redact(text)  # before it is cut: half a key is still a secret
        shown = "".join(c if c.isprintable() else " " for c in redacted[: longest + 1])
        return shown if len(shown) <= longest else shown[:longest] + "…"

    def redact(self, value: Any) -> Any:
        """Return JSON without credentials that it repeats, and without lone surrogates."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret.reveal(), "[redacted]")
            return value.encode(errors="replace").decode()
        if isinstance(value, list):
            return [self.redact(item) for item in value]
        if isinstance(value, dict):
            return {self.redact(key): self.redact(item) for key, item in value.items()}
        return value

    def parse(
        self,
        method: str,
        content: bytes | str,
        parse_float: Callable[[str], Any] = float,
    ) -> Any:
        """Parse JSON of a bounded depth.

        Raises
        ------
        TransportError
            The content is not JSON, or it is nested too deeply.
        """
        try:
            document = json.loads(content, parse_float=parse_float, parse_constant=_no_constant)
            if _depth(document) <= _MAX_DEPTH:
                return document
        except (ValueError, ArithmeticError, RecursionError):
            pass
        text = content if isinstance(content, str) else content.decode(errors="replace")
        raise self.failure(method, f"not usable JSON: {text}")

    def result(
        self, method: str, number: int, document: Any, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Return the result of the JSON-RPC answer to request `number`, or raise its error.

        Raises
        ------
        RpcError, RateLimitedError
            The answer is an error.
        TransportError
            The answer is malformed, or it answers another request.
        """
        if not isinstance(document, dict):
            raise self.failure(method, "neither a result nor an error")
        error, answers = document.get("error"), document.get("id")
        # A proxy that throttles does not read the request, and so its error has no id.
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
        if type(code) is not int or abs(code) > UINT64_MAX:
            code = None
        text = message if isinstance(message, str) else json.dumps(self.redact(message))
        if code in _RATE_LIMIT_CODES:
            return RateLimitedError(self.label, retry_after_s(text))
        return RpcError(
            self.label, method, code, self.printable(text), self.redact(error.get("data"))
        )


def retry_after_s(text: str, headers: Mapping[str, str] | None = None) -> float | None:
    """Return how many seconds an endpoint asks its client to wait, at most `MAX_RETRY_AFTER_S`.

    Parameters
    ----------
    text : str
        The message of the error.
    headers : mapping of str to str, optional
        The headers of the answer, in lower case.

    Returns
    -------
    float or None
        None if neither says how long.
    """
    if match := _RETRY_AFTER.search(text):
        return min(int(match[1]) / 1000, MAX_RETRY_AFTER_S)
    headers = headers or {}
    header = headers.get("retry-after", "")
    if header.isascii() and header.isdigit():
        return min(float(header[:9]), MAX_RETRY_AFTER_S)
    until = _moment(header)
    if until is None:
        return None
    # Measured by the endpoint's own clock, since the local one may be off.
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
