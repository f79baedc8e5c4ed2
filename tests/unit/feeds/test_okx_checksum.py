"""The checksum that OKX sends with its books."""

from __future__ import annotations

import doctest
import pickle
import zlib
from decimal import Decimal

import pytest

import velox.feeds.okx_checksum
from velox import OrderBook, Side
from velox.errors import ConfigError
from velox.feeds.okx_checksum import OkxChecksum
from velox.runtime.checksum import BookChecksum

HIGHEST = 2**63 - 1


def okx(bids: list[tuple[str, str]], asks: list[tuple[str, str]]) -> int:
    fields: list[str] = []
    for row in range(25):
        for side in (bids, asks):
            if row < len(side):
                fields += side[row]
    crc = zlib.crc32(":".join(fields).encode())
    return crc - 2**32 if crc >= 2**31 else crc


@pytest.mark.parametrize(
    ("bids", "asks"), [(3, 3), (1, 4), (4, 1), (0, 2), (2, 0), (0, 0), (40, 30)]
)
def test_the_checksum_alternates_until_a_side_runs_out(bids: int, asks: int) -> None:
    book = OrderBook(tick_size=1000, lot_size=Decimal("0.001"))
    bid_rows = [(100_000 - 1000 * row, 1 + 33_333 * row) for row in range(bids)]
    ask_rows = [(101_000 + 1000 * row, 10**row if row < 18 else row) for row in range(asks)]
    for price, quantity in bid_rows:
        book.set(Side.BID, price, quantity)
    for price, quantity in ask_rows:
        book.set(Side.ASK, price, quantity)

    def text(value: Decimal) -> str:
        return f"{value.normalize():f}"

    def rows(levels: list[tuple[int, int]]) -> list[tuple[str, str]]:
        return [(text(Decimal(p) / 10_000), text(Decimal(q) / 1000)) for p, q in levels]

    assert OkxChecksum().of(book) == okx(rows(bid_rows), rows(ask_rows))


@pytest.mark.parametrize(
    ("lot_size", "quantity", "expected"),
    [
        ("1", 7, "7"),
        ("100", 7, "700"),
        ("1E+2", 7, "700"),
        ("0.5", 3, "1.5"),
        ("0.00000001", 5, "0.00000005"),
        ("0.00000001", 100_000_000, "1"),
        ("25", HIGHEST, str(25 * HIGHEST)),
        ("1E-18", HIGHEST, "9.223372036854775807"),
    ],
)
def test_the_checksum_writes_the_shortest_decimal(
    lot_size: str, quantity: int, expected: str
) -> None:
    book = OrderBook(lot_size=Decimal(lot_size))
    book.set(Side.BID, 10_005, quantity)
    assert OkxChecksum().of(book) == okx([("1.0005", expected)], [])


def test_a_book_with_several_writers_has_the_same_checksum() -> None:
    several = OrderBook(64, 10, 100, writers="n")
    single = OrderBook(64, 10, 100)
    for price in (100, 110, 150):
        several.add(Side.BID, price, price)
        single.add(Side.BID, price, price)
    assert OkxChecksum().of(several) == OkxChecksum().of(single)


def test_a_checksum_survives_a_pickle() -> None:
    copy = pickle.loads(pickle.dumps(OkxChecksum()))
    assert isinstance(copy, OkxChecksum)
    assert copy.levels == 25


def test_the_base_computes_nothing_and_says_so() -> None:
    with pytest.raises(ConfigError, match="computes nothing"):
        BookChecksum().of(OrderBook())


def test_the_examples_of_the_module_run() -> None:
    outcome = doctest.testmod(velox.feeds.okx_checksum)
    assert outcome.attempted > 0
    assert outcome.failed == 0
