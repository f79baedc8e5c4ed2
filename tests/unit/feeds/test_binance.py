from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox.core.records import Flags, Kind
from velox.errors import FeedError
from velox.feeds import Recording, load
from velox.runtime.checks import DepthChecks

Level = tuple[str, str]


def diff(
    first: int,
    final: int,
    previous: int | None = None,
    *,
    bids: list[Level] | None = None,
    asks: list[Level] | None = None,
    symbol: str = "BTCUSDT",
) -> dict[str, Any]:
    message = {
        "e": "depthUpdate",
        "E": 1000,
        "s": symbol,
        "U": first,
        "u": final,
        "b": [("1.5", str(final))] if bids is None else bids,
        "a": [] if asks is None else asks,
    }
    return message if previous is None else message | {"pu": previous}


def snapshot(last: int, **more: Any) -> dict[str, Any]:
    return {"lastUpdateId": last, "bids": [["1.4", "1"]], "asks": [["1.6", "2"]], **more}


def ticker(update: int, symbol: str = "BTCUSDT") -> dict[str, Any]:
    best = {"b": "1.5", "B": str(update), "a": "1.6", "A": "2"}
    return {"e": "bookTicker", "u": update, "s": symbol, **best}


def trade(**more: Any) -> dict[str, Any]:
    return {"e": "trade", "s": "BTCUSDT", "t": 77, "p": "1.5", "q": "3", "m": True, **more}


def written(tmp_path: Path, *messages: Any) -> Path:
    """A file in which message *i* has arrived at 1000 + i ns."""
    path = tmp_path / "recording"
    lines = (
        message if isinstance(message, str) else f"{1000 + index} {json.dumps(message)}"
        for index, message in enumerate(messages)
    )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def sets(recording: Recording) -> list[int]:
    """The sizes that diffs set: `diff` makes them the final ids of those that were applied."""
    transactions = recording.transactions
    is_diff = (transactions["flags"] & Flags.SNAPSHOT == 0) & (transactions["kind"] == Kind.SET)
    sizes: list[int] = transactions["size"][is_diff].tolist()
    return sizes


def test_a_snapshot_clears_sets_and_marks_what_it_opens(tmp_path: Path) -> None:
    path = written(tmp_path, snapshot(5), diff(6, 7, bids=[("1.5", "3")], asks=[("1.6", "0")]))
    recording = load(path, "binance")
    opening, last = int(Flags.SNAPSHOT), int(Flags.LAST)
    names = ["kind", "side", "price", "size", "flags", "ingress_ts_ns"]
    assert recording.transactions[names].tolist() == [
        (Kind.CLEAR, 0, 0, 0, opening, 1000),
        (Kind.SET, 0, 14_000, 1, opening, 1000),
        (Kind.CLEAR, 1, 0, 0, opening, 1000),
        (Kind.SET, 1, 16_000, 2, opening | last, 1000),
        (Kind.SET, 0, 15_000, 3, 0, 1001),
        (Kind.SET, 1, 16_000, 0, last, 1001),
    ]
    (instrument,) = recording.instruments
    assert (instrument.name, instrument.tick_size, instrument.lot_size) == ("BTCUSDT", 1000, 1)


def test_spot_diffs_wait_for_the_snapshot_and_go_on_from_it(tmp_path: Path) -> None:
    path = written(
        tmp_path, diff(1, 3), diff(4, 5), diff(6, 8), diff(9, 9), snapshot(6), diff(10, 12)
    )
    recording = load(path, "binance")
    assert sets(recording) == [8, 9, 12]
    # What waited becomes part of the book when the snapshot arrives.
    assert recording.transactions["ingress_ts_ns"].tolist() == [1004] * 6 + [1005]


def test_futures_diffs_wait_for_the_snapshot_and_go_on_from_it(tmp_path: Path) -> None:
    path = written(
        tmp_path, diff(1, 3, 0), diff(5, 6, 3), diff(8, 9, 6), snapshot(6), diff(11, 12, 9)
    )
    # A diff that ends with the snapshot's own id is kept: what it sets is there already.
    assert sets(load(path, "binance")) == [6, 9, 12]


def test_a_futures_snapshot_between_two_diffs_misses_neither(tmp_path: Path) -> None:
    path = written(tmp_path, diff(1, 3, 0), diff(8, 9, 3), snapshot(5))
    assert sets(load(path, "binance")) == [9]


def test_diffs_after_an_early_snapshot_are_dropped_until_they_reach_it(tmp_path: Path) -> None:
    path = written(tmp_path, snapshot(6), diff(1, 3), diff(4, 5), diff(6, 8))
    assert sets(load(path, "binance")) == [8]


@pytest.mark.parametrize(
    ("messages", "line", "field", "expected"),
    [
        ([snapshot(5), diff(6, 7), diff(9, 9)], 3, "U", "expected U = 8, got 9"),
        ([snapshot(5), diff(5, 7, 4), diff(9, 9, 8)], 3, "pu", "expected pu = 7, got 8"),
        ([diff(6, 7), diff(9, 9), snapshot(5)], 2, "U", "expected U = 8, got 9"),
    ],
)
def test_a_gap_is_named_with_what_was_expected(
    tmp_path: Path, messages: list[Any], line: int, field: str, expected: str
) -> None:
    path = written(tmp_path, *messages)
    with pytest.raises(FeedError) as caught:
        load(path, "binance", on_gap="stop")
    assert (caught.value.line, caught.value.field) == (line, field)
    assert expected in str(caught.value)
    recording = load(path, "binance")
    assert (recording.gaps, recording.skipped) == (1, 0)
    assert recording.problems == (str(caught.value),)


@pytest.mark.parametrize(
    "messages",
    [[snapshot(5), diff(7, 8)], [snapshot(5), diff(7, 8, 6)], [diff(7, 8), snapshot(5)]],
)
def test_a_snapshot_that_no_diff_goes_on_from_is_refused_at_the_end(
    tmp_path: Path, messages: list[Any]
) -> None:
    with pytest.raises(FeedError) as caught:
        load(written(tmp_path, *messages), "binance")
    assert caught.value.line == 1 + messages.index(next(m for m in messages if "U" in m))
    assert "no REST snapshot of BTCUSDT" in str(caught.value)


def test_after_a_gap_the_book_stays_empty_until_the_next_snapshot(tmp_path: Path) -> None:
    path = written(
        tmp_path, snapshot(5), diff(6, 7), diff(9, 9), diff(10, 11), snapshot(9), diff(12, 12)
    )
    recording = load(path, "binance")
    assert (recording.gaps, recording.skipped) == (1, 0)
    assert "leaves a gap: expected U = 8, got 9" in recording.problems[0]
    assert sets(recording) == [7, 11, 12]
    kinds = recording.transactions["kind"].tolist()
    assert kinds[5:11] == [Kind.CLEAR] * 3 + [Kind.SET, Kind.CLEAR, Kind.SET]
    assert recording.transactions["flags"][6] == Flags.LAST


def test_after_a_gap_without_a_snapshot_the_book_ends_empty(tmp_path: Path) -> None:
    path = written(tmp_path, snapshot(5), diff(6, 7), diff(9, 9), diff(10, 11))
    recording = load(path, "binance")
    assert recording.transactions["kind"][-2:].tolist() == [Kind.CLEAR, Kind.CLEAR]
    assert recording.gaps == 1
    assert recording.ignored == {"depthUpdate without a snapshot": 2}


def test_a_snapshot_that_was_not_needed_bridges_a_later_gap(tmp_path: Path) -> None:
    path = written(tmp_path, snapshot(5), diff(6, 7), snapshot(9), diff(9, 11), diff(12, 13))
    recording = load(path, "binance")
    assert sets(recording) == [7, 11, 13]
    assert recording.skipped == 0


def test_a_snapshot_bridges_a_gap_that_ends_before_it(tmp_path: Path) -> None:
    path = written(tmp_path, snapshot(5), diff(6, 7), snapshot(20), diff(9, 11), diff(12, 21))
    recording = load(path, "binance")
    assert sets(recording) == [7, 21]
    assert (recording.transactions["flags"] & Flags.SNAPSHOT != 0).sum() == 8


def test_the_newer_of_two_snapshots_is_taken_where_only_it_can_be_continued(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, snapshot(5, symbol="BTCUSDT"), snapshot(9), diff(10, 11))
    assert sets(load(path, "binance", symbol="BTCUSDT")) == [11]


def test_a_snapshot_in_mid_stream_does_not_set_the_book_back(tmp_path: Path) -> None:
    path = written(tmp_path, snapshot(5), diff(6, 7), diff(8, 9), snapshot(8), diff(10, 11))
    recording = load(path, "binance")
    assert sets(recording) == [7, 9, 11]
    assert (recording.transactions["flags"] & Flags.SNAPSHOT != 0).sum() == 4


def test_diffs_without_any_snapshot_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, diff(1, 2), diff(3, 4))
    with pytest.raises(FeedError, match="no REST snapshot of BTCUSDT connects to the 2 depth"):
        load(path, "binance")
    with pytest.raises(FeedError, match=r"holds no depth events; the first problem: .* no REST"):
        load(path, "binance", on_error="skip")


def test_a_snapshot_alone_is_a_recording(tmp_path: Path) -> None:
    recording = load(written(tmp_path, snapshot(5)), "binance", symbol="ETHUSDT")
    assert recording.instruments[0].name == "ETHUSDT"
    assert len(recording) == 4
    assert load(written(tmp_path, snapshot(5)), "binance").instruments[0].name == "recording"


def test_a_ticker_is_a_check_where_a_diff_ends_at_its_id(tmp_path: Path) -> None:
    path = written(
        tmp_path, snapshot(5), ticker(7), diff(6, 7), ticker(8), diff(8, 9), ticker(9), ticker(10)
    )
    checks = load(path, "binance").checks
    assert isinstance(checks, DepthChecks)
    assert checks.position.tolist() == [5, 6]
    assert checks.prices.tolist() == [[[15_000], [16_000]]] * 2
    assert checks.quantities.tolist() == [[[7], [2]], [[9], [2]]]


def test_a_ticker_of_an_empty_side_checks_that_it_is_empty(tmp_path: Path) -> None:
    empty = ticker(7) | {"a": "0.00", "A": "0.000"}
    checks = load(written(tmp_path, snapshot(5), diff(6, 7), empty), "binance").checks
    assert isinstance(checks, DepthChecks)
    assert checks.quantities.tolist() == [[[7], [0]]]


def test_spot_tickers_have_no_event_name(tmp_path: Path) -> None:
    spot = {key: value for key, value in ticker(7).items() if key != "e"}
    checks = load(written(tmp_path, snapshot(5), diff(6, 7), spot), "binance").checks
    assert checks is not None
    assert len(checks) == 1


def test_trades_are_prints_of_the_resting_side_where_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, snapshot(5), trade(), trade(m=False, t=78), trade(q="0"))
    recording = load(path, "binance", trades=True, symbol="BTCUSDT")
    assert recording.transactions[["kind", "side", "id", "price", "size"]][4:].tolist() == [
        (Kind.TRADE, 0, 77, 15_000, 3),
        (Kind.TRADE, 1, 78, 15_000, 3),
    ]
    assert len(load(path, "binance")) == 4
    assert len(load(path, "binance", trades=True).instruments) == 1


def test_combined_and_raw_streams_with_and_without_timestamps_read_alike(tmp_path: Path) -> None:
    raw = [snapshot(5), diff(6, 7), diff(8, 9)]
    wrapped = [raw[0], *({"stream": "btcusdt@depth@100ms", "data": item} for item in raw[1:])]
    expected = load(written(tmp_path, *raw), "binance").transactions
    combined = load(written(tmp_path, *wrapped), "binance").transactions
    assert np.array_equal(expected, combined)
    bare = load(written(tmp_path, *map(json.dumps, raw)), "binance").transactions
    assert bare["ingress_ts_ns"].tolist() == [1_000_000_000] * 6
    assert np.array_equal(bare["size"], expected["size"])


def test_what_is_not_of_the_book_is_left_aside(tmp_path: Path) -> None:
    partial = {"stream": "btcusdt@depth20@100ms", "data": diff(1, 99)}
    partial_spot = {"stream": "btcusdt@depth5", "data": snapshot(99)}
    others = [{"e": "aggTrade"}, {"e": "kline"}, {"result": None, "id": 1}, partial, partial_spot]
    assert sets(load(written(tmp_path, snapshot(5), *others, diff(6, 7)), "binance")) == [7]


def test_each_symbol_is_a_market_of_its_own(tmp_path: Path) -> None:
    messages = [
        snapshot(5, symbol="A"),
        snapshot(50, symbol="B"),
        diff(51, 52, symbol="B", bids=[("0.25", "0.5")]),
        diff(6, 7, symbol="A"),
        ticker(7, symbol="A"),
    ]
    recording = load(written(tmp_path, *messages), "binance")
    assert [instrument.name for instrument in recording.instruments] == ["A", "B"]
    assert [instrument.tick_size for instrument in recording.instruments] == [1000, 500]
    assert recording.instruments[1].lot_size == Decimal("0.5")
    assert recording.transactions["market"].tolist() == [0] * 4 + [1] * 5 + [0]
    only = load(written(tmp_path, *messages), "binance", symbol="B")
    assert only.transactions["size"].tolist() == [0, 2, 0, 4, 1]
    assert only.instruments[0].market == 0


def test_a_snapshot_that_could_be_of_two_symbols_is_refused(tmp_path: Path) -> None:
    messages = [diff(6, 7, symbol="A"), diff(6, 7, symbol="B"), snapshot(5)]
    for symbol in (None, "A", "B"):
        with pytest.raises(FeedError) as caught:
            load(written(tmp_path, *messages), "binance", symbol=symbol)
        assert (caught.value.line, caught.value.field) == (3, "lastUpdateId")
    path = written(tmp_path, *messages)
    recording = load(path, "binance", symbol="B", snapshot_symbol="B")
    assert sets(recording) == [7]


def test_several_files_are_one_recording(tmp_path: Path) -> None:
    paths = [tmp_path / "first", tmp_path / "second"]
    written(tmp_path, snapshot(5), diff(6, 7)).rename(paths[0])
    written(tmp_path, diff(8, 9)).rename(paths[1])
    assert sets(load(paths, "binance")) == [7, 9]


def test_a_quantity_over_32_bits_of_lots_is_set_wide(tmp_path: Path) -> None:
    path = written(tmp_path, snapshot(5), diff(6, 7, bids=[("1.5", "42.94967296")]))
    recording = load(path, "binance", lot_size="0.00000001")
    assert recording.transactions[["kind", "id", "size"]][4:].tolist() == [
        (Kind.SET_WIDE, 2**32, 0)
    ]


def test_a_trade_over_32_bits_of_lots_is_several_records_of_one_event(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        snapshot(5),
        diff(6, 7),
        trade(q="100"),
        trade(q="42.94967295", t=78),
        diff(8, 9),
        ticker(9),
    )
    recording = load(path, "binance", lot_size="0.00000001", trades=True)
    prints = recording.transactions[recording.transactions["kind"] == Kind.TRADE]
    assert prints[["id", "size", "flags"]].tolist() == [
        (77, 2**32 - 1, 0),
        (77, 2**32 - 1, 0),
        (77, 10**10 - 2 * (2**32 - 1), Flags.LAST),
        (78, 2**32 - 1, Flags.LAST),
    ]
    assert recording.checks is not None
    assert recording.checks.position.tolist() == [len(recording)]


def test_a_trade_of_absurdly_many_lots_is_refused_or_left_out(tmp_path: Path) -> None:
    path = written(tmp_path, snapshot(5), trade(q="4000000"), diff(6, 7))
    with pytest.raises(FeedError) as caught:
        load(path, "binance", lot_size="0.000000001", symbol="BTCUSDT", trades=True)
    assert caught.value.field == "size"
    recording = load(path, "binance", lot_size="0.000000001", trades=True, on_error="skip")
    assert recording.skipped == 1
    assert not (recording.transactions["kind"] == Kind.TRADE).any()
    assert recording.transactions["flags"][-1] & Flags.LAST


def test_sizes_too_far_apart_for_one_unit_leave_out_the_line(tmp_path: Path) -> None:
    fine = diff(6, 7, bids=[("1.5", "1000000"), ("1.4", "0.000000000000000001")])
    path = written(tmp_path, snapshot(5), fine)
    with pytest.raises(FeedError) as caught:
        load(path, "binance")
    assert (caught.value.line, caught.value.field) == (2, "b[1][1]")
    assert load(path, "binance", on_error="skip").skipped == 1


BAD = [
    ('1002 {"e":"depthUpdate","s":"BTC', None, "is not JSON"),
    ('1002 {"e":NaN}', None, "NaN is not a JSON number"),
    ('1002 {"e":-Infinity}', None, "-Infinity is not a JSON number"),
    ("1002 [1, 2]", None, "expected an object, got 1"),
    ("1002 5", None, "expected 'local_timestamp_ns JSON'"),
    ("soon {}", None, "expected 'local_timestamp_ns JSON'"),
    ("99999999999999999999 {}", "timestamp", "99999999999999999999 ns"),
    ('1002 {"bids":[]}', "e", "expected depthUpdate, bookTicker or a snapshot"),
    ({"e": 5}, "e", "5 is not a name"),
    ({"e": []}, "e", "[] is not a name"),
    ("1700000000 {}", "timestamp", "seconds"),
    ("1700000000000 {}", "timestamp", "milliseconds"),
    ("1700000000000000 {}", "timestamp", "microseconds"),
    ({"stream": 5, "data": {}}, "stream", "5 is not a name"),
    ({"stream": "x@depth", "data": 5}, None, "expected a JSON object, got 5"),
    ({"stream": "x@depth"}, "data", "is missing"),
    (diff(8, 9) | {"s": ""}, "s", "'' is not a name"),
    (diff(8, 9) | {"s": "a\nb"}, "s", "is not a name"),
    (diff(8, 9) | {"U": "8"}, "U", "'8' is not an integer"),
    (diff(8, 9) | {"U": True}, "U", "True is not an integer"),
    (diff(8, 9) | {"u": 8.5}, "u", "8.5 is not an integer"),
    (diff(8, 9) | {"u": -1}, "u", "-1 is not from 0"),
    (diff(8, 9) | {"u": 2**64}, "u", "18446744073709551616"),
    (diff(8, 9) | {"pu": None}, "pu", "None is not an integer"),
    (diff(9, 8), "U", "9 is greater than u = 8"),
    ({key: value for key, value in diff(8, 9).items() if key != "b"}, "b", "is missing"),
    (diff(8, 9) | {"b": "1.5"}, "b", "expected an array"),
    (diff(8, 9) | {"b": ["11"]}, "b", "expected an array"),
    (diff(8, 9) | {"b": [["1.5"]]}, "b[0]", "['1.5']"),
    (diff(8, 9, bids=[("1.5", "1"), ("x.5", "1")]), "b[1][0]", "'x.5'"),
    (diff(8, 9, asks=[("-1.5", "1")]), "a[0][0]", "'-1.5' is not a positive price"),
    (diff(8, 9, asks=[("0", "1")]), "a[0][0]", "'0' is not a positive price"),
    (diff(8, 9, asks=[("1." + "0" * 18 + "1", "1")]), "a[0][0]", "finer than 1e-"),
    (diff(8, 9, asks=[("922337203685477.5807", "1")]), "a[0][0]", "63 bits"),
    (diff(8, 9, asks=[("1e400", "1")]), "a[0][0]", "'1e400'"),
    (
        '1002 {"e":"depthUpdate","s":"BTCUSDT","U":8,"u":9,"b":[[1e400,"1"]],"a":[]}',
        "b[0][0]",
        "inf",
    ),
    (diff(8, 9, asks=[("1.5", "-1")]), "a[0][1]", "negative"),
    (diff(8, 9) | {"a": [["1.5", []]]}, "a[0][1]", "[] is not decimal text"),
    (diff(8, 9) | {"a": [[{}, "1"]]}, "a[0][0]", "{} is not decimal text"),
    (diff(8, 9) | {"a": [[15, "1"]]}, "a[0][0]", "15 is not decimal text"),
    (snapshot(5) | {"lastUpdateId": "5"}, "lastUpdateId", "'5'"),
    (snapshot(5) | {"bids": [["1.5", "0.00"]]}, "bids[0][1]", "a snapshot has no empty levels"),
    (snapshot(5) | {"asks": None}, "asks", "expected an array"),
    (ticker(9) | {"b": "low"}, "b", "'low'"),
    (ticker(9) | {"A": None}, "A", "None is not decimal text"),
    (ticker(9) | {"u": 2**64}, "u", "18446744073709551616"),
    (trade(m="yes"), "m", "'yes'"),
    (trade(t=-1), "t", "-1"),
    (trade(p="0"), "p", "'0' is not a positive price"),
]


@pytest.mark.parametrize(("bad", "field", "value"), BAD)
def test_a_bad_line_is_named_or_skipped(
    tmp_path: Path, bad: Any, field: str | None, value: str
) -> None:
    path = written(tmp_path, snapshot(5), diff(6, 7), bad, diff(8, 9))
    with pytest.raises(FeedError) as caught:
        load(path, "binance", trades=True)
    assert (caught.value.path, caught.value.line) == (str(path), 3)
    assert caught.value.field == field
    assert value in str(caught.value)
    recording = load(path, "binance", trades=True, on_error="skip")
    assert recording.skipped == 1
    assert sets(recording) == [7, 9]


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, snapshot(5), diff(6, 7))
    path.write_bytes(path.read_bytes() + b'1002 {"e":"\xff"}\n')
    with pytest.raises(FeedError, match="not UTF-8 text at byte 7") as caught:
        load(path, "binance")
    assert caught.value.line == 3


@pytest.mark.parametrize(
    ("options", "field", "why"),
    [
        ({"tick_size": 700}, "asks[0][0]", "'1.6' is off the tick of 0.07"),
        ({"lot_size": "2"}, "bids[0][1]", "'1' is not a multiple of the lot of 2"),
    ],
)
def test_a_level_off_the_given_grid_is_refused(
    tmp_path: Path, options: dict[str, Any], field: str, why: str
) -> None:
    with pytest.raises(FeedError, match=why) as caught:
        load(written(tmp_path, snapshot(5)), "binance", **options)
    assert caught.value.field == field


ticks, lots = st.integers(1, 10**9), st.integers(0, 10**9)
sides = st.lists(st.tuples(ticks, lots), max_size=4)
events = st.lists(st.tuples(st.integers(1, 5), sides, sides), max_size=8)


@given(events, st.integers(0, 4), st.integers(0, 8), st.booleans())
def test_any_valid_recording_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, list[tuple[int, int]], list[tuple[int, int]]]],
    price_places: int,
    size_places: int,
    futures: bool,
) -> None:
    def text(number: int, places: int) -> str:
        return f"{Decimal(number).scaleb(-places):.{places}f}"

    def levels(side: list[tuple[int, int]]) -> list[Level]:
        return [(text(price, price_places), text(size, size_places)) for price, size in side]

    messages: list[dict[str, Any]] = [snapshot(100, bids=[], asks=[])]
    last = 100
    for ids, bids, asks in changes:
        previous = last if futures else None
        messages.append(diff(last + 1, last + ids, previous, bids=levels(bids), asks=levels(asks)))
        last += ids
    path = written(tmp_path_factory.mktemp("binance"), *messages)
    lot = Decimal(1).scaleb(-size_places)
    recording = load(path, "binance", tick_size=10 ** (4 - price_places), lot_size=lot)
    expected = [(Kind.CLEAR, 0, 0, 0), (Kind.CLEAR, 1, 0, 0)]
    for _, *both in changes:
        for side, updates in enumerate(both):
            for price, size in updates:
                expected.append((Kind.SET, side, price * 10 ** (4 - price_places), size))
    assert recording.transactions[["kind", "side", "price", "size"]].tolist() == expected
    found = load(path, "binance")
    assert np.array_equal(found.transactions["price"], recording.transactions["price"])
    multiple = found.instruments[0].lot_size / lot
    assert [size * multiple for size in found.transactions["size"].tolist()] == [
        size for *_, size in expected
    ]
