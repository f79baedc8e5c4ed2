"""Reads recorded streams of Kraken's WebSocket v2."""

from __future__ import annotations

import re
from functools import partial
from typing import cast

import numpy as np

from velox.errors import ConfigError
from velox.feeds.decode.kraken import KrakenSession
from velox.feeds.decode.levels import Grid, LevelRecorder
from velox.feeds.decode.session import OnGap
from velox.feeds.files.finish import Moved
from velox.feeds.files.lines import payload_of
from velox.feeds.files.options import checked_choice, checked_levels, checked_name
from velox.feeds.files.registry import register
from velox.feeds.files.sessions import assembled, read_session
from velox.feeds.files.source import Source
from velox.feeds.kraken_checksum import KrakenChecksum
from velox.feeds.recording import Recording
from velox.runtime.checks import ChecksumChecks

__all__ = ["read"]

_HOST = re.compile(rb"wss?://[^/ ]*\bkraken\.com/v2")
_KEYS = re.compile(
    rb'\{\s*"method"\s*:'
    rb'|"channel"\s*:\s*"(?:book|trade|ticker|ohlc|instrument|level3|status|heartbeat)"'
)
# What other venues have beside such a channel.
_OTHERS = re.compile(rb'"(?:sequence_num|arg|coin|subscription)"\s*:')


def _looks_like(line: bytes) -> bool:
    payload = payload_of(line)
    if payload[:1] != b"{":
        return bool(_HOST.match(payload))
    return bool(_KEYS.search(payload)) and not _OTHERS.search(payload)


@register("kraken", looks_like=_looks_like)
def read(
    source: Source,
    *,
    symbol: str | None = None,
    on_gap: str = "clear",
    trades: bool = False,
    book_depth: int | None = None,
    time_unit: str | None = None,
    levels: int = 8192,
) -> Recording:
    """Read recorded streams of Kraken's WebSocket v2: ``book`` and ``trade``.

    Each symbol becomes a market. Messages have no ids, so the checksum in each of them tells
    whether one before it is missing: a checksum that is not the book's is a gap. Each checksum that
    is the book's becomes a check. All other channels are ignored; `Recording.ignored` counts them.

    The tick of a market is one unit of the last decimal that Kraken writes of its prices, and its
    lot one unit of the last decimal of its quantities.

    Parameters
    ----------
    source : Source
        Its paths are files in the order of time.
    symbol : str, optional
        Read this symbol only.
    on_gap : {'clear', 'continue', 'stop'}
        After a gap: the book is emptied until the next snapshot; or the updates are applied on; or
        the load stops. Gaps are counted in `Recording.gaps`.
    trades : bool
        Whether trades become TRADE records; `side` is that of the resting order.
    book_depth : int, optional
        The subscribed depth. Levels beyond it leave the book without a message. If not given: what
        the acknowledgement of the subscription says, or else the smallest of 10, 25, 100, 500 and
        1000 that holds the snapshot.
    time_unit : {'ns', 'us', 'ms', 's'}, optional
        The unit of integer timestamps of lines. If not given: nanoseconds, and numbers of another
        size are refused.
    levels : int
        Levels a side that the instruments' books keep hot.

    Returns
    -------
    Recording
        `ingress_ts_ns` is the line's timestamp, or else the message's `timestamp`, or else that of
        an adjacent message. `venue_ts_ns` is the `timestamp`; 0 where it is missing.

    Raises
    ------
    FeedError
        A line is not of this format, no snapshot opens a book, or the checksum of a snapshot is not
        that of its levels.
    ConfigError
        An option cannot be used.
    """
    if book_depth is not None and (type(book_depth) is not int or book_depth < 1):
        raise ConfigError(f"book_depth = {book_depth!r}: must be an integer of at least 1")
    levels = checked_levels(levels)
    recorder = LevelRecorder()
    session = KrakenSession(
        recorder,
        source.faults.message,
        symbol=checked_name("symbol", symbol),
        on_gap=cast(OnGap, checked_choice("on_gap", on_gap, ("clear", "continue", "stop"))),
        trades=bool(trades),
        depth=book_depth,
    )
    read_session(source, session, recorder, time_unit=time_unit)
    return assembled(
        source,
        session,
        recorder,
        levels,
        what="messages of the channel book",
        checks=partial(_checks, session),
    )


def _checks(
    session: KrakenSession, grids: list[Grid], moved: Moved
) -> tuple[ChecksumChecks | None, int]:
    """Return the checksums of markets whose units are the checksums' own, and how many are not."""
    market = np.array(session.markets, np.uint8)
    names = list(session.books)
    own = np.array(
        [
            session.is_written(names[of], decimals)
            for of, decimals in zip(session.markets, session.decimals, strict=True)
        ],
        np.bool_,
    )
    unknown = int(np.count_nonzero(~own))
    if not own.any():
        return None, unknown
    checks = ChecksumChecks(
        position=moved(session.positions)[own],
        market=market[own],
        checksum=np.array(session.checksums, np.int32)[own],
        algorithm=KrakenChecksum(),
    )
    return checks, unknown
