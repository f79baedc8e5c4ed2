"""Helpers of submission tests: a cluster with manual time, and its executed transactions."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from solders.transaction import VersionedTransaction

from velox import BUNDLE_DTYPE, TRANSACTION_DTYPE, Kind
from velox.solana.journal.file import SubmissionJournal, journal_records
from velox.solana.journal.records import Ended
from velox.solana.net.block_engine import BlockEngineClient
from velox.solana.net.rpc import RpcClient
from velox.solana.net.tips import FixedTip
from velox.solana.orders.in_flight import Signed
from velox.solana.orders.outcomes import Outcome
from velox.solana.submit.options import SubmitOptions
from velox.solana.submit.submitter import Submitter
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.solana.venues.memo import MemoCarrier, decode_memo
from velox.testing import LocalCluster
from velox.testing.transport import Interceptor

SLOT_NS = 400_000_000
ADD, CANCEL = int(Kind.ADD), int(Kind.CANCEL)


def bundles_of(records: Any) -> Any:
    """Records as bundles of sixteen."""
    bundles = np.zeros(-(-len(records) // 16), BUNDLE_DTYPE)
    for index, bundle in enumerate(bundles):
        some = records[index * 16 : index * 16 + 16]
        bundle["transactions"][: len(some)] = some
        bundle["count"] = len(some)
    return bundles


def adds(count: int, *, first: int = 1) -> Any:
    """Orders that nothing nets: each id once, each at a price of its own."""
    records = np.zeros(count, TRANSACTION_DTYPE)
    records["id"] = np.arange(first, first + count)
    records["price"] = records["id"] * 100
    records["size"] = 1
    return records


def new_signer(cluster: LocalCluster, *, lamports: int = 10**12, **policy: Any) -> KeypairSigner:
    carrier = MemoCarrier()
    signer = KeypairSigner.generate(
        SignerPolicy(
            **{
                "programs": frozenset([carrier.program]),
                "max_tip_lamports": 100_000,
                "max_spend_lamports_per_minute": 10**12,
                **policy,
            }
        ),
        clock=cluster.clock,
    )
    cluster.fund(signer.pubkey, lamports)
    return signer


class Harness:
    """A submitter on a cluster, and how each order ended."""

    def __init__(
        self,
        cluster: LocalCluster,
        journal: Path,
        signer: Any = None,
        *,
        engine: bool = False,
        rate_per_s: float = 1e6,
        carriers: Any = None,
        seed: int = 0,
        options: Any = None,
        rng: Any = None,
        **more: Any,
    ) -> None:
        self.cluster = cluster
        # Added to the submitter's clock from now on.
        self.jump_ns = 0
        self.ends: dict[int, tuple[Outcome, str]] = {}
        self.signer = signer if signer is not None else new_signer(cluster)
        self.journal = SubmissionJournal(journal)
        # A test puts this between the submitter and the node.
        self.network = Interceptor()
        self.rpc = RpcClient(
            cluster.url,
            retries=0,
            timeout_s=10.0,
            clock=cluster.clock,
            rng=random.Random(seed),
            transport=self.network,
        )
        self.engine = None
        if engine:
            self.engine = BlockEngineClient(
                cluster.block_engine_url,
                clock=cluster.clock,
                rng=random.Random(seed),
                rate_per_s=rate_per_s,
            )
        try:
            self.submitter = self._open(engine, carriers, options, rng or random.Random(seed), more)
        except BaseException:
            self.abandon()
            raise

    def _open(self, engine: bool, carriers: Any, options: Any, rng: Any, more: Any) -> Submitter:
        return Submitter(
            self.rpc,
            self.engine,
            self.signer,
            carriers if carriers is not None else MemoCarrier(),
            FixedTip(5_000) if engine else None,
            self.journal,
            options=SubmitOptions(**{"poll_ns": SLOT_NS, **(options or {})}),
            observer=self.note,
            clock=lambda: self.cluster.clock() + self.jump_ns,
            sleep=self.cluster.sleep,
            rng=rng,
            **more,
        )

    def note(self, tickets: Any, outcome: Outcome, reason: str) -> None:
        for ticket in tickets:
            assert int(ticket) not in self.ends, "an order ended twice"
            self.ends[int(ticket)] = outcome, reason

    def outcomes(self) -> Counter[Outcome]:
        return Counter(outcome for outcome, _ in self.ends.values())

    def drive(self, slots: int = 1000) -> None:
        """Step and tick until nothing is left to do."""
        for _ in range(slots):
            self.submitter.step()
            if self.submitter.idle:
                return
            self.cluster.tick()

    def abandon(self) -> None:
        """Leave everything as a crash would: no end is written, only the lock is gone."""
        self.journal.close()
        self.close_clients()

    def close_clients(self) -> None:
        self.rpc.close()
        if self.engine is not None:
            self.engine.close()


def executed_orders(cluster: LocalCluster, *, failed: bool = False) -> Counter[tuple[int, int]]:
    """How often each order, by kind and id, was executed: the truth."""
    counted: Counter[tuple[int, int]] = Counter()
    for each in cluster.executions:
        if (each.err is not None) is failed:
            message = VersionedTransaction.from_bytes(each.raw).message
            for record in decode_memo(bytes(message.instructions[-1].data)):
                counted[int(record["kind"]), int(record["id"])] += 1
    return counted


def assert_journal_is_true(path: Path, cluster: LocalCluster, *, whole: bool) -> list[int]:
    """Check that the journal has everything that was executed; return the ids of what landed.

    `whole` asks that everything in the journal has an end.
    """
    signed, ended = {}, {}
    for record in journal_records(path):
        if isinstance(record, Signed):
            signed[record.number] = record
        elif isinstance(record, Ended):
            ended[record.number] = record
    if whole:
        assert signed.keys() == ended.keys()
    executed = {each.signature for each in cluster.executions if each.err is None}
    assert executed <= {each.signature for each in signed.values()}, "sent, and not journalled"
    for number, record in ended.items():
        landed = record.outcome is Outcome.LANDED
        assert landed is (signed[number].signature in executed), record
    return [
        int(id)
        for number, each in signed.items()
        if number in ended and ended[number].outcome is Outcome.LANDED
        for id in each.orders["id"]
    ]
