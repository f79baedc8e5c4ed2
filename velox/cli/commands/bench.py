"""``velox bench``: measure the cost of each part on this machine."""

from __future__ import annotations

import argparse
import sys

import velox
from velox import bench
from velox.cli.options import add_hiccups_option, path
from velox.cli.results import json_file
from velox.cli.screen import GOOD, Screen
from velox.cli.signals import Signals
from velox.runtime.hardware import describe_machine, usable_cpus
from velox.runtime.hiccups import Hiccups, measure_hiccups
from velox.telemetry import terminal, write_document

__all__ = ["add_bench"]


def add_bench(benchmarks: argparse.ArgumentParser) -> None:
    """Give ``velox bench`` its options."""
    benchmarks.add_argument(
        "names", nargs="*", metavar="NAME", help=f"{', '.join(bench.names())} (default: all)"
    )
    benchmarks.add_argument(
        "--json", type=path, metavar="PATH", help="write the figures as JSON; '-': to stdout"
    )
    add_hiccups_option(benchmarks)
    benchmarks.set_defaults(command=_bench)


def _bench(options: argparse.Namespace, signals: Signals) -> int:
    screen = Screen(sys.stderr if options.json == "-" else sys.stdout)
    with signals.immediate(), json_file(options.json, signals) as file:
        machine, results = describe_machine(), {}
        measured = bench.run(options.names or None)
        screen.say(f"velox {velox.__version__}, {machine}", "", terminal.benchmark_heading())
        for name, result in measured:
            screen.say(terminal.benchmark_line(name, result))
            results[name] = result.to_dict()
        hiccups: tuple[Hiccups, ...] = ()
        if options.hiccups:
            # The benchmarks of two threads are pinned to these.
            usable = usable_cpus()
            hiccups = measure_hiccups(usable.order[:2] if usable.can_pin else None, options.hiccups)
            screen.say("", *terminal.hiccup_table(hiccups))
        if file is not None:
            figures = {
                "velox": velox.__version__,
                "machine": machine,
                "benchmarks": results,
                "hiccups": [each.to_dict() for each in hiccups],
            }
            write_document(figures, file)
    return GOOD
