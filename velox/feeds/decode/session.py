"""What the sessions of several venues share: books by name, gaps, repetitions, trades and times."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, Protocol, TypedDict

import numpy as np

from velox.core.records import Side
from velox.feeds.decode.decimals import Grown
from velox.feeds.decode.fields import KEEP_ALIVES, TIME_LIMIT, member, parse_json
from velox.feeds.decode.levels import Levels, Market, Sink, require_uncrossed
from velox.feeds.decode.malformed import MalformedError, shown

__all__ = [
    "BookSession",
    "BookState",
    "OnGap",
    "Recent",
    "Report",
    "SessionOptions",
    "objects_of",
    "require_object",
]

OnGap = Literal["clear", "continue", "stop"]
Origin = Hashable

# How many recent messages are kept to find repetitions.
RECENT = 8_192
# The rank of a book of which no message has been read; worse than any channel's.
UNREAD = 1 << 30
# The most messages that wait for the first time of a recording.
EARLY_LIMIT = 64


class Report(Protocol):
    """Called for each message that cannot be read, and for each fault that is found later."""

    def __call__(
        self, error: MalformedError, origin: Origin, *, lines: int = 1, fatal: bool = False
    ) -> None:
        """`lines` is how many lines are lost; 0 for a note only.

        A fatal error always stops the load.
        """


class SessionOptions(TypedDict, total=False):
    """The options of a `BookSession`."""

    channel: str | None
    symbol: str | None
    on_gap: OnGap
    trades: bool
    places: int | None
    tick: int | None
    lot: Decimal | None


class Recent:
    """Keeps the newest values, up to a limit."""

    def __init__(self) -> None:
        self._order: deque[Hashable] = deque()
        self._values: set[Hashable] = set()

    def __contains__(self, value: Hashable) -> bool:
        return value in self._values

    def add(self, value: Hashable) -> None:
        """Keep a value. The oldest is dropped beyond the limit."""
        if value in self._values:
            return
        self._values.add(value)
        self._order.append(value)
        if len(self._order) > RECENT:
            self._values.discard(self._order.popleft())


@dataclass(slots=True, eq=False)
class BookState:
    """The state of one instrument's book.

    Attributes
    ----------
    market : Market
    rank : int
        Of the channel that it is read from; a lower rank is a fuller channel.
    opened : bool
        Whether a snapshot has opened it, and no gap has emptied it since.
    lost : bool
        Whether a gap emptied it.
    sequence : int or None
        The id of the newest message, where the venue numbers them.
    waiting : int
        Updates that came before the first snapshot.
    waiting_since : hashable
        Where the first of these came from.
    venue_time : int
        The venue's time of the newest message that was applied, where the session notes it.
    redundant : bool
        Whether a message was repeated: several connections were recorded.
    held : dict
        Updates that came too early, by the id of the message that they continue.
    held_since : int
        When the first of these came.
    ids, positions : array of int
        The id of each state of the book that a ticker may state too, and the sink's count then.
    ticker_ids, tickers : array of int
        Each ticker: its id; bid price, bid size, ask price, ask size in the units of the market.
        An empty side is 0 and 0.
    """

    market: Market
    rank: int = UNREAD
    opened: bool = False
    lost: bool = False
    sequence: int | None = None
    waiting: int = 0
    waiting_since: Origin = None
    venue_time: int = 0
    redundant: bool = False
    held: dict[int, Any] = field(default_factory=dict)
    held_since: int = 0
    recent: Recent = field(default_factory=Recent)
    recent_trades: Recent = field(default_factory=Recent)
    ids: array[int] = field(default_factory=lambda: array("Q"))
    positions: array[int] = field(default_factory=lambda: array("q"))
    ticker_ids: array[int] = field(default_factory=lambda: array("Q"))
    tickers: array[int] = field(default_factory=lambda: array("q"))


class BookSession:
    """The messages of one connection, in the order of their arrival: the base of the venues' own.

    A venue's class says how a message is read (`_message`), and what its own time is (`_time_of`).

    Parameters
    ----------
    sink : Sink
    report : Report
    channel : str, optional
        The book channel to read. If not given: the fullest that each instrument has.
    symbol : str, optional
        Read this instrument only.
    on_gap : {'clear', 'continue', 'stop'}
        After a gap: empty the book until the next snapshot, go on, or report an error.
    trades : bool
        Whether trades become TRADE records.
    places, tick, lot : optional
        The units of each market, as `LevelRecorder.market` takes them.

    Attributes
    ----------
    ignored : Counter of str
        How many messages were ignored, by the name of the channel, the event or the reason.
    gaps : int
        Places where messages are missing.
    reordered : int
        Messages that came after messages that they precede, and were applied in their place.
    books : dict
        By name: `BookState`.
    time : int or None
        The time of the newest message that had one.
    venue_time : int
        The venue's own time of the newest message, in ns; 0 if it had none.

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
        places: int | None = None,
        tick: int | None = None,
        lot: Decimal | None = None,
    ) -> None:
        self.sink = sink
        self.report = report
        self.channel = channel
        self.only = symbol
        self.on_gap = on_gap
        self.trades = trades
        self.places = places
        self.tick = tick
        self.lot = lot
        self.ignored: Counter[str] = Counter()
        self.gaps = 0
        self.reordered = 0
        self.books: dict[str, BookState] = {}
        self.time: int | None = None
        # The venue's own time of the message that is being read; 0 if it has none.
        self.venue_time = 0
        # Messages that came before any time was known.
        self._early: list[tuple[dict[str, Any], Origin]] = []

    def feed(self, raw: bytes, recv_ns: int | None, origin: Origin) -> None:
        """Take one message of the websocket.

        Parameters
        ----------
        raw : bytes
            JSON text, without a line end.
        recv_ns : int or None
            When it was received, in ns. With None, the message's own time is used, or else that of
            an adjacent message.
        origin : hashable
            Where the message came from; it is passed to `report`.
        """
        if raw in KEEP_ALIVES:
            self.ignored[raw.decode()] += 1
            return
        try:
            message = require_object(self._parse(raw))
            if recv_ns is not None and recv_ns >= TIME_LIMIT:
                raise MalformedError(f"{recv_ns} ns does not fit 63 bits", "timestamp")
            own = self._time_of(message)
            time = own if recv_ns is None else recv_ns
            if time is not None:
                self._settle(time)
            elif self.time is None and len(self._early) < EARLY_LIMIT:
                self._early.append((message, origin))
                return
            self.venue_time = own or 0
            self._message(message, origin)
        except MalformedError as error:
            self.report(error, origin)

    def finish(self, *, cut: bool = False) -> None:
        """End the session: read what still waits for a time, and report books without a snapshot.

        Parameters
        ----------
        cut : bool
            Whether the input goes on but is not read. Waiting messages are then no fault.
        """
        if self.time is None:
            self._settle(0)
        for book in self.books.values():
            if not book.waiting:
                continue
            if cut or book.rank != UNREAD:
                self.ignored["update without a snapshot"] += book.waiting
                continue
            self.report(
                MalformedError(
                    f"no snapshot of {book.market.name} opens the {book.waiting} updates from "
                    "here on"
                ),
                book.waiting_since,
                lines=book.waiting,
            )

    def grown(self, market: Market, grown: Grown) -> None:
        """Convert what is kept of a market to its finer unit."""
        for book in self.books.values():
            if book.market is market and book.tickers:
                tickers = np.frombuffer(book.tickers, np.int64)
                tickers[0 if grown.what == "price" else 1 :: 2] *= grown.factor

    # What a venue supplies

    def _parse(self, raw: bytes) -> Any:
        return parse_json(raw)

    def _time_of(self, message: dict[str, Any]) -> int | None:
        """The venue's own time of a message, in ns."""
        raise NotImplementedError

    def _message(self, message: dict[str, Any], origin: Origin) -> None:
        raise NotImplementedError

    def _market(self, name: str) -> Market:
        return self.sink.market(name, places=self.places, tick=self.tick, lot=self.lot)

    # What venues share

    def _settle(self, time: int) -> None:
        """Note the time. Messages that came before any time was known get it."""
        first = self.time is None
        self.time = time
        if first and self._early:
            early, self._early = self._early, []
            self.venue_time = 0
            for message, origin in early:
                try:
                    self._message(message, origin)
                except MalformedError as error:
                    self.report(error, origin)

    def _now(self) -> int:
        return 0 if self.time is None else self.time

    def _is_other(self, name: str) -> bool:
        """Whether an instrument is not to be read; it is then counted."""
        if self.only is None or name == self.only:
            return False
        self.ignored["other symbol"] += 1
        return True

    def _book_of(self, name: str) -> BookState:
        book = self.books.get(name)
        if book is None:
            book = self.books[name] = BookState(self._market(name))
        return book

    def _snapshot(
        self, book: BookState, bids: Levels, asks: Levels, field: str, *, levels: int = 0
    ) -> None:
        """Open a book. `field` is that of its bids."""
        require_uncrossed(book.market, bids, asks, field)
        self.sink.snapshot(
            book.market, self._now(), bids, asks, levels=levels, venue_time=self.venue_time
        )
        book.opened, book.lost = True, False

    def _set(self, book: BookState, bids: Levels, asks: Levels) -> None:
        self.sink.update(book.market, self._now(), bids, asks, venue_time=self.venue_time)

    def _may_update(self, book: BookState, origin: Origin) -> bool:
        """Whether a book is open for updates; an update that comes too early is counted."""
        if book.opened:
            return True
        if book.lost:
            self.ignored["update without a snapshot"] += 1
            return False
        if not book.waiting:
            book.waiting_since = origin
        book.waiting += 1
        return False

    def _goes_on(self, book: BookState, why: str, field: str, origin: Origin) -> bool:
        """Count a gap of one book. Returns whether the message behind it may be applied."""
        if self._count_gap(book.market.name, why, field, origin):
            return True
        self._clear(book)
        return False

    def _count_gap(self, name: str, why: str, field: str, origin: Origin) -> bool:
        """Count a gap. Returns whether the messages behind it may be applied."""
        self.gaps += 1
        error = MalformedError(f"{name} leaves a gap: {why}", field)
        self.report(error, origin, lines=int(self.on_gap == "stop"))
        return self.on_gap == "continue"

    def _clear(self, book: BookState) -> None:
        """Empty a book that is no longer correct, until the next snapshot."""
        self.sink.clear(book.market, self._now(), venue_time=self.venue_time)
        book.opened, book.lost = False, True

    def _state(self, book: BookState, identity: int) -> None:
        """Note a state of the book that a ticker may state too."""
        book.ids.append(identity)
        book.positions.append(self.sink.count)

    def _ticker(self, book: BookState, identity: int, bids: Levels, asks: Levels) -> None:
        """Note what the venue says the best levels are."""
        columns = [book.market.present(half) for half in (bids, asks)]
        book.ticker_ids.append(identity)
        for prices, sizes in columns:
            book.tickers.extend((prices[0], sizes[0]) if prices and sizes[0] else (0, 0))

    def _trade(
        self,
        book: BookState,
        trade: dict[str, Any],
        key: Hashable,
        *,
        identity: int,
        side: Side,
        price: str,
        size: str,
        venue_time: int,
    ) -> None:
        """Write a trade unless it is known. `price` and `size` are the names of fields."""
        amount = book.market.size(member(trade, size), size)
        if not amount:
            raise MalformedError(f"{shown(trade[size])}: a trade has a size", size)
        value = book.market.price(member(trade, price), price)
        if key in book.recent_trades:
            self.ignored["trade known already"] += 1
            return
        book.recent_trades.add(key)
        self.sink.trade(
            book.market,
            self._now(),
            identity=identity,
            side=int(side),
            price=value,
            size=amount,
            venue_time=venue_time,
        )


def require_object(value: Any) -> dict[str, Any]:
    """Refuse JSON that is no object."""
    if type(value) is not dict:
        raise MalformedError(f"expected a JSON object, got {shown(value)}")
    return value


def objects_of(message: dict[str, Any], field: str) -> list[dict[str, Any]]:
    """A required array of objects."""
    value = member(message, field)
    if type(value) is not list or not all(type(entry) is dict for entry in value):
        raise MalformedError(f"expected an array of objects, got {shown(value)}", field)
    return value
