"""The report of a run: its ledger, its latencies, where it ran, and its warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from velox.core.histogram import LatencyHistogram
from velox.core.order_book import Books
from velox.core.records import from_fixed
from velox.runtime.feedback import Feedback, StrategySource
from velox.runtime.huge_pages import HugePages
from velox.runtime.ledger import Ledger
from velox.runtime.order_report import OrderReport
from velox.runtime.placement import Plan
from velox.runtime.report_text import (
    MARKETS_SHOWN,
    latency_table,
    more_markets,
    row,
    seals,
    verification,
)
from velox.runtime.verify import Verification

__all__ = ["MarketReport", "Report", "Statistics", "markets_of"]


class Statistics(NamedTuple):
    """The counters of a pipeline at one moment; each is exact, but they are read one by one.

    Attributes
    ----------
    elapsed_s : float
        Seconds since the start.
    generated, pushed, dropped : int
        Records at the ingress.
    applied, rejected, emitted : int
        Records at the book.
    sealed_bundles, delivered_bundles, delivered_transactions : int
    """

    elapsed_s: float
    generated: int
    pushed: int
    dropped: int
    applied: int
    rejected: int
    emitted: int
    sealed_bundles: int
    delivered_bundles: int
    delivered_transactions: int


class MarketReport(NamedTuple):
    """One market of a run: what its prices mean, and how often its book crossed.

    Attributes
    ----------
    market : int
    name : str
    price_decimals : int
        Decimals of a price, 0 to 18.
    tick_size : int
        In units of ten to the minus `price_decimals`.
    lot_size : decimal.Decimal
        What one unit of size is worth.
    crossed : int
        Records that set or added a level at or through the other side's best.
    uncrossed : int
        Levels that were removed because a newer one crossed them.
    matched : int
        Lots traded under ``on_cross="match"``.
    """

    market: int
    name: str
    price_decimals: int
    tick_size: int
    lot_size: Decimal
    crossed: int
    uncrossed: int
    matched: int

    def __str__(self) -> str:
        tick = f"{from_fixed(self.tick_size, self.price_decimals):f}"
        text = (
            f"{self.name}: {self.price_decimals} price decimals, tick {tick}, "
            f"lot {self.lot_size:f}; {self.crossed:,} crossings"
        )
        if self.uncrossed:
            text += f", {self.uncrossed:,} crossed levels removed"
        return f"{text}, {self.matched:,} lots matched" if self.matched else text

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON; the lot is decimal text."""
        return {**self._asdict(), "lot_size": f"{self.lot_size:f}"}


def markets_of(books: Books) -> tuple[MarketReport, ...]:
    """Return the markets of some books, in the order of their ids.

    Thread-safe: the counters of a book may be read while it is written.
    """
    found = []
    for book in books.values():
        counters = book.statistics()
        found.append(
            MarketReport(
                market=book.market,
                name=book.name,
                price_decimals=book.price_decimals,
                tick_size=book.tick_size,
                lot_size=book.instrument.lot_size,
                crossed=counters.crossed,
                uncrossed=counters.uncrossed,
                matched=counters.matched,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a run.

    Attributes
    ----------
    ledger : Ledger
    latency : dict of str to LatencyHistogram
        In ns; the keys are ``late``, ``transit``, ``hold``, ``delivery``, ``total``.
    elapsed_s : float
        From the start to the end of the last stage, on the pipeline's clock.
    plan : Plan
        Which threads ran which stages, on which CPUs.
    clock : dict
        ``source``, ``reason`` and ``resolution_ns``.
    machine : str
    huge_pages : HugePages
        How many huge pages the rings and books asked for and got.
    late_count : int
        Records pushed more than 1 us after they were due.
    full : dict of str to int
        How often each ring's producer found less room than it needed.
    timeouts : int
        How often a shared book was too busy, and a record was tried again.
    verification : Verification or None
    forwarding : bool
        Whether the strategy was the default, which passes on what was applied.
    warnings : tuple of str
        What a person can act on.
    markets : tuple of MarketReport
        In the order of their ids.
    strategy : StrategySource or None
        What the strategy was; None for the default.
    feedback : Feedback or None
        The reports and timers of a strategy that takes them.
    orders : OrderReport or None
        The strategy's orders and its account, with a risk gate.
    """

    ledger: Ledger
    latency: dict[str, LatencyHistogram]
    elapsed_s: float
    plan: Plan
    clock: dict[str, Any]
    machine: str
    huge_pages: HugePages
    late_count: int = 0
    full: dict[str, int] = field(default_factory=dict)
    timeouts: int = 0
    verification: Verification | None = None
    forwarding: bool = True
    warnings: tuple[str, ...] = ()
    markets: tuple[MarketReport, ...] = ()
    strategy: StrategySource | None = None
    feedback: Feedback | None = None
    orders: OrderReport | None = None

    def __str__(self) -> str:
        return "\n".join([*self.lines(), *(f"warning: {each}" for each in self.warnings)]).strip()

    def lines(self, beside: Sequence[str] = ()) -> list[str]:
        """Return what a terminal shows: the ledger, the throughput, the latencies, the checks.

        Parameters
        ----------
        beside : sequence of str
            Lines to put below the latencies, such as the host's own hiccups.

        Returns
        -------
        list of str
            The lines, without the warnings.
        """
        ledger = self.ledger
        late = f"{self.late_count:,} of {ledger.pushed:,} pushed over 1 µs after they were due"
        full = ", ".join(f"{name} {count:,}" for name, count in self.full.items())
        lines = [
            "",
            *ledger.format(forwarding=self.forwarding).splitlines(),
            "",
            row("throughput", f"{self.throughput_per_s:,.0f}/s over {self.elapsed_s:.3f} s"),
            row("seals", seals(ledger)),
            row("late", late),
            row("ring full", full),
        ]
        for number, market in enumerate(self.markets[:MARKETS_SHOWN]):
            lines.append(row("" if number else "market", str(market)))
        lines += more_markets(len(self.markets))
        if self.strategy is not None:
            lines.append(row("strategy", str(self.strategy)))
        lines += self.order_lines()
        if self.timeouts:
            lines.append(row("book busy", f"{self.timeouts:,} records were tried again"))
        lines += ["", *latency_table(self.latency)]
        if beside:
            lines += ["", *beside]
        if self.verification is not None:
            lines += ["", *verification(self.verification)]
        return lines

    def order_lines(self) -> list[str]:
        """Return what the strategy heard of its orders, and its account; empty if it heard none."""
        lines = []
        if self.feedback is not None:
            lines.append(row("reports", str(self.feedback)))
        if self.orders is not None:
            lines.append(row("orders", str(self.orders)))
            lines += [row("", each) for each in self.orders.lines()]
        return lines

    @property
    def throughput_per_s(self) -> float:
        """float: Records delivered a second."""
        return self.ledger.delivered_transactions / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def passed(self) -> bool:
        """bool: Whether ledger and reports balance, and no check of a verification failed."""
        equations = self.ledger.equations(forwarding=self.forwarding)
        mismatched = self.verification.mismatched if self.verification else 0
        heard = self.feedback is None or self.feedback.balanced
        ordered = self.orders is None or self.orders.balanced
        return all(each.holds for each in equations) and heard and ordered and not mismatched

    def to_dict(self) -> dict[str, Any]:
        """Return the report, ready for JSON."""
        result: dict[str, Any] = {
            "ledger": self.ledger.to_dict(),
            "latency_ns": {name: each.to_dict() for name, each in self.latency.items()},
            "throughput_per_s": self.throughput_per_s,
            "elapsed_s": self.elapsed_s,
            "placement": self.plan.placement,
            "cpus": [each.cpu for each in self.plan.runners],
            "plan": self.plan.to_dict(),
            "clock": self.clock,
            "machine": self.machine,
            "huge_pages": self.huge_pages.to_dict(),
            "late_count": self.late_count,
            "full": self.full,
            "timeouts": self.timeouts,
            "markets": [each.to_dict() for each in self.markets],
            "strategy": self.strategy.to_dict() if self.strategy else None,
            "warnings": list(self.warnings),
        }
        if self.feedback is not None:
            result["feedback"] = self.feedback.to_dict()
        if self.orders is not None:
            result["orders"] = self.orders.to_dict()
        if self.verification is not None:
            result["verify"] = {
                "checked": self.verification.checked,
                "mismatched": self.verification.mismatched,
                "first_mismatch": self.verification.first_mismatch,
            }
        return result
