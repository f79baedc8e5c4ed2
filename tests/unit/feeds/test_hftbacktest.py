"""hftbacktest's files, both ways: against plain dictionaries, and hftbacktest where it is there."""

from __future__ import annotations

import random
import zipfile
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from velox.cli.main import main
from velox.core.instrument import Instrument
from velox.core.order_book import OrderBook
from velox.core.records import TRANSACTION_DTYPE, Flags, Kind, validate
from velox.errors import ConfigError, FeedError
from velox.feeds import Recording, load, recognise, save
from velox.feeds.files.hftbacktest import EVENT_DTYPE

DEPTH, TRADE, CLEAR, SNAPSHOT, BBO, ADD, CANCEL, MODIFY, FILL = 1, 2, 3, 4, 5, 10, 11, 12, 13
VENUE, HERE, BUY, SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28
BOTH = VENUE | HERE
NAN = float("nan")

Row = tuple[Any, ...]


def row(event: int, px: float, qty: float, *, at: int = 0, order: int = 0, ival: int = 0) -> Row:
    if not event & BOTH:
        event |= BOTH
    return (event, 1000 + at, 1500 + at, px, qty, order, ival, 0.0)


def written(tmp_path: Path, *rows: Row, name: str = "btc.npz", key: str = "data") -> Path:
    path = tmp_path / name
    np.savez_compressed(path, **{key: np.array(list(rows), EVENT_DTYPE)})
    return path


def kinds(recording: Recording) -> list[tuple[Any, ...]]:
    names = ["id", "price", "size", "side", "kind"]
    return [tuple(each) for each in recording.transactions[names].tolist()]


def book_of(recording: Recording) -> tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]]:
    """The last book of dictionaries."""
    [instrument] = recording.instruments
    levels: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] = ({}, {})
    for identity, price, size, side, kind, _, _, _ in recording.transactions.tolist():
        key = Decimal(price).scaleb(-instrument.price_decimals)
        own = levels[side]
        if kind == Kind.CLEAR:
            own.clear()
            continue
        if kind == Kind.TRADE:
            continue
        lots = {Kind.SET: size, Kind.SET_WIDE: identity, Kind.DELETE: 0}.get(kind)
        change = size if kind == Kind.ADD else -size
        total = own.get(key, Decimal(0)) + change * instrument.lot_size
        own[key] = total if lots is None else lots * instrument.lot_size
        if not own[key]:
            del own[key]
    return levels


def decimals(**levels: str) -> dict[Decimal, Decimal]:
    return {Decimal(price[1:].replace("_", ".")): Decimal(size) for price, size in levels.items()}


def test_levels_trades_and_clears(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        row(SNAPSHOT | BUY, 100.1, 2.5),
        row(SNAPSHOT | BUY, 99.9, 1.0),
        row(SNAPSHOT | SELL, 100.3, 0.5),
        row(SNAPSHOT | SELL, 100.4, 0.5),
        row(TRADE | BUY, 100.3, 0.25, at=1, order=17),
        row(DEPTH | SELL, 100.3, 0.0, at=2),
        row(DEPTH | BUY, 100.2, 4.0, at=2),
        row(CLEAR | BUY, 100.1, 0.0, at=3),
    )
    assert recognise([path]) == "hftbacktest"
    recording = load(path)
    validate(recording.transactions)
    [instrument] = recording.instruments
    assert (instrument.name, instrument.tick_size, instrument.lot_size) == (
        *("btc", 1000, Decimal("0.25")),
    )
    assert book_of(recording) == (decimals(p99_9="1"), decimals(p100_4="0.5"))
    assert kinds(recording)[6] == (17, 1_003_000, 1, 1, Kind.TRADE)
    assert kinds(recording)[-2:] == [
        (0, 1_001_000, 0, 0, Kind.DELETE),
        (0, 1_002_000, 0, 0, Kind.DELETE),
    ]
    times = recording.transactions["ingress_ts_ns"]
    assert (times - recording.venue_ts_ns == 500).all()
    ends = recording.transactions["flags"] & Flags.LAST > 0
    assert np.flatnonzero(ends).tolist() == [5, 6, 8, 10]
    assert (recording.transactions["flags"][:6] & Flags.SNAPSHOT > 0).all()


@pytest.mark.parametrize(
    ("clear", "left"),
    [
        (row(CLEAR, 0.0, 0.0), ({}, {})),
        (row(CLEAR | BUY, NAN, 0.0), ({}, {3: 1, 4: 1})),
        (row(CLEAR | BUY, 2.0, 0.0), ({1: 1}, {3: 1, 4: 1})),
        (row(CLEAR | BUY, 0.5, 0.0), ({}, {3: 1, 4: 1})),
        (row(CLEAR | SELL, 3.5, 0.0), ({1: 1, 2: 1}, {4: 1})),
        (row(CLEAR | SELL, 0.0, 0.0), ({1: 1, 2: 1}, {3: 1, 4: 1})),
    ],
)
def test_a_clear_goes_from_the_best_level_to_its_price(
    clear: Row, left: Any, tmp_path: Path
) -> None:
    levels = [row(DEPTH | (BUY if px < 3 else SELL), px, 1.0) for px in (1.0, 2.0, 3.0, 4.0)]
    assert book_of(load(written(tmp_path, *levels, clear))) == left


def test_orders_with_their_ids(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        row(ADD | BUY, 99.0, 5.0, order=1),
        row(ADD | SELL, 101.0, 4.0, order=2),
        row(FILL | BUY, 99.0, 2.0, order=1, at=1),
        row(MODIFY | BUY, 99.0, 3.0, order=1, at=1),
        row(MODIFY | SELL, 102.0, 4.0, order=2, at=2),
        row(CANCEL | SELL, 102.0, 4.0, order=2, at=3),
    )
    assert kinds(load(path))[2:] == [
        (1, 990_000, 5, 0, Kind.ADD),
        (2, 1_010_000, 4, 1, Kind.ADD),
        (1, 990_000, 2, 0, Kind.EXECUTE),
        (2, 1_010_000, 4, 1, Kind.CANCEL),
        (2, 1_020_000, 4, 1, Kind.ADD),
        (2, 1_020_000, 4, 1, Kind.CANCEL),
    ]


def test_each_view_has_its_own_rows(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        row(DEPTH | BUY | VENUE, 1.0, 1.0),
        row(DEPTH | BUY | HERE, 2.0, 1.0),
        row(DEPTH | BUY, 3.0, 1.0),
        row(BBO | BUY, 4.0, 1.0),
    )
    local, venue = load(path), load(path, view="exchange")
    assert book_of(local) == ({2: 1, 3: 1}, {})
    assert book_of(venue) == ({1: 1, 3: 1}, {})
    assert local.ignored == {"row that does not count in this view": 1, "best bid and ask": 1}
    assert (venue.transactions["ingress_ts_ns"] == venue.venue_ts_ns).all()


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (row(DEPTH | BUY, 0.1 + 0.2, 1.0), "px"),
        (row(DEPTH | BUY, 1.0, 0.1 + 0.7), "qty"),
        (row(DEPTH | BUY, NAN, 1.0), "px"),
        (row(DEPTH | BUY, 0.0, 1.0), "px"),
        (row(DEPTH | BUY, -1.0, 1.0), "px"),
        (row(DEPTH | BUY, float("inf"), 1.0), "px"),
        (row(DEPTH | BUY, 1e-19, 1.0), "px"),
        (row(DEPTH | BUY, 1.0, NAN), "qty"),
        (row(DEPTH | BUY, 1.0, -1.0), "qty"),
        (row(DEPTH, 1.0, 1.0), "ev"),
        (row(DEPTH | BUY | SELL, 1.0, 1.0), "ev"),
        (row(99 | BUY, 1.0, 1.0), "ev"),
        (row(DEPTH | BUY, 1.0, 1.0, at=-9), "local_ts"),
        (row(ADD | BUY, 1.0, 1.0, order=7), "order_id"),
        (row(ADD | BUY, 1.0, 0.0, order=8), "qty"),
        (row(ADD, 1.0, 1.0, order=8), "ev"),
        (row(MODIFY | BUY, 1.0, 1.0, order=8), "order_id"),
        (row(CANCEL | BUY, 1.0, 1.0, order=8), "order_id"),
    ],
)
def test_a_row_that_cannot_be_exact_is_named(bad: Row, field: str, tmp_path: Path) -> None:
    good = row(ADD | BUY, 1.0, 1.0, order=7)
    path = written(tmp_path, good, bad, row(DEPTH | SELL, 2.0, 1.0, at=1))
    with pytest.raises(FeedError) as caught:
        load(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), 2, field)
    recording = load(path, on_error="skip")
    assert recording.skipped == 1
    assert book_of(recording) == ({1: 1}, {2: 1})


def test_a_given_grid_decides(tmp_path: Path) -> None:
    path = written(tmp_path, row(DEPTH | BUY, 100.15, 0.3))
    with pytest.raises(FeedError, match=r"off the grid of 0\.1"):
        load(path, price_decimals=1, tick_size=1)
    with pytest.raises(FeedError, match="off the grid"):
        load(path, lot_size="0.2")
    recording = load(path, price_decimals=2, tick_size=5, lot_size="0.1", name="BTC")
    [instrument] = recording.instruments
    assert (instrument.name, instrument.price_decimals, instrument.tick_size) == ("BTC", 2, 5)
    assert kinds(recording)[-1] == (0, 10015, 3, 0, Kind.SET)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04data.npy", b"nonsense"])
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    with pytest.raises(FeedError):
        load(path, "hftbacktest")
    whole = written(tmp_path, *[row(DEPTH | BUY, float(n + 1), 1.0) for n in range(50)])
    damaged = whole.read_bytes()
    for cut in range(0, len(damaged), 7):
        path.write_bytes(damaged[:cut])
        with pytest.raises(FeedError):
            load(path, "hftbacktest")


def test_other_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="no array named 'data'"):
        load(written(tmp_path, row(DEPTH, 1.0, 1.0), key="more"), "hftbacktest")
    np.savez(tmp_path / "b.npz", data=np.zeros(3))
    with pytest.raises(FeedError) as caught:
        load(tmp_path / "b.npz")
    assert caught.value.field == "dtype"
    np.savez(tmp_path / "c.npz", data=np.array([object()], dtype=object))
    with pytest.raises(FeedError):
        load(tmp_path / "c.npz")


def test_a_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.npy", b"not an array")
    with pytest.raises(FeedError) as caught:
        load(path, "hftbacktest")
    assert caught.value.path == str(path)


# Writing


def flow(seed: int, *, orders: bool) -> Recording:
    """Random records of one market, of orders or of levels, with times of two clocks."""
    randomly = random.Random(seed)
    rows: list[tuple[int, ...]] = [(0, 0, 0, side, Kind.CLEAR, 32, 0, 1) for side in (0, 1)]
    times, at = [1, 1], 1
    book: dict[int, tuple[int, int, int]] = {}
    for identity in range(1, 300):
        at += randomly.randrange(0, 3)
        side = randomly.randrange(2)
        price = randomly.randrange(1, 60) + 60 * side
        if randomly.random() < 0.1:
            record = (identity, price, 3, side, Kind.TRADE)
        elif not orders:
            kind = randomly.choice([Kind.SET, Kind.SET, Kind.DELETE])
            record = (0, price, randomly.randrange(9) if kind == Kind.SET else 0, side, kind)
        elif book and randomly.random() < 0.5:
            key = randomly.choice(list(book))
            side, price, size = book.pop(key)
            part = randomly.randrange(1, size + 1)
            if part < size:
                book[key] = (side, price, size - part)
            record = (key, price, part, side, randomly.choice([Kind.CANCEL, Kind.EXECUTE]))
        else:
            size = randomly.randrange(1, 9)
            book[identity] = (side, price, size)
            record = (identity, price, size, side, Kind.ADD)
        rows.append((*record, randomly.choice([0, 128]), 0, at))
        times.append(max(1, at + randomly.randrange(-4, 5)))
    instrument = Instrument(
        name="X", price_decimals=3, tick_size=1, lot_size=Decimal("0.01"), levels=8192
    )
    transactions = np.array(rows, TRANSACTION_DTYPE)
    transactions["flags"][-1] |= Flags.LAST
    stamps = np.array(times, np.uint64)
    return Recording(transactions, (instrument,), None, 0, (), (), venue_ts_ns=stamps)


def options() -> dict[str, Any]:
    return {"price_decimals": 3, "tick_size": 1, "lot_size": "0.01", "name": "X"}


def same_changes(recording: Recording) -> list[tuple[int, ...]]:
    """Records with deletions as sets of nothing."""
    transactions = recording.transactions.copy()
    transactions["kind"][transactions["kind"] == Kind.DELETE] = Kind.SET
    return [tuple(each) for each in transactions.tolist()]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("orders", [False, True])
def test_what_is_written_reads_back(seed: int, orders: bool, tmp_path: Path) -> None:
    recording = flow(seed, orders=orders)
    save(recording, tmp_path / "a.npz")
    again = load(tmp_path / "a.npz", **options())
    assert again.instruments == recording.instruments
    assert book_of(again) == book_of(recording)
    if not orders:
        assert same_changes(again) == same_changes(recording)
        assert again.venue_ts_ns.tolist() == recording.venue_ts_ns.tolist()
    else:
        [names] = [["id", "price", "size", "side", "kind"]]
        assert again.transactions[names].tolist() == recording.transactions[names].tolist()
    rows = np.load(tmp_path / "a.npz")["data"]
    for flag, clock in ((HERE, "local_ts"), (VENUE, "exch_ts")):
        own = rows[(rows["ev"] & np.uint64(flag)) > 0]
        assert len(own) == len(rows[(rows["ev"] & np.uint64(HERE)) > 0])
        assert (np.diff(own[clock]) >= 0).all()


def test_orders_beside_levels_are_written_as_levels(tmp_path: Path) -> None:
    rows = [
        (0, 100, 5, 0, Kind.SET, 128, 0, 1),
        (1, 100, 2, 0, Kind.ADD, 128, 0, 2),
        (9, 100, 3, 0, Kind.EXECUTE, 128, 0, 3),
    ]
    instrument = Instrument(price_decimals=0)
    recording = Recording(np.array(rows, TRANSACTION_DTYPE), (instrument,), None, 0, (), ())
    save(recording, tmp_path / "a.npz")
    again = load(tmp_path / "a.npz")
    assert [each[2] for each in kinds(again)[2:]] == [5, 7, 4]
    assert again.venue_ts_ns.tolist()[2:] == [1, 2, 3]


def test_what_hftbacktest_cannot_hold_is_refused(tmp_path: Path) -> None:
    whole = flow(1, orders=False)
    two = whole.transactions.copy()
    two["market"][5:] = 1
    other = replace(whole.instruments[0], market=1)
    with pytest.raises(ConfigError, match="2 markets"):
        save(
            replace(whole, transactions=two, instruments=(*whole.instruments, other)),
            tmp_path / "a.npz",
        )
    back = whole.transactions.copy()
    back["ingress_ts_ns"][7] = 0
    with pytest.raises(ConfigError, match="record 7"):
        save(replace(whole, transactions=back), tmp_path / "a.npz")
    fine = whole.transactions.copy()
    fine["price"][50] = 10**17 + 1
    with pytest.raises(ConfigError, match="no float"):
        save(replace(whole, transactions=fine), tmp_path / "a.npz")
    assert not list(tmp_path.iterdir())


def test_the_command_line_converts_both_ways(tmp_path: Path) -> None:
    path = written(tmp_path, row(DEPTH | BUY, 100.25, 3.0), row(DEPTH | SELL, 101.5, 2.0, at=1))
    npy, npz = tmp_path / "a.npy", tmp_path / "b.npz"
    assert main(["convert", str(path), "-o", str(npy), "--view", "exchange"]) == 0
    assert main(["convert", str(npy), "-o", str(npz)]) == 0
    assert book_of(load(npz)) == book_of(load(path))
    assert main(["replay", str(npz), "--placement", "invoker", "--hiccups", "0", "--quiet"]) == 0


def test_hftbacktest_reads_the_same_book(tmp_path: Path) -> None:
    package = pytest.importorskip("hftbacktest", reason="needs hftbacktest itself")
    validation = pytest.importorskip("hftbacktest.data.validation")
    for seed in range(4):
        recording = flow(seed, orders=False)
        kept = recording.transactions["price"] != 0
        recording = replace(
            recording,
            transactions=recording.transactions[kept],
            venue_ts_ns=recording.venue_ts_ns[kept],
        )
        path = tmp_path / f"{seed}.npz"
        save(recording, path)
        events: npt.NDArray[Any] = np.load(path)["data"]
        validation.validate_event_order(events)
        asset = (
            package.BacktestAsset()
            .data([str(path)])
            .linear_asset(1.0)
            .constant_order_latency(0, 0)
            .risk_adverse_queue_model()
            .no_partial_fill_exchange()
            .trading_value_fee_model(0, 0)
            .tick_size(0.001)
            .lot_size(0.01)
        )
        backtest = package.HashMapMarketDepthBacktest([asset])
        while backtest.elapse(10**9) == 0:
            pass
        depth = backtest.depth(0)
        book = OrderBook(8192, 1)
        book.apply(load(path, **options()).transactions)
        [best] = book.depth(1)
        found = (depth.best_bid_tick, depth.best_ask_tick)
        assert found == (best["bid_price"], best["ask_price"])
        assert round(depth.best_bid_qty * 100) == best["bid_quantity"]
        assert round(depth.best_ask_qty * 100) == best["ask_quantity"]
