"""``velox replay``: the pipeline on recorded market data."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import get_args

from velox import feeds
from velox.cli.options import integer, path, speed
from velox.cli.pipeline import add_pipeline_options, configuration, drive
from velox.cli.recordings import add_reading_options, format_of, reading_options
from velox.cli.screen import warn
from velox.cli.signals import Signals
from velox.errors import ConfigError
from velox.feeds.files.registry import OnError
from velox.runtime.sources import ReplayIngress

__all__ = ["add_replay"]


def add_replay(replay: argparse.ArgumentParser) -> None:
    """Give ``velox replay`` its options."""
    replay.add_argument(
        "paths",
        nargs="+",
        type=path,
        metavar="PATH",
        help="files of the recording; LOBSTER also takes the directory that holds its two files",
    )
    replay.add_argument(
        "--format",
        choices=feeds.formats(),
        help="format of the files (default: what their content tells)",
    )
    replay.add_argument(
        "--speed",
        type=speed,
        default="max",
        metavar="X|max",
        help="1.0: the recording's own time; max: as fast as possible (default: %(default)s)",
    )
    replay.add_argument(
        "--repeat",
        type=integer,
        default=1,
        metavar="N",
        help="passes over the recording, each with a cleared book (default: %(default)s)",
    )
    replay.add_argument(
        "--verify",
        action="store_true",
        help="compare the book with the recording's own check after every event that has one",
    )
    replay.add_argument(
        "--depth",
        type=integer,
        metavar="N",
        help="most levels on each side that --verify compares (default: 10)",
    )
    replay.add_argument(
        "--on-error",
        choices=get_args(OnError),
        default="stop",
        help="stop at a line that cannot be read, or skip it (default: %(default)s)",
    )
    replay.add_argument(
        "--limit",
        type=integer,
        metavar="N",
        help="read N records, and the rest of the last one's event",
    )
    add_reading_options(replay.add_argument_group("how it is read"))
    add_pipeline_options(replay, duration=None)
    replay.set_defaults(command=_replay)


def _replay(options: argparse.Namespace, signals: Signals) -> int:
    if options.depth is not None and not options.verify:
        raise ConfigError(f"depth = {options.depth}: --depth needs --verify")
    config = configuration(options)
    format = options.format or format_of(options.paths)
    given = reading_options(options, format)
    with signals.immediate():
        recording = feeds.load(
            options.paths,
            format,
            on_error=options.on_error,
            limit=options.limit,
            depth=options.depth,
            **given,
        )
    if options.verify and not recording.checks and not recording.unknown:
        raise ConfigError(
            f"--verify: {options.paths[0]} holds nothing to compare a book with; it needs "
            "LOBSTER's orderbook file, Binance's bookTicker or OKX's checksums"
        )
    if recording.skipped:
        first = recording.problems[0]
        lines = f"{recording.skipped:,} lines" if recording.skipped > 1 else "1 line"
        warn(f"skipped {lines}; the first: {first}")
    _tell(recording)
    instruments = recording.instruments
    if options.levels is not None:
        instruments = tuple(replace(each, levels=options.levels) for each in instruments)
    names = [each.name for each in instruments[:4]] + ["…"] * (len(instruments) > 4)
    source = (
        f"{len(recording):,} transactions of {', '.join(names)} from {recording.source[0]}, "
        f"format {format}, speed {options.speed}, {options.repeat} passes"
    )
    return drive(
        options,
        signals,
        config,
        [ReplayIngress(recording.transactions, options.speed, options.repeat)],
        source,
        recording=recording,
        books=instruments,
        checks=recording.checks if options.verify else None,
    )


def _tell(recording: feeds.Recording) -> None:
    """Warn of what the recording lacks or contradicts."""
    if recording.gaps:
        warn(f"{recording.gaps:,} gaps in the recording; the first: {recording.problems[0]}")
    if recording.contradictions:
        warn(
            f"{recording.contradictions:,} rows contradict the messages; the first: "
            f"{recording.problems[0]}"
        )
    if recording.unknown:
        warn(
            f"{recording.unknown:,} checks lie beyond the depth that the recording knows; they "
            "are not compared"
        )
