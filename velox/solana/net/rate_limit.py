"""Rate limits, waits after a failure, and retries."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from velox.errors import ConfigError, RateLimitedError

__all__ = ["Backoff", "RetryPolicy", "SteadyClock", "TokenBucket"]


class TokenBucket:
    """A rate limit in whole nanoseconds: `burst` tokens at once, then one each ``1 / rate_per_s``.

    It stores one moment instead of a fraction of a token, as the generic cell rate algorithm (GCRA)
    of ATM does. So it does not drift. It never sleeps. Any thread may use it.

    Parameters
    ----------
    rate_per_s : float
        Tokens a second.
    burst : int
        Tokens that a full bucket holds, at least 1.
    clock : callable, optional
        Monotonic nanoseconds. Tokens keep coming if the clock jumps back.

    Raises
    ------
    ConfigError
        `rate_per_s` is not from 1e-6 to 1e9, or `burst` is under 1.

    Examples
    --------
    >>> now = 0
    >>> bucket = TokenBucket(2.0, burst=1, clock=lambda: now)
    >>> bucket.try_take(), bucket.try_take(), bucket.ready_at_ns
    (True, False, 500000000)
    """

    def __init__(
        self, rate_per_s: float, burst: int = 1, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        if not 1e-6 <= rate_per_s <= 1e9:
            raise ConfigError(f"rate_per_s: must be 1e-6 to 1e9, not {rate_per_s}")
        if burst < 1:
            raise ConfigError(f"burst: must be at least 1, not {burst}")
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._clock = clock
        self._period_ns = max(1, round(1e9 / rate_per_s))
        self._slack_ns = (burst - 1) * self._period_ns
        self._lock = threading.Lock()
        self._seen_ns = clock()
        self._full_ns = self._seen_ns  # when the bucket is, or was, full

    def __repr__(self) -> str:
        return f"TokenBucket(rate_per_s={self.rate_per_s:g}, burst={self.burst})"

    def _now(self) -> int:
        now = self._clock()
        if now < self._seen_ns:
            self._full_ns -= self._seen_ns - now  # the clock jumped back: move the debt with it
        self._seen_ns = now
        return now

    def try_take(self) -> bool:
        """Take a token; return whether there was one."""
        with self._lock:
            now = self._now()
            if now < self._full_ns - self._slack_ns:
                return False
            self._full_ns = max(self._full_ns, now) + self._period_ns
            return True

    @property
    def ready_at_ns(self) -> int:
        """The time, by the clock, from which `try_take` succeeds. It may be in the past."""
        with self._lock:
            self._now()
            return self._full_ns - self._slack_ns

    @property
    def wait_s(self) -> float:
        """Seconds until `try_take` succeeds; 0 if it succeeds now."""
        with self._lock:
            now = self._now()
            return max(0, self._full_ns - self._slack_ns - now) / 1e9


class SteadyClock:
    """Nanoseconds since its construction, by a clock that may jump back.

    A jump back counts as no time.

    Parameters
    ----------
    clock : callable
        Nanoseconds.

    Notes
    -----
    Thread-safety: one thread.

    Examples
    --------
    >>> times = iter([100, 130, 7, 12])
    >>> steady = SteadyClock(lambda: next(times))
    >>> steady(), steady(), steady()
    (30, 30, 35)
    """

    __slots__ = ("_clock", "_passed", "_seen")

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._seen = clock()
        self._passed = 0

    def __call__(self) -> int:
        """Return nanoseconds since construction."""
        now = self._clock()
        self._passed += max(0, now - self._seen)
        self._seen = now
        return self._passed


def _doubled_s(first_s: float, times: int, ceiling_s: float) -> float:
    return min(ceiling_s, first_s * 2.0 ** min(times, 64))


class Backoff:
    """Computes how long to wait after failures of an endpoint: one wait for all methods.

    After the n-th failure of a method in a row, the wait is drawn evenly from the upper half of
    ``first_s * 2**(n - 1)``, at most `ceiling_s`. If the endpoint asks for a longer wait, that one
    counts. A success resets only the failures of its own method: an endpoint that answers questions
    may still have no room for transactions. Any thread may use it.

    Parameters
    ----------
    clock : callable
        Nanoseconds. A jump back counts as no time.
    rng : random.Random, optional
        The source of jitter.
    first_s, ceiling_s : float
        Seconds.

    Examples
    --------
    >>> now = 0
    >>> backoff = Backoff(clock=lambda: now)
    >>> backoff.failed("getSlot", asked_s=2.5)
    >>> now += 2 * 10**9
    >>> backoff.wait_s
    0.5
    """

    def __init__(
        self,
        clock: Callable[[], int] = time.monotonic_ns,
        rng: random.Random | None = None,
        *,
        first_s: float = 0.5,
        ceiling_s: float = 8.0,
    ) -> None:
        self._clock = SteadyClock(clock)
        self._rng = rng or random.Random()
        self._first_s = first_s
        self._ceiling_s = ceiling_s
        self._lock = threading.Lock()
        self._until_ns = 0
        self._failures: dict[str, int] = {}

    @property
    def wait_s(self) -> float:
        """Seconds until the endpoint may be asked; 0 if it may be asked now."""
        with self._lock:
            return max(0, self._until_ns - self._clock()) / 1e9

    def failed(self, method: str, asked_s: float | None = None) -> None:
        """Record a failure of `method`, and wait; a longer wait in progress stays."""
        with self._lock:
            failures = self._failures.get(method, 0)
            self._failures[method] = failures + 1
            span_s = _doubled_s(self._first_s, failures, self._ceiling_s)
            wait_s = max(self._rng.uniform(span_s / 2, span_s), asked_s or 0.0)
            self._until_ns = max(self._until_ns, self._clock() + round(wait_s * 1e9))

    def answered(self, method: str) -> None:
        """Forget the failures of `method`; a wait in progress stays."""
        with self._lock:
            self._failures.pop(method, None)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and after what delay an idempotent call is retried.

    The delay before the n-th retry is drawn evenly from 0 to ``first_s * 2**(n - 1)``, at most
    `ceiling_s`. The jitter keeps clients that failed together from retrying together.

    Attributes
    ----------
    retries : int
        How many calls may follow the first, 0 or more.
    first_s, ceiling_s : float
        Seconds.
    """

    retries: int = 3
    first_s: float = 0.1
    ceiling_s: float = 2.0

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ConfigError(f"retries: must be at least 0, not {self.retries}")
        if not 0 <= self.first_s <= self.ceiling_s < float("inf"):
            raise ConfigError(
                f"first_s: must be 0 to ceiling_s ({self.ceiling_s}), not {self.first_s}"
            )

    def delay_s(self, attempt: int, error: Exception, rng: random.Random) -> float | None:
        """Return how long to wait before the next try.

        Parameters
        ----------
        attempt : int
            Tries made so far, at least 1.
        error : Exception
            The error of the last try.
        rng : random.Random
            The source of jitter.

        Returns
        -------
        float or None
            Seconds; None to give up. That happens if no retries are left, or if the endpoint asks
            for a wait above `ceiling_s`.
        """
        if attempt > self.retries:
            return None
        jitter = rng.uniform(0, _doubled_s(self.first_s, attempt - 1, self.ceiling_s))
        if isinstance(error, RateLimitedError) and error.retry_after_s is not None:
            if error.retry_after_s > self.ceiling_s:
                return None
            return error.retry_after_s + jitter
        return jitter
