"""Traders on a market: the program in the box and, with ``VELOX_MANIFEST_SO``, the real one."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from solders.keypair import Keypair
from solders.transaction import VersionedTransaction

from tests.unit.solana.orders.test_queue import records
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.manifest.instructions import (
    MANIFEST_PROGRAM,
    OrderType,
    decode_batch_update,
    most_rent,
)
from velox.testing import LocalCluster, MarketPlan
from velox.testing.market import market_program

from .support import Harness, bundles_of

REAL = os.environ.get("VELOX_MANIFEST_SO")
#: Parameters of a test that runs on the market in the box, and on the real program.
PROGRAMS = pytest.mark.parametrize(
    "program",
    [
        pytest.param("box", id="box"),
        pytest.param(
            "real",
            id="real",
            marks=pytest.mark.skipif(REAL is None, reason="needs VELOX_MANIFEST_SO"),
        ),
    ],
)
TICK = 100


def elf(program: str) -> bytes | Path:
    """The program that a test is to run on."""
    if program == "box":
        return market_program()
    assert REAL is not None
    return Path(REAL)


@contextmanager
def market_of(program: str, plan: MarketPlan | None = None, **settings: Any) -> Iterator[Any]:
    """Yield a cluster with a market, without a crowd unless the plan has one."""
    plan = plan if plan is not None else MarketPlan(crowd_rate_per_s=0)
    with LocalCluster(
        rate_per_s=None, market=plan, programs={MANIFEST_PROGRAM: elf(program)}, **settings
    ) as cluster:
        yield cluster


def trader_key(cluster: LocalCluster, *, admit: bool = True, **policy: Any) -> KeypairSigner:
    """A signer with lamports, a seat and deposits."""
    signer = KeypairSigner.generate(
        SignerPolicy(
            **{
                "programs": frozenset([MANIFEST_PROGRAM]),
                "rents": {MANIFEST_PROGRAM: most_rent},
                "cancels": {MANIFEST_PROGRAM: ManifestCarrier(cluster.market.spec).only_cancels},
                "max_tip_lamports": 0,
                "max_spend_lamports_per_minute": 10**12,
                **policy,
            }
        ),
        clock=cluster.clock,
    )
    if admit:
        cluster.market.admit(signer.pubkey)
    else:
        cluster.fund(signer.pubkey, 10**12)
    return signer


def configured(
    cluster: LocalCluster, folder: Path, *, tables: str = "", submit: str = "", **changes: Any
) -> tuple[Path, Keypair]:
    """Write a configuration for the cluster's market and a new key; return its path and the key."""
    keypair, spec = Keypair(), cluster.market.spec
    key = folder / "key.json"
    key.touch(mode=0o600)
    key.write_text(json.dumps(list(bytes(keypair))))
    market = {
        "market": str(spec.market),
        "base_mint": str(spec.base_mint),
        "quote_mint": str(spec.quote_mint),
        "base_decimals": spec.base_decimals,
        "quote_decimals": spec.quote_decimals,
        "lot_atoms": spec.lot_atoms,
        "tick_size": spec.tick_size,
        **changes,
    }
    rows = [f"{name} = {json.dumps(value)}" for name, value in market.items()]
    config = folder / "chain.toml"
    config.write_text(
        f'journal = "journal"\ndeadline_s = 30\n[cluster]\nrpc = "{cluster.url}"\n'
        '[signer]\nkey_file = "key.json"\nmax_spend_lamports_per_minute = 1_000_000_000\n'
        f"[submit]\npoll_ns = 10_000_000\n{submit}\n{tables}\n[[market]]\n" + "\n".join(rows)
    )
    return config, keypair


class Trader(Harness):
    """A submitter on the market of a cluster."""

    def __init__(
        self,
        cluster: LocalCluster,
        journal: Path,
        order_type: OrderType = OrderType.POST_ONLY,
        signer: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(
            cluster,
            journal,
            signer if signer is not None else trader_key(cluster),
            carriers=ManifestCarrier(cluster.market.spec, order_type=order_type),
            rng=random.Random(0),
            **options,
        )

    def push(self, *rows: tuple[int, ...]) -> None:
        self.submitter.intake(bundles_of(records(*rows)))

    def send(self, *rows: tuple[int, ...]) -> Any:
        self.push(*rows)
        self.drive()
        return self.submitter.reports()

    @property
    def resting(self) -> list[tuple[bool, int, int]]:
        """Our orders on the chain: is it a bid, price in units of 1e-4, lots."""
        market = self.cluster.market
        return [
            (
                each.is_bid,
                round(each.price / market.tick_price) * market.spec.tick_size,
                each.base_atoms // market.spec.lot_atoms,
            )
            for each in market.orders()
            if each.trader == self.signer.pubkey
        ]


def batches(cluster: LocalCluster, first: int = 0) -> list[tuple[int, int, int, Any]]:
    """Cancels, hinted cancels, places and the error of each transaction from number `first` on."""
    found = []
    for each in cluster.executions[first:]:
        message = VersionedTransaction.from_bytes(each.raw).message
        _, cancels, places = decode_batch_update(bytes(message.instructions[-1].data))
        hinted = sum(cancel.hint is not None for cancel in cancels)
        found.append((len(cancels), hinted, len(places), each.err))
    return found
