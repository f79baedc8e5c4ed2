"""``velox replay``: the pipeline on recorded market data."""

from __future__ import annotations

import argparse
from dataclasses import replace

from velox import feeds
from velox.cli.options import integer, speed
from velox.cli.pipeline import add_pipeline_options, configuration, drive
from velox.cli.recordings import add_reading_options, add_source_options, loaded, tell
from velox.cli.screen import GOOD, warn
from velox.cli.signals import Signals
from velox.errors import ConfigError
from velox.runtime.sources import ReplayIngress

__all__ = ["add_replay"]


def add_replay(replay: argparse.ArgumentParser) -> None:
    """Give ``velox replay`` its options."""
    add_source_options(replay)
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
    add_reading_options(replay.add_argument_group("how it is read"))
    add_pipeline_options(replay, replays=True, until="until the recording ends")
    replay.set_defaults(command=_replay)


def _replay(options: argparse.Namespace, signals: Signals) -> int:
    if options.depth is not None and not options.verify:
        raise ConfigError(f"depth = {options.depth}: --depth needs --verify")
    config = configuration(options)
    recording, format = loaded(options, signals, depth=options.depth)
    if options.verify and not recording.checks and not recording.unknown:
        raise ConfigError(
            f"--verify: {options.paths[0]} holds nothing to compare a book with; it needs "
            "LOBSTER's orderbook file, Binance's bookTicker, the checksums of OKX or Kraken, "
            "Bybit's orderbook.1 beside a deeper topic, or Hyperliquid's bbo beside l2Book"
        )
    tell(recording)
    instruments = recording.instruments
    if options.levels is not None:
        instruments = tuple(replace(each, levels=options.levels) for each in instruments)
    names = [each.name for each in instruments[:4]] + ["…"] * (len(instruments) > 4)
    source = (
        f"{len(recording):,} transactions of {', '.join(names)} from {recording.source[0]}, "
        f"format {format}, speed {options.speed}, {options.repeat} passes"
    )
    status = drive(
        options,
        signals,
        config,
        [ReplayIngress(recording.transactions, options.speed, options.repeat)],
        source,
        recording=recording,
        books=instruments,
        checks=recording.checks if options.verify else None,
    )
    if options.capture is not None and status == GOOD and recording.venue_ts_ns.any():
        _keep_venue_times(recording, options.capture)
    return status


def _keep_venue_times(recording: feeds.Recording, capture: str) -> None:
    """Put the recording's own times beside a capture of its replay."""
    if not feeds.keep_venue_times(recording, capture):
        warn(
            f"{capture} has no venue times: its records are not those of the recording, one by one"
        )
