"""The orders and seats in the account of a market of Manifest's.

::

    header 256: 144 next sequence u64 | 152 bytes of blocks u32 | 156 bid root | 160 best bid
                164 ask root | 168 best ask | 172 seats root, each u32
    block 80:   0 left u32 | 4 right u32 | 8 parent u32 | 12 colour u8 | 13 kind u8
    order:      16 price u128 | 32 base atoms u64 | 40 sequence u64 | 48 seat u32 | 52 last slot u32
                56 is bid u8 | 57 type u8
    seat:       16 trader 32 | 48 base atoms u64 | 56 quote atoms u64 | 64 quote volume u64

An index is an offset after the header; 2**32 - 1 means none. A price is in quote atoms for a base
atom, times 10**18.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey

from velox.errors import RecordError
from velox.solana.venues.manifest.account import (
    BLOCK_BYTES,
    MARKET_DISCRIMINANT,
    MARKET_HEADER_BYTES,
)
from velox.solana.venues.manifest.instructions import NO_INDEX

__all__ = ["MARKET_PRICE_ONE", "MarketAccount", "MarketOrder", "Seat"]

#: The price of one quote atom for one base atom.
MARKET_PRICE_ONE: Final = 10**18

_DISCRIMINANT = MARKET_DISCRIMINANT.to_bytes(8, "little")
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


class MarketAccount:
    """A market's account at one moment.

    Parameters
    ----------
    data : bytes
        The account's data.

    Raises
    ------
    RecordError
        It is not a market's account. The methods raise it if a tree has a dead link or a cycle.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) < MARKET_HEADER_BYTES or data[:8] != _DISCRIMINANT:
            raise RecordError(f"market account: {len(data)} bytes are not a market account")
        self._data = data

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
                    raise RecordError("market account: a tree leads back to itself")
                above.append(index)
                index = self._children(index)[1]
            index = above.pop()
            yield index
            index = self._children(index)[0]

    def _children(self, index: int) -> tuple[int, int]:
        if MARKET_HEADER_BYTES + index + BLOCK_BYTES > len(self._data):
            raise RecordError(f"market account: a tree leads to block {index}, beyond the end")
        left, right = _NODE.unpack_from(self._data, MARKET_HEADER_BYTES + index)
        return left, right

    def _order(self, index: int) -> MarketOrder:
        low, high, atoms, sequence, seat, last, is_bid, _ = _ORDER.unpack_from(
            self._data, MARKET_HEADER_BYTES + index + _PAYLOAD
        )
        return MarketOrder(
            index, sequence, self._seat(seat).trader, bool(is_bid), high << 64 | low, atoms, last
        )

    def _seat(self, index: int) -> Seat:
        self._children(index)  # refuses an index beyond the end
        trader, base, quote, volume = _SEAT.unpack_from(
            self._data, MARKET_HEADER_BYTES + index + _PAYLOAD
        )
        return Seat(index, Pubkey.from_bytes(trader), base, quote, volume)
