"""What carries orders on the chain: a venue's instruction, or a memo."""

from __future__ import annotations

import base64
import binascii
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from velox.core.records import TRANSACTION_DTYPE, validate
from velox.errors import RecordError, UnrepresentableError
from velox.solana.tx.instructions import (
    CANCEL_BYTES,
    HINTED_CANCEL_BYTES,
    MANIFEST_PROGRAM,
    MAX_COMPUTE_UNITS,
    MEMO_PROGRAM,
    PLACE,
    Cancel,
    OrderType,
    batch_update_head,
    encode_cancels,
    manifest_instruction,
    memo,
)
from velox.solana.tx.template import MessageTemplate, room_for_payload
from velox.solana.venues.manifest.market import MAX_EXPONENT, MIN_EXPONENT, MarketSpec

__all__ = [
    "MEMO_PREFIX",
    "Carrier",
    "CarrierContext",
    "ManifestCarrier",
    "MemoCarrier",
    "decode_memo",
    "memos_in",
]

_U32 = 2**32 - 1
_U64 = 2**64 - 1
# Any keys will do where only the length counts.
_SOMEONE = Pubkey(b"\x03" * 32)


class CarrierContext(NamedTuple):
    """What a carrier is told beside the orders.

    Attributes
    ----------
    payer : Pubkey
        Trades, and signs.
    cancels : sequence of Cancel
        Orders to withdraw, by the numbers that the chain gave them.
    last_valid_slot : int
        The orders die after this slot, u32; 0 for never.
    """

    payer: Pubkey
    cancels: Sequence[Cancel] = ()
    last_valid_slot: int = 0


class Carrier(ABC):
    """Orders to one instruction, of a length that their number alone decides.

    A carrier keeps no state between calls: any thread may use it.

    Attributes
    ----------
    name : str
    program : Pubkey
        What the signer's policy must allow.
    max_payload_bytes : int
        How many bytes of data fit a transaction with a tip that names `DONT_FRONT`.
    max_orders : int
        How many orders, without cancels, do.
    """

    name: str
    program: Pubkey

    def __init__(self) -> None:
        empty = self.instruction(_SOMEONE, b"")
        self.max_payload_bytes = room_for_payload(_SOMEONE, empty)
        first = self.payload_bytes(1)
        self.max_orders = 1 + (self.max_payload_bytes - first) // (self.payload_bytes(2) - first)

    @abstractmethod
    def payload_bytes(self, orders: int, cancels: int = 0, hinted: int = 0) -> int:
        """Return how many bytes of data so many orders and cancels take, `hinted` with a hint."""

    @abstractmethod
    def compute_units(self, orders: int, cancels: int = 0) -> int:
        """Return the compute limit to ask for: an estimate from above, not a measurement."""

    @abstractmethod
    def payload(
        self,
        orders: npt.NDArray[np.void],
        cancels: Sequence[Cancel] = (),
        last_valid_slot: int = 0,
    ) -> bytes:
        """Return the data of the instruction.

        Parameters
        ----------
        orders : ndarray of TRANSACTION_DTYPE, shape (n,)
        cancels, last_valid_slot
            As in `CarrierContext`.

        Raises
        ------
        RecordError
            A record or a cancel cannot be carried; `index` and `field` say which.
        UnrepresentableError
            The market's format does not hold a price or a size exactly.
        """

    @abstractmethod
    def instruction(self, payer: Pubkey, payload: bytes) -> Instruction:
        """Return the instruction with this data, which `payer` signs."""

    def fits(self, orders: int, cancels: int = 0, hinted: int = 0) -> bool:
        """Say whether so many fit one transaction, with a tip that names `DONT_FRONT`."""
        return self.payload_bytes(orders, cancels, hinted) <= self.max_payload_bytes

    def encode(self, orders: npt.NDArray[np.void], context: CarrierContext) -> list[Instruction]:
        """Return the instructions that carry `orders`: one.

        Raises
        ------
        RecordError, UnrepresentableError
            As `payload`.
        """
        payload = self.payload(orders, context.cancels, context.last_valid_slot)
        return [self.instruction(context.payer, payload)]

    def template(self, payer: Pubkey, **shape: Any) -> MessageTemplate:
        """Return the `MessageTemplate` of a shape; the keywords are its own."""
        return MessageTemplate(self, payer, **shape)


class ManifestCarrier(Carrier):
    """Orders as one `BatchUpdate` of Manifest's: the cancels, then the orders.

    Parameters
    ----------
    spec : MarketSpec
    order_type : OrderType
        Of every order: `LIMIT`, `IMMEDIATE_OR_CANCEL` or `POST_ONLY`.
    trader_hint : int or None
        Where the trader's seat lies in the market's account, which saves the search.

    Raises
    ------
    RecordError
        `order_type` is none of the three: the others need more accounts, or give the fields
        another meaning.
    """

    name = "manifest"
    program = MANIFEST_PROGRAM

    def __init__(
        self,
        spec: MarketSpec,
        *,
        order_type: OrderType = OrderType.POST_ONLY,
        trader_hint: int | None = None,
    ) -> None:
        if order_type not in {
            OrderType.LIMIT,
            OrderType.IMMEDIATE_OR_CANCEL,
            OrderType.POST_ONLY,
        }:
            raise RecordError("not carried", field="order_type", value=order_type)
        self.spec = spec
        self.order_type = order_type
        self._head = batch_update_head(trader_hint)
        # Prices up to here are their own mantissa.
        self._plain_limit = _U32 if MIN_EXPONENT <= spec.exponent <= MAX_EXPONENT else 0
        super().__init__()

    def payload_bytes(self, orders: int, cancels: int = 0, hinted: int = 0) -> int:
        return (
            len(self._head)
            + 8
            + (cancels - hinted) * CANCEL_BYTES
            + hinted * HINTED_CANCEL_BYTES
            + orders * PLACE.size
        )

    def compute_units(self, orders: int, cancels: int = 0) -> int:
        # 16 orders that make a market's account grow took 64 500, 49 of them 229 000, 16 cancels
        # 30 000. An order that crosses much takes more.
        return min(30_000 + 8_000 * orders + 4_000 * cancels, MAX_COMPUTE_UNITS)

    def payload(
        self,
        orders: npt.NDArray[np.void],
        cancels: Sequence[Cancel] = (),
        last_valid_slot: int = 0,
    ) -> bytes:
        if not 0 <= last_valid_slot <= _U32:
            raise RecordError("must fit 32 bits", field="last_valid_slot", value=last_valid_slot)
        if orders.dtype != TRANSACTION_DTYPE:
            raise RecordError(f"orders of {orders.dtype}, not of TRANSACTION_DTYPE")
        spec = self.spec
        market, tick, lot = spec.velox_market, spec.tick_size, spec.lot_atoms
        pack, order_type = PLACE.pack, int(self.order_type)
        parts = [self._head, encode_cancels(cancels), len(orders).to_bytes(4, "little")]
        for index, record in enumerate(orders.tolist()):
            _, price, size, side, kind, _, of_market, _ = record
            if kind or side > 1 or of_market != market:
                raise _not_placed(index, market, side, kind, of_market)
            mantissa, exponent, atoms = price, spec.exponent, size * lot
            # Nearly all of them need no more than this; the rest is rescaled or refused.
            if price % tick or not (0 < price <= self._plain_limit and 0 < atoms <= _U64):
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


def _not_placed(index: int, market: int, side: int, kind: int, of_market: int) -> RecordError:
    if kind:
        field, why = "kind", f"{kind}: only ADD is placed; a cancel goes by its number on the chain"
    elif of_market != market:
        field, why = "market", f"{of_market}: the carrier's is {market}"
    else:
        field, why = "side", f"{side}: must be 0 or 1"
    return RecordError(why, array="orders", index=index, field=field)


# A memo says what it is, and in which format.
MEMO_PREFIX: Final = b"velox1:"
# A record without its last field: when an order came in is nobody's business.
MEMO_RECORD_BYTES: Final = 24


_LOGGED = re.compile(rf'^Program log: (?:Memo \(len \d+\): ")?({MEMO_PREFIX.decode()}[\w+/=]*)"?$')


class MemoCarrier(Carrier):
    """Orders written into the log of the chain, which executes nothing.

    It needs no market, no seat and no deposit: for trying the way to the chain out, for tests, and
    for whoever keeps a public record. A cancel is a record like another.

    The text is `MEMO_PREFIX`, then base 64 of the first 24 bytes of each record: id, price, size,
    side, kind, flags, market.
    """

    name = "memo"
    program = MEMO_PROGRAM

    def payload_bytes(self, orders: int, cancels: int = 0, hinted: int = 0) -> int:
        if cancels:
            raise RecordError(f"{cancels} cancels by number: a memo has none", field="cancels")
        return len(MEMO_PREFIX) + MEMO_RECORD_BYTES * orders // 3 * 4

    def compute_units(self, orders: int, cancels: int = 0) -> int:
        # Version 4 of the program took 1300 for 27 records. Earlier ones take some 350 a byte: by
        # their documentation, 566 bytes for 200 000.
        return min(20_000 + 12_000 * orders, MAX_COMPUTE_UNITS)

    def payload(
        self,
        orders: npt.NDArray[np.void],
        cancels: Sequence[Cancel] = (),
        last_valid_slot: int = 0,
    ) -> bytes:
        self.payload_bytes(len(orders), len(cancels))
        validate(orders)
        whole = orders.view(np.uint8).reshape(-1, TRANSACTION_DTYPE.itemsize)
        return MEMO_PREFIX + base64.b64encode(whole[:, :MEMO_RECORD_BYTES].tobytes())

    def instruction(self, payer: Pubkey, payload: bytes) -> Instruction:
        return memo(payload, payer)


def memos_in(logs: Iterable[str]) -> list[str]:
    """Return the memos of `MemoCarrier` in a transaction's log, for `decode_memo`.

    Parameters
    ----------
    logs : iterable of str
        The log's lines. Versions of the program quote their text, or give it a line of its own.
    """
    found = map(_LOGGED.search, logs)
    return [match[1] for match in found if match is not None]


def decode_memo(text: str | bytes) -> npt.NDArray[np.void]:
    """Return the records in a memo of `MemoCarrier`.

    Returns
    -------
    ndarray of TRANSACTION_DTYPE, shape (n,)
        With `ingress_ts_ns` 0, which is not carried.

    Raises
    ------
    RecordError
        It is no such memo, or a record in it is none.
    """
    data = text.encode("utf-8", "replace") if isinstance(text, str) else text
    if not data.startswith(MEMO_PREFIX):
        raise RecordError(f"a memo that begins with {data[:16]!r}, not with {MEMO_PREFIX!r}")
    try:
        packed = base64.b64decode(data[len(MEMO_PREFIX) :], validate=True)
    except binascii.Error as error:
        raise RecordError(f"a memo that is not base 64: {error}") from None
    if len(packed) % MEMO_RECORD_BYTES:
        raise RecordError(f"a memo of {len(packed)} bytes, no multiple of {MEMO_RECORD_BYTES}")
    orders = np.zeros(len(packed) // MEMO_RECORD_BYTES, TRANSACTION_DTYPE)
    whole = orders.view(np.uint8).reshape(-1, TRANSACTION_DTYPE.itemsize)
    whole[:, :MEMO_RECORD_BYTES] = np.frombuffer(packed, np.uint8).reshape(-1, MEMO_RECORD_BYTES)
    validate(orders)
    return orders
