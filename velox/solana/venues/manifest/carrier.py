"""Encodes orders as one ``BatchUpdate`` of the Manifest program."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from velox.core.integers import UINT32_MAX, UINT64_MAX
from velox.core.records import TRANSACTION_DTYPE
from velox.errors import MarketError, RecordError, UnrepresentableError
from velox.solana.tx.carrier import (
    Cancel,
    Carrier,
    TransactionResult,
    VenueOrder,
    VenueState,
)
from velox.solana.tx.limits import MAX_COMPUTE_UNITS
from velox.solana.venues.manifest.account import (
    BLOCK_BYTES,
    MARKET_PRICE_ONE,
    MarketAccount,
    MarketOrder,
    locked_quote,
)
from velox.solana.venues.manifest.error_codes import explain_error, reason_of_error
from velox.solana.venues.manifest.events import read_result, velox_price
from velox.solana.venues.manifest.instructions import (
    CANCEL_BYTES,
    HINTED_CANCEL_BYTES,
    MANIFEST_PROGRAM,
    MAX_PLACED,
    PLACE,
    OrderType,
    batch_update_head,
    decode_batch_update,
    encode_cancels,
    manifest_instruction,
    most_rent,
)
from velox.solana.venues.manifest.market import MAX_EXPONENT, MIN_EXPONENT, MarketSpec
from velox.venue import Reason

__all__ = ["ManifestCarrier"]

_CARRIED = frozenset({OrderType.LIMIT, OrderType.IMMEDIATE_OR_CANCEL, OrderType.POST_ONLY})
_PRICE_DIGITS = 18
# The version of the account's layout.
KNOWN_VERSION = 0

# Compute units of the real program, each rounded up from the most that was measured on books of 0
# to 10 000 orders. `tests/integration/solana/test_compute.py` measures them again.
BATCH_UNITS = 2_500
PLACE_UNITS = 2_900
# An order for which the account grows by a block.
GROWTH_UNITS = 2_400
CANCEL_UNITS = 1_300
# For each resting order that a cancel without a hint may have to pass.
SEARCH_UNITS = 100
# For each order that is filled, or has expired and is removed.
FILL_UNITS = 2_300


class _Side(NamedTuple):
    """The resting orders of one side, from the best: prices that ascend, and sums of atoms.

    Attributes
    ----------
    prices : list of int
        Bid prices are negated.
    atoms : list of int
        The base atoms up to and including each order.
    """

    prices: list[int]
    atoms: list[int]

    @classmethod
    def of(cls, orders: Iterable[MarketOrder]) -> _Side:
        some = list(orders)
        return cls(
            [-each.price if each.is_bid else each.price for each in some],
            list(accumulate(each.base_atoms for each in some)),
        )

    def crossed(self, limit: int, atoms: int) -> int:
        """Return how many orders an order with this limit and size meets."""
        within = bisect_right(self.prices, limit)
        return min(within, bisect_left(self.atoms, atoms) + 1)


class _Book(NamedTuple):
    """What the cost of a transaction depends on.

    Attributes
    ----------
    sides : tuple of _Side
        Bids and asks.
    free : int
        Free blocks of the account.
    """

    sides: tuple[_Side, _Side]
    free: int


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

    def check_account(self, data: bytes, trader: Pubkey) -> None:
        account, spec = MarketAccount(data), self.spec
        self.check_description(account)
        seat = account.seats().get(trader)
        if seat is None:
            raise MarketError(
                f"trader {trader} has none: claim one first, with `velox claim-seat`",
                market=spec.market,
                field="seat",
            )
        if not (seat.base_atoms or seat.quote_atoms or any(self._ours(account, trader))):
            raise MarketError(
                f"trader {trader} has 0 base atoms and 0 quote atoms, and no orders: "
                "deposit first, with `velox deposit`",
                market=spec.market,
                field="deposits",
            )

    def check_description(self, account: MarketAccount) -> None:
        """Refuse an account whose mints or decimals differ from the description's.

        Raises
        ------
        MarketError
            The message names both values.
        """
        spec = self.spec
        if account.version != KNOWN_VERSION:
            raise MarketError(
                f"the account has version {account.version}; Velox reads {KNOWN_VERSION}",
                market=spec.market,
                field="version",
            )
        for name in ("base_mint", "quote_mint", "base_decimals", "quote_decimals"):
            ours, theirs = getattr(spec, name), getattr(account, name)
            if ours != theirs:
                raise MarketError(
                    f"{ours} in the configuration; {theirs} on the chain",
                    market=spec.market,
                    field=name,
                )

    @staticmethod
    def _ours(account: MarketAccount, trader: Pubkey) -> Iterator[MarketOrder]:
        return (each for each in account.orders() if each.trader == trader)

    def only_cancels(self, payload: bytes) -> bool:
        try:
            _, cancels, places = decode_batch_update(payload)
        except RecordError:
            return False
        return bool(cancels) and not places

    def most_rent(self, payload: bytes) -> int:
        return most_rent(payload)

    def explain(self, code: int) -> str:
        return explain_error(code)

    def reason(self, code: int) -> Reason:
        return reason_of_error(code)

    def price_of(self, base_atoms: int, quote_atoms: int) -> int:
        return velox_price(self.spec, quote_atoms * MARKET_PRICE_ONE // base_atoms)

    def quote_of(self, side: int, price: int, base_atoms: int) -> int:
        mantissa, exponent = self.spec.price_to_chain(price)
        chain_price = mantissa * 10 ** (exponent + _PRICE_DIGITS)
        quote = locked_quote(chain_price, base_atoms)
        return quote if side == 0 else chain_price * base_atoms // MARKET_PRICE_ONE

    def read_account(self, data: bytes, trader: Pubkey) -> VenueState:
        account = MarketAccount(data)
        orders = list(account.orders())
        seats = account.seats()
        seat = seats.get(trader)
        ours: dict[int, VenueOrder] = {}
        base = quote = 0
        for each in orders:
            if each.trader != trader:
                continue
            locked = locked_quote(each.price, each.base_atoms)
            if each.is_bid:
                quote += locked
            else:
                base += each.base_atoms
            ours[each.sequence] = VenueOrder(
                each.sequence,
                int(not each.is_bid),
                velox_price(self.spec, each.price),
                each.base_atoms,
                locked,
                each.index,
                each.last_valid_slot,
            )
        free_base = seat.base_atoms if seat is not None else 0
        free_quote = seat.quote_atoms if seat is not None else 0
        blocks = min(account.block_bytes, len(data)) // BLOCK_BYTES
        return VenueState(
            orders=ours,
            resting=len(orders),
            seated=seat is not None,
            base_atoms=free_base + base,
            quote_atoms=free_quote + quote,
            free_base_atoms=free_base,
            free_quote_atoms=free_quote,
            book=_Book(
                (
                    _Side.of(each for each in orders if each.is_bid),
                    _Side.of(each for each in orders if not each.is_bid),
                ),
                max(0, blocks - len(orders) - len(seats)),
            ),
        )

    def estimate_units(
        self,
        orders: npt.NDArray[np.void],
        cancels: Sequence[Cancel],
        state: VenueState,
    ) -> int:
        book = state.book
        if not isinstance(book, _Book):
            return self.compute_units(len(orders), len(cancels))
        searched = sum(each.hint is None for each in cancels)
        # The program keeps a block free beyond what rests.
        grown = max(0, len(orders) + 1 - book.free - len(cancels))
        units = BATCH_UNITS + PLACE_UNITS * len(orders) + GROWTH_UNITS * grown
        units += CANCEL_UNITS * len(cancels) + SEARCH_UNITS * searched * state.resting
        if self.order_type is not OrderType.POST_ONLY:
            for record in orders:
                ask = int(record["side"])
                mantissa, exponent = self.spec.price_to_chain(int(record["price"]))
                limit = mantissa * 10 ** (exponent + _PRICE_DIGITS)
                atoms = int(record["size"]) * self.lot_atoms
                # A bid meets asks up to its price. An ask meets bids down to its price.
                levels = book.sides[1 - ask].crossed(-limit if ask else limit, atoms)
                units += FILL_UNITS * levels
        return min(units, MAX_COMPUTE_UNITS)


def _not_placed(index: int, market: int, side: int, kind: int, of_market: int) -> RecordError:
    if kind:
        field, why = "kind", f"= {kind}: must be ADD; a CANCEL goes by its number on the chain"
    elif of_market != market:
        field, why = "market", f"= {of_market}: this carrier is for market {market}"
    else:
        field, why = "side", f"= {side}: must be 0 or 1"
    return RecordError(f"orders[{index}]: {field} {why}", index=index, field=field)
