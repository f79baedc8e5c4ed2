"""What was signed, on disk before it is sent: the memory that a crash leaves.

A journal is a file of frames. One `commit` writes a frame, or several where one would be too long,
and syncs them; a frame is good or torn as a whole, and nothing in it was sent before the sync had
returned::

    0        4        8        12
    | "VXJ1" | length | crc 32 | records ...      little-endian; the sum is over the records

A record is a byte that says what it is, and its fields, see `Header`, `Signed`, `Ended`, `Remains`,
`Capture`, `Summary`. There is no key material in any of them: a signed transaction is what the
whole world may see.

A torn frame at the end, as a crash leaves it, was never sent. It cannot be told from one that was,
and that the disk has damaged since: it is cut off, and kept beside the journal as ``NAME.torn``.
One in the middle means that the disk has lost what may have been sent: the journal is refused.

Where it has grown long, it is compacted: what is still to be known (what is under way, what rests,
how many ended how, the latest names) is written beside it as ``NAME.compact``, synced, and takes
its name. A crash leaves one of the two, each of them whole.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from glob import escape, glob
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias

import numpy as np
import numpy.typing as npt
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.core.records import TRANSACTION_DTYPE
from velox.errors import JournalError
from velox.solana.chain_ledger import Outcome
from velox.solana.files import open_regular, read_regular

__all__ = [
    "NOTHING_RESTS",
    "REMAINS_DTYPE",
    "RESTING_DTYPE",
    "Capture",
    "Ended",
    "Header",
    "Remains",
    "Signed",
    "SubmissionJournal",
    "Summary",
    "Unsettled",
    "journal_files",
    "journal_records",
    "read_journal",
]

MAGIC: Final = b"VXJ1"
_FRAME = struct.Struct("<4sII")
_HEADER = struct.Struct("<B32s32s")
_SIGNED = struct.Struct("<BQQHIQ32sHHHH")
_ENDED = struct.Struct("<BQBQHHH")
_GONE = struct.Struct("<BQ")
_SUMMARY = struct.Struct("<BQHII")
_ENDINGS = struct.Struct("<BQ")
_RECENT = struct.Struct("<64sQ")
_CAPTURE = struct.Struct("<B32sQ")
_REMAINS = struct.Struct("<BI")
_IS_HEADER, _IS_SIGNED, _IS_ENDED, _IS_SUMMARY, _IS_CAPTURE, _IS_REMAINS = range(1, 7)
# No commit writes more; a longer length in a frame is not one.
MAX_FRAME_BYTES: Final = 1 << 24
MAX_REASON_BYTES: Final = 512
#: Below this length a journal is not compacted; it may grow to four times what is left.
COMPACT_BYTES: Final = 1 << 26
# Rows that one summary holds: several are written where there are more.
ROWS_A_SUMMARY: Final = 1 << 16
# Names of transactions are kept twice as long as a blockhash lives, and sorted after so many.
RECENT_BLOCKS: Final = 300
RECENT: Final = 1024
#: An order of ours that rests on the chain.
RESTING_DTYPE: Final = np.dtype(
    [
        ("id", "<u8"),
        ("price", "<i8"),
        ("sequence", "<u8"),
        ("lots", "<u4"),
        ("side", "u1"),
        ("market", "u1"),
        ("unused", "<u2"),
    ]
)
NOTHING_RESTS: Final = np.zeros(0, RESTING_DTYPE)
#: What is left of one, in lots; 0 where it is gone.
REMAINS_DTYPE: Final = np.dtype(
    [("sequence", "<u8"), ("lots", "<u4"), ("market", "u1"), ("unused", "u1", (3,))]
)

Array: TypeAlias = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Header:
    """Whose journal it is: those who sign, and the cluster by the hash of its genesis.

    On another cluster every signature is unknown, and would look as if it had never landed.
    """

    payer: Pubkey
    genesis: Hash

    def pack(self) -> bytes:
        """Return its bytes."""
        return _HEADER.pack(_IS_HEADER, bytes(self.payer), bytes(self.genesis))


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction that is about to be sent.

    Attributes
    ----------
    number : int
        Its own, ascending.
    attempt : int
        1, or how often the orders inside have been signed.
    last_valid_block_height : int
    blockhash : Hash
    raw : bytes
        The transaction.
    orders : ndarray of TRANSACTION_DTYPE, shape (n,)
        The orders that it carries out.
    places : ndarray of TRANSACTION_DTYPE, shape (m,)
        What it places in the market, in its own order; empty where the carrier places nothing.
    cancels : tuple of int
        The chain's numbers of what it cancels there.
    volley, volley_size : int
        The number of the first that is sent with it, and how many are.
    """

    number: int
    attempt: int
    last_valid_block_height: int
    blockhash: Hash
    raw: bytes = field(repr=False)
    orders: Array
    places: Array
    cancels: tuple[int, ...] = ()
    volley: int = 0
    volley_size: int = 1

    @property
    def signature(self) -> Signature:
        """Signature: The name by which the chain knows it."""
        return Signature.from_bytes(self.raw[1:65])

    def pack(self) -> bytes:
        """Return its bytes."""
        head = _SIGNED.pack(
            _IS_SIGNED,
            self.number,
            self.volley,
            self.volley_size,
            self.attempt,
            self.last_valid_block_height,
            bytes(self.blockhash),
            len(self.raw),
            len(self.orders),
            len(self.places),
            len(self.cancels),
        )
        numbers = struct.pack(f"<{len(self.cancels)}Q", *self.cancels)
        return head + self.raw + self.orders.tobytes() + self.places.tobytes() + numbers


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a transaction.

    Attributes
    ----------
    number : int
        That of its `Signed`.
    outcome : Outcome
        ``LANDED``, ``FAILED`` or ``EXPIRED``: what is not known has not ended.
    slot : int
        Where it was executed; 0 where it was not.
    reason : str
        Why it failed.
    rests : ndarray of RESTING_DTYPE, shape (n,)
        What it left resting, that is known by number.
    gone : tuple of (int, int)
        Markets and numbers of what no longer rests.
    """

    number: int
    outcome: Outcome
    slot: int = 0
    reason: str = ""
    rests: Array = field(default_factory=NOTHING_RESTS.copy)
    gone: tuple[tuple[int, int], ...] = ()

    def pack(self) -> bytes:
        """Return its bytes."""
        reason = self.reason.encode("utf-8", "backslashreplace")[:MAX_REASON_BYTES]
        head = _ENDED.pack(
            _IS_ENDED,
            self.number,
            self.outcome,
            self.slot,
            len(reason),
            len(self.rests),
            len(self.gone),
        )
        return (
            head + reason + self.rests.tobytes() + b"".join(_GONE.pack(*each) for each in self.gone)
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """What is left of transactions that have ended, in a journal that was compacted.

    Attributes
    ----------
    next_number : int
        Every transaction so far has a smaller number.
    ended : dict of Outcome to int
        How many have ended how.
    recent : dict of Signature to int
        As in `Unsettled`.
    rests : ndarray of RESTING_DTYPE, shape (n,)
        What they left resting.
    """

    next_number: int
    ended: dict[Outcome, int] = field(default_factory=dict)
    recent: dict[Signature, int] = field(default_factory=dict)
    rests: Array = field(default_factory=NOTHING_RESTS.copy)

    def pack(self) -> bytes:
        """Return its bytes."""
        sizes = len(self.ended), len(self.recent), len(self.rests)
        return b"".join(
            (
                _SUMMARY.pack(_IS_SUMMARY, self.next_number, *sizes),
                *(_ENDINGS.pack(*each) for each in self.ended.items()),
                *(_RECENT.pack(bytes(name), last) for name, last in self.recent.items()),
                self.rests.tobytes(),
            )
        )


@dataclass(frozen=True, slots=True)
class Remains:
    """What others have left of orders that rest.

    Attributes
    ----------
    rows : ndarray of REMAINS_DTYPE, shape (n,)
    """

    rows: Array

    def pack(self) -> bytes:
        """Return its bytes."""
        return _REMAINS.pack(_IS_REMAINS, len(self.rows)) + self.rows.tobytes()


@dataclass(frozen=True, slots=True)
class Capture:
    """A file of bundles whose orders are about to be taken in, and are not to be once more.

    Attributes
    ----------
    digest : bytes
        SHA-256 of the whole file, 32 bytes.
    bundles : int
        How many there are in it.
    """

    digest: bytes
    bundles: int

    def pack(self) -> bytes:
        """Return its bytes."""
        return _CAPTURE.pack(_IS_CAPTURE, self.digest, self.bundles)


Record: TypeAlias = Header | Signed | Ended | Summary | Capture | Remains


@dataclass(slots=True)
class Unsettled:
    """What a journal leaves to do.

    Attributes
    ----------
    header : Header or None
        None in a journal that was just made.
    transactions : dict of int to Signed
        Transactions without a known end, by number.
    ended : dict of Outcome to int
        Transactions with one, counted.
    resting : dict of (int, int) to void of RESTING_DTYPE
        What rests on the chain, by market and number, oldest first.
    next_number : int
    recent : dict of Signature to int
        The names of the transactions that were signed last, ended or not, with the last block
        height at which each may execute: whoever signs the same bytes again signs nothing.
    captures : dict of bytes to int
        The captures that were begun, by SHA-256: how many bundles each has.
    """

    header: Header | None = None
    transactions: dict[int, Signed] = field(default_factory=dict)
    ended: dict[Outcome, int] = field(default_factory=dict)
    resting: dict[tuple[int, int], np.void] = field(default_factory=dict)
    next_number: int = 0
    recent: dict[Signature, int] = field(default_factory=dict)
    captures: dict[bytes, int] = field(default_factory=dict)

    def note(self, record: Record, *, path: object, offset: int | None) -> None:
        """Take a record into account.

        Raises
        ------
        JournalError
            It contradicts those before it.
        """
        if isinstance(record, Header):
            if self.header is not None:
                raise JournalError("a second header", path=path, offset=offset)
            self.header = record
        elif isinstance(record, Signed):
            if record.number < self.next_number:
                raise JournalError(
                    f"transaction {record.number} for a second time", path=path, offset=offset
                )
            self.transactions[record.number] = record
            self.next_number = record.number + 1
            self.recent[record.signature] = record.last_valid_block_height
            if len(self.recent) % RECENT == 0:
                self.forget()
        elif isinstance(record, Summary):
            self.next_number = max(self.next_number, record.next_number)
            for outcome, count in record.ended.items():
                self.ended[outcome] = self.ended.get(outcome, 0) + count
            self.recent.update(record.recent)
            self._rest(record.rests)
        elif isinstance(record, Remains):
            self._remain(record.rows)
        elif isinstance(record, Capture):
            self.captures[record.digest] = record.bundles
        else:
            if self.transactions.pop(record.number, None) is None:
                raise JournalError(
                    f"the end of transaction {record.number}, which is not under way",
                    path=path,
                    offset=offset,
                )
            self.ended[record.outcome] = self.ended.get(record.outcome, 0) + 1
            for number in record.gone:
                self.resting.pop(number, None)
            self._rest(record.rests)

    def _rest(self, rows: Array) -> None:
        for row in rows:
            self.resting[int(row["market"]), int(row["sequence"])] = row

    def _remain(self, rows: Array) -> None:
        for row in rows:
            former = self.resting.pop((int(row["market"]), int(row["sequence"])), None)
            if former is not None and row["lots"]:
                left = np.array([former], RESTING_DTYPE)
                left["lots"] = row["lots"]
                self._rest(left)

    def forget(self) -> None:
        """Drop the names whose bytes can long not execute any more."""
        oldest = max(self.recent.values(), default=0) - RECENT_BLOCKS
        self.recent = {each: last for each, last in self.recent.items() if last >= oldest}

    def records(self) -> Iterator[Record]:
        """Yield the records that leave a new journal with just this to do."""
        self.forget()
        if self.header is not None:
            yield self.header
        yield from (Capture(*each) for each in self.captures.items())
        yield from self.transactions.values()
        yield Summary(self.next_number, self.ended)
        names = iter(self.recent.items())
        while part := dict(islice(names, ROWS_A_SUMMARY)):
            yield Summary(self.next_number, recent=part)
        rows = iter(self.resting.values())
        while some := list(islice(rows, ROWS_A_SUMMARY)):
            yield Summary(self.next_number, rests=np.array(some, RESTING_DTYPE))


def journal_files(path: str | os.PathLike[str]) -> list[tuple[str, str]]:
    """Name the files that a journal consists of, there or not: what each is, and its path."""
    real = os.path.realpath(path)
    torn = [f"{real}.torn", *glob(f"{escape(real)}.torn.*")]
    return [
        ("journal", os.fspath(path)),
        ("journal's .compact", f"{real}.compact"),
        *(("journal's .torn", each) for each in torn),
    ]


def read_journal(path: str | os.PathLike[str]) -> Unsettled:
    """Read a journal without opening it for writing, also while another process has it open.

    Raises
    ------
    JournalError
        It cannot be read, or holds what no journal does.
    """
    found, _ = _replay(_bytes_of(path), path)
    return found


def journal_records(path: str | os.PathLike[str]) -> Iterator[Record]:
    """Yield every record of a journal, in order, up to a torn end.

    Raises
    ------
    JournalError
        It cannot be read, or holds what no journal does.
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
        Made, readable by its owner alone, if it is not there.
    compact_bytes : int
        It is compacted where it is longer than this, and four times as long as what is left.

    Attributes
    ----------
    path : str
    unsettled : Unsettled
        What was in it when it was opened, and what has been committed since.
    torn_bytes : int
        How many bytes after its last good frame were cut off when it was opened.
    torn_path : str or None
        Where they are kept, readable by their owner alone; None where there were none. A
        transaction in them, if it was sent, is not followed.

    Raises
    ------
    JournalError
        It cannot be opened or read, another process has it open, or it is damaged; the message
        names the path, and the byte where there is one.

    Notes
    -----
    Thread-safety: one thread. The file is locked against other processes.
    """

    def __init__(self, path: str | os.PathLike[str], *, compact_bytes: int = COMPACT_BYTES) -> None:
        self.path = os.fspath(path)
        # A link stays a link, to the compacted file.
        self._real = os.path.realpath(path)
        try:
            self._fd = self._open()
        except OSError as error:
            raise (error if isinstance(error, JournalError) else self._refusal(error)) from error
        try:
            # What a crash left of a compaction: no name of ours, and never one.
            with suppress(OSError):
                os.unlink(self._compacted)
            data = self._read()
            self.unsettled, good = _replay(data, self.path)
            self.torn_bytes = len(data) - good
            self.torn_path = self._keep(data[good:]) if self.torn_bytes else None
            # The names first: what was torn off is safe before it is cut.
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
        """Write what is about to be cut off beside the journal, and return under which name."""
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
            # Then nothing is cut.
            raise JournalError(error.strerror or repr(error), path=path) from error
        return path

    def append(self, record: Record) -> None:
        """Note a record for the next `commit`.

        Raises
        ------
        JournalError
            It contradicts those before it.
        """
        self.unsettled.note(record, path=self.path, offset=None)
        self._waiting.append(record)

    def commit(self) -> None:
        """Write what was noted, and return once the disk has it.

        Raises
        ------
        JournalError
            It does not: nothing that was noted may be sent, and no later commit is taken.
        """
        if self._failed:
            raise JournalError("an earlier write failed; it takes no more", path=self.path)
        if not self._waiting:
            return
        data = _framed([each.pack() for each in self._waiting])
        try:
            _write(self._fd, data, self._end)
            os.fsync(self._fd)
        except OSError as error:
            # After a sync that failed nobody knows what the disk holds.
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
            # The long one is as good; a disk that is full need not be asked at each commit.
            self._compact_at = 2 * self._end
            with suppress(OSError):
                os.unlink(self._compacted)

    def _compact(self) -> None:
        data = _framed([each.pack() for each in self.unsettled.records()])
        self._compact_at = max(self._least, 4 * len(data))
        if self._end <= self._compact_at:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with self._directory() as directory:
            new = os.open(self._compacted, flags, 0o600)
            try:
                # Before it has the name: who opens that shall find it locked.
                fcntl.flock(new, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _write(new, data, 0)
                os.fsync(new)
                os.replace(self._compacted, self._real)
            except BaseException as error:
                # An interrupt may have come after the replacement.
                self._failed = not isinstance(error, OSError)
                os.close(new)
                raise
            old, self._fd, self._end = self._fd, new, len(data)
            os.close(old)
            # A crash must not take the name back from what is written from now on.
            self._failed = not _sync_directory(directory)

    @property
    def _compacted(self) -> str:
        return f"{self._real}.compact"

    @property
    def size(self) -> int:
        """int: Bytes that are safe."""
        return self._end

    def close(self) -> None:
        """Let go of the file; what was not committed is lost. Idempotent."""
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
        """Open and lock the file of this name, and not one that a compaction has replaced."""
        while True:
            fd = open_regular(self._real, os.O_RDWR | os.O_CREAT)
            try:
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
        # A disk that is full is no bad usage.
        refusal.errno = error.errno
        return refusal


def _sync_directory(directory: int) -> bool:
    """Make the name of a new file as durable as what is in it; whether it is."""
    try:
        os.fsync(directory)
    except OSError as error:
        # Some file systems do not sync directories, and need not.
        return error.errno in (errno.EINVAL, errno.ENOTSUP)
    return True


def _write(fd: int, data: bytes, offset: int) -> None:
    left = memoryview(data)
    while left:
        written = os.pwrite(fd, left, offset)
        left, offset = left[written:], offset + written


def _framed(records: list[bytes]) -> bytes:
    """Records as frames, none longer than a reader takes."""
    frames, begin, size = [], 0, 0
    for index, record in enumerate(records):
        if size + len(record) > MAX_FRAME_BYTES:
            frames.append(b"".join(records[begin:index]))
            begin, size = index, 0
        size += len(record)
    frames.append(b"".join(records[begin:]))
    return b"".join(_FRAME.pack(MAGIC, len(each), zlib.crc32(each)) + each for each in frames)


def _replay(data: bytes, path: object) -> tuple[Unsettled, int]:
    """Return what the frames leave to do, and where the good ones end."""
    found, offset = Unsettled(), 0
    while offset < len(data):
        records = _frame_at(data, offset)
        if records is None:
            if _any_frame_after(data, offset):
                raise JournalError("damaged, with good frames after it", path=path, offset=offset)
            if offset == 0 and not MAGIC.startswith(data[:4]) and data.strip(b"\0"):
                raise JournalError("no journal of submissions", path=path, offset=0)
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
    at = 0
    try:
        while at < len(data):
            record, at = _record_at(data, at)
            yield record
    except (struct.error, ValueError, IndexError) as error:
        # Its sum is right: this was written so.
        raise JournalError(f"a record that is none: {error}", path=path, offset=offset) from error


def _record_at(data: bytes, at: int) -> tuple[Record, int]:
    kind = data[at]
    if kind == _IS_HEADER:
        _, payer, genesis = _HEADER.unpack_from(data, at)
        return Header(Pubkey.from_bytes(payer), Hash.from_bytes(genesis)), at + _HEADER.size
    if kind == _IS_SIGNED:
        head = _SIGNED.unpack_from(data, at)
        _, number, volley, together, attempt, height, blockhash, *sizes = head
        raw_size, orders, places, cancels = sizes
        at += _SIGNED.size
        raw = _slice(data, at, raw_size)
        at += raw_size
        if raw_size < 65:
            raise ValueError(f"a transaction of {raw_size} bytes")
        carried, at = _array(data, at, orders, TRANSACTION_DTYPE)
        placed, at = _array(data, at, places, TRANSACTION_DTYPE)
        numbers = struct.unpack_from(f"<{cancels}Q", data, at)
        hash = Hash.from_bytes(blockhash)
        signed = Signed(
            number, attempt, height, hash, raw, carried, placed, numbers, volley, together
        )
        return signed, at + 8 * cancels
    if kind == _IS_ENDED:
        _, number, outcome, slot, reason_size, rests, gone = _ENDED.unpack_from(data, at)
        at += _ENDED.size
        reason = _slice(data, at, reason_size).decode("utf-8", "replace")
        at += reason_size
        resting, at = _array(data, at, rests, RESTING_DTYPE)
        end = at + gone * _GONE.size
        cancelled = tuple(_GONE.iter_unpack(_slice(data, at, gone * _GONE.size)))
        return Ended(number, Outcome(outcome), slot, reason, resting, cancelled), end
    if kind == _IS_REMAINS:
        _, count = _REMAINS.unpack_from(data, at)
        rows, at = _array(data, at + _REMAINS.size, count, REMAINS_DTYPE)
        return Remains(rows), at
    if kind == _IS_SUMMARY:
        _, number, endings, names, rests = _SUMMARY.unpack_from(data, at)
        at += _SUMMARY.size
        ended = _ENDINGS.iter_unpack(_slice(data, at, endings * _ENDINGS.size))
        at += endings * _ENDINGS.size
        recent = _RECENT.iter_unpack(_slice(data, at, names * _RECENT.size))
        at += names * _RECENT.size
        resting, at = _array(data, at, rests, RESTING_DTYPE)
        summary = Summary(
            number,
            {Outcome(outcome): count for outcome, count in ended},
            {Signature.from_bytes(name): last for name, last in recent},
            resting,
        )
        return summary, at
    if kind == _IS_CAPTURE:
        _, digest, bundles = _CAPTURE.unpack_from(data, at)
        return Capture(digest, bundles), at + _CAPTURE.size
    raise ValueError(f"kind {kind}")


def _slice(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("cut short")
    return data[at : at + size]


def _array(data: bytes, at: int, count: int, dtype: np.dtype[np.void]) -> tuple[Array, int]:
    size = count * dtype.itemsize
    return np.frombuffer(_slice(data, at, size), dtype), at + size
