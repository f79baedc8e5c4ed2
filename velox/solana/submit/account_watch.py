"""What rests on the chain, as the market's own account has it.

Others fill our orders, and no transaction of ours tells of it. What the desk believes to rest is
held against the market's account: once after a start, where a failure casts doubt on it, before
what is left of an order is placed again, and now and then.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from solders.pubkey import Pubkey

from velox.errors import RateLimitedError, RecordError, RpcError, TransportError, VeloxError
from velox.solana.journal.file import SubmissionJournal
from velox.solana.journal.records import REMAINS_DTYPE, Remains
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import Commitment
from velox.solana.orders.queue import OrderBatch
from velox.solana.orders.working import RestingOrder, State, WorkingOrders
from velox.solana.submit.routing import Routes
from velox.solana.venues.manifest.account import resting_atoms
from velox.solana.venues.manifest.market import MarketSpec

__all__ = ["MarketWatch"]

# Polls between two looks at a market that nothing casts doubt on: half a minute, unless told.
POLLS_A_ROUND = 64
# Failures in a row after which the wait is that long, too.
MOST_FAILURES = 6


class Looks:
    """When and why a market is looked at.

    Attributes
    ----------
    spec : MarketSpec
    at_ns : int or None
        The last time.
    fresh : bool
        Whether that answered, and no transaction of ours was executed since.
    doubted, wanted : bool
        Whether what is believed to rest there may not be true; whether orders wait for it.
    failures : int
        In a row.
    """

    __slots__ = ("at_ns", "doubted", "failures", "fresh", "spec", "wanted")

    def __init__(self, spec: MarketSpec) -> None:
        self.spec = spec
        self.at_ns: int | None = None
        self.fresh = self.wanted = False
        self.doubted = True
        self.failures = 0


class MarketWatch:
    """Corrects what a desk believes to rest, and the journal with it.

    Parameters
    ----------
    rpc : RpcClient
    lanes : Routes
    desk : WorkingOrders
    journal : SubmissionJournal
    trader : Pubkey
    commitment : {"confirmed", "finalized"}
    poll_ns : int
        Least time between two looks at the same market, 64 times as long where nothing is in doubt.
    note : callable
        Is told of every error.

    Notes
    -----
    Thread-safety: one thread.
    """

    def __init__(
        self,
        rpc: RpcClient,
        lanes: Routes,
        desk: WorkingOrders,
        journal: SubmissionJournal,
        trader: Pubkey,
        *,
        commitment: Commitment,
        poll_ns: int,
        note: Callable[[VeloxError], None],
    ) -> None:
        self._rpc = rpc
        self._desk = desk
        self._journal = journal
        self._trader = trader
        self._commitment: Commitment = commitment
        self._poll_ns = poll_ns
        self._note = note
        self._slot = journal.unsettled.slot
        # Of the last duty cycle.
        self._now = 0
        self._markets = {
            index: Looks(spec)
            for index in range(len(lanes))
            if (spec := lanes[index].spec) is not None
        }

    def executed(self, slot: int) -> None:
        """Note a slot at which a transaction of ours was executed: earlier looks know less."""
        if slot > self._slot:
            self._slot = slot
            for each in self._markets.values():
                each.fresh = False
                if each.wanted and not each.failures:
                    # At once, or what waits would have to wait for a step with nothing executed.
                    each.at_ns = None

    def want(self, lane: int, wanted: bool) -> None:
        """Say whether orders wait for what a market says: until they do not, it is looked at."""
        if lane in self._markets:
            self._markets[lane].wanted = wanted

    def doubt(self, lane: int) -> None:
        """Have a market looked at, as soon as that may be."""
        if lane in self._markets:
            self._markets[lane].doubted = True

    def knows(self, lane: int) -> bool:
        """Whether a market was looked at within the last poll, or has no numbers to look up."""
        looks = self._markets.get(lane)
        if looks is None:
            return True
        return looks.fresh and looks.at_ns is not None and self._now - looks.at_ns <= self._poll_ns

    def look(self, now: int) -> int:
        """Look at the markets that it is time to look at; returns how many orders had changed."""
        self._now = now
        changed = 0
        for looks in self._markets.values():
            polls = 1 if looks.wanted or looks.doubted else POLLS_A_ROUND
            # A node that cannot say is asked less and less, and holds nothing else up.
            polls = min(POLLS_A_ROUND, polls << looks.failures)
            if looks.at_ns is None or now - looks.at_ns >= polls * self._poll_ns:
                looks.at_ns = now
                changed += self._look_at(looks)
        return changed

    def look_for(self, pack: OrderBatch) -> bool:
        """Forget what a pack was to cancel and is not in the market; whether that could be read.

        Parameters
        ----------
        pack : OrderBatch
            Its transaction has failed.
        """
        looks = self._markets.get(pack.lane)
        if looks is None:
            return True
        read = self._read(looks)
        if read is None:
            return False
        left, slot = read
        gone = [each for each in pack.cancels if (each.sequence or 0) not in left]
        self._note_changes([(each, 0) for each in gone], slot)
        return True

    def _look_at(self, looks: Looks) -> int:
        spec = looks.spec
        ours = [
            each
            for each in self._desk.resting()
            if each.market == spec.velox_market and each.sequence is not None
        ]
        if not ours:
            looks.doubted = False
            return 0
        read = self._read(looks)
        if read is None:
            return 0
        left, slot = read
        looks.doubted, looks.fresh = False, True
        changed = []
        for standing in ours:
            atoms = left.get(standing.sequence or 0, 0)
            # Less than a lot is still an order, which can be cancelled.
            lots = max(1, atoms // spec.lot_atoms) if atoms else 0
            if standing.state is State.RESTING:
                if lots == standing.chain:
                    standing.as_of = slot
                else:
                    changed.append((standing, lots))
        self._note_changes(changed, slot)
        return len(changed)

    def _read(self, looks: Looks) -> tuple[dict[int, int], int] | None:
        spec = looks.spec
        try:
            account = self._rpc.get_account_info(
                spec.market, self._commitment, least_slot=self._slot
            )
            if account is None:
                raise RecordError(f"market {spec.market}: there is no such account")
            found = resting_atoms(account.data, self._trader), account.slot
        except (TransportError, RateLimitedError, RpcError, RecordError) as error:
            self._note(error)
            looks.fresh = False
            looks.failures = min(looks.failures + 1, MOST_FAILURES)
            return None
        looks.failures = 0
        return found

    def _note_changes(self, changed: list[tuple[RestingOrder, int]], slot: int) -> None:
        rows = [(each.sequence or 0, lots, each.market, 0) for each, lots in changed]
        for standing, lots in changed:
            self._desk.correct(standing, lots, slot)
        if rows:
            self._journal.append(Remains(np.array(rows, REMAINS_DTYPE)))
