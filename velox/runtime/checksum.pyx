"""A checksum of a book, as a venue computes it. A feed supplies the computation."""

cimport numpy as cnp

from velox.core.order_book cimport OrderBook

from velox.errors import ConfigError

cnp.import_array()

__all__ = ["BookChecksum"]


cdef class BookChecksum:
    """The base of the checksums that feeds know, such as `velox.feeds.okx_checksum.OkxChecksum`.

    Attributes
    ----------
    levels : int
        How many levels a side it covers.
    price_decimals : int
        Decimals of the prices in the books whose checksum is computed.

    Notes
    -----
    Thread-safety: an instance has no state, and may be used from any thread.
    """

    def __cinit__(self):
        self.price_decimals = 4

    def of(self, OrderBook book not None, *, timeout=1.0):
        """Compute the checksum of a book as it is now.

        Parameters
        ----------
        book : OrderBook
        timeout : float
            Seconds to wait while another thread writes the book, as for `OrderBook.depth`.

        Returns
        -------
        int
            A signed 32-bit integer.

        Raises
        ------
        ConfigError
            This is the base class. Use a class that a feed supplies.
        TimeoutError
            As for `OrderBook.depth`.
        """
        cdef depth_counts counts
        if self.function == NULL:
            raise ConfigError(
                f"{type(self).__name__} computes nothing: a feed supplies the function")
        rows = book.depth(self.levels, timeout=timeout)
        # Each level in the book holds at least one lot. The rows after the last level are zero.
        counts.bids = int((rows["bid_quantity"] > 0).sum())
        counts.asks = int((rows["ask_quantity"] > 0).sum())
        return self.function(
            <const depth_row *>cnp.PyArray_DATA(<cnp.ndarray>rows), counts, book.core.lot,
            book.core.grid.tick_size, self.price_decimals)

    def __reduce__(self):
        return type(self), ()
