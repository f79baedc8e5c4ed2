"""The instructions that Velox sends, to the byte.

Manifest's ``BatchUpdate``, in Borsh, little-endian; an option is a byte 0, or a byte 1 and a u32::

    06 | option: index of the trader's seat
       | u32 n, n x (sequence u64 | option: index of the order)                          cancels
       | u32 n, n x (base atoms u64 | mantissa u32 | exponent i8 | is bid u8
                     | last valid slot u32 | order type u8)                              places

It answers with ``u32 n, n x (sequence u64, index u32)``, one for each order placed, in their
order. The chain keeps the answer of a transaction's last instruction alone: `BatchUpdate` goes
last, the tip before it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import Final, NamedTuple

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from velox.errors import RecordError, TransactionTooLargeError
from velox.solana.tx.limits import MAX_COMPUTE_UNITS
from velox.solana.venues.manifest.market import MAX_EXPONENT, MIN_EXPONENT

__all__ = [
    "CANCEL_BYTES",
    "COMPUTE_BUDGET_PROGRAM",
    "DONT_FRONT",
    "MANIFEST_MARKET_BYTES",
    "MANIFEST_PROGRAM",
    "MEMO_PROGRAM",
    "PLACE",
    "PLACE_BYTES",
    "SYSTEM_PROGRAM",
    "TOKEN_2022_PROGRAM",
    "TOKEN_PROGRAM",
    "Cancel",
    "OrderType",
    "Place",
    "Placed",
    "claim_seat",
    "compute_unit_limit",
    "compute_unit_price",
    "create_account",
    "create_manifest_market",
    "decode_batch_update",
    "decode_placed",
    "deposit",
    "manifest_batch_update",
    "manifest_vault",
    "memo",
    "tip_transfer",
]

SYSTEM_PROGRAM: Final = Pubkey.from_string("11111111111111111111111111111111")
COMPUTE_BUDGET_PROGRAM: Final = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
MEMO_PROGRAM: Final = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
MANIFEST_PROGRAM: Final = Pubkey.from_string("MNFSTqtC93rEfYHB6hF82sKdZpUDFWkViLByLd1k1Ms")
TOKEN_PROGRAM: Final = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022_PROGRAM: Final = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
# Any key that begins so. A block engine refuses a bundle in which a transaction that names one
# is not the first.
DONT_FRONT: Final = Pubkey.from_string("jitodontfront111111111111111111111111111111")

# A new market's account: what the program asks for before it grows by itself.
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
_U8_U32 = struct.Struct("<BI")
_U8_U64 = struct.Struct("<BQ")
_U32_U64 = struct.Struct("<IQ")
_CREATE_ACCOUNT = struct.Struct("<IQQ32s")
_DEPOSIT = struct.Struct("<BQB")

# Manifest's index of nothing.
_NOWHERE = 2**32 - 1
_CREATE_MARKET, _CLAIM_SEAT, _DEPOSIT_TAG, _BATCH_UPDATE = 0, 1, 2, 6
_SYSTEM_CREATE_ACCOUNT, _SYSTEM_TRANSFER = 0, 2
_SET_COMPUTE_UNIT_LIMIT, _SET_COMPUTE_UNIT_PRICE = 2, 3


class OrderType(IntEnum):
    """What an order does when it meets the book, in Manifest's numbers."""

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
        u32; the order is dead after this slot, 0 for never.
    order_type : OrderType
    """

    base_atoms: int
    price_mantissa: int
    price_exponent: int
    is_bid: bool
    last_valid_slot: int = 0
    order_type: OrderType = OrderType.LIMIT


class Cancel(NamedTuple):
    """An order to withdraw from Manifest. Where it is gone already, the whole transaction fails.

    Attributes
    ----------
    sequence : int
        The number that the chain gave it, u64.
    hint : int or None
        Where it lies in the market's account, u32, as `Placed.hint` says: saves the search.
    """

    sequence: int
    hint: int | None = None


class Placed(NamedTuple):
    """What the chain answers for an order placed; ``Cancel(*placed)`` withdraws it.

    Attributes
    ----------
    sequence : int
        Its number, u64.
    hint : int
        Where it lies in the market's account, u32.
    """

    sequence: int
    hint: int

    @property
    def rests(self) -> bool:
        """Whether any of it is in the book, rather than filled or dead on arrival."""
        return self.hint != _NOWHERE


# Manifest


def encode_cancels(cancels: Sequence[Cancel]) -> bytes:
    """Return ``u32 n`` and the cancels, as they stand in a `BatchUpdate`."""
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
        A number does not fit its field; `index` and `field` say which.
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
    """Take the data of a `BatchUpdate` apart: the trader's hint, the cancels, the places.

    Raises
    ------
    RecordError
        It is not exactly one `BatchUpdate`.
    """
    try:
        if data[0] != _BATCH_UPDATE:
            raise RecordError(f"instruction {data[0]} where BatchUpdate is {_BATCH_UPDATE}")
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
        raise RecordError(f"a BatchUpdate cut short, after {len(data)} bytes") from None
    if at != len(data):
        raise RecordError(f"a BatchUpdate of {at} bytes in {len(data)}")
    return trader_hint, cancels, places


def _option(data: bytes, at: int) -> tuple[int | None, int]:
    if data[at] > 1:
        raise RecordError(f"byte {at} is {data[at]} where an option has 0 or 1")
    if data[at]:
        return _COUNT.unpack_from(data, at + 1)[0], at + 5
    return None, at + 1


def decode_placed(data: bytes) -> list[Placed]:
    """Take apart what a `BatchUpdate` answered, one `Placed` for each order it placed.

    A node may drop zeros from the end of what a program answers; they are put back.

    Raises
    ------
    RecordError
        The bytes are no such answer.
    """
    head = data[: _COUNT.size].ljust(_COUNT.size, b"\0")
    (count,) = _COUNT.unpack(head)
    whole = _COUNT.size + count * _PLACED.size
    # The longest answer that a program may give is 1024 bytes.
    if whole > 1024 or len(data) > whole:
        raise RecordError(f"an answer of {len(data)} bytes for {count} orders")
    body = data.ljust(whole, b"\0")[_COUNT.size :]
    return [Placed(*each) for each in _PLACED.iter_unpack(body)]


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
        The trader; it has a seat, and signs.
    market : Pubkey
    cancels : sequence of Cancel
    places : sequence of Place
        Any type but `OrderType.GLOBAL`, which needs accounts that Velox does not name.
    trader_hint : int or None
        Where the trader's seat lies in the market's account.

    Raises
    ------
    RecordError
        A number does not fit its field, or an order is global.
    """
    for index, place in enumerate(places):
        if place.order_type == OrderType.GLOBAL:
            raise RecordError(f"places[{index}]: a global order", index=index, field="order_type")
    data = encode_batch_update(cancels, places, trader_hint=trader_hint)
    return manifest_instruction(payer, market, data)


def manifest_instruction(payer: Pubkey, market: Pubkey, data: bytes) -> Instruction:
    """Return an instruction of Manifest's that names payer, market and System alone."""
    return Instruction(
        MANIFEST_PROGRAM,
        data,
        [
            AccountMeta(payer, is_signer=True, is_writable=True),
            AccountMeta(market, is_signer=False, is_writable=True),
            AccountMeta(SYSTEM_PROGRAM, is_signer=False, is_writable=False),
        ],
    )


def manifest_vault(market: Pubkey, mint: Pubkey) -> Pubkey:
    """Return the account that holds a market's deposits of `mint`."""
    vault, _ = Pubkey.find_program_address([b"vault", bytes(market), bytes(mint)], MANIFEST_PROGRAM)
    return vault


def create_manifest_market(
    payer: Pubkey, market: Pubkey, base_mint: Pubkey, quote_mint: Pubkey
) -> Instruction:
    """Make a market of an account of `MANIFEST_MARKET_BYTES` that Manifest owns already."""
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
    """Give `payer` a seat on a market of Manifest's."""
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
    if not 0 <= atoms < 2**64:
        raise RecordError(f"atoms = {atoms}: must fit 64 bits", field="atoms")
    return Instruction(
        MANIFEST_PROGRAM,
        _DEPOSIT.pack(_DEPOSIT_TAG, atoms, 0),
        [
            AccountMeta(payer, is_signer=True, is_writable=True),
            AccountMeta(market, is_signer=False, is_writable=True),
            AccountMeta(token_account, is_signer=False, is_writable=True),
            AccountMeta(manifest_vault(market, mint), is_signer=False, is_writable=True),
            AccountMeta(token_program, is_signer=False, is_writable=False),
            AccountMeta(mint, is_signer=False, is_writable=False),
        ],
    )


# Memo, compute budget, System


def memo(data: bytes, signer: Pubkey | None = None) -> Instruction:
    """Write `data` into the transaction's log.

    Parameters
    ----------
    data : bytes
        UTF-8; the program refuses anything else.
    signer : Pubkey or None
        Who vouches for it; the program checks its signature.

    Raises
    ------
    RecordError
        `data` is not UTF-8.
    """
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecordError(f"a memo that is not UTF-8: {error}", field="data") from None
    accounts = [] if signer is None else [AccountMeta(signer, is_signer=True, is_writable=False)]
    return Instruction(MEMO_PROGRAM, data, accounts)


def check_compute_units(units: int) -> None:
    """Refuse more units of computing than a transaction may have."""
    if not 0 <= units <= MAX_COMPUTE_UNITS:
        raise TransactionTooLargeError(units, MAX_COMPUTE_UNITS, "compute units")


def compute_unit_limit(units: int) -> Instruction:
    """Let the transaction take `units` of computing, 0 to 1 400 000.

    Raises
    ------
    TransactionTooLargeError
        The chain allows fewer.
    """
    check_compute_units(units)
    return Instruction(COMPUTE_BUDGET_PROGRAM, _U8_U32.pack(_SET_COMPUTE_UNIT_LIMIT, units), [])


def compute_unit_price(micro_lamports: int) -> Instruction:
    """Offer a priority fee: millionths of a lamport (u64) for each unit of the limit."""
    if not 0 <= micro_lamports < 2**64:
        raise RecordError(
            f"micro_lamports = {micro_lamports}: must fit 64 bits", field="micro_lamports"
        )
    return Instruction(
        COMPUTE_BUDGET_PROGRAM, _U8_U64.pack(_SET_COMPUTE_UNIT_PRICE, micro_lamports), []
    )


def tip_transfer(
    payer: Pubkey, tip_account: Pubkey, lamports: int, *, dont_front: bool
) -> Instruction:
    """Tip a block engine.

    Parameters
    ----------
    payer, tip_account : Pubkey
    lamports : int
        u64. The function does not check that an engine takes so small a tip.
    dont_front : bool
        Name `DONT_FRONT`, so that nobody is placed before this transaction in its bundle. It
        stands here, since Manifest refuses accounts that it does not know.
    """
    if not 0 <= lamports < 2**64:
        raise RecordError(f"lamports = {lamports}: must fit 64 bits", field="lamports")
    accounts = [
        AccountMeta(payer, is_signer=True, is_writable=True),
        AccountMeta(tip_account, is_signer=False, is_writable=True),
    ]
    if dont_front:
        accounts.append(AccountMeta(DONT_FRONT, is_signer=False, is_writable=False))
    return Instruction(SYSTEM_PROGRAM, _U32_U64.pack(_SYSTEM_TRANSFER, lamports), accounts)


def create_account(
    payer: Pubkey, account: Pubkey, lamports: int, space: int, owner: Pubkey
) -> Instruction:
    """Make an account of `space` bytes that `owner` owns and `payer` endows; both sign."""
    for name, value in (("lamports", lamports), ("space", space)):
        if not 0 <= value < 2**64:
            raise RecordError(f"{name} = {value}: must fit 64 bits", field=name)
    return Instruction(
        SYSTEM_PROGRAM,
        _CREATE_ACCOUNT.pack(_SYSTEM_CREATE_ACCOUNT, lamports, space, bytes(owner)),
        [
            AccountMeta(payer, is_signer=True, is_writable=True),
            AccountMeta(account, is_signer=True, is_writable=True),
        ],
    )
