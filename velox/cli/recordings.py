"""Options of ``velox replay`` and ``velox convert`` that say how a recording is read.

Each is an option of `velox.feeds.load` under its own name. What a value means is checked there.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from velox import feeds
from velox.cli.options import integer, path
from velox.cli.screen import warn
from velox.cli.signals import Signals
from velox.core.instrument import Instrument
from velox.errors import BookError, ConfigError, FeedError
from velox.feeds.files.options import checked_lot

__all__ = [
    "add_reading_options",
    "add_source_options",
    "format_of",
    "loaded",
    "reading_options",
    "tell",
]

# The name of each option in `load`, its flag, and what argparse needs.
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "symbol": ("--symbol", {"metavar": "NAME", "help": "read this symbol only"}),
    "snapshot_symbol": (
        "--snapshot-symbol",
        {"metavar": "NAME", "help": "the symbol of snapshots that name none"},
    ),
    "channel": (
        "--channel",
        {"metavar": "NAME", "help": "the book channel to read, such as books or books5"},
    ),
    "book_depth": (
        "--book-depth",
        {
            "type": integer,
            "metavar": "N",
            "help": "levels a side that were subscribed to, if the recording does not say it",
        },
    ),
    "depth_stream": (
        "--depth-stream",
        {
            "metavar": "WORD",
            "help": "what depth messages without a stream name are: auto, diff or partial",
        },
    ),
    "view": (
        "--view",
        {
            "metavar": "WORD",
            "help": "the rows to read: local (those that count here), or exchange (those that "
            "count at the venue)",
        },
    ),
    "on_gap": (
        "--on-gap",
        {
            "metavar": "WORD",
            "help": "after missing messages: clear (empty the book until a snapshot bridges the "
            "gap), continue (apply on), or stop (refuse the recording)",
        },
    ),
    "trades": (
        "--trades",
        {"action": "store_true", "help": "read trades too; each becomes a TRADE record"},
    ),
    "price_decimals": (
        "--price-decimals",
        {"type": integer, "metavar": "N", "help": "decimals of the prices, 0 to 18"},
    ),
    "tick_size": (
        "--tick-size",
        {
            "type": integer,
            "metavar": "N",
            "help": "price step in the smallest unit of a price, which is 1e-4 unless "
            "--price-decimals says otherwise",
        },
    ),
    "lot_size": (
        "--lot-size",
        {"metavar": "X", "help": "what one unit of size is worth, as in 0.001"},
    ),
    "time_unit": (
        "--time-unit",
        {"metavar": "WORD", "help": "what the timestamps of lines count: ns, us, ms or s"},
    ),
    "name": ("--name", {"metavar": "NAME", "help": "name of the instrument"}),
    "instruments": (
        "--market",
        {
            "action": "append",
            "metavar": "ID=NAME,FIELD=VALUE",
            "help": "what a market of the file is, as in "
            "0=BTC-USDT,price_decimals=2,tick_size=10,lot_size=0.001; give it once a market",
        },
    ),
    "careful": (
        "--careful",
        {
            "action": "store_true",
            "help": "read every line in the slower form, with the same result",
        },
    ),
}
# Arguments of `load` itself.
_ARGUMENTS = {"depth": "--depth", "limit": "--limit", "on_error": "--on-error"}
# The fields of a --market, and how their text is read.
_FIELDS: dict[str, Callable[[str], Any]] = {
    "price_decimals": integer,
    "tick_size": integer,
    "lot_size": checked_lot,
    "levels": integer,
}


def add_source_options(parser: argparse._ActionsContainer) -> None:
    """Give a parser the files of a recording, and the options of `load` itself."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=path,
        metavar="PATH",
        help="files of the recording; LOBSTER also takes the directory that holds its two files",
    )
    parser.add_argument(
        "--format",
        choices=feeds.formats(),
        help="format of the files (default: what their content tells)",
    )
    parser.add_argument(
        "--reader",
        metavar="MODULE:FUNCTION",
        help="read with a function of your own; MODULE may be in the current folder",
    )
    parser.add_argument(
        "--merge",
        action="store_true",
        help="each PATH is a recording of its own: put them on one time line, with a market each",
    )
    parser.add_argument(
        "--on-error",
        choices=("stop", "skip"),
        default="stop",
        help="stop at a line that cannot be read, or skip it (default: %(default)s)",
    )
    parser.add_argument(
        "--limit",
        type=integer,
        metavar="N",
        help="read N records, and the rest of the last one's event",
    )


def loaded(
    options: argparse.Namespace, signals: Signals, *, depth: int | None = None
) -> tuple[feeds.Recording, str]:
    """Load the recording of `add_source_options` and `add_reading_options`.

    Returns
    -------
    Recording
    str
        Its format.

    Raises
    ------
    FeedError
        The input cannot be read.
    ConfigError
        An option cannot be used.
    """
    if options.reader is not None:
        if options.format is not None:
            raise ConfigError("--format and --reader cannot be combined")
        if ":" not in options.reader:
            raise ConfigError(f"--reader: {options.reader!r} is not of the form MODULE:FUNCTION")
        # As `python -m` does: the installed command does not look into the current folder.
        sys.path.insert(0, os.getcwd())
    # With --merge each path is a recording of its own.
    groups = [[each] for each in options.paths] if options.merge else [options.paths]
    read = [options.reader or options.format or format_of(paths) for paths in groups]
    given = [reading_options(options, each, others=read) for each in read]
    try:
        with signals.immediate():
            recordings = [
                feeds.load(
                    paths,
                    format,
                    on_error=options.on_error,
                    limit=options.limit,
                    depth=depth,
                    **more,
                )
                for paths, format, more in zip(groups, read, given, strict=True)
            ]
    except FeedError as error:
        raise replace(error, why=_with_flags(error.why)) from None
    except ConfigError as error:
        raise ConfigError(_with_flags(str(error))) from None
    if not options.merge:
        return recordings[0], read[0]
    return feeds.merge(*recordings), " + ".join(dict.fromkeys(read))


def _with_flags(text: str) -> str:
    """Name the flags of a command where a reader names its options in Python.

    Examples
    --------
    >>> _with_flags("say time_unit='s', or snapshot_symbol; tick_size = 0: must be positive")
    'say --time-unit s, or --snapshot-symbol; --tick-size 0: must be positive'
    """
    flags = {**{name: flag for name, (flag, _) in _OPTIONS.items()}, **_ARGUMENTS}
    # A plain word may be a word of the sentence, or data: it is an option only before its value.
    compound = "|".join(name for name in flags if "_" in name)
    text = re.sub(
        rf"\b({'|'.join(flags)}) ?= ?(?:'([^']*)'|([\w.-]+))",
        lambda match: f"{flags[match[1]]} {match[2] if match[2] is not None else match[3]}",
        text,
    )
    return re.sub(rf"(?<![-\w])({compound})\b", lambda match: flags[match[1]], text)


def tell(recording: feeds.Recording) -> None:
    """Warn of what was skipped, and of what the recording lacks or contradicts."""
    if recording.skipped:
        lines = f"{recording.skipped:,} lines" if recording.skipped > 1 else "1 line"
        warn(f"skipped {lines}; the first: {_with_flags(recording.problems[0])}")
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


def add_reading_options(parser: argparse._ActionsContainer) -> None:
    """Give a parser each option that one of the formats takes."""
    for name, (flag, settings) in _OPTIONS.items():
        takers = [each for each in feeds.formats() if name in feeds.options_of(each)]
        given = {**settings, "help": f"{settings['help']} (formats: {', '.join(takers)})"}
        if name == "instruments":
            given["type"] = _market
        parser.add_argument(flag, dest=name, default=None, **given)

    parser.add_argument(
        "--option",
        dest="more",
        action="append",
        type=_more,
        metavar="NAME=VALUE",
        help="an option of a reader of another package: an integer, true, false, or text",
    )


def _flag_of(name: str) -> str:
    return _OPTIONS[name][0] if name in _OPTIONS else f"--option {name}"


def _more(text: str) -> tuple[str, Any]:
    """Convert ``NAME=VALUE``. An integer and a truth value become such; all else is text."""
    name, equals, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"{text!r}: must be NAME=VALUE")
    if value in ("true", "false"):
        return name, value == "true"
    return name, int(value) if re.fullmatch(r"-?[0-9]{1,30}", value, re.ASCII) else value


def reading_options(
    options: argparse.Namespace, format: str, *, others: Sequence[str] = ()
) -> dict[str, Any]:
    """Return what was given for `velox.feeds.load`.

    An option that only one of the `others` takes is left out.

    Raises
    ------
    ConfigError
        The format does not take an option, or a market is given twice.
    """
    given = {name: value for name in _OPTIONS if (value := getattr(options, name)) is not None}
    for name, value in options.more or ():
        if name in given:
            raise ConfigError(f"--option: {name} is given twice")
        given[name] = value
    taken = feeds.options_of(format)
    elsewhere = {name for each in others for name in feeds.options_of(each)}
    for name in list(given):
        if name not in taken and name in elsewhere:
            del given[name]
        elif name not in taken:
            flags = [_flag_of(each) for each in taken]
            raise ConfigError(
                f"{_flag_of(name)}: format {format!r} does not take it; it takes "
                f"{', '.join(flags) or 'none'}"
            )
    markets = [each.market for each in given.get("instruments", ())]
    for market in markets:
        if markets.count(market) > 1:
            raise ConfigError(f"--market: market {market} is given twice")
    return given


def format_of(paths: Sequence[str]) -> str:
    """Return the format that the content tells, or else the names.

    Raises
    ------
    FeedError
        A file cannot be read.
    ConfigError
        Neither tells the format.
    """
    try:
        return feeds.recognise(paths)
    except FeedError as error:
        if error.field != "format":
            raise
    # A damaged file: its reader says what is wrong.
    for each in map(Path, paths):
        if each.suffix == ".npy":
            return "npy"
        if "_message_" in each.name or "_orderbook_" in each.name:
            return "lobster"
    raise ConfigError(
        f"{paths[0]}: the content does not tell the format; give --format, one of "
        f"{', '.join(feeds.formats())}"
    )


def _market(text: str) -> Instrument:
    """Convert ``ID=NAME,FIELD=VALUE,…`` to an instrument."""
    first, *fields = text.split(",")
    number, equals, name = first.partition("=")
    if not (equals and name and number.isascii() and number.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r}: must begin with ID=NAME, as in 0=BTC-USDT")
    given: dict[str, Any] = {}
    for each in fields:
        key, _, value = each.partition("=")
        key = key.strip().replace("-", "_")
        if key not in _FIELDS:
            raise argparse.ArgumentTypeError(
                f"{text!r}: {key!r} is no field of a market; known are {', '.join(_FIELDS)}"
            )
        if key in given:
            raise argparse.ArgumentTypeError(f"{text!r}: {key} is given twice")
        try:
            given[key] = _FIELDS[key](value)
        except (ConfigError, argparse.ArgumentTypeError) as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {key}: {error}") from None
    try:
        return Instrument(name=name, market=int(number), **given)
    except BookError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
