"""Forks processes that are to be killed. Each submits orders until it is killed or done.

It loads everything once and forks; a line on its input is ``URL KEY JOURNAL COMPACT FIRST COUNT``,
or ``CAPTURE CONFIG`` for what ``velox submit`` does, and ``velox resume`` where that is refused.
Its answer is the number of the process, or an empty line when asked to wait for it.
"""

from __future__ import annotations

import os
import random
import sys
import time

from velox.cli import submission as command
from velox.errors import SolanaError, SubmitError
from velox.solana.journal.file import SubmissionJournal
from velox.solana.net.rpc import RpcClient
from velox.solana.submit.options import SubmitOptions
from velox.solana.submit.submitter import Submitter
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.solana.venues.memo import MemoCarrier

from .support import adds, bundles_of

POLL_NS = 5_000_000


def submitter_at(rpc: RpcClient, key: str, journal: SubmissionJournal, **options: int) -> Submitter:
    carrier = MemoCarrier()
    policy = SignerPolicy(
        programs=frozenset([carrier.program]),
        max_tip_lamports=0,
        max_spend_lamports_per_minute=10**12,
    )
    return Submitter(
        rpc,
        None,
        KeypairSigner.from_file(key, policy),
        carrier,
        None,
        journal,
        options=SubmitOptions(poll_ns=POLL_NS, **options),
        rng=random.Random(0),
    )


def submit(url: str, key: str, journal: str, compact: int, first: int, count: int) -> None:
    rpc = RpcClient(url, retries=0)
    opened = SubmissionJournal(journal, compact_bytes=compact)
    submitter = submitter_at(rpc, key, opened, attempts=2)
    for start in range(first, first + count, 20):
        submitter.intake(bundles_of(adds(20, first=start)))
        submitter.step()
    while not submitter.idle:
        if not submitter.step():
            time.sleep(0.001)


def submit_capture(capture: str, config: str) -> None:
    try:
        command.submit(capture, command.Destination(config))
    except SubmitError:
        command.resume(command.Destination(config))


def main() -> None:
    for line in sys.stdin:
        if not line.strip():
            os.wait()
            print(flush=True)
            continue
        words = line.split()
        child = os.fork()
        if child == 0:
            try:
                if len(words) == 2:
                    submit_capture(*words)
                else:
                    submit(*words[:3], *map(int, words[3:]))
            except SolanaError as error:
                print(error, file=sys.stderr, flush=True)
            finally:
                os._exit(0)
        print(child, flush=True)


if __name__ == "__main__":
    main()
