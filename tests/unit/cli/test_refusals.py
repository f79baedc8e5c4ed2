"""What the command line refuses, each in one line and with status 2. All of it in this process."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from velox import bench, cli
from velox.core.flow import MarketFlow

from .recordings import lobster_pair

OTHER_COUNTER = "cntvct" if platform.machine() == "x86_64" else "tsc"


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run arguments that must be refused in this process; gives the one line that says why."""

    def attempt(*arguments: object) -> str:
        try:
            status = cli.main(list(map(str, arguments)))
        except SystemExit as stopped:
            status = stopped.code
        captured = capsys.readouterr()
        assert status == 2
        assert captured.err.count("\n") == 1
        assert captured.err.startswith("velox: error: ")
        return captured.err.removeprefix("velox: error: ").rstrip("\n")

    return attempt


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("flow") / "flow.npy"
    np.save(path, MarketFlow(7).generate(100))
    return path


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--rate", "nan"], "argument --rate: 'nan': must be 'max', or a number from 1 to 1e9"),
        (["--rate", "0.5"], "argument --rate: '0.5': must be 'max', or a number from 1 to 1e9"),
        (["--lanes", "2", "--rate", "1"], "rate = 1, lanes = 2: must be at least 1 for each lane"),
        (["--rate", "0"], "argument --rate: '0'"),
        (["--rate", "-1"], "argument --rate: '-1'"),
        (["--rate", "inf"], "argument --rate: 'inf'"),
        (["--rate", "abc"], "argument --rate: 'abc'"),
        (["--rate", "1e10"], "argument --rate: '1e10': must be"),
        (["--duration", "0"], "argument --duration: '0': must be a finite number above 0"),
        (["--duration", "nan"], "argument --duration: 'nan'"),
        (["--seed", "-1"], "argument --seed: '-1': must be at least 0"),
        (["--seed", "x"], "argument --seed: 'x': must be an integer"),
        (["--levels", "1000"], "levels = 1000: must be a power of two"),
        (["--levels", "0"], "levels = 0: must be"),
        (["--lanes", "0"], "lanes = 0: must be"),
        (["--lanes", "17"], "lanes = 17: must be"),
        (["--writers", "0"], "writers = 0: must be"),
        (["--cpus", "9999"], "cpus: names CPU 9999"),
        (["--cpus", "0-"], "argument --cpus: '0-': must be CPU numbers and ranges"),
        (["--cpus", "3-1"], "argument --cpus: '3-1': '3-1' is not a range"),
        (["--cpus", "0-99999999999"], "is not a range of CPU numbers"),
        (["--cpus", "a"], "argument --cpus: 'a'"),
        (["--cpus", "0,0"], "cpus = [0, 0]: must name at least one CPU, each once"),
        (["--placement", "everywhere"], "placement = 'everywhere': must be one of"),
        (["--placement", "ingress=a"], "'ingress=a' is not of the form STAGE=CPU"),
        (["--placement", "ingress=0,ingress=1"], "'ingress' is given twice"),
        (["--placement", "ingress=0"], "names no CPU for 'orderbook'"),
        (["--placement", "kitchen=0"], "placement: names 'kitchen'"),
        (["--placement", "invoker", "--rate", "max"], "rate = 'max': the virtual clock of"),
        (["--placement", "dedicated", "--cpus", "{cpu}", "--strict"], "idle = 'spin': "),
        (["--idle", "sleep"], "idle = 'sleep': must be one of"),
        (["--clock", "sundial"], "clock = 'sundial': must be one of"),
        (["--clock", OTHER_COUNTER], f"clock = '{OTHER_COUNTER}': this processor has none"),
        (["--clock", "virtual", "--placement", "shared"], "clock = 'virtual'"),
        (["--on-full", "wait"], "on_full = 'wait': must be one of"),
        (["--on-cross", "panic"], "on_cross = 'panic': must be one of"),
        (["--seal", "never"], "seal = 'never': must be one of"),
        (["--bundle-timeout-us", "0"], "argument --bundle-timeout-us: '0'"),
        (["--bundle-timeout-us", "0.0001"], "bundle_timeout_ns = 0: must be"),
        (["--bundle-timeout-us", "1e16"], "'1e16': must be at most 9223372036854775 us"),
        (["--lanes", "2", "--writers", "1"], "writers = 1: must be at least 2, since lanes = 2"),
        (["--json", ""], "argument --json: '': must be the name of a file"),
        (["--batch", "0"], "batch = 0: must be"),
        (["--transaction-capacity", "1000"], "transaction_capacity = 1000: must be a power"),
        (["--bundle-capacity", "1"], "bundle_capacity = 1: must be"),
        (["--capture", "{folder}/missing/x.npy"], "{folder}/missing/x.npy: cannot be created"),
        (["--json", "{folder}/missing/x.json"], "{folder}/missing/x.json: No such file"),
        (["--json", "{folder}"], "{folder}: Is a directory"),
        (["--hlog", "{folder}/missing/x.hlog"], "{folder}/missing/x.hlog: No such file"),
        (["--hlog", "-"], "hlog = '-': --hlog needs the name of a file"),
        (["--hiccups", "-1"], "argument --hiccups: '-1': must be"),
        (["--hiccups", "nan"], "argument --hiccups: 'nan': must be"),
        (["--nonsense"], "unrecognized arguments: --nonsense; see 'velox run --help'"),
    ],
)
def test_a_run_refuses_what_it_cannot_do(
    arguments: list[str], why: str, refusal: Any, tmp_path: Path
) -> None:
    cpu = str(min(os.sched_getaffinity(0))) if hasattr(os, "sched_getaffinity") else "0"
    words = {"folder": str(tmp_path), "cpu": cpu}
    given = [each.format(**words) for each in arguments]
    assert why.format(**words) in refusal("run", *given)
    assert not list(tmp_path.iterdir())


def test_an_unknown_command_is_refused(refusal: Any) -> None:
    assert "invalid choice: 'fly'" in refusal("fly")


MESSAGE = "34200.1,1,11,3,999900,1\n"
DIFF = '{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1,"T":1,"s":"BTCUSDT",'


@pytest.mark.parametrize(
    ("name", "text", "format", "why"),
    [
        ("empty.csv", "", "lobster", "is empty"),
        ("empty.npy", "", "npy", "is empty"),
        ("empty.gz", "", "binance", "is empty"),
        ("letters.csv", MESSAGE + "34200.2,1,12,x,999900,1\n", "lobster", ":2: "),
        ("short.csv", MESSAGE + "34200.2,1,12\n", "lobster", ":2: "),
        ("negative.csv", MESSAGE + "34200.2,1,12,3,-999900,1\n", "lobster", ":2: "),
        ("kind.csv", MESSAGE + "34200.2,9,12,3,999900,1\n", "lobster", ":2: "),
        ("zero.csv", MESSAGE + "34200.2,1,12,0,999900,1\n", "lobster", ":2: "),
        ("edge.csv", MESSAGE + f"34200.2,1,12,3,{2**63 - 1},1\n", "lobster", ":2: "),
        ("truncated.txt", DIFF, "binance", ":1: "),
        ("truncated.txt", '{"arg":{"channel":"books","instId":"X"},"data":[{', "okx", ":1: "),
        ("other.csv", MESSAGE, "npy", "is not of format 'npy'; it looks like 'lobster'"),
        ("other.csv", MESSAGE, "okx", "is not of format 'okx'; it looks like 'lobster'"),
        ("damaged.npy", "\x93NUMPY", "npy", "is"),
    ],
)
def test_a_replay_refuses_input_that_is_not_what_it_should_be(
    name: str, text: str, format: str, why: str, request: pytest.FixtureRequest
) -> None:
    refusal = request.getfixturevalue("refusal")
    path = request.getfixturevalue("tmp_path") / name
    path.write_text(text, encoding="latin-1")
    line = refusal("replay", path, "--format", format)
    assert str(path) in line
    assert why in line


@pytest.mark.parametrize(
    ("field", "value"), [("kind", 9), ("side", 2), ("price", -1), ("price", 0), ("size", 0)]
)
def test_a_replay_refuses_a_record_that_cannot_be(
    field: str, value: int, refusal: Any, tmp_path: Path
) -> None:
    events = MarketFlow(1).generate(100)
    events[field][57] = value
    path = tmp_path / "flow.npy"
    np.save(path, events)
    line = refusal("replay", path)
    assert str(path) in line
    assert "57" in line
    assert field in line


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["{folder}/missing.npy"], "{folder}/missing.npy: no such file"),
        (["{folder}/missing.gz"], "{folder}/missing.gz: no such file"),
        (["{folder}/missing.gz", "--format", "okx"], "{folder}/missing.gz: no such file"),
        (["{flow}", "--format", "fix"], "argument --format: invalid choice: 'fix'"),
        (["{unknown}"], "--format, one of binance, "),
        (["{flow}", "{flow}"], "format 'npy' takes one file, not 2"),
        (["{flow}", "--format", "lobster"], "it looks like 'npy'"),
        (["{flow}", "--verify"], "--verify: {flow} holds nothing to compare a book with"),
        (["{flow}", "--depth", "1"], "depth = 1: --depth needs --verify"),
        (["{flow}", "--verify", "--depth", "0"], "--depth 0: must be"),
        (["{flow}", "--speed", "0"], "argument --speed: '0': must be 'max', or a number above 0"),
        (["{flow}", "--speed", "fast"], "argument --speed: 'fast'"),
        (["{flow}", "--repeat", "0"], "repeat = 0: must be"),
        (["{flow}", "--limit", "0"], "--limit 0: must be"),
        (["{flow}", "--levels", "1000"], "levels = 1000: must be a power of two"),
        (["{flow}", "--capture", "{flow}"], "recording and capture are the same file, '{flow}'"),
        (["{flow}", "--json", "{flow}"], "recording and json are the same file, '{flow}'"),
        (["{flow}", "--rate", "5"], "unrecognized arguments: --rate 5"),
        ([], "the following arguments are required: PATH"),
    ],
)
def test_a_replay_refuses_what_it_cannot_do(
    arguments: list[str], why: str, refusal: Any, flow: Path, tmp_path: Path
) -> None:
    unknown = tmp_path / "recording.dat"
    unknown.write_text("x")
    words = {"folder": tmp_path, "flow": flow, "unknown": unknown}
    given = [each.format(**words) for each in arguments]
    before = flow.read_bytes()
    assert why.format(**words) in refusal("replay", *given)
    assert flow.read_bytes() == before


def test_drops_and_checks_do_not_go_together(refusal: Any, tmp_path: Path) -> None:
    pair = lobster_pair(tmp_path)
    assert "on_full = 'drop': must be 'block'" in refusal(
        "replay", pair, "--verify", "--on-full", "drop"
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--count", "2"], "count = 2: must be at least 3"),
        (["--count", "-5"], "count = -5: must be at least 3"),
        (["--count", "many"], "argument --count: 'many': must be an integer"),
        (["--count", "10", "--tick-size", "0"], "tick_size = 0: must be"),
        (["--count", "10", "--base-price", "7"], "base_price = 7: must be"),
        (["--count", "10", "--market", "256"], "market = 256: must be"),
        (["--count", "10", "--rate", "0.5"], "argument --rate: '0.5': must be a number from 1 to"),
        (["--count", "10", "--seed", "-1"], "argument --seed: '-1'"),
        (["--count", "10", "-o", "-"], "output = '-': a .npy file needs a name"),
        (["--count", "10", "-o", "{folder}/missing/x.npy"], "{folder}/missing/x.npy: No such"),
        ([], "the following arguments are required: --count"),
    ],
)
def test_generate_refuses_what_it_cannot_do(
    arguments: list[str], why: str, refusal: Any, tmp_path: Path
) -> None:
    given = [each.format(folder=tmp_path) for each in arguments]
    if "-o" not in given:
        given += ["-o", str(tmp_path / "flow.npy")]
    assert why.format(folder=tmp_path) in refusal("generate", *given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "No such file"), (b"", "not a capture"), (b"\x93NUMPY", "not a capture")],
)
def test_recover_refuses_what_is_no_capture(
    content: bytes | None, why: str, refusal: Any, tmp_path: Path
) -> None:
    path = tmp_path / "bundles.npy"
    if content is not None:
        path.write_bytes(content)
    line = refusal("recover", path)
    assert str(path) in line
    assert why in line


def test_recover_refuses_a_device(refusal: Any) -> None:
    assert (
        refusal("recover", "/dev/null")
        == "/dev/null: cannot be recovered: it is not a regular file"
    )


def test_a_replay_does_not_log_over_its_recording(flow: Path, refusal: Any) -> None:
    before = flow.read_bytes()
    link = flow.with_name("link.npy")
    link.hardlink_to(flow)
    line = refusal("replay", flow, "--hlog", link)
    link.unlink()
    assert line == f"recording and hlog are the same file, {str(link)!r}"
    assert flow.read_bytes() == before


def test_no_two_results_share_a_file(refusal: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "x")
    for one, other in (("capture", "json"), ("capture", "hlog"), ("json", "hlog")):
        line = refusal("run", f"--{one}", path, f"--{other}", path)
        assert line == f"{one} and {other} are the same file, {path!r}"
    assert not list(tmp_path.iterdir())


def test_bench_refuses_a_name_that_it_does_not_have(refusal: Any) -> None:
    assert refusal("bench", "ring.pop").endswith(", ".join(bench.names()))
