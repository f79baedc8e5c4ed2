"""The journal: signed transactions, on disk before they are sent. It survives a crash.

A journal is a file of frames. `commit` writes one frame, or several if one would be too long, and
syncs the file. Nothing in a frame is sent before the sync has returned. A frame is valid or torn as
a whole::

    0        4        8        12
    | "VXJ1" | length | crc 32 | records ...      little-endian; the sum is over the records

A crash leaves a torn frame at the end, which was never sent. A sent frame that the disk damaged
later looks the same. So a torn end is cut off, and kept beside the journal as ``NAME.torn``. A torn
frame in the middle means that the disk lost transactions that may have been sent. The journal is
then refused.

A long journal is compacted. The open work (transactions in flight, resting orders, counts and the
newest signatures) is written beside it as ``NAME.compact``, synced, and renamed over it. A crash
leaves either file whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape, glob
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from velox.errors import JournalError
from velox.solana.files import open_regular, read_regular
from velox.solana.journal.records import Record, pack_record, unpack_records
from velox.solana.journal.state import JournalState

__all__ = [
    "COMPACT_BYTES",
    "SubmissionJournal",
    "journal_files",
    "journal_records",
    "read_journal",
]

MAGIC: Final = b"VXJ1"
_FRAME = struct.Struct("<4sII")
# The longest frame that a commit writes. A greater length means that the frame is torn.
MAX_FRAME_BYTES: Final = 1 << 24
#: A shorter journal is not compacted. A longer one may grow to four times its open work.
COMPACT_BYTES: Final = 1 << 26


def journal_files(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Return the name and path of each file of a journal, existing or not."""
    real = os.path.realpath(path)
    torn = [f"{real}.torn", *glob(f"{escape(real)}.torn.*")]
    return [
        ("journal", os.fspath(path)),
        ("journal's .compact", f"{real}.compact"),
        *(("journal's .torn", each) for each in torn),
    ]


def read_journal(path: str | os.PathLike[str]) -> JournalState:
    """Read a journal, also while another process has it open.

    Raises
    ------
    JournalError
        It cannot be read, or it is damaged.
    """
    found, _ = _replay(_bytes_of(path), path)
    return found


def journal_records(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Yield the records of a journal, in order, up to a torn end.

    Raises
    ------
    JournalError
        It cannot be read, or it is damaged.
    """
    data, offset = _bytes_of(path), 0
    while (records := _frame_at(data, offset)) is not None:
        yield from _records_in(records, path, offset)
        offset += _FRAME.size + len(records)


def _bytes_of(path: str | os.PathLike[str]) -> bytes:
    try:
        return read_regular(path)
    except OSError as error:
        raise JournalError(error.strerror or "cannot be read", path=path) from error


class SubmissionJournal:
    """The journal of one submitter.

    Parameters
    ----------
    path : path
        Created with mode 0600 if it does not exist.
    compact_bytes : int
        It is compacted if it is longer than this and than four times its open work.

    Attributes
    ----------
    path : str
    state : JournalState
        The state of the file when it was opened, and of all records since.
    torn_bytes : int
        Bytes after the last valid frame that were cut off when it was opened.
    torn_path : str or None
        The file that keeps them, of mode 0600; None if there were none. A transaction in them, if
        it was sent, is not followed.

    Raises
    ------
    JournalError
        It cannot be opened or read, another process has it open, or it is damaged. `path` and
        `offset` say where.

    Notes
    -----
    Thread-safety: one thread. The file is locked against other processes.
    """

    def __init__(self, path: str | os.PathLike[str], *, compact_bytes: int = COMPACT_BYTES) -> None:
        self.path = os.fspath(path)
        # A symbolic link stays a link to the compacted file.
        self._real = os.path.realpath(path)
        try:
            self._fd = self._open()
        except OSError as error:
            raise (error if isinstance(error, JournalError) else self._refusal(error)) from error
        try:
            # Left by a crash during a compaction. It never became the journal.
            with suppress(OSError):
                os.unlink(self._compacted)
            data = self._read()
            self.state, good = _replay(data, self.path)
            self.torn_bytes = len(data) - good
            self.torn_path = self._keep(data[good:]) if self.torn_bytes else None
            # Sync the directory first: the torn bytes are safe before they are cut off.
            with self._directory() as directory:
                _sync_directory(directory)
            os.ftruncate(self._fd, good)
            os.fsync(self._fd)
        except OSError as error:
            os.close(self._fd)
            raise (error if isinstance(error, JournalError) else self._refusal(error)) from error
        self._end = good
        self._waiting: list[Record] = []
        self._failed = False
        self._least = self._compact_at = compact_bytes
        self._compact_if_long()

    def _keep(self, torn: bytes) -> str:
        """Save torn bytes beside the journal, and return the path."""
        path, number = f"{self._real}.torn", 0
        while os.path.lexists(path):
            number += 1
            path = f"{self._real}.torn.{number}"
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                _write(fd, torn, 0)
                os.fsync(fd)
            except OSError:
                os.unlink(path)
                raise
            finally:
                os.close(fd)
        except OSError as error:
            # Nothing is cut off in that case.
            raise JournalError(error.strerror or repr(error), path=path) from error
        return path

    def append(self, record: Record) -> None:
        """Add a record to the next `commit`.

        Raises
        ------
        JournalError
            The record contradicts an earlier one.
        """
        self.state.note(record, path=self.path, offset=None)
        self._waiting.append(record)

    def commit(self) -> None:
        """Write the appended records, and return once the disk has them.

        Raises
        ------
        JournalError
            The disk failed. Send nothing of what was appended; every later commit fails too.
        """
        if self._failed:
            raise JournalError(
                "an earlier write failed: the journal takes no more records", path=self.path
            )
        if not self._waiting:
            return
        data = _framed([pack_record(each) for each in self._waiting])
        try:
            _write(self._fd, data, self._end)
            os.fsync(self._fd)
        except OSError as error:
            # After a failed sync the content of the disk is unknown.
            self._failed = True
            raise self._refusal(error, offset=self._end or None) from error
        self._end += len(data)
        self._waiting.clear()
        self._compact_if_long()

    def _compact_if_long(self) -> None:
        if self._end <= self._compact_at:
            return
        try:
            self._compact()
        except OSError:
            # The long journal is still valid. Do not try again at each commit on a full disk.
            self._compact_at = 2 * self._end
            with suppress(OSError):
                os.unlink(self._compacted)

    def _compact(self) -> None:
        data = _framed([pack_record(each) for each in self.state.records()])
        self._compact_at = max(self._least, 4 * len(data))
        if self._end <= self._compact_at:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with self._directory() as directory:
            new = os.open(self._compacted, flags, 0o600)
            try:
                # Lock it before the rename, so that no other process can open it unlocked.
                fcntl.flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _write(new, data, 0)
                os.fsync(new)
                os.replace(self._compacted, self._real)
            except BaseException as error:
                # An interrupt may have come after the rename.
                self._failed = not isinstance(error, OSError)
                os.close(new)
                raise
            old, self._fd, self._end = self._fd, new, len(data)
            os.close(old)
            # Sync the directory, so that a crash cannot undo the rename after later writes.
            self._failed = not _sync_directory(directory)

    @property
    def _compacted(self) -> str:
        return f"{self._real}.compact"

    @property
    def size(self) -> int:
        """int: Bytes on disk."""
        return self._end

    def close(self) -> None:
        """Close the file. Records without a commit are lost. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._failed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SubmissionJournal({self.path!r})"

    def _open(self) -> int:
        """Open and lock the current file, not one that a compaction has replaced."""
        while True:
            fd = open_regular(self._real, os.O_RDWR | os.O_CREAT)
            try:
                self._refuse_others(os.fstat(fd))
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                with suppress(FileNotFoundError):
                    if os.path.samestat(os.fstat(fd), os.stat(self._real)):
                        return fd
                os.close(fd)
            except OSError as error:
                os.close(fd)
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise
                raise JournalError("another process has it open", path=self.path) from None

    def _refuse_others(self, status: os.stat_result) -> None:
        """Refuse a file that another user could have written."""
        if status.st_uid != os.geteuid():
            raise JournalError(f"belongs to user {status.st_uid}, not to you", path=self.path)
        if status.st_mode & 0o022:
            raise JournalError(
                f"its mode {stat.S_IMODE(status.st_mode):04o} lets others write it; use chmod 600",
                path=self.path,
            )

    def _read(self) -> bytes:
        data = bytearray()
        while part := os.pread(self._fd, 1 << 20, len(data)):
            data += part
        return bytes(data)

    @contextmanager
    def _directory(self) -> Iterator[int]:
        directory = os.open(Path(self._real).parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield directory
        finally:
            os.close(directory)

    def _refusal(self, error: OSError, *, offset: int | None = None) -> JournalError:
        refusal = JournalError(error.strerror or repr(error), path=self.path, offset=offset)
        # By this number, the caller distinguishes a full disk from wrong usage.
        refusal.errno = error.errno
        return refusal


def _sync_directory(directory: int) -> bool:
    """Sync a directory, so that a rename is durable; return whether it is."""
    try:
        os.fsync(directory)
    except OSError as error:
        # Some file systems cannot sync a directory, and need no sync.
        return error.errno in (errno.EINVAL, errno.ENOTSUP)
    return True


def _write(fd: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(fd, left, offset)
        left, offset = left[written:], offset + written


def _framed(records: list[bytes]) -> bytes:
    """Return records as frames, none longer than `MAX_FRAME_BYTES`."""
    frames, begin, size = [], 0, 0
    for index, record in enumerate(records):
        if size + len(record) > MAX_FRAME_BYTES:
            frames.append(b"".join(records[begin:index]))
            begin, size = index, 0
        size += len(record)
    frames.append(b"".join(records[begin:]))
    return b"".join(_FRAME.pack(MAGIC, len(each), zlib.crc32(each)) + each for each in frames)


def _replay(data: bytes, path: object) -> tuple[JournalState, int]:
    """Return the state of the valid frames, and where they end."""
    found, offset = JournalState(), 0
    while offset < len(data):
        records = _frame_at(data, offset)
        if records is None:
            if _any_frame_after(data, offset):
                raise JournalError(
                    "frame is damaged, and valid frames follow it", path=path, offset=offset
                )
            if offset == 0 and not MAGIC.startswith(data[:4]) and data.strip(b"\0"):
                raise JournalError("file is not a submission journal", path=path, offset=0)
            break
        for record in _records_in(records, path, offset):
            found.note(record, path=path, offset=offset)
        offset += _FRAME.size + len(records)
    return found, offset


def _frame_at(data: bytes, offset: int) -> bytes | None:
    if len(data) - offset < _FRAME.size:
        return None
    magic, length, checksum = _FRAME.unpack_from(data, offset)
    records = data[offset + _FRAME.size : offset + _FRAME.size + length]
    if magic != MAGIC or not 0 < length <= MAX_FRAME_BYTES or len(records) < length:
        return None
    return records if zlib.crc32(records) == checksum else None


def _any_frame_after(data: bytes, offset: int) -> bool:
    at = data.find(MAGIC, offset + 1)
    while at >= 0:
        if _frame_at(data, at) is not None:
            return True
        at = data.find(MAGIC, at + 1)
    return False


def _records_in(data: bytes, path: object, offset: int) -> Iterator[Record]:
    try:
        yield from unpack_records(data)
    except (struct.error, ValueError, IndexError) as error:
        # The checksum is right, so this was written by something else.
        raise JournalError(f"corrupt journal record: {error}", path=path, offset=offset) from error
