"""Fills by others are reported once each, in order, to the atom. Every sum equals the chain's."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.solana.orders.test_queue import ADD, CANCEL, records
from velox.cli.main import main
from velox.solana.orders.outcomes import Outcome
from velox.solana.venues.manifest.events import FillLog, read_log
from velox.solana.venues.manifest.instructions import OrderType
from velox.testing import Fault, FaultPlan, LocalCluster, MarketPlan
from velox.venue import REPORT_DTYPE, Reason, ReportKind

from .markets import PROGRAMS, TICK, Trader, configured, market_of
from .support import bundles_of

MIDDLE = 15_000


def on_chain(cluster: LocalCluster, trader: Any) -> list[tuple[int, int, int, bool, int]]:
    """Our fills in the logs of the chain: number, base and quote atoms, is it a maker's, slot."""
    found = []
    for each in cluster.executions:
        if each.err is None:
            for event in read_log(each.logs).events:
                if isinstance(event, FillLog):
                    for who, number, maker in (
                        (event.maker, event.maker_sequence, True),
                        (event.taker, event.taker_sequence, False),
                    ):
                        if who == trader:
                            found.append(
                                (number, event.base_atoms, event.quote_atoms, maker, each.slot)
                            )
    return found


def filled(reports: Any) -> list[tuple[int, int, int, bool, int]]:
    """The same from reports."""
    fills = reports[reports["kind"] == ReportKind.FILLED]
    return [
        (
            int(each["sequence"]),
            int(each["base_atoms"]),
            int(each["quote_atoms"]),
            bool(each["maker"]),
            int(each["slot"]),
        )
        for each in fills
    ]


def check_holdings(trader: Trader, reports: Any) -> None:
    """Check that the sums of the reports equal what the seat and the orders hold."""
    (holding,) = trader.submitter.holdings()
    assert holding.holds, str(holding)
    fills = reports[reports["kind"] == ReportKind.FILLED]
    sign = np.where(fills["side"] == 0, 1, -1)
    assert holding.base_traded == int((sign * fills["base_atoms"].astype(np.int64)).sum())
    assert holding.quote_traded == -int((sign * fills["quote_atoms"].astype(np.int64)).sum())
    seat = trader.cluster.market.seat(trader.signer.pubkey)
    assert seat is not None
    base, quote = seat.base_atoms, seat.quote_atoms
    for order in trader.cluster.market.orders():
        if order.trader == trader.signer.pubkey:
            if order.is_bid:
                quote += -(-order.price * order.base_atoms // 10**18)
            else:
                base += order.base_atoms
    assert (holding.base_atoms, holding.quote_atoms) == (base, quote)


def settle(trader: Trader, slots: int = 40) -> None:
    """Let time pass, as a strategy that waits does."""
    for _ in range(slots):
        trader.submitter.step()
        trader.cluster.tick()


@PROGRAMS
def test_a_maker_hears_of_each_fill_once_with_its_exact_amounts(
    program: str, tmp_path: Path
) -> None:
    with market_of(program) as cluster:
        maker = Trader(cluster, tmp_path / "maker")
        taker = Trader(cluster, tmp_path / "taker", OrderType.IMMEDIATE_OR_CANCEL)
        reports = [maker.send((ADD, 7, MIDDLE * TICK, 10, 1, 0), (ADD, 8, 14_990 * TICK, 10, 0, 0))]
        for lots in (3, 2):
            taker.send((ADD, 50 + lots, MIDDLE * TICK, lots, 0, 0))
            settle(maker)
            reports.append(maker.submitter.reports())
        taker.send((ADD, 60, 14_990 * TICK, 10, 1, 0))
        settle(maker)
        reports.append(maker.submitter.reports())
        told = np.concatenate(reports)
        fills = told[told["kind"] == ReportKind.FILLED]
        assert fills["order_id"].tolist() == [7, 7, 8]
        assert fills["lots"].tolist() == [3, 2, 10]
        assert fills["maker"].tolist() == [1, 1, 1]
        assert fills["side"].tolist() == [1, 1, 0]
        assert fills["price"].tolist() == [MIDDLE * TICK, MIDDLE * TICK, 14_990 * TICK]
        lot = cluster.market.spec.lot_atoms
        assert fills["left_atoms"].tolist() == [7 * lot, 5 * lot, 0]
        assert fills["last"].tolist() == [0, 0, 1]
        assert filled(told) == on_chain(cluster, maker.signer.pubkey)
        assert told["number"].tolist() == list(range(len(told)))
        assert set(fills["fee_atoms"].tolist()) == {0}
        maker.submitter.close()
        check_holdings(maker, told)
        maker.close_clients()
        taker.abandon()


@PROGRAMS
def test_a_fill_before_a_cancellation_is_not_lost(program: str, tmp_path: Path) -> None:
    with market_of(program) as cluster:
        maker = Trader(cluster, tmp_path / "maker")
        taker = Trader(cluster, tmp_path / "taker", OrderType.IMMEDIATE_OR_CANCEL)
        reports = [maker.send((ADD, 7, MIDDLE * TICK, 10, 1, 0))]
        settle(maker)
        # Filled in part and then cancelled, before anybody reads the account.
        taker.send((ADD, 50, MIDDLE * TICK, 4, 0, 0))
        reports.append(maker.send((CANCEL, 7, MIDDLE * TICK, 10, 1, 0)))
        settle(maker)
        reports.append(maker.submitter.reports())
        told = np.concatenate(reports)
        assert filled(told) == on_chain(cluster, maker.signer.pubkey)
        assert told[told["kind"] == ReportKind.FILLED]["lots"].tolist() == [4]
        maker.submitter.close()
        check_holdings(maker, told)
        maker.close_clients()
        taker.abandon()


@PROGRAMS
def test_thirty_levels_are_accounted_for_although_the_log_is_cut(
    program: str, tmp_path: Path
) -> None:
    with market_of(program) as cluster:
        maker = Trader(cluster, tmp_path / "maker")
        maker.send(*[(ADD, 1 + n, (MIDDLE + n) * TICK, 3, 1, 0) for n in range(35)])
        taker = Trader(cluster, tmp_path / "taker", OrderType.IMMEDIATE_OR_CANCEL)
        reports = [taker.send((ADD, 99, (MIDDLE + 40) * TICK, 105, 0, 0))]
        settle(taker)
        reports.append(taker.submitter.reports())
        told = np.concatenate(reports)
        fills = told[told["kind"] == ReportKind.FILLED]
        assert int(fills["lots"].sum()) == 105
        assert fills["order_id"].tolist() == [99] * len(fills)
        assert int(fills["reason"][-1]) == Reason.SUMMARISED
        taker.submitter.close()
        check_holdings(taker, told)
        # The maker's fills are those of a log that was cut.
        settle(maker)
        taker.close_clients()
        maker.abandon()


@PROGRAMS
def test_an_order_that_expires_is_reported(program: str, tmp_path: Path) -> None:
    with market_of(program) as cluster:
        maker = Trader(cluster, tmp_path / "maker", options={"order_valid_slots": 10})
        taker = Trader(cluster, tmp_path / "taker", OrderType.IMMEDIATE_OR_CANCEL)
        reports = [maker.send((ADD, 7, MIDDLE * TICK, 10, 1, 0))]
        cluster.tick(20)
        # The market removes it once somebody meets it.
        taker.send((ADD, 50, MIDDLE * TICK, 4, 0, 0))
        settle(maker)
        reports.append(maker.submitter.reports())
        told = np.concatenate(reports)
        assert told["kind"].tolist() == [ReportKind.PLACED, ReportKind.EXPIRED]
        assert int(told["order_id"][1]) == 7
        maker.submitter.close()
        check_holdings(maker, told)
        maker.close_clients()
        taker.abandon()


def test_a_node_without_history_gives_fills_from_the_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from velox.errors import RpcError  # noqa: PLC0415
    from velox.solana.net.rpc import RpcClient  # noqa: PLC0415

    def refuses(*arguments: Any, **named: Any) -> Any:
        raise RpcError("http://127.0.0.1:1", "getSignaturesForAddress", -32601, "no such method")

    monkeypatch.setattr(RpcClient, "get_signatures_for_address", refuses)
    with market_of("box") as cluster:
        maker = Trader(cluster, tmp_path / "maker")
        taker = Trader(cluster, tmp_path / "taker", OrderType.IMMEDIATE_OR_CANCEL)
        reports = [maker.send((ADD, 7, MIDDLE * TICK, 10, 1, 0), (ADD, 8, 14_990 * TICK, 10, 0, 0))]
        settle(maker)
        taker.send((ADD, 50, MIDDLE * TICK, 3, 0, 0))
        taker.send((ADD, 51, 14_990 * TICK, 10, 1, 0))
        settle(maker)
        reports.append(maker.submitter.reports())
        told = np.concatenate(reports)
        assert [each[:4] for each in filled(told)] == [
            each[:4] for each in on_chain(cluster, maker.signer.pubkey)
        ]
        maker.submitter.close()
        check_holdings(maker, told)
        maker.close_clients()
        taker.abandon()


@PROGRAMS
@pytest.mark.parametrize("seed", range(3))
def test_a_random_run_against_a_crowd_ends_with_the_sums_of_the_chain(
    program: str, seed: int, tmp_path: Path
) -> None:
    rng = random.Random(seed)
    faults = FaultPlan(
        seed,
        {
            Fault.DROPPED: 0.05,
            Fault.DELAYED: 0.1,
            Fault.RESPONSE_LOST: 0.1,
            Fault.RETURN_DATA_MISSING: 0.1,
            Fault.SKIPPED_SLOTS: 0.05,
        },
    )
    plan = MarketPlan(crowd_rate_per_s=8)
    with market_of(program, plan, faults=faults, seed=seed) as cluster:
        trader = Trader(
            cluster,
            tmp_path / "journal",
            OrderType.LIMIT,
            options={"attempts": 3, "isolate": bool(seed % 2)},
        )
        reports = []
        for _turn in range(60):
            rows = []
            for _ in range(rng.randrange(3)):
                side, id = rng.randrange(2), rng.randrange(1, 9)
                price = (MIDDLE + rng.randrange(-6, 7)) * TICK
                rows.append(
                    (rng.choice([ADD, ADD, CANCEL]), id, price, rng.randrange(1, 9), side, 0)
                )
            if rows:
                trader.push(*rows)
            for _ in range(3):
                trader.submitter.step()
                cluster.tick()
            reports.append(trader.submitter.reports())
        ledger = trader.submitter.close(600.0)
        ledger.check()
        assert ledger.unknown == 0
        assert trader.resting == []
        reports.append(trader.submitter.reports())
        told = np.concatenate(reports)
        check_holdings(trader, told)
        assert sorted(filled(told)) == sorted(on_chain(cluster, trader.signer.pubkey))
        # The fills of an order never exceed it, and the last one says so.
        left: dict[int, int] = defaultdict(int)
        for each in told:
            number = int(each["sequence"])
            if each["kind"] == ReportKind.PLACED:
                left[number] += int(each["base_atoms"])
            elif each["kind"] == ReportKind.FILLED and number in left:
                left[number] -= int(each["base_atoms"])
        assert min(left.values(), default=0) >= 0
        assert trader.outcomes()[Outcome.LANDED] > 0
        trader.close_clients()


@pytest.mark.parametrize("name", ["reports.npy", "reports.jsonl"])
def test_the_command_line_writes_reports_and_says_what_is_held(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with market_of("box", slots="real", slot_ns=10_000_000) as cluster:
        config, keypair = configured(cluster, tmp_path)
        cluster.market.admit(keypair.pubkey())
        rows = records(*[(ADD, 1 + n, (MIDDLE - n) * TICK, 5, 0, 0) for n in range(20)])
        np.save(tmp_path / "bundles.npy", bundles_of(rows))
        path = tmp_path / name
        command = ["submit", str(tmp_path / "bundles.npy"), "--submit", str(config), "--quiet"]
        assert main([*command, "--reports", str(path)]) == 0
        if name.endswith(".npy"):
            found = np.load(path)
            assert found.dtype == REPORT_DTYPE
            kinds, ids = found["kind"].tolist(), found["order_id"].tolist()
            first = found[:20]
        else:
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            kinds = [ReportKind[each["kind"].upper()] for each in lines]
            ids = [each["order_id"] for each in lines]
            assert all(each["signature"] for each in lines[:20])
            first = lines[:20]
        assert kinds[:20] == [ReportKind.PLACED] * 20
        assert ids[:20] == list(range(1, 21))
        assert {int(each["base_atoms"]) for each in first} == {5 * cluster.market.spec.lot_atoms}
        assert "market 0: traded +0 base and +0 quote atoms" in capsys.readouterr().out
        # Nobody else may read it, and it is not the journal.
        assert path.stat().st_mode & 0o77 == 0
        assert main([*command, "--reports", str(tmp_path / "journal")]) == 2


def test_reports_without_a_destination_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--duration", "0.1", "--reports", "r.npy"]) == 2
    assert "only with --submit" in capsys.readouterr().err


def test_differences_that_nothing_explains_are_told_and_fail(tmp_path: Path) -> None:
    with market_of("box") as cluster:
        maker = Trader(cluster, tmp_path / "maker")
        maker.send((ADD, 7, MIDDLE * TICK, 10, 1, 0))
        # Atoms out of nowhere: no transaction of anybody moved them.
        cluster.market.admit(maker.signer.pubkey, base_atoms=12_345, quote_atoms=0)
        maker.send((ADD, 8, MIDDLE * TICK, 10, 1, 0))
        maker.submitter.close()
        (holding,) = maker.submitter.holdings()
        assert not holding.holds
        assert "+12,345 and +0 atoms are not explained by any fill" in str(holding)
        maker.close_clients()
