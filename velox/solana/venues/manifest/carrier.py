"""Encodes orders as one ``BatchUpdate`` of the Manifest program."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from velox.core.integers import UINT32_MAX, UINT64_MAX
from velox.core.records import TRANSACTION_DTYPE
from velox.errors import RecordError, UnrepresentableError
from velox.solana.tx.carrier import Cancel, Carrier, TransactionResult
from velox.solana.tx.limits import MAX_COMPUTE_UNITS
from velox.solana.venues.manifest.account import resting_atoms
from velox.solana.venues.manifest.events import read_result
from velox.solana.venues.manifest.instructions import (
    CANCEL_BYTES,
    HINTED_CANCEL_BYTES,
    MANIFEST_PROGRAM,
    MAX_PLACED,
    PLACE,
    OrderType,
    batch_update_head,
    encode_cancels,
    manifest_instruction,
)
from velox.solana.venues.manifest.market import MAX_EXPONENT, MIN_EXPONENT, MarketSpec

__all__ = ["ManifestCarrier"]

_CARRIED = frozenset({OrderType.LIMIT, OrderType.IMMEDIATE_OR_CANCEL, OrderType.POST_ONLY})


class ManifestCarrier(Carrier):
    """Carries the orders of one Manifest market: the cancels first, then the orders.

    Parameters
    ----------
    spec : MarketSpec
    order_type : OrderType
        The type of every order: `LIMIT`, `IMMEDIATE_OR_CANCEL` or `POST_ONLY`.
    trader_hint : int or None
        The index of the trader's seat in the market's account, which saves the program a search.

    Raises
    ------
    RecordError
        `order_type` is another type. Those need more accounts, or read the fields differently.
    """

    name = "manifest"
    program = MANIFEST_PROGRAM
    numbers_orders = True
    max_orders_per_answer = MAX_PLACED

    def __init__(
        self,
        spec: MarketSpec,
        *,
        order_type: OrderType = OrderType.POST_ONLY,
        trader_hint: int | None = None,
    ) -> None:
        if order_type not in _CARRIED:
            raise RecordError(f"order_type = {order_type!r}: not supported", field="order_type")
        self.spec = spec
        self.market = spec.velox_market
        self.lot_atoms = spec.lot_atoms
        self.account = spec.market
        self.order_type = order_type
        self._head = batch_update_head(trader_hint)
        # A price up to this one is its own mantissa.
        self._plain_limit = UINT32_MAX if MIN_EXPONENT <= spec.exponent <= MAX_EXPONENT else 0

    def payload_bytes(self, orders: int, cancels: int = 0, hinted: int = 0) -> int:
        return (
            len(self._head)
            + 8
            + (cancels - hinted) * CANCEL_BYTES
            + hinted * HINTED_CANCEL_BYTES
            + orders * PLACE.size
        )

    def compute_units(self, orders: int, cancels: int = 0) -> int:
        # Measured: 16 orders that make the market's account grow took 64 500 units, 49 orders took
        # 229 000, 16 cancels took 30 000. An order that fills against many others takes more.
        return min(30_000 + 8_000 * orders + 4_000 * cancels, MAX_COMPUTE_UNITS)

    def payload(
        self,
        orders: npt.NDArray[np.void],
        cancels: Sequence[Cancel] = (),
        last_valid_slot: int = 0,
    ) -> bytes:
        if not 0 <= last_valid_slot <= UINT32_MAX:
            raise RecordError(
                f"last_valid_slot = {last_valid_slot}: must fit 32 bits", field="last_valid_slot"
            )
        if orders.dtype != TRANSACTION_DTYPE:
            raise RecordError(f"orders must be of TRANSACTION_DTYPE, got {orders.dtype}")
        spec = self.spec
        market, tick, lot = spec.velox_market, spec.tick_size, spec.lot_atoms
        pack, order_type = PLACE.pack, int(self.order_type)
        parts = [self._head, encode_cancels(cancels), len(orders).to_bytes(4, "little")]
        for index, record in enumerate(orders.tolist()):
            _, price, size, side, kind, _, of_market, _ = record
            if kind or side > 1 or of_market != market:
                raise _not_placed(index, market, side, kind, of_market)
            mantissa, exponent, atoms = price, spec.exponent, size * lot
            # Most prices and sizes need no more than this. The others are rescaled or refused.
            if price % tick or not (0 < price <= self._plain_limit and 0 < atoms <= UINT64_MAX):
                try:
                    mantissa, exponent = spec.price_to_chain(price)
                    atoms = spec.size_to_atoms(size)
                except UnrepresentableError as error:
                    error.add_note(f"orders[{index}]")
                    raise
            parts.append(pack(atoms, mantissa, exponent, not side, last_valid_slot, order_type))
        return b"".join(parts)

    def instruction(self, payer: Pubkey, payload: bytes) -> Instruction:
        return manifest_instruction(payer, self.spec.market, payload)

    def representable(self, orders: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        return self.spec.representable(orders)

    def result(
        self, logs: Iterable[str], return_data: bytes | None, placed: int, trader: Pubkey
    ) -> TransactionResult:
        return read_result(self.spec, logs, return_data, placed, trader)

    def resting_atoms(self, data: bytes, trader: Pubkey) -> dict[int, int]:
        return resting_atoms(data, trader)


def _not_placed(index: int, market: int, side: int, kind: int, of_market: int) -> RecordError:
    if kind:
        field, why = "kind", f"= {kind}: must be ADD; a CANCEL goes by its number on the chain"
    elif of_market != market:
        field, why = "market", f"= {of_market}: this carrier is for market {market}"
    else:
        field, why = "side", f"= {side}: must be 0 or 1"
    return RecordError(f"orders[{index}]: {field} {why}", index=index, field=field)
