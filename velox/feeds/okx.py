"""OKX: the book channels of any number of instruments, with the venue's own checksum.

Lines are ``unix_seconds: JSON``, or the JSON alone. Lines of the connection (``wss://… <-> …``),
subscriptions and REST answers (``https://… -> unix_seconds: JSON``) may stand among them; REST
lists of instruments give tick and lot.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

from velox.core.records import PRICE_SCALE, Side
from velox.errors import ConfigError, FeedError
from velox.feeds.decimals import PRICE_PLACES, size_units, to_units
from velox.feeds.levels import LevelRecorder, Market
from velox.feeds.messages import integer, member, name_of, obj
from velox.feeds.okx_checksum import OkxChecksum
from velox.feeds.options import checked_levels
from velox.feeds.recording import Recording
from velox.feeds.registry import register
from velox.feeds.source import (
    MalformedError,
    Source,
    first_line,
    nanoseconds,
    numbered_lines,
    parse_json,
    shown,
)
from velox.runtime.checks import ChecksumChecks

__all__ = ["read"]

NS_PER_MS = 1_000_000
# Channels whose messages are a snapshot and then changes to it.
BOOK_CHANNELS = ("books", "books-l2-tbt", "books50-l2-tbt")

_LINE = re.compile(rb"(?:([0-9]+(?:\.[0-9]+)?): ?)?(\{.*)", re.DOTALL)
_CONNECTION = re.compile(rb"wss?://\S+ <->? .*|wss?://\S+ -> .*|configuration: .*", re.DOTALL)
_REST = re.compile(rb"https?://\S+ -> [0-9.]+: ?(\{.*)", re.DOTALL)
_FIRST_KEY = re.compile(rb'\{"(?:arg|event|op|action|code)"')
_SIDES = {"buy": int(Side.ASK), "sell": int(Side.BID)}  # of whom the taker met


class _Grid(NamedTuple):
    tick: str
    lot: str


@dataclass(slots=True)
class _Book:
    market: Market
    opened: bool = False
    # None where the recording is older than the ids.
    sequence: int | None = None


class _Reader:
    def __init__(self, source: Source, channel: str, trades: bool) -> None:
        self.source = source
        self.faults = source.faults
        self.channel = channel
        self.trades = trades
        self.recorder = LevelRecorder()
        self.grids: dict[str, _Grid] = {}
        self.books: dict[str, _Book] = {}
        self.time = 0
        self.position = array("q")
        self.market = array("B")
        self.checksum = array("i")

    def read(self) -> None:
        # Instruments first: their grid must be known when their first price is read.
        for path in sorted(self.source.paths, key=lambda path: not _is_rest(first_line(path))):
            with numbered_lines(path, self.faults) as lines:
                for number, raw in lines:
                    try:
                        self.line(raw)
                    except MalformedError as error:
                        self.faults.report(
                            FeedError(error.why, path=path, line=number, field=error.field)
                        )
                    if self.source.reached(self.recorder.count):
                        return

    def line(self, raw: bytes) -> None:
        if not raw.strip() or _CONNECTION.fullmatch(raw):
            return
        rest = _REST.fullmatch(raw)
        if rest is not None:
            self.instruments(parse_json(rest[1]))
            return
        match = _LINE.fullmatch(raw)
        if match is None:
            raise MalformedError(
                f"expected 'unix_seconds: JSON', got {shown(raw.decode('latin-1'))}"
            )
        if match[1] is not None:
            self.time = nanoseconds(match[1], "timestamp")
        message = parse_json(match[2])
        if "event" in message or "op" in message:
            return
        self.push(message, timed=match[1] is not None)

    def instruments(self, answer: dict[str, Any]) -> None:
        """Keep the grid of each instrument that a REST answer lists, as text until it is needed."""
        data = member(answer, "data")
        if type(data) is not list:
            raise MalformedError(f"{shown(data)} is not an array", "data")
        for entry in data:
            if type(entry) is dict and entry.keys() >= {"instId", "tickSz", "lotSz"}:
                self.grids[name_of(entry, "instId")] = _Grid(entry["tickSz"], entry["lotSz"])

    def push(self, message: dict[str, Any], *, timed: bool) -> None:
        argument = obj(message, "arg")
        channel = name_of(argument, "channel")
        if channel != self.channel and not (channel == "trades" and self.trades):
            return
        name = name_of(argument, "instId")
        data = member(message, "data")
        if type(data) is not list or not data or not all(type(entry) is dict for entry in data):
            raise MalformedError(f"expected an array of objects, got {shown(data)}", "data")
        if not timed:
            self.time = _milliseconds(data[0])
        if channel == "trades":
            for trade in data:
                self.trade(name, trade)
        elif len(data) != 1:
            raise MalformedError(f"{len(data)} books in one message", "data")
        else:
            self.book(name, message, data[0])

    def book_of(self, name: str) -> _Book:
        book = self.books.get(name)
        if book is None:
            tick = lot = None
            grid = self.grids.get(name)
            if grid is not None:
                tick, lot = _tick_of(name, grid), _lot_of(name, grid)
            book = self.books[name] = _Book(self.recorder.market(name, tick, lot))
        return book

    def book(self, name: str, message: dict[str, Any], data: dict[str, Any]) -> None:
        action = member(message, "action")
        if action not in ("snapshot", "update"):
            raise MalformedError(f"{shown(action)} is neither 'snapshot' nor 'update'", "action")
        opens = action == "snapshot"
        book = self.book_of(name)
        checksum = _checksum(data)
        bids = book.market.levels(member(data, "bids"), "bids", zero_allowed=not opens)
        asks = book.market.levels(member(data, "asks"), "asks", zero_allowed=not opens)
        sequence = integer(data, "seqId") if "seqId" in data else None
        if opens:
            self.recorder.snapshot(book.market, self.time, bids, asks)
            book.opened = True
        else:
            self.require_continuation(book, data)
            self.recorder.update(book.market, self.time, bids, asks)
        book.sequence = sequence
        if checksum:
            self.position.append(self.recorder.count)
            self.market.append(book.market.id)
            self.checksum.append(checksum)

    def require_continuation(self, book: _Book, data: dict[str, Any]) -> None:
        if not book.opened:
            raise MalformedError(
                f"no snapshot of {book.market.name} stands before this update", "action"
            )
        if book.sequence is None or "prevSeqId" not in data:
            return
        previous = integer(data, "prevSeqId", lowest=-1)
        if previous != book.sequence:
            if self.faults.skip:
                # What the book holds is no longer true, and only a snapshot can mend it.
                self.recorder.clear(book.market, self.time)
                book.opened = False
            raise MalformedError(
                f"{book.market.name} leaves a gap: expected prevSeqId = {book.sequence}, "
                f"got {previous}",
                "prevSeqId",
            )

    def trade(self, name: str, trade: dict[str, Any]) -> None:
        book = self.book_of(name)
        trade_id = member(trade, "tradeId")
        if type(trade_id) is not str or not trade_id.isdecimal() or not trade_id.isascii():
            raise MalformedError(f"{shown(trade_id)} is not an id", "tradeId")
        if len(trade_id) > 20 or int(trade_id) >= 2**64:
            raise MalformedError(f"{shown(trade_id)} does not fit 64 bits", "tradeId")
        taker = member(trade, "side")
        if type(taker) is not str or taker not in _SIDES:
            raise MalformedError(f"{shown(taker)} is neither 'buy' nor 'sell'", "side")
        size = book.market.size(member(trade, "sz"), "sz")
        if not size:
            raise MalformedError(f"{shown(trade['sz'])}: a trade has a size", "sz")
        price = book.market.price(member(trade, "px"), "px")
        self.recorder.trade(
            book.market,
            self.time,
            identity=int(trade_id),
            side=_SIDES[taker],
            price=price,
            size=size,
        )


def _milliseconds(data: dict[str, Any]) -> int:
    text = member(data, "ts")
    if type(text) is not str or not text.isdecimal() or not text.isascii() or len(text) > 13:
        raise MalformedError(f"{shown(text)} is not a time in milliseconds", "ts")
    return int(text) * NS_PER_MS


def _checksum(data: dict[str, Any]) -> int:
    """The message's checksum; 0 where it has none.

    OKX announced in May 2026 that the field will stay and always be 0, so a 0 says nothing.
    """
    checksum = data.get("checksum", 0)
    if type(checksum) is not int or not -(2**31) <= checksum < 2**31:
        raise MalformedError(f"{shown(checksum)} is not a signed 32-bit integer", "checksum")
    return checksum


def _tick_of(name: str, grid: _Grid) -> int:
    try:
        tick = to_units(grid.tick, PRICE_PLACES)
    except MalformedError as error:
        raise MalformedError(f"{name}: {error.why}", "tickSz") from None
    if not 0 < tick < 2**63:
        raise MalformedError(
            f"{name}: {shown(grid.tick)} is no tick of 1/{PRICE_SCALE} or more", "tickSz"
        )
    return tick


def _lot_of(name: str, grid: _Grid) -> Decimal:
    try:
        to_units(grid.lot, 18)
        lot = Decimal(grid.lot)
        if lot <= 0:
            raise MalformedError(f"{shown(grid.lot)} is not positive")
        size_units(lot)
    except MalformedError as error:
        raise MalformedError(f"{name}: {error.why}", "lotSz") from None
    return lot


def _is_rest(line: bytes) -> bool:
    return line.startswith((b"http://", b"https://"))


def _looks_like(line: bytes) -> bool:
    if _CONNECTION.match(line) or _REST.match(line):
        return True
    match = _LINE.match(line)
    return match is not None and (match[1] is not None or bool(_FIRST_KEY.match(match[2])))


@register("okx", looks_like=_looks_like)
def read(
    source: Source, *, channel: str = "books", trades: bool = False, levels: int = 8192
) -> Recording:
    """Read recorded OKX streams.

    Each instrument of the channel becomes a market. Each message with a checksum becomes a check.
    Where messages carry `seqId` and `prevSeqId` these must chain; an update that does not is an
    error, and under ``on_error="skip"`` clears the book until the next snapshot.

    Parameters
    ----------
    source : Source
        Its paths are files in the order of time; a REST list of instruments may be anywhere among
        them.
    channel : {'books', 'books-l2-tbt', 'books50-l2-tbt'}
        The book channel that is read; all others are left aside.
    trades : bool
        Whether trades become TRADE records; `side` is that of the resting order.
    levels : int
        Levels a side that the instruments' books keep hot.

    Returns
    -------
    Recording
        `ingress_ts_ns` is the line's timestamp, or else the message's `ts`. An instrument that no
        REST list names has the greatest common divisors of its prices and sizes as tick and lot.

    Raises
    ------
    FeedError
        A line is not of this format, a price or size is off its instrument's grid, or there is a
        gap.
    ConfigError
        An option cannot be used.
    """
    if channel not in BOOK_CHANNELS:
        raise ConfigError(f"channel = {channel!r}: must be one of {', '.join(BOOK_CHANNELS)}")
    levels = checked_levels(levels)
    reader = _Reader(source, channel, bool(trades))
    reader.read()
    recorder, path = reader.recorder, source.paths[0]
    if not recorder.count:
        raise source.nothing(f"messages of the channel {channel!r}")
    return Recording(
        transactions=recorder.transactions(recorder.lots(path), path),
        instruments=recorder.instruments(levels),
        checks=ChecksumChecks(
            position=np.array(reader.position, np.int64),
            market=np.array(reader.market, np.uint8),
            checksum=np.array(reader.checksum, np.int32),
            algorithm=OkxChecksum(),
        )
        if reader.checksum
        else None,
        skipped=source.faults.skipped,
        problems=tuple(source.faults.problems),
        source=source.paths,
    )
