"""Converts price levels with absolute quantities to transactions.

Millions of levels arrive in thousands of messages. Each message is kept as a few runs (one record
to be repeated, and how often) beside two flat columns of prices and sizes. NumPy expands all runs
at once when the recording is complete.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from velox.core.instrument import PRICE_DECIMALS, Instrument
from velox.core.integers import INT64_MAX, UINT32_MAX
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, Side
from velox.feeds.decode.decimals import (
    Grown,
    Numbers,
    decimal_of,
)
from velox.feeds.decode.malformed import MalformedError, shown

__all__ = ["KNOWN_DTYPE", "LevelRecorder", "Levels", "Market", "Sink", "require_uncrossed"]

MARKETS_LIMIT = 256
# Records that one trade may be split into.
PIECES_LIMIT = 1 << 16

# How deep a book is known, from a record on: all bids from `bid` up, all asks up to `ask`, and at
# most `levels` a side. A bid of 0 or an ask of 2**63 - 1 means the whole side. 0 levels means no
# limit.
KNOWN_DTYPE = np.dtype(
    [("position", "<i8"), ("market", "u1"), ("bid", "<i8"), ("ask", "<i8"), ("levels", "<i4")]
)

_BID, _ASK = int(Side.BID), int(Side.ASK)
_SET, _SET_WIDE, _CLEAR, _TRADE = (
    int(kind) for kind in (Kind.SET, Kind.SET_WIDE, Kind.CLEAR, Kind.TRADE)
)
_NO_FLAGS, _SNAPSHOT, _LAST = (int(flag) for flag in (Flags.NONE, Flags.SNAPSHOT, Flags.LAST))

# A transaction's fields, in their order.
Record = tuple[int, int, int, int, int, int, int, int]


class Levels(NamedTuple):
    """One side of a message, as integers of the units that its market had at that time."""

    prices: array[int]
    sizes: array[int]
    price_places: int
    size_places: int


class Market:
    """One instrument of a recording that is being read.

    Attributes
    ----------
    id : int
        Its number in `Transaction.market`.
    name : str
    prices, sizes : Numbers
        They convert its decimal text to integers.
    """

    __slots__ = ("_grown", "id", "least_places", "name", "prices", "sizes")

    def __init__(
        self,
        id: int,
        name: str,
        prices: Numbers,
        sizes: Numbers,
        grown: Callable[[Market, Grown], None],
    ) -> None:
        self.id = id
        self.name = name
        self.prices = prices
        self.sizes = sizes
        # The fewest decimals of its prices, even if they need fewer.
        self.least_places = prices.places
        self._grown = grown

    def levels(self, levels: object, field: str, *, zero_allowed: bool = True) -> Levels:
        """A message's ``[[price, size, …], …]``, checked.

        Raises
        ------
        MalformedError
            It has another form; the error's field names the element.
        """
        if type(levels) is not list or not set(map(type, levels)) <= {list}:
            raise MalformedError(f"expected an array of [price, size], got {shown(levels)}", field)
        prices, sizes = self.prices, self.sizes
        while True:
            try:
                parsed = Levels(
                    array("q", [prices[level[0]] for level in levels]),
                    array("q", [sizes[level[1]] for level in levels]),
                    prices.places,
                    sizes.places,
                )
                break
            except Grown as grown:
                self._grown(self, grown)
            except (MalformedError, IndexError, TypeError):
                self._explain(levels, field)
                raise
        if not zero_allowed and 0 in parsed.sizes:
            index = parsed.sizes.index(0)
            raise MalformedError(
                f"{shown(levels[index][1])}: a snapshot has no empty levels", f"{field}[{index}][1]"
            )
        return parsed

    def _explain(self, levels: list[list[Any]], field: str) -> None:
        """Find the element that is wrong. The fast path above does not count elements."""
        for index, level in enumerate(levels):
            if len(level) < 2:
                raise MalformedError(
                    f"expected [price, size], got {shown(level)}", f"{field}[{index}]"
                )
            self.price(level[0], f"{field}[{index}][0]")
            self.size(level[1], f"{field}[{index}][1]")

    def price(self, text: Any, field: str) -> int:
        """One price, in the market's present unit."""
        return self._number(self.prices, text, field)

    def size(self, text: Any, field: str) -> int:
        """One size, in the market's present unit."""
        return self._number(self.sizes, text, field)

    def _number(self, numbers: Numbers, text: Any, field: str) -> int:
        while True:
            try:
                return numbers[text]
            except Grown as grown:
                self._grown(self, grown)
            except MalformedError as error:
                raise MalformedError(error.why, field) from None
            except TypeError:
                raise MalformedError(f"{shown(text)} is not decimal text", field) from None

    def refine(self, price_places: int, size_places: int) -> bool:
        """Give prices and sizes at least these decimals; False if a number then leaves 63 bits."""
        for what, numbers, places in (
            ("price", self.prices, price_places),
            ("size", self.sizes, size_places),
        ):
            factor = 10 ** max(0, places - numbers.places)
            if numbers.largest * factor >= numbers.limit:
                return False
            if factor > 1:
                numbers.rescale(factor, places)
                self._grown(self, Grown(what, factor))
        return True

    def present(self, levels: Levels) -> tuple[array[int], array[int]]:
        """Prices and sizes of levels that were read earlier, in the market's present units."""
        prices, sizes = levels.prices, levels.sizes
        if levels.price_places != self.prices.places:
            factor = 10 ** (self.prices.places - levels.price_places)
            prices = array("q", [price * factor for price in prices])
        if levels.size_places != self.sizes.places:
            factor = 10 ** (self.sizes.places - levels.size_places)
            sizes = array("q", [size * factor for size in sizes])
        return prices, sizes


def require_uncrossed(market: Market, bids: Levels, asks: Levels, field: str) -> None:
    """Refuse a snapshot whose best bid is not below its best ask."""
    if bids.prices and asks.prices:
        bid, ask = max(market.present(bids)[0]), min(market.present(asks)[0])
        if bid >= ask:
            places = market.prices.places
            raise MalformedError(
                f"{market.name} opens crossed: best bid {decimal_of(bid, places):f}, "
                f"best ask {decimal_of(ask, places):f}",
                field,
            )


class Sink(Protocol):
    """The interface to which a session writes the levels and trades of its messages.

    Times are nanoseconds. `venue_time` is the venue's own time of the event; 0 if it gives none.
    """

    def market(
        self,
        name: str,
        *,
        places: int | None = None,
        tick: int | None = None,
        lot: Decimal | None = None,
    ) -> Market:
        """Add a market. Units that are not given follow from its numbers."""

    def snapshot(
        self,
        market: Market,
        time: int,
        bids: Levels,
        asks: Levels,
        *,
        levels: int = 0,
        venue_time: int = 0,
    ) -> None:
        """Open a book with these levels. Levels beyond them are unknown."""

    def update(
        self, market: Market, time: int, bids: Levels, asks: Levels, *, venue_time: int = 0
    ) -> None:
        """Set levels of an open book; a size of 0 deletes one."""

    def clear(self, market: Market, time: int, *, venue_time: int = 0) -> None:
        """Empty a book whose contents are no longer known."""

    def trade(
        self,
        market: Market,
        time: int,
        *,
        identity: int,
        side: int,
        price: int,
        size: int,
        venue_time: int = 0,
    ) -> None:
        """Add a trade; `side` is that of the order that rested in the book."""

    @property
    def count(self) -> int:
        """Transactions written so far."""


class Grid(NamedTuple):
    """The units of one market in the finished recording.

    Attributes
    ----------
    places : int
        Decimals of a price.
    divisor : int
        Prices as they were read are divided by this.
    tick : int
        In units of ten to the minus `places`.
    lot : int
        In units of ten to the minus `size_places`: sizes as they were read are divided by this.
    size_places : int
    """

    places: int
    divisor: int
    tick: int
    lot: int
    size_places: int

    def lots(self, sizes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Sizes as they were read, in lots."""
        return sizes // self.lot


class LevelRecorder:
    """A sink that keeps the events of any number of markets in the order of their arrival.

    Not thread-safe: one session writes into it.
    """

    def __init__(self) -> None:
        self.count = 0
        self.markets: list[Market] = []
        # Callables of other objects that keep numbers of a market in its units.
        self.listeners: list[Callable[[Market, Grown], None]] = []
        # Runs: the record that is repeated, and how often.
        self._records: list[Record] = []
        self._repeats = array("q")
        self._run_markets = array("B")
        # Columns, one element a transaction.
        self._prices = array("q")
        self._sizes = array("q")
        self._last_of_event = array("q")
        # The venue's time of each event.
        self._venue_times = array("Q")
        # The fewest decimals of a price, if they follow from the prices.
        self._least_places = PRICE_DECIMALS
        # Rows of KNOWN_DTYPE.
        self._known: list[list[int]] = []

    def market(
        self,
        name: str,
        *,
        places: int | None = None,
        tick: int | None = None,
        lot: Decimal | None = None,
    ) -> Market:
        """A further market.

        Parameters
        ----------
        name : str
        places : int, optional
            Fixed number of decimals of its prices. If not given: 4, or as many as its prices need.
        tick : int, optional
            In units of ten to the minus `places`, which is then 4 if not given.
        lot : decimal.Decimal, optional

        Raises
        ------
        MalformedError
            There are already as many markets as a record can number.
        """
        if len(self.markets) == MARKETS_LIMIT:
            raise MalformedError(
                f"{shown(name)} is one market more than the {MARKETS_LIMIT} possible"
            )
        prices = Numbers("price", PRICE_DECIMALS if places is None else places, step=tick)
        if places is not None:
            prices.most = places
        if lot is None:
            sizes = Numbers("size", 0)
        else:
            size_places = max(0, -int(lot.as_tuple().exponent))
            sizes = Numbers("size", size_places, step=int(lot.scaleb(size_places)))
        market = Market(len(self.markets), name, prices, sizes, self._rescale)
        self.markets.append(market)
        return market

    def snapshot(
        self,
        market: Market,
        time: int,
        bids: Levels,
        asks: Levels,
        *,
        levels: int = 0,
        venue_time: int = 0,
    ) -> None:
        """Open a book: clear it, then set each of its levels.

        Levels beyond the last level of a side are unknown from then on. A side without levels is
        known to be empty. If the source always gives the best `levels` of a side, that many levels
        are known, at any price.
        """
        bid, ask = 0, INT64_MAX
        if not levels:
            bid = min(market.present(bids)[0], default=bid)
            ask = max(market.present(asks)[0], default=ask)
        self._known.append([self.count, market.id, bid, ask, levels])
        for side, half in ((_BID, bids), (_ASK, asks)):
            self._run((0, 0, 0, side, _CLEAR, _SNAPSHOT, market.id, time), _ZERO, _ZERO)
            self._run((0, 0, 0, side, _SET, _SNAPSHOT, market.id, time), *market.present(half))
        self._end_event(venue_time)

    def update(
        self, market: Market, time: int, bids: Levels, asks: Levels, *, venue_time: int = 0
    ) -> None:
        """Set levels of an open book; a size of 0 deletes one."""
        if bids.prices or asks.prices:
            for side, half in ((_BID, bids), (_ASK, asks)):
                self._run((0, 0, 0, side, _SET, _NO_FLAGS, market.id, time), *market.present(half))
            self._end_event(venue_time)

    def clear(self, market: Market, time: int, *, venue_time: int = 0) -> None:
        """Empty a book whose contents are no longer known."""
        for side in (_BID, _ASK):
            self._run((0, 0, 0, side, _CLEAR, _NO_FLAGS, market.id, time), _ZERO, _ZERO)
        self._end_event(venue_time)

    def trade(
        self,
        market: Market,
        time: int,
        *,
        identity: int,
        side: int,
        price: int,
        size: int,
        venue_time: int = 0,
    ) -> None:
        """Add a trade; `side` is that of the order that rested in the book."""
        self._run(
            (identity, 0, 0, side, _TRADE, _NO_FLAGS, market.id, time),
            array("q", [price]),
            array("q", [size]),
        )
        self._end_event(venue_time)

    def _run(self, record: Record, prices: array[int], sizes: array[int]) -> None:
        """Add one copy of `record` for each level. Prices and sizes are filled in at the end."""
        self._records.append(record)
        self._repeats.append(len(prices))
        self._run_markets.append(record[6])
        self._prices.extend(prices)
        self._sizes.extend(sizes)
        self.count += len(prices)

    def _end_event(self, venue_time: int) -> None:
        self._last_of_event.append(self.count - 1)
        self._venue_times.append(venue_time)

    def _rescale(self, market: Market, grown: Grown) -> None:
        """Convert the numbers that are kept after the unit of a market became finer."""
        column = self._prices if grown.what == "price" else self._sizes
        np.frombuffer(column, np.int64)[self._market_column() == market.id] *= grown.factor
        if grown.what == "price":
            for row in self._known:
                if row[1] == market.id:
                    row[2] *= grown.factor
                    if row[3] != INT64_MAX:
                        row[3] *= grown.factor
        for listener in self.listeners:
            listener(market, grown)

    def _market_column(self) -> npt.NDArray[np.uint8]:
        """The market of each transaction."""
        repeats = np.frombuffer(self._repeats, np.int64)
        return np.repeat(np.frombuffer(self._run_markets, np.uint8), repeats)

    def share_scale(self) -> int:
        """Give all markets the finest price scale that one of them needs, and return its decimals.

        Raises
        ------
        MalformedError
            A price of another market does not fit 63 bits at that scale.
        """
        places = max((grid.places for grid in self.grids()), default=PRICE_DECIMALS)
        for market in self.markets:
            factor = 10 ** (places - market.prices.places) if market.prices.places < places else 1
            if market.prices.largest * factor >= market.prices.limit:
                raise MalformedError(
                    f"{market.name} does not fit 63 bits at the {places} decimals that another "
                    "instrument needs; load with symbol",
                    "price",
                )
            if factor > 1:
                market.prices.rescale(factor, places)
                self._rescale(market, Grown("price", factor))
        self._least_places = places
        return places

    def grids(
        self, more: Mapping[int, Iterable[npt.NDArray[np.int64]]] | None = None
    ) -> list[Grid]:
        """Return the units of each market.

        They are as given, or else the coarsest of which its numbers are multiples.

        Parameters
        ----------
        more : mapping, optional
            Further prices and sizes, by market id, that must be multiples of the units.
        """
        prices = np.frombuffer(self._prices, np.int64)
        sizes = np.frombuffer(self._sizes, np.int64)
        markets = self._market_column()
        grids = []
        for market in self.markets:
            own = slice(None) if len(self.markets) == 1 else markets == market.id
            more_prices, more_sizes = (more or {}).get(market.id, (prices[:0], sizes[:0]))
            divisor, places = 1, market.prices.places
            tick = market.prices.step
            if tick is None:
                tick = _common_divisor(prices[own], more_prices) or 1
                least = max(self._least_places, market.least_places)
                while places > least and tick % 10 == 0:
                    divisor, places, tick = divisor * 10, places - 1, tick // 10
            lot = market.sizes.step or _common_divisor(sizes[own], more_sizes)
            grids.append(
                Grid(places, divisor, tick, lot or 10**market.sizes.places, market.sizes.places)
            )
        return grids

    def instruments(self, grids: list[Grid], levels: int) -> tuple[Instrument, ...]:
        """The markets with their grids."""
        return tuple(
            Instrument(
                name=market.name,
                market=market.id,
                price_decimals=grid.places,
                tick_size=grid.tick,
                lot_size=decimal_of(grid.lot, grid.size_places),
                levels=levels,
            )
            for market, grid in zip(self.markets, grids, strict=True)
        )

    def known(self, grids: list[Grid]) -> npt.NDArray[np.void]:
        """Return how deep each book is known.

        The rows are of KNOWN_DTYPE, in the order of their positions.
        """
        rows = np.array([tuple(row) for row in self._known], KNOWN_DTYPE)
        for market, grid in enumerate(grids):
            own = rows["market"] == market
            rows["bid"][own] //= grid.divisor
            finite = own & (rows["ask"] != INT64_MAX)
            rows["ask"][finite] //= grid.divisor
        return rows

    def transactions(
        self, grids: list[Grid], report: Callable[[MalformedError], None]
    ) -> tuple[npt.NDArray[np.void], Callable[[Any], npt.NDArray[np.int64]]]:
        """Return all events as records; `grids` is the result of the method of that name.

        A level over 2**32 - 1 lots becomes a SET_WIDE record. A larger trade becomes several
        records with the same id, in one event, whose sizes add up to it. A trade that needs more
        than 65536 records is reported and left out: its market needs a larger lot.

        Returns
        -------
        ndarray, shape (n,), dtype TRANSACTION_DTYPE
        callable
            Converts a count of transactions of this recorder to a count of these records.
        """
        records = np.array(self._records, TRANSACTION_DTYPE)
        transactions = np.repeat(records, np.frombuffer(self._repeats, np.int64))
        prices = np.frombuffer(self._prices, np.int64)
        sizes = np.frombuffer(self._sizes, np.int64)
        if len(grids) == 1:
            prices = prices if grids[0].divisor == 1 else prices // grids[0].divisor
            sizes = sizes if grids[0].lot == 1 else grids[0].lots(sizes)
        else:
            markets = transactions["market"]
            prices = prices // np.array([grid.divisor for grid in grids], np.int64)[markets]
            sizes = sizes // np.array([grid.lot for grid in grids], np.int64)[markets]
        transactions["price"] = prices
        transactions["size"] = sizes
        transactions["flags"][np.frombuffer(self._last_of_event, np.int64)] |= _LAST
        wide = np.flatnonzero(sizes > UINT32_MAX)
        is_trade = transactions["kind"][wide] == _TRADE
        wide_trades, wide = wide[is_trade], wide[~is_trade]
        transactions["size"][wide] = 0
        transactions["kind"][wide] = _SET_WIDE
        transactions["id"][wide] = sizes[wide]
        if not len(wide_trades):
            return transactions, _unmoved
        return self._split(transactions, wide_trades, sizes, report)

    def venue_times(self, moved: Callable[[Any], npt.NDArray[np.int64]]) -> npt.NDArray[np.uint64]:
        """Return the venue's time of each record in ns, 0 if unknown.

        Parameters
        ----------
        moved : callable
            The second result of `transactions`.

        Returns
        -------
        ndarray, dtype uint64
            As long as the first result of `transactions`.
        """
        ends = moved(np.frombuffer(self._last_of_event, np.int64) + 1)
        return np.repeat(np.frombuffer(self._venue_times, np.uint64), np.diff(ends, prepend=0))

    def _split(
        self,
        transactions: npt.NDArray[np.void],
        wide: npt.NDArray[np.intp],
        sizes: npt.NDArray[np.int64],
        report: Callable[[MalformedError], None],
    ) -> tuple[npt.NDArray[np.void], Callable[[Any], npt.NDArray[np.int64]]]:
        """Split each trade that is too large for one record into several records."""
        pieces = np.ones(len(transactions), np.int64)
        pieces[wide] = (sizes[wide] - 1) // UINT32_MAX + 1
        for index in wide[pieces[wide] > PIECES_LIMIT].tolist():
            market = self.markets[int(transactions["market"][index])]
            report(
                MalformedError(
                    f"a trade of {market.name} is {sizes[index]} lots, which needs more than "
                    f"{PIECES_LIMIT} records; give a larger lot_size, or load without trades",
                    "size",
                )
            )
            pieces[index] = 0
        ends = np.concatenate(([0], np.cumsum(pieces)))
        split = np.repeat(transactions, pieces)
        for index in wide[pieces[wide] > 0].tolist():
            first, end = int(ends[index]), int(ends[index + 1])
            split["size"][first:end] = UINT32_MAX
            split["size"][end - 1] = sizes[index] - UINT32_MAX * (end - first - 1)
            split["flags"][first : end - 1] &= 0xFF ^ _LAST

        def moved(positions: Any) -> npt.NDArray[np.int64]:
            return np.asarray(ends[np.asarray(positions, np.int64)], np.int64)

        return split, moved


_ZERO = array("q", [0])


def _unmoved(positions: Any) -> npt.NDArray[np.int64]:
    return np.array(positions, np.int64)


def _common_divisor(*columns: npt.NDArray[np.int64]) -> int:
    """The greatest common divisor of all elements; 0 where all are 0."""
    divisor = 0
    for column in columns:
        divisor = int(np.gcd.reduce(column[:1024], initial=divisor))
        rest = column[1024:]
        if divisor and len(rest):
            rest = rest % divisor
        if rest.any():
            divisor = int(np.gcd.reduce(rest[rest != 0], initial=divisor))
    return divisor
