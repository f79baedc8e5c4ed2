"""Holds a market's account against everything that must be true of it.

It is written from the layout alone, reads no code of the program, and recurses where the program
does not.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Final

from .wire import BLOCK_BYTES, HEADER_BYTES, NOWHERE

DISCRIMINANT: Final = 4859840929024028656
RED: Final = 1
SEAT, ORDER = 1, 2
ONE: Final = 10**18


@dataclass(frozen=True, slots=True)
class Seat:
    index: int
    trader: bytes
    base: int
    quote: int
    volume: int


@dataclass(frozen=True, slots=True)
class Order:
    index: int
    price: int
    atoms: int
    sequence: int
    seat: int
    last_slot: int
    is_bid: bool
    type: int
    spread: int

    @property
    def locked(self) -> int:
        """Atoms of its own side that it holds."""
        return ceil(Fraction(self.price * self.atoms, ONE)) if self.is_bid else self.atoms


@dataclass(frozen=True, slots=True)
class Book:
    """What a market holds; bids and asks from the best one on."""

    seats: dict[int, Seat]
    bids: list[Order]
    asks: list[Order]
    free: list[int]
    next_sequence: int
    volume: int

    def seat_of(self, trader: object) -> Seat:
        (seat,) = (each for each in self.seats.values() if each.trader == bytes(trader))  # type: ignore[call-overload]
        return seat

    @property
    def base(self) -> int:
        """Base atoms of all seats and asks."""
        return sum(each.base for each in self.seats.values()) + sum(
            each.locked for each in self.asks
        )

    @property
    def quote(self) -> int:
        """Quote atoms of all seats and bids."""
        return sum(each.quote for each in self.seats.values()) + sum(
            each.locked for each in self.bids
        )


class InvalidMarketError(AssertionError):
    """The account's state is not one that the program may produce."""


def expect(condition: object, what: str) -> None:
    if not condition:
        raise InvalidMarketError(what)


class Walk:
    """One pass over an account."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.seen: set[int] = set()

    def block(self, index: int, kind: int | None) -> bytes:
        expect(index % BLOCK_BYTES == 0, f"index {index} is no block's")
        at = HEADER_BYTES + index
        expect(at + BLOCK_BYTES <= len(self.data), f"index {index} is beyond the account")
        expect(index not in self.seen, f"block {index} is met twice")
        self.seen.add(index)
        block = self.data[at : at + BLOCK_BYTES]
        if kind is not None:
            expect(block[13] == kind, f"block {index} is of kind {block[13]}, not {kind}")
            expect(block[14:16] == b"\0\0", f"block {index}: padding")
        return block

    def tree(self, root: int, kind: int) -> tuple[list[tuple[int, bytes]], int]:
        """Return the nodes of a tree in order; its root has no parent and is black."""
        if root == NOWHERE:
            return [], 0
        found: list[tuple[int, bytes]] = []
        deepest = 0

        def walk(index: int, parent: int, above_is_red: bool, depth: int) -> int:
            """Return the black height below."""
            nonlocal deepest
            if index == NOWHERE:
                return 1
            deepest = max(deepest, depth)
            block = self.block(index, kind)
            left, right, told, colour = struct.unpack_from("<IIIB", block)
            expect(told == parent, f"block {index} names {told} as parent, not {parent}")
            expect(colour in (0, RED), f"block {index} is of colour {colour}")
            expect(not (above_is_red and colour == RED), f"block {index}: red below red")
            height = walk(left, index, colour == RED, depth + 1)
            found.append((index, block))
            other = walk(right, index, colour == RED, depth + 1)
            expect(height == other, f"block {index}: black heights {height} and {other}")
            return height + (colour != RED)

        walk(root, NOWHERE, True, 1)
        return found, deepest

    def free(self, head: int) -> list[int]:
        found = []
        while head != NOWHERE:
            block = self.block(head, None)
            expect(not any(block[4:]), f"free block {head} is not empty")
            found.append(head)
            (head,) = struct.unpack_from("<I", block)
        return found


def _order(index: int, block: bytes) -> Order:
    low, high, atoms, sequence, seat, last, is_bid, kind, spread = struct.unpack_from(
        "<QQQQIIBBH", block, 16
    )
    expect(not any(block[60:]), f"order {index}: bytes behind it")
    expect(atoms > 0, f"order {index} of 0 atoms")
    expect(low or high, f"order {index} at price 0")
    expect(kind in (0, 2, 4, 5), f"order {index} of type {kind} rests")
    expect(kind >= 4 or spread == 0, f"order {index}: a spread")
    expect(kind < 4 or last == 0, f"order {index}: a reverse order that expires")
    return Order(index, low | high << 64, atoms, sequence, seat, last, bool(is_bid), kind, spread)


def read(data: bytes) -> Book:
    """Take a market's account apart, and check it whole.

    Raises
    ------
    InvalidMarketError
        The account breaks the layout: links that form no tree, a block in two places or in none,
        an order without a trader, or a wrong best order.
    """
    expect(len(data) >= HEADER_BYTES, f"{len(data)} bytes")
    (discriminant,) = struct.unpack_from("<Q", data)
    expect(discriminant == DISCRIMINANT, f"discriminant {discriminant}")
    sequence, size, *roots, seats_root, head, padding, volume = struct.unpack_from(
        "<QIIIIIIIIQ", data, 144
    )
    bid_root, bid_best, ask_root, ask_best = roots
    expect(size == len(data) - HEADER_BYTES, f"{size} bytes of blocks in {len(data)}")
    expect(size % BLOCK_BYTES == 0, f"{size} bytes of blocks")
    expect(not padding and not any(data[192:256]) and not any(data[13:16]), "padding of the header")

    walk = Walk(data)
    seats = {}
    nodes, _ = walk.tree(seats_root, SEAT)
    for index, block in nodes:
        trader = block[16:48]
        expect(not any(block[72:]), f"seat {index}: bytes behind it")
        seats[index] = Seat(index, trader, *struct.unpack_from("<QQQ", block, 48))
    traders = [each.trader for each in seats.values()]
    expect(traders == sorted(set(traders)), "seats out of order")

    sides = []
    for root, best, is_bid in ((bid_root, bid_best, True), (ask_root, ask_best, False)):
        nodes, _ = walk.tree(root, ORDER)
        orders = [_order(index, block) for index, block in nodes][::-1]
        expect(best == (orders[0].index if orders else NOWHERE), f"best of bids ({is_bid})")
        for each in orders:
            expect(each.is_bid == is_bid, f"order {each.index} on the wrong side")
            expect(each.seat in seats, f"order {each.index} of no seat")
            expect(each.sequence < sequence, f"order {each.index}: sequence {each.sequence}")
        sign = -1 if is_bid else 1
        prices = [sign * each.price for each in orders]
        expect(prices == sorted(prices), f"prices out of order ({is_bid})")
        sides.append(orders)
    bids, asks = sides
    numbers = [each.sequence for each in bids + asks]
    expect(len(numbers) == len(set(numbers)), "a sequence is used twice")
    free = walk.free(head)
    expect(len(walk.seen) == size // BLOCK_BYTES, "a block is in no tree and not free")
    return Book(seats, bids, asks, free, sequence, volume)
