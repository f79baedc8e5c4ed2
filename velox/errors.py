"""Every error that Velox raises on purpose.

All of them are `VeloxError`; each also is the built-in exception that a caller would expect, so
that ``except ValueError`` keeps its meaning.
"""

from __future__ import annotations

__all__ = [
    "BookError",
    "CaptureError",
    "ConfigError",
    "FeedError",
    "LedgerError",
    "PipelineError",
    "RecordError",
    "RejectedError",
    "RingError",
    "StageGroupError",
    "StrategyError",
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


class StageGroupError(ExceptionGroup[Exception], PipelineError):
    """Several stages of a pipeline failed; each error is inside."""


class StrategyError(PipelineError):
    """A strategy that is not of the published signature, or that failed while it ran."""


class LedgerError(PipelineError):
    """A run after which the transactions do not add up; it is always a defect of Velox."""
