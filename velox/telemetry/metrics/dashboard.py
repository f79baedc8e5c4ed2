"""The Grafana dashboard, made from one table of panels, and the alert rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from velox.runtime.report_text import LATENCIES

__all__ = ["PANELS", "Panel", "Query", "alert_rules", "dashboard"]

SCHEMA_VERSION = 38
WIDTH, COLUMNS, HEIGHT = 24, 3, 8
SOURCE = {"type": "prometheus", "uid": "${source}"}
FEW, MANY, BAD = 0.7, 0.9, "red"


@dataclass(frozen=True, slots=True)
class Query:
    """An expression of a panel, and how its series are called."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel.

    Attributes
    ----------
    title : str
    what : str
        One sentence: how to read it.
    unit : str
        Grafana's name of a unit.
    queries : sequence of Query
    kind : str
        Grafana's name of a kind of panel.
    thresholds : sequence of (float or None, str)
        From which value on which colour; the first has no value.
    """

    title: str
    what: str
    unit: str
    queries: Sequence[Query]
    kind: str = "timeseries"
    thresholds: Sequence[tuple[float | None, str]] = ((None, "green"),)


def _rate(series: str) -> str:
    return f"rate({series}[$__rate_interval])"


def _quantile(quantile: float, hop: str) -> str:
    """A quantile from native buckets, or from classic ones where the server keeps only those."""
    native = _rate(f'velox_latency_seconds{{hop="{hop}"}}')
    classic = _rate(f'velox_latency_seconds_bucket{{hop="{hop}"}}')
    return f"histogram_quantile({quantile}, {native}) or histogram_quantile({quantile}, {classic})"


_BUSY, _IDLE = _rate("velox_runner_cycles_total"), _rate("velox_runner_idle_cycles_total")

PANELS = (
    Panel(
        "Records a second, by stage",
        "The lines lie on each other while nothing is lost and nothing waits.",
        "short",
        [Query(_rate("velox_transactions_total"), "{{stage}}")],
    ),
    Panel(
        "Throughput",
        "Records that the output has taken, a second.",
        "short",
        [Query(_rate('velox_transactions_total{stage="output"}'), "output")],
        kind="stat",
    ),
    Panel(
        "Ledger",
        "Equations that do not hold after a stop; 0 is right.",
        "short",
        [Query("velox_ledger_faults", "faults")],
        kind="stat",
        thresholds=((None, "green"), (1, BAD)),
    ),
    Panel(
        "Latency, due to taken by the output",
        "What a user sees; it includes the wait for a full bundle.",
        "s",
        [Query(_quantile(each, "total"), f"p{each * 100:g}") for each in (0.5, 0.99, 0.999)],
    ),
    Panel(
        "p99 of each hop",
        "'late' is the host: no pipeline is below it.",
        "s",
        [Query(_quantile(0.99, hop), hop) for hop in LATENCIES],
    ),
    Panel(
        "p99 of transit over p99 of late",
        "What the pipeline adds to the host's own lateness.",
        "s",
        [
            Query(
                f"({_quantile(0.99, 'transit')}) - ignoring(hop) ({_quantile(0.99, 'late')})",
                "added",
            )
        ],
    ),
    Panel(
        "Rings in use",
        "A ring that stays full holds up the stage before it.",
        "percentunit",
        [Query("velox_ring_fill_ratio", "{{ring}}")],
        thresholds=((None, "green"), (FEW, "yellow"), (MANY, BAD)),
    ),
    Panel(
        "Rings found full, a second",
        "How often a producer found less room than it needed.",
        "short",
        [Query(_rate("velox_ring_full_total"), "{{ring}}")],
    ),
    Panel(
        "Duty of the threads",
        "The part of the duty cycles that moved something.",
        "percentunit",
        [Query(f"{_BUSY} / ({_BUSY} + {_IDLE})", "{{runner}}")],
    ),
    Panel(
        "Bundles sealed, by reason",
        "A pipeline under load seals by size, a quiet one by timeout.",
        "short",
        [Query(_rate("velox_bundles_total"), "{{reason}}")],
    ),
    Panel(
        "Rejected and blocked, a second",
        "Records that the book refused, and orders that went no further.",
        "short",
        [
            Query(f"{_rate('velox_rejected_total')} > 0", "rejected: {{reason}}"),
            Query(f"{_rate('velox_blocked_total')} > 0", "blocked: {{reason}}"),
            Query(f"sum({_rate('velox_rejected_total')})", "rejected"),
            Query(f"sum({_rate('velox_blocked_total')})", "blocked"),
        ],
    ),
    Panel(
        "Dropped, late and tried again, a second",
        "Dropped by a full ring; pushed over 1 µs late; a shared book that was too busy.",
        "short",
        [
            Query(_rate("velox_dropped_total"), "dropped"),
            Query(_rate("velox_late_total"), "late"),
            Query(_rate("velox_book_timeouts_total"), "tried again"),
        ],
    ),
    Panel(
        "Best prices",
        "In the quote currency.",
        "none",
        [Query("velox_book_best_price", "{{market}} {{side}}")],
    ),
    Panel(
        "CPU of the process",
        "Threads that spin take a whole CPU each.",
        "percentunit",
        [Query(_rate("process_cpu_seconds_total"), "CPUs")],
    ),
    Panel(
        "Memory of the process",
        "It does not grow: the hot path allocates nothing.",
        "bytes",
        [Query("process_resident_memory_bytes", "resident")],
    ),
)


def dashboard() -> dict[str, Any]:
    """Return the dashboard, ready to be imported into Grafana 9 or later."""
    width = WIDTH // COLUMNS
    panels = []
    for number, panel in enumerate(PANELS):
        steps = [{"value": value, "color": color} for value, color in panel.thresholds]
        panels.append(
            {
                "id": number + 1,
                "type": panel.kind,
                "title": panel.title,
                "description": panel.what,
                "datasource": SOURCE,
                "gridPos": {
                    "x": number % COLUMNS * width,
                    "y": number // COLUMNS * HEIGHT,
                    "w": width,
                    "h": HEIGHT,
                },
                "fieldConfig": {
                    "defaults": {
                        "unit": panel.unit,
                        "thresholds": {"mode": "absolute", "steps": steps},
                    },
                    "overrides": [],
                },
                "targets": [
                    {
                        "refId": chr(ord("A") + place),
                        "datasource": SOURCE,
                        "expr": query.expression,
                        "legendFormat": query.legend,
                    }
                    for place, query in enumerate(panel.queries)
                ],
            }
        )
    return {
        "uid": "velox-pipeline",
        "title": "Velox pipeline",
        "tags": ["velox"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "templating": {
            "list": [
                {"name": "source", "type": "datasource", "query": "prometheus", "label": "source"}
            ]
        },
        "panels": panels,
    }


def alert_rules() -> str:
    """Return the alert rules for Prometheus, as YAML."""
    return resources.files(__package__).joinpath("alerts.yml").read_text(encoding="utf-8")
