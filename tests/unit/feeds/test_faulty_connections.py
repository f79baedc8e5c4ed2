"""Messages are lost, doubled and reordered: each book is then one that the venue had, or empty."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.feeds import test_bybit as bybit
from tests.unit.feeds import test_coinbase as coinbase
from tests.unit.feeds import test_hyperliquid as hyperliquid
from tests.unit.feeds import test_kraken as kraken
from tests.unit.feeds.venue import Book, VenueMarket, books_by_time, changes, written
from velox.feeds import load

NAMES = ("A", "B")
# Returns the text of a message: of which symbol, of which number, a snapshot or not, from which
# book to which, in which market.
Writer = Callable[[str, int, bool, Book, Book, VenueMarket], str]


def of_bybit(
    name: str, number: int, opens: bool, before: Book, now: Book, market: VenueMarket
) -> str:
    sides = now if opens else tuple(map(changes, before, now))
    rows = [bybit.shown(list(dict(side).items()) if opens else side) for side in sides]  # type: ignore[arg-type]
    kind = "snapshot" if opens else "delta"
    return bybit.message(kind, number + 7, rows[0], rows[1], name=name)


def of_kraken(
    name: str, number: int, opens: bool, before: Book, now: Book, market: VenueMarket
) -> str:
    places = (1, 3)
    whole = [kraken.texts(list(side.items()), places) for side in now]
    sent = whole
    if not opens:
        both = (market.bids, market.asks)
        sent = [
            kraken.texts(kraken.seen_by_a_client(market, *sides), places)
            for sides in zip(before, now, both, strict=True)
        ]
    return kraken.message(
        "snapshot" if opens else "update",
        sent[0],
        sent[1],
        kraken.checksum_of(whole[0], whole[1]),
        name=name,
        time=f"2023-10-06T17:35:55.{number:06}Z",
    )


def of_coinbase(
    name: str, number: int, opens: bool, before: Book, now: Book, market: VenueMarket
) -> str:
    sides = now if opens else tuple(map(changes, before, now))
    rows = [
        row
        for word, side in zip(("bid", "offer"), sides, strict=True)
        for row in coinbase.shown(word, list(dict(side).items()))
    ]
    event = coinbase.event("snapshot" if opens else "update", rows, name)
    time = f"2023-02-09T20:32:50.{number:09}Z"
    return coinbase.message(number + 1, "l2_data", event, time=time)


def of_hyperliquid(
    name: str, number: int, opens: bool, before: Book, now: Book, market: VenueMarket
) -> str:
    sides = [hyperliquid.shown(list(side.items())) for side in now]
    return hyperliquid.message(
        "l2Book", {"coin": name, "time": hyperliquid.START + number, "levels": sides}
    )


# How messages are written, the levels of a book, and whether symbols share one numbering.
VENUES: dict[str, tuple[Writer, int | None, bool]] = {
    "bybit": (of_bybit, 50, False),
    "kraken": (of_kraken, 10, False),
    "coinbase": (of_coinbase, None, True),
    "hyperliquid": (of_hyperliquid, 20, False),
}


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("format", VENUES)
def test_a_book_is_one_that_the_venue_had_or_empty(tmp_path: Path, format: str, seed: int) -> None:
    write, depth, together = VENUES[format]
    chance = random.Random(seed)
    markets = {name: VenueMarket(seed + index) for index, name in enumerate(NAMES)}
    numbers = dict.fromkeys(NAMES, 0)
    before: dict[str, Book] = {}
    had: dict[str, list[Book]] = {name: [({}, {})] for name in NAMES}
    messages: list[str] = []
    for _ in range(250):
        name = chance.choice(NAMES)
        markets[name].step()
        now = markets[name].top(depth)
        opens = name not in before or chance.random() < 0.06
        number = sum(numbers.values()) if together else numbers[name]
        messages.append(write(name, number, opens, before.get(name, ({}, {})), now, markets[name]))
        numbers[name] += 1
        before[name] = now
        had[name].append(now)
    delivered: list[str] = []
    for message in messages:
        fault = chance.random()
        if fault < 0.03:
            continue
        if fault < 0.06 and delivered:
            delivered.insert(-1, message)  # before the one that came before it
        else:
            delivered.append(message)
        if fault > 0.9:
            delivered.append(chance.choice(delivered[-20:]))
    path = written(
        tmp_path / "feed", [(10**18 + index, each) for index, each in enumerate(delivered)]
    )
    recording = load(path, format)
    books = books_by_time(recording)
    assert len(books) > 40
    assert sum(any(book) for book in books.values()) > 20
    for (name, time), book in books.items():
        assert book in had[name], (name, time)
