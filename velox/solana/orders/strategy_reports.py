"""Outcomes and executions of a submitter, as reports of a pipeline.

The submitter tells two things of an order. Its *outcome* says how it ended on the way to the chain.
Its *executions* say what the venue did with it. A strategy hears one sequence of reports:

========== ============================ =================================
outcome    of an order (ADD)            of a cancel
========== ============================ =================================
LANDED     what its executions say      what its executions say
FAILED     REJECTED                     CANCEL_REJECTED
SHED       REJECTED                     CANCEL_REJECTED
CONFLATED  REJECTED                     nothing: its order was conflated
EXPIRED    EXPIRED                      CANCEL_REJECTED
UNKNOWN    UNKNOWN: it stays exposed    UNKNOWN
========== ============================ =================================

========= ==============================================================
execution report
========= ==============================================================
PLACED    PLACED
FILLED    FILLED, with the exact amounts and the fee
CANCELLED CANCELLED
EXPIRED   EXPIRED
REJECTED  nothing: the outcome FAILED says it of the same order
========= ==============================================================
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum
from typing import Final

import numpy as np
import numpy.typing as npt

from velox.core.records import REPORT_RECORD_DTYPE, Kind, ReportFlags
from velox.errors import SubmitError
from velox.runtime.report_port import ReportPort
from velox.solana.orders.outcomes import Outcome
from velox.venue import ReportKind

__all__ = ["OutcomeReason", "StrategyReports"]

Array = npt.NDArray[np.void]


class OutcomeReason(IntEnum):
    """The `reason` of a report that an outcome makes. Those of `velox.venue.Reason` are smaller."""

    FAILED = 1001
    SHED = 1002
    CONFLATED = 1003
    EXPIRED = 1004
    UNKNOWN = 1005


# The kinds of report for an order, and for a cancel; None: there is none.
_OF_OUTCOME: Final[dict[Outcome, tuple[Kind | None, Kind | None]]] = {
    Outcome.LANDED: (None, None),
    Outcome.FAILED: (Kind.REJECTED, Kind.CANCEL_REJECTED),
    Outcome.SHED: (Kind.REJECTED, Kind.CANCEL_REJECTED),
    Outcome.CONFLATED: (Kind.REJECTED, None),
    Outcome.EXPIRED: (Kind.EXPIRED, Kind.CANCEL_REJECTED),
    Outcome.UNKNOWN: (Kind.UNKNOWN, Kind.UNKNOWN),
}
_OF_EXECUTION: Final[dict[ReportKind, Kind]] = {
    ReportKind.PLACED: Kind.PLACED,
    ReportKind.FILLED: Kind.FILLED,
    ReportKind.CANCELLED: Kind.CANCELLED,
    ReportKind.EXPIRED: Kind.EXPIRED,
}


class StrategyReports:
    """Gives a pipeline what its submitter learns of the strategy's orders.

    Call `taken_in` with the records before the submitter gets them, and pass `observe` to the
    submitter as its observer.

    Attributes
    ----------
    pushed : int
        Reports that the pipeline took.
    waiting : int
        Reports that wait for room in the report ring. They are kept in order, and none is lost.
    on_executions : callable or None
        Gets the executions of each `pump` too, such as `ReportFile.write`.

    Notes
    -----
    Thread-safety: `taken_in` belongs to one thread; `pump` to another, which may change after
    `hand_over`. `observe` may be called from any.
    """

    def __init__(self) -> None:
        self.pushed = 0
        self.on_executions: Callable[[Array], None] | None = None
        self._port: ReportPort | None = None
        self._lock = threading.Lock()
        self._next_ticket = 0
        self._orders: dict[int, Array] = {}
        self._outcomes: deque[Array] = deque()
        self._waiting: deque[Array] = deque()
        self._sequence = 0

    def attach(self, port: ReportPort) -> None:
        """Say where the reports go. Call it once, before the first order is taken in."""
        if self._port is not None:
            raise SubmitError("the reports go to a pipeline already")
        self._port = port

    def taken_in(self, records: Array) -> None:
        """Note records that the submitter is about to get, to know them by their ticket.

        Parameters
        ----------
        records : ndarray of TRANSACTION_DTYPE, shape (n,)
            Copied.
        """
        orders = records[records["kind"] <= Kind.CANCEL].copy()
        with self._lock:
            for order in orders:
                self._orders[self._next_ticket] = order
                self._next_ticket += 1

    def observe(
        self, tickets: Sequence[int] | npt.NDArray[np.uint64], outcome: Outcome, reason: str
    ) -> None:
        """Take the outcome of orders; an `Observer`."""
        of_order, of_cancel = _OF_OUTCOME[outcome]
        with self._lock:
            for ticket in tickets:
                order = self._orders.pop(int(ticket), None)
                if order is None:
                    continue
                kind = of_order if order["kind"] == Kind.ADD else of_cancel
                if kind is not None:
                    self._outcomes.append(_of_order(order, kind, OutcomeReason[outcome.name]))

    def pump(self, executions: Array) -> int:
        """Push executions and the outcomes since the last call, as far as there is room.

        Parameters
        ----------
        executions : ndarray of velox.venue.REPORT_DTYPE, shape (n,)

        Returns
        -------
        int
            How many reports the pipeline took.
        """
        if self.on_executions is not None:
            self.on_executions(executions)
        self._waiting.extend(_of_execution(each) for each in executions if _is_told(each))
        with self._lock:
            self._waiting.extend(self._outcomes)
            self._outcomes.clear()
        if self._port is None or not self._waiting:
            return 0
        rows = np.concatenate(self._waiting)
        rows["sequence"] = np.arange(1 + self._sequence, 1 + self._sequence + len(rows))
        taken = self._port.push(rows)
        self._sequence += taken
        self.pushed += taken
        for _ in range(taken):
            self._waiting.popleft()
        return taken

    @property
    def waiting(self) -> int:
        """int: Reports that wait for room in the report ring."""
        return len(self._waiting) + len(self._outcomes)

    def hand_over(self) -> None:
        """Let another thread call `pump`. Call it on the thread that did so far."""
        if self._port is not None:
            self._port.hand_over()


def _of_order(order: Array, kind: Kind, reason: OutcomeReason) -> Array:
    row = np.zeros(1, REPORT_RECORD_DTYPE)
    for name in ("id", "price", "size", "side", "market"):
        row[name] = order[name]
    row["kind"], row["reason"], row["ahead"] = kind, reason, -1
    return row


def _is_told(execution: Array) -> bool:
    return ReportKind(int(execution["kind"])) in _OF_EXECUTION


def _of_execution(execution: Array) -> Array:
    row = np.zeros(1, REPORT_RECORD_DTYPE)
    kind = _OF_EXECUTION[ReportKind(int(execution["kind"]))]
    row["kind"], row["id"], row["size"] = kind, execution["order_id"], execution["lots"]
    for name in ("price", "side", "market"):
        row[name] = execution[name]
    row["venue_order"], row["ahead"] = execution["sequence"], -1
    row["reason"] = execution["reason"]
    if kind is Kind.FILLED:
        row["flags"] = (
            ReportFlags.AMOUNTS
            | (ReportFlags.MAKER if execution["maker"] else ReportFlags.NONE)
            | (ReportFlags.LAST if execution["last"] else ReportFlags.NONE)
        )
        row["base_amount"] = execution["base_atoms"]
        row["quote_amount"] = execution["quote_atoms"]
        row["fee"] = execution["fee_atoms"]
    return row
