"""Orders of a submitter rest, fill and are withdrawn on the market of a local cluster."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import numpy as np
import pytest

from tests.integration.solana.support import ADD, CANCEL, bundles_of
from velox import TRANSACTION_DTYPE
from velox.errors import LocalnetError
from velox.solana.orders.outcomes import Outcome
from velox.testing import LocalCluster, MarketPlan
from velox.testing.submission import local_submission

SLOT_NS = 5_000_000
QUIET = MarketPlan(crowd_rate_per_s=0)
# A bound, not an expectation.
PATIENCE_S = 60.0


def records(*orders: tuple[int, int, int, int], kind: int = ADD) -> Any:
    """Records of (id, price in ticks, lots, side); side 0 buys."""
    made = np.zeros(len(orders), TRANSACTION_DTYPE)
    for record, (number, ticks, lots, side) in zip(made, orders, strict=True):
        record["id"], record["price"], record["size"] = number, ticks * QUIET.tick_size, lots
        record["side"], record["kind"] = side, kind
    return made


class Opened:
    """A submission to its own market, and the outcomes of its orders."""

    def __init__(self, plan: MarketPlan) -> None:
        self.clusters: list[LocalCluster] = []
        self.outcomes: Counter[Outcome] = Counter()
        self._context = local_submission(
            None,
            lambda tickets, outcome, reason: self.outcomes.update({outcome: len(tickets)}),
            slot_ns=SLOT_NS,
            market=plan,
            on_cluster=self.clusters.append,
        )

    def __enter__(self) -> Opened:
        self.submission = self._context.__enter__()
        self.cluster = self.clusters[0]
        return self

    def __exit__(self, *exception: Any) -> None:
        self._context.__exit__(*exception)

    def send(self, orders: Any) -> None:
        """Submit orders, and step until each has its outcome."""
        submitter, end = self.submission.submitter, time.monotonic() + PATIENCE_S
        submitter.intake(bundles_of(orders))
        submitter.step()
        while not submitter.idle:
            assert time.monotonic() < end
            submitter.step()
            self.cluster.sleep(SLOT_NS / 1e9)

    @property
    def resting(self) -> list[tuple[bool, int, int]]:
        """The payer's orders on the chain: is it a bid, ticks, lots."""
        market = self.cluster.market
        return [
            (each.is_bid, round(each.price / market.tick_price), each.base_atoms // QUIET.lot_atoms)
            for each in market.orders()
            if each.trader == self.submission.payer
        ]


def test_orders_rest_where_they_were_sent_and_cancels_withdraw_them() -> None:
    with Opened(QUIET) as opened:
        opened.send(records((1, 14_900, 3, 0), (2, 14_800, 5, 0), (3, 15_100, 7, 1)))
        assert opened.outcomes == {Outcome.LANDED: 3}
        assert opened.resting == [(True, 14_900, 3), (True, 14_800, 5), (False, 15_100, 7)]
        opened.send(records((2, 14_800, 5, 0), kind=CANCEL))
        assert opened.resting == [(True, 14_900, 3), (False, 15_100, 7)]
        seat = opened.cluster.market.seat(opened.submission.payer)
        assert seat is not None
        # What rests is not in the seat: 7 lots of the base, and the price of 3 lots.
        assert seat.base_atoms == 10**15 - 7 * QUIET.lot_atoms
        assert seat.quote_atoms == 10**12 - 3 * 149_000


def test_the_crowd_trades_with_the_orders_of_a_submitter() -> None:
    with Opened(MarketPlan(crowd_rate_per_s=200, makers=0)) as opened:
        opened.send(records((1, 15_001, 2, 1), (2, 14_999, 2, 0)))
        end = time.monotonic() + PATIENCE_S
        market, payer = opened.cluster.market, opened.submission.payer
        while len(opened.resting) == 2:
            assert time.monotonic() < end
            opened.cluster.sleep(SLOT_NS / 1e9)
        seat = market.seat(payer)
        assert seat is not None
        assert seat.quote_volume > 0


def test_without_a_market_orders_are_memos() -> None:
    seen: list[LocalCluster] = []
    with local_submission(slot_ns=SLOT_NS, on_cluster=seen.append) as submission:
        submission.submitter.intake(bundles_of(records((1, 15_000, 1, 0))))
        ledger = submission.submitter.close(PATIENCE_S)
        assert ledger.landed == 1
        (execution,) = seen[0].executions
        assert any("Memo" in line for line in execution.logs)
        with pytest.raises(LocalnetError, match="market=True"):
            _ = seen[0].market
