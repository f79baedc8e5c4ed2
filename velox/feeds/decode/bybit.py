"""Decodes Bybit v5: ``orderbook.N`` and ``publicTrade``, for any number of symbols.

The ids `u` of a topic rise by one. A snapshot may come at any time and replaces the book; one with
``u = 1`` follows a restart of the service. Level 1 consists of snapshots only, and repeats one
after three seconds without a change. `seq` is the matching engine's own number. It is the same in
all topics of a symbol, so a level 1 with the `seq` of a deeper book states its best levels. The
source is "Orderbook" in Bybit's documentation of its public WebSocket streams.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Hashable
from typing import Any, NamedTuple

from velox.core.integers import UINT64_MAX
from velox.core.records import Side
from velox.feeds.decode.fields import epoch_ns, integer, member, name_of, obj
from velox.feeds.decode.levels import Levels
from velox.feeds.decode.malformed import MalformedError, shown
from velox.feeds.decode.session import BookSession, BookState, Recent, objects_of

__all__ = ["BybitSession"]

_BOOK = re.compile(r"orderbook\.([1-9][0-9]{0,3})\.(.+)")
_SIDES = {"Buy": Side.ASK, "Sell": Side.BID}  # of whom the taker met
# The id of a snapshot that follows a restart of the service.
RESTARTED = 1


class _BookMessage(NamedTuple):
    """A message of a book topic."""

    depth: int
    opens: bool
    update: int
    sequence: int | None
    bids: Levels
    asks: Levels

    @property
    def channel(self) -> str:
        return f"orderbook.{self.depth}"

    @property
    def rank(self) -> int:
        return -self.depth

    @property
    def identity(self) -> Hashable:
        return self.update, self.sequence


class BybitSession(BookSession):
    """The messages of one connection, in the order of their arrival.

    Its parameters are those of `BookSession`. `channel` is the topic without the symbol, such as
    ``'orderbook.50'``.
    """

    def _time_of(self, message: dict[str, Any]) -> int | None:
        topic = message.get("topic")
        is_read = type(topic) is str and topic.startswith(("orderbook.", "publicTrade."))
        return epoch_ns(integer(message, "ts"), "ts") if is_read and "ts" in message else None

    def _message(self, message: dict[str, Any], origin: Hashable) -> None:
        if "topic" not in message:
            self.ignored[_reply(message)] += 1
            return
        topic = name_of(message, "topic")
        match = _BOOK.fullmatch(topic)
        if match is not None:
            self._book(int(match[1]), match[2], message, origin)
        elif topic.startswith("publicTrade.") and self.trades:
            for trade in objects_of(message, "data"):
                self._print(trade)
        else:
            # "kline.1.BTCUSDT" is counted as "kline", "orderbook.rpi.BTCUSDT" as "orderbook.rpi".
            kinds = 2 if topic.startswith("orderbook.") else 1
            self.ignored[".".join(topic.split(".")[:kinds])] += 1

    def _book(self, depth: int, name: str, message: dict[str, Any], origin: Hashable) -> None:
        channel = f"orderbook.{depth}"
        is_read = self.channel in (None, channel)
        if not is_read and depth != 1:
            self.ignored[channel] += 1
            return
        if self._is_other(name):
            return
        book = self._book_of(name)
        if "cts" in message:
            self.venue_time = epoch_ns(integer(message, "cts"), "cts")
        found = _book_message(book, depth, name, message)
        ticker = found.sequence if depth == 1 and self.channel != channel and found.opens else None
        if ticker is not None:
            self._ticker(book, ticker, found.bids, found.asks)
        is_fuller_later = found.rank < book.rank and not found.opens and book.opened
        if not is_read or book.rank < found.rank or is_fuller_later:
            if ticker is None:
                self.ignored[channel] += 1  # another topic is read
            return
        applied = self._open(book, found) if found.opens else self._update(book, found, origin)
        if applied:
            book.sequence = found.update
            book.recent.add(found.identity)
            if found.sequence is not None and depth > 1:
                self._state(book, found.sequence)

    def _open(self, book: BookState, found: _BookMessage) -> bool:
        """Open a book with a snapshot, unless it is known."""
        if not book.opened or book.rank != found.rank or found.update == RESTARTED:
            book.recent = Recent()
        elif found.identity in book.recent:
            # Level 1 repeats itself, and a second connection begins with a snapshot of its own.
            self.ignored[f"{found.channel} known already"] += 1
            return False
        self._snapshot(book, found.bids, found.asks, "b", levels=found.depth)
        book.rank = found.rank
        return True

    def _update(self, book: BookState, found: _BookMessage, origin: Hashable) -> bool:
        """Apply a delta, if the book is in a state for it."""
        if not self._may_update(book, origin):
            return False
        assert book.sequence is not None
        if found.update != book.sequence + 1:
            if found.identity in book.recent:
                self.ignored[f"{found.channel} known already"] += 1
                return False
            why = f"expected u = {book.sequence + 1}, got {found.update}"
            if not self._goes_on(book, why, "u", origin):
                return False
        self._set(book, found.bids, found.asks)
        return True

    def _print(self, trade: dict[str, Any]) -> None:
        name = name_of(trade, "s")
        if self._is_other(name):
            return
        if trade.get("BT") is True:
            self.ignored["block trade"] += 1  # it met no order of the book
            return
        text = name_of(trade, "i")
        taker = member(trade, "S")
        if type(taker) is not str or taker not in _SIDES:
            raise MalformedError(f"{shown(taker)} is neither 'Buy' nor 'Sell'", "S")
        self._trade(
            self._book_of(name),
            trade,
            text,
            identity=_identity(text),
            side=_SIDES[taker],
            price="p",
            size="v",
            venue_time=epoch_ns(integer(trade, "T"), "T") if "T" in trade else self.venue_time,
        )


def _book_message(book: BookState, depth: int, name: str, message: dict[str, Any]) -> _BookMessage:
    data = obj(message, "data")
    if member(data, "s") != name:
        raise MalformedError(f"{shown(data['s'])} is not the topic's {name}", "s")
    kind = member(message, "type")
    if kind not in ("snapshot", "delta"):
        raise MalformedError(f"{shown(kind)} is neither 'snapshot' nor 'delta'", "type")
    opens = kind == "snapshot"
    return _BookMessage(
        depth,
        opens,
        integer(data, "u"),
        integer(data, "seq") if "seq" in data else None,
        book.market.levels(member(data, "b"), "b", zero_allowed=not opens),
        book.market.levels(member(data, "a"), "a", zero_allowed=not opens),
    )


def _identity(text: str) -> int:
    """A trade's id as 64 bits: its number, or the first half of its UUID."""
    if text.isascii() and text.isdecimal():
        if len(text) > 20 or int(text) > UINT64_MAX:
            raise MalformedError(f"{shown(text)} does not fit 64 bits", "i")
        return int(text)
    try:
        return uuid.UUID(text).int >> 64
    except ValueError:
        raise MalformedError(f"{shown(text)} is neither a number nor a UUID", "i") from None


def _reply(message: dict[str, Any]) -> str:
    """The name of a message that is no data: an acknowledgement, a pong or an error."""
    if message.get("success") is False:
        return "error reply"
    if message.get("ret_msg") == "pong":
        return "pong"
    if "op" in message:
        return name_of(message, "op")
    return "REST answer" if "retCode" in message else "unrecognised object"
