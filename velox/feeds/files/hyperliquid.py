"""Reads recorded streams of Hyperliquid."""

from __future__ import annotations

import re

from velox.feeds.decode.hyperliquid import CHANNELS, HyperliquidSession
from velox.feeds.decode.levels import LevelRecorder
from velox.feeds.files.lines import payload_of
from velox.feeds.files.options import checked_choice, checked_levels
from velox.feeds.files.registry import register
from velox.feeds.files.sessions import assembled, read_session, session_options
from velox.feeds.files.source import Source
from velox.feeds.recording import Recording

__all__ = ["read"]

_HOST = re.compile(rb"wss?://[^/ ]*\bhyperliquid[^/ ]*\.xyz")
_KEYS = re.compile(
    rb'"channel"\s*:\s*"(?:(?:l2Book|bbo|subscriptionResponse|allMids|activeAssetCtx|pong)"'
    rb'|trades"\s*,\s*"data"\s*:\s*\[\s*\{\s*"coin")'
)


def _looks_like(line: bytes) -> bool:
    payload = payload_of(line)
    return bool(_HOST.match(payload) or (payload[:1] == b"{" and _KEYS.search(payload)))


@register("hyperliquid", looks_like=_looks_like)
def read(
    source: Source,
    *,
    channel: str | None = None,
    symbol: str | None = None,
    trades: bool = False,
    price_decimals: int | None = None,
    tick_size: int | None = None,
    lot_size: object = None,
    time_unit: str | None = None,
    levels: int = 8192,
) -> Recording:
    """Read recorded streams of Hyperliquid: ``l2Book``, ``bbo`` and ``trades``.

    Each coin becomes a market. Each message of a book replaces the best levels. So a missing
    message leaves no trace, and no gap. A message that is older than the book, or equal to a recent
    one, is ignored, as are all other channels; `Recording.ignored` counts them.

    ``bbo`` beside ``l2Book`` becomes depth checks of one level: each is compared with the book of
    the same block.

    Parameters
    ----------
    source : Source
        Its paths are files in the order of time.
    channel : {'l2Book', 'l2Book fast', 'bbo'}, optional
        The channel to read; ``'l2Book fast'`` is that of messages with ``"fast": true``. If not
        given: the fullest of these that each coin has.
    symbol : str, optional
        Read this coin only.
    trades : bool
        Whether trades become TRADE records; `side` is that of the resting order. A subscription
        begins with some 30 trades from before it. They become records too, and their `venue_ts_ns`
        is older.
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
        `ingress_ts_ns` is the line's timestamp, or else the message's `time`. `venue_ts_ns` is the
        `time` of the block or the trade.

    Raises
    ------
    FeedError
        A line is not of this format, or a book is crossed.
    ConfigError
        An option cannot be used.
    """
    if channel is not None:
        checked_choice("channel", channel, tuple(CHANNELS))
    levels = checked_levels(levels)
    options = session_options(
        symbol=symbol,
        on_gap="clear",
        trades=trades,
        price_decimals=price_decimals,
        tick_size=tick_size,
        lot_size=lot_size,
        channel=channel,
    )
    recorder = LevelRecorder()
    session = HyperliquidSession(recorder, source.faults.message, **options)
    read_session(source, session, recorder, time_unit=time_unit)
    return assembled(
        source, session, recorder, levels, what=f"messages of the channels {', '.join(CHANNELS)}"
    )
