"""Two recorded connections, each with losses and delays, give the book of one without."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random

import numpy as np
import pytest

from velox.feeds import Recording, load

NS_A_MS = 1_000_000
# A real pair of connections repeats a message long before it loses one.
CLEAN = 25
FIELDS = ["kind", "side", "price", "size", "market", "id", "flags"]

Line = tuple[int, bytes]


def binance_lines(path: Path, count: int) -> list[Line]:
    found = []
    with gzip.open(path) as file:
        for raw in file:
            stamp, _, message = raw.rstrip().partition(b" ")
            if b"depthUpdate" in message or b"lastUpdateId" in message:
                found.append((int(stamp), message))
            if len(found) == count:
                break
    return found


def okx_lines(path: Path, count: int) -> list[Line]:
    found = []
    for raw in path.read_bytes().splitlines():
        head, _, message = raw.partition(b": {")
        if b'"action"' in message:
            stamp = head.rpartition(b" ")[2]
            found.append((int(Decimal(stamp.decode()) * 10**9), b"{" + message.rstrip()))
        if len(found) == count:
            break
    return found


def binance_text(line: Line) -> bytes:
    return b"%d %s\n" % line


def okx_text(line: Line) -> bytes:
    stamp = f"{Decimal(line[0]) / 10**9:.9f}"
    return f"{stamp}: ".encode() + line[1] + b"\n"


def two_connections(random: Random, lines: list[Line], most_delay_ms: int) -> list[Line]:
    """What two connections receive: of each message at least one has its copy in time."""
    received: list[Line] = []
    burst = 0
    for number, (time, message) in enumerate(lines):
        if number < CLEAN:
            received += [(time, message), (time, message)]
            continue
        burst = random.randrange(12) if not burst and random.random() < 0.02 else max(0, burst - 1)
        lost = random.randrange(2) if burst or random.random() < 0.05 else None
        for connection in range(2):
            if connection == lost:
                continue
            delay = random.random() ** 4 * most_delay_ms * NS_A_MS
            received.append((time + int(delay), message))
    # One recorder writes both, as they come.
    return sorted(received, key=lambda line: line[0])


def written(path: Path, lines: list[Line], text: Callable[[Line], bytes]) -> Path:
    path.write_bytes(b"".join(map(text, lines)))
    return path


def assert_same_changes(found: Recording, clean: Recording) -> None:
    assert found.instruments == clean.instruments
    assert len(found) == len(clean)
    for name in FIELDS:
        np.testing.assert_array_equal(found.transactions[name], clean.transactions[name], name)
    times = found.transactions["ingress_ts_ns"].astype(np.int64)
    assert (np.diff(times) >= 0).all()


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_binance_from_two_connections_is_the_clean_book(
    data: Path, seed: int, careful: bool, tmp_path: Path
) -> None:
    lines = binance_lines(data / "binance_usdm" / "btcusdt_20240808.gz", 400)
    clean = load(written(tmp_path / "clean", lines, binance_text), "binance")
    both = two_connections(Random(seed), lines, 900)
    path = written(tmp_path / "both", both, binance_text)
    found = load(path, "binance", careful=careful)
    assert_same_changes(found, clean)
    assert (found.gaps, clean.gaps, clean.reordered) == (0, 0, 0)
    assert found.reordered > 5
    diffs = sum(b"depthUpdate" in message for _, message in both)
    applied = len(np.unique([json.loads(m)["data"]["u"] for _, m in lines if b"depthUpdate" in m]))
    known = found.ignored["depthUpdate known already"]
    assert known + applied >= diffs - clean.ignored.get("depthUpdate known already", 0)


@pytest.mark.parametrize("seed", range(4))
def test_okx_from_two_connections_is_the_clean_book(data: Path, seed: int, tmp_path: Path) -> None:
    lines = okx_lines(data / "okx" / "OKX.ws.1.0", 400)
    # The recording is from before OKX sent ids: give it those that it would have had.
    numbered, last = [], {}
    for number, (time, raw) in enumerate(lines, 10):
        message = json.loads(raw)
        name = message["arg"]["instId"]
        opens = message["action"] == "snapshot"
        message["data"][0]["seqId"] = number
        message["data"][0]["prevSeqId"] = -1 if opens else last[name]
        last[name] = number
        numbered.append((time, json.dumps(message).encode()))
    clean = load(written(tmp_path / "clean", numbered, okx_text), "okx")
    assert clean.gaps == 0
    found = load(
        written(tmp_path / "both", two_connections(Random(seed), numbered, 900), okx_text), "okx"
    )
    assert (found.gaps, found.skipped) == (0, 0)
    assert found.reordered > 0
    # Messages of different instruments may change places, those of one may not.
    for market in clean.instruments:
        one = found.transactions[found.transactions["market"] == market.market]
        other = clean.transactions[clean.transactions["market"] == market.market]
        for name in FIELDS:
            np.testing.assert_array_equal(one[name], other[name], name)


@pytest.mark.parametrize("on_gap", ["clear", "continue"])
def test_what_both_connections_lose_is_still_a_gap(data: Path, on_gap: str, tmp_path: Path) -> None:
    lines = binance_lines(data / "binance_usdm" / "btcusdt_20240808.gz", 200)
    both = [line for line in lines for _ in range(2)]
    lost = [line for line in both if line[1] != lines[100][1]]
    found = load(written(tmp_path / "lost", lost, binance_text), "binance", on_gap=on_gap)
    single = [line for line in lines if line[1] != lines[100][1]]
    alone = load(written(tmp_path / "alone", single, binance_text), "binance", on_gap=on_gap)
    assert found.gaps == alone.gaps == 1
    if on_gap == "continue":
        assert_same_changes(found, alone)


def test_a_message_that_comes_after_the_window_is_a_gap(data: Path, tmp_path: Path) -> None:
    lines = binance_lines(data / "binance_usdm" / "btcusdt_20240808.gz", 200)
    both = [line for line in lines for _ in range(2)]
    late = lines[100]
    rest = [line for line in both if line[1] != late[1]]
    span_ns = lines[-1][0] - lines[100][0]
    assert span_ns > 2_000_000_000
    found = load(
        written(
            tmp_path / "late",
            sorted([*rest, (late[0] + 1_500_000_000, late[1])], key=lambda line: line[0]),
            binance_text,
        ),
        "binance",
    )
    assert found.gaps == 1
    assert "leaves a gap" in found.problems[0]


def test_one_connection_is_read_as_before(data: Path, tmp_path: Path) -> None:
    lines = binance_lines(data / "binance_usdm" / "btcusdt_20240808.gz", 200)
    # Two messages have changed places, and none was ever repeated.
    lines[100], lines[101] = (lines[100][0], lines[101][1]), (lines[101][0], lines[100][1])
    found = load(written(tmp_path / "swapped", lines, binance_text), "binance")
    assert (found.gaps, found.reordered) == (1, 0)
