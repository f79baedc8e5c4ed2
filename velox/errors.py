"""Every error that Velox raises on purpose.

All of them are `VeloxError`; each also is the built-in exception that a caller would expect, so
that ``except ValueError`` keeps its meaning.
"""

from __future__ import annotations

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
    "UnrepresentableError",
    "VeloxError",
]


class VeloxError(Exception):
    """The base of every error that Velox raises on purpose."""


class RecordError(VeloxError, ValueError):
    """A record, a price or a size that cannot be what it claims to be.

    Attributes
    ----------
    index : int or None
        Position in the array, where there is one.
    field : str or None
        The field that is wrong.
    """

    def __init__(self, message: str, *, index: int | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.field = field


class RingError(VeloxError, RuntimeError):
    """A ring used against its contract: a second producer or consumer, a push after `close`."""


class BookError(VeloxError, ValueError):
    """A book that cannot be built as asked, or is used by a second writer."""


class RejectedError(BookError):
    """One update that the book refused; `reason` is its `velox.Rejection`."""

    def __init__(self, message: str, reason: object) -> None:
        super().__init__(message)
        self.reason = reason


class ConfigError(VeloxError, ValueError):
    """A setting that cannot be used; the message names the field and its value."""


class FeedError(VeloxError, ValueError):
    """Input from outside that cannot be read as its format says.

    Attributes
    ----------
    path : str
        The file.
    line : int or None
        Its line, counted from 1; None where the whole file is meant.
    field : str or None
        The field of the line.
    """

    def __init__(
        self, why: str, *, path: object, line: int | None = None, field: str | None = None
    ) -> None:
        where = str(path) if line is None else f"{path}:{line}"
        super().__init__(f"{where}: {why}" if field is None else f"{where}: {field}: {why}")
        self.path = str(path)
        self.line = line
        self.field = field


class CaptureError(VeloxError, OSError):
    """A capture file that cannot be written, or read back."""


class PipelineError(VeloxError, RuntimeError):
    """A pipeline used out of order, or one whose stage failed."""


class ThreadError(PipelineError):
    """The system has no more threads, or no memory for one."""


class StageGroupError(ExceptionGroup[Exception], PipelineError):
    """Several stages of a pipeline failed; each error is inside."""


class StrategyError(PipelineError):
    """A strategy that is not of the published signature, or that failed while it ran.

    Attributes
    ----------
    why : str
        What is wrong.
    returned : int or None
        What the strategy returned, if that is what is wrong.
    position : int or None
        How many records had been applied when it failed while it ran.
    reason : str or None
        The lower-case name of the `velox.Rejection` that a record it emitted deserves, if that is
        what is wrong.
    """

    def __init__(
        self,
        why: str,
        *,
        returned: int | None = None,
        position: int | None = None,
        reason: str | None = None,
    ) -> None:
        super().__init__(why)
        self.why = why
        self.returned = returned
        self.position = position
        self.reason = reason


class LedgerError(PipelineError):
    """A run after which the transactions do not add up; it is always a defect of Velox."""


class SolanaError(VeloxError):
    """The base of what can go wrong on the way from a bundle to the chain.

    No message, attribute or cause of one ever holds key material or a credential.
    """


class MarketError(SolanaError, ValueError):
    """A market that is not known, or whose description contradicts itself.

    Attributes
    ----------
    market : object or None
        The market, as it was named.
    field : str or None
        The field of its description that is wrong.
    why : str
        What is wrong with it.
    """

    def __init__(self, why: str, *, market: object = None, field: str | None = None) -> None:
        where = [] if market is None else [f"market {market}"]
        super().__init__(": ".join([*where, *([] if field is None else [field]), why]))
        self.market = market
        self.field = field
        self.why = why


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
        What stands against it.
    """

    def __init__(self, market: object, field: str, value: object, why: str) -> None:
        super().__init__(f"market {market}: {field} {value}: {why}")
        self.market = market
        self.field = field
        self.value = value
        self.why = why


class TransactionTooLargeError(SolanaError, ValueError):
    """A transaction over one of the chain's limits; nothing of it was sent.

    Attributes
    ----------
    what : str
        What was measured, with its unit: ``"bytes"``, ``"compute units"``, ``"accounts"``.
    size, limit : int
        How much there is, and how much may be.
    """

    def __init__(self, size: int, limit: int, what: str = "bytes") -> None:
        super().__init__(f"a transaction of {size} {what}, where {limit} are allowed")
        self.what = what
        self.size = size
        self.limit = limit


class KeyFileError(SolanaError, OSError):
    """A key that cannot be loaded; neither message nor attribute holds any of it.

    Attributes
    ----------
    path : str
        The file, or ``"descriptor N"``.
    """

    def __init__(self, why: str, *, path: object) -> None:
        super().__init__(f"{path}: {why}")
        self.path = str(path)


class SpendRefusedError(SolanaError, PermissionError):
    """A transaction that the signer's policy does not let it sign; nothing was signed.

    Attributes
    ----------
    rule : str
        The rule that it breaks: ``"programs"``, ``"max_tip_lamports"``, ``"killed"`` and the like.
    value, limit : object
        What was asked for, and what the rule allows; None where the rule has no number.
    """

    def __init__(self, rule: str, why: str, *, value: object = None, limit: object = None) -> None:
        super().__init__(f"refused by {rule}: {why}")
        self.rule = rule
        self.value = value
        self.limit = limit


class EndpointRefusedError(SolanaError, PermissionError):
    """An endpoint that may not be spoken to; nothing was sent to it.

    Attributes
    ----------
    endpoint : str
        Scheme, host and port alone: a path or a query may hold an API key.
    """

    def __init__(self, endpoint: str, why: str) -> None:
        super().__init__(f"{endpoint}: {why}")
        self.endpoint = endpoint


class RpcError(SolanaError, RuntimeError):
    """An endpoint answered, and the answer is a JSON-RPC error.

    Attributes
    ----------
    endpoint : str
        Scheme, host and port.
    method : str
        The method that was called.
    code : int or None
        The error's code; None where the endpoint gave none.
    message : str
        The endpoint's words, shortened.
    data : object
        The error's ``data``, as it came: logs and ``err`` of a failed preflight, for example.
    """

    def __init__(
        self, endpoint: str, method: str, code: int | None, message: str, data: object = None
    ) -> None:
        number = "" if code is None else f" {code}"
        super().__init__(f"{endpoint}: {method}: error{number}: {message}")
        self.endpoint = endpoint
        self.method = method
        self.code = code
        self.message = message
        self.data = data


class BundleRejectedError(RpcError):
    """A block engine answered that it does not take a bundle.

    It is that one engine's word at that moment; the chain alone knows what has landed. Where
    another region had been asked before and its answer is not known, that error is the
    ``__cause__``.

    Attributes
    ----------
    reason : velox.solana.net.block_engine.BundleError
        What its words were understood as; `message` has the words.
    """

    def __init__(
        self,
        endpoint: str,
        method: str,
        code: int | None,
        message: str,
        data: object = None,
        *,
        reason: object,
    ) -> None:
        super().__init__(endpoint, method, code, message, data)
        self.reason = reason


class TransportError(SolanaError, ConnectionError):
    """No answer that can be believed: none, a late, a cut or a malformed one, or a lie.

    Whether the request was acted upon is not known.

    Attributes
    ----------
    endpoint : str
        Scheme, host and port.
    method : str
        The method that was called.
    why : str
        What happened.
    """

    def __init__(self, endpoint: str, method: str, why: str) -> None:
        super().__init__(f"{endpoint}: {method}: {why}")
        self.endpoint = endpoint
        self.method = method
        self.why = why


class RateLimitedError(SolanaError, RuntimeError):
    """An endpoint, or the limiter in front of it, has no room for a request now.

    Attributes
    ----------
    endpoint : str
        Scheme, host and port.
    retry_after_s : float or None
        Seconds until it makes sense to ask again; None where nothing says.
    """

    def __init__(self, endpoint: str, retry_after_s: float | None = None) -> None:
        after = "" if retry_after_s is None else f"; again in {retry_after_s:.3f} s"
        super().__init__(f"{endpoint}: too many requests{after}")
        self.endpoint = endpoint
        self.retry_after_s = retry_after_s


class JournalError(SolanaError, OSError):
    """A journal of submissions that cannot be opened, written, or read back.

    Attributes
    ----------
    path : str
        The file.
    offset : int or None
        The byte at which it goes wrong; None where the whole file is meant.
    """

    def __init__(self, why: str, *, path: object, offset: int | None = None) -> None:
        where = str(path) if offset is None else f"{path}: byte {offset}"
        super().__init__(f"{where}: {why}")
        self.path = str(path)
        self.offset = offset


class SubmitError(SolanaError, RuntimeError):
    """A submitter used out of order, or one that cannot go on."""


class LocalnetError(SolanaError, RuntimeError):
    """A local cluster that cannot be started, or was asked for what it cannot do."""


class ProgramBuildError(VeloxError, RuntimeError):
    """A program for the Solana VM that cannot be compiled or linked.

    Attributes
    ----------
    path : str
        The source, the object or the tool at fault.
    section : str or None
        The section of the object.
    offset : int or None
        The byte in that section.
    symbol : str or None
        The symbol that is undefined, defined twice or out of reach.
    """

    def __init__(
        self,
        why: str,
        *,
        path: object,
        section: str | None = None,
        offset: int | None = None,
        symbol: str | None = None,
    ) -> None:
        where = str(path)
        if section is not None:
            where += f": {section}"
        if offset is not None:
            where += f"+{offset:#x}"
        if symbol is not None:
            where += f": {symbol}"
        super().__init__(f"{where}: {why}")
        self.path = str(path)
        self.section = section
        self.offset = offset
        self.symbol = symbol
