"""Orders of a submitter rest, fill and are withdrawn on the market of a local cluster."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from solders.compute_budget import set_compute_unit_limit
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.transaction import VersionedTransaction

from tests.integration.solana.support import ADD, CANCEL, bundles_of
from tests.verify.market import walker
from velox import TRANSACTION_DTYPE
from velox.errors import LedgerError, LocalnetError
from velox.solana import RpcClient
from velox.solana.orders.outcomes import Outcome
from velox.solana.venues.manifest.instructions import OrderType, Place, manifest_batch_update
from velox.testing import LocalCluster, MarketPlan
from velox.testing.statement import Trades
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


def send_to(cluster: LocalCluster, trader: Keypair, market: Pubkey, *places: Place) -> None:
    """Place orders of a trader in one transaction, and wait until it is executed."""
    with RpcClient(cluster.url) as rpc:
        instruction = manifest_batch_update(trader.pubkey(), market, [], places)
        budget = set_compute_unit_limit(1_000_000)
        blockhash = rpc.get_latest_blockhash().hash
        message = MessageV0.try_compile(trader.pubkey(), [budget, instruction], [], blockhash)
        signed = VersionedTransaction(message, [trader])
        rpc.send_transaction(bytes(signed))
    end = time.monotonic() + PATIENCE_S
    while signed.signatures[0] not in cluster.statuses:
        assert time.monotonic() < end
        cluster.sleep(SLOT_NS / 1e9)
    assert cluster.statuses[signed.signatures[0]].err is None


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


def test_the_statement_says_what_the_accounts_show() -> None:
    with Opened(QUIET) as opened:
        opened.send(records((1, 14_900, 3, 0), (2, 14_800, 5, 0), (3, 15_100, 7, 1)))
        opened.send(records((2, 14_800, 5, 0), kind=CANCEL))
        # Another trader sells 2 lots to our bid, and offers 1 lot that nobody takes.
        market, chain = opened.cluster.market, opened.cluster
        rival = Keypair()
        market.admit(rival.pubkey())
        sold = Place(2 * QUIET.lot_atoms, 149, -3, False, 0, OrderType.IMMEDIATE_OR_CANCEL)
        offered = Place(QUIET.lot_atoms, 152, -3, False)
        send_to(chain, rival, market.address, sold, offered)
        statement = market.statement(opened.submission.payer, frozenset([rival.pubkey()]))
        assert (statement.bids, statement.asks) == (1, 1)
        assert statement.base_in_orders == 7 * QUIET.lot_atoms
        assert statement.quote_in_orders == 149_000
        assert statement.base_atoms == 10**15 - 5 * QUIET.lot_atoms
        assert statement.quote_atoms == 10**12 - 3 * 149_000
        history = statement.history
        assert (history.placed, history.rested, history.cancelled) == (3, 3, 1)
        assert history.crowd == Trades(1, 1, 2 * QUIET.lot_atoms, 2 * 149_000, 0, 0)
        assert history.others == Trades()
        assert statement.quote_volume == 2 * 149_000
        # The rival's offer and seat are in the vaults, too: by another reader of the account.
        account = chain.account(market.address)
        assert account is not None
        read = walker.read(bytes(account.data))
        assert (statement.base_owed, statement.quote_owed) == (read.base, read.quote)
        assert (statement.base_vault, statement.quote_vault) == (2 * 10**15, 2 * 10**12)
        statement.check()
        # Without the crowd's name, the same fills are those of others.
        (both,) = {market.statement(opened.submission.payer).history}
        assert (both.crowd, both.others) == (Trades(), history.crowd)


def test_a_statement_that_contradicts_itself_is_refused() -> None:
    with Opened(QUIET) as opened:
        opened.send(records((1, 14_900, 3, 0)))
        statement = opened.cluster.market.statement(opened.submission.payer)
        assert statement.balanced
        wrong = replace(statement, quote_vault=statement.quote_vault - 1)
        assert not wrong.balanced
        with pytest.raises(LedgerError, match=r"quote vault = seats \+ bids"):
            wrong.check()
        assert "no" in wrong.format().split()
        with pytest.raises(LocalnetError, match="was not admitted"):
            opened.cluster.market.statement(Keypair().pubkey())


def test_fills_beyond_what_a_node_keeps_of_a_log_are_in_the_statement() -> None:
    with Opened(QUIET) as opened:
        opened.send(records(*((each, 15_100 + each, 1, 1) for each in range(1, 41))))
        market, taker = opened.cluster.market, Keypair()
        market.admit(taker.pubkey())
        bought = Place(40 * QUIET.lot_atoms, 160, -3, True, 0, OrderType.IMMEDIATE_OR_CANCEL)
        send_to(opened.cluster, taker, market.address, bought)
        execution = opened.cluster.executions[-1]
        assert execution.logs[-1] != execution.whole_logs[-1]
        assert "Log truncated" in execution.logs
        statement = market.statement(opened.submission.payer)
        assert statement.history.others.fills == 40
        assert opened.resting == []
        statement.check()


def test_without_a_market_orders_are_memos() -> None:
    seen: list[LocalCluster] = []
    with local_submission(slot_ns=SLOT_NS, market=False, on_cluster=seen.append) as submission:
        assert submission.statement is None
        submission.submitter.intake(bundles_of(records((1, 15_000, 1, 0))))
        ledger = submission.submitter.close(PATIENCE_S)
        assert ledger.landed == 1
        (execution,) = seen[0].executions
        assert any("Memo" in line for line in execution.logs)
        with pytest.raises(LocalnetError, match="market=True"):
            _ = seen[0].market
