"""Compute limits: cancels, re-quotes and crossing orders land on books of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.solana.orders.test_queue import ADD, CANCEL
from velox.solana.orders.outcomes import Outcome
from velox.solana.venues.manifest.instructions import OrderType
from velox.testing import LocalCluster
from velox.testing.market import MARKET_ADDRESS, MarketFault, faulty_program
from velox.venue import ReportKind

from .markets import PROGRAMS, TICK, Trader, batches, market_of

MIDDLE = 15_000
SIXTEEN = range(1, 17)


def quotes(shift: int = 0) -> list[tuple[int, ...]]:
    """Sixteen bids, each with its id."""
    return [(ADD, each, (MIDDLE - 10 - each - shift) * TICK, 2, 0, 0) for each in SIXTEEN]


def fill_book(cluster: LocalCluster, path: Path, count: int) -> Trader:
    """Have a rival rest so many orders, half of them bids and half asks."""
    rival = Trader(cluster, path)
    for first in range(0, count, 400):
        rival.push(
            *[
                (
                    ADD,
                    each + 1,
                    (MIDDLE + (-200 if each % 2 else 200) + (-each if each % 2 else each)) * TICK,
                    1,
                    each % 2 ^ 1,
                    0,
                )
                for each in range(first, min(first + 400, count))
            ]
        )
        rival.drive()
    assert rival.outcomes() == ({Outcome.LANDED: count} if count else {})
    return rival


@PROGRAMS
@pytest.mark.parametrize("count", [0, 50, 500, 2000])
def test_sixteen_cancels_and_sixteen_new_quotes_land_in_one_transaction(
    program: str, count: int, tmp_path: Path
) -> None:
    with market_of(program) as cluster:
        rival = fill_book(cluster, tmp_path / "rival", count)
        trader = Trader(cluster, tmp_path / "journal", options={"compute_retries": 0})
        trader.send(*quotes())
        before = len(cluster.executions)
        trader.send(*quotes(shift=3))
        assert batches(cluster, before) == [(16, 16, 16, None)]
        assert trader.outcomes() == {Outcome.LANDED: 32}
        # Cancels alone, at the worst: all in one transaction.
        before = len(cluster.executions)
        trader.send(*[(CANCEL, each, TICK, 2, 0, 0) for each in SIXTEEN])
        assert batches(cluster, before) == [(16, 16, 0, None)]
        assert trader.resting == []
        trader.abandon()
        rival.abandon()


@PROGRAMS
def test_the_next_process_has_the_hints_of_the_account(program: str, tmp_path: Path) -> None:
    with market_of(program) as cluster:
        rival = fill_book(cluster, tmp_path / "rival", 500)
        trader = Trader(cluster, tmp_path / "journal")
        trader.send(*quotes())
        trader.abandon()
        after = Trader(
            cluster, tmp_path / "journal", signer=trader.signer, options={"compute_retries": 0}
        )
        before = len(cluster.executions)
        after.send(*[(CANCEL, each, TICK, 2, 0, 0) for each in SIXTEEN])
        assert batches(cluster, before) == [(16, 16, 0, None)]
        after.abandon()
        rival.abandon()


@PROGRAMS
@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("compute", ["account", "simulation"])
def test_an_order_that_takes_thirty_levels_lands(
    program: str, side: int, compute: str, tmp_path: Path
) -> None:
    with market_of(program) as cluster:
        maker = Trader(cluster, tmp_path / "maker")
        away = 1 if side else -1
        maker.send(
            *[(ADD, 1 + n, (MIDDLE + away * n) * TICK, 3, side, 0) for n in range(30)],
        )
        taker = Trader(
            cluster,
            tmp_path / "taker",
            OrderType.IMMEDIATE_OR_CANCEL,
            options={"compute_retries": 0, "compute": compute},
        )
        limit = (MIDDLE + away * 40) * TICK
        reports = taker.send((ADD, 99, limit, 90, 1 - side, 0))
        assert taker.outcomes() == {Outcome.LANDED: 1}
        assert maker.resting == []
        fills = reports[reports["kind"] == ReportKind.FILLED]
        # A log holds 10 000 bytes, which are 29 fills.
        assert len(fills) >= 29
        seat = cluster.market.seat(taker.signer.pubkey)
        traded = abs(seat.base_atoms - 10**15)
        assert traded == 90 * cluster.market.spec.lot_atoms
        maker.abandon()
        taker.abandon()


@PROGRAMS
def test_a_limit_that_was_too_low_is_doubled_until_the_order_lands(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with market_of(program) as cluster:
        maker = Trader(cluster, tmp_path / "maker")
        maker.send(*[(ADD, 1 + n, (MIDDLE + n) * TICK, 3, 1, 0) for n in range(25)])
        taker = Trader(
            cluster,
            tmp_path / "taker",
            OrderType.IMMEDIATE_OR_CANCEL,
            options={"compute_margin_percent": 0},
        )
        # The book grew after it was read.
        monkeypatch.setattr(
            "velox.solana.venues.manifest.carrier.ManifestCarrier.estimate_units",
            lambda *arguments: 18_000,
        )
        before = len(cluster.executions)
        reports = taker.send((ADD, 99, (MIDDLE + 40) * TICK, 75, 0, 0))
        failed = [each.err is not None for each in cluster.executions[before:]]
        assert failed[-1] is False
        assert failed[:-1] == [True] * (len(failed) - 1)
        assert len(failed) > 1
        assert taker.outcomes() == {Outcome.LANDED: 1}
        assert int(reports[reports["kind"] == ReportKind.FILLED]["lots"].sum()) == 75
        ledger = taker.submitter.close()
        ledger.check()
        assert ledger.transactions["failed"] == len(failed) - 1
        maker.abandon()
        taker.close_clients()


def test_orders_that_never_have_enough_end_with_their_limit(tmp_path: Path) -> None:
    elf: Any = faulty_program(MarketFault.OUT_OF_COMPUTE, 0)
    with market_of("box") as cluster:
        cluster.add_program(MARKET_ADDRESS, elf)
        trader = Trader(cluster, tmp_path / "journal", options={"compute_retries": 2})
        trader.send((ADD, 1, MIDDLE * TICK, 2, 0, 0), (ADD, 2, (MIDDLE - 1) * TICK, 2, 0, 0))
        assert trader.outcomes() == {Outcome.FAILED: 2}
        for _, reason in trader.ends.values():
            assert reason.startswith("out of compute at ")
        assert len(cluster.executions) == 3
        trader.abandon()
