"""What an earlier process left: the orders that rest, and the transactions without a known end."""

from __future__ import annotations

import numpy as np

from velox.errors import SubmitError
from velox.solana.journal.file import SubmissionJournal
from velox.solana.journal.records import Signed
from velox.solana.orders.in_flight import InFlight, SubmissionBatch
from velox.solana.orders.queue import OrderBatch, OrderQueue
from velox.solana.orders.working import RestingOrder
from velox.solana.submit.routing import Routes

__all__ = ["recover"]

Resting = dict[tuple[int, int], RestingOrder]


def recover(journal: SubmissionJournal, lanes: Routes, queue: OrderQueue) -> list[SubmissionBatch]:
    """Bring a new queue's desk to what a journal holds, and return what is under way.

    All of it is older than any ticket that the queue will give.

    Raises
    ------
    SubmitError
        The journal holds orders of a market that nothing carries.
    """
    unsettled = journal.unsettled
    places = sum(len(each.places) for each in unsettled.transactions.values())
    ticket = -len(unsettled.resting) - places
    resting: Resting = {}
    for number, row in unsettled.resting.items():
        standing = _standing(ticket, row, "lots")
        standing.chain, standing.sequence = standing.planned, int(row["sequence"])
        queue.desk.admit(standing)
        queue.desk.rest(standing)
        resting[number] = standing
        ticket += 1
    volleys: dict[int, SubmissionBatch] = {}
    for signed in unsettled.transactions.values():
        market = int(signed.orders["market"][0])
        lane = int(lanes.of_market[market])
        if lane < 0:
            raise SubmitError(
                f"{journal.path}: holds orders of market {market}, which nothing carries"
            )
        pack = _pack(signed, market, ticket, resting)
        pack.lane = lane
        ticket += len(signed.places)
        queue.adopt(pack)
        volley = volleys.setdefault(signed.volley, SubmissionBatch(signed.attempt))
        volley.flights.append(InFlight(signed, pack, volley))
    for volley in volleys.values():
        # The process that signed it may have sent it.
        volley.accepted = True
        volley.sends = 1
        volley.broken = len(volley.flights) < volley.flights[0].signed.volley_size
    return list(volleys.values())


def _pack(signed: Signed, market: int, ticket: int, resting: Resting) -> OrderBatch:
    """What a transaction does in the market; its orders have no tickets here."""
    pack = OrderBatch()
    for sequence in signed.cancels:
        if (market, sequence) in resting:
            pack.cancels[resting[market, sequence]] = 0
    for place, record in enumerate(signed.places):
        pack.places.append(_standing(ticket + place, record, "size"))
        pack.sizes.append(pack.places[-1].planned)
    return pack


def _standing(ticket: int, row: np.void, size: str) -> RestingOrder:
    """An order of an earlier process; `size` is the name of the field with its lots."""
    id, market, side = int(row["id"]), int(row["market"]), int(row["side"])
    return RestingOrder(ticket, id, market, side, int(row["price"]), int(row[size]))
