"""The limits of the risk gate: what each order, each market and all markets together may reach."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, ClassVar, SupportsIndex

from velox.errors import ConfigError

__all__ = ["Limits", "MarketLimits"]

_MAX_INT64 = 2**63 - 1
_MAX_WIDE = 2**126
# The least and the greatest value of each limit.
_RANGES: Mapping[str, tuple[int, int]] = MappingProxyType(
    {
        "max_order_lots": (1, 2**32 - 1),
        "lot_step": (1, 2**32 - 1),
        "price_step": (1, _MAX_INT64),
        "max_notional": (1, _MAX_WIDE),
        "collar": (0, 2**62 - 1),
        "max_position": (0, 2**62),
        "max_open_orders": (0, 4096),
        "orders_per_second": (1, 10**9),
        "order_burst": (1, 10**6),
        "cancels_per_second": (1, 10**9),
        "cancel_burst": (1, 10**6),
        "duplicate_ns": (1, _MAX_INT64),
        "max_feed_age_ns": (1, _MAX_INT64),
        "max_loss": (0, _MAX_WIDE),
        "max_drawdown": (0, _MAX_WIDE),
    }
)


def _check(limits: Any) -> None:
    """Convert the integers of a set of limits, or raise ConfigError."""
    for each in fields(limits):
        value = getattr(limits, each.name)
        if each.name not in _RANGES or value is None:
            continue
        low, high = _RANGES[each.name]
        if isinstance(value, bool) or not isinstance(value, SupportsIndex):
            raise ConfigError("must be an integer", field=each.name, value=value)
        number = operator.index(value)
        if not low <= number <= high:
            raise ConfigError(f"must be an integer, {low} to {high}", field=each.name, value=value)
        object.__setattr__(limits, each.name, number)
    for rate, burst in (
        ("orders_per_second", "order_burst"),
        ("cancels_per_second", "cancel_burst"),
    ):
        if getattr(limits, burst) is not None and getattr(limits, rate) is None:
            raise ConfigError(f"needs {rate}", field=burst, value=getattr(limits, burst))


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketLimits:
    """The limits of one market. A limit that is None is not checked.

    Attributes
    ----------
    max_order_lots : int or None
        The most lots of one order.
    lot_step : int or None
        The lots of an order must be a multiple of this.
    price_step : int or None
        The price of an order must be a multiple of this, in the unit of prices. The tick of the
        market's book is checked in any case.
    max_notional : int or None
        The most that price times lots of one order may be.
    collar : int or None
        How far the price may be from the best price of the opposite side, either way, in the unit
        of prices. While that side is empty, every order is blocked.
    max_position : int or None
        The most lots, long or short, that the position could reach if every open order of a side
        were filled.
    max_open_orders : int or None
        The most orders that are not gone.
    orders_per_second, order_burst : int or None
        The rate of orders, and how many may come at once: the rate, if not given.
    cancels_per_second, cancel_burst : int or None
        The same for cancels. Cancels over the rate are counted, and pass.
    duplicate_ns : int or None
        An order with the side, price and lots of one of the last 16 is blocked for so many ns.
    max_feed_age_ns : int or None
        The age of the market's last record from which on its feed is stale.
    self_trade : bool
        Whether an order may meet one of our own. Not allowed by default.
    max_loss : int or None
        An equity under minus this sets the kill switch. The equity is cash, plus the inventory at
        the price at which it could be closed, less fees, in the unit of cash.
    max_drawdown : int or None
        An equity so far under its highest sets the kill switch.

    Raises
    ------
    ConfigError
        A limit is not an integer or out of its range; the message names it.
    """

    max_order_lots: int | None = None
    lot_step: int | None = None
    price_step: int | None = None
    max_notional: int | None = None
    collar: int | None = None
    max_position: int | None = None
    max_open_orders: int | None = None
    orders_per_second: int | None = None
    order_burst: int | None = None
    cancels_per_second: int | None = None
    cancel_burst: int | None = None
    duplicate_ns: int | None = None
    max_feed_age_ns: int | None = None
    self_trade: bool = False
    max_loss: int | None = None
    max_drawdown: int | None = None

    def __post_init__(self) -> None:
        _check(self)
        if not isinstance(self.self_trade, bool):
            raise ConfigError("must be True or False", field="self_trade", value=self.self_trade)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits of a risk gate. Immutable, so threads may share it.

    Attributes
    ----------
    each : MarketLimits or None
        The limits of a market that has none of its own. If None, no order passes there.
    markets : mapping of int to MarketLimits
        The limits of single markets, by their id. They replace `each` as a whole.
    max_open_orders, orders_per_second, order_burst, cancels_per_second, cancel_burst : int or None
        As in `MarketLimits`, over all markets.
    max_loss, max_drawdown : int or None
        As in `MarketLimits`, of the sum of all markets. All must have one unit of cash.

    Raises
    ------
    ConfigError
        A limit cannot be used; the message names it.

    Examples
    --------
    >>> limits = Limits(each=MarketLimits(max_order_lots=10), orders_per_second=100)
    >>> limits.of(3).max_order_lots
    10
    >>> MarketLimits(max_order_lots=0)
    Traceback (most recent call last):
    ...
    velox.errors.ConfigError: max_order_lots = 0: must be an integer, 1 to 4294967295
    """

    MARKETS: ClassVar[int] = 256

    each: MarketLimits | None = MarketLimits()
    markets: Mapping[int, MarketLimits] = field(default_factory=dict)
    max_open_orders: int | None = None
    orders_per_second: int | None = None
    order_burst: int | None = None
    cancels_per_second: int | None = None
    cancel_burst: int | None = None
    max_loss: int | None = None
    max_drawdown: int | None = None

    def __post_init__(self) -> None:
        _check(self)
        if self.each is not None and not isinstance(self.each, MarketLimits):
            raise ConfigError("must be MarketLimits, or None", field="each", value=self.each)
        if not isinstance(self.markets, Mapping):
            raise ConfigError("must be a mapping", field="markets", value=self.markets)
        for market, limits in self.markets.items():
            if isinstance(market, bool) or not isinstance(market, int) or not 0 <= market <= 255:
                raise ConfigError("must be 0 to 255", field="markets", value=market)
            if not isinstance(limits, MarketLimits):
                raise ConfigError("must be MarketLimits", field=f"markets[{market}]", value=limits)
        object.__setattr__(self, "markets", MappingProxyType(dict(self.markets)))

    def of(self, market: int) -> MarketLimits | None:
        """Return the limits of a market; None if no order passes there."""
        return self.markets.get(market, self.each)

    def given(self) -> Iterator[tuple[str, str, int | bool]]:
        """Yield the table, the name and the value of each limit that is not its default.

        The tables are ``total``, ``each`` and ``market.N``, as in a file of limits.
        """
        tables: list[tuple[str, Any]] = [("total", self), ("each", self.each)]
        tables += [(f"market.{market}", self.markets[market]) for market in sorted(self.markets)]
        for table, limits in tables:
            for each in fields(limits) if limits is not None else ():
                value = getattr(limits, each.name)
                if each.name not in {"each", "markets"} and value != each.default:
                    yield table, each.name, value
