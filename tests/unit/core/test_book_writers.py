"""OrderBook with several writers: the same face over levels that any thread may change."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from tests.support import MARKET_KINDS
from velox.core.order_book import Books, OrderBook
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, Rejection, Side
from velox.errors import BookError, RejectedError

BID, ASK = Side.BID, Side.ASK


def shared(**options: Any) -> OrderBook:
    defaults: dict[str, Any] = {"levels": 64, "tick_size": 10, "base_price": 1000, "writers": "n"}
    return OrderBook(**{**defaults, **options})


# Two tiers of bitmap, three and four.
@pytest.mark.parametrize("levels", [64, 2048, 65536])
def test_a_shared_book_answers_as_a_book_of_one_writer_does(levels: int) -> None:
    several = shared(levels=levels, lot_size=Decimal("0.01"))
    single = OrderBook(levels, 10, lot_size=Decimal("0.01"))
    generator = np.random.default_rng(7)
    flow = np.zeros(5000, TRANSACTION_DTYPE)
    flow["kind"] = generator.choice(MARKET_KINDS, len(flow))
    flow["side"] = generator.integers(0, 3, len(flow))
    # Both ends of the window and its middle, so that every tier is crossed.
    ticks = 100 + generator.choice([0, levels // 2, levels - 16], len(flow))
    flow["price"] = (ticks + generator.integers(0, 16, len(flow))) * 10 + (
        generator.random(len(flow)) < 0.1
    )
    flow["size"] = generator.integers(0, 9, len(flow))
    flow["id"] = generator.integers(0, 2**40, len(flow))
    for begin in range(0, len(flow), 100):
        part = flow[begin : begin + 100]
        statuses = np.empty((2, len(part)), np.uint8)
        assert several.apply(part, statuses[0]) == single.apply(part, statuses[1])
        assert statuses[0].tolist() == statuses[1].tolist()
        assert several.top() == single.top()
        assert several.depth(70).tobytes() == single.depth(70).tobytes()
        assert several.snapshot().tobytes() == single.snapshot().tobytes()
        assert several.vwap(ASK, 5) == single.vwap(ASK, 5)
        assert len(several) == len(single)
    assert several.statistics().applied == single.statistics().applied
    assert several.statistics().crossed == single.statistics().crossed


@pytest.mark.parametrize("levels", [64, 2048, 65536])
@pytest.mark.parametrize("writers", [1, "n"])
def test_a_record_that_meets_the_other_side_is_counted_and_no_other(
    levels: int, writers: int | str
) -> None:
    book = shared(levels=levels, writers=writers)
    generator = np.random.default_rng(8)
    flow = np.zeros(2000, TRANSACTION_DTYPE)
    flow["kind"] = generator.choice([Kind.ADD, Kind.SET, Kind.CANCEL, Kind.DELETE], len(flow))
    flow["side"] = generator.integers(0, 2, len(flow))
    ticks = 100 + generator.choice([0, 32, levels // 2, levels - 8], len(flow))
    flow["price"] = (ticks + generator.integers(0, 8, len(flow))) * 10
    flow["size"] = generator.integers(1, 4, len(flow))
    expected = 0
    for index in range(len(flow)):
        price, side, kind = (int(flow[field][index]) for field in ("price", "side", "kind"))
        other = book.best_ask if side == BID else book.best_bid
        meets = other is not None and (price >= other if side == BID else price <= other)
        applied = book.apply(flow[index : index + 1]).applied
        expected += applied and meets and kind in (Kind.ADD, Kind.SET)
        assert book.statistics().crossed == expected


def test_a_fixed_window_refuses_what_lies_outside_it() -> None:
    book = shared()
    book.add(BID, 1000, 1)
    book.add(ASK, 1630, 1)
    for price in (990, 1640):
        with pytest.raises(RejectedError) as refusal:
            book.add(BID, price, 1)
        assert refusal.value.reason is Rejection.OUT_OF_WINDOW
    assert book.top() == (1000, 1, 1630, 1)
    assert (book.writers, book.quantity(BID, 1000), book.quantity(BID, 5000)) == ("n", 1, 0)


def test_crossing_is_counted() -> None:
    book = shared()
    book.add(ASK, 1100, 1)
    book.add(BID, 1100, 1)
    book.add(BID, 1090, 1)
    assert book.statistics().crossed == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base_price": None}, "base_price = None"),
        ({"base_price": 1005}, "base_price = 1005"),
        ({"base_price": 2**63 - 8}, "base_price = 9223372036854775800"),
        ({"on_cross": "match"}, "on_cross = 'match'"),
        ({"publish": "event"}, "publish = 'event'"),
        ({"writers": 0}, "writers = 0"),
        ({"writers": "two"}, "writers = 'two'"),
    ],
)
def test_misuse_names_the_field_and_the_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BookError) as refusal:
        shared(**options)
    assert message in str(refusal.value)


def test_a_snapshot_of_a_shared_book_loads_into_any_book() -> None:
    book = shared()
    for price in range(1000, 1640, 30):
        book.set(BID, price, price * 2**24)
        book.set(ASK, price, price)
    snapshot = book.snapshot()
    assert snapshot["flags"][-1] == Flags.SNAPSHOT | Flags.LAST
    for other in (shared(), OrderBook(64, 10)):
        other.load(snapshot)
        assert other.snapshot().tobytes() == snapshot.tobytes()


def test_writers_on_two_threads_lose_nothing() -> None:
    book = shared(market=4)
    books = Books([book, OrderBook(market=5)])
    flow = np.zeros(20_000, TRANSACTION_DTYPE)
    flow["market"], flow["size"], flow["price"] = 4, 1, 1000 + 10 * (np.arange(len(flow)) % 64)
    left: list[int] = []

    def write() -> None:
        rest = flow
        while len(rest):
            statuses = np.empty(len(rest), np.uint8)
            result = book.apply(rest, statuses)
            assert not result.rejected
            rest = rest[statuses != 0]
        left.append(len(rest))

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert left == [0, 0, 0]
    assert book.depth(64)["bid_quantity"].sum() == 3 * len(flow)
    assert books[4].statistics().applied == 3 * len(flow)
