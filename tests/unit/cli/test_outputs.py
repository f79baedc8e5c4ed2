"""Files that cannot be written, pipes that nobody reads, and rights that are denied."""

from __future__ import annotations

import itertools
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from velox.telemetry import replacing, writing

from .test_main import PATIENCE_S, ROOT, command, velox_run

needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
RUN = ("run", "--rate", "1000", "--hiccups", "0", "--quiet", "--placement", "shared")
RUN += ("--idle", "backoff")


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def pipe(folder: Path) -> Path:
    path = folder / "pipe"
    os.mkfifo(path)
    return path


@needs_pipes
@pytest.mark.parametrize("option", ["--json", "--hlog"])
@pytest.mark.parametrize("words", [RUN, ("hiccups", "--duration", "0.01")])
def test_a_pipe_that_nobody_reads_is_refused_by_name(
    option: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    path = pipe(tmp_path)
    done = velox_run(*words, option, path)
    assert done.returncode == 2
    assert done.stderr == f"velox: error: {path}: nobody reads this pipe; start its reader first\n"
    assert "pushed" not in done.stdout


@needs_pipes
@pytest.mark.parametrize("option", ["--json", "--hlog"])
def test_a_pipe_with_a_reader_gets_the_whole_result(option: str, tmp_path: Path) -> None:
    path = pipe(tmp_path)
    reader = subprocess.Popen(["cat", path], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    # Opened for both, it needs no one at the other end: so the reader is there from the start.
    held = os.open(path, os.O_RDWR)
    try:
        done = velox_run(*RUN, "--duration", "0.2", option, path)
    finally:
        os.close(held)
    assert done.returncode == 0, done.stderr
    text, _ = reader.communicate(timeout=PATIENCE_S)
    if option == "--json":
        assert json.loads(text)["passed"]
    else:
        assert "Tag=transit" in text


@needs_pipes
@pytest.mark.parametrize("option", ["--json", "--hlog"])
def test_a_reader_that_goes_away_is_named_and_the_rest_still_comes(
    option: str, tmp_path: Path
) -> None:
    path = pipe(tmp_path)
    other = tmp_path / "other"
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    process = started(
        *RUN, "--duration", "1.5", option, path, {"--json": "--hlog", "--hlog": "--json"}[option],
        other,
    )  # fmt: skip
    assert process.stdout is not None
    # Its first line comes before the run starts.
    first = process.stdout.readline()
    os.close(reader)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    what = {"--json": "the JSON document is lost", "--hlog": "the rest of the log is lost"}[option]
    assert err.splitlines()[-1] == f"velox: error: {path}: Broken pipe; {what}"
    assert "pushed" in first + out
    if option == "--hlog":
        document = json.loads(other.read_text(encoding="utf-8"))
        assert document["errors"] == [f"{path}: Broken pipe; {what}"]
        assert document["ledger"]["balanced"]
    else:
        assert "Tag=total" in other.read_text(encoding="utf-8")


@needs_pipes
@pytest.mark.parametrize("replaces", [False, True])
def test_a_full_pipe_whose_reader_takes_nothing_is_given_up_at_a_request(
    replaces: bool, tmp_path: Path
) -> None:
    path = pipe(tmp_path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    asked = itertools.count()
    opened = replacing if replaces else writing
    try:
        with (
            pytest.raises(OSError, match="the pipe is full") as caught,
            opened(path, requests=lambda: next(asked)) as file,
        ):
            file.write(bytes(1 << 24))
    finally:
        os.close(reader)
    assert caught.value.filename == str(path)
    # Once before the wait, and at the first look of it.
    assert next(asked) >= 2


@needs_pipes
def test_a_full_pipe_is_written_on_once_its_reader_goes_on(tmp_path: Path) -> None:
    path = pipe(tmp_path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    content = os.urandom(1 << 22)
    taken = bytearray()

    def read() -> int:
        # Called only while the pipe is full.
        taken.extend(os.read(reader, 1 << 20))
        return 0

    with writing(path, requests=read) as file:
        file.write(content)
    while some := os.read(reader, 1 << 20):
        taken += some
    os.close(reader)
    assert bytes(taken) == content


@pytest.mark.parametrize("interval", [1, 3])
def test_a_disk_that_is_full_under_two_files_loses_neither_the_report_nor_a_word(
    interval: int, tmp_path: Path
) -> None:
    log, document = tmp_path / "run.hlog", tmp_path / "run.json"

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024 * interval, 1024 * interval))

    done = subprocess.run(
        command(*RUN, "--duration", "2.5", "--hlog", log, "--json", document),
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
        preexec_fn=small_files,
    )
    assert done.returncode == 1
    assert "pushed" in done.stdout
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert f"velox: error: {log}: File too large; the rest of the log is lost" in errors
    lost = f"velox: error: {document}: File too large; the JSON document is lost"
    assert (lost in errors) != document.exists()
    # What was written before is whole.
    assert log.stat().st_size <= 1024 * interval


NUMBERS = {"x86_64": 203, "aarch64": 122}
# A filter of the kernel that lets every call through but the one that pins a thread.
DENIED = """
import ctypes, struct, sys
code = struct.pack("HBBI" * 4, 0x20, 0, 0, 0, 0x15, 0, 1, {number}, 0x06, 0, 0, 0x00050001,
                   0x06, 0, 0, 0x7FFF0000)
held = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", 4, ctypes.addressof(held))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit(77)
from velox.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def run_without_pins(*arguments: object) -> subprocess.CompletedProcess[str]:
    machine = platform.machine()
    if sys.platform != "linux" or machine not in NUMBERS:
        pytest.skip("needs a filter of Linux")
    program = DENIED.format(number=NUMBERS[machine])
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip("the kernel takes no filter")
    return done


def test_a_run_that_may_not_pin_goes_on_and_says_so_everywhere(tmp_path: Path) -> None:
    document = tmp_path / "run.json"
    words = list(RUN)
    words[words.index("--hiccups") + 1] = "0.05"
    done = run_without_pins(*words, "--duration", "0.2", "--json", document)
    assert done.returncode == 0, done.stderr
    found = json.loads(document.read_text(encoding="utf-8"))
    assert found["cpus"] == [None]
    assert found["plan"]["runners"][0]["cpu"] is None
    [warning] = [each for each in found["warnings"] if "pinned" in each]
    assert "(Operation not permitted)" in warning
    assert done.stderr.count(f"velox: warning: {warning}\n") == 1
    assert "cannot measure hiccups" not in done.stderr
    assert [each["cpu"] for each in found["hiccups"]] == [None]


def test_without_pins_or_with_strict_the_refusal_is_no_news_or_the_end() -> None:
    done = run_without_pins(*RUN, "--duration", "0.1", "--no-pin")
    assert done.returncode == 0, done.stderr
    assert "pinned" not in done.stderr
    assert "on any CPU" in done.stdout
    done = run_without_pins(*RUN, "--duration", "0.1", "--strict")
    assert done.returncode == 2
    assert "cannot be pinned" in done.stderr
