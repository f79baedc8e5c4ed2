"""kill -9 at any moment: nothing is executed twice, and the journal has all that was sent."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from solders.keypair import Keypair

from velox.cli import submission as command
from velox.errors import SubmitError
from velox.solana.journal.file import COMPACT_BYTES, SubmissionJournal, read_journal
from velox.solana.net.rpc import RpcClient
from velox.solana.orders.outcomes import Outcome
from velox.testing import LocalCluster

from .killed import submitter_at
from .support import ADD, adds, assert_journal_is_true, bundles_of, executed_orders

# 200 where there is time for them.
KILLS = int(os.environ.get("VELOX_KILLS", "20"))
ORDERS = 100

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")


@contextmanager
def killing(rng: random.Random) -> Iterator[Callable[..., None]]:
    """Yield a function that has a process carry out a command, and kills it at a random moment.

    The first command is left alone. It takes as long as the machine needs now, and no later kill
    comes much later than that.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tests.integration.solana.killed"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as zygote:
        assert zygote.stdin is not None
        assert zygote.stdout is not None

        whole_s: float | None = None

        def kill(*words: object) -> None:
            nonlocal whole_s
            print(*words, file=zygote.stdin, flush=True)
            child = int(zygote.stdout.readline())  # type: ignore[union-attr]
            begin = time.monotonic()
            if whole_s is not None:
                time.sleep(rng.uniform(0.0, 1.1 * whole_s))
                os.kill(child, signal.SIGKILL)
            print(file=zygote.stdin, flush=True)
            zygote.stdout.readline()  # type: ignore[union-attr]
            if whole_s is None:
                whole_s = time.monotonic() - begin

        yield kill
        zygote.stdin.close()


def seeded() -> random.Random:
    seed = int.from_bytes(os.urandom(4), "little")
    print(f"seed {seed}")
    return random.Random(seed)


def funded(cluster: LocalCluster, key: Path) -> None:
    """Put a key with lamports into a file."""
    keypair = Keypair()
    key.touch(mode=0o600)
    key.write_text(str(list(bytes(keypair))))
    cluster.fund(keypair.pubkey(), 10**12)


# One that stays whole tells what became of each order; one that is compacted at every other commit
# is killed in the middle of that, too.
@pytest.mark.parametrize("compact_bytes", [COMPACT_BYTES, 4096], ids=["whole", "compacted"])
def test_whenever_a_process_is_killed_the_next_one_executes_nothing_twice(
    tmp_path: Path, compact_bytes: int
) -> None:
    rng, key, journal = seeded(), tmp_path / "key.json", tmp_path / "journal"
    with LocalCluster(slots="real", slot_ns=10_000_000) as cluster:
        funded(cluster, key)
        with killing(rng) as kill:
            for run in range(KILLS):
                kill(cluster.url, key, journal, compact_bytes, 1 + run * ORDERS, ORDERS)

        # The last one is not killed, and follows everything to its outcome.
        with RpcClient(cluster.url, retries=0) as rpc, SubmissionJournal(journal) as opened:
            ledger = submitter_at(rpc, str(key), opened).close(60.0)
        ledger.check()
        assert ledger.unknown == 0

        executed = executed_orders(cluster)
        assert executed
        assert max(executed.values()) == 1

        found = read_journal(journal)
        assert not found.transactions
        assert found.ended[Outcome.LANDED] == len(cluster.executions)
        if compact_bytes == COMPACT_BYTES:
            ids = assert_journal_is_true(journal, cluster, whole=True)
            assert sorted(ids) == sorted(id for kind, id in executed if kind == ADD)


def test_however_often_a_submit_is_killed_and_given_again_its_capture_executes_once(
    tmp_path: Path,
) -> None:
    rng, journal, config = seeded(), tmp_path / "journal", tmp_path / "chain.toml"
    with LocalCluster(slots="real", slot_ns=10_000_000) as cluster:
        funded(cluster, tmp_path / "key.json")
        config.write_text(
            'memo = true\njournal = "journal"\n'
            f'[cluster]\nrpc = "{cluster.url}"\n'
            '[signer]\nkey_file = "key.json"\nmax_spend_lamports_per_minute = 1_000_000_000\n'
            "[submit]\npoll_ns = 5_000_000\nwindow = 4\nattempts = 2\n"
        )
        digests = set()
        with killing(rng) as kill:
            for run in range(KILLS):
                # The same capture again, also after another one was begun.
                capture = tmp_path / f"bundles-{run // 4}.npy"
                if not run % 4:
                    np.save(capture, bundles_of(adds(ORDERS, first=1 + run * ORDERS)))
                    digests.add(hashlib.sha256(capture.read_bytes()).digest())
                kill(capture, config)

        result = command.resume(command.Destination(str(config)))
        ledger = result.ledger
        assert not result.failed
        ledger.check()
        assert (ledger.unknown, ledger.delivered) == (0, 0)
        executed = executed_orders(cluster)
        assert executed
        assert max(executed.values()) == 1
        found = read_journal(journal)
        assert not found.transactions
        assert found.ended[Outcome.LANDED] == len(cluster.executions)
        assert set(found.captures) <= digests
        for path in map(str, tmp_path.glob("*.npy")):
            if hashlib.sha256(Path(path).read_bytes()).digest() in found.captures:
                with pytest.raises(SubmitError, match="has begun this capture already"):
                    command.submit(path, command.Destination(str(config)))
        assert executed_orders(cluster) == executed
