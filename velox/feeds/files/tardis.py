"""Reads Tardis' CSV files of the types ``incremental_book_L2`` and ``trades``, plain or gzip."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from typing import NamedTuple, cast

from velox.feeds.decode.levels import LevelRecorder
from velox.feeds.decode.malformed import MalformedError, shown
from velox.feeds.decode.tardis import (
    BOOK_COLUMNS,
    TRADE_COLUMNS,
    OnBadRow,
    Row,
    TardisSession,
    parse_row,
)
from velox.feeds.files.finish import recorded
from velox.feeds.files.options import (
    checked_choice,
    checked_decimals,
    checked_levels,
    checked_lot,
    checked_name,
    checked_tick,
)
from velox.feeds.files.registry import register
from velox.feeds.files.source import Place, Source, numbered_lines
from velox.feeds.recording import Recording

__all__ = ["read"]

_BOOK, _TRADES = (",".join(columns).encode() for columns in (BOOK_COLUMNS, TRADE_COLUMNS))
_COMMON = b"exchange,symbol,timestamp,local_timestamp,"
# The number of a row: which file, and which line of it.
_FILE = 1 << 48


class _Item(NamedTuple):
    """A row, or None for one that cannot be read, in the order of time."""

    time: int
    number: int
    row: Row | None


def _looks_like(line: bytes) -> bool:
    return line.startswith(_COMMON)


@register("tardis", looks_like=_looks_like)
def read(
    source: Source,
    *,
    symbol: str | None = None,
    on_gap: str = "clear",
    price_decimals: int | None = None,
    tick_size: int | None = None,
    lot_size: object = None,
    levels: int = 8192,
) -> Recording:
    """Read Tardis' ``incremental_book_L2`` and ``trades`` files.

    All files are merged by `local_timestamp`; at equal times, by their order here. Consecutive rows
    of one symbol with the same `local_timestamp` are one event. An amount of 0 deletes a level.

    A snapshot empties the book and opens it again. If a snapshot follows another one without an
    update between them, it replaces it. If one has bids only and the other asks only, they are the
    halves of one snapshot. Updates before the first snapshot are ignored.

    Parameters
    ----------
    source : Source
        Its paths are CSV files with the line of their column names.
    symbol : str, optional
        Read this symbol only: ``SYMBOL`` or ``EXCHANGE:SYMBOL``.
    on_gap : {'clear', 'continue'}
        After a row that cannot be read, with ``on_error="skip"``: the book is emptied until the
        next snapshot, or the rows are applied on. `Recording.gaps` counts such places.
    price_decimals : int, optional
        Decimals of the prices, 0 to 18; a finer price is then refused. If not given: 4, or as many
        as the prices of each market need.
    tick_size : int, optional
        In units of ten to the minus `price_decimals`, which is 4 if not given. Without it: the
        greatest common divisor of all prices.
    lot_size : str, int or decimal.Decimal, optional
        If not given: the greatest common divisor of all sizes.
    levels : int
        Levels a side that the instruments' books keep hot.

    Returns
    -------
    Recording
        `ingress_ts_ns` is `local_timestamp` and `venue_ts_ns` is `timestamp`. Tardis repeats the
        local time where the venue gives none. Each symbol is a market. If there are several
        exchanges, their names are ``EXCHANGE:SYMBOL``. A trade becomes a TRADE of the side that
        rested; its id is 0 if it is not a number of 64 bits.

    Raises
    ------
    FeedError
        A row is not of these types, or its time is before that of the row before it.
    ConfigError
        An option cannot be used.
    """
    recorder = LevelRecorder()

    def report(error: MalformedError, row: int, *, lines: int) -> None:
        source.faults.report(_place(source, row).error(error), lines=lines)

    session = TardisSession(
        recorder,
        report,
        symbol=checked_name("symbol", symbol),
        on_gap=cast(OnBadRow, checked_choice("on_gap", on_gap, ("clear", "continue"))),
        places=None if price_decimals is None else checked_decimals(price_decimals),
        tick=None if tick_size is None else checked_tick(tick_size),
        lot=None if lot_size is None else checked_lot(lot_size),
    )
    levels = checked_levels(levels)
    with ExitStack() as stack:
        files = [
            stack.enter_context(closing(_rows(source, file))) for file in range(len(source.paths))
        ]
        rows: Iterator[_Item] = heapq.merge(*files, key=lambda each: each.time)
        for item in files[0] if len(files) == 1 else rows:
            if item.row is None:
                session.lose(item.number // _FILE)
            else:
                session.feed(item.row, item.number, item.number // _FILE)
            if source.reached(recorder.count):
                break
        else:
            session.end_event()
    session.finish()
    return recorded(
        source,
        recorder,
        levels=levels,
        ignored=session.ignored,
        gaps=session.gaps,
        what="rows of a book or of trades",
    )


def _place(source: Source, number: int) -> Place:
    return Place(source.paths[number // _FILE], number % _FILE)


def _rows(source: Source, file: int) -> Generator[_Item, None, None]:
    """The rows of a file. Those that cannot be read are reported here."""
    path = source.paths[file]
    is_trade: bool | None = None
    time = 0
    with numbered_lines(path, source.faults) as lines:
        for number, raw in lines:
            if is_trade is None:
                is_trade = _is_trades(raw, Place(path, number))
                continue
            if not raw:
                continue
            try:
                row = parse_row(raw, is_trade=is_trade)
                if row.time < time:
                    raise MalformedError(
                        f"{row.time // 1000} is before {time // 1000}, of a row before it",
                        "local_timestamp",
                    )
            except MalformedError as error:
                source.faults.report(Place(path, number).error(error))
                if not is_trade:
                    yield _Item(time, file * _FILE + number, None)
                continue
            time = row.time
            yield _Item(time, file * _FILE + number, row)


def _is_trades(header: bytes, place: Place) -> bool:
    if header not in (_BOOK, _TRADES):
        raise place.error(
            MalformedError(
                f"columns {shown(header.decode('latin-1'))}; expected those of "
                "incremental_book_L2 or trades"
            )
        )
    return header == _TRADES
