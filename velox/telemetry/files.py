"""Files whose errors contain their name, and files that appear only when they are complete."""

from __future__ import annotations

import errno
import io
import os
import select
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["naming", "replacing", "writing"]

# How long a pipe may be full, and how often a wait for it looks whether to give up.
PATIENCE_S = 5.0
LOOK_AGAIN_S = 0.05


def _never() -> int:
    return 0


@contextmanager
def naming(name: str | os.PathLike[str]) -> Iterator[None]:
    """Put a file's name into each OSError of the block. The block must use only that file.

    The system's error names a file that cannot be opened, but not one that cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), os.fspath(name)) from error


class _File(io.FileIO):
    """A file that puts its name into each error of the system.

    A buffered write may fail at a later write, flush or close. So the file object itself adds the
    name.

    A pipe is opened without blocking. A pipe that nobody reads is refused. One that stays full is
    given up after some seconds, or at the next of the `requests` to stop.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: str,
        name: str | os.PathLike[str],
        requests: Callable[[], int],
    ):
        self._known_as = os.fspath(name)
        self._requests = requests
        # Whether to remove the file: it is new, and nothing could be written to it.
        self._made = not os.path.lexists(path)
        self._refused = False
        with naming(self._known_as):
            super().__init__(path, mode, opener=_open_at_once)

    def write(self, content: ReadableBuffer, /) -> int:
        try:
            with naming(self._known_as):
                # None: the pipe is full.
                while (written := cast("int | None", super().write(content))) is None:
                    self._wait_for_room()
                return written
        except OSError:
            self._refused = True
            raise

    def _wait_for_room(self) -> None:
        look = select.poll()
        look.register(self, select.POLLOUT)
        before, end = self._requests(), time.monotonic() + PATIENCE_S
        while not look.poll(LOOK_AGAIN_S * 1000):
            if self._requests() > before or time.monotonic() > end:
                raise OSError(errno.EAGAIN, "the pipe is full, and its reader takes nothing")

    def close(self) -> None:
        empty = self._made and self._refused and not self.closed and not self.seek(0, os.SEEK_END)
        with naming(self._known_as):
            super().close()
        if empty:
            with suppress(OSError):
                os.unlink(self.name)


def _open_at_once(path: str, flags: int) -> int:
    """Open a file, or a pipe that somebody reads."""
    try:
        return os.open(path, flags | os.O_NONBLOCK, 0o666)
    except OSError as error:
        if error.errno == errno.ENXIO and stat.S_ISFIFO(os.stat(path).st_mode):
            raise OSError(errno.ENXIO, "nobody reads this pipe; start its reader first") from None
        raise


def writing(path: str | os.PathLike[str], *, requests: Callable[[], int] = _never) -> IO[bytes]:
    """Open a file to be written from its beginning. Its errors contain its name.

    If the file is new and nothing could be written to it, it is removed again. A pipe must have a
    reader. If the reader takes nothing for 5 s, the write fails.

    Parameters
    ----------
    path : path
    requests : callable
        The number of requests to stop so far. A new one ends a wait for the reader of a pipe.

    Returns
    -------
    binary file
        Buffered.

    Raises
    ------
    OSError
        The file cannot be created or, later, written; its `filename` is `path`.
    """
    return _buffered(path, "w", path, requests)


def _buffered(
    path: str | os.PathLike[str],
    mode: str,
    name: str | os.PathLike[str],
    requests: Callable[[], int],
) -> IO[bytes]:
    return cast("IO[bytes]", io.BufferedWriter(_File(path, mode, name, requests)))


@contextmanager
def replacing(
    path: str | os.PathLike[str], *, requests: Callable[[], int] = _never
) -> Iterator[IO[bytes]]:
    """Open a file that takes its name only once it is complete.

    Until then it is in the same folder, as ``.NAME.PID.part``. If the block raises, it is removed,
    and the old file at `path` stays unchanged. A path that is not a regular file, such as a pipe or
    ``/dev/stdout``, is written directly, as `writing` does it.

    Parameters
    ----------
    path : path
    requests : callable
        As in `writing`.

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
    # Opened by `path`, since the real path of a descriptor, such as /dev/stdout, may not exist.
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        with _buffered(path, "w", path, requests) as file:
            yield file
        return
    # A link stays a link, and points to the new file.
    target = Path(os.path.realpath(path))
    if target.is_dir():
        raise IsADirectoryError(21, os.strerror(21), os.fspath(path))
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    file = _buffered(part, "x", path, requests)
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
