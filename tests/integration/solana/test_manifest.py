"""Submission to the real Manifest program; ``VELOX_MANIFEST_SO`` is the path of its file.

The program is other people's work and is not part of this repository. The tests were written from
the published layouts: 16 orders in a transaction, cancels by number, a crossing order, a post-only
order that would cross, and reports that agree with the events in the program's log.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from solders.account import Account
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.token.state import Mint, TokenAccount, TokenAccountState
from solders.transaction import VersionedTransaction

from tests.unit.solana.orders.test_queue import ADD, CANCEL, records
from velox.solana.net.rpc import RpcClient
from velox.solana.orders.outcomes import Outcome
from velox.solana.tx.instructions import SYSTEM_PROGRAM, TOKEN_PROGRAM, create_account
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.solana.tx.template import build_transaction
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.manifest.events import (
    FillLog,
    PlaceOrderLog,
    read_log,
    velox_price,
)
from velox.solana.venues.manifest.instructions import (
    MANIFEST_MARKET_BYTES,
    MANIFEST_PROGRAM,
    OrderType,
    claim_seat,
    create_manifest_market,
    deposit,
)
from velox.solana.venues.manifest.market import MarketSpec
from velox.testing import LocalCluster
from velox.venue import ReportKind

from .support import Harness, bundles_of

PROGRAM = os.environ.get("VELOX_MANIFEST_SO")

pytestmark = pytest.mark.skipif(
    PROGRAM is None, reason="needs VELOX_MANIFEST_SO, the path of the Manifest program's ELF file"
)

BASE_DECIMALS, QUOTE_DECIMALS = 9, 6
LOT_ATOMS = 1_000_000
RICH = 10**15


class Market:
    """A market on a cluster, which gives traders seats and deposits."""

    def __init__(self, cluster: LocalCluster) -> None:
        assert PROGRAM is not None
        self.cluster = cluster
        cluster.add_program(MANIFEST_PROGRAM, Path(PROGRAM))
        self.rpc = RpcClient(cluster.url)
        self.account = Keypair()
        self.spec = MarketSpec(
            market=self.account.pubkey(),
            base_mint=self._mint(BASE_DECIMALS),
            quote_mint=self._mint(QUOTE_DECIMALS),
            base_decimals=BASE_DECIMALS,
            quote_decimals=QUOTE_DECIMALS,
            lot_atoms=LOT_ATOMS,
        )
        payer = self._signer(deposits=True)
        market = KeypairSigner(self.account, self._policy())
        self._send(
            [
                create_account(
                    payer.pubkey,
                    market.pubkey,
                    10**9,
                    MANIFEST_MARKET_BYTES,
                    MANIFEST_PROGRAM,
                ),
                create_manifest_market(
                    payer.pubkey, market.pubkey, self.spec.base_mint, self.spec.quote_mint
                ),
            ],
            payer,
            market,
        )

    def close(self) -> None:
        self.rpc.close()

    def seat(self) -> KeypairSigner:
        """Return a trader with a seat and large deposits on both sides."""
        trader = self._signer()
        spec = self.spec
        instructions = [claim_seat(trader.pubkey, spec.market)]
        for mint in (spec.base_mint, spec.quote_mint):
            tokens = self._tokens(mint, trader.pubkey)
            instructions.append(deposit(trader.pubkey, spec.market, mint, tokens, RICH))
        self._send(instructions, trader)
        return trader

    def _policy(self) -> SignerPolicy:
        return SignerPolicy(
            programs=frozenset([MANIFEST_PROGRAM]),
            max_tip_lamports=0,
            max_spend_lamports_per_minute=10**12,
        )

    def _signer(self, *, deposits: bool = False) -> KeypairSigner:
        signer = KeypairSigner.generate(self._policy())
        self.cluster.fund(signer.pubkey, 10**12)
        return signer

    def _send(self, instructions: Any, payer: KeypairSigner, *others: KeypairSigner) -> None:
        blockhash = self.rpc.get_latest_blockhash()
        built = build_transaction(
            instructions,
            payer,
            *others,
            blockhash=blockhash.hash,
            last_valid_block_height=blockhash.last_valid_block_height,
        )
        self.rpc.send_transaction(built.raw)
        self.cluster.tick()
        (executed,) = [e for e in self.cluster.executions if e.signature == built.signature]
        assert executed.err is None, executed.logs

    def _mint(self, decimals: int) -> Pubkey:
        key = Pubkey.new_unique()
        mint = Mint(None, RICH * 100, decimals, is_initialized=True, freeze_authority=None)
        self.cluster.set_account(key, Account(10**9, bytes(mint), TOKEN_PROGRAM))
        return key

    def _tokens(self, mint: Pubkey, owner: Pubkey) -> Pubkey:
        key = Pubkey.new_unique()
        account = TokenAccount(
            mint=mint,
            owner=owner,
            amount=RICH,
            delegate=None,
            state=TokenAccountState.Initialized,
            is_native=None,
            delegated_amount=0,
            close_authority=None,
        )
        self.cluster.set_account(key, Account(10**9, bytes(account), TOKEN_PROGRAM))
        return key


class Trader(Harness):
    """A submitter on the market."""

    def __init__(self, market: Market, journal: Path, order_type: OrderType, **options: Any):
        self.market = market
        super().__init__(
            market.cluster,
            journal,
            market.seat(),
            carriers=ManifestCarrier(market.spec, order_type=order_type),
            rng=random.Random(0),
            **options,
        )

    def send(self, *rows: tuple[int, ...]) -> Any:
        self.submitter.intake(bundles_of(records(*rows)))
        self.drive()
        return self.submitter.reports()

    def events(self) -> list[PlaceOrderLog | FillLog]:
        return read_log(self.cluster.executions[-1].logs).events


@pytest.fixture
def market() -> Iterator[Market]:
    with LocalCluster(rate_per_s=None) as cluster:
        made = Market(cluster)
        yield made
        made.close()


def ladder(count: int, *, first: int = 1, price: int = 1_000_000, side: int = 0) -> Any:
    """Orders of different prices that do not cross one another, away from `price`."""
    step = -100 if side == 0 else 100
    return [
        (ADD, first + index, price + step * index, 5 + index, side, 0) for index in range(count)
    ]


def agree(reports: Any, events: list[PlaceOrderLog | FillLog], spec: MarketSpec) -> None:
    """Check that reports and events of the program's log are the same.

    Newer releases log no placements: their numbers are in the answer alone.
    """
    placed = [
        (each.sequence, velox_price(spec, each.price), each.base_atoms, not each.is_bid)
        for each in events
        if isinstance(each, PlaceOrderLog)
    ]
    filled = [
        (each.taker_sequence, velox_price(spec, each.price), each.base_atoms, each.quote_atoms)
        for each in events
        if isinstance(each, FillLog)
    ]
    told = reports[reports["kind"] == ReportKind.PLACED]
    assert not placed or told[["sequence", "price", "base_atoms", "side"]].tolist() == placed
    told = reports[(reports["kind"] == ReportKind.FILLED) & (reports["maker"] == 0)]
    assert told[["sequence", "price", "base_atoms", "quote_atoms"]].tolist() == filled


def test_sixteen_orders_are_one_transaction_and_their_reports_are_its_events(
    market: Market, tmp_path: Path
) -> None:
    trader = Trader(market, tmp_path / "journal", OrderType.POST_ONLY)
    before = len(market.cluster.executions)
    reports = trader.send(*ladder(16))
    assert len(market.cluster.executions) == before + 1
    assert trader.outcomes() == {Outcome.LANDED: 16}
    assert reports["order_id"].tolist() == list(range(1, 17))
    assert len(set(reports["sequence"].tolist())) == 16
    agree(reports, trader.events(), market.spec)
    trader.submitter.close().check()
    trader.abandon()


def test_sixteen_orders_with_a_tip_take_654_bytes(market: Market, tmp_path: Path) -> None:
    with LocalCluster(rate_per_s=None) as engine:
        tips = engine.tip_accounts
    blockhash = market.rpc.get_latest_blockhash()
    signer = market.seat()
    from velox.solana.tx.template import MessageTemplate  # noqa: PLC0415

    template = MessageTemplate(
        ManifestCarrier(market.spec), signer.pubkey, orders=16, tip_account=tips[0]
    )
    assert (template.size, blockhash.slot > 0) == (654, True)


def test_cancels_go_by_the_numbers_that_the_program_gave(market: Market, tmp_path: Path) -> None:
    trader = Trader(market, tmp_path / "journal", OrderType.POST_ONLY)
    placed = trader.send(*ladder(16))
    cancels = [(CANCEL, id, price, size, 0, 0) for _, id, price, size, _, _ in ladder(16)]
    reports = trader.send(*cancels)
    assert trader.outcomes() == {Outcome.LANDED: 32}
    assert reports["kind"].tolist() == [ReportKind.CANCELLED] * 16
    assert reports["sequence"].tolist() == placed["sequence"].tolist()
    # All deposits are free again, so the same orders fit once more.
    assert trader.send(*ladder(16, first=101))["kind"].tolist() == [ReportKind.PLACED] * 16
    trader.abandon()


def test_a_partial_cancel_leaves_the_rest_under_another_number(
    market: Market, tmp_path: Path
) -> None:
    trader = Trader(market, tmp_path / "journal", OrderType.POST_ONLY)
    (placed,) = trader.send((ADD, 7, 1_000_000, 10))
    cancelled, again = trader.send((CANCEL, 7, 1_000_000, 4))
    assert int(cancelled["sequence"]) == int(placed["sequence"])
    assert (int(cancelled["lots"]), int(again["lots"])) == (4, 6)
    assert int(again["sequence"]) > int(placed["sequence"])
    agree(again.reshape(1), trader.events(), market.spec)
    trader.abandon()


def test_a_crossing_order_is_filled_level_by_level(market: Market, tmp_path: Path) -> None:
    maker = Trader(market, tmp_path / "maker", OrderType.POST_ONLY)
    maker.send(*ladder(4, side=1))
    taker = Trader(market, tmp_path / "taker", OrderType.IMMEDIATE_OR_CANCEL)
    reports = taker.send((ADD, 70, 1_000_300, 5 + 6 + 7 + 8))
    fills = reports[reports["kind"] == ReportKind.FILLED]
    assert fills["lots"].tolist() == [5, 6, 7, 8]
    assert fills["price"].tolist() == [1_000_000, 1_000_100, 1_000_200, 1_000_300]
    assert set(fills["order_id"].tolist()) == {70}
    agree(reports, taker.events(), market.spec)
    # Nothing of it rests.
    taker.send((CANCEL, 70, 1_000_300, 1))
    assert taker.ends[1] == (Outcome.FAILED, "nothing_to_cancel")
    maker.abandon()
    taker.abandon()


def test_a_post_only_order_that_would_cross_is_rejected_and_changes_nothing(
    market: Market, tmp_path: Path
) -> None:
    maker = Trader(market, tmp_path / "maker", OrderType.POST_ONLY)
    maker.send(*ladder(1, side=1))
    trader = Trader(market, tmp_path / "journal", OrderType.POST_ONLY)
    before = bytes(market.cluster.account(market.spec.market).data)  # type: ignore[union-attr]
    reports = trader.send((ADD, 70, 1_000_000, 1))
    outcome, reason = trader.ends[0]
    assert outcome is Outcome.FAILED
    assert "Custom(6)" in reason
    assert reports["kind"].tolist() == [ReportKind.REJECTED]
    after = bytes(market.cluster.account(market.spec.market).data)  # type: ignore[union-attr]
    assert after == before
    maker.abandon()
    trader.abandon()


def test_an_order_without_funds_is_rejected(market: Market, tmp_path: Path) -> None:
    trader = Trader(market, tmp_path / "journal", OrderType.LIMIT)
    trader.send((ADD, 70, 4_000_000_000, 4_000_000_000))
    assert trader.ends[0][0] is Outcome.FAILED
    trader.abandon()


def test_the_next_process_cancels_what_the_last_one_placed(market: Market, tmp_path: Path) -> None:
    trader = Trader(market, tmp_path / "journal", OrderType.POST_ONLY)
    placed = trader.send(*ladder(3))
    trader.abandon()
    after = Harness(
        market.cluster,
        tmp_path / "journal",
        trader.signer,
        carriers=ManifestCarrier(market.spec, order_type=OrderType.POST_ONLY),
    )
    after.submitter.intake(bundles_of(records((CANCEL, 2, 999_900, 6))))
    after.drive()
    (report,) = after.submitter.reports()
    assert int(report["sequence"]) == int(placed["sequence"][1])
    raw = market.cluster.executions[-1].raw
    assert SYSTEM_PROGRAM in VersionedTransaction.from_bytes(raw).message.account_keys
    after.abandon()
