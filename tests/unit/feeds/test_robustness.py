"""Any input gives a valid recording or a typed error."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from velox.core.records import BUNDLE_DTYPE, TRANSACTION_DTYPE, Kind, validate
from velox.errors import FeedError
from velox.feeds import load

MESSAGES = (
    b"34200.000000001,1,10,5,1000000,1\n"
    b"34200.000000002,1,11,7,1000100,-1\n"
    b"34200.5,2,11,3,1000100,-1\n"
    b"34201.25,5,0,100,1000050,1\n"
    b"34202,7,0,0,-1,-1\n"
)
ROWS = (
    b"9999999999,0,1000000,5\n"
    b"1000100,7,1000000,5\n"
    b"1000100,4,1000000,5\n"
    b"1000100,4,1000000,5\n"
    b"1000100,4,1000000,5\n"
)


def lines(*messages: Any, stamp: str) -> bytes:
    return "".join(f"{stamp}{json.dumps(message)}\n" for message in messages).encode()


BINANCE = lines(
    {"e": "depthUpdate", "s": "A", "U": 1, "u": 4, "pu": 0, "b": [["1.5", "2"]], "a": []},
    {"lastUpdateId": 4, "bids": [["1.4", "1"]], "asks": [["1.6", "2.5"]]},
    {
        "stream": "a@trade",
        "data": {"e": "trade", "s": "A", "t": 1, "p": "1.5", "q": "1", "m": True},
    },
    {"e": "bookTicker", "u": 9, "s": "A", "b": "1.5", "B": "3", "a": "1.6", "A": "2.5"},
    {"e": "depthUpdate", "s": "A", "U": 6, "u": 9, "pu": 4, "b": [["1.5", "3"]], "a": []},
    stamp="17000000000 ",
)
ARGUMENT = {"channel": "books", "instId": "A"}
OKX = b"wss://venue <-> 1.5\n" + lines(
    {"event": "subscribe", "arg": ARGUMENT},
    {
        "arg": ARGUMENT,
        "action": "snapshot",
        "data": [{"bids": [["1.4", "1"]], "asks": [["1.6", "2"]], "checksum": 5, "seqId": 5}],
    },
    {
        "arg": ARGUMENT,
        "action": "update",
        "data": [{"bids": [["1.4", "0"]], "asks": [], "checksum": -7, "seqId": 7, "prevSeqId": 5}],
    },
    stamp="17.25: ",
)

TARDIS = (
    b"exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n"
    b"venue,A,1700000000000000,1700000000000001,true,bid,1.5,2\n"
    b"venue,A,1700000000000000,1700000000000001,true,ask,1.6,1e-3\n"
    b"venue,A,1700000000000002,1700000000000003,false,bid,1.5,0\n"
    b"other,B,1700000000000002,1700000000000003,true,bid,1.25,7\n"
    b"venue,A,1700000000000004,1700000000000005,true,ask,1.75,7\n"
)
BYBIT = lines(
    {"success": True, "ret_msg": "", "op": "subscribe"},
    {
        "topic": "orderbook.50.A",
        "type": "snapshot",
        "ts": 17,
        "data": {"s": "A", "b": [["1.4", "1"]], "a": [["1.6", "2"]], "u": 5, "seq": 9},
    },
    {
        "topic": "orderbook.50.A",
        "type": "delta",
        "ts": 18,
        "data": {"s": "A", "b": [["1.4", "0"]], "a": [], "u": 6, "seq": 10},
    },
    {
        "topic": "orderbook.1.A",
        "type": "snapshot",
        "ts": 18,
        "data": {"s": "A", "b": [], "a": [["1.6", "2"]], "u": 6, "seq": 10},
    },
    {
        "topic": "publicTrade.A",
        "ts": 19,
        "data": [{"s": "A", "S": "Buy", "v": "1", "p": "1.6", "i": "7", "BT": False}],
    },
    stamp="17000000000 ",
)
KRAKEN_SYMBOL = {"symbol": "A/B", "timestamp": "2023-10-06T17:35:55.440295Z"}
KRAKEN = lines(
    {"method": "subscribe", "result": {"channel": "book", "depth": 10, "symbol": "A/B"}},
    {
        "channel": "book",
        "type": "snapshot",
        "data": [
            KRAKEN_SYMBOL
            | {"bids": [{"price": 1.4, "qty": 1.5}], "asks": [{"price": 1.6, "qty": 2.0}]}
            | {"checksum": zlib.crc32(b"16201415")}
        ],
    },
    {
        "channel": "book",
        "type": "update",
        "data": [
            KRAKEN_SYMBOL
            | {"bids": [{"price": 1.4, "qty": 0.0}], "asks": [], "checksum": zlib.crc32(b"1620")}
        ],
    },
    {
        "channel": "trade",
        "type": "update",
        "data": [KRAKEN_SYMBOL | {"side": "buy", "price": 1.6, "qty": 0.5, "trade_id": 7}],
    },
    stamp="17000000000 ",
)
COINBASE_EVENTS: list[tuple[str, dict[str, Any]]] = [
    (
        "l2_data",
        {
            "type": "snapshot",
            "product_id": "A",
            "updates": [
                {"side": "bid", "price_level": "1.4", "new_quantity": "1"},
                {"side": "offer", "price_level": "1.6", "new_quantity": "2"},
            ],
        },
    ),
    ("heartbeats", {"heartbeat_counter": 5}),
    (
        "l2_data",
        {
            "type": "update",
            "product_id": "A",
            "updates": [{"side": "bid", "price_level": "1.4", "new_quantity": "0"}],
        },
    ),
    (
        "market_trades",
        {
            "type": "update",
            "trades": [
                {"product_id": "A", "trade_id": "7", "side": "BUY", "price": "1.6", "size": "1"}
            ],
        },
    ),
]
COINBASE = lines(
    *(
        {
            "channel": channel,
            "timestamp": "2023-02-09T20:32:50.714964855Z",
            "sequence_num": number,
            "events": [event],
        }
        for number, (channel, event) in enumerate(COINBASE_EVENTS)
    ),
    stamp="17000000000 ",
)
HYPERLIQUID_LEVELS = [[{"px": "1.4", "sz": "1", "n": 1}], [{"px": "1.6", "sz": "2", "n": 2}]]
HYPERLIQUID = lines(
    {
        "channel": "subscriptionResponse",
        "data": {"method": "subscribe", "subscription": {"type": "l2Book", "coin": "B"}},
    },
    {"channel": "l2Book", "data": {"coin": "A", "time": 17, "levels": HYPERLIQUID_LEVELS}},
    {"channel": "bbo", "data": {"coin": "A", "time": 17, "bbo": [None, HYPERLIQUID_LEVELS[1][0]]}},
    {
        "channel": "trades",
        "data": [{"coin": "A", "side": "B", "px": "1.6", "sz": "1", "time": 18, "tid": 7}],
    },
    stamp="17000000000 ",
)
SESSIONS = {
    "bybit": BYBIT,
    "coinbase": COINBASE,
    "hyperliquid": HYPERLIQUID,
    "kraken": KRAKEN,
}


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


ORDERS = np.zeros(3, TRANSACTION_DTYPE)
ORDERS["price"], ORDERS["size"], ORDERS["kind"] = 100, 1, Kind.SET
BUNDLES = np.zeros(2, BUNDLE_DTYPE)
BUNDLES["count"], BUNDLES["transactions"][:, 0] = 1, ORDERS[0]

# Bytes that mean something to one of the grammars.
TELLING = st.sampled_from(
    [b"-", b".", b",", b"0", b"9" * 20, b"9" * 5000, b"e400", b"NaN", b'"', b"{", b"}", b"[", b"]",
     b"null", b"true", b"[]", b"{}", b"1e400", b"\\ud800", b"\\u0000", b"\n", b"\r", b"\xff",
     b"\x00", b"Infinity", b'"1"', b"1"]
)  # fmt: skip


@st.composite
def mutations(draw: st.DrawFn, original: bytes) -> bytes:
    """The original with a few spans cut out, replaced or repeated."""
    content = original
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from([0, 0, 1, 1, 2, 5, 40])))
        filling = draw(st.one_of(TELLING, st.binary(max_size=3), st.just(content[start:end] * 2)))
        content = content[:start] + filling + content[end:]
    return content


def check(
    contents: list[bytes],
    format: str,
    on_error: Literal["stop", "skip"],
    tmp_path_factory: pytest.TempPathFactory,
    **options: Any,
) -> None:
    directory = tmp_path_factory.mktemp("fuzz")
    paths = [directory / f"part_{index}" for index in range(len(contents))]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    failure: FeedError | None = None
    try:
        recording = load(paths, format, on_error=on_error, **options)
    except FeedError as error:
        failure = error
    if failure is not None:
        assert failure.path in {str(path) for path in paths}
        assert str(failure).encode("utf-8")  # whatever was wrong, it can be printed
        return
    validate(recording.transactions)
    assert len(recording) > 0
    markets = {instrument.market for instrument in recording.instruments}
    assert set(recording.transactions["market"].tolist()) <= markets
    in_book = ~np.isin(recording.transactions["kind"], [Kind.CLEAR, Kind.TRADE])
    for instrument in recording.instruments:
        own = in_book & (recording.transactions["market"] == instrument.market)
        assert not (recording.transactions["price"][own] % instrument.tick_size).any()
    if recording.checks is not None and len(recording.checks):
        assert recording.checks.position.max() <= len(recording)
    if on_error == "stop":
        assert recording.skipped == 0


robust = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
on_errors = st.sampled_from(["stop", "skip"])


@robust
@given(
    st.one_of(
        st.tuples(mutations(MESSAGES)),
        st.tuples(mutations(MESSAGES), st.just(ROWS)),
        st.tuples(st.just(MESSAGES), mutations(ROWS)),
        st.tuples(mutations(MESSAGES), mutations(ROWS)),
    ),
    on_errors,
)
def test_any_bytes_as_lobster(
    tmp_path_factory: pytest.TempPathFactory,
    contents: tuple[bytes, ...],
    on_error: Literal["stop", "skip"],
) -> None:
    check(list(contents), "lobster", on_error, tmp_path_factory)


@robust
@given(mutations(BINANCE), on_errors)
@example(BINANCE.replace(b'"A"', b'"\\ud800"'), "stop")
@example(BINANCE.replace(b'"s": "A"', b'"s": "\\ud800"'), "skip")
def test_any_bytes_as_binance(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, on_error: Literal["stop", "skip"]
) -> None:
    check([content], "binance", on_error, tmp_path_factory, trades=True)


@robust
@given(mutations(TARDIS), on_errors, st.sampled_from(["clear", "continue"]))
def test_any_bytes_as_tardis(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    on_error: Literal["stop", "skip"],
    on_gap: str,
) -> None:
    check([content], "tardis", on_error, tmp_path_factory, on_gap=on_gap)


@robust
@given(mutations(OKX), on_errors)
def test_any_bytes_as_okx(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, on_error: Literal["stop", "skip"]
) -> None:
    check([content], "okx", on_error, tmp_path_factory, trades=True)


@pytest.mark.parametrize("format", SESSIONS)
@robust
@given(st.data(), on_errors)
def test_any_bytes_as_a_recorded_session(
    tmp_path_factory: pytest.TempPathFactory,
    format: str,
    data: st.DataObject,
    on_error: Literal["stop", "skip"],
) -> None:
    content = data.draw(mutations(SESSIONS[format]))
    check([content], format, on_error, tmp_path_factory, trades=True)


@robust
@given(st.one_of(mutations(npy(ORDERS)), mutations(npy(BUNDLES))), on_errors)
def test_any_bytes_as_npy(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, on_error: Literal["stop", "skip"]
) -> None:
    check([content], "npy", on_error, tmp_path_factory)


@robust
@given(
    st.sampled_from([MESSAGES, BINANCE, OKX, *SESSIONS.values()])
    .map(gzip.compress)
    .flatmap(mutations),
    st.sampled_from(["lobster", "binance", "okx", "npy", *SESSIONS]),
    on_errors,
)
def test_any_bytes_as_gzip(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    format: str,
    on_error: Literal["stop", "skip"],
) -> None:
    check([content], format, on_error, tmp_path_factory)


@robust
@given(
    st.binary(max_size=200),
    st.sampled_from(["lobster", "binance", "okx", "npy", *SESSIONS]),
    on_errors,
)
def test_bytes_of_no_format(
    tmp_path_factory: pytest.TempPathFactory,
    content: bytes,
    format: str,
    on_error: Literal["stop", "skip"],
) -> None:
    check([content], format, on_error, tmp_path_factory)
