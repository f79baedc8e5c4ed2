"""Reads Manifest's logs of a transaction: the numbers of its orders, and its fills.

The program reports in two ways. Its return data has a number for each order that it placed; the log
repeats it as base 64 after ``Program return:``. And the log has an event for each fill, as base 64
after ``Program data:``. Older releases also log an event for each placement. An event begins with
eight bytes that name its kind::

    PlaceOrderLog, 120 bytes                       FillLog, 232 bytes
      8 market            32                         8 market            32
     40 trader            32                        40 maker             32
     72 price           u128                        72 taker             32
     88 base atoms       u64                       104 base and quote    64  not in older releases,
     96 sequence         u64                           mints                 whose FillLog has 168
    104 index            u32                       168 price           u128
    108 last valid slot  u32                       184 base atoms       u64
    112 order type        u8                       192 quote atoms      u64
    113 is bid            u8                       200 maker's sequence u64
    114 padding            6                       208 taker's sequence u64
                                                   216 taker is buyer    u8
                                                   217 maker is global   u8
                                                   218 padding           14

A deposit and a withdrawal have 112 bytes: market, trader, mint, and the atoms, a u64.

A price is in 1e-18 quote atoms for one base atom. Another program may log the same bytes. So only
lines between Manifest's own invocation and its end are read.
"""

from __future__ import annotations

import base64
import binascii
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from solders.pubkey import Pubkey

from velox.core.records import Side
from velox.errors import RecordError
from velox.solana.tx.carrier import Fill, OrderNumber, TransactionResult
from velox.solana.venues.manifest.instructions import MANIFEST_PROGRAM, NO_INDEX, decode_placed
from velox.solana.venues.manifest.market import MarketSpec

__all__ = [
    "DEPOSIT_EVENT",
    "FILL_EVENT",
    "PLACE_EVENT",
    "WITHDRAW_EVENT",
    "FillLog",
    "PlaceOrderLog",
    "ProgramLog",
    "TransferLog",
    "decode_event",
    "events_of",
    "order_numbers",
    "read_log",
    "read_result",
    "velox_price",
]

PLACE_EVENT: Final = bytes.fromhex("9d76f7d52f13a478")
FILL_EVENT: Final = bytes.fromhex("3ae6f2034b7104a9")
DEPOSIT_EVENT: Final = bytes.fromhex("17d6182234686dbc")
WITHDRAW_EVENT: Final = bytes.fromhex("70da6f3f125f8823")

_PLACE = struct.Struct("<8x32s32sQQQQIIBB6x")
_FILL = struct.Struct("<8x32s32s32s64xQQQQQQBB14x")
_OLDER_FILL = struct.Struct("<8x32s32s32sQQQQQQBB14x")
_TRANSFER = struct.Struct("<8x32s32s32sQ")
_LAYOUTS: Final = {
    PLACE_EVENT: (_PLACE,),
    FILL_EVENT: (_FILL, _OLDER_FILL),
    DEPOSIT_EVENT: (_TRANSFER,),
    WITHDRAW_EVENT: (_TRANSFER,),
}
# The line with which a node ends a log of over 10 000 bytes.
_TRUNCATED = "Log truncated"
_PRICE_DIGITS = 18
_INVOKE = re.compile(r"Program (\w+) invoke \[(\d+)\]")
_END = re.compile(r"Program (\w+) (?:success|failed: .*)")
_DATA = "Program data: "
_RETURN = "Program return: "


class PlaceOrderLog(NamedTuple):
    """A placement; `price` in 1e-18 quote atoms for one base atom."""

    market: Pubkey
    trader: Pubkey
    price: int
    base_atoms: int
    sequence: int
    order_index: int
    last_valid_slot: int
    order_type: int
    is_bid: bool


class FillLog(NamedTuple):
    """A fill, at the maker's price; `price` in 1e-18 quote atoms for one base atom."""

    market: Pubkey
    maker: Pubkey
    taker: Pubkey
    price: int
    base_atoms: int
    quote_atoms: int
    maker_sequence: int
    taker_sequence: int
    taker_is_buyer: bool


class TransferLog(NamedTuple):
    """A deposit, or a withdrawal of negative atoms."""

    market: Pubkey
    trader: Pubkey
    mint: Pubkey
    atoms: int


class ProgramLog(NamedTuple):
    """Everything that Manifest logged in one transaction.

    Attributes
    ----------
    events : list of PlaceOrderLog, FillLog or TransferLog
        In order.
    answer : bytes or None
        The return data of its last invocation; None if there is none.
    unread : int
        Events of a known kind in an unknown layout: the program is newer than this decoder.
    truncated : bool
        Whether the node cut the log.
    """

    events: list[PlaceOrderLog | FillLog | TransferLog]
    answer: bytes | None
    unread: int
    truncated: bool = False


def read_result(
    spec: MarketSpec, logs: Iterable[str], return_data: bytes | None, placed: int, trader: Pubkey
) -> TransactionResult:
    """Return what a transaction of `trader` did in a market.

    Parameters
    ----------
    spec : MarketSpec
    logs : iterable of str
    return_data : bytes or None
    placed : int
        How many orders the transaction placed.
    trader : Pubkey
    """
    log = read_log(logs)
    moved = {spec.base_mint: 0, spec.quote_mint: 0}
    for event in log.events:
        if isinstance(event, TransferLog) and (event.market, event.trader) == (spec.market, trader):
            moved[event.mint] = moved.get(event.mint, 0) + event.atoms
    numbers = order_numbers((return_data, log.answer), log.events, placed, trader)
    fills = [
        fill
        for event in log.events
        if isinstance(event, FillLog) and event.market == spec.market
        for fill in _own_fills(spec, event, trader)
    ]
    return TransactionResult(
        numbers,
        fills,
        log.unread,
        log.truncated,
        moved[spec.base_mint],
        moved[spec.quote_mint],
    )


def _own_fills(spec: MarketSpec, event: FillLog, trader: Pubkey) -> Iterator[Fill]:
    for who, sequence, maker in (
        (event.maker, event.maker_sequence, True),
        (event.taker, event.taker_sequence, False),
    ):
        if who == trader:
            bought = event.taker_is_buyer != maker
            yield Fill(
                sequence,
                Side.BID if bought else Side.ASK,
                velox_price(spec, event.price),
                event.base_atoms,
                event.quote_atoms,
                maker,
            )


def read_log(logs: Iterable[str]) -> ProgramLog:
    """Read Manifest's part of a log. Unknown layouts are counted, not raised."""
    events: list[PlaceOrderLog | FillLog | TransferLog] = []
    answer, unread = None, 0
    lines = list(logs)
    for kind, data in _lines_of(lines):
        if kind == _RETURN:
            answer = data
            continue
        try:
            event = decode_event(data)
        except RecordError:
            unread += 1
        else:
            events += [event] if event is not None else []
    return ProgramLog(events, answer, unread, _TRUNCATED in lines)


def events_of(logs: Iterable[str]) -> list[bytes]:
    """Return the data of the events that Manifest itself logged."""
    return [data for kind, data in _lines_of(logs) if kind == _DATA]


def _lines_of(logs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the kind and the bytes of each event and answer that Manifest itself logged."""
    name, stack = str(MANIFEST_PROGRAM), list[str]()
    answer = f"{_RETURN}{name} "
    for line in logs:
        if line.startswith((_DATA, answer)):
            if stack and stack[-1] == name:
                kind, start = (_DATA, _DATA) if line.startswith(_DATA) else (_RETURN, answer)
                try:
                    yield kind, base64.b64decode(line[len(start) :], validate=True)
                except binascii.Error:
                    # Several fields, or a line that the node cut short: not an event.
                    continue
        elif match := _INVOKE.fullmatch(line):
            del stack[int(match[2]) - 1 :]
            stack.append(match[1])
        elif (match := _END.fullmatch(line)) and stack and stack[-1] == match[1]:
            stack.pop()


def decode_event(data: bytes) -> PlaceOrderLog | FillLog | TransferLog | None:
    """Return a placement, a fill or a transfer; None for an event of another kind.

    Raises
    ------
    RecordError
        An event of a known kind has an unknown length: the program is newer than this decoder.
    """
    layouts = _LAYOUTS.get(data[:8], ())
    fitting = [each for each in layouts if each.size == len(data)]
    if not fitting:
        if not layouts:
            return None
        known = " or ".join(str(each.size) for each in layouts)
        raise RecordError(f"expected an event of {known} bytes, got {len(data)}", field="length")
    fields = fitting[0].unpack(data)
    if fitting[0] is _TRANSFER:
        market, trader, mint, atoms = fields
        sign = 1 if data[:8] == DEPOSIT_EVENT else -1
        return TransferLog(Pubkey(market), Pubkey(trader), Pubkey(mint), sign * atoms)
    if fitting[0] is _PLACE:
        market, trader, low, high, atoms, sequence, index, slot, order_type, bid = fields
        return PlaceOrderLog(
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
    return FillLog(
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


def order_numbers(
    answers: Iterable[bytes | None],
    events: Sequence[PlaceOrderLog | FillLog | TransferLog],
    count: int,
    trader: Pubkey,
) -> list[OrderNumber] | None:
    """Return the number of each order that a transaction placed, and whether it rests.

    Parameters
    ----------
    answers : iterable of bytes or None
        The program's return data from each source, the best source first.
    events : sequence of PlaceOrderLog or FillLog
        Used if no answer can be read.
    count : int
        Orders that the transaction placed, in its own order.
    trader : Pubkey

    Returns
    -------
    list of OrderNumber, or None
        None if no source has exactly `count` orders.
    """
    for answer in answers:
        try:
            placed = decode_placed(answer) if answer is not None else []
        except RecordError:
            continue
        if len(placed) == count:
            return [
                OrderNumber(each.sequence, each.rests, each.hint if each.rests else None)
                for each in placed
            ]
    logged = [each for each in events if isinstance(each, PlaceOrderLog) and each.trader == trader]
    if len(logged) == count:
        return [
            OrderNumber(each.sequence, rests, each.order_index if rests else None)
            for each in logged
            for rests in (each.order_index != NO_INDEX,)
        ]
    return None


def velox_price(spec: MarketSpec, price: int) -> int:
    """Convert a price from 1e-18 quote atoms for one base atom into units of 1e-4.

    A finer price is rounded down.
    """
    places = _PRICE_DIGITS - 4 + spec.quote_decimals - spec.base_decimals
    scale: int = 10 ** abs(places)
    return price // scale if places >= 0 else price * scale
