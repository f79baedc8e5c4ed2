"""Orders that a venue numbers: cancels by number, reports, and restarts."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from tests.unit.solana.orders.test_queue import ADD, CANCEL, ORDERS, OneByOne, records
from velox.errors import RpcError, TransportError
from velox.solana.journal.file import SubmissionJournal, read_journal
from velox.solana.orders.outcomes import Outcome
from velox.solana.submit.options import SubmitOptions
from velox.solana.submit.submitter import Submitter
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.manifest.instructions import OrderType
from velox.solana.venues.manifest.market import MarketSpec
from velox.venue import ReportKind

from .manifest_model import FINALIZED, OTHERS, ModelChain, Release, Resting
from .support import bundles_of

SPEC = MarketSpec(
    market=Pubkey(b"\x05" * 32),
    base_mint=Pubkey(b"\x06" * 32),
    quote_mint=Pubkey(b"\x07" * 32),
    base_decimals=9,
    quote_decimals=6,
    lot_atoms=1_000_000,
)

CROSSES = "InstructionError(2, Custom(6)): a post-only order would have crossed"
NO_ORDER = (
    "InstructionError(2, Custom(3)): "
    "an order to cancel does not rest any more, or is another trader's"
)
WRONG_VAULT = "InstructionError(2, Custom(17)): the vault is not the market's"


class Trader:
    def __init__(
        self,
        path: Path,
        chain: ModelChain | None = None,
        signer: Any = None,
        order_type: OrderType = OrderType.LIMIT,
        isolate: bool = False,
        poll_ns: int = 1,
        **more: Any,
    ) -> None:
        carrier = ManifestCarrier(SPEC, order_type=order_type)
        self.chain = chain if chain is not None else ModelChain(SPEC.market)
        self.signer = signer or KeypairSigner.generate(
            SignerPolicy(
                programs=frozenset([carrier.program]),
                max_tip_lamports=0,
                max_spend_lamports_per_minute=10**12,
            )
        )
        if self.signer.pubkey not in self.chain.seated:
            self.chain.seated.append(self.signer.pubkey)
        self.journal = SubmissionJournal(path)
        self.ends: dict[int, tuple[Outcome, str]] = {}
        self.now = 0
        self.submitter = Submitter(
            self.chain,  # type: ignore[arg-type]
            None,
            self.signer,
            carrier,
            None,
            self.journal,
            options=SubmitOptions(poll_ns=poll_ns, isolate=isolate, on_exit="leave"),
            observer=self.note,
            clock=self.clock,
            sleep=lambda seconds: None,
            rng=random.Random(0),
            **more,
        )

    def clock(self) -> int:
        self.now += 1000
        return self.now

    def note(self, tickets: Any, outcome: Outcome, reason: str) -> None:
        for ticket in tickets:
            assert ticket not in self.ends
            self.ends[int(ticket)] = outcome, reason

    def push(self, *rows: tuple[int, ...]) -> None:
        self.submitter.intake(bundles_of(records(*rows)))

    def settle(self) -> None:
        while not self.submitter.idle:
            self.submitter.step()
            self.chain.tick()

    def send(self, *rows: tuple[int, ...]) -> Any:
        self.push(*rows)
        self.settle()
        return self.submitter.reports()

    def resting(self) -> dict[int, int]:
        """Lots by the chain's number."""
        return {each.sequence: each.atoms // SPEC.lot_atoms for each in self.chain.orders}


def told(reports: Any) -> list[tuple[str, int, int, int]]:
    return [
        (ReportKind(r["kind"]).name, int(r["order_id"]), int(r["sequence"]), int(r["lots"]))
        for r in reports
    ]


@pytest.fixture(params=Release)
def trader(tmp_path: Path, request: Any) -> Trader:
    return Trader(tmp_path / "journal", ModelChain(SPEC.market, release=request.param))


def test_placements_are_reported_with_the_numbers_of_the_chain(trader: Trader) -> None:
    reports = trader.send((ADD, 11, 1_000_000, 5), (ADD, 12, 1_010_000, 6, 1, 0))
    assert told(reports) == [("PLACED", 11, 1, 5), ("PLACED", 12, 2, 6)]
    assert reports["base_atoms"].tolist() == [5_000_000, 6_000_000]
    assert reports["slot"].tolist() == [1000, 1000]
    assert trader.resting() == {1: 5, 2: 6}


def test_a_cancel_goes_by_the_number(trader: Trader) -> None:
    trader.send((ADD, 11, 1_000_000, 5), (ADD, 12, 1_000_100, 5))
    assert told(trader.send((CANCEL, 11, 1_000_000, 5))) == [("CANCELLED", 11, 1, 5)]
    assert trader.resting() == {2: 5}
    assert set(trader.ends.values()) == {(Outcome.LANDED, "")}


def test_a_partial_cancel_is_a_cancel_and_a_placement_of_the_rest(trader: Trader) -> None:
    trader.send((ADD, 11, 1_000_000, 5))
    reports = trader.send((CANCEL, 11, 1_000_000, 2))
    assert told(reports) == [("CANCELLED", 11, 1, 2), ("PLACED", 11, 2, 3)]
    assert told(trader.send((CANCEL, 11, 1_000_000, 3))) == [("CANCELLED", 11, 2, 3)]
    assert trader.resting() == {}


def test_a_replacement_cancels_and_places_in_one_transaction(trader: Trader) -> None:
    trader.send((ADD, 11, 1_000_000, 5))
    trader.send((ADD, 11, 1_000_200, 7))
    assert trader.resting() == {2: 7}
    assert len(trader.chain.raws) == 2


def test_fills_are_reported_to_taker_and_maker(trader: Trader) -> None:
    price = 1_000_000 * 10 ** (SPEC.exponent + 18)
    trader.chain.orders.append(Resting(OTHERS, 900, price, 3_000_000, False))
    reports = trader.send((ADD, 11, 1_000_000, 5))
    assert told(reports) == [("PLACED", 11, 1, 5), ("FILLED", 11, 1, 3)]
    fill = reports[1]
    assert (int(fill["price"]), int(fill["base_atoms"]), int(fill["maker"])) == (
        1_000_000,
        3_000_000,
        0,
    )
    assert int(fill["quote_atoms"]) == 300_000
    # A cancel takes what is left.
    assert told(trader.send((CANCEL, 11, 1_000_000, 5)))[0] == ("CANCELLED", 11, 1, 2)


def test_an_order_of_ours_that_another_of_ours_meets_is_known_to_be_filled(trader: Trader) -> None:
    trader.send((ADD, 11, 1_000_000, 5))
    reports = trader.send((ADD, 12, 999_900, 5, 1, 0))
    filled = [each for each in told(reports) if each[0] == "FILLED"]
    assert filled == [("FILLED", 11, 1, 5), ("FILLED", 12, 2, 5)]
    assert reports[reports["kind"] == ReportKind.FILLED]["side"].tolist() == [0, 1]
    trader.send((CANCEL, 11, 1_000_000, 5))
    assert trader.ends[2] == (Outcome.FAILED, "nothing_to_cancel")


def test_a_post_only_order_that_would_match_is_rejected_by_the_chain(tmp_path: Path) -> None:
    trader = Trader(tmp_path / "journal", order_type=OrderType.POST_ONLY)
    trader.send((ADD, 11, 1_000_000, 5))
    reports = trader.send((ADD, 12, 999_900, 5, 1, 0))
    assert told(reports) == [("REJECTED", 12, 0, 5)]
    assert trader.ends[1] == (Outcome.FAILED, CROSSES)
    assert trader.resting() == {1: 5}


def test_one_order_at_fault_takes_the_others_with_it(tmp_path: Path) -> None:
    trader = Trader(tmp_path / "journal", order_type=OrderType.POST_ONLY)
    trader.send((ADD, 11, 1_000_000, 5))
    reports = trader.send((ADD, 12, 999_900, 5, 1, 0), (ADD, 13, 1_000_200, 5, 1, 0))
    assert [each[:2] for each in told(reports)] == [("REJECTED", 12), ("REJECTED", 13)]
    reason = CROSSES
    assert trader.ends[1] == trader.ends[2] == (Outcome.FAILED, reason)
    assert trader.resting() == {1: 5}
    assert len(trader.chain.raws) == 2
    trader.submitter.close().check()


def test_with_isolate_one_order_at_fault_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    trader = Trader(tmp_path / "journal", order_type=OrderType.POST_ONLY, isolate=True)
    trader.send((ADD, 11, 1_000_000, 5))
    reports = trader.send(
        (ADD, 12, 999_900, 5, 1, 0), (ADD, 13, 1_000_200, 5, 1, 0), (CANCEL, 11, 1_000_000, 2)
    )
    assert [each[:2] for each in told(reports)] == [
        ("REJECTED", 12),
        ("PLACED", 13),
        ("CANCELLED", 11),
        ("PLACED", 11),
    ]
    assert trader.ends[1] == (Outcome.FAILED, CROSSES)
    assert sorted(trader.resting().values()) == [3, 5]
    trader.submitter.close().check()


def test_with_isolate_a_cancel_of_what_others_have_filled_fails_alone(tmp_path: Path) -> None:
    trader = Trader(tmp_path / "journal", isolate=True)
    trader.send(*((ADD, id, 1_000_000 + id, 5) for id in range(1, 5)))
    # Another trader fills the second one. None of our transactions says so.
    trader.chain.orders = [each for each in trader.chain.orders if each.sequence != 2]
    trader.send(*((CANCEL, id, 1_000_000 + id, 5) for id in range(1, 5)))
    assert trader.resting() == {}
    outcomes = [trader.ends[ticket][0] for ticket in range(4, 8)]
    assert outcomes == [Outcome.LANDED, Outcome.FAILED, Outcome.LANDED, Outcome.LANDED]
    # It is known by now, in the journal too, so another cancel is not sent.
    trader.send((CANCEL, 2, 1_000_002, 5))
    assert trader.ends[8] == (Outcome.FAILED, "nothing_to_cancel")
    assert read_journal(trader.journal.path).resting == {}


def test_without_return_data_the_log_tells_the_numbers(trader: Trader) -> None:
    trader.chain.return_data_kept = False
    trader.send((ADD, 11, 1_000_000, 5), (ADD, 12, 1_000_100, 5))
    trader.send((CANCEL, 12, 1_000_100, 5))
    assert trader.resting() == {1: 5}


def test_fills_in_a_layout_that_is_not_known_are_counted_and_stop_nothing(tmp_path: Path) -> None:
    trader = Trader(tmp_path / "journal")
    trader.chain.fill_padding = 22
    trader.send((ADD, 11, 1_000_000, 5))
    reports = trader.send((ADD, 12, 999_900, 5, 1, 0))
    # We traded with ourselves, so what we hold is the same, and the order is gone.
    assert told(reports) == [("PLACED", 12, 2, 5), ("CANCELLED", 11, 1, 5)]
    assert set(trader.ends.values()) == {(Outcome.LANDED, "")}
    assert trader.submitter.statistics().unread_events == 1
    trader.submitter.close().check()


def test_where_nothing_tells_the_numbers_the_orders_have_landed_all_the_same(
    trader: Trader,
) -> None:
    trader.chain.return_data_kept = trader.chain.logs_kept = False
    trader.send((ADD, 11, 1_000_000, 5))
    assert trader.ends == {0: (Outcome.LANDED, "")}
    assert trader.submitter.statistics().unnumbered == 1
    trader.send((CANCEL, 11, 1_000_000, 5))
    assert trader.ends[1] == (Outcome.FAILED, "nothing_to_cancel")


def test_the_next_process_knows_what_rests(tmp_path: Path) -> None:
    trader = Trader(tmp_path / "journal")
    trader.send((ADD, 11, 1_000_000, 5), (ADD, 12, 1_000_100, 5), (ADD, 13, 1_000_200, 5))
    trader.send((CANCEL, 12, 1_000_100, 2))
    trader.submitter.close()
    trader.journal.close()
    after = Trader(tmp_path / "journal", trader.chain, trader.signer)
    after.send((CANCEL, 12, 1_000_100, 3), (CANCEL, 0, 1_000_200, 4))
    assert after.resting() == {1: 5, 5: 1}


def test_the_next_process_learns_the_numbers_of_what_it_did_not_send(tmp_path: Path) -> None:
    trader = Trader(tmp_path / "journal")
    trader.send((ADD, 11, 1_000_000, 5))
    trader.push((ADD, 12, 1_000_100, 5), (CANCEL, 11, 1_000_000, 2))
    trader.submitter.step()
    trader.journal.close()
    after = Trader(tmp_path / "journal", trader.chain, trader.signer)
    assert after.submitter.ledger().recovered == 2
    after.settle()
    after.send((CANCEL, 12, 1_000_100, 5), (CANCEL, 11, 1_000_000, 1))
    assert list(after.resting().values()) == [2]
    ledger = after.submitter.close()
    ledger.check()
    assert (ledger.recovered, ledger.landed) == (2, 4)


@pytest.mark.parametrize("fails", [True, False])
def test_a_replacement_of_an_earlier_process_that_never_lands_leaves_one_order_to_replace(
    tmp_path: Path, fails: bool
) -> None:
    trader = Trader(tmp_path / "journal", order_type=OrderType.POST_ONLY)
    trader.send((ADD, 11, 1_000_000, 5))
    chain, send = trader.chain, trader.chain.send_transaction
    if fails:
        price = 1_000_100 * 10 ** (SPEC.exponent + 18)
        chain.orders.append(Resting(OTHERS, 900, price, 10**9, False))
    else:
        chain.send_transaction = lambda raw, **options: None  # type: ignore
    trader.push((ADD, 11, 1_000_100, 5))
    trader.submitter.step()
    trader.journal.close()
    after = Trader(tmp_path / "journal", chain, trader.signer, OrderType.POST_ONLY)
    after.settle()
    chain.send_transaction = send  # type: ignore[method-assign]
    chain.orders = [each for each in chain.orders if each.trader != OTHERS]
    after.send((ADD, 11, 999_900, 5))
    assert list(after.resting().values()) == [5]
    after.submitter.close().check()


@pytest.mark.parametrize("order_type", [OrderType.LIMIT, OrderType.POST_ONLY])
def test_an_ask_does_not_meet_the_bid_that_was_cancelled_before_it(
    tmp_path: Path, order_type: OrderType
) -> None:
    trader = Trader(tmp_path / "journal", order_type=order_type)
    tell = trader.chain.get_signature_statuses

    def hesitates(signatures: Any, search_history: bool = False, *, least_slot: int = 0) -> Any:
        return [
            replace(each, confirmation_status="processed")
            if each is not None and trader.chain.height - each.slot < 2
            else each
            for each in tell(signatures, search_history)
        ]

    trader.chain.get_signature_statuses = hesitates  # type: ignore[method-assign]
    trader.push((ADD, 11, 1_000_000, 5))
    trader.submitter.step()
    # The bid is executed by now, but not confirmed.
    reports = trader.send((CANCEL, 11, 1_000_000, 5), (ADD, 12, 1_000_000, 5, 1, 0))
    assert told(reports) == [("PLACED", 11, 1, 5), ("CANCELLED", 11, 1, 5), ("PLACED", 12, 2, 5)]
    assert set(trader.ends.values()) == {(Outcome.LANDED, "")}


def test_an_ask_waits_for_no_bid_that_others_turn_out_to_have_filled(trader: Trader) -> None:
    trader.send((ADD, 11, 1_000_000, 5))
    trader.chain.orders.clear()
    trader.push((CANCEL, 11, 1_000_000, 5))
    trader.submitter.step()
    trader.send((ADD, 12, 1_000_000, 5, 1, 0))
    assert trader.ends[1][0] is Outcome.FAILED
    assert trader.ends[2] == (Outcome.LANDED, "")


def test_a_shed_requote_leaves_no_stale_quote_and_the_ledger_balances(tmp_path: Path) -> None:
    trader = Trader(tmp_path / "journal", capacity=1)
    trader.send((ADD, 11, 1_000_000, 5))
    reports = trader.send((ADD, 11, 900_000, 5), (ADD, 12, 800_000, 5))
    assert trader.ends[1] == (Outcome.SHED, "")
    assert told(reports) == [("CANCELLED", 11, 1, 5), ("PLACED", 12, 2, 5)]
    assert trader.resting() == {2: 5}
    ledger = trader.submitter.close()
    ledger.check()
    assert (ledger.landed, ledger.shed, ledger.recovered) == (2, 1, 0)


def test_sixteen_orders_are_one_transaction(trader: Trader) -> None:
    trader.send(*((ADD, id, 1_000_000 + 100 * id, id) for id in range(1, 17)))
    assert len(trader.chain.raws) == 1
    assert len(trader.resting()) == 16


def test_prices_that_the_market_cannot_hold_fail_before_anything_is_sent(trader: Trader) -> None:
    trader.push((ADD, 1, 10**18 + 1, 1), (ADD, 2, 1_000_000, 1, 0, 9), (ADD, 3, 0, 1))
    trader.settle()
    assert trader.ends == {
        0: (Outcome.FAILED, "unrepresentable"),
        1: (Outcome.FAILED, "unknown_market"),
        2: (Outcome.FAILED, "invalid"),
    }
    assert trader.chain.raws == []


@settings(max_examples=100)
@given(st.lists(st.one_of(ORDERS, st.just("step")), max_size=60))
def test_the_market_ends_up_as_it_would_if_each_order_were_sent_by_itself(
    tmp_path_factory: Any, moves: list[Any]
) -> None:
    trader = Trader(tmp_path_factory.mktemp("journal") / "journal")
    one_by_one = OneByOne()
    for move in moves:
        if move == "step":
            trader.submitter.step()
            trader.chain.tick()
        else:
            kind, id, price, size, side, _ = move
            # Bids and asks that do not match: fills have a test of their own.
            row = (kind, id, price + 10 * side, size, side, 0)
            trader.push(row)
            one_by_one.apply(records(row)[0])
    trader.settle()
    held: Counter[Any] = Counter()
    for each in trader.chain.orders:
        price = each.price // 10 ** (SPEC.exponent + 18)
        held[0, int(not each.is_bid), price] += each.atoms // SPEC.lot_atoms
    assert dict(held) == one_by_one.levels()
    ledger = trader.submitter.close()
    ledger.check()
    assert np.all(np.array(sorted(trader.ends)) == np.arange(len(trader.ends)))
    trader.journal.close()


def test_a_node_that_keeps_no_history_costs_the_numbers_and_holds_nothing_up(
    trader: Trader,
) -> None:
    def refuses(signature: Any, commitment: str) -> Any:
        raise RpcError("http://127.0.0.1:1", "getTransaction", -32011, "no history", None)

    trader.chain.get_transaction = refuses  # type: ignore[method-assign]
    trader.send((ADD, 11, 1_000_000, 5), (ADD, 12, 1_000_100, 5))
    assert set(trader.ends.values()) == {(Outcome.LANDED, "")}
    assert trader.submitter.statistics().unnumbered == 2


def test_an_answer_that_is_never_good_holds_no_other_one_up(trader: Trader) -> None:
    tell, first = trader.chain.get_transaction, []

    def tells(signature: Any, commitment: str) -> Any:
        first.append(signature)
        if signature == first[0]:
            raise TransportError("http://127.0.0.1:1", "getTransaction", "HTML")
        return tell(signature, commitment)

    trader.chain.get_transaction = tells  # type: ignore[method-assign]
    for number in range(3):
        trader.push((ADD, 11 + number, 1_000_000 + 100 * number, 5))
        trader.submitter.step()
        trader.chain.tick()
    for _ in range(20):
        trader.submitter.step()
        trader.chain.tick()
    assert trader.ends.keys() == {1, 2}
    ledger = trader.submitter.close(0.0)
    ledger.check()
    assert ledger.landed == 3


def test_orders_of_a_failure_go_one_by_one_and_not_before_it_is_finalized(tmp_path: Path) -> None:
    trader = Trader(tmp_path / "journal", order_type=OrderType.POST_ONLY, isolate=True)
    price = 1_000_000 * 10 ** (SPEC.exponent + 18)
    trader.chain.orders.append(Resting(OTHERS, 900, price, 3_000_000, False))
    # The second one would match, and fails the first one too.
    trader.push((ADD, 11, 999_900, 5), (ADD, 12, 1_000_000, 5))
    trader.submitter.step()
    while len(trader.chain.raws) == 1:
        assert not trader.ends
        trader.chain.tick()
        trader.submitter.step()
    (failed,) = list(trader.chain.statuses.values())[:1]
    assert trader.chain.height - failed.slot >= FINALIZED
    trader.settle()
    assert trader.ends[0] == (Outcome.LANDED, "")
    assert trader.ends[1][0] is Outcome.FAILED
    assert len(trader.chain.raws) == 3


# What others fill, no transaction of ours tells


def taken_by_others(trader: Trader, sequence: int, lots: int) -> None:
    """Another trader fills lots of an order. Our transactions do not show that."""
    for each in trader.chain.orders:
        if each.sequence == sequence:
            each.atoms -= lots * SPEC.lot_atoms
    trader.chain.orders = [each for each in trader.chain.orders if each.atoms]


def test_what_others_have_filled_is_not_placed_again(trader: Trader) -> None:
    trader.send((ADD, 11, 1_000_000, 10))
    taken_by_others(trader, 1, 8)
    reports = trader.send((CANCEL, 11, 1_000_000, 4))
    # Two were left, and fewer than the four that were to go.
    assert trader.resting() == {}
    assert told(reports) == [("FILLED", 11, 1, 8), ("CANCELLED", 11, 1, 2)]
    assert set(trader.ends.values()) == {(Outcome.LANDED, "")}


def test_of_an_order_that_others_have_filled_in_part_the_rest_of_the_rest_is_placed_again(
    trader: Trader,
) -> None:
    trader.send((ADD, 11, 1_000_000, 10))
    taken_by_others(trader, 1, 3)
    trader.send((CANCEL, 11, 1_000_000, 4))
    assert trader.resting() == {2: 3}
    trader.send((CANCEL, 11, 1_000_000, 3))
    assert trader.resting() == {}


def test_after_a_restart_what_was_filled_is_known(tmp_path: Path) -> None:
    trader = Trader(tmp_path / "journal")
    price = 1_000_000 * 10 ** (SPEC.exponent + 18)
    trader.chain.orders.append(Resting(OTHERS, 900, price, 6_000_000, False))
    trader.send((ADD, 11, 1_000_000, 10))
    trader.submitter.close()
    trader.journal.close()
    (row,) = read_journal(trader.journal.path).resting.values()
    assert int(row["lots"]) == 4
    after = Trader(tmp_path / "journal", trader.chain, trader.signer)
    after.send((CANCEL, 11, 1_000_000, 1))
    assert after.resting() == {2: 3}


def test_what_was_filled_while_nobody_looked_is_known_after_a_restart(tmp_path: Path) -> None:
    trader = Trader(tmp_path / "journal")
    trader.send((ADD, 11, 1_000_000, 10), (ADD, 12, 1_000_100, 10))
    trader.submitter.close()
    trader.journal.close()
    taken_by_others(trader, 1, 4)
    taken_by_others(trader, 2, 10)
    after = Trader(tmp_path / "journal", trader.chain, trader.signer)
    after.send((CANCEL, 11, 1_000_000, 1), (CANCEL, 12, 1_000_100, 1))
    assert after.resting() == {3: 5}
    assert after.ends[1] == (Outcome.FAILED, "nothing_to_cancel")


def test_a_quote_that_others_have_filled_blocks_its_id_for_one_transaction(
    tmp_path: Path,
) -> None:
    trader = Trader(tmp_path / "journal", poll_ns=20_000)
    trader.send((ADD, 11, 1_000_000, 5))
    taken_by_others(trader, 1, 5)
    trader.send((ADD, 11, 1_000_100, 5))
    # It was to be replaced in the same transaction, which the market executes whole or not at all.
    assert trader.ends[1] == (Outcome.FAILED, NO_ORDER)
    trader.send((ADD, 11, 1_000_200, 5))
    assert trader.ends[2] == (Outcome.LANDED, "")
    assert list(trader.resting().values()) == [5]


def test_a_failure_that_says_nothing_of_an_order_does_not_make_it_forgotten(
    trader: Trader,
) -> None:
    trader.send((ADD, 11, 1_000_000, 5))
    trader.chain.fails_next = 17
    trader.send((CANCEL, 11, 1_000_000, 5))
    assert trader.ends[1] == (Outcome.FAILED, WRONG_VAULT)
    trader.send((CANCEL, 11, 1_000_000, 5))
    assert trader.ends[2] == (Outcome.LANDED, "")
    assert trader.resting() == {}


def test_orders_that_others_fill_take_no_memory(trader: Trader) -> None:
    for number in range(300):
        trader.send((ADD, 11 + number, 1_000_000, 5))
        taken_by_others(trader, trader.chain.next_sequence - 1, 5)
        for _ in range(10):
            trader.submitter.step()
    # Some come in between two reads of an account that is not in doubt.
    assert len(trader.journal.state.resting) < 100
    assert len(read_journal(trader.journal.path).resting) < 100


def test_a_market_that_cannot_be_read_holds_up_what_would_be_placed_again_and_nothing_else(
    trader: Trader,
) -> None:
    def unanswered(*arguments: Any, **named: Any) -> Any:
        raise TransportError("http://127.0.0.1:1", "getAccountInfo", "no answer")

    trader.send((ADD, 11, 1_000_000, 5), (ADD, 12, 1_000_100, 5))
    trader.chain.get_account_info = unanswered  # type: ignore[method-assign]
    trader.push((CANCEL, 11, 1_000_000, 2), (ADD, 13, 1_000_200, 5))
    for _ in range(20):
        trader.submitter.step()
        trader.chain.tick()
    assert sorted(trader.ends) == [0, 1, 3]
    del trader.chain.get_account_info  # type: ignore[method-assign]
    trader.settle()
    assert sorted(trader.resting().values()) == [3, 5, 5]


def test_a_fill_of_less_than_a_lot_leaves_an_order_that_can_be_cancelled(trader: Trader) -> None:
    trader.send((ADD, 11, 1_000_000, 1))
    trader.chain.orders[0].atoms //= 2
    trader.send((CANCEL, 11, 1_000_000, 1))
    assert trader.chain.orders == []


def test_an_order_that_waited_for_one_to_go_goes_where_others_have_filled_that(
    tmp_path: Path,
) -> None:
    trader = Trader(tmp_path / "journal", poll_ns=20_000)
    trader.send((ADD, 11, 1_000_000, 5))
    taken_by_others(trader, 1, 5)
    trader.push((CANCEL, 11, 1_000_000, 5))
    while not trader.chain.statuses or len(trader.chain.raws) < 2:
        trader.submitter.step()
    # It would match the bid, whose cancellation is in flight and fails.
    trader.push((ADD, 12, 999_900, 5, 1, 0))
    trader.settle()
    assert trader.ends[1] == (Outcome.FAILED, NO_ORDER)
    assert trader.ends[2] == (Outcome.LANDED, "")


def test_an_order_waits_also_for_those_who_are_to_take_from_what_it_replaces(
    trader: Trader,
) -> None:
    trader.send((ADD, 11, 1_000_000, 5))

    def unanswered(*arguments: Any, **named: Any) -> Any:
        raise TransportError("http://127.0.0.1:1", "getAccountInfo", "no answer")

    trader.chain.get_account_info = unanswered  # type: ignore[method-assign]
    # Each takes a part, and waits for the account to show what is left.
    trader.push((CANCEL, 11, 1_000_000, 2), (CANCEL, 11, 1_000_000, 3), (ADD, 11, 1_000_100, 5))
    for _ in range(20):
        trader.submitter.step()
        trader.chain.tick()
    assert trader.resting() == {1: 5}
    del trader.chain.get_account_info  # type: ignore[method-assign]
    trader.settle()
    assert trader.resting() == {2: 5}
