from __future__ import annotations

import json
import random
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.feeds.venue import (
    Book,
    Change,
    VenueMarket,
    changes,
    failing_checks,
    require_equal,
    written,
)
from velox.core.records import Flags, Kind
from velox.errors import ConfigError, FeedError
from velox.feeds import Recording, load, recognise
from velox.runtime.checks import DepthChecks

START = 1_700_000_000_000  # ms


def message(
    kind: str,
    update: int,
    bids: list[list[str]],
    asks: list[list[str]],
    *,
    name: str = "BTCUSDT",
    depth: int = 50,
    sequence: int | None = None,
    ts: int = START,
    reordered: bool = False,
) -> str:
    data: dict[str, Any] = {"s": name, "b": bids, "a": asks, "u": update}
    data["seq"] = 1000 + update if sequence is None else sequence
    found = {"topic": f"orderbook.{depth}.{name}", "type": kind, "ts": ts, "data": data}
    if reordered:
        found = {key: found[key] for key in ("data", "ts", "topic", "type")}
    return json.dumps(found, separators=(",", ":"))


def opening(update: int = 7, **more: Any) -> str:
    return message("snapshot", update, [["1.4", "1"]], [["1.6", "2"]], **more)


def delta(update: int, size: int, **more: Any) -> str:
    return message("delta", update, [["1.5", str(size)]], [], **more)


def trade(**more: Any) -> str:
    data = {"T": START, "s": "BTCUSDT", "S": "Buy", "v": "3", "p": "1.5", "i": "77", "BT": False}
    found = {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": START, "data": [data | more]}
    return json.dumps(found)


def lines_of(*messages: str) -> list[tuple[int, str]]:
    return [(10**18 + index, each) for index, each in enumerate(messages)]


def sizes(recording: Recording) -> list[int]:
    records = recording.transactions
    is_set = (records["kind"] == Kind.SET) & (records["flags"] & Flags.SNAPSHOT == 0)
    found: list[int] = records["size"][is_set].tolist()
    return found


def test_a_snapshot_opens_a_book_and_deltas_change_it(tmp_path: Path) -> None:
    lines = lines_of(opening(), message("delta", 8, [["1.4", "0"]], [["1.7", "0.5"]]))
    path = written(tmp_path / "feed", lines)
    assert recognise([path]) == "bybit"
    recording = load(path)
    opens, last = int(Flags.SNAPSHOT), int(Flags.LAST)
    names = ["kind", "side", "price", "size", "flags", "ingress_ts_ns"]
    assert recording.transactions[names].tolist() == [
        (Kind.CLEAR, 0, 0, 0, opens, 10**18),
        (Kind.SET, 0, 14_000, 2, opens, 10**18),
        (Kind.CLEAR, 1, 0, 0, opens, 10**18),
        (Kind.SET, 1, 16_000, 4, opens | last, 10**18),
        (Kind.SET, 0, 14_000, 0, 0, 10**18 + 1),
        (Kind.SET, 1, 17_000, 1, last, 10**18 + 1),
    ]
    (instrument,) = recording.instruments
    assert (instrument.name, instrument.lot_size) == ("BTCUSDT", Decimal("0.5"))
    assert recording.known_depth().levels == 50


@pytest.mark.parametrize("form", ["{message}", "{time} {message}", "{seconds}: {message}"])
def test_each_form_of_a_line_is_read(tmp_path: Path, form: str) -> None:
    messages = [opening(ts=START), "pong", "# url: wss://venue", delta(8, 4, ts=START + 5)]
    lines = [
        each
        if each[0] == "#"
        else form.format(
            message=each, time=START * 10**6 + index, seconds=f"{START // 1000}.{index}"
        )
        for index, each in enumerate(messages)
    ]
    path = tmp_path / "feed"
    path.write_text("\n".join(["wss://stream.bybit.com/v5/public/linear <-> 1.5", "", *lines]))
    recording = load(path)
    assert sizes(recording) == [4]
    assert recording.ignored == {"pong": 1, "comment": 1}
    expected = {"{message}": START * 10**6 + 5 * 10**6, "{time} {message}": START * 10**6 + 3}
    times = recording.transactions["ingress_ts_ns"]
    assert times[-1] == expected.get(form, START * 10**6 + 300_000_000)


def test_the_order_of_keys_does_not_matter(tmp_path: Path) -> None:
    lines = lines_of(opening(reordered=True), delta(8, 4, reordered=True))
    path = written(tmp_path / "feed", lines)
    assert recognise([path]) == "bybit"
    assert sizes(load(path)) == [4]


def test_a_repeated_message_is_no_gap(tmp_path: Path) -> None:
    messages = [opening(), delta(8, 1), delta(8, 1), opening(), delta(9, 2), delta(8, 1)]
    recording = load(written(tmp_path / "feed", lines_of(*messages)))
    assert sizes(recording) == [1, 2]
    assert (recording.gaps, recording.ignored) == (0, {"orderbook.50 known already": 3})


def test_a_snapshot_at_any_time_replaces_the_book(tmp_path: Path) -> None:
    later = message("snapshot", 40, [["1.2", "5"]], [["1.3", "6"]])
    recording = load(written(tmp_path / "feed", lines_of(opening(), delta(8, 1), later)))
    assert recording.gaps == 0
    assert recording.transactions["kind"][-4:].tolist() == [Kind.CLEAR, Kind.SET] * 2


def test_a_restart_of_the_service_begins_the_ids_again(tmp_path: Path) -> None:
    restart = message("snapshot", 1, [["1.2", "5"]], [["1.3", "6"]], sequence=90)
    messages = [opening(), delta(8, 1), restart, delta(2, 3, sequence=91), restart]
    recording = load(written(tmp_path / "feed", lines_of(*messages)))
    assert recording.gaps == 0
    assert sizes(recording) == [1, 3]
    assert recording.ignored == {}
    # A restart is always applied, even with an id that is known.
    assert recording.transactions["flags"][-1] == Flags.LAST | Flags.SNAPSHOT


@pytest.mark.parametrize("missing", [9, 6])
def test_a_gap_empties_the_book_until_the_next_snapshot(tmp_path: Path, missing: int) -> None:
    messages = [opening(), delta(missing, 1), delta(missing + 1, 2), opening(20), delta(21, 3)]
    path = written(tmp_path / "feed", lines_of(*messages))
    recording = load(path)
    assert (recording.gaps, recording.skipped, sizes(recording)) == (1, 0, [3])
    assert recording.ignored == {"update without a snapshot": 1}
    assert f"expected u = 8, got {missing}" in recording.problems[0]
    assert recording.transactions["kind"][4:6].tolist() == [Kind.CLEAR, Kind.CLEAR]
    assert sizes(load(path, on_gap="continue")) == [1, 2, 3]
    with pytest.raises(FeedError, match=f"expected u = 8, got {missing}") as caught:
        load(path, on_gap="stop")
    assert (caught.value.line, caught.value.field) == (2, "u")


def test_deltas_before_the_first_snapshot_are_counted(tmp_path: Path) -> None:
    messages = [delta(5, 1), delta(6, 1), opening(), delta(8, 4)]
    recording = load(written(tmp_path / "feed", lines_of(*messages)))
    assert (sizes(recording), recording.gaps) == ([4], 0)
    assert recording.ignored == {"update without a snapshot": 2}
    path = written(tmp_path / "none", lines_of(opening(name="A"), delta(6, 1), delta(7, 1)))
    with pytest.raises(FeedError, match="no snapshot of BTCUSDT opens the 2 updates") as caught:
        load(path)
    assert caught.value.line == 2


def test_the_deepest_topic_is_read_unless_told(tmp_path: Path) -> None:
    messages = [
        opening(3, depth=50),
        opening(500, depth=200),
        delta(4, 1, depth=50),
        delta(501, 2, depth=200),
    ]
    path = written(tmp_path / "feed", lines_of(*messages))
    recording = load(path)
    assert (sizes(recording), recording.gaps) == ([2], 0)
    assert recording.ignored == {"orderbook.50": 1}
    assert recording.known_depth().levels == 200
    assert sizes(load(path, channel="orderbook.50")) == [1]
    with pytest.raises(ConfigError, match="must be a topic such as"):
        load(path, channel="books")


def test_level_1_is_a_check_of_the_deeper_book(tmp_path: Path) -> None:
    top = [message("snapshot", 1, [["1.5", "4"]], [["1.6", "2"]], depth=1, sequence=1008)]
    messages = [opening(), *top, delta(8, 4), *top, delta(9, 0)]
    recording = load(written(tmp_path / "feed", lines_of(*messages)))
    assert isinstance(recording.checks, DepthChecks)
    assert recording.checks.position.tolist() == [5]
    assert recording.checks.prices[0].tolist() == [[15_000], [16_000]]
    assert failing_checks(recording) == 0
    wrong = message("snapshot", 2, [["1.5", "5"]], [["1.6", "2"]], depth=1, sequence=1008)
    assert (
        failing_checks(load(written(tmp_path / "wrong", lines_of(opening(), delta(8, 4), wrong))))
        == 1
    )


def test_a_level_1_that_is_no_check_is_counted(tmp_path: Path) -> None:
    nameless = opening(9, depth=1).replace(',"seq":1009', "")
    messages = [opening(), delta(9, 5, depth=1), nameless, opening(10, depth=1)]
    recording = load(written(tmp_path / "feed", lines_of(*messages)))
    assert recording.ignored == {"orderbook.1": 2}
    assert len(recording) == 4


def test_level_1_alone_is_the_book(tmp_path: Path) -> None:
    first = message("snapshot", 5, [["1.5", "4"]], [["1.6", "2"]], depth=1)
    second = message("snapshot", 6, [["1.4", "4"]], [], depth=1)
    recording = load(written(tmp_path / "feed", lines_of(first, first, second)))
    assert recording.ignored == {"orderbook.1 known already": 1}
    assert recording.known_depth().levels == 1
    # A book is no check of itself.
    assert recording.checks is None


def test_trades_become_records_once(tmp_path: Path) -> None:
    identity = "20f43950-d8dd-5b31-9112-a178eb6023af"
    messages = [
        opening(),
        trade(),
        trade(),
        trade(i=identity, S="Sell", v="0.5"),
        trade(i="78", BT=True),
        trade(s="ETHUSDT", i="79"),
    ]
    path = written(tmp_path / "feed", lines_of(*messages))
    recording = load(path, trades=True, symbol="BTCUSDT")
    records = recording.transactions[recording.transactions["kind"] == Kind.TRADE]
    assert records[["id", "side", "price", "size"]].tolist() == [
        (77, 1, 15_000, 6),
        (uuid.UUID(identity).int >> 64, 0, 15_000, 1),
    ]
    assert recording.ignored == {"trade known already": 1, "block trade": 1, "other symbol": 1}
    assert load(path).ignored == {"publicTrade": 5}


def test_what_is_no_book_is_counted_by_name(tmp_path: Path) -> None:
    others = [
        '{"success":true,"ret_msg":"","conn_id":"x","op":"subscribe"}',
        '{"success":true,"ret_msg":"pong","conn_id":"x","op":"ping"}',
        '{"op":"pong","args":["1"],"conn_id":"x"}',
        '{"success":false,"ret_msg":"error:handler not found","op":"subscribe"}',
        '{"retCode":0,"result":{"list":[]}}',
        '{"topic":"tickers.BTCUSDT","type":"delta","ts":1,"data":{}}',
        '{"topic":"orderbook.rpi.BTCUSDT","type":"delta","ts":1,"data":{}}',
        '{"topic":"kline.5.BTCUSDT","ts":1,"data":[]}',
        "{}",
    ]
    recording = load(written(tmp_path / "feed", lines_of(*others, opening())))
    assert recording.ignored == {
        "subscribe": 1,
        "pong": 2,
        "error reply": 1,
        "REST answer": 1,
        "tickers": 1,
        "orderbook.rpi": 1,
        "kline": 1,
        "unrecognised object": 1,
    }


def test_a_message_without_a_time_takes_that_of_the_next(tmp_path: Path) -> None:
    timeless = opening().replace(f',"ts":{START}', "")
    lines = lines_of('{"topic":"kline.5.A","ts":"x"}', timeless, delta(8, 4, ts=START + 1))
    recording = load(written(tmp_path / "feed", lines, stamped=False))
    assert set(recording.transactions["ingress_ts_ns"].tolist()) == {(START + 1) * 10**6}
    assert recording.ignored == {"kline": 1}


def test_prices_of_any_scale_and_sizes_over_32_bits(tmp_path: Path) -> None:
    fine = message("snapshot", 7, [["0.00000001234", "98765432109876"]], [["0.00000001235", "1"]])
    recording = load(written(tmp_path / "feed", lines_of(fine)))
    (instrument,) = recording.instruments
    assert instrument.price_decimals == 11
    record = recording.transactions[1]
    assert (record["kind"], record["id"], record["price"]) == (Kind.SET_WIDE, 98765432109876, 1234)


BAD = [
    (message("snapshot", 9, [["1.7", "1"]], [["1.6", "1"]]), "b", "opens crossed"),
    (message("snapshot", 9, [["1.5", "0"]], [["1.6", "1"]]), "b[0][1]", "no empty levels"),
    (message("delta", 8, [["x", "1"]], []), "b[0][0]", "'x' is not a decimal number"),
    (message("delta", 8, [["1.5"]], []), "b[0]", "expected [price, size]"),
    (message("delta", 8, [], [["1.5", "-1"]]), "a[0][1]", "negative size"),
    (message("change", 8, [], []), "type", "neither 'snapshot' nor 'delta'"),
    (opening().replace('"s":"BTCUSDT"', '"s":"ETHUSDT"'), "s", "is not the topic's BTCUSDT"),
    (opening().replace('"u":7', '"u":"7"'), "u", "is not an integer"),
    (opening().replace('"u":7,', ""), "u", "is missing"),
    (opening()[:40], None, "is not JSON"),
    (trade(S="buy"), "S", "neither 'Buy' nor 'Sell'"),
    (trade(i="zz"), "i", "neither a number nor a UUID"),
    (trade(v="0"), "v", "a trade has a size"),
    ("[]", None, "expected a JSON object"),
]


@pytest.mark.parametrize(("bad", "field", "why"), BAD)
def test_a_bad_line_is_named_or_skipped(
    tmp_path: Path, bad: str, field: str | None, why: str
) -> None:
    path = written(tmp_path / "feed", lines_of(opening(), bad, delta(8, 4)))
    with pytest.raises(FeedError) as caught:
        load(path, "bybit", trades=True)
    assert (caught.value.line, caught.value.field) == (2, field)
    assert why in str(caught.value)
    recording = load(path, "bybit", trades=True, on_error="skip")
    assert (recording.skipped, sizes(recording)) == (1, [4])


def shown(side: list[Change]) -> list[list[str]]:
    return [[f"{price:f}", f"{size.normalize():f}"] for price, size in side]


def session_of(seed: int) -> tuple[list[tuple[int, str]], dict[tuple[str, int], Book], int]:
    """Messages of two symbols with faults, and what each book must be after each time."""
    chance = random.Random(seed)
    markets = {
        "BTCUSDT": VenueMarket(seed, tick="0.1", lot="0.001"),
        "PEPEUSDT": VenueMarket(seed + 1, tick="0.0000001", lot="100", mid=999),
    }
    ids = dict.fromkeys(markets, 100)
    sent: dict[str, Book | None] = dict.fromkeys(markets)
    # What a reader knows: None while it has lost the book.
    held: dict[str, Book | None] = dict.fromkeys(markets)
    lines: list[tuple[int, str]] = []
    truth: dict[tuple[str, int], Book] = {}
    gaps = 0
    sequence = 10**9
    empty: Book = ({}, {})
    for index in range(300):
        name = chance.choice(list(markets))
        market = markets[name]
        market.step()
        sequence += chance.randint(1, 9)
        top = market.top(50)
        before = sent[name]
        ids[name] += 1
        time = 10**18 + index * 10
        fault = chance.random()
        if before is None or fault < 0.04:
            if fault < 0.02 and before is not None:
                ids[name] = 1
            text = message(
                "snapshot",
                ids[name],
                shown(list(top[0].items())),
                shown(list(top[1].items())),
                name=name,
                sequence=sequence,
                reordered=chance.random() < 0.5,
            )
            held[name] = top
            lines.append((time, text))
        else:
            text = message(
                "delta",
                ids[name],
                shown(changes(before[0], top[0])),
                shown(changes(before[1], top[1])),
                name=name,
                sequence=sequence,
            )
            if fault < 0.07:
                # Lost. The next delta of the symbol shows it; a snapshot hides it.
                held[name] = None
            else:
                lines.append((time, text))
                if held[name] is None:
                    gaps += truth.get((name, -1)) is None
                    truth[name, -1] = empty
                else:
                    held[name] = top
        if held[name] is not None:
            truth.pop((name, -1), None)
        sent[name] = top
        truth[name, time] = held[name] or empty
        if lines and chance.random() < 0.2:
            lines.append((time + 1, lines[-1][1]))  # the second connection

            truth[name, time + 1] = truth[name, time]
        bid, ask = ([next(iter(side.items()))] for side in top)
        best = message(
            "snapshot", index, shown(bid), shown(ask), name=name, depth=1, sequence=sequence
        )
        lines.append((time + 2, best))
    for name in markets:
        truth.pop((name, -1), None)
    return lines, truth, gaps


@pytest.mark.parametrize("seed", range(6))
def test_generated_sessions_equal_books_of_plain_dictionaries(tmp_path: Path, seed: int) -> None:
    lines, truth, gaps = session_of(seed)
    path = written(tmp_path / "feed", lines)
    recording = load(path)
    assert recording.gaps == gaps
    assert require_equal(recording, truth) > 100
    assert recording.checks is not None
    assert len(recording.checks) > 50
    assert failing_checks(recording) == 0
    assert {each.name: each.price_decimals for each in recording.instruments} == {
        "BTCUSDT": 4,
        "PEPEUSDT": 7,
    }
