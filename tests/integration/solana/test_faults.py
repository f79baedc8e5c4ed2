"""Under any fault, each order is executed at most once, and has one true outcome."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from velox.errors import SolanaError
from velox.solana.orders.outcomes import Outcome
from velox.testing import Fault, FaultPlan, Lie, LocalCluster

from .support import (
    ADD,
    Harness,
    adds,
    assert_journal_is_true,
    bundles_of,
    executed_orders,
    new_signer,
)

pytest.importorskip("solders")

# A lie about a signature's status cannot be told from the truth; all others are detected.
# Through a block engine, and then all of a bundle or none.
WAYS = [(False, False), (True, False), (True, True)]
READS = ("getSignatureStatuses", "getBlockHeight", "getLatestBlockhash", "getEpochInfo")
CUT_SHORT = (Lie.OTHER_ID, Lie.TRUNCATED, Lie.HTML)

PLANS = st.builds(
    FaultPlan,
    seed=st.integers(0, 2**32),
    rates=st.dictionaries(
        st.sampled_from([each for each in Fault if each is not Fault.NOTIFICATION_LOST]),
        st.sampled_from([0.05, 0.3, 0.6]),
        max_size=4,
    ),
    delay_slots=st.integers(1, 40),
    skip_slots=st.integers(1, 20),
)


def options_for(plan: FaultPlan, **options: Any) -> dict[str, Any]:
    """A fork may undo what is confirmed: with forks, outcomes must be finalized."""
    return {**options, "commitment": "finalized" if Fault.FORKED in plan.rates else "confirmed"}


def settle(harness: Harness, count: int, *, batches: int = 3) -> None:
    """Send orders in a few batches, and follow them to their ends."""
    for batch in range(batches):
        first = 1 + batch * count
        harness.submitter.intake(bundles_of(adds(count, first=first)))
        for _ in range(3):
            harness.submitter.step()
            harness.cluster.tick()
    harness.drive()


def assert_true_ends(harness: Harness, orders: int) -> None:
    """Check the outcomes of the harness against the chain."""
    executed = executed_orders(harness.cluster)
    assert not executed or max(executed.values()) == 1, "an order was executed twice"
    assert sorted(harness.ends) == list(range(orders))
    for ticket, (outcome, _) in harness.ends.items():
        was_executed = executed[ADD, ticket + 1] == 1
        if outcome is not Outcome.UNKNOWN:
            assert was_executed is (outcome is Outcome.LANDED), (ticket, outcome)
    ledger = harness.submitter.ledger()
    ledger.check()
    assert ledger.landed == sum(executed.values()) or Outcome.UNKNOWN in harness.outcomes()


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(PLANS, st.sampled_from(WAYS), st.integers(1, 3))
def test_under_every_fault_plan_each_order_executes_at_most_once_and_has_one_true_end(
    plan: FaultPlan, way: tuple[bool, bool], attempts: int
) -> None:
    engine, atomic = way
    with tempfile.TemporaryDirectory() as folder:
        with LocalCluster(rate_per_s=None, faults=plan) as cluster:
            options = options_for(plan, atomic=atomic, attempts=attempts)
            try:
                harness = Harness(cluster, Path(folder, "journal"), engine=engine, options=options)
            except SolanaError:
                # A fault hit the first requests: nothing was taken in.
                return
            settle(harness, 40)
            harness.submitter.close(5.0)
            harness.close_clients()
            assert_true_ends(harness, 120)


@settings(max_examples=10, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.sampled_from([0.1, 0.4]), st.booleans())
def test_lies_and_lost_answers_to_any_question_end_nothing_wrongly(
    seed: int, rate: float, engine: bool
) -> None:
    plan = FaultPlan(
        seed,
        rates={Fault.LYING: rate, Fault.RESPONSE_LOST: rate, Fault.DROPPED: 0.2},
        scope={
            Fault.LYING: (*READS, "sendTransaction", "sendBundle"),
            Fault.RESPONSE_LOST: (*READS, "sendTransaction", "sendBundle"),
        },
        lies=CUT_SHORT,
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(rate_per_s=None, faults=plan) as cluster,
    ):
        try:
            harness = Harness(
                cluster, Path(folder, "journal"), engine=engine, options={"attempts": 2}
            )
        except SolanaError:
            return
        settle(harness, 20)
        harness.submitter.close(400.0)
        harness.close_clients()
        assert_true_ends(harness, 60)


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32), st.sampled_from([0.3, 0.9]), st.integers(1, 31), st.integers(1, 3))
def test_a_failure_that_a_fork_takes_back_makes_no_order_execute_twice(
    seed: int, rate: float, fork_blocks: int, attempts: int
) -> None:
    plan = FaultPlan(seed, rates={Fault.FORKED: rate, Fault.DROPPED: 0.1}, fork_blocks=fork_blocks)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(rate_per_s=None, faults=plan) as cluster,
    ):
        options = {"attempts": attempts, "isolate": True}
        harness = Harness(cluster, Path(folder, "journal"), options=options)
        settle(harness, 40)
        harness.submitter.close(5.0)
        harness.close_clients()
        executed = executed_orders(cluster)
        assert not executed or max(executed.values()) == 1
        assert sorted(harness.ends) == list(range(120))
        harness.submitter.ledger().check()


class Crash(BaseException):
    """The end of a process, at a point of our choice."""


def crash_after(count: int, function: Any) -> Any:
    """`function`, that ends the process before or after its n-th call."""
    calls = 0

    def called(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            raise Crash
        result = function(*arguments, **named)
        if calls == count + 1:
            raise Crash
        return result

    return called


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    PLANS,
    st.lists(st.tuples(st.sampled_from(["commit", "send", "look"]), st.integers(1, 6)), max_size=4),
    st.sampled_from(WAYS),
)
def test_a_process_that_ends_anywhere_leaves_a_journal_from_which_the_next_one_goes_on(
    plan: FaultPlan, crashes: list[tuple[str, int]], way: tuple[bool, bool]
) -> None:
    engine, atomic = way
    options = options_for(plan, atomic=atomic, attempts=2)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalCluster(rate_per_s=None, faults=plan) as cluster,
    ):
        signer = new_signer(cluster)
        first = 1
        runs: list[tuple[str, int] | None] = [*crashes, None]
        for run in runs:
            try:
                harness = Harness(
                    cluster, Path(folder, "journal"), signer, engine=engine, options=options
                )
            except SolanaError:
                continue
            if run is not None:
                where, count = run
                owner, name = {
                    "commit": (harness.journal, "commit"),
                    "send": (harness.submitter._sender, "send"),
                    "look": (harness.submitter._rpc, "get_signature_statuses"),
                }[where]
                setattr(owner, name, crash_after(count, getattr(owner, name)))
            try:
                harness.submitter.intake(bundles_of(adds(30, first=first)))
                first += 30
                harness.drive()
                if run is None:
                    harness.submitter.close(5.0)
                    harness.submitter.ledger().check()
            except Crash:
                pass
            finally:
                harness.abandon()
            executed = executed_orders(cluster)
            assert not executed or max(executed.values()) == 1
            assert_journal_is_true(Path(folder, "journal"), cluster, whole=False)
