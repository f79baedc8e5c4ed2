"""Carriers: what they carry comes back as it went, and what they cannot carry is refused."""

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from tests.support import Array, orders
from velox import TRANSACTION_DTYPE, Kind, Side
from velox.errors import RecordError, UnrepresentableError
from velox.solana.tx.carrier import (
    MEMO_PREFIX,
    Carrier,
    CarrierContext,
    ManifestCarrier,
    MemoCarrier,
    decode_memo,
    memos_in,
)
from velox.solana.tx.instructions import (
    MAX_COMPUTE_UNITS,
    Cancel,
    OrderType,
    Place,
    decode_batch_update,
    manifest_batch_update,
    memo,
)
from velox.solana.venues.manifest.market import MarketSpec

PAYER, MARKET, BASE, QUOTE = (Pubkey(bytes([each]) * 32) for each in range(1, 5))
SPEC = MarketSpec(
    market=MARKET,
    base_mint=BASE,
    quote_mint=QUOTE,
    base_decimals=9,
    quote_decimals=6,
    lot_atoms=1_000_000,
    tick_size=100,
    velox_market=3,
)
MANIFEST, MEMO = ManifestCarrier(SPEC), MemoCarrier()

cancel_lists = st.lists(
    st.builds(Cancel, st.integers(0, 2**64 - 1), st.none() | st.integers(0, 2**32 - 1)),
    max_size=10,
)


def many(columns: list[tuple[int, ...]], *names: str, **fields: Any) -> Array:
    batch = orders(len(columns), **fields)
    for name, column in zip(names, zip(*columns, strict=True), strict=bool(columns)):
        batch[name] = column
    return batch


# Manifest


def test_orders_become_a_batch_update() -> None:
    batch = orders(2, market=3, price=[1_874_300, 2_000_000], size=[1, 2500], side=[0, 1])
    cancels = [Cancel(7), Cancel(8, 160)]
    (instruction,) = ManifestCarrier(SPEC, order_type=OrderType.LIMIT).encode(
        batch, CarrierContext(PAYER, cancels, last_valid_slot=99)
    )
    assert instruction == manifest_batch_update(
        PAYER,
        MARKET,
        cancels,
        [
            Place(1_000_000, 1_874_300, -7, True, 99, OrderType.LIMIT),
            Place(2_500_000_000, 2_000_000, -7, False, 99, OrderType.LIMIT),
        ],
    )


batches = st.lists(
    st.tuples(
        st.integers(1, 2**63 // 100 - 1).map(lambda ticks: ticks * 100)
        | st.integers(1, 2**32 // 100).map(lambda ticks: ticks * 100),
        st.integers(0, 2**32 - 1),
        st.integers(0, 1),
    ),
    max_size=20,
)


@given(batches, cancel_lists, st.integers(0, 2**32 - 1), st.none() | st.integers(0, 2**32 - 1))
def test_what_the_specification_maps_is_what_is_carried(
    columns: list[tuple[int, ...]], cancels: list[Cancel], slot: int, hint: int | None
) -> None:
    carrier = ManifestCarrier(SPEC, trader_hint=hint)
    batch = many(columns, "price", "size", "side", market=3)
    fine = SPEC.representable(batch)
    data = carrier.payload(batch[fine], cancels, slot)
    hinted = sum(each.hint is not None for each in cancels)
    assert len(data) == carrier.payload_bytes(int(fine.sum()), len(cancels), hinted)
    expected = [
        Place(
            SPEC.size_to_atoms(size),
            *SPEC.price_to_chain(price),
            side == Side.BID,
            slot,
            OrderType.POST_ONLY,
        )
        for (price, size, side), chosen in zip(columns, fine, strict=True)
        if chosen
    ]
    assert decode_batch_update(data) == (hint, cancels, expected)
    if not fine.all():
        with pytest.raises(UnrepresentableError) as caught:
            carrier.payload(batch)
        assert caught.value.__notes__ == [f"orders[{np.flatnonzero(~fine)[0]}]"]


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("kind", Kind.CANCEL, "only ADD is placed"),
        ("kind", 77, "only ADD is placed"),
        ("market", 4, "4: the carrier's is 3"),
        ("side", 2, "must be 0 or 1"),
    ],
)
def test_a_record_that_is_not_placed_is_refused_and_named(field: str, value: int, why: str) -> None:
    batch = orders(3, market=3)
    batch[field][1] = value
    with pytest.raises(RecordError, match=rf"orders\[1\]\.{field}: {int(value)}") as caught:
        MANIFEST.payload(batch)
    assert why in str(caught.value)
    assert (caught.value.index, caught.value.field) == (1, field)


def test_numbers_that_no_field_holds_are_refused() -> None:
    with pytest.raises(RecordError, match="last_valid_slot = 4294967296"):
        MANIFEST.payload(orders(1, market=3), last_valid_slot=2**32)
    with pytest.raises(RecordError, match=r"cancels\[1\]: sequence -1"):
        MANIFEST.payload(orders(1, market=3), [Cancel(1), Cancel(-1)])
    with pytest.raises(RecordError, match="orders of float64"):
        MANIFEST.payload(np.zeros(2))


@pytest.mark.parametrize(
    "order_type", [OrderType.GLOBAL, OrderType.REVERSE, OrderType.REVERSE_TIGHT, 77]
)
def test_a_type_whose_fields_mean_something_else_is_refused(order_type: OrderType) -> None:
    with pytest.raises(RecordError, match=r"order_type = .*: not carried"):
        ManifestCarrier(SPEC, order_type=order_type)


# Memo

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
    assert MEMO.encode(batch, CarrierContext(PAYER)) == [memo(data, PAYER)]


def test_a_memo_worked_by_hand() -> None:
    batch = orders(1, first_id=0x1122, size=5, side=1, kind=1, flags=128, market=2)
    packed = bytes.fromhex("221100000000000040420f00000000000500000001018002")
    assert MEMO.payload(batch) == b"velox1:" + base64.b64encode(packed)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("\udc00", "begins with"),
        (b"hello", "begins with b'hello'"),
        (MEMO_PREFIX + b"AAA", "not base 64"),
        (MEMO_PREFIX + "é".encode(), "not base 64"),
        (MEMO_PREFIX + b"AAAA", "3 bytes, no multiple of 24"),
        (MEMO_PREFIX + base64.b64encode(bytes(24)), "price = 0"),
    ],
)
def test_a_memo_that_is_none_is_refused(text: str | bytes, why: str) -> None:
    with pytest.raises(RecordError, match=why):
        decode_memo(text)


def test_memos_are_found_in_logs_of_either_kind() -> None:
    text = MEMO.payload(orders(3)).decode()
    logs = [
        "Program MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr invoke [1]",
        f"Program log: Memo (len {len(text)})",
        f"Program log: {text}",
        f'Program log: Memo (len {len(text)}): "{text}"',
        f"Program log: somebody else's {text}",
        "Program log: hello",
    ]
    assert memos_in(logs) == [text, text]


def test_a_memo_has_no_cancels_by_number_and_no_records_that_are_none() -> None:
    with pytest.raises(RecordError, match="1 cancels by number"):
        MEMO.payload(orders(1), [Cancel(1)])
    with pytest.raises(RecordError, match=r"transactions\[1\].size = 0"):
        MEMO.payload(orders(2, size=[1, 0]))
    with pytest.raises(RecordError):
        MEMO.payload(orders(8)[::2])


# Both


@pytest.mark.parametrize(("carrier", "most"), [(MANIFEST, 44), (MEMO, 27)])
def test_the_most_orders_fit_and_one_more_does_not(carrier: Carrier, most: int) -> None:
    assert carrier.max_orders == most
    assert carrier.fits(most)
    assert not carrier.fits(most + 1)
    assert carrier.compute_units(16) > 0
    assert carrier.compute_units(10**6) == MAX_COMPUTE_UNITS
    assert TRANSACTION_DTYPE.itemsize == 32


def test_cancels_take_room_from_orders() -> None:
    assert MANIFEST.fits(44, cancels=1)
    assert MANIFEST.fits(44, cancels=1, hinted=1)
    assert not MANIFEST.fits(44, cancels=2)
    assert MANIFEST.fits(0, cancels=94)
    assert not MANIFEST.fits(0, cancels=95)
