"""The resting orders in the account of a Manifest market.

The account has a header, then blocks of 80 bytes. An index is a byte offset into the blocks;
2**32 - 1 means none. Bids, asks and seats are red-black trees of blocks::

    header, 256 bytes                      block: a node of a tree, and
      0 discriminant         u64             0 left, right, parent   3 x u32
      8 version, decimals, bumps, padding   12 color, kind, padding  4
     16 mints and vaults     4 x 32         an order                    or a seat
    144 next sequence        u64            16 price       u128         16 trader  32
    152 bytes of blocks      u32            32 base atoms   u64         ...
    156 root of the bids     u32            40 sequence     u64
    160 best bid             u32            48 its seat     u32
    164 root of the asks     u32            52 last slot    u32
    ...                                     56 is bid, order type, padding
"""

from __future__ import annotations

import struct
from typing import Final

from solders.pubkey import Pubkey

from velox.errors import RecordError
from velox.solana.venues.manifest.instructions import NO_INDEX

__all__ = ["MARKET_HEADER_BYTES", "resting_atoms"]

MARKET_HEADER_BYTES: Final = 256
# The discriminant of the program's struct MarketFixed.
MARKET_DISCRIMINANT: Final = 4859840929024028656
BLOCK_BYTES: Final = 80


_NODE = struct.Struct("<II")
_ORDER = struct.Struct("<32xQQI")
_SEAT = struct.Struct("<16x32s")
_ROOTS = (156, 164)


def resting_atoms(data: bytes, trader: Pubkey) -> dict[int, int]:
    """Return the base atoms left of each resting order of a trader.

    Parameters
    ----------
    data : bytes
        The data of a market's account.
    trader : Pubkey

    Returns
    -------
    dict of int to int
        By the market's number of the order.

    Raises
    ------
    RecordError
        The account is not a Manifest market, or a tree in it is damaged.
    """
    if len(data) < MARKET_HEADER_BYTES or data[:8] != MARKET_DISCRIMINANT.to_bytes(8, "little"):
        raise RecordError(
            f"an account of {len(data)} bytes is not a Manifest market", field="account"
        )
    blocks, found, theirs = data[MARKET_HEADER_BYTES:], dict[int, int](), dict[int, bool]()
    left = len(blocks) // BLOCK_BYTES
    for at in _ROOTS:
        waiting = [int.from_bytes(data[at : at + 4], "little")]
        while waiting:
            index = waiting.pop()
            if index == NO_INDEX:
                continue
            left -= 1
            if left < 0:
                raise RecordError("a tree of the market has a cycle", field="tree")
            try:
                waiting += _NODE.unpack_from(blocks, index)
                atoms, sequence, seat = _ORDER.unpack_from(blocks, index)
                if seat not in theirs:
                    theirs[seat] = _SEAT.unpack_from(blocks, seat)[0] == bytes(trader)
            except struct.error:
                raise RecordError(
                    f"a tree of the market leads to byte {index} of {len(blocks)}", field="tree"
                ) from None
            if theirs[seat]:
                found[sequence] = atoms
    return found
