"""The fuzz targets, and the properties that must hold for any input."""

from __future__ import annotations

import base64
import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from velox import (
    BUNDLE_DTYPE,
    TRANSACTION_DTYPE,
    Flags,
    Kind,
    OrderBook,
    Rejection,
    recover_capture,
    validate,
)
from velox.errors import CaptureError, FeedError, RecordError
from velox.feeds import Recording, formats, load, options_of
from velox.runtime.capture import HEADER_BYTES
from velox.runtime.checks import DepthChecks
from velox.telemetry import decode_histogram, encode_histogram

from .lines import compare as compare_forms
from .model import Model

__all__ = ["TARGETS", "corpus", "regressions"]

HERE = Path(__file__).parent
# Between the files of an input that is several files.
SEPARATOR = b"\n--- next file ---\n"
RECORD = TRANSACTION_DTYPE.itemsize
BUNDLE = BUNDLE_DTYPE.itemsize

_directory = tempfile.TemporaryDirectory()


def corpus(target: str) -> list[Path]:
    """The seeds of a target: small, written by hand."""
    return sorted((HERE / "seeds" / target).iterdir())


def regressions(target: str) -> list[Path]:
    """Inputs that once broke something."""
    directory = HERE / "regressions" / target
    return sorted(directory.iterdir()) if directory.is_dir() else []


def written(contents: list[bytes]) -> list[Path]:
    paths = [Path(_directory.name, f"part_{index}") for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def read_as(format: str, data: bytes, **options: Any) -> None:
    """A recording that is valid, or a `FeedError` that can be printed. The first byte: options."""
    if not data:
        return
    paths = written(data[1:].split(SEPARATOR, 2))
    on_error: Any = "skip" if data[0] & 1 else "stop"
    limit = 5 if data[0] & 2 else None
    try:
        recording = load(paths, format, on_error=on_error, limit=limit, **options)
    except FeedError as error:
        # Whatever was wrong, it can be printed.
        str(error).encode()
        return
    assert len(recording) > 0
    assert on_error == "skip" or recording.skipped == 0
    validate(recording.transactions)
    by_market = {each.market: each for each in recording.instruments}
    in_book = ~np.isin(recording.transactions["kind"], [Kind.CLEAR, Kind.TRADE])
    for record in recording.transactions[in_book]:
        assert int(record["price"]) % by_market[int(record["market"])].tick_size == 0
    if recording.checks is not None and len(recording.checks):
        assert recording.checks.position.max() <= len(recording)
    assert all(count > 0 for count in recording.ignored.values())
    if format != "npy":
        opens_uncrossed(recording)
    if format == "lobster" and isinstance(recording.checks, DepthChecks):
        # A row is what the messages make of the one before, or it is counted.
        assert mismatches(recording, recording.checks) <= recording.contradictions


def opens_uncrossed(recording: Recording) -> None:
    """Each snapshot leaves a book whose best bid is under its best ask."""
    books = Replayed()
    for record in recording.transactions:
        books.apply(record)
        if record["flags"] & Flags.SNAPSHOT and record["flags"] & Flags.LAST:
            bid, ask = books.best(int(record["market"]))
            assert bid is None or ask is None or bid[0] < ask[0]


def mismatches(recording: Recording, checks: DepthChecks) -> int:
    """The checks that plain dictionaries do not meet."""
    books, applied, found = Replayed(), 0, 0
    for position, prices, quantities in zip(
        checks.position.tolist(), checks.prices, checks.quantities, strict=True
    ):
        for record in recording.transactions[applied:position]:
            books.apply(record)
        applied = position
        expected = [
            [(int(p), int(q)) for p, q in zip(*side, strict=True) if q]
            for side in zip(prices, quantities, strict=True)
        ]
        found += expected != [books.levels(0, side)[: checks.depth] for side in (0, 1)]
    return found


class Replayed:
    """The books of a recording as dictionaries, which take what a recording says."""

    def __init__(self) -> None:
        self.sides: dict[tuple[int, int], dict[int, int]] = {}

    def apply(self, record: Any) -> None:
        identity, price, size, side, kind, _, market, _ = record.item()
        levels = self.sides.setdefault((market, side), {})
        if kind == Kind.CLEAR:
            levels.clear()
        elif kind == Kind.ADD:
            levels[price] = levels.get(price, 0) + size
        elif kind in {Kind.CANCEL, Kind.EXECUTE}:
            levels[price] = levels.get(price, 0) - size
        elif kind != Kind.TRADE:
            levels[price] = {Kind.SET: size, Kind.SET_WIDE: identity, Kind.DELETE: 0}[Kind(kind)]
        if levels.get(price, 1) <= 0:
            del levels[price]

    def levels(self, market: int, side: int) -> list[tuple[int, int]]:
        return sorted(self.sides.get((market, side), {}).items(), reverse=side == 0)

    def best(self, market: int) -> list[tuple[int, int] | None]:
        return [next(iter(self.levels(market, side)), None) for side in (0, 1)]


def lobster(data: bytes) -> None:
    read_as("lobster", data, depth=1 + (data[0] >> 4 if data else 0))


def binance(data: bytes) -> None:
    chosen = data[0] if data else 0
    read_as(
        "binance",
        data,
        trades=bool(chosen & 4),
        on_gap=("clear", "continue")[chosen >> 3 & 1],
        depth_stream=("auto", "partial", "diff", "auto")[chosen >> 4 & 3],
        symbol="A" if chosen & 64 else None,
        careful=bool(chosen & 128),
    )


def scan(data: bytes) -> None:
    """The scanner and the careful form make the same of any file."""
    if not data:
        return
    (path,) = written([data[1:]])
    chosen: dict[str, Any] = {"on_error": "skip" if data[0] & 1 else "stop"}
    chosen |= {"trades": bool(data[0] & 4), "lot_size": "0.001" if data[0] & 8 else None}
    chosen |= {"tick_size": 100 if data[0] & 16 else None, "limit": 5 if data[0] & 2 else None}
    differing = compare_forms(path, **chosen)
    assert differing is None, differing


def okx(data: bytes) -> None:
    chosen = data[0] if data else 0
    read_as(
        "okx",
        data,
        trades=bool(chosen & 4),
        on_gap=("clear", "continue")[chosen >> 3 & 1],
        channel=(None, "books", "books5", "bbo-tbt")[chosen >> 4 & 3],
    )


def bybit(data: bytes) -> None:
    session_as("bybit", data, (None, "orderbook.50", "orderbook.1", None))


def kraken(data: bytes) -> None:
    session_as("kraken", data)


def coinbase(data: bytes) -> None:
    session_as("coinbase", data)


def hyperliquid(data: bytes) -> None:
    chosen = data[0] if data else 0
    channel = (None, "l2Book", "l2Book fast", "bbo")[chosen >> 4 & 3]
    read_as("hyperliquid", data, trades=bool(chosen & 4), channel=channel)


def session_as(format: str, data: bytes, channels: tuple[str | None, ...] = ()) -> None:
    """Read a recorded session with options that the first byte chooses."""
    chosen = data[0] if data else 0
    read_as(
        format,
        data,
        trades=bool(chosen & 4),
        on_gap=("clear", "continue")[chosen >> 3 & 1],
        symbol="A" if chosen & 64 else None,
        **({"channel": channels[chosen >> 4 & 3]} if channels else {}),
    )


def npy(data: bytes) -> None:
    # A recording is one file there: the separator may well occur in it.
    if SEPARATOR not in data:
        read_as("npy", data)


def book(data: bytes) -> None:
    """Arbitrary bytes as records: every status and the whole book equal those of two dicts."""
    if not data:
        return
    settings = data[0]
    tick_size = (1, 3, 100, 1 << 20)[settings & 3]
    levels, cold_levels = 64, 4
    several = bool(settings & 4)
    base = 1_000 * tick_size
    under_test = OrderBook(
        levels,
        tick_size,
        base if several or settings & 8 else None,
        writers="n" if several else 1,
        cold_levels=cold_levels,
    )
    window = range(base, base + levels * tick_size, tick_size) if several else None
    model = Model(tick_size, levels, cold_levels, window, (1 << 47) - 1 if several else 2**63 - 1)
    body = data[1:]
    records = np.frombuffer(body[: len(body) // RECORD * RECORD], TRANSACTION_DTYPE).copy()
    # Most markets would be none; one bit keeps the question.
    records["market"] &= 1 if settings & 16 else 0
    statuses = np.full(len(records), 255, np.uint8)
    result = under_test.apply(records, statuses)
    expected = [expected_status(model, record) for record in records]
    assert statuses.tolist() == expected, (statuses.tolist(), expected)
    assert result.timeouts == 0
    assert result.applied + sum(result.rejected.values()) == len(records)
    assert result.applied == expected.count(0)
    compare(under_test, model)


def expected_status(model: Model, record: Any) -> int:
    identity, price, size, side, kind, _, market, _ = record.item()
    if market and kind <= Kind.TRADE and side <= 1:
        return int(Rejection.MARKET)
    return int(model.apply(kind, side, price, size, identity))


def compare(under_test: OrderBook, model: Model) -> None:
    for side, levels in enumerate(model.sides):
        name = ("bid", "ask")[side]
        ordered = sorted(levels.items(), reverse=side == 0)
        depth = under_test.depth(len(ordered) + 2)
        held = depth[f"{name}_quantity"] > 0
        rows = zip(depth[f"{name}_price"][held], depth[f"{name}_quantity"][held], strict=True)
        assert [(int(price), int(quantity)) for price, quantity in rows] == ordered
    bids, asks = model.sides
    assert under_test.best_bid == (max(bids) if bids else None)
    assert under_test.best_ask == (min(asks) if asks else None)


def capture(data: bytes) -> None:
    """A recovery gives a complete `.npy` of the whole bundles, or refuses the file unchanged."""
    (path,) = written([data])
    try:
        bundles = recover_capture(path)
    except CaptureError as error:
        str(error).encode()
        refused = True
    else:
        refused = False
    if refused:
        assert path.read_bytes() == data
        return
    after = path.read_bytes()
    assert len(after) == HEADER_BYTES + bundles * BUNDLE
    assert after[HEADER_BYTES:] == data[HEADER_BYTES : len(after)]
    assert len(np.load(io.BytesIO(after))) == bundles
    assert recover_capture(path) == bundles
    assert path.read_bytes() == after


def histogram(data: bytes) -> None:
    """A histogram that encodes to what decodes to it, or a `RecordError`. The bytes: inflated."""
    try:
        found = decode_histogram(encoded_histogram(data))
    except RecordError as error:
        str(error).encode()
        return
    assert decode_histogram(encode_histogram(found)) == found


def encoded_histogram(payload: bytes) -> str:
    """Wrap a header and counts as an encoder does, so that mutations reach the decoder."""
    compressed = zlib.compress(payload, level=1)
    wrapper = struct.pack(">II", 0x1C849314, len(compressed))
    return base64.b64encode(wrapper + compressed).decode()


TARGETS: dict[str, Callable[[bytes], None]] = {
    "lobster": lobster,
    "binance": binance,
    "okx": okx,
    "bybit": bybit,
    "coinbase": coinbase,
    "hyperliquid": hyperliquid,
    "kraken": kraken,
    "scan": scan,
    "npy": npy,
    "book": book,
    "capture": capture,
    "histogram": histogram,
}


def of_format(format: str) -> Callable[[bytes], None]:
    """The target of a reader that has none of its own: its options are drawn from the input."""
    options = [name for name in options_of(format) if name in OPTIONS]

    def target(data: bytes) -> None:
        chosen = int.from_bytes(data[:1] * 4, "little") >> 2
        given: dict[str, Any] = {}
        for name in options:
            chosen, index = divmod(chosen, len(OPTIONS[name]))
            given[name] = OPTIONS[name][index]
        read_as(format, data, **given)

    return target


# Values of the options that readers share.
OPTIONS: dict[str, tuple[Any, ...]] = {
    "trades": (False, True),
    "on_gap": ("clear", "continue"),
    "careful": (False, True),
    "symbol": (None, None, "A"),
}
# Each reader is fuzzed, also one that is added later; see test_fuzz.py for its seeds.
TARGETS |= {each: of_format(each) for each in formats() if each not in TARGETS}
