"""The families of metrics of one moment.

Names follow the rules of Prometheus ("Metric and label naming"): one prefix, base units, ``_total``
on counters. No label holds an id, a price or a key, so the number of series is known at the start.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector

from velox.config import PipelineConfig
from velox.core.histogram import LatencyHistogram
from velox.runtime.report_text import LATENCIES, MARKETS_SHOWN
from velox.runtime.snapshot import Snapshot

__all__ = ["CLASSIC_BOUNDS_NS", "Host", "families"]

#: The upper bounds of the classic buckets: powers of two from 100 ns, to 6.6 ms.
CLASSIC_BOUNDS_NS = tuple(100 << power for power in range(17))
# CPU time, memory and open files of this process; nothing where there is no /proc.
PROCESS = ProcessCollector(registry=None)


@dataclass(frozen=True, slots=True)
class Host:
    """What does not change during a run.

    Attributes
    ----------
    version : str
        Velox's.
    config : PipelineConfig
    started_s : float
        When the run began, in seconds since 1970.
    """

    version: str
    config: PipelineConfig
    started_s: float = field(default_factory=time.time)

    @property
    def config_hash(self) -> str:
        """str: The first 12 hexadecimal digits of the SHA-256 of the settings."""
        settings = {name: getattr(self.config, name) for name in PipelineConfig.settings()}
        text = json.dumps(settings, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def families(now: Snapshot, host: Host) -> Iterator[Metric]:
    """Return the metrics of one moment.

    Parameters
    ----------
    now : Snapshot
    host : Host

    Yields
    ------
    prometheus_client.Metric
        The latencies have classic buckets only; native ones are written by
        `velox.telemetry.metrics.protobuf`.
    """
    ledger = now.ledger
    yield _counter(
        "velox_transactions",
        "Records that have passed a stage.",
        "stage",
        {
            "ingress": ledger.pushed,
            "orderbook": ledger.applied,
            "strategy": ledger.passed,
            "bundle": ledger.sealed_transactions,
            "output": ledger.delivered_transactions,
        },
    )
    yield _count("velox_generated", "Records that the feed had to offer.", ledger.generated)
    yield _count("velox_dropped", "Records refused by a full ring.", ledger.dropped)
    yield _counter(
        "velox_rejected", "Records that the book refused, by reason.", "reason", ledger.rejected
    )
    yield _counter(
        "velox_blocked", "Emitted records that go no further, by reason.", "reason", ledger.blocked
    )
    yield _count("velox_emitted", "Records that the strategy emitted.", ledger.emitted)
    yield _counter("velox_bundles", "Bundles sealed, by reason.", "reason", ledger.bundles)
    yield _count("velox_delivered_bundles", "Bundles delivered.", ledger.delivered_bundles)
    yield _count(
        "velox_undelivered_transactions",
        "Records given up because the output had failed.",
        ledger.undelivered_transactions,
    )
    yield _count("velox_late", "Records pushed more than 1 us after they were due.", now.late_count)
    yield _count(
        "velox_book_timeouts", "How often a shared book was too busy for a record.", now.timeouts
    )
    yield _gauge(
        "velox_ring_fill_ratio",
        "The part of a ring that is in use, 0 to 1.",
        "ring",
        {ring.name: ring.items / ring.capacity for ring in now.rings},
    )
    yield _gauge(
        "velox_ring_capacity",
        "Items that a ring holds.",
        "ring",
        {ring.name: ring.capacity for ring in now.rings},
    )
    yield _counter(
        "velox_ring_full",
        "How often a ring had less room than its producer needed.",
        "ring",
        {ring.name: ring.full for ring in now.rings},
    )
    yield _counter(
        "velox_runner_cycles",
        "Duty cycles of a thread that moved something.",
        "runner",
        {runner.name: runner.cycles for runner in now.runners},
    )
    yield _counter(
        "velox_runner_idle_cycles",
        "Duty cycles of a thread that moved nothing.",
        "runner",
        {runner.name: runner.idle_cycles for runner in now.runners},
    )
    yield from _books(now)
    yield _latencies(now)
    yield _gauge(
        "velox_ledger_faults",
        "Equations of the ledger that do not hold.",
        "",
        {"": len(now.faults)},
    )
    yield _gauge(
        "velox_running", "1 while the pipeline runs.", "", {"": int(now.state == "running")}
    )
    yield _gauge(
        "velox_start_time_seconds", "When the run began, since 1970.", "", {"": host.started_s}
    )
    yield InfoMetricFamily(
        "velox_build",
        "The versions of this build.",
        {
            "version": host.version,
            "python": platform.python_version(),
            "machine": platform.machine(),
        },
    )
    yield InfoMetricFamily("velox_config", "The settings of this run.", {"hash": host.config_hash})
    yield from PROCESS.collect()


def _counter(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in values.items():
        family.add_metric([value], count)
    return family


def _count(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(name, text, value)


def _gauge(name: str, text: str, label: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family


def _books(now: Snapshot) -> Iterator[Metric]:
    """The first markets alone: a venue may have hundreds."""
    price = GaugeMetricFamily(
        "velox_book_best_price", "The best price, in the quote currency.", labels=["market", "side"]
    )
    quantity = GaugeMetricFamily(
        "velox_book_best_lots", "Lots at the best price.", labels=["market", "side"]
    )
    crossings = CounterMetricFamily(
        "velox_book_crossings", "Updates that met the other side.", labels=["market"]
    )
    for market in now.markets[:MARKETS_SHOWN]:
        name, scale = market.report.name, 10.0**market.report.price_decimals
        top = market.top
        for side, best, lots in (
            ("bid", top.bid_price, top.bid_quantity),
            ("ask", top.ask_price, top.ask_quantity),
        ):
            # An empty side has no price, so it has no sample.
            if best is not None:
                price.add_metric([name, side], best / scale)
            quantity.add_metric([name, side], lots)
        crossings.add_metric([name], market.report.crossed)
    yield GaugeMetricFamily("velox_markets", "Markets of this run.", len(now.markets))
    yield from (price, quantity, crossings)


def _latencies(now: Snapshot) -> Metric:
    family = HistogramMetricFamily(
        "velox_latency_seconds",
        "; ".join(f"{hop}: {what}" for hop, what in LATENCIES.items()),
        labels=["hop"],
    )
    for hop, histogram in now.latency.items():
        family.add_metric([hop], classic_buckets(histogram), sum_seconds(histogram))
    return family


def classic_buckets(histogram: LatencyHistogram) -> list[tuple[str, float]]:
    """Return the cumulative counts of the classic buckets.

    A bucket of the histogram counts where its highest value lies, so that a count is never too
    high.
    """
    counts, edges = histogram.counts(), histogram.edges()
    highest = edges[1 : len(counts) + 1] - 1
    together = np.concatenate(([0], np.cumsum(counts)))
    places = np.searchsorted(highest, CLASSIC_BOUNDS_NS, side="right")
    below = [
        (f"{bound / 1e9:.1e}", float(together[place]))
        for bound, place in zip(CLASSIC_BOUNDS_NS, places, strict=True)
    ]
    return [*below, ("+Inf", float(histogram.count))]


def sum_seconds(histogram: LatencyHistogram) -> float:
    """Return the sum of the values; each counts as the middle of its bucket."""
    return histogram.mean * histogram.count / 1e9 if histogram.count else 0.0
