"""Real recordings through the command line, compared with the venue's data."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 300

# The format, its files, what it needs with --verify, and how many moments it can be checked at.
VENUES = {
    "lobster": (["lobster"], ["--depth", "30"], 999),
    "binance": (["binance_usdm/btcusdt_20240808.gz"], [], 629),
    "okx": (["okx/OKX.ws.1.0", "okx/OKX.0.gz"], [], 290),
}
venues = pytest.mark.parametrize("venue", VENUES)


def replay(data: Path, venue: str, *options: object) -> subprocess.CompletedProcess[str]:
    files, own, _ = VENUES[venue]
    own = own if "--verify" in options else []
    paths = [str(data / each) for each in files]
    given = ["replay", *paths, "--format", venue, *own, "--quiet", *map(str, options)]
    return subprocess.run(
        [sys.executable, "-m", "velox", *given],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
    )


@venues
@pytest.mark.parametrize("placement", ["invoker", "shared", "paired", "dedicated"])
def test_the_book_is_exact_in_every_placement(
    data: Path, venue: str, placement: str, tmp_path: Path
) -> None:
    path = tmp_path / "replay.json"
    done = replay(data, venue, "--verify", "--placement", placement, "--json", path)
    checks = VENUES[venue][2]
    assert done.returncode == 0, done.stderr
    assert f"verified={checks} mismatched=0" in done.stdout
    value = json.loads(path.read_text())
    assert value["verify"]["checked"] == checks
    assert value["verify"]["mismatched"] == 0
    assert value["ledger"]["balanced"] is True
    assert value["ledger"]["dropped"] == 0
    assert not any(value["ledger"]["rejected"].values())


@venues
@pytest.mark.parametrize("levels", [1024, 8192, 65536])
def test_the_book_is_exact_at_any_number_of_levels(data: Path, venue: str, levels: int) -> None:
    done = replay(data, venue, "--verify", "--levels", levels)
    assert done.returncode == 0, done.stderr
    assert f"verified={VENUES[venue][2]} mismatched=0" in done.stdout


@venues
def test_each_pass_starts_from_a_cleared_book(data: Path, venue: str) -> None:
    done = replay(data, venue, "--verify", "--repeat", 3)
    assert done.returncode == 0, done.stderr
    assert f"verified={3 * VENUES[venue][2]} mismatched=0" in done.stdout


@venues
def test_two_replays_in_the_invoker_capture_the_same_bytes(
    data: Path, venue: str, tmp_path: Path
) -> None:
    paths = [tmp_path / "a.npy", tmp_path / "b.npy"]
    for path in paths:
        done = replay(data, venue, "--placement", "invoker", "--capture", path)
        assert done.returncode == 0, done.stderr
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert np.load(paths[0])["count"].sum() > 900


@venues
def test_a_format_that_is_another_is_refused(data: Path, venue: str) -> None:
    files = VENUES[venue][0]
    path = data / files[0]
    other = "npy" if path.is_file() else "okx"
    done = subprocess.run(
        [sys.executable, "-m", "velox", "replay", str(path), "--format", other],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("velox: error: ")
    assert done.stderr.count("\n") == 1


def test_a_replay_is_not_faster_than_its_speed(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "replay.json"
    done = replay(data, "lobster", "--speed", "200", "--json", path)
    assert done.returncode == 0, done.stderr
    [messages] = (data / "lobster").glob("*_message_*")
    seconds = [float(line.partition(",")[0]) for line in messages.read_text().splitlines()]
    # Never faster. How much slower depends on the machine.
    elapsed_s = json.loads(path.read_text())["elapsed_s"]
    assert elapsed_s >= 0.999 * (seconds[-1] - seconds[0]) / 200
