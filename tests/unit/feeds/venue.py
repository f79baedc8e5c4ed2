"""A seeded market of plain dictionaries, whose messages tests write in a venue's form."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path

import numpy as np

from velox import OrderBook
from velox.core.records import Flags
from velox.feeds import Recording
from velox.runtime.checks import ChecksumChecks, DepthChecks

Side = dict[Decimal, Decimal]
Book = tuple[Side, Side]
Change = tuple[Decimal, Decimal]


class VenueMarket:
    """Bids and asks of one symbol, which change by seeded steps and never cross.

    Parameters
    ----------
    seed : int
    tick, lot : str
    mid : int
        The first price, in ticks.
    levels : int
        Levels a side at the beginning.
    """

    def __init__(
        self,
        seed: int,
        *,
        tick: str = "0.1",
        lot: str = "0.001",
        mid: int = 5_000,
        levels: int = 60,
    ) -> None:
        self.random = random.Random(seed)
        self.tick, self.lot = Decimal(tick), Decimal(lot)
        self.mid = mid
        self.bids: Side = {}
        self.asks: Side = {}
        for distance in range(1, levels + 1):
            self.bids[self._price(mid - distance)] = self._size()
            self.asks[self._price(mid + distance)] = self._size()

    def _price(self, ticks: int) -> Decimal:
        return ticks * self.tick

    def _size(self) -> Decimal:
        # Most sizes end in zeros, as real ones do.
        return self.random.choice((1, 10, 100, 1000)) * self.random.randint(1, 99) * self.lot

    def step(self) -> None:
        """Move the middle by at most two ticks, and change a few levels of each side."""
        self.mid += self.random.randint(-2, 2)
        middle = self._price(self.mid)
        self.bids = {price: size for price, size in self.bids.items() if price < middle}
        self.asks = {price: size for price, size in self.asks.items() if price > middle}
        for side, sign in ((self.bids, -1), (self.asks, 1)):
            for _ in range(self.random.randint(0, 4)):
                price = self._price(self.mid + sign * (1 + int(self.random.expovariate(0.08))))
                if self.random.random() < 0.3:
                    side.pop(price, None)
                else:
                    side[price] = self._size()
            if not side:
                side[self._price(self.mid + sign)] = self._size()

    def top(self, levels: int | None = None) -> Book:
        """Copies of the best levels of both sides, best first."""
        bids = sorted(self.bids, reverse=True)[:levels]
        asks = sorted(self.asks)[:levels]
        return {each: self.bids[each] for each in bids}, {each: self.asks[each] for each in asks}

    def trade(self) -> tuple[bool, Decimal, Decimal]:
        """Whether the taker buys, and the price and the size."""
        buys = self.random.random() < 0.5
        price = min(self.asks) if buys else max(self.bids)
        return buys, price, self._size()


def changes(before: Side, after: Side) -> list[Change]:
    """What leads from one side to another; a size of 0 deletes a level."""
    gone = [(price, Decimal(0)) for price in before if price not in after]
    return gone + [(price, size) for price, size in after.items() if before.get(price) != size]


def written(path: Path, lines: list[tuple[int, str]], *, stamped: bool = True) -> Path:
    """A file of messages, each behind the time when it was received."""
    text = "".join(f"{time} {line}\n" if stamped else f"{line}\n" for time, line in lines)
    path.write_text(text, encoding="utf-8")
    return path


def books_by_time(recording: Recording) -> dict[tuple[str, int], Book]:
    """The book of a market after the last record of each time, from Velox's own order book."""
    found: dict[tuple[str, int], Book] = {}
    for instrument in recording.instruments:
        own = recording.transactions[recording.transactions["market"] == instrument.market]
        book = OrderBook(
            instrument.levels,
            instrument.tick_size,
            market=instrument.market,
            lot_size=instrument.lot_size,
        )
        times = own["ingress_ts_ns"]
        ends = np.flatnonzero(np.append(times[1:] != times[:-1], True)) + 1
        begin = 0
        for end in ends.tolist():
            assert own["flags"][end - 1] & Flags.LAST
            book.apply(own[begin:end])
            begin = end
            rows = book.depth(1_000)
            scale = Decimal(10) ** -instrument.price_decimals
            lot = instrument.lot_size
            sides = tuple(
                {
                    int(row[f"{side}_price"]) * scale: int(row[f"{side}_quantity"]) * lot
                    for row in rows
                    if row[f"{side}_quantity"]
                }
                for side in ("bid", "ask")
            )
            found[instrument.name, int(times[end - 1])] = (sides[0], sides[1])
    return found


def require_equal(recording: Recording, truth: Mapping[tuple[str, int], Book]) -> int:
    """Compare each book of a recording with the truth at its time; returns how many there are."""
    found = books_by_time(recording)
    for key, book in found.items():
        assert book == truth[key], key
    return len(found)


def books_at_checks(recording: Recording) -> Iterator[tuple[int, OrderBook]]:
    """The index of each check, and the book of its market when it is due."""
    checks = recording.checks
    assert checks is not None
    books, begins = {}, dict.fromkeys((each.market for each in recording.instruments), 0)
    for each in recording.instruments:
        books[each.market] = OrderBook(
            tick_size=each.tick_size, market=each.market, lot_size=each.lot_size
        )
    for index, (market, position) in enumerate(
        zip(checks.market.tolist(), checks.position.tolist(), strict=True)
    ):
        part = recording.transactions[begins[market] : position]
        books[market].apply(part[part["market"] == market])
        begins[market] = position
        yield index, books[market]


def failing_checks(recording: Recording) -> int:
    """How many checks disagree with the books of the records."""
    checks = recording.checks
    if isinstance(checks, ChecksumChecks):
        return sum(
            checks.algorithm.of(book) != checks.checksum[index]
            for index, book in books_at_checks(recording)
        )
    assert isinstance(checks, DepthChecks)
    failed = 0
    for index, book in books_at_checks(recording):
        best = book.depth(1)
        for side, name in enumerate(("bid", "ask")):
            expected = int(checks.prices[index, side, 0]), int(checks.quantities[index, side, 0])
            found = (0, 0)
            if len(best) and best[f"{name}_quantity"][0]:
                found = int(best[f"{name}_price"][0]), int(best[f"{name}_quantity"][0])
            failed += found != (expected if expected[1] else (0, 0))
    return failed
