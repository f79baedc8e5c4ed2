"""Transactions, bundles and reports: layouts, NumPy dtypes, and the checks of a record."""

import operator
from decimal import Decimal, InvalidOperation
from enum import IntEnum, IntFlag

import numpy as np
cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.stdlib cimport malloc

from velox.core.memory cimport STATIC_ASSERT, release_memory

from velox.core.instrument import MAX_PRICE_DECIMALS, PRICE_DECIMALS
from velox.core.integers import INT64_MAX
from velox.errors import RecordError

cdef extern from "numpy/arrayobject.h":
    ctypedef struct Descr "PyArray_Descr":
        pass
    object PyArray_NewFromDescr(PyTypeObject *subtype, Descr *descr, int ndim,
                                const cnp.npy_intp *shape, const cnp.npy_intp *strides,
                                void *data, int flags, PyObject *prototype)

cnp.import_array()

__all__ = [
    "BUNDLE_DTYPE",
    "PRICE_SCALE",
    "REPORT_RECORD_DTYPE",
    "TRANSACTION_DTYPE",
    "Flags",
    "Kind",
    "Rejection",
    "ReportFlags",
    "SealReason",
    "Side",
    "from_fixed",
    "to_fixed",
    "validate",
]


cdef enum:
    SMALL_BYTES = 1 << 16


class Side(IntEnum):
    """The side of the book that a record changes."""

    BID = SIDE_BID
    ASK = SIDE_ASK


class Kind(IntEnum):
    """What a record says: the effect on the level at its price, or what became of an order.

    Kinds 0 to 7 are records of the market. A book applies them.

    ============ ===================================================================
    ``ADD``      adds `size`; the default, so a record of zeros and a price is an add
    ``CANCEL``   takes `size` away
    ``EXECUTE``  takes `size` away, because it traded
    ``SET``      makes the level exactly `size`; 0 deletes it
    ``SET_WIDE`` makes the level exactly `id`, for quantities over 32 bits
    ``DELETE``   empties the level; `size` is ignored
    ``CLEAR``    empties the whole side; `price` and `size` are ignored
    ``TRADE``    a print: changes nothing
    ============ ===================================================================

    Kinds from 16 on are reports. They are the heads of records of `REPORT_RECORD_DTYPE`, and a book
    rejects them. `id`, `side` and `market` are those of our order. `leaves` is what the source says
    is still open after the event. `reason` is a code of the source's own, except in a ``BLOCKED``.

    =================== ============================================================
    ``PLACED``          the order rests; `size` is what rests, `price` is the order's
    ``FILLED``          `size` lots traded at `price`; see `ReportFlags`
    ``CANCELLED``       `size` lots were taken away by a cancel; nothing is left
    ``REJECTED``        the venue, or the way to it, refused `size` lots; nothing is left
    ``CANCEL_REJECTED`` a cancel was refused; the order stays as it was
    ``EXPIRED``         `size` lots ran out of time; nothing is left
    ``BLOCKED``         the risk gate blocked the order: it never left; see `reason`
    ``UNKNOWN``         the outcome of `size` lots cannot be known: they stay exposed
    ``TIMER``           time passed; only `ingress_ts_ns` and `market` mean something
    ``RESYNC``          orders and position as the venue has them; see `ReportFlags`
    =================== ============================================================
    """

    ADD = KIND_ADD
    CANCEL = KIND_CANCEL
    EXECUTE = KIND_EXECUTE
    SET = KIND_SET
    SET_WIDE = KIND_SET_WIDE
    DELETE = KIND_DELETE
    CLEAR = KIND_CLEAR
    TRADE = KIND_TRADE
    PLACED = KIND_PLACED
    FILLED = KIND_FILLED
    CANCELLED = KIND_CANCELLED
    REJECTED = KIND_REJECTED
    CANCEL_REJECTED = KIND_CANCEL_REJECTED
    EXPIRED = KIND_EXPIRED
    BLOCKED = KIND_BLOCKED
    UNKNOWN = KIND_UNKNOWN
    TIMER = KIND_TIMER
    RESYNC = KIND_RESYNC


class Flags(IntFlag):
    """Further properties of a record. The bits are those of Databento's ``flags``."""

    NONE = 0
    MBP = FLAG_MBP
    SNAPSHOT = FLAG_SNAPSHOT
    TOB = FLAG_TOB
    LAST = FLAG_LAST


class ReportFlags(IntFlag):
    """Further properties of a report.

    =========== ====================================================================
    ``MAKER``   ``FILLED``: our order rested, and another came to it
    ``LAST``    ``FILLED``: nothing of the order is left. ``RESYNC``: the end of one
    ``AMOUNTS`` ``FILLED``: `base_amount` and `quote_amount` are exact, in the venue's own
                units. Without it they are `size`, and `price` times `size`
    ``BEGIN``   ``RESYNC``: the start of one
    =========== ====================================================================

    A ``RESYNC`` of a market is several reports. The first has ``BEGIN``. Each order that rests has
    one with its `id`, `price`, `side`, and its open lots in `size`. The last has ``LAST``, and the
    position in `base_amount`, `quote_amount` and `fee`.
    """

    NONE = 0
    MAKER = REPORT_MAKER
    LAST = REPORT_LAST
    AMOUNTS = REPORT_AMOUNTS
    BEGIN = REPORT_BEGIN


class SealReason(IntEnum):
    """Why a bundle was sealed."""

    SIZE = SEAL_SIZE
    TIMEOUT = SEAL_TIMEOUT
    IDLE = SEAL_IDLE
    DRAIN = SEAL_DRAIN


class Rejection(IntEnum):
    """Why a book, or `validate`, refuses a transaction.

    ================= ==============================================================
    ``KIND``          the kind is not one of `Kind`
    ``SIDE``          the side is neither bid nor ask
    ``MARKET``        no book has this market id
    ``SIZE``          the size is 0 where something must be added or taken
    ``PRICE``         the price is not positive
    ``OFF_TICK``      the price is not a multiple of the tick size
    ``OUT_OF_WINDOW`` the price lies outside a book whose window is fixed
    ``UNDERFLOW``     more would be taken than the level holds
    ``OVERFLOW``      the level would hold more than the book can count
    ``CROSSED``       the book would cross, and its policy is to reject that
    ``BOOK_FULL``     the store for levels outside the window has no room left
    ================= ==============================================================
    """

    KIND = STATUS_KIND
    SIDE = STATUS_SIDE
    MARKET = STATUS_MARKET
    SIZE = STATUS_SIZE
    PRICE = STATUS_PRICE
    OFF_TICK = STATUS_OFF_TICK
    OUT_OF_WINDOW = STATUS_OUT_OF_WINDOW
    UNDERFLOW = STATUS_UNDERFLOW
    OVERFLOW = STATUS_OVERFLOW
    CROSSED = STATUS_CROSSED
    BOOK_FULL = STATUS_BOOK_FULL


TRANSACTION_DTYPE = np.dtype([
    ("id", "<u8"),
    ("price", "<i8"),
    ("size", "<u4"),
    ("side", "u1"),
    ("kind", "u1"),
    ("flags", "u1"),
    ("market", "u1"),
    ("ingress_ts_ns", "<u8"),
])

BUNDLE_DTYPE = np.dtype([
    ("transactions", TRANSACTION_DTYPE, (BUNDLE_CAPACITY,)),
    ("count", "<u4"),
    ("reason", "<u4"),
    ("sealed_ts_ns", "<u8"),
])

REPORT_RECORD_DTYPE = np.dtype([
    *((name, TRANSACTION_DTYPE[name]) for name in TRANSACTION_DTYPE.names),
    ("base_amount", "<i8"),
    ("quote_amount", "<i8"),
    ("fee", "<i8"),
    ("sequence", "<u8"),
    ("venue_ts_ns", "<u8"),
    ("venue_order", "<u8"),
    ("ahead", "<i8"),
    ("leaves", "<u4"),
    ("reason", "<u4"),
    ("reserved", "<u8", (4,)),
])

PRICE_SCALE = 10**PRICE_DECIMALS

# C references to the same objects, which avoid the look-up of a module's global.
cdef object transaction_dtype = TRANSACTION_DTYPE
cdef object bundle_dtype = BUNDLE_DTYPE
cdef object report_dtype = REPORT_RECORD_DTYPE


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(Transaction) == 32)
    STATIC_ASSERT(<size_t>&(<Transaction *>NULL).price == 8)
    STATIC_ASSERT(<size_t>&(<Transaction *>NULL).size == 16)
    STATIC_ASSERT(<size_t>&(<Transaction *>NULL).side == 20)
    STATIC_ASSERT(<size_t>&(<Transaction *>NULL).kind == 21)
    STATIC_ASSERT(<size_t>&(<Transaction *>NULL).flags == 22)
    STATIC_ASSERT(<size_t>&(<Transaction *>NULL).market == 23)
    STATIC_ASSERT(<size_t>&(<Transaction *>NULL).ingress_ts_ns == 24)
    STATIC_ASSERT(sizeof(Bundle) == 528)
    STATIC_ASSERT(<size_t>&(<Bundle *>NULL).count == 512)
    STATIC_ASSERT(<size_t>&(<Bundle *>NULL).reason == 516)
    STATIC_ASSERT(<size_t>&(<Bundle *>NULL).sealed_ts_ns == 520)
    STATIC_ASSERT(sizeof(Report) == 128)
    STATIC_ASSERT(<size_t>&(<Report *>NULL).base_amount == 32)
    STATIC_ASSERT(<size_t>&(<Report *>NULL).quote_amount == 40)
    STATIC_ASSERT(<size_t>&(<Report *>NULL).fee == 48)
    STATIC_ASSERT(<size_t>&(<Report *>NULL).sequence == 56)
    STATIC_ASSERT(<size_t>&(<Report *>NULL).venue_ts_ns == 64)
    STATIC_ASSERT(<size_t>&(<Report *>NULL).venue_order == 72)
    STATIC_ASSERT(<size_t>&(<Report *>NULL).ahead == 80)
    STATIC_ASSERT(<size_t>&(<Report *>NULL).leaves == 88)
    STATIC_ASSERT(<size_t>&(<Report *>NULL).reason == 92)
    STATIC_ASSERT(<size_t>&(<Report *>NULL).reserved == 96)


assert_layout()


cdef int check_array(object array, object dtype, str name) except -1:
    if not cnp.PyArray_Check(array):
        raise RecordError(
            f"expected an array of {name}, a numpy.ndarray; got {type(array).__name__}")
    # Identity first: comparing structured dtypes costs more than pushing a record.
    cdef PyObject *descr = <PyObject *>cnp.PyArray_DESCR(<cnp.ndarray>array)
    if descr != <PyObject *>dtype and <object>descr != dtype:
        raise RecordError(f"expected an array of {name}; its dtype is {array.dtype}")
    if cnp.PyArray_NDIM(<cnp.ndarray>array) != 1 \
            or not cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>array):
        raise RecordError(
            f"expected a contiguous one-dimensional array of {name}; "
            f"got shape {array.shape}, strides {array.strides}")
    return 0


cdef Transaction *transactions_of(object array, Py_ssize_t *count) except? NULL:
    check_array(array, transaction_dtype, "TRANSACTION_DTYPE")
    count[0] = cnp.PyArray_SIZE(<cnp.ndarray>array)
    return <Transaction *>cnp.PyArray_DATA(<cnp.ndarray>array)


cdef Bundle *bundles_of(object array, Py_ssize_t *count) except? NULL:
    check_array(array, bundle_dtype, "BUNDLE_DTYPE")
    count[0] = cnp.PyArray_SIZE(<cnp.ndarray>array)
    return <Bundle *>cnp.PyArray_DATA(<cnp.ndarray>array)


cdef Report *reports_of(object array, Py_ssize_t *count) except? NULL:
    check_array(array, report_dtype, "REPORT_RECORD_DTYPE")
    count[0] = cnp.PyArray_SIZE(<cnp.ndarray>array)
    return <Report *>cnp.PyArray_DATA(<cnp.ndarray>array)


@cython.final
@cython.freelist(16)
cdef class Memory:
    """The memory of a small array. It is a buffer, so that NumPy knows that it may be written."""
    cdef void *block
    cdef Py_ssize_t size

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.block, self.size, 0, flags)

    def __dealloc__(self):
        release_memory(self.block)


cdef object wrap(object dtype, void *first, cnp.npy_intp count, int flags, object owner):
    Py_INCREF(dtype)    # PyArray_NewFromDescr steals a reference to the dtype
    cdef cnp.ndarray array = PyArray_NewFromDescr(
        <PyTypeObject *>cnp.ndarray, <Descr *>dtype, 1, &count, NULL, first, flags, NULL)
    if owner is not None:
        cnp.set_array_base(array, owner)
    return array


cdef object new_array(object dtype, Py_ssize_t itemsize, Py_ssize_t count):
    cdef Memory memory
    if count * itemsize > SMALL_BYTES:
        return wrap(dtype, NULL, count, 0, None)
    # Before NumPy allocates memory itself, it checks every field, which takes 300 ns.
    memory = Memory.__new__(Memory)
    memory.size = count * itemsize
    memory.block = malloc(max(memory.size, 1))
    if memory.block == NULL:
        raise MemoryError(f"no memory for {count} records")
    return wrap(dtype, memory.block, count, cnp.NPY_ARRAY_CARRAY, memory)


cdef object new_transactions(Py_ssize_t count):
    return new_array(transaction_dtype, sizeof(Transaction), count)


cdef object new_bundles(Py_ssize_t count):
    return new_array(bundle_dtype, sizeof(Bundle), count)


cdef object new_reports(Py_ssize_t count):
    return new_array(report_dtype, sizeof(Report), count)


cdef object view_transactions(const Transaction *first, Py_ssize_t count, object owner):
    return wrap(transaction_dtype, <void *>first, count, 0, owner)


cdef object view_bundles(const Bundle *first, Py_ssize_t count, object owner):
    return wrap(bundle_dtype, <void *>first, count, 0, owner)


cdef object view_reports(const Report *first, Py_ssize_t count, object owner):
    return wrap(report_dtype, <void *>first, count, 0, owner)


cdef uint8_t transaction_fault(const Transaction *transaction) noexcept nogil:
    """Check the parts of a record that do not depend on a book; STATUS_APPLIED if valid."""
    cdef uint8_t kind = transaction.kind
    if kind >= KINDS:
        return STATUS_KIND
    if transaction.side > SIDE_ASK:
        return STATUS_SIDE
    if kind == KIND_CLEAR or kind == KIND_TRADE:
        return STATUS_APPLIED
    if transaction.price <= 0:
        return STATUS_PRICE
    if transaction.size == 0 and kind <= KIND_EXECUTE:
        return STATUS_SIZE
    return STATUS_APPLIED


FAULTY_FIELD = {
    STATUS_KIND: ("kind", "not a kind of record that a book takes"),
    STATUS_SIDE: ("side", "is neither 0 (bid) nor 1 (ask)"),
    STATUS_PRICE: ("price", "must be positive"),
    STATUS_SIZE: ("size", "must not be 0 for this kind"),
}


def validate(transactions):
    """Check records before they enter a pipeline or a book, independent of the instrument.

    Parameters
    ----------
    transactions : ndarray, shape (n,), dtype TRANSACTION_DTYPE
        The records. Read without the GIL: no other thread may write them meanwhile.

    Raises
    ------
    RecordError
        At the first record with an unknown kind or side, a price that is not positive or a size
        of 0, where its kind needs one. `index` and `field` of the error say where.

    Examples
    --------
    >>> import numpy as np
    >>> from velox import TRANSACTION_DTYPE, validate
    >>> orders = np.zeros(2, TRANSACTION_DTYPE)
    >>> orders["price"], orders["size"] = 1_002_500, [3, 0]
    >>> validate(orders)
    Traceback (most recent call last):
    ...
    velox.errors.RecordError: transactions[1].size = 0: must not be 0 for this kind
    """
    cdef Py_ssize_t count, index
    cdef const Transaction *first = transactions_of(transactions, &count)
    cdef uint8_t fault = STATUS_APPLIED
    with nogil:
        for index in range(count):
            fault = transaction_fault(&first[index])
            if fault != STATUS_APPLIED:
                break
    if fault != STATUS_APPLIED:
        field, why = FAULTY_FIELD[fault]
        raise RecordError(
            why, array="transactions", index=index, field=field,
            value=transactions[index][field].item())


cdef int price_places(object decimals) except -1:
    """Check how many decimals prices have."""
    if isinstance(decimals, bool) or not isinstance(decimals, int) \
            or not 0 <= decimals <= MAX_PRICE_DECIMALS:
        raise RecordError(
            f"must be an integer from 0 to {MAX_PRICE_DECIMALS}", field="decimals", value=decimals)
    return decimals


def to_fixed(value, decimals=PRICE_DECIMALS):
    """A decimal price as the integer of `Transaction.price`.

    Parameters
    ----------
    value : str, int, float or decimal.Decimal
        The price. A float means its exact binary value, so ``0.1`` is refused and ``"0.1"`` is
        accepted. Text is plain ASCII, without underscores.
    decimals : int
        Decimals of the market's prices, 0 to 18; see `Instrument.price_decimals`.

    Returns
    -------
    int
        In units of ten to the minus `decimals`.

    Raises
    ------
    RecordError
        The value is not a number, has more decimals, or does not fit 64 bits.

    Examples
    --------
    >>> to_fixed("100.25")
    1002500
    >>> to_fixed("0.00001234", 8)
    1234
    """
    cdef int places = price_places(decimals)
    if isinstance(value, bool):
        raise RecordError("must be a number", field="price", value=value)
    if isinstance(value, str) and (not value.isascii() or "_" in value):
        raise RecordError("not a decimal number", field="price", value=value)
    try:
        price = Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        raise RecordError("not a decimal number", field="price", value=value) from None
    if not price.is_finite():
        raise RecordError("not a finite number", field="price", value=value)
    # In integers: Decimal's own arithmetic would round to the precision of the caller's context.
    sign, digits, exponent = price.as_tuple()
    units = int("".join(map(str, digits)))
    if units and price.adjusted() > 18:
        raise RecordError(f"does not fit 64 bits at {places} decimals", field="price", value=value)
    if exponent >= -places:
        scaled, rest = (units * 10**(exponent + places) if units else 0), 0
    elif -places - exponent > len(digits):
        scaled, rest = 0, units
    else:
        scaled, rest = divmod(units, 10**(-places - exponent))
    if rest:
        hint = "; pass it as text, since a binary fraction is not decimal" \
            if isinstance(value, float) else ""
        raise RecordError(f"has more than {places} decimals{hint}", field="price", value=value)
    scaled = -scaled if sign else scaled
    if not -INT64_MAX - 1 <= scaled <= INT64_MAX:
        raise RecordError(f"does not fit 64 bits at {places} decimals", field="price", value=value)
    return scaled


def from_fixed(fixed, decimals=PRICE_DECIMALS):
    """The decimal price that an integer of `Transaction.price` stands for.

    Parameters
    ----------
    fixed : int
        In units of ten to the minus `decimals`.
    decimals : int
        Decimals of the market's prices, 0 to 18; see `Instrument.price_decimals`.

    Returns
    -------
    decimal.Decimal

    Raises
    ------
    RecordError
        `fixed` is not an integer.

    Examples
    --------
    >>> from_fixed(1002500)
    Decimal('100.2500')
    """
    cdef int places = price_places(decimals)
    # From its digits: Decimal's arithmetic would round to the precision of the caller's context.
    try:
        units = operator.index(fixed)
    except TypeError:
        raise RecordError(
            f"not an integer of units of 1e-{places}", field="price", value=fixed) from None
    return Decimal((units < 0, tuple(map(int, str(abs(units)))), -places))
