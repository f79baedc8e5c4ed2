"""How often an endpoint may be asked, and when to ask again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from velox.errors import ConfigError, RateLimitedError

__all__ = ["RetryPolicy", "SteadyClock", "TokenBucket"]


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

    def hold(self, seconds: float) -> None:
        """Give no token for so long, as an endpoint asked; a longer wait stays."""
        with self._lock:
            until = self._now() + round(seconds * 1e9)
            self._full_ns = max(self._full_ns, until + self._slack_ns)


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
        jitter = rng.uniform(0, min(self.ceiling_s, self.first_s * 2.0 ** min(attempt - 1, 64)))
        if isinstance(error, RateLimitedError) and error.retry_after_s is not None:
            if error.retry_after_s > self.ceiling_s:
                return None
            return error.retry_after_s + jitter
        return jitter
