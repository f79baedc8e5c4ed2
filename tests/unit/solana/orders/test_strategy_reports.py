"""Outcomes and executions of a submitter, as reports of a pipeline."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support import Array, orders
from velox import REPORT_RECORD_DTYPE, Kind
from velox.core.ring import ReportRing
from velox.errors import SubmitError
from velox.runtime.report_port import ReportPort
from velox.solana.orders.outcomes import Outcome, Tally
from velox.solana.orders.strategy_reports import OutcomeReason, StrategyReports
from velox.venue import REPORT_DTYPE, ReportKind

NO_EXECUTIONS = np.zeros(0, REPORT_DTYPE)


class Told:
    """A pipeline's report ring, and the reports that came out of it."""

    def __init__(self, capacity: int = 64) -> None:
        self.reports = StrategyReports()
        self.port = ReportPort(ReportRing(capacity), [0])
        self.reports.attach(self.port)

    def take(self) -> Array:
        return self.port.ring.pop()


def executions(*kinds: ReportKind, **fields: Any) -> Array:
    found = np.zeros(len(kinds), REPORT_DTYPE)
    found["kind"] = kinds
    for name, value in fields.items():
        found[name] = value
    return found


@pytest.mark.parametrize(
    ("outcome", "of_order", "of_cancel"),
    [
        (Outcome.LANDED, None, None),
        (Outcome.FAILED, Kind.REJECTED, Kind.CANCEL_REJECTED),
        (Outcome.SHED, Kind.REJECTED, Kind.CANCEL_REJECTED),
        (Outcome.CONFLATED, Kind.REJECTED, None),
        (Outcome.EXPIRED, Kind.EXPIRED, Kind.CANCEL_REJECTED),
        (Outcome.UNKNOWN, Kind.UNKNOWN, Kind.UNKNOWN),
    ],
)
def test_each_outcome_is_one_report(
    outcome: Outcome, of_order: Kind | None, of_cancel: Kind | None
) -> None:
    told = Told()
    records = orders(3, first_id=71, price=[10, 20, 30], size=[1, 2, 3], side=[0, 1, 0])
    records["kind"] = [Kind.TRADE, Kind.ADD, Kind.CANCEL]
    told.reports.taken_in(records)
    # A ticket counts orders alone: the trade has none.
    Tally(told.reports.observe).settle([0, 1], outcome, "a reason")
    told.reports.pump(NO_EXECUTIONS)
    found = told.take()
    assert found["kind"].tolist() == [each for each in (of_order, of_cancel) if each is not None]
    for each in found:
        record = records[1] if each["id"] == 72 else records[2]
        for name in ("id", "price", "size", "side", "market"):
            assert each[name] == record[name]
        assert each["reason"] == OutcomeReason[outcome.name]
    assert told.reports.waiting == 0


def test_executions_keep_their_exact_amounts() -> None:
    told = Told()
    kinds = (ReportKind.PLACED, ReportKind.FILLED, ReportKind.REJECTED, ReportKind.EXPIRED)
    told.reports.pump(
        executions(
            *kinds, order_id=[5, 5, 6, 5], lots=[3, 1, 9, 2], price=100, side=1,
            base_atoms=[0, 1_000_003, 0, 0], quote_atoms=[0, 77, 0, 0], maker=[0, 1, 0, 0],
            sequence=12, last=[0, 1, 0, 1], fee_atoms=[0, -4, 0, 0], reason=[0, 9, 0, 0],
        )
    )  # fmt: skip
    found = told.take()
    assert found["kind"].tolist() == [Kind.PLACED, Kind.FILLED, Kind.EXPIRED]
    assert found["id"].tolist() == [5, 5, 5]
    assert found["size"].tolist() == [3, 1, 2]
    assert (found["base_amount"][1], found["quote_amount"][1]) == (1_000_003, 77)
    assert (found["fee"][1], found["reason"][1]) == (-4, 9)
    assert found["flags"].tolist() == [0, 1 | 2 | 4, 0]
    assert found["venue_order"].tolist() == [12] * 3
    assert found["sequence"].tolist() == [1, 2, 3]
    assert found.dtype == REPORT_RECORD_DTYPE


def test_every_kind_of_execution_has_its_place_in_the_table() -> None:
    told = Told()
    told.reports.pump(executions(*ReportKind, order_id=5))
    # The outcome tells what the chain rejected.
    expected = [Kind[each.name] for each in ReportKind if each is not ReportKind.REJECTED]
    assert told.take()["kind"].tolist() == expected


def test_a_full_ring_loses_nothing_and_keeps_the_order() -> None:
    told = Told(capacity=4)
    told.reports.taken_in(orders(10))
    heard: list[int] = []
    for ticket in range(10):
        told.reports.observe([ticket], Outcome.SHED, "")
        told.reports.pump(NO_EXECUTIONS)
        if ticket % 5 == 4:
            heard += told.take()["id"].tolist()
    while told.reports.waiting:
        told.reports.pump(NO_EXECUTIONS)
        heard += told.take()["id"].tolist()
    heard += told.take()["id"].tolist()
    assert heard == [*range(1, 11)]
    assert told.reports.pushed == 10


def test_an_order_is_told_once() -> None:
    told = Told()
    told.reports.taken_in(orders(1))
    for _ in range(2):
        told.reports.observe([0], Outcome.SHED, "")
    told.reports.pump(NO_EXECUTIONS)
    assert len(told.take()) == 1


def test_reports_go_to_one_pipeline() -> None:
    told = Told()
    with pytest.raises(SubmitError):
        told.reports.attach(told.port)
