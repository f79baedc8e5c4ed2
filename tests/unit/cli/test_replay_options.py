"""How ``velox replay`` reads a recording, and how it reports the lines that it left out."""

from __future__ import annotations

import argparse
import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import refused as refused_with
from tests.unit.cli.recordings import lobster_pair
from velox import Instrument, feeds
from velox.cli import main
from velox.cli.parser import parsers
from velox.cli.recordings import reading_options
from velox.core.flow import MarketFlow
from velox.errors import ConfigError, FeedError


def binance(tmp_path: Path, *messages: dict[str, Any], stamp: int = 10**18) -> Path:
    """A compressed recording whose name tells nothing."""
    path = tmp_path / "recording"
    lines = (json.dumps(each, separators=(",", ":")) for each in messages)
    text = "".join(f"{stamp + n} {line}\n" for n, line in enumerate(lines))
    path.write_bytes(gzip.compress(text.encode()))
    return path


def opening(symbol: str, bid: str, ask: str) -> dict[str, Any]:
    return {"lastUpdateId": 1, "symbol": symbol, "bids": [[bid, "1"]], "asks": [[ask, "2"]]}


def diff(symbol: str, update: int, price: str) -> dict[str, Any]:
    event = {"e": "depthUpdate", "E": 1, "s": symbol, "U": update, "u": update}
    return {**event, "b": [[price, "7"]], "a": []}


def trade(symbol: str, price: str) -> dict[str, Any]:
    event = {"e": "trade", "E": 1, "s": symbol, "t": 9, "T": 1}
    return {**event, "p": price, "q": "3", "m": True}


TWO_MARKETS = (
    opening("BTCUSDT", "60000.1", "60000.2"),
    opening("PEPEUSDT", "0.00001234", "0.00001235"),
    diff("BTCUSDT", 2, "60000.0"),
    trade("BTCUSDT", "60000.1"),
    {"result": None, "id": 1},
    diff("PEPEUSDT", 2, "0.00001233"),
    diff("BTCUSDT", 4, "59999.9"),
)


def replayed(tmp_path: Path, *arguments: object) -> dict[str, Any]:
    """What a replay writes as JSON."""
    path = tmp_path / "report.json"
    given = ["replay", *map(str, arguments), "--json", str(path), "--quiet", "--hiccups", "0"]
    assert main([*given, "--placement", "invoker"]) == 0
    value: dict[str, Any] = json.loads(path.read_text())
    return value


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command is refused with."""
    try:
        status = main(["replay", *map(str, arguments)])
    except SystemExit as ended:
        status = int(str(ended.code))
    caught = capsys.readouterr()
    assert (status, caught.out) == (2, "")
    [line] = caught.err.splitlines()
    assert line.startswith("velox: error: ")
    return line.removeprefix("velox: error: ")


def test_each_option_of_each_format_is_an_option_of_a_replay() -> None:
    _, replay = parsers("replay")
    actions = {action.dest: action for action in replay._actions}
    for format in feeds.formats():
        for name in feeds.options_of(format):
            assert name in actions
            if name != "levels":
                assert format in (actions[name].help or "")
                assert actions[name].default is None


@pytest.mark.parametrize("given", [["--symbol", "PEPEUSDT"], []])
def test_the_content_tells_the_format(given: list[str], tmp_path: Path) -> None:
    value = replayed(tmp_path, binance(tmp_path, *TWO_MARKETS), *given)
    names = ["PEPEUSDT"] if given else ["BTCUSDT", "PEPEUSDT"]
    assert [each["name"] for each in value["markets"]] == names


def test_a_pair_a_folder_and_a_capture_tell_their_format(tmp_path: Path) -> None:
    pair = lobster_pair(tmp_path)
    assert replayed(tmp_path, pair)["recording"]["records"] == len(feeds.load(pair, "lobster"))
    files = [pair / "T_orderbook_1.csv", pair / "T_message_1.csv"]
    moved = [each.rename(tmp_path / f"{number}.txt") for number, each in enumerate(files)]
    assert replayed(tmp_path, *moved)["recording"]["checks"] == 2
    flow = tmp_path / "flow"
    with flow.open("wb") as file:
        np.save(file, MarketFlow(1).generate(100))
    assert replayed(tmp_path, flow)["recording"]["records"] == 100


def test_the_options_are_those_of_load(tmp_path: Path) -> None:
    path = binance(tmp_path, *TWO_MARKETS, stamp=10**12)
    given = {
        "symbol": "BTCUSDT",
        "on_gap": "continue",
        "trades": True,
        "price_decimals": 2,
        "tick_size": 5,
        "lot_size": "0.5",
        "time_unit": "ms",
        "depth_stream": "diff",
        "careful": True,
    }
    flags = [
        *("--symbol", "BTCUSDT", "--on-gap", "continue", "--trades", "--price-decimals", 2),
        *("--tick-size", 5, "--lot-size", "0.5", "--time-unit", "ms"),
        *("--depth-stream", "diff", "--careful"),
    ]
    parser, _ = parsers("replay")
    options = parser.parse_args(["replay", str(path), *map(str, flags)])
    assert reading_options(options, "binance") == given
    value = replayed(tmp_path, path, *flags)
    loaded = feeds.load(path, "binance", **given)  # type: ignore[arg-type]
    assert value["recording"] == json.loads(json.dumps(loaded.to_dict()))
    assert value["recording"]["gaps"] == 1
    assert value["ledger"]["applied"] == len(loaded) == 7
    [market] = value["markets"]
    assert market == {
        **{"market": 0, "name": "BTCUSDT", "price_decimals": 2, "tick_size": 5},
        **{"lot_size": "0.5", "crossed": 0, "uncrossed": 0, "matched": 0},
    }


def test_a_market_of_a_file_can_be_told(tmp_path: Path) -> None:
    flow = tmp_path / "flow.npy"
    np.save(flow, MarketFlow(1).generate(100))
    told = "0=A-B,price_decimals=8,tick-size=100,lot_size=0.01,levels=128"
    value = replayed(tmp_path, flow, "--market", told)
    [market] = value["markets"]
    assert (market["name"], market["price_decimals"], market["tick_size"]) == ("A-B", 8, 100)
    assert market["lot_size"] == "0.01"
    parser, _ = parsers("replay")
    options = parser.parse_args(["replay", str(flow), "--market", told])
    instrument = Instrument(
        name="A-B", price_decimals=8, tick_size=100, lot_size=Decimal("0.01"), levels=128
    )
    assert reading_options(options, "npy") == {"instruments": [instrument]}


@pytest.mark.parametrize(
    ("format", "flag", "value"),
    [
        ("binance", "--channel", "books"),
        ("binance", "--market", "0=X"),
        ("binance", "--name", "X"),
        ("okx", "--tick-size", "1"),
        ("okx", "--time-unit", "ms"),
        ("lobster", "--symbol", "X"),
        ("lobster", "--on-gap", "stop"),
        ("npy", "--lot-size", "1"),
        ("npy", "--trades", None),
    ],
)
def test_an_option_that_a_format_does_not_take_is_refused(
    format: str, flag: str, value: str | None
) -> None:
    parser, _ = parsers("replay")
    options: argparse.Namespace = parser.parse_args(
        ["replay", "x", flag, *([] if value is None else [value])]
    )
    with pytest.raises(ConfigError) as caught:
        reading_options(options, format)
    assert caught.value.why.startswith(f"{flag}: format '{format}' does not take it; it takes --")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--tick-size", "0.5"], "argument --tick-size: '0.5': must be an integer"),
        (["--tick-size", "0"], "--tick-size 0: must be"),
        (["--price-decimals", "19"], "--price-decimals 19: must be"),
        (["--lot-size", "x"], "--lot-size x: is not a decimal number"),
        (["--on-gap", "jump"], "--on-gap jump: must be one of clear, continue, stop"),
        (["--time-unit", "h"], "--time-unit h: must be one of ns, us, ms, s"),
        (["--depth-stream", "all"], "--depth-stream all: must be one of auto, diff, partial"),
        (["--channel", "books"], "--channel: format 'binance' does not take it"),
        (["--market", "X"], "argument --market: 'X': must begin with ID=NAME"),
        (["--market", "0="], "argument --market: '0=': must begin with ID=NAME"),
        (["--market", "0=X,tick=1"], "'tick' is no field of a market; known are price_decimals"),
        (["--market", "0=X,tick_size=1,tick_size=1"], "tick_size is given twice"),
        (["--market", "0=X,tick_size=a"], "tick_size: 'a': must be an integer"),
        (["--market", "0=X,lot_size=a"], "lot_size: lot_size = 'a': is not a decimal number"),
        (["--market", "256=X"], "market = 256: must be 0 to 255"),
        (["--on-gap", "stop"], ":7: "),
        (["--symbol", "ETHUSDT"], "holds no depth events"),
    ],
)
def test_a_reading_option_that_cannot_be_used_is_one_line(
    arguments: list[str], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert why in refused(capsys, binance(tmp_path, *TWO_MARKETS), *arguments)


def test_a_market_that_is_told_twice_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = tmp_path / "flow.npy"
    np.save(flow, MarketFlow(1).generate(100))
    line = refused(capsys, flow, "--market", "0=X", "--market", "0=Y")
    assert line == "--market: market 0 is given twice"


def test_a_file_that_does_not_tell_its_format_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.dat"
    path.write_text("words\n")
    line = refused(capsys, path)
    assert line == (
        f"{path}: the content does not tell the format; give --format, one of "
        f"{', '.join(feeds.formats())}"
    )
    damaged = path.rename(tmp_path / "x.npy")
    assert f"{damaged}: is not a .npy file" in refused(capsys, damaged)


def test_what_was_left_aside_stands_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = binance(tmp_path, *TWO_MARKETS)
    value = replayed(tmp_path, path)
    loaded = feeds.load(path)
    reading = value["recording"]
    assert reading["source"] == [str(path)]
    assert (reading["gaps"], reading["skipped"], reading["unknown"]) == (1, 0, 0)
    assert reading["ignored"] == dict(loaded.ignored)
    assert reading["ignored"]["trade"] == 1
    assert len(reading["problems"]) == 1
    assert [each["price_decimals"] for each in value["markets"]] == [4, 8]
    known = {each["name"]: each for each in reading["known"]}
    assert known["PEPEUSDT"]["bid"] == "0.00001234"
    assert known["PEPEUSDT"]["ask"] == "0.00001235"
    lines = capsys.readouterr().out.splitlines()
    assert "            PEPEUSDT: bids from 0.00001234, asks to 0.00001235" in lines
    assert "            PEPEUSDT: 8 price decimals, tick 0.00000001, lot 1; 0 crossings" in lines
    [line] = [each for each in lines if each.startswith("recording   ")]
    assert "0 lines skipped, 1 gaps, 0 contradictions, 0 checks beyond the depth" in line
    [line] = [each for each in lines if each.startswith("ignored     ")]
    for name, count in loaded.ignored.items():
        assert f"{name} {count}" in line


def test_a_recording_without_limits_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow = tmp_path / "flow.npy"
    np.save(flow, MarketFlow(1).generate(100))
    value = replayed(tmp_path, flow)
    assert value["recording"]["ignored"] == {}
    [known] = value["recording"]["known"]
    assert (known["bid"], known["ask"], known["levels"]) == (None, None, None)
    lines = capsys.readouterr().out.splitlines()
    assert "ignored     nothing" in lines
    assert "known       market-0: the recording tells of no limit" in lines


@pytest.mark.parametrize("policy", ["count", "uncross", "match"])
def test_crossings_are_counted_in_the_report(
    policy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = binance(tmp_path, opening("X", "10", "11"), diff("X", 2, "11"))
    value = replayed(tmp_path, path, "--on-cross", policy)
    [market] = value["markets"]
    assert (market["crossed"], market["uncrossed"]) == ((1, 0) if policy == "count" else (0, 1))
    [line] = [each for each in capsys.readouterr().out.splitlines() if each.startswith("market ")]
    crossings = "1 crossings" if policy == "count" else "0 crossings, 1 crossed levels removed"
    assert line.endswith(f"; {crossings}")


def test_errors_of_readers_name_the_flags_of_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refusal(*arguments: object) -> str:
        assert main(["replay", "--quiet", *map(str, arguments)]) == 2
        return capsys.readouterr().err

    two = [{**each, "symbol": None} for each in TWO_MARKETS[:2]]
    for each in two:
        del each["symbol"]
    nameless = binance(tmp_path, *TWO_MARKETS[2:], *two)
    assert "say whose with --snapshot-symbol" in refusal(nameless)
    seconds = binance(tmp_path, *TWO_MARKETS, stamp=1_700_000_000)
    assert "say --time-unit s, or --time-unit ns" in refusal(seconds)
    whole = binance(tmp_path, *TWO_MARKETS)
    err = refusal(whole, "--tick-size", 0)
    assert "--tick-size 0: must be an integer" in err
    err = refusal(whole, "--depth", 3, "--verify")
    assert "--depth 3: format 'binance' does not take it" in err
    assert refusal(whole, "--time-unit", "hours").startswith(
        "velox: error: --time-unit hours: must be one of"
    )


def test_a_snapshot_that_cannot_be_of_the_symbol_that_was_told_is_refused(tmp_path: Path) -> None:
    def nameless(bid: str, ask: str, update: int) -> dict[str, Any]:
        return {"lastUpdateId": update, "bids": [[bid, "1"]], "asks": [[ask, "2"]]}

    diffs = (diff("BTCUSDT", 2, "60000.0"), diff("ETHUSDT", 2, "2500.0"))
    more = (diff("BTCUSDT", 3, "60000.0"), diff("ETHUSDT", 3, "2500.0"))
    first = nameless("60000.1", "60000.2", 1)
    again = nameless("60000.0", "60000.2", 2)
    path = binance(tmp_path, *diffs, first, again, *more)
    found = feeds.load(path, symbol="BTCUSDT", snapshot_symbol="BTCUSDT")
    assert found.skipped == 0
    other = nameless("2500.1", "2500.2", 2)
    path = binance(tmp_path, *diffs, first, other, *more)
    with refused_with(FeedError, line=4, field="lastUpdateId"):
        feeds.load(path, symbol="BTCUSDT", snapshot_symbol="BTCUSDT")
    found = feeds.load(path, symbol="BTCUSDT", snapshot_symbol="BTCUSDT", on_error="skip")
    assert found.skipped == 1
    assert set(found.transactions["price"].tolist()) <= {0, 600000000, 600001000, 600002000}
