from __future__ import annotations

import pytest

from velox.bench import probes
from velox.core.order_book import OrderBook
from velox.core.records import Side
from velox.errors import ConfigError, LedgerError


def test_the_counter_does_not_go_back() -> None:
    assert probes.ticks_read(1_000) > 0


def test_either_of_two_levels_may_be_the_best() -> None:
    book = OrderBook(64)
    book.add(Side.BID, 100, 7)
    assert probes.top_reads(book, 10, low=(100, 7), high=(101, 11))[1:] == (0, 1)
    book.add(Side.BID, 101, 11)
    assert probes.top_reads(book, 10, low=(100, 7), high=(101, 11))[0] > 0


@pytest.mark.parametrize("size", [7, 12])
def test_a_price_with_the_quantity_of_another_level_has_no_speed(size: int) -> None:
    book = OrderBook(64)
    book.add(Side.BID, 101, size)
    with pytest.raises(LedgerError, match="0 reads of the best bid were right, of 10"):
        probes.top_reads(book, 10, low=(100, 7), high=(101, 11))


def test_a_book_of_several_writers_has_no_top_line() -> None:
    book = OrderBook(64, base_price=1, writers=2)
    with pytest.raises(ConfigError, match="publishes no top line"):
        probes.top_reads(book, 10, low=(100, 7), high=(101, 11))
