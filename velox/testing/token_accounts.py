"""The layout of mints and token accounts, and their parsed form in JSON.

::

    mint           0 authority option u32 + 32 | 36 supply u64 | 44 decimals u8 | 45 initialized u8
                   46 freeze authority option u32 + 32                                   82 bytes
    token account  0 mint 32 | 32 owner 32 | 64 amount u64 | 72 delegate option u32 + 32
                   108 state u8 | 109 native option u32 + u64 | 121 delegated amount u64
                   129 close authority option u32 + 32                                  165 bytes

An account of Token-2022 may be longer: byte 165 then says what it is, 1 a mint, 2 a token account,
and extensions follow; see `velox.testing.token_extensions`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from solders.account import Account
from solders.pubkey import Pubkey

from velox.solana.tx.instructions import TOKEN_2022_PROGRAM, TOKEN_PROGRAM
from velox.testing.token_extensions import TOKEN_STATES, parse_extensions

__all__ = [
    "TOKEN_ACCOUNT_BYTES",
    "TOKEN_PROGRAMS",
    "Mint",
    "TokenAccount",
    "amount_json",
    "parse_account",
    "read_mint",
    "read_token",
    "token_balances_json",
]

MINT_BYTES, TOKEN_ACCOUNT_BYTES = 82, 165
_IS_MINT, _IS_TOKEN = 1, 2
TOKEN_PROGRAMS = {TOKEN_PROGRAM: "spl-token", TOKEN_2022_PROGRAM: "spl-token-2022"}


class Mint(NamedTuple):
    """A mint. Amounts are in atoms."""

    supply: int
    decimals: int
    authority: Pubkey | None
    freeze_authority: Pubkey | None


class TokenAccount(NamedTuple):
    """A token account. Amounts are in atoms."""

    mint: Pubkey
    owner: Pubkey
    amount: int
    delegate: Pubkey | None
    delegated: int
    state: str
    native_reserve: int | None
    close_authority: Pubkey | None


def _u64(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 8], "little")


def _option(data: bytes, at: int) -> Pubkey | None:
    """Return the key of an option: u32 1 and a key, or u32 0."""
    if int.from_bytes(data[at : at + 4], "little") != 1:
        return None
    return Pubkey.from_bytes(data[at + 4 : at + 36])


def read_mint(account: Account | None) -> Mint | None:
    """Return the mint that an account holds; None if it holds none."""
    data = _data(account, MINT_BYTES, _IS_MINT)
    if data is None or data[45] != 1:
        return None
    return Mint(_u64(data, 36), data[44], _option(data, 0), _option(data, 46))


def read_token(account: Account | None) -> TokenAccount | None:
    """Return the token account that an account holds; None if it holds none."""
    data = _data(account, TOKEN_ACCOUNT_BYTES, _IS_TOKEN)
    if data is None or not 1 <= data[108] < len(TOKEN_STATES):
        return None
    native = int.from_bytes(data[109:113], "little") == 1
    return TokenAccount(
        Pubkey.from_bytes(data[:32]),
        Pubkey.from_bytes(data[32:64]),
        _u64(data, 64),
        _option(data, 72),
        _u64(data, 121),
        TOKEN_STATES[data[108]],
        _u64(data, 113) if native else None,
        _option(data, 129),
    )


def _data(account: Account | None, size: int, kind: int) -> bytes | None:
    if account is None or account.owner not in TOKEN_PROGRAMS:
        return None
    data = bytes(account.data)
    extended = len(data) > TOKEN_ACCOUNT_BYTES and data[TOKEN_ACCOUNT_BYTES] == kind
    return data if len(data) == size or extended else None


def amount_json(atoms: int, decimals: int) -> dict[str, Any]:
    """Return an amount of tokens, as atoms and as a decimal number."""
    number = Decimal(atoms).scaleb(-decimals)
    text = f"{number:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return {
        "amount": str(atoms),
        "decimals": decimals,
        "uiAmount": float(number),
        "uiAmountString": text or "0",
    }


#: Returns an account; None if it does not exist.
AccountOf = Callable[[Pubkey], Account | None]


def token_balances_json(keys: Sequence[Pubkey], account_of: AccountOf) -> list[Any]:
    """Return the balances of those of `keys` that are token accounts, in the form of a node."""
    if TOKEN_PROGRAMS.keys().isdisjoint(keys):
        return []  # a transaction that moves tokens names their program
    found = []
    for index, key in enumerate(keys):
        account = account_of(key)
        token = read_token(account)
        if account is not None and token is not None:
            mint = read_mint(account_of(token.mint))
            decimals = 0 if mint is None else mint.decimals
            found.append(
                {
                    "accountIndex": index,
                    "mint": str(token.mint),
                    "owner": str(token.owner),
                    "programId": str(account.owner),
                    "uiTokenAmount": amount_json(token.amount, decimals),
                }
            )
    return found


def parse_account(account: Account, account_of: AccountOf) -> dict[str, Any] | None:
    """Return the parsed form of a mint or a token account; None for any other account."""
    info: dict[str, Any]
    try:
        extensions = parse_extensions(bytes(account.data))
    except ValueError:
        return None
    mint, token = read_mint(account), read_token(account)
    if mint is not None:
        kind = "mint"
        info = {
            "mintAuthority": None if mint.authority is None else str(mint.authority),
            "supply": str(mint.supply),
            "decimals": mint.decimals,
            "isInitialized": True,
            "freezeAuthority": (
                None if mint.freeze_authority is None else str(mint.freeze_authority)
            ),
        }
    elif token is not None:
        of = read_mint(account_of(token.mint))
        decimals = 0 if of is None else of.decimals
        kind = "account"
        info = {
            "isNative": token.native_reserve is not None,
            "mint": str(token.mint),
            "owner": str(token.owner),
            "state": token.state,
            "tokenAmount": amount_json(token.amount, decimals),
        }
        if token.delegate is not None:
            info["delegate"] = str(token.delegate)
            info["delegatedAmount"] = amount_json(token.delegated, decimals)
        if token.native_reserve is not None:
            info["rentExemptReserve"] = amount_json(token.native_reserve, decimals)
        if token.close_authority is not None:
            info["closeAuthority"] = str(token.close_authority)
    else:
        return None
    if extensions:
        info["extensions"] = extensions
    return {
        "program": TOKEN_PROGRAMS[account.owner],
        "parsed": {"info": info, "type": kind},
        "space": len(account.data),
    }
