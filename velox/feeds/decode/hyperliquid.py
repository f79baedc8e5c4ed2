"""Decodes Hyperliquid: ``l2Book``, ``bbo`` and ``trades``, for any number of coins.

Each message of a book is a whole picture of its best levels after a block, and replaces the one
before it. So there are no gaps to find. The source is "Subscriptions" in Hyperliquid's
documentation of its WebSocket.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Unpack

from velox.core.records import Side
from velox.feeds.decode.fields import epoch_ns, integer, member, name_of, obj
from velox.feeds.decode.levels import Levels, Market, Sink
from velox.feeds.decode.malformed import MalformedError, shown
from velox.feeds.decode.session import (
    BookSession,
    BookState,
    Report,
    SessionOptions,
    objects_of,
)

__all__ = ["CHANNELS", "HyperliquidSession"]

# Book channels with the levels a side of each picture, the fullest first. ``l2Book`` with
# ``"fast": true`` is the second.
CHANNELS = {"l2Book": 20, "l2Book fast": 5, "bbo": 1}

_SIDES = {"B": Side.ASK, "A": Side.BID}  # of whom the taker met
_FIELDS = ("px", "sz")


class HyperliquidSession(BookSession):
    """The messages of one connection, in the order of their arrival.

    Its parameters are those of `BookSession`. `channel` is one of CHANNELS.
    """

    def __init__(self, sink: Sink, report: Report, **options: Unpack[SessionOptions]) -> None:
        super().__init__(sink, report, **options)
        # Coins whose l2Book was subscribed to with rounded prices.
        self._rounded: set[str] = set()

    def _time_of(self, message: dict[str, Any]) -> int | None:
        if message.get("channel") not in (*CHANNELS, "trades"):
            return None
        data = message.get("data")
        if type(data) is list and data:
            data = data[0]
        if type(data) is not dict or "time" not in data:
            return None
        return epoch_ns(integer(data, "time"), "time")

    def _message(self, message: dict[str, Any], origin: Hashable) -> None:
        if "channel" not in message:
            self.ignored["unrecognised object"] += 1
            return
        channel = name_of(message, "channel")
        if channel in ("l2Book", "bbo"):
            self._book(channel, obj(message, "data"))
        elif channel == "trades" and self.trades:
            for trade in objects_of(message, "data"):
                self._print(trade)
        else:
            if channel == "subscriptionResponse":
                self._subscribed(obj(message, "data"))
            self.ignored["error reply" if channel == "error" else channel] += 1

    def _subscribed(self, data: dict[str, Any]) -> None:
        subscription = data.get("subscription")
        if type(subscription) is not dict or subscription.get("type") != "l2Book":
            return
        coin = name_of(subscription, "coin")
        if data.get("method") == "unsubscribe":
            self._rounded.discard(coin)
        elif subscription.get("nSigFigs") is not None:
            self._rounded.add(coin)

    def _book(self, channel: str, data: dict[str, Any]) -> None:
        name = name_of(data, "coin")
        if channel == "l2Book" and name in self._rounded:
            self.ignored["l2Book of rounded prices"] += 1
            return
        if channel == "l2Book" and data.get("fast") is True:
            channel = "l2Book fast"
        is_ticker = channel == "bbo" and self.channel != channel
        if self.channel not in (None, channel) and not is_ticker:
            self.ignored[channel] += 1
            return
        if self._is_other(name):
            return
        book = self._book_of(name)
        time = integer(data, "time")
        sides = _sides(data, "bbo" if channel == "bbo" else "levels")
        bids, asks = (_levels(book.market, side, field) for side, field in sides)
        rank = list(CHANNELS).index(channel)
        if is_ticker:
            self._ticker(book, time, bids, asks)
            if self.channel is not None or book.rank < rank:
                return
        if book.rank < rank:
            self.ignored[channel] += 1  # a fuller channel is read
            return
        identity = time, repr(sides)
        if book.rank == rank and self._is_known(book, channel, time, identity):
            return
        self._snapshot(book, bids, asks, sides[0][1], levels=CHANNELS[channel])
        book.rank, book.sequence = rank, time
        book.recent.add(identity)
        if channel != "bbo":
            self._state(book, time)

    def _is_known(self, book: BookState, channel: str, time: int, identity: Hashable) -> bool:
        """Whether a picture came already, or is older than the book; it is then counted."""
        if identity in book.recent:
            self.ignored[f"{channel} known already"] += 1
            return True
        if book.sequence is not None and time < book.sequence:
            self.ignored[f"{channel} older than the book"] += 1
            return True
        return False

    def _print(self, trade: dict[str, Any]) -> None:
        name = name_of(trade, "coin")
        if self._is_other(name):
            return
        identity = integer(trade, "tid")
        taker = member(trade, "side")
        if type(taker) is not str or taker not in _SIDES:
            raise MalformedError(f"{shown(taker)} is neither 'A' nor 'B'", "side")
        time = epoch_ns(integer(trade, "time"), "time")
        self._trade(
            self._book_of(name),
            trade,
            (identity, time),
            identity=identity,
            side=_SIDES[taker],
            price="px",
            size="sz",
            venue_time=time,
        )


def _sides(data: dict[str, Any], field: str) -> list[tuple[list[Any], str]]:
    """The levels of bids and asks, each with the name of its field."""
    value = member(data, field)
    if type(value) is not list or len(value) != 2:
        raise MalformedError(f"expected bids and asks, got {shown(value)}", field)
    if field == "bbo":
        # One level or none a side.
        value = [[] if side is None else [side] for side in value]
    return [(side, f"{field}[{index}]") for index, side in enumerate(value)]


def _levels(market: Market, side: object, field: str) -> Levels:
    if type(side) is not list:
        raise MalformedError(f"expected an array of levels, got {shown(side)}", field)
    rows = []
    for index, level in enumerate(side):
        if type(level) is not dict:
            raise MalformedError(f"{shown(level)} is not an object", f"{field}[{index}]")
        rows.append([member(level, each) for each in _FIELDS])
    return market.levels(rows, field, zero_allowed=False)
