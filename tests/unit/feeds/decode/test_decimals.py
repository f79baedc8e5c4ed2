from __future__ import annotations

import contextlib
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from velox.feeds.decode.decimals import PRICE_LIMIT, Grown, Numbers, decimal_of, to_units
from velox.feeds.decode.fields import epoch_ns, nanoseconds
from velox.feeds.decode.malformed import MalformedError


@given(st.integers(-(10**30), 10**30), st.integers(0, 18), st.integers(0, 5))
def test_any_decimal_text_is_read_exactly(units: int, places: int, zeros: int) -> None:
    digits = f"{abs(units):0{places + 1}d}"
    text = "-" * (units < 0) + digits[: len(digits) - places]
    if places:
        text += f".{digits[-places:]}{'0' * zeros}"
    assert to_units(text, places) == units
    assert to_units(f"{decimal_of(abs(units), places):f}", places) == abs(units)


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


@pytest.mark.parametrize("text", ["0", "0.0000", "-0", "-1.5"])
def test_a_price_is_positive(text: str) -> None:
    with pytest.raises(MalformedError, match="is not a positive price"):
        Numbers("price", 4)[text]


def test_the_largest_price_is_one_under_the_largest_integer() -> None:
    assert Numbers("price", 4)["922337203685477.5806"] == PRICE_LIMIT - 1
    for text in ("922337203685477.5807", "922337203685477.5808", "9" * 40):
        with pytest.raises(MalformedError, match="does not fit 63 bits"):
            Numbers("price", 4)[text]


def test_a_price_off_a_given_tick_is_refused() -> None:
    prices = Numbers("price", 4, step=500)
    assert prices["100.05"] == 1_000_500
    for text in ("100.06", "100.00001"):
        with pytest.raises(MalformedError, match=f"'{text}' is off the tick of 0.05"):
            prices[text]


def test_a_finer_number_makes_the_unit_finer() -> None:
    prices = Numbers("price", 4)
    assert prices["1.5"] == 15_000
    with pytest.raises(Grown) as caught:
        prices["0.0000125"]
    assert (caught.value.what, caught.value.factor, prices.places) == ("price", 1000, 7)
    assert (prices["0.0000125"], prices["1.5"], prices.largest) == (125, 15_000_000, 15_000_000)


def test_a_unit_does_not_become_finer_than_the_largest_number_allows() -> None:
    prices = Numbers("price", 4)
    assert prices["922337203685477.5806"]
    with pytest.raises(MalformedError, match=r"922337203685477\.5806 does not fit 63 bits"):
        prices["0.00001"]
    assert prices.places == 4
    with pytest.raises(MalformedError, match="finer than 1e-18"):
        Numbers("price", 4)["0.0000000000000000001"]
    with pytest.raises(MalformedError, match="finer than 1e-4"):
        Numbers("price", 4, most=4)["0.00001"]


def test_zeros_at_the_end_make_no_unit_finer() -> None:
    sizes = Numbers("size", 0)
    assert [sizes[text] for text in ("3.000", "0", "0.000", "12")] == [3, 0, 0, 12]
    assert sizes.places == 0


def test_a_size_is_never_negative_and_fits_a_given_lot() -> None:
    sizes = Numbers("size", 3, step=1)
    with pytest.raises(MalformedError, match="negative size"):
        sizes["-0.001"]
    with pytest.raises(MalformedError, match=r"not a multiple of the lot of 0\.001"):
        sizes["0.0015"]
    with pytest.raises(MalformedError, match="63 bits"):
        sizes["9223372036854775.808"]
    assert sizes["9223372036854775.807"] == 2**63 - 1


@given(st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 9)), min_size=1, max_size=20))
def test_numbers_are_exact_in_every_unit(numbers: list[tuple[int, int]]) -> None:
    prices = Numbers("price", 4)
    texts = [f"{Decimal(units).scaleb(-places):f}" for units, places in numbers]
    for text in texts:
        with contextlib.suppress(Grown):
            prices[text]
    for text in texts:
        assert prices[text] == Decimal(text).scaleb(prices.places)


@pytest.mark.parametrize(
    ("value", "time"),
    [
        (1_700_000_000_123, 1_700_000_000_123_000_000),
        (1_700_000_000_123_456, 1_700_000_000_123_456_000),
        (1_700_000_000_123_456_789, 1_700_000_000_123_456_789),
        (1000, 1_000_000_000),
    ],
)
def test_the_unit_of_a_venues_time_follows_from_its_size(value: int, time: int) -> None:
    assert epoch_ns(value, "E") == time


def test_a_venues_time_fits_63_bits() -> None:
    with pytest.raises(MalformedError) as caught:
        epoch_ns(2**63, "E")
    assert caught.value.field == "E"


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
