"""What each kind of instruction costs, on the real program and on ours.

``python -m tests.verify.market.compute`` prints the table; `measure` makes it for one program.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from solders.account import Account
from solders.instruction import Instruction

from velox.testing.market import MARKET_PROGRAM

from .wire import (
    HEADER_BYTES,
    IMMEDIATE_OR_CANCEL,
    LIMIT,
    POST_ONLY,
    PROGRAM,
    REVERSE,
    REVERSE_TIGHT,
    TOKEN,
    TOKEN_2022,
    Cancel,
    Place,
    batch,
    claim_seat,
    create,
    expand,
)
from .world import MarketWorld, address

BOOKS: Final = (0, 50, 2_000, 10_000)
TOLERANCE: Final = 0.15
ORDERS_A_BATCH: Final = 80
MIDDLE: Final = 1_000_000
"""Mantissa of the middle price; with `EXPONENT` an order of 10^6 base atoms costs 10^6 quote."""
EXPONENT: Final = -6
ATOMS: Final = 1_000_000


class ComputeWorld(MarketWorld):
    """A market with a book of so many orders, half of them bids, at different prices."""

    def __init__(self, program: bytes, orders: int, *, owner: object = TOKEN, kind: int = LIMIT):
        super().__init__(program, traders=4, deposits=0, base_program=owner, quote_program=owner)
        rng = random.Random(orders)
        for number in range(3):
            self.seat(number)
            for side in range(2):
                self.move(2, number, side, 10**15)
        steps = list(range(1, orders // 2 + 1))
        rng.shuffle(steps)
        places = [
            self.place(step if bid else -step, bid=bid, kind=kind)
            for step in steps
            for bid in (True, False)
        ]
        self.orders: list[tuple[int, int]] = []
        maker = self.traders[0]
        for first in range(0, len(places), ORDERS_A_BATCH):
            self.room(ORDERS_A_BATCH + 1)
            done = self.run(
                0, batch(maker, self.market, (), places[first : first + ORDERS_A_BATCH])
            )
            assert done.error is None, done.error
            self.orders += done.placed
        # Room: what grows the market is measured apart.
        self.room(40)

    def room(self, blocks: int) -> None:
        """Let so many blocks be free."""
        done = self.run(0, expand(self.traders[0], self.market, blocks))
        assert done.error is None, done.error

    def place(
        self, away: int, *, bid: bool, kind: int = LIMIT, atoms: int = ATOMS, last: int = 0
    ) -> Place:
        """An order so many steps below the middle (bids are below it; below 0 is above)."""
        return Place(atoms, MIDDLE - 10 * away, EXPONENT, bid, last, kind)


def batch_of(
    world: ComputeWorld, places: list[Place], cancels: list[Cancel] | None = None, number: int = 1
) -> Instruction:
    return batch(world.traders[number], world.market, cancels or [], places)


def some_orders(world: ComputeWorld, count: int) -> list[tuple[int, int]]:
    return random.Random(1).sample(world.orders, count)


def kinds(world: ComputeWorld) -> dict[str, tuple[int, Instruction]]:
    """The instructions that this book allows, with their traders."""
    most = len(world.orders) // 2
    of = partial(batch_of, world)
    far, near = most + 5, most // 2
    made: dict[str, tuple[int, Instruction]] = {
        "empty batch": (1, of([])),
        "place a bid, last": (1, of([world.place(far, bid=True)])),
        "place an ask, last": (1, of([world.place(-far, bid=False)])),
        "place a bid, between": (1, of([world.place(near, bid=True, atoms=77)])),
        "place, post-only": (1, of([world.place(0, bid=True, kind=POST_ONLY)])),
        "place, expires": (1, of([world.place(near, bid=True, last=5_000)])),
        "place, reverse": (1, of([world.place(near, bid=True, kind=REVERSE, last=10)])),
        "place nothing (IOC)": (1, of([world.place(far, bid=True, kind=IMMEDIATE_OR_CANCEL)])),
        "16 places": (1, of([world.place(far + step, bid=True) for step in range(16)])),
        "seat": (3, claim_seat(world.traders[3], world.market)),
        "deposit": (1, world.transfer(2, 1, 0, 10**6)),
        "withdraw": (1, world.transfer(3, 1, 1, 10**6)),
        "expand by 1": (1, expand(world.traders[1], world.market, 41)),
        "expand by 10": (1, expand(world.traders[1], world.market, 50)),
    }
    if most:
        first = some_orders(world, 1)[0]
        asks, bids = [world.place(-most, bid=True, kind=IMMEDIATE_OR_CANCEL)], None
        bids = [world.place(most, bid=False, kind=IMMEDIATE_OR_CANCEL)]
        made |= {
            "cancel, hint": (0, of([], [Cancel(*first)], 0)),
            "cancel, search": (0, of([], [Cancel(first[0])], 0)),
            "16 + 16, hints": (
                0,
                of(
                    [world.place(most + 5 + step, bid=True) for step in range(16)],
                    [Cancel(*each) for each in some_orders(world, 16)],
                    0,
                ),
            ),
            "IOC buys 1, in part": (1, of([asks[0]._replace(atoms=ATOMS // 3)])),
            "IOC sells 1, in part": (1, of([bids[0]._replace(atoms=ATOMS // 3)])),
            "IOC buys 10": (1, of([asks[0]._replace(atoms=10 * ATOMS)])),
            "IOC sells 10": (1, of([bids[0]._replace(atoms=10 * ATOMS)])),
            "limit takes 3 and rests": (
                1,
                of([world.place(-3, bid=True, atoms=5 * ATOMS)]),
            ),
            "swap: exact base in": (1, world.swap(1, 2 * ATOMS, 0, base_in=True, exact_in=True)),
            "swap: exact quote in": (1, world.swap(1, 2 * ATOMS, 0, base_in=False, exact_in=True)),
            "swap: exact quote out": (
                1,
                world.swap(1, 10**9, 2 * ATOMS, base_in=True, exact_in=False),
            ),
            "swap: exact base out": (
                1,
                world.swap(1, 10**9, 2 * ATOMS, base_in=False, exact_in=False),
            ),
            "swap v2, no seat": (
                3,
                world.swap(3, 2 * ATOMS, 0, base_in=True, exact_in=True, v2=True),
            ),
        }
    return made


def costs(world: ComputeWorld) -> dict[str, int]:
    """Units of each kind; the world is as before afterwards."""
    kept = {
        key: world.svm.get_account(key)
        for key in (world.market, *world.vaults, *(key for pair in world.wallets for key in pair))
    }
    told = {}
    for name, (number, instruction) in kinds(world).items():
        done = world.run(number, instruction)
        assert done.error is None, (name, done.error, done.logs)
        told[name] = done.compute
        for key, account in kept.items():
            world.svm.set_account(key, account)
    return told


def full_place(program: bytes) -> int:
    """A place that grows the market."""
    world = MarketWorld(program)
    return world.run(0, batch(world.traders[0], world.market, (), [Place(10, 1, 0, True)])).compute


def creation(program: bytes, owner: object) -> int:
    world = ComputeWorld(program, 0, owner=owner)
    key = address("another market")
    world.svm.set_account(key, Account(10**7, bytes(HEADER_BYTES), PROGRAM))
    done = world.run(0, create(world.traders[0], key, *world.mints))
    assert done.error is None
    return done.compute


def reverse(program: bytes, kind: int, *, again: bool) -> int:
    """A sale to a reverse bid; the second one of the same price is merged."""
    world = ComputeWorld(program, 4, kind=kind)
    sale = batch_of(
        world, [Place(ATOMS // 4, MIDDLE - 10, EXPONENT, False, 0, IMMEDIATE_OR_CANCEL)]
    )
    done = world.run(1, sale)
    if again:
        done = world.run(1, sale)
    assert done.error is None
    return done.compute


def expired(program: bytes) -> int:
    """A place that meets five expired orders."""
    world = ComputeWorld(program, 0)
    asks = [world.place(-step, bid=False, last=1_010) for step in range(5)]
    assert world.run(0, batch_of(world, asks, number=0)).error is None
    world.enter_slot(1_011)
    done = world.run(1, batch_of(world, [world.place(-2, bid=True)]))
    assert done.error is None
    return done.compute


def tokens_2022(program: bytes, name: str) -> int:
    return costs(ComputeWorld(program, 0, owner=TOKEN_2022))[name]


OTHERS: Final[dict[str, Callable[[bytes], int]]] = {
    "place that grows": full_place,
    "create": partial(creation, owner=TOKEN),
    "create, Token-2022": partial(creation, owner=TOKEN_2022),
    "deposit, Token-2022": partial(tokens_2022, name="deposit"),
    "withdraw, Token-2022": partial(tokens_2022, name="withdraw"),
    "reverse, comes back": partial(reverse, kind=REVERSE, again=False),
    "reverse, is merged": partial(reverse, kind=REVERSE, again=True),
    "tight reverse, comes back": partial(reverse, kind=REVERSE_TIGHT, again=False),
    "meets 5 expired": expired,
}


def measure(program: bytes, books: tuple[int, ...] = BOOKS) -> dict[tuple[str, int], int]:
    """Units by kind of instruction and orders in the book; -1 where the book does not matter."""
    told = {(name, -1): ask(program) for name, ask in OTHERS.items()}
    for orders in books:
        for name, units in costs(ComputeWorld(program, orders)).items():
            told[name, orders] = units
    return told


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.verify.market.compute", description=__doc__
    )
    parser.add_argument("--ours", type=Path, default=MARKET_PROGRAM)
    parser.add_argument("--books", type=int, nargs="*", default=list(BOOKS))
    asked = parser.parse_args()
    real = measure(Path(os.environ["VELOX_MANIFEST_SO"]).read_bytes(), tuple(asked.books))
    ours = measure(asked.ours.read_bytes(), tuple(asked.books))
    worst = 0.0
    print(f"{'instruction':28} {'orders':>7} {'real':>9} {'ours':>9} {'off':>7}")
    for (name, orders), units in sorted(real.items()):
        off = ours[name, orders] / units - 1
        worst = max(worst, abs(off))
        shown = "" if orders < 0 else orders
        print(f"{name:28} {shown!s:>7} {units:9} {ours[name, orders]:9} {off:+7.1%}")
    print(f"worst: {worst:.1%}")
    return 1 if worst > TOLERANCE else 0


if __name__ == "__main__":
    sys.exit(main())
