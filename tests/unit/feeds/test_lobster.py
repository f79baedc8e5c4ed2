from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox.core.records import Flags, Kind
from velox.errors import FeedError
from velox.feeds import Recording, load
from velox.runtime.checks import DepthChecks

MESSAGE, ORDERBOOK = "X_2012-06-21_message_2.csv", "X_2012-06-21_orderbook_2.csv"
UNUSED = "9999999999,0,-9999999999,0"

MESSAGES = [
    "34200.000000001,1,10,5,1000000,1",
    "34200.000000002,1,11,7,1000100,-1",
    "34200.5,2,11,3,1000100,-1",
    "34201,4,10,5,1000000,1",
    "34201.25,5,0,100,1000050,1",
    "34202,7,0,0,-1,-1",
]
ROWS = [
    f"9999999999,0,1000000,5,{UNUSED}",
    f"1000100,7,1000000,5,{UNUSED}",
    f"1000100,4,1000000,5,{UNUSED}",
    f"1000100,4,-9999999999,0,{UNUSED}",
    f"1000100,4,-9999999999,0,{UNUSED}",
    f"1000100,4,-9999999999,0,{UNUSED}",
]


def pair(tmp_path: Path, messages: list[str], rows: list[str] | None) -> list[Path]:
    paths = [tmp_path / MESSAGE]
    paths[0].write_text("".join(f"{line}\n" for line in messages))
    if rows is not None:
        paths.append(tmp_path / ORDERBOOK)
        paths[1].write_text("".join(f"{line}\n" for line in rows))
    return paths


def fields(recording: Recording, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(record) for record in recording.transactions[list(names)].tolist()]


def test_row_zero_opens_the_book_and_each_later_message_is_one_transaction(tmp_path: Path) -> None:
    recording = load(pair(tmp_path, MESSAGES, ROWS), "lobster")
    opening, last = int(Flags.SNAPSHOT), int(Flags.LAST)
    assert fields(recording, "kind", "side", "id", "size", "price", "flags", "ingress_ts_ns") == [
        (Kind.CLEAR, 0, 0, 0, 0, opening, 34_200_000_000_001),
        (Kind.SET, 0, 0, 5, 1_000_000, opening, 34_200_000_000_001),
        (Kind.CLEAR, 1, 0, 0, 0, opening | last, 34_200_000_000_001),
        (Kind.ADD, 1, 11, 7, 1_000_100, last, 34_200_000_000_002),
        (Kind.CANCEL, 1, 11, 3, 1_000_100, last, 34_200_500_000_000),
        (Kind.EXECUTE, 0, 10, 5, 1_000_000, last, 34_201_000_000_000),
        (Kind.TRADE, 0, 0, 100, 1_000_050, last, 34_201_250_000_000),
        (Kind.TRADE, 0, 0, 0, 0, last, 34_202_000_000_000),
    ]
    (instrument,) = recording.instruments
    assert (instrument.name, instrument.market, instrument.tick_size) == ("X", 0, 100)


def test_each_row_after_the_first_is_a_check_behind_its_message(tmp_path: Path) -> None:
    checks = load(pair(tmp_path, MESSAGES, ROWS), "lobster").checks
    assert isinstance(checks, DepthChecks)
    assert checks.depth == 2  # the file has no more
    assert checks.position.tolist() == [4, 5, 6, 7, 8]
    assert checks.prices[0].tolist() == [[1_000_000, 0], [1_000_100, 0]]
    assert checks.quantities[:3].tolist() == [
        [[5, 0], [7, 0]],
        [[5, 0], [4, 0]],
        [[0, 0], [4, 0]],
    ]


def test_depth_leaves_out_deeper_levels(tmp_path: Path) -> None:
    checks = load(pair(tmp_path, MESSAGES, ROWS), "lobster", depth=1).checks
    assert isinstance(checks, DepthChecks)
    assert checks.prices.shape == (5, 2, 1)


def test_the_files_may_come_in_either_order_or_as_their_directory(tmp_path: Path) -> None:
    paths = pair(tmp_path, MESSAGES, ROWS)
    expected = load(paths, "lobster")
    for given_paths in (paths[::-1], tmp_path):
        recording = load(given_paths, "lobster")
        assert np.array_equal(recording.transactions, expected.transactions)
        assert recording.source == tuple(paths)


def test_files_without_telling_names_are_told_apart_by_their_columns(tmp_path: Path) -> None:
    paths = pair(tmp_path, MESSAGES, ROWS)
    renamed = [path.rename(tmp_path / name) for path, name in zip(paths, "ab", strict=True)]
    assert load(renamed[::-1], "lobster").source == tuple(renamed)


def test_a_message_file_alone_opens_an_empty_book(tmp_path: Path) -> None:
    recording = load(pair(tmp_path, MESSAGES, None), "lobster", name="MSFT", tick_size=50)
    assert recording.checks is None
    kinds = recording.transactions["kind"].tolist()
    assert kinds[:4] == [Kind.CLEAR, Kind.CLEAR, Kind.ADD, Kind.ADD]
    assert len(recording) == 2 + len(MESSAGES)
    assert recording.instruments[0].name == "MSFT"


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("34200.1,1,12,5,1000000", None, "5 columns"),
        ("34200.1,1,12,5,1000000,1,1", None, "7 columns"),
        ("", None, "1 columns"),
        ("34200.1,8,12,5,1000000,1", "type", "'8'"),
        ("34200.1,x,12,5,1000000,1", "type", "'x'"),
        ("-1,1,12,5,1000000,1", "time", "'-1'"),
        ("34200.1e3,1,12,5,1000000,1", "time", "'34200.1e3'"),
        ("NaN,1,12,5,1000000,1", "time", "'NaN'"),
        ("34200.1,1,-2,5,1000000,1", "order id", "-2"),
        ("34200.1,1,18446744073709551616,5,1000000,1", "order id", "18446744073709551616"),
        ("34200.1,1,12,0,1000000,1", "size", "0 is not from 1"),
        ("34200.1,1,12,4294967296,1000000,1", "size", "4294967296"),
        ("34200.1,1,12,five,1000000,1", "size", "'five'"),
        ("34200.1,1,12,1_0,1000000,1", "size", "'1_0'"),
        ("34200.1,1,12,5,-1000000,1", "price", "-1000000"),
        ("34200.1,1,12,5,0,1", "price", "0 is not from 1"),
        ("34200.1,1,12,5,1000000.5,1", "price", "'1000000.5'"),
        ("34200.1,1,12,5,Infinity,1", "price", "'Infinity'"),
        ("34200.1,1,12,5,1e400,1", "price", "'1e400'"),
        ("34200.1,1,12,5,1000050,1", "price", "off the tick of 100"),
        ("34200.1,1,12,5,9223372036854775807,1", "price", "9223372036854775807"),
        ("34200.1,1,12,5,99999999999999999999,1", "price", "99999999999999999999"),
        ("34200.1,1,12,5,1000000,0", "direction", "'0'"),
        ("34200.1,1,12,5,1000000,\xff", "direction", "'ÿ'"),
        ("34202,7,0,0,halt,-1", "price", "'halt'"),
    ],
)
@pytest.mark.parametrize("with_rows", [True, False], ids=["pair", "messages alone"])
def test_a_bad_message_is_named_or_skipped(
    tmp_path: Path, line: str, field: str | None, value: str, with_rows: bool
) -> None:
    rows = [*ROWS[:2], ROWS[1], *ROWS[2:]] if with_rows else None
    paths = pair(tmp_path, [*MESSAGES[:2], "", *MESSAGES[2:]], rows)
    content = paths[0].read_bytes().split(b"\n")
    content[2] = line.encode("latin-1")
    paths[0].write_bytes(b"\n".join(content))
    with pytest.raises(FeedError) as caught:
        load(paths, "lobster", tick_size=100)
    assert (caught.value.path, caught.value.line) == (str(paths[0]), 3)
    assert caught.value.field == field
    assert value in str(caught.value)
    recording = load(paths, "lobster", on_error="skip", tick_size=100)
    assert recording.skipped == 1
    assert recording.problems == (str(caught.value),)


def test_after_a_skipped_message_the_book_is_opened_anew_from_its_row(tmp_path: Path) -> None:
    paths = pair(tmp_path, [*MESSAGES[:2], "junk", *MESSAGES[3:]], ROWS)
    recording = load(paths, "lobster", on_error="skip")
    reopened = [
        (Kind.CLEAR, 0, 0),
        (Kind.SET, 1_000_000, 5),
        (Kind.CLEAR, 0, 0),
        (Kind.SET, 1_000_100, 4),
    ]
    assert fields(recording, "kind", "price", "size")[4:8] == reopened
    assert isinstance(recording.checks, DepthChecks)
    assert recording.checks.position.tolist() == [4, 9, 10, 11]


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [
        ("1000100,4,1000000", None, "3 columns; the first row has 8"),
        (f"1000100,four,1000000,5,{UNUSED}", "ask size 1", "'four'"),
        (f"1000100,4,1000000,5,{UNUSED[:-1]}NaN", "bid size 2", "'NaN'"),
        (f"1000100,0,1000000,5,{UNUSED}", "ask size 1", "0 is not a size"),
        (f"1000100,-4,1000000,5,{UNUSED}", "ask size 1", "-4 is not a size"),
        (f"1000150,4,1000000,5,{UNUSED}", "ask price 1", "1000150"),
        (f"1000100,4,-1000000,5,{UNUSED}", "bid price 1", "-1000000"),
        (f"9999999999,0,9223372036854775807,5,{UNUSED}", "bid price 1", "9223372036854775807"),
        ("1000200,4,1000000,5,1000100,1,999900,1", "ask price", "not in order"),
        ("1000100,4,1000000,5,1000200,1,1000000,1", "bid price", "not in order"),
        ("9999999999,0,1000000,5,1000100,4,999900,1", "ask price 2", "after an unused level"),
        ("1000100,4,1000000,5,9999999999,3,999900,1", "ask price 2", "after an unused level"),
    ],
)
def test_a_bad_row_is_named_or_leaves_out_its_check(
    tmp_path: Path, row: str, field: str | None, value: str
) -> None:
    if value.endswith("unused level") and "9999999999,3" in row:
        value = "9999999999 with size 3"
    paths = pair(tmp_path, MESSAGES, [*ROWS[:2], row, *ROWS[3:]])
    with pytest.raises(FeedError) as caught:
        load(paths, "lobster", tick_size=100)
    assert (caught.value.path, caught.value.line) == (str(paths[1]), 3)
    assert caught.value.field == field
    assert value in str(caught.value)
    recording = load(paths, "lobster", on_error="skip", tick_size=100)
    assert recording.skipped == 1
    assert isinstance(recording.checks, DepthChecks)
    assert recording.checks.position.tolist() == [4, 6, 7, 8]


@pytest.mark.parametrize("longer", [0, 1], ids=["messages", "rows"])
def test_files_of_different_lengths_are_refused(tmp_path: Path, longer: int) -> None:
    contents = [MESSAGES, ROWS]
    contents[1 - longer] = contents[1 - longer][:-2]
    paths = pair(tmp_path, *contents)
    with pytest.raises(FeedError, match=f"has 4 rows, but {paths[longer].name} has more") as caught:
        load(paths, "lobster")
    assert caught.value.path == str(paths[1 - longer])
    assert load(paths, "lobster", on_error="skip").skipped == 1


def test_a_bad_opening_row_opens_at_the_next_when_skipping(tmp_path: Path) -> None:
    paths = pair(tmp_path, MESSAGES, [f"x{ROWS[0]}", *ROWS[1:]])
    with pytest.raises(FeedError, match="ask price 1: 'x9999999999' is not an integer"):
        load(paths, "lobster")
    recording = load(paths, "lobster", on_error="skip")
    assert fields(recording, "kind", "price")[:4] == [
        (Kind.CLEAR, 0),
        (Kind.SET, 1_000_000),
        (Kind.CLEAR, 0),
        (Kind.SET, 1_000_100),
    ]


def test_wrong_sets_of_files_are_refused(tmp_path: Path) -> None:
    paths = pair(tmp_path, MESSAGES, ROWS)
    for wrong in ([paths[1]], [paths[0], paths[0]], [*paths, paths[1]]):
        with pytest.raises(FeedError, match="needs one message file and at most one orderbook"):
            load(wrong, "lobster")
    paths[1].write_text("1,2,3,4,5\n")
    with pytest.raises(FeedError, match="5 columns; an orderbook row has 4 a level"):
        load(paths, "lobster")


def test_a_quantity_over_32_bits_is_set_wide(tmp_path: Path) -> None:
    rows = [f"1000100,{asks},1000000,4294967295,{UNUSED}" for asks in (4294967296, 4294967303)]
    recording = load(pair(tmp_path, MESSAGES[:2], rows), "lobster")
    assert fields(recording, "kind", "id", "size")[1:4] == [
        (Kind.SET, 0, 4294967295),
        (Kind.CLEAR, 0, 0),
        (Kind.SET_WIDE, 4294967296, 0),
    ]
    assert recording.transactions["flags"][3] == Flags.SNAPSHOT | Flags.LAST


def test_a_limit_counts_the_opening_book_too(tmp_path: Path) -> None:
    paths = pair(tmp_path, MESSAGES, ROWS)
    assert len(load(paths, "lobster", limit=5)) == 5
    assert len(load(paths, "lobster", limit=1)) == 3
    assert len(load(paths[:1], "lobster", limit=4)) == 4


kinds = {1: Kind.ADD, 2: Kind.CANCEL, 3: Kind.CANCEL, 4: Kind.EXECUTE, 5: Kind.TRADE, 6: Kind.TRADE}
messages = st.tuples(
    st.integers(0, 86_400 * 10**9),
    st.sampled_from(sorted(kinds)),
    st.integers(0, 2**64 - 1),
    st.integers(1, 2**32 - 1),
    st.integers(1, 2**62 // 100).map(lambda ticks: ticks * 100),
    st.sampled_from([1, -1]),
)


@given(st.lists(messages, min_size=1, max_size=20))
def test_any_valid_message_file_is_read_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[int, ...]]
) -> None:
    path = tmp_path_factory.mktemp("lobster") / MESSAGE
    path.write_text(
        "".join(
            f"{time // 10**9}.{time % 10**9:09d},{kind},{order},{size},{price},{direction}\n"
            for time, kind, order, size, price, direction in written
        )
    )
    recording = load(path, "lobster")
    names = ("ingress_ts_ns", "kind", "id", "size", "price", "side")
    assert fields(recording, *names)[2:] == [
        (time, kinds[kind], order, size, price, 0 if direction == 1 else 1)
        for time, kind, order, size, price, direction in written
    ]
