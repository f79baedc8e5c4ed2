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
from collections.abc import Hashable
from decimal import Decimal
from typing import Any, NamedTuple

from velox.core.instrument import MAX_PRICE_DECIMALS, PRICE_DECIMALS
from velox.core.integers import INT32_MAX, INT64_MAX
from velox.core.records import Side
from velox.feeds.decode.decimals import parsed, to_units
from velox.feeds.decode.fields import (
    integer,
    integer_text,
    member,
    name_of,
    obj,
    parse_json,
    time_of_text,
)
from velox.feeds.decode.levels import Levels, Market, Sink, require_uncrossed
from velox.feeds.decode.malformed import MalformedError, shown
from velox.feeds.decode.session import (
    BookSession,
    BookState,
    OnGap,
    Recent,
    Report,
    objects_of,
    require_object,
)

__all__ = ["BOOK_CHANNELS", "CHANNELS", "PICTURE_CHANNELS", "OkxSession"]

# Channels that send a snapshot and then changes to it, with the levels a side that each covers.
BOOK_CHANNELS = {"books-l2-tbt": 400, "books": 400, "books50-l2-tbt": 50}
# Channels whose messages each hold all of the best levels.
PICTURE_CHANNELS = {"books5": 5, "bbo-tbt": 1}
# If an instrument has several channels, the first in this list is read.
CHANNELS = (*BOOK_CHANNELS, *PICTURE_CHANNELS)

_SIDES = {"buy": Side.ASK, "sell": Side.BID}  # of whom the taker met


# How long an update that came too early may wait for those before it, and how many may wait.
REORDER_NS = 1_000_000_000
REORDER_LIMIT = 1024


class _Update(NamedTuple):
    origin: Hashable
    bids: Levels
    asks: Levels
    sequence: int | None
    previous: int | None
    identity: Hashable
    checksum: int
    venue_time: int


class _Grid(NamedTuple):
    tick: str
    lot: str


class OkxSession(BookSession):
    """The messages of one connection, in the order of their arrival.

    Its parameters are those of `BookSession`, but units: they come from `feed_instruments`.
    `channel` is one of CHANNELS.

    Attributes
    ----------
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
        super().__init__(sink, report, channel=channel, symbol=symbol, on_gap=on_gap, trades=trades)
        self.positions = array("q")
        self.markets = array("B")
        self.checksums = array("i")
        self._grids: dict[str, _Grid] = {}

    def feed_instruments(self, raw: bytes, origin: Hashable) -> None:
        """Read tick and lot of each instrument from a REST answer."""
        try:
            answer = require_object(parse_json(raw))
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

    def _time_of(self, message: dict[str, Any]) -> int | None:
        argument, data = message.get("arg"), message.get("data")
        if type(argument) is not dict or type(data) is not list or not data:
            return None
        if not self._is_read(argument.get("channel")) or type(data[0]) is not dict:
            return None
        return _time_of(data[0])

    def _message(self, message: dict[str, Any], origin: Hashable) -> None:
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
        if not self._is_read(channel):
            self.ignored[channel] += 1
            return
        name = name_of(argument, "instId")
        if self._is_other(name):
            return
        data = objects_of(message, "data")
        if not data:
            raise MalformedError("expected an array of objects, got []", "data")
        if channel == "trades":
            for trade in data:
                self._print(name, trade)
        elif len(data) != 1:
            raise MalformedError(f"{len(data)} books in one message", "data")
        elif channel in PICTURE_CHANNELS:
            self._picture(name, channel, data[0])
        else:
            self._book(name, channel, message, data[0], origin)

    def _is_read(self, channel: object) -> bool:
        if channel == "trades":
            return self.trades
        return channel in CHANNELS if self.channel is None else channel == self.channel

    def _market(self, name: str) -> Market:
        grid = self._grids.get(name)
        if grid is None:
            return self.sink.market(name)
        places, tick = _tick_of(name, grid)
        return self.sink.market(name, places=places, tick=tick, lot=_lot_of(name, grid))

    def _levels(
        self, book: BookState, data: dict[str, Any], *, whole: bool
    ) -> tuple[Levels, Levels]:
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
            book.recent = Recent()
        self._snapshot(book, bids, asks, "bids", levels=PICTURE_CHANNELS[channel])
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
        bids, asks = self._levels(book, data, whole=opens)
        sequence = _sequence(data)
        identity = _identity(data, sequence)
        if identity is not None and book.opened and identity in book.recent and book.rank == rank:
            keeps_alive = sequence is not None and sequence == _previous(data) == book.sequence
            if not keeps_alive:
                self.ignored[f"{channel} known already"] += 1
                book.redundant = True
                return
        if opens and book.rank == rank and _is_older(book, sequence, self.venue_time):
            # The first message of another connection.
            self.ignored[f"{channel} known already"] += 1
            book.redundant = True
            return
        update = _Update(
            origin, bids, asks, sequence, _previous(data), identity, checksum, self.venue_time
        )
        if opens:
            if book.rank != rank or not book.opened:
                book.recent = Recent()
            known = BOOK_CHANNELS[channel]
            self._snapshot(book, bids, asks, "bids", levels=known)
            self._take(book, rank, update)
        elif self._may_update(book, origin) and not self._holds(book, update):
            self._update(book, rank, update)
        if book.held:
            self._continue_held(book, rank)

    def _update(self, book: BookState, rank: int, update: _Update) -> None:
        """Apply an update if it continues the book."""
        self.venue_time = update.venue_time
        if self._continues(book, update):
            self._set(book, update.bids, update.asks)
            self._take(book, rank, update)

    def _take(self, book: BookState, rank: int, update: _Update) -> None:
        self._applied(book, rank, update.sequence, update.identity, update.checksum)
        book.venue_time = update.venue_time

    def _holds(self, book: BookState, update: _Update) -> bool:
        """Keep an update until those before it have come. False if it can be decided now."""
        previous = update.previous
        if not book.redundant or self.on_gap == "stop":
            return False
        if book.sequence is None or previous is None or previous == book.sequence:
            self.reordered += bool(book.held) and previous == book.sequence
            return False
        if not book.held:
            book.held_since = self._now()
        # A message that only keeps the connection alive continues itself.
        if previous in book.held or previous == update.sequence:
            self.ignored["update known already"] += 1
        else:
            book.held[previous] = update
        return True

    def _continue_held(self, book: BookState, rank: int) -> None:
        """Apply what was held, as far as it continues the book; or give it up as a gap."""
        while book.opened and book.sequence in book.held:
            self._update(book, rank, book.held.pop(book.sequence))
            book.held_since = self._now()
        late = self._now() > book.held_since + REORDER_NS or len(book.held) > REORDER_LIMIT
        if book.held and (late or not book.opened):
            self._give_up(book)

    def _give_up(self, book: BookState) -> None:
        """What is missing before the updates that were held does not come any more: a gap."""
        held, book.held = book.held, {}
        for update in held.values():
            if self._may_update(book, update.origin):
                self._update(book, book.rank, update)

    def finish(self, *, cut: bool = False) -> None:
        """End the session; see `BookSession.finish`."""
        if not cut:
            for book in self.books.values():
                self._give_up(book)
        super().finish(cut=cut)

    def _applied(
        self,
        book: BookState,
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

    def _continues(self, book: BookState, update: _Update) -> bool:
        """Whether an update may be applied to an open book."""
        previous = update.previous
        if book.sequence is None or previous is None or previous == book.sequence:
            return True
        why = f"expected prevSeqId = {book.sequence}, got {previous}"
        return self._goes_on(book, why, "prevSeqId", update.origin)

    def _print(self, name: str, trade: dict[str, Any]) -> None:
        book = self._book_of(name)
        identity = integer_text(trade, "tradeId")
        taker = member(trade, "side")
        if type(taker) is not str or taker not in _SIDES:
            raise MalformedError(f"{shown(taker)} is neither 'buy' nor 'sell'", "side")
        self._trade(
            book,
            trade,
            identity,
            identity=identity,
            side=_SIDES[taker],
            price="px",
            size="sz",
            venue_time=_time_of(trade) or 0,
        )


def _time_of(data: dict[str, Any]) -> int | None:
    """The venue's time of a book or a trade in ns."""
    return time_of_text(data, "ts") if "ts" in data else None


def _is_older(book: BookState, sequence: int | None, venue_time: int) -> bool:
    """Whether a snapshot tells of a time before the book's own."""
    return (
        book.opened
        and sequence is not None
        and book.sequence is not None
        and sequence < book.sequence
        and 0 < venue_time <= book.venue_time
    )


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


def _checksum(data: dict[str, Any]) -> int:
    """The message's checksum; 0 where it has none.

    OKX announced in May 2026 that the field stays and is always 0, so a 0 says nothing.
    """
    checksum = data.get("checksum", 0)
    if type(checksum) is not int or not -INT32_MAX - 1 <= checksum <= INT32_MAX:
        raise MalformedError(f"{shown(checksum)} is not a signed 32-bit integer", "checksum")
    return checksum


def _tick_of(name: str, grid: _Grid) -> tuple[int, int]:
    """Decimals of the prices of an instrument, and its tick in that unit."""
    try:
        _, places = parsed(grid.tick)
        places = max(places, PRICE_DECIMALS)
        if places > MAX_PRICE_DECIMALS:
            raise MalformedError(f"{shown(grid.tick)} is finer than 1e-{MAX_PRICE_DECIMALS}")
        tick = to_units(grid.tick, places)
    except MalformedError as error:
        raise MalformedError(f"{name}: {error.why}", "tickSz") from None
    if not 0 < tick <= INT64_MAX:
        raise MalformedError(f"{name}: {shown(grid.tick)} is not a valid tick", "tickSz")
    return places, tick


def _lot_of(name: str, grid: _Grid) -> Decimal:
    try:
        units = to_units(grid.lot, MAX_PRICE_DECIMALS)
    except MalformedError as error:
        raise MalformedError(f"{name}: {error.why}", "lotSz") from None
    if not 0 < units < 10 ** (2 * MAX_PRICE_DECIMALS):
        raise MalformedError(f"{name}: {shown(grid.lot)} is not a valid lot", "lotSz")
    return Decimal(grid.lot)
