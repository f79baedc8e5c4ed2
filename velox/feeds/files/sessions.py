"""What the readers of recorded sessions share: their options, and the recording at the end."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import cast

from velox.feeds.decode.levels import Grid, LevelRecorder
from velox.feeds.decode.session import BookSession, OnGap, SessionOptions
from velox.feeds.files.finish import Checks, Moved, recorded
from velox.feeds.files.lines import TIME_UNITS, feed_lines
from velox.feeds.files.options import (
    checked_choice,
    checked_decimals,
    checked_lot,
    checked_name,
    checked_tick,
)
from velox.feeds.files.source import Source
from velox.feeds.files.tickers import numbers_of, ticker_checks, tickers_of
from velox.feeds.files.unknown import within_the_known
from velox.feeds.recording import Recording
from velox.runtime.checks import DepthChecks

__all__ = ["assembled", "read_session", "session_options"]


def session_options(
    *,
    symbol: object,
    on_gap: object,
    trades: object,
    price_decimals: object,
    tick_size: object,
    lot_size: object,
    channel: str | None = None,
) -> SessionOptions:
    """Check the options that the readers of recorded sessions share."""
    return {
        "channel": channel,
        "symbol": checked_name("symbol", symbol),
        "on_gap": cast(OnGap, checked_choice("on_gap", on_gap, ("clear", "continue", "stop"))),
        "trades": bool(trades),
        "places": None if price_decimals is None else checked_decimals(price_decimals),
        "tick": None if tick_size is None else checked_tick(tick_size),
        "lot": None if lot_size is None else checked_lot(lot_size),
    }


def read_session(
    source: Source,
    session: BookSession,
    recorder: LevelRecorder,
    *,
    time_unit: object = None,
    rest: Callable[[bytes, Hashable], None] | None = None,
) -> None:
    """Feed every line of the files to a session, and end it.

    `rest` is that of `feed_lines`.

    Raises
    ------
    ConfigError
        The unit is unknown.
    """
    told = None if time_unit is None else checked_choice("time_unit", time_unit, TIME_UNITS)
    recorder.listeners.append(session.grown)
    session.finish(cut=feed_lines(source, session, recorder, told, rest))


def assembled(
    source: Source,
    session: BookSession,
    recorder: LevelRecorder,
    levels: int,
    *,
    what: str,
    checks: Callable[[list[Grid], Moved], Checks] | None = None,
) -> Recording:
    """Return the recording of a session that has ended.

    Parameters
    ----------
    source : Source
    session : BookSession
    recorder : LevelRecorder
        The session's sink.
    levels : int
        Levels a side that the instruments' books keep hot.
    what : str
        What the input must hold, for the error if there is none.
    checks : callable, optional
        As `recorded` takes it. If not given, the session's tickers are the checks.

    Raises
    ------
    FeedError
        Nothing was read.
    """
    books = session.books.values()
    tickers = tickers_of(books)

    def of_tickers(grids: list[Grid], moved: Moved) -> Checks:
        return ticker_checks(books, tickers, grids, moved), 0

    recording = recorded(
        source,
        recorder,
        levels=levels,
        ignored=session.ignored,
        gaps=session.gaps,
        reordered=session.reordered,
        checks=checks or of_tickers,
        more=numbers_of(tickers),
        what=what,
    )
    if not isinstance(recording.checks, DepthChecks):
        return recording
    known, unknown = within_the_known(
        recording.checks, recording.transactions, recording.instruments, recording.known
    )
    return replace(recording, checks=known, unknown=unknown)
