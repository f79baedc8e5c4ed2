"""Instructions that any Solana transaction may need: compute budget, System, memo."""

from __future__ import annotations

import struct
from typing import Final

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from velox.core.integers import UINT64_MAX
from velox.errors import RecordError, TransactionTooLargeError
from velox.solana.tx.limits import MAX_COMPUTE_UNITS

__all__ = [
    "ASSOCIATED_TOKEN_PROGRAM",
    "COMPUTE_BUDGET_PROGRAM",
    "DONT_FRONT",
    "MEMO_PROGRAM",
    "SYSTEM_PROGRAM",
    "TOKEN_2022_PROGRAM",
    "TOKEN_PROGRAM",
    "associated_token_account",
    "check_compute_units",
    "compute_unit_limit",
    "compute_unit_price",
    "create_account",
    "memo",
    "tip_transfer",
]

SYSTEM_PROGRAM: Final = Pubkey.from_string("11111111111111111111111111111111")
COMPUTE_BUDGET_PROGRAM: Final = Pubkey.from_string("ComputeBudget111111111111111111111111111111")
MEMO_PROGRAM: Final = Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr")
TOKEN_PROGRAM: Final = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022_PROGRAM: Final = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")
ASSOCIATED_TOKEN_PROGRAM: Final = Pubkey.from_string("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL")
# Any key with this prefix. A block engine refuses a bundle in which a later transaction than the
# first names one.
DONT_FRONT: Final = Pubkey.from_string("jitodontfront111111111111111111111111111111")

_U8_U32 = struct.Struct("<BI")
_U8_U64 = struct.Struct("<BQ")
_U32_U64 = struct.Struct("<IQ")
_CREATE_ACCOUNT = struct.Struct("<IQQ32s")

_SYSTEM_CREATE_ACCOUNT, _SYSTEM_TRANSFER = 0, 2
_SET_COMPUTE_UNIT_LIMIT, _SET_COMPUTE_UNIT_PRICE = 2, 3


def memo(data: bytes, signer: Pubkey | None = None) -> Instruction:
    """Write `data` into the transaction's log.

    Parameters
    ----------
    data : bytes
        UTF-8; the program refuses anything else.
    signer : Pubkey or None
        The signer of the memo; the program checks its signature.

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


def associated_token_account(
    owner: Pubkey, mint: Pubkey, token_program: Pubkey = TOKEN_PROGRAM
) -> Pubkey:
    """Return the address at which wallets look for an owner's tokens of a mint."""
    address, _ = Pubkey.find_program_address(
        [bytes(owner), bytes(token_program), bytes(mint)], ASSOCIATED_TOKEN_PROGRAM
    )
    return address


def check_compute_units(units: int) -> None:
    """Refuse a number of compute units above the chain's limit."""
    if not 0 <= units <= MAX_COMPUTE_UNITS:
        raise TransactionTooLargeError(units, MAX_COMPUTE_UNITS, "compute units")


def compute_unit_limit(units: int) -> Instruction:
    """Set the compute limit of the transaction, 0 to 1 400 000 units.

    Raises
    ------
    TransactionTooLargeError
        The chain allows fewer.
    """
    check_compute_units(units)
    return Instruction(COMPUTE_BUDGET_PROGRAM, _U8_U32.pack(_SET_COMPUTE_UNIT_LIMIT, units), [])


def compute_unit_price(micro_lamports: int) -> Instruction:
    """Offer a priority fee: millionths of a lamport (u64) for each unit of the limit."""
    if not 0 <= micro_lamports <= UINT64_MAX:
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
        Name the account `DONT_FRONT`, so that the engine puts no other transaction before this one
        in its bundle. The tip names it, since programs may refuse accounts that they do not know.
    """
    if not 0 <= lamports <= UINT64_MAX:
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
    """Make an account of `space` bytes that `owner` owns and `payer` funds; both sign."""
    for name, value in (("lamports", lamports), ("space", space)):
        if not 0 <= value <= UINT64_MAX:
            raise RecordError(f"{name} = {value}: must fit 64 bits", field=name)
    return Instruction(
        SYSTEM_PROGRAM,
        _CREATE_ACCOUNT.pack(_SYSTEM_CREATE_ACCOUNT, lamports, space, bytes(owner)),
        [
            AccountMeta(payer, is_signer=True, is_writable=True),
            AccountMeta(account, is_signer=True, is_writable=True),
        ],
    )
