"""Two programs side by side: the same instructions, and everything that they do compared."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from solders.pubkey import Pubkey

from .extensions import fee, transfer_fee
from .generate import Generator, Step
from .wire import EVENTS, TOKEN, TOKEN_2022
from .world import MarketWorld, Outcome

STEPS_A_SESSION: Final = 1_000


@dataclass
class Difference:
    """One step on which the programs disagree."""

    seed: str
    number: int
    step: Step
    real: Outcome
    ours: Outcome
    what: str

    def __str__(self) -> str:
        return (
            f"session {self.seed}, step {self.number}, {self.step.kind}: {self.what}\n"
            f"  real: {self.real.error} {[each.hex() for each in self.real.events]}"
            f" {self.real.answer.hex()}\n"
            f"  ours: {self.ours.error} {[each.hex() for each in self.ours.events]}"
            f" {self.ours.answer.hex()}\n"
            f"  data {bytes(self.step.instruction.data).hex()}, payer {self.step.payer}\n"
            f"  accounts {[str(each.pubkey) for each in self.step.instruction.accounts]}"
        )


@dataclass
class Tally:
    """What was run: by kind of step, by error, by event."""

    steps: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    known: Counter[str] = field(default_factory=Counter)
    compute: dict[str, list[float]] = field(default_factory=dict)
    """By kind, the cost of successful steps on our program per unit on the real one."""


def known_difference(real: Outcome) -> str | None:
    """Return why the programs may differ here, or None where they may not."""
    if real.error is not None and "AccountBorrowFailed" in real.error:
        # The real program borrows accounts one by one; ours has no such notion.
        return "an account that is given twice"
    return None


class Session:
    """Worlds with the same market in each, and what is run in them. Not thread-safe.

    Parameters
    ----------
    programs : sequence of bytes
        The first one is what the generator looks at.
    seed : str
        Of everything in it.
    hostile : float
        The share of damaged steps.
    """

    def __init__(self, programs: Sequence[bytes], seed: str, hostile: float = 0.04) -> None:
        self.seed = seed
        rng = random.Random(seed)
        base_program = rng.choice([TOKEN, TOKEN, TOKEN, TOKEN_2022])
        quote_program = rng.choice([TOKEN, TOKEN, TOKEN, TOKEN_2022])
        deposits = rng.choice([10**15, 10**15, 10**15, 10**6, 2**60])
        extensions = [
            transfer_fee(
                fee(0, rng.choice([0, 3, 2**64 - 1]), rng.choice([0, 1, 300, 9_999, 10_000])),
                fee(rng.choice([0, 1]), rng.choice([1, 50, 2**40]), rng.randrange(2_000)),
            )
            if program == TOKEN_2022 and rng.random() < 0.4
            else (b"", b"")
            for program in (base_program, quote_program)
        ]
        self.worlds = [
            MarketWorld(
                program,
                traders=4,
                base_program=base_program,
                quote_program=quote_program,
                extensions=(extensions[0], extensions[1]),
                deposits=0,
            )
            for program in programs
        ]
        for world in self.worlds:
            for number in range(3):
                world.seat(number)
                for side in range(2):
                    world.move(2, number, side, deposits)
        self.generator = Generator(rng, hostile)
        world = self.worlds[0]
        self.watched: list[Pubkey] = [
            *world.vaults,
            *(key for pair in world.wallets for key in pair),
        ]

    def step(self) -> tuple[Step, list[Outcome]]:
        """Run the next step in each world."""
        step = self.generator.step(self.worlds[0])
        if step.slots:
            for world in self.worlds:
                world.enter_slot(world.slot + step.slots)
        return step, [each.send(step.instruction, payer=step.payer) for each in self.worlds]

    def run(self, steps: int, tally: Tally) -> Difference | None:
        """Run so many steps, or until the programs disagree."""
        for number in range(steps):
            step, (theirs, mine) = self.step()
            tally.steps += 1
            tally.kinds[step.kind] += 1
            tally.errors[f"{step.kind.split()[0]}: {theirs.error}"] += 1
            tally.events.update(EVENTS.get(each[:8], "?") for each in theirs.events)
            if theirs.error is None:
                tally.compute.setdefault(step.kind.split()[0], []).append(
                    mine.compute / theirs.compute
                )
            what = self.compare(theirs, mine)
            if what is None:
                continue
            reason = known_difference(theirs)
            if reason is None:
                return Difference(self.seed, number, step, theirs, mine, what)
            tally.known[reason] += 1
            self.align()
        return None

    def compare(self, theirs: Outcome, mine: Outcome) -> str | None:
        """Return the difference, or None."""
        # A failed instruction changes nothing; its logs and calls are compared too.
        for name in ("error", "events", "answer", "calls"):
            if getattr(theirs, name) != getattr(mine, name):
                return f"{name}: {getattr(theirs, name)} / {getattr(mine, name)}"
        return None if theirs.error is not None else self.compare_accounts()

    def compare_accounts(self) -> str | None:
        """Return which account differs, or None."""
        real, ours = self.worlds
        first, second = real.market_data(), ours.market_data()
        if first != second:
            pairs = enumerate(zip(first, second, strict=False))
            at = next((at for at, (a, b) in pairs if a != b), min(len(first), len(second)))
            return (
                f"market account of {len(first)} / {len(second)} bytes at {at}: "
                f"{first[at : at + 16].hex()} / {second[at : at + 16].hex()}"
            )
        for key in self.watched:
            if real.data(key) != ours.data(key):
                return f"token account {key}"
        for key in (real.market, *real.traders):
            if real.svm.get_balance(key) != ours.svm.get_balance(key):
                return f"lamports of {key}"
        return None

    def align(self) -> None:
        """Give ours the accounts of the real one."""
        real, ours = self.worlds
        for key in (real.market, *real.traders, *self.watched):
            ours.svm.set_account(key, real.svm.get_account(key))
