"""Compares our resting orders with the venue's account on the chain.

Our transactions do not show fills of our orders by other traders. So the account is read: at a
start, after a failure, after our transactions, before a part of an order is placed again, and from
time to time while our orders rest.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from solders.pubkey import Pubkey

from velox.errors import (
    MarketError,
    RateLimitedError,
    RecordError,
    RpcError,
    TransportError,
    VeloxError,
)
from velox.solana.journal.file import SubmissionJournal
from velox.solana.journal.records import REMAINS_DTYPE, Remains
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import Commitment
from velox.solana.orders.queue import OrderBatch
from velox.solana.orders.working import RestingOrder, State, WorkingOrders
from velox.solana.submit.fill_watch import FillWatch
from velox.solana.submit.routing import Routes
from velox.solana.tx.carrier import Carrier, VenueOrder, VenueState

__all__ = ["AccountWatch"]

# Polls between two reads of an account that is not in doubt: half a minute by default.
POLLS_A_ROUND = 64
# After so many failures in a row the wait is that long, too.
MOST_FAILURES = 6


class WatchedAccount:
    """When and why an account is read.

    Attributes
    ----------
    route : int
    carrier : Carrier
    at_ns : int or None
        When it was last read.
    fresh : bool
        Whether that read succeeded, and none of our transactions was executed since.
    doubted : bool
        Whether our resting orders may differ from the account.
    wanted : bool
        Whether orders wait for the account to be read.
    failures : int
        Failed reads in a row.
    state : VenueState or None
        What it held when it was last read.
    """

    __slots__ = ("at_ns", "carrier", "doubted", "failures", "fresh", "route", "state", "wanted")

    def __init__(self, route: int, carrier: Carrier) -> None:
        self.route = route
        self.carrier = carrier
        self.at_ns: int | None = None
        self.fresh = self.wanted = False
        self.doubted = True
        self.failures = 0
        self.state: VenueState | None = None


class AccountWatch:
    """Corrects the working orders and the journal by the venues' accounts.

    Parameters
    ----------
    rpc : RpcClient
    routes : Routes
    working : WorkingOrders
    journal : SubmissionJournal
    trader : Pubkey
    commitment : {"confirmed", "finalized"}
    poll_ns : int
        Least time between two reads of an account.
    note : callable
        Called with every error.
    round_polls : int
        How many times as long it is without doubt, while our orders rest.
    fills : FillWatch, optional
        Told of every state that was read.

    Notes
    -----
    Thread-safety: one thread.
    """

    def __init__(
        self,
        rpc: RpcClient,
        routes: Routes,
        working: WorkingOrders,
        journal: SubmissionJournal,
        trader: Pubkey,
        *,
        commitment: Commitment,
        poll_ns: int,
        note: Callable[[VeloxError], None],
        round_polls: int = POLLS_A_ROUND,
        fills: FillWatch | None = None,
    ) -> None:
        self._rpc = rpc
        self._working = working
        self._journal = journal
        self._trader = trader
        self._commitment: Commitment = commitment
        self._poll_ns = poll_ns
        self._round_polls = round_polls
        self._fills = fills
        self._note = note
        self._slot = journal.state.slot
        # The time of the last duty cycle.
        self._now = 0
        self._accounts = {
            index: WatchedAccount(index, routes[index].carrier)
            for index in range(len(routes))
            if routes[index].carrier.account is not None
        }

    def begin(self) -> None:
        """Read every account, and refuse one on which the trader cannot trade.

        Raises
        ------
        MarketError
            An account contradicts its carrier; the message names both values. Or it cannot be read.
        TransportError, RateLimitedError, RpcError
            The node does not return an account.
        """
        for watched in self._accounts.values():
            carrier = watched.carrier
            assert carrier.account is not None
            if self._fills is not None:
                self._fills.prepare(watched.route)
            account = self._rpc.get_account_info(
                carrier.account, self._commitment, least_slot=self._slot
            )
            if account is None:
                raise MarketError(
                    "does not exist on the chain", market=carrier.account, field="account"
                )
            if account.owner != carrier.program:
                raise MarketError(
                    f"{carrier.program} must own the account; {account.owner} does",
                    market=carrier.account,
                    field="program",
                )
            try:
                carrier.check_account(account.data, self._trader)
                watched.state = carrier.read_account(account.data, self._trader)
            except RecordError as error:
                raise MarketError(str(error), market=carrier.account, field="account") from error
            if self._fills is not None:
                self._fills.begin(watched.route, watched.state, account.slot)
            self._apply(watched, watched.state, account.slot)

    def unknown(self, route: int) -> tuple[VenueState, list[VenueOrder]] | None:
        """Read an account; return its state, and our orders that no working order stands for.

        None if it could not be read. Call it while none of our transactions is in flight there.
        """
        watched = self._accounts[route]
        read = self._read(watched)
        if read is None:
            return None
        state, slot = read
        self._apply(watched, state, slot)
        market = watched.carrier.market or 0
        known = self._working.numbered(market)
        return state, [each for each in state.orders.values() if each.sequence not in known]

    @property
    def routes(self) -> list[int]:
        """list of int: The routes that have an account."""
        return list(self._accounts)

    def executed(self, slot: int) -> None:
        """Note a slot at which one of our transactions was executed: older reads are stale."""
        if slot > self._slot:
            self._slot = slot
            for each in self._accounts.values():
                each.fresh = False
                if each.wanted and not each.failures:
                    # Read it at once: orders wait for it.
                    each.at_ns = None

    def want(self, route: int, wanted: bool) -> None:
        """Set whether orders wait for an account to be read. If so, it is read at every poll."""
        if route in self._accounts:
            self._accounts[route].wanted = wanted

    def doubt(self, route: int) -> None:
        """Have an account read at the next poll."""
        if route in self._accounts:
            self._accounts[route].doubted = True

    def knows(self, route: int) -> bool:
        """Return whether an account was read within the last poll, or there is none to read."""
        watched = self._accounts.get(route)
        if watched is None:
            return True
        return (
            watched.fresh
            and watched.at_ns is not None
            and self._now - watched.at_ns <= self._poll_ns
        )

    def poll(self, now: int) -> int:
        """Read the accounts that are due; return how many orders had changed."""
        self._now = now
        changed = 0
        for watched in self._accounts.values():
            polls = 1 if watched.wanted or watched.doubted else self._round_polls
            # The wait grows while a node fails.
            polls = min(POLLS_A_ROUND, polls << watched.failures)
            if watched.at_ns is None or now - watched.at_ns >= polls * self._poll_ns:
                watched.at_ns = now
                changed += self._compare(watched)
        return changed

    def drop_missing(self, batch: OrderBatch) -> bool:
        """Remove orders that a failed batch was to cancel and that the account does not have.

        Returns
        -------
        bool
            Whether the account could be read.
        """
        watched = self._accounts.get(batch.route)
        if watched is None:
            return True
        read = self._read(watched)
        if read is None:
            return False
        state, slot = read
        gone = [each for each in batch.cancels if (each.sequence or 0) not in state.orders]
        for order in batch.cancels:
            found = state.orders.get(order.sequence or 0)
            order.hint = found.hint if found is not None else None
        self._note_changes([(each, 0) for each in gone], slot)
        return True

    def _compare(self, watched: WatchedAccount) -> int:
        carrier = watched.carrier
        if watched.state is not None and not watched.doubted and not self._ours(carrier):
            return 0
        read = self._read(watched)
        return 0 if read is None else self._apply(watched, *read)

    def _ours(self, carrier: Carrier) -> list[RestingOrder]:
        return [
            each
            for each in self._working.resting()
            if each.market == carrier.market and each.sequence is not None
        ]

    def _apply(self, watched: WatchedAccount, state: VenueState, slot: int) -> int:
        """Correct the resting orders by an account; return how many had changed."""
        carrier = watched.carrier
        watched.doubted, watched.fresh = False, True
        changed = []
        for order in self._ours(carrier):
            found = state.orders.get(order.sequence or 0)
            atoms = found.base_atoms if found is not None else 0
            order.hint = found.hint if found is not None else order.hint
            # An order with less than one lot left can still be cancelled.
            lots = max(1, atoms // carrier.lot_atoms) if atoms else 0
            if order.state is State.RESTING:
                if lots == order.chain:
                    order.as_of = slot
                else:
                    changed.append((order, lots))
        before = [(order, order.chain) for order, _ in changed]
        self._note_changes(changed, slot)
        if self._fills is not None:
            self._fills.read(watched.route, state, slot, before)
        return len(changed)

    def state(self, route: int) -> VenueState | None:
        """Return an account's state as it was last read; None if there is none."""
        watched = self._accounts.get(route)
        return watched.state if watched is not None else None

    def _read(self, watched: WatchedAccount) -> tuple[VenueState, int] | None:
        carrier = watched.carrier
        assert carrier.account is not None
        try:
            account = self._rpc.get_account_info(
                carrier.account, self._commitment, least_slot=self._slot
            )
            if account is None:
                raise RecordError(f"account {carrier.account} does not exist", field="account")
            found = carrier.read_account(account.data, self._trader), account.slot
        except (TransportError, RateLimitedError, RpcError, RecordError) as error:
            self._note(error)
            watched.fresh = False
            watched.failures = min(watched.failures + 1, MOST_FAILURES)
            return None
        watched.failures = 0
        watched.state = found[0]
        return found

    def _note_changes(self, changed: list[tuple[RestingOrder, int]], slot: int) -> None:
        rows = [(each.sequence or 0, lots, each.market, 0) for each, lots in changed]
        for order, lots in changed:
            self._working.correct(order, lots, slot)
        if rows:
            self._journal.append(Remains(np.array(rows, REMAINS_DTYPE)))
