"""How often an endpoint may be asked, and when to ask again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from velox.errors import ConfigError, RateLimitedError

__all__ = ["Backoff", "RetryPolicy", "SteadyClock", "TokenBucket"]


class TokenBucket:
    """A rate limit in whole nanoseconds: `burst` at once, then one each ``1 / rate_per_s``.

    It keeps one moment instead of a fraction of a token (the cell rate algorithm of ATM), so it
    does not drift, and it never sleeps. Any thread may use it.

    Parameters
    ----------
    rate_per_s : float
        Tokens a second.
    burst : int
        Tokens that a full bucket holds, at least 1.
    clock : callable, optional
        Nanoseconds that only grow. One that jumps back does not stop the tokens.

    Raises
    ------
    ConfigError
        A rate that is not positive and finite, a burst under 1.

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
            raise ConfigError(f"rate_per_s: must be from 1e-6 to 1e9, not {rate_per_s}")
        if burst < 1:
            raise ConfigError(f"burst: must be at least 1, not {burst}")
        self.rate_per_s = rate_per_s
        self.burst = burst
        self._clock = clock
        self._period_ns = max(1, round(1e9 / rate_per_s))
        self._slack_ns = (burst - 1) * self._period_ns
        self._lock = threading.Lock()
        self._seen_ns = clock()
        self._full_ns = self._seen_ns  # the moment at which the bucket is, or was, full

    def __repr__(self) -> str:
        return f"TokenBucket(rate_per_s={self.rate_per_s:g}, burst={self.burst})"

    def _now(self) -> int:
        now = self._clock()
        if now < self._seen_ns:
            self._full_ns -= self._seen_ns - now  # the clock jumped: what is owed moves along
        self._seen_ns = now
        return now

    def try_take(self) -> bool:
        """Take a token if there is one."""
        with self._lock:
            now = self._now()
            if now < self._full_ns - self._slack_ns:
                return False
            self._full_ns = max(self._full_ns, now) + self._period_ns
            return True

    @property
    def ready_at_ns(self) -> int:
        """The moment, by the clock, from which `try_take` succeeds; it may be past."""
        with self._lock:
            self._now()
            return self._full_ns - self._slack_ns

    @property
    def wait_s(self) -> float:
        """Seconds until `try_take` succeeds; 0 if it would now."""
        with self._lock:
            now = self._now()
            return max(0, self._full_ns - self._slack_ns - now) / 1e9


class SteadyClock:
    """The time that has passed by a clock that may be set back: what it goes back does not count.

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
        """Return nanoseconds since it was made."""
        now = self._clock()
        self._passed += max(0, now - self._seen)
        self._seen = now
        return self._passed


def _doubled_s(first_s: float, times: int, ceiling_s: float) -> float:
    return min(ceiling_s, first_s * 2.0 ** min(times, 64))


class Backoff:
    """Until when an endpoint is to be left alone: one moment, for every question to it.

    After the n-th failure in a row of a method that is a wait drawn evenly from the upper half of
    ``first_s * 2**(n - 1)``, at most `ceiling_s`, or the one that the endpoint asks for, if that is
    longer. A success of the method begins anew; that of another does not, since an endpoint that
    answers questions may have no room for transactions all the same. Any thread may use it.

    Parameters
    ----------
    clock : callable
        Nanoseconds. One that is set back is taken to stand still for that moment.
    rng : random.Random, optional
        Where the jitter comes from.
    first_s, ceiling_s : float
        Seconds.

    Examples
    --------
    >>> now = 0
    >>> respite = Backoff(clock=lambda: now)
    >>> respite.failed("getSlot", asked_s=2.5)
    >>> now += 2 * 10**9
    >>> respite.wait_s
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
        """Seconds until it may be asked; 0 if it may be now."""
        with self._lock:
            return max(0, self._until_ns - self._clock()) / 1e9

    def failed(self, method: str, asked_s: float | None = None) -> None:
        """Leave it alone: it has no room, or gave no answer; a longer wait stays."""
        with self._lock:
            failures = self._failures.get(method, 0)
            self._failures[method] = failures + 1
            span_s = _doubled_s(self._first_s, failures, self._ceiling_s)
            wait_s = max(self._rng.uniform(span_s / 2, span_s), asked_s or 0.0)
            self._until_ns = max(self._until_ns, self._clock() + round(wait_s * 1e9))

    def answered(self, method: str) -> None:
        """Forget the method's failures; a wait that has begun stays."""
        with self._lock:
            self._failures.pop(method, None)


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and after what delay, an idempotent call is made again.

    The delay before the n-th retry is drawn evenly from 0 to ``first_s * 2**(n - 1)``, at most
    `ceiling_s`: clients that failed together do not come back together.

    Attributes
    ----------
    retries : int
        Calls after the first, 0 or more.
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
                f"first_s: must be from 0 to ceiling_s ({self.ceiling_s}), not {self.first_s}"
            )

    def delay_s(self, attempt: int, error: Exception, rng: random.Random) -> float | None:
        """Say how long to wait before calling again.

        Parameters
        ----------
        attempt : int
            Calls made so far, at least 1.
        error : Exception
            How the last one ended.
        rng : random.Random
            Where the jitter comes from.

        Returns
        -------
        float or None
            Seconds; None to give up: no retries are left, or the endpoint asked for a wait
            beyond `ceiling_s`, which is the caller's to spend.
        """
        if attempt > self.retries:
            return None
        jitter = rng.uniform(0, _doubled_s(self.first_s, attempt - 1, self.ceiling_s))
        if isinstance(error, RateLimitedError) and error.retry_after_s is not None:
            if error.retry_after_s > self.ceiling_s:
                return None
            return error.retry_after_s + jitter
        return jitter
