"""What tests of the RPC client share: clients of a fake server, and of a local cluster."""

from __future__ import annotations

import random
from contextlib import contextmanager

import pytest
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.system_program import TransferParams, transfer
from solders.transaction import VersionedTransaction

from tests.unit.solana.fake_server import FakeServer
from velox.errors import SolanaError
from velox.solana.net.rpc import RpcClient
from velox.testing import FaultPlan, LocalCluster

RAW = bytes([1]) + bytes(range(64)) + b"message"
SIGNATURE = Signature.from_bytes(bytes(range(64)))
HASH = Hash(bytes(range(32)))
KEY = Pubkey(bytes(range(1, 33)))
CONTEXT = {"slot": 7, "apiVersion": "3.0.0"}
BLOCKHASH = {
    "context": CONTEXT,
    "value": {"blockhash": str(HASH), "lastValidBlockHeight": 157},
}


@contextmanager
def client_of(*behaviours, **settings):
    """Yield a fake server, a client of it that does not wait, and the waits that it skipped."""
    waits = []
    settings = {"retries": 0, "timeout_s": 5.0, "sleep": waits.append, **settings}
    with FakeServer(*behaviours) as fake:
        with RpcClient(fake.url, rng=random.Random(1), **settings) as rpc:
            yield fake, rpc, waits


def failure(*behaviours, **settings) -> SolanaError:
    """How `get_slot` ends against a server that behaves so."""
    with client_of(*behaviours, **settings) as (_, rpc, _):
        with pytest.raises(SolanaError) as caught:
            rpc.get_slot()
    assert caught.value.endpoint == rpc.label
    return caught.value


def moved(cluster: LocalCluster, rpc: RpcClient, lamports: int = 2_000_000) -> tuple[bytes, Pubkey]:
    """A transfer by a new payer, and its receiver."""
    payer, to = Keypair(), Keypair().pubkey()
    cluster.fund(payer.pubkey(), 10**9)
    move = TransferParams(from_pubkey=payer.pubkey(), to_pubkey=to, lamports=lamports)
    blockhash = rpc.get_latest_blockhash().hash
    message = MessageV0.try_compile(payer.pubkey(), [transfer(move)], [], blockhash)
    return bytes(VersionedTransaction(message, [payer])), to


@contextmanager
def cluster_of(faults: FaultPlan | None = None, **settings):
    with LocalCluster(faults=faults) as cluster:
        cluster.tick(40)
        with RpcClient(
            cluster.url, sleep=cluster.sleep, rng=random.Random(1), timeout_s=5.0, **settings
        ) as rpc:
            yield cluster, rpc
