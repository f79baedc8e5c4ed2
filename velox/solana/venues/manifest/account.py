"""The account of a Manifest market: its mints, its resting orders and its seats.

The account has a header, then blocks of 80 bytes. An index is a byte offset into the blocks;
2**32 - 1 means none. Bids, asks and seats are red-black trees of blocks::

    header, 256 bytes                      block: a node of a tree, and
      0 discriminant         u64             0 left, right, parent   3 x u32
      8 version              u8             12 color, kind, padding  4
      9 base, quote decimals 2 x u8          an order                    or a seat
     11 bumps, padding       5              16 price       u128         16 trader        32
     16 base, quote mint     2 x 32         32 base atoms   u64         48 base atoms   u64
     80 base, quote vault    2 x 32         40 sequence     u64         56 quote atoms  u64
    144 next sequence        u64            48 its seat     u32         64 quote volume u64
    152 bytes of blocks      u32            52 last slot    u32
    156 root of the bids     u32            56 is bid, order type       2 x u8
    160 best bid             u32            58 reverse spread           u16
    164 root of the asks     u32
    168 best ask             u32
    172 root of the seats    u32
    176 first free block     u32

A price is in quote atoms for a base atom, times 10**18. A block that no tree holds is free.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from velox.errors import RecordError
from velox.solana.venues.manifest.instructions import NO_INDEX

__all__ = [
    "BLOCK_BYTES",
    "MARKET_DISCRIMINANT",
    "MARKET_HEADER_BYTES",
    "MARKET_PRICE_ONE",
    "MarketAccount",
    "MarketOrder",
    "Seat",
    "locked_quote",
]

MARKET_HEADER_BYTES: Final = 256
# The discriminant of the program's struct MarketFixed.
MARKET_DISCRIMINANT: Final = 4859840929024028656
BLOCK_BYTES: Final = 80
#: The price of one quote atom for one base atom.
MARKET_PRICE_ONE: Final = 10**18

_DISCRIMINANT = MARKET_DISCRIMINANT.to_bytes(8, "little")
_HEADER = struct.Struct("<8xBBB5x32s32s32s32sQI")
_BID_ROOT, _BEST_BID, _ASK_ROOT, _BEST_ASK, _SEATS_ROOT = 156, 160, 164, 168, 172
_NODE = struct.Struct("<II")
_ORDER = struct.Struct("<QQQQIIBB")
_SEAT = struct.Struct("<32sQQQ")
_PAYLOAD = 16


@dataclass(frozen=True, slots=True)
class MarketOrder:
    """One resting order.

    Attributes
    ----------
    index : int
        Where it is: the hint of a cancel.
    sequence : int
        Its number on the market.
    trader : Pubkey
    is_bid : bool
    price : int
        Quote atoms for a base atom, times `MARKET_PRICE_ONE`.
    base_atoms : int
    last_valid_slot : int
        0 for never.
    """

    index: int
    sequence: int
    trader: Pubkey
    is_bid: bool
    price: int
    base_atoms: int
    last_valid_slot: int


@dataclass(frozen=True, slots=True)
class Seat:
    """A trader's deposits that are not bound in orders.

    Attributes
    ----------
    index : int
    trader : Pubkey
    base_atoms, quote_atoms : int
    quote_volume : int
        Quote atoms that the trader has traded.
    """

    index: int
    trader: Pubkey
    base_atoms: int
    quote_atoms: int
    quote_volume: int


def locked_quote(price: int, base_atoms: int) -> int:
    """Return the quote atoms that a resting bid locks: price times size, rounded up."""
    return -(-price * base_atoms // MARKET_PRICE_ONE)


class MarketAccount:
    """A market's account at one moment.

    Parameters
    ----------
    data : bytes
        The account's data.

    Attributes
    ----------
    version : int
    base_decimals, quote_decimals : int
    base_mint, quote_mint, base_vault, quote_vault : Pubkey
    next_sequence : int
        The number of the next order.
    block_bytes : int
        The size of its blocks, as the header states it.

    Raises
    ------
    RecordError
        It is not a market's account. The methods raise it if a tree has a dead link or a cycle.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) < MARKET_HEADER_BYTES or data[:8] != _DISCRIMINANT:
            raise RecordError(
                f"an account of {len(data)} bytes is not a Manifest market", field="account"
            )
        self._data = data
        self.version, self.base_decimals, self.quote_decimals, *keys, sequence, size = (
            _HEADER.unpack_from(data)
        )
        self.base_mint, self.quote_mint, self.base_vault, self.quote_vault = map(Pubkey, keys)
        self.next_sequence: int = sequence
        self.block_bytes: int = size
        self._traders: dict[int, Pubkey] = {}

    def orders(self) -> Iterator[MarketOrder]:
        """Return the resting orders: bids, then asks, each from the best to the worst."""
        for root in (_BID_ROOT, _ASK_ROOT):
            yield from map(self._order, self._descending(self._index(root)))

    def best(self, *, is_bid: bool) -> MarketOrder | None:
        """Return the best bid or the best ask; None if there is none."""
        index = self._index(_BEST_BID if is_bid else _BEST_ASK)
        return None if index == NO_INDEX else self._order(index)

    def seats(self) -> dict[Pubkey, Seat]:
        """Return the seats by trader."""
        found = map(self._seat, self._descending(self._index(_SEATS_ROOT)))
        return {each.trader: each for each in found}

    def _index(self, at: int) -> int:
        return int.from_bytes(self._data[at : at + 4], "little")

    def _descending(self, root: int) -> Iterator[int]:
        """Return the nodes of a tree from the right to the left, which is from the best."""
        above: list[int] = []
        left = len(self._data) // BLOCK_BYTES
        index = root
        while above or index != NO_INDEX:
            while index != NO_INDEX:
                left -= 1
                if left < 0:
                    raise RecordError("a tree of the market has a cycle", field="tree")
                above.append(index)
                index = self._children(index)[1]
            index = above.pop()
            yield index
            index = self._children(index)[0]

    def _children(self, index: int) -> tuple[int, int]:
        if MARKET_HEADER_BYTES + index + BLOCK_BYTES > len(self._data):
            raise RecordError(
                f"a tree of the market leads to byte {index} of "
                f"{len(self._data) - MARKET_HEADER_BYTES}",
                field="tree",
            )
        left, right = _NODE.unpack_from(self._data, MARKET_HEADER_BYTES + index)
        return left, right

    def _order(self, index: int) -> MarketOrder:
        low, high, atoms, sequence, seat, last, is_bid, _ = _ORDER.unpack_from(
            self._data, MARKET_HEADER_BYTES + index + _PAYLOAD
        )
        trader = self._traders.get(seat)
        if trader is None:
            trader = self._traders[seat] = self._seat(seat).trader
        return MarketOrder(index, sequence, trader, bool(is_bid), high << 64 | low, atoms, last)

    def _seat(self, index: int) -> Seat:
        self._children(index)  # refuses an index beyond the end
        trader, base, quote, volume = _SEAT.unpack_from(
            self._data, MARKET_HEADER_BYTES + index + _PAYLOAD
        )
        return Seat(index, Pubkey.from_bytes(trader), base, quote, volume)
