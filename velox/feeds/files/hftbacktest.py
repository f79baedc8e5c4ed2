"""Reads and writes hftbacktest's event files: ``.npz`` archives with one array named ``data``.

A row has 64 bytes. The source is the "Data" page of hftbacktest's documentation, version 2::

    ev u64 | exch_ts i64 | local_ts i64 | px f64 | qty f64 | order_id u64 | ival i64 | fval f64

The low byte of `ev` is the kind of the event. The bits 31 and 30 say that the row counts at the
venue and here; the bits 29 and 28 are buy and sell.
"""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt

from velox.core.instrument import MAX_PRICE_DECIMALS, PRICE_DECIMALS, Instrument
from velox.core.integers import INT64_MAX, UINT32_MAX
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind
from velox.errors import ConfigError, FeedError
from velox.feeds.decode.decimals import decimal_of, parsed
from velox.feeds.decode.malformed import MalformedError
from velox.feeds.files.options import (
    checked_choice,
    checked_decimals,
    checked_levels,
    checked_lot,
    checked_name,
    checked_tick,
)
from velox.feeds.files.registry import register
from velox.feeds.files.source import Place, Source, require_file
from velox.feeds.recording import Recording
from velox.runtime.sidecar import replace_file

__all__ = ["EVENT_DTYPE", "read", "save_hftbacktest"]

EVENT_DTYPE = np.dtype(
    [
        *(("ev", "<u8"), ("exch_ts", "<i8"), ("local_ts", "<i8"), ("px", "<f8")),
        *(("qty", "<f8"), ("order_id", "<u8"), ("ival", "<i8"), ("fval", "<f8")),
    ]
)
assert EVENT_DTYPE.itemsize == 64

_DEPTH, _TRADE, _CLEAR, _SNAPSHOT, _BBO = 1, 2, 3, 4, 5
_ADD, _CANCEL, _MODIFY, _FILL = 10, 11, 12, 13
_AT_VENUE, _HERE, _BUY, _SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
_KIND_MASK = 0xFF
_LAST = int(Flags.LAST)
# A decimal of that many digits is the shortest text of its float. Of longer ones not all are.
EXACT_DIGITS = 15


class _Grid:
    """Converts the floats of one column to integers, each by its shortest decimal text.

    Parameters
    ----------
    what : str
    least, most : int
        Decimals of the unit at least, and the most that are allowed.
    step : decimal.Decimal or None
        The step of which each number must be a multiple.
    """

    def __init__(self, what: str, least: int, most: int, step: Decimal | None) -> None:
        self.what = what
        self.places = least
        self.most = most
        self.step = step
        self.numbers: dict[float, Decimal] = {}

    def decimal(self, value: float) -> Decimal:
        """The decimal that a float means."""
        number = self.numbers.get(value)
        if number is None:
            number = self.numbers[value] = self._convert(value)
        return number

    def _convert(self, value: float) -> Decimal:
        if not np.isfinite(value) or value < 0 or (value == 0 and self.what == "px"):
            raise MalformedError(f"{value!r} is not a {self.what}", self.what)
        number = Decimal(repr(value))
        units, places = parsed(f"{number:f}")
        if self.step is not None:
            if number % self.step:
                raise MalformedError(f"{value!r} is off the grid of {self.step:f}", self.what)
        elif len(str(units).rstrip("0")) > EXACT_DIGITS:
            raise MalformedError(
                f"{value!r} is no decimal of {EXACT_DIGITS} digits, but the result of arithmetic "
                "with floats; its place on a grid is unknown",
                self.what,
            )
        if places > self.most:
            raise MalformedError(f"{value!r} is finer than 1e-{self.most}", self.what)
        self.places = max(self.places, places)
        return number

    def units(self, number: Decimal) -> int:
        """A decimal in units of ten to the minus `places`."""
        return int(number.scaleb(self.places))


def _looks_like(line: bytes) -> bool:
    return line.startswith(b"PK\x03\x04")  # a zip archive


@register("hftbacktest", looks_like=_looks_like)
def read(
    source: Source,
    *,
    view: str = "local",
    name: str | None = None,
    price_decimals: int | None = None,
    tick_size: int | None = None,
    lot_size: object = None,
    levels: int = 8192,
) -> Recording:
    """Read hftbacktest's ``.npz`` files.

    Depth rows become SET, a clear becomes CLEAR, or DELETE for each level up to its price. Orders
    become ADD; a cancel takes all of its order, as hftbacktest does, and is an EXECUTE as far as a
    fill came before. Rows that do not count in the chosen view are ignored, and so are rows of the
    best bid and ask.

    A float must be the one next to a decimal on the grid. Otherwise the row is refused.

    Parameters
    ----------
    source : Source
        Its paths are files of one market, in the order of time.
    view : {'local', 'exchange'}
        Whether the rows are read that count here, or those that count at the venue.
    name : str, optional
        The market's name. If not given: the file's name up to its first dot.
    price_decimals : int, optional
        Decimals of the prices, 0 to 18; a finer price is then refused. If not given: 4, or as many
        as the prices need.
    tick_size : int, optional
        In units of ten to the minus `price_decimals`, which is 4 if not given. Without it: the
        greatest common divisor of all prices.
    lot_size : str, int or decimal.Decimal, optional
        If not given: the greatest common divisor of all quantities.
    levels : int
        Levels a side that the instrument's book keeps hot.

    Returns
    -------
    Recording
        `ingress_ts_ns` is `local_ts`, or `exch_ts` in the venue's view; `venue_ts_ns` is `exch_ts`.
        Events end where `ival` has `Flags.LAST`, as files of `save_hftbacktest` have it and those
        that hftbacktest makes of Databento's. Without any, rows with the same two times are one
        event.

    Raises
    ------
    FeedError
        A file is not of this format, or a row is invalid; `line` is its number, counted from 1.
    ConfigError
        An option cannot be used.
    """
    checked_choice("view", view, ("local", "exchange"))
    least = PRICE_DECIMALS if price_decimals is None else checked_decimals(price_decimals)
    most = MAX_PRICE_DECIMALS if price_decimals is None and tick_size is None else least
    tick = None if tick_size is None else Decimal(checked_tick(tick_size)).scaleb(-least)
    lot = None if lot_size is None else checked_lot(lot_size)
    reader = _Reader(
        source,
        _Grid("px", least, most, tick),
        _Grid("qty", 0, MAX_PRICE_DECIMALS, lot),
        at_venue=view == "exchange",
    )
    levels = checked_levels(levels)
    title = checked_name("name", name) or source.paths[0].name.partition(".")[0] or "hftbacktest"
    for path in source.paths:
        if reader.walk(path, _rows(path)):
            break
    if not reader.rows:
        raise source.nothing("rows of a book or of trades")
    return reader.recording(title, levels)


def _rows(path: Path) -> npt.NDArray[np.void]:
    require_file(path)
    try:
        # NumPy leaves a file open that it cannot read.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            rows = archive["data"]
    except KeyError:
        raise FeedError("holds no array named 'data'", path=path) from None
    # A damaged archive can raise many kinds of errors.
    except Exception as error:
        raise FeedError(f"is a damaged .npz file: {error}", path=path) from error
    if not isinstance(rows, np.ndarray):
        # NumPy returns the bytes of a member that does not begin as an array does.
        raise FeedError("is a damaged .npz file: 'data' is not an array", path=path)
    fields = rows.dtype.fields or {}
    expected: Mapping[str, Any] = EVENT_DTYPE.fields or {}
    if rows.ndim != 1 or {name: each[:2] for name, each in fields.items()} != {
        name: each[:2] for name, each in expected.items()
    }:
        raise FeedError(
            f"has dtype {rows.dtype}, shape {rows.shape}; expected rows of hftbacktest",
            path=path,
            field="dtype",
        )
    return cast("npt.NDArray[np.void]", rows)


Row = tuple[int, Decimal | None, Decimal, int, int, int, int, int]


class _Reader:
    """Collects the records of one load."""

    def __init__(self, source: Source, prices: _Grid, sizes: _Grid, *, at_venue: bool) -> None:
        self.source = source
        self.prices = prices
        self.sizes = sizes
        self.flag = _AT_VENUE if at_venue else _HERE
        self.clock = 1 if at_venue else 2
        # id, price, size, side, kind, flags, time, venue's time
        self.rows: list[Row] = []
        self.ignored: Counter[str] = Counter()
        self.levels: tuple[dict[float, Decimal], dict[float, Decimal]] = ({}, {})
        self.orders: dict[int, tuple[int, Decimal, Decimal]] = {}
        self.fills: dict[int, Decimal] = {}
        self.times: tuple[int, int] | None = None

    def walk(self, path: Path, rows: npt.NDArray[np.void]) -> bool:
        """Take the rows of a file, and return whether the limit stopped it."""
        told = bool((rows["ival"] & _LAST).any())
        newest = 0
        columns = [rows[name].tolist() for name in EVENT_DTYPE.names or ()]
        for number, row in enumerate(zip(*columns, strict=True), 1):
            if not row[0] & self.flag:
                self.ignored["row that does not count in this view"] += 1
                continue
            times = (row[self.clock], row[1])
            if not told and self.times not in (None, times):
                self._end_event()
                if self.source.reached(len(self.rows)):
                    return True
            try:
                if times[0] < newest or min(times) < 0:
                    raise MalformedError(
                        f"{times[0]} is before {newest}, of a row before it",
                        ("exch_ts", "local_ts")[self.clock - 1],
                    )
                self._row(row, times, int(row[6]) & 0xFF if told else 0)
            except MalformedError as error:
                self.source.faults.report(Place(path, number).error(error))
                continue
            newest, self.times = times[0], times
            if told and row[6] & _LAST:
                self._end_event()
                if self.source.reached(len(self.rows)):
                    return True
        self._end_event()
        return False

    def _end_event(self) -> None:
        self.times = None
        if self.rows:
            last = self.rows[-1]
            self.rows[-1] = (*last[:5], last[5] | _LAST, *last[6:])

    def _row(self, row: tuple[Any, ...], times: tuple[int, int], told: int) -> None:
        event, _, _, px, qty, identity, _, _ = row
        kind = event & _KIND_MASK
        side = {_BUY: 0, _SELL: 1}.get(event & (_BUY | _SELL))
        flags = told & int(Flags.SNAPSHOT)
        if kind == _CLEAR:
            self._clear(side, px, times, flags)
        elif kind == _BBO:
            self.ignored["best bid and ask"] += 1
        elif kind in (_DEPTH, _SNAPSHOT, _TRADE):
            if side is None:
                raise MalformedError("has no side", "ev")
            price, size = self.prices.decimal(px), self.sizes.decimal(qty)
            if kind == _TRADE:
                # The side is that of the taker.
                self._trade(identity, price, size, 1 - side, times)
                return
            flags |= int(Flags.SNAPSHOT) if kind == _SNAPSHOT else 0
            self._write(0, price, size, side, Kind.SET, flags=flags, times=times)
            self.levels[side][px] = price
            if not size:
                del self.levels[side][px]
        else:
            self._order(row, kind, side, times)

    def _trade(self, identity: int, price: Decimal, size: Decimal, side: int, times: Any) -> None:
        if size:
            self._write(identity, price, size, side, Kind.TRADE, flags=0, times=times)

    def _order(self, row: tuple[Any, ...], kind: int, side: int | None, times: Any) -> None:
        _, _, _, px, qty, identity, _, _ = row
        if kind == _FILL:
            self.fills[identity] = self.fills.get(identity, Decimal(0)) + self.sizes.decimal(qty)
            return
        if kind == _CANCEL:
            self._take(identity, times)
            return
        if kind not in (_ADD, _MODIFY):
            raise MalformedError(f"{kind} is not a kind of event", "ev")
        price, size = self.prices.decimal(px), self.sizes.decimal(qty)
        if not size:
            raise MalformedError("an order of size 0", "qty")
        if kind == _ADD:
            if identity in self.orders:
                raise MalformedError(f"order {identity} is in the book already", "order_id")
            if side is None:
                raise MalformedError("has no side", "ev")
        else:
            if identity not in self.orders:
                raise MalformedError(f"order {identity} is not in the book", "order_id")
            side, old_price, old_size = self.orders[identity]
            if price == old_price and size <= old_size:
                self._take(identity, times, old_size - size)
                return
            self._take(identity, times)
        self.orders[identity] = (side, price, size)
        self._write(identity, price, size, side, Kind.ADD, flags=0, times=times)

    def _take(self, identity: int, times: Any, size: Decimal | None = None) -> None:
        """Take from an order, or all of it: what was filled as EXECUTE, the rest as CANCEL."""
        if identity not in self.orders:
            raise MalformedError(f"order {identity} is not in the book", "order_id")
        side, price, whole = self.orders[identity]
        size = whole if size is None else size
        filled = min(size, self.fills.pop(identity, Decimal(0)))
        for part, kind in ((filled, Kind.EXECUTE), (size - filled, Kind.CANCEL)):
            if part:
                self._write(identity, price, part, side, kind, flags=0, times=times)
        self.orders[identity] = (side, price, whole - size)
        if size == whole:
            del self.orders[identity]

    def _clear(self, side: int | None, upto: float, times: Any, flags: int) -> None:
        """Clear both sides; or one side, from its best level up to a price."""
        for each in (0, 1) if side is None else (side,):
            levels = self.levels[each]
            gone = [px for px in levels if (px >= upto if each == 0 else px <= upto)]
            whole = side is None or not np.isfinite(upto) or len(gone) == len(levels)
            if whole:
                self._write(0, None, Decimal(0), each, Kind.CLEAR, flags=flags, times=times)
                levels.clear()
                for identity in [key for key, order in self.orders.items() if order[0] == each]:
                    del self.orders[identity]
                continue
            for px in gone:
                self._write(
                    0, levels.pop(px), Decimal(0), each, Kind.DELETE, flags=flags, times=times
                )

    def _write(
        self,
        identity: int,
        price: Decimal | None,
        size: Decimal,
        side: int,
        kind: Kind,
        *,
        flags: int,
        times: tuple[int, int],
    ) -> None:
        if not self.rows and kind not in (Kind.CLEAR, Kind.TRADE):
            for each in (0, 1):
                opening = (0, None, Decimal(0), each, int(Kind.CLEAR), int(Flags.SNAPSHOT))
                self.rows.append((*opening, *times))
        self.rows.append((identity, price, size, side, int(kind), flags, *times))

    def recording(self, name: str, levels: int) -> Recording:
        """Convert the records to the units that the market needs."""
        prices, sizes = self.prices, self.sizes
        price_units = [0 if row[1] is None else prices.units(row[1]) for row in self.rows]
        size_units = [sizes.units(row[2]) for row in self.rows]
        tick = _step(price_units, prices)
        lot = _step(size_units, sizes)
        if max(price_units) >= INT64_MAX or max(size_units) // lot > INT64_MAX:
            raise FeedError(
                f"{decimal_of(max(price_units), prices.places):f} does not fit 63 bits in units "
                f"of 1e-{prices.places}",
                path=self.source.paths[0],
                field="px",
            )
        transactions = np.zeros(len(self.rows), TRANSACTION_DTYPE)
        for index, column in ((0, "id"), (3, "side"), (4, "kind"), (5, "flags")):
            transactions[column] = [row[index] for row in self.rows]
        transactions["price"] = price_units
        transactions["ingress_ts_ns"] = [row[6] for row in self.rows]
        lots = np.array([units // lot for units in size_units], np.int64)
        wide = lots > UINT32_MAX
        if (wide & (transactions["kind"] != Kind.SET)).any():
            raise FeedError(
                "an order or a trade is over 2**32 lots; give a larger lot_size",
                path=self.source.paths[0],
                field="qty",
            )
        transactions["size"] = np.where(wide, 0, lots)
        transactions["kind"][wide] = Kind.SET_WIDE
        transactions["id"][wide] = lots[wide]
        return Recording(
            transactions=transactions,
            instruments=(
                Instrument(
                    name=name,
                    price_decimals=prices.places,
                    tick_size=tick,
                    lot_size=decimal_of(lot, sizes.places),
                    levels=levels,
                ),
            ),
            checks=None,
            skipped=self.source.faults.skipped,
            problems=tuple(self.source.faults.problems),
            source=self.source.paths,
            ignored=dict(self.ignored),
            venue_ts_ns=np.array([row[7] for row in self.rows], np.uint64),
        )


def _step(units: list[int], grid: _Grid) -> int:
    """The step of a column in its unit: as given, or the greatest common divisor."""
    if grid.step is not None:
        grid_units = grid.step.scaleb(grid.places)
        if grid_units == int(grid_units):
            return int(grid_units)
    return int(np.gcd.reduce(np.array(units, np.object_), initial=0)) or 10**grid.places


# Writing


def save_hftbacktest(recording: Recording, path: str | os.PathLike[str]) -> None:
    """Write a recording of one market as hftbacktest's ``.npz``.

    If all that the book has are orders with ids, they are written as orders. Otherwise each change
    is written as the new quantity of its level, so the book is the same and the ids are lost.
    `local_ts` is `ingress_ts_ns`, and `exch_ts` is `venue_ts_ns`, or `ingress_ts_ns` where that is
    0. Where the two clocks order the rows differently, a row is written twice, once for each, as
    hftbacktest needs it. The times themselves are not changed: hftbacktest's
    ``correct_local_timestamp`` shifts them. `ival` has the flags of each record.

    Parameters
    ----------
    recording : Recording
    path : path

    Raises
    ------
    ConfigError
        The recording has several markets, times that fall, or a number that no float gives back
        exactly.
    CaptureError
        The file cannot be written.
    """
    markets = np.unique(recording.transactions["market"])
    if len(markets) != 1:
        raise ConfigError(
            f"recording: has {len(markets)} markets, and a file of hftbacktest has one; load with "
            "symbol"
        )
    [instrument] = [each for each in recording.instruments if each.market == int(markets[0])]
    transactions = recording.transactions
    local = transactions["ingress_ts_ns"].astype(np.int64)
    venue = recording.venue_ts_ns.astype(np.int64)
    venue = np.where(venue == 0, local, venue)
    back = np.flatnonzero(local[1:] < local[:-1])
    if len(back):
        raise ConfigError(
            f"recording: the time of record {back[0] + 1} is before that of the record before it"
        )
    rows = np.array(
        [
            (event, venue[at], local[at], px, qty, identity, int(transactions["flags"][at]), 0.0)
            for at, event, px, qty, identity in _events(transactions, instrument)
        ],
        EVENT_DTYPE,
    )
    ordered = _in_both_orders(rows)

    def write(file: BinaryIO) -> None:
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("data.npy", "w", force_zip64=True) as member,
        ):
            np.lib.format.write_array(member, ordered, allow_pickle=False)

    replace_file(os.fsdecode(path), write)


class _Floats:
    """Converts integers of one unit to the floats that give them back."""

    def __init__(self, what: str, unit: Decimal) -> None:
        self.what = what
        self.unit = unit
        self.known: dict[int, float] = {}

    def __call__(self, number: int) -> float:
        value = self.known.get(number)
        if value is None:
            exact = number * self.unit
            value = self.known[number] = float(exact)
            digits = f"{exact:f}".replace(".", "").strip("0")
            if Decimal(repr(value)) != exact or len(digits) > EXACT_DIGITS:
                raise ConfigError(f"{self.what} {exact:f}: no float gives it back exactly")
        return value


def _events(
    transactions: npt.NDArray[np.void], instrument: Instrument
) -> Iterator[tuple[int, int, float, float, int]]:
    """Yield the record, event, price, quantity and order of each row."""
    price_of = _Floats("price", Decimal(1).scaleb(-instrument.price_decimals))
    quantity_of = _Floats("quantity", instrument.lot_size)
    orders = _only_orders(transactions)
    sizes: dict[tuple[int, int], int] = {}
    for at, record in enumerate(transactions.tolist()):
        identity, price, size, side, kind, flags, _, _ = record
        mark = (_SELL if side else _BUY) | _AT_VENUE | _HERE
        if kind == Kind.CLEAR:
            sizes = {key: each for key, each in sizes.items() if key[0] != side}
            yield at, _CLEAR | mark, float("nan"), 0.0, 0
        elif kind == Kind.TRADE:
            if size:
                taker = (_BUY if side else _SELL) | _AT_VENUE | _HERE
                yield at, _TRADE | taker, price_of(price), quantity_of(size), identity
        elif orders:
            left = size if kind == Kind.ADD else sizes[side, identity] - size
            sizes[side, identity] = left
            if kind == Kind.EXECUTE:
                yield at, _FILL | mark, price_of(price), quantity_of(size), identity
            event = _ADD if kind == Kind.ADD else _MODIFY if left else _CANCEL
            yield at, event | mark, price_of(price), quantity_of(left or size), identity
        else:
            held = sizes.get((side, price), 0)
            left = {
                Kind.ADD: held + size,
                Kind.SET: size,
                Kind.SET_WIDE: identity,
                Kind.DELETE: 0,
            }.get(Kind(kind), held - size)
            sizes[side, price] = left
            event = _SNAPSHOT if flags & Flags.SNAPSHOT and left else _DEPTH
            yield at, event | mark, price_of(price), quantity_of(left), 0


def _only_orders(transactions: npt.NDArray[np.void]) -> bool:
    """Whether the book has orders alone, and each change belongs to one that was added."""
    book = transactions[~np.isin(transactions["kind"], [Kind.CLEAR, Kind.TRADE])]
    if not len(book) or (book["kind"] > Kind.EXECUTE).any():
        return False
    left: dict[int, tuple[int, int]] = {}
    for identity, price, size, _, kind, _, _, _ in book.tolist():
        if kind == Kind.ADD:
            if identity in left or not identity:
                return False
            left[identity] = (price, size)
            continue
        old_price, old_size = left.get(identity, (0, 0))
        if old_price != price or size > old_size:
            return False
        left[identity] = (price, old_size - size)
        if size == old_size:
            del left[identity]
    return True


def _in_both_orders(rows: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Put rows into an order in which the times of both clocks rise.

    A row for which that is impossible is written once for each clock.
    """
    here = np.argsort(rows["local_ts"], kind="stable")
    there = np.argsort(rows["exch_ts"], kind="stable")
    if (here == there).all():
        return rows[here]
    order: list[int] = []
    flags: list[int] = []
    seen = np.zeros(len(rows), np.bool_)
    at = 0
    for index in here.tolist():
        while not seen[index] and there[at] != index:
            order.append(int(there[at]))
            flags.append(_AT_VENUE)
            seen[there[at]] = True
            at += 1
        order.append(index)
        flags.append(_HERE if seen[index] else _HERE | _AT_VENUE)
        at += not seen[index]
        seen[index] = True
    ordered = rows[order]
    ordered["ev"] = (ordered["ev"] & ~np.uint64(_HERE | _AT_VENUE)) | np.array(flags, np.uint64)
    return ordered
