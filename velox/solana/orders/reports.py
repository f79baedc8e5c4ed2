"""Execution reports of our orders, as records.

A report says that an order was placed, filled, cancelled or rejected. Its layout is
`velox.venue.REPORT_DTYPE`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from solders.signature import Signature

from velox.core.integers import INT64_MAX, UINT32_MAX
from velox.solana.tx.carrier import Carrier, Fill, TransactionResult
from velox.venue import REPORT_DTYPE, Reason, ReportKind

if TYPE_CHECKING:
    from velox.solana.orders.in_flight import InFlight
    from velox.solana.orders.working import RestingOrder

__all__ = ["MAX_LOTS", "MAX_PRICE", "OrderIdMap", "Reporter", "report"]

#: The greatest price and the greatest number of lots that a record holds.
MAX_PRICE, MAX_LOTS = INT64_MAX, UINT32_MAX


def report(
    kind: ReportKind,
    *,
    order_id: int,
    market: int,
    side: int,
    price: int,
    lots: int,
    slot: int,
    signature: Signature,
    sequence: int = 0,
    base_atoms: int = 0,
    quote_atoms: int = 0,
    maker: bool = False,
    left_atoms: int | None = 0,
    reason: Reason = Reason.NONE,
) -> npt.NDArray[np.void]:
    """Return one report, as an array of one. `left_atoms` is None if it is not known."""
    row = np.zeros(1, REPORT_DTYPE)
    row["kind"], row["order_id"], row["market"], row["side"] = kind, order_id, market, side
    # A price or a size from another trader's order may exceed the field: it is cut to the maximum.
    row["price"], row["lots"] = min(price, MAX_PRICE), min(lots, MAX_LOTS)
    row["slot"], row["sequence"] = slot, sequence
    row["base_atoms"], row["quote_atoms"], row["maker"] = base_atoms, quote_atoms, maker
    row["reason"], row["last"], row["left_atoms"] = reason, left_atoms == 0, left_atoms or 0
    row["signature"] = np.frombuffer(bytes(signature), np.uint8)
    return row


class _Known:
    """One order: what its reports need."""

    __slots__ = ("id", "last_valid_slot", "left", "side")

    def __init__(self, id: int, side: int, left: int, last_valid_slot: int) -> None:
        self.id = id
        self.side = side
        self.left = left
        self.last_valid_slot = last_valid_slot


class OrderIdMap:
    """Maps the venue's numbers to our orders.

    Parameters
    ----------
    most : int
        Orders that are kept; the oldest go first. A fill may come long after the placement.
    most_retired : int
        How many of them may no longer rest. A fill may be learned of after the cancellation.

    Notes
    -----
    Thread-safety: one thread.
    """

    def __init__(self, most: int = 1 << 17, most_retired: int = 1 << 10) -> None:
        self._most = most
        self._most_retired = most_retired
        self._retired: deque[tuple[int, int]] = deque()
        self._by_sequence: OrderedDict[tuple[int, int], _Known] = OrderedDict()

    def put(  # noqa: PLR0917 - the fields of a row
        self,
        market: int,
        sequence: int,
        id: int,
        side: int,
        left: int = 0,
        last_valid_slot: int = 0,
    ) -> None:
        """Add an order with `left` base atoms."""
        self._by_sequence[market, sequence] = _Known(id, side, left, last_valid_slot)
        while len(self._by_sequence) > self._most:
            self._by_sequence.popitem(last=False)

    def retire(self, market: int, sequence: int) -> None:
        """Note that an order no longer rests. The oldest such orders are dropped first."""
        self._retired.append((market, sequence))
        if len(self._retired) > self._most_retired:
            self._by_sequence.pop(self._retired.popleft(), None)

    def order_of(self, market: int, sequence: int) -> tuple[int, int] | None:
        """Return the id and the side of an order by its number; None if it is not known."""
        found = self._by_sequence.get((market, sequence))
        return (found.id, found.side) if found is not None else None

    def left(self, market: int, sequence: int) -> int | None:
        """Return the base atoms left of an order; None if it is not known."""
        found = self._by_sequence.get((market, sequence))
        return found.left if found is not None else None

    def last_valid_slot(self, market: int, sequence: int) -> int:
        """Return the slot after which an order expires; 0 for never, or if it is not known."""
        found = self._by_sequence.get((market, sequence))
        return found.last_valid_slot if found is not None else 0

    def take(self, market: int, sequence: int, atoms: int) -> int | None:
        """Take filled atoms off an order; return what is left, None if it is not known."""
        found = self._by_sequence.get((market, sequence))
        if found is None:
            return None
        found.left = max(0, found.left - atoms)
        return found.left

    def __len__(self) -> int:
        return len(self._by_sequence)


class Reporter:
    """Makes reports, and keeps them until they are taken.

    Parameters
    ----------
    most : int
        Reports kept for `take`. If there are more, the oldest are lost and counted in `lost`.

    Attributes
    ----------
    ids : OrderIdMap
    lost : int
        Reports that were lost because they were not taken in time.

    Notes
    -----
    Thread-safety: `take` belongs to one thread, which may be any; all else to another.
    """

    def __init__(self, most: int = 1 << 16) -> None:
        self.ids = OrderIdMap()
        self.lost = 0
        self._most = most
        self._number = 0
        self._lock = threading.Lock()
        self._rows: deque[npt.NDArray[np.void]] = deque()

    def take(self) -> npt.NDArray[np.void]:
        """Return the reports since the last call, in order.

        Returns
        -------
        ndarray of REPORT_DTYPE, shape (n,)
        """
        with self._lock:
            rows, self._rows = self._rows, deque()
        if not rows:
            return np.zeros(0, REPORT_DTYPE)
        whole: npt.NDArray[np.void] = np.concatenate(rows)
        return whole

    def landed(
        self,
        in_flight: InFlight,
        slot: int,
        result: TransactionResult,
        carrier: Carrier,
        last_valid_slot: int = 0,
    ) -> None:
        """Report what an executed transaction cancelled, placed and filled, in that order.

        Call it before the working orders take the result in.
        """
        batch, signature, placed = in_flight.batch, in_flight.signed.signature, result.placed

        def add(  # noqa: PLR0917 - the fields of a row
            kind: ReportKind,
            order: RestingOrder,
            lots: int,
            sequence: int,
            atoms: int,
            left_atoms: int,
        ) -> None:
            self.add(
                report(
                    kind,
                    order_id=order.id,
                    market=order.market,
                    side=order.side,
                    price=order.price,
                    lots=lots,
                    sequence=sequence,
                    base_atoms=atoms,
                    slot=slot,
                    signature=signature,
                    left_atoms=left_atoms,
                )
            )

        for order, left in batch.cancels.items():
            lots, number = order.chain - left, order.sequence or 0
            known = self.ids.left(order.market, number)
            # Of an order in part of which a lot was filled, less than its lots is left.
            atoms = lots * carrier.lot_atoms
            if known is not None:
                atoms = min(atoms, known) if left else known
            # Fills since the transaction was planned may leave nothing to cancel.
            if lots > 0:
                add(ReportKind.CANCELLED, order, lots, number, atoms, 0)
            self.ids.take(order.market, number, 1 << 64)
        again = [(order, left) for order, left in batch.cancels.items() if left]
        orders = [*zip(batch.places, batch.sizes, strict=True), *again]
        numbers = [each.sequence for each in placed] if placed is not None else [0] * len(orders)
        for (order, lots), sequence in zip(orders, numbers, strict=True):
            atoms = lots * carrier.lot_atoms
            add(ReportKind.PLACED, order, lots, sequence, atoms, atoms)
            if placed is not None:
                self.ids.put(order.market, sequence, order.id, order.side, atoms, last_valid_slot)
        for fill in result.fills:
            self.filled(fill, carrier, slot, signature)
        for order in batch.cancels:
            if order.sequence is not None:
                self.ids.retire(order.market, order.sequence)
        for (order, _), placing in zip(orders, placed or (), strict=False):
            if not placing.rests:
                self.ids.retire(order.market, placing.sequence)

    def filled(
        self,
        fill: Fill,
        carrier: Carrier,
        slot: int,
        signature: Signature,
        reason: Reason = Reason.NONE,
    ) -> None:
        """Report a fill, by whomever it was made."""
        market = carrier.market or 0
        known = self.ids.order_of(market, fill.sequence)
        left = self.ids.take(market, fill.sequence, fill.base_atoms)
        self.add(
            report(
                ReportKind.FILLED,
                order_id=known[0] if known is not None else 0,
                market=market,
                side=fill.side,
                price=fill.price,
                lots=fill.base_atoms // carrier.lot_atoms if carrier.lot_atoms else 0,
                sequence=fill.sequence,
                base_atoms=fill.base_atoms,
                quote_atoms=fill.quote_atoms,
                maker=fill.maker,
                slot=slot,
                signature=signature,
                left_atoms=left,
                reason=reason,
            )
        )

    def ended(
        self,
        order: RestingOrder,
        sequence: int,
        atoms: int,
        carrier: Carrier,
        slot: int,
        *,
        expired: bool,
    ) -> None:
        """Report an order that ended without us: it expired, or another program cancelled it."""
        self.add(
            report(
                ReportKind.EXPIRED if expired else ReportKind.CANCELLED,
                order_id=order.id,
                market=order.market,
                side=order.side,
                price=order.price,
                lots=atoms // carrier.lot_atoms,
                sequence=sequence,
                base_atoms=atoms,
                slot=slot,
                signature=Signature.default(),
                reason=Reason.NONE if expired else Reason.ELSEWHERE,
            )
        )
        self.ids.take(order.market, sequence, atoms)
        self.ids.retire(order.market, sequence)

    def rejected(self, in_flight: InFlight, slot: int, reason: Reason = Reason.OTHER) -> None:
        """Report each order of a transaction that the chain executed with an error."""
        for record in in_flight.signed.orders:
            self.add(
                report(
                    ReportKind.REJECTED,
                    order_id=int(record["id"]),
                    market=int(record["market"]),
                    side=int(record["side"]),
                    price=int(record["price"]),
                    lots=int(record["size"]),
                    slot=slot,
                    signature=in_flight.signed.signature,
                    reason=reason,
                )
            )

    def add(self, row: npt.NDArray[np.void]) -> None:
        """Keep one report for `take`, and number it."""
        row["number"] = self._number
        self._number += 1
        with self._lock:
            self._rows.append(row)
            if len(self._rows) > self._most:
                self._rows.popleft()
                self.lost += 1
