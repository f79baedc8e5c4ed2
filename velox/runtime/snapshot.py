"""One moment of a pipeline: everything that a screen or a monitor shows of it."""

from __future__ import annotations

from dataclasses import dataclass

from velox.core.histogram import LatencyHistogram
from velox.core.order_book import Books, BookTop
from velox.core.ring import BundleRing, ReportRing, TransactionRing
from velox.runtime.ledger import Ledger
from velox.runtime.report import MarketReport, markets_of
from velox.runtime.runner import Runner

__all__ = ["MarketState", "RingState", "RunnerState", "Snapshot", "markets_now"]


@dataclass(frozen=True, slots=True)
class RingState:
    """One ring.

    Attributes
    ----------
    name : str
        The stage that fills it.
    items, capacity : int
        How many items lie in it, of how many that it holds.
    full : int
        How often its producer has found less room than it needed.
    """

    name: str
    items: int
    capacity: int
    full: int

    @classmethod
    def of(cls, name: str, ring: TransactionRing | BundleRing | ReportRing) -> RingState:
        """Read a ring, also while both of its threads use it."""
        return cls(name, len(ring), ring.capacity, ring.statistics().full)


@dataclass(frozen=True, slots=True)
class RunnerState:
    """One pinned thread.

    Attributes
    ----------
    name : str
    cpu : int or None
    cycles, idle_cycles : int
        Duty cycles that moved something, and those that moved nothing.
    """

    name: str
    cpu: int | None
    cycles: int
    idle_cycles: int

    @classmethod
    def of(cls, runner: Runner) -> RunnerState:
        """Read a runner, also while it runs."""
        return cls(runner.name, runner.cpu, runner.cycles, runner.idle_cycles)


@dataclass(frozen=True, slots=True)
class MarketState:
    """One market.

    Attributes
    ----------
    report : MarketReport
        What its prices mean, and its counters.
    top : BookTop
        The best level of each side.
    """

    report: MarketReport
    top: BookTop


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What `velox.Pipeline.snapshot` returns: counters, rings, threads, latencies, books.

    Attributes
    ----------
    state : {"new", "running", "stopped"}
    elapsed_s : float
        Seconds since the start, on the pipeline's clock.
    ledger : Ledger
        What is on its way makes its counts differ until the pipeline has stopped.
    forwarding : bool
        Whether the strategy is the default.
    latency : dict of str to LatencyHistogram
        In ns, since the start.
    rings : tuple of RingState
    runners : tuple of RunnerState
    markets : tuple of MarketState
    late_count : int
        Records pushed more than 1 us after they were due.
    timeouts : int
        How often a shared book was too busy, so that a record was tried again.
    """

    state: str
    elapsed_s: float
    ledger: Ledger
    forwarding: bool
    latency: dict[str, LatencyHistogram]
    rings: tuple[RingState, ...]
    runners: tuple[RunnerState, ...]
    markets: tuple[MarketState, ...]
    late_count: int
    timeouts: int

    @property
    def faults(self) -> tuple[str, ...]:
        """tuple of str: The equations of the ledger that do not hold.

        Empty before the stop: what is on its way makes the counts differ.
        """
        if self.state != "stopped":
            return ()
        equations = self.ledger.equations(forwarding=self.forwarding)
        return tuple(str(each) for each in equations if not each.holds)


def markets_now(books: Books) -> tuple[MarketState, ...]:
    """Read every market, also while its book is written."""
    reports = markets_of(books)
    return tuple(MarketState(each, books[each.market].top()) for each in reports)
