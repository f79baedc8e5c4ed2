"""Decodes LOBSTER data.

It has the messages of NASDAQ, and the best levels of the book after each of them.

A message has the columns ``time, type, order id, size, price, direction``; an orderbook row has
``ask price 1, ask size 1, bid price 1, bid size 1, ask price 2, …``. Prices are dollars times
10 000, which is Velox's own unit.

A row gives the best *n* levels of each side and no others. A level can leave this window and come
back changed, so `Window` computes from each row which levels enter and leave.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import NamedTuple

from velox.core.integers import INT64_MAX, UINT32_MAX, UINT64_MAX
from velox.core.records import Flags, Kind, Side
from velox.feeds.decode.decimals import PRICE_LIMIT
from velox.feeds.decode.fields import nanoseconds
from velox.feeds.decode.malformed import MalformedError, shown

__all__ = ["CENT", "Message", "MessageParser", "Record", "Row", "RowParser", "Window", "is_header"]

# The tick of NASDAQ's stocks above one dollar, in units of 1e-4. Below one dollar it is one unit.
CENT = 100
# The price of an unused level of a row.
NO_ASK, NO_BID = 9_999_999_999, -9_999_999_999

# Limit order; partial cancellation, deletion; execution of a visible and of a hidden order; cross
# trade; trading halt.
_KINDS = {
    b"1": Kind.ADD,
    b"2": Kind.CANCEL,
    b"3": Kind.CANCEL,
    b"4": Kind.EXECUTE,
    b"5": Kind.TRADE,
    b"6": Kind.TRADE,
    b"7": Kind.TRADE,
}
_CROSS, _HALT = b"6", b"7"
_SIDES = {b"1": int(Side.BID), b"-1": int(Side.ASK)}
_MESSAGE_FIELDS = ("time", "type", "order id", "size", "price", "direction")

_INTEGER = re.compile(rb"-?[0-9]{1,20}")
_INTEGERS = re.compile(rb"-?[0-9]{1,20}(?:,-?[0-9]{1,20})*")
# No JSON and no address has such columns.
_HEADER = re.compile(rb'\s*"?[A-Za-z][^,0-9:{}[\]][^,:{}[\]]*(?:,\s*"?[A-Za-z][^,:{}[\]]*){3,}')

# A transaction's fields, in their order.
Record = tuple[int, int, int, int, int, int, int, int]


def is_header(line: bytes) -> bool:
    """Whether a line holds column names, not numbers."""
    return _HEADER.fullmatch(line) is not None


class Message(NamedTuple):
    """One message; `kind` is its effect on the book."""

    time: int
    kind: int
    order_id: int
    size: int
    price: int
    side: int

    def record(self, *, last: bool = True) -> Record:
        """It as a transaction."""
        flags = int(Flags.LAST if last else Flags.NONE)
        return (self.order_id, self.price, self.size, self.side, self.kind, flags, 0, self.time)


class Row(NamedTuple):
    """Prices and sizes of one orderbook row.

    The best level is first, and bids are before asks. Unused levels are left out.
    """

    prices: tuple[list[int], list[int]]
    sizes: tuple[list[int], list[int]]

    def records(self, time: int) -> list[Record]:
        """Return the transactions that open a book with these levels."""
        flags = int(Flags.SNAPSHOT)
        records: list[Record] = []
        for side in (int(Side.BID), int(Side.ASK)):
            records.append((0, 0, 0, side, int(Kind.CLEAR), flags, 0, time))
            for price, size in zip(self.prices[side], self.sizes[side], strict=True):
                records.append(_set(side, price, size, flags, time))
        return [*records[:-1], marked_last(records[-1])]


def _set(side: int, price: int, size: int, flags: int, time: int) -> Record:
    if size <= UINT32_MAX:
        return (0, price, size, side, int(Kind.SET), flags, 0, time)
    return (size, price, 0, side, int(Kind.SET_WIDE), flags, 0, time)


def marked_last(record: Record) -> Record:
    """A record as the last one of its event."""
    return (*record[:5], record[5] | int(Flags.LAST), *record[6:])


def _integer(raw: bytes, field: str) -> int:
    if _INTEGER.fullmatch(raw) is None:
        raise MalformedError(f"{shown(raw.decode('latin-1'))} is not an integer", field)
    return int(raw)


def _bounded(raw: bytes, field: str, lowest: int, highest: int) -> int:
    number = _integer(raw, field)
    if not lowest <= number <= highest:
        raise MalformedError(f"{number} is not from {lowest} to {highest}", field)
    return number


class MessageParser:
    """Reads messages.

    Parameters
    ----------
    tick : int or None
        The step of which each price in the book must be a multiple; None accepts any price.

    Attributes
    ----------
    finer : bool
        Whether a price in the book was not a whole cent.
    """

    def __init__(self, tick: int | None) -> None:
        self.tick = tick
        self.finer = False

    def __call__(self, raw: bytes) -> Message:
        """Parse the message of a line. `MalformedError` names the column that is wrong."""
        columns = raw.split(b",")
        if len(columns) != len(_MESSAGE_FIELDS):
            raise MalformedError(
                f"{len(columns)} columns; a message has {len(_MESSAGE_FIELDS)}: "
                f"{', '.join(_MESSAGE_FIELDS)}"
            )
        seconds, code, order_id, size, price, direction = columns
        time = nanoseconds(seconds, "time")
        kind = _KINDS.get(code)
        if kind is None:
            raise MalformedError(
                f"{shown(code.decode('latin-1'))} is not a type from 1 to 7", "type"
            )
        if code == _HALT:
            # Its price field distinguishes a halt from a resumption. Nothing was traded.
            _integer(price, "price")
            return Message(time, int(kind), 0, 0, 0, int(Side.BID))
        side = _SIDES.get(direction)
        if side is None:
            raise MalformedError(
                f"{shown(direction.decode('latin-1'))} is not 1 or -1", "direction"
            )
        lowest = 0 if code == _CROSS else 1
        # A trade without an order in the book has an id of 0 or less.
        identity = _bounded(
            order_id, "order id", -INT64_MAX - 1 if kind is Kind.TRADE else 0, UINT64_MAX
        )
        message = Message(
            time,
            int(kind),
            max(identity, 0),
            _bounded(size, "size", lowest, UINT32_MAX),
            _bounded(price, "price", lowest, PRICE_LIMIT - 1),
            side,
        )
        # A hidden order may trade between two ticks: it is never in the book.
        if kind is not Kind.TRADE:
            if self.tick is not None and message.price % self.tick:
                raise MalformedError(f"{message.price} is off the tick of {self.tick}", "price")
            self.finer |= message.price % CENT != 0
        return message


class _Integers(dict[bytes, int]):
    """A cache from text to integer. A row mostly repeats the numbers of the previous row."""

    def __missing__(self, raw: bytes) -> int:
        number = self[raw] = _integer(raw, "")
        return number


class RowParser:
    """Reads rows, which must all have as many columns as the first row of their file.

    Parameters
    ----------
    columns : int
    tick : int or None
        The step of which each price must be a multiple; None accepts any price.

    Attributes
    ----------
    levels : int
        Levels a side of each row.
    finer : bool
        Whether a price was not a whole cent.
    """

    def __init__(self, columns: int, tick: int | None) -> None:
        if columns % 4:
            raise MalformedError(f"{columns} columns; an orderbook row has 4 a level")
        self.tick = tick
        self.finer = False
        self.columns = columns
        self.levels = columns // 4
        self._integers = _Integers()
        self._good_prices: set[int] = set()

    def __call__(self, raw: bytes) -> Row:
        """Parse the levels of a row. `MalformedError` names the column that is wrong."""
        if raw.count(b",") + 1 != self.columns:
            raise MalformedError(f"{raw.count(b',') + 1} columns; the first row has {self.columns}")
        if _INTEGERS.fullmatch(raw) is None:
            for index, column in enumerate(raw.split(b",")):
                _integer(column, _column_name(index))
        integers = self._integers
        values = [integers[column] for column in raw.split(b",")]
        ask_prices, ask_sizes = self._side("ask", values[0::4], values[1::4], NO_ASK)
        bid_prices, bid_sizes = self._side("bid", values[2::4], values[3::4], NO_BID)
        if ask_prices and bid_prices and bid_prices[0] >= ask_prices[0]:
            raise MalformedError(
                f"the book is crossed: best bid {bid_prices[0]}, best ask {ask_prices[0]}",
                "bid price 1",
            )
        return Row((bid_prices, ask_prices), (bid_sizes, ask_sizes))

    def _side(
        self, name: str, prices: list[int], sizes: list[int], unused: int
    ) -> tuple[list[int], list[int]]:
        if unused in prices:
            used = prices.index(unused)
            for level in range(used, len(prices)):
                if prices[level] != unused or sizes[level]:
                    raise MalformedError(
                        f"{prices[level]} with size {sizes[level]} comes after an unused level",
                        f"{name} price {level + 1}",
                    )
            prices, sizes = prices[:used], sizes[:used]
            if not used:
                return prices, sizes
        if min(sizes) <= 0 or max(sizes) > INT64_MAX:
            level = next(i for i, size in enumerate(sizes) if not 0 < size <= INT64_MAX)
            raise MalformedError(f"{sizes[level]} is not a size", f"{name} size {level + 1}")
        if not self._good_prices.issuperset(prices):
            self._require_good(name, prices)
        if prices != sorted(set(prices), reverse=name == "bid"):
            raise MalformedError("the levels are not in order, best first", f"{name} price")
        return prices, sizes

    def _require_good(self, name: str, prices: list[int]) -> None:
        for level, price in enumerate(prices):
            if not 0 < price < PRICE_LIMIT or price % (self.tick or 1):
                raise MalformedError(
                    f"{price} is not a positive 63-bit price on the tick of {self.tick or 1}",
                    f"{name} price {level + 1}",
                )
            self.finer |= price % CENT != 0
        self._good_prices.update(prices)


def _column_name(index: int) -> str:
    names = ("ask price", "ask size", "bid price", "bid size")
    return f"{names[index % 4]} {index // 4 + 1}"


class _Side:
    """The known levels of one side of the window, best first.

    Keys are prices for asks and negative prices for bids, so that a better price has a smaller key.
    """

    __slots__ = ("bound", "keys", "sizes")

    def __init__(self) -> None:
        self.keys: list[int] = []
        self.sizes: list[int] = []
        # All levels up to this key are known; None if the whole side is known.
        self.bound: int | None = None

    def holds(self, key: int) -> bool:
        return self.bound is None or key <= self.bound


class Window:
    """Follows the levels of an orderbook file, through messages and rows.

    A message changes a level of the window. The next row then shows which levels enter and leave. A
    level beyond the last known one enters. A level beyond the last one of the row leaves. All
    others must be equal to the result of the messages.

    Parameters
    ----------
    levels : int
        Levels a side of each row.
    """

    def __init__(self, levels: int) -> None:
        self.levels = levels
        self._sides = (_Side(), _Side())

    def open(self, row: Row) -> None:
        """Set the whole window from a row."""
        for number in (0, 1):
            self._adopt(number, row)

    def _adopt(self, number: int, row: Row) -> None:
        side = self._sides[number]
        sign = 1 if number else -1
        side.keys = [sign * price for price in row.prices[number]]
        side.sizes = list(row.sizes[number])
        side.bound = side.keys[-1] if len(side.keys) == self.levels else None

    def apply(self, message: Message) -> bool:
        """Apply a message to its level, and return whether the level is in the window.

        Raises
        ------
        MalformedError
            The message takes more than the level holds.
        """
        if message.kind == Kind.TRADE:
            return True
        side = self._sides[message.side]
        key = message.price if message.side else -message.price
        if not side.holds(key):
            return False
        index = bisect_left(side.keys, key)
        here = index < len(side.keys) and side.keys[index] == key
        if message.kind == Kind.ADD:
            if here:
                side.sizes[index] += message.size
            else:
                side.keys.insert(index, key)
                side.sizes.insert(index, message.size)
            return True
        held = side.sizes[index] if here else 0
        if message.size > held:
            raise MalformedError(
                f"takes {message.size} from the level at {message.price}, which holds {held}",
                "size",
            )
        if message.size == held:
            del side.keys[index], side.sizes[index]
        else:
            side.sizes[index] -= message.size
        return True

    def follow(self, row: Row, time: int) -> list[Record]:
        """Return the levels that enter and leave with a row, as transactions.

        Raises
        ------
        MalformedError
            The row contradicts the rows and messages before it.
        """
        records: list[Record] = []
        for number, side in enumerate(self._sides):
            sign = 1 if number else -1
            keys = [sign * price for price in row.prices[number]]
            sizes = row.sizes[number]
            if keys != side.keys or sizes != side.sizes:
                bound = keys[-1] if len(keys) == self.levels else None
                self._compare(number, dict(zip(keys, sizes, strict=True)), bound)
                held = set(side.keys)
                records += [
                    (0, sign * key, 0, number, int(Kind.DELETE), 0, 0, time)
                    for key in side.keys
                    if bound is not None and key > bound
                ]
                records += [
                    _set(number, sign * key, size, 0, time)
                    for key, size in zip(keys, sizes, strict=True)
                    if key not in held
                ]
            self._adopt(number, row)
        return records

    def _compare(self, number: int, row: dict[int, int], bound: int | None) -> None:
        """Refuse a row that differs from the result of the messages in a level that both cover."""
        side = self._sides[number]
        expected = dict(zip(side.keys, side.sizes, strict=True))
        for key in sorted(expected.keys() | row.keys()):
            if not side.holds(key) or (bound is not None and key > bound):
                return
            if expected.get(key, 0) != row.get(key, 0):
                raise MalformedError(
                    f"{row.get(key, 0)} at {abs(key)} contradicts the messages, by which it is "
                    f"{expected.get(key, 0)}",
                    "ask size" if number else "bid size",
                )
