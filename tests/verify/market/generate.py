"""Random instructions for a market: good ones, odd ones and hostile ones, from one seed.

A session has a character of its own: how prices lie, how large orders are, which types are common.
The generator sees the market's account as it is, so that cancels name real orders most of the time.
"""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from .wire import (
    BLOCK_BYTES,
    GLOBAL,
    HEADER_BYTES,
    IMMEDIATE_OR_CANCEL,
    LIMIT,
    POST_ONLY,
    PROGRAM,
    REVERSE,
    REVERSE_TIGHT,
    SYSTEM,
    Cancel,
    Place,
    batch_data,
    claim_seat,
    expand,
    metas,
)
from .world import MarketWorld, address

U32, U64 = 2**32 - 1, 2**64 - 1


@dataclass
class Step:
    """One transaction: its trader, its instruction, and the slots before it."""

    kind: str
    payer: Pubkey
    instruction: Instruction
    slots: int = 0


@dataclass
class Generator:
    """Makes steps for a world; the world is only read. Not thread-safe.

    Parameters
    ----------
    rng : random.Random
    hostile : float
        The share of steps whose data or accounts are damaged.
    """

    rng: random.Random
    hostile: float = 0.04
    character: str = field(init=False)

    def __post_init__(self) -> None:
        rng = self.rng
        self.character = rng.choice(
            ["dense", "dense", "reverse", "merge", "wide", "extreme", "tiny", "mixed"]
        )
        self.exponent = rng.choice([-18, -9, -4, -3, -1, 0, 3, 8])
        self.middle = rng.choice([10, 100, 1_000, 10**6, 2**31])
        self.spread = rng.choice([0, 1, 2, 5, 50, 1_000, 50_000, 65_535])
        if self.character == "merge":
            # Prices of few units, so that what comes back meets orders that are 1 off.
            self.exponent = -18
            self.middle = rng.choice([12, 100, 1_000, 40_000])
            self.spread = rng.choice([1, 100, 3_000, 50_000])

    def step(self, world: MarketWorld) -> Step:
        rng = self.rng
        number = rng.randrange(len(world.traders))
        kind = rng.choices(
            ["batch", "swap", "deposit", "withdraw", "expand", "seat"], [80, 12, 3, 3, 1, 1]
        )[0]
        instruction = getattr(self, f"_{kind}")(world, number)
        slots = rng.choice([0, 0, 0, 0, 0, 0, 0, 1, 1, 3])
        step = Step(kind, world.traders[number], instruction, slots)
        if rng.random() < self.hostile:
            step = self._damage(world, step)
        return step

    # Prices and sizes

    def _price(self) -> tuple[int, int]:
        rng = self.rng
        character = self.character
        if character == "mixed":
            character = rng.choice(["dense", "reverse", "wide", "extreme", "tiny"])
        if character == "extreme":
            return (
                rng.choice([0, 1, 2, 3, U32, U32 - 1, rng.randrange(2**32)]),
                rng.choice([-18, -17, 8, 7, 0, 3, 4, 9, -19, rng.randrange(-18, 9)]),
            )
        if character == "wide":
            return rng.randrange(1, 2**32), rng.randrange(-18, 9)
        if character == "tiny":
            return rng.randrange(1, 30), rng.choice([-18, -17, self.exponent])
        near = max(0, min(U32, self.middle + rng.randrange(-6, 7)))
        if rng.random() < 0.03:
            return rng.randrange(2**32), self.exponent
        return near, self.exponent

    def _atoms(self) -> int:
        rng = self.rng
        return rng.choice(
            [
                rng.randrange(1, 20) * (10**17 if self.character == "merge" else 1),
                rng.randrange(1, 20),
                rng.randrange(1, 10**4),
                rng.randrange(1, 10**9),
                rng.getrandbits(rng.randrange(1, 65)) if rng.random() < 0.3 else 7,
                0 if rng.random() < 0.1 else 5,
            ]
        )

    # What a trader sends

    def orders(self, world: MarketWorld) -> list[tuple[int, int, int]]:
        """Sequence, index and seat of each block that holds an order."""
        data = world.market_data()
        found = []
        for index in range(0, len(data) - HEADER_BYTES, BLOCK_BYTES):
            at = HEADER_BYTES + index
            if data[at + 13] == 2:
                sequence, seat = struct.unpack_from("<QI", data, at + 40)
                found.append((sequence, index, seat))
        return found

    def seat_index(self, world: MarketWorld, trader: Pubkey) -> int | None:
        data = world.market_data()
        for index in range(0, len(data) - HEADER_BYTES, BLOCK_BYTES):
            at = HEADER_BYTES + index
            if data[at + 13] == 1 and data[at + 16 : at + 48] == bytes(trader):
                return index
        return None

    def _hint(self, right: int | None) -> int | None:
        rng = self.rng
        roll = rng.random()
        if roll < 0.6 or right is None:
            return None if roll < 0.55 or right is not None else rng.choice([0, 80, 160])
        if roll < 0.97:
            return right
        return rng.choice([right + 80, right + 1, right + 40, max(0, right - 80), U32, U32 - 79, 0])

    def _batch(self, world: MarketWorld, number: int) -> Instruction:
        rng = self.rng
        trader = world.traders[number]
        cancels, places = [], []
        full = len(world.market_data()) > 60 * BLOCK_BYTES
        if rng.random() < (0.8 if full else 0.35):
            orders = self.orders(world)
            seat = self.seat_index(world, trader)
            own = [each for each in orders if each[2] == seat]
            rng.shuffle(own)
            for number_of, index, _ in own[: rng.randrange(1, 8 if full else 4)]:
                hint = index if rng.random() < 0.5 else None
                if rng.random() < 0.02:
                    hint = rng.choice([index + 80, index + 1, U32, U32 - 79, seat or 0, 0])
                sequence = number_of
                if rng.random() < 0.02:
                    sequence = rng.choice([sequence + 1, U64, 0, *(each[0] for each in orders[:3])])
                cancels.append(Cancel(sequence, hint))
        for _ in range(rng.choice([0, 1, 1, 1, 2, 3, 6])):
            mantissa, exponent = self._price()
            kind = rng.choices(
                [LIMIT, IMMEDIATE_OR_CANCEL, POST_ONLY, GLOBAL, REVERSE, REVERSE_TIGHT],
                [30, 15, 15, 0.1, 40, 40]
                if self.character in ("reverse", "merge")
                else [50, 15, 15, 0.1, 8, 8],
            )[0]
            last = 0
            if kind >= REVERSE:
                last = rng.choice(
                    [self.spread, self.spread, rng.randrange(2**16), rng.randrange(2**32)]
                )
                if rng.random() < 0.95:
                    exponent = min(exponent, 3 if kind == REVERSE else 0)
            elif rng.random() < 0.25:
                last = max(0, world.slot + rng.choice([1, 1, 2, 3, 5, 20]))
                if rng.random() < 0.05:
                    last = world.slot + rng.choice([-1, 0])
            places.append(Place(self._atoms(), mantissa, exponent, rng.random() < 0.5, last, kind))
        hint = None
        if rng.random() < 0.3:
            hint = self.seat_index(world, trader)
            if hint is not None and rng.random() < 0.03:
                hint = rng.choice([hint + 80, hint + 3, U32, U32 - 79, 0, 80, 160])
        accounts = metas((trader, "sw"), (world.market, "w"), (SYSTEM, ""))
        return Instruction(PROGRAM, batch_data(cancels, places, hint), accounts)

    def _swap(self, world: MarketWorld, number: int) -> Instruction:
        rng = self.rng
        base_in, exact_in = rng.random() < 0.5, rng.random() < 0.5
        given, wanted = self._atoms(), 0
        if exact_in:
            wanted = 0 if rng.random() < 0.7 else self._atoms()
        else:
            wanted, given = self._atoms(), rng.choice([10**12, 10**6, self._atoms()])
        return world.swap(
            number, given, wanted, base_in=base_in, exact_in=exact_in, v2=rng.random() < 0.3
        )

    def _move(self, tag: int, world: MarketWorld, number: int) -> Instruction:
        rng = self.rng
        atoms = rng.choice([0, 1, rng.randrange(10**6), rng.randrange(10**12), self._atoms()])
        hint = self._hint(self.seat_index(world, world.traders[number]))
        return world.transfer(tag, number, rng.randrange(2), atoms, seat=hint)

    def _deposit(self, world: MarketWorld, number: int) -> Instruction:
        return self._move(2, world, number)

    def _withdraw(self, world: MarketWorld, number: int) -> Instruction:
        return self._move(3, world, number)

    def _expand(self, world: MarketWorld, number: int) -> Instruction:
        free = self.rng.choice([None, 0, 1, 2, 3, 5, 128, 140])
        if len(world.market_data()) > 400 * BLOCK_BYTES and free is not None:
            free = min(free, 3)
        return expand(world.traders[number], world.market, free)

    def _seat(self, world: MarketWorld, number: int) -> Instruction:
        return claim_seat(world.traders[number], world.market)

    # Damage

    def _damage(self, world: MarketWorld, step: Step) -> Step:
        rng = self.rng
        old = step.instruction
        data, accounts = bytearray(old.data), list(old.accounts)
        roll = rng.randrange(8)
        if roll == 0:
            data = data[: rng.randrange(len(data) + 1)]
        elif roll == 1:
            data += rng.randbytes(rng.randrange(1, 5))
        elif roll == 2 and len(data) > 1:
            # Not the tag: other instructions want other accounts.
            data[rng.randrange(1, len(data))] = rng.randrange(256)
        elif roll == 3:
            del accounts[rng.randrange(len(accounts)) :]
        elif roll == 4:
            first, second = rng.randrange(len(accounts)), rng.randrange(len(accounts))
            accounts[first], accounts[second] = accounts[second], accounts[first]
        elif roll == 5:
            at = rng.randrange(len(accounts))
            key = rng.choice(
                [
                    address("stranger"),
                    PROGRAM,
                    SYSTEM,
                    world.market,
                    *world.mints,
                    *world.vaults,
                    *world.wallets[0],
                    *world.wallets[-1],
                    world.traders[0],
                    world.traders[-1],
                ]
            )
            before = accounts[at]
            accounts[at] = AccountMeta(key, before.is_signer, before.is_writable)
        elif roll == 6:
            at = rng.randrange(len(accounts))
            before = accounts[at]
            accounts[at] = AccountMeta(before.pubkey, False, before.is_writable)
        else:
            at = rng.randrange(len(accounts))
            before = accounts[at]
            accounts[at] = AccountMeta(before.pubkey, before.is_signer, False)
        # Another account pays the fee; otherwise the trader's rights would come from paying it.
        return Step(
            f"damaged {step.kind} {roll}",
            step.payer if rng.random() < 0.5 else world.fees,
            Instruction(PROGRAM, bytes(data), accounts),
            step.slots,
        )
