from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.feeds.venue import Book, Change, VenueMarket, changes, require_equal, written
from velox.core.records import Flags, Kind
from velox.errors import FeedError
from velox.feeds import Recording, load, recognise

TIME = "2023-02-09T20:32:50.714964855Z"
TIME_NS = 1_675_974_770_714_964_855
Row = tuple[str, str, str]


def message(number: int, channel: str, *events: dict[str, Any], time: str = TIME) -> str:
    return json.dumps(
        {
            "channel": channel,
            "client_id": "",
            "timestamp": time,
            "sequence_num": number,
            "events": events,
        }
    )


def event(kind: str, rows: list[Row], name: str = "BTC-USD") -> dict[str, Any]:
    updates = [
        {
            "side": side,
            "event_time": "1970-01-01T00:00:00Z",
            "price_level": price,
            "new_quantity": quantity,
        }
        for side, price, quantity in rows
    ]
    return {"type": kind, "product_id": name, "updates": updates}


def opening(number: int = 0, name: str = "BTC-USD", **more: Any) -> str:
    rows = [("offer", "1.7", "3"), ("bid", "1.4", "1"), ("offer", "1.6", "2"), ("bid", "1.2", "4")]
    return message(number, "l2_data", event("snapshot", rows, name), **more)


def update(number: int, size: str, name: str = "BTC-USD", **more: Any) -> str:
    return message(number, "l2_data", event("update", [("bid", "1.5", size)], name), **more)


def heartbeat(number: int) -> str:
    return message(number, "heartbeats", {"heartbeat_counter": 3049})


def trade(number: int, kind: str = "update", **more: Any) -> str:
    data = {
        "trade_id": "77",
        "product_id": "BTC-USD",
        "price": "1.5",
        "size": "3",
        "side": "BUY",
        "time": "2019-08-14T20:42:27.265Z",
    }
    return message(number, "market_trades", {"type": kind, "trades": [data | more]})


def lines_of(*messages: str) -> list[tuple[int, str]]:
    return [(10**18 + index, each) for index, each in enumerate(messages)]


def sizes(recording: Recording) -> list[int]:
    records = recording.transactions
    is_set = (records["kind"] == Kind.SET) & (records["flags"] & Flags.SNAPSHOT == 0)
    found: list[int] = records["size"][is_set].tolist()
    return found


def test_a_snapshot_opens_a_book_and_updates_change_it(tmp_path: Path) -> None:
    path = written(tmp_path / "feed", lines_of(opening(), update(1, "0.5")))
    assert recognise([path]) == "coinbase"
    recording = load(path)
    opens, last = int(Flags.SNAPSHOT), int(Flags.LAST)
    names = ["kind", "side", "price", "size", "flags", "ingress_ts_ns"]
    assert recording.transactions[names].tolist() == [
        (Kind.CLEAR, 0, 0, 0, opens, 10**18),
        (Kind.SET, 0, 14_000, 2, opens, 10**18),
        (Kind.SET, 0, 12_000, 8, opens, 10**18),
        (Kind.CLEAR, 1, 0, 0, opens, 10**18),
        (Kind.SET, 1, 17_000, 6, opens, 10**18),
        (Kind.SET, 1, 16_000, 4, opens | last, 10**18),
        (Kind.SET, 0, 15_000, 1, last, 10**18 + 1),
    ]
    assert set(recording.venue_ts_ns.tolist()) == {TIME_NS}
    (instrument,) = recording.instruments
    assert (instrument.name, instrument.lot_size) == ("BTC-USD", Decimal("0.5"))
    known = recording.known_depth()
    assert (known.bid, known.ask, known.levels) == (12_000, 17_000, None)
    assert recording.checks is None


def test_bare_messages_have_the_venues_time(tmp_path: Path) -> None:
    path = written(tmp_path / "feed", lines_of(opening(), update(1, "0.5")), stamped=False)
    assert set(load(path).transactions["ingress_ts_ns"].tolist()) == {TIME_NS}


def test_numbers_count_over_all_channels(tmp_path: Path) -> None:
    messages = [
        message(0, "subscriptions", {"subscriptions": {"level2": ["BTC-USD"]}}),
        opening(1),
        heartbeat(2),
        update(3, "1"),
        trade(4),
        update(5, "2"),
    ]
    recording = load(written(tmp_path / "feed", lines_of(*messages)))
    assert (recording.gaps, sizes(recording)) == (0, [1, 2])
    assert recording.ignored == {"subscriptions": 1, "heartbeats": 1, "market_trades": 1}


def test_a_gap_empties_every_book_of_the_connection(tmp_path: Path) -> None:
    messages = [
        opening(0),
        opening(1, "ETH-USD"),
        # Number 2 is missing. It may have been of either product.
        heartbeat(3),
        update(4, "1"),
        update(5, "2", "ETH-USD"),
        opening(6, "ETH-USD"),
        update(7, "3", "ETH-USD"),
        update(8, "4"),
    ]
    path = written(tmp_path / "feed", lines_of(*messages))
    recording = load(path)
    assert (recording.gaps, recording.skipped, sizes(recording)) == (1, 0, [3])
    assert recording.ignored == {"heartbeats": 1, "update without a snapshot": 3}
    assert "the connection leaves a gap: expected sequence_num = 2, got 3" in recording.problems[0]
    clears = recording.transactions[12:16]
    assert clears["kind"].tolist() == [Kind.CLEAR] * 4
    assert clears["market"].tolist() == [0, 0, 1, 1]
    assert sizes(load(path, on_gap="continue")) == [1, 2, 3, 4]
    with pytest.raises(FeedError, match="expected sequence_num = 2") as caught:
        load(path, on_gap="stop")
    assert (caught.value.line, caught.value.field) == (3, "sequence_num")


def test_a_new_connection_empties_the_books_and_is_no_gap(tmp_path: Path) -> None:
    later = "2023-02-09T21:00:00Z"
    messages = [
        opening(0),
        update(1, "1"),
        message(0, "subscriptions", time=later),
        update(1, "2", time=later),
        opening(2, time=later),
        update(3, "3", time=later),
    ]
    recording = load(written(tmp_path / "feed", lines_of(*messages)))
    assert (recording.gaps, sizes(recording)) == (0, [1, 3])
    assert recording.ignored == {"subscriptions": 1, "update without a snapshot": 1}
    assert recording.transactions["kind"][7:9].tolist() == [Kind.CLEAR, Kind.CLEAR]


def test_a_repeated_message_is_no_gap(tmp_path: Path) -> None:
    messages = [opening(0), update(1, "1"), update(1, "1"), opening(0), update(2, "2")]
    recording = load(written(tmp_path / "feed", lines_of(*messages)))
    assert (recording.gaps, sizes(recording)) == (0, [1, 2])
    assert recording.ignored == {"l2_data known already": 2}


def test_several_products_in_one_message(tmp_path: Path) -> None:
    rows: list[Row] = [("bid", "1.4", "1"), ("offer", "1.6", "2")]
    both = message(0, "l2_data", event("snapshot", rows), event("snapshot", rows, "ETH-USD"))
    recording = load(written(tmp_path / "feed", lines_of(both)))
    assert [each.name for each in recording.instruments] == ["BTC-USD", "ETH-USD"]
    only = load(tmp_path / "feed", symbol="ETH-USD")
    assert [each.name for each in only.instruments] == ["ETH-USD"]
    assert only.ignored == {"other symbol": 1}


def test_trades_become_records_once_with_the_makers_side(tmp_path: Path) -> None:
    messages = [
        opening(0),
        trade(1, "snapshot"),
        trade(2),
        trade(3),
        trade(4, trade_id="78", side="SELL"),
    ]
    recording = load(written(tmp_path / "feed", lines_of(*messages)), trades=True)
    is_trade = recording.transactions["kind"] == Kind.TRADE
    assert recording.transactions[is_trade][["id", "side", "price", "size"]].tolist() == [
        (77, 0, 15_000, 3),
        (78, 1, 15_000, 3),
    ]
    assert set(recording.venue_ts_ns[is_trade].tolist()) == {1_565_815_347_265_000_000}
    assert recording.ignored == {"trade snapshot": 1, "trade known already": 1}


def test_a_snapshot_of_several_megabytes(tmp_path: Path) -> None:
    rows: list[Row] = [("bid", f"{price}.01", "0.00000001") for price in range(1, 30_001)]
    rows += [("offer", f"{price}.01", "1000") for price in range(30_001, 40_001)]
    path = written(tmp_path / "feed", lines_of(message(0, "l2_data", event("snapshot", rows))))
    assert path.stat().st_size > 4_000_000
    assert recognise([path]) == "coinbase"
    recording = load(path)
    assert len(recording) == 40_002
    assert recording.known_depth().bid == 10_100


def test_updates_before_the_first_snapshot_are_counted(tmp_path: Path) -> None:
    recording = load(
        written(tmp_path / "feed", lines_of(update(7, "1"), opening(8), update(9, "2")))
    )
    assert (sizes(recording), recording.gaps) == ([2], 0)
    assert recording.ignored == {"update without a snapshot": 1}
    with pytest.raises(FeedError, match="no snapshot of BTC-USD opens the 1 updates"):
        load(written(tmp_path / "none", lines_of(opening(0, "A"), update(1, "1"))))


ONE = [("bid", "1.7", "1"), ("offer", "1.6", "1")]
BAD: list[tuple[str, str | None, str]] = [
    (message(1, "l2_data", event("snapshot", ONE)), "updates", "opens crossed"),
    (update(1, "x"), "updates[0].new_quantity", "'x' is not a decimal number"),
    (
        message(1, "l2_data", event("update", [("offer", "1.6", "1"), ("bid", "0", "1")])),
        "updates[1].price_level",
        "is not a positive price",
    ),
    (
        message(1, "l2_data", event("snapshot", [("offer", "1.6", "1"), ("bid", "1", "0")])),
        "updates[1].new_quantity",
        "a snapshot has no empty levels",
    ),
    (
        message(1, "l2_data", event("update", [("ask", "1.6", "1")])),
        "updates[0].side",
        "neither 'bid' nor 'offer'",
    ),
    (message(1, "l2_data", event("change", [])), "type", "neither 'snapshot' nor 'update'"),
    (update(1, "1").replace('"product_id": "BTC-USD", ', ""), "product_id", "is missing"),
    (update(1, "1").replace('"sequence_num": 1, ', ""), "sequence_num", "is missing"),
    (update(1, "1").replace(TIME, "now"), "timestamp", "is not a time in UTC"),
    (opening(1)[:80], None, "is not JSON"),
    (trade(1, side="buy"), "side", "neither 'BUY' nor 'SELL'"),
    (trade(1, trade_id=7), "trade_id", "is not an id"),
]


@pytest.mark.parametrize(("bad", "field", "why"), BAD)
def test_a_bad_line_is_named_or_skipped_and_no_book_is_silently_wrong(
    tmp_path: Path, bad: str, field: str | None, why: str
) -> None:
    messages = [opening(0), bad, update(2, "7"), opening(3), update(4, "0.125")]
    path = written(tmp_path / "feed", lines_of(*messages))
    with pytest.raises(FeedError) as caught:
        load(path, "coinbase", trades=True)
    assert (caught.value.line, caught.value.field) == (2, field)
    assert why in str(caught.value)
    recording = load(path, "coinbase", trades=True, on_error="skip")
    assert recording.skipped == 1
    is_book = "market_trades" not in bad
    # A skipped message of a book is missing from it, so what follows is not applied.
    assert len(sizes(recording)) == (1 if is_book else 2)


def test_what_is_no_book_is_counted_by_name(tmp_path: Path) -> None:
    others = [
        '{"type":"error","message":"authentication failure"}',
        "{}",
        message(0, "ticker", {"type": "snapshot"}),
        message(1, "status"),
        opening(2),
    ]
    recording = load(written(tmp_path / "feed", lines_of(*others)))
    assert recording.ignored == {
        "error reply": 1,
        "unrecognised object": 1,
        "ticker": 1,
        "status": 1,
    }


def shown(side: str, levels: list[Change]) -> list[Row]:
    return [(side, f"{price:f}", f"{size:f}") for price, size in levels]


def session_of(seed: int) -> tuple[list[tuple[int, str]], dict[tuple[str, int], Book], int]:
    """Messages of one connection with losses, and what each book must be after each time."""
    chance = random.Random(seed)
    markets = {
        "BTC-USD": VenueMarket(seed, tick="0.01", lot="0.00000001", levels=200),
        "SHIB-USD": VenueMarket(seed + 1, tick="0.00000001", lot="1", mid=900),
    }
    sent: dict[str, Book | None] = dict.fromkeys(markets)
    held: dict[str, Book | None] = dict.fromkeys(markets)
    lines: list[tuple[int, str]] = []
    truth: dict[tuple[str, int], Book] = {}
    number, gaps, is_lost = -1, 0, False
    for index in range(300):
        name, time = chance.choice(list(markets)), 10**18 + index
        market, fault = markets[name], chance.random()
        market.step()
        before, now = sent[name], market.top()
        number += 1
        if fault < 0.03:
            # A new connection sends everything again.
            number, is_lost = 0, False
            before = None
            for other in markets:
                sent[other] = held[other] = None
        stamp = f"2023-02-09T20:32:50.{index:09}Z"
        if chance.random() < 0.2 and number:
            text = heartbeat(number)
        elif before is None:
            both = shown("offer", list(now[1].items())) + shown("bid", list(now[0].items()))
            chance.shuffle(both)
            text = message(number, "l2_data", event("snapshot", both, name), time=stamp)
            sent[name] = now
        else:
            rows = shown("bid", changes(before[0], now[0])) + shown(
                "offer", changes(before[1], now[1])
            )
            text = message(number, "l2_data", event("update", rows, name), time=stamp)
            sent[name] = now
        if 0.03 <= fault < 0.045 and lines and number:
            is_lost = True
            continue
        if is_lost:
            gaps, is_lost = gaps + 1, False
            held = dict.fromkeys(markets)
        if '"snapshot"' in text or ('"update"' in text and held[name] is not None):
            held[name] = now
        lines.append((time, text))
        truth |= {(each, time): book or ({}, {}) for each, book in held.items()}
        if chance.random() < 0.05:
            lines.append((time, text))
    return lines, truth, gaps


@pytest.mark.parametrize("seed", range(6))
def test_generated_sessions_equal_books_of_plain_dictionaries(tmp_path: Path, seed: int) -> None:
    lines, truth, gaps = session_of(seed)
    recording = load(written(tmp_path / "feed", lines))
    assert recording.gaps == gaps
    assert require_equal(recording, truth) > 30
