"""Files whose errors name them, and files that appear whole or not at all."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["naming", "replacing", "writing"]


@contextmanager
def naming(name: str | os.PathLike[str]) -> Iterator[None]:
    """Put a name into each OSError of the block, which is to touch that one file and no other.

    The system names a file that cannot be opened, and none that cannot be written any further.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(name)) from error


class _File(io.FileIO):
    """A file that names itself, as a person knows it, wherever the system refuses it.

    The refusal of a buffered write comes at some later write, flush or close: only the file itself
    is there each time, and can tell it from another's.
    """

    def __init__(self, path: str | os.PathLike[str], mode: str, name: str | os.PathLike[str]):
        self._known_as = os.fspath(name)
        # Whether it is to go again: it was not there before, and nothing can be written to it.
        self._made = not os.path.lexists(path)
        self._refused = False
        with naming(self._known_as):
            super().__init__(path, mode)

    def write(self, content: ReadableBuffer, /) -> int:
        try:
            with naming(self._known_as):
                return super().write(content)
        except OSError:
            self._refused = True
            raise

    def close(self) -> None:
        empty = self._made and self._refused and not self.closed and not self.seek(0, os.SEEK_END)
        with naming(self._known_as):
            super().close()
        if empty:
            with suppress(OSError):
                os.unlink(self.name)


def writing(path: str | os.PathLike[str]) -> IO[bytes]:
    """Open a file to be written from its beginning, whose errors name it.

    One that was not there before, and that nothing could be written to, is removed again.

    Parameters
    ----------
    path : path

    Returns
    -------
    binary file
        Buffered.

    Raises
    ------
    OSError
        The file cannot be created or, later, written; its `filename` is `path`.
    """
    return _buffered(path, "w", path)


def _buffered(path: str | os.PathLike[str], mode: str, name: str | os.PathLike[str]) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedWriter(_File(path, mode, name)))


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file that takes its name only once it is complete.

    Until then it stands beside it, as ``.NAME.PID.part``; where the block raises, it is removed and
    what `path` named before stays as it was. What is no regular file, such as a pipe or
    ``/dev/stdout``, is written directly.

    Parameters
    ----------
    path : path

    Yields
    ------
    file : binary file

    Raises
    ------
    OSError
        The file cannot be created or written; its `filename` is `path`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "answer")
    >>> with replacing(path) as file:
    ...     _ = file.write(b"42")
    ...     path.exists()
    False
    >>> path.read_bytes()
    b'42'
    """
    # Not by its real path: that of a descriptor, as of /dev/stdout, need not be one.
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        with _buffered(path, "w", path) as file:
            yield file
        return
    # A link stays a link, to the new file.
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(21, os.strerror(21), os.fspath(path))
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    file = _buffered(part, "x", path)
    try:
        with file:
            yield file
            file.flush()
            with naming(path):
                os.fsync(file.fileno())
        with naming(path):
            os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
