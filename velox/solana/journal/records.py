"""The records of a journal, and their layout.

A record is a byte that names its kind, then its fields, little-endian::

    1 Header    payer 32, genesis 32
    2 Signed    number u64, submission u64, its size u16, attempt u32, last valid height u64,
                blockhash 32, lengths of the rest u16 each: raw bytes, orders, places, cancels;
                then these: TRANSACTION_DTYPE, 32 bytes each; numbers u64
    3 Ended     number u64, outcome u8, slot u64, lengths u16 each: reason, rests, gone;
                then these: UTF-8; RESTING_DTYPE; market u8 and number u64
    4 Summary   next number u64, slot u64, lengths u16, u32, u32: endings, names, rests;
                then these: outcome u8 and count u64; signature 64 and height u64; RESTING_DTYPE
    5 Capture   SHA-256 32, bundles u64
    6 Remains   length u32; REMAINS_DTYPE

No record holds key material. A signed transaction is public anyway.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.core.records import TRANSACTION_DTYPE
from velox.solana.orders.in_flight import Signed
from velox.solana.orders.outcomes import Outcome

__all__ = [
    "NOTHING_RESTS",
    "REMAINS_DTYPE",
    "RESTING_DTYPE",
    "Capture",
    "Ended",
    "Header",
    "Record",
    "Remains",
    "Summary",
    "pack_record",
    "unpack_records",
]

_HEADER = struct.Struct("<B32s32s")
_SIGNED = struct.Struct("<BQQHIQ32sHHHH")
_ENDED = struct.Struct("<BQBQHHH")
_GONE = struct.Struct("<BQ")
_SUMMARY = struct.Struct("<BQQHII")
_ENDINGS = struct.Struct("<BQ")
_RECENT = struct.Struct("<64sQ")
_CAPTURE = struct.Struct("<B32sQ")
_REMAINS = struct.Struct("<BI")
_IS_HEADER, _IS_SIGNED, _IS_ENDED, _IS_SUMMARY, _IS_CAPTURE, _IS_REMAINS = range(1, 7)
MAX_REASON_BYTES: Final = 512
#: One of our resting orders.
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
#: The lots left of a resting order; 0 if it ended.
REMAINS_DTYPE: Final = np.dtype(
    [("sequence", "<u8"), ("lots", "<u4"), ("market", "u1"), ("unused", "u1", (3,))]
)

Array: TypeAlias = npt.NDArray[np.void]


@dataclass(frozen=True, slots=True)
class Header:
    """The signer and the cluster of a journal; the genesis hash names the cluster.

    On another cluster every signature would be unknown, and would seem not to have landed.
    """

    payer: Pubkey
    genesis: Hash

    def pack(self) -> bytes:
        """Return the record's bytes."""
        return _HEADER.pack(_IS_HEADER, bytes(self.payer), bytes(self.genesis))


@dataclass(frozen=True, slots=True)
class Ended:
    """The outcome of a transaction.

    Attributes
    ----------
    number : int
        The number of its `Signed`.
    outcome : Outcome
        ``LANDED``, ``FAILED`` or ``EXPIRED``. A transaction of unknown outcome has no such record.
    slot : int
        The slot of its execution; 0 if it was not executed.
    reason : str
        Why it failed.
    rests : ndarray of RESTING_DTYPE, shape (n,)
        The orders that it left resting, with their numbers.
    gone : tuple of (int, int)
        Markets and numbers of orders that no longer rest.
    """

    number: int
    outcome: Outcome
    slot: int = 0
    reason: str = ""
    rests: Array = field(default_factory=NOTHING_RESTS.copy)
    gone: tuple[tuple[int, int], ...] = ()

    def pack(self) -> bytes:
        """Return the record's bytes."""
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
    """The data of ended transactions that a compacted journal keeps.

    Attributes
    ----------
    next_number : int
        Greater than the number of every transaction so far.
    slot : int
        The newest slot in which one was executed.
    ended : dict of Outcome to int
        Counts by outcome.
    recent : dict of Signature to int
        See `JournalState`.
    rests : ndarray of RESTING_DTYPE, shape (n,)
        The orders that they left resting.
    """

    next_number: int
    slot: int = 0
    ended: dict[Outcome, int] = field(default_factory=dict)
    recent: dict[Signature, int] = field(default_factory=dict)
    rests: Array = field(default_factory=NOTHING_RESTS.copy)

    def pack(self) -> bytes:
        """Return the record's bytes."""
        sizes = len(self.ended), len(self.recent), len(self.rests)
        return b"".join(
            (
                _SUMMARY.pack(_IS_SUMMARY, self.next_number, self.slot, *sizes),
                *(_ENDINGS.pack(*each) for each in self.ended.items()),
                *(_RECENT.pack(bytes(name), last) for name, last in self.recent.items()),
                self.rests.tobytes(),
            )
        )


@dataclass(frozen=True, slots=True)
class Remains:
    """The lots left of our resting orders after fills by other traders.

    Attributes
    ----------
    rows : ndarray of REMAINS_DTYPE, shape (n,)
    """

    rows: Array

    def pack(self) -> bytes:
        """Return the record's bytes."""
        return _REMAINS.pack(_IS_REMAINS, len(self.rows)) + self.rows.tobytes()


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture file whose orders are being submitted, and must not be submitted twice.

    Attributes
    ----------
    digest : bytes
        SHA-256 of the whole file, 32 bytes.
    bundles : int
        Bundles in the file.
    """

    digest: bytes
    bundles: int

    def pack(self) -> bytes:
        """Return the record's bytes."""
        return _CAPTURE.pack(_IS_CAPTURE, self.digest, self.bundles)


Record: TypeAlias = Header | Signed | Ended | Summary | Capture | Remains


def pack_record(record: Record) -> bytes:
    """Return a record's bytes."""
    if not isinstance(record, Signed):
        return record.pack()
    head = _SIGNED.pack(
        _IS_SIGNED,
        record.number,
        record.submission,
        record.submission_size,
        record.attempt,
        record.last_valid_block_height,
        bytes(record.blockhash),
        len(record.raw),
        len(record.orders),
        len(record.places),
        len(record.cancels),
    )
    numbers = struct.pack(f"<{len(record.cancels)}Q", *record.cancels)
    return head + record.raw + record.orders.tobytes() + record.places.tobytes() + numbers


def unpack_records(data: bytes) -> Iterator[Record]:
    """Yield the records in `data`, in order.

    Raises
    ------
    ValueError, struct.error, IndexError
        `data` is not a sequence of records.
    """
    at = 0
    while at < len(data):
        record, at = _record_at(data, at)
        yield record


def _record_at(data: bytes, at: int) -> tuple[Record, int]:
    kind = data[at]
    if kind == _IS_HEADER:
        _, payer, genesis = _HEADER.unpack_from(data, at)
        return Header(Pubkey.from_bytes(payer), Hash.from_bytes(genesis)), at + _HEADER.size
    if kind == _IS_SIGNED:
        head = _SIGNED.unpack_from(data, at)
        _, number, submission, together, attempt, height, blockhash, *sizes = head
        raw_size, orders, places, cancels = sizes
        at += _SIGNED.size
        raw = _slice(data, at, raw_size)
        at += raw_size
        if raw_size < 65:
            raise ValueError(f"a transaction of {raw_size} bytes")
        carried, at = _array(data, at, orders, TRANSACTION_DTYPE)
        placed, at = _array(data, at, places, TRANSACTION_DTYPE)
        signed = Signed(
            orders=carried,
            places=placed,
            cancels=struct.unpack_from(f"<{cancels}Q", data, at),
            number=number,
            attempt=attempt,
            last_valid_block_height=height,
            blockhash=Hash.from_bytes(blockhash),
            raw=raw,
            submission=submission,
            submission_size=together,
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
        _, number, slot, endings, names, rests = _SUMMARY.unpack_from(data, at)
        at += _SUMMARY.size
        ended = _ENDINGS.iter_unpack(_slice(data, at, endings * _ENDINGS.size))
        at += endings * _ENDINGS.size
        recent = _RECENT.iter_unpack(_slice(data, at, names * _RECENT.size))
        at += names * _RECENT.size
        resting, at = _array(data, at, rests, RESTING_DTYPE)
        summary = Summary(
            number,
            slot,
            {Outcome(outcome): count for outcome, count in ended},
            {Signature.from_bytes(name): last for name, last in recent},
            resting,
        )
        return summary, at
    if kind == _IS_CAPTURE:
        _, digest, bundles = _CAPTURE.unpack_from(data, at)
        return Capture(digest, bundles), at + _CAPTURE.size
    raise ValueError(f"unknown kind {kind}")


def _slice(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("record is cut short")
    return data[at : at + size]


def _array(data: bytes, at: int, count: int, dtype: np.dtype[np.void]) -> tuple[Array, int]:
    size = count * dtype.itemsize
    return np.frombuffer(_slice(data, at, size), dtype), at + size
