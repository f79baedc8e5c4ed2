"""The tip of a bundle, and the account that receives it."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from tests.unit.solana.fake_server import FakeServer, body, document, raw
from velox.errors import ConfigError, EndpointRefusedError, RateLimitedError, TransportError
from velox.solana.net.tips import (
    FixedTip,
    FloorPercentileTip,
    TipAccounts,
    TipFloor,
    TipFloorClient,
)
from velox.solana.tx.limits import MIN_TIP_LAMPORTS
from velox.testing import LocalCluster

SECOND = 10**9
FLOOR = TipFloor(1_000, 10_000, 36_000, 1_400_000, 10_000_000, 9_836)
NAMES = {
    "landed_tips_25th_percentile": 0.000001,
    "landed_tips_50th_percentile": 1e-05,
    "landed_tips_75th_percentile": 3.6e-05,
    "landed_tips_95th_percentile": 0.0014,
    "landed_tips_99th_percentile": 0.01,
    "ema_landed_tips_50th_percentile": 9.836e-06,
}
KEYS = [Pubkey(bytes([n]) * 32) for n in range(1, 9)]
CUT = TransportError("http://127.0.0.1:1", "tip_floor", "cut")


class Source:
    """Returns a value that the test sets, or raises it."""

    def __init__(self, value):
        self.value = value
        self.calls = 0

    def __call__(self):
        self.calls += 1
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


class Clock:
    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        return self.now


def test_a_fixed_tip_is_that_and_a_slip_is_refused():
    assert FixedTip(5_000, 10_000).lamports(0) == 5_000
    assert FixedTip(MIN_TIP_LAMPORTS).lamports(7) == 1_000
    with pytest.raises(ConfigError, match=r"^lamports: .* 10001"):
        FixedTip(10_001, 10_000)
    with pytest.raises(ConfigError, match=r"^lamports: .* 999"):
        FixedTip(999)


@pytest.mark.parametrize(
    ("percentile", "lamports"),
    [
        (25, 1_000),
        (50, 10_000),
        (75, 36_000),
        (95, 1_400_000),
        (99, 2_000_000),
        ("ema50", 9_836),
    ],
)
def test_a_tip_follows_its_percentile_up_to_the_maximum(percentile, lamports):
    assert FloorPercentileTip(Source(FLOOR), percentile, 2_000_000).lamports(0) == lamports


@given(st.lists(st.integers(0, 10**12), min_size=6, max_size=6), st.integers(1_000, 10**9))
def test_a_tip_never_leaves_its_bounds_whatever_the_source_says(tips, maximum):
    minimum = min(5_000, maximum)
    policy = FloorPercentileTip(Source(TipFloor(*tips)), 75, maximum, minimum)
    assert minimum <= policy.lamports(0) <= maximum


def test_a_floor_is_fetched_when_it_has_aged_and_not_before():
    source = Source(FLOOR)
    policy = FloorPercentileTip(source, 50, 100_000, max_age_s=10)
    assert [policy.lamports(now * SECOND) for now in (5, 6, 14)] == [10_000] * 3
    assert source.calls == 1
    policy.lamports(15 * SECOND)
    assert source.calls == 2
    policy.lamports(1 * SECOND)  # a clock that jumped back
    assert source.calls == 3


def test_without_a_source_the_minimum_is_paid_and_then_the_last_floor():
    source = Source(CUT)
    policy = FloorPercentileTip(source, 50, 100_000, minimum=2_000, max_age_s=10)
    assert policy.lamports(0) == 2_000
    assert policy.lamports(1) == 2_000
    assert (source.calls, policy.failures, policy.last_error) == (1, 1, CUT)
    source.value = FLOOR
    assert policy.lamports(10 * SECOND) == 10_000
    assert policy.last_error is None
    source.value = RateLimitedError("http://127.0.0.1:1")
    assert policy.lamports(20 * SECOND) == 10_000
    assert policy.failures == 2


def test_an_error_of_the_program_is_not_taken_for_one_of_the_source():
    policy = FloorPercentileTip(Source(KeyError("x")), 50, 100_000)
    with pytest.raises(KeyError):
        policy.lamports(0)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"percentile": 60}, "percentile: must be one of 25, 50, 75, 95, 99, ema50, not 60"),
        ({"percentile": "75"}, "percentile"),
        ({"minimum": 999}, "minimum"),
        ({"minimum": 5_001}, "^minimum: .* 5001"),
        ({"max_age_s": 0}, "max_age_s"),
        ({"max_age_s": float("nan")}, "max_age_s"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused(settings, field):
    with pytest.raises(ConfigError, match=field):
        FloorPercentileTip(Source(FLOOR), **{"percentile": 75, "maximum": 5_000, **settings})


def test_floors_in_sol_become_whole_lamports_rounded_up():
    rows = [[NAMES], [{**NAMES, "landed_tips_99th_percentile": 1}]]
    # As text: a float would have rounded it before it left.
    exact = document([NAMES])
    bent = body(
        b'[{"landed_tips_25th_percentile": 1.0000000001e-6, "landed_tips_50th_percentile": 1e-5,'
        b'"landed_tips_75th_percentile": 3.6e-05, "landed_tips_95th_percentile": 0.0014,'
        b'"landed_tips_99th_percentile": 1, "ema_landed_tips_50th_percentile": 0}]'
    )
    with FakeServer(exact, bent, document(rows[1])) as fake:
        client = TipFloorClient(fake.url + "/api/v1/bundles/tip_floor")
        assert client.fetch() == FLOOR
        assert client.fetch() == TipFloor(1_001, 10_000, 36_000, 1_400_000, 10**9, 0)
        assert client.fetch().p99 == 10**9
        client.close()
    assert {(r.verb, r.target) for r in fake.requests} == {("GET", "/api/v1/bundles/tip_floor")}


def without(name: str) -> dict:
    return {key: value for key, value in NAMES.items() if key != name}


@pytest.mark.parametrize(
    ("behaviour", "why"),
    [
        (document([]), "document: is empty"),
        (document({}), "must be an array"),
        (document([5]), "must be an object"),
        (document([NAMES] * 17), "has 17 elements"),
        (document([without("landed_tips_75th_percentile")]), "has no 'landed_tips_75th"),
        (
            document([{**NAMES, "landed_tips_25th_percentile": -1}]),
            "25th_percentile: must be 0 to 1000 SOL",
        ),
        (
            document([{**NAMES, "landed_tips_99th_percentile": 1001}]),
            "99th_percentile: must be 0 to 1000 SOL",
        ),
        (
            document([{**NAMES, "landed_tips_99th_percentile": "1"}]),
            "99th_percentile: must be 0 to 1000 SOL",
        ),
        (
            document([{**NAMES, "landed_tips_99th_percentile": True}]),
            "99th_percentile: must be 0 to 1000 SOL",
        ),
        (
            document([{**NAMES, "landed_tips_99th_percentile": None}]),
            "99th_percentile: must be 0 to 1000 SOL",
        ),
        (document([{**NAMES, "landed_tips_25th_percentile": 0.5}]), "percentiles out of order"),
        (document([{**NAMES, "landed_tips_99th_percentile": float("inf")}]), "not usable JSON"),
        (
            body(b'[{"landed_tips_25th_percentile": 1e999999999}]'),
            "25th_percentile: must be 0 to 1000 SOL",
        ),
        (
            body(b'[{"landed_tips_25th_percentile": 1e99999999999999999999999}]'),
            "must be 0 to 1000 SOL|usable",
        ),
        (body(b"[" + b"1," * 100_000 + b"1]"), "more than 65536 bytes"),
        (body(b"[]", status=500), "status 500"),
        (raw(b""), "RemoteProtocolError"),
    ],
)
def test_a_floor_that_cannot_be_believed_is_a_transport_error(behaviour, why):
    with FakeServer(behaviour) as fake:
        client = TipFloorClient(fake.url)
        with pytest.raises(TransportError, match=why):
            client.fetch()
        client.close()


def test_a_floor_beyond_this_machine_needs_leave():
    with pytest.raises(EndpointRefusedError):
        TipFloorClient("https://bundles.jito.wtf/api/v1/bundles/tip_floor")


def test_a_local_cluster_publishes_a_floor():
    with LocalCluster() as cluster:
        client = TipFloorClient(cluster.url + "/api/v1/bundles/tip_floor")
        policy = FloorPercentileTip(client.fetch, 75, 50_000)
        assert 1_000 <= policy.lamports(cluster.clock()) <= 50_000
        assert policy.last_error is None
        client.close()


def test_accounts_are_drawn_evenly_and_replay_from_a_seed():
    def draw() -> list[Pubkey]:
        accounts = TipAccounts(Source(KEYS), rng=random.Random(5), clock=Clock())
        return [accounts.choose() for _ in range(800)]

    drawn = draw()
    assert drawn == draw()
    counts = Counter(drawn)
    assert set(counts) == set(KEYS)
    assert min(counts.values()) > 60


def test_accounts_are_fetched_at_the_start_when_aged_and_when_called_stale():
    source, clock = Source(KEYS[:1]), Clock()
    accounts = TipAccounts(source, clock=clock, max_age_s=600)
    assert source.calls == 1
    source.value = KEYS[1:2]
    assert accounts.choose() == KEYS[0]
    clock.now = 600 * SECOND
    assert accounts.choose() == KEYS[1]
    source.value = KEYS[2:3]
    assert accounts.choose() == KEYS[1]
    accounts.mark_stale()
    assert accounts.choose() == KEYS[2]
    assert accounts.accounts == KEYS[2:3]
    assert source.calls == 3


def test_accounts_that_cannot_be_renewed_stay_and_the_failure_is_counted():
    source, clock = Source(KEYS[:1]), Clock()
    accounts = TipAccounts(source, clock=clock)
    source.value = CUT
    accounts.mark_stale()
    assert accounts.choose() == KEYS[0]
    assert accounts.choose() == KEYS[0]
    assert (source.calls, accounts.failures, accounts.last_error) == (2, 1, CUT)


def test_accounts_that_cannot_be_had_at_the_start_are_an_error():
    with pytest.raises(TransportError):
        TipAccounts(Source(CUT))
