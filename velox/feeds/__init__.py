"""Decodes the data of venues into arrays of `Transaction`.

A value that cannot be exact is an error.

`velox.feeds.decode` turns messages into records and opens no file. `velox.feeds.files` reads files
and passes their lines to it.
"""

from velox.feeds.decode.levels import KNOWN_DTYPE
from velox.feeds.files import (
    binance,
    bybit,
    coinbase,
    dbn,
    hftbacktest,
    hyperliquid,
    kraken,
    lobster,
    npy,
    okx,
    tardis,
)
from velox.feeds.files.registry import formats, load, options_of, recognise, register
from velox.feeds.files.save import keep_venue_times, save, written_by_save
from velox.feeds.merge import merge
from velox.feeds.recording import KnownDepth, Recording

__all__ = [
    "KNOWN_DTYPE",
    "KnownDepth",
    "Recording",
    "binance",
    "bybit",
    "coinbase",
    "dbn",
    "formats",
    "hftbacktest",
    "hyperliquid",
    "keep_venue_times",
    "kraken",
    "load",
    "lobster",
    "merge",
    "npy",
    "okx",
    "options_of",
    "recognise",
    "register",
    "save",
    "tardis",
    "written_by_save",
]
