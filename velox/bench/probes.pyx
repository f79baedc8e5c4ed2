"""Loops that measure a part beside what works against it: the hardware's cost, a busy writer.

As in `velox.bench.loops`, each checks what it read, and a wrong answer has no speed.
"""

from libc.stdint cimport int64_t, uint64_t

from velox.core.atomic cimport kernel_ns, load_relaxed, relax, ticks_ordered
from velox.core.book cimport OrderBook
from velox.core.top cimport book_top, top_line_try_read

from velox.errors import ConfigError, LedgerError

__all__ = ["ticks_read", "top_reads"]


def ticks_read(uint64_t operations):
    """Read the processor's counter, in order and unscaled; it must not go back.

    Parameters
    ----------
    operations : int

    Returns
    -------
    int
        Nanoseconds that all of them took.

    Raises
    ------
    LedgerError
        A reading was before the one before it.
    """
    cdef uint64_t reading, start_ns, end_ns
    cdef uint64_t right = 0
    cdef uint64_t last = 0
    with nogil:
        start_ns = kernel_ns()
        for _ in range(operations):
            reading = ticks_ordered()
            right += reading >= last
            last = reading
        end_ns = kernel_ns()
    if right != operations:
        raise LedgerError(f"{right} readings in order were right, of {operations}")
    return end_ns - start_ns


def top_reads(OrderBook book not None, uint64_t operations, *, low, high):
    """Read the best prices while another thread moves the best bid between two levels.

    Parameters
    ----------
    book : OrderBook
        Of one writer.
    operations : int
    low, high : tuple of int
        Price and quantity of the two levels; a read that gives the price of one with the quantity
        of the other, or anything else, is wrong.

    Returns
    -------
    elapsed_ns, again, changes : int
        What all of them took; how many attempts were made again because a version had come out
        meanwhile; and how many reads found another version than the one before, so that a writer
        that stood still can be told from one that did not.

    Raises
    ------
    ConfigError
        The book has several writers, and so no top line.
    LedgerError
        A read was wrong.
    """
    cdef book_top top
    cdef uint64_t start_ns, end_ns
    cdef uint64_t right = 0
    cdef uint64_t again = 0
    cdef uint64_t changes = 0
    cdef uint64_t version
    cdef uint64_t last = 0
    cdef int64_t low_price = low[0], low_quantity = low[1]
    cdef int64_t high_price = high[0], high_quantity = high[1]
    if book.core.shared != NULL:
        raise ConfigError("a book with several writers publishes no top line")
    with nogil:
        start_ns = kernel_ns()
        for _ in range(operations):
            while not top_line_try_read(book.core.top, &top):
                again += 1
                relax()
            right += (top.bid_price == low_price and top.bid_quantity == low_quantity) \
                or (top.bid_price == high_price and top.bid_quantity == high_quantity)
            # Relaxed: a look at how far the writer has come, which decides nothing.
            version = load_relaxed(&book.core.top.version)
            changes += version != last
            last = version
        end_ns = kernel_ns()
    if right != operations:
        raise LedgerError(f"{right} reads of the best bid were right, of {operations}")
    return end_ns - start_ns, again, changes
