"""``velox hiccups``: measure how long the host interrupts each CPU."""

from __future__ import annotations

import argparse
import sys

import velox
from velox.cli.options import cpus, path, positive
from velox.cli.results import histogram_log, json_file, refuse_sharing
from velox.cli.screen import GOOD, Screen
from velox.cli.signals import Signals
from velox.core.clock import Clock
from velox.runtime.hardware import describe_machine
from velox.runtime.hiccups import measure_hiccups
from velox.telemetry import terminal, write_document

__all__ = ["add_hiccups"]


def add_hiccups(hiccups: argparse.ArgumentParser) -> None:
    """Give ``velox hiccups`` its options."""
    hiccups.add_argument(
        "--duration",
        type=positive,
        default=5.0,
        metavar="S",
        help="seconds, on all CPUs at once (default: %(default)g)",
    )
    hiccups.add_argument(
        "--cpus", type=cpus, metavar="LIST", help="CPUs to measure, as in 0,2-3 (default: all)"
    )
    hiccups.add_argument(
        "--json", type=path, metavar="PATH", help="write the figures as JSON; '-': to stdout"
    )
    hiccups.add_argument(
        "--hlog",
        type=path,
        metavar="PATH",
        help="write a histogram for each CPU in HdrHistogram's log format",
    )
    hiccups.set_defaults(command=_hiccups)


def _hiccups(options: argparse.Namespace, signals: Signals) -> int:
    refuse_sharing([("json", options.json), ("hlog", options.hlog)])
    screen = Screen(sys.stderr if options.json == "-" else sys.stdout)
    with (
        signals.immediate(),
        json_file(options.json, signals) as file,
        histogram_log(options.hlog, signals) as log,
    ):
        machine, clock = describe_machine(), Clock()
        screen.say(
            *terminal.hiccup_opening(
                version=velox.__version__,
                machine=machine,
                clock={"source": clock.source, "reason": clock.reason},
            ),
            "",
        )
        hiccups = measure_hiccups(options.cpus, options.duration, clock=clock)
        screen.say(*terminal.hiccup_table(hiccups))
        if log is not None:
            gaps = {f"cpu{'' if each.cpu is None else each.cpu}": each.gaps for each in hiccups}
            log.write_interval(gaps, until_s=options.duration)
        if file is not None:
            figures = {
                "velox": velox.__version__,
                "machine": machine,
                "clock": {"source": clock.source, "reason": clock.reason},
                "hiccups": [each.to_dict() for each in hiccups],
            }
            write_document(figures, file)
    return GOOD
