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

from velox.solana.chain_ledger import Outcome
from velox.solana.journal import COMPACT_BYTES, SubmissionJournal, read_journal
from velox.solana.rpc import RpcClient
from velox.testing import LocalCluster

from .killed import submitter_at
from .support import ADD, assert_journal_is_true, executed_orders

# 200 where there is time for them.
KILLS = int(os.environ.get("VELOX_KILLS", "20"))
ORDERS = 100
# From the fork to the end of a run undisturbed it takes some 100 ms.
LATEST_S = 0.12

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


# One that stays whole tells what became of each order; one that is compacted at every other commit
# is killed in the middle of that, too.
@pytest.mark.parametrize("compact_bytes", [COMPACT_BYTES, 4096], ids=["whole", "compacted"])
def test_whenever_a_process_is_killed_the_next_one_executes_nothing_twice(
    tmp_path: Path, compact_bytes: int
) -> None:
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
                line = cluster.url, key, journal, compact_bytes, first, ORDERS
                print(*line, file=zygote.stdin, flush=True)
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

        found = read_journal(journal)
        assert not found.transactions
        assert found.ended[Outcome.LANDED] == len(cluster.executions)
        if compact_bytes == COMPACT_BYTES:
            ids = assert_journal_is_true(journal, cluster, whole=True)
            assert sorted(ids) == sorted(id for kind, id in executed if kind == ADD)
