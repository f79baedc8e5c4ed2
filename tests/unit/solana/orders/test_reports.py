"""Execution reports: which are kept, and which order a number means."""

from __future__ import annotations

import numpy as np
from solders.signature import Signature

from velox.solana.orders.reports import OrderIdMap, Reporter, report
from velox.venue import REPORT_DTYPE, ReportKind


def test_an_id_is_known_by_its_number() -> None:
    ids = OrderIdMap(most=2)
    for sequence, id in ((1, 10), (2, 20), (3, 10)):
        ids.put(0, sequence, id, 1)
    assert ids.order_of(0, 1) is None
    assert (ids.order_of(0, 2), ids.order_of(0, 3)) == ((20, 1), (10, 1))
    assert len(ids) == 2


def test_reports_that_nobody_takes_are_bounded() -> None:
    reporter = Reporter(most=3)
    signature = Signature(bytes(range(64)))
    for id in range(5):
        reporter.add(
            report(
                ReportKind.PLACED,
                order_id=id,
                market=0,
                side=0,
                price=1,
                lots=1,
                slot=1,
                signature=signature,
            )
        )
    found = reporter.take()
    assert found.dtype == REPORT_DTYPE
    assert found["order_id"].tolist() == [2, 3, 4]
    assert found["signature"][0].tobytes() == bytes(signature)
    assert reporter.lost == 2
    assert len(reporter.take()) == 0
    assert np.dtype(REPORT_DTYPE).itemsize == 152


def test_an_order_that_rests_no_more_is_forgotten_after_a_while() -> None:
    ids = OrderIdMap(most_retired=2)
    for sequence in range(1, 5):
        ids.put(0, sequence, 10 + sequence, 1)
    for sequence in (1, 2, 3, 3):
        ids.retire(0, sequence)
    assert ids.order_of(0, 1) is None
    assert (ids.order_of(0, 3), ids.order_of(0, 4)) == ((13, 1), (14, 1))
