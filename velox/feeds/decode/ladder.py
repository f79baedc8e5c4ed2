"""The best levels of one book, kept while its messages are decoded."""

from __future__ import annotations

from array import array
from bisect import bisect_left, insort

from velox.core.records import Side
from velox.feeds.decode.decimals import Grown
from velox.feeds.decode.levels import Levels, Market

__all__ = ["Ladder"]

_SIDES = (Side.BID, Side.ASK)


class Ladder:
    """Both sides of a book, up to a number of levels.

    A venue that sends the best levels, and does not say which level leaves them, needs it. Prices
    and sizes are in the units of the market; `grown` follows them.

    Parameters
    ----------
    market : Market
    depth : int
        Levels a side.
    """

    __slots__ = ("_market", "_prices", "_sizes", "depth")

    def __init__(self, market: Market, depth: int) -> None:
        self._market = market
        self.depth = depth
        # By side: the prices in ascending order, and the size at each.
        self._prices: tuple[list[int], list[int]] = ([], [])
        self._sizes: tuple[dict[int, int], dict[int, int]] = ({}, {})

    def update(self, side: Side, levels: Levels) -> Levels:
        """Set levels of one side; a size of 0 deletes one.

        Returns
        -------
        Levels
            The given levels in the present units of the market, and a size of 0 for each level that
            lies beyond the depth now.
        """
        prices, sizes = (array("q", column) for column in self._market.present(levels))
        sorted_prices, held = self._prices[side], self._sizes[side]
        for price, size in zip(prices, sizes, strict=True):
            if size:
                if price not in held:
                    insort(sorted_prices, price)
                held[price] = size
            elif price in held:
                del held[price]
                del sorted_prices[bisect_left(sorted_prices, price)]
        beyond = len(sorted_prices) - self.depth
        if beyond > 0:
            # Bids are best at the end, asks at the beginning.
            worst = slice(beyond) if side == Side.BID else slice(self.depth, None)
            for price in sorted_prices[worst]:
                del held[price]
                prices.append(price)
                sizes.append(0)
            del sorted_prices[worst]
        return Levels(prices, sizes, self._market.prices.places, self._market.sizes.places)

    def best(self, side: Side, count: int) -> list[tuple[int, int]]:
        """Price and size of the best levels of one side, best first."""
        prices, held = self._prices[side], self._sizes[side]
        best = prices[: -count - 1 : -1] if side == Side.BID else prices[:count]
        return [(price, held[price]) for price in best]

    def grown(self, grown: Grown) -> None:
        """Convert the levels after a unit of their market became finer."""
        for side in _SIDES:
            if grown.what == "price":
                self._prices[side][:] = [price * grown.factor for price in self._prices[side]]
                held = {price * grown.factor: size for price, size in self._sizes[side].items()}
            else:
                held = {price: size * grown.factor for price, size in self._sizes[side].items()}
            self._sizes[side].clear()
            self._sizes[side].update(held)
