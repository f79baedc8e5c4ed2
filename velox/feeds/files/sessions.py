"""What the readers of recorded sessions share: their options, and the recording at the end."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, TypedDict, cast

import numpy as np
import numpy.typing as npt

from velox.feeds.decode.levels import Grid, LevelRecorder
from velox.feeds.decode.session import BookSession, OnGap
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
from velox.runtime.checks import ChecksumChecks, DepthChecks

__all__ = ["Moved", "SessionOptions", "assembled", "read_session", "session_options"]

Moved = Callable[[Any], npt.NDArray[np.int64]]
# Returns the checks of a recording, and how many are left out.
Checks = Callable[[list[Grid], Moved], tuple[DepthChecks | ChecksumChecks | None, int]]


class SessionOptions(TypedDict):
    """The options of a `BookSession`, checked."""

    symbol: str | None
    on_gap: OnGap
    trades: bool
    places: int | None
    tick: int | None
    lot: Decimal | None


def session_options(
    *,
    symbol: object,
    on_gap: object,
    trades: object,
    price_decimals: object,
    tick_size: object,
    lot_size: object,
) -> SessionOptions:
    """Check the options that the readers of recorded sessions share."""
    return {
        "symbol": checked_name("symbol", symbol),
        "on_gap": cast(OnGap, checked_choice("on_gap", on_gap, ("clear", "continue", "stop"))),
        "trades": bool(trades),
        "places": None if price_decimals is None else checked_decimals(price_decimals),
        "tick": None if tick_size is None else checked_tick(tick_size),
        "lot": None if lot_size is None else checked_lot(lot_size),
    }


def read_session(
    source: Source, session: BookSession, recorder: LevelRecorder, unit: object, what: str
) -> None:
    """Feed every line of the files to a session, and end it.

    Raises
    ------
    FeedError
        Nothing was read; `what` says what was looked for.
    ConfigError
        The unit is unknown.
    """
    told = None if unit is None else checked_choice("time_unit", unit, TIME_UNITS)
    recorder.listeners.append(session.grown)
    session.finish(cut=feed_lines(source, session, recorder, told))
    if not recorder.count:
        raise source.nothing(what)


def assembled(
    source: Source,
    session: BookSession,
    recorder: LevelRecorder,
    levels: int,
    checks: Checks | None = None,
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
    checks : callable, optional
        Returns the checks, from the grids and the function that moves positions. If not given: the
        session's tickers.
    """
    tickers = tickers_of(session.books.values())
    grids = recorder.grids(numbers_of(tickers))
    transactions, moved = recorder.transactions(grids, source.late)
    known = recorder.known(grids)
    known["position"] = moved(known["position"])
    instruments = recorder.instruments(grids, levels)
    found: DepthChecks | ChecksumChecks | None
    if checks is not None:
        found, unknown = checks(grids, moved)
    else:
        found, unknown = ticker_checks(session.books.values(), tickers, grids, moved), 0
        if found is not None:
            found, unknown = within_the_known(found, transactions, instruments, known)
    return Recording(
        transactions=transactions,
        instruments=instruments,
        checks=found,
        skipped=source.faults.skipped,
        problems=tuple(source.faults.problems),
        source=source.paths,
        ignored=dict(session.ignored),
        gaps=session.gaps,
        unknown=unknown,
        known=known,
    )
