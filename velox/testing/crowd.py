"""Counterparties on the local market, at a rate, from a seed.

The crowd knows a fair price, which no other trader sees: a random walk in ticks. Its makers rest a
ladder of orders around it, and replace it now and then. Its takers buy and sell at once. The picker
takes quotes that are worse than the fair price, your quotes included.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from velox.core.units import NS_PER_S
from velox.errors import RecordError
from velox.solana.tx.carrier import Cancel
from velox.solana.venues.manifest.account import MarketAccount, MarketOrder
from velox.solana.venues.manifest.instructions import OrderType, Place, manifest_batch_update
from velox.testing.chain import Chain
from velox.testing.received import Received
from velox.testing.venue import LocalMarket, MarketPlan

__all__ = ["Crowd"]

# How far the fair price moves with each action, as a standard deviation in ticks, and which part
# of its distance from the first price it makes up for.
STEP_TICKS: Final = 1.5
RETURN: Final = 0.002
# Between a maker's first order and the fair price, in ticks.
HALF_SPREAD_TICKS: Final = 2
# How much worse than the fair price a taker accepts, in ticks.
TAKER_TICKS: Final = 12
# How far a quote must be on the wrong side of the fair price before the picker takes it, in ticks.
PICK_TICKS: Final = 2
MAX_LOTS: Final = 20
# The share of actions that are a taker's, and those that are the picker's; others are a maker's.
TAKER_SHARE, PICKER_SHARE = 0.35, 0.15
# At most so many actions in one block: a chain that stood still does not catch up at once.
MAX_ACTIONS: Final = 64


@dataclass(frozen=True, slots=True)
class _Member:
    """One of the crowd. Deriving a public key takes 0.1 ms, so it is kept."""

    keypair: Keypair
    pubkey: Pubkey

    @classmethod
    def of(cls, chain: Chain, name: str) -> _Member:
        keypair = chain.keypair(name)
        return cls(keypair, keypair.pubkey())


class Crowd:
    """Acts after each block, by transactions that land in the next.

    In a block they come before those of others, and no fault strikes them. Everything depends on
    the chain's seed, the plan, and what others do on the market.

    Parameters
    ----------
    chain : Chain
    market : LocalMarket
    plan : MarketPlan

    Attributes
    ----------
    makers, takers : tuple of Pubkey
    picker : Pubkey
    actions : int
        Transactions so far.
    """

    def __init__(self, chain: Chain, market: LocalMarket, plan: MarketPlan) -> None:
        self._market = market
        self._plan = plan
        self._rng = random.Random(bytes(chain.keypair("crowd").pubkey()))
        self._makers = [_Member.of(chain, f"maker {i}") for i in range(plan.makers)]
        self._takers = [_Member.of(chain, f"taker {i}") for i in range(plan.takers)]
        self._picker = _Member.of(chain, "picker")
        self.makers = tuple(each.pubkey for each in self._makers)
        self.takers = tuple(each.pubkey for each in self._takers)
        self.picker = self._picker.pubkey
        self.actions = 0
        self._fair = plan.price / plan.tick_size
        self._first_slot = chain.head.slot
        self._next_ns = 0.0
        # Transactions for the next block.
        self._quotes: list[Received] = []
        self._trades: list[Received] = []
        for pubkey in (*self.makers, *self.takers, self.picker):
            market.admit(pubkey)
        # Every maker quotes in the first block, so that the book is not empty.
        for maker in self._makers:
            self._quote(chain, maker, [])
        self._flush(chain)
        chain.listeners.append(self.act)

    @property
    def pubkeys(self) -> frozenset[Pubkey]:
        """The keys of all counterparties."""
        return frozenset((*self.makers, *self.takers, self.picker))

    def act(self, chain: Chain) -> None:
        """Act as often as is due. The chain calls it after each block, under its lock."""
        account = chain.svm.account(self._market.address)
        if account is None:
            return
        now_ns = (chain.head.slot - self._first_slot) * chain.slot_ns
        try:
            orders = list(MarketAccount(bytes(account.data)).orders())
        except RecordError:
            return  # a test put something else in its place
        # Each of them acts once in a block: a second message could repeat the first.
        idle = set(self.pubkeys)
        for _ in range(MAX_ACTIONS):
            if self._next_ns > now_ns:
                break
            self._next_ns += self._rng.expovariate(self._plan.crowd_rate_per_s) * NS_PER_S
            home = self._plan.price / self._plan.tick_size
            self._fair += self._rng.gauss(0.0, STEP_TICKS) + RETURN * (home - self._fair)
            self._fair = max(self._fair, float(HALF_SPREAD_TICKS + self._plan.levels + 1))
            self._one(chain, orders, idle)
        self._next_ns = max(self._next_ns, float(now_ns))
        self._flush(chain)

    def _flush(self, chain: Chain) -> None:
        """Send what was decided, makers first: a cancel fails if the order is filled before it."""
        for received in (*self._quotes, *self._trades):
            chain.accept_without_faults(received)
        self.actions += len(self._quotes) + len(self._trades)
        self._quotes.clear()
        self._trades.clear()

    def _one(self, chain: Chain, orders: Sequence[MarketOrder], idle: set[Pubkey]) -> None:
        share = self._rng.random()
        if share < PICKER_SHARE:
            if self.picker in idle and self._pick(chain, orders):
                idle.discard(self.picker)
            return
        some = self._takers if share < PICKER_SHARE + TAKER_SHARE else self._makers
        ready = [each for each in some if each.pubkey in idle]
        if not ready:
            return
        chosen = self._rng.choice(ready)
        idle.discard(chosen.pubkey)
        if some is self._takers:
            is_bid = self._rng.random() < 0.5
            limit = round(self._fair) + (TAKER_TICKS if is_bid else -TAKER_TICKS)
            self._send(chain, chosen, [], [self._place(is_bid, limit, self._size(), now=True)])
        else:
            own = [each for each in orders if each.trader == chosen.pubkey]
            self._quote(chain, chosen, own)

    def _quote(self, chain: Chain, maker: _Member, own: Sequence[MarketOrder]) -> None:
        """Replace a maker's orders by a new ladder around the fair price."""
        middle = round(self._fair)
        places = [
            self._place(is_bid, middle - away if is_bid else middle + away, self._size())
            for away in range(HALF_SPREAD_TICKS, HALF_SPREAD_TICKS + self._plan.levels)
            for is_bid in (True, False)
        ]
        cancels = [Cancel(each.sequence, each.index) for each in own]
        self._send(chain, maker, cancels, places)

    def _pick(self, chain: Chain, orders: Sequence[MarketOrder]) -> bool:
        """Take the best quote of others that is on the wrong side of the fair price, if any."""
        for each in orders:
            ticks = each.price / self._market.tick_price
            wrong = ticks - self._fair if each.is_bid else self._fair - ticks
            if each.trader != self.picker and wrong >= PICK_TICKS:
                lots = max(1, min(each.base_atoms // self._plan.lot_atoms, 10 * MAX_LOTS))
                limit = math.floor(ticks) if each.is_bid else math.ceil(ticks)
                place = self._place(not each.is_bid, limit, lots, now=True)
                self._send(chain, self._picker, [], [place])
                return True
        return False

    def _size(self) -> int:
        return self._rng.randint(1, MAX_LOTS)

    def _place(self, is_bid: bool, ticks: int, lots: int, *, now: bool = False) -> Place:
        mantissa, exponent = self._market.spec.price_to_chain(max(1, ticks) * self._plan.tick_size)
        return Place(
            lots * self._plan.lot_atoms,
            mantissa,
            exponent,
            is_bid,
            0,
            OrderType.IMMEDIATE_OR_CANCEL if now else OrderType.LIMIT,
        )

    def _send(
        self, chain: Chain, who: _Member, cancels: Sequence[Cancel], places: Sequence[Place]
    ) -> None:
        instruction = manifest_batch_update(who.pubkey, self._market.address, cancels, places)
        message = MessageV0.try_compile(who.pubkey, [instruction], [], chain.head.blockhash)
        received = Received(bytes(VersionedTransaction(message, [who.keypair])))
        (self._trades if who.pubkey not in self.makers else self._quotes).append(received)
