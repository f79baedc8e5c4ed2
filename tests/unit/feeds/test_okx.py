from __future__ import annotations

import gzip
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox.core.records import Flags, Kind
from velox.errors import ConfigError, FeedError
from velox.feeds import Recording, load
from velox.feeds.okx_checksum import OkxChecksum
from velox.runtime.checks import ChecksumChecks


def book(
    action: str,
    bids: list[list[str]],
    asks: list[list[str]],
    *,
    name: str = "BTC-USDT",
    channel: str = "books",
    **more: Any,
) -> dict[str, Any]:
    data = {"bids": bids, "asks": asks, "ts": "1700000000123", **more}
    return {"arg": {"channel": channel, "instId": name}, "action": action, "data": [data]}


def opening(**more: Any) -> dict[str, Any]:
    return book("snapshot", [["1.4", "1", "0", "1"]], [["1.6", "2", "0", "1"]], **more)


def update(size: int, **more: Any) -> dict[str, Any]:
    return book("update", [["1.5", str(size), "0", "1"]], [], **more)


def trade(**more: Any) -> dict[str, Any]:
    data = {"tradeId": "77", "px": "1.5", "sz": "3", "side": "buy", "ts": "1", **more}
    return {"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [data]}


def rest(**instruments: tuple[str, str]) -> str:
    data = [
        {"instId": name, "tickSz": tick, "lotSz": lot} for name, (tick, lot) in instruments.items()
    ]
    return f"https://venue/instruments -> 1.5: {json.dumps({'code': '0', 'data': data})}"


def written(tmp_path: Path, *messages: Any, name: str = "recording") -> Path:
    """A file in which message *i* has arrived at 100 + i and a quarter seconds."""
    path = tmp_path / name
    lines = (
        message if isinstance(message, str) else f"{100 + index}.25: {json.dumps(message)}"
        for index, message in enumerate(messages)
    )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def sets(recording: Recording) -> list[int]:
    transactions = recording.transactions
    is_update = (transactions["flags"] & Flags.SNAPSHOT == 0) & (transactions["kind"] == Kind.SET)
    sizes: list[int] = transactions["size"][is_update].tolist()
    return sizes


def test_a_snapshot_clears_sets_and_marks_what_it_opens(tmp_path: Path) -> None:
    path = written(tmp_path, opening(), book("update", [["1.4", "0"]], [["1.7", "5"]]))
    recording = load(path, "okx")
    opens, last = int(Flags.SNAPSHOT), int(Flags.LAST)
    names = ["kind", "side", "price", "size", "flags", "ingress_ts_ns"]
    assert recording.transactions[names].tolist() == [
        (Kind.CLEAR, 0, 0, 0, opens, 100_250_000_000),
        (Kind.SET, 0, 14_000, 1, opens, 100_250_000_000),
        (Kind.CLEAR, 1, 0, 0, opens, 100_250_000_000),
        (Kind.SET, 1, 16_000, 2, opens | last, 100_250_000_000),
        (Kind.SET, 0, 14_000, 0, 0, 101_250_000_000),
        (Kind.SET, 1, 17_000, 5, last, 101_250_000_000),
    ]
    assert recording.checks is None
    (instrument,) = recording.instruments
    assert (instrument.name, instrument.tick_size, instrument.lot_size) == ("BTC-USDT", 1000, 1)


def test_each_instrument_is_a_market_in_order_of_appearance(tmp_path: Path) -> None:
    path = written(tmp_path, opening(name="B"), opening(name="A"), update(3, name="B"))
    recording = load(path, "okx")
    assert [(each.name, each.market) for each in recording.instruments] == [("B", 0), ("A", 1)]
    assert recording.transactions["market"].tolist() == [0] * 4 + [1] * 4 + [0]


def test_each_checksum_is_due_behind_its_message(tmp_path: Path) -> None:
    messages = [
        opening(checksum=-5),
        opening(name="A", checksum=7),
        update(3),
        update(4, checksum=2**31 - 1),
        book("update", [], [], checksum=9),
    ]
    checks = load(written(tmp_path, *messages), "okx").checks
    assert isinstance(checks, ChecksumChecks)
    assert isinstance(checks.algorithm, OkxChecksum)
    assert checks.position.tolist() == [4, 8, 10, 10]
    assert checks.market.tolist() == [0, 1, 0, 0]
    assert checks.checksum.tolist() == [-5, 7, 2**31 - 1, 9]


def test_a_checksum_of_zero_says_nothing(tmp_path: Path) -> None:
    assert load(written(tmp_path, opening(checksum=0)), "okx").checks is None


@pytest.mark.parametrize("first", [True, False])
def test_the_grid_comes_from_a_rest_list_wherever_it_stands(tmp_path: Path, first: bool) -> None:
    feed = written(tmp_path, opening(), book("update", [["1.5", "42.94967296"]], []))
    grid = tmp_path / "rest.gz"
    grid.write_bytes(gzip.compress(rest(**{"BTC-USDT": ("0.1", "0.00000001")}).encode()))
    recording = load([grid, feed] if first else [feed, grid], "okx")
    (instrument,) = recording.instruments
    assert instrument.tick_size == 1000
    assert instrument.lot_size == Decimal("0.00000001")
    assert recording.transactions[["kind", "id", "size"]][-1].item() == (Kind.SET_WIDE, 2**32, 0)
    assert recording.transactions["size"][1] == 100_000_000


@pytest.mark.parametrize(
    ("grid", "field", "why"),
    [
        (("0.5", "1"), "bids[0][0]", "'1.4' is off the tick of 0.5"),
        (("0.1", "2"), "bids[0][1]", "'1' is not a multiple of the lot of 2"),
        (("0." + "0" * 18 + "1", "1"), "tickSz", "is finer than 1e-"),
        (("0", "1"), "tickSz", "BTC-USDT: '0' is not a valid tick"),
        (("0.1", "0"), "lotSz", "BTC-USDT: '0' is not a valid lot"),
        (("0.1", "lot"), "lotSz", "BTC-USDT: 'lot' is not a decimal number"),
        ((0.1, "1"), "tickSz", "BTC-USDT: 0.1 is not decimal text"),
    ],
)
def test_what_is_off_the_venues_grid_is_refused(
    tmp_path: Path, grid: tuple[Any, Any], field: str, why: str
) -> None:
    feed = written(tmp_path, opening())
    listed = written(tmp_path, rest(**{"BTC-USDT": grid}), name="rest")
    with pytest.raises(FeedError, match=why.replace(".", r"\.")) as caught:
        load([feed, listed], "okx")
    assert (caught.value.path, caught.value.field) == (str(feed), field)


def test_an_instrument_that_is_not_read_may_have_any_grid(tmp_path: Path) -> None:
    listed = written(tmp_path, rest(SHIB=("0.000000001", "1"), USDT=("", "")), name="rest")
    assert len(load([written(tmp_path, opening()), listed], "okx")) == 4


def test_lines_of_the_connection_and_other_channels_are_left_aside(tmp_path: Path) -> None:
    lines = [
        "wss://venue:8443/ws <-> 1652459224.5300605",
        'wss://venue:8443/ws <- 1652459225.29: {"op":"subscribe","args":[]}',
        'configuration: {"l2_book":[]}',
        {"event": "subscribe", "arg": {"channel": "books", "instId": "BTC-USDT"}},
        {"event": "error", "msg": "no", "code": "1"},
        {"arg": {"channel": "tickers", "instId": "BTC-USDT"}, "data": [{"last": "low"}]},
        {"arg": {"channel": "books5", "instId": "BTC-USDT"}, "data": [{}]},
        trade(px="low"),
        "",
    ]
    assert sets(load(written(tmp_path, opening(), *lines, update(3)), "okx")) == [3]


def test_another_book_channel_is_read_where_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, opening(), update(3), opening(channel="books-l2-tbt", name="A"))
    recording = load(path, "okx", channel="books-l2-tbt")
    assert [instrument.name for instrument in recording.instruments] == ["A"]
    with pytest.raises(ConfigError, match="channel = 'tickers'"):
        load(path, "okx", channel="tickers")


def test_trades_are_prints_of_the_resting_side_where_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, opening(), trade(), trade(side="sell", tradeId="78"))
    recording = load(path, "okx", trades=True)
    assert recording.transactions[["kind", "side", "id", "price", "size"]][4:].tolist() == [
        (Kind.TRADE, 1, 77, 15_000, 3),
        (Kind.TRADE, 0, 78, 15_000, 3),
    ]
    assert len(load(path, "okx")) == 4


def test_lines_without_timestamps_have_the_messages_own_time(tmp_path: Path) -> None:
    recording = load(written(tmp_path, json.dumps(opening())), "okx")
    assert recording.transactions["ingress_ts_ns"][0] == 1_700_000_000_123_000_000


def test_ids_chain_through_silence_and_a_restart_of_the_numbers(tmp_path: Path) -> None:
    messages = [
        opening(seqId=10, prevSeqId=-1),
        update(3, seqId=15, prevSeqId=10),
        book("update", [], [], seqId=15, prevSeqId=15),
        update(4, seqId=2, prevSeqId=15),
        update(5, seqId=3, prevSeqId=2),
    ]
    assert sets(load(written(tmp_path, *messages), "okx")) == [3, 4, 5]


def test_a_gap_stops_or_leaves_the_book_empty_until_the_next_snapshot(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        opening(seqId=10, prevSeqId=-1),
        update(3, seqId=12, prevSeqId=11),
        update(4, seqId=13, prevSeqId=12),
        opening(seqId=20, prevSeqId=-1),
        update(5, seqId=21, prevSeqId=20),
    )
    with pytest.raises(FeedError, match="expected prevSeqId = 10, got 11") as caught:
        load(path, "okx", on_gap="stop")
    assert (caught.value.line, caught.value.field) == (2, "prevSeqId")
    recording = load(path, "okx")
    assert (recording.skipped, recording.gaps) == (0, 1)
    assert recording.ignored == {"update without a snapshot": 1}
    assert sets(recording) == [5]
    assert recording.transactions["kind"][4:6].tolist() == [Kind.CLEAR, Kind.CLEAR]
    assert recording.transactions["flags"][5] == Flags.LAST


def test_updates_before_the_first_snapshot_are_counted(tmp_path: Path) -> None:
    path = written(tmp_path, update(3), opening(), update(4))
    recording = load(path, "okx")
    assert (recording.skipped, recording.gaps, sets(recording)) == (0, 0, [4])
    assert recording.ignored == {"update without a snapshot": 1}


def test_a_book_without_any_snapshot_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, opening(name="A"), update(3), update(4))
    with pytest.raises(FeedError, match="no snapshot of BTC-USDT opens the 2 updates") as caught:
        load(path, "okx")
    assert caught.value.line == 2
    assert load(path, "okx", on_error="skip").skipped == 2


ARGUMENT = {"channel": "books", "instId": "BTC-USDT"}
BAD = [
    ('101.25: {"arg":{"channel":"bo', None, "is not JSON"),
    ('101.25: {"arg":Infinity}', None, "Infinity is not a JSON number"),
    ("101.25: []", None, "expected a JSON object, got []"),
    ("yesterday: {}", None, "expected 'unix_seconds: JSON'"),
    ("99999999999.5: {}", "timestamp", "does not fit 63 bits"),
    ("9999999999999: {}", "timestamp", "is not a time"),
    ({"action": "update"}, "arg", "is missing"),
    ({"arg": 5}, "arg", "5 is not an object"),
    ({"arg": {"channel": "books"}, "data": [{}]}, "instId", "is missing"),
    ({"arg": ARGUMENT}, "data", "is missing"),
    ({"arg": ARGUMENT, "data": []}, "data", "[]"),
    ({"arg": ARGUMENT, "data": [5]}, "data", "[5]"),
    ({"arg": ARGUMENT, "action": "update", "data": [{}, {}]}, "data", "2 books"),
    ({"arg": ARGUMENT, "data": [{}]}, "action", "is missing"),
    ({"arg": ARGUMENT, "action": "reset", "data": [{}]}, "action", "'reset'"),
    ({"arg": ARGUMENT, "action": [], "data": [{}]}, "action", "[]"),
    ({"arg": ARGUMENT, "action": "update", "data": [{}]}, "bids", "is missing"),
    (update(8, checksum="1"), "checksum", "'1'"),
    (update(8, checksum=2**31), "checksum", "2147483648"),
    (update(8, checksum=None), "checksum", "None"),
    (update(8, seqId="9"), "seqId", "'9'"),
    (book("update", [["1.5"]], []), "bids[0]", "['1.5']"),
    (book("update", [], [["-1.5", "1"]]), "asks[0][0]", "'-1.5'"),
    (book("update", [], [["1.5", "1"], ["1.6", "two"]]), "asks[1][1]", "'two'"),
    (book("update", [], [["922337203685477.5807", "1"]]), "asks[0][0]", "63 bits"),
    (book("update", [], [["1." + "0" * 18 + "1", "1"]]), "asks[0][0]", "finer than 1e-"),
    (book("snapshot", [], [["1.5", "0"]]), "asks[0][1]", "a snapshot has no empty levels"),
    (trade(tradeId=77), "tradeId", "77"),
    (trade(tradeId="18446744073709551616"), "tradeId", "does not fit 64 bits"),
    (trade(tradeId="9" * 5000), "tradeId", "does not fit 64 bits"),
    (trade(side="long"), "side", "'long'"),
    (trade(sz="0"), "sz", "a trade has a size"),
    (trade(px="NaN"), "px", "'NaN'"),
    ("https://venue -> 1.5: {}", "data", "is missing"),
    ('https://venue -> 1.5: {"data":{}}', "data", "{} is not an array"),
]


@pytest.mark.parametrize(("bad", "field", "value"), BAD)
def test_a_bad_line_is_named_or_skipped(
    tmp_path: Path, bad: Any, field: str | None, value: str
) -> None:
    path = written(tmp_path, opening(), bad, update(4))
    with pytest.raises(FeedError) as caught:
        load(path, "okx", trades=True)
    assert (caught.value.path, caught.value.line) == (str(path), 2)
    assert caught.value.field == field
    assert value in str(caught.value)
    recording = load(path, "okx", trades=True, on_error="skip")
    assert (recording.skipped, sets(recording)) == (1, [4])


def test_more_markets_than_a_record_can_name_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, *(opening(name=f"M{index}") for index in range(257)))
    with pytest.raises(FeedError, match="'M256' is one market more than the 256 possible"):
        load(path, "okx")
    assert len(load(path, "okx", on_error="skip").instruments) == 256


sides = st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 10**12)), max_size=4)


@given(
    st.lists(st.tuples(st.integers(0, 2), sides, sides, st.integers(-(2**31), 2**31 - 1))),
    st.tuples(st.integers(0, 4), st.integers(0, 12)),
)
def test_any_valid_recording_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory,
    changes: list[tuple[int, list[tuple[int, int]], list[tuple[int, int]], int]],
    places: tuple[int, int],
) -> None:
    def levels(side: list[tuple[int, int]]) -> list[list[str]]:
        return [
            [
                f"{Decimal(number).scaleb(-digits):f}"
                for number, digits in zip(level, places, strict=True)
            ]
            for level in side
        ]

    grid = tuple(f"{Decimal(1).scaleb(-digits):f}" for digits in places)
    messages: list[Any] = [rest(**dict.fromkeys(("M0", "M1", "M2"), grid))]
    messages += [book("snapshot", [], [], name=f"M{market}") for market in range(3)]
    expected = [(market, Kind.CLEAR, side, 0, 0) for market in range(3) for side in range(2)]
    checksums = []
    for index, (market, bids, asks, checksum) in enumerate(changes):
        name, sides_of = f"M{market}", (levels(bids), levels(asks))
        ts = str(1_700_000_000_200 + index)
        messages.append(book("update", *sides_of, name=name, checksum=checksum, ts=ts))
        for side, updates in enumerate((bids, asks)):
            for price, size in updates:
                kind = Kind.SET if size < 2**32 else Kind.SET_WIDE
                expected.append((market, kind, side, price * 10 ** (4 - places[0]), size))
        if checksum:
            checksums.append((len(expected), market, checksum))
    recording = load(written(tmp_path_factory.mktemp("okx"), *messages), "okx")
    transactions = recording.transactions
    quantity = np.where(
        transactions["kind"] == Kind.SET_WIDE, transactions["id"], transactions["size"]
    )
    columns = [transactions[name].tolist() for name in ("market", "kind", "side", "price")]
    assert list(zip(*columns, quantity.tolist(), strict=True)) == expected
    checks = recording.checks
    found = (
        list(
            zip(
                checks.position.tolist(),
                checks.market.tolist(),
                checks.checksum.tolist(),
                strict=True,
            )
        )
        if isinstance(checks, ChecksumChecks)
        else []
    )
    assert found == checksums
