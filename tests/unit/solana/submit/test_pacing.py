"""The pace of requests: after limits and failures, with few requests, and at the end."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.solana.support import (
    SLOT_NS,
    Harness,
    adds,
    bundles_of,
    executed_orders,
    new_signer,
)
from velox.errors import SpendRefusedError
from velox.solana.net.deadline import time_left_s
from velox.solana.net.transport import ExchangeFailedError, HttpRequest
from velox.solana.orders.outcomes import Outcome
from velox.testing import Fault, FaultPlan, LocalCluster
from velox.testing.transport import method_of, rate_limited

NS = 10**9


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(rate_per_s=None) as made:
        yield made


@pytest.fixture
def harness(cluster: LocalCluster, tmp_path: Path) -> Iterator[Harness]:
    made = Harness(cluster, tmp_path / "journal")
    yield made
    made.abandon()


def between(harness: Harness, meets: Callable[[str, Any], Any]) -> list[str]:
    """Let `meets(method, go_on)` answer for the node; return the list of called methods."""
    asked: list[str] = []

    def handle(request: HttpRequest, forward: Any) -> Any:
        asked.append(method_of(request))
        return meets(asked[-1], forward)

    harness.network.handler = handle
    return asked


def run(harness: Harness, seconds: float, step_s: float = 0.05) -> None:
    end = harness.cluster.clock() + round(seconds * NS)
    while harness.cluster.clock() < end:
        harness.submitter.step()
        harness.cluster.sleep(step_s)


# Limits and failures


@pytest.mark.parametrize(("after", "orders"), [(None, 900), (0.0, 900), (None, 20)])
def test_a_node_that_has_no_room_and_does_not_say_for_how_long_is_asked_less_and_less_often(
    harness: Harness, after: float | None, orders: int
) -> None:
    full = True

    def meets(method: str, go_on: Any) -> Any:
        if full and method == "sendTransaction":
            return rate_limited(after)
        return go_on()

    asked = between(harness, meets)
    harness.submitter.intake(bundles_of(adds(orders)))
    harness.submitter.step()
    assert asked.count("sendTransaction") == 1, "the first limit ends the submission"
    run(harness, 40.0)
    # After 0.25 to 0.5 s, 0.5 to 1 s, …, 4 to 8 s.
    assert 8 <= asked.count("sendTransaction") <= 14
    # During the wait, nothing else is asked either.
    assert len(asked) < 60
    full = False
    harness.drive()
    assert harness.outcomes() == {Outcome.LANDED: orders}


@pytest.mark.parametrize("limited", ["sendTransaction", "getBlockHeight", "getSignatureStatuses"])
def test_what_a_node_asks_for_is_kept_by_whatever_it_is_asked(
    harness: Harness, limited: str
) -> None:
    strikes = [20.0]

    def meets(method: str, go_on: Any) -> Any:
        if method == limited and strikes:
            return rate_limited(strikes.pop())
        return go_on()

    asked = between(harness, meets)
    harness.submitter.intake(bundles_of(adds(900)))
    while strikes:
        harness.submitter.step()
        harness.cluster.sleep(0.05)
    before = len(asked)
    # The client's clock counts, not the submitter's.
    harness.jump_ns = -90 * NS
    run(harness, 19.9)
    assert len(asked) == before
    harness.drive()
    assert harness.outcomes() == {Outcome.LANDED: 900}


def test_a_node_that_gives_no_answer_is_not_asked_at_full_speed(harness: Harness) -> None:
    dead = True

    def meets(method: str, go_on: Any) -> Any:
        if dead:
            raise ExchangeFailedError("refused")
        return go_on()

    harness.submitter.intake(bundles_of(adds(900)))
    harness.submitter.step()
    asked = between(harness, meets)
    run(harness, 40.0)
    assert 6 <= len(asked) <= 25
    dead = False
    harness.drive()
    assert harness.outcomes() == {Outcome.LANDED: 900}


def test_a_lie_is_an_answer_and_what_is_sent_does_not_wait_for_better_ones(
    harness: Harness,
) -> None:
    ask = harness.rpc.get_signature_statuses

    def behind(signatures: Any, search_history: bool = False, *, least_slot: int = 0) -> Any:
        return ask(signatures, search_history, least_slot=10**9)

    harness.rpc.get_signature_statuses = behind  # type: ignore[method-assign]
    harness.submitter.intake(bundles_of(adds(900)))
    harness.drive(10)
    assert "was requested" in harness.submitter.statistics().last_error
    assert harness.rpc.wait_s == 0
    assert harness.submitter.statistics().in_flight == 32


# Where requests are scarce


def sends_of(client: Any, name: str, clock: Callable[[], int]) -> list[tuple[int, Any]]:
    """Record what is sent, and when."""
    send, sent = getattr(client, name), []

    def noted(what: Any, **options: Any) -> Any:
        sent.append((clock(), what if isinstance(what, bytes) else tuple(what)))
        return send(what, **options)

    setattr(client, name, noted)
    return sent


def test_the_same_bytes_go_again_after_an_interval_that_doubles(tmp_path: Path) -> None:
    with LocalCluster(faults=FaultPlan(0, rates={Fault.DROPPED: 1.0})) as cluster:
        harness = Harness(cluster, tmp_path / "journal")
        sent = sends_of(harness.rpc, "send_transaction", lambda: cluster.block_height)
        harness.submitter.intake(bundles_of(adds(10)))
        harness.drive()
        heights = [height for height, _ in sent]
        assert [b - a for a, b in itertools.pairwise(heights)] == [4, 8, 16, 32, 64]
        assert harness.outcomes() == {Outcome.EXPIRED: 10}
        harness.abandon()


def test_what_lost_its_auction_holds_up_no_new_orders_and_gets_its_turn(tmp_path: Path) -> None:
    with LocalCluster(rate_per_s=None, faults=FaultPlan(0, rates={Fault.DROPPED: 1.0})) as cluster:
        harness = Harness(
            cluster,
            tmp_path / "journal",
            engine=True,
            rate_per_s=1.0,
            options={"window": 1000},
        )
        assert harness.engine is not None
        sent = sends_of(harness.engine, "send_bundle", cluster.clock)
        harness.submitter.intake(bundles_of(adds(6000)))
        run(harness, 120.0)
        assert len(sent) >= 119, "no request that may be made is left out"
        seen: set[Any] = set()
        firsts = []
        times = defaultdict(list)
        for now, bundle in sent:
            firsts.append(bundle not in seen)
            seen.add(bundle)
            times[bundle].append(now)
        # Orders waited all the time: every second request at least carried new ones.
        assert sum(firsts) >= len(sent) // 2
        assert all(a or b for a, b in itertools.pairwise(firsts)), "two in a row went again"
        # What was sent with a minute left was sent again in it, and not one thing rather than
        # another.
        old = [each for each in times.values() if each[0] < cluster.clock() - 10 * NS]
        assert len(old) > 50
        assert all(2 <= len(each) <= 3 for each in old)
        assert all(then - now < 10 * NS for now, then, *_ in old)
        harness.abandon()


def test_what_is_signed_anew_takes_turns_with_new_orders(tmp_path: Path) -> None:
    with LocalCluster(rate_per_s=None, faults=FaultPlan(0, rates={Fault.DROPPED: 1.0})) as cluster:
        options = {"window": 1000, "attempts": 9}
        harness = Harness(
            cluster, tmp_path / "journal", engine=True, rate_per_s=1.0, options=options
        )
        harness.submitter.intake(bundles_of(adds(8000)))
        run(harness, 90.0, 0.1)
        attempts = []
        sign = harness.submitter._sign
        harness.submitter._sign = lambda *arguments: (  # type: ignore[method-assign]
            attempts.append(arguments[0]),
            sign(*arguments),
        )[1]
        run(harness, 60.0, 0.1)
        counted = Counter(attempt > 1 for attempt in attempts)
        assert counted[False] >= 15
        assert counted[True] >= 15
        assert sum(counted.values()) <= 31, "the others went again"
        harness.abandon()


# The end


@pytest.mark.parametrize(
    "slow", ["sendTransaction", "getSignatureStatuses", "getTransaction", "getLatestBlockhash"]
)
@pytest.mark.parametrize("takes_s", [0.4, 30.0])
def test_it_closes_in_time_however_slow_the_node_is(
    harness: Harness, cluster: LocalCluster, slow: str, takes_s: float
) -> None:
    def meets(method: str, go_on: Any) -> Any:
        left_s = time_left_s()
        assert left_s > 0
        if method != slow:
            return go_on()
        cluster.sleep(min(takes_s, left_s))
        if left_s < takes_s:
            raise ExchangeFailedError("no answer")
        return go_on()

    asked = between(harness, meets)
    harness.submitter.intake(bundles_of(adds(2000)))
    begin = cluster.clock()
    ledger = harness.submitter.close(1.0)
    # The sleep between two steps may end with the slot, the resolution of this clock.
    assert begin + NS <= cluster.clock() < begin + NS + SLOT_NS
    assert asked.count(slow) <= 3
    ledger.check()
    assert time_left_s() == float("inf")


def test_a_close_that_sends_nothing_sheds_what_waits_and_follows_what_is_under_way(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    harness = Harness(cluster, tmp_path / "journal", options={"window": 2})
    harness.submitter.intake(bundles_of(adds(200)))
    harness.submitter.step()
    told: list[Counter[Outcome]] = []
    between(harness, lambda _, go_on: (told.append(harness.outcomes()), go_on())[1])
    ledger = harness.submitter.close(send_waiting=False)
    ledger.check()
    assert told[0] == {Outcome.SHED: ledger.shed}, "before anything is asked"
    assert (ledger.sends, ledger.landed, ledger.unknown) == (2, 200 - ledger.shed, 0)
    assert len(cluster.executions) == 2
    harness.abandon()


@pytest.mark.parametrize("isolate", [False, True])
def test_a_close_that_sends_nothing_sends_nothing_again_and_signs_nothing_anew(
    tmp_path: Path, isolate: bool
) -> None:
    faults = FaultPlan(0, rates={Fault.DROPPED: 1.0} if not isolate else {})
    with LocalCluster(rate_per_s=None, faults=faults) as cluster:
        options = {"attempts": 3, "isolate": isolate}
        harness = Harness(cluster, tmp_path / "journal", options=options)
        harness.submitter.intake(bundles_of(adds(10)))
        harness.submitter.step()
        if isolate:
            # It fails, so each of its orders would be sent by itself.
            cluster.set_account(harness.signer.pubkey, None)
        asked = between(harness, lambda _, go_on: go_on())
        ledger = harness.submitter.close(600.0, send_waiting=False)
        ledger.check()
        assert not {"sendTransaction", "getLatestBlockhash"} & set(asked)
        assert (ledger.sends, ledger.transactions["signed"]) == (1, 1)
        assert harness.outcomes() == {Outcome.EXPIRED: 10}
        harness.abandon()


@pytest.mark.parametrize("send_waiting", [True, False])
def test_a_close_that_is_to_hurry_asks_nothing_more_and_leaves_the_rest_to_the_journal(
    cluster: LocalCluster, tmp_path: Path, send_waiting: bool
) -> None:
    harness = Harness(cluster, tmp_path / "journal", options={"window": 20})
    harness.submitter.intake(bundles_of(adds(900)))
    harness.submitter.step()
    in_flight = harness.submitter.statistics().in_flight
    pressed = False

    def meets(method: str, go_on: Any) -> Any:
        nonlocal pressed
        assert not pressed
        pressed = True
        return go_on()

    def hurry() -> bool:
        # Like a signal: it is reported once, and one report must be enough.
        nonlocal pressed
        said, pressed = pressed, False
        told.append(said)
        return said

    told: list[bool] = []
    asked = between(harness, meets)
    cluster.tick()
    ledger = harness.submitter.close(send_waiting=send_waiting, hurry=hurry)
    ledger.check()
    assert asked == ["getBlockHeight"]
    assert told[-1]
    assert ledger.sends == in_flight
    assert ledger.transactions["unknown"] == in_flight
    assert set(harness.outcomes()) == {Outcome.UNKNOWN, Outcome.SHED}
    harness.abandon()
    after = Harness(cluster, tmp_path / "journal", harness.signer)
    ledger = after.submitter.close()
    assert (ledger.recovered, ledger.landed) == (harness.outcomes()[Outcome.UNKNOWN],) * 2
    after.abandon()


@pytest.mark.parametrize(
    ("pressed_during", "signed", "sends"),
    [("getLatestBlockhash", 0, 0), ("sendTransaction", 16, 1), ("getBlockHeight", 0, 0)],
)
def test_a_close_that_is_to_hurry_finishes_one_request_and_signs_and_sends_nothing_after_it(
    harness: Harness, pressed_during: str, signed: int, sends: int
) -> None:
    pressed = False

    def meets(method: str, go_on: Any) -> Any:
        nonlocal pressed
        assert not pressed
        answer = go_on()
        pressed = method == pressed_during
        return answer

    asked = between(harness, meets)
    harness.submitter.intake(bundles_of(adds(900)))
    ledger = harness.submitter.close(hurry=lambda: pressed)
    ledger.check()
    assert asked[-1] == pressed_during
    assert (ledger.transactions["signed"], ledger.sends) == (signed, sends)
    assert asked.count("sendTransaction") == sends


def test_a_close_without_an_order_to_hurry_asks_it_and_is_as_it_was(harness: Harness) -> None:
    harness.submitter.intake(bundles_of(adds(100)))
    ledger = harness.submitter.close(hurry=lambda: False)
    assert ledger.landed == 100


# Whole or not at all


class Choosy:
    """A signer that refuses the calls in `refusals`, each by its rule."""

    killed = None

    def settle(self, signature: Any, lamports: int) -> None:
        pass

    def __init__(self, cluster: LocalCluster, refusals: dict[int, str]) -> None:
        self._inner = new_signer(cluster)
        self._refusals = refusals
        self.pubkey = self._inner.pubkey
        self.asked = 0

    def sign(self, message: bytes, summary: Any) -> Any:
        self.asked += 1
        if self.asked in self._refusals:
            raise SpendRefusedError(self._refusals[self.asked], "so it is")
        return self._inner.sign(message, summary)


CAP = "max_spend_lamports_per_minute"


def atomic_desk(
    cluster: LocalCluster, path: Path, signer: Any, **options: Any
) -> tuple[Harness, Any]:
    options = {"atomic": True, "resend_blocks": 200, **options}
    harness = Harness(cluster, path, signer, engine=True, options=options)
    assert harness.engine is not None
    harness.submitter.intake(bundles_of(adds(27 * 3)))
    return harness, sends_of(harness.engine, "send_bundle", cluster.clock)


def test_a_bundle_of_which_the_cap_refuses_one_waits_whole(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    harness, sent = atomic_desk(cluster, tmp_path / "journal", Choosy(cluster, {3: CAP}))
    harness.submitter.step()
    assert sent == []
    assert not harness.journal.state.transactions
    assert not harness.ends
    assert harness.submitter.statistics().queued == 81
    harness.drive()
    # What was signed in vain counts for the limit. The next bundle is no larger than the room
    # there was, so a limit without room for three does not block for ever.
    assert [len(bundle) for _, bundle in sent] == [2, 1]
    assert harness.outcomes() == {Outcome.LANDED: 81}
    assert set(executed_orders(cluster).values()) == {1}
    harness.abandon()


def test_a_cap_that_has_no_room_for_a_whole_bundle_in_a_minute_stops_nobody(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    # Two transactions and one tip.
    signer = new_signer(cluster, max_spend_lamports_per_minute=17_000)
    harness, sent = atomic_desk(cluster, tmp_path / "journal", signer)
    harness.drive()
    assert [len(bundle) for _, bundle in sent] == [2, 1]
    assert harness.outcomes() == {Outcome.LANDED: 81}
    harness.abandon()


def test_a_bundle_of_which_one_is_refused_for_good_has_failed_whole(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    harness, sent = atomic_desk(cluster, tmp_path / "journal", Choosy(cluster, {2: "programs"}))
    harness.drive()
    assert sent == []
    assert set(harness.ends.values()) == {(Outcome.FAILED, "not signed: programs")}
    assert len(harness.ends) == 81
    harness.submitter.close().check(delivered_transactions=81)
    harness.abandon()


@pytest.mark.parametrize("rule", [CAP, "programs"])
def test_a_bundle_that_is_signed_anew_is_whole(tmp_path: Path, rule: str) -> None:
    faults = FaultPlan(0, calls={Fault.DROPPED: [0]})
    with LocalCluster(rate_per_s=None, faults=faults) as cluster:
        signer = Choosy(cluster, {5: rule})
        harness, sent = atomic_desk(cluster, tmp_path / "journal", signer, attempts=2)
        harness.drive()
        if rule == CAP:
            assert [len(bundle) for _, bundle in sent] == [3, 3]
            assert harness.outcomes() == {Outcome.LANDED: 81}
        else:
            assert [len(bundle) for _, bundle in sent] == [3]
            assert set(harness.ends.values()) == {(Outcome.FAILED, "not signed: programs")}
        harness.submitter.close().check(delivered_transactions=81)
        harness.abandon()
