"""What people's recorders write beside and around the messages of a book."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from velox.core.records import Flags, Kind, Side
from velox.errors import FeedError
from velox.feeds import KnownDepth, Recording, load

Levels = list[list[str]]


class Dictionaries:
    """The books after a recording: by market, side and price, in the units of the records."""

    def __init__(self, recording: Recording) -> None:
        self.levels: dict[tuple[int, int], dict[int, int]] = {}
        for record in recording.transactions:
            identity, price, size, side, kind, _, market, _ = record.item()
            levels = self.levels.setdefault((market, side), {})
            if kind == Kind.CLEAR:
                levels.clear()
            elif kind == Kind.ADD:
                levels[price] = levels.get(price, 0) + size
            elif kind in {Kind.CANCEL, Kind.EXECUTE}:
                levels[price] -= size
            elif kind in {Kind.SET, Kind.SET_WIDE, Kind.DELETE}:
                levels[price] = {Kind.SET: size, Kind.SET_WIDE: identity, Kind.DELETE: 0}[kind]
            if levels.get(price) == 0:
                del levels[price]

    def best(self, market: int = 0) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        bids, asks = (self.levels.get((market, side), {}) for side in Side)
        return (
            max(bids.items(), default=None),
            min(asks.items(), default=None),
        )


def best(recording: Recording, name: str | None = None) -> Any:
    markets = {each.name: each.market for each in recording.instruments}
    return Dictionaries(recording).best(0 if name is None else markets[name])


def written(tmp_path: Path, *lines: Any) -> Path:
    path = tmp_path / "recording.jsonl"
    path.write_text(
        "".join(
            f"{each if isinstance(each, str) else f'{5000 + index} {json.dumps(each)}'}\n"
            for index, each in enumerate(lines)
        )
    )
    return path


def bare(tmp_path: Path, *messages: Any) -> Path:
    return written(tmp_path, *(json.dumps(each) for each in messages))


def spot(first: int, last: int, bids: Levels, asks: Levels, **more: Any) -> dict[str, Any]:
    event = {"e": "depthUpdate", "E": 1_700_000_000_000 + last, "s": "SOLUSDT"}
    return {**event, "U": first, "u": last, "b": bids, "a": asks, **more}


def futures(first: int, last: int, before: int, bids: Levels, asks: Levels, **more: Any) -> Any:
    return spot(first, last, bids, asks, pu=before, **more)


def rest(last: int, bid: str = "20.1", ask: str = "20.3", **more: Any) -> dict[str, Any]:
    return {"lastUpdateId": last, "bids": [[bid, "5"]], "asks": [[ask, "6"]], **more}


# Redundant connections


def test_diffs_of_two_connections_are_each_applied_once(tmp_path: Path) -> None:
    diffs = [spot(11 + n, 11 + n, [["20.1", str(7 + n)]], []) for n in range(4)]
    lines = [rest(10), diffs[0], diffs[1], diffs[0], diffs[2], diffs[1], diffs[2], diffs[3]]
    recording = load(written(tmp_path, *lines), "binance")
    assert recording.ignored == {"depthUpdate known already": 3}
    assert (recording.gaps, recording.skipped) == (0, 0)
    assert best(recording) == ((201_000, 10), (203_000, 6))


def test_a_diff_that_overlaps_the_one_before_is_applied(tmp_path: Path) -> None:
    for lines in (
        [rest(10), spot(11, 13, [["20.1", "7"]], []), spot(12, 15, [["20.1", "8"]], [])],
        [
            rest(10),
            futures(9, 13, 8, [["20.1", "7"]], []),
            futures(12, 15, 10, [["20.1", "8"]], []),
        ],
    ):
        recording = load(written(tmp_path, *lines), "binance")
        assert recording.gaps == 0
        assert best(recording)[0] == (201_000, 8)


def test_a_recording_that_is_replayed_onto_itself_changes_nothing(tmp_path: Path) -> None:
    lines = [rest(10), *(futures(n, n, n - 1, [["20.1", str(n)]], []) for n in range(11, 16))]
    recording = load(written(tmp_path, *lines, *lines[1:]), "binance")
    assert recording.gaps == 0
    assert recording.ignored == {"depthUpdate known already": 5}
    assert best(recording)[0] == (201_000, 15)


def test_ids_that_begin_anew_are_a_gap_and_no_repetition(tmp_path: Path) -> None:
    later = 1_700_000_100_000
    lines = [
        rest(1000),
        spot(1001, 1002, [["20.1", "7"]], []),
        spot(1, 2, [["20.1", "8"]], [], E=later),
        spot(3, 4, [["20.1", "9"]], [], E=later + 100),
        rest(3, bid="20.2"),
        spot(5, 6, [["20.2", "4"]], [], E=later + 200),
    ]
    recording = load(written(tmp_path, *lines), "binance")
    assert recording.gaps == 1
    assert best(recording) == ((202_000, 4), (203_000, 6))


def test_trades_of_two_connections_are_printed_once(tmp_path: Path) -> None:
    prints = [
        {"e": "trade", "s": "SOLUSDT", "t": n, "p": "20.2", "q": "1", "m": True} for n in (7, 8)
    ]
    lines = [rest(10), spot(11, 11, [], [["20.3", "1"]]), *prints, *prints]
    recording = load(written(tmp_path, *lines), "binance", trades=True)
    trades = recording.transactions[recording.transactions["kind"] == Kind.TRADE]
    assert trades["id"].tolist() == [7, 8]
    assert recording.ignored == {"trade known already": 2}


def okx(
    sequence: int, before: int, action: str, bids: Levels, asks: Levels, **more: Any
) -> dict[str, Any]:
    data = {"bids": bids, "asks": asks, "ts": "1700000000000", "seqId": sequence}
    argument = {"channel": more.pop("channel", "books"), "instId": more.pop("name", "SOL-USDT")}
    message = {"arg": argument, "data": [{**data, "prevSeqId": before, **more}]}
    return message if action == "whole" else {**message, "action": action}


def test_okx_ids_that_are_repeated_are_no_gap(tmp_path: Path) -> None:
    opening = okx(10, -1, "snapshot", [["20.1", "5"]], [["20.3", "6"]])
    changes = [okx(11 + n, 10 + n, "update", [["20.1", str(n + 1)]], []) for n in range(3)]
    lines = [opening, changes[0], changes[0], changes[1], opening, changes[0], changes[2]]
    recording = load(bare(tmp_path, *lines), "okx")
    assert (recording.gaps, recording.ignored) == (0, {"books known already": 3})
    assert best(recording)[0] == (201_000, 3)


# Snapshots


def test_a_snapshot_from_before_the_first_diff_waits_for_the_next(tmp_path: Path) -> None:
    lines = [
        rest(3),
        spot(11, 12, [["20.1", "7"]], []),
        rest(5),
        rest(12, bid="20.0"),
        spot(13, 14, [["20.1", "9"]], []),
    ]
    recording = load(written(tmp_path, *lines), "binance")
    assert recording.ignored["stale snapshot"] == 2
    assert (recording.gaps, recording.skipped) == (0, 0)
    assert best(recording) == ((201_000, 9), (203_000, 6))


def test_a_snapshot_without_a_time_has_its_neighbours(tmp_path: Path) -> None:
    path = bare(tmp_path, rest(10), spot(11, 20, [["20.1", "7"]], []))
    times = load(path, "binance").transactions["ingress_ts_ns"]
    assert set(times.tolist()) == {1_700_000_000_020_000_000}
    named = bare(tmp_path, rest(10, symbol="SOLUSDT"), spot(11, 20, [["20.1", "7"]], []))
    assert load(named, "binance").transactions["ingress_ts_ns"].tolist() == times.tolist()
    later = bare(tmp_path, spot(11, 20, [["20.1", "7"]], []), rest(15))
    assert set(load(later, "binance").transactions["ingress_ts_ns"]) == set(times)


def test_microseconds_of_the_venue_are_known_by_their_size(tmp_path: Path) -> None:
    event = spot(11, 20, [["20.1", "7"]], [], E=1_700_000_000_020_123)
    recording = load(bare(tmp_path, rest(10), event), "binance")
    assert recording.transactions["ingress_ts_ns"][-1] == 1_700_000_000_020_123_000
    opening = okx(10, -1, "snapshot", [["20.1", "5"]], [], ts="1700000000020123")
    recording = load(bare(tmp_path, opening), "okx")
    assert recording.transactions["ingress_ts_ns"][0] == 1_700_000_000_020_123_000


@pytest.mark.parametrize(("unit", "stamp"), [("us", 1_700_000_000_000_007), ("s", 1_700_000_000)])
def test_the_unit_of_local_timestamps_can_be_told(tmp_path: Path, unit: str, stamp: int) -> None:
    path = written(tmp_path, f"{stamp} {json.dumps(rest(10))}")
    with pytest.raises(FeedError) as caught:
        load(path, "binance")
    assert caught.value.field == "timestamp"
    times = load(path, "binance", time_unit=unit).transactions["ingress_ts_ns"]
    assert times[0] == stamp * {"us": 1000, "s": 10**9}[unit]


def test_an_answer_of_the_websocket_api_is_a_snapshot(tmp_path: Path) -> None:
    answer = {"id": "1", "status": 200, "result": rest(10), "rateLimits": []}
    recording = load(written(tmp_path, answer, spot(11, 12, [["20.2", "7"]], [])), "binance")
    assert best(recording)[0] == (202_000, 7)


@pytest.mark.parametrize("ask", ["20.1", "20.0"])
def test_a_book_that_opens_crossed_is_refused(tmp_path: Path, ask: str) -> None:
    path = written(tmp_path, rest(10, ask=ask), spot(11, 12, [["20.2", "7"]], []))
    with pytest.raises(FeedError) as caught:
        load(path, "binance")
    assert (caught.value.line, caught.value.field) == (1, "bids")
    opening = okx(10, -1, "snapshot", [["20.1", "5"]], [[ask, "6"]])
    with pytest.raises(FeedError) as caught:
        load(bare(tmp_path, opening), "okx")
    assert (caught.value.line, caught.value.field) == (1, "bids")


# How deep a book is known


def ticker(update: int, bid: str, ask: str) -> dict[str, Any]:
    best = {"b": bid, "B": "5", "a": ask, "A": "6"}
    return {"e": "bookTicker", "u": update, "s": "SOLUSDT", **best}


def test_what_lies_beyond_a_snapshots_range_is_unknown(tmp_path: Path) -> None:
    gone = spot(11, 12, [["20.1", "0"], ["19.0", "1"]], [])
    lines = [rest(10), gone, ticker(12, "20.0", "20.3")]
    recording = load(written(tmp_path, *lines), "binance")
    assert recording.known_depth() == KnownDepth(bid=201_000, ask=203_000, levels=None)
    assert recording.known_depth(position=0) == KnownDepth(None, None, None)
    assert (recording.checks, recording.unknown) == (None, 1)


def test_what_the_book_has_beyond_the_range_is_checked(tmp_path: Path) -> None:
    moved = spot(11, 12, [["20.1", "0"], ["19.0", "5"]], [])
    recording = load(written(tmp_path, rest(10), moved, ticker(12, "19.0", "20.3")), "binance")
    assert recording.checks is not None
    assert (len(recording.checks), recording.unknown) == (1, 0)


def test_a_wrong_price_within_the_range_is_still_checked(tmp_path: Path) -> None:
    lines = [rest(10), spot(11, 12, [["20.2", "5"]], []), ticker(12, "20.1", "20.3")]
    recording = load(written(tmp_path, *lines), "binance")
    assert recording.checks is not None
    assert (len(recording.checks), recording.unknown) == (1, 0)


# Whole pictures


def picture(last: int, bid: int) -> dict[str, Any]:
    bids = [[f"{bid - n}.0", "1"] for n in range(5)]
    asks = [[f"{bid + 1 + n}.0", "2"] for n in range(5)]
    return futures(last - 3, last, last - 5, bids, asks)


def test_partial_depth_is_a_whole_book_each_time(tmp_path: Path) -> None:
    lines = [
        {"stream": "solusdt@depth5@100ms", "data": picture(last, bid)}
        for last, bid in ((100, 20), (110, 30), (120, 25))
    ]
    recording = load(written(tmp_path, *lines), "binance")
    assert best(recording) == ((250_000, 1), (260_000, 2))
    assert recording.known_depth() == KnownDepth(None, None, 5)
    assert recording.transactions["flags"][-1] & Flags.SNAPSHOT
    again = load(written(tmp_path, *lines, lines[0]), "binance")
    assert again.ignored == {"partial depth known already": 1}


def test_partial_depth_of_spot_names_its_symbol_in_the_stream(tmp_path: Path) -> None:
    lines = [
        {"stream": "solusdt@depth5", "data": rest(last, bid=bid)}
        for last, bid in ((1, "20.1"), (2, "20.2"))
    ]
    recording = load(written(tmp_path, *lines), "binance")
    assert recording.instruments[0].name == "SOLUSDT"
    assert best(recording)[0] == (202_000, 5)


def test_partial_depth_without_its_streams_name_is_ambiguous(tmp_path: Path) -> None:
    path = written(tmp_path, picture(100, 20), picture(110, 30), picture(120, 25))
    for on_error in ("stop", "skip"):
        with pytest.raises(FeedError) as caught:
            load(path, "binance", on_error=on_error)
        assert (caught.value.line, caught.value.field) == (1, "b")
        assert "depth" in str(caught.value)
    recording = load(path, "binance", depth_stream="partial")
    assert best(recording) == ((250_000, 1), (260_000, 2))


def test_a_deletion_tells_that_messages_are_diffs(tmp_path: Path) -> None:
    lines = [
        {**rest(98), "bids": [["20.0", "1"]], "asks": [["29.0", "1"]]},
        futures(97, 100, 95, [["21.0", "1"], ["20.5", "1"]], [["28.0", "1"], ["28.5", "2"]]),
        futures(101, 110, 100, [["21.0", "0"]], []),
    ]
    recording = load(written(tmp_path, *lines), "binance")
    assert best(recording) == ((205_000, 1), (280_000, 1))


def test_the_caller_may_say_that_messages_are_diffs(tmp_path: Path) -> None:
    lines = [
        rest(98),
        futures(97, 100, 95, [["20.2", "1"], ["20.1", "1"]], [["20.4", "1"], ["20.5", "2"]]),
        futures(101, 110, 100, [["20.1", "1"], ["20.0", "1"]], [["20.3", "1"], ["20.4", "2"]]),
    ]
    recording = load(written(tmp_path, *lines), "binance", depth_stream="diff")
    assert best(recording) == ((202_000, 1), (203_000, 1))


def test_okx_books5_are_whole_books(tmp_path: Path) -> None:
    lines = [
        okx(n, -1, "whole", [[f"20.{n}", "1"]], [[f"21.{n}", "1"]], channel="books5")
        for n in (3, 5, 4)
    ]
    recording = load(bare(tmp_path, *lines), "okx")
    assert best(recording) == ((204_000, 1), (214_000, 1))
    assert recording.known_depth().levels == 5


def test_okx_reads_the_fullest_channel_of_each_instrument(tmp_path: Path) -> None:
    lines = [
        okx(1, -1, "whole", [["20.1", "1"]], [["20.3", "1"]], channel="books5"),
        okx(2, -1, "snapshot", [["20.1", "2"], ["20.0", "1"]], [["20.3", "1"]]),
        okx(3, -1, "whole", [["20.1", "9"]], [["20.3", "1"]], channel="books5"),
        okx(3, 2, "update", [["20.1", "3"]], []),
        okx(4, -1, "whole", [["7.1", "4"]], [["7.3", "1"]], channel="bbo-tbt", name="A-B"),
    ]
    recording = load(bare(tmp_path, *lines), "okx")
    assert best(recording, "SOL-USDT")[0] == (201_000, 3)
    assert best(recording, "A-B")[0] == (71_000, 4)
    assert recording.ignored == {"books5": 1}
    only = load(bare(tmp_path, *lines), "okx", symbol="A-B")
    assert [each.name for each in only.instruments] == ["A-B"]


# Several symbols


def test_each_symbol_is_its_own_market_where_snapshots_are_named(tmp_path: Path) -> None:
    lines = [
        futures(1, 5, 0, [["20.2", "1"]], []),
        futures(1, 6, 0, [["7.2", "2"]], [], s="ABCUSDT"),
        rest(3, symbol="SOLUSDT"),
        rest(4, bid="7.1", ask="7.3", symbol="ABCUSDT"),
    ]
    recording = load(written(tmp_path, *lines), "binance")
    assert best(recording, "SOLUSDT") == ((202_000, 1), (203_000, 6))
    assert best(recording, "ABCUSDT") == ((72_000, 2), (73_000, 6))


def test_a_nameless_snapshot_that_was_used_is_refused_once_another_symbol_comes(
    tmp_path: Path,
) -> None:
    lines = [
        rest(10),
        futures(9, 12, 8, [["20.2", "1"]], []),
        futures(9, 13, 8, [["7.2", "2"]], [], s="ABCUSDT"),
        futures(13, 14, 12, [["20.2", "3"]], []),
    ]
    path = written(tmp_path, *lines)
    with pytest.raises(FeedError) as caught:
        load(path, "binance")
    assert (caught.value.line, caught.value.field) == (3, "s")
    recording = load(path, "binance", on_error="skip")
    assert best(recording, "SOLUSDT") == (None, None)
    told = load(path, "binance", symbol="SOLUSDT", snapshot_symbol="SOLUSDT")
    assert best(told) == ((202_000, 3), (203_000, 6))


def test_a_symbol_that_is_read_does_not_take_anothers_snapshot(tmp_path: Path) -> None:
    others = futures(9, 13, 8, [["7.2", "2"]], [], s="ABCUSDT")
    own = futures(9, 12, 8, [["20.2", "1"]], [])
    for lines in ([others, rest(10), own], [rest(10), others, own], [own, others, rest(10)]):
        with pytest.raises(FeedError):
            load(written(tmp_path, *lines), "binance", symbol="SOLUSDT")


# What is not market data


ASIDE: list[tuple[Any, str]] = [
    ("5001 pong", "pong"),
    ("ping", "ping"),
    ('# {"version": 1}', "comment"),
    ("5001 []", "empty array"),
    ({"result": None, "id": 1}, "acknowledgement"),
    ({"id": 4, "status": 200, "result": {"serverTime": 5}}, "acknowledgement"),
    ({"code": -1121, "msg": "Invalid symbol."}, "error reply"),
    ({"id": 4, "status": 400, "error": {"code": -1121, "msg": "no"}}, "error reply"),
    ({"e": "outboundThing", "E": 5, "s": "SOLUSDT"}, "outboundThing"),
    ({"e": "kline", "k": {}}, "kline"),
    ({"stream": "!ticker@arr", "data": [{"e": "24hrTicker", "s": "A"}]}, "24hrTicker"),
    ({"stream": "solusdt@newThing", "data": {"x": 1}}, "newThing"),
    ({"stream": "solusdt@rpiDepth@500ms", "data": spot(1, 99, [], [])}, "rpiDepth@500ms"),
    ({"connected": "wss://stream", "connection": 3}, "unrecognised object"),
    ({"e": "trade", "s": "SOLUSDT"}, "trade"),
]


@pytest.mark.parametrize(("line", "name"), ASIDE)
def test_what_is_not_of_the_book_is_left_aside_by_name(
    tmp_path: Path, line: Any, name: str
) -> None:
    lines = [rest(10), line, spot(11, 12, [["20.2", "7"]], [])]
    recording = load(written(tmp_path, *lines), "binance")
    assert recording.ignored == {name: 1}
    assert best(recording)[0] == (202_000, 7)


OKX_ASIDE: list[tuple[Any, str]] = [
    ("17.5: pong", "pong"),
    ("ping", "ping"),
    ("# {}", "comment"),
    ('{"event":"subscribe","arg":{"channel":"books"}}', "subscribe"),
    ('{"event":"error","code":"60012","msg":"no"}', "error"),
    ('{"event":"notice","code":"64008","msg":"soon"}', "notice"),
    ('{"op":"subscribe","args":[]}', "subscribe"),
    ('{"code":"1","msg":"no"}', "error reply"),
    ('{"version":3}', "unrecognised object"),
    ('{"arg":{"channel":"mark-price"},"data":[{}]}', "mark-price"),
]


@pytest.mark.parametrize(("line", "name"), OKX_ASIDE)
def test_what_is_not_of_okxs_books_is_left_aside_by_name(
    tmp_path: Path, line: str, name: str
) -> None:
    opening = json.dumps(okx(10, -1, "snapshot", [["20.1", "5"]], [["20.3", "6"]]))
    recording = load(written(tmp_path, opening, line), "okx")
    assert recording.ignored == {name: 1}


# Gaps


@pytest.mark.parametrize("on_gap", ["clear", "continue"])
def test_after_a_gap_the_book_is_emptied_or_goes_on(tmp_path: Path, on_gap: str) -> None:
    lines = [
        rest(10),
        spot(11, 12, [["20.2", "7"]], []),
        spot(15, 16, [["20.2", "8"]], []),
        spot(17, 18, [["20.2", "9"]], []),
    ]
    recording = load(written(tmp_path, *lines), "binance", on_gap=on_gap)
    assert (recording.gaps, recording.skipped, len(recording.problems)) == (1, 0, 1)
    expected = (None, None) if on_gap == "clear" else ((202_000, 9), (203_000, 6))
    assert best(recording) == expected
    lines = [
        okx(10, -1, "snapshot", [["20.2", "5"]], [["20.3", "6"]]),
        okx(12, 11, "update", [["20.2", "8"]], []),
        okx(13, 12, "update", [["20.2", "9"]], []),
    ]
    recording = load(bare(tmp_path, *lines), "okx", on_gap=on_gap)
    assert (recording.gaps, recording.skipped, len(recording.problems)) == (1, 0, 1)
    assert best(recording) == expected


# LOBSTER


def pair(tmp_path: Path, messages: list[str], rows: list[str]) -> Path:
    (tmp_path / "Z_message_1.csv").write_text("".join(f"{each}\n" for each in messages))
    (tmp_path / "Z_orderbook_1.csv").write_text("".join(f"{each}\n" for each in rows))
    return tmp_path


WINDOW = (
    [
        "34200.1,1,1,10,300000,1",
        "34200.2,1,2,20,300200,1",  # a better bid: the old one leaves
        "34200.3,4,2,20,300200,1",  # it is filled: a level enters that had no message
        "34200.4,1,3,5,299000,1",  # beyond the window
        "34200.5,2,9,3,300100,1",
    ],
    [
        "300500,7,300000,10",
        "300500,7,300200,20",
        "300500,7,300100,44",
        "300500,7,300100,44",
        "300500,7,300100,41",
    ],
)


def test_rows_say_which_levels_enter_and_leave(tmp_path: Path) -> None:
    recording = load(pair(tmp_path, *WINDOW), "lobster", depth=1)
    events = recording.transactions[["kind", "price", "size", "flags"]].tolist()
    assert events[4:] == [
        (Kind.ADD, 300_200, 20, 0),
        (Kind.DELETE, 300_000, 0, Flags.LAST),
        (Kind.EXECUTE, 300_200, 20, 0),
        (Kind.SET, 300_100, 44, Flags.LAST),
        (Kind.CANCEL, 300_100, 3, Flags.LAST),
    ]
    assert recording.ignored == {"message beyond the window": 1}
    assert recording.checks is not None
    assert recording.checks.position.tolist() == [6, 8, 8, 9]
    assert best(recording) == ((300_100, 41), (300_500, 7))


@pytest.mark.parametrize(
    ("index", "row", "field"),
    [
        (1, "300500,8,300200,20", "ask size"),
        (1, "300500,7,300200,21", "bid size"),
        (1, "300500,7,300000,10", "bid size"),
        (4, "300500,7,300100,44", "bid size"),
    ],
)
def test_rows_that_contradict_the_messages_are_named_and_open_the_book_anew(
    tmp_path: Path, index: int, row: str, field: str
) -> None:
    messages, rows = WINDOW
    path = pair(tmp_path, messages, [*rows[:index], row, *rows[index + 1 :]])
    recording = load(path, "lobster")
    # The row that is wrong, and the next one where that one is right.
    assert recording.contradictions == (1 if index == 4 else 2)
    where = f"Z_orderbook_1.csv:{index + 1}: {field}: "
    assert where in recording.problems[0]
    assert recording.checks is not None
    assert len(recording.checks) == 4
    books = [
        Dictionaries(
            replace(
                recording,
                transactions=recording.transactions[:position],
                venue_ts_ns=recording.venue_ts_ns[:position],
            )
        )
        for position in recording.checks.position
    ]
    exact = [
        [level for level in book.best() if level]
        == [(p, q) for p, q in zip(prices.ravel(), quantities.ravel(), strict=True) if q]
        for book, prices, quantities in zip(
            books, recording.checks.prices, recording.checks.quantities, strict=True
        )
    ]
    assert exact.count(False) == recording.contradictions


def test_a_message_that_takes_too_much_is_named(tmp_path: Path) -> None:
    messages, rows = WINDOW
    recording = load(pair(tmp_path, [*messages[:4], "34200.5,2,9,45,300100,1"], rows), "lobster")
    assert recording.contradictions == 1
    assert "Z_message_1.csv:5: size: " in recording.problems[0]
    assert best(recording) == ((300_100, 41), (300_500, 7))


def test_crosses_headers_and_prices_under_a_dollar_are_read(tmp_path: Path) -> None:
    messages = [
        "time,type,order_id,size,price,direction",
        "34200.1,1,1,10,9001,1",
        "34200.2,6,-1,900,9005,-1",
        "34200.3,6,-7,0,0,1",
        "34200.4,1,2,4,9012,-1",
    ]
    rows = [
        "ask_price_1,ask_size_1,bid_price_1,bid_size_1",
        "9999999999,0,9001,10",
        "9999999999,0,9001,10",
        "9999999999,0,9001,10",
        "9012,4,9001,10",
    ]
    recording = load(pair(tmp_path, messages, rows), "lobster")
    assert recording.ignored == {"header": 2}
    assert recording.instruments[0].tick_size == 1
    trades = recording.transactions[recording.transactions["kind"] == Kind.TRADE]
    assert trades[["id", "size", "price"]].tolist() == [(0, 900, 9005), (0, 0, 0)]
    assert best(recording) == ((9001, 10), (9012, 4))
    assert recording.checks is not None
    assert len(recording.checks) == 3


def test_a_crossed_row_is_refused(tmp_path: Path) -> None:
    path = pair(tmp_path, ["34200.1,1,1,10,300000,1"], ["299900,1,300000,10"])
    with pytest.raises(FeedError) as caught:
        load(path, "lobster")
    assert (caught.value.line, caught.value.field) == (1, "bid price 1")
