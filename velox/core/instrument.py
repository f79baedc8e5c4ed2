"""An instrument: its price step, its lot, and the size of its book's window."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from operator import index
from typing import SupportsIndex

from velox.core.integers import INT64_MAX
from velox.errors import BookError

__all__ = ["MAX_LEVELS", "MAX_PRICE_DECIMALS", "MIN_LEVELS", "PRICE_DECIMALS", "Instrument"]

MIN_LEVELS = 64
MAX_LEVELS = 1 << 18
#: Decimals of a price, unless its market needs others.
PRICE_DECIMALS = 4
MAX_PRICE_DECIMALS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One market.

    Attributes
    ----------
    name : str
        Its name, such as ``"BTC-USDT"``.
    market : int
        Its id in `Transaction.market`, 0 to 255.
    price_decimals : int
        Decimals of a price, 0 to 18: `Transaction.price` counts units of ten to the minus this.
    tick_size : int
        The price step in those units: ``100`` is a cent where `price_decimals` is 4.
    lot_size : decimal.Decimal
        The value of one unit of `Transaction.size`, in the venue's own unit. An int is accepted
        too.
    levels : int
        Price levels a side that the book keeps in its window: a power of two,
        `MIN_LEVELS` to `MAX_LEVELS`.

    Raises
    ------
    BookError
        A field is out of its range; the message names it.
    """

    name: str = "default"
    market: int = 0
    price_decimals: int = PRICE_DECIMALS
    tick_size: int = 1
    lot_size: Decimal = field(default=Decimal(1))
    levels: int = 1024

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise BookError("must be a string", field="name", value=self.name)
        for field_name in ("market", "price_decimals", "tick_size", "levels"):
            value = getattr(self, field_name)
            if isinstance(value, bool) or not isinstance(value, SupportsIndex):
                raise BookError("must be an integer", field=field_name, value=value)
            object.__setattr__(self, field_name, index(value))
        if isinstance(self.lot_size, int) and not isinstance(self.lot_size, bool):
            object.__setattr__(self, "lot_size", Decimal(self.lot_size))
        if not isinstance(self.lot_size, Decimal):
            raise BookError(
                "must be a Decimal, which is exact", field="lot_size", value=self.lot_size
            )
        if not 0 <= self.market <= 255:
            raise BookError("must be 0 to 255", field="market", value=self.market)
        if not 0 <= self.price_decimals <= MAX_PRICE_DECIMALS:
            raise BookError(
                f"must be 0 to {MAX_PRICE_DECIMALS}",
                field="price_decimals",
                value=self.price_decimals,
            )
        if not 1 <= self.tick_size <= INT64_MAX:
            raise BookError(
                f"must be at least 1, in units of 1e-{self.price_decimals}",
                field="tick_size",
                value=self.tick_size,
            )
        if not (self.lot_size.is_finite() and self.lot_size > 0):
            raise BookError("must be positive", field="lot_size", value=self.lot_size)
        if not MIN_LEVELS <= self.levels <= MAX_LEVELS or self.levels & (self.levels - 1):
            raise BookError(
                f"must be a power of two, {MIN_LEVELS} to {MAX_LEVELS}",
                field="levels",
                value=self.levels,
            )
