"""JavaScript clients of Solana and of Manifest, as they are published, work on the cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("solders", reason="needs pip install -e '.[localnet]'")

from solders.keypair import Keypair

from tests.unit.testing.localnet_support import (
    Client,
    Wallet,
    mint_to,
    new_holder,
    new_mint,
    signed,
)
from velox.solana.venues.manifest.instructions import Place, manifest_batch_update
from velox.testing import LocalCluster, MarketPlan

FOLDER = os.environ.get("VELOX_JAVASCRIPT_CLIENTS", "")
pytestmark = pytest.mark.skipif(
    not FOLDER or shutil.which("node") is None,
    reason="needs VELOX_JAVASCRIPT_CLIENTS, a folder with @solana/web3.js (version 1), "
    "@solana/kit and @cks-systems/manifest-sdk, and Node.js",
)
MINT, HOLDER = Keypair.from_seed(bytes([3]) * 32), Keypair.from_seed(bytes([4]) * 32)


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A cluster with a mint of 1 decimal, and 5 atoms of it in a token account."""
    with LocalCluster(slots="real", slot_ns=20_000_000) as made:
        yield made


def ask(cluster: LocalCluster, script: str) -> Any:
    """Run a client on a funded token account; return what it found."""
    wallet, client = Wallet(cluster), Client(cluster)
    mint, holder = MINT.pubkey(), HOLDER.pubkey()
    for transaction in (
        lambda: signed(wallet, *new_mint(wallet, MINT, 1), signers=(MINT,)),
        lambda: signed(wallet, *new_holder(wallet, HOLDER, mint), signers=(HOLDER,)),
        lambda: wallet.sign(mint_to(wallet, mint, holder, 5)),
    ):
        assert client.send(transaction(), skipPreflight=True).result
        cluster.tick(2)
    cluster.tick(32)
    return answers(cluster, script, mint, holder, wallet.pubkey)


def answers(cluster: LocalCluster, script: str, *arguments: object) -> Any:
    """Run a client, and return the JSON that it prints."""
    done = subprocess.run(
        [
            *("node", Path(__file__).parent / script, cluster.url, cluster.ws_url),
            *map(str, arguments),
        ],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_web3_js_works_unchanged(cluster: LocalCluster) -> None:
    found = ask(cluster, "web3_client.mjs")
    assert found["airdropped"] == 2_000_000_000
    assert found["received"] == 5_000_000
    assert found["fee"] == 5_001
    assert found["programs"][1] == "11111111111111111111111111111111"
    assert found["signatures"] == found["block"] == [found["signature"]]
    assert found["fees"] == 7
    assert found["tokenBalance"] == "0.5"
    assert found["tokenSupply"] == "5"
    assert found["byOwner"] == [[str(HOLDER.pubkey()), "5"]]
    assert found["largest"] == ["5"]
    assert found["programAccounts"] == [str(HOLDER.pubkey())]
    assert found["parsedMint"] == 1
    assert found["heard"] == {
        "account": [5_000_000],
        "logs": [found["signature"]],
        "program": True,
        "slots": True,
        "updates": [
            *("completed", "createdBank", "firstShredReceived", "frozen"),
            *("optimisticConfirmation", "root"),
        ],
    }
    assert found["supply"] > found["richest"] > 10**16
    # A slot is skipped where the thread that makes blocks was late.
    assert found["produced"][0] >= found["produced"][1] > 0
    assert found["refused"] == -32601


def test_kit_works_unchanged(cluster: LocalCluster) -> None:
    found = ask(cluster, "kit_client.mjs")
    assert found["airdropped"] == found["heard"] == "2000000000"
    assert "Program log: from kit" in found["logs"]
    assert found["signatures"] == 2
    assert found["tokenBalance"] == "0.5"
    assert found["byOwner"] == [[str(HOLDER.pubkey()), "5"]]
    assert found["programAccounts"] == [str(HOLDER.pubkey())]
    assert found["multiple"] == 2
    assert found["compressed"] == "base64+zstd"
    assert found["epoch"] == "432000"
    assert found["block"] is True
    assert found["update"] == "string"
    assert int(found["supply"]) > 10**17
    assert found["production"] is True


def test_the_client_of_manifest_reads_and_trades_on_the_local_market() -> None:
    plan = MarketPlan(crowd_rate_per_s=0)
    with LocalCluster(market=plan, slots="real", slot_ns=20_000_000) as cluster:
        wallet, spec = Wallet(cluster), cluster.market.spec
        cluster.market.admit(wallet.pubkey)
        places = [
            Place(plan.lot_atoms, *spec.price_to_chain(price), is_bid)
            for price, is_bid in ((1_490_000, True), (1_500_000, True), (1_510_000, False))
        ]
        batch = manifest_batch_update(wallet.pubkey, spec.market, [], places)
        assert Client(cluster).send(wallet.sign(batch), skipPreflight=True).result
        cluster.tick(2)
        assert len(cluster.market.orders()) == 3
        found = answers(
            cluster,
            "market_client.mjs",
            *(spec.market, spec.base_mint, spec.quote_mint),
            bytes(wallet.keypair.secret()).hex(),
        )
        assert found["listed"] == found["byMints"] == [str(spec.market)]
        assert found["decimals"] == [9, 6]
        assert (found["bids"], found["asks"], found["open"]) == (2, 1, 3)
        assert found["spread"] == pytest.approx(1.0)
        assert found["hasSeat"] is True
        assert found["balances"]["baseOpenOrdersBalanceTokens"] == pytest.approx(0.001)
        assert found["left"] == 0
        # It trades through another program, the wrapper, which the cluster does not have.
        assert found["setupNeeded"] is True
        assert found["vault"] == str(10**15)
        assert cluster.market.orders() == []
