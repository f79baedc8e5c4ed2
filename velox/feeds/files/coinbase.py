"""Reads recorded streams of Coinbase Advanced Trade."""

from __future__ import annotations

import re

from velox.feeds.decode.coinbase import CoinbaseSession
from velox.feeds.decode.levels import LevelRecorder
from velox.feeds.files.lines import payload_of
from velox.feeds.files.options import checked_levels
from velox.feeds.files.registry import register
from velox.feeds.files.sessions import assembled, read_session, session_options
from velox.feeds.files.source import Source
from velox.feeds.recording import Recording

__all__ = ["read"]

_HOST = re.compile(rb"wss?://advanced-trade-ws[^/ ]*\.coinbase\.com")
_KEYS = re.compile(rb'"sequence_num"\s*:')


def _looks_like(line: bytes) -> bool:
    payload = payload_of(line)
    return bool(_HOST.match(payload) or (payload[:1] == b"{" and _KEYS.search(payload)))


@register("coinbase", looks_like=_looks_like)
def read(
    source: Source,
    *,
    symbol: str | None = None,
    on_gap: str = "clear",
    trades: bool = False,
    price_decimals: int | None = None,
    tick_size: int | None = None,
    lot_size: object = None,
    time_unit: str | None = None,
    levels: int = 8192,
) -> Recording:
    """Read recorded streams of Coinbase Advanced Trade: ``level2`` and ``market_trades``.

    Each product becomes a market. `sequence_num` counts the messages of a connection, over all
    channels and products. So the files must hold every message of the connection. A number that
    does not follow the one before is a gap of all books. A number of 0 begins a new connection:
    the books are emptied until its snapshots come. A message that repeats a number is ignored, as
    are all other channels; `Recording.ignored` counts them.

    Parameters
    ----------
    source : Source
        Its paths are files in the order of time.
    symbol : str, optional
        Read this product only.
    on_gap : {'clear', 'continue', 'stop'}
        After a gap: every book is emptied until its next snapshot; or the updates are applied on;
        or the load stops. Gaps are counted in `Recording.gaps`. Use ``'continue'`` for files that
        hold only some of the messages of a connection.
    trades : bool
        Whether trades become TRADE records; `side` is that of the resting order.
    price_decimals : int, optional
        Decimals of the prices, 0 to 18; a finer price is then refused. If not given: 4, or as many
        as the prices of each market need.
    tick_size : int, optional
        In units of ten to the minus `price_decimals`, which is 4 if not given. Without it: the
        greatest common divisor of all prices.
    lot_size : str, int or decimal.Decimal, optional
        If not given: the greatest common divisor of all sizes.
    time_unit : {'ns', 'us', 'ms', 's'}, optional
        The unit of integer timestamps of lines. If not given: nanoseconds, and numbers of another
        size are refused.
    levels : int
        Levels a side that the instruments' books keep hot.

    Returns
    -------
    Recording
        `ingress_ts_ns` is the line's timestamp, or else the message's `timestamp`. `venue_ts_ns`
        is the `timestamp`; of a trade it is `time`. There are no checks.

    Raises
    ------
    FeedError
        A line is not of this format, no snapshot opens a book, or a snapshot opens crossed.
    ConfigError
        An option cannot be used.
    """
    levels = checked_levels(levels)
    options = session_options(
        symbol=symbol,
        on_gap=on_gap,
        trades=trades,
        price_decimals=price_decimals,
        tick_size=tick_size,
        lot_size=lot_size,
    )
    recorder = LevelRecorder()
    session = CoinbaseSession(recorder, source.faults.message, **options)
    read_session(source, session, recorder, time_unit=time_unit)
    return assembled(source, session, recorder, levels, what="messages of the channel l2_data")
