"""Decodes Kraken's WebSocket v2: ``book`` and ``trade``, for any number of symbols.

Messages have no ids. Each message of a book has the CRC-32 of the best 10 levels a side, and this
alone tells that messages are missing. Only the levels up to the subscribed depth are maintained: no
deletion comes for a level that falls out. The checksum is of decimal digits, with the decimals of
the symbol. The sources are "Book", "Trade" and "Book checksum (v2)" in Kraken's documentation.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, NamedTuple

from velox.core.instrument import MAX_PRICE_DECIMALS
from velox.core.integers import INT32_MAX, UINT32_MAX
from velox.core.records import Side
from velox.feeds.decode.decimals import Grown
from velox.feeds.decode.fields import (
    integer_text,
    member,
    name_of,
    obj,
    parse_json_numbers,
    rfc3339,
)
from velox.feeds.decode.ladder import Ladder
from velox.feeds.decode.levels import Levels, Market, Sink, require_uncrossed
from velox.feeds.decode.malformed import MalformedError, shown
from velox.feeds.decode.session import BookSession, BookState, OnGap, Recent, Report, objects_of

__all__ = ["DEPTHS", "KrakenSession"]

# The depths that can be subscribed to.
DEPTHS = (10, 25, 100, 500, 1000)
# Levels a side that the checksum covers.
COVERED = 10
# How many decimals more than were seen a symbol may have.
MORE_PRICE_PLACES, MORE_SIZE_PLACES = 6, 10

_SIDES = {"buy": Side.ASK, "sell": Side.BID}  # of whom the taker met


@dataclass(slots=True, eq=False)
class _Symbol:
    """What the checksum of a symbol needs.

    Attributes
    ----------
    ladder : Ladder or None
        None before the first snapshot.
    price_places, size_places : int
        The decimals of the symbol, as far as its numbers have shown them.
    told : bool
        Whether Kraken's list of instruments said so.
    depth_known : bool
        Whether it is certain how many levels were subscribed to.
    matched : bool
        Whether the newest checksum was that of the book.
    trade_places : tuple of int
        Decimals that its trades need.
    """

    ladder: Ladder | None = None
    price_places: int = 0
    size_places: int = 0
    told: bool = False
    depth_known: bool = False
    matched: bool = True
    trade_places: tuple[int, int] = (0, 0)


class _Picture(NamedTuple):
    """What one message says of one book."""

    bids: Levels
    asks: Levels
    checksum: int
    identity: Hashable


class KrakenSession(BookSession):
    """The messages of one connection, in the order of their arrival.

    Its parameters are those of `BookSession`, but units: they are Kraken's own decimals.

    Parameters
    ----------
    depth : int, optional
        The subscribed depth. If not given: what the acknowledgement of the subscription says, or
        else the smallest possible that holds the snapshot.

    Attributes
    ----------
    positions, markets, checksums, decimals : array of int
        Kraken's checksums: the sink's count after each, its market, its value as a signed number,
        and the decimals that it is made of: 256 times those of a price, plus those of a quantity.
    """

    def __init__(
        self,
        sink: Sink,
        report: Report,
        *,
        symbol: str | None = None,
        on_gap: OnGap = "clear",
        trades: bool = False,
        depth: int | None = None,
    ) -> None:
        super().__init__(sink, report, symbol=symbol, on_gap=on_gap, trades=trades)
        self.depth = depth
        self.positions = array("q")
        self.markets = array("B")
        self.checksums = array("i")
        self.decimals = array("H")
        self._depths: dict[str, int] = {}
        self._precisions: dict[str, tuple[int, int]] = {}
        self._symbols: dict[str, _Symbol] = {}

    def finish(self, *, cut: bool = False) -> None:
        """End the session, and give each market Kraken's own decimals as its units.

        See `BookSession.finish`.
        """
        super().finish(cut=cut)
        for name, book in self.books.items():
            symbol, market = self._symbol(name), book.market
            places = max(symbol.price_places, symbol.trade_places[0])
            size_places = max(symbol.size_places, symbol.trade_places[1])
            if market.refine(places, size_places):
                market.prices.step = 10 ** (market.prices.places - places)
                market.sizes.step = 10 ** (market.sizes.places - size_places)

    def grown(self, market: Market, grown: Grown) -> None:
        """Convert what is kept of a market to its finer unit."""
        super().grown(market, grown)
        symbol = self._symbols.get(market.name)
        if symbol is not None and symbol.ladder is not None:
            symbol.ladder.grown(grown)

    def is_written(self, name: str, decimals: int) -> bool:
        """Whether the units of a market are those of a checksum with the given `decimals`."""
        prices, sizes = self.books[name].market.prices, self.books[name].market.sizes
        return (prices.step, sizes.step) == (
            10 ** max(0, prices.places - (decimals >> 8)),
            10 ** max(0, sizes.places - (decimals & 255)),
        )

    def _parse(self, raw: bytes) -> Any:
        return parse_json_numbers(raw)

    def _time_of(self, message: dict[str, Any]) -> int | None:
        data = message.get("data")
        if message.get("channel") not in ("book", "trade") or type(data) is not list or not data:
            return None
        if type(data[0]) is not dict or "timestamp" not in data[0]:
            return None
        return rfc3339(data[0], "timestamp")

    def _message(self, message: dict[str, Any], origin: Hashable) -> None:
        if "method" in message or "error" in message:
            self._reply(message)
            return
        if "channel" not in message:
            self.ignored["unrecognised object"] += 1
            return
        channel = name_of(message, "channel")
        if channel == "instrument":
            self._instruments(message)
        if channel != "book" and not (channel == "trade" and self.trades):
            self.ignored[channel] += 1
            return
        kind = member(message, "type")
        if kind not in ("snapshot", "update"):
            raise MalformedError(f"{shown(kind)} is neither 'snapshot' nor 'update'", "type")
        if channel == "trade" and kind == "snapshot":
            self.ignored["trade snapshot"] += 1  # trades from before the subscription
            return
        for entry in objects_of(message, "data"):
            name = name_of(entry, "symbol")
            if self._is_other(name):
                continue
            if channel == "trade":
                self._print(name, entry)
            else:
                self._book(name, entry, origin, opens=kind == "snapshot")

    def _reply(self, message: dict[str, Any]) -> None:
        if message.get("success") is False or "error" in message:
            self.ignored["error reply"] += 1
            return
        result = message.get("result")
        if type(result) is dict and result.get("channel") == "book" and "depth" in result:
            self._depths[name_of(result, "symbol")] = integer_text(result, "depth")
        self.ignored[name_of(message, "method")] += 1

    def _instruments(self, message: dict[str, Any]) -> None:
        pairs = obj(message, "data").get("pairs")
        for pair in pairs if type(pairs) is list else ():
            if type(pair) is dict and pair.keys() >= {"symbol", "price_precision", "qty_precision"}:
                places = integer_text(pair, "price_precision"), integer_text(pair, "qty_precision")
                if max(places) > MAX_PRICE_DECIMALS:
                    raise MalformedError(
                        f"{max(places)} decimals are more than {MAX_PRICE_DECIMALS}",
                        "price_precision",
                    )
                self._precisions[name_of(pair, "symbol")] = places

    def _symbol(self, name: str) -> _Symbol:
        symbol = self._symbols.get(name)
        if symbol is None:
            symbol = self._symbols[name] = _Symbol()
        if name in self._precisions:
            symbol.price_places, symbol.size_places = self._precisions[name]
            symbol.told = True
        return symbol

    def _book(self, name: str, data: dict[str, Any], origin: Hashable, *, opens: bool) -> None:
        book, symbol = self._book_of(name), self._symbol(name)
        picture = self._picture(book, symbol, data, opens=opens)
        if opens:
            self._open(book, symbol, picture)
        elif book.opened and picture.identity is not None and picture.identity in book.recent:
            self.ignored["book known already"] += 1
            return
        elif not self._update(book, symbol, picture, origin):
            return
        book.recent.add(picture.identity)
        self.positions.append(self.sink.count)
        self.markets.append(book.market.id)
        checksum = picture.checksum
        self.checksums.append(checksum - 2**32 if checksum > INT32_MAX else checksum)
        self.decimals.append(symbol.price_places << 8 | symbol.size_places)

    def _picture(
        self, book: BookState, symbol: _Symbol, data: dict[str, Any], *, opens: bool
    ) -> _Picture:
        bids = self._levels(book, symbol, data, "bids", opens=opens)
        asks = self._levels(book, symbol, data, "asks", opens=opens)
        checksum = integer_text(data, "checksum")
        if checksum > UINT32_MAX:
            raise MalformedError(f"{checksum} does not fit 32 bits", "checksum")
        identity = None
        if "timestamp" in data:
            # Nothing numbers the messages. Two copies of one have the same time and content.
            identity = repr((data["timestamp"], checksum, data["bids"], data["asks"]))
        return _Picture(bids, asks, checksum, identity)

    def _levels(
        self, book: BookState, symbol: _Symbol, data: dict[str, Any], field: str, *, opens: bool
    ) -> Levels:
        rows = []
        for index, level in enumerate(objects_of(data, field)):
            for key in ("price", "qty"):
                if type(level.get(key)) is not str:
                    raise MalformedError(
                        f"expected a price and a qty, got {shown(level)}", f"{field}[{index}].{key}"
                    )
            rows.append([level["price"], level["qty"]])
        levels = book.market.levels(rows, field, zero_allowed=not opens)
        if not symbol.told:
            for price, size in rows:
                symbol.price_places = max(symbol.price_places, _places(price))
                symbol.size_places = max(symbol.size_places, _places(size))
        return levels

    def _open(self, book: BookState, symbol: _Symbol, picture: _Picture) -> None:
        require_uncrossed(book.market, picture.bids, picture.asks, "bids")
        if not book.opened:
            book.recent = Recent()
        size = max(len(picture.bids.prices), len(picture.asks.prices))
        depth = self.depth or self._depths.get(book.market.name) or 0
        symbol.depth_known = 0 < depth >= size or size in DEPTHS
        if depth < size or not depth:
            depth = next((each for each in DEPTHS if each >= size), size)
        symbol.ladder = Ladder(book.market, depth)
        symbol.ladder.update(Side.BID, picture.bids)
        symbol.ladder.update(Side.ASK, picture.asks)
        symbol.matched = self._matches(symbol, book.market, picture.checksum) or self._learns(
            symbol, book.market, picture.checksum
        )
        if not symbol.matched:
            if book.opened:
                self._clear(book)
            raise MalformedError(
                f"{picture.checksum} is not the checksum of the snapshot's levels, which is "
                f"{_checksum(symbol, book.market)}",
                "checksum",
            )
        self._snapshot(book, picture.bids, picture.asks, "bids", levels=depth)
        book.rank = 0

    def _update(
        self, book: BookState, symbol: _Symbol, picture: _Picture, origin: Hashable
    ) -> bool:
        """Apply an update, if the book is in a state for it."""
        if not self._may_update(book, origin):
            return False
        assert symbol.ladder is not None
        counts = len(picture.bids.prices), len(picture.asks.prices)
        bids = symbol.ladder.update(Side.BID, picture.bids)
        asks = symbol.ladder.update(Side.ASK, picture.asks)
        if (len(bids.prices), len(asks.prices)) != counts and not symbol.depth_known:
            # A level beyond the assumed depth would be lost.
            self.report(
                MalformedError(
                    f"{book.market.name} grows beyond {symbol.ladder.depth} levels, and its "
                    "snapshot has fewer, so the subscribed depth is unclear; say which with "
                    "book_depth",
                    "bids",
                ),
                origin,
                fatal=True,
            )
            self._clear(book)
            return False
        did_match = symbol.matched
        symbol.matched = self._matches(symbol, book.market, picture.checksum)
        if did_match and not symbol.matched:
            found = _checksum(symbol, book.market)
            why = f"the book's checksum is {found}, the venue's is {picture.checksum}"
            if not self._goes_on(book, why, "checksum", origin):
                return False
        self._set(book, bids, asks)
        return True

    @staticmethod
    def _matches(symbol: _Symbol, market: Market, checksum: int) -> bool:
        return _checksum(symbol, market) == checksum

    @staticmethod
    def _learns(symbol: _Symbol, market: Market, checksum: int) -> bool:
        """Whether more decimals than were seen explain a checksum; they are then the symbol's.

        A program that writes the messages anew may drop the zeros at the end of a number.
        """
        seen = symbol.price_places, symbol.size_places
        if symbol.told:
            return False
        most_price = min(seen[0] + MORE_PRICE_PLACES, MAX_PRICE_DECIMALS)
        most_size = min(seen[1] + MORE_SIZE_PLACES, MAX_PRICE_DECIMALS)
        for price_places in range(seen[0], most_price + 1):
            for size_places in range(seen[1], most_size + 1):
                symbol.price_places, symbol.size_places = price_places, size_places
                if _checksum(symbol, market) == checksum:
                    return True
        symbol.price_places, symbol.size_places = seen
        return False

    def _print(self, name: str, trade: dict[str, Any]) -> None:
        symbol = self._symbol(name)
        identity = integer_text(trade, "trade_id")
        taker = member(trade, "side")
        if type(taker) is not str or taker not in _SIDES:
            raise MalformedError(f"{shown(taker)} is neither 'buy' nor 'sell'", "side")
        self._trade(
            self._book_of(name),
            trade,
            identity,
            identity=identity,
            side=_SIDES[taker],
            price="price",
            size="qty",
            venue_time=rfc3339(trade, "timestamp") if "timestamp" in trade else 0,
        )
        symbol.trade_places = (
            max(symbol.trade_places[0], _needed(trade["price"])),
            max(symbol.trade_places[1], _needed(trade["qty"])),
        )


def _places(text: str) -> int:
    """Decimals of a number as it is written."""
    return len(text.partition(".")[2])


def _needed(text: str) -> int:
    """Decimals that a number needs."""
    return len(text.partition(".")[2].rstrip("0"))


def _checksum(symbol: _Symbol, market: Market) -> int:
    """The checksum of a symbol's book, by its decimals."""
    assert symbol.ladder is not None
    price_factor, price_divisor = _conversion(market.prices.places, symbol.price_places)
    size_factor, size_divisor = _conversion(market.sizes.places, symbol.size_places)
    digits = [
        f"{price * price_factor // price_divisor}{size * size_factor // size_divisor}"
        for side in (Side.ASK, Side.BID)
        for price, size in symbol.ladder.best(side, COVERED)
    ]
    return zlib.crc32("".join(digits).encode())


def _conversion(places: int, written: int) -> tuple[int, int]:
    """Factor and divisor from units of ten to the minus `places` to the decimals `written`."""
    return int(10 ** max(0, written - places)), int(10 ** max(0, places - written))
