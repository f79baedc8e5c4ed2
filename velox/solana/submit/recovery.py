"""Restores the state of an earlier process: resting orders, and transactions in flight."""

from __future__ import annotations

import numpy as np

from velox.errors import SubmitError
from velox.solana.journal.file import SubmissionJournal
from velox.solana.orders.in_flight import InFlight, Signed, SubmissionBatch
from velox.solana.orders.queue import OrderBatch, OrderQueue
from velox.solana.orders.working import RestingOrder
from velox.solana.submit.routing import Routes
from velox.solana.tx.spend import SpendSummary

__all__ = ["recover"]

Resting = dict[tuple[int, int], RestingOrder]


def recover(journal: SubmissionJournal, routes: Routes, queue: OrderQueue) -> list[SubmissionBatch]:
    """Load a journal's state into a new queue, and return the submissions in flight.

    Their tickets are negative: all of it is older than any new order.

    Raises
    ------
    SubmitError
        The journal holds orders of a market that no carrier takes.
    """
    state = journal.state
    places = sum(len(each.places) for each in state.transactions.values())
    ticket = -len(state.resting) - places
    resting: Resting = {}
    for number, row in state.resting.items():
        order = _resting_order(ticket, row, "lots")
        order.chain, order.sequence = order.planned, int(row["sequence"])
        queue.working.admit(order)
        queue.working.rest(order)
        resting[number] = order
        ticket += 1
    submissions: dict[int, SubmissionBatch] = {}
    for signed in state.transactions.values():
        market = int(signed.orders["market"][0])
        route = int(routes.of_market[market])
        if route < 0:
            raise SubmitError(
                f"{journal.path}: holds orders of market {market}, which no carrier takes"
            )
        batch = _batch_of(signed, market, ticket, resting)
        batch.route = route
        ticket += len(signed.places)
        queue.adopt(batch)
        submission = submissions.setdefault(signed.submission, SubmissionBatch(signed.attempt))
        spend = SpendSummary.of(signed.raw[65:])
        submission.transactions.append(InFlight(signed, spend, batch, submission))
    for submission in submissions.values():
        # The process that signed it may have sent it already.
        submission.accepted = True
        submission.sends = 1
        submission.broken = (
            len(submission.transactions) < submission.transactions[0].signed.submission_size
        )
    return list(submissions.values())


def _batch_of(signed: Signed, market: int, ticket: int, resting: Resting) -> OrderBatch:
    """Return the batch of a transaction. Its orders have no tickets."""
    batch = OrderBatch()
    for sequence in signed.cancels:
        if (market, sequence) in resting:
            batch.cancels[resting[market, sequence]] = 0
    for place, record in enumerate(signed.places):
        batch.places.append(_resting_order(ticket + place, record, "size"))
        batch.sizes.append(batch.places[-1].planned)
    return batch


def _resting_order(ticket: int, row: np.void, size: str) -> RestingOrder:
    """Return an order of an earlier process. `size` names the field with its lots."""
    id, market, side = int(row["id"]), int(row["market"]), int(row["side"])
    return RestingOrder(ticket, id, market, side, int(row["price"]), int(row[size]))
