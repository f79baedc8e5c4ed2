from __future__ import annotations

import mmap
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from velox.core.instrument import Instrument
from velox.core.records import BUNDLE_DTYPE, TRANSACTION_DTYPE, Kind
from velox.errors import ConfigError, FeedError
from velox.feeds import load
from velox.runtime.capture import begin_capture


def orders(count: int = 4, **columns: Any) -> npt.NDArray[np.void]:
    transactions = np.zeros(count, TRANSACTION_DTYPE)
    transactions["price"], transactions["size"] = 1_000_000, 1
    for name, column in columns.items():
        transactions[name] = column
    return transactions


def saved(tmp_path: Path, array: npt.NDArray[Any]) -> Path:
    path = tmp_path / "capture.npy"
    np.save(path, array, allow_pickle=True)
    return path


def test_transactions_are_mapped_as_they_were_saved(tmp_path: Path) -> None:
    transactions = orders(id=[1, 2, 3, 2**64 - 1], ingress_ts_ns=[5, 6, 7, 8])
    recording = load(saved(tmp_path, transactions), "npy")
    assert np.array_equal(recording.transactions, transactions)
    assert type(recording.transactions) is np.ndarray
    owner: Any = recording.transactions
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(owner, mmap.mmap)
    assert not recording.transactions.flags.writeable
    assert (recording.checks, recording.skipped) == (None, 0)


def test_bundles_are_flattened_without_their_empty_slots(tmp_path: Path) -> None:
    bundles = np.zeros(3, BUNDLE_DTYPE)
    bundles["transactions"] = orders(48, id=np.arange(48)).reshape(3, 16)
    bundles["count"] = [2, 16, 1]
    recording = load(saved(tmp_path, bundles), "npy")
    assert recording.transactions["id"].tolist() == [0, 1, *range(16, 32), 32]


def test_the_tick_is_found_out_for_each_market_from_its_levels(tmp_path: Path) -> None:
    transactions = orders(
        6,
        market=[0, 0, 7, 7, 7, 9],
        price=[1_000_000, 1_000_500, 300, 1, 0, 5],
        kind=[Kind.ADD, Kind.SET, Kind.ADD, Kind.TRADE, Kind.CLEAR, Kind.TRADE],
    )
    instruments = load(saved(tmp_path, transactions), "npy", levels=64).instruments
    assert [(each.market, each.tick_size, each.levels) for each in instruments] == [
        (0, 500, 64),
        (7, 300, 64),
        (9, 1, 64),
    ]


def test_instruments_may_be_given(tmp_path: Path) -> None:
    path = saved(tmp_path, orders(2, market=[0, 3]))
    instruments = [Instrument(market=3, lot_size=Decimal("0.1")), Instrument(name="A")]
    assert load(path, "npy", instruments=instruments).instruments == tuple(instruments)
    with pytest.raises(FeedError, match="market: has records of market 3"):
        load(path, "npy", instruments=instruments[1:])
    with pytest.raises(ConfigError, match=r"the markets \[0, 0\]"):
        load(path, "npy", instruments=[Instrument(), Instrument()])


def test_a_limit_cuts_exactly(tmp_path: Path) -> None:
    path = saved(tmp_path, orders(10))
    assert len(load(path, "npy", limit=3)) == 3
    assert len(load(path, "npy", limit=30)) == 10


@pytest.mark.parametrize(
    "array",
    [
        np.arange(4),
        np.zeros(4, [("id", "<u8"), ("price", "<i8")]),
        np.zeros(4, TRANSACTION_DTYPE.newbyteorder(">")),
        np.array([{}, []], dtype=object),
    ],
    ids=["integers", "other fields", "big-endian", "objects"],
)
def test_an_array_of_another_dtype_is_refused(tmp_path: Path, array: npt.NDArray[Any]) -> None:
    with pytest.raises(FeedError, match=r"has dtype|damaged .npy file: .*[oO]bject"):
        load(saved(tmp_path, array), "npy", on_error="skip")


def test_an_array_of_another_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match=r"has shape \(2, 2\); expected one dimension"):
        load(saved(tmp_path, orders(4).reshape(2, 2)), "npy")


@pytest.mark.parametrize("on_error", ["stop", "skip"])
def test_a_file_of_no_transactions_is_refused(tmp_path: Path, on_error: Any) -> None:
    with pytest.raises(FeedError, match=r"holds no transactions|damaged"):
        load(saved(tmp_path, orders(0)), "npy", on_error=on_error)
    with pytest.raises(FeedError, match="holds no transactions"):
        load(saved(tmp_path, np.zeros(2, BUNDLE_DTYPE)), "npy", on_error=on_error)


def test_a_capture_without_its_length_is_told_from_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "bundles.npy"
    with begin_capture(path) as file:
        file.write(np.zeros(1, BUNDLE_DTYPE).tobytes())
    with pytest.raises(FeedError, match=r"cut off by a kill, or still .* velox recover .*bundles"):
        load(path, "npy")


def test_a_bundle_fuller_than_possible_is_named(tmp_path: Path) -> None:
    bundles = np.zeros(3, BUNDLE_DTYPE)
    bundles["count"] = [1, 17, 1]
    with pytest.raises(FeedError, match="17 is more than the 16 that fit") as caught:
        load(saved(tmp_path, bundles), "npy")
    assert caught.value.field == "bundles[1].count"


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("kind", [0, 0, 8, 255]),
        ("side", [0, 1, 2, 3]),
        ("price", [1, 1, 0, -(2**63)]),
        ("size", [1, 1, 0, 0]),
    ],
)
def test_a_record_that_cannot_be_is_named_or_skipped(
    tmp_path: Path, field: str, values: list[int]
) -> None:
    transactions = orders(**{field: values})
    path = saved(tmp_path, transactions)
    with pytest.raises(FeedError, match=rf"transactions\[2\].{field}") as caught:
        load(path, "npy")
    assert caught.value.field == field
    recording = load(path, "npy", on_error="skip")
    assert recording.skipped == 2
    assert np.array_equal(recording.transactions, transactions[:2])


def test_kinds_that_need_no_price_or_size_may_have_none(tmp_path: Path) -> None:
    kinds = [Kind.SET, Kind.SET_WIDE, Kind.DELETE, Kind.CLEAR, Kind.TRADE]
    transactions = orders(5, kind=kinds, size=0, price=[1, 1, 1, 0, 0])
    assert len(load(saved(tmp_path, transactions), "npy")) == 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff{",
        b"\x93NUMPY\x01\x00\x04\x00{((\n",
        b"\x93NUMPY\x09\x00\x04\x00{ }\n",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': '|V32'",
        b"\x93NUMPY" + bytes(range(256)),
    ],
)
def test_a_damaged_file_is_a_feed_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "capture.npy"
    path.write_bytes(content)
    with pytest.raises(FeedError) as caught:
        load(path, "npy")
    assert caught.value.path == str(path)


def test_a_file_cut_short_is_a_feed_error(tmp_path: Path) -> None:
    path = saved(tmp_path, orders(100))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FeedError, match="damaged"):
        load(path, "npy")


def test_one_file_at_a_time_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, orders())
    with pytest.raises(ConfigError, match="takes one file, not 2"):
        load([path, path], "npy")
