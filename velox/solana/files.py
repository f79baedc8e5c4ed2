"""Opening regular files only: reading a pipe or a device may block, or never end."""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["open_regular", "read_regular"]


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a file as ``os.open`` does. A new file has mode 0600.

    Raises
    ------
    OSError
        It cannot be opened, or is not a regular file.
    """
    # O_NONBLOCK: opening a pipe must not wait for its writer.
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))
    return descriptor


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return the content of a file.

    Raises
    ------
    OSError
        It cannot be read, or is not a regular file.
    """
    with open(open_regular(path), "rb") as file:
        return file.read()
