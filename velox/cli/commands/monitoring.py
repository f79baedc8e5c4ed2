"""``velox monitoring``: files for Prometheus and Grafana."""

from __future__ import annotations

import argparse
import json
import sys

from velox.cli.screen import GOOD, Screen
from velox.cli.signals import Signals
from velox.telemetry.metrics.dashboard import alert_rules, dashboard

__all__ = ["add_monitoring"]


def add_monitoring(monitoring: argparse.ArgumentParser) -> None:
    """Give ``velox monitoring`` its options."""
    monitoring.add_argument(
        "file",
        choices=("dashboard", "alerts"),
        help="dashboard: JSON that Grafana imports; alerts: rules for Prometheus",
    )
    monitoring.set_defaults(command=_monitoring)


def _monitoring(options: argparse.Namespace, signals: Signals) -> int:
    text = alert_rules() if options.file == "alerts" else json.dumps(dashboard(), indent=2)
    Screen(sys.stdout).say(text.rstrip("\n"))
    return GOOD
