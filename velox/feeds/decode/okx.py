"""Decodes OKX's book channels, for any number of instruments, with the venue's own checksum.

Updates chain by ``prevSeqId == seqId`` of the message before. A maintenance may reset `seqId` to a
lower value while `prevSeqId` still chains. So only an id that was seen recently counts as a
repetition.

A recording may hold what two connections received. Once a book's message was repeated, an update
that does not continue the book is held: for a second at most, until those before it have come. Only
then is it a gap.
"""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from velox.core.records import Side
from velox.feeds.decode.binance import OnGap, Report
from velox.feeds.decode.decimals import LARGEST_PLACES, PRICE_PLACES, parsed, to_units
from velox.feeds.decode.fields import (
    KEEP_ALIVES,
    epoch_ns,
    integer,
    member,
    name_of,
    obj,
    parse_json,
)
from velox.feeds.decode.levels import Levels, Market, Sink, require_uncrossed
from velox.feeds.decode.malformed import MalformedError, shown

__all__ = ["BOOK_CHANNELS", "CHANNELS", "PICTURE_CHANNELS", "OkxSession"]

# Channels that send a snapshot and then changes to it, with the levels a side that each covers.
BOOK_CHANNELS = {"books-l2-tbt": 400, "books": 400, "books50-l2-tbt": 50}
# Channels whose messages each hold all of the best levels.
PICTURE_CHANNELS = {"books5": 5, "bbo-tbt": 1}
# If an instrument has several channels, the first in this list is read.
CHANNELS = (*BOOK_CHANNELS, *PICTURE_CHANNELS)

# How many recent messages are kept to find repetitions.
RECENT = 8_192
# How long an update that came too early may wait for those before it, and how many may wait.
REORDER_NS = 1_000_000_000
REORDER_LIMIT = 1024

_SIDES = {"buy": int(Side.ASK), "sell": int(Side.BID)}  # of whom the taker met


class _Grid(NamedTuple):
    tick: str
    lot: str


class _Recent:
    """Keeps the newest values, up to a limit."""

    def __init__(self) -> None:
        self._order: deque[Hashable] = deque()
        self._values: set[Hashable] = set()

    def __contains__(self, value: Hashable) -> bool:
        return value in self._values

    def add(self, value: Hashable) -> None:
        if value in self._values:
            return
        self._values.add(value)
        self._order.append(value)
        if len(self._order) > RECENT:
            self._values.discard(self._order.popleft())


class _Update(NamedTuple):
    origin: Hashable
    bids: Levels
    asks: Levels
    sequence: int | None
    previous: int | None
    identity: Hashable
    checksum: int
    venue_time: int


@dataclass(slots=True)
class _Book:
    market: Market
    rank: int = len(CHANNELS)  # of the channel that it is read from, in CHANNELS
    opened: bool = False
    lost: bool = False  # a gap emptied it
    # None if the recording is from before OKX sent ids.
    sequence: int | None = None
    recent: _Recent = field(default_factory=_Recent)
    recent_trades: _Recent = field(default_factory=_Recent)
    venue_time: int = 0  # of the newest message that was applied
    # Whether a message was repeated: several connections were recorded.
    redundant: bool = False
    # Updates that came too early, by the id that they continue, and when the first of them came.
    held: dict[int, _Update] = field(default_factory=dict)
    held_since: int = 0


class OkxSession:
    """The messages of one connection, in the order of their arrival.

    Parameters
    ----------
    sink : Sink
    report : Report
    channel : str, optional
        One of CHANNELS. If not given: the fullest that each instrument has.
    symbol : str, optional
        Read this instrument only.
    on_gap : {'clear', 'continue', 'stop'}
        After a gap: empty the book until the next snapshot, go on, or report an error.
    trades : bool
        Whether trades become TRADE records.

    Attributes
    ----------
    ignored : Counter of str
        How many messages were ignored, by the name of the channel, the event or the reason.
    gaps : int
        Updates that did not continue the one before.
    reordered : int
        Updates that came after updates that they precede, and were applied in their place.
    positions, markets, checksums : array of int
        The venue's checksums: the sink's count after each, its market, and its value.

    Notes
    -----
    Not thread-safe: one thread feeds a session.
    """

    def __init__(
        self,
        sink: Sink,
        report: Report,
        *,
        channel: str | None = None,
        symbol: str | None = None,
        on_gap: OnGap = "clear",
        trades: bool = False,
    ) -> None:
        self.sink = sink
        self.report = report
        self.channel = channel
        self.only = symbol
        self.on_gap = on_gap
        self.trades = trades
        self.ignored: Counter[str] = Counter()
        self.gaps = 0
        self.reordered = 0
        self.time = 0
        self.books: dict[str, _Book] = {}
        self.positions = array("q")
        self.markets = array("B")
        self.checksums = array("i")
        self._grids: dict[str, _Grid] = {}

    def feed(self, raw: bytes, recv_ns: int | None, origin: Hashable) -> None:
        """Take one message of the websocket; the parameters are those of `BinanceSession.feed`."""
        if raw in KEEP_ALIVES:
            self.ignored[raw.decode()] += 1
            return
        try:
            message = _object(parse_json(raw))
            if recv_ns is not None:
                self.time = recv_ns
            self._message(message, origin, timed=recv_ns is not None)
        except MalformedError as error:
            self.report(error, origin)

    def feed_instruments(self, raw: bytes, origin: Hashable) -> None:
        """Read tick and lot of each instrument from a REST answer."""
        try:
            answer = _object(parse_json(raw))
            data = member(answer, "data")
            if type(data) is not list:
                raise MalformedError(f"{shown(data)} is not an array", "data")
            for entry in data:
                # Kept as text until it is needed, since the grid of an instrument that is not read
                # may be invalid.
                if type(entry) is dict and entry.keys() >= {"instId", "tickSz", "lotSz"}:
                    self._grids[name_of(entry, "instId")] = _Grid(entry["tickSz"], entry["lotSz"])
        except MalformedError as error:
            self.report(error, origin)

    def _message(self, message: dict[str, Any], origin: Hashable, *, timed: bool) -> None:
        if "event" in message or "op" in message:
            key = "event" if "event" in message else "op"
            self.ignored[name_of(message, key)] += 1
            return
        if "arg" not in message and message.keys().isdisjoint({"data", "action", "bids", "asks"}):
            is_error = message.keys() >= {"code", "msg"}
            self.ignored["error reply" if is_error else "unrecognised object"] += 1
            return
        argument = obj(message, "arg")
        channel = name_of(argument, "channel")
        is_trade = channel == "trades" and self.trades
        if not is_trade and not self._is_read(channel):
            self.ignored[channel] += 1
            return
        name = name_of(argument, "instId")
        if self.only is not None and name != self.only:
            self.ignored["other symbol"] += 1
            return
        data = member(message, "data")
        if type(data) is not list or not data or not all(type(entry) is dict for entry in data):
            raise MalformedError(f"expected an array of objects, got {shown(data)}", "data")
        if not timed and "ts" in data[0]:
            self.time = _time_of(data[0])
        if is_trade:
            for trade in data:
                self._trade(name, trade)
        elif len(data) != 1:
            raise MalformedError(f"{len(data)} books in one message", "data")
        elif channel in PICTURE_CHANNELS:
            self._picture(name, channel, data[0])
        else:
            self._book(name, channel, message, data[0], origin)

    def _is_read(self, channel: str) -> bool:
        return channel in CHANNELS if self.channel is None else channel == self.channel

    def _book_of(self, name: str) -> _Book:
        book = self.books.get(name)
        if book is None:
            places = tick = lot = None
            grid = self._grids.get(name)
            if grid is not None:
                places, tick = _tick_of(name, grid)
                lot = _lot_of(name, grid)
            book = _Book(self.sink.market(name, places=places, tick=tick, lot=lot))
            self.books[name] = book
        return book

    def _levels(self, book: _Book, data: dict[str, Any], *, whole: bool) -> tuple[Levels, Levels]:
        market = book.market
        bids = market.levels(member(data, "bids"), "bids", zero_allowed=not whole)
        asks = market.levels(member(data, "asks"), "asks", zero_allowed=not whole)
        if whole:
            require_uncrossed(market, bids, asks, "bids")
        return bids, asks

    def _picture(self, name: str, channel: str, data: dict[str, Any]) -> None:
        book = self._book_of(name)
        rank = CHANNELS.index(channel)
        if book.opened and book.rank < rank:
            self.ignored[channel] += 1  # a fuller channel is read
            return
        bids, asks = self._levels(book, data, whole=True)
        sequence = _sequence(data)
        identity = _identity(data, sequence)
        if identity is not None and identity in book.recent and book.rank == rank:
            self.ignored[f"{channel} known already"] += 1
            return
        if book.rank != rank:
            book.recent = _Recent()
        self.sink.snapshot(
            book.market,
            self.time,
            bids,
            asks,
            levels=PICTURE_CHANNELS[channel],
            venue_time=_venue_time(data),
        )
        self._applied(book, rank, sequence, identity, _checksum(data))

    def _book(
        self,
        name: str,
        channel: str,
        message: dict[str, Any],
        data: dict[str, Any],
        origin: Hashable,
    ) -> None:
        action = member(message, "action")
        if action not in ("snapshot", "update"):
            raise MalformedError(f"{shown(action)} is neither 'snapshot' nor 'update'", "action")
        opens = action == "snapshot"
        book = self._book_of(name)
        rank = CHANNELS.index(channel)
        if rank > book.rank or (rank < book.rank and not opens and book.opened):
            self.ignored[channel] += 1  # another channel is read
            return
        checksum = _checksum(data)
        venue_time = _venue_time(data)
        bids, asks = self._levels(book, data, whole=opens)
        sequence = _sequence(data)
        identity = _identity(data, sequence)
        if identity is not None and book.opened and identity in book.recent and book.rank == rank:
            keeps_alive = sequence is not None and sequence == _previous(data) == book.sequence
            if not keeps_alive:
                self.ignored[f"{channel} known already"] += 1
                book.redundant = True
                return
        if opens and book.rank == rank and _is_older(book, sequence, venue_time):
            # The first message of another connection.
            self.ignored[f"{channel} known already"] += 1
            book.redundant = True
            return
        update = _Update(
            origin, bids, asks, sequence, _previous(data), identity, checksum, venue_time
        )
        if opens:
            if book.rank != rank or not book.opened:
                book.recent = _Recent()
            known = BOOK_CHANNELS[channel]
            self.sink.snapshot(
                book.market, self.time, bids, asks, levels=known, venue_time=venue_time
            )
            self._applied(book, rank, sequence, identity, checksum)
            book.venue_time = venue_time
        elif not self._holds(book, update):
            self._update(book, rank, update)
        if book.held:
            self._continue_held(book, rank)

    def _update(self, book: _Book, rank: int, update: _Update) -> None:
        """Apply an update if it continues the book."""
        if not self._continues(book, update):
            return
        self.sink.update(
            book.market, self.time, update.bids, update.asks, venue_time=update.venue_time
        )
        self._applied(book, rank, update.sequence, update.identity, update.checksum)
        book.venue_time = update.venue_time

    def _holds(self, book: _Book, update: _Update) -> bool:
        """Keep an update until those before it have come. False if it can be decided now."""
        previous = update.previous
        if not (book.redundant and book.opened) or self.on_gap == "stop":
            return False
        if book.sequence is None or previous is None or previous == book.sequence:
            self.reordered += bool(book.held) and previous == book.sequence
            return False
        if not book.held:
            book.held_since = self.time
        # A message that only keeps the connection alive continues itself.
        if previous in book.held or previous == update.sequence:
            self.ignored["update known already"] += 1
        else:
            book.held[previous] = update
        return True

    def _continue_held(self, book: _Book, rank: int) -> None:
        """Apply what was held, as far as it continues the book; or give it up as a gap."""
        while book.opened and book.sequence in book.held:
            self._update(book, rank, book.held.pop(book.sequence))
            book.held_since = self.time
        expired = self.time > book.held_since + REORDER_NS or len(book.held) > REORDER_LIMIT
        if book.held and (expired or not book.opened):
            self._give_up(book, rank)

    def _give_up(self, book: _Book, rank: int) -> None:
        held, book.held = book.held, {}
        for update in held.values():
            self._update(book, rank, update)

    def finish(self) -> None:
        """End the session: what an update waits for does not come any more."""
        for book in self.books.values():
            self._give_up(book, book.rank)

    def _applied(
        self,
        book: _Book,
        rank: int,
        sequence: int | None,
        identity: Hashable,
        checksum: int,
    ) -> None:
        book.opened, book.lost, book.rank, book.sequence = True, False, rank, sequence
        if identity is not None:
            book.recent.add(identity)
        if checksum:
            self.positions.append(self.sink.count)
            self.markets.append(book.market.id)
            self.checksums.append(checksum)

    def _continues(self, book: _Book, update: _Update) -> bool:
        """Whether an update may be applied to the book in its present state."""
        if not book.opened:
            if book.lost:
                self.ignored["update without a snapshot"] += 1
                return False
            raise MalformedError(
                f"no snapshot of {book.market.name} comes before this update", "action"
            )
        previous = update.previous
        if book.sequence is None or previous is None or previous == book.sequence:
            return True
        self.gaps += 1
        error = MalformedError(
            f"{book.market.name} leaves a gap: expected prevSeqId = {book.sequence}, "
            f"got {previous}",
            "prevSeqId",
        )
        self.report(error, update.origin, lines=int(self.on_gap == "stop"))
        if self.on_gap == "continue":
            return True
        # The book is no longer correct until the next snapshot.
        self.sink.clear(book.market, self.time, venue_time=update.venue_time)
        book.opened, book.lost = False, True
        return False

    def _trade(self, name: str, trade: dict[str, Any]) -> None:
        book = self._book_of(name)
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
        venue_time = _venue_time(trade)
        identity = int(trade_id)
        if identity in book.recent_trades:
            self.ignored["trade known already"] += 1
            return
        book.recent_trades.add(identity)
        self.sink.trade(
            book.market,
            self.time,
            identity=identity,
            side=_SIDES[taker],
            price=price,
            size=size,
            venue_time=venue_time,
        )


def _is_older(book: _Book, sequence: int | None, venue_time: int) -> bool:
    """Whether a snapshot tells of a time before the book's own."""
    return (
        book.opened
        and sequence is not None
        and book.sequence is not None
        and sequence < book.sequence
        and 0 < venue_time <= book.venue_time
    )


def _object(value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        raise MalformedError(f"expected a JSON object, got {shown(value)}")
    return value


def _sequence(data: dict[str, Any]) -> int | None:
    return integer(data, "seqId") if "seqId" in data else None


def _previous(data: dict[str, Any]) -> int | None:
    return integer(data, "prevSeqId", lowest=-1) if "prevSeqId" in data else None


def _identity(data: dict[str, Any], sequence: int | None) -> Hashable:
    """Return a key that two copies of one message share; None if the message has none."""
    if sequence is not None:
        return sequence
    if type(data.get("ts")) is not str:
        return None
    return (data["ts"], data.get("checksum"), repr(data.get("bids")), repr(data.get("asks")))


def _time_of(data: dict[str, Any]) -> int:
    text = member(data, "ts")
    if type(text) is not str or not text.isdecimal() or not text.isascii() or len(text) > 19:
        raise MalformedError(f"{shown(text)} is not a time", "ts")
    return epoch_ns(int(text), "ts")


def _venue_time(data: dict[str, Any]) -> int:
    """The venue's time of a book or a trade in ns; 0 if it has none."""
    return _time_of(data) if "ts" in data else 0


def _checksum(data: dict[str, Any]) -> int:
    """The message's checksum; 0 where it has none.

    OKX announced in May 2026 that the field stays and is always 0, so a 0 says nothing.
    """
    checksum = data.get("checksum", 0)
    if type(checksum) is not int or not -(2**31) <= checksum < 2**31:
        raise MalformedError(f"{shown(checksum)} is not a signed 32-bit integer", "checksum")
    return checksum


def _tick_of(name: str, grid: _Grid) -> tuple[int, int]:
    """Decimals of the prices of an instrument, and its tick in that unit."""
    try:
        _, places = parsed(grid.tick)
        places = max(places, PRICE_PLACES)
        if places > LARGEST_PLACES:
            raise MalformedError(f"{shown(grid.tick)} is finer than 1e-{LARGEST_PLACES}")
        tick = to_units(grid.tick, places)
    except MalformedError as error:
        raise MalformedError(f"{name}: {error.why}", "tickSz") from None
    if not 0 < tick < 2**63:
        raise MalformedError(f"{name}: {shown(grid.tick)} is not a valid tick", "tickSz")
    return places, tick


def _lot_of(name: str, grid: _Grid) -> Decimal:
    try:
        units = to_units(grid.lot, LARGEST_PLACES)
    except MalformedError as error:
        raise MalformedError(f"{name}: {error.why}", "lotSz") from None
    if not 0 < units < 10 ** (2 * LARGEST_PLACES):
        raise MalformedError(f"{name}: {shown(grid.lot)} is not a valid lot", "lotSz")
    return Decimal(grid.lot)
