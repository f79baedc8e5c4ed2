"""Feed to executed transactions, offline: a pipeline whose orders land on a cluster of its own.

Needs ``pip install -e '.[solana]'`` in the repository. A strategy, a venue's program and a real
cluster would take the place of the synthetic market, the memos and the local cluster; the rest
stays as it is.
"""

import tempfile
from pathlib import Path

import velox
from velox.solana.config import SubmitOptions
from velox.solana.journal.file import SubmissionJournal
from velox.solana.net.rpc import RpcClient
from velox.solana.orders.reports import ReportKind
from velox.solana.submit.submitter import Submitter
from velox.solana.submit.workers import SubmissionWorkers
from velox.solana.tx.carrier import MemoCarrier
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.testing import LocalCluster

SLOT_NS = 50_000_000


def main() -> None:
    carrier = MemoCarrier()
    signer = KeypairSigner.generate(
        SignerPolicy(
            programs=frozenset([carrier.program]),
            max_tip_lamports=0,
            max_spend_lamports_per_minute=1_000_000_000,
        )
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(slots="real", slot_ns=SLOT_NS) as cluster,
        RpcClient(cluster.url, retries=0) as rpc,
        SubmissionJournal(Path(folder, "journal")) as journal,
    ):
        cluster.fund(signer.pubkey, 10**12)
        options = SubmitOptions(poll_ns=SLOT_NS)
        submitter = Submitter(rpc, None, signer, carrier, None, journal, options=options)

        output = velox.PullOutput()
        pipeline = velox.Pipeline(velox.PoissonIngress(rate=5_000, seed=42), output)
        egress = SubmissionWorkers(output, submitter)
        egress.start()
        report = pipeline.run(duration=2.0)
        ledger = egress.finish(deadline_s=30.0)

        ledger.check(delivered_transactions=report.ledger.delivered_transactions)
        print(ledger)
        told = submitter.reports()
        for kind in ReportKind:
            print(f"{kind.name.lower():<10} {(told['kind'] == kind).sum():>8,}")
        print(f"executed by the cluster: {len(cluster.executions):,} transactions")


if __name__ == "__main__":
    main()
