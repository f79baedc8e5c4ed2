"""What an executed transaction did in its market: learned, and brought to desk and journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

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
from velox.solana.orders.reports import Fill, placed_orders, read_log
from velox.solana.submit.account_watch import MarketWatch
from velox.solana.submit.routing import Route

__all__ = ["Effect", "Reconciler"]

Array: TypeAlias = npt.NDArray[np.void]

# How often a node is asked what an executed transaction did before that counts as not known.
LOOKS_AT_DETAILS: Final = 20


class Effect(NamedTuple):
    """What a transaction did.

    Attributes
    ----------
    placed : list of (int, bool) or None
        The market's number of each order that it placed, and whether it rests; None where the
        market gives no numbers.
    fills : list of Fill
    """

    placed: list[tuple[int, bool]] | None
    fills: list[Fill]


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

    def learn(self, flight: InFlight, lane: Route) -> Effect | None:
        """Ask what an executed transaction did; None where that has to be asked again.

        Raises
        ------
        TransportError, RateLimitedError
            The node does not answer.
        """
        placing = len(flight.signed.places)
        if lane.spec is None or not placing:
            return Effect(None, [])
        info = self._details(flight)
        if info is None and flight.looks < LOOKS_AT_DETAILS:
            return None
        log = read_log(info.logs or () if info is not None else ())
        self.unread_events += log.unread
        fills = [each for each in log.events if isinstance(each, Fill)]
        answers = (info.return_data if info is not None else None, log.answer)
        placed = placed_orders(answers, log.events, placing, self._trader)
        if placed is None:
            self.unnumbered += placing
            placed = [(0, False)] * placing
        return Effect(placed, fills)

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

    def apply(self, flight: InFlight, effect: Effect, lane: Route, slot: int) -> Array:
        """Bring the desk to an effect, and return what rests by number.

        Returns
        -------
        ndarray of RESTING_DTYPE, shape (n,)
        """
        pack, signed, placed = flight.pack, flight.signed, effect.placed
        if placed is None:
            self._queue.landed(pack)
            return NOTHING_RESTS
        numbers = [sequence if rests else None for sequence, rests in placed]
        again = iter(numbers[len(pack.places) :])
        replaced = [next(again) if left else None for left in pack.cancels.values()]
        self._queue.landed(pack, numbers[: len(pack.places)], replaced)
        if lane.spec is not None:
            for fill in effect.fills:
                lots, part = divmod(fill.base_atoms, lane.spec.lot_atoms)
                for sequence in (fill.maker_sequence, fill.taker_sequence):
                    self._queue.desk.fill(lane.spec.velox_market, sequence, lots, slot)
                if part:
                    # What is left is no number of lots: the market knows.
                    self._watch.doubt(pack.lane)
        rests = np.zeros(len(placed), RESTING_DTYPE)
        for name in ("id", "price", "side", "market"):
            rests[name] = signed.places[name]
        rests["lots"] = signed.places["size"]
        rests["sequence"] = [sequence for sequence, _ in placed]
        return rests[[known for _, known in placed]]

    def remember(self, effect: Effect, market: int) -> None:
        """Have the journal know what fills have left of orders of ours that it has as resting."""
        fills, resting = effect.fills, self._journal.unsettled.resting
        numbers = {each for fill in fills for each in (fill.maker_sequence, fill.taker_sequence)}
        known = sorted(each for each in numbers if (market, each) in resting)
        rows = [(each, self._queue.desk.lots(market, each), market, 0) for each in known]
        if rows:
            self._journal.append(Remains(np.array(rows, REMAINS_DTYPE)))
