"""Decodes rows of Tardis' ``incremental_book_L2`` and ``trades`` files.

A row is one level or one trade. Consecutive rows of one symbol with the same `local_timestamp` are
one message of the venue, and so one event. The source is "Data types" in Tardis' documentation of
its CSV files. It says: if the last update was not a snapshot and the current one is, then the
existing book must be discarded.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, NamedTuple, Protocol

from velox.core.records import Side
from velox.feeds.decode.fields import NAME_LIMIT
from velox.feeds.decode.levels import Levels, Market, Sink, require_uncrossed
from velox.feeds.decode.malformed import MalformedError, shown

__all__ = ["BOOK_COLUMNS", "TRADE_COLUMNS", "OnBadRow", "Row", "TardisSession", "parse_row"]

BOOK_COLUMNS = (
    *("exchange", "symbol", "timestamp", "local_timestamp"),
    *("is_snapshot", "side", "price", "amount"),
)
TRADE_COLUMNS = (
    *("exchange", "symbol", "timestamp", "local_timestamp"),
    *("id", "side", "price", "amount"),
)

OnBadRow = Literal["clear", "continue"]

_BOOK_SIDES = {b"bid": int(Side.BID), b"ask": int(Side.ASK)}
# The side of a trade is that of the taker; the order that it met rested on the other side.
_TAKERS: dict[bytes, int | None] = {
    b"buy": int(Side.ASK),
    b"sell": int(Side.BID),
    b"unknown": None,
}
_EXPONENT = re.compile(r"[0-9]{1,40}(?:\.[0-9]{1,40})?[eE][+-]?[0-9]{1,2}", re.ASCII)
# Times in microseconds have 16 digits from 2001 to 2286.
_UNITS = {10: "seconds", 13: "milliseconds", 19: "nanoseconds"}


class Row(NamedTuple):
    """One row of a file. Times are nanoseconds."""

    exchange: str
    symbol: str
    venue_time: int
    time: int
    is_trade: bool
    opens: bool  # whether it is part of a snapshot
    side: int | None  # None for a trade whose side is unknown
    price: str
    amount: str
    identity: bytes


class Report(Protocol):
    """Called with each event that cannot be read, and the number of rows that are lost."""

    def __call__(self, error: MalformedError, row: int, *, lines: int) -> None:
        """`row` is the number that was given with the first row of the event."""


def parse_row(raw: bytes, *, is_trade: bool) -> Row:
    """Parse a line of a file.

    Raises
    ------
    MalformedError
        A column is wrong; the error's field names it.
    """
    columns = raw.split(b",")
    if len(columns) != len(BOOK_COLUMNS):
        raise MalformedError(f"{len(columns)} columns; a row has {len(BOOK_COLUMNS)}")
    exchange, symbol, timestamp, local, fifth, side, price, amount = columns
    sides = _TAKERS if is_trade else _BOOK_SIDES
    if side not in sides:
        raise MalformedError(f"{shown(side.decode('latin-1'))} is not a side", "side")
    opens = not is_trade and fifth == b"true"
    if not is_trade and fifth not in (b"true", b"false"):
        raise MalformedError(
            f"{shown(fifth.decode('latin-1'))} is neither true nor false", "is_snapshot"
        )
    return Row(
        _name(exchange, "exchange"),
        _name(symbol, "symbol"),
        _time(timestamp, "timestamp"),
        _time(local, "local_timestamp"),
        is_trade,
        opens,
        sides[side],
        _number(price, "price"),
        _number(amount, "amount"),
        fifth,
    )


def _name(raw: bytes, field: str) -> str:
    name = raw.decode("utf-8", "replace")
    if not 0 < len(name) <= NAME_LIMIT or not name.isprintable():
        raise MalformedError(f"{shown(name)} is not a name", field)
    return name


def _time(raw: bytes, field: str) -> int:
    if len(raw) != 16 or not raw.isdigit():
        text = raw.decode("latin-1")
        unit = _UNITS.get(len(raw)) if raw.isdigit() else None
        why = f"has the size of a time in {unit}" if unit else "is not a time"
        raise MalformedError(f"{shown(text)} {why}; expected microseconds since 1970", field)
    return int(raw) * 1_000


def _number(raw: bytes, field: str) -> str:
    """Decimal text without an exponent. Small numbers are written with one, such as 1e-8."""
    text = raw.decode("latin-1")
    if "e" not in text and "E" not in text:
        return text
    if _EXPONENT.fullmatch(text) is None:
        raise MalformedError(f"{shown(text)} is not a decimal number", field)
    return f"{Decimal(text):f}"


@dataclass(slots=True, eq=False)
class _Book:
    market: Market
    exchange: str
    opened: bool = False
    # The rows of the newest snapshot, while no other update has followed it.
    opening: list[Row] = field(default_factory=list)
    sources: set[int] = field(default_factory=set)


class TardisSession:
    """Rows of any number of symbols, in the order of their local time.

    Parameters
    ----------
    sink : Sink
    report : Report
    symbol : str, optional
        Read this symbol only: ``SYMBOL`` or ``EXCHANGE:SYMBOL``.
    on_gap : {'clear', 'continue'}
        After rows that cannot be read: empty the book until the next snapshot, or go on.
    places, tick, lot : optional
        The units of each market, as `LevelRecorder.market` takes them.

    Attributes
    ----------
    ignored : Counter of str
        How many rows were ignored, by the reason.
    gaps : int
        Books that were open while rows of theirs could not be read.
    """

    def __init__(
        self,
        sink: Sink,
        report: Report,
        *,
        symbol: str | None = None,
        on_gap: OnBadRow = "clear",
        places: int | None = None,
        tick: int | None = None,
        lot: Decimal | None = None,
    ) -> None:
        self.sink = sink
        self.report = report
        self.only = symbol
        self.on_gap = on_gap
        self.places = places
        self.tick = tick
        self.lot = lot
        self.ignored: Counter[str] = Counter()
        self.gaps = 0
        self.time = 0
        self.books: dict[tuple[str, str], _Book] = {}
        self._event: list[Row] = []
        self._key: tuple[int, str, str, int, bool] | None = None
        self._first = 0
        # Sources whose last row could not be read: the event around it is not whole.
        self._damaged: set[int] = set()
        self._whole = True

    def feed(self, row: Row, number: int, source: int = 0) -> None:
        """Take a row.

        Parameters
        ----------
        row : Row
        number : int
            The number by which `report` is told of the row.
        source : int
            From which file the row is.
        """
        if self.only is not None and self.only not in (row.symbol, f"{row.exchange}:{row.symbol}"):
            self.ignored["other symbol"] += 1
            return
        if row.is_trade:
            self.end_event()
            self.time = row.time
            try:
                self._trade(row)
            except MalformedError as error:
                self.report(error, number, lines=1)
            return
        key = (source, row.exchange, row.symbol, row.time, row.opens)
        if key != self._key:
            self.end_event()
            self._key, self._first = key, number
            self._whole = source not in self._damaged or self.on_gap == "continue"
            self._damaged.discard(source)
        self._event.append(row)

    def lose(self, source: int = 0) -> None:
        """Note that a row of a book could not be read.

        It may belong to any symbol of its source, and to the event before it or after it.
        """
        if self._key is not None and self._key[0] == source and self.on_gap == "clear":
            self._whole = False
        self.end_event()
        self._damaged.add(source)
        for book in self.books.values():
            if source in book.sources:
                self._lose(book)

    def end_event(self) -> None:
        """Apply the rows of one message, once all of them have come."""
        rows, key = self._event, self._key
        self._event, self._key = [], None
        if not rows or key is None:
            return
        self.time = rows[0].time
        if rows[0].opens and not self._whole:
            self.ignored["row of a damaged snapshot"] += len(rows)
            return
        book: _Book | None = None
        try:
            book = self._book_of(rows[0])
            book.sources.add(key[0])
            self._apply(book, rows)
        except MalformedError as error:
            self.report(error, self._first, lines=len(rows))
            if book is not None:
                self._lose(book)

    def _lose(self, book: _Book) -> None:
        if not book.opened:
            return
        self.gaps += 1
        if self.on_gap == "clear":
            book.opened, book.opening = False, []
            self.sink.clear(book.market, self.time)

    def _book_of(self, row: Row) -> _Book:
        key = (row.exchange, row.symbol)
        book = self.books.get(key)
        if book is None:
            market = self.sink.market(row.symbol, places=self.places, tick=self.tick, lot=self.lot)
            book = self.books[key] = _Book(market, row.exchange)
        return book

    def _apply(self, book: _Book, rows: list[Row]) -> None:
        venue_time = max(row.venue_time for row in rows)
        if not rows[0].opens:
            if not book.opened:
                self.ignored["update without a snapshot"] += len(rows)
                return
            bids, asks = _levels(book.market, rows)
            self.sink.update(book.market, self.time, bids, asks, venue_time=venue_time)
            book.opening = []
            return
        if {_only_side(book.opening), _only_side(rows)} == {Side.BID, Side.ASK}:
            # A venue that sends each side by itself.
            rows = [*book.opening, *rows]
        bids, asks = map(_without_empty, _levels(book.market, _newest(rows)))
        require_uncrossed(book.market, bids, asks, "price")
        self.sink.snapshot(book.market, self.time, bids, asks, venue_time=venue_time)
        book.opened, book.opening = True, rows

    def _trade(self, row: Row) -> None:
        if row.side is None:
            self.ignored["trade of an unknown side"] += 1
            return
        market = self._book_of(row).market
        size = market.size(row.amount, "amount")
        if not size:
            self.ignored["trade of nothing"] += 1
            return
        self.sink.trade(
            market,
            self.time,
            identity=self._identity(row.identity),
            side=row.side,
            price=market.price(row.price, "price"),
            size=size,
            venue_time=row.venue_time,
        )

    def _identity(self, raw: bytes) -> int:
        """The id of a trade; 0 where it is not a number of 64 bits, as a UUID is not."""
        if raw.isdigit() and len(raw) <= 20 and int(raw) < 2**64:
            return int(raw)
        if raw:
            self.ignored["id of a trade that is no number"] += 1
        return 0

    def finish(self) -> None:
        """Name the markets of several exchanges apart. Call `end_event` before, unless cut off."""
        if len({book.exchange for book in self.books.values()}) > 1:
            for book in self.books.values():
                book.market.name = f"{book.exchange}:{book.market.name}"


def _levels(market: Market, rows: Sequence[Row]) -> tuple[Levels, Levels]:
    bids, asks = (
        market.levels(
            [[row.price, row.amount] for row in rows if row.side == side],
            "bid" if side == Side.BID else "ask",
        )
        for side in (Side.BID, Side.ASK)
    )
    return bids, asks


def _only_side(rows: list[Row]) -> int | None:
    """The side of all rows; None if there are both sides, or no rows."""
    sides = {row.side for row in rows}
    return sides.pop() if len(sides) == 1 else None


def _newest(rows: list[Row]) -> list[Row]:
    """The last row of each level."""
    return list({(row.side, _shortest(row.price)): row for row in rows}.values())


def _shortest(price: str) -> str:
    return price.rstrip("0").rstrip(".") if "." in price else price


def _without_empty(levels: Levels) -> Levels:
    if 0 not in levels.sizes:
        return levels
    kept = [index for index, size in enumerate(levels.sizes) if size]
    return levels._replace(
        prices=array("q", [levels.prices[index] for index in kept]),
        sizes=array("q", [levels.sizes[index] for index in kept]),
    )
