"""Options of ``velox replay`` that say how a recording is read.

Each is an option of `velox.feeds.load` under its own name. What a value means is checked there.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from velox import feeds
from velox.cli.options import integer
from velox.core.instrument import Instrument
from velox.errors import BookError, ConfigError, FeedError
from velox.feeds.files.options import checked_lot

__all__ = ["add_reading_options", "format_of", "reading_options"]

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
    "depth_stream": (
        "--depth-stream",
        {
            "metavar": "WORD",
            "help": "what depth messages without a stream name are: auto, diff or partial",
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
# The fields of a --market, and how their text is read.
_FIELDS: dict[str, Callable[[str], Any]] = {
    "price_decimals": integer,
    "tick_size": integer,
    "lot_size": checked_lot,
    "levels": integer,
}


def add_reading_options(parser: argparse._ActionsContainer) -> None:
    """Give a parser each option that one of the formats takes."""
    for name, (flag, settings) in _OPTIONS.items():
        takers = [each for each in feeds.formats() if name in feeds.options_of(each)]
        given = {**settings, "help": f"{settings['help']} (formats: {', '.join(takers)})"}
        if name == "instruments":
            given["type"] = _market
        parser.add_argument(flag, dest=name, default=None, **given)


def reading_options(options: argparse.Namespace, format: str) -> dict[str, Any]:
    """Return what was given for `velox.feeds.load`.

    Raises
    ------
    ConfigError
        The format does not take an option, or a market is given twice.
    """
    given = {name: value for name in _OPTIONS if (value := getattr(options, name)) is not None}
    taken = feeds.options_of(format)
    for name in given:
        if name not in taken:
            flags = [_OPTIONS[each][0] for each in taken if each in _OPTIONS]
            raise ConfigError(
                f"{_OPTIONS[name][0]}: format {format!r} does not take it; it takes "
                f"{', '.join(flags)}"
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
