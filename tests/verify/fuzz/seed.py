"""``python -m tests.verify.fuzz.seed``: writes the seeds again, as the targets take them."""

from __future__ import annotations

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from velox import BUNDLE_DTYPE, TRANSACTION_DTYPE, Kind, LatencyHistogram, MarketFlow
from velox.runtime.capture import header
from velox.telemetry import encode_histogram

from .targets import SEPARATOR

HERE = Path(__file__).parent / "seeds"

MESSAGES = (
    b"34200.000000001,1,10,5,1000000,1\n34200.000000002,1,11,7,1000100,-1\n"
    b"34200.5,2,11,3,1000100,-1\n34201.25,5,0,100,1000050,1\n34202,7,0,0,-1,-1\n"
)
WINDOW_MESSAGES = (
    b"34200.1,1,1,10,300000,1\n34200.2,1,2,20,300200,1\n34200.3,4,2,20,300200,1\n"
    b"34200.4,1,3,5,299000,1\n34200.5,2,9,3,300100,1\n"
)
WINDOW_ROWS = (
    b"300500,7,300000,10\n300500,7,300200,20\n300500,7,300100,44\n"
    b"300500,7,300100,44\n300500,7,300100,41\n"
)
TWO_LEVELS = (
    b"300500,7,300000,10,9999999999,0,-9999999999,0\n300500,7,300200,20,9999999999,0,300000,10\n"
)
ROWS = b"9999999999,0,1000000,5\n" + b"1000100,7,1000000,5\n" + b"1000100,4,1000000,5\n" * 3


def lines(stamp: str, *messages: Any) -> bytes:
    return "".join(f"{stamp}{json.dumps(message)}\n" for message in messages).encode()


def depth(first: int, last: int, before: int, bids: list[Any], asks: list[Any]) -> dict[str, Any]:
    event = {"e": "depthUpdate", "s": "A", "U": first, "u": last, "pu": before}
    return {**event, "b": bids, "a": asks}


def binance() -> bytes:
    ticker = {"e": "bookTicker", "u": 9, "s": "A", "b": "1.5", "B": "3", "a": "1.6", "A": "2.5"}
    trade = {"e": "trade", "s": "A", "t": 1, "p": "1.5", "q": "1", "m": True}
    return lines(
        "17000000000 ",
        depth(1, 4, 0, [["1.5", "2"]], []),
        {"lastUpdateId": 4, "bids": [["1.4", "1"]], "asks": [["1.6", "2.5"]]},
        {"stream": "a@trade", "data": trade},
        ticker,
        depth(6, 9, 4, [["1.5", "3"]], []),
    )


def redundant() -> bytes:
    """Two connections: a repeated diff, one that comes late, and a gap."""
    return lines(
        "17000000000 ",
        {"lastUpdateId": 4, "bids": [["1.4", "1"]], "asks": [["1.6", "2.5"]], "symbol": "A"},
        depth(5, 9, 4, [["1.5", "3"]], []),
        depth(5, 9, 4, [["1.5", "3"]], []),
        depth(12, 13, 11, [["1.4", "0"]], []),
        depth(10, 11, 9, [], [["1.6", "0"]]),
        depth(20, 21, 19, [["1.3", "4"]], []),
        {"lastUpdateId": 25, "bids": [["1.4", "1"]], "asks": [["1.6", "2.5"]], "symbol": "A"},
        depth(26, 27, 25, [["1.5", "3"]], []),
    )


def redundant_okx() -> bytes:
    """The same of OKX, with a trade."""
    argument = {"channel": "books", "instId": "A"}

    def update(sequence: int, before: int, size: str) -> dict[str, Any]:
        data = {"bids": [["1.4", size]], "asks": [], "seqId": sequence, "prevSeqId": before}
        return {"arg": argument, "action": "update", "data": [{**data, "ts": "1700000000000"}]}

    opening = {"bids": [["1.4", "1"]], "asks": [["1.6", "2"]], "seqId": 5, "prevSeqId": -1}
    trade = {"tradeId": "1", "px": "1.5", "sz": "1", "side": "buy", "ts": "1700000000000"}
    return lines(
        "17.25: ",
        {"arg": argument, "action": "snapshot", "data": [{**opening, "ts": "1700000000000"}]},
        update(7, 5, "2"),
        update(7, 5, "2"),
        update(11, 9, "4"),
        update(9, 7, "3"),
        {"arg": {"channel": "trades", "instId": "A"}, "data": [trade]},
        update(20, 19, "0"),
    )


def compact(*messages: Any) -> bytes:
    """Lines in the form that the scanner reads."""
    return b"".join(
        b"17000000000 " + json.dumps(each, separators=(",", ":")).encode() + b"\n"
        for each in messages
    )


def usual() -> bytes:
    event = {"e": "depthUpdate", "E": 1_700_000_000_000, "s": "A"}
    return compact(
        {"lastUpdateId": 4, "bids": [["1.4", "1"]], "asks": [["1.6", "2.5"]], "symbol": "A"},
        {**event, "U": 5, "u": 9, "b": [["1.5", "3"]], "a": [["1.7", "0.000"]]},
        {"u": 9, "s": "A", "b": "1.5", "B": "3", "a": "1.6", "A": "2.5"},
        {"stream": "a@depth", "data": {**event, "U": 10, "u": 12, "b": [["1.5", "0"]], "a": []}},
        {"e": "trade", "E": 5, "s": "A", "t": 7, "p": "1.5", "q": "1", "T": 4, "m": True},
    )


def pictures() -> bytes:
    bids, asks = [["1.5", "2"], ["1.4", "1"]], [["1.6", "2"], ["1.7", "1"]]
    return lines(
        "17000000000 ",
        {"stream": "a@depth5", "data": depth(1, 4, 0, bids, asks)},
        {"stream": "a@depth5", "data": {"lastUpdateId": 6, "bids": bids, "asks": asks}},
        depth(7, 9, 6, bids, asks),
    )


def books5() -> bytes:
    argument = {"channel": "books5", "instId": "A"}
    data = {"bids": [["1.4", "1"]], "asks": [["1.6", "2"]], "ts": "1700000000000"}
    return lines("", *({"arg": argument, "data": [{**data, "seqId": n}]} for n in (5, 5, 7)))


def okx() -> bytes:
    argument = {"channel": "books", "instId": "A"}
    opening = {"bids": [["1.4", "1"]], "asks": [["1.6", "2"]], "checksum": 5, "seqId": 5}
    change = {"bids": [["1.4", "0"]], "asks": [], "checksum": -7, "seqId": 7, "prevSeqId": 5}
    return lines(
        "17.25: ",
        {"event": "subscribe", "arg": argument},
        {"arg": argument, "action": "snapshot", "data": [opening]},
        {"arg": argument, "action": "update", "data": [change]},
    )


def bybit() -> bytes:
    def book(depth: int, kind: str, **data: Any) -> dict[str, Any]:
        return {"topic": f"orderbook.{depth}.A", "type": kind, "ts": 1, "data": {"s": "A", **data}}

    sides = {"b": [["1.4", "1"]], "a": [["1.6", "2"]]}
    trade = {"s": "A", "S": "Buy", "v": "1", "p": "1.6", "i": "7", "BT": False}
    return lines(
        "17000000000 ",
        {"success": True, "ret_msg": "", "op": "subscribe"},
        book(50, "snapshot", **sides, u=5, seq=9),
        book(50, "delta", b=[["1.4", "0"]], a=[], u=6, seq=10),
        book(1, "snapshot", b=[], a=[["1.6", "2"]], u=6, seq=10),
        {"topic": "publicTrade.A", "ts": 1, "data": [trade]},
        book(50, "delta", b=[["1.4", "0"]], a=[], u=8, seq=12),
        book(50, "snapshot", **sides, u=1, seq=13),
    )


def kraken() -> bytes:
    symbol = {"symbol": "A/B", "timestamp": "2023-10-06T17:35:55.440295Z"}

    def book(kind: str, bid: float, digits: bytes) -> dict[str, Any]:
        data = {**symbol, "bids": [{"price": 1.4, "qty": bid}], "checksum": zlib.crc32(digits)}
        data["asks"] = [{"price": 1.6, "qty": 2.0}]
        return {"channel": "book", "type": kind, "data": [data]}

    trade = {**symbol, "side": "buy", "price": 1.6, "qty": 0.5, "trade_id": 7}
    return lines(
        "17000000000 ",
        {"method": "subscribe", "result": {"channel": "book", "depth": 10, "symbol": "A/B"}},
        book("snapshot", 1.5, b"16201415"),
        book("update", 0.0, b"1620"),
        {"channel": "trade", "type": "update", "data": [trade]},
        book("update", 2.5, b"16201424"),
        book("snapshot", 1.5, b"16201415"),
    )


def coinbase() -> bytes:
    def level(side: str, price: str, quantity: str) -> dict[str, str]:
        return {"side": side, "price_level": price, "new_quantity": quantity}

    both = [level("bid", "1.4", "1"), level("offer", "1.6", "2")]
    trade = {"product_id": "A", "trade_id": "7", "side": "BUY", "price": "1.6", "size": "1"}
    events: list[tuple[int, str, dict[str, Any]]] = [
        (0, "l2_data", {"type": "snapshot", "product_id": "A", "updates": both}),
        (1, "heartbeats", {"heartbeat_counter": 5}),
        (2, "l2_data", {"type": "update", "product_id": "A", "updates": both[:1]}),
        (3, "market_trades", {"type": "update", "trades": [trade]}),
        (5, "l2_data", {"type": "update", "product_id": "A", "updates": both[1:]}),
        (0, "l2_data", {"type": "snapshot", "product_id": "A", "updates": both}),
    ]
    return lines(
        "17000000000 ",
        *(
            {"channel": channel, "sequence_num": number, "events": [event]}
            for number, channel, event in events
        ),
    )


def hyperliquid() -> bytes:
    level = {"px": "1.4", "sz": "1", "n": 1}
    trade = {"coin": "A", "side": "B", "px": "1.6", "sz": "1", "time": 1, "tid": 7}
    subscription = {"type": "l2Book", "coin": "B", "nSigFigs": 5}
    return lines(
        "17000000000 ",
        {"channel": "subscriptionResponse", "data": {"subscription": subscription}},
        *(
            {"channel": "l2Book", "data": {"coin": "A", "time": time, "levels": levels}}
            for time, levels in ((1, [[level], []]), (2, [[], [level]]), (2, [[], [level]]))
        ),
        {"channel": "bbo", "data": {"coin": "A", "time": 2, "bbo": [None, level]}},
        {"channel": "trades", "data": [trade]},
    )


def saved(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def orders() -> np.ndarray[Any, Any]:
    rows = np.zeros(24, TRANSACTION_DTYPE)
    for index, row in enumerate(rows):
        row["id"], row["price"], row["size"] = index, 1_000 + index % 7, 1 + index % 5
        row["side"], row["kind"] = index & 1, index % (Kind.TRADE + 1)
    return rows


def bundles(count: int) -> np.ndarray[Any, Any]:
    rows = np.zeros(count, BUNDLE_DTYPE)
    rows["transactions"] = MarketFlow(1).generate(16 * count).reshape(count, 16)
    rows["count"], rows["sealed_ts_ns"] = 16, np.arange(count)
    return rows


def histogram(values: list[int], **layout: int) -> bytes:
    """What an encoded histogram inflates to; the deflated bytes would differ with zlib."""
    made = LatencyHistogram(**layout)
    for value in values:
        made.record(value)
    return zlib.decompress(base64.b64decode(encode_histogram(made))[8:])


def seeds() -> dict[str, dict[str, bytes]]:
    whole = header(3) + bundles(3).tobytes()
    running = header(0) + bundles(3).tobytes()
    near = orders()
    far = orders()
    far["price"] *= np.arange(1, 25)
    wide = orders()
    wide["kind"], wide["id"] = Kind.SET_WIDE, 2 ** np.arange(24, 48, dtype=np.uint64)
    return {
        "lobster": {
            "messages": b"\0" + MESSAGES,
            "pair": b"\0" + MESSAGES + SEPARATOR + ROWS,
            "pair_skip": b"\1" + MESSAGES + SEPARATOR + ROWS,
            "two_levels": b"\x10" + WINDOW_MESSAGES[:48] + SEPARATOR + TWO_LEVELS,
            "window": b"\1" + WINDOW_MESSAGES + SEPARATOR + WINDOW_ROWS,
        },
        "binance": {
            "stop": b"\0" + binance(),
            "skip_trades": b"\5" + binance(),
            "pictures": b"\x11" + pictures(),
            "redundant": b"\0" + redundant(),
        },
        "okx": {
            "stop": b"\0" + okx(),
            "skip_trades": b"\5" + okx(),
            "redundant": b"\0" + redundant_okx(),
            "books5": b"\1" + books5(),
        },
        "bybit": {"stop": b"\0" + bybit(), "skip_trades": b"\5" + bybit()},
        "coinbase": {"stop": b"\0" + coinbase(), "skip_trades": b"\5" + coinbase()},
        "hyperliquid": {"stop": b"\0" + hyperliquid(), "skip_trades": b"\5" + hyperliquid()},
        "kraken": {"stop": b"\0" + kraken(), "skip_trades": b"\5" + kraken()},
        "scan": {
            "usual": b"\5" + usual(),
            "without_times": b"\5" + usual().replace(b"17000000000 ", b""),
            "careful": b"\5" + binance(),
        },
        "npy": {
            "orders": b"\0" + saved(orders()[:4]),
            "bundles": b"\1" + saved(bundles(1)),
        },
        "book": {
            "one_writer": b"\x00" + near.tobytes(),
            "coarse": b"\x02" + near.tobytes(),
            "far": b"\x08" + far.tobytes(),
            "several": b"\x04" + near.tobytes(),
            "wide": b"\x14" + wide.tobytes(),
        },
        "capture": {
            "whole": whole,
            "running": running,
            "cut": running[:-77],
            "zeros": running + bytes(528),
            "empty": header(0),
        },
        "histogram": {
            "empty": histogram([]),
            "latencies": histogram([0, 1, 1, 300, 5_000, 10**6]),
            "far_apart": histogram([1, 2**40], lowest=1000, highest=2**50, significant_digits=1),
        },
    }


if __name__ == "__main__":
    for target, files in seeds().items():
        (HERE / target).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (HERE / target / name).write_bytes(data)
