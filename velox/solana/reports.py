"""What happened to our orders, as arrays: placed, filled, cancelled, rejected.

Manifest says what it did in two ways. Its answer, the return data, has a number for each order it
placed. Its log has an event for each placement and each fill, as base 64 after ``Program data: ``;
an event begins with eight bytes that say which it is::

    PlaceOrderLog, 120 bytes                       FillLog, 168 bytes
      8 market            32                         8 market            32
     40 trader            32                        40 maker             32
     72 price           u128                        72 taker             32
     88 base atoms       u64                       104 price           u128
     96 sequence         u64                       120 base atoms       u64
    104 index            u32                       128 quote atoms      u64
    108 last valid slot  u32                       136 maker's sequence u64
    112 order type        u8                       144 taker's sequence u64
    113 is bid            u8                       152 taker is buyer    u8
    114 padding            6                       153 maker is global   u8
                                                   154 padding           14

A price is in 1e-18 quote atoms for a base atom. The log of another program may hold the same bytes:
only what is said between Manifest's own invocation and its end is heard.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from solders.pubkey import Pubkey
from solders.signature import Signature

from velox.errors import RecordError
from velox.solana.instructions import MANIFEST_PROGRAM, decode_placed
from velox.solana.market import MarketSpec

__all__ = [
    "EXECUTION_REPORT_DTYPE",
    "Fill",
    "OrderIdMap",
    "PlacedOrder",
    "ReportKind",
    "decode_events",
    "events_of",
    "placed_orders",
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
_FILL = struct.Struct("<8x32s32s32sQQQQQQBB14x")
_PRICE_DIGITS = 18
_INVOKE = re.compile(r"Program (\w+) invoke \[(\d+)\]")
_END = re.compile(r"Program (\w+) (?:success|failed: .*)")
_DATA = "Program data: "


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


def events_of(logs: Iterable[str], program: Pubkey = MANIFEST_PROGRAM) -> list[bytes]:
    """Return the data that one program logged, and only what it logged itself."""
    name, stack, found = str(program), list[str](), []
    for line in logs:
        if line.startswith(_DATA):
            if stack and stack[-1] == name:
                try:
                    found.append(base64.b64decode(line[len(_DATA) :], validate=True))
                except binascii.Error:
                    # Several fields, or a line that a node has cut: no event of the program's.
                    continue
        elif match := _INVOKE.fullmatch(line):
            del stack[int(match[2]) - 1 :]
            stack.append(match[1])
        elif (match := _END.fullmatch(line)) and stack and stack[-1] == match[1]:
            stack.pop()
    return found


def decode_events(data: Iterable[bytes]) -> list[PlacedOrder | Fill]:
    """Return the placements and fills among events, in order; others are left out.

    Raises
    ------
    RecordError
        An event of a known kind has another length: the program has changed.
    """
    found: list[PlacedOrder | Fill] = []
    for each in data:
        kind = each[:8]
        if kind not in (PLACE_EVENT, FILL_EVENT):
            continue
        layout = _PLACE if kind == PLACE_EVENT else _FILL
        if len(each) != layout.size:
            raise RecordError(f"an event of {len(each)} bytes, where {layout.size} were expected")
        fields = layout.unpack(each)
        if kind == PLACE_EVENT:
            market, trader, low, high, atoms, sequence, index, slot, order_type, bid = fields
            found.append(
                PlacedOrder(
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
            )
        else:
            market, maker, taker, low, high, base, quote, made, took, buyer, _ = fields
            found.append(
                Fill(
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
            )
    return found


def placed_orders(
    return_data: bytes | None, events: Sequence[PlacedOrder | Fill], count: int, trader: Pubkey
) -> list[tuple[int, bool]] | None:
    """Return the number of each order that a transaction placed, and whether it rests.

    Parameters
    ----------
    return_data : bytes or None
        Preferred: it is there for every order.
    events : sequence of PlacedOrder or Fill
        Used where there is no return data.
    count : int
        Orders that the transaction placed, in its own order.
    trader : Pubkey

    Returns
    -------
    list of (int, bool) or None
        None where neither source has exactly `count`.
    """
    if return_data is not None:
        try:
            answers = decode_placed(return_data)
        except RecordError:
            answers = []
        if len(answers) == count:
            return [(each.sequence, each.index != NO_INDEX) for each in answers]
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
    row["price"], row["lots"], row["slot"], row["sequence"] = price, lots, slot, sequence
    row["base_atoms"], row["quote_atoms"], row["maker"] = base_atoms, quote_atoms, maker
    row["signature"] = np.frombuffer(bytes(signature), np.uint8)
    return row


class OrderIdMap:
    """Which order of ours a number on the chain is, and the other way round.

    Parameters
    ----------
    most : int
        Orders that are remembered; the oldest go first. A fill may come long after the placement.

    Notes
    -----
    Thread-safety: one thread.
    """

    def __init__(self, most: int = 1 << 17) -> None:
        self._most = most
        self._by_sequence: OrderedDict[tuple[int, int], tuple[int, int]] = OrderedDict()
        self._by_id: dict[tuple[int, int], int] = {}

    def put(self, market: int, sequence: int, id: int, side: int) -> None:
        """Remember an order; its id means this number from now on."""
        self._by_sequence[market, sequence] = id, side
        self._by_id[market, id] = sequence
        while len(self._by_sequence) > self._most:
            (of_market, oldest), (former, _) = self._by_sequence.popitem(last=False)
            if self._by_id.get((of_market, former)) == oldest:
                del self._by_id[of_market, former]

    def order_of(self, market: int, sequence: int) -> tuple[int, int] | None:
        """Return the id and the side of an order by its number; None if it is not ours."""
        return self._by_sequence.get((market, sequence))

    def sequence_of(self, market: int, id: int) -> int | None:
        """Return the number that an id was last given on the chain."""
        return self._by_id.get((market, id))

    def __len__(self) -> int:
        return len(self._by_sequence)
