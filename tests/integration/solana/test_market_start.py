"""The market is read before anything is signed, and a configuration that contradicts it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solders.pubkey import Pubkey

from tests.unit.solana.orders.test_queue import ADD, CANCEL, records
from velox.cli.main import main
from velox.errors import MarketError, SubmitError
from velox.solana.journal.file import read_journal
from velox.solana.orders.outcomes import Outcome
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.testing import LocalCluster
from velox.testing.market import MARKET_ADDRESS, MarketFault, faulty_program

from .markets import PROGRAMS, REAL, TICK, Trader, batches, configured, market_of, trader_key
from .support import Harness, bundles_of

PRICE = 14_000 * TICK


def opened(cluster: LocalCluster, path: Path, signer: Any = None, **changes: Any) -> Harness:
    """A submitter whose description of the market has these changes."""
    spec = replace(cluster.market.spec, **changes)
    signer = signer if signer is not None else trader_key(cluster)
    return Harness(cluster, path, signer, carriers=ManifestCarrier(spec))


@PROGRAMS
@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("base_decimals", 6, ("6", "9")),
        ("quote_decimals", 9, ("9", "6")),
        ("base_mint", Pubkey(b"\x11" * 32), ()),
        ("quote_mint", Pubkey(b"\x12" * 32), ()),
    ],
)
def test_a_description_that_contradicts_the_market_is_refused(
    program: str, field: str, value: Any, named: tuple[str, ...], tmp_path: Path
) -> None:
    with market_of(program) as cluster:
        truth = getattr(cluster.market.spec, field)
        before = len(cluster.executions)
        with pytest.raises(MarketError) as caught:
            opened(cluster, tmp_path / "journal", **{field: value})
        assert caught.value.field == field
        assert str(value) in caught.value.why
        assert str(truth) in caught.value.why
        cluster.tick(3)
        assert len(cluster.executions) == before


@PROGRAMS
def test_swapped_mints_are_refused(program: str, tmp_path: Path) -> None:
    with market_of(program) as cluster:
        spec = cluster.market.spec
        with pytest.raises(MarketError) as caught:
            opened(
                cluster,
                tmp_path / "journal",
                base_mint=spec.quote_mint,
                quote_mint=spec.base_mint,
            )
        assert caught.value.field == "base_mint"


@PROGRAMS
def test_without_a_seat_or_without_deposits_nothing_starts(program: str, tmp_path: Path) -> None:
    with market_of(program) as cluster:
        nobody = trader_key(cluster, admit=False)
        with pytest.raises(MarketError, match="claim-seat") as caught:
            opened(cluster, tmp_path / "a", nobody)
        assert caught.value.field == "seat"
        cluster.market.admit(nobody.pubkey, base_atoms=0, quote_atoms=0)
        with pytest.raises(MarketError, match="velox deposit") as caught:
            opened(cluster, tmp_path / "b", nobody)
        assert caught.value.field == "deposits"
        cluster.market.admit(nobody.pubkey, base_atoms=0, quote_atoms=1)
        opened(cluster, tmp_path / "c", nobody).abandon()


def test_accounts_that_are_no_market_are_refused(tmp_path: Path) -> None:
    with market_of("box") as cluster:
        for name, key in (("a", Pubkey(b"\x13" * 32)), ("b", cluster.market.spec.base_mint)):
            with pytest.raises(MarketError):
                opened(cluster, tmp_path / name, market=key)
        cluster.add_program(MARKET_ADDRESS, faulty_program(MarketFault.CHANGED_LAYOUT))
    # A market whose header is of another version.
    with pytest.raises(MarketError) as caught:
        with LocalCluster(
            market=True, programs={MARKET_ADDRESS: faulty_program(MarketFault.CHANGED_LAYOUT)}
        ) as changed:
            opened(changed, tmp_path / "c")
    assert caught.value.field in {"version", "account"}


@pytest.fixture(params=["box", "real"])
def resting(request: Any, tmp_path: Path) -> Iterator[tuple[LocalCluster, Trader]]:
    """A trader whose three orders rest, and whose journal is lost."""
    if request.param == "real" and REAL is None:
        pytest.skip("needs VELOX_MANIFEST_SO")
    with market_of(request.param) as cluster:
        trader = Trader(cluster, tmp_path / "lost")
        trader.send(*[(ADD, 1 + each, PRICE - each * TICK, 5, 0, 0) for each in range(3)])
        trader.abandon()
        yield cluster, trader


def test_unknown_orders_are_refused_by_number(
    resting: tuple[LocalCluster, Trader], tmp_path: Path
) -> None:
    cluster, trader = resting
    before = len(cluster.executions)
    with pytest.raises(SubmitError, match=r"3 orders .* does not know") as caught:
        Trader(cluster, tmp_path / "journal", signer=trader.signer)
    for each in cluster.market.orders():
        assert str(each.sequence) in str(caught.value)
    assert len(cluster.executions) == before


def test_unknown_orders_are_adopted_and_can_be_cancelled_by_level(
    resting: tuple[LocalCluster, Trader], tmp_path: Path
) -> None:
    cluster, trader = resting
    again = Trader(
        cluster,
        tmp_path / "journal",
        signer=trader.signer,
        options={"unknown_orders": "adopt"},
    )
    assert len(read_journal(tmp_path / "journal").resting) == 3
    again.send((CANCEL, 0, PRICE, 5, 0, 0))
    assert again.outcomes() == {Outcome.LANDED: 1}
    assert again.resting == [(True, PRICE - TICK, 5), (True, PRICE - 2 * TICK, 5)]
    again.abandon()
    # The next process knows them from the journal.
    third = Trader(cluster, tmp_path / "journal", signer=trader.signer)
    third.send((CANCEL, 0, PRICE - TICK, 2, 0, 0))
    assert sorted(third.resting) == [(True, PRICE - 2 * TICK, 5), (True, PRICE - TICK, 3)]
    third.abandon()


def test_unknown_orders_are_cancelled_before_the_first_order_is_sent(
    resting: tuple[LocalCluster, Trader], tmp_path: Path
) -> None:
    cluster, trader = resting
    before = len(cluster.executions)
    again = Trader(
        cluster,
        tmp_path / "journal",
        signer=trader.signer,
        options={"unknown_orders": "cancel"},
    )
    # It would match them.
    again.send((ADD, 9, PRICE - 5 * TICK, 1, 1, 0))
    assert batches(cluster, before)[0][0] == 3
    assert again.resting == [(False, PRICE - 5 * TICK, 1)]
    ledger = again.submitter.close()
    ledger.check()
    assert (ledger.delivered, ledger.landed) == (1, 1)
    again.abandon()


def test_what_an_earlier_process_left_in_flight_is_not_unknown(tmp_path: Path) -> None:
    with market_of("box") as cluster:
        trader = Trader(cluster, tmp_path / "journal")
        trader.push((ADD, 1, PRICE, 5, 0, 0))
        trader.submitter.step()
        trader.abandon()
        # It lands after that process has ended. The next one learns its number before it judges.
        again = Trader(cluster, tmp_path / "journal", signer=trader.signer)
        again.push((ADD, 2, PRICE - TICK, 5, 0, 0))
        again.drive()
        assert sorted(again.resting) == [(True, PRICE - TICK, 5), (True, PRICE, 5)]
        again.abandon()


def test_the_command_line_ends_with_status_2_before_anything_is_signed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with market_of("box", slots="real", slot_ns=10_000_000) as cluster:
        config, keypair = configured(cluster, tmp_path, base_decimals=6)
        cluster.market.admit(keypair.pubkey())
        np.save(tmp_path / "bundles.npy", bundles_of(records((ADD, 1, PRICE, 5, 0, 0))))
        before = len(cluster.executions)
        status = main(["submit", str(tmp_path / "bundles.npy"), "--submit", str(config)])
        assert status == 2
        told = capsys.readouterr().err
        assert "base_decimals: 6 in the configuration; 9 on the chain" in told
        assert len(cluster.executions) == before
