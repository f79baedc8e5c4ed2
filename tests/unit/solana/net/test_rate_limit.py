"""How often an endpoint may be asked, and when to ask again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox.errors import ConfigError, RateLimitedError, TransportError
from velox.solana.net.rate_limit import Backoff, RetryPolicy, TokenBucket

SECOND = 10**9
OWN = TransportError("http://127.0.0.1:1", "getSlot", "cut")


class Clock:
    def __init__(self, now: int = 0) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def test_a_bucket_gives_its_burst_and_then_one_token_a_period():
    clock = Clock(7)
    bucket = TokenBucket(2.0, burst=3, clock=clock)
    assert [bucket.try_take() for _ in range(4)] == [True, True, True, False]
    assert bucket.ready_at_ns == 7 + SECOND // 2
    assert bucket.wait_s == 0.5
    clock.now = bucket.ready_at_ns - 1
    assert not bucket.try_take()
    clock.now += 1
    assert bucket.wait_s == 0
    assert bucket.try_take()
    assert not bucket.try_take()


def test_an_idle_bucket_fills_no_further_than_its_burst():
    clock = Clock()
    bucket = TokenBucket(1.0, burst=2, clock=clock)
    clock.now = 3600 * SECOND
    assert [bucket.try_take() for _ in range(3)] == [True, True, False]


def test_a_clock_that_jumps_back_does_not_stop_the_tokens():
    clock = Clock(3600 * SECOND)
    bucket = TokenBucket(1.0, clock=clock)
    assert bucket.try_take()
    clock.now = 0
    assert bucket.wait_s == 1.0
    clock.now = SECOND
    assert bucket.try_take()


@given(
    rate=st.sampled_from([0.3, 1.0, 3.0, 7.0, 1000.0]),
    burst=st.integers(1, 8),
    steps=st.lists(st.integers(0, 3 * SECOND), max_size=60),
)
def test_no_window_of_time_sees_more_tokens_than_rate_and_burst_allow(rate, burst, steps):
    clock, taken = Clock(), []
    bucket = TokenBucket(rate, burst, clock)
    period = round(SECOND / rate)
    for step in steps:
        clock.now += step
        ready = bucket.ready_at_ns <= clock.now
        assert bucket.try_take() == ready
        if ready:
            taken.append(clock.now)
    for i, first in enumerate(taken):
        for j in range(i, len(taken)):
            assert j - i + 1 <= burst + (taken[j] - first) // period


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate):
    with pytest.raises(ConfigError, match="rate_per_s"):
        TokenBucket(rate)


def test_a_bucket_without_room_is_refused():
    with pytest.raises(ConfigError, match="burst: must be at least 1, not 0"):
        TokenBucket(1.0, 0)


def backoff_of(seed: int = 1) -> tuple[Backoff, Clock]:
    clock = Clock(7)
    return Backoff(clock, random.Random(seed)), clock


def fails_at_once(backoff: Backoff, clock: Clock, asked_s: float | None = None) -> float:
    """Fail as soon as it may be asked, and return the wait that follows."""
    clock.now += round(backoff.wait_s * SECOND)
    assert backoff.wait_s == 0
    backoff.failed("getSlot", asked_s)
    return backoff.wait_s


@pytest.mark.parametrize("asked_s", [None, 0.0, 0.001])
def test_a_backoff_grows_from_a_quarter_of_a_second_to_eight_and_not_always_alike(asked_s):
    first_waits = set()
    for seed in range(50):
        backoff, clock = backoff_of(seed)
        waits = [fails_at_once(backoff, clock, asked_s) for _ in range(100)]
        spans = [min(8.0, 0.5 * 2**n) for n in range(100)]
        assert all(span / 2 <= wait <= span for wait, span in zip(waits, spans, strict=True))
        first_waits.add(waits[0])
    assert len(first_waits) == 50


def test_a_backoff_is_as_long_as_the_endpoint_asks_if_that_is_longer():
    backoff, clock = backoff_of()
    assert fails_at_once(backoff, clock, 60.0) == 60.0
    clock.now += SECOND
    backoff.failed("getSlot")
    assert backoff.wait_s == 59.0


def test_a_success_of_the_method_restarts_the_backoff_and_that_of_another_does_not():
    backoff, clock = backoff_of()
    for _ in range(5):
        fails_at_once(backoff, clock)
    backoff.answered("getHealth")
    assert fails_at_once(backoff, clock) >= 4.0
    backoff.answered("getSlot")
    assert backoff.wait_s > 0, "what has begun is kept"
    assert fails_at_once(backoff, clock) <= 0.5


def test_a_clock_that_is_set_back_does_not_make_a_backoff_longer():
    backoff, clock = backoff_of()
    fails_at_once(backoff, clock, 2.0)
    clock.now = -3600 * SECOND
    assert backoff.wait_s == 2.0
    clock.now += 2 * SECOND
    assert backoff.wait_s == 0


def test_delays_stay_under_a_ceiling_that_doubles():
    policy, rng = RetryPolicy(retries=200, first_s=0.1, ceiling_s=1.0), random.Random(1)
    for attempt in range(1, 201):
        ceiling = min(1.0, 0.1 * 2 ** (attempt - 1))
        delays = [policy.delay_s(attempt, OWN, rng) for _ in range(50)]
        assert all(delay is not None and 0 <= delay <= ceiling for delay in delays)
        assert len(set(delays)) > 40


def test_retries_run_out():
    policy, rng = RetryPolicy(retries=2), random.Random(1)
    assert policy.delay_s(2, OWN, rng) is not None
    assert policy.delay_s(3, OWN, rng) is None
    assert RetryPolicy(retries=0).delay_s(1, OWN, rng) is None


def test_an_endpoints_own_wait_comes_before_the_jitter_or_is_the_callers_to_spend():
    policy, rng = RetryPolicy(retries=5, first_s=0.1, ceiling_s=2.0), random.Random(1)
    delay = policy.delay_s(1, RateLimitedError("http://127.0.0.1:1", 1.5), rng)
    assert delay is not None
    assert 1.5 <= delay <= 1.6
    assert policy.delay_s(1, RateLimitedError("http://127.0.0.1:1", 2.5), rng) is None
    assert policy.delay_s(1, RateLimitedError("http://127.0.0.1:1"), rng) is not None


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"retries": -1}, "retries"),
        ({"first_s": -0.1}, "first_s"),
        ({"first_s": 3.0, "ceiling_s": 2.0}, "first_s"),
        ({"ceiling_s": float("inf")}, "first_s"),
    ],
)
def test_a_retry_policy_that_cannot_be_kept_is_refused(settings, field):
    with pytest.raises(ConfigError, match=field):
        RetryPolicy(**settings)
