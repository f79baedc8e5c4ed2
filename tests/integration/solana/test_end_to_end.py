"""Feed to executed transactions: the pipeline on its threads, and the command line."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from solders.keypair import Keypair

import velox
from tests.support import orders
from velox import cli
from velox.errors import ConfigError, SubmitError, ThreadError
from velox.runtime.capture import begin_capture
from velox.solana.journal.file import read_journal
from velox.solana.orders.outcomes import Outcome
from velox.solana.submit.workers import SubmissionWorkers
from velox.solana.tx.signer import KeypairSigner
from velox.testing import LocalCluster

from .support import Harness, adds, bundles_of, executed_orders, new_signer

ROOT = Path(__file__).parents[3]


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


class Bundles:
    """A source of bundles of `adds`, one at a time, until `over` returns True."""

    def __init__(self, count: int, over: Callable[[], bool] = lambda: False) -> None:
        self.left = list(bundles_of(adds(count)).reshape(-1, 1))
        self.over = over

    @property
    def exhausted(self) -> bool:
        return not self.left or self.over()

    def poll(self) -> Any:
        return nullcontext(self.left.pop(0))


@pytest.fixture
def refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., str]:
    """Run a wrong command in a folder of its own; return its message."""
    monkeypatch.chdir(tmp_path)

    def attempt(*arguments: str) -> str:
        assert cli.main(list(arguments)) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        return said.removeprefix("velox: error: ").rstrip("\n")

    return attempt


def started(*arguments: object, **how: Any) -> Any:
    """A command in a process of its own, whose output can be read line by line."""
    return subprocess.Popen(
        [sys.executable, "-m", "velox", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **how,
    )


def line_with(what: str, stream: Any) -> str:
    for line in stream:
        if what in line:
            return str(line)
    raise AssertionError(f"it ended without {what!r}")


def test_a_pipeline_on_its_threads_ends_on_the_chain(cluster: LocalCluster, tmp_path: Path) -> None:
    harness = Harness(cluster, tmp_path / "journal", options={"poll_ns": 10_000_000})
    ingress, output = velox.PushIngress(), velox.PullOutput()
    workers = SubmissionWorkers(output, harness.submitter)
    with velox.Pipeline(ingress, output) as pipeline:
        workers.start()
        ingress.push(orders(500))
    ledger = workers.finish(30.0)
    ledger.check(delivered_transactions=pipeline.ledger().delivered_transactions)
    assert harness.outcomes() == {Outcome.LANDED: 500}
    assert sum(executed_orders(cluster).values()) == 500
    harness.close_clients()


def test_a_submitter_that_fails_lets_the_pipeline_stop_in_order(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    harness = Harness(cluster, tmp_path / "journal")
    harness.abandon()  # the journal is closed: the first transaction cannot be noted
    ingress, output = velox.PushIngress(), velox.PullOutput()
    workers = SubmissionWorkers(output, harness.submitter)
    with velox.Pipeline(ingress, output) as pipeline:
        workers.start()
        ingress.push(orders(5000))
    with pytest.raises(SubmitError, match="submission stopped"):
        workers.finish(30.0)
    assert pipeline.ledger().delivered_transactions == 5000
    harness.submitter.ledger().check(delivered_transactions=5000)
    assert not executed_orders(cluster)
    harness.close_clients()


def test_orders_of_a_market_of_another_scale_are_not_sent(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    harness = Harness(cluster, tmp_path / "journal")
    ingress, output = velox.PushIngress(), velox.PullOutput()
    workers = SubmissionWorkers(output, harness.submitter)
    velox.Pipeline(ingress, output, books=[velox.Instrument(name="PEPE", price_decimals=8)])
    with pytest.raises(ConfigError) as caught:
        workers.start()
    assert caught.value.field == "source"
    with pytest.raises(SubmitError):
        workers.finish(30.0)
    harness.abandon()


def test_an_observer_that_raises_lets_the_pipeline_stop_in_order(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    # The thread that takes orders in reports several at a time.
    harness = Harness(cluster, tmp_path / "journal", capacity=1)

    def fails(*told: object) -> None:
        raise RuntimeError("the observer's own")

    harness.submitter._tally._observer = fails
    ingress, output = velox.PushIngress(), velox.PullOutput()
    workers = SubmissionWorkers(output, harness.submitter)
    with velox.Pipeline(ingress, output) as pipeline:
        workers.start()
        ingress.push(orders(50_000))
    with pytest.raises(SubmitError, match="the observer's own"):
        workers.finish(30.0)
    assert pipeline.ledger().balanced
    harness.abandon()


def test_the_workers_wait_for_no_pipeline_that_still_runs(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    harness = Harness(cluster, tmp_path / "journal", options={"poll_ns": 10_000_000})
    ingress, output = velox.PushIngress(), velox.PullOutput()
    workers = SubmissionWorkers(output, harness.submitter)
    with pytest.raises(SubmitError, match="the workers were not started"):
        workers.finish(30.0)
    with velox.Pipeline(ingress, output) as pipeline:
        workers.start()
        with pytest.raises(SubmitError, match="the workers were started already"):
            workers.start()
        ingress.push(orders(50))
        with pytest.raises(SubmitError, match="stop the pipeline first"):
            workers.finish(30.0, source_s=0.0)
        ingress.push(orders(50))
    workers.finish(30.0).check(delivered_transactions=pipeline.ledger().delivered_transactions)
    assert harness.outcomes() == {Outcome.LANDED: 100}
    harness.close_clients()


@pytest.mark.parametrize("deadline_s", [float("nan"), float("inf"), -1.0, "soon", None])
def test_a_deadline_that_is_none_is_refused(
    cluster: LocalCluster, tmp_path: Path, deadline_s: Any
) -> None:
    harness = Harness(cluster, tmp_path / "journal")
    workers = SubmissionWorkers(Bundles(10), harness.submitter)
    workers.start()
    for end in (workers.finish, harness.submitter.close):
        with pytest.raises(ConfigError, match=f"deadline_s = {deadline_s!r}: must be a number"):
            end(deadline_s)
    assert workers.finish(60.0).landed == 10
    harness.close_clients()


@pytest.mark.parametrize("source", [velox.DiscardOutput(), None])
def test_the_workers_refuse_what_has_no_bundles_and_what_submits_none(
    cluster: LocalCluster, tmp_path: Path, source: Any
) -> None:
    harness = Harness(cluster, tmp_path / "journal")
    with pytest.raises(ConfigError, match=r"source = .*: must have poll"):
        SubmissionWorkers(source, harness.submitter)
    with pytest.raises(ConfigError, match="submitter = None: must be a Submitter"):
        SubmissionWorkers(velox.PullOutput(), None)  # type: ignore[arg-type]
    harness.abandon()


@pytest.mark.parametrize("thread", ["velox-intake", "velox-submit", "velox-closing"])
def test_workers_without_a_thread_say_so_and_leaves_none(
    cluster: LocalCluster, tmp_path: Path, thread: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def starts(self: threading.Thread) -> None:
        if self.name == thread:
            raise RuntimeError("can't start new thread")
        start(self)

    harness = Harness(cluster, tmp_path / "journal")
    workers = SubmissionWorkers(Bundles(10), harness.submitter)
    monkeypatch.setattr(threading.Thread, "start", starts)
    with pytest.raises(ThreadError, match=f"thread {thread}: the system has none left"):
        workers.start()
        workers.finish(60.0)
    assert not [each for each in threading.enumerate() if each.name in ("velox-intake", thread)]
    harness.abandon()


@pytest.mark.parametrize("moment", ["taking in", "closing"])
def test_a_request_to_end_sheds_what_waits_and_follows_what_is_under_way(
    cluster: LocalCluster, tmp_path: Path, moment: str
) -> None:
    harness = Harness(cluster, tmp_path / "journal", options={"poll_ns": 10_000_000, "window": 1})
    submitter, signed = harness.submitter, []

    def requests() -> int:
        if moment == "closing" and source.left:
            return 0
        if not signed and not executed_orders(cluster):
            return 0
        signed.append(submitter.ledger().transactions["signed"])
        return 1

    source = Bundles(3000, over=lambda: bool(requests()))
    workers = SubmissionWorkers(source, submitter)
    workers.start()
    ledger = workers.finish(60.0, requests=requests)
    ledger.check()
    assert workers.stopping is not None
    assert workers.stopping.waiting == ledger.shed > 0
    assert ledger.landed == sum(executed_orders(cluster).values()) > 0
    assert (ledger.unknown, ledger.expired) == (0, 0)
    # The duty cycle that ran when the request came may still sign one.
    assert ledger.transactions["signed"] - signed[0] <= 1
    harness.close_clients()


def test_a_second_request_to_end_leaves_what_is_under_way_to_the_next_process(
    tmp_path: Path,
) -> None:
    with LocalCluster() as still:
        harness = Harness(still, tmp_path / "journal", options={"window": 2})
        # Time stands still, so nothing that was sent can end.
        workers = SubmissionWorkers(Bundles(100), harness.submitter)
        asked = itertools.count(1)

        def requests() -> int:
            return min(2, next(asked)) if harness.submitter.statistics().in_flight else 0

        workers.start()
        ledger = workers.finish(60.0, requests=requests)
        ledger.check()
        assert ledger.unknown > 0
        assert ledger.unknown + ledger.shed == 100
        harness.abandon()
        after = Harness(still, tmp_path / "journal", harness.signer)
        assert after.submitter.ledger().recovered == ledger.unknown
        assert after.submitter.close().landed == ledger.unknown
        after.abandon()


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
    assert "in flight   0 transactions" in said


def test_a_capture_that_was_begun_is_not_sent_again_unasked(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, capture = configuration(tmp_path, cluster), tmp_path / "bundles.npy"
    np.save(capture, bundles_of(adds(60)))
    submit = ["submit", str(capture), "--submit", str(config)]
    assert cli.main(submit) == 0
    # A copy of it is the same.
    shutil.copy(capture, tmp_path / "copy.npy")
    for path in (str(capture), str(tmp_path / "copy.npy")):
        capsys.readouterr()
        assert cli.main(["submit", path, "--submit", str(config)]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"velox: error: {path}: {tmp_path / 'journal'} has begun this")
        assert f"'velox resume {config}' follows what is in flight" in error
        assert "--again" in error
    assert set(executed_orders(cluster).values()) == {1}
    assert cli.main([*submit, "--again"]) == 0
    assert set(executed_orders(cluster).values()) == {2}
    assert cli.main(submit) == 2
    capsys.readouterr()
    assert cli.main(["status", str(tmp_path / "journal")]) == 0
    digest = hashlib.sha256(capture.read_bytes()).hexdigest()
    assert f"begun       {digest[:16]}…, a capture of 4 bundles" in capsys.readouterr().out
    np.save(capture, bundles_of(adds(30, first=1000)))
    assert cli.main(submit) == 0


def test_what_a_killed_submit_left_is_resumed(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, capture = configuration(tmp_path, cluster), tmp_path / "bundles.npy"
    config.write_text(config.read_text() + "window = 2\n")
    np.save(capture, bundles_of(adds(4000)))
    with started("submit", capture, "--submit", config) as process:
        while not cluster.executions:
            assert process.poll() is None
        process.kill()
    assert cli.main(["submit", str(capture), "--submit", str(config)]) == 2
    found = read_journal(tmp_path / "journal")
    left, ledger = found.transactions, tmp_path / "ledger.json"
    capsys.readouterr()
    assert cli.main(["resume", str(config), "--json", str(ledger)]) == 0
    said = capsys.readouterr().out
    assert f"{tmp_path / 'journal'}: {len(left)} transactions in flight, of " in said
    chain = json.loads(ledger.read_text())["chain"]
    assert chain["recovered"] == sum(len(each.orders) for each in left.values())
    assert (chain["delivered"], chain["unknown"], chain["balanced"]) == (0, 0, True)
    assert not read_journal(tmp_path / "journal").transactions
    assert set(executed_orders(cluster).values()) == {1}
    assert cli.main(["resume", str(config)]) == 0


def test_what_is_not_known_after_a_resume_fails_it(tmp_path: Path, capsys: Any) -> None:
    with LocalCluster() as still:
        config = configuration(tmp_path, still)
        config.write_text("deadline_s = 0\n" + config.read_text())
        key, policy = str(tmp_path / "key.json"), new_signer(still).policy
        harness = Harness(still, tmp_path / "journal", KeypairSigner.from_file(key, policy))
        harness.submitter.intake(bundles_of(adds(10)))
        harness.submitter.step()
        harness.abandon()
        assert cli.main(["resume", str(config)]) == 1
        assert (
            f"10 orders have no known outcome: 'velox resume {config}'" in capsys.readouterr().err
        )
        still.tick(3)
        config.write_text(config.read_text().removeprefix("deadline_s = 0\n"))
        assert cli.main(["resume", str(config)]) == 0


def test_a_spending_limit_is_reported_as_such_and_not_as_a_busy_chain(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configuration(tmp_path, cluster)
    capped = config.read_text().replace("1_000_000_000", "20_000")
    config.write_text(f"deadline_s = 0.5\n{capped}[queue]\ncapacity = 100\n")
    assert run("--submit", str(config)) == 0
    told = capsys.readouterr().err
    why = told.index("velox: warning: orders waited for the signer: refused by max_spend_lamports")
    assert told.index("orders were shed: more came than the signer lets through") > why
    assert "the chain takes" not in told
    assert "refused or not answered" not in told


def test_what_is_cut_off_a_journal_is_told(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, journal = configuration(tmp_path, cluster), tmp_path / "journal"
    assert run("--submit", str(config)) == 0
    with journal.open("ab") as file:
        file.write(b"VXJ1 and so on")
    # The warning comes at once, before any other.
    config.write_text(config.read_text().replace("key.json", "no.json"))
    assert cli.main(["resume", str(config)]) == 2
    config.write_text(config.read_text().replace("no.json", "key.json"))
    capsys.readouterr()
    assert cli.main(["resume", str(config)]) == 0
    error = capsys.readouterr().err
    assert f"velox: warning: {journal}: 14 bytes after the last valid frame were cut off" in error
    assert f"saved in {journal}.torn. " in error
    assert Path(f"{journal}.torn").read_bytes() == b"VXJ1 and so on"
    assert cli.main(["resume", str(config)]) == 0
    assert not capsys.readouterr().err


def test_status_asks_no_node_of_another_cluster(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harness = Harness(cluster, tmp_path / "journal")
    harness.submitter.intake(bundles_of(adds(10)))
    harness.submitter.step()
    harness.abandon()
    with LocalCluster(seed=7) as other:
        config = configuration(tmp_path, other)
        assert cli.main(["status", str(tmp_path / "journal"), "--config", str(config)]) == 2
    assert "cluster.rpc: the cluster" in capsys.readouterr().err
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


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/null", "pipe"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--submit", "localnet", "--journal"],
        ["run", "--submit"],
        ["submit", "bundles.npy", "--journal"],
        ["submit", "bundles.npy", "--submit"],
        ["submit"],
        ["tips"],
        ["resume"],
        ["status"],
    ],
)
def test_what_is_no_regular_file_is_refused_and_never_waited_for(
    arguments: list[str], device: str, tmp_path: Path, refused: Callable[..., str]
) -> None:
    np.save(tmp_path / "bundles.npy", bundles_of(adds(30)))
    os.mkfifo(tmp_path / "pipe")
    assert refused(*arguments, device) == f"{device}: is not a regular file"


def test_an_empty_file_is_no_journal(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "empty").touch()
    assert refused("status", "empty") == "empty: is empty, so it is not a journal"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--submit", "missing.toml"], "missing.toml: No such file"),
        (["run", "--journal", "x"], "journal = 'x': only with --submit"),
        (["run", "--submit", "localnet", "--capture", "x.npy"], "cannot be combined"),
        (["submit", "missing.npy"], "missing.npy: No such file"),
        (["status", "missing"], "missing: no such file"),
        (["resume", "missing.toml"], "missing.toml: No such file"),
        (["resume", "localnet"], "name a configuration"),
        (["tips", "localnet"], "name a configuration"),
        (["run", "--submit", "localnet", "--journal", "no/where"], "No such file"),
        (["run", "--submit", "localnet", "--placement", "invoker"], "takes no PushIngress"),
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


USED = [
    ("configuration", "chain.toml"),
    ("signer.key_file", "key.json"),
    ("signer.kill_file", "stop"),
    ("journal", "journal"),
    ("journal's .compact", "journal.compact"),
    ("journal's .torn", "journal.torn"),
    ("journal's .torn", "journal.torn.2"),
]


@pytest.mark.parametrize(
    ("command", "what", "name"),
    [
        ("submit", "bundles", "bundles.npy"),
        *((command, *used) for command in ("submit", "resume", "run") for used in USED),
    ],
)
@pytest.mark.parametrize("called", ["its name", "a link"])
def test_no_result_goes_where_something_that_is_used_lies(
    cluster: LocalCluster,
    tmp_path: Path,
    command: str,
    what: str,
    name: str,
    called: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, capture = configuration(tmp_path, cluster), tmp_path / "bundles.npy"
    config.write_text(config.read_text().replace("[submit]", 'kill_file = "stop"\n[submit]'))
    np.save(capture, bundles_of(adds(30)))
    (tmp_path / "journal.torn.2").touch()
    json = tmp_path / name
    if called == "a link":
        json = tmp_path / "link"
        json.symlink_to(name)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir() if each.exists()}
    arguments = {
        "submit": ["submit", str(capture), "--submit", str(config)],
        "resume": ["resume", str(config)],
        "run": ["run", "--submit", str(config)],
    }[command]
    assert cli.main([*arguments, "--json", str(json)]) == 2
    assert capsys.readouterr().err == (
        f"velox: error: {what} and json are the same file, {str(json)!r}\n"
    )
    after = {each.name: each.read_bytes() for each in tmp_path.iterdir() if each.exists()}
    assert after == before


def test_a_journal_named_on_the_command_line_is_no_result_either(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "j")
    for name in ("json", "hlog"):
        assert cli.main(["run", "--submit", "localnet", "--journal", path, f"--{name}", path]) == 2
        error = capsys.readouterr().err
        assert error == f"velox: error: journal and {name} are the same file, {path!r}\n"
    assert not list(tmp_path.iterdir())


def test_a_file_of_something_else_is_not_submitted(tmp_path: Path, capsys: Any) -> None:
    np.save(tmp_path / "numbers.npy", np.arange(5))
    assert cli.main(["submit", str(tmp_path / "numbers.npy")]) == 2
    assert "holds int64, not bundles" in capsys.readouterr().err


def test_a_capture_without_its_length_is_not_submitted_as_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capture = tmp_path / "bundles.npy"
    with begin_capture(capture) as file:
        file.write(bundles_of(adds(60)).tobytes())
        # While it is written, and after a kill.
        for _ in range(2):
            assert cli.main(["submit", str(capture)]) == 2
            error = capsys.readouterr().err
            assert error == (
                f"velox: error: {capture}: cut off by a kill, or still being written: "
                f"velox recover {capture} makes it whole\n"
            )
            file.close()
    assert cli.main(["recover", str(capture)]) == 0
    assert cli.main(["submit", str(capture)]) == 0
    assert f"{capture}: 4 bundles\n" in capsys.readouterr().out


def test_a_full_disk_ends_a_submission_with_its_ledger_and_nothing_is_sent(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, capture = configuration(tmp_path, cluster), tmp_path / "bundles.npy"
    np.save(capture, bundles_of(adds(300)))
    submit = ["submit", str(capture), "--submit", str(config), "--again"]
    assert cli.main(submit) == 0
    executed, size = len(cluster.executions), (tmp_path / "journal").stat().st_size
    with room_for(size + 100):
        assert cli.main(submit) == 1
    told = capsys.readouterr()
    assert re.search(rf"journal: byte {size + 53}: File too large", told.err)
    assert told.out.split()[-1] == "yes"
    assert len(cluster.executions) == executed
    # The torn frame is cut off, and nothing in it was ever sent.
    assert cli.main(["status", str(tmp_path / "journal")]) == 0
    assert "in flight   0 transactions" in capsys.readouterr().out


@contextmanager
def room_for(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_up_ends_what_is_sent_and_what_was_sent_is_followed(
    cluster: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, capture = configuration(tmp_path, cluster), tmp_path / "bundles.npy"
    config.write_text(config.read_text() + "window = 4\n")
    np.save(capture, bundles_of(adds(4000)))
    ledger = tmp_path / "ledger.json"
    with room_for(20_000):
        arguments = ["submit", str(capture), "--submit", str(config), "--json", str(ledger)]
        assert cli.main(arguments) == 1
    told = capsys.readouterr()
    assert "stopping: " in told.out
    assert "submission stopped: " in told.err
    assert "File too large" in told.err
    chain = json.loads(ledger.read_text())["chain"]
    assert chain["landed"] == sum(executed_orders(cluster).values()) > 0
    assert chain["shed"] > 0
    # What could not be written any more is asked again.
    assert cli.main(["resume", str(config)]) == 0
    assert "journal.torn" in capsys.readouterr().err
    assert not read_journal(tmp_path / "journal").transactions
    assert set(executed_orders(cluster).values()) == {1}


def test_a_journal_that_cannot_be_written_ends_a_run_with_its_error(tmp_path: Path) -> None:
    with started(
        *("run", "--submit", "localnet", "--journal", tmp_path / "journal", "--json", "-"),
        *("--duration", 600, "--rate", 5000),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)),
    ) as process:
        out, err = process.communicate()
    assert process.returncode == 1
    assert re.search(r"^velox: error: submission stopped: .*journal: byte \d+: File too", err, re.M)
    # The cluster is gone.
    assert "velox resume" not in out + err
    document = json.loads(out)
    assert document["errors"]
    assert not document["interrupted"]
    assert document["ledger"]["chain"]["balanced"]
    assert document["ledger"]["chain"]["landed"] > 0


def test_a_submit_that_is_interrupted_sheds_what_waits(tmp_path: Path) -> None:
    # No slot passes by itself: the first transaction is in flight for as long as we like.
    with LocalCluster() as cluster:
        config, capture = configuration(tmp_path, cluster), tmp_path / "bundles.npy"
        config.write_text(config.read_text() + "window = 1\n")
        np.save(capture, bundles_of(adds(40_000)))
        with started("submit", capture, "--submit", config) as process:
            line_with("in_flight=1", process.stdout)
            process.send_signal(signal.SIGINT)
            stopping = line_with("stopping: ", process.stdout)
            while process.poll() is None:
                cluster.tick()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.1)
            out, err = process.stdout.read(), process.stderr.read()
        assert process.returncode == 0, err
        said = re.fullmatch(
            r"stopping: ([\d,]+) orders that waited were shed, following 1 transactions; "
            rf"again to leave them to 'velox resume {re.escape(str(config))}'\n",
            stopping,
        )
        assert said is not None
        assert re.search(rf"^  shed +{said[1]}$", out, re.M), (said[1], out)
        assert re.search(r"^  unknown +0$", out, re.M)
        assert set(executed_orders(cluster).values()) == {1}


def test_a_node_that_dies_is_told_at_once_and_two_interrupts_leave_the_rest(tmp_path: Path) -> None:
    capture = tmp_path / "bundles.npy"
    np.save(capture, bundles_of(adds(40_000)))
    with LocalCluster(slots="real", slot_ns=10_000_000) as cluster:
        config = configuration(tmp_path, cluster)
        process = started("submit", capture, "--submit", config)
        while not cluster.executions:
            assert process.poll() is None
    with process:
        warning = line_with("chain: ", process.stderr)
        assert warning.startswith(f"velox: warning: chain: {cluster.url}: ")
        while "errors=0" in line_with("errors=", process.stdout):
            assert process.poll() is None
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        out, err = process.stdout.read(), process.stderr.read()
    assert process.returncode == 1, err
    assert out.split()[-1] == "yes"
    assert f"orders have no known outcome: 'velox resume {config}' asks for it" in err


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
    assert document["ledger"]["chain"]["unknown"] == 0


def test_the_page_on_a_key_and_a_configuration_works_as_written(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "howto" / "submit-to-a-chain.md").read_text(encoding="utf-8")
    section = page.partition("## A key and a configuration\n")[2].partition("\n## ")[0]
    first, config, second = re.findall(r"```(?:sh|toml)\n(.*?)```", section, re.DOTALL)

    def shell(script: str) -> Any:
        text = re.sub(r"\bpython\b", shlex.quote(sys.executable), script)
        return subprocess.Popen(
            ["sh", "-ec", text],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    # Any port, for a shorter time.
    with shell(first.replace("localnet ", "localnet --port 0 ")) as cluster:
        try:
            url = line_with("rpc ", cluster.stdout).split()[1]
            (tmp_path / "chain.toml").write_text(config.replace("http://127.0.0.1:8899", url))
            with shell(second.replace("--duration 3", "--duration 0.3")) as commands:
                said = commands.stdout.read()
        finally:
            os.killpg(cluster.pid, signal.SIGINT)
    assert commands.returncode == 0
    assert re.search(r"^  landed +[1-9]", said, re.M)
    assert re.search(r"^in flight   0 transactions", said, re.M)
    assert (tmp_path / "payer.json").stat().st_mode & 0o777 == 0o600


def test_velox_alone_loads_nothing_of_the_chain() -> None:
    program = (
        "import sys, velox, velox.cli\n"
        "assert not [each for each in sys.modules if each.startswith(('velox.solana', 'solders'))]"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
