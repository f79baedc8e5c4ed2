"""All that a reader of your own needs.

See "Add a reader" in the how-to guides. A reader takes a `Source`, walks its lines, converts
decimal text with the `Market` of each symbol, writes events to a `LevelRecorder`, and returns what
`recorded` makes of it. It raises `MalformedError` for a line that it cannot read.
"""

from velox.feeds.decode.decimals import decimal_of, parsed, to_units
from velox.feeds.decode.fields import (
    epoch_ns,
    integer,
    member,
    name_of,
    nanoseconds,
    obj,
    parse_json,
)
from velox.feeds.decode.levels import (
    KNOWN_DTYPE,
    Grid,
    LevelRecorder,
    Levels,
    Market,
    Sink,
    require_uncrossed,
)
from velox.feeds.decode.malformed import MalformedError, shown
from velox.feeds.files.finish import recorded
from velox.feeds.files.options import (
    checked_choice,
    checked_decimals,
    checked_levels,
    checked_lot,
    checked_name,
    checked_tick,
)
from velox.feeds.files.source import Faults, Place, Source, blocks, numbered_lines
from velox.feeds.files.unknown import within_the_known
from velox.feeds.kraken_checksum import KrakenChecksum
from velox.feeds.okx_checksum import OkxChecksum
from velox.runtime.checks import ChecksumChecks, DepthChecks

__all__ = [
    "KNOWN_DTYPE",
    "ChecksumChecks",
    "DepthChecks",
    "Faults",
    "Grid",
    "KrakenChecksum",
    "LevelRecorder",
    "Levels",
    "MalformedError",
    "Market",
    "OkxChecksum",
    "Place",
    "Sink",
    "Source",
    "blocks",
    "checked_choice",
    "checked_decimals",
    "checked_levels",
    "checked_lot",
    "checked_name",
    "checked_tick",
    "decimal_of",
    "epoch_ns",
    "integer",
    "member",
    "name_of",
    "nanoseconds",
    "numbered_lines",
    "obj",
    "parse_json",
    "parsed",
    "recorded",
    "require_uncrossed",
    "shown",
    "to_units",
    "within_the_known",
]
