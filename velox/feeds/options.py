"""Settings that several formats share, checked in one place."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation

from velox.core.instrument import Instrument
from velox.errors import BookError, ConfigError
from velox.feeds.decimals import size_units
from velox.feeds.source import MalformedError

__all__ = ["checked_levels", "checked_lot", "checked_tick"]


def checked_tick(tick_size: object) -> int:
    """A tick size in units of 1e-4."""
    if type(tick_size) is not int or not 1 <= tick_size < 2**63:
        raise ConfigError(
            f"tick_size = {tick_size!r}: must be an integer of at least 1, in units of 1e-4"
        )
    return tick_size


def checked_lot(lot_size: object) -> Decimal:
    """A lot size; a binary fraction is refused, since it is not the decimal it looks like."""
    if isinstance(lot_size, bool | float) or not isinstance(lot_size, str | int | Decimal):
        raise ConfigError(f"lot_size = {lot_size!r}: must be decimal text, an int or a Decimal")
    try:
        lot = Decimal(lot_size)
    except InvalidOperation:
        raise ConfigError(f"lot_size = {lot_size!r}: is not a decimal number") from None
    if not lot.is_finite() or lot <= 0:
        raise ConfigError(f"lot_size = {lot_size!r}: must be positive")
    try:
        size_units(lot)
    except MalformedError as error:
        raise ConfigError(f"lot_size = {lot_size!r}: {error.why}") from None
    return lot


def checked_levels(levels: object) -> int:
    """How many levels a side of the instruments' books are kept hot."""
    if type(levels) is not int:
        raise ConfigError(f"levels = {levels!r}: must be an integer")
    try:
        return Instrument(levels=levels).levels
    except BookError as error:
        raise ConfigError(str(error)) from None
