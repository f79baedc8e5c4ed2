"""The checksum that Kraken sends with its books (WebSocket v2).

It is the CRC-32 of ISO-HDLC and Ethernet over the best 10 asks and then the best 10 bids, best
first. Each level is its price and its quantity, with the decimals of the symbol, without the point
and without leading zeros. The source is "Book checksum (v2)" in Kraken's documentation.
"""

cimport cython
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from velox.core.book cimport decimal_unit
from velox.core.mailbox cimport depth_counts, depth_row
from velox.feeds.crc32 cimport crc32_update
from velox.runtime.checksum cimport BookChecksum

__all__ = ["KrakenChecksum"]

cdef enum:
    # 64 bits have at most 20 digits.
    DIGITS_SIZE = 20
    KRAKEN_LEVELS = 10


cdef inline uint32_t crc32_digits(uint32_t crc, uint64_t value) noexcept nogil:
    """Continue a CRC with the decimal digits of a number; zero has none."""
    cdef char text[DIGITS_SIZE]
    cdef size_t begin = DIGITS_SIZE
    while value != 0:
        begin -= 1
        text[begin] = <char>(48 + value % 10)    # b"0"
        value //= 10
    return crc32_update(crc, text + begin, DIGITS_SIZE - begin)


cdef int32_t kraken_checksum(const depth_row *rows, depth_counts counts, decimal_unit lot,
                             int64_t tick_size, uint64_t price_decimals) noexcept nogil:
    """Kraken's checksum, as a signed number.

    The tick is one unit of the last decimal of a price, times a number without a trailing zero. The
    lot is one unit of the last decimal of a quantity.
    """
    cdef uint32_t crc = ~<uint32_t>0
    cdef uint64_t unit = 1
    cdef int64_t odd = tick_size
    cdef Py_ssize_t row
    while odd % 10 == 0:
        odd //= 10
        unit *= 10
    for row in range(min(counts.asks, KRAKEN_LEVELS)):
        crc = crc32_digits(crc, <uint64_t>rows[row].ask_price // unit)
        crc = crc32_digits(crc, <uint64_t>rows[row].ask_quantity * lot.mantissa)
    for row in range(min(counts.bids, KRAKEN_LEVELS)):
        crc = crc32_digits(crc, <uint64_t>rows[row].bid_price // unit)
        crc = crc32_digits(crc, <uint64_t>rows[row].bid_quantity * lot.mantissa)
    return <int32_t>~crc


@cython.final
cdef class KrakenChecksum(BookChecksum):
    """The checksum of Kraken: the CRC-32 of the best 10 levels a side, as digits.

    The tick of a book must be one unit of the last decimal that Kraken writes of a price, and its
    lot one unit of the last decimal of a quantity. The reader of Kraken's recordings makes such
    instruments.

    Examples
    --------
    >>> from decimal import Decimal
    >>> from velox import OrderBook
    >>> book = OrderBook(tick_size=1000, lot_size=Decimal("0.00000001"))
    >>> book.add(1, 452_852_000, 100_000)
    >>> KrakenChecksum().of(book)
    2099347975
    """

    def __cinit__(self):
        self.function = kraken_checksum
        self.levels = KRAKEN_LEVELS

    def __reduce__(self):
        return KrakenChecksum, ()
