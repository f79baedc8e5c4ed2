"""The C interface of a checksum that a venue sends with its book.

A feed derives from `BookChecksum` and sets `function` and `levels`. The verifier then calls
`function` on the thread that writes the books, with the newest rows of the book.
"""

from libc.stdint cimport int32_t, int64_t, uint64_t

from velox.core.book cimport decimal_unit
from velox.core.mailbox cimport depth_counts, depth_row

# The checksum of the best levels of a book: `counts` says how many each side has, `lot` what one
# unit of quantity is worth, `tick_size` the grid of the prices, and `price_decimals` how many
# decimals a price has.
ctypedef int32_t (*checksum_function)(const depth_row *rows, depth_counts counts, decimal_unit lot,
                                      int64_t tick_size, uint64_t price_decimals) noexcept nogil


cdef class BookChecksum:
    cdef checksum_function function
    cdef readonly Py_ssize_t levels
    cdef readonly uint64_t price_decimals
