"""Strategies: every way to pass a compiled function, and how the pipeline calls it."""

from __future__ import annotations

import ctypes
import gc
import os
import traceback
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import Array, assert_adds_up, compiled, inside, orders, refused
from velox import (
    BOOK_VIEW_DTYPE,
    STRATEGY_CTYPE,
    TRANSACTION_DTYPE,
    Books,
    CaptureOutput,
    Instrument,
    Kind,
    OrderBook,
    Pipeline,
    PipelineConfig,
    ReplayIngress,
    Side,
    Strategy,
    strategy_signature,
)
from velox.errors import ConfigError, PipelineError, StrategyError

ROOM = 16
NEW_CAPSULE = ctypes.pythonapi.PyCapsule_New
NEW_CAPSULE.restype = ctypes.py_object
NEW_CAPSULE.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
SET_CONTEXT = ctypes.pythonapi.PyCapsule_SetContext
SET_CONTEXT.argtypes = [ctypes.py_object, ctypes.c_void_p]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The C strategies, compiled as a user would."""
    source = Path(__file__).with_name("strategies.c")
    return compiled(source, tmp_path_factory.mktemp("strategies"))


class Run:
    """Replay a recording through a strategy, step by step, and return the output."""

    def __init__(
        self,
        tmp_path: Path,
        records: Array,
        strategy: object,
        *,
        books: Any = None,
        placement: str = "invoker",
        **config: Any,
    ) -> None:
        self.path = tmp_path / "out.npy"
        self.pipeline = Pipeline(
            ReplayIngress(records),
            CaptureOutput(self.path),
            strategy=strategy,
            books=books,
            config=PipelineConfig(placement=placement, idle="yield", **config),
        )

    def out(self) -> Array:
        self.pipeline.run()
        assert_adds_up(self.pipeline, forwarding=False)
        return inside(np.load(self.path))


def recorded(count: int, **fields: Any) -> Array:
    due = 10**9 + 100 * np.arange(count, dtype=np.uint64)
    return orders(count, **{"ingress_ts_ns": due, **fields})


def address(function: Any) -> int:
    value = ctypes.cast(function, ctypes.c_void_p).value
    assert value is not None
    return value


# Every way in


def test_a_c_function_of_a_library_is_a_strategy(library: ctypes.CDLL, tmp_path: Path) -> None:
    records = recorded(100)
    assert Run(tmp_path, records, library.forward).out().tobytes() == records.tobytes()


def test_an_address_is_a_strategy(library: ctypes.CDLL, tmp_path: Path) -> None:
    records = recorded(100)
    run = Run(tmp_path, records, address(library.forward))
    assert run.out().tobytes() == records.tobytes()


def test_a_capsule_brings_its_user_data_with_it(library: ctypes.CDLL) -> None:
    seen = np.zeros(10, np.int64)
    capsule = NEW_CAPSULE(address(library.watch), b"velox_strategy/2", None)
    SET_CONTEXT(capsule, seen.ctypes.data)
    strategy = Strategy(capsule)
    assert strategy.name == "capsule"
    config = PipelineConfig(placement="invoker")
    Pipeline(ReplayIngress(recorded(7)), strategy=strategy, config=config).run()
    assert seen[9] == 7


def test_a_ctypes_callback_is_a_strategy(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []

    @STRATEGY_CTYPE
    def every_second(record: int, book: int, out: int, room: int, user_data: int | None) -> int:
        number = ctypes.cast(record, ctypes.POINTER(ctypes.c_uint64))[0]
        calls.append((number, room))
        if number % 2:
            return 0
        ctypes.memmove(out, record, TRANSACTION_DTYPE.itemsize)
        return 1

    records = recorded(20)
    out = Run(tmp_path, records, every_second).out()
    assert out.tobytes() == records[1::2].tobytes()
    assert calls == [(number, ROOM) for number in range(1, 21)]


def test_a_numba_function_is_a_strategy(tmp_path: Path) -> None:
    numba = pytest.importorskip("numba")

    @numba.cfunc(strategy_signature(np.dtype(np.int64)))
    def join_the_bid(record, book, out, room, user_data):  # type: ignore[no-untyped-def]
        view = numba.carray(book, 1)[0]
        user_data[0] += 1
        if view.bid_quantity == 0:
            return 0
        order = numba.carray(out, room)[0]
        order.id = user_data[0]
        order.price = view.bid_price
        order.size = room
        order.side = 0
        order.kind = 0
        order.flags = 0
        order.market = numba.carray(record, 1)[0].market
        order.ingress_ts_ns = 0
        return 1

    counter = np.zeros(1, np.int64)
    records = recorded(4, price=[100, 300, 200, 400], side=[1, 0, 0, 0])
    records["price"][0] = 900
    strategy = Strategy(join_the_bid, user_data=counter)
    assert strategy.name == "join_the_bid"
    assert repr(strategy) == "<Strategy join_the_bid>"
    out = Run(tmp_path, records, strategy).out()
    assert counter[0] == 4
    assert out["id"].tolist() == [2, 3, 4]
    assert out["price"].tolist() == [300, 300, 400]
    assert (out["size"] == ROOM).all()
    assert out["ingress_ts_ns"].tolist() == records["ingress_ts_ns"][1:].tolist()


def test_a_strategy_of_a_strategy_is_the_same(library: ctypes.CDLL) -> None:
    seen = np.zeros(10, np.int64)
    twin = Strategy(Strategy(library.watch, user_data=seen))
    assert twin.name == "watch"
    config = PipelineConfig(placement="invoker")
    Pipeline(ReplayIngress(recorded(3)), strategy=twin, config=config).run()
    assert seen[9] == 3


def test_a_strategy_keeps_its_function_and_its_data(library: ctypes.CDLL) -> None:
    seen = np.zeros(10, np.int64)
    kept = weakref.ref(seen)
    strategy = Strategy(library.watch, user_data=seen)
    del seen
    gc.collect()
    assert kept() is not None
    del strategy
    gc.collect()
    assert kept() is None


def test_user_data_may_be_an_address(library: ctypes.CDLL) -> None:
    seen = np.zeros(10, np.int64)
    strategy = Strategy(library.watch, user_data=seen.ctypes.data)
    config = PipelineConfig(placement="invoker")
    Pipeline(ReplayIngress(recorded(3)), strategy=strategy, config=config).run()
    assert seen[9] == 3


# What it sees


def test_the_dtype_of_the_view_is_that_of_the_header() -> None:
    assert BOOK_VIEW_DTYPE.itemsize == 80
    assert [BOOK_VIEW_DTYPE.fields[name][1] for name in BOOK_VIEW_DTYPE.names] == list(
        range(0, 80, 8)
    )


def test_the_view_is_the_book_after_the_record(library: ctypes.CDLL) -> None:
    seen = np.zeros(10, np.int64)
    records = recorded(3, price=[9_900, 10_100, 10_000], size=[5, 7, 9], side=[0, 1, 0], market=3)
    pipeline = Pipeline(
        ReplayIngress(records),
        strategy=Strategy(library.watch, user_data=seen),
        books=[Instrument(market=3, tick_size=100)],
        config=PipelineConfig(placement="invoker"),
    )
    views = []
    while pipeline.step() != -1:
        if seen[9] > len(views):
            views.append(seen.tolist())
    pipeline.stop()
    assert [view[:4] for view in views] == [
        [9_900, 5, 0, 0],
        [9_900, 5, 10_100, 7],
        [10_000, 9, 10_100, 7],
    ]
    assert [view[4] for view in views] == [1, 2, 3]
    assert [view[5] for view in views] == records["ingress_ts_ns"].tolist()
    assert {tuple(view[6:9]) for view in views} == {(100, 3, ROOM)}


def test_the_position_counts_rejected_records_though_they_are_not_shown(
    library: ctypes.CDLL,
) -> None:
    seen = np.zeros(10, np.int64)
    records = recorded(5, price=[100, 0, 100, -1, 100])
    pipeline = Pipeline(
        ReplayIngress(records),
        strategy=Strategy(library.watch, user_data=seen),
        config=PipelineConfig(placement="invoker"),
    )
    report = pipeline.run()
    assert (seen[9], seen[4]) == (3, 5)
    assert report.ledger.rejected["price"] == 2


def test_the_depth_is_that_of_the_book(library: ctypes.CDLL) -> None:
    seen = np.zeros(34, np.int64)
    generator = np.random.default_rng(7)
    count = 400
    side = generator.integers(0, 2, count)
    price = np.where(side == 0, 10_000 - generator.integers(1, 9, count), 0) + np.where(
        side == 1, 10_000 + generator.integers(1, 2_000, count), 0
    )
    pipeline = Pipeline(
        ReplayIngress(recorded(count, price=price, side=side, size=3)),
        strategy=Strategy(library.look_deep, user_data=seen),
        books=[Instrument(levels=64)],
        config=PipelineConfig(placement="invoker"),
    )
    pipeline.run()
    depth = pipeline.books[0].depth(8)
    for number, name in enumerate(("bid", "ask")):
        found, prices, quantities = np.split(seen[17 * number : 17 * (number + 1)], [1, 9])
        assert found == 8
        assert prices.tolist() == depth[f"{name}_price"].tolist()
        assert quantities.tolist() == depth[f"{name}_quantity"].tolist()


def test_a_market_maker_quotes_inside_a_spread_that_moved(
    library: ctypes.CDLL, tmp_path: Path
) -> None:
    bid, ask, set_ = Side.BID, Side.ASK, Kind.SET
    script = [
        # (side, kind, price, size)        the inside after it    what is quoted
        (bid, set_, 1_000, 5),  # one-sided              nothing
        (ask, set_, 1_010, 5),  # 1000 / 1010            1001, 1009
        (bid, set_, 990, 5),  # unchanged              nothing
        (bid, set_, 1_005, 1),  # 1005 / 1010            1006, 1009
        (ask, set_, 1_007, 1),  # 1005 / 1007            too narrow
        (bid, set_, 1_005, 0),  # 1000 / 1007            1001, 1006
        (ask, set_, 1_007, 0),  # 1000 / 1010            1001, 1009
    ]
    records = recorded(len(script))
    for index, values in enumerate(script):
        for field, value in zip(("side", "kind", "price", "size"), values, strict=True):
            records[field][index] = value
    state = np.zeros(3, np.int64)
    out = Run(tmp_path, records, Strategy(library.make_market, user_data=state)).out()
    quotes = out["price"].reshape(-1, 2).tolist()
    assert quotes == [[1_001, 1_009], [1_006, 1_009], [1_001, 1_006], [1_001, 1_009]]
    assert out["side"].tolist() == [0, 1] * 4
    assert state[2] == 8
    causes = records["ingress_ts_ns"][[1, 3, 5, 6]]
    assert out["ingress_ts_ns"].tolist() == np.repeat(causes, 2).tolist()


# What it emits


@pytest.mark.parametrize("count", range(ROOM + 1))
def test_a_strategy_emits_from_none_to_its_room(
    library: ctypes.CDLL, tmp_path: Path, count: int
) -> None:
    records = recorded(50, kind=Kind.SET, size=count)
    run = Run(tmp_path, records, library.several, transaction_capacity=16)
    out = run.out()
    expected = [number * 100 + i for number in range(1, 51) for i in range(count)]
    assert out["id"].tolist() == expected
    assert out["ingress_ts_ns"].tolist() == np.repeat(records["ingress_ts_ns"], count).tolist()
    assert run.pipeline.ledger().emitted == 50 * count


@pytest.mark.parametrize("capacity", [2, 4, 8])
def test_a_ring_smaller_than_the_strategys_room_is_refused(
    library: ctypes.CDLL, capacity: int
) -> None:
    config = PipelineConfig(placement="invoker", transaction_capacity=capacity)
    with refused(ConfigError, field="transaction_capacity", value=capacity) as error:
        Pipeline(ReplayIngress(recorded(5)), strategy=library.forward, config=config)
    assert f"at least {ROOM}" in str(error.value)
    # Without a strategy there is no room to keep.
    assert Pipeline(ReplayIngress(recorded(5)), config=config).run().ledger.emitted == 5


def test_what_a_strategy_does_not_write_leaves_as_zeros(
    library: ctypes.CDLL, tmp_path: Path
) -> None:
    records = recorded(40, size=9, flags=255)
    out = Run(tmp_path, records, library.terse).out()
    expected = np.zeros(40, TRANSACTION_DTYPE)
    expected["id"] = records["id"]
    expected["price"] = records["price"]
    expected["size"] = 7
    expected["ingress_ts_ns"] = records["ingress_ts_ns"]
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("capacity", [16, 32, 64, 4096])
def test_a_strategy_finds_zeros_wherever_its_room_lies(
    library: ctypes.CDLL, tmp_path: Path, capacity: int
) -> None:
    sizes = np.random.default_rng(capacity).integers(0, ROOM + 1, 2_000)
    found = np.zeros(1, np.uint64)
    strategy = Strategy(library.fill, user_data=found)
    records = recorded(2_000, kind=Kind.SET, size=sizes, ingress_ts_ns=10**9)
    out = Run(tmp_path, records, strategy, transaction_capacity=capacity).out()
    assert out["id"].tolist() == numbered(sizes)
    assert found[0] == 0


@pytest.mark.parametrize("capacity", [16, 32, 4096])
def test_what_a_strategy_writes_and_does_not_return_never_leaves(
    library: ctypes.CDLL, tmp_path: Path, capacity: int
) -> None:
    sizes = np.random.default_rng(capacity).integers(0, ROOM + 1, 2_000)
    records = recorded(2_000, kind=Kind.SET, size=sizes, ingress_ts_ns=10**9)
    out = Run(tmp_path, records, library.scribble, transaction_capacity=capacity).out()
    expected = np.zeros(sizes.sum(), TRANSACTION_DTYPE)
    expected["id"] = numbered(sizes)
    expected["price"] = records["price"][0]
    expected["size"] = 1
    expected["ingress_ts_ns"] = np.repeat(records["ingress_ts_ns"], sizes)
    assert out.tobytes() == expected.tobytes()


@pytest.mark.parametrize("capacity", [16, 64])
def test_a_strategy_is_asked_once_where_its_ring_is_full_in_the_middle_of_a_batch(
    library: ctypes.CDLL, tmp_path: Path, capacity: int
) -> None:
    # Some records in between are refused, and not shown.
    sizes = np.random.default_rng(capacity).integers(1, ROOM + 1, 500)
    sizes[::7] = 0
    records = recorded(500, kind=Kind.ADD, size=sizes, ingress_ts_ns=10**9)
    run = Run(tmp_path, records, library.several, transaction_capacity=capacity)
    most = 0
    while run.pipeline.step() != -1:
        made = run.pipeline.statistics()
        most = max(most, made.pushed - made.applied - made.rejected)
    assert run.out()["id"].tolist() == numbered(sizes)
    assert most > 0  # there were batches that could not be finished
    ledger = run.pipeline.ledger()
    assert ledger.rejected["size"] == len(sizes[::7])
    assert ledger.applied == 500 - len(sizes[::7])


def numbered(sizes: Array) -> list[int]:
    return [number * 100 + i for number, size in enumerate(sizes, 1) for i in range(size)]


def test_a_timestamp_of_the_strategys_own_is_kept(library: ctypes.CDLL, tmp_path: Path) -> None:
    records = recorded(3)
    out = Run(tmp_path, records, library.forward).out()
    assert out["ingress_ts_ns"].tolist() == records["ingress_ts_ns"].tolist()


def test_a_side_that_there_is_not_has_no_depth(library: ctypes.CDLL, tmp_path: Path) -> None:
    found = np.full(3, -9, np.int64)
    run = Run(tmp_path, recorded(3), Strategy(library.look_aside, user_data=found))
    assert len(run.out()) == 3
    assert found.tolist() == [0, 0, 0]


# What it emits is checked

GOOD: dict[str, Any] = {"id": 5, "price": 9_900, "size": 3, "market": 3}
BAD = [
    ("kind", {"kind": 8}),
    ("kind", {"kind": 255}),
    ("side", {"side": 2}),
    ("side", {"side": 2, "kind": Kind.CLEAR}),
    ("market", {"market": 0}),
    ("market", {"market": 255, "kind": Kind.TRADE}),
    ("price", {"price": 0}),
    ("price", {"price": -100}),
    ("price", {"price": -(2**63), "kind": Kind.SET}),
    ("off_tick", {"price": 9_901}),
    ("off_tick", {"price": 2**63 - 1, "kind": Kind.DELETE}),
    ("size", {"size": 0}),
    ("size", {"size": 0, "kind": Kind.CANCEL}),
    ("size", {"size": 0, "kind": Kind.EXECUTE}),
    ("size", {"kind": Kind.SET_WIDE, "id": 2**63}),
]
ALLOWED: list[dict[str, Any]] = [
    {},
    {"side": 1, "flags": 255, "size": 2**32 - 1},
    {"kind": Kind.SET, "size": 0},
    {"kind": Kind.SET_WIDE, "size": 0, "id": 2**63 - 1},
    {"kind": Kind.DELETE, "size": 0},
    {"kind": Kind.CLEAR, "price": -1, "size": 0},
    {"kind": Kind.TRADE, "price": 9_901, "size": 0},
    {"price": (2**63 - 1) // 100 * 100},
    # Far from every window: an order need not lie near the best price.
    {"price": 100},
]


def emission(*orders_of_it: dict[str, Any]) -> Array:
    """What `dictated` reads: how many records, and the records."""
    made = orders(len(orders_of_it))
    for record, fields in zip(made, orders_of_it, strict=True):
        for name, value in {**GOOD, **fields}.items():
            record[name] = value
    return np.concatenate([np.array([len(made)], np.uint64), made.view(np.uint64)])


class Dictated:
    """A pipeline of one market, 3, with a tick of 100, whose strategy emits what it is told."""

    def __init__(
        self, library: ctypes.CDLL, tmp_path: Path, told: Array, count: int = 40, **config: Any
    ) -> None:
        self.run = Run(
            tmp_path,
            recorded(count, market=3),
            Strategy(library.dictated, user_data=told),
            books=[Instrument(market=3, tick_size=100)],
            **config,
        )

    def out(self) -> Array:
        return self.run.out()


@pytest.mark.parametrize(("reason", "fields"), BAD)
@pytest.mark.parametrize("capacity", [16, 64])
def test_a_record_that_no_book_could_take_is_blocked_and_counted(
    library: ctypes.CDLL, tmp_path: Path, reason: str, fields: dict[str, Any], capacity: int
) -> None:
    told = emission({"id": 1}, fields, {"id": 2, "side": 1}, fields, fields)
    dictated = Dictated(library, tmp_path, told, transaction_capacity=capacity)
    out = dictated.out()
    assert out["id"].tolist() == [1, 2] * 40
    assert out["side"].tolist() == [0, 1] * 40
    assert (out["ingress_ts_ns"] > 0).all()
    ledger = dictated.run.pipeline.ledger()
    assert (ledger.emitted, ledger.passed) == (200, 80)
    assert {name: n for name, n in ledger.blocked.items() if n} == {reason: 120}
    report = dictated.run.pipeline.report()
    assert report.to_dict()["ledger"]["blocked"][reason] == 120
    assert any("blocked" in each and reason in each for each in report.warnings)
    assert "blocked" in str(report)


@pytest.mark.parametrize("fields", ALLOWED, ids=str)
def test_a_record_that_some_book_could_take_passes(
    library: ctypes.CDLL, tmp_path: Path, fields: dict[str, Any]
) -> None:
    out = Dictated(library, tmp_path, emission(fields)).out()
    assert len(out) == 40
    for name, value in {**GOOD, **fields}.items():
        assert set(out[name].tolist()) == {value}


@pytest.mark.parametrize("placement", ["invoker", "paired"])
@pytest.mark.parametrize(("reason", "fields"), BAD)
def test_a_bad_record_stops_the_run_where_that_is_asked(
    library: ctypes.CDLL, tmp_path: Path, reason: str, fields: dict[str, Any], placement: str
) -> None:
    told = emission({"id": 1}, {})
    dictated = Dictated(library, tmp_path, told, placement=placement, on_bad_order="stop", count=3)
    assert len(dictated.out()) == 6
    (tmp_path / "out.npy").unlink()
    dictated = Dictated(
        library, tmp_path, emission({"id": 1}, fields), placement=placement, on_bad_order="stop"
    )
    with refused(StrategyError, reason=reason, position=1) as raised:
        dictated.run.pipeline.run()
    assert "out[1]." in str(raised.value)
    assert_adds_up(dictated.run.pipeline, forwarding=False)
    ledger = dictated.run.pipeline.ledger()
    # Nothing of that call leaves; the books stay exact.
    assert (ledger.emitted, ledger.delivered_transactions) == (0, 0)
    assert ledger.applied == ledger.pushed


def test_what_is_blocked_leaves_no_trace_in_the_room(library: ctypes.CDLL, tmp_path: Path) -> None:
    sizes = np.random.default_rng(5).integers(0, ROOM + 1, 2_000)
    found = np.zeros(1, np.uint64)
    records = recorded(2_000, kind=Kind.SET, size=sizes, ingress_ts_ns=10**9)
    # `fill` copies the price: half of its records are off the grid that their book has now.
    records["kind"][::2] = Kind.TRADE
    records["price"][::2] += 1
    run = Run(
        tmp_path,
        records,
        Strategy(library.fill, user_data=found),
        books=[Instrument(tick_size=100)],
        transaction_capacity=32,
    )
    out = run.out()
    expected = [n * 100 + i for n, size in enumerate(sizes, 1) for i in range(size) if n % 2 == 0]
    assert out["id"].tolist() == expected
    assert run.pipeline.ledger().blocked["off_tick"] == sizes[::2].sum()
    assert found[0] == 0


@pytest.mark.parametrize("on_cross", ["count", "reject", "uncross", "match"])
@pytest.mark.parametrize("writers", [1, 2])
def test_what_was_applied_may_always_be_forwarded(
    library: ctypes.CDLL, tmp_path: Path, on_cross: str, writers: int
) -> None:
    if writers > 1 and on_cross != "count":
        pytest.skip("a book of several writers counts crossings")
    generator = np.random.default_rng(11)
    count = 20_000
    records = recorded(count, ingress_ts_ns=10**9)
    for name, low, high in (
        ("price", -200, 12_000), ("size", 0, 4), ("side", 0, 3), ("kind", 0, 10), ("market", 0, 4),
    ):  # fmt: skip
        records[name] = generator.integers(low, high, count)
    on_grid = generator.random(count) < 0.8
    records["price"][on_grid] = records["price"][on_grid] // 100 * 100
    records["id"][::5] = 2**63 + records["id"][::5]
    books = Books(
        [
            OrderBook(64, 100, base_price=3_000, writers=writers, market=market, on_cross=on_cross)
            for market in (0, 2, 3)
        ]
    )
    run = Run(tmp_path, records, library.forward, books=books, writers=writers)
    out = run.out()
    ledger = run.pipeline.ledger()
    assert len(out) == ledger.applied == ledger.passed > 1_000
    assert sum(ledger.rejected.values()) > 1_000
    assert not any(ledger.blocked.values())


# What goes wrong


@pytest.mark.parametrize("placement", ["invoker", "shared"])
@pytest.mark.parametrize("answer", [-1, -7, -(2**31), ROOM + 1, 2**31 - 1])
def test_an_answer_out_of_range_stops_the_pipeline_and_says_where(
    library: ctypes.CDLL, tmp_path: Path, answer: int, placement: str
) -> None:
    orders_of_the_test = np.array([30, answer], np.int64)
    strategy = Strategy(library.give_up, user_data=orders_of_the_test)
    run = Run(
        tmp_path,
        recorded(200, ingress_ts_ns=10**9),
        strategy,
        placement=placement,
        transaction_capacity=64,
    )
    with refused(StrategyError, returned=answer, position=30):
        run.pipeline.run()
    assert_adds_up(run.pipeline, forwarding=False)
    ledger = run.pipeline.report().ledger
    # What was in the rings is still applied: the books stay exact.
    assert ledger.applied == ledger.pushed >= 30
    assert ledger.emitted == ledger.delivered_transactions == 29
    assert inside(np.load(run.path))["id"].tolist() == list(range(1, 30))
    assert run.pipeline.books[0].best_bid_quantity == ledger.applied


def test_a_failed_strategy_and_a_failed_output_are_both_told(
    library: ctypes.CDLL, tmp_path: Path
) -> None:
    strategy = Strategy(library.give_up, user_data=np.array([30, -3], np.int64))
    pipeline = Pipeline(
        ReplayIngress(recorded(200)),
        CaptureOutput(os.devnull),
        strategy=strategy,
        config=PipelineConfig(placement="invoker"),
    )
    # Code that catches Velox's errors catches this too, and finds both errors inside.
    with pytest.raises(PipelineError) as raised:
        pipeline.run()
    told = "".join(traceback.format_exception(raised.value))
    assert "the strategy returned -3" in told
    assert os.devnull in told


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        "forward",
        1.5,
        True,
        object(),
        print,
        lambda record, book, out, room, user_data: 0,
        0,
        -1,
        2**64,
        STRATEGY_CTYPE(),
    ],
    ids=lambda wrong: repr(wrong).partition(" at 0x")[0][:24],
)
def test_what_is_no_compiled_function_is_refused(wrong: Any) -> None:
    with pytest.raises(StrategyError):
        Strategy(wrong)


@pytest.mark.parametrize(
    "prototype",
    [
        ctypes.CFUNCTYPE(ctypes.c_int32),
        ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 4),
        ctypes.CFUNCTYPE(ctypes.c_double, *STRATEGY_CTYPE._argtypes_),
        ctypes.CFUNCTYPE(None, *STRATEGY_CTYPE._argtypes_),
        ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_double] * 5),
        ctypes.PYFUNCTYPE(ctypes.c_int32, *STRATEGY_CTYPE._argtypes_),
    ],
    ids=["no arguments", "four", "a double", "nothing", "of doubles", "with the GIL"],
)
def test_a_ctypes_function_of_another_signature_is_refused(prototype: Any) -> None:
    with pytest.raises(StrategyError):
        Strategy(prototype(lambda *_: 0))


def test_a_numba_function_of_another_signature_is_refused() -> None:
    numba = pytest.importorskip("numba")
    types = numba.types
    right = strategy_signature().args
    for wrong in (
        types.int32(*right[:4]),
        types.int64(*right),
        types.int32(*[types.float64] * 5),
        types.int32(*right[:3], types.float32, right[4]),
    ):
        compiled = numba.cfunc(wrong)(numba_zero(len(wrong.args)))
        with pytest.raises(StrategyError):
            Strategy(compiled)


def numba_zero(parameters: int) -> Any:
    return (lambda a, b, c, d: 0) if parameters == 4 else (lambda a, b, c, d, e: 0)


def test_a_capsule_of_another_name_is_refused(library: ctypes.CDLL) -> None:
    for name in (b"velox_strategy/1", b"scipy", None):
        with refused(StrategyError, code="function"):
            Strategy(NEW_CAPSULE(address(library.forward), name, None))


@pytest.mark.parametrize(
    "user_data",
    [b"bytes", "text", 1.5, True, [1], np.zeros(8)[::2], np.zeros((2, 2)).T],
    ids=lambda each: type(each).__name__,
)
def test_user_data_that_is_no_memory_is_refused(library: ctypes.CDLL, user_data: Any) -> None:
    with refused(StrategyError, code="memory"):
        Strategy(library.forward, user_data=user_data)


def test_user_data_that_cannot_be_written_is_refused(library: ctypes.CDLL) -> None:
    frozen = np.zeros(3)
    frozen.setflags(write=False)
    with refused(StrategyError, code="memory"):
        Strategy(library.forward, user_data=frozen)


def test_a_record_of_no_book_is_not_shown_to_the_strategy(library: ctypes.CDLL) -> None:
    seen = np.zeros(10, np.int64)
    pipeline = Pipeline(
        ReplayIngress(recorded(4, market=[0, 9, 0, 9])),
        strategy=Strategy(library.watch, user_data=seen),
        books=OrderBook(),
        config=PipelineConfig(placement="invoker"),
    )
    report = pipeline.run()
    assert seen[9] == 2
    assert report.ledger.rejected["market"] == 2
