"""Compares books with the checks of a recording."""

from typing import NamedTuple

cimport cython
import numpy as np
cimport numpy as cnp

from velox.core.atomic cimport count, load_relaxed
from velox.core.book cimport book, book_writer_depth, book_writer_rows
from velox.core.mailbox cimport depth_counts, depth_row
from velox.core.memory cimport allocate, release_memory
from velox.core.order_book cimport Books
from velox.runtime.checksum cimport BookChecksum

from velox.core.order_book import DEPTH_DTYPE
from velox.core.records import Side, from_fixed
from velox.errors import ConfigError
from velox.runtime.checks import ChecksumChecks, DepthChecks

cnp.import_array()

__all__ = ["Verification", "Verifier"]


class Verification(NamedTuple):
    """The result of comparing the books with the recording's checks.

    Attributes
    ----------
    checked, mismatched : int
        Checks made, and checks at which the book differed from the recording.
    first_mismatch : str or None
        The position, the expected value and the value found.
    """

    checked: int
    mismatched: int
    first_mismatch: str | None


cdef bint depth_matches(verifier *self, book *market_book, uint64_t check) noexcept nogil:
    cdef uint64_t side, level, i, found
    for side in range(2):
        found = book_writer_depth(market_book, <uint8_t>side, self.depth,
                                  self.found_prices, self.found_quantities)
        for level in range(self.depth):
            if level >= found:
                self.found_prices[level] = self.found_quantities[level] = 0
            i = (check * 2 + side) * self.depth + level
            if self.quantities[i] == self.found_quantities[level] and (
                    self.quantities[i] == 0 or self.prices[i] == self.found_prices[level]):
                continue
            if load_relaxed(&self.mismatched) == 0:
                self.first_mismatch.side = <uint8_t>side
                self.first_mismatch.level = level
                self.first_mismatch.expected_price = self.prices[i]
                self.first_mismatch.expected_quantity = self.quantities[i]
                self.first_mismatch.found_price = self.found_prices[level]
                self.first_mismatch.found_quantity = self.found_quantities[level]
            return False
    return True


cdef bint checksum_matches(verifier *self, book *market_book, uint64_t check) noexcept nogil:
    cdef depth_counts counts = book_writer_rows(
        market_book, <Py_ssize_t>self.depth, self.found_rows)
    cdef int32_t found = self.checksum(self.found_rows, counts, market_book.lot,
                                       market_book.grid.tick_size, self.price_decimals)
    if found == self.checksums[check]:
        return True
    if load_relaxed(&self.mismatched) == 0:
        self.first_mismatch.expected_quantity = self.checksums[check]
        self.first_mismatch.found_quantity = found
    return False


cdef void verifier_check(verifier *self) noexcept nogil:
    """Do the check that is due, on the thread that writes the books."""
    cdef uint64_t check = self.next_check
    cdef book *market_book = self.books.by_market[self.markets[check]]
    cdef bint matches
    if self.checksums != NULL:
        matches = checksum_matches(self, market_book, check)
    else:
        matches = depth_matches(self, market_book, check)
    count(&self.checked, 1)
    if not matches:
        if load_relaxed(&self.mismatched) == 0:
            self.first_mismatch.check = check
            self.first_mismatch.taken = verifier_next(self)
        count(&self.mismatched, 1)
    self.next_check += 1
    if self.next_check == self.checks:
        self.pass_start += self.pass_length
        self.next_check = 0


cdef const void *kept_data(list kept, object array, object dtype):
    contiguous = np.ascontiguousarray(array, dtype=dtype)
    kept.append(contiguous)
    return cnp.PyArray_DATA(<cnp.ndarray>contiguous)


@cython.final
cdef class Verifier:
    """Compares books with a recording's checks while it is replayed.

    Parameters
    ----------
    checks : DepthChecks or ChecksumChecks
        What the books must be, and when.
    books : Books
        Every market of the checks.
    pass_length : int
        Records from the start of one pass over the recording to the start of the next.

    Notes
    -----
    The comparison itself runs on the thread that writes the books, between two records.
    """

    def __cinit__(self, checks, Books books not None, *, pass_length):
        cdef BookChecksum algorithm
        if not isinstance(checks, (DepthChecks, ChecksumChecks)):
            raise ConfigError("must be DepthChecks or ChecksumChecks", field="checks", value=checks)
        unknown = set(np.unique(checks.market).tolist()) - set(books)
        if unknown:
            raise ConfigError(f"markets without a book: {sorted(unknown)}", field="checks")
        position = np.asarray(checks.position)
        if len(position) and not (
                position.min() >= 1 and position.max() <= pass_length
                and (np.diff(position) >= 0).all()):
            raise ConfigError(
                "must ascend from 1 to the recording's length", field="checks.position")
        self.checks = checks
        self.kept = [books]
        self.verifier = <verifier *>allocate(sizeof(verifier))
        if self.verifier == NULL:
            raise MemoryError("no memory for a verifier")
        self.verifier.books = books.table
        self.verifier.checks = len(checks)
        self.verifier.pass_length = pass_length
        self.verifier.positions = <const int64_t *>kept_data(self.kept, checks.position, np.int64)
        self.verifier.markets = <const uint8_t *>kept_data(self.kept, checks.market, np.uint8)
        if isinstance(checks, ChecksumChecks):
            algorithm = checks.algorithm
            if algorithm.function == NULL:
                raise ConfigError(
                    "computes nothing; a feed supplies one",
                    field="checks.algorithm", value=algorithm)
            self.verifier.checksums = <const int32_t *>kept_data(
                self.kept, checks.checksum, np.int32)
            self.verifier.checksum = algorithm.function
            self.verifier.price_decimals = algorithm.price_decimals
            self.verifier.depth = algorithm.levels
            rows = np.zeros(algorithm.levels, DEPTH_DTYPE)
            self.verifier.found_rows = <depth_row *>kept_data(self.kept, rows, DEPTH_DTYPE)
            return
        self.verifier.depth = checks.prices.shape[2]
        self.verifier.prices = <const int64_t *>kept_data(self.kept, checks.prices, np.int64)
        self.verifier.quantities = <const int64_t *>kept_data(
            self.kept, checks.quantities, np.int64)
        found = np.zeros((2, checks.prices.shape[2]), np.int64)
        self.verifier.found_prices = <int64_t *>kept_data(self.kept, found, np.int64)
        self.verifier.found_quantities = self.verifier.found_prices + self.verifier.depth

    def __dealloc__(self):
        release_memory(self.verifier)

    def result(self):
        """Return the result so far.

        Returns
        -------
        Verification
        """
        cdef mismatch *first = &self.verifier.first_mismatch
        mismatched = load_relaxed(&self.verifier.mismatched)
        text = None
        if mismatched:
            market = int(self.checks.market[first.check])
            text = f"after transaction {first.taken}, market {market}: "
            if self.verifier.checksums != NULL:
                text += f"checksum {first.found_quantity}, expected {first.expected_quantity}"
            else:
                decimals = self.kept[0][market].price_decimals
                text += (
                    f"{Side(first.side).name.lower()} level {first.level} is "
                    f"{first.found_quantity} at {from_fixed(first.found_price, decimals)}, "
                    f"expected {first.expected_quantity} at "
                    f"{from_fixed(first.expected_price, decimals)}")
        return Verification(load_relaxed(&self.verifier.checked), mismatched, text)
