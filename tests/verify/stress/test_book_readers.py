"""One thread writes as fast as it can, others read all the time: every read must be of one state.

The flow is planted so that a reader can tell: at every event the best bid and ask hold the same
quantity, their prices are bound to it, and so are all levels behind them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.support import rounds
from velox.core.order_book import OrderBook
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, Side

BASE = 100_000
STEPS = 1000  # different states
DEPTH = 5  # levels a side that one event sets
LAPS = 25  # through all states in one call of apply
WRITES = rounds(40)  # calls of apply; after each, its thread wants the GIL back from the readers


def planted_flow() -> Any:
    """Event `s` makes both sides five levels of quantity ``s + 1``, around a centre that moves.

    A record each: clear the bids, clear the asks, then the levels; LAST on the final one.
    """
    events = []
    for step in range(STEPS):
        event = np.zeros(2 + 2 * DEPTH, TRANSACTION_DTYPE)
        event["kind"][:2] = Kind.CLEAR
        event["kind"][2:] = Kind.SET
        event["side"][1] = Side.ASK
        event["side"][2 + DEPTH :] = Side.ASK
        centre = BASE + 3 * (step if step < STEPS // 2 else STEPS - step)
        event["price"][2 : 2 + DEPTH] = centre - 1 - np.arange(DEPTH)
        event["price"][2 + DEPTH :] = centre + 1 + np.arange(DEPTH)
        event["size"][2:] = step + 1
        event["flags"][-1] = Flags.LAST
        events.append(event)
    return np.tile(np.concatenate(events), LAPS)


def run(book: OrderBook, read: Callable[[], None], flow: Any, readers: int = 2) -> None:
    """Write until the flow has been applied often; meanwhile `read` in `readers` threads."""
    book.apply(flow)
    stop = threading.Event()
    failures: list[BaseException] = []
    reads = [0] * readers

    def reader(number: int) -> None:
        try:
            while not stop.is_set() or reads[number] < 20:
                read()
                reads[number] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=reader, args=(number,)) for number in range(readers)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(WRITES):
            assert book.apply(flow).applied == len(flow)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failures:
        raise failures[0]
    assert min(reads) >= 20


@pytest.mark.parametrize("levels", [64, 1024])
def test_no_read_of_the_top_is_torn(levels: int) -> None:
    book = OrderBook(levels, publish="event")

    def read() -> None:
        top = book.top()
        assert top.bid_price is not None
        assert top.ask_price is not None
        assert top.bid_quantity == top.ask_quantity
        assert top.ask_price - top.bid_price == 2
        step = top.bid_quantity - 1
        assert top.bid_price + 1 == BASE + 3 * (step if step < STEPS // 2 else STEPS - step)

    run(book, read, planted_flow())


@pytest.mark.parametrize("depth", [1, DEPTH, 64])
def test_no_read_of_the_depth_is_torn(depth: int) -> None:
    book = OrderBook(64, publish="event")

    def read() -> None:
        rows = book.depth(depth, timeout=60)
        held = min(depth, DEPTH)
        step = int(rows["bid_quantity"][0]) - 1
        centre = BASE + 3 * (step if step < STEPS // 2 else STEPS - step)
        assert (rows["bid_quantity"][:held] == step + 1).all()
        assert (rows["ask_quantity"][:held] == step + 1).all()
        assert (rows["bid_price"][:held] == centre - 1 - np.arange(held)).all()
        assert (rows["ask_price"][:held] == centre + 1 + np.arange(held)).all()
        for name in rows.dtype.names or ():
            assert not rows[name][held:].any()

    run(book, read, planted_flow())
    assert book.statistics().mailbox_fills > 0


def test_single_records_never_show_half_an_update() -> None:
    """A bid and an ask take turns, so that their quantities differ by one at most."""
    flow = np.zeros(500_000, TRANSACTION_DTYPE)
    flow["kind"] = Kind.SET
    flow["side"][1::2] = Side.ASK
    flow["price"] = BASE + np.arange(len(flow)) % 2
    flow["size"] = np.arange(2, len(flow) + 2) // 2
    book = OrderBook()

    def read() -> None:
        top = book.top()
        assert top.bid_price == BASE
        assert top.ask_price == BASE + 1
        assert top.bid_quantity - top.ask_quantity in {0, 1, 1 - len(flow) // 2}
        row = book.depth(1, timeout=60)[0]
        assert row["bid_price"] == BASE
        assert row["bid_quantity"] - row["ask_quantity"] in {0, 1, 1 - len(flow) // 2}

    run(book, read, flow)


def test_every_reader_gets_a_whole_snapshot_between_two_writes() -> None:
    book = OrderBook(64, publish="event")

    def read() -> None:
        levels = book.snapshot(timeout=60)[2:]
        assert len(levels) == 2 * DEPTH
        assert len(set(levels["size"].tolist())) == 1
        assert book.quantity(Side.BID, BASE - 1_000, timeout=60) == 0

    run(book, read, planted_flow())


def test_a_long_copy_gives_way_to_the_writer_and_is_whole_all_the_same() -> None:
    """Bids by the thousand, most of them cold; each write sets one bid and one ask alike."""
    book = OrderBook(64, publish="event")
    levels = np.zeros(3000, TRANSACTION_DTYPE)
    levels["kind"], levels["size"] = Kind.SET, 1
    levels["price"] = BASE - 1 - np.random.default_rng(3).permutation(len(levels))
    book.apply(levels)
    pair = np.zeros(2, TRANSACTION_DTYPE)
    pair["kind"], pair["side"], pair["price"] = Kind.SET, [0, 1], [BASE, BASE + 1]
    pair["size"] = 1
    pair["flags"][1] = Flags.LAST
    book.apply(pair)
    stop = threading.Event()
    failures: list[BaseException] = []
    reads = 0

    def read() -> None:
        nonlocal reads
        try:
            while not stop.is_set() or reads < 20:
                rows = book.depth(4000, timeout=60)
                assert rows["bid_quantity"][0] == rows["ask_quantity"][0] >= 1
                assert rows["bid_price"][:3001].tolist() == list(range(BASE, BASE - 3001, -1))
                reads += 1
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    for size in range(2, 2 + rounds(5000)):
        pair["size"] = size
        assert book.apply(pair).applied == 2
    stop.set()
    thread.join()
    if failures:
        raise failures[0]
