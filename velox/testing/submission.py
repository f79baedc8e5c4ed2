"""A submission to a local cluster in this process, for ``--submit localnet``."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, Final

from velox.solana.assembly import Statement, Submission
from velox.solana.config import QueueConfig
from velox.solana.journal.file import SubmissionJournal
from velox.solana.net.rpc import RpcClient
from velox.solana.orders.outcomes import Observer
from velox.solana.submit.options import SubmitOptions
from velox.solana.submit.submitter import Submitter
from velox.solana.tx.carrier import Carrier
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.manifest.instructions import OrderType
from velox.solana.venues.memo import MemoCarrier
from velox.testing.cluster import LocalCluster
from velox.testing.venue import MarketPlan

__all__ = ["LOCAL_SLOT_NS", "local_submission"]

#: The length of a slot, in nanoseconds.
LOCAL_SLOT_NS: Final = 50_000_000
# The lamports of the payer.
LOCAL_LAMPORTS: Final = 1_000_000_000_000
LOCAL_DEADLINE_S: Final = 30.0


@contextmanager
def local_submission(
    journal: str | None = None,
    observer: Observer | None = None,
    *,
    on_open: Callable[[SubmissionJournal], None] | None = None,
    slot_ns: int = LOCAL_SLOT_NS,
    clock: Callable[[], int] = time.monotonic_ns,
    market: bool | MarketPlan = True,
    on_cluster: Callable[[LocalCluster], None] | None = None,
    **options: Any,
) -> Iterator[Submission]:
    """Start a local cluster with a new payer, and submit orders to it.

    They are limit orders on the cluster's market, where the payer has a seat and deposits. Without
    a market, the orders are memos: the chain executes them, and they trade nothing.

    Parameters
    ----------
    journal : str, optional
        The journal's path; a temporary file by default. The cluster ends with the process anyway.
    observer : callable, optional
        See `velox.solana.Tally`.
    on_open : callable, optional
        Called with the journal once it is open.
    slot_ns : int
        The length of a slot, in nanoseconds.
    clock : callable
        Monotonic ns.
    market : bool or MarketPlan
        Whether the orders trade on a market; see `velox.testing.LocalCluster`.
    on_cluster : callable, optional
        Called with the cluster before anything is sent. The cluster ends with the submission.
    **options
        Fields of `velox.solana.SubmitOptions`.
    """
    with ExitStack() as stack:
        cluster = stack.enter_context(LocalCluster(slots="real", slot_ns=slot_ns, market=market))
        carrier: Carrier = MemoCarrier()
        statement: Callable[[], Statement] | None = None
        if market:
            carrier = ManifestCarrier(cluster.market.spec, order_type=OrderType.LIMIT)
        signer = KeypairSigner.generate(
            SignerPolicy(
                programs=frozenset([carrier.program]),
                cancels={carrier.program: carrier.only_cancels},
                rents={carrier.program: carrier.most_rent},
                max_tip_lamports=0,
                max_spend_lamports_per_minute=LOCAL_LAMPORTS,
            )
        )
        cluster.fund(signer.pubkey, LOCAL_LAMPORTS)
        if market:
            cluster.market.admit(signer.pubkey)
            crowd = cluster.crowd
            statement = partial(
                cluster.market.statement,
                signer.pubkey,
                frozenset() if crowd is None else crowd.pubkeys,
            )
        if on_cluster is not None:
            on_cluster(cluster)
        rpc = RpcClient(cluster.url, retries=0)
        stack.callback(rpc.close)
        if journal is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="velox-"))
            journal = os.path.join(folder, "journal")
        opened = stack.enter_context(SubmissionJournal(journal))
        if on_open is not None:
            on_open(opened)
        capacity = QueueConfig().capacity
        submit_options = SubmitOptions(**{"poll_ns": slot_ns, **options})
        submitter = Submitter(
            rpc,
            None,
            signer,
            carrier,
            None,
            opened,
            options=submit_options,
            capacity=capacity,
            observer=observer,
            clock=clock,
        )
        yield Submission(
            submitter=submitter,
            journal=opened,
            capacity=capacity,
            deadline_s=LOCAL_DEADLINE_S,
            payer=signer.pubkey,
            genesis=submitter.genesis,
            rpc=cluster.url,
            on_exit=submit_options.on_exit,
            statement=statement,
        )
