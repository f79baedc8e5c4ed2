"""Injected faults: which, when, and the record of those that struck."""

from __future__ import annotations

import hashlib
import math
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from velox.errors import LocalnetError

__all__ = ["Fault", "FaultInjector", "FaultPlan", "Lie", "Strike"]


class Fault(StrEnum):
    """The faults that a `LocalCluster` can inject.

    ``docs/reference/local-cluster.md`` has their effects.
    """

    RESPONSE_LOST = "response_lost"
    RATE_LIMITED_NULL_ID = "rate_limited_null_id"
    ERROR_UNDER_200 = "error_under_200"
    INVALID_YET_LANDED = "invalid_yet_landed"
    FIRST_LANDS_ALONE = "first_lands_alone"
    SKIPPED_SLOTS = "skipped_slots"
    EXPIRY_DURING_RETRY = "expiry_during_retry"
    STALE_TIP_ACCOUNTS = "stale_tip_accounts"
    EMPTY_VALUE = "empty_value"
    DELAYED = "delayed"
    DROPPED = "dropped"
    LYING = "lying"
    NOTIFICATION_LOST = "notification_lost"
    RETURN_DATA_MISSING = "return_data_missing"
    FORKED = "forked"


class Lie(StrEnum):
    """The kind of wrong answer of a `Fault.LYING`."""

    OTHER_VALUE = "other_value"  # a well-formed answer about something else
    OTHER_ID = "other_id"  # the answer to another request
    TRUNCATED = "truncated"  # JSON that stops in the middle
    HTML = "html"  # a proxy's page, under HTTP 200


SENDS = frozenset({"sendTransaction", "sendBundle"})
# The faults of answers, and the methods that they strike without a `scope`.
SCOPES: Mapping[Fault, frozenset[str]] = MappingProxyType(
    {
        Fault.RESPONSE_LOST: SENDS,
        Fault.RATE_LIMITED_NULL_ID: SENDS,
        Fault.ERROR_UNDER_200: SENDS,
        Fault.EXPIRY_DURING_RETRY: SENDS,
        Fault.LYING: SENDS,
    }
)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


_FITS: Mapping[str, Callable[[Fault, Any], bool]] = MappingProxyType(
    {
        "rates": lambda fault, rate: isinstance(rate, int | float) and 0.0 <= rate <= 1.0,
        "calls": lambda fault, numbers: all(_whole(number, 0) for number in numbers),
        "scope": lambda fault, methods: fault in SCOPES and not isinstance(methods, str),
    }
)


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Which faults strike, and when: a pure function of the seed.

    Each fault counts its own opportunities from 0; ``docs/reference/local-cluster.md`` lists them.
    It strikes at those in `calls`, and at any other with the probability in `rates`. Whether it
    strikes at opportunity n depends on the seed, the fault and n alone: the same requests in the
    same order meet the same faults.

    Parameters
    ----------
    seed : int
    rates : mapping of Fault to float, optional
        Probability of each fault at each opportunity, 0 to 1.
    calls : mapping of Fault to a collection of int, optional
        Opportunities at which it always strikes.
    scope : mapping of Fault to a collection of str, optional
        For the faults of answers: the JSON-RPC methods that they strike, instead of
        ``sendTransaction`` and ``sendBundle``.
    delay_slots, skip_slots, fork_blocks : int
        The longest delay, the longest gap between slots, and the longest life of a fork in blocks.
        A fork lives 31 blocks at most, since a finalized block stays.
    lies : tuple of Lie
        What `Fault.LYING` chooses from.

    Raises
    ------
    LocalnetError
        A fault, rate, opportunity or scope is out of range; the message names it.
    """

    seed: int = 0
    rates: Mapping[Fault, float] = field(default_factory=dict)
    calls: Mapping[Fault, Collection[int]] = field(default_factory=dict)
    scope: Mapping[Fault, Collection[str]] = field(default_factory=dict)
    delay_slots: int = 8
    skip_slots: int = 4
    fork_blocks: int = 31
    lies: tuple[Lie, ...] = tuple(Lie)

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int):
            raise LocalnetError(f"seed = {self.seed!r}: must be an integer")
        for name in ("rates", "calls", "scope"):
            given = getattr(self, name)
            for fault, value in given.items():
                if not isinstance(fault, Fault):
                    raise LocalnetError(f"{name}: must have a Fault as key, not {fault!r}")
                if not _FITS[name](fault, value):
                    raise LocalnetError(f"{name}: {fault} = {value!r}: out of range")
            object.__setattr__(self, name, MappingProxyType(dict(given)))
        for name in ("delay_slots", "skip_slots"):
            if not _whole(getattr(self, name), 1):
                raise LocalnetError(f"{name} = {getattr(self, name)!r}: must be 1 or more")
        if not _whole(self.fork_blocks, 1) or self.fork_blocks > 31:
            raise LocalnetError(f"fork_blocks = {self.fork_blocks!r}: must be 1 to 31")
        if not self.lies or not all(isinstance(lie, Lie) for lie in self.lies):
            raise LocalnetError(f"lies = {self.lies!r}: must be one or more Lies")

    def strikes(self, fault: Fault, number: int) -> bool:
        """Return whether `fault` strikes at its opportunity `number`."""
        if number in self.calls.get(fault, ()):
            return True
        rate = self.rates.get(fault, 0.0)
        return rate > 0.0 and self._draw(fault, number, "strikes") < math.ceil(rate * 2**64)

    def choose(self, fault: Fault, number: int, count: int) -> int:
        """Return 0 to `count` - 1, such as for the length of a delay."""
        return self._draw(fault, number, "chooses") % count

    def _draw(self, fault: Fault, number: int, purpose: str) -> int:
        """Return a uniform integer below 2**64."""
        text = f"{self.seed} {fault} {number} {purpose}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


@dataclass(frozen=True, slots=True)
class Strike:
    """One fault that struck.

    Attributes
    ----------
    fault : Fault
    number : int
        Its opportunity, counted from 0.
    where : str
        The method, signature, bundle id or slot that it struck.
    """

    fault: Fault
    number: int
    where: str


class FaultInjector:
    """Counts the opportunities of one cluster, and records what struck. Thread-safe."""

    def __init__(self, plan: FaultPlan | None) -> None:
        self.plan = FaultPlan() if plan is None else plan
        self.strikes: list[Strike] = []
        self._opportunities: Counter[Fault] = Counter()
        self._lock = threading.Lock()

    def meet(self, fault: Fault, where: Any) -> Strike | None:
        """Count one opportunity for `fault`; return the strike, if it strikes."""
        with self._lock:
            number = self._opportunities[fault]
            self._opportunities[fault] += 1
            if not self.plan.strikes(fault, number):
                return None
            strike = Strike(fault, number, str(where))
            self.strikes.append(strike)
            return strike

    def meet_answer(self, fault: Fault, method: str) -> Strike | None:
        """Count one opportunity for a fault of answers, if `method` is in its scope."""
        if method not in self.plan.scope.get(fault, SCOPES[fault]):
            return None
        return self.meet(fault, method)

    def choose(self, strike: Strike, count: int) -> int:
        return self.plan.choose(strike.fault, strike.number, count)
