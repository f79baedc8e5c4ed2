"""The resting orders of a market's account."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from tests.integration.solana.manifest_model import Resting, market_account
from velox.errors import RecordError
from velox.solana.venues.manifest.account import BLOCK_BYTES, MARKET_HEADER_BYTES
from velox.solana.venues.manifest.carrier import ManifestCarrier
from velox.solana.venues.manifest.market import MarketSpec

CARRIER = ManifestCarrier(
    MarketSpec(
        market=Pubkey(b"\x05" * 32),
        base_mint=Pubkey(b"\x06" * 32),
        quote_mint=Pubkey(b"\x07" * 32),
        base_decimals=9,
        quote_decimals=6,
        lot_atoms=1,
    )
)


def resting_atoms(data: bytes, trader: Pubkey) -> dict[int, int]:
    """What is left of each resting order of a trader."""
    orders = CARRIER.read_account(data, trader).orders
    return {sequence: each.base_atoms for sequence, each in orders.items()}


OURS, OTHERS = Pubkey(b"\x01" * 32), Pubkey(b"\x02" * 32)
u64 = st.integers(0, 2**64 - 1)
ORDERS = st.lists(
    st.builds(
        Resting,
        st.sampled_from([OURS, OTHERS]),
        u64,
        st.integers(0, 2**128 - 1),
        u64,
        st.booleans(),
    ),
    max_size=40,
    unique_by=lambda each: each.sequence,
)


@given(ORDERS)
def test_of_each_order_of_ours_it_is_known_what_is_left(orders: list[Resting]) -> None:
    account = market_account(orders)
    for trader in (OURS, OTHERS):
        mine = {each.sequence: each.atoms for each in orders if each.trader == trader}
        assert resting_atoms(account, trader) == mine


def test_an_account_that_is_no_market_is_refused() -> None:
    market = market_account([])
    for data in (b"", market[:-1], bytes(256), b"\0" + market[1:]):
        with pytest.raises(RecordError) as caught:
            resting_atoms(data, OURS)
        assert caught.value.field == "account"


def test_a_tree_that_leads_nowhere_is_refused() -> None:
    market = market_account([Resting(OURS, 1, 5, 6, True)])
    with pytest.raises(RecordError) as caught:
        resting_atoms(market[:-BLOCK_BYTES], OURS)
    assert caught.value.field == "tree"


def test_a_tree_that_comes_back_to_itself_is_refused() -> None:
    market = bytearray(market_account([Resting(OURS, 1, 5, 6, True)]))
    struct.pack_into("<I", market, MARKET_HEADER_BYTES + BLOCK_BYTES, BLOCK_BYTES)
    with pytest.raises(RecordError) as caught:
        resting_atoms(bytes(market), OURS)
    assert caught.value.field == "tree"


@given(ORDERS, st.data())
def test_any_bytes_are_a_market_or_a_typed_error(
    orders: list[Resting], draw: st.DataObject
) -> None:
    market = bytearray(market_account(orders))
    for _ in range(draw.draw(st.integers(0, 8))):
        market[draw.draw(st.integers(8, len(market) - 1))] = draw.draw(st.integers(0, 255))
    try:
        resting_atoms(bytes(market), OURS)
    except RecordError:
        return
