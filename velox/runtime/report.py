"""The report of a run: its ledger, its latencies, where it ran, and its warnings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from velox.core.histogram import LatencyHistogram
from velox.runtime.huge_pages import HugePages
from velox.runtime.ledger import Ledger
from velox.runtime.placement import Plan
from velox.runtime.report_text import latency_table, row, seals, verification
from velox.runtime.verify import Verification

__all__ = ["Report", "Statistics", "figures"]


def figures(histogram: LatencyHistogram) -> dict[str, int | None]:
    """Return the histogram's figures, ready for JSON. Each is None if it is empty, since 0 is a
    time."""
    found = histogram.to_dict()
    return {
        name: value if found["count"] or name == "count" else None for name, value in found.items()
    }


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
        Faults of the setup that the user can correct.
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
        if self.timeouts:
            lines.append(row("book busy", f"{self.timeouts:,} records were tried again"))
        lines += ["", *latency_table(self.latency)]
        if beside:
            lines += ["", *beside]
        if self.verification is not None:
            lines += ["", *verification(self.verification)]
        return lines

    @property
    def throughput_per_s(self) -> float:
        """float: Records delivered a second."""
        return self.ledger.delivered_transactions / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def passed(self) -> bool:
        """bool: Whether the ledger balances and the verification, if there was one, found no
        mismatch."""
        equations = self.ledger.equations(forwarding=self.forwarding)
        mismatched = self.verification.mismatched if self.verification else 0
        return all(each.holds for each in equations) and not mismatched

    def to_dict(self) -> dict[str, Any]:
        """Return the report, ready for JSON."""
        result: dict[str, Any] = {
            "ledger": self.ledger.to_dict(),
            "latency_ns": {name: figures(each) for name, each in self.latency.items()},
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
            "warnings": list(self.warnings),
        }
        if self.verification is not None:
            result["verify"] = {
                "checked": self.verification.checked,
                "mismatched": self.verification.mismatched,
                "first_mismatch": self.verification.first_mismatch,
            }
        return result
