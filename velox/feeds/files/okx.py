"""Reads recorded OKX streams. REST lists of instruments give tick and lot."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from typing import cast, get_args

import numpy as np

from velox.feeds.decode.levels import Grid, LevelRecorder
from velox.feeds.decode.malformed import MalformedError
from velox.feeds.decode.okx import CHANNELS, OkxSession
from velox.feeds.decode.session import OnGap
from velox.feeds.files.finish import Moved
from velox.feeds.files.lines import payload_of
from velox.feeds.files.options import checked_choice, checked_levels, checked_name
from velox.feeds.files.registry import register
from velox.feeds.files.sessions import assembled, read_session
from velox.feeds.files.source import Source
from velox.feeds.okx_checksum import OkxChecksum
from velox.feeds.recording import Recording
from velox.runtime.checks import ChecksumChecks

__all__ = ["read"]

_HOST = re.compile(rb"(?:ws|http)s?://[^/ ]*\.ok(?:x|ex)\.")
_FIRST_KEY = re.compile(rb'\{\s*"(?:arg|event|op|action|code)"')
_KEYS = re.compile(rb'"arg"\s*:\s*\{|"instId"')
# What the same first keys stand beside at other venues.
_OTHERS = re.compile(rb'"(?:ret_msg|pair|channelID|topic)"\s*:|"heartbeat"')


def _looks_like(line: bytes) -> bool:
    payload = payload_of(line)
    if _HOST.match(payload) or _KEYS.search(payload):
        return True
    return bool(_FIRST_KEY.match(payload)) and not _OTHERS.search(payload)


@register("okx", looks_like=_looks_like)
def read(
    source: Source,
    *,
    channel: str | None = None,
    symbol: str | None = None,
    on_gap: str = "clear",
    trades: bool = False,
    levels: int = 8192,
) -> Recording:
    """Read recorded OKX streams.

    Each instrument becomes a market. Each message with a checksum becomes a check. If messages have
    `seqId` and `prevSeqId`, these must chain; an update that does not is a gap. A message that
    repeats an id is ignored, as are all other channels; `Recording.ignored` counts them.

    Parameters
    ----------
    source : Source
        Its paths are files in the order of time; a REST list of instruments may be anywhere among
        them.
    channel : str, optional
        ``'books'``, ``'books-l2-tbt'`` or ``'books50-l2-tbt'``, whose messages are changes; or
        ``'books5'`` or ``'bbo-tbt'``, whose messages each hold all of the best levels. If not
        given: the fullest of these that each instrument has.
    symbol : str, optional
        Read this instrument only.
    on_gap : {'clear', 'continue', 'stop'}
        After a gap: the book is emptied until the next snapshot; or the updates are applied on; or
        the load stops. Gaps are counted in `Recording.gaps`.
    trades : bool
        Whether trades become TRADE records; `side` is that of the resting order.
    levels : int
        Levels a side that the instruments' books keep hot.

    Returns
    -------
    Recording
        `ingress_ts_ns` is the line's timestamp, or else the message's `ts`. An instrument that no
        REST list names has the greatest common divisors of its prices and sizes as tick and lot.
        Prices have 4 decimals, or as many as the tick or the prices need. Instruments with
        checksums share the finest scale among them.

    Raises
    ------
    FeedError
        A line is not of this format, or a price or size is off its instrument's grid.
    ConfigError
        An option cannot be used.
    """
    if channel is not None:
        checked_choice("channel", channel, CHANNELS)
    checked_choice("on_gap", on_gap, get_args(OnGap))
    levels = checked_levels(levels)
    recorder = LevelRecorder()
    session = OkxSession(
        recorder,
        source.faults.message,
        channel=channel,
        symbol=checked_name("symbol", symbol),
        on_gap=cast(OnGap, on_gap),
        trades=bool(trades),
    )
    read_session(source, session, recorder, rest=session.feed_instruments)
    if session.checksums:
        # One computation of the checksum covers all instruments that have one scale.
        with suppress(MalformedError):
            recorder.share_scale()
    return assembled(
        source,
        session,
        recorder,
        levels,
        what=f"messages of the channels {', '.join(CHANNELS)}",
        checks=partial(_checks, session),
    )


def _checks(
    session: OkxSession, grids: list[Grid], moved: Moved
) -> tuple[ChecksumChecks | None, int]:
    """Return the checksums on the most common price scale, and how many are left out."""
    market = np.array(session.markets, np.uint8)
    if not len(market):
        return None, 0
    places = np.array([grid.places for grid in grids], np.int64)[market]
    decimals = int(np.argmax(np.bincount(places)))
    own = places == decimals
    checks = ChecksumChecks(
        position=moved(session.positions)[own],
        market=market[own],
        checksum=np.array(session.checksums, np.int32)[own],
        algorithm=OkxChecksum(decimals),
    )
    return checks, int(np.count_nonzero(~own))
