"""A market on the chain, and the exact map between its numbers and Velox's.

Velox counts prices in 1e-4 of a quote unit for one base unit, and sizes in lots. The chain counts
in atoms: a price there is ``mantissa * 10 ** exponent`` quote atoms for one base atom. The map is
exact in both directions or it refuses; nothing is ever rounded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from solders.pubkey import Pubkey

from velox.core.records import PRICE_SCALE, Kind
from velox.errors import MarketError, UnrepresentableError

__all__ = ["MAX_EXPONENT", "MIN_EXPONENT", "MarketSpec"]

MIN_EXPONENT = -18
MAX_EXPONENT = 8
MAX_DECIMALS = 24

_U32 = 2**32 - 1
_I64 = 2**63 - 1
_U64 = 2**64 - 1
_PRICE_PLACES = len(str(PRICE_SCALE)) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSpec:
    """What one market trades in, on the chain and in Velox.

    Immutable, so any thread may use it.

    Attributes
    ----------
    market : Pubkey
        The market's account.
    base_mint, quote_mint : Pubkey
        What is bought and sold, and what is paid with.
    base_decimals, quote_decimals : int
        Atoms in one unit of each, as a power of ten; 0 to 24.
    lot_atoms : int
        Base atoms in one of Velox's lots; 1 to 2**64 - 1.
    tick_size : int
        The step of Velox's prices, in units of 1e-4.
    velox_market : int
        The market in `Transaction.market`; 0 to 255.

    Raises
    ------
    MarketError
        A field is out of its range; the message names market and field.
    """

    market: Pubkey
    base_mint: Pubkey
    quote_mint: Pubkey
    base_decimals: int
    quote_decimals: int
    lot_atoms: int
    tick_size: int = 1
    velox_market: int = 0
    # Of a price whose mantissa is Velox's own number.
    exponent: int = field(init=False)

    def __post_init__(self) -> None:
        ranges = {
            "base_decimals": (0, MAX_DECIMALS),
            "quote_decimals": (0, MAX_DECIMALS),
            "lot_atoms": (1, _U64),
            "tick_size": (1, _I64),
            "velox_market": (0, 255),
        }
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if type(value) is not int or not least <= value <= most:
                raise MarketError(
                    f"must be a whole number, {least} to {most}, not {value!r}",
                    market=self.market,
                    field=name,
                )
        if self.base_mint == self.quote_mint:
            raise MarketError(
                f"{self.quote_mint} is the base mint too", market=self.market, field="quote_mint"
            )
        object.__setattr__(
            self, "exponent", self.quote_decimals - self.base_decimals - _PRICE_PLACES
        )

    def price_to_chain(self, price: int) -> tuple[int, int]:
        """Return the mantissa (u32) and the exponent (-18 to 8) that are exactly `price`.

        Parameters
        ----------
        price : int
            In units of 1e-4; positive, and a multiple of `tick_size`.

        Raises
        ------
        UnrepresentableError
            It is neither, or no mantissa and exponent are exactly it.
        """
        if not 0 < price <= _I64:
            raise self._refusal("price", price, "must be positive and fit 63 bits")
        if price % self.tick_size:
            raise self._refusal("price", price, f"off the tick of {self.tick_size}")
        mantissa, exponent = price, self.exponent
        while mantissa > _U32 or exponent < MIN_EXPONENT:
            mantissa, rest = divmod(mantissa, 10)
            exponent += 1
            if rest:
                raise self._refusal(
                    "price",
                    price,
                    f"no 32-bit mantissa with an exponent of at least {MIN_EXPONENT} is exactly it",
                )
        while exponent > MAX_EXPONENT:
            mantissa *= 10
            exponent -= 1
            if mantissa > _U32:
                raise self._refusal(
                    "price", price, f"beyond a 32-bit mantissa with exponent {MAX_EXPONENT}"
                )
        return mantissa, exponent

    def price_from_chain(self, mantissa: int, exponent: int) -> int:
        """Return the price in units of 1e-4 that the chain's number is exactly.

        The tick is not asked for: others' prices need not keep to it.

        Raises
        ------
        UnrepresentableError
            It is finer than 1e-4, not positive, or does not fit 63 bits.
        """
        shift = exponent - self.exponent
        shown = f"{mantissa}e{exponent}"
        if not (0 < mantissa <= _U32 and MIN_EXPONENT <= exponent <= MAX_EXPONENT):
            raise self._refusal("price", shown, "no price of the chain's")
        scale: int = 10 ** abs(shift)
        price, rest = (mantissa * scale, 0) if shift >= 0 else divmod(mantissa, scale)
        if rest:
            raise self._refusal("price", shown, "finer than 1e-4")
        if price > _I64:
            raise self._refusal("price", shown, "does not fit 63 bits in units of 1e-4")
        return price

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
        if atoms > _U64:
            raise self._refusal("size", lots, f"{atoms} base atoms do not fit 64 bits")
        return atoms

    def lots_from_atoms(self, atoms: int) -> int:
        """Return the lots in `atoms`.

        Raises
        ------
        UnrepresentableError
            `atoms` is negative, does not fit 64 bits, or is no whole number of lots.
        """
        if not 0 <= atoms <= _U64:
            raise self._refusal("base_atoms", atoms, "does not fit 64 bits")
        lots, rest = divmod(atoms, self.lot_atoms)
        if rest:
            raise self._refusal("base_atoms", atoms, f"no multiple of {self.lot_atoms}")
        return lots

    def representable(self, orders: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Say which orders this market's format holds exactly, many at a time.

        True where the record is of this market, its kind is ADD or CANCEL, its side is one, and
        `price_to_chain` and `size_to_atoms` would take its price and its size.

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
            & (size <= _U64 // self.lot_atoms)
        )
        if MIN_EXPONENT <= self.exponent <= MAX_EXPONENT:
            unsure = np.flatnonzero(fine & (price > _U32))
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
