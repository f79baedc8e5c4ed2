"""Manifest's carrier: it encodes orders that the market can represent, and refuses the rest."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from tests.support import Array, orders
from velox import Kind, Side
from velox.errors import RecordError, UnrepresentableError
from velox.solana.tx.carrier import Cancel
from velox.solana.tx.instructions import MAX_COMPUTE_UNITS
from velox.solana.tx.signer import KeypairSigner
from velox.solana.tx.spend import SignerPolicy
from velox.solana.tx.template import TransactionBuilder
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.manifest.instructions import (
    OrderType,
    Place,
    decode_batch_update,
    manifest_batch_update,
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
MANIFEST = ManifestCarrier(SPEC)
SIGNER = KeypairSigner.generate(
    SignerPolicy(programs=frozenset(), max_tip_lamports=0, max_spend_lamports_per_minute=0)
)

cancel_lists = st.lists(
    st.builds(Cancel, st.integers(0, 2**64 - 1), st.none() | st.integers(0, 2**32 - 1)),
    max_size=10,
)


def many(columns: list[tuple[int, ...]], *names: str, **fields: Any) -> Array:
    batch = orders(len(columns), **fields)
    for name, column in zip(names, zip(*columns, strict=True), strict=bool(columns)):
        batch[name] = column
    return batch


def test_orders_become_a_batch_update() -> None:
    batch = orders(2, market=3, price=[1_874_300, 2_000_000], size=[1, 2500], side=[0, 1])
    cancels = [Cancel(7), Cancel(8, 160)]
    carrier = ManifestCarrier(SPEC, order_type=OrderType.LIMIT)
    assert carrier.instruction(PAYER, carrier.payload(batch, cancels, 99)) == manifest_batch_update(
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
    ("field", "value"), [("kind", Kind.CANCEL), ("kind", 77), ("market", 4), ("side", 2)]
)
def test_a_record_that_is_not_placed_is_refused_and_named(field: str, value: int) -> None:
    batch = orders(3, market=3)
    batch[field][1] = value
    with pytest.raises(RecordError) as caught:
        MANIFEST.payload(batch)
    assert (caught.value.index, caught.value.field) == (1, field)


def test_numbers_that_no_field_holds_are_refused() -> None:
    with pytest.raises(RecordError) as caught:
        MANIFEST.payload(orders(1, market=3), last_valid_slot=2**32)
    assert caught.value.field == "last_valid_slot"
    with pytest.raises(RecordError) as caught:
        MANIFEST.payload(orders(1, market=3), [Cancel(1), Cancel(-1)])
    assert (caught.value.index, caught.value.field) == (1, "cancels")
    with pytest.raises(RecordError, match="float64"):
        MANIFEST.payload(np.zeros(2))


@pytest.mark.parametrize(
    "order_type", [OrderType.GLOBAL, OrderType.REVERSE, OrderType.REVERSE_TIGHT, 77]
)
def test_a_type_whose_fields_mean_something_else_is_refused(order_type: OrderType) -> None:
    with pytest.raises(RecordError) as caught:
        ManifestCarrier(SPEC, order_type=order_type)
    assert caught.value.field == "order_type"


def test_44_orders_fit_a_transaction_and_one_more_does_not() -> None:
    builder = TransactionBuilder(MANIFEST, SIGNER)
    assert builder.max_orders == 44
    assert builder.fits(44)
    assert not builder.fits(45)
    assert MANIFEST.compute_units(16) > 0
    assert MANIFEST.compute_units(10**6) == MAX_COMPUTE_UNITS


def test_cancels_take_room_from_orders() -> None:
    builder = TransactionBuilder(MANIFEST, SIGNER)
    assert builder.fits(44, cancels=1)
    assert builder.fits(44, cancels=1, hinted=1)
    assert not builder.fits(44, cancels=2)
    assert builder.fits(0, cancels=94)
    assert not builder.fits(0, cancels=95)
