"""The gate, the table and the account between a strategy and the bundles."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import Array, compiled, inside, orders, refused
from velox import (
    ORDER_DTYPE,
    REPORT_RECORD_DTYPE,
    TRANSACTION_DTYPE,
    Block,
    Kind,
    Limits,
    MarketLimits,
    OrderState,
    OrderTable,
    Pipeline,
    PipelineConfig,
    PullOutput,
    PushIngress,
    ReplayIngress,
    ReportFlags,
    RiskGate,
    Side,
    Strategy,
)
from velox.errors import ConfigError
from velox.runtime.strategy_view import STRATEGY_VIEW_DTYPE

HEARD = np.dtype(
    [("report", REPORT_RECORD_DTYPE), ("view", STRATEGY_VIEW_DTYPE), ("order", ORDER_DTYPE)]
)
TABLE = np.dtype(
    [
        ("calls", "<u8"),
        ("answers", "<u8"),
        ("emit", TRANSACTION_DTYPE, (64, 16)),
        ("emits", "<u4", (64,)),
        ("heard", HEARD, (512,)),
    ]
)
# A market of 99 at 101, then trades that change nothing.
BOOK = orders(12, price=[99, 101, *[100] * 10], side=[0, 1, *[0] * 10], size=50)
BOOK["kind"][2:] = Kind.TRADE
BOOK["ingress_ts_ns"] = 1_000_000 * np.arange(1, 13)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return compiled(Path(__file__).with_name("guarded.c"), tmp_path_factory.mktemp("guarded"))


class Run:
    """A pipeline that the caller steps, its strategy's table, and its output."""

    def __init__(
        self,
        library: ctypes.CDLL,
        emits: dict[int, list[dict[str, Any]]],
        limits: Limits | RiskGate | None = None,
        *,
        answers: bool = False,
        **config: Any,
    ) -> None:
        self.table = np.zeros(1, TABLE)
        self.table["answers"] = answers
        for call, rows in emits.items():
            for index, row in enumerate(rows):
                made = self.table["emit"][0][call][index : index + 1]
                made["price"], made["size"] = 100, 1
                for name, value in row.items():
                    made[name] = value
            self.table["emits"][0][call] = len(rows)
        self.pipeline = Pipeline(
            ReplayIngress(BOOK, speed=1.0),
            strategy=Strategy(library.guarded, self.table, reports=True),
            risk=Limits() if limits is None else limits,
            config=PipelineConfig(placement="invoker", **config),
        )

    def tell(self, kind: Kind, **fields: Any) -> None:
        row = np.zeros(1, REPORT_RECORD_DTYPE)
        row["kind"], row["ahead"] = kind, -1
        for name, value in fields.items():
            row[name] = value
        assert self.pipeline.reports.push(row) == 1

    def run(self) -> Any:
        report = self.pipeline.run()
        assert report.passed, str(report)
        return report

    @property
    def heard(self) -> Array:
        found: Array = self.table["heard"][0][: int(self.table["calls"][0])]
        return found

    def of_kind(self, kind: Kind) -> Array:
        return self.heard[self.heard["report"]["kind"] == kind]


def test_an_order_within_the_limits_leaves_and_is_seen_in_the_view(library: ctypes.CDLL) -> None:
    run = Run(library, {1: [{"id": 7, "size": 5, "side": Side.ASK}]})
    report = run.run()
    assert report.ledger.passed == 1
    view = run.heard["view"][2]
    assert (view["open_ask"], view["open_bid"], view["inventory"]) == (5, 0, 0)
    assert view["order_capacity"] == 64
    assert report.orders.counts == (1, 1, 0, 0, 0, 0, 1, 0)


def test_what_became_of_an_order_is_in_table_and_view_before_the_strategy_hears(
    library: ctypes.CDLL,
) -> None:
    # The reports lie in the ring before the order leaves, so they name an order that is sent first.
    gate = RiskGate(OrderTable())
    gate.touch(0, 99, 101)
    assert gate.screen(orders(1, first_id=7, size=5, price=100)) == [0]
    run = Run(library, {}, gate)
    run.tell(Kind.PLACED, id=7, price=100, size=5, ahead=30)
    run.tell(Kind.FILLED, id=7, price=100, size=2, fee=1, sequence=1)
    run.tell(Kind.FILLED, id=7, price=100, size=2, fee=1, sequence=1)
    run.tell(Kind.FILLED, id=7, price=99, size=3, fee=1, sequence=2, flags=ReportFlags.LAST)
    report = run.run()
    heard = run.heard[:3]
    assert heard["report"]["kind"].tolist() == [Kind.PLACED, Kind.FILLED, Kind.FILLED]
    assert heard["order"]["id"].tolist() == [7, 7, 7]
    assert heard["order"]["state"].tolist() == [
        OrderState.OPEN, OrderState.PARTIAL, OrderState.GONE,
    ]  # fmt: skip
    assert heard["order"]["leaves"].tolist() == [5, 3, 0]
    assert heard["view"]["inventory"].tolist() == [0, 2, 5]
    assert heard["view"]["cash"].tolist() == [0, -200, -497]
    assert heard["view"]["fees"].tolist() == [0, 1, 2]
    assert heard["view"]["open_bid"].tolist() == [5, 3, 0]
    assert set(run.heard["view"]["order_slot"][3:].tolist()) == {2**32 - 1}
    assert report.orders.outcomes["doubled"] == 1
    assert report.orders.accounts[0] == (5, -497, 2, 0, 0, False)


def test_a_blocked_order_does_not_leave_and_is_told_with_its_reason(library: ctypes.CDLL) -> None:
    limits = Limits(each=MarketLimits(max_order_lots=4, max_position=6))
    rows = [{"id": 1, "size": 5}, {"id": 2, "size": 4}, {"id": 3, "size": 3}, {"id": 4, "size": 2}]
    run = Run(library, {1: rows}, limits)
    report = run.run()
    blocked = run.of_kind(Kind.BLOCKED)["report"]
    assert blocked[["id", "size", "reason"]].tolist() == [
        (1, 5, Block.LOTS),
        (3, 3, Block.POSITION),
    ]
    ledger = report.ledger
    assert (ledger.emitted, ledger.passed) == (4, 2)
    assert {name: n for name, n in ledger.blocked.items() if n} == {
        "risk_lots": 1,
        "risk_position": 1,
    }
    assert report.orders.counts.sent == 2


def test_what_passes_moves_up_in_order(library: ctypes.CDLL) -> None:
    limits = Limits(each=MarketLimits(max_order_lots=4))
    rows = [{"id": each, "size": each % 7 + 1} for each in range(1, 17)]
    gate = RiskGate(OrderTable(), limits)
    table = np.zeros(1, TABLE)
    for index, row in enumerate(rows):
        made = table["emit"][0][1][index : index + 1]
        made["price"], made["id"], made["size"] = 100, row["id"], row["size"]
    table["emits"][0][1] = 16
    ingress, output = PushIngress(), PullOutput()
    pipeline = Pipeline(
        ingress, output, strategy=Strategy(library.guarded, table, reports=True), risk=gate
    )
    taken = []
    with pipeline:
        ingress.push(BOOK)
        ingress.close()
        while not output.exhausted:
            with output.poll() as bundles:
                taken.append(inside(bundles).copy())
    left = np.concatenate(taken)
    assert left["id"].tolist() == [each["id"] for each in rows if each["size"] <= 4]
    assert set(left["ingress_ts_ns"].tolist()) != {0}


def test_before_its_first_record_a_market_takes_no_order(library: ctypes.CDLL) -> None:
    run = Run(library, {0: [{"id": 1, "market": 0}]})
    run.tell(Kind.FILLED, id=9, price=100, size=1)
    report = run.run()
    assert run.heard["report"]["kind"][0] == Kind.FILLED
    assert report.ledger.blocked["risk_feed"] == 1


def test_a_cancel_passes_after_a_kill_and_an_order_does_not(library: ctypes.CDLL) -> None:
    gate = RiskGate(OrderTable())
    gate.touch(0, 99, 101)
    gate.screen(orders(1, first_id=7, size=5, price=100))
    gate.kill.kill("a test")
    run = Run(library, {1: [{"id": 8}, {"id": 7, "kind": Kind.CANCEL}]}, gate)
    report = run.run()
    assert (report.ledger.passed, report.ledger.blocked["risk_killed"]) == (1, 1)
    assert gate.orders.orders()["state"].tolist() == [OrderState.CANCELLING]
    assert report.orders.killed == "a test"
    assert report.to_dict()["orders"]["killed"] == "a test"
    assert "killed: a test" in str(report)


def test_a_strategy_that_answers_every_block_does_not_stop_the_run(library: ctypes.CDLL) -> None:
    limits = Limits(each=MarketLimits(max_order_lots=1))
    run = Run(library, {1: [{"id": n, "size": 2} for n in range(1, 17)]}, limits, answers=True)
    report = run.run()
    ledger = report.ledger
    assert ledger.blocked["risk_lots"] == ledger.emitted
    told = len(run.of_kind(Kind.BLOCKED))
    assert told + report.orders.untold == ledger.emitted
    assert any("did not hear" in each for each in report.warnings)


def test_a_record_that_no_book_could_take_is_told_as_blocked_too(library: ctypes.CDLL) -> None:
    run = Run(library, {1: [{"id": 1, "price": 0}, {"id": 2, "kind": 99}, {"id": 3, "market": 9}]})
    report = run.run()
    assert {name: n for name, n in report.ledger.blocked.items() if n} == {
        "price": 1, "kind": 1, "market": 1,
    }  # fmt: skip
    assert run.of_kind(Kind.BLOCKED)["report"]["reason"].tolist() == [
        Block.PRICE, Block.KIND, Block.NO_LIMITS,
    ]  # fmt: skip


def test_reports_after_the_end_still_reach_the_account(library: ctypes.CDLL) -> None:
    run = Run(library, {1: [{"id": 7, "size": 5}]})
    run.run()
    run.tell(Kind.FILLED, id=7, price=100, size=5)
    assert run.pipeline.settle() == 1
    assert run.pipeline.orders().accounts[0] == (5, -500, 0, 0, 0, False)
    assert run.pipeline.orders().counts.live == 0


def test_a_loss_at_the_books_prices_kills(library: ctypes.CDLL) -> None:
    gate = RiskGate(OrderTable(), Limits(each=MarketLimits(max_loss=5)))
    run = Run(library, {3: [{"id": 8}]}, gate)
    run.tell(Kind.FILLED, id=7, price=105, size=1)
    report = run.run()
    assert report.orders.kills == 1
    assert report.ledger.blocked["risk_killed"] == 1


def test_limits_need_a_strategy_that_hears_of_its_orders(library: ctypes.CDLL) -> None:
    with refused(ConfigError, field="risk"):
        Pipeline(ReplayIngress(BOOK), risk=Limits())
    strategy = Strategy(library.guarded, np.zeros(1, TABLE))
    with refused(ConfigError, field="risk"):
        Pipeline(ReplayIngress(BOOK), strategy=strategy, risk=Limits())
