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
from velox.solana.conflation import Pack
from velox.solana.desk import Desk, Standing, State
from velox.solana.journal import SubmissionJournal
from velox.solana.journal_format import REMAINS_DTYPE, Remains
from velox.solana.lanes import Lanes
from velox.solana.manifest_market import resting_atoms
from velox.solana.market import MarketSpec
from velox.solana.rpc import Commitment, RpcClient

__all__ = ["MarketWatch"]

# Polls between two looks at a market that nothing casts doubt on: half a minute, unless told.
POLLS_A_ROUND = 64


class MarketWatch:
    """Corrects what a desk believes to rest, and the journal with it.

    Parameters
    ----------
    rpc : RpcClient
    lanes : Lanes
    desk : Desk
    journal : SubmissionJournal
    trader : Pubkey
    commitment : {"confirmed", "finalized"}
    poll_ns : int
        Least time between two looks at the same market, 64 times as long where nothing is in doubt.
    note : callable
        Is told of every error.

    Attributes
    ----------
    corrected : int
        Orders that had changed without our doing.

    Notes
    -----
    Thread-safety: one thread.
    """

    def __init__(
        self,
        rpc: RpcClient,
        lanes: Lanes,
        desk: Desk,
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
        self._slot = 0
        # By lane: its market, and when that was looked at last.
        self._looked = {
            index: (spec, -POLLS_A_ROUND * poll_ns)
            for index in range(len(lanes))
            if (spec := lanes[index].spec) is not None
        }
        self._doubted = set(self._looked)
        self._fresh: set[int] = set()
        self.corrected = 0

    def executed(self, slot: int) -> None:
        """Note a slot at which a transaction of ours was executed: earlier looks know less."""
        self._slot = max(self._slot, slot)
        self._fresh.clear()

    def doubt(self, lane: int) -> None:
        """Have a market looked at, as soon as that may be."""
        if lane in self._looked:
            self._doubted.add(lane)

    def knows(self, lane: int) -> bool:
        """Whether a market was looked at in this very step, or has no numbers to be looked up."""
        return lane in self._fresh or lane not in self._looked

    def look(self, now: int) -> int:
        """Look at the markets that it is time to look at; returns how many orders had changed."""
        self._fresh.clear()
        changed = 0
        for index, (spec, looked_ns) in self._looked.items():
            polls = 1 if index in self._doubted else POLLS_A_ROUND
            if now - looked_ns >= polls * self._poll_ns:
                self._looked[index] = spec, now
                changed += self._look_at(index, spec)
        return changed

    def look_for(self, pack: Pack) -> bool:
        """Forget what a pack was to cancel and is not in the market; whether that could be read.

        Parameters
        ----------
        pack : Pack
            Its transaction has failed.
        """
        if pack.lane not in self._looked:
            return True
        spec, _ = self._looked[pack.lane]
        left = self._read(spec)
        if left is None:
            return False
        gone = [each for each in pack.cancels if (each.sequence or 0) not in left]
        self._note_changes([(each, 0) for each in gone])
        return True

    def _look_at(self, index: int, spec: MarketSpec) -> int:
        ours = [
            each
            for each in self._desk.resting()
            if each.market == spec.velox_market and each.sequence is not None
        ]
        if not ours:
            self._doubted.discard(index)
            return 0
        left = self._read(spec)
        if left is None:
            return 0
        self._doubted.discard(index)
        self._fresh.add(index)
        changed = []
        for standing in ours:
            atoms = left.get(standing.sequence or 0, 0)
            # Less than a lot is still an order, which can be cancelled.
            lots = max(1, atoms // spec.lot_atoms) if atoms else 0
            if lots != standing.chain and standing.state is State.RESTING:
                changed.append((standing, lots))
        self._note_changes(changed)
        return len(changed)

    def _read(self, spec: MarketSpec) -> dict[int, int] | None:
        try:
            account = self._rpc.get_account_info(
                spec.market, self._commitment, least_slot=self._slot
            )
            if account is None:
                raise RecordError(f"market {spec.market}: there is no such account")
            return resting_atoms(account.data, self._trader)
        except (TransportError, RateLimitedError, RpcError, RecordError) as error:
            self._note(error)
            return None

    def _note_changes(self, changed: list[tuple[Standing, int]]) -> None:
        rows = [(each.sequence or 0, lots, each.market, 0) for each, lots in changed]
        for standing, lots in changed:
            self._desk.correct(standing, lots)
        if rows:
            self._journal.append(Remains(np.array(rows, REMAINS_DTYPE)))
            self.corrected += len(rows)
