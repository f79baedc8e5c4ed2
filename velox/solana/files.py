"""Files that must be regular ones: no other is sure to end, or to be there at once."""

from __future__ import annotations

import errno
import os
import stat

__all__ = ["open_regular", "read_regular"]


def open_regular(path: str | os.PathLike[str], flags: int = os.O_RDONLY) -> int:
    """Open a file as ``os.open`` does; one that is made is its owner's alone.

    Raises
    ------
    OSError
        It cannot be opened, or is not a regular file.
    """
    # O_NONBLOCK: to open a pipe must not wait for its writer.
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "is not a regular file", os.fspath(path))
    return descriptor


def read_regular(path: str | os.PathLike[str]) -> bytes:
    """Return what is in a file.

    Raises
    ------
    OSError
        It cannot be read, or is not a regular file.
    """
    with open(open_regular(path), "rb") as file:
        return file.read()
