"""``velox diff``: by how much two runs differ, and whether that is more than chance."""

from __future__ import annotations

import argparse
import sys

from velox.cli.options import path
from velox.cli.results import json_file, refuse_sharing
from velox.cli.screen import GOOD, Screen
from velox.cli.signals import Signals
from velox.errors import ConfigError
from velox.telemetry import write_document
from velox.telemetry.compare import compare, comparison_lines, settings_that_differ
from velox.telemetry.runs import load_run

__all__ = ["add_diff"]


def add_diff(diff: argparse.ArgumentParser) -> None:
    """Give ``velox diff`` its options."""
    diff.add_argument(
        "runs",
        nargs="+",
        type=path,
        metavar="RUN",
        help="what --json of 'run' or 'replay' wrote: BEFORE AFTER, or several pairs of runs that "
        "were made in turns",
    )
    diff.add_argument(
        "--json", type=path, metavar="PATH", help="write the differences as JSON; '-': to stdout"
    )
    diff.set_defaults(command=_diff)


def _diff(options: argparse.Namespace, signals: Signals) -> int:
    if len(options.runs) % 2:
        raise ConfigError("must be pairs: BEFORE AFTER …", field="runs", value=len(options.runs))
    refuse_sharing([("json", options.json)], [(each, each) for each in options.runs])
    screen = Screen(sys.stderr if options.json == "-" else sys.stdout)
    with signals.immediate(), json_file(options.json, signals) as file:
        runs = [load_run(each) for each in options.runs]
        before, after = runs[::2], runs[1::2]
        differences, settings = compare(before, after), settings_that_differ(before, after)
        screen.say(*comparison_lines(differences))
        if settings:
            screen.say("", *(f"{name}: {_values(each)}" for name, each in settings.items()))
        if file is not None:
            figures = {
                "before": options.runs[::2],
                "after": options.runs[1::2],
                "differences": [each.to_dict() for each in differences],
                "settings": settings,
            }
            write_document(figures, file)
    return GOOD


def _values(values: list[object]) -> str:
    return " | ".join(str(each) for each in values)
