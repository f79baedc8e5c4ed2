"""Strategies from Python functions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import velox
from tests.support import orders, refused
from velox import Pipeline, PullOutput, ReplayIngress, Strategy, numba_strategy, strategy_signature
from velox.errors import StrategyError

numba = pytest.importorskip("numba")

ROOT = Path(__file__).parents[3]


def emitted(strategy: Strategy, records: Any) -> Any:
    """What leaves a pipeline of these records and this strategy."""
    output = PullOutput()
    with Pipeline(ReplayIngress(records), output, strategy=strategy) as pipeline:
        pipeline.wait()
    taken = []
    while not output.exhausted:
        with output.poll() as bundles:
            taken += [each["transactions"][: each["count"]].copy() for each in bundles]
    return np.concatenate(taken) if taken else np.zeros(0, velox.TRANSACTION_DTYPE)


def test_a_function_sees_record_book_room_and_state() -> None:
    state = np.zeros((2, 2), np.int64)

    @numba_strategy(state=state)
    def last_of_two(record: Any, book: Any, out: Any, state: Any) -> int:
        state[0, 0] += 1
        state[0, 1] = len(out)
        state[1, 0] = book.bid_price + book.ask_price
        if state[0, 0] % 2:
            return 0
        out[0] = record
        out[0].size = 7
        return 1

    records = orders(100)
    left = emitted(last_of_two, records)
    assert left["id"].tolist() == records["id"][1::2].tolist()
    assert set(left["size"].tolist()) == {7}
    assert state[0].tolist() == [100, 16]
    assert state[1, 0] > 0
    assert last_of_two.name == "last_of_two"


def test_a_function_without_state_takes_three_arguments() -> None:
    @numba_strategy
    def all_of_it(record: Any, book: Any, out: Any) -> int:
        out[0] = record
        return 1

    assert len(emitted(all_of_it, orders(50))) == 50


def test_state_may_be_records() -> None:
    state = np.zeros(1, np.dtype([("seen", "<u4"), ("last", "<u8")]))

    @numba_strategy(state=state)
    def note(record: Any, book: Any, out: Any, state: Any) -> int:
        state[0].seen += 1
        state[0].last = record.id
        return 0

    records = orders(20)
    assert len(emitted(note, records)) == 0
    assert state[0]["seen"] == 20
    assert state[0]["last"] == records["id"][-1]


def test_an_exception_ends_the_run_and_loses_nothing() -> None:
    records = orders(100)

    @numba_strategy
    def stumbles(record: Any, book: Any, out: Any) -> int:
        if record.id == 77:
            raise ValueError("77")
        out[0] = record
        return 1

    records["id"] = np.arange(100)
    output = PullOutput()
    pipeline = Pipeline(ReplayIngress(records), output, strategy=stumbles)
    with refused(StrategyError, returned=-1, position=78), pipeline:
        pipeline.wait()
    left = 0
    while not output.exhausted:
        with output.poll() as bundles:
            left += int(bundles["count"].sum())
    assert left == 77


def test_a_division_by_nothing_is_numpys() -> None:
    state = np.zeros(1)

    @numba_strategy(state=state)
    def divides(record: Any, book: Any, out: Any, state: Any) -> int:
        state[0] = 1.0 / (book.bid_quantity - book.bid_quantity)
        return 0

    emitted(divides, orders(1))
    assert state[0] == np.inf


def no_such_field(record: Any, book: Any, out: Any) -> int:
    return int(record.nothing)


def too_few(record: Any, book: Any) -> int:
    return 0


def a_word(record: Any, book: Any, out: Any) -> Any:
    return "one"


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (no_such_field, "numba cannot compile no_such_field: .*nothing"),
        (too_few, "too_few: too many positional arguments; a strategy takes record, book, out"),
        (7, "7 is no function"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_name(function: Any, why: str) -> None:
    with pytest.raises(StrategyError, match=why):
        numba_strategy(function)


def forgets(record: Any, book: Any, out: Any) -> Any:
    if record.side == 0:
        return 1


def a_fraction(record: Any, book: Any, out: Any) -> Any:
    return 1.7


@pytest.mark.parametrize("function", [forgets, a_fraction, a_word])
def test_a_function_that_may_return_no_number_is_refused(function: Any) -> None:
    with pytest.raises(StrategyError, match=f"{function.__name__} returns .*: every path of it"):
        numba_strategy(function)


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (-(2**32), "returned -1"),
        (2**32 + 3, "returned 17 .* more than its room"),
        (-7, "returned -7"),
    ],
)
def test_a_number_that_is_none_of_transactions_ends_the_run(number: int, why: str) -> None:
    @numba_strategy
    def wrong(record: Any, book: Any, out: Any) -> int:
        return number

    with pytest.raises(StrategyError, match=why):
        emitted(wrong, orders(5))


@pytest.mark.parametrize("dtype", [">i8", "V8", np.longdouble])
def test_state_that_numba_has_no_type_for_is_refused(dtype: Any) -> None:
    with pytest.raises(StrategyError, match="numba knows no such elements"):
        numba_strategy(state=np.zeros(1, dtype))(too_few)


def test_a_strategy_takes_no_other_memory_than_it_was_made_for() -> None:
    made = numba_strategy(state=np.zeros(4, np.int64))(lambda record, book, out, state: 0)
    other = np.zeros(4, np.int64)
    assert emitted(Strategy(made, user_data=other), orders(3)).size == 0
    for wrong in (np.zeros(1, np.uint8), np.zeros(0, np.int64), np.zeros((2, 2), np.int64), 5):
        with pytest.raises(StrategyError, match=r"made for an array of int64 and shape \(4,\)"):
            Strategy(made, user_data=wrong)


@pytest.mark.parametrize("state", [[0], np.array([None]), 5])
def test_state_that_cannot_be_shared_is_refused(state: Any) -> None:
    with pytest.raises(StrategyError, match="state must be an array of numbers"):
        numba_strategy(state=state)(too_few)


def test_an_array_of_other_elements_than_were_declared_is_refused() -> None:
    @numba.cfunc(strategy_signature())
    def counts(record: Any, book: Any, out: Any, room: Any, user_data: Any) -> int:
        user_data[0] += 1
        return 0

    with pytest.raises(StrategyError, match=r"array of int64, and counts takes it for .*uint8"):
        Strategy(counts, user_data=np.zeros(1, np.int64))
    Strategy(counts, user_data=np.zeros(8, np.uint8))
    with pytest.raises(StrategyError, match="holds Python objects"):
        Strategy(counts, user_data=np.array([None]))


def test_without_numba_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['numba'] = None; import velox\n"
        "try:\n    velox.numba_strategy(lambda record, book, out: 0)\n"
        "except velox.errors.StrategyError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install 'numba" in done.stdout
