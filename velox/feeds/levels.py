"""Feeds that give price levels with absolute quantities: columns in, transactions out.

Millions of levels arrive in thousands of messages, so each message is kept as a few runs (one
record to be repeated, and how often) beside two flat columns of prices and sizes; NumPy expands
them all at once when the recording is complete.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from velox.core.instrument import Instrument
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, Side
from velox.errors import FeedError
from velox.feeds.decimals import LOTS_LIMIT, SIZE_PLACES, Prices, Quantities, Sizes, from_units
from velox.feeds.source import MalformedError, shown

__all__ = ["LevelRecorder", "Levels", "Market"]

MARKETS_LIMIT = 256
U32_MAX = 2**32 - 1

_BID, _ASK = int(Side.BID), int(Side.ASK)
_SET, _SET_WIDE, _CLEAR, _TRADE = (
    int(kind) for kind in (Kind.SET, Kind.SET_WIDE, Kind.CLEAR, Kind.TRADE)
)
_NO_FLAGS, _SNAPSHOT, _LAST = (int(flag) for flag in (Flags.NONE, Flags.SNAPSHOT, Flags.LAST))

# A transaction's fields, in their order.
Record = tuple[int, int, int, int, int, int, int, int]


class Levels(NamedTuple):
    """One side of a message: prices in units of 1e-4, sizes by their code in `Quantities`."""

    prices: list[int]
    sizes: list[int]


# What a record has instead of a level where its kind takes none.
_NOTHING = Levels([0], [0])


@dataclass(frozen=True, slots=True)
class Market:
    """One instrument while it is being read."""

    id: int
    name: str
    prices: Prices
    sizes: Sizes

    def levels(self, levels: object, field: str, *, zero_allowed: bool = True) -> Levels:
        """A message's ``[[price, size, …], …]``, checked.

        Raises
        ------
        MalformedError
            It is not that; the field names the element.
        """
        if type(levels) is not list or not set(map(type, levels)) <= {list}:
            raise MalformedError(f"expected an array of [price, size], got {shown(levels)}", field)
        prices, sizes = self.prices, self.sizes
        try:
            parsed = Levels(
                [prices[level[0]] for level in levels], [sizes[level[1]] for level in levels]
            )
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
        """Find the element that is wrong: the fast path above does not keep count."""
        for index, level in enumerate(levels):
            if len(level) < 2:
                raise MalformedError(
                    f"expected [price, size], got {shown(level)}", f"{field}[{index}]"
                )
            self.price(level[0], f"{field}[{index}][0]")
            self.size(level[1], f"{field}[{index}][1]")

    def price(self, text: Any, field: str) -> int:
        """One price, in units of 1e-4."""
        try:
            return self.prices[text]
        except MalformedError as error:
            raise MalformedError(error.why, field) from None
        except TypeError:
            raise MalformedError(f"{shown(text)} is not decimal text", field) from None

    def size(self, text: Any, field: str) -> int:
        """One size, by its code."""
        try:
            return self.sizes[text]
        except MalformedError as error:
            raise MalformedError(error.why, field) from None
        except TypeError:
            raise MalformedError(f"{shown(text)} is not decimal text", field) from None


class LevelRecorder:
    """Collects the events of any number of markets in the order in which they are recorded."""

    def __init__(self) -> None:
        self.count = 0
        self.markets: list[Market] = []
        self._quantities = Quantities()
        # Runs: the record that is repeated, and how often.
        self._records: list[Record] = []
        self._repeats = array("q")
        # Columns, one element a transaction.
        self._prices = array("q")
        self._sizes = array("q")
        self._last_of_event = array("q")

    def market(self, name: str, tick: int | None = None, lot: Decimal | None = None) -> Market:
        """A further market; `tick` and `lot` are found out from its levels where not given."""
        if len(self.markets) == MARKETS_LIMIT:
            raise MalformedError(
                f"{shown(name)} is one market more than the {MARKETS_LIMIT} possible"
            )
        market = Market(
            len(self.markets),
            name,
            Prices(tick),
            Sizes(self._quantities, len(self.markets), lot),
        )
        self.markets.append(market)
        return market

    def snapshot(self, market: Market, time: int, bids: Levels, asks: Levels) -> None:
        """Open a book: clear it, then set each of its levels."""
        for side, levels in ((_BID, bids), (_ASK, asks)):
            self._run((0, 0, 0, side, _CLEAR, _SNAPSHOT, market.id, time), _NOTHING)
            self._run((0, 0, 0, side, _SET, _SNAPSHOT, market.id, time), levels)
        self._end_event()

    def update(self, market: Market, time: int, bids: Levels, asks: Levels) -> None:
        """Set levels of an open book; a size of 0 deletes one."""
        if bids.prices or asks.prices:
            self._run((0, 0, 0, _BID, _SET, _NO_FLAGS, market.id, time), bids)
            self._run((0, 0, 0, _ASK, _SET, _NO_FLAGS, market.id, time), asks)
            self._end_event()

    def clear(self, market: Market, time: int) -> None:
        """Empty a book of which it is no longer known what is in it."""
        for side in (_BID, _ASK):
            self._run((0, 0, 0, side, _CLEAR, _NO_FLAGS, market.id, time), _NOTHING)
        self._end_event()

    def trade(
        self, market: Market, time: int, *, identity: int, side: int, price: int, size: int
    ) -> None:
        """A print; `side` is that of the order that rested in the book."""
        self._run(
            (identity, 0, 0, side, _TRADE, _NO_FLAGS, market.id, time), Levels([price], [size])
        )
        self._end_event()

    def _run(self, record: Record, levels: Levels) -> None:
        """Repeat `record` once a level; its price and size are filled in at the end."""
        self._records.append(record)
        self._repeats.append(len(levels.prices))
        self._prices.extend(levels.prices)
        self._sizes.extend(levels.sizes)
        self.count += len(levels.prices)

    def _end_event(self) -> None:
        self._last_of_event.append(self.count - 1)

    def instruments(self, levels: int) -> tuple[Instrument, ...]:
        """The markets, with the grid that was given or else found out."""
        return tuple(
            Instrument(
                name=market.name,
                market=market.id,
                tick_size=market.prices.tick or market.prices.inferred_tick(),
                lot_size=from_units(self._lot(market), SIZE_PLACES),
                levels=levels,
            )
            for market in self.markets
        )

    @staticmethod
    def _lot(market: Market) -> int:
        return market.sizes.lot or market.sizes.inferred_lot()

    def lots(self, path: object) -> npt.NDArray[np.int64]:
        """Lots by size code; `path` is named where one does not fit 63 bits."""
        lots = [self._lot(market) for market in self.markets] or [1]
        quantities = self._quantities
        counts = [
            units // lots[market]
            for units, market in zip(quantities.units, quantities.markets, strict=True)
        ]
        if max(counts) >= LOTS_LIMIT:
            largest = counts.index(max(counts))
            market = self.markets[quantities.markets[largest]]
            size = from_units(quantities.units[largest], SIZE_PLACES)
            raise FeedError(
                f"{size:f} of {market.name} does not fit 63 bits of the lots that its other "
                "sizes need",
                path=path,
                field="size",
            )
        return np.array(counts, np.int64)

    def transactions(self, lots: npt.NDArray[np.int64], path: object) -> npt.NDArray[np.void]:
        """All that was collected, as records; `lots` is what the method of that name gave."""
        transactions = np.repeat(
            np.array(self._records, TRANSACTION_DTYPE), np.frombuffer(self._repeats, np.int64)
        )
        transactions["price"] = np.frombuffer(self._prices, np.int64)
        quantities = lots[np.frombuffer(self._sizes, np.int64)]
        wide = quantities > U32_MAX
        if (wide & (transactions["kind"] == _TRADE)).any():
            raise FeedError(
                "a trade is over 2**32 - 1 lots, which the size of a TRADE cannot hold; "
                "load without trades",
                path=path,
                field="size",
            )
        transactions["size"] = np.where(wide, 0, quantities)
        transactions["kind"][wide] = _SET_WIDE
        transactions["id"][wide] = quantities[wide]
        transactions["flags"][np.frombuffer(self._last_of_event, np.int64)] |= _LAST
        return transactions
