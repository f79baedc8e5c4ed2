"""Real recordings against the venues' own oracles, through a book of plain dictionaries.

The book here shares no code with Velox's: what it proves is the feeds.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from tests.verify.fuzz.lines import compare
from velox.core.instrument import Instrument
from velox.core.records import Flags, Kind, validate
from velox.feeds import Recording, load, save
from velox.runtime.checks import ChecksumChecks, DepthChecks

CHECKSUM_LEVELS = 25


class DictBook:
    """Two dictionaries from price to quantity, sorted on each read."""

    def __init__(self) -> None:
        self.sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.underflows = 0

    def apply(self, identity: int, price: int, size: int, side: int, kind: int) -> None:
        levels = self.sides[side]
        if kind == Kind.SET:
            levels[price] = size
        elif kind == Kind.SET_WIDE:
            levels[price] = identity
        elif kind == Kind.ADD:
            levels[price] = levels.get(price, 0) + size
        elif kind in {Kind.CANCEL, Kind.EXECUTE}:
            if levels.get(price, 0) < size:
                self.underflows += 1
                return
            levels[price] -= size
        elif kind == Kind.CLEAR:
            levels.clear()
            return
        elif kind == Kind.DELETE:
            levels.pop(price, None)
            return
        else:
            assert kind == Kind.TRADE
            return
        if levels[price] == 0:
            del levels[price]

    def best(self, side: int, depth: int) -> list[tuple[int, int]]:
        return sorted(self.sides[side].items(), reverse=side == 0)[:depth]


def replayed(recording: Recording, passes: int = 1) -> Iterator[tuple[int, dict[int, DictBook]]]:
    """The books at each check that is due, with the check's index."""
    assert recording.checks is not None
    books = {instrument.market: DictBook() for instrument in recording.instruments}
    columns = [
        recording.transactions[name].tolist()
        for name in ("market", "id", "price", "size", "side", "kind")
    ]
    for _ in range(passes):
        positions = iter(enumerate(recording.checks.position.tolist()))
        index, due = next(positions)
        for applied, (market, *fields) in enumerate(zip(*columns, strict=True), 1):
            books[market].apply(*fields)
            while due == applied:
                yield index, books
                index, due = next(positions, (-1, -1))
        assert due == -1


def depth_is_exact(checks: DepthChecks, index: int, books: dict[int, DictBook]) -> bool:
    book = books[int(checks.market[index])]
    for side in (0, 1):
        levels = zip(
            checks.prices[index, side].tolist(),
            checks.quantities[index, side].tolist(),
            strict=True,
        )
        if book.best(side, checks.depth) != [level for level in levels if level[1]]:
            return False
    return True


def text_of(number: Decimal) -> str:
    return f"{number:f}".rstrip("0").rstrip(".") if number % 1 else f"{number:.0f}"


def okx_checksum(book: DictBook, instrument: Instrument) -> int:
    """Best levels as ``price:size``, bid and ask in turn, joined by colons; CRC32, signed."""
    bids, asks = (book.best(side, CHECKSUM_LEVELS) for side in (0, 1))
    parts: list[str] = []
    for rank in range(CHECKSUM_LEVELS):
        for levels in (bids, asks):
            if rank < len(levels):
                price, lots = levels[rank]
                parts.append(text_of(Decimal(price).scaleb(-4)))
                parts.append(text_of(lots * instrument.lot_size))
    checksum = zlib.crc32(":".join(parts).encode())
    return checksum - 2**32 if checksum >= 2**31 else checksum


def assert_is_whole(recording: Recording) -> None:
    """Checks that hold for every recording, of any format."""
    transactions = recording.transactions
    validate(transactions)
    assert recording.skipped == 0
    assert recording.problems == ()
    assert transactions["flags"][-1] & Flags.LAST
    assert not transactions.flags.writeable
    for instrument in recording.instruments:
        own = transactions[transactions["market"] == instrument.market]
        book_records = own[own["kind"] != Kind.TRADE]
        assert book_records["kind"][0] == Kind.CLEAR
        assert book_records["flags"][0] & Flags.SNAPSHOT
        assert not (book_records["price"] % instrument.tick_size).any()
    assert recording.gaps == 0
    assert recording.unknown == 0
    assert recording.contradictions == 0


@pytest.fixture(scope="module")
def lobster(data: Path) -> Recording:
    return load(data / "lobster", "lobster", depth=30)


@pytest.fixture(scope="module")
def binance(data: Path) -> Recording:
    return load(data / "binance_usdm" / "btcusdt_20240808.gz", "binance")


@pytest.fixture(scope="module")
def okx(data: Path) -> Recording:
    return load([data / "okx" / "OKX.ws.1.0", data / "okx" / "OKX.0.gz"], "okx")


@pytest.mark.parametrize("depth", [30, 50])
def test_every_lobster_row_is_exact(data: Path, depth: int) -> None:
    recording = load(data / "lobster", "lobster", depth=depth)
    assert_is_whole(recording)
    assert isinstance(recording.checks, DepthChecks)
    assert recording.checks.depth == depth
    exact = [depth_is_exact(recording.checks, *state) for state in replayed(recording)]
    assert len(exact) == 999
    assert all(exact)


@pytest.mark.parametrize("levels", [1, 5, 10, 49])
@pytest.mark.parametrize("messages", ["all", "those of the window"])
def test_a_file_of_fewer_levels_is_exact_to_its_own_depth(
    data: Path, tmp_path: Path, levels: int, messages: str
) -> None:
    """The level-50 pair cut to fewer levels, as LOBSTER sells it, with and without the rest."""
    [message_file] = (data / "lobster").glob("*_message_*")
    [row_file] = (data / "lobster").glob("*_orderbook_*")
    pairs = list(
        zip(
            message_file.read_text().splitlines(),
            [",".join(row.split(",")[: 4 * levels]) for row in row_file.read_text().splitlines()],
            strict=True,
        )
    )
    if messages != "all":
        # LOBSTER leaves out a message that changes nothing in the window, unless it is a print.
        pairs = [
            pair
            for index, pair in enumerate(pairs)
            if not index or pair[1] != pairs[index - 1][1] or pair[0].split(",")[1] in "567"
        ]
    (tmp_path / f"M_message_{levels}.csv").write_text("".join(f"{m}\n" for m, _ in pairs))
    (tmp_path / f"M_orderbook_{levels}.csv").write_text("".join(f"{r}\n" for _, r in pairs))
    recording = load(tmp_path, "lobster", depth=levels)
    assert isinstance(recording.checks, DepthChecks)
    assert recording.checks.depth == levels
    assert recording.known_depth().levels == levels
    exact = [depth_is_exact(recording.checks, *state) for state in replayed(recording)]
    assert len(exact) == len(pairs) - 1
    assert all(exact)
    beyond = recording.ignored.get("message beyond the window", 0)
    assert (beyond > 0) == (messages == "all" and levels < 49)


def test_a_lobster_recording_begins_at_its_first_row(lobster: Recording) -> None:
    assert lobster.instruments == (Instrument(name="MSFT", tick_size=100),)
    opening = lobster.transactions[lobster.transactions["flags"] & Flags.SNAPSHOT != 0]
    assert np.array_equal(opening, lobster.transactions[: len(opening)])
    events = lobster.transactions[len(opening) :]
    assert np.count_nonzero(events["flags"] & Flags.LAST) == 999
    # What enters or leaves the window of 50 levels stands behind its message.
    assert set(events["kind"][~np.isin(events["kind"], [0, 1, 2, 7])]) <= {Kind.SET, Kind.DELETE}
    assert opening["ingress_ts_ns"][0] == 35_999_954_513_652
    assert events["ingress_ts_ns"][0] == 36_000_136_863_639


def test_no_lobster_message_takes_more_than_a_level_holds(lobster: Recording) -> None:
    for _, books in replayed(lobster):
        assert books[0].underflows == 0


def test_every_binance_ticker_is_exact(binance: Recording) -> None:
    assert_is_whole(binance)
    assert isinstance(binance.checks, DepthChecks)
    assert binance.checks.depth == 1
    assert (binance.checks.quantities > 0).all()
    best_is_exact = []
    for index, books in replayed(binance):
        bids, asks = books[0].sides
        bid, ask = max(bids), min(asks)
        best_is_exact.append(
            binance.checks.prices[index].tolist() == [[bid], [ask]]
            and binance.checks.quantities[index].tolist() == [[bids[bid]], [asks[ask]]]
        )
    assert len(best_is_exact) == 629
    assert all(best_is_exact)


def test_binance_grid_is_that_of_the_contract(binance: Recording) -> None:
    (instrument,) = binance.instruments
    assert instrument.name == "BTCUSDT"
    assert instrument.tick_size == 1000
    assert instrument.lot_size == Decimal("0.001")


def test_binance_trades_change_nothing_but_their_own_records(
    data: Path, binance: Recording
) -> None:
    path = data / "binance_usdm" / "btcusdt_20240808.gz"
    with_trades = load(path, "binance", trades=True)
    is_trade = with_trades.transactions["kind"] == Kind.TRADE
    assert is_trade.sum() == 21313
    assert np.array_equal(with_trades.transactions[~is_trade], binance.transactions)
    assert with_trades.checks is not None
    assert len(with_trades.checks) == 629


@pytest.mark.parametrize("trades", [False, True])
def test_the_scanner_reads_what_the_careful_form_reads(data: Path, trades: bool) -> None:
    path = data / "binance_usdm" / "btcusdt_20240808.gz"
    assert compare(path, trades=trades) is None


def test_a_limit_stops_at_the_end_of_an_event(data: Path, binance: Recording) -> None:
    path = data / "binance_usdm" / "btcusdt_20240808.gz"
    some = load(path, "binance", limit=10_000, tick_size=1000, lot_size="0.001")
    assert 10_000 <= len(some) < 12_000
    assert np.array_equal(some.transactions, binance.transactions[: len(some)])
    assert some.transactions["flags"][-1] & Flags.LAST


@pytest.mark.parametrize("rest", [True, False], ids=["grid from REST", "grid found out"])
def test_every_okx_checksum_is_exact(data: Path, okx: Recording, rest: bool) -> None:
    recording = okx if rest else load(data / "okx" / "OKX.ws.1.0", "okx")
    assert_is_whole(recording)
    assert isinstance(recording.checks, ChecksumChecks)
    exact = [
        okx_checksum(
            books[int(recording.checks.market[index])],
            recording.instruments[int(recording.checks.market[index])],
        )
        == recording.checks.checksum[index]
        for index, books in replayed(recording)
    ]
    assert len(exact) == 290
    assert all(exact)


def test_okx_instruments_come_from_the_venues_list(okx: Recording) -> None:
    described = {
        instrument.name: (instrument.market, instrument.tick_size, instrument.lot_size)
        for instrument in okx.instruments
    }
    assert described == {
        "BTC-USD-220527": (0, 1000, Decimal(1)),
        "UNI-USD-SWAP": (1, 10, Decimal(1)),
        "BTC-USDT": (2, 1000, Decimal("0.00000001")),
    }


def test_lobster_checks_hold_again_on_a_second_pass(lobster: Recording) -> None:
    assert isinstance(lobster.checks, DepthChecks)
    exact = [depth_is_exact(lobster.checks, *state) for state in replayed(lobster, passes=2)]
    assert len(exact) == 2 * 999
    assert all(exact)


def test_the_files_are_not_mistaken_for_each_other(data: Path) -> None:
    paths = {
        "lobster": next((data / "lobster").glob("*_message_*")),
        "binance": data / "binance_usdm" / "btcusdt_20240808.gz",
        "okx": data / "okx" / "OKX.ws.1.0",
    }
    for actual, path in paths.items():
        for wrong in paths.keys() - {actual}:
            with pytest.raises(
                ValueError, match=f"not of format '{wrong}'; it looks like .{actual}"
            ):
                load(path, wrong)


def messages_of(path: Path) -> Iterator[dict[str, object]]:
    """The JSON of each line of a recording."""
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as lines:
        for line in lines:
            start = line.find(b"{")
            if start >= 0:
                yield json.loads(line[start:])


def test_the_times_of_binance_are_those_of_its_messages(data: Path) -> None:
    [binance_path] = (data / "binance_usdm").glob("*.gz")
    recording = load(binance_path)
    expected = {
        1_000_000 * int(data["T"])  # type: ignore[index, call-overload]
        for message in messages_of(binance_path)
        for data in [message.get("data", message)]
        if "T" in data  # type: ignore[operator]
    }
    ends = recording.transactions["flags"] & Flags.LAST > 0
    times = recording.venue_ts_ns
    assert set(times.tolist()) <= expected
    # All records of an event have its time, and the events are in the venue's order.
    assert (times[:-1][~ends[:-1]] == times[1:][~ends[:-1]]).all()
    assert (np.diff(times.astype(np.int64)) >= 0).all()
    careful = load(binance_path, careful=True)
    assert careful.venue_ts_ns.tobytes() == times.tobytes()


def test_the_times_of_okx_are_those_of_its_messages(data: Path) -> None:
    okx_paths = [data / "okx" / "OKX.ws.1.0", data / "okx" / "OKX.0.gz"]
    recording = load(okx_paths)
    expected = {
        1_000_000 * int(entry["ts"])
        for path in okx_paths
        for message in messages_of(path)
        for entry in message.get("data", ())  # type: ignore[attr-defined]
        if "ts" in entry
    }
    assert set(recording.venue_ts_ns.tolist()) <= expected
    assert len(set(recording.venue_ts_ns.tolist())) > 100


def test_a_converted_recording_is_the_recording(
    binance: Recording, okx: Recording, lobster: Recording, tmp_path: Path
) -> None:
    for name, recording in (("b", binance), ("o", okx), ("l", lobster)):
        save(recording, tmp_path / f"{name}.npy")
        again = load(tmp_path / f"{name}.npy")
        assert again.transactions.tobytes() == recording.transactions.tobytes()
        assert again.venue_ts_ns.tobytes() == recording.venue_ts_ns.tobytes()
        assert again.known.tobytes() == recording.known.tobytes()
        assert again.instruments == recording.instruments
