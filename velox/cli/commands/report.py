"""``velox report``: a page of one or several runs, for a browser."""

from __future__ import annotations

import argparse
import sys

from velox.cli.options import path
from velox.cli.results import refuse_sharing
from velox.cli.screen import GOOD, Screen
from velox.cli.signals import Signals
from velox.errors import ConfigError
from velox.telemetry import replacing
from velox.telemetry.run_page import MOST_RUNS, run_page
from velox.telemetry.runs import load_run

__all__ = ["add_report"]


def add_report(report: argparse.ArgumentParser) -> None:
    """Give ``velox report`` its options."""
    report.add_argument(
        "runs",
        nargs="+",
        type=path,
        metavar="RUN",
        help=f"what --json of 'run' or 'replay' wrote; up to {MOST_RUNS} lie beside each other",
    )
    report.add_argument(
        "-o", "--output", required=True, type=path, metavar="PATH", help="the page to write (.html)"
    )
    report.add_argument("--title", metavar="TEXT", help="the page's title (default: the runs)")
    report.set_defaults(command=_report)


def _report(options: argparse.Namespace, signals: Signals) -> int:
    if len(options.runs) > MOST_RUNS:
        raise ConfigError(f"must be at most {MOST_RUNS}", field="runs", value=len(options.runs))
    refuse_sharing([("output", options.output)], [(each, each) for each in options.runs])
    with signals.immediate():
        page = run_page([load_run(each) for each in options.runs], options.title)
        with replacing(options.output) as file:
            file.write(page.encode())
    Screen(sys.stdout).say(f"wrote {options.output}: {len(page.encode()) / 1024:,.0f} KiB")
    return GOOD
