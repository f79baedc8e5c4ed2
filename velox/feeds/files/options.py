"""Checks the settings that several formats share."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from velox.core.instrument import MAX_PRICE_DECIMALS, Instrument
from velox.core.integers import INT64_MAX
from velox.errors import BookError, ConfigError

__all__ = [
    "checked_choice",
    "checked_decimals",
    "checked_levels",
    "checked_lot",
    "checked_name",
    "checked_tick",
    "is_lot",
]


def checked_decimals(price_decimals: object) -> int:
    """Validate the number of decimals of prices."""
    if type(price_decimals) is not int or not 0 <= price_decimals <= MAX_PRICE_DECIMALS:
        raise ConfigError(
            f"price_decimals = {price_decimals!r}: must be an integer from 0 to "
            f"{MAX_PRICE_DECIMALS}"
        )
    return price_decimals


def checked_tick(tick_size: object) -> int:
    """Validate a tick size in the smallest unit of a price."""
    if type(tick_size) is not int or not 1 <= tick_size <= INT64_MAX:
        raise ConfigError(
            f"tick_size = {tick_size!r}: must be an integer of at least 1, in the smallest unit "
            "of a price"
        )
    return tick_size


def checked_lot(lot_size: object) -> Decimal:
    """Validate a lot size.

    A float is refused, since it is not exactly the decimal that it shows.
    """
    if isinstance(lot_size, bool | float) or not isinstance(lot_size, str | int | Decimal):
        raise ConfigError(f"lot_size = {lot_size!r}: must be decimal text, an int or a Decimal")
    try:
        lot = Decimal(lot_size)
    except InvalidOperation:
        raise ConfigError(f"lot_size = {lot_size!r}: is not a decimal number") from None
    if not lot.is_finite() or lot <= 0:
        raise ConfigError(f"lot_size = {lot_size!r}: must be positive")
    if not is_lot(lot):
        raise ConfigError(
            f"lot_size = {lot_size!r}: must be from 1e-{MAX_PRICE_DECIMALS} to "
            f"1e{MAX_PRICE_DECIMALS}"
        )
    return lot


def is_lot(lot: Decimal) -> bool:
    """Whether a positive decimal can be a lot: neither too large nor too fine."""
    digits, exponent = lot.as_tuple().digits, int(lot.as_tuple().exponent)
    finest = exponent
    for digit in reversed(digits):
        if digit:
            break
        finest += 1
    return finest >= -MAX_PRICE_DECIMALS and lot.adjusted() <= MAX_PRICE_DECIMALS


def checked_name(name: str, value: object) -> str | None:
    """Validate an option that is text or None."""
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{name} = {value!r}: must be text, or None")
    return value


def checked_choice(name: str, value: object, choices: tuple[str, ...]) -> str:
    """Validate an option that must be one of given words."""
    if value not in choices:
        raise ConfigError(f"{name} = {value!r}: must be one of {', '.join(choices)}")
    return str(value)


def checked_levels(levels: object) -> int:
    """Validate the number of levels a side in the window of the instruments' books."""
    if type(levels) is not int:
        raise ConfigError(f"levels = {levels!r}: must be an integer")
    try:
        return Instrument(levels=levels).levels
    except BookError as error:
        raise ConfigError(str(error)) from None
