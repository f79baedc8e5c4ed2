"""Checks that any build of the market program must pass; each raises where it does not.

The tests run them on the shipped program, and on mutants, which must fail one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from solders.instruction import Instruction
from solders.pubkey import Pubkey

from tests.verify.market import walker
from tests.verify.market.compute import TOLERANCE, ComputeWorld, costs
from tests.verify.market.differential import Session
from tests.verify.market.hostile import RECORD as HOSTILE_RECORD
from tests.verify.market.hostile import run as run_hostile
from tests.verify.market.recorded import RECORD
from tests.verify.market.wire import (
    EVENTS,
    IMMEDIATE_OR_CANCEL,
    LIMIT,
    NOWHERE,
    POST_ONLY,
    REVERSE,
    REVERSE_TIGHT,
    Cancel,
    Place,
    batch,
    expand,
)
from tests.verify.market.world import MarketWorld, Outcome

MINT_BYTES: Final = 82
ONE: Final = 10**18
KNOWN_HOSTILE: Final = {("token-2022", "create: 0 base mint")}
"""Where the real program complains of an account that is borrowed twice."""


def custom(code: int) -> str:
    return f"TransactionErrorInstructionError((0, Tagged(InstructionErrorCustom({code}))))"


def builtin(name: str) -> str:
    return f"TransactionErrorInstructionError((0, Fieldless({name})))"


def fills(outcome: Outcome) -> list[tuple[int, int, int, int]]:
    """Price, base, quote and maker's sequence of each fill."""
    return [
        (
            int.from_bytes(each[168:184], "little"),
            *(int.from_bytes(each[at : at + 8], "little") for at in (184, 192, 200)),
        )
        for each in outcome.events
        if EVENTS[each[:8]] == "fill"
    ]  # type: ignore[misc]


def place(
    world: MarketWorld, number: int, *places: Place, cancels: tuple[Cancel, ...] = ()
) -> Outcome:
    return world.run(number, batch(world.traders[number], world.market, cancels, places))


def book(world: MarketWorld) -> walker.Book:
    """Read the market's account, checked; its funds must be in the vaults to the atom."""
    read = walker.read(world.market_data())
    vaults = tuple(world.balance(each) for each in world.vaults)
    assert vaults == (read.base, read.quote)
    return read


def check_first_in_first_out(program: bytes) -> None:
    world = MarketWorld(program)
    for number, atoms in ((0, 5), (1, 6), (0, 7)):
        assert place(world, number, Place(atoms, 3, 0, False)).error is None
    assert place(world, 1, Place(1, 2, 0, False), Place(9, 4, 0, False)).error is None
    done = place(world, 2, Place(20, 4, 0, True, 0, IMMEDIATE_OR_CANCEL))
    assert [(price // 10**18, base, maker) for price, base, _, maker in fills(done)] == [
        (2, 1, 3),
        (3, 5, 0),
        (3, 6, 1),
        (3, 7, 2),
        (4, 1, 4),
    ]
    (left,) = book(world).asks
    assert (left.atoms, left.price) == (8, 4 * 10**18)


def check_rounding(program: bytes) -> None:
    """The payment for 7 at a price of 1.5 is rounded depending on the payer and the rest."""
    for maker_bids, atoms, expected in (
        (True, 7, 11),
        (True, 3, 4),
        (False, 7, 10),
        (False, 3, 5),
    ):
        world = MarketWorld(program, deposits=10**6)
        assert place(world, 0, Place(7, 15, -1, maker_bids)).error is None
        before = book(world).seat_of(world.traders[0])
        if maker_bids:
            assert before.quote == 10**6 - 11
        done = place(world, 1, Place(atoms, 15, -1, not maker_bids, 0, IMMEDIATE_OR_CANCEL))
        assert [(base, quote) for _, base, quote, _ in fills(done)] == [(atoms, expected)]
        after = book(world)
        taker = after.seat_of(world.traders[1])
        sign = -1 if maker_bids else 1
        assert (taker.base, taker.quote) == (10**6 + sign * atoms, 10**6 - sign * expected)
        assert after.volume == expected == taker.volume


def check_bonus(program: bytes) -> None:
    """A bid that is hit in part releases the quote that it no longer locks."""
    world = MarketWorld(program, deposits=10**6)
    place(world, 0, Place(7, 15, -1, True))
    place(world, 1, Place(3, 15, -1, False, 0, IMMEDIATE_OR_CANCEL))
    # 11 were locked; 4 are paid, 6 stay locked for 4 at 1.5, and 1 comes back.
    assert book(world).seat_of(world.traders[0]).quote == 10**6 - 11 + 1


def check_expiry(program: bytes) -> None:
    world = MarketWorld(program)
    slot = world.slot
    for last in (slot + 1, slot + 2):
        assert place(world, 0, Place(5, 3, 0, False, last)).error is None
    assert place(world, 0, Place(5, 3, 0, False, slot)).error == custom(7)
    # It still fills in its last slot.
    world.enter_slot(slot + 1)
    done = place(world, 1, Place(2, 3, 0, True, 0, IMMEDIATE_OR_CANCEL))
    assert [(base, maker) for _, base, _, maker in fills(done)] == [(2, 0)]
    # Then it goes, and its funds are free; the next one fills.
    world.enter_slot(slot + 2)
    done = place(world, 1, Place(2, 3, 0, True, 0, IMMEDIATE_OR_CANCEL))
    assert [(base, maker) for _, base, _, maker in fills(done)] == [(2, 1)]
    assert [each.sequence for each in book(world).asks] == [1]
    world.enter_slot(slot + 3)
    assert fills(place(world, 1, Place(2, 3, 0, True, 0, POST_ONLY))) == []
    after = book(world)
    assert after.asks == []
    assert after.seat_of(world.traders[0]).base == 10**15 - 4


def check_cancels(program: bytes) -> None:
    world = MarketWorld(program)
    placed = place(world, 0, Place(5, 3, 0, False), Place(6, 2, 0, True)).placed
    (first, at), (second, other) = placed
    for cancel, error in (
        (Cancel(second + 1), custom(3)),
        (Cancel(first, other), custom(10)),
        (Cancel(first, at + 1), custom(10)),
        (Cancel(first, 0), custom(10)),
        (Cancel(first, 80 * 10_000), builtin("ProgramFailedToComplete")),
        (Cancel(first, NOWHERE), custom(10)),
    ):
        assert place(world, 0, cancels=(cancel,)).error == error, cancel
    for cancel, error in ((Cancel(first), custom(3)), (Cancel(first, at), custom(10))):
        assert place(world, 1, cancels=(cancel,)).error == error, cancel
    done = place(world, 0, cancels=(Cancel(first, at), Cancel(second)))
    assert done.error is None
    assert [EVENTS[each[:8]] for each in done.events] == ["cancel", "cancel"]
    after = book(world)
    assert (after.bids, after.asks) == ([], [])
    seat = after.seat_of(world.traders[0])
    assert (seat.base, seat.quote) == (10**15, 10**15)


def check_reverse(program: bytes) -> None:
    """What is filled of a reverse order comes back on the other side, at the spread."""
    world = MarketWorld(program)
    # 10 000 of 100 000 less: from a bid at 90 comes an ask at 100.
    assert place(world, 0, Place(10, 90, 0, True, 10_000, REVERSE)).error is None
    for _ in range(2):
        place(world, 1, Place(3, 90, 0, False, 0, IMMEDIATE_OR_CANCEL))
    after = book(world)
    assert [(each.atoms, each.price) for each in after.bids] == [(4, 90 * 10**18)]
    assert [(each.atoms, each.price, each.type) for each in after.asks] == [
        (6, 100 * 10**18, REVERSE)
    ]
    # The order that came back took a number of its own, before the taker's.
    assert (after.asks[0].sequence, after.next_sequence) == (1, 4)
    place(world, 1, Place(6, 100, 0, True, 0, IMMEDIATE_OR_CANCEL))
    after = book(world)
    # 600 quote atoms are bid at 90 again: 6 more, into the bid of the same price.
    assert [(each.atoms, each.price) for each in after.bids] == [(10, 90 * 10**18)]
    assert after.asks == []
    assert place(world, 0, Place(10, 90, 4, True, 1, REVERSE)).error == custom(103)
    assert place(world, 0, Place(10, 90, 1, True, 1, REVERSE_TIGHT)).error == custom(103)


def check_growth(program: bytes) -> None:
    """A batch that grows the market more than once, each time by a call."""
    world = MarketWorld(program)
    size = len(world.market_data())
    done = place(world, 0, *(Place(5, price, 0, False) for price in range(1, 6)))
    assert done.error is None
    assert len(done.calls) == 5
    assert len(world.market_data()) == size + 5 * 80
    assert len(book(world).free) == 1


def check_sums(program: bytes) -> None:
    """A trader buys its own orders, each for almost 2^62 quote atoms; five are too much."""
    for count, error in ((4, None), (5, custom(14))):
        world = MarketWorld(program, deposits=2**62)
        asks = [Place(2**30, 2**32 - 1, 0, False) for _ in range(count)]
        assert place(world, 1, *asks).error is None
        taken = Place(count * 2**30, 2**32 - 1, 0, True, 0, IMMEDIATE_OR_CANCEL)
        assert place(world, 1, taken).error == error


def check_merged_sums(program: bytes) -> None:
    """A reverse order that comes back joins another up to 2^64 - 1 base atoms together.

    An ask of 2 atoms at 2e-18 is bought in part: 1 atom for 1 quote atom. That comes back as a bid
    for 10^18 base atoms at 1e-18, where a bid of the same seat and type rests.
    """
    maker, other = 0, 1
    for total, taker, error in (
        (2**64 - 1, other, None),
        (2**64, other, custom(14)),
        # The maker buys from itself with no quote atoms left to lock: the sum is checked first.
        (2**64 - 1, maker, builtin("InsufficientFunds")),
        (2**64, maker, custom(14)),
    ):
        world = MarketWorld(program, traders=2, deposits=0)
        world.seat(maker)
        world.seat(other)
        world.move(2, maker, 0, 2)
        # The resting bid locks 18 quote atoms.
        world.move(2, maker, 1, 18)
        world.move(2, other, 1, 1)
        bid = Place(total - 10**18, 1, -18, True, 50_000, REVERSE)
        ask = Place(2, 2, -18, False, 50_000, REVERSE)
        assert place(world, maker, bid, ask).error is None
        done = place(world, taker, Place(1, 2, -18, True, 0, IMMEDIATE_OR_CANCEL))
        assert done.error == error, (total, taker)
        assert [(base, quote) for _, base, quote, _ in fills(done)] == [(1, 1)]
        (left,) = book(world).bids
        assert left.atoms == (2**64 - 1 if error is None else total - 10**18)


def check_trees(program: bytes) -> None:
    """Every account that random instructions leave behind is whole, and its funds are there."""
    for seed in ("checks/0", "checks/1", "checks/2", "checks/3"):
        check_session(program, seed, 150)


def check_session(program: bytes, seed: str, steps: int, hostile: float = 0.1) -> None:
    session = Session([program], seed, hostile)
    (world,) = session.worlds
    # A transfer fee lets a swap leave more or less in a vault, as the real program does.
    with_fees = [len(world.data(mint)) > MINT_BYTES for mint in world.mints]
    before = [0, 0]
    for number in range(steps):
        step, (outcome,) = session.step()
        where = f"{seed}, step {number}, {step.kind}"
        if outcome.error is not None:
            continue
        try:
            read = walker.read(world.market_data())
        except walker.InvalidMarketError as error:
            raise AssertionError(f"{where}: {error}") from error
        left = [
            world.balance(world.vaults[0]) - read.base,
            world.balance(world.vaults[1]) - read.quote,
        ]
        allowed = (0, merged_atoms(read, step.instruction, outcome))
        for side, most in enumerate(allowed):
            if not (with_fees[side] and "swap" in step.kind):
                change = left[side] - before[side]
                # A swap that pays into the vault itself gives the atoms away.
                gift = "swap" in step.kind and is_named_twice(world.vaults[side], step.instruction)
                assert -most <= change, f"{where}: {change} atoms of side {side}"
                assert gift or change <= most, f"{where}: {change} atoms of side {side}"
        before = left


def is_named_twice(key: Pubkey, instruction: Instruction) -> bool:
    """Whether an instruction names an account more than once."""
    return [each.pubkey for each in instruction.accounts].count(key) > 1


def merged_atoms(read: walker.Book, instruction: Instruction, outcome: Outcome) -> int:
    """Return how many quote atoms more or less a vault may hold after merges of reverse orders.

    What comes back locks at its own price, and joins an order whose price may be 1 off: an atom for
    each 10^18 base atoms, and one for the rounding. So it is in the real program.
    """
    fills = [each for each in outcome.events if EVENTS[each[:8]] == "fill"]
    reverse = [each for each in (*read.bids, *read.asks) if each.type >= REVERSE]
    if not reverse and not has_reverse(instruction.data):
        return 0
    bids = [each.atoms for each in reverse if each.is_bid]
    traded = [int.from_bytes(each[184:192], "little") for each in fills]
    return len(fills) * (1 - -max([*bids, *traded], default=0) // ONE)


def has_reverse(data: bytes) -> bool:
    """Whether a batch may place a reverse order: its places end in their types."""
    return data[:1] == b"\6" and any(kind in data for kind in (REVERSE, REVERSE_TIGHT))


def check_hostile(program: bytes) -> None:
    recorded = json.loads(HOSTILE_RECORD.read_text(encoding="utf-8"))
    wrong = [
        f"{kind}: {name}: {cases[name]} / {error}"
        for kind, cases in recorded.items()
        for name, error in run_hostile(program, kind).items()
        if cases[name] != error and (kind, name) not in KNOWN_HOSTILE
    ]
    assert not wrong, wrong[:5]


def check_compute(program: bytes, books: tuple[int, ...] = (0, 50)) -> None:
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))["compute"]
    for orders in books:
        for name, units in costs(ComputeWorld(program, orders)).items():
            real = recorded[f"{name}, {orders}"]
            assert abs(units / real - 1) <= TOLERANCE, f"{name}, {orders}: {units} for {real}"


def check_many_orders(program: bytes, orders: int = 10_000) -> None:
    """A book of so many: any of them is found, filled and cancelled, and all stays whole."""
    world = ComputeWorld(program, orders)
    read = book(world)
    assert len(read.bids) + len(read.asks) == orders
    far = read.bids[-1]
    assert place(world, 0, cancels=(Cancel(far.sequence),)).error is None
    (best, *_) = read.asks
    taken = Place(best.atoms * 30, 2**32 - 1, 0, True, 0, IMMEDIATE_OR_CANCEL)
    done = place(world, 1, taken)
    assert len(fills(done)) == 30
    assert [each.sequence for each in book(world).asks] == [
        each.sequence for each in read.asks[30:]
    ]
    assert world.run(1, expand(world.traders[1], world.market, 60)).error is None
    done = place(world, 2, *(Place(1, 1, -10, True, 0, LIMIT) for _ in range(49)))
    read = book(world)
    seat = read.seat_of(world.traders[2]).index
    assert [sequence for sequence, _ in done.placed] == sorted(
        each.sequence for each in read.bids if each.seat == seat
    )


CHECKS: Final[dict[str, Callable[[bytes], None]]] = {
    each.__name__.removeprefix("check_"): each
    for each in (
        check_first_in_first_out,
        check_rounding,
        check_bonus,
        check_expiry,
        check_cancels,
        check_reverse,
        check_growth,
        check_sums,
        check_merged_sums,
        check_trees,
        check_hostile,
        check_compute,
        check_many_orders,
    )
}
