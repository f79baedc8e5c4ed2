"""Reads recorded OKX streams: lines of ``unix_seconds: JSON``, or of the JSON alone.

Lines of the connection (``wss://… <-> …``) and REST answers (``https://… -> unix_seconds: JSON``)
may stand among them. REST lists of instruments give tick and lot.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from velox.feeds.decode.binance import OnGap
from velox.feeds.decode.fields import nanoseconds
from velox.feeds.decode.levels import Grid, LevelRecorder
from velox.feeds.decode.malformed import MalformedError, shown
from velox.feeds.decode.okx import CHANNELS, OkxSession
from velox.feeds.files.options import checked_choice, checked_levels, checked_name
from velox.feeds.files.registry import register
from velox.feeds.files.source import Place, Source, first_line, numbered_lines
from velox.feeds.okx_checksum import OkxChecksum
from velox.feeds.recording import Recording
from velox.runtime.checks import ChecksumChecks

__all__ = ["read"]

_LINE = re.compile(rb"(?:([0-9]+(?:\.[0-9]+)?): ?)?(\{.*|ping|pong)", re.DOTALL)
_CONNECTION = re.compile(rb"wss?://\S+ <->? .*|wss?://\S+ -> .*|configuration: .*", re.DOTALL)
_REST = re.compile(rb"https?://\S+ -> [0-9.]+: ?(\{.*)", re.DOTALL)
_FIRST_KEY = re.compile(rb'\{\s*"(?:arg|event|op|action|code)"')


def _is_rest(line: bytes) -> bool:
    return line.startswith((b"http://", b"https://"))


def _looks_like(line: bytes) -> bool:
    if _CONNECTION.match(line) or _REST.match(line):
        return True
    match = _LINE.match(line)
    return match is not None and (match[1] is not None or bool(_FIRST_KEY.match(match[2])))


def _walk(source: Source, session: OkxSession, recorder: LevelRecorder) -> None:
    # Read instruments first: their grid must be known when their first price is read.
    for path in sorted(source.paths, key=lambda path: not _is_rest(first_line(path))):
        with numbered_lines(path, source.faults) as lines:
            for number, raw in lines:
                place = Place(path, number)
                try:
                    _line(raw, session, place)
                except MalformedError as error:
                    source.faults.report(place.error(error))
                if source.reached(recorder.count):
                    return
    session.finish()


def _line(raw: bytes, session: OkxSession, place: Place) -> None:
    if not raw or raw.isspace() or _CONNECTION.fullmatch(raw):
        return
    if raw.startswith(b"#"):
        session.ignored["comment"] += 1
        return
    rest = _REST.fullmatch(raw)
    if rest is not None:
        session.feed_instruments(rest[1], place)
        return
    match = _LINE.fullmatch(raw)
    if match is None:
        raise MalformedError(f"expected 'unix_seconds: JSON', got {shown(raw.decode('latin-1'))}")
    session.feed(match[2].rstrip(), None if match[1] is None else _stamp(match[1]), place)


def _stamp(text: bytes) -> int:
    whole = text.partition(b".")[0]
    for digits, unit in ((13, "milliseconds"), (16, "microseconds"), (19, "nanoseconds")):
        if len(whole) == digits:
            raise MalformedError(
                f"{shown(text.decode())} has the size of a time in {unit}, and is not a time in "
                "seconds",
                "timestamp",
            )
    return nanoseconds(text, "timestamp")


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
        `ingress_ts_ns` is the line's timestamp, or else the message's `ts`, which is also
        `venue_ts_ns`. An instrument that no
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
    checked_choice("on_gap", on_gap, ("clear", "continue", "stop"))
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
    _walk(source, session, recorder)
    if not recorder.count:
        raise source.nothing(f"messages of the channels {', '.join(CHANNELS)}")
    grids = _grids(recorder, session)
    transactions, moved = recorder.transactions(grids, source.late)
    known = recorder.known(grids)
    known["position"] = moved(known["position"])
    checks, unknown = _checks(session, grids, moved)
    return Recording(
        transactions=transactions,
        instruments=recorder.instruments(grids, levels),
        checks=checks,
        skipped=source.faults.skipped,
        problems=tuple(source.faults.problems),
        source=source.paths,
        ignored=dict(session.ignored),
        gaps=session.gaps,
        reordered=session.reordered,
        unknown=unknown,
        known=known,
        venue_ts_ns=recorder.venue_times(moved),
    )


def _grids(recorder: LevelRecorder, session: OkxSession) -> list[Grid]:
    if session.checksums:
        # One computation of the checksum covers all instruments that have one scale.
        with suppress(MalformedError):
            recorder.share_scale()
    return recorder.grids()


def _checks(
    session: OkxSession, grids: list[Grid], moved: Callable[[Any], npt.NDArray[np.int64]]
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
