"""Feed to executed transactions: the pipeline on its threads, and the command line."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solders.keypair import Keypair

import velox
from tests.support import orders
from velox import cli
from velox.errors import SubmitError
from velox.solana.chain_ledger import Outcome
from velox.solana.egress import Egress
from velox.solana.journal import read_journal
from velox.testing import LocalCluster

from .support import Desk, adds, bundles_of, executed_orders


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(slots="real", slot_ns=10_000_000, rate_per_s=None) as made:
        yield made


def configuration(folder: Path, cluster: LocalCluster, *, engine: bool = False) -> Path:
    keypair, key = Keypair(), folder / "key.json"
    key.touch(mode=0o600)
    key.write_text(str(list(bytes(keypair))))
    cluster.fund(keypair.pubkey(), 10**12)
    path = folder / "chain.toml"
    path.write_text(
        'memo = true\njournal = "journal"\n'
        f'[cluster]\nrpc = "{cluster.url}"\n'
        '[signer]\nkey_file = "key.json"\nmax_spend_lamports_per_minute = 1_000_000_000\n'
        "[submit]\npoll_ns = 10_000_000\n"
        + (
            f'[block_engine]\nregions = ["{cluster.block_engine_url}"]\nrate_per_s = 1000\n'
            f'[tip]\nfloor_url = "{cluster.url}/api/v1/bundles/tip_floor"\n'
            if engine
            else ""
        )
    )
    return path


def run(*arguments: str) -> int:
    return cli.main(["run", "--duration", "0.5", "--rate", "3000", "--quiet", *arguments])


def test_a_pipeline_on_its_threads_ends_on_the_chain(cluster: LocalCluster, tmp_path: Path) -> None:
    desk = Desk(cluster, tmp_path / "journal", options={"poll_ns": 10_000_000})
    ingress, output = velox.PushIngress(), velox.PullOutput()
    egress = Egress(output, desk.submitter)
    with velox.Pipeline(ingress, output) as pipeline:
        egress.start()
        ingress.push(orders(500))
    ledger = egress.finish(30.0)
    ledger.check(delivered_transactions=pipeline.ledger().delivered_transactions)
    assert desk.outcomes() == {Outcome.LANDED: 500}
    assert sum(executed_orders(cluster).values()) == 500
    desk.close_clients()


def test_a_submitter_that_fails_lets_the_pipeline_stop_in_order(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    desk = Desk(cluster, tmp_path / "journal")
    desk.abandon()  # the journal is closed: the first transaction cannot be noted
    ingress, output = velox.PushIngress(), velox.PullOutput()
    egress = Egress(output, desk.submitter)
    with velox.Pipeline(ingress, output) as pipeline:
        egress.start()
        ingress.push(orders(5000))
    with pytest.raises(SubmitError, match="submission stopped"):
        egress.finish(30.0)
    assert pipeline.ledger().delivered_transactions == 5000
    desk.submitter.ledger().check(delivered_transactions=5000)
    assert not executed_orders(cluster)
    desk.close_clients()


def test_an_observer_that_raises_lets_the_pipeline_stop_in_order(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    # Of more than one order at a time it is told on the thread that takes them in.
    desk = Desk(cluster, tmp_path / "journal", capacity=1)

    def fails(*told: object) -> None:
        raise RuntimeError("the observer's own")

    desk.submitter._tally._observer = fails
    ingress, output = velox.PushIngress(), velox.PullOutput()
    egress = Egress(output, desk.submitter)
    with velox.Pipeline(ingress, output) as pipeline:
        egress.start()
        ingress.push(orders(50_000))
    with pytest.raises(SubmitError, match="the observer's own"):
        egress.finish(30.0)
    assert pipeline.ledger().balanced
    desk.abandon()


def test_run_submits_to_a_cluster_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    assert run("--submit", "localnet", "--json", str(path)) == 0
    ledger = json.loads(path.read_text())["ledger"]
    chain = ledger["chain"]
    assert chain["balanced"]
    assert chain["delivered"] == ledger["delivered_transactions"] > 0
    assert chain["landed"] > 0
    assert chain["unknown"] == 0
    assert "to the chain" in capsys.readouterr().out


@pytest.mark.parametrize("engine", [False, True])
def test_run_submits_where_a_configuration_says(
    cluster: LocalCluster, tmp_path: Path, engine: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, cluster, engine=engine)
    assert run("--submit", str(config)) == 0
    landed = sum(executed_orders(cluster).values())
    assert landed > 0
    assert bool(cluster.bundles) is engine
    assert f"landed  {landed:>19,}".split() == [
        *next(x for x in capsys.readouterr().out.splitlines() if "landed" in x).split()
    ]
    assert not read_journal(tmp_path / "journal").transactions


def test_a_capture_is_submitted_and_its_journal_read(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, cluster)
    capture = tmp_path / "bundles.npy"
    np.save(capture, bundles_of(adds(300)))
    ledger = tmp_path / "ledger.json"
    arguments = ["submit", str(capture), "--submit", str(config), "--json", str(ledger)]
    assert cli.main(arguments) == 0
    assert json.loads(ledger.read_text())["chain"]["landed"] == 300
    assert sum(executed_orders(cluster).values()) == 300
    assert cli.main(["status", str(tmp_path / "journal"), "--config", str(config)]) == 0
    said = capsys.readouterr().out
    assert "under way   0 transactions" in said


def test_status_asks_no_node_of_another_cluster(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(cluster, tmp_path / "journal")
    desk.submitter.intake(bundles_of(adds(10)))
    desk.submitter.step()
    desk.abandon()
    with LocalCluster(seed=7) as other:
        config = configuration(tmp_path, other)
        assert cli.main(["status", str(tmp_path / "journal"), "--config", str(config)]) == 2
    assert "cluster.rpc: of genesis" in capsys.readouterr().err
    missing = str(tmp_path / "missing.toml")
    assert cli.main(["status", str(tmp_path / "journal"), "--config", missing]) == 2


def test_tips_says_whom_and_how_much(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, cluster, engine=True)
    assert cli.main(["tips", str(config)]) == 0
    said = capsys.readouterr().out
    assert str(cluster.tip_accounts[0]) in said
    assert "the next bundle would pay 1,000 lamports" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--submit", "missing.toml"], "missing.toml: No such file"),
        (["run", "--journal", "x"], "journal = 'x': only with --submit"),
        (["run", "--submit", "localnet", "--capture", "x.npy"], "capture and submit"),
        (["submit", "missing.npy"], "missing.npy: No such file"),
        (["status", "missing"], "missing: no such file"),
        (["tips", "localnet"], "name a configuration"),
        (["run", "--submit", "localnet", "--journal", "no/where"], "No such file"),
        (["run", "--submit", "localnet", "--placement", "invoker"], "takes no Push or Pull"),
    ],
)
def test_bad_usage_is_one_line_and_status_2(
    arguments: list[str], said: str, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("velox: error: ")
    assert error.count("\n") == 1
    assert said in error


def test_a_file_of_something_else_is_not_submitted(tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "numbers.npy", np.arange(5))
    assert cli.main(["submit", str(tmp_path / "numbers.npy")]) == 2
    assert "holds int64, not bundles" in capsys.readouterr().err


def test_a_full_disk_ends_a_submission_with_its_ledger_and_nothing_is_sent(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, capture = configuration(tmp_path, cluster), tmp_path / "bundles.npy"
    np.save(capture, bundles_of(adds(300)))
    assert cli.main(["submit", str(capture), "--submit", str(config)]) == 0
    executed, size = len(cluster.executions), (tmp_path / "journal").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        assert cli.main(["submit", str(capture), "--submit", str(config)]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    told = capsys.readouterr()
    assert f"journal: byte {size}: File too large" in told.err
    assert told.out.split()[-1] == "yes"
    assert len(cluster.executions) == executed
    # The torn frame is cut off, and nothing in it was ever sent.
    assert cli.main(["status", str(tmp_path / "journal")]) == 0
    assert "under way   0 transactions" in capsys.readouterr().out


def test_an_interrupted_run_follows_what_it_sent_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    command = ["run", "--rate", "2000", "--submit", "localnet", "--duration", "60"]
    with subprocess.Popen(
        [sys.executable, "-m", "velox", *command, "--json", str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("[  1s]"):
                break
        process.send_signal(signal.SIGINT)
        process.stdout.read()
    assert process.returncode == 0
    document = json.loads(path.read_text())
    assert document["interrupted"]
    assert document["ledger"]["chain"]["balanced"]
    assert document["ledger"]["chain"]["landed"] > 0


def test_velox_alone_loads_nothing_of_the_chain() -> None:
    program = (
        "import sys, velox, velox.cli\n"
        "assert not [each for each in sys.modules if each.startswith(('velox.solana', 'solders'))]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
