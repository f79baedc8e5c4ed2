"""`OrderBook` and `Books` for ``cimport``: their C book, and their C table of books."""

cimport cython
from libc.stdint cimport uint8_t

from velox.core.book cimport book, books
from velox.core.mailbox cimport depth_counts
from velox.core.memory cimport page_choice


@cython.final
cdef class OrderBook:
    cdef book *core
    cdef books *table                   # of this book alone
    cdef page_choice when               # what its blocks asked for
    cdef readonly object instrument
    cdef object read_rows(self, Py_ssize_t n, object timeout, depth_counts *counts)
    cdef object read_all(self, object timeout, depth_counts *counts)
    cdef object update(self, uint8_t kind, object side, object price, object size)


@cython.final
cdef class Books:
    cdef books *table
    cdef dict by_market                 # keeps the books alive
