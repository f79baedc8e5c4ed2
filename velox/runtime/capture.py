"""Captures: bundles in a ``.npy`` file that grows while a pipeline runs.

The header has a fixed length and says that there are no bundles until the capture is finished; the
bundles follow it back to back. A capture that was cut off, by a kill or a crash, therefore holds
all that was written, and `recover_capture` only has to count it.

The records do not say how many decimals their prices have. A file beside the capture does; see
`velox.runtime.sidecar`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shlex
import stat
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from velox.core.instrument import Instrument
from velox.core.records import BUNDLE_DTYPE
from velox.errors import CaptureError, FeedError
from velox.runtime.sidecar import (
    capture_error,
    refuse_foreign_sidecar,
    remove_sidecar,
    write_all,
    write_sidecar,
)

__all__ = [
    "HEADER_BYTES",
    "begin_capture",
    "finish_capture",
    "recover_capture",
    "refuse_unfinished",
]

HEADER_BYTES = 1024


def header(bundles: int) -> bytes:
    """The head of a ``.npy`` file, format 1.0, padded to `HEADER_BYTES`."""
    fields = {
        "descr": np.lib.format.dtype_to_descr(BUNDLE_DTYPE),
        "fortran_order": False,
        "shape": (bundles,),
    }
    magic = np.lib.format.magic(1, 0)
    length = HEADER_BYTES - len(magic) - 2
    text = repr(fields).encode("latin1").ljust(length - 1) + b"\n"
    return magic + length.to_bytes(2, "little") + text


def begin_capture(path: str | os.PathLike[str], instruments: Sequence[Instrument] = ()) -> BinaryIO:
    """Create the file, or empty it, and write a header that promises nothing yet.

    Parameters
    ----------
    path : path
    instruments : sequence of Instrument
        The markets of the records, for the sidecar. Without them a sidecar that an earlier capture
        left is removed.

    Raises
    ------
    CaptureError
        The file or its sidecar cannot be written. A new file is removed again.
    """
    made = not os.path.lexists(path)
    try:
        file = _open_locked(path, os.O_CREAT)
        try:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            if regular:
                refuse_foreign_sidecar(path)
                file.truncate(0)
            write_all(file, header(0))
            if regular:
                if instruments:
                    write_sidecar(path, instruments)
                else:
                    remove_sidecar(path)
        except OSError:
            if made:
                os.unlink(path)
            file.close()
            raise
    except CaptureError:
        raise
    except OSError as error:
        raise capture_error("cannot be created", path, error) from error
    return file


def _open_locked(path: str | os.PathLike[str], flags: int) -> BinaryIO:
    """Open the file for reading and writing, unless another process is writing a capture to it.

    The lock goes with the descriptor, so a killed writer leaves none behind.
    """
    # O_NONBLOCK: opening a pipe must not wait for its reader.
    descriptor = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | flags, 0o666)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            raise OSError(errno.ESPIPE, "it is a pipe, but a capture is a file")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(errno.EBUSY, "another capture is being written there") from None
        return open(descriptor, "r+b" if stat.S_ISREG(mode) else "wb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def finish_capture(file: BinaryIO, path: str | os.PathLike[str], bundles: int) -> None:
    """Cut off a partial bundle, write the true header, and close."""
    try:
        with file:
            file.truncate(HEADER_BYTES + bundles * BUNDLE_DTYPE.itemsize)
            file.seek(0)
            write_all(file, header(bundles))
            os.fsync(file.fileno())
    except OSError as error:
        raise capture_error("cannot be completed", path, error) from error


def recover_capture(path: str | os.PathLike[str]) -> int:
    """Repair a capture that was cut off by a kill or a crash.

    Parameters
    ----------
    path : path
        The file that `CaptureOutput` was writing. It is changed in place. A complete capture is not
        changed.

    Returns
    -------
    int
        How many bundles it holds.

    Raises
    ------
    CaptureError
        The file is not a capture, or cannot be read or written.
    """
    try:
        with _open_locked(path, 0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file")
            head = file.read(HEADER_BYTES)
            promised = _promised_bundles(head, path)
            written = max(0, os.fstat(file.fileno()).st_size - HEADER_BYTES)
            bundles = written // BUNDLE_DTYPE.itemsize
            if promised == bundles and written % BUNDLE_DTYPE.itemsize == 0:
                return bundles
            bundles = _whole_bundles(path, bundles)
            finish_capture(file, path, bundles)
            return bundles
    except OSError as error:
        if isinstance(error, CaptureError):
            raise
        raise capture_error("cannot be recovered", path, error) from error


def refuse_unfinished(bundles: npt.NDArray[np.void], path: str | os.PathLike[str]) -> None:
    """Refuse a file that holds more bundles than its header says.

    Parameters
    ----------
    bundles : memmap
        The bundles that the header counts, as ``numpy.load`` maps them.
    path : path
        The file.

    Raises
    ------
    FeedError
        The file is longer than its header says.
    """
    promised = getattr(bundles, "offset", 0) + bundles.nbytes
    if os.stat(path).st_size > promised:
        raise FeedError(
            "cut off by a kill, or still being written: "
            f"{shlex.join(['velox', 'recover', os.fspath(path)])} makes it whole",
            path=path,
        )


def _whole_bundles(path: str | os.PathLike[str], written: int) -> int:
    """Count the bundles before the first invalid one.

    Disk blocks that a crash lost read as zeros.
    """
    if written == 0:
        return 0
    found = np.memmap(path, BUNDLE_DTYPE, "r", HEADER_BYTES, (written,))
    whole = (found["count"] >= 1) & (found["count"] <= 16) & (found["reason"] <= 3)
    return written if whole.all() else int(np.argmin(whole))


def _promised_bundles(head: bytes, path: object) -> int:
    expected = header(0)
    shape = head[expected.find(b"'shape'") :]
    digits = shape[shape.find(b"(") + 1 : shape.find(b",)")].decode("latin1")
    if not (digits.isascii() and digits.isdecimal()) or head != header(int(digits)):
        raise CaptureError("not a capture of bundles", path=path)
    return int(digits)
