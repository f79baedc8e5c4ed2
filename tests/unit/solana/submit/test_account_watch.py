"""When a venue's account is read, and the effects of a read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.integration.solana.manifest_model import ModelChain, Resting
from tests.integration.solana.test_numbered import SPEC
from tests.support import orders
from velox.errors import TransportError
from velox.solana.journal.file import SubmissionJournal
from velox.solana.journal.records import Ended
from velox.solana.orders.in_flight import Signed
from velox.solana.orders.outcomes import Outcome
from velox.solana.orders.working import RestingOrder, WorkingOrders
from velox.solana.submit.account_watch import POLLS_A_ROUND, AccountWatch
from velox.solana.submit.routing import Routes
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.solana.venues.manifest.carrier import ManifestCarrier

POLL = 1000


class Watched:
    """A watch over one order of ours, numbered 7, of 10 lots."""

    def __init__(self, path: Path) -> None:
        policy = SignerPolicy(
            programs=frozenset(), max_tip_lamports=0, max_spend_lamports_per_minute=1
        )
        signer = KeypairSigner.generate(policy)
        self.chain = ModelChain(SPEC.market)
        self.chain.orders.append(Resting(signer.pubkey, 7, 10**17, 10 * SPEC.lot_atoms, True))
        self.working = WorkingOrders()
        self.order = RestingOrder(0, 11, SPEC.velox_market, 0, 1_000_000, 10)
        self.order.chain, self.order.sequence = 10, 7
        self.working.admit(self.order)
        self.working.rest(self.order)
        self.journal = SubmissionJournal(path)
        self.errors: list[Any] = []
        self.watch = AccountWatch(
            self.chain,  # type: ignore[arg-type]
            Routes(ManifestCarrier(SPEC), signer),
            self.working,
            self.journal,
            signer.pubkey,
            commitment="confirmed",
            poll_ns=POLL,
            note=self.errors.append,
        )

    def looks(self, now: int) -> int:
        """Return how many reads a duty cycle makes."""
        before = self.chain.looks + len(self.errors)
        self.watch.poll(now)
        return self.chain.looks + len(self.errors) - before


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "journal")


def test_a_market_is_looked_at_first_of_all_and_then_now_and_then(watched: Watched) -> None:
    times = range(0, 3 * POLLS_A_ROUND * POLL, POLL // 2)
    assert [now for now in times if watched.looks(now)] == [
        each * POLLS_A_ROUND * POLL for each in range(3)
    ]


def test_what_waits_for_a_market_finds_it_known_between_two_looks(watched: Watched) -> None:
    watched.looks(0)
    assert watched.watch.knows(0)
    watched.looks(POLL + 1)
    assert not watched.watch.knows(0)
    watched.watch.want(0, True)
    assert [watched.looks(POLL * each) for each in (2, 3, 4)] == [1, 1, 1]
    assert watched.looks(4 * POLL + POLL // 2) == 0
    assert watched.watch.knows(0)
    # One of our transactions is executed: the last read is stale, so it is read again.
    watched.chain.tick()
    watched.watch.executed(watched.chain.height)
    assert not watched.watch.knows(0)
    assert watched.looks(4 * POLL + POLL // 2 + 1) == 1
    assert watched.watch.knows(0)
    watched.watch.want(0, False)
    assert watched.looks(6 * POLL) == 0


def test_a_market_that_cannot_be_read_is_asked_less_and_less(watched: Watched) -> None:
    def refuses(*arguments: Any, **named: Any) -> Any:
        raise TransportError("http://127.0.0.1:1", "getAccountInfo", "status 403")

    watched.chain.get_account_info = refuses  # type: ignore[method-assign]
    watched.watch.want(0, True)
    asked = [now for now in range(0, 200 * POLL, POLL // 2) if watched.looks(now)]
    waits = [(after - before) // POLL for before, after in pairwise(asked)]
    assert waits == [2, 4, 8, 16, 32, POLLS_A_ROUND, POLLS_A_ROUND]
    assert not watched.watch.knows(0)
    del watched.chain.get_account_info  # type: ignore[method-assign]
    assert watched.looks(400 * POLL) == 1
    assert watched.watch.knows(0)


def test_after_a_start_no_look_is_older_than_what_landed(tmp_path: Path) -> None:
    with SubmissionJournal(tmp_path / "journal", compact_bytes=1) as journal:
        raw = b"\x01" + bytes(64) + bytes(100)
        some = orders(1)
        hash = ModelChain(SPEC.market).get_latest_blockhash().hash
        journal.append(
            Signed(
                orders=some,
                places=some,
                number=0,
                attempt=1,
                last_valid_block_height=10,
                blockhash=hash,
                raw=raw,
            )
        )
        journal.append(Ended(0, Outcome.LANDED, 2000))
        journal.commit()
    watched = Watched(tmp_path / "journal")
    slots: list[int] = []

    def notes(*arguments: Any, least_slot: int) -> Any:
        slots.append(least_slot)
        raise TransportError("http://127.0.0.1:1", "getAccountInfo", "is behind")

    watched.chain.get_account_info = notes  # type: ignore[method-assign]
    watched.looks(0)
    assert slots == [2000]
    assert watched.working.resting() == [watched.order]


def test_a_fill_that_a_look_has_seen_is_not_taken_off_again(watched: Watched) -> None:
    watched.chain.orders[0].atoms = 4 * SPEC.lot_atoms
    watched.looks(0)
    assert watched.order.chain == 4
    watched.working.fill(SPEC.velox_market, 7, 6, watched.chain.height)
    assert watched.order.chain == 4
    watched.working.fill(SPEC.velox_market, 7, 3, watched.chain.height + 1)
    assert watched.order.chain == 1
