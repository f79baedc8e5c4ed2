from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox.feeds.decimals import PRICE_LIMIT, Prices, Quantities, Sizes, from_units, to_units
from velox.feeds.source import MalformedError, nanoseconds


@given(st.integers(-(10**30), 10**30), st.integers(0, 18), st.integers(0, 5))
def test_any_decimal_text_is_read_exactly(units: int, places: int, zeros: int) -> None:
    digits = f"{abs(units):0{places + 1}d}"
    text = "-" * (units < 0) + digits[: len(digits) - places]
    if places:
        text += f".{digits[-places:]}{'0' * zeros}"
    assert to_units(text, places) == units
    assert to_units(f"{from_units(abs(units), places):f}", places) == abs(units)


@pytest.mark.parametrize(
    "text",
    [
        "", ".", "1.", ".5", "1.5.1", "1,5", "1e5", "1E400", "NaN", "Infinity", "-Infinity", "+1",
        "--1", "0x10", "1_000", " 1", "1 ", "1\n", "l00", "\uff11", "\u0663.5", "9" * 41,
    ],
)  # fmt: skip
def test_what_is_no_plain_decimal_number_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="is not a decimal number"):
        to_units(text, 4)


@pytest.mark.parametrize("value", [1, 1.5, None, True, ["1"], {}])
def test_only_text_is_read(value: object) -> None:
    with pytest.raises(MalformedError, match="is not decimal text"):
        to_units(value, 4)


def test_a_price_finer_than_the_record_holds_is_refused() -> None:
    assert Prices()["0.12340000"] == 1234
    with pytest.raises(MalformedError, match=r"'0\.12345' is finer than 1e-4"):
        Prices()["0.12345"]


@pytest.mark.parametrize("text", ["0", "0.0000", "-0", "-1.5"])
def test_a_price_is_positive(text: str) -> None:
    with pytest.raises(MalformedError, match="is not a positive price"):
        Prices()[text]


def test_the_largest_price_is_one_under_the_largest_integer() -> None:
    assert Prices()["922337203685477.5806"] == PRICE_LIMIT - 1
    for text in ("922337203685477.5807", "922337203685477.5808", "9" * 40):
        with pytest.raises(MalformedError, match="does not fit 63 bits"):
            Prices()[text]


def test_a_price_off_a_given_tick_is_refused() -> None:
    prices = Prices(tick=500)
    assert prices["100.05"] == 1_000_500
    with pytest.raises(MalformedError, match=r"'100\.06' is off the tick of 0\.05"):
        prices["100.06"]


def test_the_tick_found_out_is_the_coarsest_that_fits() -> None:
    prices = Prices()
    assert prices.inferred_tick() == 1
    assert [prices[text] for text in ("1.5", "2.25", "4")] == [15_000, 22_500, 40_000]
    assert prices.inferred_tick() == 2_500


def test_equal_sizes_may_have_different_codes_but_never_different_units() -> None:
    quantities = Quantities()
    sizes = Sizes(quantities, market=0)
    codes = [sizes[text] for text in ("0.5", "0.50", "0", "0.000", "3")]
    assert [quantities.units[code] for code in codes] == [5 * 10**17, 5 * 10**17, 0, 0, 3 * 10**18]
    assert codes[2] == codes[3] == 0
    assert sizes.inferred_lot() == 5 * 10**17


def test_a_size_is_never_negative_and_fits_a_given_lot() -> None:
    sizes = Sizes(Quantities(), market=0, lot=Decimal("0.001"))
    with pytest.raises(MalformedError, match="negative size"):
        sizes["-0.001"]
    with pytest.raises(MalformedError, match=r"not a multiple of the lot of 0\.001"):
        sizes["0.0015"]
    with pytest.raises(MalformedError, match="63 bits of lots"):
        sizes["9223372036854775.808"]
    assert sizes["9223372036854775.807"] == 1


@given(st.integers(0, 2**63 - 1), st.integers(0, 30))
def test_seconds_become_nanoseconds_exactly(time: int, finer: int) -> None:
    seconds, fraction = divmod(time, 10**9)
    text = f"{seconds}.{fraction:09d}{'9' * finer}"
    assert nanoseconds(text.encode(), "time") == time


@pytest.mark.parametrize(
    "text", [b"", b".5", b"1.", b"-1", b"1e9", b"nan", b"9223372036.854775808", b"9" * 13]
)
def test_what_is_no_time_is_refused(text: bytes) -> None:
    with pytest.raises(MalformedError) as caught:
        nanoseconds(text, "time")
    assert caught.value.field == "time"
