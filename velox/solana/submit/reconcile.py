"""What an executed transaction did in its market: learned, and brought to desk and journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from solders.pubkey import Pubkey

from velox.errors import RpcError, VeloxError
from velox.solana.journal.file import SubmissionJournal
from velox.solana.journal.records import NOTHING_RESTS, REMAINS_DTYPE, RESTING_DTYPE, Remains
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import TransactionInfo
from velox.solana.orders.in_flight import InFlight
from velox.solana.orders.queue import OrderQueue
from velox.solana.submit.account_watch import MarketWatch
from velox.solana.tx.carrier import Carrier, OrderNumber, TransactionResult

__all__ = ["Reconciler"]

Array: TypeAlias = npt.NDArray[np.void]

# How often a node is asked what an executed transaction did before that counts as not known.
LOOKS_AT_DETAILS: Final = 20


class Reconciler:
    """Asks a node for effects, and applies them.

    Parameters
    ----------
    rpc : RpcClient
    queue : OrderQueue
    watch : MarketWatch
    journal : SubmissionJournal
    trader : Pubkey
    commitment : {"confirmed", "finalized"}
    note : callable
        Is told of every error.

    Attributes
    ----------
    unnumbered, unread_events : int
        As in `SubmitterStatistics`.

    Notes
    -----
    Thread-safety: one thread; the attributes may be read by any.
    """

    def __init__(
        self,
        rpc: RpcClient,
        queue: OrderQueue,
        watch: MarketWatch,
        journal: SubmissionJournal,
        trader: Pubkey,
        *,
        commitment: Literal["confirmed", "finalized"],
        note: Callable[[VeloxError], None],
    ) -> None:
        self._rpc = rpc
        self._queue = queue
        self._watch = watch
        self._journal = journal
        self._trader = trader
        self._commitment: Literal["confirmed", "finalized"] = commitment
        self._note = note
        self.unnumbered = 0
        self.unread_events = 0

    def learn(self, flight: InFlight, carrier: Carrier) -> TransactionResult | None:
        """Ask what an executed transaction did; None if that must be asked again.

        Raises
        ------
        TransportError, RateLimitedError
            The node does not answer.
        """
        placing = len(flight.signed.places)
        if not placing:
            return TransactionResult()
        info = self._details(flight)
        if info is None and flight.looks < LOOKS_AT_DETAILS:
            return None
        logs = info.logs or () if info is not None else ()
        return_data = info.return_data if info is not None else None
        result = carrier.result(logs, return_data, placing, self._trader)
        self.unread_events += result.unread
        if result.placed is None:
            self.unnumbered += placing
            result = result._replace(placed=[OrderNumber(0, False)] * placing)
        return result

    def _details(self, flight: InFlight) -> TransactionInfo | None:
        try:
            info = self._rpc.get_transaction(flight.signed.signature, self._commitment)
        except RpcError as error:
            # A node that keeps no history says so each time.
            self._note(error)
            info = None
        flight.looks += 1
        return info

    def look_for(self, flight: InFlight) -> bool:
        """Have the desk forget what a failed transaction was to cancel and others have filled.

        Returns
        -------
        bool
            Whether that is done, or there is nothing to be learned: if not, ask again.
        """
        flight.looks += 1
        if not flight.signed.cancels or flight.looks > LOOKS_AT_DETAILS:
            return True
        return self._watch.look_for(flight.pack)

    def apply(
        self, flight: InFlight, result: TransactionResult, carrier: Carrier, slot: int
    ) -> Array:
        """Bring the desk to a result, and return what rests by number.

        Returns
        -------
        ndarray of RESTING_DTYPE, shape (n,)
        """
        pack, signed, placed = flight.pack, flight.signed, result.placed
        if placed is None:
            self._queue.landed(pack)
            return NOTHING_RESTS
        numbers = [each.sequence if each.rests else None for each in placed]
        again = iter(numbers[len(pack.places) :])
        replaced = [next(again) if left else None for left in pack.cancels.values()]
        self._queue.landed(pack, numbers[: len(pack.places)], replaced)
        for fill in result.fills:
            lots, part = divmod(fill.base_atoms, carrier.lot_atoms)
            self._queue.desk.fill(carrier.market or 0, fill.sequence, lots, slot)
            if part:
                # What is left is no number of lots: the market knows.
                self._watch.doubt(pack.lane)
        rests = np.zeros(len(placed), RESTING_DTYPE)
        for name in ("id", "price", "side", "market"):
            rests[name] = signed.places[name]
        rests["lots"] = signed.places["size"]
        rests["sequence"] = [each.sequence for each in placed]
        return rests[[each.rests for each in placed]]

    def remember(self, result: TransactionResult, market: int) -> None:
        """Have the journal know what fills have left of orders of ours that it has as resting."""
        resting = self._journal.unsettled.resting
        numbers = {fill.sequence for fill in result.fills}
        known = sorted(each for each in numbers if (market, each) in resting)
        rows = [(each, self._queue.desk.lots(market, each), market, 0) for each in known]
        if rows:
            self._journal.append(Remains(np.array(rows, REMAINS_DTYPE)))
