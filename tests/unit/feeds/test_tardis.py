"""Tardis' CSV files, against books of plain dictionaries of decimals."""

from __future__ import annotations

import gzip
import random
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from velox.cli.main import main
from velox.core.records import Flags, Kind, Side, validate
from velox.errors import ConfigError, FeedError
from velox.feeds import Recording, load, recognise

BOOK = "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount"
TRADES = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount"
T = 1_700_000_000_000_000


def row(time: int, fifth: object, side: str, price: str, amount: str, **more: Any) -> str:
    exchange, symbol = more.get("exchange", "binance"), more.get("symbol", "BTCUSDT")
    first = str(fifth).lower() if isinstance(fifth, bool) else fifth
    return f"{exchange},{symbol},{T + time - 7},{T + time},{first},{side},{price},{amount}"


def written(tmp_path: Path, *rows: str, header: str = BOOK, name: str = "book.csv.gz") -> Path:
    path = tmp_path / name
    text = "\n".join((header, *rows)).encode() + b"\n"
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


Sides = dict[str, dict[Decimal, Decimal]]


def books_at_ends(recording: Recording) -> Iterator[tuple[str, Sides]]:
    """The market and its book after each event, as decimals."""
    books: dict[int, Sides] = {}
    names = {each.market: each for each in recording.instruments}
    for record in recording.transactions:
        market = int(record["market"])
        instrument = names[market]
        sides = books.setdefault(market, {"bid": {}, "ask": {}})
        side = sides["ask" if record["side"] == Side.ASK else "bid"]
        price = Decimal(int(record["price"])).scaleb(-instrument.price_decimals)
        wide = record["kind"] == Kind.SET_WIDE
        size = int(record["id"] if wide else record["size"]) * instrument.lot_size
        if record["kind"] == Kind.CLEAR:
            side.clear()
        elif record["kind"] in (Kind.SET, Kind.SET_WIDE):
            side[price] = size
            if not size:
                del side[price]
        else:
            assert record["kind"] == Kind.TRADE
        if record["flags"] & Flags.LAST:
            yield instrument.name, {name: dict(levels) for name, levels in sides.items()}


def last_book(recording: Recording) -> Sides:
    *_, (_, book) = books_at_ends(recording)
    return book


def test_a_snapshot_and_its_updates(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        row(0, True, "bid", "100.1", "2"),
        row(0, True, "ask", "100.3", "1.25"),
        row(1, False, "bid", "100.1", "0"),
        row(1, False, "bid", "100", "1e-1"),
        row(2, False, "ask", "100.3", "5"),
    )
    assert recognise([path]) == "tardis"
    recording = load(path)
    validate(recording.transactions)
    assert last_book(recording) == {
        "bid": {Decimal(100): Decimal("0.1")},
        "ask": {Decimal("100.3"): Decimal(5)},
    }
    assert recording.instruments[0].name == "BTCUSDT"
    assert recording.instruments[0].lot_size == Decimal("0.05")
    times = recording.transactions["ingress_ts_ns"]
    assert sorted(set(times.tolist())) == [(T + at) * 1000 for at in range(3)]
    assert (times - recording.venue_ts_ns == 7000).all()
    assert (recording.transactions["flags"] & Flags.LAST > 0).sum() == 3


def test_small_numbers_with_an_exponent_are_exact(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        row(0, True, "bid", "1.2e-7", "2.5E+3"),
        row(0, True, "ask", "0.00000013", "1e10"),
    )
    recording = load(path)
    assert recording.instruments[0].price_decimals == 8
    assert last_book(recording) == {
        "bid": {Decimal("1.2e-7"): Decimal(2500)},
        "ask": {Decimal("1.3e-7"): Decimal(10**10)},
    }


def test_a_snapshot_after_an_update_discards_the_book(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        row(0, True, "bid", "1", "1"),
        row(0, True, "ask", "5", "1"),
        row(1, False, "bid", "2", "1"),
        row(2, True, "bid", "1", "3"),
        row(2, True, "ask", "4", "3"),
    )
    assert last_book(load(path)) == {"bid": {1: 3}, "ask": {4: 3}}


@pytest.mark.parametrize(
    ("second", "book"),
    [
        # A whole snapshot replaces; the other half of one completes.
        (["bid 2", "ask 4"], {"bid": {2: 1}, "ask": {4: 1}}),
        (["ask 4"], {"bid": {1: 1}, "ask": {4: 1}}),
        (["bid 2"], {"bid": {2: 1}, "ask": {}}),
    ],
)
def test_a_snapshot_after_half_a_snapshot(
    second: list[str], book: dict[str, dict[int, int]], tmp_path: Path
) -> None:
    rows = [row(1, True, *each.split(), "1") for each in second]
    path = written(tmp_path, row(0, True, "bid", "1", "1"), *rows)
    assert last_book(load(path)) == book


def test_a_snapshot_after_a_snapshot_replaces_it(tmp_path: Path) -> None:
    rows = [row(at, True, side, price, "1") for at, side, price in (
        (0, "bid", "1"), (0, "ask", "3"), (1, "bid", "5"), (1, "ask", "7"),
    )]  # fmt: skip
    assert last_book(load(written(tmp_path, *rows))) == {"bid": {5: 1}, "ask": {7: 1}}


def test_updates_before_the_first_snapshot_are_left_aside(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        row(0, False, "bid", "9", "1"),
        row(1, True, "bid", "1", "1"),
        row(1, True, "ask", "2", "1"),
    )
    recording = load(path)
    assert recording.ignored == {"update without a snapshot": 1}
    assert last_book(recording) == {"bid": {1: 1}, "ask": {2: 1}}


def test_several_symbols_and_exchanges(tmp_path: Path) -> None:
    rows = [
        row(at, True, side, price, "1", symbol=symbol, exchange=exchange)
        for at, (exchange, symbol) in enumerate(
            [("binance", "A"), ("binance", "B"), ("kraken", "A")]
        )
        for side, price in (("bid", "1"), ("ask", "2.5"))
    ]
    path = written(tmp_path, *rows)
    names = ["binance:A", "binance:B", "kraken:A"]
    assert [each.name for each in load(path).instruments] == names
    assert [each.name for each in load(path, symbol="B").instruments] == ["B"]
    one = load(path, symbol="kraken:A")
    assert [each.name for each in one.instruments] == ["A"]
    assert one.ignored == {"other symbol": 4}


def test_trades_beside_the_book(tmp_path: Path) -> None:
    book = written(tmp_path, row(0, True, "bid", "1", "1"), row(0, True, "ask", "2", "1"))
    trades = written(
        tmp_path,
        row(-1, "17", "buy", "2", "3"),
        row(0, "18", "sell", "1.5", "1"),
        row(1, "6c1e-uuid", "buy", "2", "1"),
        row(1, "", "sell", "1", "1"),
        row(2, "19", "unknown", "1", "1"),
        row(2, "20", "buy", "1", "0"),
        header=TRADES,
        name="trades.csv",
    )
    recording = load([book, trades])
    kinds = recording.transactions["kind"].tolist()
    assert kinds == [Kind.TRADE, *[Kind.CLEAR, Kind.SET] * 2, *[Kind.TRADE] * 3]
    prints = recording.transactions[recording.transactions["kind"] == Kind.TRADE]
    assert prints["id"].tolist() == [17, 18, 0, 0]
    assert prints["side"].tolist() == [Side.ASK, Side.BID, Side.ASK, Side.BID]
    assert recording.ignored == {
        "id of a trade that is no number": 1,
        "trade of an unknown side": 1,
        "trade of nothing": 1,
    }
    assert len(load(trades)) == 4
    # At equal times the files' order decides.
    assert load([trades, book]).transactions["kind"].tolist()[:2] == [Kind.TRADE, Kind.TRADE]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ("binance,A,1,2,true,bid,1", None),
        (row(5, "maybe", "bid", "1", "1"), "is_snapshot"),
        (row(5, False, "buy", "1", "1"), "side"),
        (row(5, False, "bid", "x", "1"), "bid[0][0]"),
        (row(5, False, "bid", "1", ""), "bid[0][1]"),
        (row(5, False, "bid", "1", "-1"), "bid[0][1]"),
        (row(5, False, "bid", "0", "1"), "bid[0][0]"),
        (row(5, False, "bid", "1e99999", "1"), "price"),
        (row(5, False, "bid", "1e-", "1"), "price"),
        (row(5, False, "bid", "1", "NaN"), "bid[0][1]"),
        (row(-9, False, "bid", "1", "1"), "local_timestamp"),
        (row(5, False, "bid", "1", "1").replace(str(T + 5), "1700000000000"), "local_timestamp"),
        (row(5, False, "bid", "1", "1").replace(str(T - 2), "soon"), "timestamp"),
        (row(5, False, "bid", "1", "1", symbol=""), "symbol"),
        (row(5, False, "bid", "1", "1", exchange="\x1b[2J"), "exchange"),
    ],
)
def test_a_row_that_cannot_be_read_is_named_and_empties_the_book(
    bad: str, field: str | None, tmp_path: Path
) -> None:
    rows = [
        row(0, True, "bid", "1", "1"),
        row(0, True, "ask", "2", "2"),
        row(1, False, "ask", "2", "1"),
        bad,
        row(6, False, "bid", "1", "7"),
    ]
    path = written(tmp_path, *rows)
    with pytest.raises(FeedError) as caught:
        load(path)
    assert (caught.value.path, caught.value.line, caught.value.field) == (str(path), 5, field)
    recording = load(path, on_error="skip")
    assert (recording.skipped, recording.gaps) == (1, 1)
    assert last_book(recording) == {"bid": {}, "ask": {}}
    assert recording.ignored == {"update without a snapshot": 1}
    going_on = load(path, on_error="skip", on_gap="continue")
    assert last_book(going_on) == {"bid": {1: 7}, "ask": {2: 1}}
    assert going_on.gaps == 1


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_snapshot_with_a_damaged_row_does_not_open_the_book(at: int, tmp_path: Path) -> None:
    rows = [
        row(0, True, "bid", "1", "1"),
        row(0, True, "bid", "2", "1"),
        row(0, True, "ask", "3", "1"),
        row(1, False, "ask", "4", "1"),
    ]
    rows.insert(at - 1, "damaged")
    path = written(tmp_path, *rows)
    with pytest.raises(FeedError, match="holds no rows"):
        load(path, on_error="skip")
    assert len(load(path, on_error="skip", on_gap="continue")) > 0


def test_a_crossed_snapshot_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, row(0, True, "bid", "3", "1"), row(0, True, "ask", "2", "1"))
    with pytest.raises(FeedError, match="opens crossed") as caught:
        load(path)
    assert caught.value.line == 2


@pytest.mark.parametrize(
    "header",
    [
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
        BOOK + ",more",
        BOOK.replace("amount", "size"),
    ],
)
def test_other_types_of_files_are_refused(header: str, tmp_path: Path) -> None:
    path = written(tmp_path, header=header)
    with pytest.raises(FeedError, match="incremental_book_L2") as caught:
        load(path)
    assert caught.value.line == 1
    with pytest.raises(FeedError, match="looks like 'tardis'"):
        load(path, "lobster")


def test_options_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, row(0, True, "bid", "1", "1"))
    for options in ({"on_gap": "stop"}, {"levels": 3}, {"lot_size": 0.1}, {"symbol": 5}):
        with pytest.raises(ConfigError):
            load(path, **options)


def test_a_limit_ends_with_a_whole_event(tmp_path: Path) -> None:
    rows = [row(0, True, "bid", str(1 + n), "1") for n in range(5)]
    rows += [row(1 + n, False, "bid", "1", str(2 + n)) for n in range(5)]
    path = written(tmp_path, *rows)
    for limit in range(1, 13):
        recording = load(path, limit=limit)
        assert len(recording) == max(7, limit if limit <= 12 else 12)
        assert recording.transactions["flags"][-1] & Flags.LAST


def test_the_command_line_replays_and_converts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, row(0, True, "bid", "1.5", "1"), row(0, True, "ask", "2", "1"))
    replay = ["replay", str(path), "--placement", "invoker", "--hiccups", "0", "--quiet"]
    assert main([*replay, "--symbol", "BTCUSDT", "--tick-size", "100"]) == 0
    assert "format tardis" in capsys.readouterr().out
    assert main(["convert", str(path), "-o", str(tmp_path / "a.npy")]) == 0
    again, first = load(tmp_path / "a.npy"), load(path)
    assert np.array_equal(again.transactions, first.transactions)
    assert np.array_equal(again.venue_ts_ns, first.venue_ts_ns)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), files=st.integers(1, 3))
def test_random_recordings_equal_books_of_dictionaries(
    seed: int, files: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp_path = tmp_path_factory.mktemp("tardis")
    randomly = random.Random(seed)
    paths, events = [], []
    for file in range(files):
        rows: list[str] = []
        time, expected = 0, {"bid": {}, "ask": {}}  # type: ignore[var-annotated]
        for number in range(randomly.randrange(1, 25)):
            opens = number == 0 or randomly.random() < 0.15
            time += randomly.randrange(1, 4)
            if opens:
                expected = {"bid": {}, "ask": {}}
            levels: dict[tuple[str, int], int] = {}
            for side in ("bid", "ask"):
                for _ in range(randomly.randrange(1, 4)):
                    price = randomly.randrange(1, 50) + (50 if side == "ask" else 0)
                    levels[side, price] = randomly.choice([0, 1, 7, 2**33]) + int(opens)
            for (side, price), size in levels.items():
                text = f"{Decimal(price).scaleb(-3):f}"
                rows.append(row(time, opens, side, text, f"{size}.0", symbol=f"S{file}"))
                expected[side][Decimal(price).scaleb(-3)] = Decimal(size)
                if not size:
                    del expected[side][Decimal(price).scaleb(-3)]
            book = {side: dict(levels) for side, levels in expected.items()}
            events.append((time, file, (f"S{file}", book)))
        paths.append(written(tmp_path, *rows, name=f"{file}.csv"))
    recording = load(paths)
    validate(recording.transactions)
    events.sort(key=lambda each: each[:2])
    assert list(books_at_ends(recording)) == [each[2] for each in events]
