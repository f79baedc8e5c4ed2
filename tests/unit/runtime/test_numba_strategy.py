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
from tests.support import assert_adds_up, orders, refused
from velox import (
    Pipeline,
    PipelineConfig,
    PullOutput,
    ReplayIngress,
    Strategy,
    numba_strategy,
    strategy_signature,
)
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


def failed(strategy: Strategy, records: Any, **config: Any) -> tuple[StrategyError, Pipeline, Any]:
    """Run to the failure of the strategy; returns its error, the pipeline and what left."""
    output = PullOutput()
    pipeline = Pipeline(
        ReplayIngress(records), output, strategy=strategy, config=PipelineConfig(**config)
    )
    with pytest.raises(StrategyError) as raised, pipeline:
        pipeline.wait()
    left = []
    while not output.exhausted:
        with output.poll() as bundles:
            left += [each["transactions"][: each["count"]].copy() for each in bundles]
    assert_adds_up(pipeline, forwarding=False)
    return raised.value, pipeline, np.concatenate(left or [records[:0]])


@pytest.mark.parametrize("placement", ["shared", "paired"])
def test_an_exception_ends_the_run_with_its_own_words_and_loses_nothing(placement: str) -> None:
    records = orders(100)
    records["id"] = np.arange(100)

    @numba_strategy
    def stumbles(record: Any, book: Any, out: Any) -> int:
        if record.id == 77:
            raise ValueError("no quote at", record.id)
        out[0] = record
        return 1

    error, pipeline, left = failed(stumbles, records, placement=placement, idle="yield")
    assert isinstance(error.__cause__, ValueError)
    assert error.__cause__.args == ("no quote at", 77)
    assert "stumbles raised ValueError" in str(error)
    assert "no quote at" in str(error)
    assert (error.position, error.returned) == (78, None)
    assert left["id"].tolist() == list(range(77))
    assert pipeline.ledger().applied == pipeline.ledger().pushed


def test_each_run_of_a_strategy_tells_its_own_exception() -> None:
    state = np.zeros(1, np.int64)

    @numba_strategy(state=state)
    def stumbles(record: Any, book: Any, out: Any, state: Any) -> int:
        if state[0] == 0:
            raise KeyError("first")
        if state[0] > 0:
            raise OverflowError("second")
        return 0

    for number, (kind, twin) in enumerate(
        [(KeyError, stumbles), (OverflowError, stumbles), (OverflowError, Strategy(stumbles))]
    ):
        state[0] = number
        error, _, _ = failed(twin, orders(3))
        assert type(error.__cause__) is kind


def one_past_the_room(record: Any, book: Any, out: Any) -> int:
    for i in range(len(out) + 1):
        out[i].id = 999
    return 1


def far_below_the_room(record: Any, book: Any, out: Any) -> int:
    out[-17].id = 999
    return 1


def a_list_of_places(record: Any, book: Any, out: Any) -> int:
    out["id"][np.array([3, 40])] = 999
    return 1


@pytest.mark.parametrize(
    "function", [one_past_the_room, far_below_the_room, a_list_of_places], ids=lambda f: f.__name__
)
def test_an_index_outside_the_room_ends_the_run_and_changes_no_order(function: Any) -> None:
    checked = numba.njit(boundscheck=True)(function)
    strategy = numba_strategy(state=np.zeros(1, np.int64))(strategy_of(checked))
    records = orders(100)
    error, _, left = failed(strategy, records)
    assert isinstance(error.__cause__, IndexError)
    assert "index is out of bounds" in str(error)
    left["ingress_ts_ns"] = 0
    assert left.tobytes() == records[:30].tobytes()


def strategy_of(last: Any) -> Any:
    """Forward 30 records, and then do something else."""

    def strategy(record: Any, book: Any, out: Any, state: Any) -> int:
        state[0] += 1
        if state[0] <= 30:
            out[0] = record
            return 1
        return int(last(record, book, out))

    return strategy


@pytest.mark.parametrize(
    ("shape", "index"),
    [((4,), (4,)), ((4,), (-5,)), ((2, 3), (0, 3)), ((2, 3), (2, 0)), ((4,), (2**40,))],
)
def test_an_index_outside_the_state_ends_the_run(
    shape: tuple[int, ...], index: tuple[int, ...]
) -> None:
    state = np.zeros(shape, np.int64)
    first, last = index[0], index[-1]

    if len(shape) == 1:

        def outside(record: Any, book: Any, out: Any, state: Any) -> int:
            state[first] = 1
            return 0

    else:

        def outside(record: Any, book: Any, out: Any, state: Any) -> int:
            state[first, last] = 1
            return 0

    error, _, left = failed(numba_strategy(state=state)(outside), orders(5))
    assert isinstance(error.__cause__, IndexError)
    assert (error.position, len(left)) == (1, 0)


def test_an_array_in_a_record_of_the_state_has_its_bounds_checked_too() -> None:
    state = np.zeros(2, np.dtype([("last", "<i8"), ("prices", "<i8", (4,))]))

    @numba_strategy(state=state)
    def outside(record: Any, book: Any, out: Any, state: Any) -> int:
        state[0].prices[record.id] = 7
        return 0

    records = orders(5)
    records["id"] = np.arange(5)
    error, _, _ = failed(outside, records)
    assert isinstance(error.__cause__, IndexError)
    assert state[0]["prices"].tolist() == [7] * 4
    assert state[1]["last"] == 0


def test_bounds_checks_can_be_turned_off() -> None:
    state = np.zeros(2, np.int64)

    def beyond(record: Any, book: Any, out: Any, state: Any) -> int:
        state[:1][1] = 9  # one past a slice, and in the array all the same
        return 0

    emitted(numba_strategy(state=state, boundscheck=False)(beyond), orders(1))
    assert state.tolist() == [0, 9]
    with pytest.raises(StrategyError):
        emitted(numba_strategy(state=state)(beyond), orders(1))
    with refused(StrategyError, code="argument"):
        numba_strategy(state=state, boundscheck=1)(beyond)  # type: ignore[call-overload]


def test_a_helper_that_checks_no_bounds_is_refused() -> None:
    @numba.njit
    def put(out: Any, record: Any) -> None:
        out[16] = record

    @numba.njit
    def harmless(price: int) -> int:
        return price + 1

    def calls(record: Any, book: Any, out: Any) -> int:
        put(out, record)
        return 1

    def calls_harmless(record: Any, book: Any, out: Any) -> int:
        out[0] = record
        out[0].id = harmless(record.price)
        return 1

    with refused(StrategyError, code="bounds"):
        numba_strategy(calls)
    numba_strategy(calls, boundscheck=False)
    assert len(emitted(numba_strategy(calls_harmless), orders(3))) == 3


# Signed and unsigned


def equal_ids(record: Any, book: Any, out: Any, state: Any) -> int:
    return int(record.id == state[0])


def unequal_ids(record: Any, book: Any, out: Any, state: Any) -> int:
    return int(state[0] != record.id)


def timer(record: Any, book: Any, out: Any, state: Any) -> int:
    return int(book.now_ns >= state[0] + 5_000)


def one_of_ours(record: Any, book: Any, out: Any, state: Any) -> int:
    return int(record.id in state)


def all_of_them(record: Any, book: Any, out: Any, state: Any) -> int:
    return int((state == record.id).any())


def the_later(record: Any, book: Any, out: Any, state: Any) -> int:
    state[0] = max(book.now_ns, state[0])
    return 0


def either(record: Any, book: Any, out: Any, state: Any) -> int:
    found = record.id if record.side else state[0]
    state[0] = found
    return 0


def a_huge_number(record: Any, book: Any, out: Any, state: Any) -> int:
    return int(record.id == 2**53 + 1)


@numba.njit(boundscheck=True)
def is_ours(number: Any, state: Any) -> bool:
    return bool(number == state[0])


def in_a_helper(record: Any, book: Any, out: Any, state: Any) -> int:
    return int(is_ours(record.id, state))


MIXED = [
    equal_ids, unequal_ids, timer, one_of_ours, all_of_them, the_later, either, a_huge_number,
    in_a_helper,
]  # fmt: skip


@pytest.mark.parametrize("function", MIXED, ids=lambda function: function.__name__)
def test_an_int64_beside_a_uint64_is_refused_where_numba_would_take_floats(function: Any) -> None:
    with refused(StrategyError, code="floating"):
        numba_strategy(state=np.zeros(2, np.int64))(function)


@pytest.mark.parametrize(
    "function", [equal_ids, unequal_ids, one_of_ours, all_of_them, the_later, either, in_a_helper]
)
def test_a_state_of_uint64_is_exact(function: Any) -> None:
    state = np.full(2, 2**63 + 1, np.uint64)
    records = orders(1)
    records["id"] = 2**63

    @numba_strategy(state=state)
    def strategy(record: Any, book: Any, out: Any, state: Any) -> int:
        if record.id == state[0] or record.id in state or (state == record.id).any():
            state[1] = 0
        if not is_ours(record.id + np.uint64(1), state):
            state[1] = 0
        return 0

    emitted(strategy, records)
    assert state.tolist() == [2**63 + 1, 2**63 + 1]
    numba_strategy(state=state)(function)


def test_what_is_exact_in_a_float_may_be_mixed() -> None:
    state = np.zeros(2, np.int64)
    records = orders(20)
    records["id"] = np.arange(20)

    @numba_strategy(state=state)
    def strategy(record: Any, book: Any, out: Any, state: Any) -> int:
        if record.id == 7 or record.id >= 18 or book.market != 0 or record.size < state[1]:
            state[0] += 1
        if np.int64(record.id) == state[0]:
            state[1] = 0
        return 0

    emitted(strategy, records)
    assert state[0] == 3


def test_a_timer_of_uint64_fires_in_its_nanosecond() -> None:
    state = np.zeros(2, np.uint64)
    state[0] = 1721142608025339990

    @numba_strategy(state=state)
    def every_5_us(record: Any, book: Any, out: Any, state: Any) -> int:
        if book.now_ns - state[0] >= 5_000:
            state[0] = book.now_ns
            state[1] += 1
        return 0

    for later_ns, fired in ((4_999, 0), (5_000, 1)):
        records = orders(1, ingress_ts_ns=int(state[0]) + later_ns)
        Pipeline(
            ReplayIngress(records, speed=1.0),
            strategy=every_5_us,
            config=PipelineConfig(placement="invoker"),
        ).run()
        assert state[1] == fired


# The book


def test_the_book_is_read_only() -> None:
    @numba.njit
    def change(book: Any) -> None:
        book.now_ns = 7

    def writes(record: Any, book: Any, out: Any) -> int:
        book.bid_price = 7
        return 0

    def writes_by_name(record: Any, book: Any, out: Any) -> int:
        book["depth"] = 7
        return 0

    def helped(record: Any, book: Any, out: Any) -> int:
        change(book)
        return 0

    for function in (writes, writes_by_name, helped):
        with refused(StrategyError, code="read_only"):
            numba_strategy(function)


@pytest.mark.parametrize("writers", [1, 2])
def test_the_depth_of_the_book_can_be_called(writers: int) -> None:
    state = np.zeros((2, 17), np.int64)

    @numba_strategy(state=state)
    def look(record: Any, book: Any, out: Any, state: Any) -> int:
        for side in range(2):
            state[side, 0] = book.depth(side, state[side, 1:9], state[side, 9:17])
        return 0

    generator = np.random.default_rng(3)
    bids = generator.integers(950, 1_000, 200)
    asks = generator.integers(1_001, 1_050, 200)
    records = orders(400, price=np.concatenate([bids, asks]), side=np.repeat([0, 1], 200), size=3)
    pipeline = Pipeline(
        ReplayIngress(records),
        strategy=look,
        books=velox.OrderBook(1024, base_price=500, writers=writers),
        config=PipelineConfig(placement="invoker", writers=writers),
    )
    pipeline.run()
    depth = pipeline.books[0].depth(8)
    for side, name in enumerate(("bid", "ask")):
        assert state[side, 0] == 8
        assert state[side, 1:9].tolist() == depth[f"{name}_price"].tolist()
        assert state[side, 9:17].tolist() == depth[f"{name}_quantity"].tolist()


def test_the_depth_is_callable_in_a_cfunc_of_ones_own() -> None:
    seen = np.zeros(5, np.int64)

    @numba.cfunc(strategy_signature(seen.dtype))
    def look(record, book, out, room, user_data):  # type: ignore[no-untyped-def]
        seen = numba.carray(user_data, 5)
        seen[0] = numba.carray(book, 1)[0].depth(1, seen[1:3], seen[3:5])
        return 0

    records = orders(3, price=[12, 10, 11], side=1, size=[1, 2, 3])
    emitted(Strategy(look, user_data=seen), records)
    assert seen.tolist() == [2, 10, 11, 2, 3]


def a_third_side(record: Any, book: Any, out: Any, state: Any) -> int:
    return int(book.depth(2, state[:2], state[2:4]))


def other_lengths(record: Any, book: Any, out: Any, state: Any) -> int:
    return int(book.depth(0, state[:1], state[2:4]))


@pytest.mark.parametrize("function", [a_third_side, other_lengths])
def test_a_depth_of_what_there_is_not_ends_the_run(function: Any) -> None:
    error, _, _ = failed(numba_strategy(state=np.zeros(4, np.int64))(function), orders(3))
    assert "book.depth: " in str(error)
    assert isinstance(error.__cause__, ValueError)


@pytest.mark.parametrize("state", [np.zeros(4, np.uint64), np.zeros((4, 2)), np.zeros(4, np.int32)])
def test_a_depth_into_other_arrays_than_int64_is_refused(state: Any) -> None:
    def look(record: Any, book: Any, out: Any, state: Any) -> int:
        return int(book.depth(0, state[:2], state[2:4]))

    with pytest.raises(StrategyError, match="arrays of int64 in one dimension"):
        numba_strategy(state=state)(look)


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
    ("function", "code", "named"),
    [
        (no_such_field, "compile", "no_such_field"),
        (too_few, "function", "too_few"),
        (7, "function", "7"),
    ],
)
def test_what_cannot_be_compiled_is_refused_by_name(function: Any, code: str, named: str) -> None:
    with refused(StrategyError, code=code) as caught:
        numba_strategy(function)
    assert named in caught.value.why


def forgets(record: Any, book: Any, out: Any) -> Any:
    if record.side == 0:
        return 1


def a_fraction(record: Any, book: Any, out: Any) -> Any:
    return 1.7


@pytest.mark.parametrize("function", [forgets, a_fraction, a_word])
def test_a_function_that_may_return_no_number_is_refused(function: Any) -> None:
    with refused(StrategyError, code="returns"):
        numba_strategy(function)


@pytest.mark.parametrize(
    ("number", "returned"),
    [(-(2**32), -1), (2**32 + 3, 17), (-7, -7)],
)
def test_a_number_that_is_none_of_transactions_ends_the_run(number: int, returned: int) -> None:
    @numba_strategy
    def wrong(record: Any, book: Any, out: Any) -> int:
        return number

    with pytest.raises(StrategyError) as caught:
        emitted(wrong, orders(5))
    assert caught.value.returned == returned


@pytest.mark.parametrize("dtype", [">i8", "V8", np.longdouble])
def test_state_that_numba_has_no_type_for_is_refused(dtype: Any) -> None:
    with refused(StrategyError, code="elements"):
        numba_strategy(state=np.zeros(1, dtype))(too_few)


def test_a_strategy_takes_no_other_memory_than_it_was_made_for() -> None:
    made = numba_strategy(state=np.zeros(4, np.int64))(lambda record, book, out, state: 0)
    other = np.zeros(4, np.int64)
    assert emitted(Strategy(made, user_data=other), orders(3)).size == 0
    for wrong in (np.zeros(1, np.uint8), np.zeros(0, np.int64), np.zeros((2, 2), np.int64), 5):
        with refused(StrategyError, code="memory"):
            Strategy(made, user_data=wrong)


@pytest.mark.parametrize("state", [[0], np.array([None]), 5])
def test_state_that_cannot_be_shared_is_refused(state: Any) -> None:
    with refused(StrategyError, code="memory"):
        numba_strategy(state=state)(too_few)


def test_an_array_of_other_elements_than_were_declared_is_refused() -> None:
    @numba.cfunc(strategy_signature())
    def counts(record: Any, book: Any, out: Any, room: Any, user_data: Any) -> int:
        user_data[0] += 1
        return 0

    with refused(StrategyError, code="elements"):
        Strategy(counts, user_data=np.zeros(1, np.int64))
    Strategy(counts, user_data=np.zeros(8, np.uint8))
    with refused(StrategyError, code="memory"):
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
