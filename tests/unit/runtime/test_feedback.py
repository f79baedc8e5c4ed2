"""Strategies that take reports and timers: what reaches them, when, and in which order."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import Array, assert_adds_up, compiled, in_another_thread, orders, refused
from velox import (
    REPORT_RECORD_DTYPE,
    TRANSACTION_DTYPE,
    Books,
    CaptureOutput,
    Instrument,
    Kind,
    OrderBook,
    Pipeline,
    PipelineConfig,
    PushIngress,
    ReplayIngress,
    Strategy,
)
from velox.errors import ConfigError, PipelineError, RecordError, RingError, StrategyError
from velox.runtime.strategy_view import STRATEGY_VIEW_DTYPE

CALL = np.dtype([("record", TRANSACTION_DTYPE), ("view", STRATEGY_VIEW_DTYPE)])
NOTES = np.dtype(
    [
        *((name, "<u8") for name in ("capacity", "count", "answered", "wake_after_ns")),
        *((name, "<u8") for name in ("rewake_after_ns", "wake_at_ns", "fails", "unused")),
        ("calls", CALL, (4096,)),
    ]
)
START_NS = 1_000_000


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    source = Path(__file__).with_name("feedback.c")
    found = compiled(source, tmp_path_factory.mktemp("feedback"))
    found.tell.restype = ctypes.c_uint64
    return found


def bit(*kinds: Kind) -> int:
    return sum(1 << kind for kind in kinds)


class Listener:
    """A pipeline that the caller steps, and what its strategy wrote down."""

    def __init__(
        self,
        library: ctypes.CDLL,
        ingress: Any,
        output: Any = None,
        *,
        books: Any = None,
        reports: bool = True,
        config: dict[str, Any] | None = None,
        **notes: int,
    ) -> None:
        self.notes = np.zeros(1, NOTES)
        self.notes["capacity"] = len(self.notes["calls"][0])
        for name, value in notes.items():
            self.notes[name] = value
        strategy = Strategy(library.listen, self.notes, reports=reports)
        given = {"placement": "invoker", **(config or {})}
        self.pipeline = Pipeline(
            ingress, output, strategy=strategy, books=books, config=PipelineConfig(**given)
        )

    @property
    def calls(self) -> Array:
        found: Array = self.notes["calls"][0][: int(self.notes["count"][0])]
        return found

    @property
    def kinds(self) -> list[int]:
        return self.calls["record"]["kind"].tolist()  # type: ignore[no-any-return]

    @property
    def ids(self) -> list[int]:
        return self.calls["record"]["id"].tolist()  # type: ignore[no-any-return]


def market(count: int, **fields: Any) -> Array:
    """Records a millisecond apart on the virtual clock, which starts at 0."""
    due = START_NS * (1 + np.arange(count, dtype=np.uint64))
    return orders(count, **{"ingress_ts_ns": due, **fields})


def timed(records: Array) -> ReplayIngress:
    """Replay records at their own times."""
    return ReplayIngress(records, speed=1.0)


def reports(count: int, kind: Kind = Kind.FILLED, *, first: int = 1001, **fields: Any) -> Array:
    found = np.zeros(count, REPORT_RECORD_DTYPE)
    found["id"] = np.arange(first, first + count)
    found["kind"] = kind
    for name, value in fields.items():
        found[name] = value
    return found


# Reports


def test_a_report_reaches_the_strategy_through_the_same_function(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(3)))
    told = reports(2, price=990_000, size=5, side=1, flags=3, base_amount=50, fee=-2)
    assert listener.pipeline.reports.push(told) == 2
    listener.pipeline.run()
    assert listener.kinds == [Kind.FILLED] * 2 + [Kind.ADD] * 3
    heard = listener.calls["record"][:2]
    for name in TRANSACTION_DTYPE.names or ():
        if name != "ingress_ts_ns":
            assert heard[name].tolist() == told[name].tolist(), name
    assert listener.pipeline.feedback().to_dict() == {
        "pushed": 2, "heard": 2, "refused": {"kind": 0, "market": 0}, "left": 0, "full": 0,
        "timers": 0, "balanced": True,
    }  # fmt: skip


def test_every_kind_of_report_is_heard_and_no_book_takes_it(library: ctypes.CDLL) -> None:
    kinds = [kind for kind in Kind if kind >= Kind.PLACED and kind != Kind.TIMER]
    listener = Listener(library, timed(market(1)))
    for kind in kinds:
        assert listener.pipeline.reports.push(reports(1, kind)) == 1
    report = listener.pipeline.run()
    assert listener.kinds == [*kinds, Kind.ADD]
    assert report.ledger.applied == 1
    assert not any(report.ledger.rejected.values())


def test_a_report_that_a_strategy_causes_in_a_batch_is_heard_in_the_same_batch() -> None:
    """A gateway on another thread; here the strategy's own function stands for it."""
    ring_of: list[Any] = []
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint32,
        ctypes.c_void_p,
    )  # fmt: skip
    seen: list[int] = []

    @prototype
    def talk(record: int, view: int, out: int, room: int, user_data: int | None) -> int:
        kind = ctypes.cast(record, ctypes.POINTER(ctypes.c_uint8))[21]
        seen.append(kind)
        if len(seen) == 3:
            ring_of[0].push(reports(1))
        return 0

    pipeline = Pipeline(
        ReplayIngress(market(100), speed="max"),
        strategy=Strategy(talk, reports=True),
        config=PipelineConfig(placement="invoker", clock="kernel"),
    )
    ring_of.append(pipeline.reports)
    pipeline.run()
    assert seen.index(Kind.FILLED) == 16
    assert len(seen) == 101


def test_an_order_that_answers_a_report_carries_the_reports_time(
    library: ctypes.CDLL, tmp_path: Path
) -> None:
    path = tmp_path / "out.npy"
    listener = Listener(library, timed(market(2)), CaptureOutput(path), answered=bit(Kind.FILLED))
    listener.pipeline.reports.push(reports(2, ingress_ts_ns=[77, 88]))
    listener.pipeline.run()
    bundles = np.load(path)
    out = bundles["transactions"][0][: bundles["count"][0]]
    assert out["ingress_ts_ns"].tolist() == [77, 88]
    assert out["id"].tolist() == [1001, 1002]
    assert_adds_up(listener.pipeline, forwarding=False)


def test_a_report_without_a_time_gets_the_stages(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(1)))
    pipeline = listener.pipeline
    while not listener.calls.size:
        pipeline.step()
    pipeline.reports.push(reports(1))
    pipeline.run()
    assert listener.kinds == [Kind.ADD, Kind.FILLED]
    assert listener.calls["record"]["ingress_ts_ns"].tolist() == [START_NS, START_NS]


def test_the_view_of_a_report_is_that_of_its_market(library: ctypes.CDLL) -> None:
    records = market(4)
    records["market"] = [1, 4, 1, 4]
    records["price"] = [100, 200, 110, 210]
    records["side"] = [0, 0, 0, 0]
    instruments = [
        Instrument(market=1, tick_size=10, price_decimals=2),
        Instrument(market=4, tick_size=5, price_decimals=8),
    ]
    listener = Listener(library, ReplayIngress(records, speed="max"), books=instruments)
    pipeline = listener.pipeline
    while listener.calls.size < 4:
        pipeline.step()
    pipeline.reports.push(reports(2, market=[4, 1]))
    pipeline.run()
    views = listener.calls["view"][4:]
    assert views["market"].tolist() == [4, 1]
    assert views["bid_price"].tolist() == [210, 110]
    assert views["tick_size"].tolist() == [5, 10]
    assert views["price_decimals"].tolist() == [8, 2]
    assert views["position"].tolist() == [4, 4]
    assert set(views["size"].tolist()) == {STRATEGY_VIEW_DTYPE.itemsize}
    assert set(views["version"].tolist()) == {3}
    assert views["market_ns"].tolist() == [4 * START_NS, 3 * START_NS]
    assert not views["reserved"].any()


def test_the_feed_state_tells_an_unknown_and_a_crossed_book(library: ctypes.CDLL) -> None:
    records = market(4)
    records["side"] = [0, 1, 1, 0]
    records["price"] = [100, 90, 90, 0]
    records["kind"] = [Kind.ADD, Kind.ADD, Kind.DELETE, Kind.CLEAR]
    listener = Listener(library, timed(records))
    listener.pipeline.reports.push(reports(1))
    listener.pipeline.run()
    assert listener.calls["view"]["feed_state"].tolist() == [1, 0, 2, 0, 1]


def test_a_full_ring_makes_its_producer_keep_the_rest(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(100)), config={"report_capacity": 8})
    pipeline, told = listener.pipeline, reports(50)
    pushed = 0
    while pushed < len(told):
        pushed += pipeline.reports.push(told[pushed:])
        pipeline.step()
    pipeline.run()
    assert [each for each in listener.ids if each > 1000] == told["id"].tolist()
    feedback = pipeline.feedback()
    assert feedback.balanced
    assert feedback.full > 0


def test_reports_wait_where_the_output_has_no_room(library: ctypes.CDLL, tmp_path: Path) -> None:
    path = tmp_path / "out.npy"
    listener = Listener(
        library,
        timed(market(1)),
        CaptureOutput(path),
        config={"transaction_capacity": 16, "bundle_capacity": 2},
        answered=bit(Kind.FILLED),
    )
    told = reports(1000)
    assert listener.pipeline.reports.push(told) == 1000
    listener.pipeline.run()
    assert_adds_up(listener.pipeline, forwarding=False)
    bundles = np.load(path)
    sent = [each["id"] for one in bundles for each in one["transactions"][: one["count"]]]
    assert sent == told["id"].tolist()


def test_what_no_pipeline_takes_is_refused_at_the_push(library: ctypes.CDLL) -> None:
    port = Listener(library, timed(market(1))).pipeline.reports
    for name, value in {"kind": 7, "side": 2, "market": 3}.items():
        bad = reports(3)
        bad[name][1] = value
        with refused(RecordError, field=name, index=1, value=value, array="reports"):
            port.push(bad)
    with refused(RecordError, field="kind", value=int(Kind.TIMER)):
        port.push(reports(1, Kind.TIMER))
    with pytest.raises(RecordError):
        port.push(orders(1))
    assert len(port) == 0


def test_one_thread_alone_pushes_until_it_hands_over(library: ctypes.CDLL) -> None:
    port = Listener(library, timed(market(1))).pipeline.reports
    port.push(reports(1))
    with pytest.raises(RingError):
        in_another_thread(lambda: port.push(reports(1)))
    port.hand_over()
    assert in_another_thread(lambda: port.push(reports(1))) == 1


def test_a_producer_in_c_pushes_through_the_capsule(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(1)))
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype = ctypes.c_void_p
    pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
    capsule = listener.pipeline.reports.capsule
    producer = ctypes.c_void_p(pointer(capsule, b"velox_reports/1"))

    def tell(kind: int, market: int, first: int, count: int) -> int:
        first_id, number = ctypes.c_uint64(first), ctypes.c_uint64(count)
        return int(library.tell(producer, kind, market, first_id, number))

    assert tell(Kind.PLACED, 0, 5, 3) == 3
    # Nothing checks these before the stage: it counts them.
    assert tell(Kind.TIMER, 0, 8, 1) == tell(3, 0, 9, 1) == tell(200, 0, 10, 1) == 1
    assert tell(Kind.FILLED, 9, 11, 2) == 2
    report = listener.pipeline.run()
    assert listener.ids == [5, 6, 7, 1]
    assert report.feedback is not None
    assert report.feedback.refused == {"kind": 3, "market": 2}
    assert report.passed
    assert any("5 reports" in str(each) or "refused" in each for each in report.warnings)


def test_reports_before_the_end_are_heard_and_later_ones_are_settled(
    library: ctypes.CDLL,
) -> None:
    listener = Listener(library, timed(market(1)))
    pipeline = listener.pipeline
    with pytest.raises(PipelineError):
        pipeline.settle()
    pipeline.reports.push(reports(2))
    pipeline.run()
    assert pipeline.reports.push(reports(3)) == 3
    assert len(listener.ids) == 3
    assert pipeline.feedback().left == 3
    assert pipeline.settle() == 3
    assert pipeline.settle() == 0
    assert len(listener.ids) == 3, "the strategy is not called any more"
    assert pipeline.feedback().to_dict()["heard"] == 5


def test_a_strategy_that_fails_at_a_report_stops_the_run(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(50)), fails=bit(Kind.REJECTED))
    listener.pipeline.reports.push(reports(1))
    listener.pipeline.reports.push(reports(3, Kind.REJECTED))
    with refused(StrategyError, returned=-7):
        listener.pipeline.run()
    assert listener.kinds == [Kind.FILLED, Kind.REJECTED]
    feedback = listener.pipeline.feedback()
    assert feedback.balanced
    assert feedback.heard == 4


def test_a_strategy_of_version_2_sees_market_records_alone(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(3)), reports=False)
    with pytest.raises(PipelineError):
        _ = listener.pipeline.reports
    listener.pipeline.run()
    assert listener.kinds == [Kind.ADD] * 3
    assert listener.pipeline.feedback() is None
    with refused(ConfigError, field="timer_ns", value=5):
        Listener(library, timed(market(3)), reports=False, config={"timer_ns": 5})
    with refused(ConfigError, field="timer_ns", value=5):
        Pipeline(timed(market(3)), config=PipelineConfig(timer_ns=5))


def test_several_lanes_are_refused(library: ctypes.CDLL) -> None:
    books = Books([OrderBook(64, 1, writers=2, base_price=1_000_000)])
    with refused(ConfigError, field="lanes", value=2):
        Listener(
            library,
            [timed(market(1)), timed(market(1))],
            books=books,
            config={"lanes": 2, "placement": "shared"},
        )


def test_a_capsule_of_version_3_takes_reports(library: ctypes.CDLL) -> None:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = (
        ctypes.py_object,
        [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
    )
    address = ctypes.cast(library.listen, ctypes.c_void_p).value
    capsule = new(address, b"velox_strategy/3", None)
    assert Strategy(capsule).reports
    assert Strategy(Strategy(capsule)).reports
    with pytest.raises(StrategyError):
        Strategy(capsule, reports=False)
    assert not Strategy(new(address, b"velox_strategy/2", None)).reports


# Timers


def test_a_timer_comes_each_period_on_the_virtual_clock(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(3)), config={"timer_ns": 400_000})
    listener.pipeline.run()
    timers = listener.calls[listener.calls["record"]["kind"] == Kind.TIMER]
    # Replay and timers begin with the run. The last record, 2 ms later, ends the input.
    due = [START_NS + 400_000 * number for number in range(1, 6)]
    assert timers["record"]["ingress_ts_ns"].tolist() == due
    assert timers["view"]["now_ns"].tolist() == due
    assert timers["record"]["id"].tolist() == [*range(1, 6)]
    assert set(timers["record"]["size"].tolist()) == {1}
    assert listener.pipeline.feedback().timers == 5


def test_records_of_a_time_come_before_its_timer(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(2)), config={"timer_ns": START_NS})
    listener.pipeline.run()
    assert listener.kinds == [Kind.ADD, Kind.ADD, Kind.TIMER]


def test_each_market_has_a_timer_with_its_own_view(library: ctypes.CDLL) -> None:
    instruments = [Instrument(market=7), Instrument(market=2)]
    listener = Listener(
        library,
        timed(market(2, market=7)),
        books=instruments,
        config={"timer_ns": 300_000},
    )
    listener.pipeline.run()
    timers = listener.calls[listener.calls["record"]["kind"] == Kind.TIMER]
    assert timers["record"]["market"].tolist() == [2, 7] * 3
    assert timers["view"]["market"].tolist() == [2, 7] * 3


def test_a_late_timer_says_for_how_many_periods_it_stands(library: ctypes.CDLL) -> None:
    """The virtual clock jumps where records alone are due: nothing is idle in between."""
    listener = Listener(library, timed(market(1)), config={"timer_ns": 1, "clock": "virtual"})
    pipeline = listener.pipeline
    pipeline.start()
    pipeline.clock.advance(1000)
    pipeline.run()
    first = listener.calls["record"][1]
    assert (first["kind"], first["size"], first["ingress_ts_ns"]) == (
        *(Kind.TIMER, 1000),
        START_NS + 1,
    )


def test_a_timer_comes_when_the_strategy_asked_for_it(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(2)), wake_after_ns=250_000)
    listener.pipeline.run()
    assert listener.kinds == [Kind.ADD, Kind.TIMER, Kind.ADD]
    timer = listener.calls[1]
    assert timer["record"]["ingress_ts_ns"] == START_NS + 250_000
    assert timer["record"]["size"] == 0
    assert timer["view"]["timer_at_ns"] == 0


def test_a_timer_that_is_asked_for_later_again_comes_later(library: ctypes.CDLL) -> None:
    """Each record moves the timer: it comes once, after the last of them."""
    records = market(5)
    records["ingress_ts_ns"][:4] = [1000, 1100, 1200, 1300]
    listener = Listener(library, timed(records), wake_after_ns=500)
    listener.pipeline.run()
    assert listener.kinds == [Kind.ADD] * 4 + [Kind.TIMER, Kind.ADD]
    assert listener.calls[4]["record"]["ingress_ts_ns"] == 1800


def test_a_time_that_has_passed_means_the_next_nanosecond(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(2)), wake_at_ns=5, rewake_after_ns=1)
    assert listener.pipeline.run(duration=START_NS * 1e-9 + 20e-9).passed
    timers = listener.calls[1:]["record"]
    assert set(timers["kind"].tolist()) == {Kind.TIMER}
    assert timers["ingress_ts_ns"].tolist()[:3] == [START_NS + each for each in (1, 2, 3)]


def test_the_latest_time_is_never(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(2)), wake_at_ns=2**64 - 1)
    listener.pipeline.run()
    assert listener.kinds == [Kind.ADD, Kind.ADD]


@pytest.mark.parametrize("idle", ["spin", "yield", "backoff"])
@pytest.mark.parametrize("placement", ["shared", "paired"])
def test_a_timer_comes_while_the_feed_is_silent(
    library: ctypes.CDLL, idle: str, placement: str
) -> None:
    listener = Listener(
        library,
        ingress := PushIngress(),
        config={"placement": placement, "idle": idle, "timer_ns": 200_000},
    )
    with listener.pipeline as pipeline:
        while listener.notes["count"][0] < 5:
            pipeline.wait(0.001)
        ingress.close()
    timers = listener.calls["record"]
    assert set(timers["kind"].tolist()) == {Kind.TIMER}
    due = timers["ingress_ts_ns"].astype(np.int64)
    assert (due <= listener.calls["view"]["now_ns"].astype(np.int64)).all()
    assert (np.diff(due) % 200_000 == 0).all()


def test_no_timer_comes_after_the_input_has_ended(library: ctypes.CDLL) -> None:
    listener = Listener(library, timed(market(1)), wake_after_ns=100, rewake_after_ns=100)
    listener.pipeline.run()
    assert listener.kinds == [Kind.ADD]


# Both, against a plain model


@pytest.mark.parametrize("seed", range(20))
def test_every_record_report_and_timer_comes_once_and_in_order(
    library: ctypes.CDLL, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    records = market(int(draw.integers(1, 400)))
    records["ingress_ts_ns"] = np.sort(draw.integers(1, 20_000, len(records)).astype(np.uint64))
    period = int(draw.integers(200, 3000))
    listener = Listener(
        library,
        timed(records),
        config={
            "timer_ns": period,
            "report_capacity": 16,
            "batch": int(draw.choice([1, 5, 64, 256])),
            "transaction_capacity": 16,
        },
        answered=bit(Kind.FILLED, Kind.TIMER) if seed % 2 else 0,
    )
    pipeline, told, pushed = listener.pipeline, reports(int(draw.integers(0, 60))), 0
    while pipeline.step() >= 0:
        if draw.random() < 0.3:
            some = int(draw.integers(0, 20))
            pushed += pipeline.reports.push(told[pushed : pushed + some])
    pipeline.stop()
    pipeline.settle()
    kinds, found = listener.calls["record"]["kind"], listener.calls["record"]
    assert found[kinds == Kind.ADD]["id"].tolist() == records["id"].tolist()
    heard = found[kinds == Kind.FILLED]["id"].tolist()
    assert heard == told["id"].tolist()[: len(heard)]
    feedback = pipeline.feedback()
    assert feedback.pushed == pushed == feedback.heard
    timers = found[kinds == Kind.TIMER]
    assert timers["id"].tolist() == [*range(1, len(timers) + 1)]
    lasted = int(records["ingress_ts_ns"][-1] - records["ingress_ts_ns"][0])
    assert int(timers["size"].sum()) in (lasted // period, max(0, (lasted - 1) // period))
    times = listener.calls["view"]["now_ns"].astype(np.int64)
    assert (np.diff(times) >= 0).all()
    assert_adds_up(pipeline, forwarding=False)
