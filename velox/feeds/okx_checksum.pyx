"""The checksum that OKX sends with its books.

It is the CRC-32 of ISO-HDLC and Ethernet (polynomial 0xEDB88320, reflected) over the text
``bid:quantity:ask:quantity:...`` of the best 25 levels.
"""

cimport cython
from libc.stdint cimport UINT64_MAX, int32_t, int64_t, uint32_t, uint64_t

from velox.core.book cimport decimal_unit
from velox.core.mailbox cimport depth_counts, depth_row
from velox.feeds.crc32 cimport crc32_update
from velox.runtime.checksum cimport BookChecksum

from velox.core.instrument import PRICE_DECIMALS
from velox.errors import RecordError

__all__ = ["OkxChecksum"]

cdef extern from *:
    """
    typedef unsigned __int128 velox_wide;
    """
    # 128 bits. C does the arithmetic; Cython only needs to know that the type is wide and unsigned.
    ctypedef unsigned long long wide "velox_wide"

cdef enum:
    # 128 bits have 39 digits; `decimal_unit` has at most 36 decimals.
    DECIMAL_TEXT_SIZE = 80
    OKX_LEVELS = 25


cdef inline size_t decimal_text(char *text, int64_t units, decimal_unit unit) noexcept nogil:
    """Write ``units * unit`` as a decimal at the *end* of DECIMAL_TEXT_SIZE bytes.

    Returns where it begins. The text is the shortest: it has no trailing zero and no point without
    decimals. It is "0.5", not ".5".
    """
    cdef wide value = <wide>units * unit.mantissa
    cdef uint64_t decimals = unit.decimals if units != 0 else 0
    cdef uint64_t written = 0
    cdef uint64_t digit
    cdef size_t begin = DECIMAL_TEXT_SIZE
    while decimals > 0 and value % 10 == 0:
        value //= 10
        decimals -= 1
    while value != 0 or written <= decimals:
        if written == decimals and decimals != 0:
            begin -= 1
            text[begin] = b"."
        if value > UINT64_MAX:
            digit = value % 10
            value //= 10
        else:
            # Division by a constant is a multiplication at 64 bits, and a function call at 128
            # bits.
            digit = <uint64_t>value % 10
            value = <uint64_t>value // 10
        begin -= 1
        text[begin] = <char>(48 + digit)    # b"0"
        written += 1
    return begin


cdef inline uint32_t crc32_field(uint32_t crc, int64_t units, decimal_unit unit,
                                 bint first) noexcept nogil:
    cdef char text[DECIMAL_TEXT_SIZE]
    cdef size_t begin = decimal_text(text, units, unit)
    if not first:
        crc = crc32_update(crc, b":", 1)
    return crc32_update(crc, text + begin, DECIMAL_TEXT_SIZE - begin)


cdef int32_t okx_checksum(const depth_row *rows, depth_counts counts, decimal_unit lot,
                          int64_t tick_size, uint64_t price_decimals) noexcept nogil:
    """OKX's checksum: the signed CRC-32 of ``bid:quantity:ask:quantity:...`` over 25 levels.

    Bids and asks alternate. Once one side has no more levels, the other continues alone.
    """
    cdef decimal_unit price_unit
    cdef uint32_t crc = ~<uint32_t>0
    cdef bint first = True
    cdef Py_ssize_t row
    price_unit.mantissa = 1
    price_unit.decimals = price_decimals
    for row in range(OKX_LEVELS):
        if row < counts.bids:
            crc = crc32_field(crc, rows[row].bid_price, price_unit, first)
            crc = crc32_field(crc, rows[row].bid_quantity, lot, False)
            first = False
        if row < counts.asks:
            crc = crc32_field(crc, rows[row].ask_price, price_unit, first)
            crc = crc32_field(crc, rows[row].ask_quantity, lot, False)
            first = False
    return <int32_t>~crc


@cython.final
cdef class OkxChecksum(BookChecksum):
    """The checksum of OKX: the signed CRC-32 of the best 25 levels a side, as text.

    Parameters
    ----------
    price_decimals : int
        Decimals of the prices of the books, 0 to 18.

    Raises
    ------
    RecordError
        `price_decimals` is out of its range.

    Examples
    --------
    >>> from velox import OrderBook
    >>> book = OrderBook(tick_size=100)
    >>> book.add(0, 1_000_000, 3)
    >>> OkxChecksum().of(book)
    341492853
    """

    def __cinit__(self, price_decimals=PRICE_DECIMALS):
        if not isinstance(price_decimals, int) or not 0 <= price_decimals <= 18:
            raise RecordError(f"price_decimals = {price_decimals!r}: must be 0 to 18",
                              field="price_decimals")
        self.price_decimals = price_decimals
        self.function = okx_checksum
        self.levels = OKX_LEVELS

    def __reduce__(self):
        return OkxChecksum, (self.price_decimals,)
