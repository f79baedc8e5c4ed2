"""A cluster with a market: its accounts after one call, and its counterparties."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("solders", reason="needs pip install -e '.[localnet]'")

from solders.account import Account
from solders.pubkey import Pubkey

from tests.unit.testing.localnet_support import Client, Wallet
from velox.errors import LocalnetError, RecordError
from velox.solana.tx.carrier import Cancel
from velox.solana.venues.manifest.instructions import (
    MANIFEST_PROGRAM,
    OrderType,
    Place,
    manifest_batch_update,
    manifest_vault,
)
from velox.testing import Fault, FaultPlan, LocalCluster, LocalMarket, MarketPlan
from velox.testing.token_accounts import read_mint, read_token

SOMEONE = Pubkey.from_bytes(bytes([7]) * 32)
QUIET = MarketPlan(crowd_rate_per_s=0)
LOT = QUIET.lot_atoms


def place(market: LocalMarket, ticks: int, lots: int, *, is_bid: bool, now: bool = False) -> Place:
    mantissa, exponent = market.spec.price_to_chain(ticks * market.spec.tick_size)
    kind = OrderType.IMMEDIATE_OR_CANCEL if now else OrderType.LIMIT
    return Place(lots * LOT, mantissa, exponent, is_bid, 0, kind)


def trade(cluster: LocalCluster, wallet: Wallet, cancels: list[Cancel], *places: Place) -> Any:
    """Send a batch, and return its error once it has landed."""
    batch = manifest_batch_update(wallet.pubkey, cluster.market.address, cancels, places)
    sent = Client(cluster).send(wallet.sign(batch), skipPreflight=True).result
    cluster.tick()
    return next(each for each in cluster.executions if str(each.signature) == sent).err


def assert_conserved(cluster: LocalCluster) -> None:
    """The vaults hold what is in seats and in resting orders, to the atom."""
    market, orders = cluster.market, cluster.market.orders()
    account = Client(cluster)  # the seats are read as any client could
    assert account.call("getBalance", str(market.address)).value > 0
    traders = {each.trader for each in orders} | {SOMEONE}
    if cluster.crowd is not None:
        traders |= cluster.crowd.pubkeys
    seats = [seat for each in traders if (seat := market.seat(each)) is not None]
    base = sum(each.base_atoms for each in seats)
    quote = sum(each.quote_atoms for each in seats)
    for each in orders:
        if each.is_bid:
            quote += -(-each.price * each.base_atoms // 10**18)
        else:
            base += each.base_atoms
    for mint, expected in ((market.spec.base_mint, base), (market.spec.quote_mint, quote)):
        vault = read_token(cluster.account(manifest_vault(market.address, mint)))
        assert vault is not None
        assert vault.amount == expected


def run(cluster: LocalCluster, until: Callable[[], bool], blocks: int = 2_000) -> None:
    for _ in range(blocks):
        if until():
            return
        cluster.tick()
    raise AssertionError("it did not happen")


def test_a_market_is_there_in_one_call() -> None:
    with LocalCluster(market=True) as cluster:
        spec = cluster.market.spec
        for mint, decimals in ((spec.base_mint, 9), (spec.quote_mint, 6)):
            read = read_mint(cluster.account(mint))
            assert read is not None
            assert read.decimals == decimals
        account = cluster.account(spec.market)
        assert account is not None
        assert account.owner == MANIFEST_PROGRAM
        found = Client(cluster).call(
            "getProgramAccounts", str(MANIFEST_PROGRAM), {"encoding": "base64"}
        )
        assert [each["pubkey"] for each in found.result] == [str(spec.market)]
        cluster.tick()
        orders = cluster.market.orders()
        assert len(orders) == 2 * 3 * 5
        bids = [each.price for each in orders if each.is_bid]
        asks = [each.price for each in orders if not each.is_bid]
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert bids[0] < asks[0]
        assert_conserved(cluster)


def test_a_crowd_trades_and_no_atom_is_lost() -> None:
    with LocalCluster(market=MarketPlan(crowd_rate_per_s=50)) as cluster:
        crowd = cluster.crowd
        assert crowd is not None
        cluster.tick(60)
        assert_conserved(cluster)
        volumes = {key: cluster.market.seat(key) for key in crowd.pubkeys}
        assert all(seat is not None for seat in volumes.values())
        assert sum(seat.quote_volume > 0 for seat in volumes.values() if seat) >= 4
        errors = [each.err for each in cluster.executions if each.err is not None]
        # A maker's cancel may come too late: the only way in which it fails.
        assert {str(each) for each in errors} <= {
            str({"InstructionError": [0, {"Custom": code}]}) for code in (3, 10)
        }
        assert len(errors) < len(cluster.executions) / 4


def test_the_same_seed_has_the_same_crowd() -> None:
    def history(seed: int) -> list[tuple[str, Any]]:
        with LocalCluster(market=True, seed=seed) as cluster:
            cluster.tick(30)
            return [(str(each.signature), each.err) for each in cluster.executions]

    first = history(1)
    assert len(first) > 100
    assert history(1) == first
    assert history(2) != first


def test_no_fault_strikes_the_crowd() -> None:
    with LocalCluster(market=True, faults=FaultPlan(rates={Fault.DROPPED: 1.0})) as cluster:
        cluster.tick(5)
        assert cluster.executions
        assert cluster.strikes == ()


def test_a_trader_is_admitted_and_its_deposits_grow() -> None:
    with LocalCluster(market=QUIET) as cluster:
        assert cluster.crowd is None
        assert cluster.market.seat(SOMEONE) is None
        first = cluster.market.admit(SOMEONE, base_atoms=5, quote_atoms=0, lamports=10**9)
        assert (first.base_atoms, first.quote_atoms) == (5, 0)
        again = cluster.market.admit(SOMEONE, base_atoms=2, quote_atoms=7)
        assert (again.base_atoms, again.quote_atoms, again.index) == (7, 7, first.index)
        assert cluster.market.seat(SOMEONE) == again
        default = cluster.market.admit(SOMEONE)
        assert (default.base_atoms, default.quote_atoms) == (7 + 10**15, 7 + 10**12)
        assert_conserved(cluster)
        assert cluster.executions == ()
        for wrong in ({"base_atoms": -1}, {"quote_atoms": 1.5}, {"base_atoms": 2**64}):
            with pytest.raises(LocalnetError):
                cluster.market.admit(SOMEONE, **wrong)  # type: ignore[arg-type]


def test_an_order_of_a_trader_rests_and_is_cancelled() -> None:
    with LocalCluster(market=QUIET) as cluster:
        wallet, market = Wallet(cluster), cluster.market
        market.admit(wallet.pubkey)
        assert trade(cluster, wallet, [], place(market, 14_000, 3, is_bid=True)) is None
        (order,) = market.orders()
        assert (order.trader, order.is_bid, order.base_atoms) == (wallet.pubkey, True, 3 * LOT)
        assert order.price == 14_000 * market.tick_price
        assert trade(cluster, wallet, [Cancel(order.sequence, order.index)]) is None
        assert market.orders() == []
        seat = market.seat(wallet.pubkey)
        assert seat is not None
        assert (seat.base_atoms, seat.quote_atoms) == (10**15, 10**12)


def test_the_crowd_fills_an_order_at_the_best_price() -> None:
    with LocalCluster(market=MarketPlan(crowd_rate_per_s=50, makers=0)) as cluster:
        wallet, market = Wallet(cluster), cluster.market
        before = market.admit(wallet.pubkey)
        trade(cluster, wallet, [], place(market, 15_001, 1, is_bid=False))
        run(cluster, lambda: not market.orders())
        seat = market.seat(wallet.pubkey)
        assert seat is not None
        assert seat.base_atoms == before.base_atoms - LOT
        assert seat.quote_atoms > before.quote_atoms


def test_a_stale_quote_is_picked_off() -> None:
    with LocalCluster(market=MarketPlan(crowd_rate_per_s=20, makers=0, takers=0)) as cluster:
        wallet, market, crowd = Wallet(cluster), cluster.market, cluster.crowd
        assert crowd is not None
        market.admit(wallet.pubkey)
        trade(cluster, wallet, [], place(market, 15_100, 4, is_bid=True))
        run(cluster, lambda: not market.orders())
        seat, picker = market.seat(wallet.pubkey), market.seat(crowd.picker)
        assert seat is not None
        assert picker is not None
        assert seat.base_atoms == 10**15 + 4 * LOT
        assert picker.quote_atoms == 10**12 + (10**12 - seat.quote_atoms)


def test_a_program_of_ones_own_takes_the_place_of_the_markets() -> None:
    # The memo program is no market: what sets the market up fails, and the error says so.
    with LocalCluster() as cluster:
        memo = cluster.account(Pubkey.from_string("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"))
        assert memo is not None
    with pytest.raises(LocalnetError, match="set-up failed"):
        LocalCluster(market=True, programs={MANIFEST_PROGRAM: bytes(memo.data)})


def test_a_cluster_without_a_market_says_so() -> None:
    with LocalCluster() as cluster:
        assert cluster.crowd is None
        with pytest.raises(LocalnetError, match="market=True"):
            _ = cluster.market


def test_a_market_that_was_deleted_stops_its_crowd_and_not_the_chain() -> None:
    with LocalCluster(market=True) as cluster:
        cluster.tick()
        account = cluster.account(cluster.market.address)
        assert account is not None
        data = bytes(account.data)
        best_ask = int.from_bytes(data[168:172], "little")
        # The best ask has itself as a child.
        at = 256 + best_ask + 4
        looped = data[:at] + best_ask.to_bytes(4, "little") + data[at + 4 :]
        cluster.set_account(cluster.market.address, None)
        cluster.tick(3)
        for data in (b"", bytes(1_000), looped):
            cluster.set_account(cluster.market.address, Account(10**9, data, MANIFEST_PROGRAM))
            cluster.tick(3)
            with pytest.raises(RecordError):
                cluster.market.orders()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_decimals", 19),
        ("quote_decimals", -1),
        ("tick_size", 0),
        ("price", 50),
        ("price", 1_500_001),
        ("lot_atoms", 0),
        ("makers", 65),
        ("takers", 1.0),
        ("levels", 9),
        ("crowd_rate_per_s", -1.0),
        ("crowd_rate_per_s", float("nan")),
    ],
)
def test_a_plan_that_cannot_be_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(LocalnetError, match=f"^{field} = "):
        dataclasses.replace(MarketPlan(), **{field: value})


def test_a_price_that_the_market_cannot_hold_is_refused() -> None:
    plan = MarketPlan(price=10**15 - 1, tick_size=1)
    with pytest.raises(LocalnetError, match=r"^price = "):
        LocalCluster(market=plan)
    with pytest.raises(LocalnetError, match=r"^market = "):
        LocalCluster(market="yes")  # type: ignore[arg-type]
