"""What a transaction's way takes at the default rate, what was lost, and what the host took.

Percentiles are tracked as they are: their spread is the host's, and a mean would hide it. Look at
`Host` before you believe one of them.
"""

from __future__ import annotations

from benchmarks import measures

PERCENTILES = ("p50", "p99", "p99_9")


class Latency:
    version = "2"
    unit = "ns"
    timeout = 60.0
    param_names = ("latency", "percentile")
    params = (["late", "transit", "hold", "delivery", "total"], list(PERCENTILES))

    def setup_cache(self) -> dict[str, float]:
        return measures.transit()

    def track_percentile(self, measured: dict[str, float], latency: str, percentile: str) -> float:
        return measured[f"{latency}_{percentile}"]


class RoundTrip:
    """One transaction at a time to another CPU and back, over two rings."""

    version = "1"
    unit = "ns"
    param_names = ("percentile",)
    params = (["p50", "p99"],)

    def track_round_trip(self, percentile: str) -> float:
        return measures.round_trip()[percentile == "p99"]


class Loss:
    version = "1"
    unit = "transactions"

    def track_dropped(self) -> float:
        return measures.transit()["dropped"]


class Host:
    """The worst of the CPUs that this process may use."""

    version = "1"

    def setup(self) -> None:
        # Not at the top: asv also runs on commits that do not have it.
        from velox.runtime.hiccups import measure_hiccups  # noqa: PLC0415

        self.measure = measure_hiccups

    def track_time_taken_away(self) -> float:
        return 100 * max(each.taken_share for each in self.measure(duration=0.5))

    track_time_taken_away.unit = "%"  # type: ignore[attr-defined]

    def track_longest_gap(self) -> int:
        return max(each.gaps.max for each in self.measure(duration=0.5))

    track_longest_gap.unit = "ns"  # type: ignore[attr-defined]
