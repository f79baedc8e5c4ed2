"""A made-up venue, recorded over two lossy connections: no book is ever silently wrong."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.verify.fuzz.targets import Replayed, mismatches
from velox.feeds import load
from velox.runtime.checks import DepthChecks

Event = dict[str, Any]

# From one line to the next. A diff may be late by some 15 lines, or 0.75 s.
LINE_NS = 50_000_000


class Venue:
    """A book that changes at random, with the messages that Binance would send of it."""

    def __init__(self, random: Random, *, futures: bool) -> None:
        self.random = random
        self.futures = futures
        self.sides: tuple[dict[int, int], dict[int, int]] = ({95: 3, 99: 1}, {101: 2, 104: 5})
        self.last = 1000
        self.time = 1_700_000_000_000

    def diff(self) -> Event:
        changes: tuple[list[list[str]], list[list[str]]] = ([], [])
        for side, prices in enumerate((range(90, 100), range(101, 111))):
            for price in self.random.sample(prices, self.random.randrange(3)):
                size = self.random.choice([0, 0, 1, 2, 3])
                changes[side].append([f"{price}.0", str(size)])
                self.sides[side][price] = size
                if not size:
                    del self.sides[side][price]
        first, before = self.last + 1, self.last
        if self.futures:
            # Ids between belong to other symbols.
            first += self.random.randrange(4)
        self.last = first + self.random.randrange(5)
        self.time += 100
        event = {"e": "depthUpdate", "E": self.time, "s": "SOLUSDT", "U": first, "u": self.last}
        if self.futures:
            event["pu"] = before
        return event | {"b": changes[0], "a": changes[1]}

    def ticker(self) -> Event:
        best = [
            max(self.sides[0].items(), default=(0, 0)),
            min(self.sides[1].items(), default=(0, 0)),
        ]
        names = (("b", "B"), ("a", "A"))
        event: Event = {"u": self.last, "s": "SOLUSDT"}
        for (price, size), (price_name, size_name) in zip(best, names, strict=True):
            event |= {price_name: f"{price}.0", size_name: str(size)}
        return event

    def snapshot(self) -> Event:
        bids, asks = (
            [[f"{price}.0", str(size)] for price, size in levels.items()] for levels in self.sides
        )
        return {"lastUpdateId": self.last, "bids": bids, "asks": asks}


def recorded(random: Random, venue: Venue, loss: float) -> list[Event]:
    """What a recorder with two connections and a slow REST client writes."""
    lines: list[Event] = []
    late: list[tuple[int, Event]] = []
    for moment in range(120):
        event = venue.diff()
        for delay in (0, random.randrange(4)):
            if random.random() >= loss:
                late.append((moment + delay, event))
        late.append((moment, venue.ticker()))
        if moment % 20 == 2 or random.random() < 0.05:
            late.append((moment + random.choice([0, 0, 3, 8]), venue.snapshot()))
        lines += [each for due, each in late if due <= moment]
        late = [each for each in late if each[0] > moment]
    return lines + [each for _, each in sorted(late, key=lambda each: each[0])]


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.3])
@pytest.mark.parametrize("futures", [False, True])
def test_every_check_holds_whatever_was_lost_doubled_or_late(
    tmp_path: Path, futures: bool, loss: float
) -> None:
    gaps = checked = 0
    for seed in range(30):
        random = Random(seed)
        venue = Venue(random, futures=futures)
        lines = recorded(random, venue, loss)
        path = tmp_path / "recording"
        path.write_text(
            "".join(
                f"{n * LINE_NS} {json.dumps(each, separators=(',', ':'))}\n"
                for n, each in enumerate(lines)
            )
        )
        recording = load(path, "binance", depth_stream="diff", time_unit="ns")
        gaps += recording.gaps
        assert recording.skipped == 0
        if isinstance(recording.checks, DepthChecks):
            checked += len(recording.checks)
            assert mismatches(recording, recording.checks) == 0
        if loss == 0.0:
            assert recording.gaps == 0
            books = Replayed()
            for record in recording.transactions:
                books.apply(record)
            for side in (0, 1):
                assert {price // 10_000: size for price, size in books.levels(0, side)} == (
                    venue.sides[side]
                )
    assert checked > 500
    assert (gaps > 0) == (loss > 0)
