"""What happened to our orders, as arrays: placed, filled, cancelled, rejected.

Manifest says what it did in two ways. Its answer, the return data, has a number for each order it
placed; the log repeats it, as base 64 after ``Program return:``. And the log has an event for each
fill, from older releases also for each placement, as base 64 after ``Program data:``; an event
begins with eight bytes that say which it is::

    PlaceOrderLog, 120 bytes                       FillLog, 232 bytes
      8 market            32                         8 market            32
     40 trader            32                        40 maker             32
     72 price           u128                        72 taker             32
     88 base atoms       u64                       104 base and quote    64  not in older releases,
     96 sequence         u64                           mints                 whose FillLog is of 168
    104 index            u32                       168 price           u128
    108 last valid slot  u32                       184 base atoms       u64
    112 order type        u8                       192 quote atoms      u64
    113 is bid            u8                       200 maker's sequence u64
    114 padding            6                       208 taker's sequence u64
                                                   216 taker is buyer    u8
                                                   217 maker is global   u8
                                                   218 padding           14

A price is in 1e-18 quote atoms for a base atom. The log of another program may hold the same bytes:
only what is said between Manifest's own invocation and its end is heard.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.core.records import Side
from velox.errors import RecordError
from velox.solana.tx.instructions import MANIFEST_PROGRAM, decode_placed
from velox.solana.venues.manifest.market import MarketSpec

if TYPE_CHECKING:
    from velox.solana.orders.in_flight import InFlight
    from velox.solana.orders.working import RestingOrder

__all__ = [
    "EXECUTION_REPORT_DTYPE",
    "Fill",
    "OrderIdMap",
    "PlacedOrder",
    "ProgramLog",
    "ReportKind",
    "Reporter",
    "decode_event",
    "decode_events",
    "events_of",
    "placed_orders",
    "read_log",
    "report",
    "velox_price",
]

#: One report. ``lots`` are those of the event, ``base_atoms`` and ``quote_atoms`` the chain's own;
#: ``price`` is in units of 1e-4, of a fill the maker's, rounded down where the chain's is finer;
#: ``signature`` holds the transaction's.
EXECUTION_REPORT_DTYPE: Final = np.dtype(
    [
        ("order_id", "<u8"),
        ("sequence", "<u8"),
        ("slot", "<u8"),
        ("price", "<i8"),
        ("base_atoms", "<u8"),
        ("quote_atoms", "<u8"),
        ("lots", "<u4"),
        ("kind", "u1"),
        ("market", "u1"),
        ("side", "u1"),
        ("maker", "u1"),
        ("signature", "u1", (64,)),
    ]
)

PLACE_EVENT: Final = bytes.fromhex("9d76f7d52f13a478")
FILL_EVENT: Final = bytes.fromhex("3ae6f2034b7104a9")
# The index in the answer of an order that does not rest: it was filled at once, or was IOC.
NO_INDEX: Final = 2**32 - 1

_PLACE = struct.Struct("<8x32s32sQQQQIIBB6x")
_FILL = struct.Struct("<8x32s32s32s64xQQQQQQBB14x")
_OLDER_FILL = struct.Struct("<8x32s32s32sQQQQQQBB14x")
_LAYOUTS: Final = {PLACE_EVENT: (_PLACE,), FILL_EVENT: (_FILL, _OLDER_FILL)}
_PRICE_DIGITS = 18
_MAX_PRICE, _MAX_LOTS = 2**63 - 1, 2**32 - 1
_INVOKE = re.compile(r"Program (\w+) invoke \[(\d+)\]")
_END = re.compile(r"Program (\w+) (?:success|failed: .*)")
_DATA = "Program data: "
_RETURN = "Program return: "


class ReportKind(IntEnum):
    """What a report tells."""

    PLACED = 0
    FILLED = 1
    CANCELLED = 2
    REJECTED = 3


class PlacedOrder(NamedTuple):
    """A placement, as Manifest logs it; `price` in 1e-18 quote atoms for a base atom."""

    market: Pubkey
    trader: Pubkey
    price: int
    base_atoms: int
    sequence: int
    order_index: int
    last_valid_slot: int
    order_type: int
    is_bid: bool


class Fill(NamedTuple):
    """A fill, as Manifest logs it; `price` as in `PlacedOrder`, and the maker's."""

    market: Pubkey
    maker: Pubkey
    taker: Pubkey
    price: int
    base_atoms: int
    quote_atoms: int
    maker_sequence: int
    taker_sequence: int
    taker_is_buyer: bool


class ProgramLog(NamedTuple):
    """What Manifest said in a transaction's log.

    Attributes
    ----------
    events : list of PlacedOrder or Fill
        In order.
    answer : bytes or None
        The return data of its last invocation; None where it gave none.
    unread : int
        Events of a known kind that could not be read: the program has changed.
    """

    events: list[PlacedOrder | Fill]
    answer: bytes | None
    unread: int


def read_log(logs: Iterable[str]) -> ProgramLog:
    """Read what Manifest said; what cannot be read is counted, and stops nothing."""
    events: list[PlacedOrder | Fill] = []
    answer, unread = None, 0
    for kind, data in _said(logs, MANIFEST_PROGRAM):
        if kind == _RETURN:
            answer = data
            continue
        try:
            event = decode_event(data)
        except RecordError:
            unread += 1
        else:
            events += [event] if event is not None else []
    return ProgramLog(events, answer, unread)


def events_of(logs: Iterable[str], program: Pubkey = MANIFEST_PROGRAM) -> list[bytes]:
    """Return the data that one program logged, and only what it logged itself."""
    return [data for kind, data in _said(logs, program) if kind == _DATA]


def _said(logs: Iterable[str], program: Pubkey) -> Iterator[tuple[str, bytes]]:
    """Yield the events and answers that one program gave itself, each with what it is."""
    name, stack = str(program), list[str]()
    answer = f"{_RETURN}{name} "
    for line in logs:
        if line.startswith((_DATA, answer)):
            if stack and stack[-1] == name:
                kind, start = (_DATA, _DATA) if line.startswith(_DATA) else (_RETURN, answer)
                try:
                    yield kind, base64.b64decode(line[len(start) :], validate=True)
                except binascii.Error:
                    # Several fields, or a line that a node has cut: nothing of the program's.
                    continue
        elif match := _INVOKE.fullmatch(line):
            del stack[int(match[2]) - 1 :]
            stack.append(match[1])
        elif (match := _END.fullmatch(line)) and stack and stack[-1] == match[1]:
            stack.pop()


def decode_event(data: bytes) -> PlacedOrder | Fill | None:
    """Return the placement or the fill that an event tells of; None for another kind.

    Raises
    ------
    RecordError
        An event of a known kind has another length: the program has changed.
    """
    layouts = _LAYOUTS.get(data[:8], ())
    fitting = [each for each in layouts if each.size == len(data)]
    if not fitting:
        if not layouts:
            return None
        known = " or ".join(str(each.size) for each in layouts)
        raise RecordError(f"an event of {len(data)} bytes, where {known} were expected")
    fields = fitting[0].unpack(data)
    if fitting[0] is _PLACE:
        market, trader, low, high, atoms, sequence, index, slot, order_type, bid = fields
        return PlacedOrder(
            Pubkey(market),
            Pubkey(trader),
            low + (high << 64),
            atoms,
            sequence,
            index,
            slot,
            order_type,
            bool(bid),
        )
    market, maker, taker, low, high, base, quote, made, took, buyer, _ = fields
    return Fill(
        Pubkey(market),
        Pubkey(maker),
        Pubkey(taker),
        low + (high << 64),
        base,
        quote,
        made,
        took,
        bool(buyer),
    )


def decode_events(data: Iterable[bytes]) -> list[PlacedOrder | Fill]:
    """Return the placements and fills among events, in order; others are left out.

    Raises
    ------
    RecordError
        See `decode_event`.
    """
    return [event for each in data if (event := decode_event(each)) is not None]


def placed_orders(
    answers: Iterable[bytes | None],
    events: Sequence[PlacedOrder | Fill],
    count: int,
    trader: Pubkey,
) -> list[tuple[int, bool]] | None:
    """Return the number of each order that a transaction placed, and whether it rests.

    Parameters
    ----------
    answers : iterable of bytes or None
        The program's answer, from wherever it was had, the best source first.
    events : sequence of PlacedOrder or Fill
        Used where no answer is.
    count : int
        Orders that the transaction placed, in its own order.
    trader : Pubkey

    Returns
    -------
    list of (int, bool) or None
        None where no source has exactly `count`.
    """
    for answer in answers:
        try:
            placed = decode_placed(answer) if answer is not None else []
        except RecordError:
            continue
        if len(placed) == count:
            return [(each.sequence, each.rests) for each in placed]
    logged = [each for each in events if isinstance(each, PlacedOrder) and each.trader == trader]
    if len(logged) == count:
        return [(each.sequence, each.order_index != NO_INDEX) for each in logged]
    return None


def velox_price(spec: MarketSpec, price: int) -> int:
    """Return a price of Manifest's, in 1e-18 quote atoms for a base atom, in units of 1e-4."""
    places = _PRICE_DIGITS - 4 + spec.quote_decimals - spec.base_decimals
    scale: int = 10 ** abs(places)
    return price // scale if places >= 0 else price * scale


def report(
    kind: ReportKind,
    *,
    order_id: int,
    market: int,
    side: int,
    price: int,
    lots: int,
    slot: int,
    signature: Signature,
    sequence: int = 0,
    base_atoms: int = 0,
    quote_atoms: int = 0,
    maker: bool = False,
) -> npt.NDArray[np.void]:
    """Return one report, as an array of one."""
    row = np.zeros(1, EXECUTION_REPORT_DTYPE)
    row["kind"], row["order_id"], row["market"], row["side"] = kind, order_id, market, side
    # A price or a size that no order of ours has is somebody else's word: told as far as it goes.
    row["price"], row["lots"] = min(price, _MAX_PRICE), min(lots, _MAX_LOTS)
    row["slot"], row["sequence"] = slot, sequence
    row["base_atoms"], row["quote_atoms"], row["maker"] = base_atoms, quote_atoms, maker
    row["signature"] = np.frombuffer(bytes(signature), np.uint8)
    return row


class OrderIdMap:
    """Which order of ours a number on the chain is.

    Parameters
    ----------
    most : int
        Orders that are remembered; the oldest go first. A fill may come long after the placement.
    most_retired : int
        How many of them no longer rest. A fill may be learned of after the cancellation.

    Notes
    -----
    Thread-safety: one thread.
    """

    def __init__(self, most: int = 1 << 17, most_retired: int = 1 << 10) -> None:
        self._most = most
        self._most_retired = most_retired
        self._retired: deque[tuple[int, int]] = deque()
        self._by_sequence: OrderedDict[tuple[int, int], tuple[int, int]] = OrderedDict()

    def put(self, market: int, sequence: int, id: int, side: int) -> None:
        """Remember an order."""
        self._by_sequence[market, sequence] = id, side
        while len(self._by_sequence) > self._most:
            self._by_sequence.popitem(last=False)

    def retire(self, market: int, sequence: int) -> None:
        """Note that an order no longer rests: it is forgotten once enough others do not either."""
        self._retired.append((market, sequence))
        if len(self._retired) > self._most_retired:
            self._by_sequence.pop(self._retired.popleft(), None)

    def order_of(self, market: int, sequence: int) -> tuple[int, int] | None:
        """Return the id and the side of an order by its number; None if it is not ours."""
        return self._by_sequence.get((market, sequence))

    def __len__(self) -> int:
        return len(self._by_sequence)


class Reporter:
    """Makes reports of what transactions of ours did.

    Parameters
    ----------
    trader : Pubkey
        Who we are.
    most : int
        Reports that are kept for `take`; over that the oldest are lost, and counted in `lost`.

    Notes
    -----
    Thread-safety: one thread.
    """

    def __init__(self, trader: Pubkey, most: int = 1 << 16) -> None:
        self.ids = OrderIdMap()
        self.lost = 0
        self._trader = trader
        self._most = most
        self._rows: deque[npt.NDArray[np.void]] = deque()

    def take(self) -> npt.NDArray[np.void]:
        """Return the reports since the last call, in order."""
        rows, self._rows = self._rows, deque()
        if not rows:
            return np.zeros(0, EXECUTION_REPORT_DTYPE)
        whole: npt.NDArray[np.void] = np.concatenate(rows)
        return whole

    def landed(
        self,
        flight: InFlight,
        slot: int,
        placed: Sequence[tuple[int, bool]] | None,
        fills: Iterable[Fill],
        spec: MarketSpec | None,
    ) -> None:
        """Report what an executed transaction cancelled, placed and filled, in that order.

        Must come before the desk is brought to it.
        """
        pack, signature = flight.pack, flight.signed.signature
        lot_atoms = spec.lot_atoms if spec is not None else 0

        def add(kind: ReportKind, order: RestingOrder, lots: int, sequence: int) -> None:
            self._add(
                report(
                    kind,
                    order_id=order.id,
                    market=order.market,
                    side=order.side,
                    price=order.price,
                    lots=lots,
                    sequence=sequence,
                    base_atoms=lots * lot_atoms,
                    slot=slot,
                    signature=signature,
                )
            )

        for order, left in pack.cancels.items():
            add(ReportKind.CANCELLED, order, order.chain - left, order.sequence or 0)
        again = [(order, left) for order, left in pack.cancels.items() if left]
        orders = [*zip(pack.places, pack.sizes, strict=True), *again]
        numbers = [sequence for sequence, _ in placed] if placed is not None else [0] * len(orders)
        for (order, lots), sequence in zip(orders, numbers, strict=True):
            add(ReportKind.PLACED, order, lots, sequence)
            if placed is not None:
                self.ids.put(order.market, sequence, order.id, order.side)
        if spec is not None:
            for fill in fills:
                self._filled(fill, spec, slot, signature)
            for order in pack.cancels:
                if order.sequence is not None:
                    self.ids.retire(order.market, order.sequence)
            for (order, _), (sequence, rests) in zip(orders, placed or (), strict=False):
                if not rests:
                    self.ids.retire(order.market, sequence)

    def _filled(self, fill: Fill, spec: MarketSpec, slot: int, signature: Signature) -> None:
        if fill.market != spec.market:
            return
        parts = ((fill.maker, fill.maker_sequence, True), (fill.taker, fill.taker_sequence, False))
        for trader, sequence, maker in parts:
            if trader != self._trader:
                continue
            known = self.ids.order_of(spec.velox_market, sequence)
            bought = fill.taker_is_buyer != maker
            self._add(
                report(
                    ReportKind.FILLED,
                    order_id=known[0] if known is not None else 0,
                    market=spec.velox_market,
                    side=Side.BID if bought else Side.ASK,
                    price=velox_price(spec, fill.price),
                    lots=fill.base_atoms // spec.lot_atoms,
                    sequence=sequence,
                    base_atoms=fill.base_atoms,
                    quote_atoms=fill.quote_atoms,
                    maker=maker,
                    slot=slot,
                    signature=signature,
                )
            )

    def rejected(self, flight: InFlight, slot: int) -> None:
        """Report each order of a transaction that the chain executed with an error."""
        for record in flight.signed.orders:
            self._add(
                report(
                    ReportKind.REJECTED,
                    order_id=int(record["id"]),
                    market=int(record["market"]),
                    side=int(record["side"]),
                    price=int(record["price"]),
                    lots=int(record["size"]),
                    slot=slot,
                    signature=flight.signed.signature,
                )
            )

    def _add(self, row: npt.NDArray[np.void]) -> None:
        self._rows.append(row)
        if len(self._rows) > self._most:
            self._rows.popleft()
            self.lost += 1
