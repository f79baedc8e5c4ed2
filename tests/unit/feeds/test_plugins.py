"""Readers that live outside the package."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from velox.core.instrument import Instrument
from velox.core.records import TRANSACTION_DTYPE
from velox.errors import ConfigError, FeedError
from velox.feeds import Recording, load, options_of
from velox.feeds.toolkit import LevelRecorder, MalformedError, Source, recorded

READER = """
from velox.feeds.toolkit import LevelRecorder, MalformedError, recorded

def read(source, *, symbol="X", scale=1, loud=False):
    recorder = LevelRecorder()
    market = recorder.market(symbol)
    nothing = market.levels([], "")
    with source.lines() as lines:
        for place, line in lines:
            with source.faults.at(place):
                price, size = line.decode().split()
                if not recorder.count:
                    recorder.snapshot(market, 5, nothing, nothing)
                recorder.update(market, 7, market.levels([[price, size]] * scale, "b"), nothing)
            if source.reached(recorder.count):
                break
    return recorded(source, recorder)

read.looks_like = lambda line: line.split(b" ")[0].replace(b".", b"").isdigit()
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with an installed package that has a good reader, and one that cannot be used."""
    (tmp_path / "two_columns.py").write_text(READER)
    (tmp_path / "broken_reader.py").write_text("raise RuntimeError('of its own making')\n")
    info = tmp_path / "two_columns-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: two-columns\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[velox.readers]\ntwo-columns = two_columns:read\nbroken = broken_reader:read\n"
        "okx = two_columns:read\n"
    )
    (tmp_path / "data").write_text("1.25 3\nnonsense\n1.50 4\n")
    return tmp_path


def run(outside: Path, program: str) -> Any:
    """What a program prints as JSON, in a process for which the package is installed."""
    environment = {**os.environ, "PYTHONPATH": f"{os.getcwd()}:{outside}"}
    done = subprocess.run(
        [sys.executable, "-c", f"import json\nfrom velox import feeds\n{program}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_installed_package_adds_its_format(outside: Path) -> None:
    found = run(
        outside,
        f"r = feeds.load({str(outside / 'data')!r}, on_error='skip', symbol='ABC')\n"
        "print(json.dumps([feeds.formats(), r.instruments[0].name, r.skipped, r.problems,"
        " r.transactions['price'].tolist(), feeds.options_of('two-columns')]))",
    )
    assert "two-columns" in found[0]
    assert found[1:] == [
        "ABC",
        1,
        [f"{outside / 'data'}:2: not enough values to unpack (expected 2, got 1)"],
        [0, 0, 12500, 15000],
        ["symbol", "scale", "loud"],
    ]


def test_a_package_that_cannot_be_imported_hinders_no_other_and_is_named(outside: Path) -> None:
    message = run(
        outside,
        "try: feeds.load('x', 'broken')\n"
        "except Exception as error: print(json.dumps([type(error).__name__, str(error)]))",
    )
    assert message[0] == "ConfigError"
    assert "RuntimeError: of its own making" in message[1]
    (outside / "other").write_text("{}\n")
    message = run(
        outside,
        f"try: feeds.load({str(outside / 'other')!r})\n"
        "except Exception as error: print(json.dumps([type(error).__name__, str(error)]))",
    )
    assert message[0] == "FeedError"
    assert "broken cannot be loaded" in message[1]


def test_a_package_does_not_take_the_name_of_a_built_in_format(outside: Path) -> None:
    found = run(outside, "print(json.dumps(feeds.options_of('okx')))")
    assert "channel" in found


@pytest.mark.parametrize("installed", [True, False])
def test_the_command_line_takes_a_reader_from_the_current_folder(
    installed: bool, outside: Path
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.getcwd() + (f":{outside}" if installed else "")}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "velox", "replay", "data", "--on-error", "skip"),
            *("--reader", "two_columns:read", "--symbol", "ABC"),
            *("--option", "scale=2", "--option", "loud=true", "--json", "report.json"),
            *("--placement", "invoker", "--hiccups", "0", "--quiet"),
        ],
        env=environment,
        cwd=outside,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((outside / "report.json").read_text())
    assert report["markets"][0]["name"] == "ABC"
    assert report["recording"]["records"] == 2 + 2 * 2
    assert "format two_columns:read" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--reader", "two_columns"], "MODULE:FUNCTION"),
        (["--reader", "two_columns:gone"], "gone"),
        (["--reader", "no_such_module:read"], "no_such_module"),
        (["--reader", "broken_reader:read"], "of its own making"),
        (["--reader", "two_columns:read", "--format", "okx"], "combined"),
        (["--reader", "two_columns:read", "--option", "wrong=1"], "--option wrong"),
        (["--reader", "two_columns:read", "--channel", "books"], "--channel"),
        (["--reader", "two_columns:read", "--option", "symbol=A", "--symbol", "B"], "twice"),
        (["--reader", "two_columns:read", "--option", "x"], "NAME=VALUE"),
    ],
)
def test_a_reader_that_cannot_be_used_is_refused(
    arguments: list[str], word: str, outside: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "velox", "replay", "data", *arguments],
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        cwd=outside,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert word in done.stderr
    assert len(done.stderr.splitlines()) == 1


# Given as a function


def path_of(tmp_path: Path) -> Path:
    path = tmp_path / "a"
    path.write_text("1 2\n")
    return path


def one(**columns: Any) -> np.ndarray[Any, Any]:
    transactions = np.zeros(1, TRANSACTION_DTYPE)
    for name, value in {"price": 1, "size": 1, "flags": 128, **columns}.items():
        transactions[name] = value
    return transactions


def returning(value: Any) -> Any:
    def read(source: Source) -> Any:
        return value

    return read


def recording_of(transactions: Any) -> Recording:
    return Recording(transactions, (Instrument(),), None, 0, (), ())


def test_a_function_is_a_reader(tmp_path: Path) -> None:
    recording = recording_of(one())
    assert load(path_of(tmp_path), returning(recording)) is recording
    with pytest.raises(ConfigError, match="it has: none"):
        load(path_of(tmp_path), returning(recording), symbol="X")

    def read(source: Source, *, symbol: str = "") -> Recording:
        return recording

    assert options_of(read) == ("symbol",)


@pytest.mark.parametrize(
    "value", [None, [1], one(), recording_of(np.zeros(2)), recording_of(one(market=1))]
)
def test_a_reader_must_return_a_recording(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="returned"):
        load(path_of(tmp_path), returning(value))


@pytest.mark.parametrize("columns", [{"price": 0}, {"kind": 99}, {"side": 2}, {"size": 0}])
def test_an_invalid_record_of_a_reader_is_refused(columns: Any, tmp_path: Path) -> None:
    with pytest.raises(FeedError) as caught:
        load(path_of(tmp_path), returning(recording_of(one(**columns))))
    assert caught.value.field == next(iter(columns))


def test_an_error_of_a_line_has_its_place(tmp_path: Path) -> None:
    def read(source: Source) -> Recording:
        recorder = LevelRecorder()
        with source.lines() as lines:
            for place, line in lines:
                with source.faults.at(place):
                    raise MalformedError(f"{line!r} is wrong", "price")
        return recorded(source, recorder, what="prices")

    with pytest.raises(FeedError) as caught:
        load(path_of(tmp_path), read)
    assert (caught.value.line, caught.value.field) == (1, "price")
    with pytest.raises(FeedError, match="holds no prices; the first problem"):
        load(path_of(tmp_path), read, on_error="skip")


def test_an_error_without_a_place_is_told_with_its_file(tmp_path: Path) -> None:
    def read(source: Source) -> Recording:
        raise MalformedError("is wrong", "x")

    path = path_of(tmp_path)
    with pytest.raises(FeedError) as caught:
        load(path, read)
    assert (caught.value.path, caught.value.field) == (str(path), "x")


@pytest.mark.parametrize("format", [ModuleType("x"), 5, "", ":", "a:", ":b", "json:gone", 5.0])
def test_what_is_no_reader_is_refused(format: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="format"):
        load(path_of(tmp_path), format)
