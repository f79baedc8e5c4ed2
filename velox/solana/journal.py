"""What was signed, on disk before it is sent: the memory that a crash leaves.

A journal is a file of frames. One `commit` writes a frame, or several where one would be too long,
and syncs them; a frame is good or torn as a whole, and nothing in it was sent before the sync had
returned::

    0        4        8        12
    | "VXJ1" | length | crc 32 | records ...      little-endian; the sum is over the records

A record is a byte that says what it is, and its fields, see `Header`, `Signed`, `Ended`. There is
no key material in any of them: a signed transaction is what the whole world may see.

A torn frame at the end, as a crash leaves it, was never sent: it is cut off. One in the middle
means that the disk has lost what may have been sent: the journal is refused.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
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

__all__ = [
    "NOTHING_RESTS",
    "RESTING_DTYPE",
    "Ended",
    "Header",
    "Signed",
    "SubmissionJournal",
    "Unsettled",
    "journal_records",
    "read_journal",
]

MAGIC: Final = b"VXJ1"
_FRAME = struct.Struct("<4sII")
_HEADER = struct.Struct("<B32s32s")
_SIGNED = struct.Struct("<BQQHIQ32sHHHH")
_ENDED = struct.Struct("<BQBQHHH")
_GONE = struct.Struct("<BQ")
_IS_HEADER, _IS_SIGNED, _IS_ENDED = 1, 2, 3
# No commit writes more; a longer length in a frame is not one.
MAX_FRAME_BYTES: Final = 1 << 24
MAX_REASON_BYTES: Final = 512
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


Record: TypeAlias = Header | Signed | Ended


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
    """

    header: Header | None = None
    transactions: dict[int, Signed] = field(default_factory=dict)
    ended: dict[Outcome, int] = field(default_factory=dict)
    resting: dict[tuple[int, int], np.void] = field(default_factory=dict)
    next_number: int = 0
    recent: dict[Signature, int] = field(default_factory=dict)

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
                oldest = record.last_valid_block_height - RECENT_BLOCKS
                self.recent = {each: last for each, last in self.recent.items() if last >= oldest}
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
            for row in record.rests:
                self.resting[int(row["market"]), int(row["sequence"])] = row


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
        return Path(path).read_bytes()
    except OSError as error:
        raise JournalError(error.strerror or "cannot be read", path=path) from error


class SubmissionJournal:
    """The journal of one submitter.

    Parameters
    ----------
    path : path
        Made, readable by its owner alone, if it is not there.

    Attributes
    ----------
    path : str
    unsettled : Unsettled
        What was in it when it was opened, and what has been committed since.

    Raises
    ------
    JournalError
        It cannot be opened or read, another process has it open, or it is damaged; the message
        names the path, and the byte where there is one.

    Notes
    -----
    Thread-safety: one thread. The file is locked against other processes.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        try:
            self._fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._refusal(error) from error
        try:
            self._lock()
            data = self._read()
            self.unsettled, good = _replay(data, self.path)
            if good < len(data):
                os.ftruncate(self._fd, good)
            self._sync_directory()
            os.fsync(self._fd)
        except OSError as error:
            os.close(self._fd)
            raise (error if isinstance(error, JournalError) else self._refusal(error)) from error
        self.torn_bytes = len(data) - good
        self._end = good
        self._waiting: list[Record] = []
        self._failed = False

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
        data = memoryview(_framed([each.pack() for each in self._waiting]))
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._fd, data[written:], self._end + written)
            os.fsync(self._fd)
        except OSError as error:
            # After a sync that failed nobody knows what the disk holds.
            self._failed = True
            raise self._refusal(error, offset=self._end) from error
        self._end += len(data)
        self._waiting.clear()

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

    def _lock(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise JournalError("another process has it open", path=self.path) from None

    def _read(self) -> bytes:
        data = bytearray()
        while part := os.pread(self._fd, 1 << 20, len(data)):
            data += part
        return bytes(data)

    def _sync_directory(self) -> None:
        """Make the name of a new file as durable as what is in it."""
        directory = os.open(Path(self.path).parent, os.O_RDONLY | os.O_CLOEXEC)
        try:
            # Some file systems do not sync directories, and need not.
            with suppress(OSError):
                os.fsync(directory)
        finally:
            os.close(directory)

    def _refusal(self, error: OSError, *, offset: int | None = None) -> JournalError:
        return JournalError(error.strerror or repr(error), path=self.path, offset=offset)


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
    raise ValueError(f"kind {kind}")


def _slice(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("cut short")
    return data[at : at + size]


def _array(data: bytes, at: int, count: int, dtype: np.dtype[np.void]) -> tuple[Array, int]:
    size = count * dtype.itemsize
    return np.frombuffer(_slice(data, at, size), dtype), at + size
