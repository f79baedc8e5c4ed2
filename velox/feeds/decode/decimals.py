"""Converts decimal text to integers exactly, without floating-point numbers.

A feed repeats its prices and sizes. Each distinct text is parsed once and then looked up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from velox.core.instrument import MAX_PRICE_DECIMALS
from velox.core.integers import INT64_MAX
from velox.feeds.decode.malformed import MalformedError, shown

__all__ = [
    "PRICE_LIMIT",
    "SIZE_LIMIT",
    "Grown",
    "Numbers",
    "decimal_of",
    "parsed",
    "to_units",
]

# A book uses the largest 64-bit integer for "no price", so no price may be that large.
PRICE_LIMIT = INT64_MAX
SIZE_LIMIT = INT64_MAX + 1

_DECIMAL = re.compile(r"(-?)([0-9]{1,40})(?:\.([0-9]{1,40}))?", re.ASCII)


class Grown(Exception):  # noqa: N818 - no error: read again
    """The unit of a market's numbers became finer; the message must be read again.

    Attributes
    ----------
    what : str
        ``"price"`` or ``"size"``.
    factor : int
        How many of the new unit one of the old unit is.
    """

    def __init__(self, what: str, factor: int) -> None:
        super().__init__(what, factor)
        self.what = what
        self.factor = factor


def parsed(text: object) -> tuple[int, int]:
    """Return the integer and the number of decimals of decimal text, without trailing zeros.

    Raises
    ------
    MalformedError
        It is not text, or not a plain decimal number. A plus sign and an exponent are not allowed.
    """
    if type(text) is not str:
        raise MalformedError(f"{shown(text)} is not decimal text")
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise MalformedError(f"{shown(text)} is not a decimal number")
    sign, whole, fraction = match[1], match[2], (match[3] or "").rstrip("0")
    units = int(whole + fraction)
    return (-units if sign else units), len(fraction)


def to_units(text: object, places: int) -> int:
    """Return decimal text as an integer in units of ten to the minus `places`.

    Raises
    ------
    MalformedError
        It is not decimal text, or has more decimals.
    """
    units, found = parsed(text)
    if found > places:
        raise MalformedError(f"{shown(text)} is finer than 1e-{places}")
    return units * int(10 ** (places - found))


def decimal_of(units: int, places: int) -> Decimal:
    """Return an integer in units of ten to the minus `places` as an exact decimal.

    It has no trailing zeros, and no exponent if it is a whole number.
    """
    while places and units % 10 == 0:
        units //= 10
        places -= 1
    # Built from its parts, since arithmetic would round to the context's precision.
    return Decimal((int(units < 0), tuple(map(int, str(abs(units)))), -places))


class Numbers(dict[str, int]):
    """Converts decimal text to integers of one unit, for the prices or the sizes of one market.

    The unit is ten to the minus `places`. A finer number makes the unit finer and raises `Grown`
    with the factor, since integers read before it have the old unit.

    Parameters
    ----------
    what : {'price', 'size'}
        A size may be zero.
    places : int
        Decimals to begin with.
    most : int
        The most decimals allowed.
    step : int, optional
        The step of which each number must be a multiple, in the unit. It also fixes the unit.

    Attributes
    ----------
    largest : int
        An upper bound of the integers of this unit that were read here.
    seen : callable
        Returns the same bound for integers that another reader made in this unit.
    """

    __slots__ = ("largest", "limit", "most", "places", "seen", "step", "what")

    def __init__(
        self, what: str, places: int, *, most: int = MAX_PRICE_DECIMALS, step: int | None = None
    ) -> None:
        super().__init__()
        self.what = what
        self.places = places
        self.most = places if step is not None else most
        self.step = step
        self.limit = PRICE_LIMIT if what == "price" else SIZE_LIMIT
        self.largest = 0
        self.seen: Callable[[], int] = int

    def __missing__(self, text: str) -> int:
        units, places = parsed(text)
        if self.what == "price":
            if units <= 0:
                raise MalformedError(f"{shown(text)} is not a positive price")
        elif units < 0:
            raise MalformedError(f"{shown(text)} is a negative size")
        if places > self.places:
            self._grow(text, units, places)
        units *= int(10 ** (self.places - places))
        if units >= self.limit:
            raise MalformedError(f"{shown(text)} does not fit 63 bits in units of 1e-{self.places}")
        if self.step is not None and units % self.step:
            raise self._off_step(text)
        self.largest = max(self.largest, units)
        self[text] = units
        return units

    def _grow(self, text: str, units: int, places: int) -> None:
        if self.step is not None:
            raise self._off_step(text)
        if places > self.most:
            raise MalformedError(f"{shown(text)} is finer than 1e-{self.most}")
        factor = 10 ** (places - self.places)
        self.largest = max(self.largest, self.seen())
        if units >= self.limit or self.largest * factor >= self.limit:
            raise MalformedError(
                f"{shown(text)} needs units of 1e-{places}, in which "
                f"{decimal_of(self.largest, self.places):f} does not fit 63 bits"
            )
        self.rescale(factor, places)
        raise Grown(self.what, factor)

    def rescale(self, factor: int, places: int) -> None:
        """Make the unit finer by a factor.

        The caller must convert the integers that it has read before.
        """
        self.clear()
        self.largest *= factor
        self.places = places
        if self.step is not None:
            self.step *= factor

    def _off_step(self, text: str) -> MalformedError:
        assert self.step is not None
        step = decimal_of(self.step, self.places)
        if self.what == "price":
            return MalformedError(f"{shown(text)} is off the tick of {step:f}")
        return MalformedError(f"{shown(text)} is not a multiple of the lot of {step:f}")
