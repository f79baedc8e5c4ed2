"""The meaning of Manifest's error codes, the numbers of its ``Custom`` errors."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from velox.venue import Reason

__all__ = ["ERROR_CODES", "explain_error", "reason_of_error"]

#: What each code means, and what to do about it.
ERROR_CODES: Final[Mapping[int, str]] = MappingProxyType(
    {
        0: "the two mints of the market are the same",
        1: "the trader has no seat: claim one before the deposit",
        2: "the token account is of another mint",
        3: "an order to cancel does not rest any more, or is another trader's",
        4: "the market's account has no free block: expand it",
        5: "the trader has no seat: claim one first",
        6: "a post-only order would have crossed",
        7: "an order had expired before it was placed",
        8: "a swap would have been worse than its limit",
        10: "the hint of a cancel leads to another order",
        14: "a number overflowed, or the wallet is too poor",
        15: "a global order is not possible here",
        17: "the vault is not the market's",
        102: "a price's exponent is too low",
        103: "a price's exponent is too high",
        105: "a swap met a price of zero",
        108: "price times size is too large",
        109: "price times size does not fit 64 bits",
    }
)


_REASONS: Final[Mapping[int, Reason]] = MappingProxyType(
    {
        1: Reason.NO_SEAT,
        3: Reason.NO_SUCH_ORDER,
        5: Reason.NO_SEAT,
        6: Reason.WOULD_CROSS,
        7: Reason.EXPIRED,
        10: Reason.NO_SUCH_ORDER,
    }
)


def reason_of_error(code: int) -> Reason:
    """Return the reason of a report for a code."""
    return _REASONS.get(code, Reason.OTHER)


def explain_error(code: int) -> str:
    """Return the meaning of a code; empty if it is not known."""
    return ERROR_CODES.get(code, "")
