from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

import velox
from velox import bench, cli
from velox.cli.commands import generate, run
from velox.cli.parser import COMMANDS, parse
from velox.cli.pipeline import configuration
from velox.config import PipelineConfig
from velox.core.flow import MarketFlow
from velox.core.histogram import HOUR_NS

from .recordings import lobster_pair

ROOT = Path(__file__).resolve().parents[3]
LATENCIES = ["late", "transit", "hold", "delivery", "total"]
PROGRESS = re.compile(r"\[ *\d+s\] ingress=[\d,]+ orderbook=[\d,]+ bundles=[\d,]+ output=[\d,]+")
# A bound, not an expectation: what hangs shall fail.
PATIENCE_S = 120


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "velox", *map(str, arguments)]


def velox_run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments),
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flow") / "flow.npy"
    done = velox_run("generate", "--count", 20_000, "--seed", 7, "-o", path)
    assert done.returncode == 0, done.stderr
    return path


# What it says


def test_no_command_is_a_run_and_options_alone_are_options_of_it() -> None:
    assert parse([]) == parse(["run"])
    assert parse(["--seed", "3"]) == parse(["run", "--seed", "3"])
    assert configuration(parse([])) == PipelineConfig()
    done = velox_run("--duration", "0.05", "--quiet")
    assert done.returncode == 0
    assert "synthetic flow, 100,000/s, Poisson" in done.stdout
    assert "balanced" in done.stdout


def test_the_version_is_one_line() -> None:
    done = velox_run("--version")
    assert (done.returncode, done.stdout) == (0, f"velox {velox.__version__}\n")


def test_the_help_has_examples_that_parse() -> None:
    done = velox_run("--help")
    assert done.returncode == 0
    examples = re.findall(r"^  velox (\w.*)$", done.stdout, re.M)
    assert len(examples) >= 5
    for example in examples:
        if not example.startswith(" "):
            arguments = re.split(r" {2,}", example)[0].split()
            assert callable(parse(arguments).command)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["hiccups", "--help"]])
def test_a_help_that_cannot_be_written_is_a_failure(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "velox: error: standard output: No space left on device\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main([name, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: velox {name} ")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--duration", "0.01", "--quiet"], ["generate", "--help"]]
)
def test_a_command_loads_nothing_that_only_others_need(arguments: list[str]) -> None:
    program = (
        "import sys\n"
        "from velox.__main__ import main\n"
        "others = {'velox.bench', 'velox.feeds', 'velox.solana', 'velox.testing'}\n"
        "try:\n"
        "    status = main()\n"
        "finally:\n"
        "    print(others & set(sys.modules), file=sys.stderr)\n"
        "sys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    # A run on a busy machine may warn before it.
    assert done.stderr.splitlines()[-1] == "set()"


def test_a_run_says_where_it_runs_then_how_it_goes_then_what_it_came_to() -> None:
    done = velox_run("run", "--duration", "2.2", "--rate", "20000", "--seed", "3")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == f"velox {velox.__version__}"
    heads = [line.split(maxsplit=1)[0] for line in lines[1:3]]
    assert heads == ["machine", "placement"]
    progress = [line for line in lines if line.startswith("[")]
    assert all(PROGRESS.fullmatch(line) for line in progress)
    assert [line[:6] for line in progress[:2]] == ["[  1s]", "[  2s]"]
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("latency")) :]
    assert table[0].split() == ["latency", "p50", "p90", "p99", "p99.9", "max"]
    assert [row.split()[0] for row in table[1:6]] == LATENCIES
    assert re.search(r"^balanced +yes$", done.stdout, re.M)
    assert not re.search(r"verified=", done.stdout)


def test_quiet_leaves_the_seconds_out() -> None:
    done = velox_run("run", "--duration", "1.1", "--rate", "1000", "--quiet")
    assert done.returncode == 0
    assert not PROGRESS.search(done.stdout)
    assert "throughput" in done.stdout


# The document


def assert_is_a_report(value: dict[str, Any]) -> None:
    ledger = value["ledger"]
    assert ledger["balanced"] is True
    assert set(ledger["bundles"]) == {"size", "timeout", "idle", "drain"}
    assert ledger["generated"] == ledger["pushed"] + ledger["dropped"]
    assert ledger["pushed"] == ledger["applied"] + sum(ledger["rejected"].values())
    assert ledger["emitted"] == ledger["delivered_transactions"]
    assert sum(ledger["bundles"].values()) == ledger["delivered_bundles"]
    assert list(value["latency_ns"]) == LATENCIES
    for figures in value["latency_ns"].values():
        assert {"count", "p50", "p90", "p99", "p99_9", "max"} <= set(figures)
    assert {"throughput_per_s", "placement", "cpus", "clock"} <= set(value)


def test_json_is_the_report_as_one_object(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    done = velox_run("run", "--duration", "0.2", "--placement", "shared", "--json", path, "--quiet")
    assert done.returncode == 0, done.stderr
    value = json.loads(path.read_text())
    assert_is_a_report(value)
    assert value["placement"] == "shared"
    assert value["passed"] is True
    assert value["interrupted"] is False
    assert "verify" not in value
    assert [each.name for each in tmp_path.iterdir()] == ["run.json"]


def test_json_to_stdout_moves_the_text_to_stderr() -> None:
    done = velox_run("run", "--duration", "0.1", "--json", "-", "--quiet")
    assert done.returncode == 0
    assert_is_a_report(json.loads(done.stdout))
    assert "balanced" in done.stderr


# Runs


@pytest.mark.parametrize("placement", ["shared", "paired", "dedicated"])
def test_a_run_at_full_rate_balances_on_any_number_of_threads(
    placement: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.json"
    done = velox_run(
        *("run", "--rate", "max", "--duration", "0.5", "--placement", placement),
        *("--json", path, "--quiet"),
    )
    assert done.returncode == 0, done.stderr
    value = json.loads(path.read_text())
    assert_is_a_report(value)
    assert value["ledger"]["dropped"] == 0
    assert value["ledger"]["delivered_transactions"] > 0


def test_a_run_in_the_invoker_is_the_same_each_time(tmp_path: Path) -> None:
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path in paths:
        done = velox_run(
            *("run", "--placement", "invoker", "--duration", "0.5", "--rate", "50000"),
            *("--capture", path, "--quiet"),
        )
        assert done.returncode == 0, done.stderr
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert len(np.load(paths[0])) > 1_000


def test_the_cpu_of_each_stage_can_be_given(tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    stages = ",".join(f"{stage}={cpu}" for stage in ("ingress", "orderbook", "bundle", "output"))
    path = tmp_path / "run.json"
    done = velox_run("run", "--duration", "0.1", "--placement", stages, "--json", path)
    assert done.returncode == 0, done.stderr
    assert json.loads(path.read_text())["placement"] == "explicit"


@pytest.mark.parametrize(
    "options", [["--writers", "2"], ["--lanes", "2"], ["--lanes", "2", "--writers", "3"]]
)
def test_lanes_and_writers_share_one_book(options: list[str], tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    done = velox_run("run", "--duration", "0.3", *options, "--json", path, "--quiet")
    assert done.returncode == 0, done.stderr
    value = json.loads(path.read_text())
    assert_is_a_report(value)
    assert value["ledger"]["applied"] > 0
    assert not any(value["ledger"]["rejected"].values())


@pytest.mark.parametrize("lanes", [2, 5])
def test_the_flows_of_lanes_can_interleave_in_one_book(lanes: int) -> None:
    options = parse(["run", "--lanes", str(lanes), "--seed", "7"])
    config = configuration(options)
    assert config.writers == lanes
    ingresses = run._flows(options, config)
    assert [each.rate for each in ingresses] == [100_000 / lanes] * lanes
    events = [each.flow.generate(5_000) for each in ingresses]
    book = velox.OrderBook(tick_size=100)
    for chunk in range(0, 5_000, 100):
        for each in events:
            assert book.apply(each[chunk : chunk + 100]).applied == 100
    assert book.statistics().crossed == 0
    adds = np.concatenate([each[each["kind"] == velox.Kind.ADD] for each in events])
    assert len(np.unique(adds["id"])) == len(adds)
    assert not np.array_equal(events[0]["price"], events[1]["price"])


@pytest.mark.parametrize("levels", [64, 256, 65536])
def test_the_flow_of_a_shared_book_stays_in_its_window(levels: int) -> None:
    options = parse(["run", "--writers", "2", "--levels", str(levels)])
    [ingress] = run._flows(options, configuration(options))
    prices = ingress.flow.generate(50_000)["price"]
    assert (prices.max() - prices.min()) // 100 < levels
    assert abs(prices - 1_000_000).max() // 100 < levels // 2


def test_a_capture_holds_what_was_delivered(tmp_path: Path) -> None:
    capture, document = tmp_path / "bundles.npy", tmp_path / "run.json"
    done = velox_run(
        *("run", "--duration", "0.3", "--capture", capture, "--json", document, "--quiet")
    )
    assert done.returncode == 0, done.stderr
    bundles = np.load(capture)
    ledger = json.loads(document.read_text())["ledger"]
    assert bundles.dtype == velox.BUNDLE_DTYPE
    assert len(bundles) == ledger["delivered_bundles"]
    assert bundles["count"].sum() == ledger["delivered_transactions"]


# Stops


def heed_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def started() -> Iterator[Any]:
    """Start a run, and read its stdout to the first line that begins with a given text."""
    processes: list[subprocess.Popen[str]] = []

    def start(until: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*arguments),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            # Also where the tests themselves run under nohup, whose word the command heeds.
            preexec_fn=heed_hangups,  # noqa: PLW1509 - nothing forks from a thread here
        )
        processes.append(process)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(until):
                return process
        raise AssertionError(f"it ended before {until!r}: {process.communicate()}")

    yield start
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["velox", "source", "[  1s]"])
def test_an_interrupted_run_ends_in_order_with_its_report(
    started: Any, moment: str, number: signal.Signals, tmp_path: Path
) -> None:
    path = tmp_path / "run.json"
    process = started(moment, "run", "--rate", "max", "--duration", PATIENCE_S, "--json", path)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert re.search(r"^balanced +yes$", out, re.M)
    assert "Traceback" not in err
    value = json.loads(path.read_text())
    assert_is_a_report(value)
    assert value["interrupted"] is True


@pytest.mark.parametrize("placement", ["invoker", "paired", "dedicated"])
def test_a_second_interrupt_leaves_the_capture_whole(
    started: Any, placement: str, tmp_path: Path
) -> None:
    capture, document = tmp_path / "bundles.npy", tmp_path / "run.json"
    process = started(
        *("[  1s]", "run", "--duration", PATIENCE_S, "--placement", placement),
        *("--clock", "kernel", "--capture", capture, "--json", document),
    )
    for _ in range(3):
        process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    ledger = json.loads(document.read_text())["ledger"]
    assert len(np.load(capture)) == ledger["delivered_bundles"] > 0


def test_a_reader_that_goes_away_ends_the_run_in_order(started: Any, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    process = started("source", "run", "--duration", PATIENCE_S, "--json", path)
    process.stdout.close()
    process.wait(timeout=PATIENCE_S)
    assert process.returncode == 0
    complaints = process.stderr.read()
    assert "velox: error: " not in complaints
    assert "Traceback" not in complaints
    assert_is_a_report(json.loads(path.read_text()))


def test_a_killed_capture_is_recovered(started: Any, tmp_path: Path) -> None:
    capture = tmp_path / "bundles.npy"
    process = started("[  1s]", "run", "--duration", PATIENCE_S, "--capture", capture)
    process.kill()
    process.communicate()
    assert len(np.load(capture)) == 0
    done = velox_run("recover", capture)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{capture}: {len(np.load(capture))} bundles\n"
    assert len(np.load(capture)) > 0


def test_a_file_that_has_no_room_is_refused_before_it_is_written(tmp_path: Path) -> None:
    done = velox_run("generate", "--count", 10**12, "-o", tmp_path / "flow.npy")
    assert done.returncode == 1
    assert "flow.npy: No space left on device: 32,000,000.0 MB needed, " in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_interrupted_does_not_appear(tmp_path: Path) -> None:
    count = shutil.disk_usage(tmp_path).free // 64
    process = subprocess.Popen(
        command("generate", "--count", count, "-o", tmp_path / "flow.npy"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        while not list(tmp_path.iterdir()):
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert process.returncode == 130
    assert err == "velox: error: interrupted; nothing was done\n"
    assert not list(tmp_path.iterdir())


# Failures


def test_a_capture_that_cannot_be_written_any_further_fails_the_run(tmp_path: Path) -> None:
    capture, document = tmp_path / "bundles.npy", tmp_path / "run.json"
    # In blocks of 512 or 1024 bytes, as the shell has it.
    limited = ["sh", "-c", 'ulimit -f 100 && exec "$@"', "sh"]
    done = subprocess.run(
        [
            *limited,
            *command("run", "--duration", PATIENCE_S, "--capture", capture, "--json", document),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    [error] = [line for line in done.stderr.splitlines() if "velox: error: " in line]
    assert str(capture) in error
    assert "File too large" in error
    value = json.loads(document.read_text())
    assert value["passed"] is False
    assert value["errors"] == [error.removeprefix("velox: error: ")]
    assert value["ledger"]["undelivered_bundles"] > 0
    assert len(np.load(capture)) == value["ledger"]["delivered_bundles"] > 0


needs_full = pytest.mark.skipif(
    not os.path.exists("/dev/full"), reason="this system has no /dev/full"
)


@needs_full
@pytest.mark.parametrize(
    ("arguments", "report"),
    [
        (["run", "--duration", "0.1"], ""),
        (["run", "--duration", "0.1", "--json", "{folder}/run.json"], ""),
        (["run", "--duration", "0.1", "--json", "-", "--quiet"], "balanced"),
        (["generate", "--count", "100", "-o", "{folder}/flow.npy"], ""),
        (["hiccups", "--duration", "0.05", "--json", "-"], "taken"),
    ],
)
def test_standard_output_that_is_full_is_named_in_one_line(
    arguments: list[str], report: str, tmp_path: Path
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command(*(each.format(folder=tmp_path) for each in arguments)),
            cwd=ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            timeout=PATIENCE_S,
            check=False,
        )
    assert done.returncode == 1
    *before, error = done.stderr.splitlines()
    # A run on a busy machine may warn before it.
    before = [line for line in before if "behind its schedule" not in line]
    assert report in "\n".join(before)
    assert bool(before) == bool(report)
    what = ""
    if arguments[0] == "run":
        what = "the JSON document" if "-" in arguments else "the rest of the report"
        what = f"; {what} is lost"
    assert error == f"velox: error: standard output: No space left on device{what}"
    if "{folder}/run.json" in arguments:
        document = json.loads((tmp_path / "run.json").read_text(encoding="utf-8"))
        assert document["errors"] == [error.removeprefix("velox: error: ")]
        assert not document["passed"]


@needs_full
@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--count", "100", "-o"],
        ["generate", "--count", "200000", "-o"],
        ["run", "--duration", "0.1", "--quiet", "--json"],
        ["run", "--duration", "0.1", "--quiet", "--hlog"],
        ["bench", "clock.now", "--hiccups", "0", "--json"],
        ["hiccups", "--duration", "0.05", "--json"],
        ["hiccups", "--duration", "0.05", "--hlog"],
    ],
)
def test_a_file_that_is_full_is_named_as_it_was_given(arguments: list[str], tmp_path: Path) -> None:
    link = tmp_path / "full"
    link.symlink_to("/dev/full")
    done = velox_run(*arguments, link)
    assert done.returncode == 1
    # A run on a busy machine may warn before it.
    lost = "; the JSON document is lost" if arguments[0] == "run" and "--json" in arguments else ""
    assert done.stderr.splitlines()[-1] == f"velox: error: {link}: No space left on device{lost}"
    assert done.stderr.count("velox: error: ") == 1


def test_a_panic_and_a_thread_that_cannot_be_had_are_one_line_and_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def panics(*_: object) -> None:
        raise type("PanicException", (BaseException,), {"__module__": "pyo3_runtime"})("no memory")

    def starts(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", starts)
    assert cli.main(["run", "--duration", "0.1"]) == 1
    why = "the system has none left: can't start new thread"
    assert re.fullmatch(rf"velox: error: thread velox-\w+: {why}\n", capsys.readouterr().err)
    assert cli.main(["hiccups", "--duration", "0.1"]) == 1
    assert re.fullmatch(rf"velox: error: thread velox-[\w-]+: {why}\n", capsys.readouterr().err)
    monkeypatch.setattr(bench, "run", panics)
    assert cli.main(["bench"]) == 1
    assert capsys.readouterr().err == "velox: error: no memory\n"


def test_a_book_that_differs_from_its_oracle_fails_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "replay.json"
    done = velox_run("replay", lobster_pair(tmp_path, last_bid_size=6), "--verify", "--json", path)
    assert done.returncode == 1
    assert "verified=2 mismatched=1" in done.stdout
    assert "first mismatch: after transaction" in done.stdout
    assert "the book differs from the recording's check at 1 of 2 events" in done.stderr
    value = json.loads(path.read_text())
    assert value["passed"] is False
    assert value["verify"]["checked"] == 2
    assert value["verify"]["mismatched"] == 1


# Replays


def test_a_recording_is_replayed_whole_any_number_of_times(flow: Path, tmp_path: Path) -> None:
    path = tmp_path / "replay.json"
    done = velox_run("replay", flow, "--repeat", 3, "--json", path)
    assert done.returncode == 0, done.stderr
    value = json.loads(path.read_text())
    assert_is_a_report(value)
    # It begins with what clears the book, so that nothing has to be put between the passes.
    assert value["ledger"]["applied"] == value["ledger"]["generated"] == 60_000


def test_two_replays_in_the_invoker_capture_the_same_bytes(flow: Path, tmp_path: Path) -> None:
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path in paths:
        done = velox_run("replay", flow, "--placement", "invoker", "--capture", path)
        assert done.returncode == 0, done.stderr
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert np.load(paths[0])["count"].sum() == 20_000


def test_a_replay_can_be_cut_short(flow: Path, tmp_path: Path) -> None:
    path = tmp_path / "replay.json"
    done = velox_run(
        *("replay", flow, "--repeat", 2**31, "--duration", "0.2", "--json", path, "--quiet")
    )
    assert done.returncode == 0, done.stderr
    assert_is_a_report(json.loads(path.read_text()))


def test_a_capture_can_be_replayed(flow: Path, tmp_path: Path) -> None:
    capture, path = tmp_path / "bundles.npy", tmp_path / "replay.json"
    assert velox_run("replay", flow, "--capture", capture).returncode == 0
    done = velox_run("replay", capture, "--format", "npy", "--json", path)
    assert done.returncode == 0, done.stderr
    assert json.loads(path.read_text())["ledger"]["applied"] == 20_000


@pytest.mark.parametrize("options", [[], ["--levels", "64"], ["--placement", "invoker"]])
def test_a_book_that_is_right_is_verified(options: list[str], tmp_path: Path) -> None:
    done = velox_run("replay", lobster_pair(tmp_path), "--verify", "--depth", 1, *options)
    assert done.returncode == 0, done.stderr
    assert "verified=2 mismatched=0" in done.stdout


def test_lines_that_are_left_out_are_told(tmp_path: Path) -> None:
    path = lobster_pair(tmp_path) / "T_message_1.csv"
    path.write_text(path.read_text() + "34200.4,1,13,x,999900,1\n")
    done = velox_run("replay", path, "--on-error", "skip")
    assert "velox: warning: skipped 1 line; the first: " in done.stderr
    assert f"{path}:4" in done.stderr
    assert "velox: error: " not in done.stderr


# The other commands


def test_generated_flow_is_that_of_its_seed_after_what_clears_the_book(flow: Path) -> None:
    events = np.load(flow)
    assert events.dtype == velox.TRANSACTION_DTYPE
    assert len(events) == 20_000
    assert events["kind"][:2].tolist() == [velox.Kind.CLEAR] * 2
    assert events["side"][:2].tolist() == [velox.Side.BID, velox.Side.ASK]
    assert np.array_equal(events[2:], MarketFlow(7, order_ids=True).generate(19_998))
    velox.validate(events)


def test_flow_in_chunks_is_the_same_flow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(generate, "CHUNK", 7)
    path = tmp_path / "flow.npy"
    given = ["--tick-size", "5", "--base-price", "5000000", "--market", "3", "--rate", "1e6"]
    assert cli.main(["generate", "--count", "100", "--seed", "9", "-o", str(path), *given]) == 0
    flow = MarketFlow(9, rate=1e6, tick_size=5, base_price=5_000_000, market=3, order_ids=True)
    expected = flow.generate(98)
    assert np.array_equal(np.load(path)[2:], expected)
    assert set(np.load(path)["market"].tolist()) == {3}


def test_bench_gives_each_cost_with_its_spread(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    done = velox_run("bench", "clock.now", "book.best", "--json", path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())["benchmarks"]
    assert list(figures) == ["clock.now", "book.best"]
    for each in figures.values():
        assert 0 < each["min"] <= each["ns_per_op"] <= each["max"]
    lines = done.stdout.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.split()[:1] == ["ns/op"])
    assert [line.split()[0] for line in lines[heading + 1 : heading + 3]] == list(figures)
    assert lines[heading + 4].split()[0] == "hiccups"
    hiccups = json.loads(path.read_text())["hiccups"]
    assert len(hiccups) == len(lines) - heading - 5 <= 2


def test_bench_leaves_hiccups_out_where_none_are_wanted(tmp_path: Path) -> None:
    path = tmp_path / "bench.json"
    done = velox_run("bench", "clock.now", "--json", path, "--hiccups", "0")
    assert done.returncode == 0, done.stderr
    assert "hiccups" not in done.stdout
    assert json.loads(path.read_text())["hiccups"] == []


# The host's own


def test_hiccups_are_told_for_each_cpu(tmp_path: Path) -> None:
    path, hlog = tmp_path / "hiccups.json", tmp_path / "hiccups.hlog"
    done = velox_run("hiccups", "--duration", "0.05", "--json", path, "--hlog", hlog)
    assert done.returncode == 0, done.stderr
    figures = json.loads(path.read_text())
    found = figures["hiccups"]
    assert figures["clock"]["source"] != "virtual"
    lines = done.stdout.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("hiccups"))
    heads = ["hiccups", "over", "gaps/s", "taken", "p50", "p99", "p99.9", "max"]
    assert lines[heading].split() == heads
    assert len(lines) - heading - 1 == len(found) >= 1
    logged = intervals_of(hlog)
    assert list(logged) == [f"cpu{'' if each['cpu'] is None else each['cpu']}" for each in found]
    assert [sum(each) for each in logged.values()] == [each["gap_ns"]["count"] for each in found]


def test_the_doctor_says_the_same_in_text_and_json(tmp_path: Path) -> None:
    path = tmp_path / "doctor.json"
    done = velox_run("doctor", "--duration", "0.05", "--placement", "shared", "--json", path)
    assert done.returncode == 0, done.stderr
    value = json.loads(path.read_text())
    assert sum(value["counts"].values()) == len(value["findings"]) > 0
    for each in value["findings"]:
        if each["severity"] == "fine":
            assert each["id"] in done.stdout.splitlines()[-1]
        else:
            assert f"{each['id']}: {each['summary']}" in done.stdout


def test_a_strict_doctor_fails_on_a_high_finding() -> None:
    # Four threads beside Python need five CPUs, and a thread on each of two CPUs shares nothing.
    usable = sorted(os.sched_getaffinity(0))[:1]
    given = ("doctor", "--duration", "0.01", "--placement", "dedicated", "--strict")
    done = velox_run(*given, "--cpus", str(usable[0]))
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[3].startswith("high        usable-cpus: 4 threads share")


def test_hiccups_of_the_cpus_that_ran_stand_under_the_latencies(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    done = velox_run("run", "--duration", "0.05", "--json", path, "--hiccups", "0.01")
    assert done.returncode == 0, done.stderr
    value = json.loads(path.read_text())
    assert [each["cpu"] for each in value["hiccups"]] == value["cpus"]
    lines = done.stdout.splitlines()
    assert lines[-2].split()[0] == "hiccups"
    assert all(each["elapsed_s"] >= 0.01 for each in value["hiccups"])


@pytest.mark.parametrize("options", [["--hiccups", "0"], ["--placement", "invoker"]])
def test_a_run_without_hiccups_says_nothing_of_them(options: list[str], tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    done = velox_run("run", "--duration", "0.05", "--json", path, *options)
    assert done.returncode == 0, done.stderr
    assert "hiccups" not in done.stdout
    assert json.loads(path.read_text())["hiccups"] == []


# The log of intervals


def intervals_of(path: Path) -> dict[str, list[int]]:
    """How many values each interval holds, by tag, as HdrHistogram's own reader counts them."""
    reader = HistogramLogReader(str(path), HdrHistogram(1, HOUR_NS, 2))
    found: dict[str, list[int]] = {}
    while (each := reader.get_next_interval_histogram()) is not None:
        found.setdefault(each.get_tag(), []).append(each.get_total_count())
    reader.close()
    return found


def test_the_log_has_an_interval_a_second_that_add_up_to_the_report(tmp_path: Path) -> None:
    hlog, path = tmp_path / "run.hlog", tmp_path / "run.json"
    done = velox_run("run", "--duration", "2.2", "--rate", "5000", "--hlog", hlog, "--json", path)
    assert done.returncode == 0, done.stderr
    value = json.loads(path.read_text())
    assert value["hlog"] == str(hlog)
    logged = intervals_of(hlog)
    assert list(logged) == LATENCIES
    for name, counts in logged.items():
        assert len(counts) == 3
        assert sum(counts) == value["latency_ns"][name]["count"]


def test_a_replay_is_logged_too(flow: Path, tmp_path: Path) -> None:
    hlog, path = tmp_path / "replay.hlog", tmp_path / "replay.json"
    done = velox_run("replay", flow, "--hlog", hlog, "--json", path)
    assert done.returncode == 0, done.stderr
    value = json.loads(path.read_text())
    assert {name: sum(counts) for name, counts in intervals_of(hlog).items()} == {
        name: each["count"] for name, each in value["latency_ns"].items()
    }


def test_a_benchmark_with_a_wrong_result_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def wrong(operations: int) -> tuple[int, int]:
        raise velox.errors.LedgerError("7 reads were right, of 8")

    monkeypatch.setitem(bench._BENCHMARKS, "clock.now", (wrong, 1))
    assert cli.main(["bench", "clock.now"]) == 1
    assert capsys.readouterr().err == "velox: error: 7 reads were right, of 8\n"
