"""The sidecar of a capture: the scale of each market travels with its bundles."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import orders
from velox import (
    CaptureOutput,
    Instrument,
    Pipeline,
    PipelineConfig,
    ReplayIngress,
    recover_capture,
)
from velox.cli import main
from velox.core.flow import MarketFlow
from velox.errors import CaptureError, FeedError
from velox.feeds import load
from velox.runtime.capture import begin_capture, finish_capture
from velox.runtime.sidecar import markets_of_capture, sidecar_of

INVOKER = PipelineConfig(placement="invoker")
FINE = Instrument(
    name="PEPE-USDT", price_decimals=8, tick_size=100, lot_size=Decimal("0.001"), levels=1024
)


def captured(path: Path, *instruments: Instrument, market: int = 0) -> Path:
    """A capture of a pipeline with these markets."""
    flow = MarketFlow(1, tick_size=100, market=market).generate(200)
    books = instruments or None
    Pipeline(ReplayIngress(flow), CaptureOutput(path), books=books, config=INVOKER).run()
    return path


def test_a_capture_is_loaded_with_the_markets_of_its_pipeline(tmp_path: Path) -> None:
    path = captured(tmp_path / "bundles.npy", FINE)
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        "bundles.npy",
        "bundles.npy.markets.json",
    ]
    assert markets_of_capture(path) == (FINE,)
    assert load(path).instruments == (FINE,)
    assert load(path, levels=64).instruments[0].levels == 64
    told = Instrument(name="told", tick_size=100)
    assert load(path, instruments=[told]).instruments == (told,)


def test_a_capture_of_a_capture_keeps_the_scale(tmp_path: Path) -> None:
    first = load(captured(tmp_path / "a.npy", FINE))
    again = tmp_path / "b.npy"
    Pipeline(
        ReplayIngress(first.transactions),
        CaptureOutput(again),
        books=first.instruments,
        config=INVOKER,
    ).run()
    assert load(again).instruments == (FINE,)


def test_a_capture_without_a_sidecar_has_four_decimals(tmp_path: Path) -> None:
    path = captured(tmp_path / "bundles.npy", FINE)
    os.unlink(sidecar_of(path))
    assert markets_of_capture(path) is None
    [instrument] = load(path).instruments
    assert (instrument.name, instrument.price_decimals) == ("market-0", 4)


def test_prices_and_markets_that_the_sidecar_does_not_know_are_kept(tmp_path: Path) -> None:
    path = captured(tmp_path / "bundles.npy", FINE)
    bundles = np.load(path, mmap_mode="r+")
    bundles["transactions"][1]["price"][3] += 50
    bundles["transactions"][2]["market"][3] = 9
    bundles.flush()
    recording = load(path)
    first, other = recording.instruments
    assert (first.name, first.price_decimals, first.tick_size) == ("PEPE-USDT", 8, 50)
    assert (other.market, other.name, other.price_decimals) == (9, "market-9", 4)


def test_a_capture_that_was_cut_off_has_its_markets(tmp_path: Path) -> None:
    path = tmp_path / "bundles.npy"
    whole = captured(tmp_path / "whole.npy", FINE)
    file = begin_capture(path, [FINE])
    file.write(np.load(whole).tobytes())
    file.close()
    with pytest.raises(FeedError):
        load(path)
    assert recover_capture(path) > 0
    assert load(path).instruments == (FINE,)


def test_the_sidecar_of_an_earlier_capture_is_replaced_or_removed(tmp_path: Path) -> None:
    path = captured(tmp_path / "bundles.npy", FINE)
    coarse = Instrument(name="BTC", price_decimals=2, tick_size=100)
    captured(path, coarse)
    assert markets_of_capture(path) == (coarse,)
    finish_capture(begin_capture(path), path, 0)
    assert not os.path.exists(sidecar_of(path))


@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_is_no_sidecar_is_left_as_it_is(there: bool, tmp_path: Path) -> None:
    path = tmp_path / "bundles.npy"
    if there:
        captured(path, FINE)
    before = path.read_bytes() if there else None
    sidecar = Path(sidecar_of(path))
    sidecar.write_text("{}")
    with pytest.raises(CaptureError) as caught:
        captured(path, FINE)
    assert caught.value.path == str(sidecar)
    assert sidecar.read_text() == "{}"
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_sidecar_that_cannot_be_written_leaves_no_new_file(tmp_path: Path) -> None:
    path = tmp_path / "bundles.npy"
    part = Path(f"{sidecar_of(path)}.{os.getpid()}.part")
    part.mkdir()
    with pytest.raises(CaptureError) as caught:
        captured(path, FINE)
    assert caught.value.path == sidecar_of(path)
    assert list(tmp_path.iterdir()) == [part]


def _changed(**changes: Any) -> dict[str, Any]:
    market = {"market": 0, "name": "X", "price_decimals": 8, "tick_size": 1, "lot_size": "1"}
    return {
        "kind": "velox capture",
        "version": 1,
        "markets": [{**market, **changes}],
    }


@pytest.mark.parametrize(
    ("content", "field"),
    [
        (b"", None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b" " * ((1 << 20) + 1), None),
        ([], "kind"),
        ({"kind": "other"}, "kind"),
        ({"kind": "velox capture"}, "version"),
        ({**_changed(), "version": 2}, "version"),
        ({**_changed(), "markets": []}, "markets"),
        ({**_changed(), "markets": {}}, "markets"),
        ({**_changed(), "markets": _changed()["markets"] * 2}, "markets"),
        ({**_changed(), "markets": [1]}, "markets[0]"),
        (_changed(more=1), "markets[0]"),
        (_changed(price_decimals=19), "markets[0]"),
        (_changed(price_decimals="4"), "markets[0]"),
        (_changed(price_decimals=None), "markets[0]"),
        (_changed(market=256), "markets[0]"),
        (_changed(name=1), "markets[0]"),
        (_changed(tick_size=0), "markets[0]"),
        (_changed(tick_size=True), "markets[0]"),
        (_changed(lot_size=1), "markets[0].lot_size"),
        (_changed(lot_size="x"), "markets[0]"),
        (_changed(lot_size="-1"), "markets[0]"),
        (_changed(lot_size="NaN"), "markets[0]"),
    ],
)
def test_a_sidecar_that_cannot_be_read_is_refused(
    content: Any, field: str | None, tmp_path: Path
) -> None:
    path = captured(tmp_path / "bundles.npy", FINE)
    sidecar = Path(sidecar_of(path))
    sidecar.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(FeedError) as caught:
        load(path)
    assert (caught.value.path, caught.value.field) == (str(sidecar), field)


@pytest.mark.parametrize("kind", ["folder", "pipe"])
def test_a_sidecar_that_is_no_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = captured(tmp_path / "bundles.npy", FINE)
    sidecar = Path(sidecar_of(path))
    sidecar.unlink()
    if kind == "folder":
        sidecar.mkdir()
    else:
        os.mkfifo(sidecar)
    with pytest.raises(FeedError) as caught:
        load(path)
    assert caught.value.path == str(sidecar)


def test_records_over_a_capture_are_not_read_with_its_markets(tmp_path: Path) -> None:
    path = captured(tmp_path / "bundles.npy", FINE)
    np.save(path, orders(100))
    with pytest.raises(FeedError) as caught:
        load(path)
    assert (caught.value.path, caught.value.field) == (sidecar_of(path), "transactions")
    os.unlink(sidecar_of(path))
    assert load(path).instruments[0].price_decimals == 4


def test_generated_flow_does_not_get_the_markets_of_an_earlier_capture(tmp_path: Path) -> None:
    path = captured(tmp_path / "flow.npy", FINE)
    assert main(["generate", "--count", "100", "-o", str(path)]) == 0
    assert not os.path.exists(sidecar_of(path))
    assert load(path).instruments[0].price_decimals == 4


# The command line


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    assert main([str(each) for each in arguments]) == 2
    caught = capsys.readouterr()
    assert caught.out == ""
    [line] = caught.err.splitlines()
    return line


def test_a_captured_replay_keeps_the_scale(tmp_path: Path) -> None:
    given = captured(tmp_path / "given.npy", FINE)
    path, report = tmp_path / "bundles.npy", tmp_path / "report.json"
    common = ["--placement", "invoker", "--quiet", "--hiccups", "0"]
    assert main(["replay", str(given), "--capture", str(path), *common]) == 0
    assert main(["replay", str(path), "--json", str(report), *common]) == 0
    [market] = json.loads(report.read_text())["markets"]
    assert (market["name"], market["price_decimals"], market["lot_size"]) == (
        *("PEPE-USDT", 8, "0.001"),
    )


def test_a_report_does_not_go_over_the_sidecar(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bundles.npy"
    line = refused(capsys, "run", "--capture", path, "--json", sidecar_of(path))
    assert "the capture's sidecar" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["replay", "submit"])
def test_orders_of_another_scale_are_not_sent(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("solders")
    path = captured(tmp_path / "bundles.npy", FINE)
    line = refused(capsys, command, path, "--submit", "localnet")
    why = "takes prices of 4 decimals only, and market 'PEPE-USDT' has price_decimals = 8"
    assert line == f"velox: error: submit: {why}"
