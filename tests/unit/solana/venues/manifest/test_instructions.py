"""Manifest's instructions, byte by byte: worked by hand from the published layouts."""

import struct
from typing import Any

import pytest
import solders.compute_budget
import solders.system_program
from hypothesis import given
from hypothesis import strategies as st
from solders.instruction import Instruction
from solders.pubkey import Pubkey

from velox.errors import RecordError
from velox.solana.tx.carrier import Cancel
from velox.solana.tx.instructions import (
    SYSTEM_PROGRAM,
    TOKEN_2022_PROGRAM,
    TOKEN_PROGRAM,
    create_account,
)
from velox.solana.venues.manifest.instructions import (
    MANIFEST_MARKET_BYTES,
    MANIFEST_PROGRAM,
    OrderType,
    Place,
    Placed,
    claim_seat,
    create_manifest_market,
    decode_batch_update,
    decode_placed,
    deposit,
    encode_batch_update,
    manifest_batch_update,
    manifest_vault,
)

PAYER, MARKET, BASE, QUOTE, OTHER = (Pubkey(bytes([each]) * 32) for each in range(1, 6))

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
hints = st.none() | u32
cancel_lists = st.lists(st.builds(Cancel, u64, hints), max_size=8)
place_lists = st.lists(
    st.builds(Place, u64, u32, st.integers(-18, 8), st.booleans(), u32, st.sampled_from(OrderType)),
    max_size=8,
)


def metas(instruction: Instruction) -> list[tuple[Pubkey, str]]:
    """Each account, with ``w`` where it is written and ``s`` where it signs."""
    return [
        (each.pubkey, "w" * each.is_writable + "s" * each.is_signer)
        for each in instruction.accounts
    ]


# Manifest's BatchUpdate


def test_a_batch_update_worked_by_hand() -> None:
    instruction = manifest_batch_update(
        PAYER,
        MARKET,
        [Cancel(0x0102030405060708), Cancel(5, hint=9)],
        [
            Place(1_000_000_000, 1_874_321, -7, True, 300_000_000, OrderType.POST_ONLY),
            Place(2**64 - 1, 2**32 - 1, 8, False),
        ],
        trader_hint=160,
    )
    assert instruction.data.hex(" ", 1) == (
        "06 01 a0 00 00 00"  # the tag; a hint, 160
        " 02 00 00 00"  # two cancels
        " 08 07 06 05 04 03 02 01 00"  # by number
        " 05 00 00 00 00 00 00 00 01 09 00 00 00"  # by number, with a hint
        " 02 00 00 00"  # two places
        " 00 ca 9a 3b 00 00 00 00 91 99 1c 00 f9 01 00 a3 e1 11 02"
        " ff ff ff ff ff ff ff ff ff ff ff ff 08 00 00 00 00 00 00"
    )
    assert instruction.program_id == MANIFEST_PROGRAM
    assert metas(instruction) == [(PAYER, "ws"), (MARKET, "w"), (SYSTEM_PROGRAM, "")]


def test_an_empty_batch_update_is_ten_bytes() -> None:
    assert encode_batch_update([], []).hex() == "06000000000000000000"


@given(hints, cancel_lists, place_lists)
def test_a_batch_update_comes_back_as_it_went(
    hint: int | None, cancels: list[Cancel], places: list[Place]
) -> None:
    data = encode_batch_update(cancels, places, trader_hint=hint)
    assert decode_batch_update(data) == (hint, cancels, places)


@given(hints, cancel_lists, place_lists, st.data())
def test_a_batch_update_that_is_cut_or_grown_is_refused(
    hint: int | None, cancels: list[Cancel], places: list[Place], draw: Any
) -> None:
    data = encode_batch_update(cancels, places, trader_hint=hint)
    cut = draw.draw(st.integers(0, len(data) - 1))
    for wrong in (data[:cut], data + b"\0"):
        with pytest.raises(RecordError) as caught:
            decode_batch_update(wrong)
        assert caught.value.field == "length"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_batch_update_or_a_typed_error(data: bytes) -> None:
    try:
        hint, cancels, places = decode_batch_update(b"\x06" + data)
    except RecordError:
        return
    assert encode_batch_update(cancels, places, trader_hint=hint) == b"\x06" + data


@pytest.mark.parametrize(
    ("cancels", "places", "index", "field"),
    [
        ([Cancel(2**64)], [], 0, "cancels"),
        ([Cancel(1), Cancel(1, -1)], [], 1, "cancels"),
        ([], [Place(1, 1, 9, True)], 0, "price_exponent"),
        ([], [Place(1, 1, -7, True), Place(-1, 1, -7, True)], 1, "places"),
        ([], [Place(1, 2**32, -7, True)], 0, "places"),
        ([], [Place(1, 1, -7, True, 0, OrderType.GLOBAL)], 0, "order_type"),
    ],
)
def test_a_number_that_does_not_fit_is_refused_and_named(
    cancels: list[Cancel], places: list[Place], index: int, field: str
) -> None:
    with pytest.raises(RecordError) as caught:
        manifest_batch_update(PAYER, MARKET, cancels, places)
    assert (caught.value.index, caught.value.field) == (index, field)


# What it answers


def test_an_answer_worked_by_hand() -> None:
    answer = bytes.fromhex("020000000700000000000000500000000800000000000000a0000000")
    assert decode_placed(answer) == [Placed(7, 80), Placed(8, 160)]
    assert Cancel(*decode_placed(answer)[1]) == Cancel(8, hint=160)
    filled = bytes.fromhex("010000000900000000000000ffffffff")
    assert [each.rests for each in decode_placed(answer) + decode_placed(filled)] == [
        True,
        True,
        False,
    ]


@given(st.lists(st.builds(Placed, u64, u32), max_size=85, unique_by=lambda each: each.sequence))
def test_an_answer_is_read_with_or_without_its_last_zeros(placed: list[Placed]) -> None:
    placed.sort()
    answer = struct.pack("<I", len(placed))
    answer += b"".join(struct.pack("<QI", *each) for each in placed)
    assert decode_placed(answer) == placed
    assert decode_placed(answer.rstrip(b"\0")) == placed


def test_an_answer_that_is_a_record_short_is_refused() -> None:
    answer = struct.pack("<IQIQI", 2, 7, 80, 8, 160)
    with pytest.raises(RecordError) as caught:
        decode_placed(answer[:-12])
    assert caught.value.field == "return_data"


@pytest.mark.parametrize(
    "answer",
    [b"\0" * 5, b"\x01" + b"\0" * 16, b"\xff\xff\xff\xff", struct.pack("<I", 86)],
)
def test_an_answer_that_cannot_be_is_refused(answer: bytes) -> None:
    with pytest.raises(RecordError) as caught:
        decode_placed(answer)
    assert caught.value.field == "return_data"


# A market of Manifest's


def test_a_market_is_made_of_an_account_that_manifest_owns() -> None:
    instruction = create_account(PAYER, MARKET, 5, MANIFEST_MARKET_BYTES, MANIFEST_PROGRAM)
    assert instruction == solders.system_program.create_account(
        {
            "from_pubkey": PAYER,
            "to_pubkey": MARKET,
            "lamports": 5,
            "space": 256,
            "owner": MANIFEST_PROGRAM,
        }
    )


def test_the_accounts_of_a_new_market_are_nine() -> None:
    instruction = create_manifest_market(PAYER, MARKET, BASE, QUOTE)
    assert instruction.data == b"\x00"
    vaults = [
        Pubkey.find_program_address([b"vault", bytes(MARKET), bytes(mint)], MANIFEST_PROGRAM)[0]
        for mint in (BASE, QUOTE)
    ]
    assert metas(instruction) == [
        (PAYER, "ws"),
        (MARKET, "w"),
        (SYSTEM_PROGRAM, ""),
        (BASE, ""),
        (QUOTE, ""),
        (vaults[0], "w"),
        (vaults[1], "w"),
        (TOKEN_PROGRAM, ""),
        (TOKEN_2022_PROGRAM, ""),
    ]


def test_a_seat_is_claimed_and_funded() -> None:
    seat = claim_seat(PAYER, MARKET)
    assert seat.data == b"\x01"
    assert metas(seat) == [(PAYER, "ws"), (MARKET, "w"), (SYSTEM_PROGRAM, "")]
    funds = deposit(PAYER, MARKET, BASE, OTHER, 0x1122)
    assert funds.data.hex() == "02221100000000000000"
    assert metas(funds) == [
        (PAYER, "ws"),
        (MARKET, "w"),
        (OTHER, "w"),
        (manifest_vault(MARKET, BASE), "w"),
        (TOKEN_PROGRAM, ""),
        (BASE, ""),
    ]
    with pytest.raises(RecordError) as caught:
        deposit(PAYER, MARKET, BASE, OTHER, 2**64)
    assert caught.value.field == "atoms"
