"""Where a feed's bytes come from, and what becomes of those that cannot be read."""

from __future__ import annotations

import gzip
import json
import re
import stat
import zlib
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from velox.errors import FeedError

__all__ = [
    "Faults",
    "MalformedError",
    "Source",
    "first_line",
    "nanoseconds",
    "numbered_lines",
    "parse_json",
    "require_file",
    "shown",
]

GZIP_MAGIC = b"\x1f\x8b"
PROBLEMS_KEPT = 8
FIRST_LINE_LIMIT = 1 << 16
# The moment that all parsed times must stay under, so that they also fit a signed 64-bit integer.
TIME_LIMIT = 2**63

_SECONDS = re.compile(rb"([0-9]{1,12})(?:\.([0-9]{1,40}))?")


class MalformedError(Exception):
    """One line that is not what its format says; whoever reads the lines knows which one."""

    def __init__(self, why: str, field: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.field = field


class Faults:
    """The caller's choice of what a bad line does: stop the load, or be counted and left out."""

    def __init__(self, *, skip: bool) -> None:
        self.skip = skip
        self.skipped = 0
        self.problems: list[str] = []

    def report(self, error: FeedError, *, lines: int = 1) -> None:
        """Raise `error`, or count the `lines` that are lost by it."""
        if not self.skip:
            # Whatever was caught on the way here is in the message already.
            raise error from None
        self.skipped += lines
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(str(error))


@dataclass(frozen=True, slots=True)
class Source:
    """What `load` hands to a format.

    Attributes
    ----------
    paths : tuple of pathlib.Path
        At least one.
    faults : Faults
        Where the format reports each line that it cannot read.
    limit : int or None
        Stop after the venue event that brings the transactions to this many.
    depth : int or None
        Levels a side of each depth check, at most; None leaves it to the format.
    """

    paths: tuple[Path, ...]
    faults: Faults = field(default_factory=lambda: Faults(skip=False))
    limit: int | None = None
    depth: int | None = None

    def reached(self, count: int) -> bool:
        """Whether `count` transactions are enough."""
        return self.limit is not None and count >= self.limit

    def nothing(self, what: str) -> FeedError:
        """The error for an input in which there is nothing to replay."""
        because = f"; the first problem: {self.faults.problems[0]}" if self.faults.problems else ""
        return FeedError(f"holds no {what}{because}", path=self.paths[0])


def shown(value: object) -> str:
    """A value as an error message shows it: on one line, and short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def require_file(path: Path) -> None:
    """Refuse what is not a regular file, or is empty: a pipe, say, would be waited for."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise FeedError("no such file", path=path) from None
    # A path may also be too long, hold a NUL, or lead through a directory that is closed to us.
    except (OSError, ValueError) as error:
        raise FeedError(f"cannot be opened: {error}", path=path) from None
    if stat.S_ISDIR(status.st_mode):
        raise FeedError("is a directory, not a file", path=path)
    if not stat.S_ISREG(status.st_mode):
        raise FeedError("is not a regular file", path=path)
    if status.st_size == 0:
        raise FeedError("is empty", path=path)


def _open(path: Path) -> gzip.GzipFile | BufferedReader:
    require_file(path)
    with path.open("rb") as stream:
        magic = stream.read(len(GZIP_MAGIC))
    return gzip.open(path, "rb") if magic == GZIP_MAGIC else path.open("rb")


# What reading a file that exists may raise: permissions and disks, and every fault of a gzip.
_READ_ERRORS = (OSError, EOFError, zlib.error)


NumberedLines = Generator[tuple[int, bytes], None, None]


def numbered_lines(path: Path, faults: Faults) -> closing[NumberedLines]:
    """The lines of a file, plain or gzip, counted from 1 and without their line ends.

    To be used in a ``with`` statement, so that the file is closed at once when a line stops the
    load, not when the error that tells of it is forgotten.

    Where a gzip breaks, what could be read before has already been given; the break itself is one
    fault more.
    """
    return closing(_numbered_lines(path, faults))


def _numbered_lines(path: Path, faults: Faults) -> NumberedLines:
    number = 0
    try:
        with _open(path) as stream:
            for number, line in enumerate(stream, 1):
                yield number, line.rstrip(b"\r\n")
    except _READ_ERRORS as error:
        faults.report(FeedError(f"cannot be read any further: {error}", path=path, line=number + 1))


def first_line(path: Path) -> bytes:
    """The first line of a file as far as it can be read, for telling one format from another."""
    try:
        with _open(path) as stream:
            return stream.readline(FIRST_LINE_LIMIT)
    except (FeedError, *_READ_ERRORS):
        return b""


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not a JSON number")


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def parse_json(raw: bytes) -> dict[str, Any]:
    """A line's JSON object; `MalformedError` for anything else."""
    try:
        value = _decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise MalformedError(f"is not UTF-8 text at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise MalformedError(f"is not JSON: {error.msg}, at column {error.colno}") from None
    except RecursionError:
        raise MalformedError("is not usable JSON: nested too deeply") from None
    except ValueError:
        raise MalformedError("is not usable JSON: a number has too many digits") from None
    if not isinstance(value, dict):
        raise MalformedError(f"expected a JSON object, got {shown(value)}")
    return value


def nanoseconds(seconds: bytes, field: str) -> int:
    """Decimal seconds as integer nanoseconds, exactly; what is finer than that is cut off."""
    match = _SECONDS.fullmatch(seconds)
    if match is None:
        raise MalformedError(f"{shown(seconds.decode('latin-1'))} is not a time in seconds", field)
    whole, fraction = match[1], match[2] or b""
    time = int(whole + fraction[:9].ljust(9, b"0"))
    if time >= TIME_LIMIT:
        raise MalformedError(
            f"{shown(seconds.decode('latin-1'))} does not fit 63 bits of ns", field
        )
    return time
