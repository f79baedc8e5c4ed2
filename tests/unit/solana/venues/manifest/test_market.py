"""MarketSpec: exact in both directions, or refused."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from solders.pubkey import Pubkey

from tests.support import orders
from velox import Kind, to_fixed
from velox.errors import MarketError, UnrepresentableError
from velox.solana.venues.manifest.market import MAX_EXPONENT, MIN_EXPONENT, MarketSpec

MARKET, BASE, QUOTE = (Pubkey(bytes([each]) * 32) for each in (1, 2, 3))
U32, I64, U64 = 2**32 - 1, 2**63 - 1, 2**64 - 1


def spec(**fields: Any) -> MarketSpec:
    """SOL/USDC, as Manifest lists it, in lots of a thousandth of a SOL."""
    whole = {
        "market": MARKET,
        "base_mint": BASE,
        "quote_mint": QUOTE,
        "base_decimals": 9,
        "quote_decimals": 6,
        "lot_atoms": 1_000_000,
        "tick_size": 1,
    }
    return MarketSpec(**(whole | fields))


specs = st.builds(
    spec,
    base_decimals=st.integers(0, 24),
    quote_decimals=st.integers(0, 24),
    lot_atoms=st.integers(1, U64) | st.sampled_from([1, 10**6, U64]),
    tick_size=st.integers(1, 1000),
)
prices = (
    st.integers(1, I64)
    | st.integers(1, U32)
    | st.builds(
        lambda digits, zeros: min(digits * 10**zeros, I64), st.integers(1, 9999), st.integers(0, 15)
    )
)


# Prices


def test_a_price_of_sol_in_usdc_is_its_own_mantissa() -> None:
    # 187.4321 USDC for a SOL: 187 432 100 atoms for 1 000 000 000.
    assert spec().price_to_chain(to_fixed("187.4321")) == (1_874_321, -7)
    assert 187_432_100 * 10**7 == 1_874_321 * 1_000_000_000


def test_a_price_beyond_32_bits_is_rescaled_where_that_is_exact() -> None:
    assert spec().price_to_chain(to_fixed("429496.7295")) == (U32, -7)
    assert spec().price_to_chain(to_fixed("429496.7300")) == (429_496_730, -6)
    with pytest.raises(UnrepresentableError) as caught:
        spec().price_to_chain(to_fixed("429496.7296"))
    assert (caught.value.field, caught.value.value) == ("price", 4_294_967_296)


def test_exponents_out_of_range_are_shifted_into_it_where_that_is_exact() -> None:
    fine = spec(base_decimals=18, quote_decimals=0)
    assert fine.exponent == -22
    assert fine.price_to_chain(to_fixed("3")) == (3, -18)
    with pytest.raises(UnrepresentableError) as caught:
        fine.price_to_chain(to_fixed("3.5"))
    assert (caught.value.field, caught.value.value) == ("price", 35_000)
    coarse = spec(base_decimals=0, quote_decimals=14)
    assert coarse.exponent == 10
    assert coarse.price_to_chain(to_fixed("0.0003")) == (300, 8)
    with pytest.raises(UnrepresentableError) as caught:
        coarse.price_to_chain(to_fixed("4294.9673"))
    assert (caught.value.field, caught.value.value) == ("price", 42_949_673)


@given(specs, prices)
def test_a_price_is_exactly_the_chains_or_refused(market: MarketSpec, price: int) -> None:
    try:
        mantissa, exponent = market.price_to_chain(price)
    except UnrepresentableError as refusal:
        assert (refusal.field, refusal.value, refusal.market) == ("price", price, 0)
        exact = price * 10 ** (market.exponent + 28)  # in units of 1e-28, a whole number
        assert price % market.tick_size or not any(
            exact % 10 ** (each + 28) == 0 and exact // 10 ** (each + 28) <= U32
            for each in range(MIN_EXPONENT, MAX_EXPONENT + 1)
        )
    else:
        assert 0 < mantissa <= U32
        assert MIN_EXPONENT <= exponent <= MAX_EXPONENT
        assert mantissa * 10 ** (exponent + 28) == price * 10 ** (market.exponent + 28)


@pytest.mark.parametrize("price", [0, -100, 2**63, 1_000_050])
def test_an_invalid_price_is_refused_and_named(price: int) -> None:
    with pytest.raises(UnrepresentableError) as caught:
        spec(tick_size=100, velox_market=7).price_to_chain(price)
    refusal = caught.value
    assert (refusal.market, refusal.field, refusal.value) == (7, "price", price)


# Sizes


@given(specs, st.integers(1, U64))
def test_a_size_is_exactly_its_atoms_or_refused(market: MarketSpec, lots: int) -> None:
    if lots * market.lot_atoms > U64:
        with pytest.raises(UnrepresentableError) as caught:
            market.size_to_atoms(lots)
        assert (caught.value.field, caught.value.value) == ("size", lots)
    else:
        assert market.size_to_atoms(lots) == lots * market.lot_atoms


@pytest.mark.parametrize("lots", [0, -1])
def test_a_size_that_is_not_positive_is_refused(lots: int) -> None:
    with pytest.raises(UnrepresentableError) as caught:
        spec().size_to_atoms(lots)
    assert (caught.value.field, caught.value.value) == ("size", lots)


# Many at a time


@given(specs, st.lists(st.tuples(prices | st.integers(-5, 0), st.integers(0, U32)), max_size=20))
def test_many_are_judged_as_one_by_one(market: MarketSpec, wanted: list[tuple[int, int]]) -> None:
    batch = orders(len(wanted))
    batch["price"], batch["size"] = [each[0] for each in wanted], [each[1] for each in wanted]

    def fine(price: int, lots: int) -> bool:
        try:
            market.price_to_chain(price)
            market.size_to_atoms(lots)
        except UnrepresentableError:
            return False
        return True

    assert market.representable(batch).tolist() == [fine(*each) for each in wanted]


@pytest.mark.parametrize(
    "wrong", [{"market": 1}, {"kind": Kind.TRADE}, {"kind": 9}, {"side": 2}, {"size": 0}]
)
def test_a_record_of_another_kind_market_or_side_is_not_representable(
    wrong: dict[str, int],
) -> None:
    batch = orders(3)
    for name, value in wrong.items():
        batch[name][1] = value
    np.testing.assert_array_equal(spec().representable(batch), [True, False, True])


# Specifications


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_decimals", -1),
        ("quote_decimals", 25),
        ("lot_atoms", 0),
        ("lot_atoms", 2**64),
        ("lot_atoms", 1.5),
        ("lot_atoms", True),
        ("tick_size", 0),
        ("velox_market", 256),
        ("quote_mint", BASE),
    ],
)
def test_a_specification_that_cannot_be_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(MarketError) as caught:
        spec(**{field: value})
    assert (caught.value.market, caught.value.field) == (MARKET, field)
