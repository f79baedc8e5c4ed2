"""Decimal text → integers, exactly: no float is ever made of a price or a size.

A feed repeats its prices and sizes, so each distinct text is parsed once and then looked up: a
table is a dictionary whose ``__missing__`` does the parsing.
"""

from __future__ import annotations

import math
import re
from array import array
from decimal import Decimal

from velox.core.records import PRICE_SCALE
from velox.feeds.source import MalformedError, shown

__all__ = ["PRICE_LIMIT", "Prices", "Quantities", "Sizes", "from_units", "size_units", "to_units"]

PRICE_PLACES = len(str(PRICE_SCALE)) - 1
# Sizes have no fixed scale; 18 decimals is the finest unit of any venue's asset.
SIZE_PLACES = 18
# The largest 64-bit integer is what a book may use for "no price", so it is not one.
PRICE_LIMIT = 2**63 - 1
LOTS_LIMIT = 2**63

_DECIMAL = re.compile(r"(-?)([0-9]{1,40})(?:\.([0-9]{1,40}))?", re.ASCII)


def to_units(text: object, places: int) -> int:
    """The integer that decimal `text` is, in units of ten to the minus `places`.

    Raises
    ------
    MalformedError
        It is no text, no plain decimal number (no sign but a minus, no exponent), or is finer.
    """
    if type(text) is not str:
        raise MalformedError(f"{shown(text)} is not decimal text")
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise MalformedError(f"{shown(text)} is not a decimal number")
    sign, whole, fraction = match[1], match[2], (match[3] or "").rstrip("0")
    if len(fraction) > places:
        raise MalformedError(f"{shown(text)} is finer than 1e-{places}")
    units = int(whole + fraction.ljust(places, "0"))
    return -units if sign else units


def from_units(units: int, places: int) -> Decimal:
    """The decimal that an integer of units of ten to the minus `places` stands for, exactly.

    Without trailing zeros, and without an exponent where it is whole.
    """
    while places and units % 10 == 0:
        units //= 10
        places -= 1
    # From its parts: arithmetic would round to the context's precision.
    return Decimal((0, tuple(map(int, str(units))), -places))


class Prices(dict[str, int]):
    """Decimal text → price in units of 1e-4, for one market.

    Parameters
    ----------
    tick : int or None
        What each price must be a multiple of; None where that is still to be found out.
    """

    __slots__ = ("tick",)

    def __init__(self, tick: int | None = None) -> None:
        super().__init__()
        self.tick = tick

    def __missing__(self, text: str) -> int:
        price = to_units(text, PRICE_PLACES)
        if price <= 0:
            raise MalformedError(f"{shown(text)} is not a positive price")
        if price >= PRICE_LIMIT:
            raise MalformedError(f"{shown(text)} does not fit 63 bits in units of 1e-4")
        if self.tick is not None and price % self.tick:
            raise MalformedError(
                f"{shown(text)} is off the tick of {from_units(self.tick, PRICE_PLACES):f}"
            )
        self[text] = price
        return price

    def inferred_tick(self) -> int:
        """The coarsest grid on which every price seen lies."""
        return math.gcd(*self.values()) or 1


class Quantities:
    """Every distinct size of a recording, by a code that is the same for all of its markets.

    Code 0 is the quantity 0. A size becomes lots only when all have been seen, since the lot may
    have to be found out.
    """

    def __init__(self) -> None:
        self.units: list[int] = [0]
        self.markets = array("B", [0])

    def new(self, units: int, market: int) -> int:
        self.units.append(units)
        self.markets.append(market)
        return len(self.units) - 1


class Sizes(dict[str, int]):
    """Decimal text → the code of a size in `Quantities`, for one market."""

    __slots__ = ("lot", "market", "quantities")

    def __init__(self, quantities: Quantities, market: int, lot: Decimal | None = None) -> None:
        super().__init__()
        self.quantities = quantities
        self.market = market
        self.lot = None if lot is None else size_units(lot)

    def __missing__(self, text: str) -> int:
        units = to_units(text, SIZE_PLACES)
        if units < 0:
            raise MalformedError(f"{shown(text)} is a negative size")
        if self.lot is not None:
            if units % self.lot:
                lot = from_units(self.lot, SIZE_PLACES)
                raise MalformedError(f"{shown(text)} is not a multiple of the lot of {lot:f}")
            if units // self.lot >= LOTS_LIMIT:
                raise MalformedError(f"{shown(text)} does not fit 63 bits of lots")
        code = self.quantities.new(units, self.market) if units else 0
        self[text] = code
        return code

    def inferred_lot(self) -> int:
        """The largest unit, times 1e-18, of which every size seen is a multiple."""
        return math.gcd(*(self.quantities.units[code] for code in self.values())) or 10**SIZE_PLACES


def size_units(lot: Decimal) -> int:
    """A lot as an integer times 1e-18; `MalformedError` where it is finer or absurdly large."""
    if not -SIZE_PLACES <= lot.adjusted() <= SIZE_PLACES:
        raise MalformedError(f"a lot must be from 1e-{SIZE_PLACES} to 1e{SIZE_PLACES}")
    return to_units(f"{lot:f}", SIZE_PLACES)
