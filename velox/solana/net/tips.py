"""How much a bundle tips, and which account receives it."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any, Final, Generic, Literal, Protocol, TypeVar, get_args

from solders.pubkey import Pubkey

from velox.errors import ConfigError, SolanaError
from velox.solana.net.answer import Answer
from velox.solana.net.endpoint import Endpoint
from velox.solana.net.transport import HttpTransport, TransportFactory
from velox.solana.tx.limits import LAMPORTS_PER_SOL, MIN_TIP_LAMPORTS

__all__ = [
    "FixedTip",
    "FloorPercentileTip",
    "Percentile",
    "TipAccounts",
    "TipFloor",
    "TipFloorClient",
    "TipPolicy",
]

#: The most that a published tip can be. A larger figure is taken for an error.
_MAX_TIP_SOL: Final = 1_000

#: A percentile of the landed tips, or the moving average of their median.
Percentile = Literal[25, 50, 75, 95, 99, "ema50"]

_T = TypeVar("_T")


class TipPolicy(Protocol):
    """Chooses the tip of the next bundle."""

    def lamports(self, now: int) -> int:
        """Return the tip.

        Parameters
        ----------
        now : int
            Monotonic nanoseconds.

        Returns
        -------
        int
            Lamports.
        """
        ...


class FixedTip:
    """The same tip for every bundle.

    Parameters
    ----------
    lamports : int
        The tip.
    maximum : int, optional
        The largest tip allowed.

    Raises
    ------
    ConfigError
        The tip is under `MIN_TIP_LAMPORTS` or above `maximum`.
    """

    def __init__(self, lamports: int, maximum: int | None = None) -> None:
        if lamports < MIN_TIP_LAMPORTS or (maximum is not None and lamports > maximum):
            limit = "more" if maximum is None else maximum
            raise ConfigError(f"lamports: must be {MIN_TIP_LAMPORTS} to {limit}, not {lamports}")
        self._lamports = lamports

    def __repr__(self) -> str:
        return f"FixedTip({self._lamports})"

    def lamports(self, now: int) -> int:
        """Return the tip, in lamports."""
        return self._lamports


@dataclass(frozen=True, slots=True)
class TipFloor:
    """Tips of bundles that landed recently, in lamports, each rounded up.

    Attributes
    ----------
    p25, p50, p75, p95, p99 : int
        Percentiles.
    ema50 : int
        The exponential moving average of the median.
    """

    p25: int
    p50: int
    p75: int
    p95: int
    p99: int
    ema50: int

    def at(self, percentile: Percentile) -> int:
        """Return the tip at this percentile."""
        value: int = getattr(self, percentile if percentile == "ema50" else f"p{percentile}")
        return value


class TipFloorClient:
    """A client of the page where Jito publishes landed tips. Any thread may use it.

    Parameters
    ----------
    url : str
        The whole URL, which ends in ``/api/v1/bundles/tip_floor``.
    timeout_s : float
        Seconds for one exchange.
    allow_mainnet : bool
        Whether it may be on another machine.
    allow_plaintext : bool
        Whether another machine may be reached by http.
    transport : callable
        Makes the `velox.solana.net.transport.Transport` to it.

    Raises
    ------
    EndpointRefusedError
        See `velox.solana.net.address.require_loopback`.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 2.0,
        allow_mainnet: bool = False,
        allow_plaintext: bool = False,
        transport: TransportFactory = HttpTransport,
    ) -> None:
        self._endpoint = Endpoint(
            url,
            timeout_s=timeout_s,
            allow_mainnet=allow_mainnet,
            allow_plaintext=allow_plaintext,
            max_response_bytes=1 << 16,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"TipFloorClient({self._endpoint.label!r})"

    def close(self) -> None:
        """Close the connections."""
        self._endpoint.close()

    def fetch(self) -> TipFloor:
        """Fetch the tips.

        Raises
        ------
        RateLimitedError, TransportError
            There is no usable answer.
        """
        answer = self._endpoint.get("tip_floor")
        rows = answer.items(16)
        if not rows:
            raise answer.invalid("is empty")
        latest = rows[0]
        landed = [
            _lamports(latest[f"landed_tips_{name}_percentile"])
            for name in ("25th", "50th", "75th", "95th", "99th")
        ]
        if landed != sorted(landed):
            raise latest.invalid("has percentiles out of order")
        p25, p50, p75, p95, p99 = landed
        ema50 = _lamports(latest["ema_landed_tips_50th_percentile"])
        return TipFloor(p25, p50, p75, p95, p99, ema50)


class _Cached(Generic[_T]):
    """A value that is fetched again when it is too old. It stays if fetching fails."""

    def __init__(
        self,
        fetch: Callable[[], _T],
        max_age_s: float,
        value: _T | None = None,
        fetched_ns: int | None = None,
    ) -> None:
        if not 0 < max_age_s < float("inf"):
            raise ConfigError(f"max_age_s: must be positive and finite, not {max_age_s}")
        self._fetch = fetch
        self._max_age_ns = round(max_age_s * 1e9)
        self._lock = threading.Lock()
        self._asked_ns = fetched_ns
        self.value = value
        self.failures = 0
        self.last_error: SolanaError | None = None

    def get(self, now: int) -> _T | None:
        with self._lock:
            # A failed fetch is not repeated sooner either. A clock that jumps back counts as age.
            if self._asked_ns is None or not 0 <= now - self._asked_ns < self._max_age_ns:
                self._asked_ns = now
                try:
                    self.value, self.last_error = self._fetch(), None
                except SolanaError as error:
                    self.failures += 1
                    self.last_error = error
            return self.value

    def expire(self) -> None:
        with self._lock:
            self._asked_ns = None


class FloorPercentileTip:
    """A tip at a percentile of the landed tips, between two bounds. Any thread may use it.

    Parameters
    ----------
    fetch : callable
        Returns a `TipFloor`, as `TipFloorClient.fetch` does. `lamports` calls it at most once in
        `max_age_s`. If it fails, the last floor counts; before the first floor, `minimum` does.
    percentile : {25, 50, 75, 95, 99, "ema50"}
        Which value of the floor.
    maximum : int
        The largest tip, in lamports.
    minimum : int
        The smallest tip, in lamports.
    max_age_s : float
        Seconds for which a floor counts as fresh.

    Attributes
    ----------
    failures : int
        How often `fetch` failed.
    last_error : SolanaError or None
        The error of the last fetch; None if it succeeded.

    Raises
    ------
    ConfigError
        The percentile is not one of those, or the bounds are out of order.
    """

    def __init__(
        self,
        fetch: Callable[[], TipFloor],
        percentile: Percentile,
        maximum: int,
        minimum: int = MIN_TIP_LAMPORTS,
        *,
        max_age_s: float = 10.0,
    ) -> None:
        if percentile not in get_args(Percentile):
            choices = ", ".join(map(str, get_args(Percentile)))
            raise ConfigError(f"percentile: must be one of {choices}, not {percentile!r}")
        if not MIN_TIP_LAMPORTS <= minimum <= maximum:
            raise ConfigError(
                f"minimum: must be {MIN_TIP_LAMPORTS} to maximum ({maximum}), not {minimum}"
            )
        self._floor: _Cached[TipFloor] = _Cached(fetch, max_age_s)
        self._percentile = percentile
        self._maximum = maximum
        self._minimum = minimum

    def __repr__(self) -> str:
        return f"FloorPercentileTip({self._percentile!r}, {self._minimum} to {self._maximum})"

    @property
    def failures(self) -> int:
        """How often `fetch` failed."""
        return self._floor.failures

    @property
    def last_error(self) -> SolanaError | None:
        """The error of the last fetch; None if it succeeded."""
        return self._floor.last_error

    def lamports(self, now: int) -> int:
        """Return the tip, in lamports; `now` in monotonic nanoseconds."""
        floor = self._floor.get(now)
        wanted = self._minimum if floor is None else floor.at(self._percentile)
        return min(max(wanted, self._minimum), self._maximum)


class TipAccounts:
    """The accounts that receive tips. One is drawn at random, so that bundles do not contend.

    They are fetched at once, and again when they are too old. If that fails, the old ones stay in
    use. Any thread may use it.

    Parameters
    ----------
    fetch : callable
        Returns the accounts, as `BlockEngineClient.get_tip_accounts` does.
    rng : random.Random, optional
        The source of the choice.
    clock : callable
        Monotonic nanoseconds.
    max_age_s : float
        Seconds after which they are fetched again.

    Attributes
    ----------
    failures : int
        How often a later fetch failed.
    last_error : SolanaError or None
        The error of the last fetch; None if it succeeded.

    Raises
    ------
    RpcError, RateLimitedError, TransportError
        The first fetch failed.
    """

    def __init__(
        self,
        fetch: Callable[[], Sequence[Pubkey]],
        *,
        rng: random.Random | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        max_age_s: float = 600.0,
    ) -> None:
        self._rng = rng or random.Random()
        self._clock = clock
        self._cached = _Cached(fetch, max_age_s, fetch(), clock())

    def __repr__(self) -> str:
        return f"TipAccounts({len(self.accounts)})"

    @property
    def failures(self) -> int:
        """How often a later fetch failed."""
        return self._cached.failures

    @property
    def last_error(self) -> SolanaError | None:
        """The error of the last fetch; None if it succeeded."""
        return self._cached.last_error

    @property
    def accounts(self) -> Sequence[Pubkey]:
        """The accounts in use. Reading them fetches nothing."""
        assert self._cached.value is not None  # the constructor fetched it
        return self._cached.value

    def choose(self) -> Pubkey:
        """Return a random tip account."""
        self._cached.get(self._clock())
        return self._rng.choice(self.accounts)

    def mark_stale(self) -> None:
        """Fetch the accounts again at the next choice: a bundle was refused as having no tip."""
        self._cached.expire()


def _lamports(answer: Answer) -> int:
    """Return an amount of SOL as lamports, rounded up."""
    value: Any = answer.value
    if type(value) not in (int, Decimal) or not 0 <= value <= _MAX_TIP_SOL:
        raise answer.invalid(f"must be 0 to {_MAX_TIP_SOL} SOL")
    return int((Decimal(value) * LAMPORTS_PER_SOL).to_integral_value(ROUND_CEILING))
