"""LOBSTER: NASDAQ messages, and the book after each of them.

A message file has rows of ``time, type, order id, size, price, direction``; row *i* of its
orderbook file is the book after message *i*: ``ask price 1, ask size 1, bid price 1, bid size 1,
ask price 2, …``. Prices are dollars times 10 000, which is Velox's own unit.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from velox.core.instrument import Instrument
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, Side
from velox.errors import FeedError
from velox.feeds.decimals import PRICE_LIMIT
from velox.feeds.options import checked_levels, checked_tick
from velox.feeds.recording import Recording
from velox.feeds.registry import register
from velox.feeds.source import (
    Faults,
    MalformedError,
    Source,
    first_line,
    nanoseconds,
    numbered_lines,
    require_file,
    shown,
)
from velox.runtime.checks import DepthChecks

__all__ = ["read"]

DEFAULT_DEPTH = 10
# A level that the row has no use for.
NO_ASK, NO_BID = 9_999_999_999, -9_999_999_999
U32_MAX = 2**32 - 1

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
_HALT = b"7"
_SIDES = {b"1": int(Side.BID), b"-1": int(Side.ASK)}
_MESSAGE_FIELDS = ("time", "type", "order id", "size", "price", "direction")

_INTEGER = re.compile(rb"-?[0-9]{1,20}")
_INTEGERS = re.compile(rb"-?[0-9]{1,20}(?:,-?[0-9]{1,20})*")
_NUMBERS = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:,-?[0-9]+(?:\.[0-9]+)?){3,}\s*")

Record = tuple[int, int, int, int, int, int, int, int]
Parsed = TypeVar("Parsed")


class _Message(NamedTuple):
    time: int
    kind: int
    order_id: int
    size: int
    price: int
    side: int

    def record(self) -> Record:
        flags = int(Flags.LAST)
        return (self.order_id, self.price, self.size, self.side, self.kind, flags, 0, self.time)


class _Row(NamedTuple):
    """Prices and sizes of one orderbook row, best first, bid before ask; unused levels left out."""

    prices: tuple[list[int], list[int]]
    sizes: tuple[list[int], list[int]]

    def records(self, time: int) -> list[Record]:
        flags = int(Flags.SNAPSHOT)
        records: list[Record] = []
        for side in (int(Side.BID), int(Side.ASK)):
            records.append((0, 0, 0, side, int(Kind.CLEAR), flags, 0, time))
            for price, size in zip(self.prices[side], self.sizes[side], strict=True):
                records.append(
                    (0, price, size, side, int(Kind.SET), flags, 0, time)
                    if size <= U32_MAX
                    else (size, price, 0, side, int(Kind.SET_WIDE), flags, 0, time)
                )
        return [*records[:-1], _marked_last(records[-1])]


def _marked_last(record: Record) -> Record:
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


class _MessageReader:
    def __init__(self, tick: int) -> None:
        self.tick = tick

    def __call__(self, raw: bytes) -> _Message:
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
            # Its price tells halt from resumption and is no price; nothing was traded.
            _integer(price, "price")
            return _Message(time, int(kind), 0, 0, 0, int(Side.BID))
        side = _SIDES.get(direction)
        if side is None:
            raise MalformedError(
                f"{shown(direction.decode('latin-1'))} is not 1 or -1", "direction"
            )
        message = _Message(
            time,
            int(kind),
            _bounded(order_id, "order id", 0, 2**64 - 1),
            _bounded(size, "size", 1, U32_MAX),
            _bounded(price, "price", 1, PRICE_LIMIT - 1),
            side,
        )
        # A hidden order may trade between two ticks: it never stands in the book.
        if kind is not Kind.TRADE and message.price % self.tick:
            raise MalformedError(f"{message.price} is off the tick of {self.tick}", "price")
        return message


class _Integers(dict[bytes, int]):
    """Text → integer; the numbers of a row are mostly those of the row before."""

    def __missing__(self, raw: bytes) -> int:
        number = self[raw] = _integer(raw, "")
        return number


class _RowReader:
    """Reads rows that all have as many columns as the first line of their file."""

    def __init__(self, path: Path, tick: int, depth: int) -> None:
        self.tick = tick
        self.columns = first_line(path).count(b",") + 1
        if self.columns % 4:
            raise FeedError(
                f"{self.columns} columns; an orderbook row has 4 a level", path=path, line=1
            )
        self.depth = min(depth, self.columns // 4)
        self._integers = _Integers()
        self._good_prices: set[int] = set()

    def __call__(self, raw: bytes, depth: int | None = None) -> _Row:
        """The best levels of a row; all of them where `depth` is None."""
        if raw.count(b",") + 1 != self.columns:
            raise MalformedError(f"{raw.count(b',') + 1} columns; the first row has {self.columns}")
        if _INTEGERS.fullmatch(raw) is None:
            for index, column in enumerate(raw.split(b",")):
                _integer(column, _column_name(index))
        wanted = self.columns if depth is None else 4 * depth
        integers = self._integers
        values = [integers[column] for column in raw.split(b",", wanted)[:wanted]]
        ask_prices, ask_sizes = self._side("ask", values[0::4], values[1::4], NO_ASK)
        bid_prices, bid_sizes = self._side("bid", values[2::4], values[3::4], NO_BID)
        return _Row((bid_prices, ask_prices), (bid_sizes, ask_sizes))

    def _side(
        self, name: str, prices: list[int], sizes: list[int], unused: int
    ) -> tuple[list[int], list[int]]:
        if unused in prices:
            used = prices.index(unused)
            for level in range(used, len(prices)):
                if prices[level] != unused or sizes[level]:
                    raise MalformedError(
                        f"{prices[level]} with size {sizes[level]} stands behind an unused level",
                        f"{name} price {level + 1}",
                    )
            prices, sizes = prices[:used], sizes[:used]
            if not used:
                return prices, sizes
        if min(sizes) <= 0 or max(sizes) >= 2**63:
            level = next(i for i, size in enumerate(sizes) if not 0 < size < 2**63)
            raise MalformedError(f"{sizes[level]} is not a size", f"{name} size {level + 1}")
        if not self._good_prices.issuperset(prices):
            self._require_good(name, prices)
        if prices != sorted(set(prices), reverse=name == "bid"):
            raise MalformedError("the levels are not in order, best first", f"{name} price")
        return prices, sizes

    def _require_good(self, name: str, prices: list[int]) -> None:
        for level, price in enumerate(prices):
            if not 0 < price < PRICE_LIMIT or price % self.tick:
                raise MalformedError(
                    f"{price} is no positive 63-bit price on the tick of {self.tick}",
                    f"{name} price {level + 1}",
                )
        self._good_prices.update(prices)


def _column_name(index: int) -> str:
    names = ("ask price", "ask size", "bid price", "bid size")
    return f"{names[index % 4]} {index // 4 + 1}"


class _Checks:
    """Collects rows as the arrays of `DepthChecks`."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.position = array("q")
        self.prices = array("q")
        self.quantities = array("q")

    def add(self, position: int, row: _Row) -> None:
        self.position.append(position)
        for column, sides in ((self.prices, row.prices), (self.quantities, row.sizes)):
            for levels in sides:
                column.extend(levels)
                if len(levels) < self.depth:
                    column.extend((0,) * (self.depth - len(levels)))

    def finish(self) -> DepthChecks | None:
        count = len(self.position)
        if not count:
            return None
        return DepthChecks(
            position=np.array(self.position, np.int64),
            market=np.zeros(count, np.uint8),
            prices=np.array(self.prices, np.int64).reshape(count, 2, self.depth),
            quantities=np.array(self.quantities, np.int64).reshape(count, 2, self.depth),
        )


def _looks_like(line: bytes) -> bool:
    return _NUMBERS.fullmatch(line) is not None


@register("lobster", looks_like=_looks_like)
def read(
    source: Source, *, tick_size: int = 100, name: str | None = None, levels: int = 1024
) -> Recording:
    """Read a LOBSTER pair, or a message file alone.

    Row 0 of the orderbook file opens the book, so that message 0, which led to it, is left out;
    each message from 1 on is one transaction and is followed by a depth check against its row.
    Types 1 to 4 are ADD, CANCEL, CANCEL and EXECUTE; 5 (hidden execution) and 6 (cross) change no
    level and are TRADE; 7 (halt) is a TRADE of size and price 0.

    Without an orderbook file the book opens empty and nothing is checked: the book then refuses
    what is taken from levels that stood there before.

    Parameters
    ----------
    source : Source
        Its paths are the two files in either order (told apart by ``_message_`` and
        ``_orderbook_`` in their names, or else by their columns), the message file alone, or the
        directory that holds the pair.
    tick_size : int
        In units of 1e-4: a cent unless told.
    name : str, optional
        Of the instrument; the file's name up to its first underscore unless told.
    levels : int
        Levels a side that the instrument's book keeps hot.

    Returns
    -------
    Recording
        `ingress_ts_ns` counts from midnight, New York time.

    Raises
    ------
    FeedError
        A row is not of this format, or the files do not have as many rows as each other. Under
        ``on_error="skip"`` the row of a bad message opens the book anew, so that checks go on;
        without an orderbook file the book lacks that message from there on.
    ConfigError
        An option cannot be used.
    """
    tick = checked_tick(tick_size)
    levels = checked_levels(levels)
    messages, orderbook = _pair(source.paths)
    checks: DepthChecks | None = None
    if orderbook is None:
        records = _read_messages(source, messages, tick)
    else:
        records, checks = _read_pair(source, messages, orderbook, tick)
    if not records:
        raise source.nothing("message")
    return Recording(
        transactions=np.array(records, TRANSACTION_DTYPE),
        instruments=(
            Instrument(name=name or messages.name.partition("_")[0], tick_size=tick, levels=levels),
        ),
        checks=checks,
        skipped=source.faults.skipped,
        problems=tuple(source.faults.problems),
        source=(messages,) if orderbook is None else (messages, orderbook),
    )


def _pair(paths: tuple[Path, ...]) -> tuple[Path, Path | None]:
    files: list[Path] = []
    for path in paths:
        try:
            entries = sorted(path.iterdir())
        except NotADirectoryError:
            files.append(path)
        except (OSError, ValueError) as error:
            require_file(path)  # says it better where the path itself is at fault
            raise FeedError(f"cannot be listed: {error}", path=path) from None
        else:
            files += [entry for entry in entries if _role_by_name(entry)]
    roles: dict[str, list[Path]] = {"message": [], "orderbook": []}
    for path in files:
        roles[_role_by_name(path) or _role_by_columns(path)].append(path)
    messages, orderbooks = roles["message"], roles["orderbook"]
    if len(messages) != 1 or len(orderbooks) > 1:
        raise FeedError(
            "LOBSTER needs one message file and at most one orderbook file; "
            f"found {len(messages)} and {len(orderbooks)}",
            path=paths[0],
        )
    return messages[0], orderbooks[0] if orderbooks else None


def _role_by_name(path: Path) -> str | None:
    for role in ("message", "orderbook"):
        if f"_{role}_" in path.name:
            return role
    return None


def _role_by_columns(path: Path) -> str:
    columns = first_line(path).count(b",") + 1
    return "orderbook" if columns % 4 == 0 else "message"


def _attempt(
    parse: Callable[[bytes], Parsed], raw: bytes, path: Path, number: int, faults: Faults
) -> Parsed | None:
    """What `parse` makes of a line; None where it was reported and is to be left out."""
    try:
        return parse(raw)
    except MalformedError as error:
        faults.report(FeedError(error.why, path=path, line=number, field=error.field))
        return None


def _read_messages(source: Source, path: Path, tick: int) -> list[Record]:
    parse = _MessageReader(tick)
    records: list[Record] = []
    with numbered_lines(path, source.faults) as lines:
        for number, raw in lines:
            message = _attempt(parse, raw, path, number, source.faults)
            if message is None:
                continue
            if not records:
                records += _Row(([], []), ([], [])).records(message.time)
            records.append(message.record())
            if source.reached(len(records)):
                break
    return records


def _shorter(path: Path, other: Path, count: int) -> FeedError:
    return FeedError(f"has {count} rows, but {other.name} has more", path=path)


def _read_pair(
    source: Source, message_path: Path, row_path: Path, tick: int
) -> tuple[list[Record], DepthChecks | None]:
    faults = source.faults
    parse_message = _MessageReader(tick)
    parse_row = _RowReader(row_path, tick, source.depth or DEFAULT_DEPTH)
    parse_best = partial(parse_row, depth=parse_row.depth)
    checks = _Checks(parse_row.depth)
    records: list[Record] = []
    time: int | None = None
    known = False  # whether the book stands as the row before said
    count = 0
    with (
        numbered_lines(message_path, faults) as messages,
        numbered_lines(row_path, faults) as rows,
    ):
        for numbered_message, numbered_row in zip_longest(messages, rows):
            if numbered_message is None:
                faults.report(_shorter(message_path, row_path, count))
                break
            if numbered_row is None:
                faults.report(_shorter(row_path, message_path, count))
                break
            count, raw_message = numbered_message
            _, raw_row = numbered_row
            message = _attempt(parse_message, raw_message, message_path, count, faults)
            if message is not None:
                time = message.time
            if message is not None and known:
                records.append(message.record())
                row = _attempt(parse_best, raw_row, row_path, count, faults)
                if row is not None:
                    checks.add(len(records), row)
            else:
                # The opening row, or the one after a message that was left out.
                opening = _attempt(parse_row, raw_row, row_path, count, faults)
                known = opening is not None and time is not None
                if opening is not None and time is not None:
                    records += opening.records(time)
            if source.reached(len(records)):
                break
    return records, checks.finish()
