"""The description of a Manifest market, and the exact conversion of prices and sizes.

Velox counts prices in 1e-4 of a quote unit for one base unit, and sizes in lots. The chain counts
in atoms: a price there is ``mantissa * 10 ** exponent`` quote atoms for one base atom. A conversion
is exact or raises an error. Nothing is rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from solders.pubkey import Pubkey

from velox.core.instrument import PRICE_DECIMALS
from velox.core.integers import INT64_MAX, UINT32_MAX, UINT64_MAX
from velox.core.records import Kind
from velox.errors import MarketError, UnrepresentableError

__all__ = ["MAX_EXPONENT", "MIN_EXPONENT", "MarketSpec"]

MIN_EXPONENT = -18
MAX_EXPONENT = 8
MAX_DECIMALS = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSpec:
    """One market, on the chain and in Velox. Immutable; any thread may use it.

    Attributes
    ----------
    market : Pubkey
        The market's account.
    base_mint, quote_mint : Pubkey
        The token that is traded, and the token that pays for it.
    base_decimals, quote_decimals : int
        Atoms in one unit of each, as a power of ten; 0 to 24.
    lot_atoms : int
        Base atoms in one of Velox's lots; 1 to 2**64 - 1.
    tick_size : int
        The step of Velox's prices, in units of 1e-4.
    velox_market : int
        Its number in `Transaction.market`; 0 to 255.

    Raises
    ------
    MarketError
        A field is out of range; `market` and `field` name it.
    """

    market: Pubkey
    base_mint: Pubkey
    quote_mint: Pubkey
    base_decimals: int
    quote_decimals: int
    lot_atoms: int
    tick_size: int = 1
    velox_market: int = 0
    # The exponent at which the mantissa is Velox's own price.
    exponent: int = field(init=False)

    def __post_init__(self) -> None:
        ranges = {
            "base_decimals": (0, MAX_DECIMALS),
            "quote_decimals": (0, MAX_DECIMALS),
            "lot_atoms": (1, UINT64_MAX),
            "tick_size": (1, INT64_MAX),
            "velox_market": (0, 255),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise MarketError(
                    f"must be an integer, {least} to {most}, got {value!r}",
                    market=self.market,
                    field=name,
                )
        if self.base_mint == self.quote_mint:
            raise MarketError(
                f"must differ from base_mint, got {self.quote_mint}",
                market=self.market,
                field="quote_mint",
            )
        object.__setattr__(
            self, "exponent", self.quote_decimals - self.base_decimals - PRICE_DECIMALS
        )

    def price_to_chain(self, price: int) -> tuple[int, int]:
        """Return the mantissa (u32) and the exponent (-18 to 8) that equal `price`.

        Parameters
        ----------
        price : int
            In units of 1e-4; positive, and a multiple of `tick_size`.

        Raises
        ------
        UnrepresentableError
            `price` is neither, or no mantissa and exponent equal it.
        """
        if not 0 < price <= INT64_MAX:
            raise self._refusal("price", price, "must be positive and fit 63 bits")
        if price % self.tick_size:
            raise self._refusal(
                "price", price, f"must be a multiple of the tick size {self.tick_size}"
            )
        mantissa, exponent = price, self.exponent
        while mantissa > UINT32_MAX or exponent < MIN_EXPONENT:
            mantissa, rest = divmod(mantissa, 10)
            exponent += 1
            if rest:
                raise self._refusal(
                    "price",
                    price,
                    f"needs more than 32 bits of mantissa, or an exponent below {MIN_EXPONENT}",
                )
        while exponent > MAX_EXPONENT:
            mantissa *= 10
            exponent -= 1
            if mantissa > UINT32_MAX:
                raise self._refusal(
                    "price",
                    price,
                    f"needs more than 32 bits of mantissa with the exponent {MAX_EXPONENT}",
                )
        return mantissa, exponent

    def size_to_atoms(self, lots: int) -> int:
        """Return the base atoms (u64) in `lots`.

        Raises
        ------
        UnrepresentableError
            `lots` is not positive, or the atoms do not fit 64 bits.
        """
        if lots <= 0:
            raise self._refusal("size", lots, "must be positive")
        atoms = lots * self.lot_atoms
        if atoms > UINT64_MAX:
            raise self._refusal("size", lots, f"{atoms} base atoms do not fit 64 bits")
        return atoms

    def representable(self, orders: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Return which orders the market's format holds exactly.

        True if the record is of this market, its kind is ADD or CANCEL, its side is valid, and
        `price_to_chain` and `size_to_atoms` take its price and its size.

        Parameters
        ----------
        orders : ndarray of TRANSACTION_DTYPE, shape (n,)

        Returns
        -------
        ndarray of bool, shape (n,)
        """
        price = orders["price"]
        size = orders["size"]
        fine = (
            (orders["market"] == self.velox_market)
            & (orders["kind"] <= Kind.CANCEL)
            & (orders["side"] <= 1)
            & (price > 0)
            & (price % self.tick_size == 0)
            & (size > 0)
            & (size <= UINT64_MAX // self.lot_atoms)
        )
        if MIN_EXPONENT <= self.exponent <= MAX_EXPONENT:
            unsure = np.flatnonzero(fine & (price > UINT32_MAX))
        else:
            unsure = np.flatnonzero(fine)
        for index in unsure.tolist():
            fine[index] = self._price_fits(int(price[index]))
        return np.asarray(fine, np.bool_)

    def _price_fits(self, price: int) -> bool:
        try:
            self.price_to_chain(price)
        except UnrepresentableError:
            return False
        return True

    def _refusal(self, name: str, value: Any, why: str) -> UnrepresentableError:
        return UnrepresentableError(self.velox_market, name, value, why)
