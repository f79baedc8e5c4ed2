"""Binance: depth diffs of spot and futures, applied to a REST snapshot as Binance documents it.

A message is one of a raw stream, one of a combined stream (``{"stream": …, "data": …}``), an array
of messages, or a snapshot of the book (``lastUpdateId``) from REST or from the WebSocket API.

The table shows how a diff chains; *last* is the id up to which the book is complete. The source is
"How to manage a local order book correctly" in Binance's documentation of its spot, USD-M and
COIN-M streams:

======== =================== ===================== ==========================
market   known already       first after snapshot  continues the diff before
======== =================== ===================== ==========================
futures  ``u < last``        ``pu <= last <= u``   ``pu <= last < u``
spot     ``u <= last``       ``U <= last + 1``     ``U <= last + 1``
======== =================== ===================== ==========================

For futures Binance says ``U <= last`` of the first diff. Ids between `pu` and `U` belong to no
event of the symbol, so a snapshot with such an id is complete too. A diff that overlaps the one
before sets absolute quantities as of its own `u`, so it may be applied.

A recording may hold what two connections received. Its diffs repeat, and if one connection loses a
diff, the other may bring it after the next ones. So once a symbol's diff was repeated, a diff that
does not continue the book is held: for a second at most, until those before it have come. Only then
is it a gap.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import numpy as np

from velox.core.integers import INT64_MAX
from velox.core.records import Side
from velox.feeds.decode.decimals import Grown
from velox.feeds.decode.fields import (
    KEEP_ALIVES,
    TIME_LIMIT,
    epoch_ns,
    integer,
    member,
    name_of,
    parse_json,
)
from velox.feeds.decode.levels import Levels, Market, Sink, require_uncrossed
from velox.feeds.decode.malformed import MalformedError, shown
from velox.feeds.decode.session import OnGap, Report
from velox.feeds.scan import END, OTHER, TRADE, BinanceScanner

__all__ = ["BinanceSession", "DepthStream", "SymbolState"]

DepthStream = Literal["auto", "diff", "partial"]
Origin = Hashable

# Event times of one symbol rise with its ids. If a known id comes again with an event time that is
# this much newer, the venue has restarted its ids.
RESTART_NS = 10_000_000_000
# The same limit on our own clock, while the book is a snapshot to which no diff was applied yet.
SNAPSHOT_LEAD_NS = 60_000_000_000
# The most diffs that wait for a snapshot; beyond that the oldest is dropped.
WAITING_LIMIT = 16_384
# The most snapshots without a name that wait for the first diff, which names its symbol.
NAMELESS_LIMIT = 64
# How long a diff that came too early may wait for the diffs before it, and how many may wait.
REORDER_NS = 1_000_000_000
REORDER_LIMIT = 1024
# How many of the diffs that wait for a snapshot are looked through for a repeated one.
REPEAT_DISTANCE = 64
# Partial depth has at most this many levels a side.
PARTIAL_LEVELS = 20

_DEPTH_STREAM = re.compile(r"([^@]*)@depth([0-9]*)(?:@[0-9]+ms)?")
# An object with one of these keys describes a book. An object without them does not.
_BOOK_KEYS = frozenset({"lastUpdateId", "bids", "asks", "b", "a", "B", "A", "u", "U", "pu"})


class _Diff(NamedTuple):
    origin: Origin
    time: int
    event_time: int  # 0 where the message has none
    venue_time: int  # of the transaction, or else of the event; 0 where the message has neither
    first: int
    final: int
    previous: int | None  # None on spot, which does not send it
    bids: Levels
    asks: Levels

    def is_before(self, snapshot: int) -> bool:
        return self.final <= snapshot if self.previous is None else self.final < snapshot

    def reaches(self, last: int) -> bool:
        """Whether nothing lies between `last` and this diff."""
        return self.first <= last + 1 if self.previous is None else self.previous <= last

    def joins(self, snapshot: int) -> bool:
        return self.reaches(snapshot) and not self.is_before(snapshot)

    def expected(self, last: int) -> str:
        if self.previous is None:
            return f"expected U = {last + 1}, got {self.first}"
        return f"expected pu = {last}, got {self.previous}"

    @property
    def chain_field(self) -> str:
        return "U" if self.previous is None else "pu"


class _Snapshot(NamedTuple):
    origin: Origin
    time: int
    last: int
    bids: Levels
    asks: Levels
    venue_time: int

    def bridges(self, diff: _Diff) -> bool:
        return diff.is_before(self.last) or diff.joins(self.last)


def _extent(snapshot: _Snapshot) -> tuple[Fraction, Fraction] | None:
    """The lowest and the highest price of a snapshot; None if it is empty."""
    prices = [
        Fraction(price, 10**side.price_places)
        for side in (snapshot.bids, snapshot.asks)
        for price in (min(side.prices, default=None), max(side.prices, default=None))
        if price is not None
    ]
    return (min(prices), max(prices)) if prices else None


class _Nameless(NamedTuple):
    origin: Origin
    time: int | None
    message: dict[str, Any]


@dataclass(slots=True, eq=False)
class SymbolState:
    """The state of one symbol's book.

    Attributes
    ----------
    market : Market
    ids, positions : array of int
        The final id of each diff or whole picture that was applied, and the sink's count after it.
    ticker_ids, tickers : array of int
        Each ticker: its update id; bid price, bid size, ask price, ask size in the units of the
        market. An empty side is 0 and 0.
    """

    market: Market
    # The id up to which the book is complete; None while no snapshot has been found.
    last: int | None = None
    # Whether that id is a snapshot's: it then lies within the next diff, not at its border.
    at_snapshot: bool = False
    opened_at: int = 0
    opened_by: _Snapshot | None = None
    event_time: int = 0
    waiting: list[_Diff] = field(default_factory=list)
    # Whether a diff was repeated: several connections were recorded.
    redundant: bool = False
    # Diffs that came too early, by their ids, and when the first of them came.
    held: list[_Diff] = field(default_factory=list)
    held_since: int = 0
    # A snapshot that was not needed when it came. It may bridge a later gap.
    spare: _Snapshot | None = None
    has_diffs: bool = False  # a message that is a diff for certain, or taken for one
    joined: bool = False  # a diff has been applied
    lost: bool = False  # a gap was counted: what follows it is no fault of its own
    picture: int | None = None  # the id of the newest whole picture
    picture_time: int = 0
    # Messages that may be diffs or whole pictures, while none of them has decided which.
    doubtful: int = 0
    doubtful_levels: int = 0
    doubt: Origin = None
    certain: bool = False
    trade_id: int = -1
    ids: array[int] = field(default_factory=lambda: array("Q"))
    positions: array[int] = field(default_factory=lambda: array("q"))
    ticker_ids: array[int] = field(default_factory=lambda: array("Q"))
    tickers: array[int] = field(default_factory=lambda: array("q"))


class BinanceSession:
    """The messages of one connection, in the order of their arrival.

    Parameters
    ----------
    sink : Sink
    report : Report
    symbol : str, optional
        Read this symbol only.
    snapshot_symbol : str, optional
        The symbol of snapshots that name none. Without it, such a snapshot is used only while
        exactly one symbol has depth.
    depth_stream : {'auto', 'diff', 'partial'}
        The kind of a ``depthUpdate`` without the name of its stream. Partial depth of futures looks
        like a diff. ``auto`` refuses a symbol if each of its messages could be either.
    on_gap : {'clear', 'continue', 'stop'}
        After a gap: empty the book until a snapshot bridges it; apply the diff as if there were no
        gap; or report an error.
    trades : bool
        Whether trades become TRADE records.
    places, tick, lot : optional
        The units of each market, as `LevelRecorder.market` takes them.
    default_name : str
        The symbol of a snapshot if no message names one.
    careful : bool
        Whether the slower Python decoder reads every message, and the scanner none.

    Attributes
    ----------
    ignored : Counter of str
        How many messages were ignored, by the name of the event or the reason.
    gaps : int
        Gaps in the ids that no snapshot bridged.
    reordered : int
        Diffs that came after diffs that they precede, and were applied in their place.
    symbols : dict
        By name: `SymbolState`.

    Notes
    -----
    Not thread-safe: one thread feeds a session. The order of diffs after REST snapshots follows
    Binance's "How to manage a local order book correctly".
    """

    def __init__(
        self,
        sink: Sink,
        report: Report,
        *,
        symbol: str | None = None,
        snapshot_symbol: str | None = None,
        depth_stream: DepthStream = "auto",
        on_gap: OnGap = "clear",
        trades: bool = False,
        places: int | None = None,
        tick: int | None = None,
        lot: Decimal | None = None,
        default_name: str = "BINANCE",
        careful: bool = False,
    ) -> None:
        self.sink = sink
        self.report = report
        self.only = symbol
        self.snapshot_symbol = snapshot_symbol
        self.depth_stream = depth_stream
        self.on_gap = on_gap
        self.trades = trades
        self.places = places
        self.tick = tick
        self.lot = lot
        self.default_name = default_name
        self.ignored: Counter[str] = Counter()
        self.gaps = 0
        self.reordered = 0
        self.symbols: dict[str, SymbolState] = {}
        # The time of the newest message that had one.
        self.time: int | None = None
        # Symbols with depth, whether they are read or not.
        self._with_depth: set[str] = set()
        # Snapshots without a name: those that wait, and the first that was used, with its symbol.
        self._nameless: list[_Nameless] = []
        self._assumed: tuple[str, Origin] | None = None
        # The lowest and the highest price of the last snapshot that `snapshot_symbol` has named.
        self._told_extent: tuple[Fraction, Fraction] | None = None
        # A depthUpdate without its stream's name may be a whole picture. The scanner cannot
        # distinguish these.
        self._scanner = (
            None if careful or depth_stream == "partial" else BinanceScanner(trades=trades)
        )
        # By the scanner's number.
        self._scanned: list[SymbolState] = []

    def feed(self, raw: bytes, recv_ns: int | None, origin: Origin) -> None:
        """Take one message.

        Parameters
        ----------
        raw : bytes
            JSON text, without a line end.
        recv_ns : int or None
            When it was received, in ns. With None, the message's own time is used, or else that of
            an adjacent message.
        origin : hashable
            Where the message came from; it is passed to `report`.
        """
        if self._scanner is not None and self.time is not None:
            self._scanner.begin(raw, stamped=False)
            if self._scan(self._scanner, recv_ns, origin):
                return
        self.feed_careful(raw, recv_ns, origin)

    def feed_careful(self, raw: bytes, recv_ns: int | None, origin: Origin) -> None:
        """Take one message in the careful form, which reads any message that can be read."""
        if raw in KEEP_ALIVES:
            self.ignored[raw.decode()] += 1
            return
        try:
            self._value(parse_json(raw), recv_ns, origin, "")
        except MalformedError as error:
            self.report(error, origin)

    def feed_lines(
        self,
        block: bytes,
        line: int,
        careful: Callable[[bytes, int], None],
        origin: Callable[[int], Origin],
        enough: Callable[[], bool],
    ) -> bool:
        """Decode a block of lines, each with or without a local timestamp in front.

        Parameters
        ----------
        block : bytes
        line : int
            The number of its first line.
        careful : callable
            Called with each line that the scanner does not read, and its number. It must `feed` the
            message in the line.
        origin : callable
            The origin of the message in a line.
        enough : callable
            Returns whether to stop; called after each line that may have written a record.

        Returns
        -------
        bool
            Whether it was stopped.
        """
        scanner = self._scanner
        if scanner is None:
            scanner = BinanceScanner()
        scanner.begin(block, line)
        while True:
            scans = self._scanner is not None and self.time is not None
            code = scanner.advance() if scans else scanner.skip_one()
            if scans and scanner.has_time:
                self.time = scanner.time
            if code == END:
                self._absorb(scanner)
                return False
            if code == OTHER:
                self._absorb(scanner)
                careful(scanner.raw, scanner.line)
            else:
                self._scanned_event(scanner, code, origin(scanner.line))
            if enough():
                self._absorb(scanner)
                return True

    def stamps(self, factor: int, *, told: bool) -> None:
        """Set the unit of the local timestamps of `feed_lines`; see `BinanceScanner.stamps`."""
        if self._scanner is not None:
            self._scanner.stamps(factor, told)

    def _scan(self, scanner: BinanceScanner, recv_ns: int | None, origin: Origin) -> bool:
        """Take the one message that a scanner has begun. False if it needs the Python decoder."""
        if recv_ns is not None and recv_ns >= TIME_LIMIT:
            return False
        code = scanner.advance()
        if code == OTHER:
            return False
        if recv_ns is not None:
            self.time = recv_ns
        elif scanner.has_time:
            self.time = scanner.time
        if code == END:
            self._absorb(scanner)
        else:
            self._scanned_event(scanner, code, origin)
        return True

    def _absorb(self, scanner: BinanceScanner) -> None:
        """Take over the scanner's tickers: the Python decoder appends to the same columns."""
        for number, symbol in enumerate(self._scanned):
            if scanner.has_tickers(number):
                ids, tickers = scanner.take_tickers(number)
                symbol.ticker_ids.frombytes(ids)
                symbol.tickers.frombytes(tickers)

    def _scanned_event(self, scanner: BinanceScanner, code: int, origin: Origin) -> None:
        symbol = self._scanned[scanner.symbol]
        market = symbol.market
        if code == TRADE:
            self._print(
                symbol,
                scanner.identity,
                scanner.price,
                scanner.size,
                scanner.maker_buys,
                venue_time=scanner.venue_time,
            )
            return
        places = (market.prices.places, market.sizes.places)
        diff = _Diff(
            origin,
            self._now(),
            scanner.event_time,
            scanner.venue_time,
            scanner.first,
            scanner.final,
            scanner.previous if scanner.has_previous else None,
            _levels(scanner.bids(), places),
            _levels(scanner.asks(), places),
        )
        try:
            self._has_depth(market.name)
            self._take(symbol, diff, told=scanner.named)
        except MalformedError as error:
            self.report(error, origin)

    def _make_scannable(self, symbol: SymbolState) -> None:
        scanner = self._scanner
        if scanner is None:
            return
        number = scanner.add(symbol.market.name)
        if number < 0:
            return
        self._scanned.append(symbol)
        prices, sizes = symbol.market.prices, symbol.market.sizes
        prices.seen = lambda: scanner.largest(number)[0]
        sizes.seen = lambda: scanner.largest(number)[1]
        self._set_units(symbol)

    def _set_units(self, symbol: SymbolState) -> None:
        if self._scanner is None or symbol not in self._scanned:
            return
        number = self._scanned.index(symbol)
        prices, sizes = symbol.market.prices, symbol.market.sizes
        self._scanner.set_prices(number, prices.places, prices.limit, prices.step or 0)
        self._scanner.set_sizes(number, sizes.places, min(sizes.limit, INT64_MAX), sizes.step or 0)

    def grown(self, market: Market, grown: Grown) -> None:
        """Convert the tickers that are kept to the finer unit of their market."""
        for symbol in self.symbols.values():
            if symbol.market is market:
                self._set_units(symbol)
            if symbol.market is market:
                tickers = np.frombuffer(symbol.tickers, np.int64)
                tickers[0 if grown.what == "price" else 1 :: 2] *= grown.factor

    def _value(self, value: Any, recv_ns: int | None, origin: Origin, stream: str) -> None:
        if type(value) is list:
            if not value:
                self.ignored["empty array"] += 1
            for element in value:
                if type(element) is not dict:
                    raise MalformedError(f"expected an object, got {shown(element)}")
                self._value(element, recv_ns, origin, stream)
        elif type(value) is not dict:
            raise MalformedError(f"expected a JSON object, got {shown(value)}")
        elif "stream" in value and not stream:
            self._value(member(value, "data"), recv_ns, origin, name_of(value, "stream"))
        else:
            time = self._time_of(recv_ns, value)
            if time is not None:
                self._settle(time)
            self._message(value, stream, origin)

    def _time_of(self, recv_ns: int | None, message: dict[str, Any]) -> int | None:
        if recv_ns is not None:
            if recv_ns >= TIME_LIMIT:
                raise MalformedError(f"{recv_ns} ns does not fit 63 bits", "timestamp")
            return recv_ns
        return epoch_ns(integer(message, "E"), "E") if "E" in message else None

    def _settle(self, time: int) -> None:
        """Note the time. A snapshot that came before any time was known gets it."""
        first = self.time is None
        self.time = time
        if first and self._nameless:
            self._nameless = [
                each if each.time is not None else each._replace(time=time)
                for each in self._nameless
            ]
            waiting, self._nameless = self._nameless, []
            for each in waiting:
                self._guarded(each)

    def _guarded(self, each: _Nameless) -> None:
        try:
            self._snapshot(each)
        except MalformedError as error:
            self.report(error, each.origin)

    def _message(self, message: dict[str, Any], stream: str, origin: Origin) -> None:
        event = message.get("e")
        if event == "depthUpdate":
            self._depth_update(message, stream, origin)
        elif event == "bookTicker" or (event is None and message.keys() >= {"u", "b", "B", "a"}):
            self._ticker(message)
        elif event == "trade" and self.trades:
            self._trade(message)
        elif "lastUpdateId" in message:
            self._whole_book(message, stream, origin)
        elif event is not None:
            self.ignored[name_of(message, "e")] += 1
        elif "result" in message:
            result = message["result"]
            if type(result) is dict and "lastUpdateId" in result:
                self._snapshot(_Nameless(origin, self.time, result))
            else:
                self.ignored["acknowledgement"] += 1
        elif "error" in message or message.keys() >= {"code", "msg"}:
            self.ignored["error reply"] += 1
        elif stream:
            self.ignored[stream.partition("@")[2] or stream] += 1
        elif _BOOK_KEYS.isdisjoint(message):
            self.ignored["unrecognised object"] += 1
        else:
            raise MalformedError(
                f"keys {shown(list(message))}: expected depthUpdate, bookTicker or a snapshot", "e"
            )

    def _symbol(self, name: str) -> SymbolState | None:
        if self.only is not None and name != self.only:
            return None
        symbol = self.symbols.get(name)
        if symbol is None:
            symbol = SymbolState(
                self.sink.market(name, places=self.places, tick=self.tick, lot=self.lot)
            )
            self.symbols[name] = symbol
            self._make_scannable(symbol)
        return symbol

    # Diffs and pictures

    def _depth_update(self, message: dict[str, Any], stream: str, origin: Origin) -> None:
        match = _DEPTH_STREAM.fullmatch(stream)
        if stream and match is None:
            self.ignored[stream.partition("@")[2] or stream] += 1
            return
        is_picture = bool(match[2]) if match is not None else self.depth_stream == "partial"
        name = name_of(message, "s")
        if not is_picture:
            self._has_depth(name)
        symbol = self._symbol(name)
        if symbol is None:
            return
        diff = _Diff(
            origin,
            self._now(),
            _epoch(message, "E"),
            _venue_time(message),
            integer(message, "U"),
            integer(message, "u"),
            integer(message, "pu") if "pu" in message else None,
            symbol.market.levels(member(message, "b"), "b"),
            symbol.market.levels(member(message, "a"), "a"),
        )
        if diff.first > diff.final:
            raise MalformedError(f"{diff.first} is greater than u = {diff.final}", "U")
        if is_picture:
            self._picture(
                symbol,
                diff.final,
                diff.bids,
                diff.asks,
                event_time=diff.event_time,
                venue_time=diff.venue_time,
            )
            return
        self._take(symbol, diff, told=match is not None)

    def _take(self, symbol: SymbolState, diff: _Diff, *, told: bool) -> None:
        """Apply a diff of a symbol, keep it, or ignore it."""
        if not symbol.certain:
            if self.depth_stream == "auto" and not told and diff.previous is not None:
                self._doubt(symbol, diff)
            else:
                symbol.certain = True
        symbol.has_diffs = True
        self._name_waiting(symbol)
        self._advance(symbol, diff)

    def _doubt(self, symbol: SymbolState, diff: _Diff) -> None:
        """Count a message that could be a whole picture as well as a diff."""
        if not _looks_whole(diff.bids, diff.asks):
            symbol.certain = True
            return
        if not symbol.doubtful:
            symbol.doubt = diff.origin
        symbol.doubtful += 1
        symbol.doubtful_levels = max(
            symbol.doubtful_levels, len(diff.bids.prices), len(diff.asks.prices)
        )

    def _advance(self, symbol: SymbolState, diff: _Diff) -> None:
        last = symbol.last
        if last is None:
            spare = symbol.spare
            if spare is not None and spare.bridges(diff):
                self._open(symbol, spare, diff.time)
                self._advance(symbol, diff)
                return
            repeated = ((each.first, each.final) for each in symbol.waiting[-REPEAT_DISTANCE:])
            if (diff.first, diff.final) in repeated:
                symbol.redundant = True
            symbol.waiting.append(diff)
            if len(symbol.waiting) > WAITING_LIMIT:
                del symbol.waiting[0]
                self.ignored["depthUpdate without a snapshot"] += 1
        elif diff.is_before(last) if symbol.at_snapshot else diff.final <= last:
            if self._restarted(symbol, diff):
                self._lose(symbol, diff, last)
            else:
                self.ignored["depthUpdate known already"] += 1
                symbol.redundant = symbol.redundant or not symbol.at_snapshot
        elif diff.reaches(last):
            self._apply(symbol, diff)
            if symbol.held:
                self.reordered += 1
                self._continue_held(symbol)
        elif symbol.spare is not None and symbol.spare.bridges(diff):
            self._open(symbol, symbol.spare, diff.time)
            self._advance(symbol, diff)
        elif symbol.redundant and self.on_gap != "stop":
            self._hold(symbol, diff)
        else:
            self._lose(symbol, diff, last)

    def _hold(self, symbol: SymbolState, diff: _Diff) -> None:
        """Keep a diff until those before it have come, or for as long as that is likely."""
        held = symbol.held
        if not held:
            symbol.held_since = diff.time
        place = bisect_left(held, diff.final, key=lambda each: each.final)
        if place < len(held) and held[place].final == diff.final:
            self.ignored["depthUpdate known already"] += 1
        else:
            held.insert(place, diff)
        if len(held) > REORDER_LIMIT or diff.time > symbol.held_since + REORDER_NS:
            self._give_up(symbol, diff.time)

    def _continue_held(self, symbol: SymbolState) -> None:
        """Apply the diffs that were held, as far as they now continue the book."""
        now = self._now()
        while symbol.held and symbol.last is not None:
            if not symbol.held[0].reaches(symbol.last):
                # Those after it may still come in time.
                symbol.held_since = now
                return
            diff = symbol.held.pop(0)
            if diff.final > symbol.last:
                self._apply(symbol, diff._replace(time=max(diff.time, now)))

    def _give_up(self, symbol: SymbolState, time: int) -> None:
        """What is missing before the diffs that were held does not come any more: a gap."""
        held, symbol.held = symbol.held, []
        last = symbol.last
        if last is None or not held:
            return
        self._lose(symbol, held[0]._replace(time=max(held[0].time, time)), last)
        for diff in held[1:]:
            self._advance(symbol, diff._replace(time=max(diff.time, time)))

    @staticmethod
    def _restarted(symbol: SymbolState, diff: _Diff) -> bool:
        """Whether a known id came again because the venue restarted its ids."""
        if symbol.at_snapshot:
            return diff.time > symbol.opened_at + SNAPSHOT_LEAD_NS
        return symbol.event_time > 0 and diff.event_time > symbol.event_time + RESTART_NS

    def _apply(self, symbol: SymbolState, diff: _Diff) -> None:
        self.sink.update(symbol.market, diff.time, diff.bids, diff.asks, venue_time=diff.venue_time)
        symbol.last = diff.final
        symbol.at_snapshot = False
        symbol.joined = True
        symbol.opened_by = None
        symbol.event_time = max(symbol.event_time, diff.event_time)
        symbol.ids.append(diff.final)
        symbol.positions.append(self.sink.count)

    def _open(self, symbol: SymbolState, snapshot: _Snapshot, time: int) -> None:
        self.sink.snapshot(
            symbol.market, time, snapshot.bids, snapshot.asks, venue_time=snapshot.venue_time
        )
        symbol.last = snapshot.last
        symbol.at_snapshot = True
        symbol.opened_at = time
        symbol.opened_by = snapshot
        symbol.spare = None
        symbol.lost = False
        symbol.event_time = 0
        held, symbol.held = symbol.held, []
        for diff in held:
            self._advance(symbol, diff._replace(time=max(diff.time, time)))

    def _lose(self, symbol: SymbolState, diff: _Diff, last: int) -> None:
        """Handle a gap: the diff does not continue the book, so the book is no longer correct."""
        if symbol.at_snapshot and not symbol.joined and self.on_gap != "continue":
            # The snapshot was taken before the recording of the diffs began.
            self.ignored["stale snapshot"] += 1
        else:
            self.gaps += 1
            error = MalformedError(
                f"{symbol.market.name} leaves a gap: {diff.expected(last)}", diff.chain_field
            )
            self.report(error, diff.origin, lines=int(self.on_gap == "stop"))
            if self.on_gap == "continue":
                symbol.event_time = 0
                self._apply(symbol, diff)
                return
            symbol.lost = True
        self._forget(symbol, diff.time, venue_time=diff.venue_time)
        symbol.waiting = [diff]

    def _forget(self, symbol: SymbolState, time: int, *, venue_time: int = 0) -> None:
        self.sink.clear(symbol.market, time, venue_time=venue_time)
        symbol.last = None
        symbol.at_snapshot = False
        symbol.opened_by = None
        symbol.spare = None
        symbol.waiting = []
        symbol.held = []

    def _picture(
        self,
        symbol: SymbolState,
        final: int,
        bids: Levels,
        asks: Levels,
        *,
        event_time: int = 0,
        venue_time: int = 0,
    ) -> None:
        """Take a message that holds all of the best levels."""
        if symbol.joined and symbol.last is not None:
            self.ignored["partial depth"] += 1  # the diffs tell more
            return
        if 0 in bids.sizes or 0 in asks.sizes:
            raise MalformedError("partial depth has no empty levels", "b")
        require_uncrossed(symbol.market, bids, asks, "b")
        is_known = symbol.picture is not None and final <= symbol.picture
        if is_known and event_time <= symbol.picture_time + RESTART_NS:
            self.ignored["partial depth known already"] += 1
            return
        if symbol.last is not None:
            # Diffs may still continue the snapshot, though the picture is newer.
            symbol.spare, symbol.last, symbol.at_snapshot = symbol.opened_by, None, False
        self.sink.snapshot(
            symbol.market,
            self._now(),
            bids,
            asks,
            levels=max(len(bids.prices), len(asks.prices)),
            venue_time=venue_time,
        )
        symbol.picture, symbol.picture_time = final, event_time
        symbol.ids.append(final)
        symbol.positions.append(self.sink.count)

    # Snapshots

    def _now(self) -> int:
        return 0 if self.time is None else self.time

    def _whole_book(self, message: dict[str, Any], stream: str, origin: Origin) -> None:
        """Take a message with ``lastUpdateId``: partial depth of spot, or a snapshot."""
        if not stream and self.depth_stream != "partial":
            self._snapshot(_Nameless(origin, self.time, message))
            return
        match = _DEPTH_STREAM.fullmatch(stream)
        if match is not None:
            name = match[1].upper()
        elif not stream:
            name = self._name_in(message) or self.only or self.default_name
        else:
            self.ignored[stream.partition("@")[2] or stream] += 1
            return
        symbol = self._symbol(name)
        if symbol is None:
            return
        bids = symbol.market.levels(member(message, "bids"), "bids")
        asks = symbol.market.levels(member(message, "asks"), "asks")
        self._picture(
            symbol,
            integer(message, "lastUpdateId"),
            bids,
            asks,
            venue_time=_venue_time(message),
        )

    def _name_in(self, message: dict[str, Any]) -> str | None:
        # Only snapshots of COIN-M name their symbol.
        return name_of(message, "symbol") if "symbol" in message else self.snapshot_symbol

    def _has_depth(self, name: str) -> None:
        """Note that a symbol has depth: a snapshot without a name may then be its own."""
        if name in self._with_depth:
            return
        self._with_depth.add(name)
        assumed = self._assumed
        if assumed is not None and assumed[0] != name:
            self._assumed = None
            symbol = self.symbols.get(assumed[0])
            if symbol is not None and (symbol.last is not None or symbol.spare is not None):
                self._forget(symbol, self._now())
            raise MalformedError(
                f"{name} has depth too, so the snapshot that was taken for {assumed[0]}'s may be "
                "its own; say whose with snapshot_symbol",
                "s",
            )

    def _name_waiting(self, symbol: SymbolState) -> None:
        """Give a diff's symbol to the snapshots that waited for one."""
        if self._nameless:
            waiting, self._nameless = self._nameless, []
            for each in waiting:
                self._guarded(each)

    def _snapshot(self, each: _Nameless) -> None:
        if each.time is None:
            # No message has had a time yet. The next message with a time decides the snapshot's
            # time.
            self._nameless.append(each)
            return
        name = self._name_in(each.message)
        if name is None:
            name = self._only_candidate(each)
            if name is None:
                return
            if self._assumed is None:
                self._assumed = (name, each.origin)
        symbol = self._symbol(name)
        if symbol is None:
            return
        snapshot = _Snapshot(
            each.origin,
            each.time,
            integer(each.message, "lastUpdateId"),
            symbol.market.levels(member(each.message, "bids"), "bids", zero_allowed=False),
            symbol.market.levels(member(each.message, "asks"), "asks", zero_allowed=False),
            _venue_time(each.message),
        )
        require_uncrossed(symbol.market, snapshot.bids, snapshot.asks, "bids")
        if self.snapshot_symbol is not None and "symbol" not in each.message:
            self._require_same_symbol(symbol, snapshot)
        self._place(symbol, snapshot)

    def _require_same_symbol(self, symbol: SymbolState, snapshot: _Snapshot) -> None:
        """Refuse a snapshot without a name that cannot be of the symbol of the one before."""
        extent = _extent(snapshot)
        before, self._told_extent = self._told_extent, extent or self._told_extent
        if before is None or extent is None or len(self._with_depth) < 2:
            return
        if extent[0] > before[1] or extent[1] < before[0]:
            self._told_extent = before
            raise MalformedError(
                f"the snapshot names no symbol, and its prices do not meet those of "
                f"{symbol.market.name}'s snapshot before it: snapshot_symbol says whose all of "
                "them are, so leave this one out",
                "lastUpdateId",
            )

    def _only_candidate(self, each: _Nameless) -> str | None:
        """Return the only symbol that can own a snapshot without a name; None if it must wait."""
        if len(self._with_depth) > 1:
            names = ", ".join(sorted(self._with_depth)[:4])
            raise MalformedError(
                f"the snapshot names no symbol, and {len(self._with_depth)} have depth ({names}); "
                "say whose with snapshot_symbol",
                "lastUpdateId",
            )
        known = next(iter(self._with_depth), None)
        if known is None and self.only is not None:
            return self.only
        if known is None or (self.only is not None and known != self.only):
            self._nameless.append(each)
            if len(self._nameless) > NAMELESS_LIMIT:
                del self._nameless[0]
                self.ignored["snapshot without a symbol"] += 1
            return None
        return known

    def _place(self, symbol: SymbolState, snapshot: _Snapshot) -> None:
        """Open the book with a snapshot, keep it, or ignore it."""
        last = symbol.last
        if last is None:
            waiting = [diff for diff in symbol.waiting if not diff.is_before(snapshot.last)]
            if symbol.redundant:
                waiting.sort(key=lambda diff: diff.final)
            if waiting and not waiting[0].joins(snapshot.last):
                self.ignored["stale snapshot"] += 1
                return
            if symbol.picture is not None and snapshot.last < symbol.picture:
                symbol.spare = snapshot
                return
            known = len(symbol.waiting) - len(waiting)
            if known:
                self.ignored["depthUpdate known already"] += known
            self._open(symbol, snapshot, snapshot.time)
            symbol.waiting = []
            for diff in waiting:
                # The diffs that waited become part of the book only now.
                self._advance(symbol, diff._replace(time=max(diff.time, snapshot.time)))
        elif symbol.at_snapshot and snapshot.last > last:
            self._open(symbol, snapshot, snapshot.time)
        elif symbol.at_snapshot:
            self.ignored["snapshot known already"] += 1
        else:
            self.ignored["snapshot not needed"] += 1
            if symbol.spare is None or snapshot.last >= symbol.spare.last:
                symbol.spare = snapshot
            if symbol.held and symbol.spare.bridges(symbol.held[0]):
                self._open(symbol, symbol.spare, snapshot.time)

    # Prints and tickers

    def _trade(self, message: dict[str, Any]) -> None:
        symbol = self._symbol(name_of(message, "s"))
        if symbol is None:
            return
        market = symbol.market
        size = market.size(member(message, "q"), "q")
        if not size:
            return
        price = market.price(member(message, "p"), "p")
        maker_buys = member(message, "m")
        if type(maker_buys) is not bool:
            raise MalformedError(f"{shown(maker_buys)} is not true or false", "m")
        self._print(
            symbol, integer(message, "t"), price, size, maker_buys, venue_time=_venue_time(message)
        )

    def _print(
        self,
        symbol: SymbolState,
        identity: int,
        price: int,
        size: int,
        maker_buys: bool,
        *,
        venue_time: int,
    ) -> None:
        if not size:
            return  # futures also print insurance fund and liquidation notes, of size 0
        # Trade ids of a symbol rise by one. A second connection repeats the same trades.
        if identity <= symbol.trade_id:
            self.ignored["trade known already"] += 1
            return
        symbol.trade_id = identity
        self.sink.trade(
            symbol.market,
            self._now(),
            identity=identity,
            side=int(Side.BID if maker_buys else Side.ASK),
            price=price,
            size=size,
            venue_time=venue_time,
        )

    def _ticker(self, message: dict[str, Any]) -> None:
        symbol = self._symbol(name_of(message, "s"))
        if symbol is None:
            return
        update = integer(message, "u")
        places: tuple[int, int] | None = None
        best: list[int] = []
        while places != (symbol.market.prices.places, symbol.market.sizes.places):
            places = (symbol.market.prices.places, symbol.market.sizes.places)
            best = []
            for price, size in (("b", "B"), ("a", "A")):
                amount = symbol.market.size(member(message, size), size)
                # The price of an empty side is 0, which is not a valid price.
                best += (
                    symbol.market.price(member(message, price), price) if amount else 0,
                    amount,
                )
        symbol.ticker_ids.append(update)
        symbol.tickers.extend(best)

    # The end

    def finish(self, *, cut: bool = False) -> None:
        """End the session: report each snapshot and diff that still waits for a message.

        Parameters
        ----------
        cut : bool
            Whether the input goes on but is not read. Waiting messages are then no fault.
        """
        if self._scanner is not None and self._scanner.trades_ignored:
            self.ignored["trade"] += self._scanner.trades_ignored
        for symbol in self.symbols.values():
            self._require_certain(symbol)
            if not cut:
                self._give_up(symbol, self._now())
        if cut:
            return
        self._name_the_rest()
        for symbol in self.symbols.values():
            count = len(symbol.waiting)
            if not count:
                continue
            if symbol.lost or symbol.picture is not None:
                self.ignored["depthUpdate without a snapshot"] += count
                continue
            self.report(
                MalformedError(
                    f"no REST snapshot of {symbol.market.name} connects to the "
                    f"{count} depth events from here on"
                ),
                symbol.waiting[0].origin,
                lines=count,
            )

    def _name_the_rest(self) -> None:
        """No diff named the snapshot. Use the only symbol, or the source's name."""
        waiting, self._nameless = self._nameless, []
        if waiting and not self._with_depth:
            names = list(self.symbols)
            self._with_depth.add(self.only or (names[0] if len(names) == 1 else self.default_name))
        for each in waiting:
            self._guarded(each if each.time is not None else each._replace(time=self._now()))
        if self._nameless:
            self.ignored["snapshot without a symbol"] += len(self._nameless)

    def _require_certain(self, symbol: SymbolState) -> None:
        doubtful = not symbol.certain and symbol.doubtful > 1 and symbol.doubtful_levels > 1
        if doubtful and symbol.has_diffs:
            self.report(
                MalformedError(
                    f"each of the {symbol.doubtful} depthUpdate messages of "
                    f"{symbol.market.name} may be a diff or a whole book of "
                    f"{symbol.doubtful_levels} levels; say which with depth_stream='diff' or "
                    "depth_stream='partial'",
                    "b",
                ),
                symbol.doubt,
                lines=symbol.doubtful,
                fatal=True,
            )


def _epoch(message: dict[str, Any], field: str) -> int:
    """A time of a message in ns; 0 if it has none."""
    return epoch_ns(integer(message, field), field) if field in message else 0


def _venue_time(message: dict[str, Any]) -> int:
    """The time of a message's transaction, or else of its event; 0 if it has neither."""
    return _epoch(message, "T") or _epoch(message, "E")


def _levels(columns: tuple[bytes, bytes], places: tuple[int, int]) -> Levels:
    """Columns of a scanner as levels."""
    prices, sizes = array("q"), array("q")
    prices.frombytes(columns[0])
    sizes.frombytes(columns[1])
    return Levels(prices, sizes, *places)


def _looks_whole(bids: Levels, asks: Levels) -> bool:
    """Whether a message could be the best levels of both sides: sorted, and without deletions."""
    both = (list(bids.prices), list(asks.prices))
    if not all(0 < len(side) <= PARTIAL_LEVELS for side in both):
        return False
    if 0 in bids.sizes or 0 in asks.sizes or both[0][0] >= both[1][0]:
        return False
    return all(
        prices == sorted(set(prices), reverse=reverse)
        for prices, reverse in zip(both, (True, False), strict=True)
    )
