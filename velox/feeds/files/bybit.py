"""Reads recorded Bybit v5 streams."""

from __future__ import annotations

import re

from velox.errors import ConfigError
from velox.feeds.decode.bybit import BybitSession
from velox.feeds.decode.levels import LevelRecorder
from velox.feeds.files.lines import payload_of
from velox.feeds.files.options import checked_levels, checked_name
from velox.feeds.files.registry import register
from velox.feeds.files.sessions import assembled, read_session, session_options
from velox.feeds.files.source import Source
from velox.feeds.recording import Recording

__all__ = ["read"]

_HOST = re.compile(rb"(?:ws|http)s?://[^/ ]*\.(?:bybit|bytick)\.[^ ]*/v5/")
_KEYS = re.compile(
    rb'"topic"\s*:\s*"(?:orderbook|publicTrade|tickers|kline|liquidation|allLiquidation)\.'
    rb'|"ret_msg"\s*:|"retCode"\s*:'
)
_CHANNEL = re.compile(r"orderbook\.[1-9][0-9]{0,3}")


def _looks_like(line: bytes) -> bool:
    payload = payload_of(line)
    return bool(_HOST.match(payload) or (payload[:1] == b"{" and _KEYS.search(payload)))


@register("bybit", looks_like=_looks_like)
def read(
    source: Source,
    *,
    channel: str | None = None,
    symbol: str | None = None,
    on_gap: str = "clear",
    trades: bool = False,
    price_decimals: int | None = None,
    tick_size: int | None = None,
    lot_size: object = None,
    time_unit: str | None = None,
    levels: int = 8192,
) -> Recording:
    """Read recorded Bybit v5 streams: ``orderbook.N`` and ``publicTrade``.

    Each symbol becomes a market. It is read from its deepest ``orderbook`` topic. The ids `u` of
    the topic must rise by one; a delta that does not is a gap. Each snapshot replaces the book. A
    message that repeats an id is ignored, as are all other topics; `Recording.ignored` counts them.

    ``orderbook.1`` beside a deeper topic becomes depth checks of one level: each is compared with
    the deeper book that has the same `seq`.

    Parameters
    ----------
    source : Source
        Its paths are files in the order of time.
    channel : str, optional
        The topic without the symbol, such as ``'orderbook.50'``. If not given: the deepest that
        each symbol has.
    symbol : str, optional
        Read this symbol only.
    on_gap : {'clear', 'continue', 'stop'}
        After a gap: the book is emptied until the next snapshot; or the deltas are applied on; or
        the load stops. Gaps are counted in `Recording.gaps`.
    trades : bool
        Whether trades become TRADE records; `side` is that of the resting order. The id of a trade
        is its number, or the first 64 bits of its UUID. Block trades are ignored.
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
        `ingress_ts_ns` is the line's timestamp, or else the message's `ts`. `venue_ts_ns` is the
        time of the matching engine, `cts`, or else `ts`; of a trade it is `T`.

    Raises
    ------
    FeedError
        A line is not of this format, no snapshot opens a book, or a snapshot opens crossed.
    ConfigError
        An option cannot be used.
    """
    if checked_name("channel", channel) is not None and not _CHANNEL.fullmatch(channel or ""):
        raise ConfigError(f"channel = {channel!r}: must be a topic such as 'orderbook.50'")
    levels = checked_levels(levels)
    options = session_options(
        symbol=symbol,
        on_gap=on_gap,
        trades=trades,
        price_decimals=price_decimals,
        tick_size=tick_size,
        lot_size=lot_size,
        channel=channel,
    )
    recorder = LevelRecorder()
    session = BybitSession(recorder, source.faults.message, **options)
    read_session(source, session, recorder, time_unit=time_unit)
    return assembled(source, session, recorder, levels, what="messages of an orderbook topic")
