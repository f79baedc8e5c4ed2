"""From a feed to executed transactions, offline: the orders of a pipeline land on a local cluster.

Needs ``pip install -e '.[localnet]'`` in the repository. For a real market, replace the synthetic
ingress by a feed, the memos by a venue's carrier, and the local cluster by an RPC node.
"""

import tempfile
from pathlib import Path

import velox
from velox import solana
from velox.testing import LocalCluster

SLOT_NS = 50_000_000


def main() -> None:
    carrier = solana.MemoCarrier()
    signer = solana.KeypairSigner.generate(
        solana.SignerPolicy(
            programs=frozenset([carrier.program]),
            max_tip_lamports=0,
            max_spend_lamports_per_minute=1_000_000_000,
        )
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(slots="real", slot_ns=SLOT_NS) as cluster,
        solana.RpcClient(cluster.url, retries=0) as rpc,
        solana.SubmissionJournal(Path(folder, "journal")) as journal,
    ):
        cluster.fund(signer.pubkey, 10**12)
        options = solana.SubmitOptions(poll_ns=SLOT_NS)
        submitter = solana.Submitter(rpc, None, signer, carrier, None, journal, options=options)

        output = velox.PullOutput()
        pipeline = velox.Pipeline(velox.PoissonIngress(rate=5_000, seed=42), output)
        workers = solana.SubmissionWorkers(output, submitter)
        workers.start()
        report = pipeline.run(duration=2.0)
        ledger = workers.finish(deadline_s=30.0)

        ledger.check(delivered_transactions=report.ledger.delivered_transactions)
        print(ledger)
        reports = submitter.reports()
        for kind in solana.ReportKind:
            print(f"{kind.name.lower():<10} {(reports['kind'] == kind).sum():>8,}")
        print(f"executed by the cluster: {len(cluster.executions):,} transactions")


if __name__ == "__main__":
    main()
