"""Reads the results of executed transactions, and applies them to working orders and journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from solders.pubkey import Pubkey

from velox.errors import RpcError, VeloxError
from velox.solana.journal.file import SubmissionJournal
from velox.solana.journal.records import NOTHING_RESTS, REMAINS_DTYPE, RESTING_DTYPE, Remains
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import OutcomeCommitment, TransactionInfo
from velox.solana.orders.in_flight import InFlight
from velox.solana.orders.queue import OrderQueue
from velox.solana.submit.account_watch import AccountWatch
from velox.solana.tx.carrier import Carrier, OrderNumber, TransactionResult

__all__ = ["Reconciler"]

Array: TypeAlias = npt.NDArray[np.void]

# How often a node is asked what a transaction did, before the answer counts as unknown.
MAX_DETAIL_REQUESTS: Final = 20


class Reconciler:
    """Reads results from a node, and applies them.

    Parameters
    ----------
    rpc : RpcClient
    queue : OrderQueue
    watch : AccountWatch
    journal : SubmissionJournal
    trader : Pubkey
    commitment : {"confirmed", "finalized"}
    note : callable
        Called with every error.

    Attributes
    ----------
    unnumbered, unread_events : int
        As in `SubmitterStatistics`.

    Notes
    -----
    Thread-safety: one thread. Any thread may read the attributes.
    """

    def __init__(
        self,
        rpc: RpcClient,
        queue: OrderQueue,
        watch: AccountWatch,
        journal: SubmissionJournal,
        trader: Pubkey,
        *,
        commitment: OutcomeCommitment,
        note: Callable[[VeloxError], None],
    ) -> None:
        self._rpc = rpc
        self._queue = queue
        self._watch = watch
        self._journal = journal
        self._trader = trader
        self._commitment: OutcomeCommitment = commitment
        self._note = note
        self.unnumbered = 0
        self.unread_events = 0

    def learn(self, in_flight: InFlight, carrier: Carrier) -> TransactionResult | None:
        """Read the result of an executed transaction from a node. None if it must be asked again.

        Raises
        ------
        TransportError, RateLimitedError
            The node does not answer.
        """
        placing = len(in_flight.signed.places)
        if not placing:
            return TransactionResult()
        info = self._details(in_flight)
        if info is None and in_flight.looks < MAX_DETAIL_REQUESTS:
            return None
        logs = info.logs or () if info is not None else ()
        return_data = info.return_data if info is not None else None
        result = carrier.result(logs, return_data, placing, self._trader)
        self.unread_events += result.unread
        if result.placed is None or len(result.placed) != placing:
            self.unnumbered += placing
            result = result._replace(placed=[OrderNumber(0, False)] * placing)
        return result

    def _details(self, in_flight: InFlight) -> TransactionInfo | None:
        try:
            info = self._rpc.get_transaction(in_flight.signed.signature, self._commitment)
        except RpcError as error:
            # A node without history answers with this error each time.
            self._note(error)
            info = None
        in_flight.looks += 1
        if info is not None:
            in_flight.paid = info.paid
        return info

    def ran_out(self, in_flight: InFlight) -> bool | None:
        """Return whether a failed transaction used all its compute units. None: ask again.

        A program that ends without a code of its own either panicked or ran out.

        Raises
        ------
        TransportError, RateLimitedError
            The node does not answer.
        """
        info = self._details(in_flight)
        if info is None and in_flight.looks < MAX_DETAIL_REQUESTS:
            return None
        used = info.units_consumed if info is not None else None
        return used is not None and 0 < in_flight.compute_units <= used

    def drop_missing(self, in_flight: InFlight) -> bool:
        """Remove orders that a failed transaction was to cancel and that others have filled.

        Returns
        -------
        bool
            Whether this is done. If not, call it again.
        """
        in_flight.looks += 1
        if not in_flight.signed.cancels or in_flight.looks > MAX_DETAIL_REQUESTS:
            return True
        return self._watch.drop_missing(in_flight.batch)

    def apply(
        self, in_flight: InFlight, result: TransactionResult, carrier: Carrier, slot: int
    ) -> Array:
        """Apply a result to the working orders, and return what rests.

        Returns
        -------
        ndarray of RESTING_DTYPE, shape (n,)
        """
        batch, signed, placed = in_flight.batch, in_flight.signed, result.placed
        if placed is None:
            self._queue.landed(batch)
            return NOTHING_RESTS
        numbers = [each.sequence if each.rests else None for each in placed]
        again = iter(numbers[len(batch.places) :])
        replaced = [next(again) if left else None for left in batch.cancels.values()]
        self._queue.landed(batch, numbers[: len(batch.places)], replaced)
        again_placed = [order for order, left in batch.cancels.items() if left]
        for order, number in zip([*batch.places, *again_placed], placed, strict=True):
            order.hint = number.hint
        for fill in result.fills:
            lots, part = divmod(fill.base_atoms, carrier.lot_atoms)
            self._queue.working.fill(carrier.market or 0, fill.sequence, lots, slot)
            if part:
                # A part of a lot was filled: the venue's account says what is left.
                self._watch.doubt(batch.route)
        rests = np.zeros(len(placed), RESTING_DTYPE)
        for name in ("id", "price", "side", "market"):
            rests[name] = signed.places[name]
        rests["lots"] = signed.places["size"]
        rests["sequence"] = [each.sequence for each in placed]
        return rests[[each.rests for each in placed]]

    def remember(self, result: TransactionResult, market: int) -> None:
        """Write to the journal how many lots fills left of resting orders.

        Only orders that rest according to the journal are written.
        """
        resting = self._journal.state.resting
        numbers = {fill.sequence for fill in result.fills}
        known = sorted(each for each in numbers if (market, each) in resting)
        rows = [(each, self._queue.working.lots(market, each), market, 0) for each in known]
        if rows:
            self._journal.append(Remains(np.array(rows, REMAINS_DTYPE)))
