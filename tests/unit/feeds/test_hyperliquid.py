from __future__ import annotations

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.feeds.venue import (
    Book,
    Change,
    VenueMarket,
    failing_checks,
    require_equal,
    written,
)
from velox.core.records import Flags, Kind
from velox.errors import ConfigError, FeedError
from velox.feeds import load, recognise

START = 1_700_000_000_000  # ms
Level = dict[str, Any]


def level(price: str, size: str) -> Level:
    return {"px": price, "sz": size, "n": 2}


def message(channel: str, data: Any) -> str:
    return json.dumps({"channel": channel, "data": data}, separators=(",", ":"))


BIDS, ASKS = [level("1.4", "1"), level("1.2", "4")], [level("1.6", "2")]


def picture(time: int, bids: list[Level], asks: list[Level], **more: Any) -> str:
    data = {"coin": "BTC", "time": START + time, "levels": [bids, asks], **more}
    return message("l2Book", data)


def best(time: int, bid: Level | None, ask: Level | None, coin: str = "BTC") -> str:
    return message("bbo", {"coin": coin, "time": START + time, "bbo": [bid, ask]})


def trade(**more: Any) -> str:
    data = {"coin": "BTC", "side": "B", "px": "1.5", "sz": "3", "time": START, "tid": 77}
    return message("trades", [data | more])


def subscribed(**more: Any) -> str:
    subscription = {"type": "l2Book", "coin": "BTC", "nSigFigs": None, "mantissa": None, **more}
    return message("subscriptionResponse", {"method": "subscribe", "subscription": subscription})


def lines_of(*messages: str) -> list[tuple[int, str]]:
    return [(10**18 + index, each) for index, each in enumerate(messages)]


def test_each_message_replaces_the_book(tmp_path: Path) -> None:
    path = written(tmp_path / "feed", lines_of(picture(0, BIDS, ASKS), picture(1, [], ASKS)))
    assert recognise([path]) == "hyperliquid"
    recording = load(path)
    opens, last = int(Flags.SNAPSHOT), int(Flags.LAST)
    names = ["kind", "side", "price", "size", "flags", "ingress_ts_ns"]
    assert recording.transactions[names].tolist() == [
        (Kind.CLEAR, 0, 0, 0, opens, 10**18),
        (Kind.SET, 0, 14_000, 1, opens, 10**18),
        (Kind.SET, 0, 12_000, 4, opens, 10**18),
        (Kind.CLEAR, 1, 0, 0, opens, 10**18),
        (Kind.SET, 1, 16_000, 2, opens | last, 10**18),
        (Kind.CLEAR, 0, 0, 0, opens, 10**18 + 1),
        (Kind.CLEAR, 1, 0, 0, opens, 10**18 + 1),
        (Kind.SET, 1, 16_000, 2, opens | last, 10**18 + 1),
    ]
    assert recording.venue_ts_ns[[0, -1]].tolist() == [START * 10**6, (START + 1) * 10**6]
    assert recording.known_depth().levels == 20
    assert (recording.gaps, recording.ignored) == (0, {})
    bare = load(written(tmp_path / "bare", lines_of(picture(0, BIDS, ASKS)), stamped=False))
    assert set(bare.transactions["ingress_ts_ns"].tolist()) == {START * 10**6}


def test_a_message_that_is_known_or_older_is_ignored(tmp_path: Path) -> None:
    first, second = picture(0, BIDS, ASKS), picture(5, BIDS[1:], ASKS)
    messages = [first, second, second, first, picture(3, BIDS, ASKS), picture(5, BIDS, ASKS)]
    recording = load(written(tmp_path / "feed", lines_of(*messages)))
    assert recording.ignored == {"l2Book known already": 2, "l2Book older than the book": 1}
    assert len(recording) == 5 + 4 + 5


def test_the_best_levels_are_a_check_of_the_book_of_their_block(tmp_path: Path) -> None:
    messages = [
        best(0, BIDS[0], ASKS[0]),
        picture(0, BIDS, ASKS),
        best(1, level("1.5", "9"), None),
        picture(2, BIDS[1:], []),
        best(2, BIDS[1], None),
    ]
    recording = load(written(tmp_path / "feed", lines_of(*messages)))
    assert recording.checks is not None
    # The first is the book until a fuller picture comes.
    assert recording.checks.position.tolist() == [9, 12]
    assert failing_checks(recording) == 0
    wrong = lines_of(picture(0, BIDS, ASKS), best(0, BIDS[1], ASKS[0]))
    assert failing_checks(load(written(tmp_path / "wrong", wrong))) == 1


def test_the_fullest_channel_is_read_unless_told(tmp_path: Path) -> None:
    messages = [
        best(0, BIDS[0], ASKS[0]),
        picture(0, BIDS[:1], ASKS, fast=True),
        picture(1, BIDS, ASKS),
        picture(2, BIDS[:1], ASKS, fast=True),
        best(3, BIDS[0], ASKS[0]),
    ]
    path = written(tmp_path / "feed", lines_of(*messages))
    recording = load(path)
    assert recording.ignored == {"l2Book fast": 1}
    assert [int(each) for each in recording.known["levels"]] == [1, 5, 20]
    assert load(path, channel="l2Book").known["levels"].tolist() == [20]
    assert load(path, channel="l2Book fast").known["levels"].tolist() == [5, 5]
    only = load(path, channel="bbo")
    assert only.known["levels"].tolist() == [1, 1]
    # A book is no check of itself.
    assert only.checks is None
    assert only.ignored == {"l2Book": 1, "l2Book fast": 2}
    with pytest.raises(ConfigError, match="channel = 'books': must be one of l2Book"):
        load(path, channel="books")


def test_rounded_prices_are_no_levels(tmp_path: Path) -> None:
    rounded = [subscribed(nSigFigs=3), picture(0, BIDS, ASKS), best(0, BIDS[0], ASKS[0])]
    recording = load(written(tmp_path / "feed", lines_of(*rounded)))
    assert recording.known["levels"].tolist() == [1]
    assert recording.ignored == {"subscriptionResponse": 1, "l2Book of rounded prices": 1}
    with pytest.raises(FeedError, match="holds no messages of the channels l2Book"):
        load(written(tmp_path / "none", lines_of(*rounded[:2])))
    unsubscribed = subscribed(nSigFigs=3).replace('"subscribe"', '"unsubscribe"')
    exact = [*rounded[:2], unsubscribed, subscribed(), picture(1, BIDS, ASKS)]
    assert load(written(tmp_path / "exact", lines_of(*exact))).known["levels"].tolist() == [20]


def test_trades_become_records_once(tmp_path: Path) -> None:
    messages = [
        picture(0, BIDS, ASKS),
        trade(time=START - 60_000),
        trade(time=START - 60_000),
        trade(tid=78, side="A", sz="0.5"),
        trade(coin="@107"),
    ]
    path = written(tmp_path / "feed", lines_of(*messages))
    recording = load(path, trades=True, symbol="BTC")
    is_trade = recording.transactions["kind"] == Kind.TRADE
    assert recording.transactions[is_trade][["id", "side", "price", "size"]].tolist() == [
        (77, 1, 15_000, 6),
        (78, 0, 15_000, 1),
    ]
    assert recording.venue_ts_ns[is_trade].tolist() == [(START - 60_000) * 10**6, START * 10**6]
    assert recording.ignored == {"trade known already": 1, "other symbol": 1}
    assert load(path).ignored == {"trades": 4}


def test_what_is_no_book_is_counted_by_name(tmp_path: Path) -> None:
    others = [
        subscribed(),
        '{"channel":"pong"}',
        message("error", "Error parsing JSON"),
        message("allMids", {"mids": {"BTC": "1"}}),
        message("activeAssetCtx", {"coin": "BTC", "ctx": {}}),
        "{}",
    ]
    recording = load(written(tmp_path / "feed", lines_of(*others, picture(0, BIDS, ASKS))))
    assert recording.ignored == {
        "subscriptionResponse": 1,
        "pong": 1,
        "error reply": 1,
        "allMids": 1,
        "activeAssetCtx": 1,
        "unrecognised object": 1,
    }


BAD: list[tuple[str, str | None, str]] = [
    (picture(1, [level("1.7", "1")], ASKS), "levels[0]", "opens crossed"),
    (picture(1, [level("1.5", "0")], ASKS), "levels[0][0][1]", "no empty levels"),
    (picture(1, BIDS, [level("x", "1")]), "levels[1][0][0]", "'x' is not a decimal number"),
    (picture(1, [{"px": "1"}], ASKS), "sz", "is missing"),
    (picture(1, [["1", "2"]], ASKS), "levels[0][0]", "is not an object"),  # type: ignore[list-item]
    (message("l2Book", {"coin": "BTC", "time": 1, "levels": [[]]}), "levels", "bids and asks"),
    (message("l2Book", {"coin": "BTC", "time": 1, "levels": [[], {}]}), "levels[1]", "an array"),
    (picture(1, BIDS, ASKS).replace('"BTC"', "5"), "coin", "is not a name"),
    (picture(1, BIDS, ASKS).replace(f'"time":{START + 1}', '"time":"1"'), "time", "not an integer"),
    (picture(1, BIDS, ASKS)[:50], None, "is not JSON"),
    (best(1, {"px": "1"}, None), "sz", "is missing"),
    (trade(side="S"), "side", "neither 'A' nor 'B'"),
    (trade(tid=-1), "tid", "is not from 0"),
    (trade(sz="0"), "sz", "a trade has a size"),
]


@pytest.mark.parametrize(("bad", "field", "why"), BAD)
def test_a_bad_line_is_named_or_skipped(
    tmp_path: Path, bad: str, field: str | None, why: str
) -> None:
    lines = lines_of(picture(0, BIDS, ASKS), bad, picture(2, BIDS, []))
    path = written(tmp_path / "feed", lines)
    with pytest.raises(FeedError) as caught:
        load(path, "hyperliquid", trades=True)
    assert (caught.value.line, caught.value.field) == (2, field)
    assert why in str(caught.value)
    recording = load(path, "hyperliquid", trades=True, on_error="skip")
    assert (recording.skipped, len(recording)) == (1, 9)


def shown(side: list[Change]) -> list[Level]:
    return [level(f"{price.normalize():f}", f"{size.normalize():f}") for price, size in side]


@pytest.mark.parametrize("seed", range(6))
def test_generated_sessions_equal_books_of_plain_dictionaries(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    markets = {
        "BTC": VenueMarket(seed, tick="1", lot="0.00001", mid=90_000),
        "kPEPE": VenueMarket(seed + 1, tick="0.000001", lot="1", mid=9_000, levels=15),
    }
    lines: list[tuple[int, str]] = []
    truth: dict[tuple[str, int], Book] = {}
    blocks = 0
    for index in range(300):
        name, time = chance.choice(list(markets)), 10**18 + 10 * index
        markets[name].step()
        top = markets[name].top(20)
        bids, asks = (shown(list(side.items())) for side in top)
        block = {"coin": name, "time": START + index}
        message_of_block = message("l2Book", block | {"levels": [bids, asks]})
        is_lost = chance.random() < 0.1
        first = best(index, bids[0], asks[0], name)
        if chance.random() < 0.5 and (name, -1) in truth:
            lines.append((time - 1, first))
        if not is_lost:
            lines.append((time, message_of_block))
            truth[name, time] = truth[name, -1] = top
            lines.append((time + 1, first))
            blocks += 1
        if chance.random() < 0.1:
            lines.append((time + 2, chance.choice(lines)[1]))
    del truth["BTC", -1], truth["kPEPE", -1]
    recording = load(written(tmp_path / "feed", lines), channel="l2Book")
    assert require_equal(recording, truth) == len(truth) == blocks
    assert recording.checks is not None
    assert len(recording.checks) == blocks
    assert failing_checks(recording) == 0
    scales = {each.name: (each.price_decimals, each.lot_size) for each in recording.instruments}
    assert scales == {"BTC": (4, Decimal("0.00001")), "kPEPE": (6, Decimal(1))}
