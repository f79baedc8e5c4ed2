"""Transaction and Bundle: the same bytes everywhere, and the checks of a record."""

import struct
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import orders, refused, shared_books_are_built
from velox import (
    BUNDLE_DTYPE,
    PRICE_SCALE,
    REPORT_RECORD_DTYPE,
    TRANSACTION_DTYPE,
    Flags,
    Kind,
    OrderBook,
    Rejection,
    ReportRing,
    Side,
    TransactionRing,
    from_fixed,
    to_fixed,
    validate,
)
from velox.errors import RecordError, VeloxError

# id, price, size, side, kind, flags, market, ingress_ts_ns
TRANSACTION = struct.Struct("<QqIBBBBQ")
FIELDS = [
    # (name, offset, bytes)
    ("id", 0, 8),
    ("price", 8, 8),
    ("size", 16, 4),
    ("side", 20, 1),
    ("kind", 21, 1),
    ("flags", 22, 1),
    ("market", 23, 1),
    ("ingress_ts_ns", 24, 8),
]
int64s = st.integers(-(2**63), 2**63 - 1)
transaction_values = st.tuples(
    st.integers(0, 2**64 - 1),
    int64s,
    st.integers(0, 2**32 - 1),
    *[st.integers(0, 255)] * 4,
    st.integers(0, 2**64 - 1),
)


# Layout


def test_a_transaction_is_32_bytes_without_holes() -> None:
    assert TRANSACTION_DTYPE.itemsize == TRANSACTION.size == 32
    laid_out = [
        (name, TRANSACTION_DTYPE.fields[name][1], TRANSACTION_DTYPE[name].itemsize)
        for name in TRANSACTION_DTYPE.names
    ]
    assert laid_out == FIELDS


def test_a_bundle_is_528_bytes_without_holes() -> None:
    assert BUNDLE_DTYPE.itemsize == 528
    offsets = {name: BUNDLE_DTYPE.fields[name][1] for name in BUNDLE_DTYPE.names}
    assert offsets == {"transactions": 0, "count": 512, "reason": 516, "sealed_ts_ns": 520}
    assert BUNDLE_DTYPE["transactions"].shape == (16,)
    assert BUNDLE_DTYPE["transactions"].base == TRANSACTION_DTYPE


def test_a_report_is_128_bytes_without_holes_and_starts_with_a_record() -> None:
    assert REPORT_RECORD_DTYPE.itemsize == 128
    laid_out = [
        (name, REPORT_RECORD_DTYPE.fields[name][1], REPORT_RECORD_DTYPE[name].itemsize)
        for name in REPORT_RECORD_DTYPE.names
    ]
    assert laid_out == [
        *FIELDS,
        ("base_amount", 32, 8),
        ("quote_amount", 40, 8),
        ("fee", 48, 8),
        ("sequence", 56, 8),
        ("venue_ts_ns", 64, 8),
        ("venue_order", 72, 8),
        ("ahead", 80, 8),
        ("leaves", 88, 4),
        ("reason", 92, 4),
        ("reserved", 96, 32),
    ]


def test_what_struct_packs_is_a_report_of_a_ring() -> None:
    packed = struct.pack(
        "<QqIBBBBQqqqQQQqII32x",
        *(7, 1_002_500, 3, 1, Kind.FILLED, 5, 2, 123),
        *(3_000, -300_750, -12, 9, 456, 88, -1, 4, 0),
    )
    ring = ReportRing(2)
    assert ring.push(np.frombuffer(packed, REPORT_RECORD_DTYPE)) == 1
    (report,) = ring.pop()
    assert report.tobytes() == packed
    assert (report["id"], report["kind"], report["flags"]) == (7, 17, 5)
    assert (report["base_amount"], report["quote_amount"], report["fee"]) == (3_000, -300_750, -12)
    assert (report["sequence"], report["ahead"], report["leaves"]) == (9, -1, 4)


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind >= Kind.PLACED])
@pytest.mark.parametrize("writers", [1, 2])
def test_a_report_is_no_record_of_a_book(kind: Kind, writers: int) -> None:
    if writers > 1 and not shared_books_are_built():
        pytest.skip("shared books are not built here")
    book = OrderBook(writers=writers, **({"base_price": 1} if writers > 1 else {}))
    statuses = np.zeros(1, np.uint8)
    records = orders(1, kind=kind)
    assert book.apply(records, statuses).applied == 0
    assert statuses[0] == Rejection.KIND
    with refused(RecordError, field="kind", value=int(kind)):
        validate(records)


@given(st.lists(transaction_values, max_size=20))
def test_what_struct_packs_is_what_comes_out_of_a_ring(values: list[tuple[int, ...]]) -> None:
    packed = b"".join(TRANSACTION.pack(*each) for each in values)
    ring = TransactionRing(32)
    assert ring.push(np.frombuffer(packed, TRANSACTION_DTYPE)) == len(values)
    popped = ring.pop()
    assert popped.tobytes() == packed
    assert [tuple(each) for each in popped.tolist()] == values


def test_a_record_of_the_original_decodes_as_an_add_to_market_0() -> None:
    # The original left bytes 21 to 23 as padding, and wrote zeros there.
    original = struct.pack("<QqIB3xQ", 7, 1_002_500, 3, 1, 123)
    (record,) = np.frombuffer(original, TRANSACTION_DTYPE)
    assert Kind(record["kind"]) is Kind.ADD
    assert Flags(record["flags"]) is Flags.NONE
    assert record["market"] == 0
    book = OrderBook()
    assert book.apply(np.frombuffer(original, TRANSACTION_DTYPE)).applied == 1
    assert book.quantity(Side.ASK, 1_002_500) == 3


# Validity


def faulty(count: int, index: int, **fields: int) -> np.ndarray:
    records = orders(count)
    for name, value in fields.items():
        records[name][index] = value
    return records


@pytest.mark.parametrize("index", [0, 1, 255, 999])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", 8),
        ("kind", 255),
        ("side", 2),
        ("side", 255),
        ("price", 0),
        ("price", -1),
        ("price", -(2**63)),
        ("size", 0),
    ],
)
def test_validate_names_the_record_and_the_field(index: int, field: str, value: int) -> None:
    with pytest.raises(RecordError) as raised:
        validate(faulty(1000, index, **{field: value}))
    assert raised.value.index == index
    assert raised.value.field == field
    assert f"transactions[{index}].{field} = {value}" in str(raised.value)


def test_validate_reports_the_first_fault_of_several() -> None:
    records = orders(10)
    records["size"][4] = 0
    records["kind"][7] = 99
    with pytest.raises(RecordError) as raised:
        validate(records)
    assert (raised.value.index, raised.value.field) == (4, "size")


@pytest.mark.parametrize("kind", [Kind.SET, Kind.SET_WIDE, Kind.DELETE, Kind.CLEAR, Kind.TRADE])
def test_a_size_of_zero_is_fine_where_nothing_is_added_or_taken(kind: Kind) -> None:
    validate(orders(3, kind=kind, size=0))


@pytest.mark.parametrize("kind", [Kind.ADD, Kind.CANCEL, Kind.EXECUTE])
def test_a_size_of_zero_is_refused_where_something_must_be_added_or_taken(kind: Kind) -> None:
    with refused(RecordError, field="size", value=0):
        validate(orders(1, kind=kind, size=0))


@pytest.mark.parametrize("kind", [Kind.CLEAR, Kind.TRADE])
def test_what_touches_no_level_needs_no_price(kind: Kind) -> None:
    validate(orders(1, kind=kind, price=0))


def test_nothing_is_valid() -> None:
    validate(orders(0))


@given(st.lists(transaction_values, min_size=1, max_size=30))
def test_validate_accepts_what_a_book_of_every_tick_does_not_call_malformed(
    values: list[tuple[int, ...]],
) -> None:
    records = np.array(values, TRANSACTION_DTYPE)
    records["market"] = 0
    statuses = np.zeros(len(records), np.uint8)
    OrderBook(levels=64).apply(records, statuses)
    malformed = {Rejection.KIND, Rejection.SIDE, Rejection.SIZE, Rejection.PRICE}
    first = next((i for i, each in enumerate(statuses.tolist()) if each in malformed), None)
    if first is None:
        validate(records)
        return
    with pytest.raises(RecordError) as raised:
        validate(records)
    assert raised.value.index == first
    assert raised.value.field == Rejection(statuses[first]).name.lower()


@pytest.mark.parametrize(
    "wrong",
    [
        [1, 2, 3],
        None,
        np.zeros(4),
        np.zeros(4, BUNDLE_DTYPE),
        np.zeros(4, TRANSACTION_DTYPE.newbyteorder()),
        np.zeros(8, TRANSACTION_DTYPE)[::2],
        np.zeros((2, 2), TRANSACTION_DTYPE),
        np.zeros((), TRANSACTION_DTYPE),
        np.zeros(4, np.dtype(TRANSACTION_DTYPE.descr, align=True).newbyteorder(">")),
    ],
    ids=["list", "None", "float", "bundle", "big endian", "strided", "2-D", "0-D", "aligned"],
)
def test_anything_but_a_contiguous_array_of_transactions_is_refused(wrong: object) -> None:
    with pytest.raises(RecordError):
        validate(wrong)  # type: ignore[arg-type]


def test_an_equal_dtype_need_not_be_the_same_object() -> None:
    twin = np.dtype(TRANSACTION_DTYPE.descr)
    assert twin is not TRANSACTION_DTYPE
    validate(orders(2).astype(twin))


def test_a_record_error_is_a_value_error_and_velox_own() -> None:
    assert issubclass(RecordError, ValueError)
    assert issubclass(RecordError, VeloxError)


# Fixed point


@given(int64s)
def test_every_price_survives_the_way_to_decimal_and_back(fixed: int) -> None:
    price = from_fixed(fixed)
    assert price * PRICE_SCALE == fixed
    assert to_fixed(price) == to_fixed(str(price)) == fixed


@given(st.integers(-(10**14), 10**14), st.integers(0, 9999))
def test_text_is_taken_digit_by_digit(whole: int, fraction: int) -> None:
    sign = "-" if whole < 0 else ""
    expected = abs(whole) * PRICE_SCALE + fraction
    assert to_fixed(f"{whole}.{fraction:04d}") == (-expected if sign else expected)


@given(st.floats(-(2**40), 2**40))
def test_a_float_is_taken_only_where_it_is_exact(value: float) -> None:
    numerator, denominator = value.as_integer_ratio()
    scaled, rest = divmod(numerator * PRICE_SCALE, denominator)
    if rest:
        with pytest.raises(RecordError):
            to_fixed(value)
    else:
        assert to_fixed(value) == scaled


@pytest.mark.parametrize(
    "wrong",
    [
        0.1,
        "1.00001",
        Decimal("1e-5"),
        "nan",
        "inf",
        float("nan"),
        float("-inf"),
        "ten",
        "",
        None,
        True,
        object(),
        2**63 // PRICE_SCALE + 1,
        "-922337203685477.5809",
        "922337203685477.5808",
    ],
)
def test_what_is_no_price_of_four_decimals_is_refused(wrong: object) -> None:
    with pytest.raises(RecordError):
        to_fixed(wrong)  # type: ignore[arg-type]


def test_the_ends_of_64_bits_are_prices() -> None:
    assert to_fixed("922337203685477.5807") == 2**63 - 1
    assert to_fixed("-922337203685477.5808") == -(2**63)


@pytest.mark.parametrize("digits", ["1.0000000000000000000000000000001", "1e28", "1" + "0" * 40])
def test_a_price_of_more_digits_than_the_decimal_context_is_not_rounded(digits: str) -> None:
    with pytest.raises(RecordError):
        to_fixed(digits)


def test_a_numpy_price_comes_back_as_a_decimal() -> None:
    records = orders(1, price=1_002_500)
    assert from_fixed(records["price"][0]) == Decimal("100.25")


def test_the_decimal_context_of_the_caller_changes_no_price() -> None:
    with localcontext() as context:
        context.prec = 6
        assert to_fixed("1234567.8901") == 12_345_678_901
        assert str(from_fixed(12_345_678_901)) == "1234567.8901"
