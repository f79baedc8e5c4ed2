"""Instructions, to the byte: worked by hand from the published layouts, and against solders'."""

import pytest
import solders.compute_budget
import solders.system_program
from solders.instruction import AccountMeta, Instruction
from solders.pubkey import Pubkey

from velox.errors import RecordError, TransactionTooLargeError
from velox.solana.tx.instructions import (
    DONT_FRONT,
    MEMO_PROGRAM,
    compute_unit_limit,
    compute_unit_price,
    memo,
    tip_transfer,
)

PAYER, MARKET, BASE, QUOTE, OTHER = (Pubkey(bytes([each]) * 32) for each in range(1, 6))


def metas(instruction: Instruction) -> list[tuple[Pubkey, str]]:
    """Each account, with ``w`` where it is written and ``s`` where it signs."""
    return [
        (each.pubkey, "w" * each.is_writable + "s" * each.is_signer)
        for each in instruction.accounts
    ]


def test_a_memo_is_its_text_and_who_signs_it() -> None:
    assert memo("é".encode()) == Instruction(MEMO_PROGRAM, b"\xc3\xa9", [])
    assert metas(memo(b"x", PAYER)) == [(PAYER, "s")]
    with pytest.raises(RecordError, match="a memo that is not UTF-8"):
        memo(b"\xff")


def test_the_compute_budget_is_what_solders_makes_it() -> None:
    assert compute_unit_limit(200_000) == solders.compute_budget.set_compute_unit_limit(200_000)
    price = 2**64 - 1
    assert compute_unit_price(price) == solders.compute_budget.set_compute_unit_price(price)
    for wrong in (-1, 2**64):
        with pytest.raises(RecordError, match=f"micro_lamports = {wrong}"):
            compute_unit_price(wrong)


@pytest.mark.parametrize("units", [-1, 1_400_001])
def test_more_units_than_the_chain_allows_are_refused(units: int) -> None:
    with pytest.raises(TransactionTooLargeError) as caught:
        compute_unit_limit(units)
    assert (caught.value.size, caught.value.limit) == (units, 1_400_000)
    assert caught.value.what == "compute units"


def test_a_tip_is_a_system_transfer() -> None:
    tip = tip_transfer(PAYER, OTHER, 1000, dont_front=False)
    assert tip == solders.system_program.transfer(
        {"from_pubkey": PAYER, "to_pubkey": OTHER, "lamports": 1000}
    )
    guarded = tip_transfer(PAYER, OTHER, 1000, dont_front=True)
    assert guarded.data == tip.data
    assert guarded.accounts == [*tip.accounts, AccountMeta(DONT_FRONT, False, False)]
    assert str(DONT_FRONT).startswith("jitodontfront")
    with pytest.raises(RecordError, match="lamports = -1"):
        tip_transfer(PAYER, OTHER, -1, dont_front=False)
