"""Mutated lines of Binance through the scanner and the careful form: both read the same.

``python -m tests.verify.fuzz.lines --lines 1000000``
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from velox.errors import FeedError
from velox.feeds import Recording, load

from .engine import mutated

__all__ = ["compare", "differences", "outcome"]

LINES_A_FILE = 400


def outcome(path: Path, **options: Any) -> list[Any]:
    """All that a load gives, as values that can be compared."""
    try:
        recording = load(path, "binance", **options)
    except FeedError as error:
        return ["refused", str(error), error.line, error.field]
    return values(recording)


def values(recording: Recording) -> list[Any]:
    checks = recording.checks
    arrays = [recording.transactions, recording.known, recording.venue_ts_ns]
    if checks is not None:
        arrays += [checks.position, checks.market, checks.prices, checks.quantities]  # type: ignore[union-attr]
    return [
        [array.tobytes() for array in arrays],
        recording.instruments,
        dict(recording.ignored),
        recording.skipped,
        recording.problems,
        recording.gaps,
        recording.unknown,
    ]


def compare(path: Path, **options: Any) -> list[Any] | None:
    """What both forms make of a file, where they differ."""
    scanned, careful = outcome(path, **options), outcome(path, careful=True, **options)
    return None if scanned == careful else [scanned, careful]


def compact(message: Any) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


class Market:
    """Messages of one symbol, of which most continue the one before."""

    def __init__(self, random: Random, name: str, *, futures: bool) -> None:
        self.random = random
        self.name = name
        self.futures = futures
        self.last = random.randrange(1, 10**12)
        self.places = random.choice([0, 1, 2, 2, 4, 6])
        self.size_places = random.choice([0, 1, 3, 8])

    def number(self, places: int, most: int, *, zero: bool = False) -> str:
        units = 0 if zero and self.random.random() < 0.2 else self.random.randrange(1, most)
        text = f"{units:0{places + 1}d}"
        zeros = "0" * self.random.choice([0, 0, 2])
        return f"{text[:-places]}.{text[-places:]}{zeros}" if places else text

    def levels(self) -> list[list[str]]:
        return [
            [self.number(self.places, 10**7), self.number(self.size_places, 10**9, zero=True)]
            for _ in range(self.random.randrange(4))
        ]

    def diff(self) -> dict[str, Any]:
        first = self.last + 1 + (self.random.random() < 0.02)
        final = first + self.random.randrange(5)
        event = {"e": "depthUpdate", "E": 1_700_000_000_000 + final % 10**9}
        if self.futures:
            event["T"] = event["E"]
        event |= {"s": self.name, "U": first, "u": final}
        if self.futures:
            event["pu"] = self.last
        self.last = final
        return event | {"b": self.levels(), "a": self.levels()}

    def ticker(self) -> dict[str, Any]:
        event = {"e": "bookTicker"} if self.futures else {}
        event |= {"u": self.last, "s": self.name}
        for price, size in (("b", "B"), ("a", "A")):
            event |= {
                price: self.number(self.places, 10**7),
                size: self.number(self.size_places, 10**9, zero=True),
            }
        if self.futures:
            event |= {"T": 1_700_000_000_000, "E": 1_700_000_000_001}
        return event

    def trade(self) -> dict[str, Any]:
        event: dict[str, Any] = {"e": "trade", "E": 1_700_000_000_002}
        if self.futures:
            event["T"] = 1_700_000_000_001
        event |= {"s": self.name, "t": self.last, "p": self.number(self.places, 10**7)}
        event["q"] = self.number(self.size_places, 10**9, zero=True)
        event |= {"X": "MARKET"} if self.futures else {"T": 1_700_000_000_001}
        event["m"] = self.random.random() < 0.5
        return event if self.futures else event | {"M": True}

    def snapshot(self) -> dict[str, Any]:
        return {"lastUpdateId": self.last, "bids": [["1", "1"]], "asks": [], "symbol": self.name}


def line(random: Random, market: Market) -> bytes:
    kind = random.choice(["diff", "diff", "diff", "ticker", "trade"])
    message = getattr(market, kind)()
    stream = {"diff": random.choice(["depth", "depth@100ms"]), "ticker": "bookTicker"}
    if random.random() < 0.5:
        message = {"stream": f"x@{stream.get(kind, kind)}", "data": message}
    stamp = random.choice([b"", b"1723161255030314667 ", b"1723161255030314667 "])
    return stamp + compact(message)


def recording(random: Random, lines: int) -> bytes:
    """Lines of one or two symbols, every other one mutated."""
    futures = random.random() < 0.5
    markets = [Market(random, name, futures=futures) for name in random.choice(["A", "AB"])]
    # What stands first are snapshots: from there on most diffs can be applied.
    out = [compact(market.snapshot()) for market in markets]
    for _ in range(lines):
        usual = line(random, random.choice(markets))
        out.append(mutated(random, usual, out[-1]) if random.random() < 0.5 else usual)
    return b"\n".join(out) + random.choice([b"", b"\n", b"\r\n"])


def options(random: Random) -> dict[str, Any]:
    chosen: dict[str, Any] = {"on_error": "skip", "trades": random.random() < 0.5}
    if random.random() < 0.2:
        chosen["lot_size"] = "0.001"
    if random.random() < 0.2:
        chosen["tick_size"] = 100
    if random.random() < 0.2:
        chosen["on_gap"] = "continue"
    if random.random() < 0.1:
        chosen["symbol"] = "A"
    if random.random() < 0.1:
        chosen["limit"] = 50
    if random.random() < 0.1:
        chosen["time_unit"] = "us"
    return chosen


def differences(lines: int, seed: int, directory: Path) -> tuple[bytes, dict[str, Any]] | None:
    """The first recording that the two forms read differently, with its options."""
    random = Random(seed)
    path = directory / "recording"
    for _ in range(-(-lines // LINES_A_FILE)):
        content, chosen = recording(random, LINES_A_FILE), options(random)
        path.write_bytes(content)
        if compare(path, **chosen) is not None:
            return content, chosen
    return None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.verify.fuzz.lines", description=__doc__)
    parser.add_argument("--lines", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=None, help="drawn by chance unless told")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(3), "little")
    with tempfile.TemporaryDirectory() as directory:
        found = differences(given.lines, seed, Path(directory))
    if found is None:
        print(f"lines: {given.lines} lines, seed {seed}: equal")
        return 0
    path = Path(tempfile.gettempdir(), f"velox-lines-{seed}")
    path.write_bytes(found[0])
    print(f"FAILED: seed {seed}: {path} with {found[1]}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
