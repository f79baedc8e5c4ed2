"""What a transaction's way through the pipeline takes, at the default rate, and what was lost.

Percentiles are tracked as they are: their spread is the host's, and a mean would hide it.
"""

import velox

RATE = 100_000
DURATION_S = 2.0


class Latency:
    version = "1"
    unit = "ns"
    timeout = 60.0
    param_names = ("latency", "percentile")
    params = (["late", "transit", "delivery"], [50.0, 99.0, 99.9])

    def setup_cache(self) -> dict[str, dict[float, int]]:
        report = velox.Pipeline(velox.PoissonIngress(rate=RATE, seed=1)).run(DURATION_S)
        assert report.ledger.balanced
        return {
            latency: {each: histogram.percentile(each) for each in self.params[1]}
            for latency, histogram in report.latency.items()
        }

    def track_percentile(
        self, measured: dict[str, dict[float, int]], latency: str, percentile: float
    ) -> int:
        return measured[latency][percentile]


class Loss:
    version = "1"
    unit = "transactions"

    def track_dropped(self) -> int:
        report = velox.Pipeline(velox.PoissonIngress(rate=RATE, seed=1)).run(DURATION_S)
        return report.ledger.dropped
