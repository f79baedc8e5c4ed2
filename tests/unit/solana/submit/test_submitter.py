"""A submitter step by step, on a cluster with manual time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.solana.support import (
    ADD,
    CANCEL,
    Harness,
    adds,
    bundles_of,
    executed_orders,
    new_signer,
)
from tests.unit.solana.orders.test_queue import records
from velox import BUNDLE_DTYPE
from velox.errors import ConfigError, JournalError, SubmitError
from velox.solana.journal.file import read_journal
from velox.solana.net.rpc import RpcClient
from velox.solana.net.rpc_types import SignatureStatus
from velox.solana.orders.in_flight import judge, reason_of
from velox.solana.orders.outcomes import ChainLedger, Outcome
from velox.solana.submit.options import SubmitOptions
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.memo import MemoCarrier
from velox.testing import Fault, FaultPlan, LocalCluster
from velox.testing.transport import method_of, rate_limited


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(rate_per_s=None) as made:
        yield made


@pytest.fixture
def harness(cluster: LocalCluster, tmp_path: Path) -> Iterator[Harness]:
    made = Harness(cluster, tmp_path / "journal")
    yield made
    made.abandon()


def test_orders_land_and_are_counted(harness: Harness) -> None:
    harness.submitter.intake(bundles_of(adds(50)))
    harness.drive()
    assert harness.outcomes() == {Outcome.LANDED: 50}
    assert sum(executed_orders(harness.cluster).values()) == 50
    ledger = harness.submitter.close()
    ledger.check(delivered_transactions=50)
    assert ledger.transactions["signed"] == len(harness.cluster.executions)
    assert ledger.fee_lamports == sum(each.fee for each in harness.cluster.executions)
    assert len(harness.submitter.reports()) == 50


def test_what_is_sent_is_in_the_journal_before(harness: Harness) -> None:
    seen = []
    send = harness.rpc.send_transaction

    def looks(raw: bytes, **options: Any) -> Any:
        found = read_journal(harness.journal.path).transactions.values()
        seen.append(raw in [each.raw for each in found])
        return send(raw, **options)

    harness.rpc.send_transaction = looks  # type: ignore[method-assign]
    harness.submitter.intake(bundles_of(adds(60)))
    harness.drive()
    assert seen
    assert all(seen)


def test_a_bundle_of_the_block_engine_lands_whole(cluster: LocalCluster, tmp_path: Path) -> None:
    harness = Harness(cluster, tmp_path / "journal", engine=True, options={"atomic": True})
    harness.submitter.intake(bundles_of(adds(100)))
    harness.drive()
    (bundle,) = cluster.bundles.values()
    assert 1 < len(cluster.executions) <= 5
    assert bundle.landed_slot is not None
    ledger = harness.submitter.close()
    assert (ledger.sends, ledger.landed, ledger.tip_lamports) == (1, 100, 5_000)
    harness.abandon()


def test_a_bundle_of_several_never_goes_to_a_node(cluster: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rpc_fallback = True: cannot be combined with atomic"):
        SubmitOptions(atomic=True, rpc_fallback=True)
    harness = Harness(cluster, tmp_path / "journal", engine=True, options={"atomic": True})
    # Signed and journalled; then the process ends.
    harness.submitter._sender.send = crash  # type: ignore[method-assign]
    harness.submitter.intake(bundles_of(adds(100)))
    cluster.tick()
    with pytest.raises(KeyboardInterrupt):
        harness.submitter.step()
    harness.abandon()
    # The next one has no block engine: it follows what it found, and resends nothing.
    after = Harness(cluster, tmp_path / "journal", harness.signer)
    after.drive()
    ledger = after.submitter.close()
    ledger.check()
    assert (ledger.recovered, ledger.expired, ledger.sends) == (100, 100, 0)
    assert not cluster.executions
    after.abandon()


def crash(*arguments: Any) -> Any:
    raise KeyboardInterrupt


def test_the_same_orders_twice_are_two_transactions(harness: Harness) -> None:
    rows = [(ADD, 0, 1_000_000, 5)] * 3
    for row in rows:
        harness.submitter.intake(bundles_of(records(row)))
        harness.submitter.step()
    harness.drive()
    assert len(harness.cluster.executions) == 3
    assert harness.outcomes() == {Outcome.LANDED: 3}


def test_what_is_dropped_expires_only_once_its_blockhash_has(tmp_path: Path) -> None:
    with LocalCluster(faults=FaultPlan(0, rates={Fault.DROPPED: 1.0})) as cluster:
        harness = Harness(cluster, tmp_path / "journal")
        harness.submitter.intake(bundles_of(adds(10)))
        harness.submitter.step()
        last = min(e.last_valid_block_height for e in harness.journal.state.transactions.values())
        while not harness.submitter.idle:
            # A finalized block lags behind the newest one.
            assert harness.ends == {}
            cluster.tick()
            harness.submitter.step()
        assert cluster.block_height > last
        assert harness.outcomes() == {Outcome.EXPIRED: 10}
        ledger = harness.submitter.close()
        ledger.check()
        assert ledger.sends > 1, "the same bytes are sent again meanwhile"
        harness.abandon()


def test_expired_orders_are_signed_anew_where_that_is_asked_for(tmp_path: Path) -> None:
    faults = FaultPlan(0, calls={Fault.DROPPED: range(40)})
    with LocalCluster(faults=faults) as cluster:
        harness = Harness(
            cluster, tmp_path / "journal", options={"attempts": 3, "resend_blocks": 150}
        )
        harness.submitter.intake(bundles_of(adds(10)))
        harness.drive(2000)
        ledger = harness.submitter.close()
        ledger.check()
        assert ledger.transactions["signed"] > 1
        executed = executed_orders(cluster)
        assert sum(executed.values()) == ledger.landed
        assert not executed or max(executed.values()) == 1
        harness.abandon()


def test_what_the_chain_cannot_be_asked_about_is_unknown_and_stays_in_the_journal(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    harness = Harness(cluster, tmp_path / "journal")
    harness.submitter.intake(bundles_of(adds(10)))
    harness.submitter.step()

    def unreachable(*arguments: Any, **named: Any) -> Any:
        raise desk_error

    from velox.errors import TransportError  # noqa: PLC0415

    desk_error = TransportError("http://127.0.0.1:1", "getBlockHeight", "refused")
    harness.rpc.get_block_height = unreachable  # type: ignore[method-assign]
    ledger = harness.submitter.close(5.0)
    ledger.check()
    assert ledger.unknown == 10
    assert "refused" in harness.submitter.statistics().last_error
    harness.abandon()

    after = Harness(cluster, tmp_path / "journal", harness.signer)
    ledger = after.submitter.close()
    ledger.check()
    assert (ledger.recovered, ledger.landed, ledger.delivered) == (10, 10, 0)
    assert max(executed_orders(cluster).values()) == 1
    after.abandon()


def test_orders_that_wait_when_it_closes_are_shed(harness: Harness) -> None:
    harness.submitter.intake(bundles_of(adds(10)))
    ledger = harness.submitter.close(0.0)
    ledger.check()
    assert ledger.shed == 10
    assert harness.submitter.close() == ledger
    with pytest.raises(SubmitError, match="closed"):
        harness.submitter.step()


def test_no_more_transactions_fly_than_the_window_has(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    harness = Harness(cluster, tmp_path / "journal", options={"window": 2})
    harness.submitter.intake(bundles_of(adds(200)))
    for _ in range(3):
        harness.submitter.step()
        assert harness.submitter.statistics().in_flight == 2
    harness.drive()
    assert harness.outcomes() == {Outcome.LANDED: 200}
    harness.abandon()


def test_a_cancel_reaches_the_chain_after_what_it_cancels(harness: Harness) -> None:
    harness.submitter.intake(bundles_of(records((ADD, 1, 100, 5))))
    harness.submitter.step()
    harness.submitter.intake(bundles_of(records((CANCEL, 1, 100, 5))))
    harness.drive()
    slots = [each.slot for each in harness.cluster.executions]
    assert len(slots) == 2
    assert slots[0] < slots[1]
    assert set(executed_orders(harness.cluster)) == {(ADD, 1), (CANCEL, 1)}


@pytest.mark.parametrize("jump_ns", [-(10**15), 10**15])
def test_a_clock_that_jumps_changes_no_end(
    cluster: LocalCluster, tmp_path: Path, jump_ns: int
) -> None:
    harness = Harness(cluster, tmp_path / "journal")
    harness.submitter.intake(bundles_of(adds(30)))
    harness.submitter.step()
    harness.jump_ns = jump_ns
    cluster.tick()
    harness.submitter.intake(bundles_of(adds(30, first=31)))
    harness.drive()
    assert harness.outcomes() == {Outcome.LANDED: 60}
    assert max(executed_orders(cluster).values()) == 1
    harness.abandon()


@pytest.mark.parametrize("options", [{"isolate": True}, {"commitment": "finalized"}])
def test_a_failure_that_a_fork_takes_back_is_not_sent_again(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    faults = FaultPlan(0, calls={Fault.FORKED: [0]}, fork_blocks=31)
    with LocalCluster(rate_per_s=None, faults=faults) as cluster:
        harness = Harness(cluster, tmp_path / "journal", options=options)
        harness.submitter.intake(bundles_of(adds(10)))
        harness.drive()
        # The bytes that failed on the fork are those that landed; nothing else was signed.
        assert harness.outcomes() == {Outcome.LANDED: 10}
        assert harness.submitter.close().transactions["signed"] == 1
        assert len(cluster.executions) == 1
        harness.abandon()


def test_orders_after_a_long_silence_have_a_blockhash_that_lives(
    harness: Harness, cluster: LocalCluster
) -> None:
    harness.submitter.intake(bundles_of(adds(10)))
    harness.drive()
    for _ in range(400):
        cluster.tick()
        harness.submitter.step()
    harness.submitter.intake(bundles_of(adds(10, first=11)))
    harness.drive()
    assert harness.outcomes() == {Outcome.LANDED: 20}


def test_what_a_node_that_is_behind_does_not_know_has_not_expired(tmp_path: Path) -> None:
    with LocalCluster(faults=FaultPlan(0, calls={Fault.DROPPED: range(200)})) as cluster:
        harness = Harness(cluster, tmp_path / "journal", options={"resend_blocks": 1000})
        ask, asked = harness.rpc.get_signature_statuses, []

        def looks(signatures: Any, search_history: bool = False, *, least_slot: int = 0) -> Any:
            if search_history:
                asked.append(least_slot)
                if len(asked) < 5:
                    # The answer of a node that lags behind.
                    least_slot = cluster.slot + 1
            return ask(signatures, search_history, least_slot=least_slot)

        harness.rpc.get_signature_statuses = looks  # type: ignore[method-assign]
        harness.submitter.intake(bundles_of(adds(10)))
        harness.drive()
        assert harness.outcomes() == {Outcome.EXPIRED: 10}
        assert all(asked)
        assert len(asked) >= 6
        assert "was requested" in harness.submitter.statistics().last_error
        harness.abandon()


def test_nothing_is_sent_again_once_the_signer_is_killed(tmp_path: Path) -> None:
    with LocalCluster(faults=FaultPlan(0, rates={Fault.DROPPED: 1.0})) as cluster:
        harness = Harness(cluster, tmp_path / "journal")
        harness.submitter.intake(bundles_of(adds(10)))
        harness.submitter.step()
        harness.signer.kill("enough")
        harness.drive()
        assert harness.outcomes() == {Outcome.EXPIRED: 10}
        assert harness.submitter.close().sends == 1
        harness.abandon()


def test_what_was_signed_and_not_sent_before_the_kill_has_failed_for_it(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    harness = Harness(cluster, tmp_path / "journal")
    commit = harness.journal.commit

    def killed_meanwhile() -> None:
        commit()
        if harness.journal.state.transactions:
            harness.signer.kill("enough")

    harness.journal.commit = killed_meanwhile  # type: ignore[method-assign]
    harness.submitter.intake(bundles_of(adds(10)))
    harness.drive()
    assert set(harness.ends.values()) == {(Outcome.FAILED, "not sent: killed")}
    assert not cluster.executions
    harness.abandon()


def test_the_next_process_signs_no_bytes_that_the_last_one_signed(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    signer = new_signer(cluster)
    with RpcClient(cluster.url) as rpc:
        blockhash = rpc.get_latest_blockhash()
    for _ in range(2):
        harness = Harness(cluster, tmp_path / "journal", signer)
        # A lagging node, or a caching proxy, gives both the same one.
        harness.rpc.get_latest_blockhash = lambda: blockhash  # type: ignore[method-assign]
        harness.submitter.intake(bundles_of(adds(10)))
        harness.drive()
        assert harness.outcomes() == {Outcome.LANDED: 10}
        harness.abandon()
    assert len(cluster.executions) == 2


def test_a_wait_that_an_endpoint_asks_for_is_kept_however_long(
    harness: Harness, cluster: LocalCluster
) -> None:
    asked = []

    def limited(request: Any, forward: Any) -> Any:
        if method_of(request) == "sendTransaction":
            asked.append(cluster.clock())
            if len(asked) == 1:
                return rate_limited(20.0)
        return forward()

    harness.network.handler = limited
    harness.submitter.intake(bundles_of(adds(10)))
    harness.submitter.step()
    harness.jump_ns = -90 * 10**9
    harness.drive()
    assert asked[1] - asked[0] >= 20 * 10**9
    assert harness.outcomes() == {Outcome.LANDED: 10}


# What is refused


def test_orders_for_a_submitter_that_is_closed_are_refused_and_not_lost(
    harness: Harness,
) -> None:
    harness.submitter.close(0.0)
    with pytest.raises(SubmitError, match="the submitter is closed"):
        harness.submitter.intake(bundles_of(adds(1)))
    harness.submitter.ledger().check()


def test_a_payer_without_lamports_is_refused_at_once(cluster: LocalCluster, tmp_path: Path) -> None:
    signer = new_signer(cluster, lamports=0)
    with pytest.raises(SubmitError, match=f"payer {signer.pubkey} has no lamports"):
        Harness(cluster, tmp_path / "journal", signer)


def test_a_journal_of_another_payer_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    Harness(cluster, tmp_path / "journal").abandon()
    with pytest.raises(SubmitError, match="one signer on one cluster"):
        Harness(cluster, tmp_path / "journal")


def test_a_journal_of_another_cluster_is_refused(cluster: LocalCluster, tmp_path: Path) -> None:
    harness = Harness(cluster, tmp_path / "journal")
    harness.abandon()
    with LocalCluster(seed=7) as other:
        other.fund(harness.signer.pubkey, 10**9)
        with pytest.raises(SubmitError, match="genesis"):
            Harness(other, tmp_path / "journal", harness.signer)


def test_what_the_signer_refuses_has_failed_for_that_rule(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    signer = new_signer(cluster, max_spend_lamports_per_minute=10_000)
    harness = Harness(cluster, tmp_path / "journal", signer)
    harness.submitter.intake(bundles_of(adds(100)))
    harness.submitter.step()
    harness.drive(10)
    # The limit of a minute covers two transactions. The rest waits, and is not lost.
    assert Outcome.FAILED not in harness.outcomes()
    assert len(cluster.executions) == 2
    signer.kill("enough")
    harness.drive()
    reasons = {reason for outcome, reason in harness.ends.values() if outcome is Outcome.FAILED}
    assert reasons == {"not signed: killed"}
    assert sum(executed_orders(cluster).values()) == harness.outcomes()[Outcome.LANDED]
    harness.submitter.close().check()
    harness.abandon()


def test_a_signer_that_fails_in_a_way_of_its_own_fails_the_orders_and_shows_nothing(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    inner = new_signer(cluster)

    class Wallet:
        pubkey = inner.pubkey
        killed = None

        def settle(self, signature: Any, lamports: int) -> None:
            pass

        def sign(self, message: bytes, summary: Any) -> Any:
            raise TimeoutError("of a wallet, with its PIN 1234")

    harness = Harness(cluster, tmp_path / "journal", Wallet())
    harness.submitter.intake(bundles_of(adds(40)))
    harness.drive()
    assert set(harness.ends.values()) == {(Outcome.FAILED, "not signed: TimeoutError")}
    assert "1234" not in harness.submitter.statistics().last_error
    harness.submitter.close().check(delivered_transactions=40)
    harness.abandon()


def test_what_every_endpoint_refused_has_failed_for_that_reason(tmp_path: Path) -> None:
    with LocalCluster(rate_per_s=None) as cluster:
        harness = Harness(cluster, tmp_path / "journal", options={"skip_preflight": False})
        # The payer is emptied between the check of its balance and the first transaction.
        cluster.set_account(harness.signer.pubkey, None)
        harness.submitter.intake(bundles_of(adds(10)))
        harness.drive()
        ((outcome, reason),) = set(harness.ends.values())
        assert outcome is Outcome.FAILED
        assert reason.startswith("refused: ")
        assert not executed_orders(cluster)
        harness.submitter.close().check()
        harness.abandon()


def test_a_disk_that_fails_stops_everything_before_it_is_sent(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(fd: int) -> None:
        raise OSError(28, "No space left on device")

    harness.submitter.intake(bundles_of(adds(10)))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(JournalError, match="No space left"):
            harness.submitter.step()
    with pytest.raises(JournalError):
        harness.submitter.close()
    harness.cluster.tick(5)
    assert not executed_orders(harness.cluster)
    harness.submitter.ledger().check()


def test_bundles_of_another_type_are_refused(harness: Harness) -> None:
    with pytest.raises(ConfigError, match="BUNDLE_DTYPE"):
        harness.submitter.intake(adds(3))
    harness.submitter.intake(np.zeros(0, BUNDLE_DTYPE))


@pytest.mark.parametrize("orders", [np.zeros(3), np.zeros((2, 2), adds(1).dtype)])
def test_orders_of_another_type_are_refused(harness: Harness, orders: Any) -> None:
    for take in (harness.submitter.submit, harness.submitter.cancel):
        with pytest.raises(ConfigError, match="TRANSACTION_DTYPE"):
            take(orders)
    assert harness.submitter.ledger().delivered == 0


def test_atomic_needs_a_block_engine_and_that_a_tip(cluster: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="atomic"):
        Harness(cluster, tmp_path / "a", options={"atomic": True}).abandon()
    with pytest.raises(ConfigError, match="carriers"):
        Harness(cluster, tmp_path / "b", carriers=[])
    with pytest.raises(ConfigError, match="at most one"):
        Harness(cluster, tmp_path / "c", carriers=[MemoCarrier(), MemoCarrier()])


def test_orders_of_a_market_that_nothing_carries_fail(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    from tests.integration.solana.test_numbered import SPEC  # noqa: PLC0415

    carrier = ManifestCarrier(SPEC)
    carrier.account = None  # the cluster has no market
    harness = Harness(cluster, tmp_path / "journal", carriers=carrier)
    harness.submitter.intake(bundles_of(records((ADD, 1, 100, 5, 0, 3))))
    harness.drive()
    assert harness.ends == {0: (Outcome.FAILED, "unknown_market")}
    harness.abandon()


def test_nothing_of_a_key_is_in_the_journal_or_a_repr(harness: Harness, tmp_path: Path) -> None:
    from solders.keypair import Keypair  # noqa: PLC0415

    from velox.solana.tx.signer import KeypairSigner  # noqa: PLC0415
    from velox.solana.tx.spend import SignerPolicy  # noqa: PLC0415

    keypair = Keypair()
    policy = SignerPolicy(
        programs=frozenset([MemoCarrier().program]),
        max_tip_lamports=0,
        max_spend_lamports_per_minute=10**9,
    )
    harness.cluster.fund(keypair.pubkey(), 10**9)
    other = Harness(harness.cluster, tmp_path / "other", KeypairSigner(keypair, policy))
    other.submitter.intake(bundles_of(adds(40)))
    other.drive()
    secret = bytes(keypair)[:32]
    assert secret not in (tmp_path / "other").read_bytes()
    shown = repr((other.submitter, other.signer, other.journal, other.submitter.statistics()))
    assert str(keypair) not in shown
    assert secret.hex() not in shown
    other.abandon()


# The parts that decide


STATUS = SignatureStatus(5, 0, None, "processed")


@pytest.mark.parametrize(
    ("status", "commitment", "finalized", "history", "verdict"),
    [
        (STATUS, "processed", None, False, "landed"),
        (STATUS, "confirmed", None, False, "wait"),
        (STATUS, "confirmed", 10**6, True, "wait"),
        (SignatureStatus(5, 0, "AccountInUse", "finalized"), "confirmed", None, False, "failed"),
        (None, "confirmed", 10**6, False, "wait"),
        (None, "confirmed", None, True, "wait"),
        (None, "confirmed", 150, True, "wait"),
        (None, "confirmed", 151, True, "missing"),
    ],
)
def test_only_a_finalized_height_and_the_whole_history_make_a_transaction_missing(
    status: Any, commitment: Any, finalized: int | None, history: bool, verdict: str
) -> None:
    found = judge(status, commitment, last_valid=150, finalized=finalized, whole_history=history)
    assert found.value == verdict


def test_errors_of_the_chain_are_written_in_a_few_words() -> None:
    assert reason_of({"InstructionError": [0, {"Custom": 1}]}) == "InstructionError(0, Custom(1))"
    assert reason_of({"InstructionError": [2, "InvalidArgument"]}).endswith("InvalidArgument)")
    assert len(reason_of("x" * 1000)) == 120
    assert reason_of(None) == "null"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("window", 0),
        ("attempts", 0),
        ("poll_ns", -1),
        ("resend_blocks", 0),
        ("commitment", "sure"),
        ("commitment", "processed"),
        ("poll_ns", 10**10 + 1),
        ("atomic", 1),
        ("unit_price", 2.5),
        ("window", True),
    ],
)
def test_an_option_that_cannot_be_used_is_named(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field} = "):
        SubmitOptions(**{field: value})


def test_a_ledger_that_does_not_balance_says_where() -> None:
    from velox.errors import LedgerError  # noqa: PLC0415

    ledger = ChainLedger(delivered=3, landed=1, failed={"why": 1})
    assert not ledger.balanced
    with pytest.raises(LedgerError, match="3 ≠ 2"):
        ledger.check()
    with pytest.raises(LedgerError, match="delivered_transactions"):
        ChainLedger().check(delivered_transactions=1)
    assert "balanced" in str(ledger)
    assert ledger.to_dict()["failed"] == {"why": 1}
