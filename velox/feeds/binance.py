"""Binance: depth diffs of spot and futures, spliced onto a REST snapshot as Binance documents it.

Lines are ``local_timestamp_ns JSON``, or the JSON alone; the JSON is a message of a raw stream, one
of a combined stream (``{"stream": …, "data": …}``), or the answer of the REST call for the depth
of the book (``lastUpdateId``).

How a diff chains, after "How to manage a local order book correctly" in Binance's documentation of
its spot, USD-M and COIN-M streams:

======== ======================= ================== ===========================
market   follows event before    older than snap    first after snapshot
======== ======================= ================== ===========================
futures  ``pu == u`` of it       ``u < last``       ``pu <= last <= u``
spot     ``U == u + 1`` of it    ``u <= last``      ``U <= last + 1 <= u``
======== ======================= ================== ===========================

For futures Binance says ``U <= last`` where the table says ``pu <= last``. Ids between `pu` and
`U` belong to no event of this symbol, so a snapshot that falls there misses nothing either.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from velox.core.records import Side
from velox.errors import ConfigError, FeedError
from velox.feeds.levels import LevelRecorder, Levels, Market
from velox.feeds.messages import integer, member, name_of, obj
from velox.feeds.options import checked_levels, checked_lot, checked_tick
from velox.feeds.recording import Recording
from velox.feeds.registry import register
from velox.feeds.source import MalformedError, Source, numbered_lines, parse_json, shown
from velox.runtime.checks import DepthChecks

__all__ = ["read"]

NS_PER_MS = 1_000_000
TIME_LIMIT = 2**63

_LINE = re.compile(rb"(?:([0-9]{1,20})[ \t]+)?(\{.*)", re.DOTALL)
_FIRST_KEY = re.compile(rb'\{"(?:stream|e|u|lastUpdateId|result)"')
_DIFF_STREAM = re.compile(r"@depth(?:@[0-9]+ms)?$")

# Streams that say nothing of the book; an event that is not even one of these is refused.
_OTHER_EVENTS = frozenset(
    {
        "1dTicker",
        "1hTicker",
        "24hrMiniTicker",
        "24hrTicker",
        "4hTicker",
        "aggTrade",
        "assetIndexUpdate",
        "avgPrice",
        "compositeIndex",
        "continuous_kline",
        "contractInfo",
        "forceOrder",
        "indexPrice",
        "indexPriceUpdate",
        "kline",
        "markPrice",
        "markPriceUpdate",
        "openInterest",
        "serverShutdown",
        "tradingSession",
    }
)


class _Place(NamedTuple):
    """Where a message stands, for the errors that only come to light later."""

    path: Path
    line: int

    def error(self, why: str, field: str | None = None) -> FeedError:
        return FeedError(why, path=self.path, line=self.line, field=field)


class _Diff(NamedTuple):
    place: _Place
    time: int
    first: int
    final: int
    previous: int | None  # None on spot, which does not send it
    bids: Levels
    asks: Levels

    def follows(self, final: int) -> bool:
        return self.first == final + 1 if self.previous is None else self.previous == final

    def is_before(self, snapshot: int) -> bool:
        return self.final <= snapshot if self.previous is None else self.final < snapshot

    def joins(self, snapshot: int) -> bool:
        if self.previous is None:
            return self.first <= snapshot + 1 <= self.final
        return self.previous <= snapshot <= self.final

    def expected(self, final: int) -> str:
        if self.previous is None:
            return f"expected U = {final + 1}, got {self.first}"
        return f"expected pu = {final}, got {self.previous}"


class _Snapshot(NamedTuple):
    place: _Place
    time: int
    last: int
    bids: Levels
    asks: Levels

    def bridges(self, diff: _Diff) -> bool:
        return diff.is_before(self.last) or diff.joins(self.last)


@dataclass(slots=True)
class _Symbol:
    """One symbol's book and how far it has come."""

    market: Market
    # The id that the next diff must continue from; None while no snapshot has been found.
    last: int | None = None
    # Whether that id is a snapshot's: it then lies within the next diff, not at its border.
    at_snapshot: bool = False
    waiting: list[_Diff] = field(default_factory=list)
    # How many of those that wait have been counted as faults already.
    counted: int = 0
    # A snapshot that was not needed when it came: a later gap may be bridged by it.
    spare: _Snapshot | None = None
    has_depth: bool = False
    # For the checks: final id and position of each diff that was applied, and every ticker.
    finals: array[int] = field(default_factory=lambda: array("Q"))
    positions: array[int] = field(default_factory=lambda: array("q"))
    ticker_ids: array[int] = field(default_factory=lambda: array("Q"))
    # Bid price, bid size code, ask price, ask size code.
    tickers: array[int] = field(default_factory=lambda: array("q"))


class _Reader:
    def __init__(
        self, source: Source, symbol: str | None, tick: int | None, lot: Any, trades: bool
    ) -> None:
        self.source = source
        self.faults = source.faults
        self.only = symbol
        self.tick = tick
        self.lot = lot
        self.trades = trades
        self.recorder = LevelRecorder()
        self.symbols: dict[str, _Symbol] = {}
        # A snapshot does not name its symbol; one that comes first waits for a diff that does.
        self.unnamed: tuple[_Place, int, dict[str, Any]] | None = None
        self.time = 0

    def read(self) -> None:
        for path in self.source.paths:
            with numbered_lines(path, self.faults) as lines:
                for number, raw in lines:
                    place = _Place(path, number)
                    try:
                        self.line(raw, place)
                    except MalformedError as error:
                        self.faults.report(place.error(error.why, error.field))
                    if self.source.reached(self.recorder.count):
                        return
        self.finish()

    def line(self, raw: bytes, place: _Place) -> None:
        if not raw.strip():
            return
        match = _LINE.fullmatch(raw)
        if match is None:
            raise MalformedError(
                f"expected 'local_timestamp_ns JSON', got {shown(raw.decode('latin-1'))}"
            )
        message = parse_json(match[2])
        stream = ""
        if "stream" in message:
            stream = name_of(message, "stream")
            message = obj(message, "data")
        self.time = self.time_of(match[1], message)
        self.message(message, stream, place)

    def time_of(self, stamp: bytes | None, message: dict[str, Any]) -> int:
        if stamp is not None:
            time = int(stamp)
        elif "E" in message:
            time = integer(message, "E") * NS_PER_MS
        else:
            return self.time
        if time >= TIME_LIMIT:
            raise MalformedError(f"{time} ns does not fit 63 bits", "timestamp")
        return time

    def message(self, message: dict[str, Any], stream: str, place: _Place) -> None:
        event = message.get("e")
        if event == "depthUpdate":
            # A partial depth stream says so in its name only, and is no diff.
            if not stream or _DIFF_STREAM.search(stream):
                self.diff(message, place)
        elif event == "bookTicker" or (event is None and message.keys() >= {"u", "b", "B", "a"}):
            self.ticker(message)
        elif event == "trade":
            if self.trades:
                self.trade(message)
        elif "lastUpdateId" in message:
            if not stream:
                self.snapshot(message, place)
        elif not ((type(event) is str and event in _OTHER_EVENTS) or "result" in message):
            what = f"event {shown(event)}" if "e" in message else "keys " + shown(list(message))
            raise MalformedError(f"{what}: is no message of Binance's streams that is known", "e")

    def symbol(self, name: str) -> _Symbol | None:
        if self.only is not None and name != self.only:
            return None
        symbol = self.symbols.get(name)
        if symbol is None:
            symbol = _Symbol(self.recorder.market(name, self.tick, self.lot))
            self.symbols[name] = symbol
        return symbol

    # Diffs and snapshots

    def diff(self, message: dict[str, Any], place: _Place) -> None:
        symbol = self.symbol(name_of(message, "s"))
        if symbol is None:
            return
        diff = _Diff(
            place,
            self.time,
            integer(message, "U"),
            integer(message, "u"),
            integer(message, "pu") if "pu" in message else None,
            symbol.market.levels(member(message, "b"), "b"),
            symbol.market.levels(member(message, "a"), "a"),
        )
        if diff.first > diff.final:
            raise MalformedError(f"{diff.first} is greater than u = {diff.final}", "U")
        symbol.has_depth = True
        if self.unnamed is not None:
            waiting, self.unnamed = self.unnamed, None
            self.named_snapshot(symbol, *waiting)
        self.advance(symbol, diff)

    def advance(self, symbol: _Symbol, diff: _Diff) -> None:
        last = symbol.last
        if last is None:
            symbol.waiting.append(diff)
        elif symbol.at_snapshot and diff.is_before(last):
            pass  # the snapshot has it already
        elif diff.joins(last) if symbol.at_snapshot else diff.follows(last):
            self.apply(symbol, diff)
        elif symbol.spare is not None and symbol.spare.bridges(diff):
            self.open(symbol, symbol.spare, diff.time)
            self.advance(symbol, diff)
        else:
            self.lose(symbol, diff, last)

    def apply(self, symbol: _Symbol, diff: _Diff) -> None:
        self.recorder.update(symbol.market, diff.time, diff.bids, diff.asks)
        symbol.last = diff.final
        symbol.at_snapshot = False
        symbol.finals.append(diff.final)
        symbol.positions.append(self.recorder.count)

    def open(self, symbol: _Symbol, snapshot: _Snapshot, time: int) -> None:
        self.recorder.snapshot(symbol.market, time, snapshot.bids, snapshot.asks)
        symbol.last = snapshot.last
        symbol.at_snapshot = True
        symbol.spare = None
        symbol.counted = 0

    def lose(self, symbol: _Symbol, diff: _Diff, last: int) -> None:
        """A gap: what the book holds is no longer true, and only a snapshot can mend it."""
        kind = "is not joined to the snapshot" if symbol.at_snapshot else "leaves a gap"
        why = f"{symbol.market.name} {kind}: {diff.expected(last)}"
        self.faults.report(diff.place.error(why, "U" if diff.previous is None else "pu"))
        self.recorder.clear(symbol.market, diff.time)
        symbol.last = None
        symbol.spare = None
        symbol.waiting = [diff]
        symbol.counted = 1

    def snapshot(self, message: dict[str, Any], place: _Place) -> None:
        # COIN-M alone names the symbol.
        name = name_of(message, "symbol") if "symbol" in message else self.only
        if name is not None:
            symbol = self.symbol(name)
            if symbol is not None:
                self.named_snapshot(symbol, place, self.time, message)
            return
        candidates = [symbol for symbol in self.symbols.values() if symbol.has_depth]
        if len(candidates) > 1:
            names = ", ".join(symbol.market.name for symbol in candidates)
            raise MalformedError(f"a snapshot names no symbol; load with symbol= one of {names}")
        if candidates:
            self.named_snapshot(candidates[0], place, self.time, message)
        else:
            self.unnamed = (place, self.time, message)

    def named_snapshot(
        self, symbol: _Symbol, place: _Place, time: int, message: dict[str, Any]
    ) -> None:
        try:
            snapshot = _Snapshot(
                place,
                time,
                integer(message, "lastUpdateId"),
                symbol.market.levels(member(message, "bids"), "bids", zero_allowed=False),
                symbol.market.levels(member(message, "asks"), "asks", zero_allowed=False),
            )
        except MalformedError as error:
            self.faults.report(place.error(error.why, error.field))
            return
        symbol.has_depth = True
        if symbol.last is not None:
            symbol.spare = snapshot
            return
        waiting = [diff for diff in symbol.waiting if not diff.is_before(snapshot.last)]
        if waiting and not waiting[0].joins(snapshot.last):
            self.faults.report(
                place.error(
                    f"{snapshot.last} is older than what the recorded diffs go on from: "
                    f"the first begins with U = {waiting[0].first}",
                    "lastUpdateId",
                )
            )
            return
        self.open(symbol, snapshot, time)
        symbol.waiting = []
        for diff in waiting:
            # They become part of the book only now.
            self.advance(symbol, diff._replace(time=max(diff.time, time)))

    # Prints and tickers

    def trade(self, message: dict[str, Any]) -> None:
        symbol = self.symbol(name_of(message, "s"))
        if symbol is None:
            return
        size = symbol.market.size(member(message, "q"), "q")
        if not size:
            return  # futures also print insurance fund and liquidation notes, of size 0
        maker_buys = member(message, "m")
        if type(maker_buys) is not bool:
            raise MalformedError(f"{shown(maker_buys)} is not true or false", "m")
        self.recorder.trade(
            symbol.market,
            self.time,
            identity=integer(message, "t"),
            side=int(Side.BID if maker_buys else Side.ASK),
            price=symbol.market.price(member(message, "p"), "p"),
            size=size,
        )

    def ticker(self, message: dict[str, Any]) -> None:
        symbol = self.symbol(name_of(message, "s"))
        if symbol is None:
            return
        update = integer(message, "u")
        best: list[int] = []
        for price, size in (("b", "B"), ("a", "A")):
            code = symbol.market.size(member(message, size), size)
            # The price of an empty side is 0, which is no price.
            best += (symbol.market.price(member(message, price), price) if code else 0, code)
        symbol.ticker_ids.append(update)
        symbol.tickers.extend(best)

    # The end

    def finish(self) -> None:
        if self.unnamed is not None:
            # No diff came to name it: the file has one symbol, or only its own name.
            place, time, message = self.unnamed
            names = list(self.symbols)
            symbol = self.symbol(names[0] if len(names) == 1 else place.path.name.partition(".")[0])
            if symbol is not None:
                self.named_snapshot(symbol, place, time, message)
        for symbol in self.symbols.values():
            if symbol.waiting:
                first = symbol.waiting[0]
                self.faults.report(
                    first.place.error(
                        f"no REST snapshot of {symbol.market.name} follows that the "
                        f"{len(symbol.waiting)} depth events from here on could continue"
                    ),
                    lines=len(symbol.waiting) - symbol.counted,
                )

    def checks(self, lots: npt.NDArray[np.int64]) -> DepthChecks | None:
        """The tickers whose update id is that of the last diff applied."""
        columns: list[tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]] = []
        for symbol in self.symbols.values():
            _, at, of = np.intersect1d(
                np.frombuffer(symbol.finals, np.uint64),
                np.frombuffer(symbol.ticker_ids, np.uint64),
                return_indices=True,
            )
            tickers = np.frombuffer(symbol.tickers, np.int64).reshape(-1, 2, 2)[of]
            market = np.full(len(at), symbol.market.id, np.uint8)
            columns.append((np.frombuffer(symbol.positions, np.int64)[at], market, tickers))
        if not columns or not sum(len(position) for position, _, _ in columns):
            return None
        position, market, tickers = (np.concatenate(parts) for parts in zip(*columns, strict=True))
        order = np.argsort(position, kind="stable")
        tickers = tickers[order]
        return DepthChecks(
            position=position[order],
            market=market[order],
            prices=np.ascontiguousarray(tickers[:, :, :1]),
            quantities=np.ascontiguousarray(lots[tickers[:, :, 1:]]),
        )


def _looks_like(line: bytes) -> bool:
    match = _LINE.match(line)
    return match is not None and (match[1] is not None or bool(_FIRST_KEY.match(match[2])))


@register("binance", looks_like=_looks_like)
def read(
    source: Source,
    *,
    symbol: str | None = None,
    tick_size: int | None = None,
    lot_size: object = None,
    trades: bool = False,
    levels: int = 8192,
) -> Recording:
    """Read recorded Binance streams.

    Diffs wait until a snapshot comes that they continue; from then on each must continue the one
    before. Where one does not, and no later snapshot bridges that, it is an error; under
    ``on_error="skip"`` the book is cleared there, so that nobody takes a stale book for a true
    one, and stays empty until the next snapshot. Tickers (`bookTicker`) with the update id of a
    diff become depth checks of one level. Partial depth and all other streams are left aside.

    Parameters
    ----------
    source : Source
        Its paths are files in the order of time.
    symbol : str, optional
        Read this symbol only. Needed where a file has diffs of several symbols, since a snapshot
        does not name its own.
    tick_size : int, optional
        In units of 1e-4. Unless told: the greatest common divisor of all prices.
    lot_size : str, int or decimal.Decimal, optional
        In the base currency. Unless told: the greatest common divisor of all sizes.
    trades : bool
        Whether trades become TRADE records; `side` is that of the resting order.
    levels : int
        Levels a side that the instruments' books keep hot.

    Returns
    -------
    Recording
        `ingress_ts_ns` is the line's local timestamp, or else the event time `E`.

    Raises
    ------
    FeedError
        A line is not of this format, or the diffs leave a gap.
    ConfigError
        An option cannot be used.
    """
    if symbol is not None and not isinstance(symbol, str):
        raise ConfigError(f"symbol = {symbol!r}: must be text, or None")
    reader = _Reader(
        source,
        symbol,
        None if tick_size is None else checked_tick(tick_size),
        None if lot_size is None else checked_lot(lot_size),
        bool(trades),
    )
    levels = checked_levels(levels)
    reader.read()
    recorder, path = reader.recorder, source.paths[0]
    if not recorder.count:
        raise source.nothing("depth events")
    lots = recorder.lots(path)
    return Recording(
        transactions=recorder.transactions(lots, path),
        instruments=recorder.instruments(levels),
        checks=reader.checks(lots),
        skipped=source.faults.skipped,
        problems=tuple(source.faults.problems),
        source=source.paths,
    )
