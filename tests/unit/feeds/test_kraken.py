from __future__ import annotations

import json
import random
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.feeds.venue import (
    Book,
    Change,
    Side,
    VenueMarket,
    failing_checks,
    require_equal,
    written,
)
from velox import OrderBook
from velox.core.records import Flags, Kind
from velox.errors import ConfigError, FeedError
from velox.feeds import Recording, load, recognise
from velox.feeds.kraken_checksum import KrakenChecksum

Places = tuple[int, int]
Level = tuple[str, str]


def checksum_of(bids: list[Level], asks: list[Level]) -> int:
    """Kraken's rule, on the text of the levels: best first, asks before bids, 10 of each."""
    texts = [text for side in (asks, bids) for level in side[:10] for text in level]
    return zlib.crc32("".join(text.replace(".", "").lstrip("0") for text in texts).encode())


def message(
    kind: str,
    bids: list[Level],
    asks: list[Level],
    checksum: int,
    *,
    name: str = "BTC/USD",
    time: str | None = "2023-10-06T17:35:55.440295Z",
) -> str:
    sides = (
        ",".join(f'{{"price":{price},"qty":{size}}}' for price, size in side)
        for side in (bids, asks)
    )
    stamp = "" if time is None else f',"timestamp":"{time}"'
    data = '"bids":[{}],"asks":[{}]'.format(*sides)
    return (
        f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{name}",{data},'
        f'"checksum":{checksum}{stamp}}}]}}'
    )


BIDS, ASKS = [("1.40", "1.500")], [("1.60", "2.000")]


def opening(**more: Any) -> str:
    return message("snapshot", BIDS, ASKS, checksum_of(BIDS, ASKS), **more)


def update(size: str, **more: Any) -> str:
    """Set the bid at 1.50, behind `opening`."""
    bids = [("1.50", size)]
    return message("update", bids, [], checksum_of([*bids, *BIDS], ASKS), **more)


def trade(**more: Any) -> str:
    data = {
        "symbol": "BTC/USD",
        "side": "sell",
        "price": 1.5,
        "qty": 0.5,
        "ord_type": "market",
        "trade_id": 77,
        "timestamp": "2023-09-25T07:49:37.708706Z",
    }
    return json.dumps({"channel": "trade", "type": "update", "data": [data | more]})


def lines_of(*messages: str) -> list[tuple[int, str]]:
    return [(10**18 + index, each) for index, each in enumerate(messages)]


def sizes(recording: Recording) -> list[int]:
    records = recording.transactions
    is_set = (records["kind"] == Kind.SET) & (records["flags"] & Flags.SNAPSHOT == 0)
    found: list[int] = records["size"][is_set].tolist()
    return found


def test_a_snapshot_opens_a_book_and_updates_change_it(tmp_path: Path) -> None:
    path = written(tmp_path / "feed", lines_of(opening(), update("0.125")))
    assert recognise([path]) == "kraken"
    recording = load(path)
    opens, last = int(Flags.SNAPSHOT), int(Flags.LAST)
    names = ["kind", "side", "price", "size", "flags", "ingress_ts_ns"]
    assert recording.transactions[names].tolist() == [
        (Kind.CLEAR, 0, 0, 0, opens, 10**18),
        (Kind.SET, 0, 14_000, 1500, opens, 10**18),
        (Kind.CLEAR, 1, 0, 0, opens, 10**18),
        (Kind.SET, 1, 16_000, 2000, opens | last, 10**18),
        (Kind.SET, 0, 15_000, 125, last, 10**18 + 1),
    ]
    (instrument,) = recording.instruments
    # Kraken's own decimals, whatever the numbers have in common.
    assert (instrument.name, instrument.tick_size) == ("BTC/USD", 100)
    assert instrument.lot_size == Decimal("0.001")
    assert recording.known_depth().levels == 10
    assert recording.checks is not None
    assert recording.checks.position.tolist() == [4, 5]
    assert failing_checks(recording) == 0


def test_a_snapshot_without_a_time_takes_that_of_the_next_message(tmp_path: Path) -> None:
    lines = lines_of('{"channel":"heartbeat"}', opening(time=None), update("0.125"))
    recording = load(written(tmp_path / "feed", lines, stamped=False))
    assert set(recording.transactions["ingress_ts_ns"].tolist()) == {1_696_613_755_440_295_000}
    assert recording.ignored == {"heartbeat": 1}
    alone = load(written(tmp_path / "alone", lines_of(opening(time=None)), stamped=False))
    assert set(alone.transactions["ingress_ts_ns"].tolist()) == {0}


def test_zeros_at_the_end_count_even_where_a_program_dropped_them(tmp_path: Path) -> None:
    bids, asks = [("1.4", "0.00005")], [("1.60", "20.5")]
    exact = [("1.40", "0.00005000")], [("1.60", "20.50000000")]
    as_floats = message("snapshot", [("1.4", "5e-05")], asks, checksum_of(*exact))
    recording = load(written(tmp_path / "feed", lines_of(as_floats)))
    (instrument,) = recording.instruments
    assert (instrument.tick_size, instrument.lot_size) == (100, Decimal("1E-8"))
    assert recording.transactions["size"][[1, 3]].tolist() == [5_000, 2_050_000_000]
    assert failing_checks(recording) == 0
    wrong = message("snapshot", bids, asks, checksum_of(*exact) ^ 1)
    with pytest.raises(FeedError, match="is not the checksum of the snapshot's levels") as caught:
        load(written(tmp_path / "wrong", lines_of(wrong)))
    assert caught.value.field == "checksum"


def test_the_list_of_instruments_tells_the_decimals(tmp_path: Path) -> None:
    pair = {"symbol": "BTC/USD", "price_precision": 2, "qty_precision": 3, "qty_increment": 1e-3}
    listed = json.dumps({"channel": "instrument", "type": "snapshot", "data": {"pairs": [pair]}})
    dropped = message("snapshot", [("1.4", "1.5")], [("1.6", "2")], checksum_of(BIDS, ASKS))
    recording = load(written(tmp_path / "feed", lines_of(listed, dropped)))
    assert recording.instruments[0].lot_size == Decimal("0.001")
    assert failing_checks(recording) == 0
    fine = listed.replace('"qty_precision": 3', '"qty_precision": 19')
    with pytest.raises(FeedError, match="19 decimals are more than 18"):
        load(written(tmp_path / "fine", lines_of(fine, dropped)))


def test_a_missing_message_shows_in_the_next_checksum(tmp_path: Path) -> None:
    # The update that sets 1.50 to 0.500 is missing.
    after = message(
        "update",
        [("1.45", "0.250")],
        [],
        checksum_of([("1.50", "0.500"), ("1.45", "0.250"), *BIDS], ASKS),
        time="2023-10-06T17:35:56Z",
    )
    later = update("0.250", time="2023-10-06T17:35:57Z")
    last = update("0.250", time="2023-10-06T17:35:58Z")
    path = written(tmp_path / "feed", lines_of(opening(), after, later, opening(), last))
    recording = load(path)
    assert (recording.gaps, recording.skipped, sizes(recording)) == (1, 0, [250])
    assert recording.ignored == {"update without a snapshot": 1}
    assert "BTC/USD leaves a gap: the book's checksum is" in recording.problems[0]
    assert recording.transactions["kind"][4:6].tolist() == [Kind.CLEAR, Kind.CLEAR]
    assert failing_checks(recording) == 0
    continued = load(path, on_gap="continue")
    assert (continued.gaps, sizes(continued)) == (1, [250, 250, 250])
    assert failing_checks(continued) == 2
    with pytest.raises(FeedError, match="leaves a gap") as caught:
        load(path, on_gap="stop")
    assert (caught.value.line, caught.value.field) == (2, "checksum")


def test_levels_beyond_the_depth_leave_the_book(tmp_path: Path) -> None:
    bids = [(f"1.{20 - index:02}", "1.00") for index in range(10)]
    asks = [(f"1.{30 + index:02}", "1.00") for index in range(10)]
    better = [("1.21", "2.00")]
    messages = [
        message("snapshot", bids, asks, checksum_of(bids, asks)),
        message("update", better, [], checksum_of([*better, *bids], asks)),
        # The level that fell out may come back only by a message.
        message("update", [("1.21", "0.00")], [], checksum_of(bids[:9], asks)),
    ]
    recording = load(written(tmp_path / "feed", lines_of(*messages)))
    assert recording.gaps == 0
    records = recording.transactions[22:][["price", "size"]].tolist()
    assert records == [(12_100, 200), (11_100, 0), (12_100, 0)]
    # 11 levels fit a depth of 25.
    result = {"channel": "book", "depth": 25, "symbol": "BTC/USD"}
    told = json.dumps({"method": "subscribe", "result": result, "success": True})
    deep = load(written(tmp_path / "deep", lines_of(told, *messages[:2])))
    assert deep.known_depth().levels == 25
    assert sizes(deep) == [200]
    assert load(tmp_path / "feed", book_depth=500, on_gap="continue").known_depth().levels == 500
    with pytest.raises(ConfigError, match="book_depth = 0: must be"):
        load(tmp_path / "feed", book_depth=0)


def test_a_depth_that_nothing_tells_is_asked_for(tmp_path: Path) -> None:
    # Nine levels may be all that a deep subscription has, or all but one of a shallow one.
    bids = [(f"1.{20 - index:02}", "1.00") for index in range(9)]
    more = [("1.21", "2.00"), ("1.22", "2.00")]
    messages = [
        message("snapshot", bids, [], checksum_of(bids, [])),
        message("update", more[:1], [], checksum_of([*more[:1], *bids], [])),
        message("update", more[1:], [], checksum_of([*more[::-1], *bids], []), time=None),
    ]
    path = written(tmp_path / "feed", lines_of(*messages))
    assert load(path, limit=12).known_depth().levels == 10
    for on_error in ("stop", "skip"):
        with pytest.raises(FeedError, match="the subscribed depth is unclear; say") as caught:
            load(path, on_error=on_error)  # type: ignore[arg-type]
        assert caught.value.line == 3
    assert sizes(load(path, book_depth=10)) == [200, 200, 0]
    assert sizes(load(path, book_depth=25)) == [200, 200]
    result = {"channel": "book", "depth": 100, "symbol": "BTC/USD"}
    told = json.dumps({"method": "subscribe", "result": result, "success": True})
    deep = load(written(tmp_path / "deep", lines_of(told, *messages)))
    assert (sizes(deep), deep.known_depth().levels) == ([200, 200], 100)


def test_a_repeated_message_is_no_gap(tmp_path: Path) -> None:
    first, second = update("0.250"), update("0.500", time="2023-10-06T17:35:57Z")
    path = written(tmp_path / "feed", lines_of(opening(), first, second, first, second))
    recording = load(path)
    assert (recording.gaps, sizes(recording)) == (0, [250, 500])
    assert recording.ignored == {"book known already": 2}


def test_updates_before_the_first_snapshot_are_counted(tmp_path: Path) -> None:
    recording = load(written(tmp_path / "feed", lines_of(update("0.5"), opening(), update("0.5"))))
    assert recording.ignored == {"update without a snapshot": 1}
    path = written(tmp_path / "none", lines_of(opening(name="A/B"), update("0.5")))
    with pytest.raises(FeedError, match="no snapshot of BTC/USD opens the 1 updates") as caught:
        load(path)
    assert caught.value.line == 2


def test_trades_become_records_once(tmp_path: Path) -> None:
    before = trade(trade_id=1).replace('"update"', '"snapshot"')
    messages = [opening(), before, trade(), trade(), trade(trade_id=78, side="buy", qty=40.0)]
    path = written(tmp_path / "feed", lines_of(*messages))
    recording = load(path, trades=True)
    records = recording.transactions[recording.transactions["kind"] == Kind.TRADE]
    assert records[["id", "side", "price", "size"]].tolist() == [
        (77, 0, 15_000, 500),
        (78, 1, 15_000, 40_000),
    ]
    assert recording.ignored == {"trade snapshot": 1, "trade known already": 1}
    assert load(path).ignored == {"trade": 4}
    # Finer than the book: the checksums are then of other decimals than the records.
    fine = load(written(tmp_path / "fine", lines_of(opening(), trade(qty=0.0005))), trades=True)
    assert fine.instruments[0].lot_size == Decimal("0.0001")
    assert (fine.checks, fine.unknown) == (None, 1)


def test_what_is_no_book_is_counted_by_name(tmp_path: Path) -> None:
    others = [
        '{"channel":"status","type":"update","data":[{"system":"online"}]}',
        '{"channel":"heartbeat"}',
        '{"method":"pong","time_in":"x"}',
        '{"method":"subscribe","success":false,"error":"Unknown symbol"}',
        '{"error":"Malformed request"}',
        '{"channel":"ohlc","type":"update","data":[]}',
        "{}",
        opening(name="ETH/USD"),
    ]
    recording = load(written(tmp_path / "feed", lines_of(*others, opening())), symbol="BTC/USD")
    assert recording.ignored == {
        "status": 1,
        "heartbeat": 1,
        "pong": 1,
        "error reply": 2,
        "ohlc": 1,
        "unrecognised object": 1,
        "other symbol": 1,
    }
    assert len(recording.instruments) == 1


CROSSED = [("1.70", "1.500")], [("1.60", "2.000")]
BAD = [
    (message("snapshot", *CROSSED, checksum_of(*CROSSED)), "bids", "opens crossed"),
    (message("snapshot", [("1.4", "0")], ASKS, 5), "bids[0][1]", "no empty levels"),
    (message("snapshot", BIDS, ASKS, 5), "checksum", "5 is not the checksum"),
    (message("update", [("-1.4", "1")], [], 5), "bids[0][0]", "is not a positive price"),
    (message("update", [("1e-60", "1")], [], 5), "bids[0][0]", "is not a decimal number"),
    (message("update", [], [("null", "1")], 5), "asks[0].price", "expected a price and a qty"),
    (message("update", [], [], 2**32), "checksum", "does not fit 32 bits"),
    (update("1").replace('"update"', '"change"'), "type", "neither 'snapshot' nor 'update'"),
    (opening().replace('"symbol":"BTC/USD",', ""), "symbol", "is missing"),
    (opening()[:60], None, "is not JSON"),
    (trade(side="b"), "side", "neither 'buy' nor 'sell'"),
    (trade(trade_id=2**64), "trade_id", "does not fit 64 bits"),
]


@pytest.mark.parametrize(("bad", "field", "why"), BAD)
def test_a_bad_line_is_named_or_skipped(
    tmp_path: Path, bad: str, field: str | None, why: str
) -> None:
    path = written(tmp_path / "feed", lines_of(opening(), bad, opening(), update("0.125")))
    with pytest.raises(FeedError) as caught:
        load(path, "kraken", trades=True)
    assert (caught.value.line, caught.value.field) == (2, field)
    assert why in str(caught.value)
    recording = load(path, "kraken", trades=True, on_error="skip")
    assert (recording.skipped, sizes(recording)) == (1, [125])
    assert failing_checks(recording) == 0


@pytest.mark.parametrize("time", ["yesterday", "2023-13-06T17:35:55Z", "1960-01-01T00:00:00Z", 5])
def test_a_time_that_is_none_is_named(tmp_path: Path, time: Any) -> None:
    lines = lines_of(opening().replace('"2023-10-06T17:35:55.440295Z"', json.dumps(time)))
    with pytest.raises(FeedError) as caught:
        load(written(tmp_path / "feed", lines, stamped=False), "kraken")
    assert caught.value.field == "timestamp"


@pytest.mark.parametrize(("bids", "asks"), [(0, 0), (3, 0), (0, 2), (10, 10), (25, 14)])
def test_the_checksum_is_of_ten_levels_asks_first(bids: int, asks: int) -> None:
    book = OrderBook(tick_size=1000, lot_size=Decimal("0.00000001"))
    levels: tuple[list[Level], list[Level]] = ([], [])
    for side, count, step in ((0, bids, -1), (1, asks, 1)):
        for index in range(count):
            price, size = 50_000 + step * (1 + index), 10**index % (2**62) + 7 * index
            book.set(side, price * 1000, size)
            levels[side].append((f"{price / 10:.1f}", f"{Decimal(size).scaleb(-8):.8f}"))
    expected = checksum_of(*levels)
    assert KrakenChecksum().of(book) == expected - (2**32 if expected >= 2**31 else 0)


def texts(side: list[Change], places: Places) -> list[Level]:
    return [(f"{price:.{places[0]}f}", f"{size:.{places[1]}f}") for price, size in side]


def seen_by_a_client(market: VenueMarket, before: Side, after: Side, side: Side) -> list[Change]:
    """What Kraken sends: nothing of a level that only fell beyond the depth."""
    deleted = [(price, Decimal(0)) for price in before if price not in side]
    return deleted + [(price, size) for price, size in after.items() if before.get(price) != size]


def session_of(seed: int) -> tuple[list[tuple[int, str]], dict[tuple[str, int], Book], int]:
    """Messages of two symbols with losses, and what each book must be after each time."""
    chance = random.Random(seed)
    markets = {
        "BTC/USD": (VenueMarket(seed, tick="0.1", lot="0.00000010"), (1, 8), 10),
        "SHIB/USD": (VenueMarket(seed + 1, tick="0.00000001", lot="1", mid=900), (8, 5), 25),
    }
    sent: dict[str, Book | None] = dict.fromkeys(markets)
    held: dict[str, bool] = dict.fromkeys(markets, False)
    lost: dict[str, bool] = dict.fromkeys(markets, False)
    lines: list[tuple[int, str]] = []
    truth: dict[tuple[str, int], Book] = {}
    gaps = 0
    for index in range(300):
        name = chance.choice(list(markets))
        market, places, depth = markets[name]
        market.step()
        top, before, time = market.top(depth), sent[name], 10**18 + index
        sent[name] = top
        all_texts = [texts(list(side.items()), places) for side in top]
        checksum = checksum_of(all_texts[0], all_texts[1])
        fault = chance.random()
        stamp = f"2023-10-06T17:35:55.{index:06}Z"
        if before is None or fault < 0.04:
            lines.append((time, message("snapshot", *all_texts, checksum, name=name, time=stamp)))
            held[name], lost[name] = True, False
        else:
            parts = [
                texts(seen_by_a_client(market, *sides), places)
                for sides in (
                    (before[0], top[0], market.bids),
                    (before[1], top[1], market.asks),
                )
            ]
            if fault < 0.07 and any(parts):
                lost[name] = True
                continue
            lines.append((time, message("update", *parts, checksum, name=name, time=stamp)))
            if held[name] and lost[name]:
                # It shows at once, or the books agree again by chance.
                expected = truth[name, max(at for of, at in truth if of == name)]
                rebuilt = [dict(side) for side in expected]
                for side, part in zip(rebuilt, parts, strict=True):
                    for price, size in part:
                        side[Decimal(price)] = Decimal(size)
                kept = [
                    sorted(((p, s) for p, s in side.items() if s), reverse=reverse)[:depth]
                    for side, reverse in zip(rebuilt, (True, False), strict=True)
                ]
                agree = checksum_of(texts(kept[0], places), texts(kept[1], places)) == checksum
                if not agree:
                    gaps, held[name] = gaps + 1, False
                else:
                    top = (dict(kept[0]), dict(kept[1]))
        truth[name, time] = top if held[name] else ({}, {})
        if chance.random() < 0.1:
            lines.append((time, lines[-1][1]) if '"update"' in lines[-1][1] else lines[-1])
    return lines, truth, gaps


@pytest.mark.parametrize("seed", range(6))
def test_generated_sessions_equal_books_of_plain_dictionaries(tmp_path: Path, seed: int) -> None:
    lines, truth, gaps = session_of(seed)
    recording = load(written(tmp_path / "feed", lines))
    assert recording.gaps == gaps
    assert require_equal(recording, truth) > 100
    assert recording.unknown == 0
    assert recording.checks is not None
    assert len(recording.checks) > 100
    assert failing_checks(recording) == 0
    depths = {
        each.name: recording.known_depth(each.market).levels for each in recording.instruments
    }
    assert depths == {"BTC/USD": 10, "SHIB/USD": 25}
