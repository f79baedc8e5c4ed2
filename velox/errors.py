"""Every error that Velox raises on purpose.

All of them are `VeloxError`. Each also is the built-in exception that a caller would expect, so
``except ValueError`` keeps its meaning.

An error is a set of fields. They are its constructor's arguments, and its message is made from
them in one place, `message_of` of its class. Test the fields, not the message.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

__all__ = [
    "BookError",
    "BundleRejectedError",
    "CaptureError",
    "ConfigError",
    "EndpointRefusedError",
    "FeedError",
    "JournalError",
    "KeyFileError",
    "LedgerError",
    "LimitsError",
    "LocalnetError",
    "MarketError",
    "PipelineError",
    "ProgramBuildError",
    "RateLimitedError",
    "RecordError",
    "RejectedError",
    "RingError",
    "RpcError",
    "SolanaError",
    "SpendRefusedError",
    "StageGroupError",
    "StrategyError",
    "SubmitError",
    "ThreadError",
    "TransactionTooLargeError",
    "TransportError",
    "UnknownMarketError",
    "UnrepresentableError",
    "VeloxError",
]


class VeloxError(Exception):
    """The base of every error that Velox raises on purpose.

    Notes
    -----
    An error can be pickled and copied, with its fields and notes, if its fields can be.
    """

    def __post_init__(self) -> None:
        self.args = (self.message_of(),)

    def message_of(self) -> str:
        """Return the message that the fields make."""
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        if not dataclasses.is_dataclass(self):
            return super().__reduce__()  # type: ignore[return-value]
        values = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        return _remade, (type(self), values), self.__dict__


def _remade(kind: type[VeloxError], values: dict[str, Any]) -> VeloxError:
    return kind(**values)


@dataclass(eq=False, repr=False)
class _PlainError(VeloxError):
    """An error that only says what is wrong.

    Attributes
    ----------
    why : str
        What is wrong.
    """

    why: str

    def message_of(self) -> str:
        return self.why


class _Nothing:
    """Marks an absent value, since None is a value."""

    def __repr__(self) -> str:
        return "<no value>"

    def __reduce__(self) -> str:
        return "_NOTHING"


_NOTHING = _Nothing()


@dataclass(eq=False, repr=False)
class _ValueFaultError(VeloxError):
    """An error about one value.

    Attributes
    ----------
    why : str
        What is wrong, such as ``"must be 1 to 16"``.
    field : str or None
        The setting, argument or field that is wrong.
    value : object
        Its value, where there is one to name.
    """

    why: str
    _: KW_ONLY
    field: str | None = None
    value: object = _NOTHING

    def message_of(self) -> str:
        return _about(self.field, self.value, self.why)


def _about(name: str | None, value: object, why: str) -> str:
    """Put a name, and its value if there is one, before the text that says what is wrong."""
    if not name:
        return why
    return f"{name}: {why}" if value is _NOTHING else f"{name} = {value!r}: {why}"


@dataclass(eq=False, repr=False)
class RecordError(_ValueFaultError, ValueError):
    """A record, a price or a size that is not valid.

    Attributes
    ----------
    why : str
        What is wrong.
    field : str or None
        The field, or the array, that is wrong.
    value : object
        Its value, where there is one to name.
    index : int or None
        The position in the array.
    array : str or None
        The array of records whose `field` is wrong.
    """

    index: int | None = None
    array: str | None = None

    def message_of(self) -> str:
        place = "" if self.index is None else f"[{self.index}]"
        name = f"{self.field or ''}{place}"
        if self.array is not None:
            name = f"{self.array}{place}.{self.field}"
        return _about(name, self.value, self.why)


@dataclass(eq=False, repr=False)
class RingError(_ValueFaultError, RuntimeError):
    """A wrong use of a ring, such as a second producer or consumer, or a push after `close`.

    Attributes
    ----------
    code : str or None
        ``"producer"`` or ``"consumer"`` if that side belongs to another thread or to a pipeline,
        ``"peeking"`` while a peek is open, ``"closed"`` for a push after `close`; None if `field`
        names a wrong argument.
    """

    _: KW_ONLY
    code: str | None = None


@dataclass(eq=False, repr=False)
class BookError(_ValueFaultError, ValueError):
    """A book that cannot be built with these arguments, or is used by a second writer."""


@dataclass(eq=False, repr=False)
class UnknownMarketError(BookError, KeyError):
    """A market of which there is no book."""


@dataclass(eq=False, repr=False)
class RejectedError(BookError):
    """One update that the book refused.

    Attributes
    ----------
    why : str
        The record, and the reason's name.
    reason : velox.Rejection
        Why the book refused it.
    """

    reason: object


@dataclass(eq=False, repr=False)
class ConfigError(_ValueFaultError, ValueError):
    """A setting that cannot be used.

    Attributes
    ----------
    why : str
        What is wrong, such as ``"must be 1 to 16"``.
    field : str or None
        The setting or the argument.
    value : object
        Its value, where there is one to name.
    """


@dataclass(eq=False, repr=False)
class LimitsError(VeloxError, ValueError):
    """A file of limits that cannot be used.

    Attributes
    ----------
    path : str
        The file.
    faults : list of tuple
        The line, or None, the key and what is wrong, of each fault.
    """

    path: str
    faults: Sequence[tuple[int | None, str, str]]

    def message_of(self) -> str:
        return "; ".join(
            ": ".join(
                part
                for part in (self.path if line is None else f"{self.path}:{line}", key, why)
                if part
            )
            for line, key, why in self.faults
        )


@dataclass(eq=False, repr=False)
class FeedError(VeloxError, ValueError):
    """Input that violates its format.

    Attributes
    ----------
    why : str
        What is wrong.
    path : str
        The file.
    line : int or None
        Its line, counted from 1; None if the whole file is meant.
    field : str or None
        The field of the line.
    """

    why: str
    _: KW_ONLY
    path: Any  # str, whatever was given
    line: int | None = None
    field: str | None = None

    def __post_init__(self) -> None:
        self.path = str(self.path)
        super().__post_init__()

    def message_of(self) -> str:
        where = self.path if self.line is None else f"{self.path}:{self.line}"
        return (
            f"{where}: {self.why}" if self.field is None else f"{where}: {self.field}: {self.why}"
        )


@dataclass(eq=False, repr=False)
class CaptureError(VeloxError, OSError):
    """A capture file that cannot be written, or read back.

    Attributes
    ----------
    why : str
        What is wrong.
    path : str
        The file.
    number : int or None
        The system's error number, also as `errno`.
    bundles : int or None
        How many whole bundles the file holds, if a write failed.
    """

    why: str
    _: KW_ONLY
    path: Any  # str, whatever was given
    number: int | None = None
    bundles: int | None = None

    def __post_init__(self) -> None:
        self.path = str(self.path)
        self.errno = self.number
        super().__post_init__()

    def message_of(self) -> str:
        rest = "" if self.bundles is None else f"; it holds the first {self.bundles} bundles"
        return f"{self.path}: {self.why}{rest}"


@dataclass(eq=False, repr=False)
class PipelineError(_PlainError, RuntimeError):
    """A pipeline used out of order, or one whose stage failed."""


@dataclass(eq=False, repr=False)
class ThreadError(PipelineError):
    """The system has no more threads, or no memory for one."""


class StageGroupError(ExceptionGroup[Exception], PipelineError):
    """Several stages of a pipeline failed; `exceptions` has the error of each."""

    def __init__(self, message: str, exceptions: Sequence[Exception]) -> None:
        self.why = message

    def __str__(self) -> str:
        return ExceptionGroup.__str__(self)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, list(self.exceptions)), self.__dict__


@dataclass(eq=False, repr=False)
class StrategyError(PipelineError):
    """A strategy without the required C signature, or one that failed while it ran.

    Attributes
    ----------
    why : str
        What is wrong.
    returned : int or None
        What the strategy returned, if that is what is wrong.
    position : int or None
        How many records had been applied, if it failed while it ran.
    reason : str or None
        Why no book could take a record that it emitted, if that is what is wrong: the lower-case
        name of a `velox.Rejection`.
    code : str or None
        The kind of fault of a strategy that cannot be used: ``"argument"``, ``"bounds"``,
        ``"compile"``, ``"elements"``, ``"floating"``, ``"function"``, ``"memory"``,
        ``"read_only"`` or ``"returns"``.
    """

    _: KW_ONLY
    returned: int | None = None
    position: int | None = None
    reason: str | None = None
    code: str | None = None

    def message_of(self) -> str:
        if self.position is None:
            return self.why
        if self.returned is None:
            return f"the strategy failed after record {self.position}: {self.why}"
        return f"the strategy returned {self.returned} after record {self.position}: {self.why}"


@dataclass(eq=False, repr=False)
class LedgerError(PipelineError):
    """The counts of a run's records do not add up. This is always a defect of Velox.

    Attributes
    ----------
    why : str
        What is wrong, such as the equations that do not hold.
    field : str or None
        The count that is impossible by itself.
    value : object
        Its value.
    """

    _: KW_ONLY
    field: str | None = None
    value: object = _NOTHING

    def message_of(self) -> str:
        return _about(self.field, self.value, self.why)


class SolanaError(VeloxError):
    """The base of errors on the way from a bundle to the chain.

    Messages, fields and causes of these errors never hold key material or a credential.
    """


@dataclass(eq=False, repr=False)
class MarketError(SolanaError, ValueError):
    """A market that is not known, or whose description contradicts itself.

    Attributes
    ----------
    why : str
        What is wrong with it.
    market : object or None
        The market, as it was named.
    field : str or None
        The field of its description that is wrong.
    """

    why: str
    _: KW_ONLY
    market: object = None
    field: str | None = None

    def message_of(self) -> str:
        where = [] if self.market is None else [f"market {self.market}"]
        return ": ".join([*where, *([] if self.field is None else [self.field]), self.why])


@dataclass(eq=False, repr=False)
class UnrepresentableError(SolanaError, ValueError):
    """A price or a size that the chain's format cannot hold exactly.

    Attributes
    ----------
    market : object
        The market whose format it is.
    field : str
        ``"price"``, ``"size"`` and the like.
    value : object
        The value, in Velox's units.
    why : str
        Why it is refused.
    """

    market: object
    field: str
    value: object
    why: str

    def message_of(self) -> str:
        return f"market {self.market}: {self.field} {self.value}: {self.why}"


@dataclass(eq=False, repr=False)
class TransactionTooLargeError(SolanaError, ValueError):
    """A Solana transaction over one of the chain's limits; nothing of it was sent.

    Attributes
    ----------
    size, limit : int
        The amount, and the most that is allowed.
    what : str
        What was measured, with its unit: ``"bytes"``, ``"compute units"``, ``"accounts"``.
    """

    size: int
    limit: int
    what: str = "bytes"

    def message_of(self) -> str:
        return f"a transaction of {self.size} {self.what}, where {self.limit} are allowed"


@dataclass(eq=False, repr=False)
class KeyFileError(SolanaError, OSError):
    """A key that cannot be loaded. No message or field holds a part of the key.

    Attributes
    ----------
    why : str
        What is wrong.
    path : str
        The file, or ``"descriptor N"``.
    """

    why: str
    _: KW_ONLY
    path: Any  # str, whatever was given

    def __post_init__(self) -> None:
        self.path = str(self.path)
        super().__post_init__()

    def message_of(self) -> str:
        return f"{self.path}: {self.why}"


@dataclass(eq=False, repr=False)
class SpendRefusedError(SolanaError, PermissionError):
    """A Solana transaction that the signer's policy refuses; nothing was signed.

    Attributes
    ----------
    rule : str
        The rule that it breaks: ``"programs"``, ``"max_tip_lamports"``, ``"killed"`` and the like.
    why : str
        How it breaks the rule.
    value, limit : object
        The requested value, and the limit of the rule; None if the rule has no number.
    """

    rule: str
    why: str
    _: KW_ONLY
    value: object = None
    limit: object = None

    def message_of(self) -> str:
        return f"refused by {self.rule}: {self.why}"


@dataclass(eq=False, repr=False)
class EndpointRefusedError(SolanaError, PermissionError):
    """An endpoint to which connections are not allowed; nothing was sent to it.

    Attributes
    ----------
    endpoint : str
        Scheme, host and port alone: a path or a query may hold an API key.
    why : str
        Why it is refused.
    """

    endpoint: str
    why: str

    def message_of(self) -> str:
        return f"{self.endpoint}: {self.why}"


@dataclass(eq=False, repr=False)
class RpcError(SolanaError, RuntimeError):
    """An endpoint answered with a JSON-RPC error.

    Attributes
    ----------
    endpoint : str
        Scheme, host and port.
    method : str
        The method that was called.
    code : int or None
        The error's code; None if the endpoint gave none.
    message : str
        The endpoint's message, shortened.
    data : object
        The error's ``data``, as it came: logs and ``err`` of a failed preflight, for example.
    """

    endpoint: str
    method: str
    code: int | None
    message: str
    data: object = None

    def message_of(self) -> str:
        number = "" if self.code is None else f" {self.code}"
        return f"{self.endpoint}: {self.method}: error{number}: {self.message}"


@dataclass(eq=False, repr=False)
class BundleRejectedError(RpcError):
    """A block engine answered that it rejects a bundle.

    It is the answer of that one engine at that moment. Only the chain shows what has landed. If
    another region was asked before and its answer is not known, that error is the ``__cause__``.

    Attributes
    ----------
    reason : velox.solana.net.block_engine.BundleError
        The meaning of its answer; `message` has the text.
    """

    _: KW_ONLY
    reason: object


@dataclass(eq=False, repr=False)
class TransportError(SolanaError, ConnectionError):
    """A missing answer, or one that cannot be used because it is late, cut, malformed or false.

    It is not known whether the endpoint carried out the request.

    Attributes
    ----------
    endpoint : str
        Scheme, host and port.
    method : str
        The method that was called.
    why : str
        What happened.
    """

    endpoint: str
    method: str
    why: str

    def message_of(self) -> str:
        return f"{self.endpoint}: {self.method}: {self.why}"


@dataclass(eq=False, repr=False)
class RateLimitedError(SolanaError, RuntimeError):
    """An endpoint, or the limiter in front of it, has no room for a request now.

    Attributes
    ----------
    endpoint : str
        Scheme, host and port.
    retry_after_s : float or None
        Seconds after which to ask again; None if not known.
    """

    endpoint: str
    retry_after_s: float | None = None

    def message_of(self) -> str:
        after = "" if self.retry_after_s is None else f"; again in {self.retry_after_s:.3f} s"
        return f"{self.endpoint}: too many requests{after}"


@dataclass(eq=False, repr=False)
class JournalError(SolanaError, OSError):
    """A journal of submissions that cannot be opened, written, or read back.

    Attributes
    ----------
    why : str
        What is wrong.
    path : str
        The file.
    offset : int or None
        The position of the faulty byte; None if the whole file is meant.
    """

    why: str
    _: KW_ONLY
    path: Any  # str, whatever was given
    offset: int | None = None

    def __post_init__(self) -> None:
        self.path = str(self.path)
        super().__post_init__()

    def message_of(self) -> str:
        where = self.path if self.offset is None else f"{self.path}: byte {self.offset}"
        return f"{where}: {self.why}"


@dataclass(eq=False, repr=False)
class SubmitError(_PlainError, SolanaError, RuntimeError):
    """A submitter used out of order, or one that cannot go on."""


@dataclass(eq=False, repr=False)
class LocalnetError(_ValueFaultError, SolanaError, RuntimeError):
    """A local cluster that cannot be started, or cannot do what was requested."""


@dataclass(eq=False, repr=False)
class ProgramBuildError(VeloxError, RuntimeError):
    """A program for the Solana VM that cannot be compiled or linked.

    Attributes
    ----------
    why : str
        What is wrong.
    path : str
        The source, the object or the tool at fault.
    section : str or None
        The section of the object.
    offset : int or None
        The byte in that section.
    symbol : str or None
        The symbol that is undefined, defined twice or out of reach.
    """

    why: str
    _: KW_ONLY
    path: Any  # str, whatever was given
    section: str | None = None
    offset: int | None = None
    symbol: str | None = None

    def __post_init__(self) -> None:
        self.path = str(self.path)
        super().__post_init__()

    def message_of(self) -> str:
        where = str(self.path)
        if self.section is not None:
            where += f": {self.section}"
        if self.offset is not None:
            where += f"+{self.offset:#x}"
        if self.symbol is not None:
            where += f": {self.symbol}"
        return f"{where}: {self.why}"
