"""Manifest's events, decoded; worked by hand from the published layouts."""

from __future__ import annotations

import base64
import struct

import pytest
from solders.pubkey import Pubkey

from velox.errors import RecordError
from velox.solana.tx.instructions import MEMO_PROGRAM
from velox.solana.venues.manifest.events import (
    FillLog,
    PlaceOrderLog,
    decode_event,
    order_numbers,
    read_log,
    velox_price,
)
from velox.solana.venues.manifest.instructions import MANIFEST_PROGRAM
from velox.solana.venues.manifest.market import MarketSpec

MARKET, TRADER, OTHER = (Pubkey(bytes([n]) * 32) for n in (1, 2, 3))
SOL_USDC = MarketSpec(
    market=MARKET,
    base_mint=Pubkey(b"\x04" * 32),
    quote_mint=Pubkey(b"\x05" * 32),
    base_decimals=9,
    quote_decimals=6,
    lot_atoms=1_000_000,
)
# 150 USDC for a SOL: 0.15 quote atoms for a base atom.
PRICE = 15 * 10**16
PLACED = (
    bytes.fromhex("9d76f7d52f13a478")
    + b"\x01" * 32
    + b"\x02" * 32
    + PRICE.to_bytes(16, "little")
    + bytes.fromhex("40420f0000000000")  # 1,000,000 base atoms
    + bytes.fromhex("2a00000000000000")  # number 42
    + bytes.fromhex("50000000")  # at index 80
    + bytes.fromhex("00000000")  # valid for ever
    + b"\x02\x01"  # post-only, a bid
    + bytes(6)
)
FILL_KEYS = bytes.fromhex("3ae6f2034b7104a9") + b"\x01" * 32 + b"\x03" * 32 + b"\x02" * 32
FILL_TAIL = (
    PRICE.to_bytes(16, "little")
    + struct.pack("<QQQQ", 1_000_000, 150_000, 7, 42)
    + b"\x01\x00"
    + bytes(14)
)
MINTS = b"\x04" * 32 + b"\x05" * 32
FILLED = FILL_KEYS + MINTS + FILL_TAIL


def logged(*data: bytes, program: Pubkey = MANIFEST_PROGRAM, depth: int = 1) -> list[str]:
    return [
        f"Program {program} invoke [{depth}]",
        *(f"Program data: {base64.b64encode(each).decode()}" for each in data),
        f"Program {program} success",
    ]


def test_a_placement_is_decoded() -> None:
    assert len(PLACED) == 120
    assert decode_event(PLACED) == PlaceOrderLog(
        MARKET, TRADER, PRICE, 1_000_000, 42, 80, 0, 2, True
    )
    assert velox_price(SOL_USDC, PRICE) == 1_500_000


@pytest.mark.parametrize(
    ("data", "length"), [(FILLED, 232), (FILL_KEYS + FILL_TAIL, 168)], ids=["mints", "older"]
)
def test_a_fill_is_decoded(data: bytes, length: int) -> None:
    assert len(data) == length
    assert decode_event(data) == FillLog(
        MARKET, OTHER, TRADER, PRICE, 1_000_000, 150_000, 7, 42, True
    )


def test_prices_of_any_decimals_are_exact_where_they_can_be() -> None:
    same = MarketSpec(
        market=MARKET,
        base_mint=OTHER,
        quote_mint=TRADER,
        base_decimals=0,
        quote_decimals=18,
        lot_atoms=1,
    )
    assert velox_price(same, 10**36) == 10_000
    # Finer than 1e-4 is rounded down.
    assert velox_price(SOL_USDC, PRICE + 1) == 1_500_000


def test_events_of_other_kinds_are_left_out_and_those_of_another_length_refused() -> None:
    assert [decode_event(each) for each in (b"", b"\x00" * 120)] == [None, None]
    for data in (PLACED[:-1], FILLED + b"\0"):
        with pytest.raises(RecordError) as caught:
            decode_event(data)
        assert caught.value.field == "length"


def test_only_what_the_program_itself_logged_is_heard() -> None:
    forged = logged(PLACED, program=MEMO_PROGRAM)
    nothing = ([], None, 0, False)
    assert read_log(forged) == nothing
    lines = logged(PLACED)
    lines[1:1] = logged(FILLED, program=MEMO_PROGRAM, depth=2)
    assert read_log(lines).events == [decode_event(PLACED)]
    failed = [f"Program {MANIFEST_PROGRAM} invoke [1]", f"Program {MANIFEST_PROGRAM} failed: x"]
    assert read_log([*failed, *logged(PLACED)[1:2]]) == nothing
    assert read_log(["Program data: ", "Program log: Program data: AAAA"]) == nothing
    assert read_log([*logged()[:1], "Program data: AA AA"]) == nothing


def test_numbers_come_from_the_answer_or_else_from_the_log() -> None:
    answer = struct.pack("<IQIQI", 2, 41, 80, 42, 2**32 - 1)
    assert order_numbers([answer], [], 2, TRADER) == [(41, True, 80), (42, False, None)]
    found = order_numbers([None, b"\x09", answer], [], 2, TRADER)
    assert found == [(41, True, 80), (42, False, None)]
    events = read_log(logged(PLACED, FILLED)).events
    assert order_numbers([], events, 1, TRADER) == [(42, True, 80)]
    assert order_numbers([None, b"\x09"], events, 1, TRADER) == [(42, True, 80)]
    assert order_numbers([answer], events, 3, TRADER) is None
    assert order_numbers([], events, 1, OTHER) is None


def test_a_log_is_read_as_far_as_it_can_be() -> None:
    answer = struct.pack("<IQI", 1, 42, 80)
    lines = logged(PLACED, FILLED[:-1], FILLED, b"of another kind")
    lines.insert(-1, f"Program return: {MANIFEST_PROGRAM} {base64.b64encode(answer).decode()}")
    # Lines of another program are not read.
    forged = base64.b64encode(bytes(16)).decode()
    lines += [
        f"Program {MEMO_PROGRAM} invoke [1]",
        f"Program return: {MANIFEST_PROGRAM} {forged}",
        f"Program {MEMO_PROGRAM} success",
    ]
    log = read_log(lines)
    assert log == ([decode_event(PLACED), decode_event(FILLED)], answer, 1, False)
    assert read_log([*lines, "Log truncated"]).truncated
    assert not read_log([*lines, "Program log: Log truncated"]).truncated
    assert read_log([]) == ([], None, 0, False)
