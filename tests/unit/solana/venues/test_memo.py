"""The memo carrier: its records come back as they went; invalid ones are refused."""

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from tests.support import Array, orders
from velox import Kind
from velox.errors import RecordError
from velox.solana.tx.carrier import Cancel
from velox.solana.tx.instructions import MAX_COMPUTE_UNITS, memo
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.solana.tx.template import TransactionBuilder
from velox.solana.venues.memo import MEMO_PREFIX, MemoCarrier, decode_memo, memos_in

PAYER = Pubkey(b"\x01" * 32)
MEMO = MemoCarrier()
SIGNER = KeypairSigner.generate(
    SignerPolicy(programs=frozenset(), max_tip_lamports=0, max_spend_lamports_per_minute=0)
)


def many(columns: list[tuple[int, ...]], *names: str, **fields: Any) -> Array:
    batch = orders(len(columns), **fields)
    for name, column in zip(names, zip(*columns, strict=True), strict=bool(columns)):
        batch[name] = column
    return batch


records = st.lists(
    st.tuples(
        st.integers(0, 2**64 - 1),
        st.integers(1, 2**63 - 1),
        st.integers(1, 2**32 - 1),
        st.integers(0, 1),
        st.sampled_from([Kind.ADD, Kind.CANCEL]),
        st.integers(0, 255),
        st.integers(0, 255),
    ),
    max_size=30,
)
NAMES = ("id", "price", "size", "side", "kind", "flags", "market")


@given(records)
def test_a_memo_gives_its_records_back(columns: list[tuple[int, ...]]) -> None:
    batch = many(columns, *NAMES, ingress_ts_ns=123)
    data = MEMO.payload(batch)
    assert len(data) == MEMO.payload_bytes(len(batch))
    batch["ingress_ts_ns"] = 0
    for text in (data, data.decode("ascii")):
        np.testing.assert_array_equal(decode_memo(text), batch)
    assert MEMO.instruction(PAYER, data) == memo(data, PAYER)


def test_a_memo_worked_by_hand() -> None:
    batch = orders(1, first_id=0x1122, size=5, side=1, kind=1, flags=128, market=2)
    packed = bytes.fromhex("221100000000000040420f00000000000500000001018002")
    assert MEMO.payload(batch) == b"velox1:" + base64.b64encode(packed)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("\udc00", "prefix"),
        (b"hello", "prefix"),
        (MEMO_PREFIX + b"AAA", "base64"),
        (MEMO_PREFIX + "é".encode(), "base64"),
        (MEMO_PREFIX + b"AAAA", "length"),
        (MEMO_PREFIX + base64.b64encode(bytes(24)), "price"),
    ],
)
def test_an_invalid_memo_is_refused(text: str | bytes, field: str) -> None:
    with pytest.raises(RecordError) as caught:
        decode_memo(text)
    assert caught.value.field == field


def test_memos_are_found_in_logs_of_either_kind() -> None:
    text = MEMO.payload(orders(3)).decode()
    logs = [
        "Program MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr invoke [1]",
        f"Program log: Memo (len {len(text)})",
        f"Program log: {text}",
        f'Program log: Memo (len {len(text)}): "{text}"',
        f"Program log: of another program: {text}",
        "Program log: hello",
    ]
    assert memos_in(logs) == [text, text]


def test_a_memo_has_no_cancels_by_number_and_no_invalid_records() -> None:
    with pytest.raises(RecordError) as caught:
        MEMO.payload(orders(1), [Cancel(1)])
    assert caught.value.field == "cancels"
    with pytest.raises(RecordError) as caught:
        MEMO.payload(orders(2, size=[1, 0]))
    assert (caught.value.index, caught.value.field) == (1, "size")
    with pytest.raises(RecordError):
        MEMO.payload(orders(8)[::2])


def test_27_orders_fit_a_transaction_and_one_more_does_not() -> None:
    builder = TransactionBuilder(MEMO, SIGNER)
    assert builder.max_orders == 27
    assert builder.fits(27)
    assert not builder.fits(28)
    assert MEMO.compute_units(16) > 0
    assert MEMO.compute_units(10**6) == MAX_COMPUTE_UNITS
