"""What rests is cancelled at the end of a run, and cancellations pass a kill switch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.solana.orders.test_queue import ADD, CANCEL
from velox.solana.net.transport import ExchangeFailedError
from velox.solana.orders.outcomes import Outcome
from velox.solana.submit.options import SubmitOptions
from velox.solana.tx.signer import KeypairSigner
from velox.solana.venues.manifest.instructions import OrderType

from .markets import PROGRAMS, TICK, Trader, market_of, trader_key

MIDDLE = 15_000
QUOTES = [(ADD, 1 + each, (MIDDLE - each) * TICK, 5, 0, 0) for each in range(140)]


@PROGRAMS
def test_closing_cancels_everything_that_rests(program: str, tmp_path: Path) -> None:
    with market_of(program) as cluster:
        trader = Trader(cluster, tmp_path / "journal")
        trader.send(*QUOTES)
        assert len(trader.resting) == len(QUOTES)
        ledger = trader.submitter.close()
        ledger.check()
        assert trader.resting == []
        assert trader.submitter.resting == 0
        # Nobody asked for these cancellations, so they are not orders of the ledger.
        assert (ledger.delivered, ledger.landed) == (len(QUOTES), len(QUOTES))
        assert ledger.transactions["landed"] == len(cluster.executions) - 0
        trader.close_clients()


def test_orders_can_be_left_in_the_book(tmp_path: Path) -> None:
    with market_of("box") as cluster:
        trader = Trader(cluster, tmp_path / "journal", options={"on_exit": "leave"})
        trader.send(*QUOTES[:5])
        trader.submitter.close().check()
        assert len(trader.resting) == trader.submitter.resting == 5
        trader.close_clients()


@PROGRAMS
def test_a_stop_sheds_what_waits_and_cancels_what_lands_late(program: str, tmp_path: Path) -> None:
    with market_of(program) as cluster:
        trader = Trader(cluster, tmp_path / "journal", options={"window": 1})
        trader.send(*QUOTES[:5])
        trader.push(*QUOTES[5:])
        trader.submitter.step()
        # One transaction is in flight, and the rest waits.
        assert trader.submitter.statistics().in_flight == 1
        ledger = trader.submitter.close(send_waiting=False)
        ledger.check()
        assert ledger.shed > 0
        assert ledger.unknown == 0
        assert trader.resting == []
        trader.close_clients()


@PROGRAMS
def test_the_deadline_leaves_time_for_the_cancellations(program: str, tmp_path: Path) -> None:
    with market_of(program) as cluster:
        trader = Trader(cluster, tmp_path / "journal", options={"window": 1})
        trader.send(*QUOTES[:5])
        for first in range(0, 4000, 500):
            trader.push(
                *[
                    (ADD, 100 + each, (MIDDLE - 50 - each) * TICK, 1, 0, 0)
                    for each in range(first, first + 500)
                ]
            )
        ledger = trader.submitter.close(20.0)
        ledger.check()
        assert ledger.shed > 0
        assert trader.resting == []
        trader.close_clients()


def test_a_cancellation_that_meets_a_fill_is_repeated_for_the_rest(tmp_path: Path) -> None:
    with market_of("box") as cluster:
        trader = Trader(cluster, tmp_path / "journal")
        taker = Trader(cluster, tmp_path / "taker", OrderType.IMMEDIATE_OR_CANCEL)
        trader.send(*QUOTES[:10])
        # The best quote is gone, and nobody has told us: the first cancellation fails as a whole.
        taker.send((ADD, 1, MIDDLE * TICK, 5, 1, 0))
        trader.submitter.close().check()
        assert trader.resting == []
        assert any(each.err is not None for each in cluster.executions)
        (holding,) = trader.submitter.holdings()
        assert holding.holds, str(holding)
        trader.close_clients()
        taker.abandon()


def test_without_a_node_closing_ends_at_its_deadline_and_says_what_rests(tmp_path: Path) -> None:
    with market_of("box") as cluster:
        trader = Trader(cluster, tmp_path / "journal")
        trader.send(*QUOTES[:5])
        trader.network.handler = _refuse
        before = cluster.clock()
        trader.submitter.close(30.0).check()
        assert cluster.clock() - before <= 31_000_000_000
        assert trader.submitter.resting == 5
        trader.close_clients()


def _refuse(*arguments: Any) -> Any:
    raise ExchangeFailedError("nobody is there")


def killable(cluster: Any, kill_file: Path | None = None) -> KeypairSigner:
    """A trader whose signer may have a kill file."""
    usual = trader_key(cluster, admit=False)
    signer = KeypairSigner.generate(usual.policy, clock=cluster.clock, kill_file=kill_file)
    cluster.market.admit(signer.pubkey)
    return signer


@PROGRAMS
@pytest.mark.parametrize("how", ["method", "file", "folder"])
def test_after_a_kill_cancellations_pass_and_orders_do_not(
    program: str, how: str, tmp_path: Path
) -> None:
    folder = tmp_path / "switch"
    folder.mkdir()
    kill_file = folder / "stop"
    with market_of(program) as cluster:
        trader = Trader(cluster, tmp_path / "journal", signer=killable(cluster, kill_file))
        trader.send(*QUOTES[:10])
        if how == "method":
            trader.signer.kill("a test")
        elif how == "file":
            kill_file.touch()
        else:
            folder.rmdir()
        assert trader.signer.killed
        trader.push(
            (CANCEL, 1, MIDDLE * TICK, 5, 0, 0),
            (ADD, 99, (MIDDLE - 100) * TICK, 5, 0, 0),
            # It would replace an order: that is cancelled, and nothing takes its place.
            (ADD, 2, (MIDDLE - 101) * TICK, 5, 0, 0),
            # A part: the whole is cancelled, for the rest would be an order.
            (CANCEL, 3, (MIDDLE - 2) * TICK, 2, 0, 0),
        )
        trader.drive()
        prices = {price for _, price, _ in trader.resting}
        assert prices == {(MIDDLE - each) * TICK for each in range(3, 10)}
        ends = {ticket - 10: trader.ends[ticket] for ticket in trader.ends if ticket >= 10}
        assert ends == {
            0: (Outcome.LANDED, ""),
            1: (Outcome.FAILED, "not signed: killed"),
            2: (Outcome.FAILED, "not signed: killed"),
            3: (Outcome.LANDED, ""),
        }
        trader.submitter.close().check()
        assert trader.resting == []
        trader.close_clients()


def test_orders_do_not_rest_for_ever_by_default() -> None:
    assert SubmitOptions().order_valid_slots > 0
    assert SubmitOptions().on_exit == "cancel"
