"""Decodes Databento's binary encoding, DBN, of versions 1 to 3: orders (MBO) and levels (MBP).

The source of the layouts is Databento's "Databento Binary Encoding" and "Schemas and data formats".
A file has metadata, then records. A record has a header of 16 bytes; its first byte is the record's
length in units of 4 bytes::

    length u8 | rtype u8 | publisher u16 | instrument u32 | ts_event u64
    MBO     order id u64 | price i64 | size u32 | flags u8 | channel u8 | action u8 | side u8
            | ts_recv u64 | ts_in_delta i32 | sequence u32
    MBP-n   price i64 | size u32 | action u8 | side u8 | flags u8 | depth u8
            | ts_recv u64 | ts_in_delta i32 | sequence u32 | n levels of
              bid price i64 | ask price i64 | bid size, ask size u32 | bid, ask orders u32

All numbers are little-endian. Prices are in units of 1e-9.
"""

from __future__ import annotations

import datetime
import struct
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from velox.core.integers import INT64_MAX
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, Side
from velox.feeds.decode.fields import TIME_LIMIT
from velox.feeds.decode.levels import KNOWN_DTYPE, MARKETS_LIMIT
from velox.feeds.decode.malformed import MalformedError, shown

__all__ = [
    "PREFIX_BYTES",
    "PRICE_PLACES",
    "DbnMetadata",
    "DbnRecords",
    "DbnSession",
    "OnBadBook",
    "Run",
    "Scale",
    "metadata_length",
    "parse_metadata",
    "runs",
]

OnBadBook = Literal["clear", "continue", "stop"]

MAGIC = b"DBN"
NEWEST_VERSION = 3
# The magic, the version, and the length of the metadata.
PREFIX_BYTES = 8
METADATA_LIMIT = 1 << 28
PRICE_PLACES = 9
# The fewest decimals of a market's prices.
LEAST_PLACES = 4
# Records that are kept as tuples before they are packed into an array.
RECORDS_AT_ONCE = 1 << 16
UNDEFINED_PRICE = INT64_MAX
UNDEFINED_TIME = 2**64 - 1

_HEADER = [
    ("length", "u1"), ("rtype", "u1"), ("publisher", "<u2"), ("instrument", "<u4"),
    ("ts_event", "<u8"),
]  # fmt: skip
_MBO = np.dtype(
    [
        *_HEADER,
        *(("order_id", "<u8"), ("price", "<i8"), ("size", "<u4"), ("flags", "u1")),
        *(("channel", "u1"), ("action", "u1"), ("side", "u1"), ("ts_recv", "<u8")),
        *(("ts_in_delta", "<i4"), ("sequence", "<u4")),
    ]
)
_TRADE = np.dtype(
    [
        *_HEADER,
        *(("price", "<i8"), ("size", "<u4"), ("action", "u1"), ("side", "u1")),
        *(("flags", "u1"), ("depth", "u1"), ("ts_recv", "<u8")),
        *(("ts_in_delta", "<i4"), ("sequence", "<u4")),
    ]
)
_LEVEL = np.dtype(
    [
        *(("bid", "<i8"), ("ask", "<i8"), ("bid_size", "<u4"), ("ask_size", "<u4")),
        *(("bid_orders", "<u4"), ("ask_orders", "<u4")),
    ]
)
assert (_MBO.itemsize, _TRADE.itemsize, _LEVEL.itemsize) == (56, 48, 32)

MBO, MBP_1, MBP_10, TRADE, MAPPING = 0xA0, 0x01, 0x0A, 0x00, 0x16
_DTYPES = {
    MBO: _MBO,
    TRADE: _TRADE,
    MBP_1: np.dtype([*_TRADE.descr, ("levels", _LEVEL, (1,))]),
    MBP_10: np.dtype([*_TRADE.descr, ("levels", _LEVEL, (10,))]),
}
_NAMES = {
    MBO: "mbo",
    MBP_1: "mbp-1",
    MBP_10: "mbp-10",
    TRADE: "trade",
    0x11: "ohlcv",
    0x12: "status",
    0x13: "definition",
    0x14: "imbalance",
    0x15: "error",
    MAPPING: "symbol mapping",
    0x17: "system",
    0x18: "statistics",
    0x20: "ohlcv-1s",
    0x21: "ohlcv-1m",
    0x22: "ohlcv-1h",
    0x23: "ohlcv-1d",
    0x24: "ohlcv-eod",
    0xB1: "cmbp-1",
    0xC0: "cbbo-1s",
    0xC1: "cbbo-1m",
    0xC2: "tcbbo",
    0xC3: "bbo-1s",
    0xC4: "bbo-1m",
}
_LAST, _TOB, _SNAPSHOT, _MBP = 128, 64, 32, 16
_BAD_TS_RECV, _MAYBE_BAD_BOOK = 8, 4
assert (_LAST, _TOB, _SNAPSHOT, _MBP) == (Flags.LAST, Flags.TOB, Flags.SNAPSHOT, Flags.MBP)

_SIDES = {ord("B"): int(Side.BID), ord("A"): int(Side.ASK)}
_ADD, _CANCEL, _MODIFY, _CLEAR, _TRADED, _FILL, _NONE = map(ord, "ACMRTFN")
_INSTRUMENT_ID = 0  # a type of symbols
_TBBO = 3  # a schema


class Interval(NamedTuple):
    """From when to when an instrument has a name, in ns since 1970."""

    begin: int
    end: int
    name: str


@dataclass(frozen=True, slots=True)
class DbnMetadata:
    """What is read from the head of a file.

    Attributes
    ----------
    version : int
    dataset : str
    schema : int
        65535 if there are several.
    ts_out : bool
        Whether each record ends with the time at which it was sent.
    names : dict
        The names of each instrument, by its id.
    """

    version: int
    dataset: str
    schema: int
    ts_out: bool
    names: dict[int, list[Interval]]


def metadata_length(prefix: bytes) -> tuple[int, int]:
    """Return the version of a file and the length of its metadata.

    Raises
    ------
    MalformedError
        The first bytes are not those of DBN of a known version.
    """
    if len(prefix) < PREFIX_BYTES or prefix[:3] != MAGIC:
        raise MalformedError("does not begin with 'DBN'", "version")
    version = prefix[3]
    if not 1 <= version <= NEWEST_VERSION:
        raise MalformedError(f"DBN version {version}; known are 1 to {NEWEST_VERSION}", "version")
    (length,) = struct.unpack("<I", prefix[4:8])
    if length > METADATA_LIMIT:
        raise MalformedError(f"{length} bytes of metadata", "metadata")
    return version, length


class _Bytes:
    """Reads fields one after the other."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.content) - self.at:
            raise MalformedError("is cut off", "metadata")
        self.at += count
        return self.content[self.at - count : self.at]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def text(self, length: int) -> str:
        return _text(self.take(length), "metadata")


def _text(raw: bytes, field: str) -> str:
    text = raw.partition(b"\0")[0]
    if not text.isascii() or not text.decode().isprintable():
        raise MalformedError(f"{shown(text.decode('latin-1'))} is not printable text", field)
    return text.decode()


def parse_metadata(version: int, content: bytes) -> DbnMetadata:
    """Parse the metadata of a file.

    Raises
    ------
    MalformedError
        It is cut off, or a field is invalid.
    """
    read = _Bytes(content)
    dataset = read.text(16)
    schema = int.from_bytes(read.take(2), "little")
    read.take(8 + 8 + 8)  # start, end, limit
    if version == 1:
        read.take(8)
    stype_in, stype_out, ts_out = read.take(3)
    symbol_bytes = 22
    if version > 1:
        symbol_bytes = int.from_bytes(read.take(2), "little")
    read.take(47 if version == 1 else 53)
    read.take(read.u32())
    for _ in range(3):  # symbols, partial, not found
        read.take(read.u32() * symbol_bytes)
    names: dict[int, list[Interval]] = {}
    for _ in range(read.u32()):
        outer = read.text(symbol_bytes)
        for _ in range(read.u32()):
            begin, end = read.u32(), read.u32()
            inner = read.text(symbol_bytes)
            if stype_out == _INSTRUMENT_ID:
                identity, name = inner, outer
            elif stype_in == _INSTRUMENT_ID:
                identity, name = outer, inner
            else:
                continue  # the ids of the records are told by records of their own
            if identity.isdecimal():
                names.setdefault(int(identity), []).append(
                    Interval(_day_ns(begin), _day_ns(end), name)
                )
    return DbnMetadata(version, dataset, schema, bool(ts_out), names)


def _day_ns(date: int) -> int:
    """A date, as the number YYYYMMDD, in ns since 1970."""
    try:
        day = datetime.date(date // 10_000, date // 100 % 100, date % 100)
    except ValueError:
        raise MalformedError(f"{date} is not a date", "metadata") from None
    return (day - datetime.date(1970, 1, 1)).days * 86_400 * 10**9


class Run(NamedTuple):
    """Records of one type and length that follow each other.

    Attributes
    ----------
    rtype : int
    first : int
        The number of the first record, counted from 0.
    records : int
    content : bytes
    length : int
        Bytes of each record.
    """

    rtype: int
    first: int
    records: int
    content: bytes
    length: int


def runs(content: bytes, first: int) -> Iterator[Run]:
    """Split whole records into runs.

    Raises
    ------
    MalformedError
        A record is shorter than its header. Nothing after it can be read.
    """
    at = 0
    while len(content) - at >= 16:
        length = 4 * content[at]
        if length < 16:
            raise MalformedError(f"a record of {length} bytes, record {first + 1}", "length")
        most = (len(content) - at) // length
        if not most:
            return
        heads = np.frombuffer(content, np.uint8, most * length, at).reshape(most, length)
        same = (heads[:, 0] == content[at]) & (heads[:, 1] == content[at + 1])
        count = most if same.all() else int(np.argmin(same))
        yield Run(content[at + 1], first, count, content[at : at + count * length], length)
        at += count * length
        first += count


class Report(Protocol):
    """Called with each record that cannot be read."""

    def __call__(self, error: MalformedError, record: int, *, lines: int) -> None:
        """`record` is its number, counted from 1; `lines` is 0 for a note only."""


class _Event(NamedTuple):
    """The fields that all records have in common. Times are ns."""

    time: int
    venue_time: int
    flags: int
    action: int
    side: int
    price: int
    size: int


class _Order(NamedTuple):
    side: int
    price: int
    size: int


@dataclass(slots=True, eq=False)
class _Book:
    market: int
    name: str
    publisher: int
    kind: int = -1  # the type of the records from which it is read
    opened: bool = False
    lost: bool = False  # emptied by a gap: only a clear or a snapshot opens it again
    bad: bool = False  # whether the newest record has the flag MAYBE_BAD_BOOK
    orders: dict[int, _Order] = field(default_factory=dict)
    fills: dict[int, int] = field(default_factory=dict)
    levels: tuple[dict[int, int], dict[int, int]] = field(default_factory=lambda: ({}, {}))
    picture: bytes = b""
    # The newest record of an event that has not ended.
    pending: int = -1


Record = tuple[int, int, int, int, int, int, int, int]


class DbnSession:
    """The records of files of one dataset, in their order.

    Parameters
    ----------
    report : Report
    symbol : str, optional
        Read this symbol only.
    on_gap : {'clear', 'continue', 'stop'}
        Where a record says that messages are missing: empty the book until it is cleared or a
        snapshot comes; go on; or report an error.
    trades : bool
        Whether trades become TRADE records.

    Attributes
    ----------
    ignored : Counter of str
        How many records were ignored, by the reason.
    gaps : int
        How often a book became doubtful.
    books : list
        By market.
    count : int
        Transactions written so far.
    record : int
        The number of the newest record of the file, counted from 1.
    """

    def __init__(
        self,
        report: Report,
        *,
        symbol: str | None = None,
        on_gap: OnBadBook = "clear",
        trades: bool = False,
    ) -> None:
        self.report = report
        self.only = symbol
        self.on_gap = on_gap
        self.trades = trades
        self.ignored: Counter[str] = Counter()
        self.gaps = 0
        self.books: list[_Book] = []
        self.known: list[tuple[int, int, int, int, int]] = []
        self._by_key: dict[tuple[int, int, str], _Book] = {}
        self._names: dict[int, list[Interval]] = {}
        # By publisher and instrument: the book, and until when its name holds.
        self._current: dict[tuple[int, int], tuple[_Book | None, int, int]] = {}
        self._records: list[Record] = []
        self._times = array("Q")
        self._parts: list[npt.NDArray[np.void]] = []
        self.count = 0
        self.record = 0
        self._last = array("q")

    def names(self, names: dict[int, list[Interval]]) -> None:
        """Take the names of instruments from a file's metadata."""
        for identity, intervals in names.items():
            self._names[identity] = [*self._names.get(identity, []), *intervals]
        self._current.clear()

    def feed(self, run: Run, metadata: DbnMetadata) -> Iterator[None]:
        """Take records, and yield after each event, so that the caller may stop there."""
        dtype = _DTYPES.get(run.rtype)
        if run.rtype == MAPPING:
            self._take_mappings(run, metadata)
            return
        sampled = metadata.schema == _TBBO and run.rtype == MBP_1
        if dtype is None or ((run.rtype == TRADE or sampled) and not self.trades):
            name = _NAMES.get(run.rtype, f"record of type {run.rtype:#04x}")
            name = "tbbo" if sampled else name
            self.ignored[name] += run.records
            return
        if run.length != dtype.itemsize + 8 * metadata.ts_out:
            self.report(
                MalformedError(
                    f"{run.length} bytes; a record of {_NAMES[run.rtype]} has {dtype.itemsize}",
                    "length",
                ),
                run.first + 1,
                lines=run.records,
            )
            return
        raw = np.frombuffer(run.content, np.uint8).reshape(run.records, run.length)
        rows = np.ascontiguousarray(raw[:, : dtype.itemsize]).view(dtype).reshape(run.records)
        # TBBO has the book at trades only, and so just its trades are read.
        yield from self._take(run._replace(rtype=TRADE) if sampled else run, rows)

    def _take(self, run: Run, rows: npt.NDArray[np.void]) -> Iterator[None]:
        names = ["publisher", "instrument", "ts_event", "ts_recv", "flags", "action", "side"]
        names += ["price", "size"]
        columns = [rows[name].tolist() for name in names]
        more: Any = rows["order_id"].tolist() if run.rtype == MBO else rows
        for number, values in enumerate(zip(*columns, strict=True)):
            publisher, instrument, ts_event, ts_recv, *rest = values
            begin = self.count
            self.record = run.first + number + 1
            try:
                event = _event(ts_event, ts_recv, tuple(rest))
                book = self._book_of(publisher, instrument, event)
                if book is None:
                    self.ignored["other symbol"] += 1
                    continue
                self._event(book, run.rtype, event, more, number)
            except MalformedError as error:
                self.report(error, self.record, lines=1)
                continue
            if event.flags & _LAST:
                self._end_event(book)
                if self.count > begin:
                    yield
            if len(self._records) >= RECORDS_AT_ONCE:
                self._pack()

    def _event(self, book: _Book, rtype: int, event: _Event, more: Any, number: int) -> None:
        if event.flags & _BAD_TS_RECV:
            self.ignored["flag BAD_TS_RECV"] += 1
        if rtype == TRADE:
            self._trade(book, event, 0)
            return
        if book.kind < 0:
            book.kind = rtype
        if book.kind != rtype:
            self.ignored[f"{_NAMES[rtype]} beside {_NAMES[book.kind]}"] += 1
            return
        self._judge(book, event)
        if rtype == MBO:
            self._order(book, event, more[number])
        else:
            if event.action == _TRADED and self.trades:
                self._trade(book, event, 0)
            self._picture(book, event, more[number]["levels"])

    def _judge(self, book: _Book, event: _Event) -> None:
        """Note whether the venue's messages have a gap, by the record's flag."""
        bad = bool(event.flags & _MAYBE_BAD_BOOK)
        if bad and not book.bad and book.opened:
            self.gaps += 1
            error = MalformedError(f"{book.name} leaves a gap: the flag MAYBE_BAD_BOOK", "flags")
            book.bad = True
            self.report(error, self.record, lines=int(self.on_gap == "stop"))
            if self.on_gap == "clear":
                self._clear(book, event, opens=False)
                book.opened, book.lost = False, True
        book.bad = bad

    # Orders

    def _order(self, book: _Book, event: _Event, identity: int) -> None:
        action = event.action
        if action == _CLEAR:
            self._clear(book, event, opens=True)
        elif action == _TRADED:
            if self.trades:
                self._trade(book, event, identity)
        elif action == _FILL:
            book.fills[identity] = book.fills.get(identity, 0) + event.size
        elif action in (_ADD, _CANCEL, _MODIFY):
            if self._opens(book, event):
                self._apply(book, event, identity)
        elif action != _NONE:
            raise MalformedError(f"{shown(chr(action))} is not an action", "action")

    def _opens(self, book: _Book, event: _Event) -> bool:
        """Open the book for its first order. False if the order cannot be used."""
        if book.opened:
            return True
        if not event.flags & _SNAPSHOT:
            if book.lost:
                self.ignored["record after a gap"] += 1
                return False
            # Orders from before the file are unknown. The book opens empty.
            self.ignored["book that opens without a snapshot"] += 1
        self._clear(book, event, opens=True)
        return True

    def _apply(self, book: _Book, event: _Event, identity: int) -> None:
        side = _SIDES.get(event.side)
        if side is None:
            raise MalformedError(f"{shown(chr(event.side))} is not the side of an order", "side")
        if event.flags & _MBP:
            raise MalformedError("an aggregated level among orders: the flag MBP", "flags")
        if event.flags & _TOB:
            self._top(book, event, side)
        elif event.action == _ADD:
            if identity in book.orders:
                raise MalformedError(f"order {identity} is in the book already", "order_id")
            self._add(book, event, identity, side)
        else:
            self._change(book, event, identity, side)

    def _top(self, book: _Book, event: _Event, side: int) -> None:
        """Take the best level of a side from a venue that sends no orders."""
        if event.action != _ADD:
            raise MalformedError(f"action {chr(event.action)} with the flag TOB", "action")
        self._write(book, event, (0, 0, 0, side, int(Kind.CLEAR)))
        if event.price != UNDEFINED_PRICE:
            self._write(book, event, (0, _price(event), event.size, side, int(Kind.SET)))

    def _add(self, book: _Book, event: _Event, identity: int, side: int) -> None:
        if not event.size:
            raise MalformedError("an order of size 0", "size")
        book.orders[identity] = _Order(side, _price(event), event.size)
        self._write(book, event, (identity, event.price, event.size, side, int(Kind.ADD)))

    def _change(self, book: _Book, event: _Event, identity: int, side: int) -> None:
        order = book.orders.get(identity)
        cancels = event.action == _CANCEL
        if order is None:
            if not cancels:
                self._add(book, event, identity, side)
                return
            self.ignored["cancel of an unknown order"] += 1
            return
        if side != order.side or (cancels and event.price != order.price):
            raise MalformedError(
                f"order {identity} has another {'side' if side != order.side else 'price'}",
                "side" if side != order.side else "price",
            )
        if cancels:
            if event.size > order.size:
                raise MalformedError(f"{event.size} of an order of {order.size}", "size")
            self._reduce(book, event, identity, order, event.size)
        elif event.size and event.price == order.price and event.size <= order.size:
            self._reduce(book, event, identity, order, order.size - event.size)
        else:
            # It loses its place in the queue.
            price = _price(event) if event.size else order.price
            self._reduce(book, event, identity, order, order.size)
            if event.size:
                book.orders[identity] = _Order(side, price, event.size)
                self._write(book, event, (identity, price, event.size, side, int(Kind.ADD)))

    def _reduce(self, book: _Book, event: _Event, identity: int, order: _Order, size: int) -> None:
        """Take from an order: what was filled as EXECUTE, the rest as CANCEL."""
        filled = min(size, book.fills.pop(identity, 0))
        for part, kind in ((filled, Kind.EXECUTE), (size - filled, Kind.CANCEL)):
            if part:
                self._write(book, event, (identity, order.price, part, order.side, int(kind)))
        if size == order.size:
            del book.orders[identity]
        else:
            book.orders[identity] = order._replace(size=order.size - size)

    # Levels

    def _picture(self, book: _Book, event: _Event, levels: npt.NDArray[np.void]) -> None:
        """Take the best levels of both sides, as the changes since the last ones."""
        raw = levels.tobytes()
        if book.opened and raw == book.picture:
            return
        new = (
            _side_of(levels, "bid", reverse=True),
            _side_of(levels, "ask", reverse=False),
        )
        if not book.opened:
            self._clear(book, event, opens=True)
            self.known[-1] = (self.known[-1][0], book.market, 0, INT64_MAX, len(levels))
        for side, (old, now) in enumerate(zip(book.levels, new, strict=True)):
            for price in old.keys() - now.keys():
                self._write(book, event, (0, price, 0, side, int(Kind.DELETE)))
            for price, size in now.items():
                if old.get(price) != size:
                    self._write(book, event, (0, price, size, side, int(Kind.SET)))
        book.levels, book.picture = new, raw

    # Both

    def _trade(self, book: _Book, event: _Event, identity: int) -> None:
        side = _SIDES.get(event.side)
        if side is None:
            self.ignored["trade of an unknown side"] += 1
            return
        if not event.size:
            self.ignored["trade of nothing"] += 1
            return
        # The side is that of the taker.
        self._write(book, event, (identity, _price(event), event.size, 1 - side, int(Kind.TRADE)))

    def _clear(self, book: _Book, event: _Event, *, opens: bool) -> None:
        if opens and not book.opened:
            self.known.append((self.count, book.market, 0, INT64_MAX, 0))
        flags = _SNAPSHOT if opens and not book.opened else 0
        for side in (0, 1):
            self._write(book, event, (0, 0, 0, side, int(Kind.CLEAR)), flags)
        book.opened, book.lost = book.opened or opens, book.lost and not opens
        book.orders.clear()
        book.fills.clear()
        book.levels, book.picture = ({}, {}), b""

    def _write(
        self, book: _Book, event: _Event, record: tuple[int, int, int, int, int], flags: int = 0
    ) -> None:
        flags |= event.flags & _SNAPSHOT
        self._records.append((*record, flags, book.market, event.time))
        self._times.append(event.venue_time)
        book.pending = self.count
        self.count += 1

    def _end_event(self, book: _Book) -> None:
        book.fills.clear()
        if book.pending >= 0:
            self._last.append(book.pending)
            book.pending = -1

    def _book_of(self, publisher: int, instrument: int, event: _Event) -> _Book | None:
        book, begin, end = self._current.get((publisher, instrument), (None, 0, 0))
        if not begin <= event.time < end:
            name, begin, end = self._name_at(instrument, event.time)
            book = None
            if self.only is None or name == self.only:
                book = self._named(publisher, instrument, name)
            self._current[publisher, instrument] = (book, begin, end)
        return book

    def _named(self, publisher: int, instrument: int, name: str) -> _Book:
        key = (publisher, instrument, name)
        book = self._by_key.get(key)
        if book is None:
            if len(self.books) == MARKETS_LIMIT:
                raise MalformedError(
                    f"{shown(name)} is one market more than the {MARKETS_LIMIT} possible; load "
                    "with symbol",
                    "instrument_id",
                )
            book = self._by_key[key] = _Book(len(self.books), name, publisher)
            self.books.append(book)
        return book

    def _name_at(self, instrument: int, time: int) -> tuple[str, int, int]:
        """The name of an instrument at a time, and from when to when it holds."""
        intervals = self._names.get(instrument, [])
        names = {each.name for each in intervals}
        if len(names) == 1:
            return names.pop(), 0, 2**64
        for each in intervals:
            if each.begin <= time < each.end:
                return each.name, each.begin, each.end
        return f"instrument-{instrument}", time, time + 1 if intervals else 2**64

    def _take_mappings(self, run: Run, metadata: DbnMetadata) -> None:
        """Read the names that a live session told."""
        size = 22 if metadata.version == 1 else 71
        begin = 16 + size if metadata.version == 1 else 16 + 1 + size + 1
        for number in range(run.records):
            record = run.content[number * run.length : (number + 1) * run.length]
            try:
                if len(record) < begin + size:
                    raise MalformedError("is too short", "length")
                name = _text(record[begin : begin + size], "stype_out_symbol")
            except MalformedError as error:
                self.report(error, run.first + number + 1, lines=1)
                continue
            instrument = int.from_bytes(record[4:8], "little")
            time = int.from_bytes(record[8:16], "little")
            told = self._names.setdefault(instrument, [])
            if not told or told[-1].name != name:
                if told and told[-1].end > time:
                    told[-1] = told[-1]._replace(end=time)
                told.append(Interval(time if told else 0, 2**64, name))
                self._current.clear()
        self.ignored[_NAMES[MAPPING]] += run.records

    # The end

    def finish(self) -> DbnRecords:
        """Return all records, in the price scale that each market needs."""
        for book in self.books:
            if book.pending >= 0:
                self.ignored["event without an end"] += 1
                self._end_event(book)
        self._pack()
        transactions = np.concatenate(self._parts or [np.zeros(0, TRANSACTION_DTYPE)])
        transactions["flags"][np.frombuffer(self._last, np.int64)] |= _LAST
        scales = []
        for book in self.books:
            own = transactions["market"] == book.market
            tick, places = int(np.gcd.reduce(transactions["price"][own], initial=0)), PRICE_PLACES
            while places > LEAST_PLACES and tick % 10 == 0:
                tick, places = tick // 10, places - 1
                if not tick:
                    places = LEAST_PLACES
            transactions["price"][own] //= 10 ** (PRICE_PLACES - places)
            scales.append(Scale(self._whole_name(book), places, tick or 1))
        return DbnRecords(
            transactions,
            np.array(self._times, np.uint64),
            np.array(self.known, KNOWN_DTYPE),
            scales,
        )

    def _whole_name(self, book: _Book) -> str:
        """The name of a market; with its publisher, if an instrument has several."""
        several = sum(each.name == book.name for each in self.books) > 1
        return f"{book.name}@{book.publisher}" if several else book.name

    def _pack(self) -> None:
        if self._records:
            self._parts.append(np.array(self._records, TRANSACTION_DTYPE))
            self._records = []


class Scale(NamedTuple):
    """The name of a market, the decimals of its prices, and their common divisor."""

    name: str
    places: int
    tick: int


class DbnRecords(NamedTuple):
    """What a session has decoded.

    Attributes
    ----------
    transactions : ndarray, shape (n,), dtype TRANSACTION_DTYPE
    venue_times : ndarray, shape (n,), dtype uint64
    known : ndarray, shape (k,), dtype KNOWN_DTYPE
    scales : list of Scale
        By market.
    """

    transactions: npt.NDArray[np.void]
    venue_times: npt.NDArray[np.uint64]
    known: npt.NDArray[np.void]
    scales: list[Scale]


def _event(ts_event: int, ts_recv: int, values: tuple[int, int, int, int, int]) -> _Event:
    venue_time = 0 if ts_event == UNDEFINED_TIME else ts_event
    time = venue_time if ts_recv == UNDEFINED_TIME else ts_recv
    for name, each in (("ts_event", venue_time), ("ts_recv", time)):
        if each >= TIME_LIMIT:
            raise MalformedError(f"{each} does not fit 63 bits of ns", name)
    return _Event(time, venue_time, *values)


def _price(event: _Event) -> int:
    if not 0 < event.price < UNDEFINED_PRICE:
        shown_price = "is undefined" if event.price == UNDEFINED_PRICE else "is not positive"
        raise MalformedError(f"{event.price} {shown_price}", "price")
    return event.price


def _side_of(levels: npt.NDArray[np.void], side: str, *, reverse: bool) -> dict[int, int]:
    """The levels of one side, best first. Unused ones have no price or no size."""
    found: dict[int, int] = {}
    last: int | None = None
    ended = False
    sizes = levels[f"{side}_size"].tolist()
    for rank, (price, size) in enumerate(zip(levels[side].tolist(), sizes, strict=True)):
        where = f"levels[{rank}].{side}_px"
        if price == UNDEFINED_PRICE or not size:
            if price != UNDEFINED_PRICE and price and not size:
                raise MalformedError(f"{price} has no size", where)
            if size:
                raise MalformedError(f"{size} without a price", where)
            ended = True
            continue
        if ended:
            raise MalformedError(f"{price} comes after an unused level", where)
        if price <= 0:
            raise MalformedError(f"{price} is not positive", where)
        if last is not None and (price >= last if reverse else price <= last):
            raise MalformedError(f"{price} is not in order, best first", where)
        found[price], last = size, price
    return found
