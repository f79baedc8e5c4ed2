"""Venues from outside Velox: the submitter asks the carrier contract, and no class of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from tests.support import orders
from velox import Side
from velox.errors import ConfigError
from velox.solana import (
    Cancel,
    Carrier,
    Fill,
    MemoCarrier,
    OrderNumber,
    Outcome,
    ReportKind,
    TransactionResult,
)
from velox.solana.submit.routing import Routes
from velox.solana.tx.instructions import MEMO_PROGRAM, memo
from velox.testing import LocalCluster
from velox.venue import Venue

from .support import Harness

PLACE, CANCEL = "place", "cancel"
LINE_BYTES = 64


class BulletinBoard(Carrier):
    """A venue that numbers an order by its id, and reads what it did from the log.

    A bid at the price `TAKEN` is filled at once.
    """

    name = "bulletin board"
    program = MEMO_PROGRAM
    market = 9
    numbers_orders = True
    max_orders_per_answer = 3
    lot_atoms = 10
    TAKEN = 777

    def payload_bytes(self, orders: int, cancels: int = 0, hinted: int = 0) -> int:
        return LINE_BYTES * (orders + cancels)

    def compute_units(self, orders: int, cancels: int = 0) -> int:
        return 200_000

    def payload(
        self, orders: Any, cancels: Sequence[Cancel] = (), last_valid_slot: int = 0
    ) -> bytes:
        lines = [f"{CANCEL} {each.sequence}" for each in cancels]
        lines += [f"{PLACE} {each['id']} {each['price']} {each['size']}" for each in orders]
        return "".join(line.ljust(LINE_BYTES - 1, ".") + ";" for line in lines).encode()

    def instruction(self, payer: Pubkey, payload: bytes) -> Instruction:
        return memo(payload, payer)

    def representable(self, orders: Any) -> Any:
        return orders["price"] < 1000

    def result(
        self, logs: Iterable[str], return_data: bytes | None, placed: int, trader: Pubkey
    ) -> TransactionResult:
        found = re.findall(rf"{PLACE} (\d+) (\d+) (\d+)", "".join(logs))
        rows = [tuple(map(int, each)) for each in found]
        fills = [
            Fill(id, Side.BID, price, size * self.lot_atoms, 5, False)
            for id, price, size in rows
            if price == self.TAKEN
        ]
        numbers = [OrderNumber(id, price != self.TAKEN) for id, price, _ in rows]
        return TransactionResult(numbers, fills)


@pytest.fixture
def cluster() -> Any:
    with LocalCluster() as cluster:
        yield cluster


@pytest.fixture
def harness(cluster: LocalCluster, tmp_path: Path) -> Any:
    harness = Harness(cluster, tmp_path / "journal", carriers=[BulletinBoard(), MemoCarrier()])
    yield harness
    harness.close_clients()


def texts(cluster: LocalCluster) -> list[str]:
    return [line for each in cluster.executions for line in each.logs if PLACE in line]


def test_its_orders_are_placed_cancelled_by_number_and_reported(
    cluster: LocalCluster, harness: Harness
) -> None:
    assert isinstance(harness.submitter, Venue)
    placed = orders(2, first_id=41, market=9, price=[500, 501], size=4)
    harness.submitter.submit(placed)
    harness.drive()
    reports = harness.submitter.reports()
    assert reports["kind"].tolist() == [ReportKind.PLACED] * 2
    assert reports["sequence"].tolist() == [41, 42]
    assert reports["base_atoms"].tolist() == [40, 40]

    harness.submitter.cancel(placed[:1])
    harness.drive()
    (report,) = harness.submitter.reports()
    assert (report["kind"], report["sequence"], report["lots"]) == (ReportKind.CANCELLED, 41, 4)
    assert any(f"{CANCEL} 41" in line for each in cluster.executions for line in each.logs)
    ledger = harness.submitter.close(0.0)
    ledger.check()
    assert ledger.landed == 3


def test_a_fill_is_reported_with_its_exact_atoms(harness: Harness) -> None:
    harness.submitter.submit(orders(1, first_id=5, market=9, price=BulletinBoard.TAKEN, size=3))
    harness.drive()
    reports = harness.submitter.reports()
    assert reports["kind"].tolist() == [ReportKind.PLACED, ReportKind.FILLED]
    fill = reports[1]
    assert (fill["order_id"], fill["market"], fill["side"], fill["price"]) == (5, 9, Side.BID, 777)
    assert (fill["lots"], fill["base_atoms"], fill["quote_atoms"]) == (3, 30, 5)
    # Filled, so there is nothing left to cancel.
    harness.submitter.cancel(orders(1, first_id=5, market=9, price=BulletinBoard.TAKEN, size=3))
    harness.drive()
    assert harness.ends[1] == (Outcome.FAILED, "nothing_to_cancel")


def test_an_answer_of_too_few_numbers_leaves_the_orders_unnumbered(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        BulletinBoard, "result", lambda *_: TransactionResult([OrderNumber(1, True)])
    )
    harness.submitter.submit(orders(2, first_id=1, market=9, price=[5, 6]))
    harness.drive()
    assert harness.outcomes() == {Outcome.LANDED: 2}
    assert harness.submitter.statistics().unnumbered == 2


def test_its_limits_decide_what_shares_a_transaction_and_what_is_refused(
    cluster: LocalCluster, harness: Harness
) -> None:
    harness.submitter.submit(orders(7, first_id=1, market=9, price=[*range(1, 7), 1000]))
    harness.submitter.submit(orders(2, first_id=50, market=3))
    harness.drive()
    assert harness.ends[6] == (Outcome.FAILED, "unrepresentable")
    assert [line.count(PLACE) for line in texts(cluster)] == [3, 3]
    # The memo carrier takes the other market.
    assert len(cluster.executions) == 3
    assert harness.outcomes()[Outcome.LANDED] == 8


@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({"market": None}, "numbers_orders"),
        ({"lot_atoms": 0}, "numbers_orders"),
        ({"market": 256}, "0 to 255"),
    ],
)
def test_attributes_that_contradict_each_other_are_refused(
    harness: Harness, attributes: dict[str, Any], why: str
) -> None:
    carrier = BulletinBoard()
    for name, value in attributes.items():
        setattr(carrier, name, value)
    with pytest.raises(ConfigError, match=why):
        Routes(carrier, harness.signer)
