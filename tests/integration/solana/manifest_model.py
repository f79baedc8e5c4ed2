"""A chain of one market in memory, with Manifest's instructions, answers and logs.

It speaks the methods of `RpcClient` that a submitter calls. It is no copy of the program: it is
what the documentation of the layouts says, so that the way from numbers on the chain to orders of
ours is run through where the program itself is not at hand.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, ClassVar

from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction

from velox.errors import RpcError
from velox.solana.net.rpc_types import (
    Account,
    Blockhash,
    SignatureInfo,
    SignatureStatus,
    TransactionInfo,
)
from velox.solana.venues.manifest.account import MARKET_DISCRIMINANT
from velox.solana.venues.manifest.events import FILL_EVENT, PLACE_EVENT
from velox.solana.venues.manifest.instructions import (
    MANIFEST_PROGRAM,
    NO_INDEX,
    OrderType,
    decode_batch_update,
)

OTHERS = Pubkey(b"\x09" * 32)
DIGITS = 18
INVALID_CANCEL, POST_ONLY_CROSSES = 3, 6
# Blocks above a block that is for good.
FINALIZED = 32


class Release(Enum):
    """The layouts of the program's logs, which changed twice."""

    OLD = auto()  # placements; fills without the mints
    MINTS = auto()  # placements; fills with the mints
    RETURNS = (
        auto()
    )  # the answer says what was placed, and the log repeats it; fills with the mints


@dataclass
class Resting:
    trader: Pubkey
    sequence: int
    price: int
    atoms: int
    is_bid: bool


BASE_MINT, QUOTE_MINT = Pubkey(b"\x06" * 32), Pubkey(b"\x07" * 32)
RICH = 10**15


def market_account(orders: list[Resting], seated: Iterable[Pubkey] = ()) -> bytes:
    """A market's account with these orders in its trees; the seats first, then the orders."""
    seats = {
        trader: 80 * at
        for at, trader in enumerate(dict.fromkeys([*seated, *(each.trader for each in orders)]))
    }
    # A chain of seats to the right.
    blocks = [
        struct.pack(
            "<IIIBB2x32sQQ16x",
            NO_INDEX,
            at + 80 if at + 80 < 80 * len(seats) else NO_INDEX,
            NO_INDEX,
            0,
            1,
            bytes(trader),
            RICH,
            RICH,
        )
        for trader, at in seats.items()
    ]

    def tree(some: list[Resting], parent: int) -> int:
        """Put them into a balanced tree, and return the index of its root."""
        if not some:
            return NO_INDEX
        middle = len(some) // 2
        each, index = some[middle], 80 * len(blocks)
        blocks.append(b"")
        left, right = tree(some[:middle], index), tree(some[middle + 1 :], index)
        node = struct.pack("<IIIBB2x", left, right, parent, 0, 2)
        low, high = each.price % 2**64, each.price >> 64
        numbers = each.atoms, each.sequence, seats[each.trader], 0, each.is_bid, OrderType.LIMIT
        blocks[index // 80] = node + struct.pack("<QQQQIIBB22x", low, high, *numbers)
        return index

    roots = [
        tree(sorted(side, key=lambda each: (each.price, each.sequence)), NO_INDEX)
        for side in (
            [each for each in orders if each.is_bid],
            [each for each in orders if not each.is_bid],
        )
    ]
    mints = bytes(BASE_MINT) + bytes(QUOTE_MINT)
    head = struct.pack("<QBBB5x64s64xQI", MARKET_DISCRIMINANT, 0, 9, 6, mints, 0, 80 * len(blocks))
    head += struct.pack("<IIII", roots[0], NO_INDEX, roots[1], NO_INDEX)
    head += struct.pack("<II", 0 if seats else NO_INDEX, NO_INDEX)
    return head.ljust(256, b"\0") + b"".join(blocks)


@dataclass
class ModelChain:
    """Every transaction executes in the slot after it was sent."""

    market: Pubkey
    balance: int = 10**12
    height: int = 1000
    orders: list[Resting] = field(default_factory=list)
    next_sequence: int = 1
    statuses: dict[Signature, SignatureStatus] = field(default_factory=dict)
    infos: dict[Signature, TransactionInfo] = field(default_factory=dict)
    raws: list[bytes] = field(default_factory=list)
    return_data_kept: bool = True
    logs_kept: bool = True
    release: Release = Release.RETURNS
    fill_padding: int = 14
    looks: int = 0
    # The error of the next transaction.
    fails_next: int | None = None
    seated: list[Pubkey] = field(default_factory=list)

    def tick(self) -> None:
        self.height += 1

    # RpcClient's

    wait_s: ClassVar = 0.0

    def get_genesis_hash(self) -> Hash:
        return Hash.default()

    def get_balance(self, pubkey: Pubkey) -> int:
        return self.balance

    def get_latest_blockhash(self) -> Blockhash:
        value = Hash(self.height.to_bytes(32, "little"))
        return Blockhash(value, self.height + 150, self.height)

    def get_block_height(self, commitment: str = "confirmed") -> int:
        return self.height

    def get_slot_and_height(self, commitment: str = "confirmed") -> tuple[int, int]:
        return self.height, self.height

    def get_signature_statuses(
        self, signatures: list[Signature], search_history: bool = False, *, least_slot: int = 0
    ) -> list[SignatureStatus | None]:
        found = [self.statuses.get(each) for each in signatures]
        return [
            replace(each, confirmation_status="finalized")
            if each is not None and self.height - each.slot >= FINALIZED
            else each
            for each in found
        ]

    def get_transaction(self, signature: Signature, commitment: str) -> TransactionInfo | None:
        return self.infos.get(signature)

    def get_signatures_for_address(self, address: Pubkey, **options: Any) -> list[SignatureInfo]:
        assert address == self.market
        raise RpcError("model", "getSignaturesForAddress", -32601, "Method not found")

    def get_account_info(
        self, pubkey: Pubkey, commitment: str, *, least_slot: int = 0
    ) -> Account | None:
        assert pubkey == self.market
        assert least_slot <= self.height
        self.looks += 1
        data = market_account(self.orders, self.seated)
        return Account(1, MANIFEST_PROGRAM, data, False, self.height)

    def send_transaction(self, raw: bytes, **options: Any) -> Signature:
        transaction = VersionedTransaction.from_bytes(raw)
        signature = transaction.signatures[0]
        if signature not in self.statuses:
            self.raws.append(raw)
            message = transaction.message
            self._execute(signature, message.account_keys[0], bytes(message.instructions[-1].data))
        return signature

    # Manifest's

    def _execute(self, signature: Signature, trader: Pubkey, data: bytes) -> None:
        _, cancels, places = decode_batch_update(data)
        before = [Resting(**vars(each)) for each in self.orders], self.next_sequence
        err, answers, events = None, [], []
        if self.fails_next is not None:
            err, self.fails_next = {"InstructionError": [2, {"Custom": self.fails_next}]}, None
        for cancel in cancels if err is None else ():
            mine = [each for each in self.orders if each.sequence == cancel.sequence]
            if not mine or mine[0].trader != trader:
                err = {"InstructionError": [2, {"Custom": INVALID_CANCEL}]}
                break
            self.orders.remove(mine[0])
        for place in places if err is None else ():
            price = place.price_mantissa * 10 ** (place.price_exponent + DIGITS)
            sequence, self.next_sequence = self.next_sequence, self.next_sequence + 1
            left = self._match(trader, place, price, sequence, events)
            if left is None:
                err = {"InstructionError": [2, {"Custom": POST_ONLY_CROSSES}]}
                break
            rests = left > 0 and place.order_type is not OrderType.IMMEDIATE_OR_CANCEL
            if rests:
                self.orders.append(Resting(trader, sequence, price, left, place.is_bid))
            index = sequence * 80 if rests else NO_INDEX
            answers.append(struct.pack("<QI", sequence, index))
            if self.release is not Release.RETURNS:
                events.append(self._placed(trader, place, price, sequence, index))
        if err is not None:
            self.orders, self.next_sequence = before
            answers, events = [], []
        answer = struct.pack("<I", len(answers)) + b"".join(answers)
        logs = [
            f"Program {MANIFEST_PROGRAM} invoke [1]",
            *(f"Program data: {base64.b64encode(each).decode()}" for each in events),
            f"Program return: {MANIFEST_PROGRAM} {base64.b64encode(answer).decode()}",
            f"Program {MANIFEST_PROGRAM} success",
        ]
        if self.release is not Release.RETURNS:
            del logs[-2]  # as a node that drops it: the events must do
        self.statuses[signature] = SignatureStatus(self.height, 0, err, "confirmed")
        self.infos[signature] = TransactionInfo(
            self.height,
            err,
            5000,
            tuple(logs) if self.logs_kept else None,
            1000,
            answer if self.return_data_kept and err is None else None,
        )

    def _match(
        self, trader: Pubkey, place: Any, price: int, sequence: int, events: list[bytes]
    ) -> int | None:
        """What is left of an order; None where a post-only one would match."""
        left = place.base_atoms
        against = [each for each in self.orders if each.is_bid is not place.is_bid]
        against.sort(key=lambda each: (-each.price if each.is_bid else each.price, each.sequence))
        for each in against:
            crosses = price >= each.price if place.is_bid else price <= each.price
            if not crosses or not left:
                break
            if place.order_type is OrderType.POST_ONLY:
                return None
            atoms = min(left, each.atoms)
            events.append(self._filled(trader, each, sequence, atoms, place.is_bid))
            left -= atoms
            each.atoms -= atoms
            if not each.atoms:
                self.orders.remove(each)
        return left

    def _placed(self, trader: Pubkey, place: Any, price: int, sequence: int, index: int) -> bytes:
        tail = struct.pack(
            "<QQIIBB6x", place.base_atoms, sequence, index, 0, place.order_type, place.is_bid
        )
        return (
            PLACE_EVENT + bytes(self.market) + bytes(trader) + price.to_bytes(16, "little") + tail
        )

    def _filled(
        self, taker: Pubkey, maker: Resting, sequence: int, atoms: int, taker_buys: bool
    ) -> bytes:
        quote = atoms * maker.price // 10**DIGITS
        keys = bytes(self.market) + bytes(maker.trader) + bytes(taker)
        if self.release is not Release.OLD:
            keys += b"\x06" * 32 + b"\x07" * 32
        tail = struct.pack("<QQQQBB", atoms, quote, maker.sequence, sequence, taker_buys, 0)
        tail += bytes(self.fill_padding)
        return FILL_EVENT + keys + maker.price.to_bytes(16, "little") + tail
