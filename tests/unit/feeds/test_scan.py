"""The scanner and the Python decoder: lines that the scanner reads, and lines that it leaves."""

from __future__ import annotations

import json
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.verify.fuzz.lines import compare, differences
from velox.feeds import load
from velox.feeds.decode.binance import BinanceSession
from velox.feeds.decode.levels import LevelRecorder
from velox.feeds.scan import DIFF, END, OTHER, TRADE, BinanceScanner

DIFF_LINE = (
    b'17 {"stream":"solusdt@depth@100ms","data":{"e":"depthUpdate","E":1700000000123,'
    b'"T":1700000000122,"s":"SOLUSDT","U":5,"u":9,"pu":4,'
    b'"b":[["20.10","3"],["20.00","0.0"]],"a":[["20.30","1.5"]]}}'
)
TICKER_LINE = b'{"u":9,"s":"SOLUSDT","b":"20.10","B":"3","a":"0","A":"0.000"}'
TRADE_LINE = (
    b'{"e":"trade","E":1700000000123456,"s":"SOLUSDT","t":7,"p":"20.1","q":"2",'
    b'"T":1700000000122,"m":true,"M":true}'
)


def scanner(*, trades: bool = True, tick: int = 0, places: int = 4) -> BinanceScanner:
    made = BinanceScanner(trades=trades)
    assert made.add("SOLUSDT") == 0
    made.set_prices(0, places, 2**63 - 1, tick)
    made.set_sizes(0, 1, 2**63 - 1, 0)
    return made


def integers(column: bytes) -> list[int]:
    values = array("q")
    values.frombytes(column)
    return values.tolist()


def test_a_diff_is_read_into_exact_integers() -> None:
    scan = scanner()
    scan.begin(DIFF_LINE + b"\r\n", 41)
    assert scan.advance() == DIFF
    assert [integers(each) for each in scan.bids()] == [[201_000, 200_000], [30, 0]]
    assert [integers(each) for each in scan.asks()] == [[203_000], [15]]
    assert (scan.first, scan.final, scan.previous, scan.has_previous) == (5, 9, 4, True)
    assert (scan.named, scan.line, scan.raw) == (True, 41, DIFF_LINE)
    assert (scan.time, scan.event_time) == (17, 1_700_000_000_123_000_000)
    assert scan.largest(0) == (203_000, 30)
    assert scan.advance() == END


def test_tickers_are_kept_and_trades_are_returned() -> None:
    scan = scanner()
    scan.begin(TICKER_LINE + b"\n" + TRADE_LINE + b"\n" + TICKER_LINE)
    assert scan.advance() == TRADE
    assert (scan.identity, scan.price, scan.size, scan.maker_buys) == (7, 201_000, 20, True)
    assert (scan.time, scan.line) == (1_700_000_000_123_456_000, 2)
    assert scan.advance() == END
    ids, best = scan.take_tickers(0)
    assert np.frombuffer(ids, np.uint64).tolist() == [9, 9]
    assert integers(best) == [201_000, 30, 0, 0] * 2
    assert not scan.has_tickers(0)
    unwanted = scanner(trades=False)
    unwanted.begin(TRADE_LINE)
    assert (unwanted.advance(), unwanted.trades_ignored) == (END, 1)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"u":9', b'"u":09'),
        (b'"u":9', b'"u":-9'),
        (b'"u":9', b'"u":9.0'),
        (b'"u":9', b'"u": 9'),
        (b'"u":9', b'"u":4'),
        (b'"u":9', b'"u":9999999999999999999'),
        (b'"20.10"', b'"0"'),
        (b'"20.10"', b'"20."'),
        (b'"20.10"', b'".5"'),
        (b'"20.10"', b'"-20.10"'),
        (b'"20.10"', b'"2e1"'),
        (b'"20.10"', b"20.10"),
        (b'"20.10"', b'"20.10001"'),
        (b'"20.10"', b'"99999999999999999.9"'),
        (b'"20.10"', b'"0000000000000000020.10"'),
        (b'"3"]', b'"3","0"]'),
        (b'"3"]', b'"0.05"]'),
        (b"]]}}", b"]]}} "),
        (b"]]}}", b"]]}"),
        (b"]]}}", b'],["1"]]}}'),
        (b'"s":"SOLUSDT"', b'"s":"ABC"'),
        (b'"s":"SOLUSDT"', b'"s":"SOL\\u0041"'),
        (b"@depth@100ms", b"@depth5@100ms"),
        (b"@depth@100ms", b"@rpiDepth"),
        (b"17 {", b"1700000000123 {"),
        (b"17 {", b"17  {"),
        (b'"pu":4', b'"pu":null'),
        (b'"pu":4,', b'"pu":4,"x":1,'),
    ],
)
def test_another_form_is_left_to_the_careful_one(before: bytes, after: bytes) -> None:
    assert before in DIFF_LINE
    scan = scanner()
    line = DIFF_LINE.replace(before, after, 1)
    scan.begin(line)
    assert scan.advance() == OTHER
    assert scan.raw == line


def test_a_unit_or_a_step_that_does_not_hold_a_number_leaves_it_to_the_careful_form() -> None:
    for scan in (scanner(places=0), scanner(tick=700)):
        scan.begin(DIFF_LINE)
        assert scan.advance() == OTHER
    scan = scanner(tick=1000)
    scan.begin(DIFF_LINE)
    assert scan.advance() == DIFF


def test_every_prefix_of_a_line_is_left_to_the_careful_form() -> None:
    for line in (DIFF_LINE, TICKER_LINE, TRADE_LINE):
        for length in range(len(line)):
            scan = scanner()
            scan.begin(line[:length])
            assert scan.advance() == (OTHER if length else END)


def test_an_array_of_any_length_is_read() -> None:
    levels = b",".join(b'["%d.5","%d"]' % (n, n) for n in range(1, 5001))
    scan = scanner()
    scan.begin(DIFF_LINE.replace(b'["20.30","1.5"]', levels))
    assert scan.advance() == DIFF
    assert integers(scan.asks()[0]) == [10_000 * n + 5_000 for n in range(1, 5001)]
    assert [integers(each) for each in scan.bids()] == [[201_000, 200_000], [30, 0]]


def test_what_is_not_a_symbols_number_is_refused() -> None:
    scan = scanner()
    for call in (scan.largest, scan.take_tickers):
        with pytest.raises(ValueError, match="symbol 1"):
            call(1)
    for arguments in ((1, 4, 9, 0), (0, 19, 9, 0), (0, 4, 0, 0)):
        with pytest.raises(ValueError, match="places"):
            scan.set_prices(*arguments)
    assert scan.add("x" * 65) == -1


def test_a_session_reads_single_messages_as_it_reads_a_file(tmp_path: Path) -> None:
    levels = [["20.1", "3"], ["20", "0.25"]]
    messages: list[Any] = [
        {"lastUpdateId": 4, "bids": [["20", "1"]], "asks": [["21", "2"]]},
        *(
            {"e": "depthUpdate", "E": n, "s": "SOLUSDT", "U": n, "u": n, "b": levels, "a": []}
            for n in range(5, 9)
        ),
        {"u": 8, "s": "SOLUSDT", "b": "20.1", "B": "3", "a": "21", "A": "2"},
    ]
    raws = [json.dumps(each, separators=(",", ":")).encode() for each in messages]
    path = tmp_path / "recording"
    path.write_bytes(b"".join(b"%d %b\n" % (100 + n, raw) for n, raw in enumerate(raws)))
    recorder = LevelRecorder()

    def report(error: Exception, origin: object = None, **more: Any) -> None:
        raise error

    session = BinanceSession(recorder, report)
    recorder.listeners.append(session.grown)
    for index, raw in enumerate(raws):
        session.feed(raw, 100 + index, index)
    session.finish()
    transactions, _ = recorder.transactions(recorder.grids(), report)
    assert np.array_equal(transactions, load(path, "binance").transactions)
    assert session.symbols["SOLUSDT"].ticker_ids.tolist() == [8]


def test_a_line_of_the_careful_form_leaves_its_time_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    timeless = DIFF_LINE[3:].replace(b'"E":1700000000123,', b"")
    for line in (b'18 {"x":1}', b'19 {"u":1,"s":"SOLUSDT","b":"1","B":"1","a":"2","A":"1"}'):
        opening = b'17 {"lastUpdateId":4,"bids":[],"asks":[],"symbol":"SOLUSDT"}'
        path.write_bytes(b"\n".join([opening, TRADE_LINE, line, timeless]))
        assert compare(path) is None
        assert load(path, "binance").transactions["ingress_ts_ns"][-1] == int(line[:2])


def test_numbers_of_a_line_that_is_not_read_do_not_count() -> None:
    scan = scanner()
    empty = TICKER_LINE.replace(b'"b":"20.10","B":"3"', b'"b":"9999","B":"0"')
    nothing = TRADE_LINE.replace(b'"p":"20.1","q":"2"', b'"p":"9999","q":"0"')
    broken = DIFF_LINE.replace(b'["20.30","1.5"]', b'["9999","9999"]')[:-1]
    scan.begin(b"\n".join([TICKER_LINE, empty, broken, nothing]))
    assert [scan.advance(), scan.advance(), scan.advance()] == [OTHER, TRADE, END]
    assert scan.largest(0) == (201_000, 30)


@pytest.mark.parametrize("seed", [1, 2])
def test_both_forms_read_mutated_lines_alike(tmp_path: Path, seed: int) -> None:
    assert differences(6_000, seed, tmp_path) is None


def test_both_forms_read_the_usual_lines_alike(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    opening = b'17 {"lastUpdateId":4,"bids":[],"asks":[],"symbol":"SOLUSDT"}'
    path.write_bytes(b"\n".join([opening, DIFF_LINE, TICKER_LINE, TRADE_LINE]))
    assert compare(path, trades=True) is None
    recording = load(path, "binance", trades=True)
    assert len(recording) == 6
    assert recording.checks is not None
