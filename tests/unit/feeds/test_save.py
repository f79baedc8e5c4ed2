"""What `save` writes, `load` reads back equal; and the recording's own times travel along."""

from __future__ import annotations

import json
import os
from dataclasses import fields, replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox.cli.main import main
from velox.core.instrument import Instrument
from velox.core.records import BUNDLE_DTYPE, TRANSACTION_DTYPE, Kind
from velox.errors import CaptureError, ConfigError, FeedError, RecordError
from velox.feeds import KNOWN_DTYPE, Recording, keep_venue_times, load, save, written_by_save
from velox.runtime.sidecar import array_beside, sidecar_of

MARKETS = (
    Instrument(name="BTC", market=0, price_decimals=2, tick_size=10, lot_size=Decimal("0.001")),
    Instrument(name="PEPE ✓", market=1, price_decimals=10, tick_size=1, levels=4096),
    Instrument(name="silent", market=2, price_decimals=0),
)


def recording(count: int = 6, *, timed: bool = True, known: bool = True) -> Recording:
    transactions = np.zeros(count, TRANSACTION_DTYPE)
    transactions["id"] = np.arange(count)
    transactions["price"], transactions["size"] = 10 * (1 + np.arange(count)), 3
    transactions["market"] = np.arange(count) % 2
    transactions["kind"] = Kind.SET
    transactions["ingress_ts_ns"] = 1_000 + np.arange(count)
    rows = [(0, 0, 5, 2**63 - 1, 0), (1, 1, 0, 90, 400)] if known else []
    return Recording(
        transactions,
        MARKETS,
        None,
        0,
        (),
        (),
        known=np.array(rows, KNOWN_DTYPE),
        venue_ts_ns=np.arange(2**63, 2**63 + count, dtype=np.uint64) if timed else None,  # type: ignore[arg-type]
    )


def equal(first: Recording, second: Recording) -> bool:
    arrays = ("transactions", "known", "venue_ts_ns")
    same = all(
        getattr(first, name).dtype == getattr(second, name).dtype
        and getattr(first, name).tobytes() == getattr(second, name).tobytes()
        for name in arrays
    )
    return same and first.instruments == second.instruments


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("known", [True, False])
def test_what_is_written_loads_back_equal(timed: bool, known: bool, tmp_path: Path) -> None:
    whole = recording(known=known)
    whole = whole if timed else replace(whole, venue_ts_ns=np.zeros(6, np.uint64))
    save(whole, tmp_path / "a.npy")
    assert equal(load(tmp_path / "a.npy"), whole)
    names = {each.name for each in tmp_path.iterdir()}
    assert ("a.npy.venue_ts_ns.npy" in names, "a.npy.known.npy" in names) == (timed, known)
    assert names <= {os.path.basename(each) for each in written_by_save("a.npy")}


def test_a_second_file_at_the_same_path_replaces_all_of_the_first(tmp_path: Path) -> None:
    save(recording(), tmp_path / "a.npy")
    bare = replace(recording(4, known=False), venue_ts_ns=np.zeros(4, np.uint64))
    save(bare, tmp_path / "a.npy")
    assert equal(load(tmp_path / "a.npy"), bare)
    assert {each.name for each in tmp_path.iterdir()} == {"a.npy", "a.npy.markets.json"}


def test_without_times_all_are_unknown() -> None:
    bare = Recording(np.zeros(3, TRANSACTION_DTYPE), (), None, 0, (), ())
    assert bare.venue_ts_ns.tolist() == [0, 0, 0]
    assert bare.venue_ts_ns.dtype == np.uint64
    assert not bare.venue_ts_ns.flags.writeable


@pytest.mark.parametrize("times", [np.zeros(2, np.uint64), np.zeros(3, np.int64)])
def test_times_that_are_not_one_a_record_are_refused(times: np.ndarray) -> None:  # type: ignore[type-arg]
    with pytest.raises(RecordError) as caught:
        Recording(np.zeros(3, TRANSACTION_DTYPE), (), None, 0, (), (), venue_ts_ns=times)
    assert caught.value.field == "venue_ts_ns"


@given(limit=st.integers(1, 9), bad=st.sets(st.integers(0, 7)))
def test_times_and_depth_stay_beside_their_records(
    limit: int, bad: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("save") / "a.npy"
    whole = recording(8)
    broken = whole.transactions.copy()
    broken["kind"][list(bad)] = 99
    rows = [(at, at % 2, at + 1, 10**6, 0) for at in range(8)]
    whole = replace(whole, transactions=broken, known=np.array(rows, KNOWN_DTYPE))
    save(whole, path)
    kept = [at for at in range(min(limit, 8)) if at not in bad]
    if not kept:
        with pytest.raises(FeedError):
            load(path, limit=limit, on_error="skip")
        return
    found = load(path, limit=limit, on_error="skip")
    assert found.transactions["id"].tolist() == kept
    assert found.venue_ts_ns.tolist() == [2**63 + at for at in kept]
    for row in found.known:
        # A row stands where the first kept record at or after its own was.
        at = int(row["bid"]) - 1
        assert int(row["position"]) == len([each for each in kept if each < at])


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"transactions": 7}, "transactions"),
        ({"transactions": -1}, "transactions"),
        ({"transactions": True}, "transactions"),
        ({"arrays": {"venue_ts_ns": "../a.npy"}}, "arrays.venue_ts_ns"),
        ({"arrays": {"venue_ts_ns": 5}}, "arrays.venue_ts_ns"),
        ({"arrays": ["a"]}, "arrays"),
        ({"arrays": {"venue_ts_ns": "a.npy"}}, "dtype"),
        ({"arrays": {"venue_ts_ns": "gone.npy"}}, None),
    ],
)
def test_a_sidecar_of_another_file_is_refused(
    change: dict[str, object], field: str | None, tmp_path: Path
) -> None:
    save(recording(), tmp_path / "a.npy")
    sidecar = Path(sidecar_of(tmp_path / "a.npy"))
    sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | change))
    with pytest.raises(FeedError) as caught:
        load(tmp_path / "a.npy")
    assert caught.value.field == field


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY nonsense", None])
def test_damaged_times_are_refused(content: bytes | None, tmp_path: Path) -> None:
    save(recording(), tmp_path / "a.npy")
    times = Path(array_beside(tmp_path / "a.npy", "venue_ts_ns"))
    if content is None:
        np.save(times, np.zeros(5, np.uint64))
    else:
        times.write_bytes(content)
    with pytest.raises(FeedError) as caught:
        load(tmp_path / "a.npy")
    assert caught.value.path == str(times)


def test_a_file_that_is_no_sidecar_is_not_replaced(tmp_path: Path) -> None:
    Path(sidecar_of(tmp_path / "a.npy")).write_text("mine")
    with pytest.raises(CaptureError):
        save(recording(), tmp_path / "a.npy")
    assert [each.name for each in tmp_path.iterdir()] == ["a.npy.markets.json"]


@pytest.mark.parametrize("name", ["a.txt", "a", "npy"])
def test_another_ending_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        save(recording(), tmp_path / name)


def test_a_folder_and_a_pipe_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npy").mkdir()
    os.mkfifo(tmp_path / "b.npy")
    for name in ("a.npy", "b.npy"):
        with pytest.raises(CaptureError):
            save(recording(), tmp_path / name)


# Captures


def captured(tmp_path: Path, whole: Recording, passes: int = 1) -> Path:
    save(whole, tmp_path / "given.npy")
    path = tmp_path / "bundles.npy"
    status = main(
        [
            *("replay", str(tmp_path / "given.npy"), "--capture", str(path), "--quiet"),
            *("--placement", "invoker", "--hiccups", "0", "--repeat", str(passes)),
        ]
    )
    assert status == 0
    return path


@pytest.mark.parametrize("passes", [1, 3])
def test_a_capture_of_a_replay_has_the_times_of_the_recording(
    passes: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opening = recording(8).transactions.copy()
    for name, column in {"kind": Kind.CLEAR, "side": [0, 0, 1, 1], "price": 0, "size": 0}.items():
        opening[name][:4] = column
    whole = replace(recording(8), transactions=opening)
    found = load(captured(tmp_path, whole, passes))
    assert found.venue_ts_ns.tolist() == whole.venue_ts_ns.tolist() * passes
    assert found.instruments[1].price_decimals == 10
    assert "venue times" not in capsys.readouterr().err


def test_a_capture_that_lacks_a_record_gets_no_times(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = recording()
    off = whole.transactions.copy()
    off["kind"][2] = Kind.CANCEL  # of a level that does not exist: the book rejects it
    found = load(captured(tmp_path, replace(whole, transactions=off)))
    assert len(found) == 5
    assert not found.venue_ts_ns.any()
    assert "venue times" in capsys.readouterr().err


def test_times_are_not_added_to_the_capture_of_another_recording(tmp_path: Path) -> None:
    path = captured(tmp_path, recording())
    before = Path(sidecar_of(path)).read_text()
    other = recording().transactions.copy()
    other["size"][5] = 4
    assert not keep_venue_times(replace(recording(), transactions=other), path)
    assert Path(sidecar_of(path)).read_text() == before


def test_a_new_capture_does_not_have_the_times_of_the_old_one(tmp_path: Path) -> None:
    path = captured(tmp_path, recording())
    assert np.load(path).dtype == BUNDLE_DTYPE
    captured(tmp_path, replace(recording(), venue_ts_ns=np.zeros(6, np.uint64)))
    assert not load(path).venue_ts_ns.any()


# The command


def lobster(tmp_path: Path) -> Path:
    path = tmp_path / "MSFT_2012_message.csv"
    path.write_text("34200.5,1,17,200,308700,1\n34200.7,1,18,100,308800,-1\nx\n")
    return path


def test_convert_takes_the_options_of_load(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, output = lobster(tmp_path), tmp_path / "out.npy"
    assert main(["convert", str(path), "-o", str(output)]) == 2
    assert "x" in capsys.readouterr().err
    assert not output.exists()
    options = ["--on-error", "skip", "--tick-size", "50", "--name", "MINE", "--limit", "3"]
    assert main(["convert", str(path), "-o", str(output), *options]) == 0
    assert "3 records of MINE" in capsys.readouterr().out
    whole = load(path, on_error="skip", tick_size=50, name="MINE", limit=3)
    assert equal(load(output), whole)
    assert {each.name for each in fields(whole)} >= {"venue_ts_ns"}


@pytest.mark.parametrize(
    ("output", "word"), [("out.csv", ".npy"), ("-", ".npy"), ("MSFT_2012_message.csv", ".npy")]
)
def test_convert_refuses_another_ending(
    output: str, word: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = lobster(tmp_path)
    assert main(["convert", str(path), "-o", str(tmp_path / output), "--on-error", "skip"]) == 2
    assert word in capsys.readouterr().err


def test_convert_does_not_write_over_its_input(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(recording(), tmp_path / "a.npy")
    assert main(["convert", str(tmp_path / "a.npy"), "-o", str(tmp_path / "a.npy")]) == 2
    assert "same file" in capsys.readouterr().err
    assert equal(load(tmp_path / "a.npy"), recording())
