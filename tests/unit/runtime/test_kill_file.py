"""A kill switch in a file: shared by processes, and closed whenever something is wrong."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import in_another_thread, orders
from velox import Block, KillSwitch, OrderTable, RiskGate
from velox.cli.main import main
from velox.errors import ConfigError
from velox.runtime.kill_file import kill_on_signal, open_kill_switch


def test_a_switch_is_set_by_another_process(tmp_path: Path) -> None:
    path = tmp_path / "kill"
    gate = RiskGate(OrderTable(), kill=open_kill_switch(path))
    assert gate.screen(orders(1, price=100)) == [0]
    subprocess.run([sys.executable, "-m", "velox", "kill", str(path), "--why", "x"], check=True)
    assert gate.screen(orders(1, first_id=2, price=100)) == [Block.KILLED]
    assert (gate.kill.why, gate.kill.path) == ("x", path)


def test_a_switch_that_is_set_stays_set_when_it_is_opened_again(tmp_path: Path) -> None:
    assert open_kill_switch(tmp_path / "kill").kill("one")
    again = open_kill_switch(tmp_path / "kill")
    assert (again.killed, again.why) == (True, "one")
    assert again.arm("Ada")
    assert not open_kill_switch(tmp_path / "kill").killed
    assert list(tmp_path.iterdir()) == [tmp_path / "kill"]


def test_a_file_is_private_and_whole(tmp_path: Path) -> None:
    open_kill_switch(tmp_path / "kill")
    found = (tmp_path / "kill").stat()
    assert (found.st_mode & 0o777, found.st_size) == (0o600, 256)


def test_whatever_else_is_written_to_the_file_blocks(tmp_path: Path) -> None:
    path = tmp_path / "kill"
    switch = open_kill_switch(path)
    with path.open("r+b") as file:
        file.write(b"\0" * 256)
    assert switch.killed
    with path.open("r+b") as file:
        file.write(os.urandom(256))
    assert switch.killed


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"0" * 256),
        lambda path: path.write_bytes(b"\0" * 255),
        lambda path: (path.write_bytes(b"\0" * 256), path.chmod(0o622)),
        os.mkfifo,
        lambda path: path.symlink_to("elsewhere"),
        lambda path: path.mkdir(),
    ],
    ids=["empty", "text", "short", "writable", "pipe", "link", "folder"],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, make: object) -> None:
    path = tmp_path / "kill"
    make(path)  # type: ignore[operator]
    if path.is_file() and not path.is_symlink() and path.stat().st_mode & 0o022 == 0:
        path.chmod(0o600)
    with pytest.raises((ConfigError, OSError)):
        open_kill_switch(path)


def test_a_signal_sets_the_switch() -> None:
    switch = KillSwitch()
    before = kill_on_signal(switch)
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (switch.killed, switch.why) == (True, "signal SIGUSR1")
    with pytest.raises(ValueError, match="main thread"):
        in_another_thread(lambda: kill_on_signal(switch))


def test_the_command_tells_the_state(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "kill")
    assert main(["kill", path, "--status"]) == 2
    assert main(["kill", path, "--why", "a test"]) == 0
    assert main(["kill", path]) == 0
    assert main(["kill", path, "--status"]) == 1
    assert "killed: a test" in capsys.readouterr().out


def test_only_a_person_at_a_terminal_arms_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "kill")
    main(["kill", path])
    monkeypatch.setattr("sys.stdin", io.StringIO("arm\n"))
    assert main(["kill", path, "--arm", "Ada"]) == 2
    assert open_kill_switch(path).killed

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("no\n"))
    assert main(["kill", path, "--arm", "Ada"]) == 1
    monkeypatch.setattr("sys.stdin", Terminal("arm\n"))
    assert main(["kill", path, "--arm", "Ada"]) == 0
    switch = open_kill_switch(path)
    assert (switch.killed, switch.why) == (False, "armed by Ada")
    assert main(["kill", path, "--arm", "Ada"]) == 0
