"""Mints of Token-2022 with extensions: what each does to a market.

`play` makes a market of such a mint and an SPL Token mint, and runs a deposit, a withdrawal and two
swaps on it.
"""

from __future__ import annotations

import struct
from typing import Any, Final

from .wire import PROGRAM, TOKEN_2022, Place, batch
from .world import MarketWorld

KEY: Final = bytes(range(1, 33))
SIZE_QUESTION: Final = bytes([21])


def fee(first_epoch: int, most: int, parts: int) -> bytes:
    """A transfer fee: from which epoch, at most so many atoms, in hundredths of a percent."""
    return struct.pack("<QQH", first_epoch, most, parts)


def transfer_fee(older: bytes, newer: bytes) -> tuple[bytes, bytes]:
    """The extension of a mint and of its accounts."""
    return (
        struct.pack("<HH", 1, 108) + KEY + KEY + bytes(8) + older + newer,
        struct.pack("<HHQ", 2, 8, 0),
    )


FEE: Final = fee(0, 5_000, 250)

EXTENSIONS: Final[dict[str, tuple[bytes, bytes]]] = {
    # Of the mint, and what its accounts must have.
    "none": (b"", b""),
    "transfer fee": transfer_fee(FEE, FEE),
    "transfer fee, the older one": transfer_fee(FEE, fee(9, 1, 1)),
    "transfer fee of everything": transfer_fee(FEE, fee(0, 2**64 - 1, 10_000)),
    "transfer fee of one atom": transfer_fee(FEE, fee(0, 1, 10_000)),
    "close authority": (struct.pack("<HH", 3, 32) + KEY, b""),
    "accounts are frozen": (struct.pack("<HHB", 6, 1, 2), b""),
    "not transferable": (struct.pack("<HH", 9, 0), struct.pack("<HHHH", 13, 0, 7, 0)),
    "interest": (struct.pack("<HH", 10, 52) + KEY + bytes(20), b""),
    "permanent delegate": (struct.pack("<HH", 12, 32) + KEY, b""),
    "transfer hook": (struct.pack("<HH", 14, 64) + KEY + bytes(32), struct.pack("<HHB", 15, 1, 0)),
    "transfer hook of a program": (
        struct.pack("<HH", 14, 64) + KEY + bytes(PROGRAM),
        struct.pack("<HHB", 15, 1, 0),
    ),
    "metadata pointer": (struct.pack("<HH", 18, 64) + KEY + KEY, b""),
    "unknown": (struct.pack("<HH", 999, 4) + b"abcd", b""),
    "cut off": (struct.pack("<HH", 1, 108) + KEY, b""),
}


def play(program: bytes, name: str) -> list[Any]:
    """Return everything that was seen: outcomes, and the accounts after each."""
    world = MarketWorld(
        program,
        traders=2,
        base_program=TOKEN_2022,
        extensions=(EXTENSIONS[name], (b"", b"")),
        deposits=0,
    )
    *seen, calls = world.created.seen
    # The real program computes the size of a vault; ours asks Token-2022 (instruction 21).
    told: list[Any] = [(*seen, tuple(each for each in calls if each[2] != SIZE_QUESTION))]
    if world.created.error is not None:
        return told
    world.seat(0)

    def step(number: int, instruction: Any) -> None:
        told.append(world.run(number, instruction).seen)
        keys = (world.market, *world.vaults, *world.wallets[0], *world.wallets[1])
        told.append([world.data(key) for key in keys])

    for side in range(2):
        step(0, world.transfer(2, 0, side, 1_000_003))
    step(0, world.transfer(3, 0, 0, 1_001))
    asks = [Place(300_000, 2, 0, False), Place(100_000, 1, 0, True)]
    step(0, batch(world.traders[0], world.market, (), asks))
    for base_in in (True, False):
        for exact_in in (True, False):
            step(1, world.swap(1, 50_000, 1_000, base_in=base_in, exact_in=exact_in))
    return told
