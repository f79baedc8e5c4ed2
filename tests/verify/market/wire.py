"""The market program's instructions, written from the layouts alone.

Nothing here comes from Velox: the tests hold the program against a second pen.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

PROGRAM: Final = Pubkey.from_string("MNFSTqtC93rEfYHB6hF82sKdZpUDFWkViLByLd1k1Ms")
SYSTEM: Final = Pubkey.from_string("11111111111111111111111111111111")
TOKEN: Final = Pubkey.from_string("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA")
TOKEN_2022: Final = Pubkey.from_string("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb")

HEADER_BYTES: Final = 256
BLOCK_BYTES: Final = 80
NOWHERE: Final = 2**32 - 1
LIMIT, IMMEDIATE_OR_CANCEL, POST_ONLY, GLOBAL, REVERSE, REVERSE_TIGHT = range(6)


class Cancel(NamedTuple):
    sequence: int
    hint: int | None = None


class Place(NamedTuple):
    atoms: int
    mantissa: int
    exponent: int
    is_bid: bool
    last_slot: int = 0
    type: int = LIMIT


def option(value: int | None) -> bytes:
    return b"\0" if value is None else struct.pack("<BI", 1, value)


def vault(market: Pubkey, mint: Pubkey) -> Pubkey:
    return Pubkey.find_program_address([b"vault", bytes(market), bytes(mint)], PROGRAM)[0]


def global_accounts(market: Pubkey, mint: Pubkey, token: Pubkey) -> list[AccountMeta]:
    """The accounts of global orders of one mint, as clients append them."""
    found = [
        Pubkey.find_program_address([seed, bytes(mint)], PROGRAM)[0]
        for seed in (b"global", b"global-vault")
    ]
    return metas(
        (mint, ""), (found[0], "w"), (found[1], "w"), (vault(market, mint), "w"), (token, "")
    )


def batch_data(
    cancels: list[Cancel] | tuple[Cancel, ...] = (),
    places: list[Place] | tuple[Place, ...] = (),
    seat: int | None = None,
) -> bytes:
    return b"".join(
        [
            b"\x06",
            option(seat),
            struct.pack("<I", len(cancels)),
            *(struct.pack("<Q", each.sequence) + option(each.hint) for each in cancels),
            struct.pack("<I", len(places)),
            *(struct.pack("<QIbBIB", *each) for each in places),
        ]
    )


def metas(*accounts: tuple[Pubkey, str]) -> list[AccountMeta]:
    """Accounts with their rights: any of ``s`` (signs) and ``w`` (is written)."""
    return [AccountMeta(key, "s" in rights, "w" in rights) for key, rights in accounts]


def batch(
    payer: Pubkey,
    market: Pubkey,
    cancels: list[Cancel] | tuple[Cancel, ...] = (),
    places: list[Place] | tuple[Place, ...] = (),
    seat: int | None = None,
) -> Instruction:
    return Instruction(
        PROGRAM,
        batch_data(cancels, places, seat),
        metas((payer, "sw"), (market, "w"), (SYSTEM, "")),
    )


def create(payer: Pubkey, market: Pubkey, base: Pubkey, quote: Pubkey) -> Instruction:
    return Instruction(
        PROGRAM,
        b"\0",
        metas(
            (payer, "sw"),
            (market, "w"),
            (SYSTEM, ""),
            (base, ""),
            (quote, ""),
            (vault(market, base), "w"),
            (vault(market, quote), "w"),
            (TOKEN, ""),
            (TOKEN_2022, ""),
        ),
    )


def claim_seat(payer: Pubkey, market: Pubkey) -> Instruction:
    return Instruction(PROGRAM, b"\1", metas((payer, "sw"), (market, "w"), (SYSTEM, "")))


def expand(payer: Pubkey, market: Pubkey, free: int | None = None) -> Instruction:
    data = b"\5" if free is None else struct.pack("<BI", 5, free)
    return Instruction(PROGRAM, data, metas((payer, "sw"), (market, "w"), (SYSTEM, "")))


def transfer(
    tag: int,
    payer: Pubkey,
    market: Pubkey,
    mint: Pubkey,
    tokens: Pubkey,
    atoms: int,
    *,
    token_program: Pubkey = TOKEN,
    seat: int | None = None,
) -> Instruction:
    """A deposit (tag 2) or a withdrawal (tag 3)."""
    return Instruction(
        PROGRAM,
        struct.pack("<BQ", tag, atoms) + option(seat),
        metas(
            (payer, "sw"),
            (market, "w"),
            (tokens, "w"),
            (vault(market, mint), "w"),
            (token_program, ""),
            (mint, ""),
        ),
    )


def swap_data(tag: int, atoms_in: int, atoms_out: int, *, base_in: bool, exact_in: bool) -> bytes:
    return struct.pack("<BQQBB", tag, atoms_in, atoms_out, base_in, exact_in)


EVENTS: Final = {
    bytes.fromhex(code): name
    for code, name in {
        "211f0b06858f2747": "create",
        "814d98d2da90a338": "seat",
        "17d6182234686dbc": "deposit",
        "70da6f3f125f8823": "withdraw",
        "3ae6f2034b7104a9": "fill",
        "9d76f7d52f13a478": "place",
        "bd619feb8805018d": "place_v2",
        "16414721f4ebffd7": "cancel",
    }.items()
}
