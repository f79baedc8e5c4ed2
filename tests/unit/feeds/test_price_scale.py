"""Prices of any number of decimals: exact in the records, the checks and the known depth."""

from __future__ import annotations

import json
import pickle
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from velox import (
    STRATEGY_CTYPE,
    TRANSACTION_DTYPE,
    Books,
    Instrument,
    OrderBook,
    Pipeline,
    PipelineConfig,
    PushIngress,
    ReplayIngress,
    Strategy,
)
from velox.core.records import from_fixed, to_fixed
from velox.errors import BookError, ConfigError, FeedError, RecordError
from velox.feeds import KnownDepth, Recording, load
from velox.feeds.okx_checksum import OkxChecksum
from velox.runtime.markets import books_for


def binance(tmp_path: Path, *messages: dict[str, Any]) -> Path:
    path = tmp_path / "recording"
    lines = (json.dumps(each, separators=(",", ":")) for each in messages)
    path.write_text("".join(f"{5000 + n} {line}\n" for n, line in enumerate(lines)))
    return path


def diff(update: int, *bids: tuple[str, str], symbol: str = "PEPEUSDT") -> dict[str, Any]:
    event = {"e": "depthUpdate", "E": 1, "s": symbol, "U": update, "u": update}
    return {**event, "b": bids, "a": []}


def opening(last: int, bid: str, ask: str, **more: Any) -> dict[str, Any]:
    return {"lastUpdateId": last, "bids": [[bid, "1"]], "asks": [[ask, "2"]], **more}


def ticker(update: int, bid: str, ask: str) -> dict[str, Any]:
    best = {"b": bid, "B": "7", "a": ask, "A": "2"}
    return {"e": "bookTicker", "u": update, "s": "PEPEUSDT", **best}


def prices(recording: Recording, market: int = 0) -> list[Decimal]:
    own = recording.transactions[recording.transactions["market"] == market]
    decimals = recording.instruments[market].price_decimals
    return [from_fixed(int(price), decimals).normalize() for price in own["price"] if price]


@pytest.mark.parametrize("careful", [True, False])
@pytest.mark.parametrize("first", ["0.5", "0.00000012", "1.3456"])
def test_a_reader_takes_as_many_decimals_as_the_prices_need(
    tmp_path: Path, first: str, careful: bool
) -> None:
    texts = [first, "13", "0.6", "1.5", "0.00000011", "2.123456"]
    messages = [opening(1, texts[0], texts[1])]
    messages += [diff(2 + n, (text, "7")) for n, text in enumerate(texts[2:])]
    messages.append(ticker(5, "2.123456", "13"))
    recording = load(binance(tmp_path, *messages), "binance", careful=careful)
    (instrument,) = recording.instruments
    assert (instrument.price_decimals, instrument.lot_size) == (8, 1)
    assert prices(recording) == [Decimal(text).normalize() for text in texts]
    assert recording.known_depth() == KnownDepth(to_fixed(first, 8), to_fixed("13", 8), None)
    assert recording.checks is not None
    assert recording.checks.prices.ravel().tolist() == [to_fixed("2.123456", 8), to_fixed("13", 8)]
    assert not (recording.transactions["price"] % instrument.tick_size).any()


def test_prices_of_four_decimals_keep_the_usual_scale(tmp_path: Path) -> None:
    recording = load(binance(tmp_path, opening(1, "1.50000000", "2")), "binance")
    assert recording.instruments[0].price_decimals == 4
    assert prices(recording) == [Decimal("1.5"), 2]


def test_each_market_has_its_own_scale(tmp_path: Path) -> None:
    messages = [
        opening(1, "0.00001", "0.00002", symbol="PEPEUSDT"),
        opening(1, "60000.1", "60000.2", symbol="BTCUSDT"),
        diff(2, ("0.000012", "7")),
        diff(2, ("60000.15", "7"), symbol="BTCUSDT"),
    ]
    recording = load(binance(tmp_path, *messages), "binance")
    assert [each.price_decimals for each in recording.instruments] == [6, 4]
    assert prices(recording)[-1] == Decimal("0.000012")
    assert prices(recording, 1)[-1] == Decimal("60000.15")


def test_a_scale_can_be_told(tmp_path: Path) -> None:
    path = binance(tmp_path, opening(1, "1.5", "2"), diff(2, ("1.25", "7")))
    recording = load(path, "binance", price_decimals=2, tick_size=25)
    (instrument,) = recording.instruments
    assert (instrument.price_decimals, instrument.tick_size) == (2, 25)
    assert prices(recording) == [Decimal("1.5"), 2, Decimal("1.25")]
    assert load(path, "binance", price_decimals=9).instruments[0].price_decimals == 9
    with pytest.raises(FeedError) as caught:
        load(path, "binance", price_decimals=1)
    assert (caught.value.line, caught.value.field) == (2, "b[0][0]")
    for wrong in (-1, 19, "4", True, 4.0):
        with pytest.raises(ConfigError):
            load(path, "binance", price_decimals=wrong)


def test_a_price_that_is_too_fine_for_another_leaves_out_its_line(tmp_path: Path) -> None:
    fine = "0." + "0" * 17 + "1"
    first = opening(1, "60000", "60001", symbol="PEPEUSDT")
    path = binance(tmp_path, first, diff(2, (fine, "1")))
    with pytest.raises(FeedError) as caught:
        load(path, "binance")
    assert (caught.value.line, caught.value.field) == (2, "b[0][0]")
    recording = load(path, "binance", on_error="skip")
    assert (recording.skipped, recording.instruments[0].price_decimals) == (1, 4)


def okx(name: str, bid: str, ask: str, **more: Any) -> str:
    data = {"bids": [[bid, "2.5"]], "asks": [[ask, "3"]], "ts": "1700000000000", **more}
    argument = {"channel": "books", "instId": name}
    return json.dumps({"arg": argument, "action": "snapshot", "data": [data]})


def checksum(text: str) -> int:
    found = zlib.crc32(text.encode())
    return found - 2**32 if found >= 2**31 else found


@pytest.mark.parametrize("grid", [True, False])
def test_checksums_of_fine_prices_are_compared(tmp_path: Path, grid: bool) -> None:
    listed = [
        {"instId": name, "tickSz": tick, "lotSz": "0.1"}
        for name, tick in (("A", "0.00000001"), ("B", "0.1"))
    ]
    rest = f"https://venue -> 1.5: {json.dumps({'data': listed})}\n" if grid else ""
    path = tmp_path / "recording"
    path.write_text(
        rest
        + okx("B", "60000.1", "60000.2", checksum=checksum("60000.1:2.5:60000.2:3"))
        + "\n"
        + okx("A", "0.00001234", "0.00001235", checksum=checksum("0.00001234:2.5:0.00001235:3"))
        + "\n"
    )
    recording = load(path, "okx")
    assert [each.price_decimals for each in recording.instruments] == [8, 8]
    pipeline = Pipeline(
        ReplayIngress(recording.transactions),
        books=recording.instruments,
        checks=recording.checks,
        config=PipelineConfig(placement="invoker"),
    )
    pipeline.run()
    assert pipeline.report().verification == (2, 0, None)
    only = load(path, "okx", symbol="B")
    assert only.instruments[0].price_decimals == 4


def test_checksums_of_scales_that_cannot_be_shared_are_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "recording"
    path.write_text(
        okx("B", "60000.1", "60000.2", checksum=checksum("60000.1:2.5:60000.2:3"))
        + "\n"
        + okx("A", "0.0000000000000012", "0.0000000000000013", checksum=5)
        + "\n"
    )
    recording = load(path, "okx")
    assert sorted(each.price_decimals for each in recording.instruments) == [4, 16]
    assert recording.checks is not None
    assert (len(recording.checks), recording.unknown) == (1, 1)


def test_a_checksum_has_the_scale_of_its_book() -> None:
    book = OrderBook(tick_size=1)
    book.add(0, 1234, 3)
    assert OkxChecksum(8).of(book) == checksum("0.00001234:3")
    assert OkxChecksum().of(book) == checksum("0.1234:3")
    assert pickle.loads(pickle.dumps(OkxChecksum(8))).price_decimals == 8
    with pytest.raises(RecordError):
        OkxChecksum(19)


def test_an_instrument_has_a_scale() -> None:
    assert Instrument().price_decimals == 4
    assert Instrument(price_decimals=18).price_decimals == 18
    for wrong in (-1, 19, 4.0, True, "4"):
        with pytest.raises(BookError):
            Instrument(price_decimals=wrong)  # type: ignore[arg-type]


def test_fixed_prices_convert_at_any_scale() -> None:
    for decimals in range(19):
        text = "1" if not decimals else f"0.{'0' * (decimals - 1)}7"
        units = 1 if not decimals else 7
        assert to_fixed(text, decimals) == units
        assert from_fixed(units, decimals) == Decimal(text)
        assert to_fixed(Decimal(text), decimals) == units
    with pytest.raises(RecordError):
        to_fixed("0.001", 2)
    with pytest.raises(RecordError):
        to_fixed("10", 18)
    for wrong in (-1, 19, "4", None, True):
        with pytest.raises(RecordError):
            to_fixed("1", wrong)  # type: ignore[arg-type]
        with pytest.raises(RecordError):
            from_fixed(1, wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["1_000", "\uff11", "1\u0660"])
def test_text_that_only_python_takes_for_a_number_is_no_price(text: str) -> None:
    with pytest.raises(RecordError):
        to_fixed(text)


def test_a_strategy_on_another_scale_is_refused(tmp_path: Path) -> None:
    recording = load(binance(tmp_path, opening(1, "0.00001", "0.00002")), "binance")
    assert np.count_nonzero(recording.transactions["price"]) == 2
    with pytest.raises(ConfigError):
        Pipeline(
            ReplayIngress(recording.transactions),
            books=recording.instruments,
            strategy=_forward(),
            config=PipelineConfig(placement="invoker"),
        )


@pytest.mark.parametrize("several", [True, False])
def test_a_strategy_refuses_books_of_another_scale(several: bool) -> None:
    fine = OrderBook.from_instrument(Instrument(name="PEPE", market=1, price_decimals=8))
    books = Books([OrderBook(market=0), fine]) if several else fine
    transactions = np.zeros(1, TRANSACTION_DTYPE)
    config = PipelineConfig(placement="invoker")
    with pytest.raises(ConfigError) as caught:
        Pipeline(ReplayIngress(transactions), books=books, strategy=_forward(), config=config)
    assert caught.value.field == "strategy"
    assert "'PEPE' has price_decimals = 8" in caught.value.why
    Pipeline(ReplayIngress(transactions), books=books, config=config)


@pytest.mark.parametrize("decimals", [0, 4, 8, 18])
def test_a_book_keeps_the_scale_of_its_instrument(decimals: int) -> None:
    instrument = Instrument(name="X", market=3, price_decimals=decimals, tick_size=5, levels=64)
    for book in (
        OrderBook.from_instrument(instrument),
        Books([instrument])[3],
        OrderBook(64, 5, price_decimals=decimals, market=3, name="X"),
    ):
        assert book.instrument == instrument
        assert book.price_decimals == decimals
        book.add(0, 15, 2)
        assert (book.best_bid, book.depth(1)["bid_price"].tolist()) == (15, [15])
    assert OrderBook().price_decimals == 4


@pytest.mark.parametrize("wrong", [-1, 19, 4.0, "4"])
def test_a_book_refuses_a_scale_that_no_price_has(wrong: Any) -> None:
    with pytest.raises(BookError) as caught:
        OrderBook(price_decimals=wrong)
    assert (caught.value.field, caught.value.value) == ("price_decimals", wrong)


def test_a_mismatch_is_told_in_the_decimals_of_its_market(tmp_path: Path) -> None:
    messages = [
        opening(1, "60000.1", "60000.2", symbol="BTCUSDT"),
        opening(1, "0.00001234", "0.00001235", symbol="PEPEUSDT"),
        diff(2, ("60000.1", "7"), symbol="BTCUSDT"),
        diff(2, ("0.00001234", "6")),
        ticker(2, "0.00001234", "0.00001235"),
    ]
    recording = load(binance(tmp_path, *messages), "binance")
    pipeline = Pipeline(
        ReplayIngress(recording.transactions),
        books=recording.instruments,
        checks=recording.checks,
        config=PipelineConfig(placement="invoker"),
    )
    pipeline.run()
    verification = pipeline.report().verification
    assert verification is not None
    assert (verification.checked, verification.mismatched) == (1, 1)
    assert verification.first_mismatch is not None
    assert verification.first_mismatch.endswith(
        "market 1: bid level 0 is 6 at 0.00001234, expected 7 at 0.00001234"
    )


class _Describes(PushIngress):
    """An ingress that says what its market is."""

    def __init__(self, decimals: int) -> None:
        super().__init__()
        self.decimals = decimals

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        return (Instrument(price_decimals=self.decimals, tick_size=100),)


def test_two_scales_of_one_market_are_refused() -> None:
    config = PipelineConfig(lanes=2, writers=2)
    with pytest.raises(ConfigError) as caught:
        books_for([_Describes(8), _Describes(4)], config)
    assert caught.value.field == "price_decimals"
    [book] = books_for([_Describes(8)], PipelineConfig()).values()
    assert (book.price_decimals, book.tick_size) == (8, 100)


def _forward() -> Strategy:
    @STRATEGY_CTYPE
    def forward(record: Any, book: Any, out: Any, room: int, state: Any) -> int:
        return 0

    return Strategy(forward)
