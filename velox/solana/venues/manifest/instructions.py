"""Manifest's instructions, byte by byte.

The data of ``BatchUpdate`` is Borsh, little-endian. An option is the byte 0, or the byte 1 and a
u32::

    06 | option: index of the trader's seat
       | u32 n, n x (sequence u64 | option: index of the order)                          cancels
       | u32 n, n x (base atoms u64 | mantissa u32 | exponent i8 | is bid u8
                     | last valid slot u32 | order type u8)                              places

Its return data is ``u32 n, n x (sequence u64, index u32)``: one pair for each order placed, in
their order. The chain keeps only the return data of a transaction's last instruction. So
``BatchUpdate`` goes last, and the tip goes before it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise
from typing import Final, NamedTuple

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from velox.core.integers import UINT32_MAX, UINT64_MAX
from velox.errors import RecordError
from velox.solana.tx.carrier import Cancel
from velox.solana.tx.instructions import SYSTEM_PROGRAM, TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from velox.solana.venues.manifest.market import MAX_EXPONENT, MIN_EXPONENT

__all__ = [
    "BLOCK_RENT_LAMPORTS",
    "CANCEL_BYTES",
    "HINTED_CANCEL_BYTES",
    "MANIFEST_MARKET_BYTES",
    "MANIFEST_PROGRAM",
    "MAX_PLACED",
    "PLACE",
    "PLACE_BYTES",
    "OrderType",
    "Place",
    "Placed",
    "batch_update_head",
    "claim_seat",
    "create_manifest_market",
    "decode_batch_update",
    "decode_placed",
    "deposit",
    "encode_batch_update",
    "encode_cancels",
    "manifest_batch_update",
    "manifest_instruction",
    "manifest_vault",
    "most_rent",
    "withdraw",
]

MANIFEST_PROGRAM: Final = Pubkey.from_string("MNFSTqtC93rEfYHB6hF82sKdZpUDFWkViLByLd1k1Ms")
# The size of a new market's account. The program grows it later.
MANIFEST_MARKET_BYTES: Final = 256

PLACE: Final = struct.Struct("<QIbBIB")
PLACE_BYTES: Final = PLACE.size
CANCEL_BYTES: Final = 9
HINTED_CANCEL_BYTES: Final = 13
_HINTED_CANCEL = struct.Struct("<QBI")
_CANCEL = struct.Struct("<QB")
_HINT = struct.Struct("<BI")
_COUNT = struct.Struct("<I")
_PLACED = struct.Struct("<QI")
_DEPOSIT = struct.Struct("<BQB")

# The chain's limit on return data, in bytes.
MAX_RETURN_BYTES: Final = 1024
#: The most orders whose numbers fit one answer.
MAX_PLACED: Final = (MAX_RETURN_BYTES - _COUNT.size) // _PLACED.size
#: The rent of a block of 80 bytes, in lamports, and the most blocks by which the runtime lets an
#: account grow in one instruction.
BLOCK_RENT_LAMPORTS: Final = 556_800
MOST_BLOCKS: Final = 128
# Manifest's index of nothing.
NO_INDEX: Final = UINT32_MAX
_CREATE_MARKET, _CLAIM_SEAT, _DEPOSIT_TAG, _WITHDRAW_TAG, _BATCH_UPDATE = 0, 1, 2, 3, 6


class OrderType(IntEnum):
    """The type of an order, in Manifest's numbers."""

    LIMIT = 0
    IMMEDIATE_OR_CANCEL = 1
    POST_ONLY = 2
    GLOBAL = 3
    REVERSE = 4
    REVERSE_TIGHT = 5


class Place(NamedTuple):
    """An order to place on Manifest.

    Attributes
    ----------
    base_atoms : int
        u64.
    price_mantissa, price_exponent : int
        The price in quote atoms for a base atom is ``mantissa * 10 ** exponent``; u32, -18 to 8.
    is_bid : bool
    last_valid_slot : int
        u32; the order expires after this slot, 0 for never.
    order_type : OrderType
    """

    base_atoms: int
    price_mantissa: int
    price_exponent: int
    is_bid: bool
    last_valid_slot: int = 0
    order_type: OrderType = OrderType.LIMIT


class Placed(NamedTuple):
    """The program's answer for an order that it placed. ``Cancel(*placed)`` cancels the order.

    Attributes
    ----------
    sequence : int
        The order's number, u64.
    hint : int
        The order's index in the market's account, u32.
    """

    sequence: int
    hint: int

    @property
    def rests(self) -> bool:
        """bool: Whether any of the order is in the book. False if it was filled, or expired."""
        return self.hint != NO_INDEX


def encode_cancels(cancels: Sequence[Cancel]) -> bytes:
    """Return ``u32 n`` and the cancels, as a `BatchUpdate` has them.

    Raises
    ------
    RecordError
        A number does not fit its field; `index` names the cancel.
    """
    parts = [_COUNT.pack(len(cancels))]
    for index, (sequence, hint) in enumerate(cancels):
        try:
            if hint is None:
                parts.append(_CANCEL.pack(sequence, 0))
            else:
                parts.append(_HINTED_CANCEL.pack(sequence, 1, hint))
        except struct.error as error:
            raise RecordError(
                f"cancels[{index}]: sequence {sequence}, hint {hint}: {error}",
                index=index,
                field="cancels",
            ) from None
    return b"".join(parts)


def encode_batch_update(
    cancels: Sequence[Cancel], places: Sequence[Place], *, trader_hint: int | None = None
) -> bytes:
    """Return the data of a `BatchUpdate`.

    Raises
    ------
    RecordError
        A number does not fit its field; `index` and `field` name it.
    """
    parts = [batch_update_head(trader_hint), encode_cancels(cancels), _COUNT.pack(len(places))]
    for index, place in enumerate(places):
        if not MIN_EXPONENT <= place.price_exponent <= MAX_EXPONENT:
            raise RecordError(
                f"places[{index}]: exponent {place.price_exponent}: "
                f"must be {MIN_EXPONENT} to {MAX_EXPONENT}",
                index=index,
                field="price_exponent",
            )
        try:
            parts.append(PLACE.pack(*place))
        except struct.error as error:
            raise RecordError(
                f"places[{index}]: {place}: {error}", index=index, field="places"
            ) from None
    return b"".join(parts)


def batch_update_head(trader_hint: int | None) -> bytes:
    """Return the tag of a `BatchUpdate` and the option that follows it."""
    if trader_hint is None:
        return bytes((_BATCH_UPDATE, 0))
    return bytes((_BATCH_UPDATE,)) + _HINT.pack(1, trader_hint)


def decode_batch_update(data: bytes) -> tuple[int | None, list[Cancel], list[Place]]:
    """Decode the data of a `BatchUpdate`: the trader's hint, the cancels, the places.

    Raises
    ------
    RecordError
        The bytes are not exactly one `BatchUpdate`.
    """
    try:
        if data[0] != _BATCH_UPDATE:
            raise RecordError(
                f"BatchUpdate: expected the tag {_BATCH_UPDATE}, got {data[0]}", field="tag"
            )
        trader_hint, at = _option(data, 1)
        (count,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        cancels = []
        for _ in range(count):
            (sequence,) = struct.unpack_from("<Q", data, at)
            hint, at = _option(data, at + 8)
            cancels.append(Cancel(sequence, hint))
        (count,) = _COUNT.unpack_from(data, at)
        at += _COUNT.size
        places: list[Place] = []
        for _ in range(count):
            atoms, mantissa, exponent, is_bid, last_valid_slot, order_type = PLACE.unpack_from(
                data, at
            )
            at += PLACE.size
            if is_bid > 1 or order_type > max(OrderType):
                raise RecordError(
                    f"places[{len(places)}]: is_bid {is_bid}, order type {order_type}",
                    index=len(places),
                    field="places",
                )
            places.append(
                Place(
                    atoms, mantissa, exponent, bool(is_bid), last_valid_slot, OrderType(order_type)
                )
            )
    except (IndexError, struct.error):
        raise RecordError(
            f"BatchUpdate: cut short after {len(data)} bytes", field="length"
        ) from None
    if at != len(data):
        raise RecordError(f"BatchUpdate: {at} bytes expected, got {len(data)}", field="length")
    return trader_hint, cancels, places


def _option(data: bytes, at: int) -> tuple[int | None, int]:
    if data[at] > 1:
        raise RecordError(
            f"BatchUpdate: byte {at}: an option is 0 or 1, got {data[at]}", field="option"
        )
    if data[at]:
        return _COUNT.unpack_from(data, at + 1)[0], at + 5
    return None, at + 1


def decode_placed(data: bytes) -> list[Placed]:
    """Decode the return data of a `BatchUpdate`: one `Placed` for each order that it placed.

    A node may drop zeros from the end of return data. They are put back.

    Raises
    ------
    RecordError
        The bytes are not such an answer, or the numbers of the orders do not ascend.
    """
    head = data[: _COUNT.size].ljust(_COUNT.size, b"\0")
    (count,) = _COUNT.unpack(head)
    whole = _COUNT.size + count * _PLACED.size
    if whole > MAX_RETURN_BYTES or len(data) > whole:
        raise RecordError(
            f"return data of {len(data)} bytes cannot hold {count} orders", field="return_data"
        )
    body = data.ljust(whole, b"\0")[_COUNT.size :]
    placed = [Placed(*each) for each in _PLACED.iter_unpack(body)]
    # The market numbers orders as it places them. An answer that is a record short ends in a
    # record of zeros, and so does not ascend.
    if any(one.sequence >= next_one.sequence for one, next_one in pairwise(placed)):
        raise RecordError("the numbers of the orders do not ascend", field="return_data")
    return placed


def manifest_batch_update(
    payer: Pubkey,
    market: Pubkey,
    cancels: Sequence[Cancel],
    places: Sequence[Place],
    *,
    trader_hint: int | None = None,
) -> Instruction:
    """Cancel, then place, in one instruction.

    Parameters
    ----------
    payer : Pubkey
        The trader. It must have a seat, and it signs.
    market : Pubkey
    cancels : sequence of Cancel
    places : sequence of Place
        Of any type but `OrderType.GLOBAL`, which needs accounts that Velox does not name.
    trader_hint : int or None
        The index of the trader's seat in the market's account.

    Raises
    ------
    RecordError
        A number does not fit its field, or an order is global.
    """
    for index, place in enumerate(places):
        if place.order_type == OrderType.GLOBAL:
            raise RecordError(
                f"places[{index}]: a global order is not supported", index=index, field="order_type"
            )
    data = encode_batch_update(cancels, places, trader_hint=trader_hint)
    return manifest_instruction(payer, market, data)


def manifest_instruction(payer: Pubkey, market: Pubkey, data: bytes) -> Instruction:
    """Return an instruction of Manifest with the accounts payer, market and System."""
    return Instruction(
        MANIFEST_PROGRAM,
        data,
        [
            AccountMeta(payer, is_signer=True, is_writable=True),
            AccountMeta(market, is_signer=False, is_writable=True),
            AccountMeta(SYSTEM_PROGRAM, is_signer=False, is_writable=False),
        ],
    )


def most_rent(data: bytes) -> int:
    """Return the most lamports that an instruction takes from the payer for rent.

    The program grows the market's account by a block after each order if no block is free, and for
    a seat. Data that is not understood may take all that the program can grow in one instruction.
    """
    tag = data[0] if data else -1
    if tag == _BATCH_UPDATE:
        try:
            _, _, places = decode_batch_update(data)
        except RecordError:
            return MOST_BLOCKS * BLOCK_RENT_LAMPORTS
        return len(places) * BLOCK_RENT_LAMPORTS
    if tag in {_DEPOSIT_TAG, _WITHDRAW_TAG}:
        return 0
    if tag == _CLAIM_SEAT:
        return 2 * BLOCK_RENT_LAMPORTS
    return MOST_BLOCKS * BLOCK_RENT_LAMPORTS


def manifest_vault(market: Pubkey, mint: Pubkey) -> Pubkey:
    """Return the account that holds a market's deposits of `mint`."""
    vault, _ = Pubkey.find_program_address([b"vault", bytes(market), bytes(mint)], MANIFEST_PROGRAM)
    return vault


def create_manifest_market(
    payer: Pubkey, market: Pubkey, base_mint: Pubkey, quote_mint: Pubkey
) -> Instruction:
    """Make an account into a market. Manifest must own it, with `MANIFEST_MARKET_BYTES`."""
    readable = [SYSTEM_PROGRAM, base_mint, quote_mint]
    vaults = [manifest_vault(market, base_mint), manifest_vault(market, quote_mint)]
    return Instruction(
        MANIFEST_PROGRAM,
        bytes((_CREATE_MARKET,)),
        [
            AccountMeta(payer, is_signer=True, is_writable=True),
            AccountMeta(market, is_signer=False, is_writable=True),
            *(AccountMeta(key, is_signer=False, is_writable=False) for key in readable),
            *(AccountMeta(key, is_signer=False, is_writable=True) for key in vaults),
            AccountMeta(TOKEN_PROGRAM, is_signer=False, is_writable=False),
            AccountMeta(TOKEN_2022_PROGRAM, is_signer=False, is_writable=False),
        ],
    )


def claim_seat(payer: Pubkey, market: Pubkey) -> Instruction:
    """Give `payer` a seat on a market."""
    return manifest_instruction(payer, market, bytes((_CLAIM_SEAT,)))


def deposit(
    payer: Pubkey,
    market: Pubkey,
    mint: Pubkey,
    token_account: Pubkey,
    atoms: int,
    *,
    token_program: Pubkey = TOKEN_PROGRAM,
) -> Instruction:
    """Move `atoms` (u64) of `mint` from the trader's token account into the market's vault."""
    return _transfer(_DEPOSIT_TAG, payer, market, mint, token_account, atoms, token_program)


def withdraw(
    payer: Pubkey,
    market: Pubkey,
    mint: Pubkey,
    token_account: Pubkey,
    atoms: int,
    *,
    token_program: Pubkey = TOKEN_PROGRAM,
) -> Instruction:
    """Move `atoms` (u64) of `mint` from the market's vault into the trader's token account."""
    return _transfer(_WITHDRAW_TAG, payer, market, mint, token_account, atoms, token_program)


def _transfer(  # noqa: PLR0917 - the fields of an instruction
    tag: int,
    payer: Pubkey,
    market: Pubkey,
    mint: Pubkey,
    token_account: Pubkey,
    atoms: int,
    token_program: Pubkey,
) -> Instruction:
    if not 0 <= atoms <= UINT64_MAX:
        raise RecordError(f"atoms = {atoms}: must fit 64 bits", field="atoms")
    return Instruction(
        MANIFEST_PROGRAM,
        _DEPOSIT.pack(tag, atoms, 0),
        [
            AccountMeta(payer, is_signer=True, is_writable=True),
            AccountMeta(market, is_signer=False, is_writable=True),
            AccountMeta(token_account, is_signer=False, is_writable=True),
            AccountMeta(manifest_vault(market, mint), is_signer=False, is_writable=True),
            AccountMeta(token_program, is_signer=False, is_writable=False),
            AccountMeta(mint, is_signer=False, is_writable=False),
        ],
    )
