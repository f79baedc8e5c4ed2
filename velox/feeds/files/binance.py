"""Recorded Binance streams: lines of ``local_timestamp_ns JSON``, or of the JSON alone."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

from velox.feeds.decode.binance import BinanceSession, DepthStream
from velox.feeds.decode.levels import LevelRecorder
from velox.feeds.decode.malformed import MalformedError, shown
from velox.feeds.decode.session import OnGap
from velox.feeds.files.lines import TIME_UNITS, Stamps, payload_of
from velox.feeds.files.options import (
    checked_choice,
    checked_decimals,
    checked_levels,
    checked_lot,
    checked_name,
    checked_tick,
)
from velox.feeds.files.registry import register
from velox.feeds.files.source import Place, Source, blocks
from velox.feeds.files.tickers import numbers_of, ticker_checks, tickers_of
from velox.feeds.files.unknown import within_the_known
from velox.feeds.recording import Recording

__all__ = ["read"]

_LINE = re.compile(rb"(?:([0-9]{1,20})[ \t]+)?([\[{].*|ping|pong)", re.DOTALL)
_FIRST_KEY = re.compile(
    rb'[\[]*\{\s*"(?:stream|e|u|lastUpdateId|result|id|code|error|ping|pong|E)"'
)
_KEYS = re.compile(rb'"(?:stream|e|lastUpdateId)"\s*:')


def _looks_like(line: bytes) -> bool:
    payload = payload_of(line)
    if payload[:1] not in (b"[", b"{"):
        return False
    return bool(_FIRST_KEY.match(payload) or _KEYS.search(payload))


def _walk(source: Source, session: BinanceSession, recorder: LevelRecorder, unit: Any) -> bool:
    """Feed every line, and return whether the limit stopped it."""
    stamps = Stamps(unit)
    session.stamps(stamps.factor, told=stamps.told)

    def enough() -> bool:
        return source.reached(recorder.count)

    for path in source.paths:

        def careful(raw: bytes, number: int, path: Path = path) -> None:
            place = Place(path, number)
            try:
                _line(raw, session, stamps, place)
            except MalformedError as error:
                source.faults.report(place.error(error))

        with blocks(path, source.faults) as all_blocks:
            for first, content in all_blocks:
                if session.feed_lines(content, first, careful, partial(Place, path), enough):
                    return True
    return False


def _line(raw: bytes, session: BinanceSession, stamps: Stamps, place: Place) -> None:
    if not raw or raw.isspace():
        return
    if raw.startswith(b"#"):
        session.ignored["comment"] += 1
        return
    match = _LINE.fullmatch(raw)
    if match is None:
        raise MalformedError(
            f"expected 'local_timestamp_ns JSON', got {shown(raw.decode('latin-1'))}"
        )
    session.feed_careful(match[2].rstrip(), None if match[1] is None else stamps(match[1]), place)


@register("binance", looks_like=_looks_like)
def read(
    source: Source,
    *,
    symbol: str | None = None,
    snapshot_symbol: str | None = None,
    depth_stream: str = "auto",
    on_gap: str = "clear",
    trades: bool = False,
    price_decimals: int | None = None,
    tick_size: int | None = None,
    lot_size: object = None,
    time_unit: str | None = None,
    careful: bool = False,
    levels: int = 8192,
) -> Recording:
    """Read recorded Binance streams.

    Diffs wait for a snapshot that they continue. From then on each must continue the
    previous one. If one does not, and no snapshot bridges the difference, there is a gap. Tickers
    (`bookTicker`) with the update id of a diff become depth checks of one level. A ticker whose
    price lies beyond the snapshot's range, where the book may lack levels, is a check only if the
    book has that price; otherwise it is counted in `Recording.unknown`.

    If a symbol has no diffs, each message of partial depth replaces its best levels. All other
    messages are ignored and counted in `Recording.ignored`.

    Parameters
    ----------
    source : Source
        Its paths are files in the order of time.
    symbol : str, optional
        Read this symbol only.
    snapshot_symbol : str, optional
        The symbol of snapshots that name none. Needed if the file has depth of several symbols,
        since REST snapshots of spot and USD-M do not name theirs.
    depth_stream : {'auto', 'diff', 'partial'}
        The kind of a ``depthUpdate`` of futures that was recorded without the name of its stream.
        Partial depth looks like a diff there. With ``auto``, a file is refused if each of its
        messages could be either.
    on_gap : {'clear', 'continue', 'stop'}
        After a gap: the book is emptied, and stays empty until a snapshot bridges the gap; or the
        diffs are applied on; or the load stops. Gaps are counted in `Recording.gaps`.
    trades : bool
        Whether trades become TRADE records; `side` is that of the resting order.
    price_decimals : int, optional
        Decimals of the prices, 0 to 18; a finer price is then refused. If not given: 4, or as many
        as the prices of each market need.
    tick_size : int, optional
        In units of ten to the minus `price_decimals`, which is 4 if not given. Without it: the
        greatest common divisor of all prices.
    lot_size : str, int or decimal.Decimal, optional
        In the base currency. If not given: the greatest common divisor of all sizes.
    time_unit : {'ns', 'us', 'ms', 's'}, optional
        The unit of the timestamps of the lines. If not given: nanoseconds, and numbers of another
        size are refused. The unit of the venue's own times is found from their size.
    careful : bool
        Whether the slower Python decoder reads every line. The result is the same.
    levels : int
        Levels a side that the instruments' books keep hot.

    Returns
    -------
    Recording
        `ingress_ts_ns` is the line's local timestamp, or else the event time `E`, or else the time
        of an adjacent message. `venue_ts_ns` is the transaction time `T`, or else `E`; it is 0 for
        snapshots of spot, which have neither.

    Raises
    ------
    FeedError
        A line is not of this format, no snapshot continues the diffs, or the file is ambiguous.
    ConfigError
        An option cannot be used.
    """
    if time_unit is not None:
        checked_choice("time_unit", time_unit, TIME_UNITS)
    recorder = LevelRecorder()
    session = BinanceSession(
        recorder,
        source.faults.message,
        symbol=checked_name("symbol", symbol),
        snapshot_symbol=checked_name("snapshot_symbol", snapshot_symbol),
        depth_stream=cast(
            DepthStream, checked_choice("depth_stream", depth_stream, get_args(DepthStream))
        ),
        on_gap=cast(OnGap, checked_choice("on_gap", on_gap, get_args(OnGap))),
        trades=bool(trades),
        places=None if price_decimals is None else checked_decimals(price_decimals),
        tick=None if tick_size is None else checked_tick(tick_size),
        lot=None if lot_size is None else checked_lot(lot_size),
        default_name=source.paths[0].name.partition(".")[0] or "BINANCE",
        careful=bool(careful),
    )
    recorder.listeners.append(session.grown)
    levels = checked_levels(levels)
    session.finish(cut=_walk(source, session, recorder, time_unit))
    if not recorder.count:
        raise source.nothing("depth events")
    return _recording(source, session, recorder, levels)


def _recording(
    source: Source, session: BinanceSession, recorder: LevelRecorder, levels: int
) -> Recording:
    tickers = tickers_of(session.symbols.values())
    grids = recorder.grids(numbers_of(tickers))
    transactions, moved = recorder.transactions(grids, source.late)
    known = recorder.known(grids)
    known["position"] = moved(known["position"])
    instruments = recorder.instruments(grids, levels)
    checks, unknown = ticker_checks(session.symbols.values(), tickers, grids, moved), 0
    if checks is not None:
        checks, unknown = within_the_known(checks, transactions, instruments, known)
    return Recording(
        transactions=transactions,
        instruments=instruments,
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
