"""kill -9 at any moment: nothing is executed twice, and the journal has all that was sent."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from solders.keypair import Keypair
from solders.transaction import VersionedTransaction

from velox.solana.chain_ledger import Outcome
from velox.solana.journal import (
    Ended,
    Signed,
    SubmissionJournal,
    journal_records,
    read_journal,
)
from velox.solana.rpc import RpcClient
from velox.testing import LocalCluster

from .killed import submitter_at
from .support import ADD, executed_orders

# 200 where there is time for them.
KILLS = int(os.environ.get("VELOX_KILLS", "20"))
ORDERS = 100
# From the fork to the end of a run undisturbed it takes some 100 ms.
LATEST_S = 0.12

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


def test_whenever_a_process_is_killed_the_next_one_executes_nothing_twice(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    rng = random.Random(seed)
    keypair, key, journal = Keypair(), tmp_path / "key.json", tmp_path / "journal"
    key.touch(mode=0o600)
    key.write_text(str(list(bytes(keypair))))
    with LocalCluster(slots="real", slot_ns=10_000_000) as cluster:
        cluster.fund(keypair.pubkey(), 10**12)
        with subprocess.Popen(
            [sys.executable, "-m", "tests.solana.killed"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as zygote:
            assert zygote.stdin is not None
            assert zygote.stdout is not None
            for run in range(KILLS):
                first = 1 + run * ORDERS
                print(cluster.url, key, journal, first, ORDERS, file=zygote.stdin, flush=True)
                child = int(zygote.stdout.readline())
                time.sleep(rng.uniform(0.0, LATEST_S))
                os.kill(child, signal.SIGKILL)
                print(file=zygote.stdin, flush=True)
                zygote.stdout.readline()
            zygote.stdin.close()

        # The last one is left alone, and follows everything to its end.
        with RpcClient(cluster.url, retries=0) as rpc, SubmissionJournal(journal) as opened:
            ledger = submitter_at(rpc, str(key), opened).close(60.0)
        ledger.check()
        assert ledger.unknown == 0

        executed = executed_orders(cluster)
        assert executed, "every process was killed before it sent anything"
        assert max(executed.values()) == 1

        signed, ended = {}, {}
        for record in journal_records(journal):
            if isinstance(record, Signed):
                signed[record.number] = record
            elif isinstance(record, Ended):
                ended[record.number] = record
        assert signed.keys() == ended.keys()
        assert not read_journal(journal).transactions
        landed = {each.signature for each in cluster.executions if each.err is None}
        ours = {each.signature for each in signed.values()}
        memos = {
            each.signature
            for each in cluster.executions
            if VersionedTransaction.from_bytes(each.raw).message.account_keys[0] == keypair.pubkey()
        }
        assert memos <= ours, "something was sent that the journal does not have"
        for number, each in signed.items():
            was_executed = each.signature in landed
            assert was_executed is (ended[number].outcome is Outcome.LANDED)
        # An order is in at most one transaction that was executed.
        ids = [
            int(order)
            for number, each in signed.items()
            if ended[number].outcome is Outcome.LANDED
            for order in each.orders["id"]
        ]
        assert sorted(ids) == sorted(id for kind, id in executed if kind == ADD)
