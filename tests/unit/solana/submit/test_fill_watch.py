"""Fills that a cut log hides, told apart from fills that the node has not listed yet."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("solders", reason="needs pip install -e '.[solana]'")

from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.core.records import Side
from velox.solana.net.rpc_types import SignatureInfo
from velox.solana.orders.reports import Reporter
from velox.solana.submit.fill_watch import MOST_TRIES, STEADY_READS, FillWatch
from velox.solana.tx.carrier import Fill, TransactionResult, VenueState
from velox.venue import Reason, ReportKind

OURS, THEIRS = Signature(bytes([1]) * 64), Signature(bytes([2]) * 64)
SEEN = Fill(7, Side.BID, 1, 10, 10, False)
OTHERS = Fill(8, Side.BID, 1, 5, 5, True)


class Routes(list[Any]):
    """One route, and its trader."""

    trader = Pubkey.default()


class Node:
    """A node and a venue that tell what the test says: states, and listed transactions."""

    account = Pubkey(bytes([9]) * 32)
    market = 0
    lot_atoms = 1

    def __init__(self) -> None:
        self.listed: dict[Signature, tuple[int, TransactionResult]] = {}
        self.reporter = Reporter()
        self.notes: list[object] = []
        given: Any = self
        self.watch = FillWatch(
            given,
            Routes([SimpleNamespace(carrier=self)]),  # type: ignore[arg-type]
            self.reporter,
            commitment="confirmed",
            busy=lambda route: False,
            doubt=lambda route: None,
            note=self.notes.append,
        )
        self.watch.prepare(0)
        self.watch.begin(0, state(0), 10)

    def get_signatures_for_address(self, account: Pubkey, **_: Any) -> list[SignatureInfo]:
        return [SignatureInfo(each, slot, False) for each, (slot, _) in self.listed.items()]

    def get_transaction(self, signature: Signature, commitment: str) -> Any:
        return SimpleNamespace(logs=[signature], return_data=None, slot=self.listed[signature][0])

    def result(self, logs: list[Signature], *_: Any) -> TransactionResult:
        return self.listed[logs[0]][1]

    def price_of(self, base: int, quote: int) -> int:
        return quote // base

    def land(self, slot: int) -> None:
        """One of our transactions lands; its log shows 10 atoms and is cut."""
        self.watch.signed(OURS)
        self.watch.landed(0, OURS, slot, TransactionResult((), [SEEN], truncated=True))

    def read(self, bought: int, slot: int, times: int = 1) -> None:
        """The account is read, which has so many atoms more than at the start."""
        for _ in range(times):
            self.watch.read(0, state(bought), slot, [])

    def told(self) -> list[tuple[int, int, Reason]]:
        """The fills reported since the last call: order's number, atoms, reason."""
        return [
            (int(each["sequence"]), int(each["base_atoms"]), Reason(int(each["reason"])))
            for each in self.reporter.take()
        ]


def state(bought: int) -> VenueState:
    return VenueState(orders={}, base_atoms=1_000 + bought, quote_atoms=1_000 - bought)


def test_a_steady_difference_is_what_the_cut_log_hides() -> None:
    node = Node()
    node.land(20)
    node.read(13, 21, STEADY_READS - 1)
    assert node.told() == []
    node.read(13, 21)
    assert node.told() == [(7, 3, Reason.SUMMARISED)]
    (holding,) = node.watch.holdings()
    assert holding.holds
    assert (holding.base_traded, holding.quote_traded) == (13, -13)


def test_a_fill_that_the_node_lists_late_is_told_once() -> None:
    node = Node()
    node.land(20)
    # Nothing hides behind the cut: the five atoms are another trader's fill of our order 8.
    node.read(15, 21, STEADY_READS - 1)
    node.listed[THEIRS] = 21, TransactionResult(None, [OTHERS])
    node.read(15, 21)
    assert node.told() == [(8, 5, Reason.NONE)]
    node.read(15, 22, 2 * STEADY_READS)
    assert node.told() == []
    (holding,) = node.watch.holdings()
    assert holding.holds
    assert (holding.base_traded, holding.quote_traded) == (15, -15)


def test_a_state_from_before_a_cut_log_does_not_explain_it() -> None:
    node = Node()
    node.land(20)
    node.read(0, 15)
    node.read(13, 21, STEADY_READS)
    assert node.told() == [(7, 3, Reason.SUMMARISED)]
    (holding,) = node.watch.holdings()
    assert holding.holds


def test_a_difference_that_changes_is_not_a_cut_log() -> None:
    node = Node()
    node.land(20)
    for bought in range(11, 11 + STEADY_READS):
        node.read(bought, 21)
    assert node.told() == []


def test_a_difference_that_nothing_explains_fails_the_run() -> None:
    node = Node()
    node.read(4, 21, MOST_TRIES)
    assert node.told() == []
    (holding,) = node.watch.holdings()
    assert not holding.holds
    assert (holding.unexplained_base, holding.unexplained_quote) == (4, -4)
    assert len(node.notes) == 1


class Order:
    """A resting order of which two lots are left on the chain."""

    id, market, side, price, chain, sequence = 5, 0, 1, 100, 2, 7


def test_a_cancel_of_more_than_is_left_reports_no_lots_below_zero() -> None:
    # It was to leave nine lots. Fills have left two of them since it was planned.
    reporter, order = Reporter(), Order()
    in_flight: Any = SimpleNamespace(
        batch=SimpleNamespace(cancels={order: 9}, places=[], sizes=[]),
        signed=SimpleNamespace(signature=OURS),
    )
    reporter.landed(in_flight, 20, TransactionResult(None, []), Node())  # type: ignore[arg-type]
    (placed,) = reporter.take()
    assert (placed["kind"], placed["order_id"], placed["lots"]) == (ReportKind.PLACED, 5, 9)
