"""What holds for every format: how `load` is called, and how files fail."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from velox.core.instrument import Instrument
from velox.core.records import TRANSACTION_DTYPE, Kind
from velox.errors import ConfigError, FeedError
from velox.feeds import Recording, formats, load, register
from velox.feeds.files import source
from velox.feeds.files.registry import _formats
from velox.feeds.files.source import Source

TEXT_FORMATS = ("binance", "bybit", "coinbase", "hyperliquid", "kraken", "lobster", "okx")
EXAMPLES = {
    "lobster": b"34200.5,1,17,200,308700,1\n",
    "binance": b'17 {"lastUpdateId":5,"bids":[["1.5","2"]],"asks":[["1.6","1"]]}\n',
    "bybit": b'17 {"topic":"orderbook.50.A","type":"snapshot","ts":1,'
    b'"data":{"s":"A","b":[["1.5","2"]],"a":[["1.6","1"]],"u":5,"seq":6}}\n',
    "coinbase": b'17 {"channel":"l2_data","sequence_num":0,"events":[{"type":"snapshot",'
    b'"product_id":"A","updates":[{"side":"bid","price_level":"1.5","new_quantity":"2"}]}]}\n',
    "hyperliquid": b'17 {"channel":"l2Book","data":{"coin":"A","time":0,"levels":['
    b'[{"px":"1.5","sz":"2","n":1}],[]]}}\n',
    "kraken": b'17 {"channel":"book","type":"snapshot","data":[{"symbol":"A/B",'
    b'"bids":[{"price":1.5,"qty":2}],"asks":[{"price":1.6,"qty":1}],"checksum":%d}]}\n'
    % zlib.crc32(b"161152"),
    "okx": b'16.5: {"arg":{"channel":"books","instId":"A-B"},"action":"snapshot",'
    b'"data":[{"bids":[["1.5","2"]],"asks":[["1.6","1"]],"ts":"1","checksum":5}]}\n',
}


def file_of(tmp_path: Path, content: bytes, name: str = "feed.dat") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_an_unknown_format_is_told_which_are_known(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"'fix': known are {', '.join(formats())}"):
        load(tmp_path, "fix")
    assert {*TEXT_FORMATS, "npy"} <= set(formats())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"on_error": "ignore"}, "on_error"),
        ({"limit": 0}, "limit"),
        ({"limit": True}, "limit"),
        ({"depth": -1}, "depth"),
        ({"depth": 2.5}, "depth"),
        ({"colour": "red"}, "colour: is not an option of format 'lobster'; it has: tick_size"),
        ({"tick_size": 0}, "tick_size"),
        ({"tick_size": "0.01"}, "tick_size"),
        ({"levels": 1000}, "levels"),
        ({"levels": "many"}, "levels"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(
    tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    path = file_of(tmp_path, EXAMPLES["lobster"])
    with pytest.raises(ConfigError, match=named):
        load(path, "lobster", **options)


@pytest.mark.parametrize("lot", [0.001, True, "0", "-1", "nan", "inf", "one", "1e-19", "1e40", []])
def test_a_lot_is_a_positive_decimal(tmp_path: Path, lot: Any) -> None:
    path = file_of(tmp_path, EXAMPLES["binance"])
    with pytest.raises(ConfigError, match="lot_size"):
        load(path, "binance", lot_size=lot)


@pytest.mark.parametrize("paths", [5, b"feed.csv", [None], None])
def test_what_is_no_path_is_refused(paths: Any) -> None:
    with pytest.raises(ConfigError, match="must be a path, or an iterable of paths"):
        load(paths, "okx")


@pytest.mark.parametrize("format", [*TEXT_FORMATS, "npy"])
@pytest.mark.parametrize("name", ["x" * 5000, "a\0b", "file/below"], ids=["long", "NUL", "below"])
def test_a_path_that_can_lead_nowhere_is_a_feed_error(
    tmp_path: Path, format: str, name: str
) -> None:
    (tmp_path / "file").write_text("a file, not a directory")
    with pytest.raises(FeedError, match="cannot be opened"):
        load(tmp_path / name, format)


def test_no_paths_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one file"):
        load([], "okx")


@pytest.mark.parametrize("format", TEXT_FORMATS)
@pytest.mark.parametrize(
    "as_path", [str, os.fspath, lambda path: [path], lambda path: (p for p in [path])]
)
def test_paths_may_be_one_or_many(
    tmp_path: Path, format: str, as_path: Callable[[Path], Any]
) -> None:
    path = file_of(tmp_path, EXAMPLES[format])
    recording = load(as_path(path), format)
    assert recording.source == (path,)
    assert len(recording) == len(recording.transactions) > 0
    assert recording.transactions.dtype == TRANSACTION_DTYPE


@pytest.mark.parametrize("format", TEXT_FORMATS)
def test_the_content_tells_the_format(tmp_path: Path, format: str) -> None:
    for content in (EXAMPLES[format], gzip.compress(EXAMPLES[format])):
        told = load(file_of(tmp_path, content), format)
        assert np.array_equal(load(file_of(tmp_path, content)).transactions, told.transactions)


@pytest.mark.parametrize(
    "lines",
    [
        # Older interfaces of venues whose newer ones are read.
        ['{"connectionID":1,"event":"systemStatus","status":"online","version":"1.8.3"}'],
        ['1.5: {"channelID":5,"channelName":"trade","event":"subscriptionStatus","pair":"A/B"}'],
        ['wss://ws.kraken.com <- 1.5: {"event":"subscribe","pair":["A/B"]}', "1.5: [5,{},1,2]"],
        ['1.5: {"event":"heartbeat"}'],
        ['{"type":"l2update","product_id":"A-B","changes":[["buy","1.5","2"]]}'],
        ['https://venue/products -> 1.5: [{"id":"A","base":"B","quote":"C","d":1,"e":2}]'],
        ['configuration: {"trades":["A","B","C"],"l2_book":["A","B","C","D"]}'],
    ],
)
def test_a_recording_of_no_known_format_is_not_taken_for_one(
    tmp_path: Path, lines: list[str]
) -> None:
    with pytest.raises(FeedError, match="the content does not tell"):
        load(file_of(tmp_path, "".join(f"{line}\n" for line in lines).encode()))


def test_a_line_that_could_be_of_two_formats_leaves_it_to_the_next(tmp_path: Path) -> None:
    reply = b'{"code":0,"msg":"","id":3}\n'
    recording = load(file_of(tmp_path, reply + EXAMPLES["okx"]))
    assert recording.ignored == {"error reply": 1}
    for content in (reply, b"prose\n", b"\x00" * 100):
        with pytest.raises(FeedError) as caught:
            load(file_of(tmp_path, content))
        assert caught.value.line == 1
    with pytest.raises(FeedError):
        load(tmp_path / "absent")
    with pytest.raises(ConfigError):
        load(file_of(tmp_path, EXAMPLES["okx"]), tick_size=1)


@pytest.mark.parametrize("format", TEXT_FORMATS)
def test_gzip_is_read_like_plain_text(tmp_path: Path, format: str) -> None:
    plain = load(file_of(tmp_path, EXAMPLES[format], "plain"), format)
    packed = load(file_of(tmp_path, gzip.compress(EXAMPLES[format]), "packed"), format)
    assert np.array_equal(plain.transactions, packed.transactions)


@pytest.mark.parametrize("format", TEXT_FORMATS)
def test_windows_line_ends_are_read_like_any_other(tmp_path: Path, format: str) -> None:
    plain = load(file_of(tmp_path, EXAMPLES[format], "plain"), format)
    windows = load(file_of(tmp_path, EXAMPLES[format].replace(b"\n", b"\r\n"), "windows"), format)
    assert np.array_equal(plain.transactions, windows.transactions)


@pytest.mark.parametrize("format", TEXT_FORMATS)
@pytest.mark.parametrize("on_error", ["stop", "skip"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n\n",
        bytes(range(256)) * 4,
        b"\x1f\x8b",
        b"\x1f\x8bnot really gzip",
        gzip.compress(b"")[:10],
        "naïve text\n".encode(),
        b"NaN\nInfinity\n",
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=["empty", "blank", "binary", "magic only", "false gzip", "cut gzip", "prose", "NaN",
         "nested arrays", "nested objects"],
)  # fmt: skip
def test_a_file_of_nothing_usable_is_a_feed_error(
    tmp_path: Path, format: str, on_error: Any, content: bytes
) -> None:
    path = file_of(tmp_path, content)
    with pytest.raises(FeedError) as caught:
        load(path, format, on_error=on_error)
    assert caught.value.path == str(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("format", [*TEXT_FORMATS, "npy"])
@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_missing_file_and_a_directory_are_feed_errors(
    tmp_path: Path, format: str, on_error: Any
) -> None:
    with pytest.raises(FeedError, match="no such file"):
        load(tmp_path / "absent", format, on_error=on_error)
    with pytest.raises(FeedError, match=r"directory|needs one message file"):
        load(tmp_path, format, on_error=on_error)


@pytest.mark.parametrize("format", [*TEXT_FORMATS, "npy"])
def test_a_pipe_is_refused_before_anybody_waits_for_it(tmp_path: Path, format: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(FeedError, match="not a regular file"):
        load(tmp_path / "pipe", format)


@pytest.mark.parametrize("actual", TEXT_FORMATS)
@pytest.mark.parametrize("wrong", [*TEXT_FORMATS, "npy"])
def test_a_file_of_another_format_is_recognised(tmp_path: Path, actual: str, wrong: str) -> None:
    path = file_of(tmp_path, EXAMPLES[actual])
    if actual == wrong:
        assert len(load(path, wrong)) > 0
        return
    with pytest.raises(FeedError, match=f"not of format '{wrong}'; it looks like '{actual}'"):
        load(path, wrong, on_error="skip")


@pytest.mark.parametrize("format", TEXT_FORMATS)
def test_a_gzip_cut_short_stops_or_keeps_what_came_before(tmp_path: Path, format: str) -> None:
    lines = {
        "lobster": [EXAMPLES["lobster"]] * 20_000,
        "binance": [
            EXAMPLES["binance"],
            *(
                b'18 {"e":"depthUpdate","s":"A","U":%d,"u":%d,"b":[["1.5","%d"]],"a":[]}\n'
                % (6 + index, 6 + index, index)
                for index in range(20_000)
            ),
        ],
        "bybit": [
            EXAMPLES["bybit"].replace(b'"u":5', b'"u":%d' % index) for index in range(20_000)
        ],
        "coinbase": [
            EXAMPLES["coinbase"].replace(b'num":0', b'num":%d' % index) for index in range(20_000)
        ],
        "hyperliquid": [
            EXAMPLES["hyperliquid"].replace(b'time":0', b'time":%d' % index)
            for index in range(20_000)
        ],
        "kraken": [EXAMPLES["kraken"].replace(b"17", b"%d" % index) for index in range(20_000)],
        "okx": [
            EXAMPLES["okx"]
            .replace(b"16.5", b"%d.5" % index)
            .replace(b'"ts":"1"', b'"ts":"%d"' % index)
            for index in range(20_000)
        ],
    }
    packed = gzip.compress(b"".join(lines[format]))
    path = file_of(tmp_path, packed[: len(packed) // 2])
    with pytest.raises(FeedError, match="cannot be read any further") as caught:
        load(path, format)
    assert caught.value.line is not None
    recording = load(path, format, on_error="skip")
    assert recording.skipped >= 1
    assert "cannot be read any further" in " ".join(recording.problems)
    assert len(recording) > 1000


@pytest.mark.parametrize("format", TEXT_FORMATS)
def test_a_line_has_a_limit(tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "LINE_LIMIT", 4096)
    monkeypatch.setattr(source, "BLOCK_BYTES", 100)
    longest, longer = b" " * 4096 + b"\n", b" " * 4097 + b"\n"
    path = file_of(tmp_path, EXAMPLES[format] + longer + EXAMPLES[format])
    with pytest.raises(FeedError) as caught:
        load(path, format)
    assert caught.value.line == 2
    assert "longer than 4096 bytes" in str(caught.value)
    assert load(path, format, on_error="skip").skipped == 1
    if format != "lobster":
        blank = file_of(tmp_path, EXAMPLES[format] + longest + EXAMPLES[format])
        assert load(blank, format).skipped == 0
    endless = file_of(tmp_path, EXAMPLES[format] + longer * 3 + b"x" * 10_000)
    assert load(endless, format, on_error="skip").skipped == 4


def test_problems_are_kept_up_to_a_few_and_counted_beyond(tmp_path: Path) -> None:
    path = file_of(tmp_path, EXAMPLES["lobster"] + b"junk\n" * 100)
    recording = load(path, "lobster", on_error="skip")
    assert recording.skipped == 100
    assert len(recording.problems) == 8
    assert recording.problems[0].startswith(f"{path}:2: ")


def test_a_recording_cannot_be_written_to(tmp_path: Path) -> None:
    recording = load(file_of(tmp_path, EXAMPLES["lobster"]), "lobster")
    with pytest.raises(ValueError, match="read-only"):
        recording.transactions["price"] = 1
    with pytest.raises(AttributeError):
        recording.skipped = 1  # type: ignore[misc]


def test_a_format_is_one_registered_function(tmp_path: Path) -> None:
    @register("ticks", looks_like=lambda line: line.startswith(b"ticks"))
    def read(source: Source, *, kind: Kind = Kind.ADD) -> Recording:
        transactions = np.zeros(1, TRANSACTION_DTYPE)
        transactions["kind"] = kind
        return Recording(transactions, (Instrument(),), None, 0, (), source.paths)

    try:
        assert "ticks" in formats()
        path = file_of(tmp_path, b"ticks\n")
        assert load(path, "ticks", kind=Kind.TRADE).transactions["kind"][0] == Kind.TRADE
        with pytest.raises(ConfigError, match="it has: kind"):
            load(path, "ticks", tick_size=1)
        with pytest.raises(FeedError, match="it looks like 'ticks'"):
            load(path, "okx")
        with pytest.raises(ConfigError, match="registered already"):
            register("ticks", looks_like=lambda line: False)(read)
    finally:
        del _formats["ticks"]


def test_the_front_door_has_the_readers_without_importing_them() -> None:
    program = (
        "import sys, velox\n"
        "assert 'velox.feeds' not in sys.modules\n"
        "assert velox.feeds.load is sys.modules['velox.feeds'].load\n"
        "assert not hasattr(velox, 'feed')\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
