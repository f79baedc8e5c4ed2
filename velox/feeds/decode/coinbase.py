"""Decodes Coinbase Advanced Trade: ``l2_data`` and ``market_trades``, for any number of products.

`sequence_num` counts the messages of a connection, over all channels and products. So a missing
message may have been of any product, and no book of the connection is certain behind it. A number
of 0 begins a new connection. The source is "WebSocket Channels" in Coinbase's documentation of
Advanced Trade.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Unpack

from velox.core.records import Side
from velox.feeds.decode.fields import integer, integer_text, member, name_of, rfc3339
from velox.feeds.decode.levels import Levels, Market, Sink
from velox.feeds.decode.malformed import MalformedError, shown
from velox.feeds.decode.session import (
    BookSession,
    Recent,
    Report,
    SessionOptions,
    objects_of,
)

__all__ = ["CoinbaseSession"]

_SIDES = {"bid": Side.BID, "offer": Side.ASK}
_MAKERS = {"BUY": Side.BID, "SELL": Side.ASK}  # a trade names the side of its maker
_COLUMNS = ("price_level", "new_quantity")


class CoinbaseSession(BookSession):
    """The messages of one connection, in the order of their arrival.

    A new connection may follow the one before it. Its parameters are those of `BookSession`.
    """

    def __init__(self, sink: Sink, report: Report, **options: Unpack[SessionOptions]) -> None:
        super().__init__(sink, report, **options)
        # The number of the newest message, and what tells two copies of one.
        self._last: int | None = None
        self._recent = Recent()

    def _time_of(self, message: dict[str, Any]) -> int | None:
        return rfc3339(message, "timestamp") if "timestamp" in message else None

    def _message(self, message: dict[str, Any], origin: Hashable) -> None:
        if "channel" not in message:
            is_error = message.get("type") == "error"
            self.ignored["error reply" if is_error else "unrecognised object"] += 1
            return
        channel = name_of(message, "channel")
        if not self._follows(message, channel, origin):
            return
        if channel == "l2_data":
            try:
                for event in objects_of(message, "events"):
                    self._book(event, origin)
            except MalformedError:
                # Its number is used up, so nothing later would tell that its changes are missing.
                self._clear_all()
                raise
        elif channel == "market_trades" and self.trades:
            for event in objects_of(message, "events"):
                self._trades(event)
        else:
            self.ignored[channel] += 1

    def _follows(self, message: dict[str, Any], channel: str, origin: Hashable) -> bool:
        """Whether a message is new. If messages before it are missing, no book is certain."""
        number = integer(message, "sequence_num")
        identity = number, channel, message.get("timestamp")
        last, self._last = self._last, number
        if last is None or number == last + 1:
            self._recent.add(identity)
            return True
        if identity in self._recent:
            self._last = last
            self.ignored[f"{channel} known already"] += 1
            return False
        self._recent.add(identity)
        if number == 0:
            # A new connection. What came since the end of the one before is unknown.
            if self.on_gap != "continue":
                self._clear_all()
        elif not self._count_gap(
            "the connection",
            f"expected sequence_num = {last + 1}, got {number}",
            "sequence_num",
            origin,
        ):
            self._clear_all()
        return True

    def _clear_all(self) -> None:
        for book in self.books.values():
            if book.opened:
                self._clear(book)

    def _book(self, event: dict[str, Any], origin: Hashable) -> None:
        name = name_of(event, "product_id")
        if self._is_other(name):
            return
        kind = member(event, "type")
        if kind not in ("snapshot", "update"):
            raise MalformedError(f"{shown(kind)} is neither 'snapshot' nor 'update'", "type")
        book = self._book_of(name)
        opens = kind == "snapshot"
        bids, asks = _levels(book.market, objects_of(event, "updates"), zero_allowed=not opens)
        if opens:
            self._snapshot(book, bids, asks, "updates")
            book.rank = 0
        elif self._may_update(book, origin):
            self._set(book, bids, asks)

    def _trades(self, event: dict[str, Any]) -> None:
        if member(event, "type") == "snapshot":
            self.ignored["trade snapshot"] += 1  # trades from before the subscription
            return
        for trade in objects_of(event, "trades"):
            name = name_of(trade, "product_id")
            if self._is_other(name):
                continue
            identity = integer_text(trade, "trade_id")
            maker = member(trade, "side")
            if type(maker) is not str or maker not in _MAKERS:
                raise MalformedError(f"{shown(maker)} is neither 'BUY' nor 'SELL'", "side")
            self._trade(
                self._book_of(name),
                trade,
                identity,
                identity=identity,
                side=_MAKERS[maker],
                price="price",
                size="size",
                venue_time=rfc3339(trade, "time") if "time" in trade else self.venue_time,
            )


def _levels(
    market: Market, updates: list[dict[str, Any]], *, zero_allowed: bool
) -> tuple[Levels, Levels]:
    """Both sides of a list of updates."""
    rows: tuple[list[list[Any]], list[list[Any]]] = ([], [])
    for index, update in enumerate(updates):
        side = update.get("side")
        if type(side) is not str or side not in _SIDES:
            raise MalformedError(
                f"{shown(side)} is neither 'bid' nor 'offer'", f"updates[{index}].side"
            )
        rows[_SIDES[side]].append([update.get(column) for column in _COLUMNS])
    try:
        bids, asks = (market.levels(side, "updates", zero_allowed=zero_allowed) for side in rows)
    except MalformedError:
        # The rows of a side are numbered in another way than the message's.
        for index, update in enumerate(updates):
            market.price(member(update, _COLUMNS[0]), f"updates[{index}].{_COLUMNS[0]}")
            size = market.size(member(update, _COLUMNS[1]), f"updates[{index}].{_COLUMNS[1]}")
            if not size and not zero_allowed:
                raise MalformedError(
                    f"{shown(update[_COLUMNS[1]])}: a snapshot has no empty levels",
                    f"updates[{index}].{_COLUMNS[1]}",
                ) from None
        raise
    return bids, asks
