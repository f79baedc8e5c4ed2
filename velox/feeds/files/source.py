"""Reads the files of a feed, and handles lines that cannot be read."""

from __future__ import annotations

import gzip
import stat
import zlib
from collections.abc import Generator, Hashable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from velox.errors import FeedError, VeloxError
from velox.feeds.decode.malformed import MalformedError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = [
    "LINE_LIMIT",
    "READ_ERRORS",
    "Faults",
    "Place",
    "Source",
    "blocks",
    "first_line",
    "first_lines",
    "numbered_lines",
    "open_stream",
    "require_file",
]

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
# The field of the error for a file whose compression cannot be read.
COMPRESSION = "compression"
PROBLEMS_KEPT = 8
FIRST_LINE_LIMIT = 1 << 16
# The longest line that is read. Snapshots of several megabytes fit; a file without line ends does
# not.
LINE_LIMIT = 16 << 20
BLOCK_BYTES = 1 << 18


class Place(NamedTuple):
    """Where a message stands."""

    path: Path
    line: int

    def error(self, error: MalformedError) -> FeedError:
        """A problem and its place."""
        return FeedError(error.why, path=self.path, line=self.line, field=error.field)


class Faults:
    """Handles bad lines as the caller chose.

    A bad line stops the load, or is counted and left out.
    """

    def __init__(self, *, skip: bool) -> None:
        self.skip = skip
        self.skipped = 0
        self.problems: list[str] = []

    def report(self, error: FeedError, *, lines: int = 1) -> None:
        """Raise `error`, or count the `lines` that are lost."""
        if not self.skip:
            # The message already holds the text of the exception that was caught.
            raise error from None
        self.skipped += lines
        self.note(error)

    @contextmanager
    def at(self, place: Place) -> Iterator[None]:
        """Report a `MalformedError` of the block, with the place of its line.

        A ``ValueError``, such as that of ``int("x")``, is reported too. With ``on_error="skip"``
        the program goes on after the block.

        Raises
        ------
        FeedError
            The block raised such an error, and the load stops at such a line.
        """
        try:
            yield
        except MalformedError as error:
            self.report(place.error(error))
        except VeloxError:
            raise
        except ValueError as error:
            self.report(place.error(MalformedError(str(error))))

    def note(self, error: FeedError) -> None:
        """Keep the text of a problem, if there is room."""
        if len(self.problems) < PROBLEMS_KEPT:
            self.problems.append(str(error))

    def message(
        self, error: MalformedError, origin: Hashable, *, lines: int = 1, fatal: bool = False
    ) -> None:
        """The function to which a session reports: see `velox.feeds.decode.session.Report`."""
        assert isinstance(origin, Place)
        if fatal:
            raise origin.error(error) from None
        if lines:
            self.report(origin.error(error), lines=lines)
        else:
            self.note(origin.error(error))


@dataclass(slots=True)
class Source:
    """The arguments that `load` passes to a format.

    Attributes
    ----------
    paths : tuple of pathlib.Path
        At least one.
    faults : Faults
        Where the format reports each line that it cannot read.
    limit : int or None
        Stop after the venue event that reaches this number of transactions.
    asked_depth : int or None
        The most levels a side of each depth check; None means the format's default. A format reads
        it as `depth`.
    depth_read : bool
        Whether the format has read `depth`. A depth that nobody reads is refused by `load`.
    """

    paths: tuple[Path, ...]
    faults: Faults = field(default_factory=lambda: Faults(skip=False))
    limit: int | None = None
    asked_depth: int | None = None
    depth_read: bool = False

    @property
    def depth(self) -> int | None:
        """int or None: The most levels a side of each depth check."""
        self.depth_read = True
        return self.asked_depth

    def reached(self, count: int) -> bool:
        """Whether `count` transactions are enough."""
        return self.limit is not None and count >= self.limit

    def lines(self) -> closing[PlacedLines]:
        """Yield each line of all files with its place, without its line end.

        Use it in a ``with`` statement, so that files are closed at once. Files may be gzip.

        Returns
        -------
        context manager
            Of an iterator over pairs of `Place` and bytes.
        """
        return closing(_placed_lines(self))

    def late(self, error: MalformedError) -> None:
        """Report a fault of one record that is found after all have been read."""
        self.faults.report(FeedError(error.why, path=self.paths[0], field=error.field))

    def nothing(self, what: str) -> FeedError:
        """The error for an input in which there is nothing to replay."""
        because = f"; the first problem: {self.faults.problems[0]}" if self.faults.problems else ""
        return FeedError(f"holds no {what}{because}", path=self.paths[0])


def require_file(path: Path) -> None:
    """Refuse an empty file, and one that is not regular.

    Reading a pipe would wait for its writer.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        raise FeedError("no such file", path=path) from None
    # A path may also be too long, hold a NUL, or contain a directory that this process cannot read.
    except (OSError, ValueError) as error:
        raise FeedError(f"cannot be opened: {error}", path=path) from None
    if stat.S_ISDIR(status.st_mode):
        raise FeedError("is a directory, not a file", path=path)
    if not stat.S_ISREG(status.st_mode):
        raise FeedError("is not a regular file", path=path)
    if status.st_size == 0:
        raise FeedError("is empty", path=path)


def open_stream(path: Path) -> gzip.GzipFile | BufferedReader:
    """Open a file to be read, and decompress it if it is gzip or zstd.

    Raises
    ------
    FeedError
        It is no file, is empty, or is zstd while the package that reads it is missing.
    OSError
        It cannot be opened.
    """
    require_file(path)
    with path.open("rb") as stream:
        magic = stream.read(len(ZSTD_MAGIC))
    if magic.startswith(GZIP_MAGIC):
        return gzip.open(path, "rb")
    return _open_zstd(path) if magic == ZSTD_MAGIC else path.open("rb")


def _open_zstd(path: Path) -> BufferedReader:
    try:
        zstandard = import_module("zstandard")
    except ImportError:
        raise FeedError(
            "is compressed with zstd, which needs the extra 'zstd': pip install 'velox[zstd]'",
            path=path,
            field=COMPRESSION,
        ) from None
    decompressor = zstandard.ZstdDecompressor(max_window_size=1 << 31)
    stream = decompressor.stream_reader(path.open("rb"), read_across_frames=True, closefd=True)
    # Its errors are of its own kind, and it has no readline.
    return BufferedReader(_Zstd(stream, zstandard.ZstdError), BLOCK_BYTES)


class _Zstd(RawIOBase):
    """A decompressing stream whose errors are those of the system."""

    def __init__(self, stream: BinaryIO, error: type[Exception]) -> None:
        self.stream = stream
        self.error = error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        try:
            content = self.stream.read(len(memoryview(buffer)))
        except self.error as error:
            raise OSError(str(error)) from None
        memoryview(buffer)[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self.stream.close()
        super().close()


# Exceptions of a read from an existing file: permissions, disk errors, and corrupt data.
READ_ERRORS = (OSError, EOFError, zlib.error)


class Block(NamedTuple):
    """Whole lines of a file.

    Attributes
    ----------
    line : int
        The number of the first one, counted from 1.
    content : bytes
        Every line but the last of the file ends with a newline.
    """

    line: int
    content: bytes


@contextmanager
def blocks(path: Path, faults: Faults) -> Iterator[Iterator[Block]]:
    """A file, plain, gzip or zstd, in blocks of whole lines.

    Use it in a ``with`` statement. The file is then closed at once when a line stops the load, and
    not only when the error is freed.

    If gzip data is corrupt, the lines before the fault are still yielded. The fault itself is then
    reported. A line over `LINE_LIMIT` bytes is a fault and left out.
    """
    with closing(_blocks(path, faults)) as generator:
        yield generator


def _too_long(path: Path, number: int) -> FeedError:
    return FeedError(f"the line is longer than {LINE_LIMIT} bytes", path=path, line=number)


def _blocks(path: Path, faults: Faults) -> Generator[Block, None, None]:
    number = 1
    rest: list[bytes] = []
    held = 0
    skipping = False  # within a line that is too long
    try:
        with open_stream(path) as stream:
            # One read of the underlying file at a time, so that data before a fault is not lost.
            while chunk := stream.read1(BLOCK_BYTES):
                first_end = chunk.find(b"\n") + 1
                if not first_end and skipping:
                    continue
                if held + (first_end or len(chunk)) > LINE_LIMIT + 1 and not skipping:
                    faults.report(_too_long(path, number))
                    rest, held, skipping = [], 0, True
                if skipping:
                    if not first_end:
                        continue
                    chunk, number, skipping = chunk[first_end:], number + 1, False
                end = chunk.rfind(b"\n") + 1
                if not end:
                    rest.append(chunk)
                    held += len(chunk)
                    continue
                block = Block(number, b"".join((*rest, chunk[:end])))
                rest, held = [chunk[end:]], len(chunk) - end
                yield block
                number += block.content.count(b"\n")
    except READ_ERRORS as error:
        faults.report(FeedError(f"cannot be read any further: {error}", path=path, line=number))
        return
    if held:
        yield Block(number, b"".join(rest))


NumberedLines = Generator[tuple[int, bytes], None, None]
PlacedLines = Generator[tuple[Place, bytes], None, None]


def numbered_lines(path: Path, faults: Faults) -> closing[NumberedLines]:
    """Yield the lines of a file, numbered from 1 and without their line ends."""
    return closing(_numbered_lines(path, faults))


def _numbered_lines(path: Path, faults: Faults) -> NumberedLines:
    with blocks(path, faults) as all_blocks:
        for first, content in all_blocks:
            lines = content.split(b"\n")
            if not lines[-1]:
                lines.pop()  # the block ends with a line end
            for number, line in enumerate(lines, first):
                yield number, line.rstrip(b"\r\n")


def _placed_lines(source: Source) -> PlacedLines:
    for path in source.paths:
        with numbered_lines(path, source.faults) as lines:
            for number, line in lines:
                yield Place(path, number), line


def first_lines(path: Path, count: int) -> list[bytes]:
    """The first lines of a file, as far as they can be read, to find its format."""
    lines: list[bytes] = []
    try:
        with open_stream(path) as stream:
            while len(lines) < count and (line := stream.readline(FIRST_LINE_LIMIT)):
                lines.append(line)
    except FeedError as error:
        if error.field == COMPRESSION:
            raise
    except READ_ERRORS:
        pass
    return lines


def first_line(path: Path) -> bytes:
    """The first line of a file, as far as it can be read; else empty."""
    return next(iter(first_lines(path, 1)), b"")
