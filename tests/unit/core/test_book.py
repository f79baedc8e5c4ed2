"""OrderBook and Books: each test checks one documented property."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from tests.support import refused
from velox.core.instrument import Instrument
from velox.core.order_book import DEPTH_DTYPE, ApplyResult, Books, BookTop, OrderBook
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, Rejection, Side
from velox.errors import BookError, RecordError, RejectedError, UnknownMarketError

BID, ASK = Side.BID, Side.ASK
HIGHEST = 2**63 - 1


def records(*rows: tuple[int, int, int, int], market: int = 0, last: bool = False) -> Any:
    """Transactions from (kind, side, price, size)."""
    array = np.zeros(len(rows), TRANSACTION_DTYPE)
    for record, (kind, side, price, size) in zip(array, rows, strict=True):
        record["kind"], record["side"], record["price"], record["size"] = kind, side, price, size
    array["market"] = market
    if last:
        array["flags"][-1] = Flags.LAST
    return array


def test_an_empty_book_has_no_prices() -> None:
    book = OrderBook()
    assert book.top() == BookTop(None, 0, None, 0)
    assert (book.best_bid, book.best_ask, book.spread, book.mid, book.microprice) == (None,) * 5
    assert (book.best_bid_quantity, book.best_ask_quantity, book.imbalance) == (0, 0, 0.0)
    assert len(book) == 0
    assert book
    assert not book.depth(5)["bid_price"].any()


def test_the_best_ask_moves_as_the_best_bid_does() -> None:
    book = OrderBook()
    for price in (105, 103, 104):
        book.add(ASK, price, 1)
    for price in (95, 97, 96):
        book.add(BID, price, 2)
    assert book.top() == (97, 2, 103, 1)
    book.delete(ASK, 103)
    book.execute(BID, 97, 2)
    assert book.top() == (96, 2, 104, 1)


def test_analytics_come_from_the_best_levels() -> None:
    book = OrderBook(tick_size=100)
    book.add(BID, 1_000_000, 30)
    book.add(ASK, 1_000_400, 10)
    assert book.spread == 400
    assert book.mid == 1_000_200.0
    assert book.microprice == 1_000_300.0
    assert book.imbalance == 0.5
    book.clear(ASK)
    assert book.top().ask_price is None
    assert book.imbalance == 1.0
    book.clear()
    book.add(ASK, 1_000_400, 10)
    assert book.imbalance == -1.0


def test_prices_at_the_end_of_64_bits_do_not_wrap() -> None:
    book = OrderBook(64)
    for price in (1, HIGHEST, HIGHEST - 63, HIGHEST - 64, 2):
        book.set(ASK, price, HIGHEST)
        book.set(BID, price, HIGHEST)
    assert book.depth(5)["ask_price"].tolist() == [1, 2, HIGHEST - 64, HIGHEST - 63, HIGHEST]
    assert book.depth(5)["bid_price"].tolist() == [HIGHEST, HIGHEST - 63, HIGHEST - 64, 2, 1]
    assert book.mid == pytest.approx(2.0**62)
    assert book.imbalance == 0.0
    assert book.microprice == pytest.approx(2.0**62)
    assert book.vwap(BID, HIGHEST) == float(HIGHEST)
    for price in (1, HIGHEST, HIGHEST - 63, HIGHEST - 64, 2):
        book.delete(ASK, price)
    assert book.best_ask is None


@pytest.mark.parametrize("tick_size", [1, 2, 3, 7, 10, 96, 100, 12_345, 2**40, 3 * 2**61])
def test_only_multiples_of_the_tick_are_on_the_grid(tick_size: int) -> None:
    book = OrderBook(tick_size=tick_size)
    top = HIGHEST // tick_size
    for tick in {1, min(2, top), top // 2 or 1, max(top - 1, 1), top}:
        price = tick * tick_size
        book.set(BID, price, 5)
        assert book.quantity(BID, price) == 5
        for near in {price - 1, price + 1, price + tick_size // 2} - {0}:
            if near % tick_size and near <= HIGHEST:
                with refused(RejectedError, reason=Rejection.OFF_TICK):
                    book.set(BID, near, 5)
                with pytest.raises(BookError, match="not a multiple of tick_size"):
                    book.quantity(BID, near)


@pytest.mark.parametrize(
    ("kind", "side", "price", "size", "reason"),
    [
        (8, 7, 0, 0, Rejection.KIND),
        (Kind.ADD, 2, 0, 0, Rejection.SIDE),
        (Kind.TRADE, 2, 0, 0, Rejection.SIDE),
        (Kind.ADD, 0, 0, 0, Rejection.PRICE),
        (Kind.SET, 0, -10, 0, Rejection.PRICE),
        (Kind.ADD, 0, 15, 0, Rejection.OFF_TICK),
        (Kind.ADD, 0, 10, 0, Rejection.SIZE),
        (Kind.CANCEL, 0, 10, 0, Rejection.SIZE),
        (Kind.EXECUTE, 0, 10, 0, Rejection.SIZE),
        (Kind.CANCEL, 0, 10, 1, Rejection.UNDERFLOW),
        (Kind.EXECUTE, 0, 20, 6, Rejection.UNDERFLOW),
        (Kind.ADD, 0, 30, 1, Rejection.OVERFLOW),
    ],
)
def test_a_rejection_names_its_first_reason_and_changes_nothing(
    kind: int, side: int, price: int, size: int, reason: Rejection
) -> None:
    book = OrderBook(tick_size=10)
    book.set(BID, 20, 5)
    book.set(BID, 30, HIGHEST)
    before = book.snapshot().tobytes()
    result = book.apply(records((kind, side, price, size)))
    assert result == (0, {reason.name.lower(): 1}, 0, 0)
    assert book.snapshot().tobytes() == before
    assert book.statistics().rejected == 1


def test_a_record_of_another_market_is_refused_after_kind_and_side() -> None:
    book = OrderBook(market=3)
    assert book.apply(records((0, 0, 100, 1))).rejected == {"market": 1}
    assert book.apply(records((9, 0, 100, 1))).rejected == {"kind": 1}
    assert book.apply(records((0, 9, 100, 1))).rejected == {"side": 1}
    assert book.apply(records((0, 0, 100, 1), market=3)).applied == 1


def test_a_wide_set_takes_its_quantity_from_the_id() -> None:
    book = OrderBook()
    wide = records((Kind.SET_WIDE, 0, 100, 7))
    wide["id"] = 2**40
    assert book.apply(wide).applied == 1
    assert book.quantity(BID, 100) == 2**40
    wide["id"] = 2**63
    assert book.apply(wide).rejected == {"overflow": 1}
    assert book.quantity(BID, 100) == 2**40


@pytest.mark.parametrize("tick_size", [1, 2, 3, 100, 2**62, HIGHEST])
@pytest.mark.parametrize("writers", [1, 2])
def test_no_price_below_one_is_on_any_grid(writers: int, tick_size: int) -> None:
    if writers == 1:
        book = OrderBook(64, tick_size)
    else:
        # A window of 64 levels has to lie below 2**63.
        tick_size = min(tick_size, 2**56)
        book = OrderBook(64, tick_size, base_price=tick_size, writers=2)
    statuses = np.empty(1, np.uint8)
    for price in (0, -1, -tick_size, max(-64 * tick_size, -HIGHEST), -HIGHEST, -HIGHEST - 1):
        book.apply(records((Kind.ADD, BID, price, 1)), statuses)
        assert statuses.tolist() == [Rejection.PRICE]


def test_clear_and_trade_ignore_the_price() -> None:
    book = OrderBook(tick_size=10)
    book.add(BID, 100, 1)
    book.add(ASK, 110, 1)
    assert book.apply(records((Kind.TRADE, 0, -3, 0), (Kind.CLEAR, 0, 3, 0))).applied == 2
    assert book.top() == (None, 0, 110, 1)


def test_deleting_what_is_not_there_is_applied() -> None:
    book = OrderBook()
    deletes = records((Kind.DELETE, 0, 100, 0), (Kind.SET, 1, 2**40, 0))
    assert book.apply(deletes) == ApplyResult(2, {}, None, 0)
    assert len(book) == 0


def test_apply_goes_on_behind_a_rejection_and_says_which() -> None:
    book = OrderBook(tick_size=10)
    statuses = np.full(4, 99, np.uint8)
    result = book.apply(
        records((0, 0, 100, 1), (0, 0, 105, 1), (0, 0, 0, 1), (0, 0, 110, 1)), statuses
    )
    assert result == (2, {"price": 1, "off_tick": 1}, 1, 0)
    assert statuses.tolist() == [0, Rejection.OFF_TICK, Rejection.PRICE, 0]
    assert book.best_bid == 110


def test_a_full_cold_store_refuses_and_forgets_nothing() -> None:
    book = OrderBook(64, cold_levels=2)
    for price in (1000, 1100, 1200):
        book.add(ASK, price, 1)
    before = book.snapshot().tobytes()
    with pytest.raises(RejectedError) as refusal:
        book.add(ASK, 1300, 1)
    assert refusal.value.reason is Rejection.BOOK_FULL
    with refused(RejectedError, reason=Rejection.BOOK_FULL):
        book.add(ASK, 900, 1)
    assert book.snapshot().tobytes() == before
    book.add(ASK, 1200, 4)
    book.delete(ASK, 1100)
    book.add(ASK, 900, 1)
    assert book.depth(4)["ask_price"].tolist() == [900, 1000, 1200, 0]


def test_the_window_gives_up_its_room_ahead_before_it_refuses() -> None:
    """Whether there is room depends on the levels, not on where the window came to lie."""
    book = OrderBook(64, cold_levels=0)
    book.add(ASK, 1000, 1)
    book.add(ASK, 1063, 1)
    with refused(RejectedError, reason=Rejection.BOOK_FULL):
        book.add(ASK, 1064, 1)
    with refused(RejectedError, reason=Rejection.BOOK_FULL):
        book.add(ASK, 999, 1)
    book.delete(ASK, 1063)
    book.add(ASK, 999, 1)
    assert book.depth(2)["ask_price"].tolist() == [999, 1000]


def test_count_lets_the_book_cross_and_counts_it() -> None:
    book = OrderBook()
    book.add(ASK, 100, 1)
    book.add(BID, 100, 1)
    assert book.top() == (100, 1, 100, 1)
    assert book.statistics().crossed == 1
    book.delete(BID, 100)
    book.add(BID, 99, 1)
    assert book.statistics().crossed == 1


def test_reject_keeps_the_book_from_crossing() -> None:
    book = OrderBook(on_cross="reject")
    book.add(ASK, 100, 1)
    with pytest.raises(RejectedError) as refusal:
        book.add(BID, 100, 1)
    assert refusal.value.reason is Rejection.CROSSED
    book.add(BID, 99, 1)
    with refused(RejectedError, reason=Rejection.CROSSED):
        book.set(ASK, 98, 1)
    assert book.top() == (99, 1, 100, 1)


def test_uncross_lets_the_newest_side_win() -> None:
    book = OrderBook(64, on_cross="uncross")
    for price in (100, 101, 300):
        book.add(ASK, price, 1)
    book.add(BID, 200, 5)
    assert book.top() == (200, 5, 300, 1)
    assert book.statistics().uncrossed == 2
    assert len(book) == 2


def test_match_trades_best_first_and_lets_the_rest_rest() -> None:
    book = OrderBook(64, on_cross="match")
    for price, size in ((100, 3), (101, 4), (300, 5)):
        book.add(ASK, price, size)
    book.add(BID, 101, 5)
    assert book.top() == (None, 0, 101, 2)
    book.add(BID, 200, 5)
    assert book.top() == (200, 3, 300, 5)
    assert book.statistics().matched == 7
    book.set(ASK, 150, 1)
    assert book.top() == (None, 0, 150, 1)
    assert book.statistics().uncrossed == 1


def test_an_order_that_trades_in_full_needs_no_room_and_moves_no_window() -> None:
    book = OrderBook(64, on_cross="match", cold_levels=0)
    book.add(BID, 100, 1)
    book.add(ASK, 500, 5)
    book.add(BID, 500, 5)
    assert book.top() == (100, 1, None, 0)
    assert book.quantity(BID, 100) == 1
    book.add(ASK, 500, 5)
    with refused(RejectedError, reason=Rejection.BOOK_FULL):
        book.add(BID, 500, 6)
    assert book.top() == (100, 1, 500, 5)


def test_events_are_published_whole() -> None:
    book = OrderBook(publish="event")
    book.apply(records((0, 0, 100, 1), (0, 0, 101, 1), (0, 1, 105, 1), last=True))
    assert book.statistics().published == 1
    book.apply(records((0, 0, 102, 1)))
    assert book.best_bid == 102
    each = OrderBook()
    each.apply(records((0, 0, 100, 1), (0, 0, 101, 1), (0, 1, 105, 1), last=True))
    assert each.statistics().published == 3


def test_only_changes_of_the_best_are_published() -> None:
    book = OrderBook()
    book.apply(records((0, 0, 100, 1), (0, 0, 99, 1), (0, 0, 98, 1), (3, 0, 99, 0)))
    assert book.statistics().published == 1


def test_depth_is_best_first_through_the_cold_store() -> None:
    book = OrderBook(64)
    for price in (100, 5000, 130, 9000, 400):
        book.add(ASK, price, price)
    depth = book.depth(6)
    assert depth.dtype == DEPTH_DTYPE
    assert depth.shape == (6,)
    assert depth["ask_price"].tolist() == [100, 130, 400, 5000, 9000, 0]
    assert depth["ask_quantity"].tolist() == [100, 130, 400, 5000, 9000, 0]
    assert book.statistics().cold_levels == 3


def test_vwap_walks_the_levels_and_says_none_when_they_run_out() -> None:
    book = OrderBook(64, depth_capacity=1)
    book.add(BID, 1000, 1)
    book.add(BID, 990, 2)
    book.add(BID, 100, 1)
    assert book.vwap(BID, 1) == 1000.0
    assert book.vwap(BID, 2) == 995.0
    assert book.vwap(BID, 4) == 770.0
    assert book.vwap(BID, 5) is None
    assert book.vwap(ASK, 1) is None


def test_a_snapshot_rebuilds_the_book() -> None:
    book = OrderBook(64, market=9)
    for price in range(1000, 2000, 7):
        book.set(ASK, price, price)
        book.set(BID, price - 990, price * 2**30)
    snapshot = book.snapshot()
    assert snapshot["kind"][:2].tolist() == [Kind.CLEAR] * 2
    assert (snapshot["flags"] & Flags.SNAPSHOT).all()
    assert np.flatnonzero(snapshot["flags"] & Flags.LAST).tolist() == [len(snapshot) - 1]
    assert set(snapshot["kind"][2:].tolist()) == {Kind.SET, Kind.SET_WIDE}
    other = OrderBook(256, market=9)
    other.add(BID, 5, 5)
    other.load(snapshot)
    assert other.snapshot().tobytes() == snapshot.tobytes()
    assert OrderBook().snapshot()["flags"].tolist() == [Flags.SNAPSHOT, Flags.SNAPSHOT | Flags.LAST]


def test_loading_a_refused_level_says_which() -> None:
    book = OrderBook(tick_size=10)
    with pytest.raises(RejectedError, match=r"snapshot\[1\].*OFF_TICK"):
        book.load(records((3, 0, 100, 1), (3, 0, 105, 1)))


def test_books_route_by_market() -> None:
    own = OrderBook(market=200, name="own")
    books = Books([Instrument(name="a", market=7, tick_size=10), own])
    assert list(books) == [7, 200]
    assert books[200] is own
    assert (len(books), 7 in books, 8 in books) == (2, True, False)
    assert [book.name for book in books.values()] == ["a", "own"]
    assert books.get(8) is None
    for absent in (8, "own", [7]):
        with refused(UnknownMarketError, field="market", value=absent) as raised:
            books[absent]  # type: ignore[index]
        assert isinstance(raised.value, KeyError)
        assert "there are books of 7, 200" in str(raised.value)
    mixed = np.concatenate([
        records((0, 0, 100, 1), (0, 0, 101, 1), market=7),
        records((0, 0, 101, 2), market=200),
        records((0, 0, 100, 1), (9, 0, 1, 1), (0, 9, 1, 1), market=8),
        records((0, 1, 110, 4), market=7),
    ])  # fmt: skip
    statuses = np.empty(len(mixed), np.uint8)
    result = books.apply(mixed, statuses)
    assert result == (3, {"kind": 1, "side": 1, "market": 1, "off_tick": 1}, 1, 0)
    assert statuses.tolist() == [0, Rejection.OFF_TICK, 0, Rejection.MARKET, 1, 2, 0]
    assert books[7].top() == (100, 1, 110, 4)
    assert own.top() == (101, 2, None, 0)


def test_books_refuse_two_of_one_market() -> None:
    with pytest.raises(BookError, match="'a' and 'b' both have market = 1"):
        Books([Instrument(name="a", market=1), Instrument(name="b", market=1)])
    with pytest.raises(BookError, match="neither an Instrument nor an OrderBook"):
        Books([3])  # type: ignore[list-item]


def test_a_second_writer_is_refused() -> None:
    """One of two threads that never stop writing must find the other at it."""
    book = OrderBook()
    flow = records(*[(3, 0, 100 + n % 50, n % 7) for n in range(20_000)])
    refused = threading.Event()
    refusals: list[str] = []

    def write() -> None:
        while not refused.is_set():
            try:
                book.apply(flow)
            except BookError as error:
                refusals.append(str(error))
                refused.set()

    threads = [threading.Thread(target=write) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("another thread is writing the book" in refusal for refusal in refusals)
    assert book.apply(flow).applied == len(flow)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": 1000}, "levels = 1000"),
        ({"levels": 32}, "levels = 32"),
        ({"levels": 1 << 19}, "levels = 524288"),
        ({"levels": 64.0}, "levels = 64.0: must be an integer"),
        ({"tick_size": 0}, "tick_size = 0"),
        ({"tick_size": 10, "base_price": 15}, "base_price = 15: not a multiple of tick_size = 10"),
        ({"base_price": -1}, "base_price = -1"),
        ({"lot_size": 1}, "lot_size = 1: must be a Decimal"),
        ({"lot_size": Decimal("1E-40")}, "lot_size = Decimal('1E-40')"),
        ({"lot_size": Decimal("NaN")}, "lot_size = Decimal('NaN')"),
        ({"on_cross": "explode"}, "on_cross = 'explode'"),
        ({"publish": "never"}, "publish = 'never'"),
        ({"cold_levels": -1}, "cold_levels = -1"),
        ({"depth_capacity": 0}, "depth_capacity = 0"),
        ({"market": 256}, "market = 256"),
    ],
)
def test_misuse_names_the_field_and_the_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BookError) as refusal:
        OrderBook(**options)
    assert message in str(refusal.value)


def test_wrong_arguments_are_typed_errors() -> None:
    book = OrderBook()
    with pytest.raises(RecordError, match="TRANSACTION_DTYPE"):
        book.apply(np.zeros(3))  # type: ignore[arg-type]
    with refused(RecordError, field="statuses"):
        book.apply(records((0, 0, 1, 1)), np.zeros(2, np.uint8))
    with refused(BookError, field="side", value=2):
        book.add(2, 100, 1)
    with refused(BookError, field="size", value=-1):
        book.add(0, 100, -1)
    with refused(BookError, field="size", value=4294967296):
        book.add(0, 100, 2**32)
    with refused(BookError, field="n", value=0):
        book.depth(0)
    with refused(BookError, field="quantity", value=0):
        book.vwap(0, 0)
    with refused(BookError, field="timeout", value=-1):
        book.depth(timeout=-1)
    with refused(BookError, field="instrument", value=3):
        OrderBook.from_instrument(3)  # type: ignore[arg-type]
    with refused(RejectedError, reason=Rejection.OVERFLOW):
        book.set(0, 100, 2**63)


def test_memory_is_fixed_and_told() -> None:
    small, large = OrderBook(64, cold_levels=0), OrderBook(8192)
    assert small.memory_bytes < 16_384
    assert large.memory_bytes > 2 * (8192 * 8 + 65536 * 16)
    before = large.memory_bytes
    large.apply(records(*[(0, 0, 1 + n * 97, 1) for n in range(5000)]))
    assert large.memory_bytes == before


def test_an_instrument_makes_its_book() -> None:
    instrument = Instrument(name="SOL-USD", market=5, tick_size=100, levels=2048)
    book = OrderBook.from_instrument(instrument, on_cross="reject")
    assert book.instrument == instrument
    assert (book.name, book.market, book.tick_size, book.levels, book.writers) == (
        "SOL-USD", 5, 100, 2048, 1
    )  # fmt: skip
    assert repr(book) == "<OrderBook 'SOL-USD': levels=2048, tick_size=100, 0 bids, 0 asks>"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", 3),
        ("market", "7"),
        ("market", 256),
        ("tick_size", 1.5),
        ("tick_size", True),
        ("levels", 128.0),
        ("levels", 100),
        ("lot_size", 0.001),
        ("lot_size", Decimal("NaN")),
    ],
)
def test_an_instrument_refuses_what_it_cannot_be(field: str, value: Any) -> None:
    with refused(BookError, field=field):
        Instrument(**{field: value})


def test_an_instrument_takes_the_integers_of_numpy() -> None:
    made = Instrument(market=np.uint8(3), tick_size=np.int64(10), lot_size=2)  # type: ignore[arg-type]
    assert made == Instrument(market=3, tick_size=10, lot_size=Decimal(2))
    assert type(made.market) is int


def test_a_seeded_window_starts_where_it_is_told() -> None:
    book = OrderBook(64, 10, 10_000)
    for price in range(10_000, 10_640, 10):
        book.add(ASK, price, 1)
        book.add(BID, price, 1)
    assert book.statistics().recentres == 0
    assert book.statistics().window_levels == 128


@pytest.mark.parametrize("n", [1, 63, 64, 65, 128, 1000, 1700, 4000])
def test_a_depth_is_in_order_however_much_of_it_is_cold(n: int) -> None:
    """Copied in pieces, of which some end within the window and some within the cold store."""
    book = OrderBook(64)
    numbers = np.random.default_rng(5)
    held = {
        side: numbers.choice(np.arange(1, 4000), 1700, replace=False) + base
        for side, base in ((Side.BID, 10_000), (Side.ASK, 14_000))
    }
    for side, prices in held.items():
        records = np.zeros(len(prices), TRANSACTION_DTYPE)
        records["kind"], records["side"] = Kind.SET, side
        records["price"], records["size"] = prices, prices % 1000 + 1
        assert book.apply(records).applied == len(records)
    assert book.statistics().cold_levels > 3000
    rows = book.depth(n)
    best_bids = np.sort(held[Side.BID])[::-1][:n]
    best_asks = np.sort(held[Side.ASK])[:n]
    for name, best in (("bid", best_bids), ("ask", best_asks)):
        assert rows[f"{name}_price"][: len(best)].tolist() == best.tolist()
        assert rows[f"{name}_quantity"][: len(best)].tolist() == (best % 1000 + 1).tolist()
        assert not rows[f"{name}_price"][len(best) :].any()
