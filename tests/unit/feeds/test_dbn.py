"""Databento's DBN: written and read back by Databento's own library, against plain dictionaries."""

from __future__ import annotations

import datetime
import os
import random
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from velox.cli.main import main
from velox.core.order_book import OrderBook
from velox.core.records import Flags, Kind, Side, validate
from velox.errors import ConfigError, FeedError
from velox.feeds import Recording, load, recognise

dbn = pytest.importorskip("databento_dbn", reason="needs databento-dbn, which writes the files")
zstandard = pytest.importorskip("zstandard", reason="needs the extra 'zstd'")

T = 1_700_000_000_000_000_000
UNDEFINED = 2**63 - 1
LAST, TOB, SNAPSHOT, MBP, BAD_RECV, BAD_BOOK = 128, 64, 32, 16, 8, 4
ACTIONS = {each.value: each for each in dbn.Action.variants()}
SIDES = {each.value: each for each in dbn.Side.variants()}


def mapping(name: str, instrument: int, *days: str) -> Any:
    begin, end = days or ("2023-11-01", "2023-12-01")
    interval = SimpleNamespace(
        start_date=datetime.date.fromisoformat(begin),
        end_date=datetime.date.fromisoformat(end),
        symbol=str(instrument),
    )
    return SimpleNamespace(raw_symbol=name, intervals=[interval])


def metadata(*mappings: Any, version: int = 3, ts_out: bool = False, schema: Any = None) -> bytes:
    return bytes(
        dbn.Metadata(
            dataset="GLBX.MDP3",
            start=T,
            stype_in=dbn.SType.RAW_SYMBOL,
            stype_out=dbn.SType.INSTRUMENT_ID,
            schema=schema,
            mappings=list(mappings) or [mapping("ESZ3", 7)],
            ts_out=ts_out,
            version=version,
        )
    )


def order(
    identity: int,
    action: str,
    side: str,
    price: int,
    size: int,
    *,
    flags: int = LAST,
    at: int = 0,
    instrument: int = 7,
    publisher: int = 1,
    **more: Any,
) -> bytes:
    return bytes(
        dbn.MBOMsg(
            publisher_id=publisher,
            instrument_id=instrument,
            ts_event=T + at,
            order_id=identity,
            price=price,
            size=size,
            action=ACTIONS[action],
            side=SIDES[side],
            ts_recv=T + at + 9,
            flags=flags,
            **more,
        )
    )


def picture(
    bids: Sequence[tuple[int, int]],
    asks: Sequence[tuple[int, int]],
    *,
    depth: int = 10,
    at: int = 0,
    flags: int = LAST,
    action: str = "A",
    side: str = "N",
    price: int = UNDEFINED,
    size: int = 0,
) -> bytes:
    levels = []
    for rank in range(depth):
        bid = bids[rank] if rank < len(bids) else (UNDEFINED, 0)
        ask = asks[rank] if rank < len(asks) else (UNDEFINED, 0)
        levels.append(dbn.BidAskPair(bid_px=bid[0], bid_sz=bid[1], ask_px=ask[0], ask_sz=ask[1]))
    kind = dbn.MBP10Msg if depth == 10 else dbn.MBP1Msg
    return bytes(
        kind(
            publisher_id=1,
            instrument_id=7,
            ts_event=T + at,
            price=price,
            size=size,
            action=ACTIONS[action],
            side=SIDES[side],
            depth=0,
            ts_recv=T + at + 9,
            flags=flags,
            levels=levels if depth == 10 else levels[0],
        )
    )


def written(tmp_path: Path, *records: bytes, head: bytes | None = None, name: str = "a") -> Path:
    path = tmp_path / f"{name}.dbn"
    path.write_bytes((metadata() if head is None else head) + b"".join(records))
    return path


def kinds(recording: Recording) -> list[tuple[Any, ...]]:
    names = ["id", "price", "size", "side", "kind"]
    return [(*each,) for each in recording.transactions[names].tolist()]


def book_of(recording: Recording, market: int = 0) -> dict[str, dict[int, int]]:
    """The last state, by Velox's own book."""
    book = OrderBook(8192, recording.instruments[market].tick_size, market=market)
    own = recording.transactions[recording.transactions["market"] == market]
    results = book.apply(own)
    assert results.rejected == {}
    depth = book.depth(1000)
    return {
        side: {
            int(row[f"{side}_price"]): int(row[f"{side}_quantity"])
            for row in depth
            if row[f"{side}_quantity"]
        }
        for side in ("bid", "ask")
    }


P = 10**9  # one unit of money


def test_orders_become_records_with_their_ids(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        order(0, "R", "N", UNDEFINED, 0, at=0),
        order(11, "A", "B", 99 * P, 5, at=1),
        order(12, "A", "A", 101 * P, 4, at=2),
        order(11, "C", "B", 99 * P, 2, at=3),
        order(12, "M", "A", 101 * P, 1, at=4),
        order(12, "M", "A", 102 * P, 1, at=5),
        order(11, "M", "B", 99 * P, 8, at=6),
    )
    assert recognise([path]) == "dbn"
    recording = load(path)
    validate(recording.transactions)
    assert kinds(recording) == [
        (0, 0, 0, 0, Kind.CLEAR),
        (0, 0, 0, 1, Kind.CLEAR),
        (11, 990_000, 5, 0, Kind.ADD),
        (12, 1_010_000, 4, 1, Kind.ADD),
        (11, 990_000, 2, 0, Kind.CANCEL),
        (12, 1_010_000, 3, 1, Kind.CANCEL),
        (12, 1_010_000, 1, 1, Kind.CANCEL),
        (12, 1_020_000, 1, 1, Kind.ADD),
        (11, 990_000, 3, 0, Kind.CANCEL),
        (11, 990_000, 8, 0, Kind.ADD),
    ]
    [instrument] = recording.instruments
    assert (instrument.name, instrument.price_decimals, instrument.tick_size) == ("ESZ3", 4, 10_000)
    ends = recording.transactions["flags"] & Flags.LAST > 0
    assert ends.tolist() == [False, True, True, True, True, True, False, True, False, True]
    assert recording.transactions["ingress_ts_ns"].tolist()[:3] == [T + 9, T + 9, T + 10]
    assert recording.venue_ts_ns.tolist()[:3] == [T, T, T + 1]
    assert recording.ignored == {}


def test_what_was_filled_is_executed_and_the_rest_cancelled(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        order(1, "A", "B", 99 * P, 5),
        order(9, "T", "A", 99 * P, 2, flags=0),
        order(1, "F", "B", 99 * P, 2, flags=0),
        order(1, "C", "B", 99 * P, 2),
        order(1, "C", "B", 99 * P, 3),
    )
    recording = load(path)
    assert kinds(recording)[3:] == [
        (1, 990_000, 2, 0, Kind.EXECUTE),
        (1, 990_000, 3, 0, Kind.CANCEL),
    ]
    assert recording.ignored == {"book that opens without a snapshot": 1}
    with_trades = load(path, trades=True)
    # The taker sold, so a bid rested.
    assert kinds(with_trades)[3] == (9, 990_000, 2, 0, Kind.TRADE)


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("ts_out", [False, True])
def test_every_version_is_read(version: int, ts_out: bool, tmp_path: Path) -> None:
    more = {"ts_out": T + 99} if ts_out else {}
    record = order(1, "A", "B", 99 * P, 5, **more)
    assert len(record) == 56 + 8 * ts_out
    path = written(
        tmp_path, record, record.replace(b"\x01" + bytes(7), b"\x02" + bytes(7), 1),
        head=metadata(version=version, ts_out=ts_out),
    )  # fmt: skip
    compressed = tmp_path / "b"
    compressed.write_bytes(
        zstandard.compress(path.read_bytes()[:100]) + zstandard.compress(path.read_bytes()[100:])
    )
    for each in (path, compressed):
        recording = load(each)
        assert recording.instruments[0].name == "ESZ3"
        assert book_of(recording) == {"bid": {990_000: 10}, "ask": {}}


@pytest.mark.parametrize(
    ("prices", "places", "tick"),
    [
        ([P, 2 * P], 4, 10_000),
        ([P, P + 10], 8, 1),
        ([1, 2**63 - 2], 9, 1),
        ([2_500_000, 5_000_000], 4, 25),
        ([250_000], 5, 25),
    ],
)
def test_the_scale_is_chosen_for_each_instrument(
    prices: list[int], places: int, tick: int, tmp_path: Path
) -> None:
    other = order(99, "A", "A", 12_345_678_901, 1, instrument=8)
    records = [order(n, "A", "B", price, 1) for n, price in enumerate(prices)]
    recording = load(written(tmp_path, other, *records))
    fine, chosen = recording.instruments
    assert (fine.name, fine.price_decimals) == ("instrument-8", 9)
    assert (chosen.price_decimals, chosen.tick_size) == (places, tick)
    own = recording.transactions[recording.transactions["market"] == 1][2:]
    found = [Decimal(int(price)).scaleb(-places) for price in own["price"]]
    assert found == [Decimal(price).scaleb(-9) for price in prices]


def test_levels_become_the_changes_of_the_book(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        picture([(99 * P, 5), (98 * P, 4)], [(101 * P, 1)]),
        picture([(99 * P, 5), (98 * P, 4)], [(101 * P, 1)], at=1),
        picture([(98 * P, 4)], [(101 * P, 2), (103 * P, 7)], at=2),
        picture([], [], at=3),
    )
    recording = load(path)
    assert kinds(recording) == [
        (0, 0, 0, 0, Kind.CLEAR),
        (0, 0, 0, 1, Kind.CLEAR),
        (0, 990_000, 5, 0, Kind.SET),
        (0, 980_000, 4, 0, Kind.SET),
        (0, 1_010_000, 1, 1, Kind.SET),
        (0, 990_000, 0, 0, Kind.DELETE),
        (0, 1_010_000, 2, 1, Kind.SET),
        (0, 1_030_000, 7, 1, Kind.SET),
        (0, 980_000, 0, 0, Kind.DELETE),
        (0, 1_010_000, 0, 1, Kind.DELETE),
        (0, 1_030_000, 0, 1, Kind.DELETE),
    ]
    assert recording.known_depth().levels == 10
    one = load(written(tmp_path, picture([(99 * P, 5)], [(101 * P, 1)], depth=1)))
    assert one.known_depth().levels == 1


def test_trades_among_levels(tmp_path: Path) -> None:
    record = picture([(99 * P, 5)], [(101 * P, 1)], action="T", side="B", price=101 * P, size=3)
    unknown = picture([(99 * P, 5)], [], action="T", side="N", price=101 * P, size=3)
    path = written(tmp_path, record, unknown)
    recording = load(path, trades=True)
    assert kinds(recording)[0] == (0, 1_010_000, 3, 1, Kind.TRADE)
    assert recording.ignored == {"trade of an unknown side": 1}
    assert Kind.TRADE not in load(path).transactions["kind"]
    head = metadata(schema=dbn.Schema.TBBO)
    bids, asks = [(99 * P, 5)], [(101 * P, 1)]
    record = picture(bids, asks, depth=1, action="T", side="B", price=101 * P, size=3)
    sampled = written(tmp_path, record, head=head, name="tbbo")
    with pytest.raises(FeedError, match="1 tbbo"):
        load(sampled)
    assert kinds(load(sampled, trades=True)) == [(0, 1_010_000, 3, 1, Kind.TRADE)]


def test_the_best_level_of_a_side_is_replaced(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        order(0, "A", "B", 99 * P, 5, flags=TOB | LAST),
        order(0, "A", "B", 98 * P, 4, flags=TOB | LAST),
        order(0, "A", "A", 101 * P, 4, flags=TOB | LAST),
        order(0, "A", "A", UNDEFINED, 0, flags=TOB | LAST),
    )
    assert book_of(load(path)) == {"bid": {980_000: 4}, "ask": {}}


def test_a_gap_empties_the_book_until_a_snapshot(tmp_path: Path) -> None:
    records = [
        order(0, "R", "N", UNDEFINED, 0),
        order(1, "A", "B", 99 * P, 5),
        order(2, "A", "B", 98 * P, 5, flags=LAST | BAD_BOOK),
        order(3, "A", "B", 97 * P, 5),
        order(0, "R", "N", UNDEFINED, 0, flags=SNAPSHOT),
        order(4, "A", "B", 96 * P, 5, flags=SNAPSHOT | LAST),
    ]
    path = written(tmp_path, *records)
    recording = load(path)
    assert (recording.gaps, recording.skipped) == (1, 0)
    assert "MAYBE_BAD_BOOK" in recording.problems[0]
    assert ":3:" in recording.problems[0]
    assert recording.ignored == {"record after a gap": 2}
    assert book_of(recording) == {"bid": {960_000: 5}, "ask": {}}
    before = load(written(tmp_path, *records[:4]))
    assert book_of(before) == {"bid": {}, "ask": {}}
    going_on = load(written(tmp_path, *records[:4]), on_gap="continue")
    assert book_of(going_on) == {"bid": {990_000: 5, 980_000: 5, 970_000: 5}, "ask": {}}
    assert going_on.gaps == 1
    with pytest.raises(FeedError) as caught:
        load(path, on_gap="stop")
    assert (caught.value.line, caught.value.field) == (3, "flags")


def test_names_hold_for_days_and_publishers_are_apart(tmp_path: Path) -> None:
    day = 86_400 * 10**9
    head = metadata(
        mapping("OLD", 7, "2023-11-14", "2023-11-15"),
        mapping("NEW", 7, "2023-11-15", "2023-11-16"),
        mapping("BOTH", 8),
    )
    path = written(
        tmp_path,
        order(1, "A", "B", P, 1),
        order(1, "A", "B", P, 2, at=day),
        order(1, "A", "B", P, 3, instrument=8),
        order(1, "A", "B", P, 4, instrument=8, publisher=2),
        head=head,
    )
    names = [each.name for each in load(path).instruments]
    assert names == ["OLD", "NEW", "BOTH@1", "BOTH@2"]
    one = load(path, symbol="NEW")
    assert book_of(one) == {"bid": {10_000: 2}, "ask": {}}
    assert one.ignored["other symbol"] == 3


def test_a_live_session_tells_the_names(tmp_path: Path) -> None:
    told = bytes(
        dbn.SymbolMappingMsg(
            publisher_id=0,
            instrument_id=9,
            ts_event=T,
            stype_in=dbn.SType.RAW_SYMBOL,
            stype_in_symbol="CLF4",
            stype_out=dbn.SType.RAW_SYMBOL,
            stype_out_symbol="CLF4",
            start_ts=T,
            end_ts=2**64 - 1,
        )
    )
    path = written(tmp_path, told, order(1, "A", "B", P, 1, instrument=9))
    recording = load(path)
    assert recording.instruments[0].name == "CLF4"
    assert recording.ignored["symbol mapping"] == 1


def test_other_records_are_ignored_by_name(tmp_path: Path) -> None:
    levels = picture([(99 * P, 5)], [])
    path = written(
        tmp_path, order(1, "A", "B", P, 1), levels, order(1, "C", "B", P, 1, flags=LAST | BAD_RECV)
    )
    recording = load(path)
    assert recording.ignored["mbp-10 beside mbo"] == 1
    assert recording.ignored["flag BAD_TS_RECV"] == 1


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (order(1, "A", "B", P, 1), "order_id"),
        (order(2, "A", "N", P, 1), "side"),
        (order(2, "A", "B", 0, 1), "price"),
        (order(2, "A", "B", -5, 1), "price"),
        (order(2, "A", "B", UNDEFINED, 1), "price"),
        (order(2, "A", "B", P, 0), "size"),
        (order(2, "A", "B", P, 1, flags=MBP), "flags"),
        (order(2, "C", "B", P, 1, flags=TOB), "action"),
        (order(1, "C", "B", P, 9), "size"),
        (order(1, "C", "A", P, 1), "side"),
        (order(1, "C", "B", 2 * P, 1), "price"),
        (order(1, "M", "A", P, 1), "side"),
        (order(1, "M", "B", -P, 1), "price"),
        (order(2, "A", "B", P, 1, at=2**63), "ts_event"),
    ],
)
def test_a_record_that_cannot_be_used_is_named(record: bytes, field: str, tmp_path: Path) -> None:
    good = order(1, "A", "B", P, 5)
    path = written(tmp_path, good, record, order(3, "A", "B", P, 2))
    with pytest.raises(FeedError) as caught:
        load(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), 2, field)
    recording = load(path, on_error="skip")
    assert recording.skipped == 1
    assert book_of(recording) == {"bid": {10_000: 7}, "ask": {}}


@pytest.mark.parametrize(
    ("bids", "asks"),
    [
        ([(99 * P, 5), (99 * P, 5)], []),
        ([(98 * P, 5), (99 * P, 5)], []),
        ([], [(99 * P, 5), (98 * P, 5)]),
        ([(-P, 5)], []),
        ([(UNDEFINED, 5)], []),
        ([(P, 0)], []),
        ([(UNDEFINED, 0), (P, 1)], []),
    ],
)
def test_levels_that_are_no_book_are_refused(bids: Any, asks: Any, tmp_path: Path) -> None:
    with pytest.raises(FeedError) as caught:
        load(written(tmp_path, picture(bids, asks)))
    assert caught.value.line == 1
    assert "levels[" in str(caught.value.field)


def test_damaged_files_are_refused_or_read_as_far_as_they_go(tmp_path: Path) -> None:
    whole = written(tmp_path, *[order(n, "A", "B", P, 1) for n in range(9)]).read_bytes()
    head = len(metadata())
    path = tmp_path / "damaged"
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:cut])
        with pytest.raises(FeedError):
            if (cut - head) % 56 or cut < head + 56:
                load(path, "dbn")
            else:
                raise FeedError("it ends between two records", path=path)
        if cut > head + 56:
            assert len(load(path, "dbn", on_error="skip")) == 2 + (cut - head) // 56
    path.write_bytes(zstandard.compress(whole)[:-9])
    with pytest.raises(FeedError):
        load(path)
    path.write_bytes(whole[:head] + bytes(56))
    with pytest.raises(FeedError, match="a record of 0 bytes"):
        load(path)
    path.write_bytes(b"DBN\x04" + whole[4:])
    with pytest.raises(FeedError, match="version 4"):
        load(path)
    path.write_bytes(whole[:head] + whole[head : head + 1] + b"\xa0" + whole[head + 2 :])
    assert len(load(path)) == 11


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.dbn.zst"
    path.write_bytes(zstandard.compress(metadata() + order(1, "A", "B", P, 1)))
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    for arguments in ((path,), (path, "dbn")):
        with pytest.raises(FeedError, match=r"velox\[zstd\]"):
            load(*arguments)


def test_options_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, order(1, "A", "B", P, 1))
    for options in ({"on_gap": "x"}, {"levels": 3}, {"symbol": 5}, {"tick_size": 1}):
        with pytest.raises(ConfigError):
            load(path, **options)


def test_a_limit_ends_with_a_whole_event(tmp_path: Path) -> None:
    records = []
    for n in range(10):
        records.append(order(2 * n, "A", "B", P, 1, flags=0))
        records.append(order(2 * n + 1, "A", "B", P, 1))
    path = written(tmp_path, *records)
    for limit in range(1, 23):
        recording = load(path, limit=limit)
        assert len(recording) == max(4, limit + limit % 2)
        assert recording.transactions["flags"][-1] & Flags.LAST


def test_the_command_line_replays_and_converts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, order(1, "A", "B", P, 1), order(2, "A", "A", 2 * P, 1))
    replay = ["replay", str(path), "--placement", "invoker", "--hiccups", "0", "--quiet"]
    assert main([*replay, "--symbol", "ESZ3", "--trades", "--on-gap", "continue"]) == 0
    assert "format dbn" in capsys.readouterr().out
    assert main(["convert", str(path), "-o", str(tmp_path / "a.npy")]) == 0
    first, again = load(path), load(tmp_path / "a.npy")
    assert first.transactions.tobytes() == again.transactions.tobytes()
    assert first.venue_ts_ns.tobytes() == again.venue_ts_ns.tobytes()


# Against Databento's own decoder and books of plain dictionaries


def decoded(content: bytes) -> Iterator[Any]:
    decoder = dbn.DBNDecoder()
    decoder.write(content)
    for record in decoder.decode():
        if not isinstance(record, dbn.Metadata):
            yield record


def dictionaries(records: Iterator[Any]) -> dict[int, dict[str, dict[int, int]]]:
    """The last books by instrument, as Databento's documentation builds them."""
    orders: dict[tuple[int, int], tuple[str, int, int]] = {}
    books: dict[int, dict[str, dict[int, int]]] = {}
    for each in records:
        instrument = each.instrument_id
        book = books.setdefault(instrument, {"B": {}, "A": {}})
        if not isinstance(each, dbn.MBOMsg):
            book["B"] = {each.levels[n].bid_px: each.levels[n].bid_sz for n in range(10)}
            book["A"] = {each.levels[n].ask_px: each.levels[n].ask_sz for n in range(10)}
            for side in book.values():
                side.pop(UNDEFINED, None)
            continue
        action, key = each.action.value, (instrument, each.order_id)
        if action == "R":
            books[instrument] = {"B": {}, "A": {}}
            orders = {key: order for key, order in orders.items() if key[0] != instrument}
            continue
        if action in "TFN" or (action == "C" and key not in orders):
            continue
        if action == "A":
            orders[key] = (each.side.value, each.price, each.size)
        else:
            side, price, size = orders.pop(key)
            left = size - each.size if action == "C" else each.size
            if left:
                orders[key] = (side, price if action == "C" else each.price, left)
    for (instrument, _), (side, price, size) in orders.items():
        levels = books[instrument][side]
        levels[price] = levels.get(price, 0) + size
    return books


def in_nanos(recording: Recording) -> dict[str, dict[str, dict[int, int]]]:
    found = {}
    for instrument in recording.instruments:
        factor = 10 ** (9 - instrument.price_decimals)
        book = book_of(recording, instrument.market)
        found[instrument.name] = {
            name: {price * factor: size for price, size in book[side].items()}
            for name, side in (("B", "bid"), ("A", "ask"))
        }
    return found


@pytest.mark.parametrize("seed", range(12))
def test_random_orders_equal_the_decoder_and_dictionaries(seed: int, tmp_path: Path) -> None:
    randomly = random.Random(seed)
    records: list[bytes] = []
    orders: dict[tuple[int, int], tuple[str, int, int]] = {}
    for at in range(400):
        instrument = randomly.choice([7, 8])
        own = [key for key in orders if key[0] == instrument]
        action = randomly.choice("AAAACCMMFTR" if at % 97 == 96 else "AAAACCMMFTN")
        flags = LAST if randomly.random() < 0.7 else 0
        if action == "R" or not records:
            records.append(order(0, "R", "N", UNDEFINED, 0, at=at, instrument=instrument))
            orders = {key: each for key, each in orders.items() if key[0] != instrument}
        elif action == "A" or not own:
            key = (instrument, at + 1)
            side = randomly.choice("BA")
            price = (randomly.randrange(1, 90) + 90 * (side == "A")) * 250_000
            orders[key] = (side, price, randomly.randrange(1, 50))
            more = {"at": at, "instrument": instrument, "flags": flags}
            records.append(order(key[1], "A", *orders[key], **more))
        else:
            key = randomly.choice(own)
            side, price, size = orders[key]
            if action == "C":
                part = randomly.randrange(1, size + 1)
                del orders[key]
                if part < size:
                    orders[key] = (side, price, size - part)
                size = part
            elif action == "M":
                price += 250_000 * randomly.choice([0, 0, -1, 1]) if price > 250_000 else 0
                size = randomly.randrange(1, 60)
                orders[key] = (side, price, size)
            more = {"at": at, "instrument": instrument, "flags": flags}
            records.append(order(key[1], action, side, price, size, **more))
    head = metadata(mapping("ONE", 7), mapping("TWO", 8))
    path = written(tmp_path, *records, head=head)
    recording = load(path)
    validate(recording.transactions)
    expected = dictionaries(decoded(path.read_bytes()))
    names = {7: "ONE", 8: "TWO"}
    assert in_nanos(recording) == {names[number]: book for number, book in expected.items()}
    both = recording.transactions[recording.transactions["kind"] == Kind.ADD]
    assert set(both["side"].tolist()) == {Side.BID, Side.ASK}


@pytest.mark.parametrize("seed", range(6))
def test_random_levels_equal_the_decoder_and_dictionaries(seed: int, tmp_path: Path) -> None:
    randomly = random.Random(seed)
    records = []
    for at in range(120):
        sides = []
        for base, reverse in ((1, True), (100, False)):
            prices = randomly.sample(range(base, base + 40), randomly.randrange(11))
            ordered = sorted(prices, reverse=reverse)
            sides.append([(price * 1_000_000, randomly.randrange(1, 9)) for price in ordered])
        records.append(picture(*sides, at=at))
        path = written(tmp_path, *records)
        if at % 40 == 39:
            recording = load(path)
            expected = dictionaries(decoded(path.read_bytes()))
            assert in_nanos(recording) == {"ESZ3": expected[7]}


def samples() -> list[Path]:
    folder = os.environ.get("VELOX_SAMPLES")
    return sorted(Path(folder, "databento").glob("test_data.mb*.dbn*")) if folder else []


@pytest.mark.skipif(not samples(), reason="VELOX_SAMPLES names no folder with Databento's samples")
def test_the_samples_of_databento_equal_its_decoder() -> None:
    for path in samples():
        content = path.read_bytes()
        if path.suffix == ".zst":
            content = zstandard.ZstdDecompressor().decompressobj().decompress(content)
        records = list(decoded(content))
        recording = load(path, trades=True)
        validate(recording.transactions)
        assert recording.instruments[0].name == "ESH1"
        times = {each.ts_event for each in records}
        assert set(recording.venue_ts_ns.tolist()) <= times
        if ".mbp-10." in path.name:
            expected = dictionaries(iter(records))
            assert in_nanos(recording)["ESH1"] == next(iter(expected.values()))
        assert np.count_nonzero(recording.transactions["flags"] & Flags.LAST) > 0


@pytest.mark.parametrize("seed", range(200))
def test_damaged_bytes_give_a_valid_recording_or_a_typed_error(seed: int, tmp_path: Path) -> None:
    randomly = random.Random(seed)
    records = [order(n, "A", randomly.choice("AB"), P * (n + 1), 1) for n in range(6)]
    records.append(picture([(99 * P, 5)], [(101 * P, 1)]))
    content = bytearray(metadata(mapping("ONE", 7)) + b"".join(records))
    for _ in range(randomly.randrange(1, 6)):
        at = randomly.randrange(len(content))
        content[at] = randomly.choice([0, 1, 7, 127, 255, randomly.randrange(256)])
    if seed % 5 == 0:
        del content[randomly.randrange(len(content)) :]
    path = tmp_path / "damaged"
    path.write_bytes(bytes(content))
    for on_error in ("stop", "skip"):
        try:
            recording = load(path, "dbn", on_error=on_error, trades=True)  # type: ignore[arg-type]
        except FeedError as error:
            assert error.path == str(path)
            continue
        validate(recording.transactions)
        markets = {each.market for each in recording.instruments}
        assert set(recording.transactions["market"].tolist()) <= markets
        assert on_error == "skip" or not recording.skipped
