"""``velox convert``: recorded market data as a file that loads at once."""

from __future__ import annotations

import argparse
import os
import sys

from velox import feeds
from velox.cli.options import path
from velox.cli.recordings import add_reading_options, add_source_options, loaded, tell
from velox.cli.results import refuse_sharing
from velox.cli.screen import GOOD, Screen
from velox.cli.signals import Signals
from velox.errors import ConfigError

__all__ = ["add_convert"]


def add_convert(convert: argparse.ArgumentParser) -> None:
    """Give ``velox convert`` its options."""
    add_source_options(convert)
    convert.add_argument(
        "-o",
        "--output",
        required=True,
        type=path,
        metavar="PATH",
        help="the .npy file to write; its markets and the venue's times are written beside it. "
        "Or the .npz file, for hftbacktest",
    )
    add_reading_options(convert.add_argument_group("how it is read"))
    convert.set_defaults(command=_convert)


def _convert(options: argparse.Namespace, signals: Signals) -> int:
    if not options.output.endswith((".npy", ".npz")):
        raise ConfigError(f"output = {options.output!r}: must end with .npy or .npz")
    recording, format = loaded(options, signals)
    refuse_sharing(
        [("the output", each) for each in feeds.written_by_save(options.output)],
        [("recording", each) for each in recording.source],
    )
    tell(recording)
    feeds.save(recording, options.output)
    names = [each.name for each in recording.instruments[:4]]
    names += ["…"] * (len(recording.instruments) > 4)
    timed = int((recording.venue_ts_ns > 0).sum())
    Screen(sys.stdout).say(
        f"{options.output}: {len(recording):,} records of {', '.join(names)} from "
        f"{os.fspath(recording.source[0])}, format {format}; {timed:,} have the venue's time"
    )
    return GOOD
