"""``velox doctor``: examine this host, and name what makes latencies long."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

import velox
from velox.cli.options import add_setting, path, positive
from velox.cli.pipeline import configuration
from velox.cli.results import json_file
from velox.cli.screen import FAILED, GOOD, Screen
from velox.cli.signals import Signals
from velox.runtime.doctor import Severity, examine
from velox.runtime.hardware import describe_machine
from velox.runtime.hiccups import measure_hiccups
from velox.telemetry import terminal, write_document

__all__ = ["add_doctor"]


def add_doctor(doctor: argparse.ArgumentParser) -> None:
    """Give ``velox doctor`` its options."""
    for name in ("placement", "cpus"):
        add_setting(doctor, name)
    doctor.add_argument(
        "--duration",
        type=positive,
        default=1.0,
        metavar="S",
        help="seconds for which hiccups, stolen time and interrupts are measured, on all CPUs at "
        "once (default: %(default)g)",
    )
    doctor.add_argument(
        "--json", type=path, metavar="PATH", help="write the findings as JSON; '-': to stdout"
    )
    doctor.add_argument(
        "--strict",
        action="store_true",
        dest="fail_on_high",
        help="exit with status 1 if a finding is high",
    )
    doctor.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace, signals: Signals) -> int:
    config = configuration(options)
    screen = Screen(sys.stderr if options.json == "-" else sys.stdout)
    machine = describe_machine()
    with signals.immediate(), json_file(options.json, signals) as file:
        screen.say(*terminal.doctor_opening(version=velox.__version__, machine=machine), "")
        findings = examine(config, measure=lambda: measure_hiccups(duration=options.duration))
        screen.say(*terminal.finding_lines(findings))
        if file is not None:
            counts = Counter(each.severity for each in findings)
            figures = {
                "velox": velox.__version__,
                "machine": machine,
                "counts": {each.name.lower(): counts[each] for each in reversed(Severity)},
                "findings": [each.to_dict() for each in findings],
            }
            write_document(figures, file)
    worst = max(each.severity for each in findings)
    return FAILED if options.fail_on_high and worst == Severity.HIGH else GOOD
