"""Order books for Python: exact price levels, readable from every thread while one writes.

`OrderBook` and `Books` are the Python face of the engine in `velox.core.book`.
"""

from decimal import Decimal
from typing import NamedTuple

cimport cython
import numpy as np
cimport numpy as cnp
from libc.stdint cimport INT64_MAX, UINT32_MAX, int64_t, uint8_t, uint32_t, uint64_t, uintptr_t
from libc.string cimport memset

from velox.core.atomic cimport kernel_ns, load_relaxed
from velox.core.book cimport (
    CROSS_COUNT, MARKETS, book, book_access, book_end_reading, book_free, book_levels, book_new,
    book_read, book_read_top, book_try_begin_reading, books, books_add,
    books_apply, books_begin_writing, books_end_writing, decimal_unit,
)
from velox.core.cold cimport COLD_MAX_LEVELS, cold_count, cold_level
from velox.core.grid cimport tick_grid_divide, tick_grid_holds
from velox.core.ladder cimport ladder, ladder_quantity
from velox.core.mailbox cimport depth_counts, depth_row, letter_words, mailbox
from velox.core.memory cimport (
    HUGE_PAGE, allocate, page_choice, page_unit, pages_size, release_memory,
)
from velox.core.records cimport (
    FLAG_LAST, FLAG_SNAPSHOT, KIND_ADD, KIND_CANCEL, KIND_CLEAR, KIND_DELETE, KIND_EXECUTE,
    KIND_SET, KIND_SET_WIDE, SIDE_ASK, SIDE_BID, STATUS_APPLIED, STATUS_TIMEOUT, STATUSES,
    Transaction, new_transactions, transactions_of,
)
from velox.core.shared_book cimport shared_book_bytes, shared_book_quantity
from velox.core.top cimport book_top, top_line

from velox.core.choices import CROSS_POLICIES, HUGE_PAGES, PUBLISH_POLICIES
from velox.core.instrument import (
    MAX_LEVELS, MAX_PRICE_DECIMALS, MIN_LEVELS, PRICE_DECIMALS, Instrument,
)
from velox.core.records import Kind, Rejection, Side
from velox.errors import BookError, RecordError, RejectedError, UnknownMarketError

cnp.import_array()

__all__ = [
    "DEPTH_DTYPE",
    "ApplyResult",
    "BookStatistics",
    "BookTop",
    "Books",
    "OrderBook",
]

cdef enum:
    MAX_DEPTH_CAPACITY = 1 << 16

DEPTH_DTYPE = np.dtype([
    ("bid_price", "<i8"),
    ("bid_quantity", "<i8"),
    ("ask_price", "<i8"),
    ("ask_quantity", "<i8"),
])


cdef list ladder_blocks(const ladder *self):
    cdef uint64_t leaves = self.levels // 64
    return [
        (<uintptr_t>self.quantities, self.levels * sizeof(int64_t)),
        (<uintptr_t>self.occupied.leaves, leaves * sizeof(uint64_t)),
        (<uintptr_t>self.occupied.summaries, (leaves + 63) // 64 * sizeof(uint64_t)),
        (<uintptr_t>self.cold.levels, self.cold.capacity * sizeof(cold_level)),
        (<uintptr_t>self.cold.index, (self.cold.mask + 1) * sizeof(uint32_t)),
    ]


cdef list book_blocks(const book *self):
    """Address and bytes of each block from `allocate_pages`."""
    blocks = [
        (<uintptr_t>self.staging, self.mail.capacity * sizeof(depth_row)),
        (<uintptr_t>self.mail.letters, 2 * letter_words(self.mail.capacity) * 8),
    ]
    if self.shared != NULL:
        return [*blocks, (<uintptr_t>self.shared, shared_book_bytes(self.shared))]
    return [*blocks, *ladder_blocks(&self.sides[SIDE_BID]), *ladder_blocks(&self.sides[SIDE_ASK])]


class BookTop(NamedTuple):
    """The best level of each side at one instant; None for the price of an empty side.

    Prices are in the units of the book's records. Quantities are in lots, 0 where a side is empty.
    """

    bid_price: object
    bid_quantity: int
    ask_price: object
    ask_quantity: int


class ApplyResult(NamedTuple):
    """What became of an array of transactions.

    ================== =======================================================================
    ``applied``        how many were applied
    ``rejected``       how many were refused, by the name of their `Rejection` in lower case
    ``first_rejected`` the index of the first that was refused, or None
    ``timeouts``       how many a shared book could not apply in its bounded number of tries;
                       they are neither applied nor rejected, and may be applied again
    ================== =======================================================================
    """

    applied: int
    rejected: dict
    first_rejected: object
    timeouts: int


class BookStatistics(NamedTuple):
    """Counters of one book since it was made; each is exact, together they are of about one time.

    ================= ========================================================================
    ``applied``       records applied
    ``rejected``      records refused
    ``crossed``       records that set or added a level at or through the other side's best
    ``uncrossed``     levels removed because a newer one of the other side crossed them
    ``matched``       lots traded (``on_cross="match"``)
    ``recentres``     moves of a window
    ``window_levels`` levels in the windows of both sides, now
    ``cold_levels``   levels in the cold stores of both sides, now
    ``published``     versions of the top of the book
    ``mailbox_fills`` depths copied for waiting readers
    ================= ========================================================================
    """

    applied: int
    rejected: int
    crossed: int
    uncrossed: int
    matched: int
    recentres: int
    window_levels: int
    cold_levels: int
    published: int
    mailbox_fills: int


cdef tuple REJECTION_NAMES = ("",) + tuple(reason.name.lower() for reason in Rejection)


cdef object checked_int(str field, object value, object low, object high):
    """An integer in a range, or a BookError that names the field and the value."""
    try:
        number = value.__index__()
    except AttributeError:
        raise BookError(
            f"must be an integer, not {type(value).__name__}", field=field, value=value) from None
    if not low <= number <= high:
        raise BookError(f"must be {low} to {high}", field=field, value=number)
    return number


cdef object checked_choice(str field, object value, tuple choices):
    if value not in choices:
        raise BookError(f"must be one of {', '.join(map(repr, choices))}", field=field, value=value)
    return choices.index(value)


cdef uint8_t checked_side(object side) except? 255:
    return checked_int("side", side, SIDE_BID, SIDE_ASK)


cdef uint64_t deadline_of(object timeout) except? 0:
    cdef double seconds
    try:
        seconds = timeout
    except TypeError:
        raise BookError("must be a number of seconds", field="timeout", value=timeout) from None
    if not 0 <= seconds <= 1e9:
        raise BookError("must be 0 to 1e9 seconds", field="timeout", value=timeout)
    return kernel_ns() + <uint64_t>(seconds * 1e9)


cdef decimal_unit unit_of(object lot_size) except *:
    """A lot as a mantissa and a number of decimals."""
    cdef decimal_unit unit
    _sign, digits, exponent = lot_size.as_tuple()
    decimals = max(0, -exponent)
    mantissa = int(lot_size.scaleb(decimals)) if len(digits) + abs(exponent) <= 36 else 0
    if not 1 <= mantissa < 2**63:
        raise BookError(
            "must be 1e-18 to 1e18, of at most 18 digits", field="lot_size", value=lot_size)
    unit.mantissa = mantissa
    unit.decimals = decimals
    return unit


cdef object apply_records(books *table, object transactions, object statuses):
    """Both `apply` methods."""
    cdef Py_ssize_t limit
    cdef const Transaction *first = transactions_of(transactions, &limit)
    cdef uint8_t *outcomes = statuses_of(statuses, limit)
    cdef uint64_t tally[STATUSES + 1]
    cdef Py_ssize_t done = 0
    cdef Py_ssize_t first_rejected = -1
    cdef Py_ssize_t run
    cdef uint8_t status = STATUS_APPLIED
    if not books_begin_writing(table):
        raise BookError("another thread is writing the book, and writers=1 allows one")
    memset(tally, 0, sizeof(tally))
    with nogil:
        while done < limit:
            run = <Py_ssize_t>books_apply(table, first + done, <size_t>(limit - done), &status)
            tally[STATUS_APPLIED] += <uint64_t>run
            if outcomes != NULL:
                memset(outcomes + done, STATUS_APPLIED, <size_t>run)
            done += run
            if done < limit:
                tally[status] += 1
                if first_rejected < 0 and status != STATUS_TIMEOUT:
                    first_rejected = done
                if outcomes != NULL:
                    outcomes[done] = status
                done += 1
        books_end_writing(table)
    return ApplyResult(
        tally[STATUS_APPLIED],
        {REJECTION_NAMES[status]: tally[status] for status in range(1, STATUSES) if tally[status]},
        first_rejected if first_rejected >= 0 else None,
        tally[STATUS_TIMEOUT])


cdef int check_for_several_writers(
        object instrument, object base_price, str on_cross, str publish) except -1:
    if base_price is None:
        raise BookError(
            "a book with several writers needs a fixed window", field="base_price", value=None)
    if base_price + instrument.levels * instrument.tick_size > INT64_MAX:
        raise BookError("its window does not fit 64 bits", field="base_price", value=base_price)
    if on_cross != "count":
        raise BookError(
            "with several writers a crossing can only be counted, since the other side may move "
            "between the look and the update",
            field="on_cross", value=on_cross)
    if publish != "record":
        raise BookError("several writers have no common event", field="publish", value=publish)
    return 0


cdef uint8_t *statuses_of(object statuses, Py_ssize_t limit) except? NULL:
    if statuses is None:
        return NULL
    if not isinstance(statuses, np.ndarray) or statuses.dtype != np.uint8 \
            or statuses.shape != (limit,) or not statuses.flags.carray:
        raise RecordError(
            f"expected a writeable, contiguous array of uint8, shape ({limit},); got "
            f"{getattr(statuses, 'dtype', type(statuses).__name__)}, "
            f"shape {getattr(statuses, 'shape', None)}",
            field="statuses")
    return <uint8_t *>cnp.PyArray_DATA(<cnp.ndarray>statuses)


@cython.final
cdef class OrderBook:
    """The price levels of one market, exact at every price and bounded in memory.

    A window of `levels` prices a side follows the best price; levels worse than it stand in a cold
    store of `cold_levels` a side. A level that fits neither is refused and counted; nothing is
    dropped silently. All memory is taken at construction.

    Parameters
    ----------
    levels : int
        Prices a side in the window: a power of two, 64 to 262144.
    tick_size : int
        The price step, in units of ten to the minus `price_decimals`. Prices off its grid are
        refused.
    base_price : int, optional
        Where the window begins, in the same units. With one writer a start only, since the window
        follows the best price; with several it is required, and stays.
    price_decimals : int
        Decimals of a price, 0 to 18. The book itself compares integers; this says what they mean.
    lot_size : decimal.Decimal
        What one unit of quantity is worth, in the venue's own unit.
    writers : int or "n"
        How many threads may write at a time. One needs no locked instruction a record, only
        one a call. With more, each
        level is changed by compare-and-swap, the window is fixed, and what lies outside it is
        refused with `Rejection.OUT_OF_WINDOW`.
    on_cross : {"count", "reject", "uncross", "match"}
        What to do with an update that sets or adds a level at or through the other side's best.
        ``count``: applied, and counted. ``reject``: refused with `Rejection.CROSSED`. ``uncross``:
        applied, and the levels that it crosses are removed. ``match``: an add trades with the other
        side, best first, and what is left rests; a set acts as under ``uncross``. For simulations
        only: a feed reports levels after matching. Several writers only count.
    publish : {"record", "event"}
        When readers see a change: after each record, or after each record with `Flags.LAST` (and
        at the end of `apply`).
    cold_levels : int
        Levels a side that are kept outside the window, 0 to 16777216.
    depth_capacity : int
        Levels a side that readers can get while another thread writes, 1 to 65536.
    huge_pages : {"auto", "always", "never"}
        Whether the book's memory asks the kernel for huge pages: each block of 2 MiB or more; each
        that is larger than a page, rounded to 2 MiB; or none. See ``docs/reference/placement.md``.
    market : int
        The market id of its records, 0 to 255; others are refused with `Rejection.MARKET`.
    name : str
        What people call it.

    Raises
    ------
    BookError
        A parameter is out of its range; the message names it and its value.

    Notes
    -----
    Any thread may read at any time. With ``writers=1`` one thread may write at a time; a second one
    is refused with `BookError`. With several, each level is exact at one instant of a read, and
    each side's best too, but what is read together need not be from the same instant; a record
    that lost its level to others a hundred times over counts as a timeout and is to be applied
    again. Readers never make the writer wait, except at the start of a write: a copy that is
    being made goes on for 128 levels at most, 64 of the window and 64 beyond it, then gives way and
    begins again.

    Prices are integers everywhere, in units of ten to the minus `price_decimals`. Quantities are
    integers in lots.

    Examples
    --------
    >>> from velox.core.order_book import OrderBook
    >>> from velox.core.records import Side
    >>> book = OrderBook(tick_size=100)
    >>> book.add(Side.BID, 1_002_500, 3)
    >>> book.add(Side.ASK, 1_002_600, 1)
    >>> book.best_bid, book.best_ask, book.spread, book.imbalance
    (1002500, 1002600, 100, 0.5)
    """

    def __cinit__(self, levels=1024, tick_size=1, base_price=None, *, price_decimals=PRICE_DECIMALS,
                  lot_size=Decimal(1), writers=1, on_cross="count", publish="record",
                  cold_levels=65536, depth_capacity=64, huge_pages="auto", market=0,
                  name="default"):
        cdef uint64_t tick
        cdef ladder *side
        if not isinstance(lot_size, Decimal):
            raise BookError(
                f"must be a Decimal, not {type(lot_size).__name__}",
                field="lot_size", value=lot_size)
        self.instrument = Instrument(
            name=name,
            market=checked_int("market", market, 0, MARKETS - 1),
            price_decimals=checked_int("price_decimals", price_decimals, 0, MAX_PRICE_DECIMALS),
            tick_size=checked_int("tick_size", tick_size, 1, INT64_MAX),
            lot_size=lot_size,
            levels=checked_int("levels", levels, MIN_LEVELS, MAX_LEVELS))
        if writers != "n":
            writers = checked_int("writers", writers, 1, INT64_MAX)
        several_writers = writers != 1
        policy = checked_choice("on_cross", on_cross, CROSS_POLICIES)
        by_event = checked_choice("publish", publish, PUBLISH_POLICIES)
        unit = unit_of(lot_size)
        cold_levels = checked_int("cold_levels", cold_levels, 0, COLD_MAX_LEVELS)
        depth_capacity = checked_int("depth_capacity", depth_capacity, 1, MAX_DEPTH_CAPACITY)
        self.when = <page_choice><int>checked_choice("huge_pages", huge_pages, HUGE_PAGES)
        if base_price is not None:
            base_price = checked_int("base_price", base_price, 1, INT64_MAX)
            if base_price % self.instrument.tick_size:
                raise BookError(
                    f"not a multiple of tick_size = {self.instrument.tick_size}",
                    field="base_price", value=base_price)
        if several_writers:
            check_for_several_writers(self.instrument, base_price, on_cross, publish)
            base_tick = base_price // self.instrument.tick_size
        else:
            base_tick = 0
        self.core = book_new(several_writers, self.instrument.levels, base_tick, cold_levels,
                             depth_capacity, self.instrument.tick_size, self.when)
        self.table = <books *>allocate(sizeof(books))
        if self.core == NULL or self.table == NULL:
            raise MemoryError(f"no memory for a book of {levels} levels")
        self.core.market = self.instrument.market
        self.core.on_cross = policy
        self.core.by_event = by_event
        self.core.careful = by_event or policy != CROSS_COUNT
        self.core.lot = unit
        if base_price is not None and not several_writers:
            tick = base_price // self.instrument.tick_size
            self.core.sides[SIDE_ASK].base = tick
            # The best key that a bid can have is that of the window's last tick.
            side = &self.core.sides[SIDE_BID]
            side.base = min(tick + side.levels - 1, <uint64_t>INT64_MAX) ^ side.mirror
        books_add(self.table, self.core)

    def __dealloc__(self):
        book_free(self.core)
        release_memory(self.table)

    @classmethod
    def from_instrument(cls, instrument, **options):
        """A book for an `Instrument`; `options` are the other parameters of `OrderBook`.

        Examples
        --------
        >>> from velox.core.order_book import OrderBook
        >>> from velox.core.instrument import Instrument
        >>> OrderBook.from_instrument(Instrument(name="SOL-USD", tick_size=100)).tick_size
        100
        """
        if not isinstance(instrument, Instrument):
            raise BookError(
                f"must be an Instrument, not {type(instrument).__name__}",
                field="instrument", value=instrument)
        return cls(instrument.levels, instrument.tick_size,
                   price_decimals=instrument.price_decimals, lot_size=instrument.lot_size,
                   market=instrument.market, name=instrument.name, **options)

    # What it is.

    @property
    def levels(self):
        """int: Prices a side in the window."""
        return self.instrument.levels

    @property
    def tick_size(self):
        """int: The price step, in units of ten to the minus `price_decimals`."""
        return self.instrument.tick_size

    @property
    def price_decimals(self):
        """int: Decimals of a price: `from_fixed(price, price_decimals)` is the decimal price."""
        return self.instrument.price_decimals

    @property
    def market(self):
        """int: The market id of its records."""
        return self.instrument.market

    @property
    def name(self):
        """str: What people call it."""
        return self.instrument.name

    @property
    def writers(self):
        """int or "n": How many threads may write at a time; "n" is any number."""
        return 1 if self.core.shared == NULL else "n"

    @property
    def memory_bytes(self):
        """int: What the book has taken, all of it at construction."""
        return (sizeof(book) + sizeof(books) + sizeof(top_line) + sizeof(mailbox)
                + sizeof(book_access)
                + sum(pages_size(size, self.when) for _address, size in book_blocks(self.core)))

    @property
    def huge_blocks(self):
        """list of (int, int): Address and bytes of each block that asked for huge pages."""
        return [(address, pages_size(size, self.when))
                for address, size in book_blocks(self.core)
                if page_unit(size, self.when) == HUGE_PAGE]

    def __len__(self):
        return book_levels(self.core, SIDE_BID) + book_levels(self.core, SIDE_ASK)

    def __bool__(self):
        # A book without levels is true as well.
        return True

    def __repr__(self):
        bids = book_levels(self.core, SIDE_BID)
        asks = book_levels(self.core, SIDE_ASK)
        return (f"<OrderBook {self.instrument.name!r}: levels={self.instrument.levels}, "
                f"tick_size={self.instrument.tick_size}, {bids} bids, {asks} asks>")

    # The best of it.

    def top(self):
        """The best level of each side, from one instant.

        Returns
        -------
        BookTop
        """
        cdef book_top top = book_read_top(self.core)
        return BookTop(top.bid_price if top.bid_quantity else None, top.bid_quantity,
                       top.ask_price if top.ask_quantity else None, top.ask_quantity)

    @property
    def best_bid(self):
        """int or None: The highest price bid, in units of the records."""
        cdef book_top top = book_read_top(self.core)
        return top.bid_price if top.bid_quantity else None

    @property
    def best_ask(self):
        """int or None: The lowest price asked, in units of the records."""
        cdef book_top top = book_read_top(self.core)
        return top.ask_price if top.ask_quantity else None

    @property
    def best_bid_quantity(self):
        """int: Lots bid at `best_bid`; 0 if there is no bid."""
        return book_read_top(self.core).bid_quantity

    @property
    def best_ask_quantity(self):
        """int: Lots asked at `best_ask`; 0 if there is no ask."""
        return book_read_top(self.core).ask_quantity

    @property
    def spread(self):
        """int or None: `best_ask` less `best_bid`, in the same units; negative if crossed."""
        cdef book_top top = book_read_top(self.core)
        if not (top.bid_quantity and top.ask_quantity):
            return None
        return top.ask_price - top.bid_price

    @property
    def mid(self):
        """float or None: Half-way between the best prices, in the same units."""
        cdef book_top top = book_read_top(self.core)
        if not (top.bid_quantity and top.ask_quantity):
            return None
        # The sum of two prices does not fit 64 bits at the top of their range.
        return top.bid_price / 2.0 + top.ask_price / 2.0

    @property
    def microprice(self):
        """float or None: The best prices weighted by each other's quantity, in the same units.

        It leans to the side that is likely to give way: with more bid than asked, to the ask.
        """
        cdef book_top top = book_read_top(self.core)
        cdef double share
        if not (top.bid_quantity and top.ask_quantity):
            return None
        share = <double>top.bid_quantity / (<double>top.bid_quantity + <double>top.ask_quantity)
        return top.bid_price + <double>(top.ask_price - top.bid_price) * share

    @property
    def imbalance(self):
        """float: (bid - asked) / (bid + asked) of the best quantities; 1 without an ask, -1 without
        a bid, 0 without either."""
        cdef book_top top = book_read_top(self.core)
        cdef double bid = <double>top.bid_quantity
        cdef double ask = <double>top.ask_quantity
        return (bid - ask) / (bid + ask) if bid + ask > 0 else 0.0

    # All of it.

    cdef object read_rows(self, Py_ssize_t n, object timeout, depth_counts *counts):
        """`n` rows of one instant as an array, and how many levels of each side they hold."""
        cdef uint64_t deadline = deadline_of(timeout)
        cdef cnp.ndarray rows = np.empty(n, DEPTH_DTYPE)
        cdef depth_row *first = <depth_row *>cnp.PyArray_DATA(rows)
        cdef bint done
        with nogil:
            done = book_read(self.core, n, first, counts, deadline)
        if not done:
            why = "its writer answers no reader" if n <= self.core.mail.capacity else \
                f"more than depth_capacity = {self.core.mail.capacity} needs a moment without one"
            raise TimeoutError(
                f"{n} levels of {self.instrument.name!r} were not to be had in {timeout} s: the "
                f"book is being written, and {why}")
        return rows

    cdef object read_all(self, object timeout, depth_counts *counts):
        """As `read_rows`, of every level."""
        cdef Py_ssize_t n
        while True:
            n = 1 + <Py_ssize_t>max(book_levels(self.core, SIDE_BID),
                                    book_levels(self.core, SIDE_ASK))
            rows = self.read_rows(n, timeout, counts)
            if counts.bids < n and counts.asks < n:
                return rows

    def depth(self, n=10, *, timeout=1.0):
        """The best levels of both sides, from one instant.

        Parameters
        ----------
        n : int
            How many, 1 to 1048576. While another thread writes, more than `depth_capacity` of them
            are to be had only between two of its writes.
        timeout : float
            Seconds to wait for the writer.

        Returns
        -------
        ndarray, shape (n,), dtype DEPTH_DTYPE
            ``bid_price``, ``bid_quantity``, ``ask_price``, ``ask_quantity``, best first; zeros
            where a side has fewer levels.

        Raises
        ------
        TimeoutError
            The book was being written all the time, and its writer did not answer.

        Examples
        --------
        >>> from velox.core.order_book import OrderBook
        >>> book = OrderBook()
        >>> book.add(0, 99, 5)
        >>> book.add(0, 98, 7)
        >>> book.depth(3)["bid_quantity"]
        array([5, 7, 0])
        """
        cdef depth_counts counts
        return self.read_rows(checked_int("n", n, 1, 1 << 20), timeout, &counts)

    def quantity(self, side, price, *, timeout=1.0):
        """Lots at one price.

        Parameters
        ----------
        side : Side
        price : int
            In the units of the book's records.
        timeout : float
            Seconds to wait while another thread writes. Its mailbox covers `depth_capacity` levels;
            a price beyond them has to wait for a moment without a writer.

        Returns
        -------
        int
            0 if there is no such level.

        Raises
        ------
        BookError
            The price is not positive, or off the tick grid.
        TimeoutError
            As for `depth`.
        """
        cdef uint8_t which = checked_side(side)
        cdef int64_t wanted = checked_int("price", price, 1, INT64_MAX)
        cdef uint64_t tick = tick_grid_divide(&self.core.grid, wanted)
        cdef ladder *own = &self.core.sides[which]
        cdef depth_counts counts
        cdef Py_ssize_t found
        if not tick_grid_holds(&self.core.grid, tick):
            raise BookError(
                f"not a multiple of tick_size = {self.instrument.tick_size}",
                field="price", value=wanted)
        if self.core.shared != NULL:
            return shared_book_quantity(self.core.shared, which, <int64_t>tick)
        if book_try_begin_reading(self.core):
            held = ladder_quantity(own, tick ^ own.mirror)
            book_end_reading(self.core)
            return held
        rows = self.read_rows(self.core.mail.capacity, timeout, &counts)
        prices = rows["ask_price" if which else "bid_price"]
        found = counts.asks if which else counts.bids
        if found == self.core.mail.capacity and (
                wanted > prices[found - 1] if which else wanted < prices[found - 1]):
            rows = self.read_all(timeout, &counts)
            prices = rows["ask_price" if which else "bid_price"]
        places = np.flatnonzero(prices == wanted)
        return int(rows["ask_quantity" if which else "bid_quantity"][places[0]]) \
            if len(places) else 0

    def vwap(self, side, quantity, *, timeout=1.0):
        """The average price at which `quantity` lots could be taken from a side, best first.

        Parameters
        ----------
        side : Side
            Whose levels are taken: ``Side.ASK`` to buy.
        quantity : int
            Lots, at least 1.
        timeout : float
            Seconds to wait for the writer, as for `depth`.

        Returns
        -------
        float or None
            In the units of the book's records, the exact average correctly rounded; None if the
            side holds fewer lots.

        Examples
        --------
        >>> from velox.core.order_book import OrderBook
        >>> book = OrderBook()
        >>> book.add(1, 100, 3)
        >>> book.add(1, 104, 5)
        >>> book.vwap(1, 4), book.vwap(1, 9)
        (101.0, None)
        """
        cdef uint8_t which = checked_side(side)
        cdef Py_ssize_t n = self.core.mail.capacity
        cdef depth_counts counts
        wanted = checked_int("quantity", quantity, 1, INT64_MAX)
        rows = self.read_rows(n, timeout, &counts)
        average = average_price(rows, which, wanted)
        if average is None and (counts.asks if which else counts.bids) == n:
            average = average_price(self.read_all(timeout, &counts), which, wanted)
        return average

    def snapshot(self, *, timeout=1.0):
        """Every level as the records that rebuild the book.

        Returns
        -------
        ndarray, shape (n,), dtype TRANSACTION_DTYPE
            A CLEAR of each side, then a SET (SET_WIDE over 32 bits) a level, bids then asks, best
            first; all with `Flags.SNAPSHOT`, the last with `Flags.LAST`.

        Raises
        ------
        TimeoutError
            The book was being written all the time.
        """
        cdef depth_counts counts
        rows = self.read_all(timeout, &counts)
        records = new_transactions(2 + counts.bids + counts.asks)
        cdef const depth_row *row = <const depth_row *>cnp.PyArray_DATA(rows)
        cdef Transaction *record = <Transaction *>cnp.PyArray_DATA(<cnp.ndarray>records)
        cdef Py_ssize_t index
        memset(record, 0, (2 + counts.bids + counts.asks) * sizeof(Transaction))
        for index in range(2 + counts.bids + counts.asks):
            record[index].market = self.core.market
            record[index].flags = FLAG_SNAPSHOT
        record[1 + counts.bids + counts.asks].flags |= FLAG_LAST
        record[0].kind = record[1].kind = KIND_CLEAR
        record[1].side = SIDE_ASK
        record += 2
        for index in range(counts.bids):
            fill_set(&record[index], SIDE_BID, row[index].bid_price, row[index].bid_quantity)
        record += counts.bids
        for index in range(counts.asks):
            fill_set(&record[index], SIDE_ASK, row[index].ask_price, row[index].ask_quantity)
        return records

    def statistics(self):
        """The book's counters.

        Returns
        -------
        BookStatistics
        """
        cdef book *core = self.core
        cdef ladder *bids = &core.sides[SIDE_BID]
        cdef ladder *asks = &core.sides[SIDE_ASK]
        return BookStatistics(
            load_relaxed(&core.applied), load_relaxed(&core.rejected),
            load_relaxed(&core.crossed), load_relaxed(&core.uncrossed),
            load_relaxed(&core.matched),
            load_relaxed(&bids.moves) + load_relaxed(&asks.moves),
            load_relaxed(&bids.hot) + load_relaxed(&asks.hot),
            cold_count(&bids.cold) + cold_count(&asks.cold),
            load_relaxed(&core.published), load_relaxed(&core.letters))

    # Writing.

    def apply(self, transactions, statuses=None):
        """Apply an array of records in order; a refused one does not stop the rest.

        Parameters
        ----------
        transactions : ndarray, shape (n,), dtype TRANSACTION_DTYPE
            Read without the GIL: no other thread may write them meanwhile.
        statuses : ndarray, shape (n,), dtype uint8, optional
            Receives what became of each: 0, or its `Rejection`.

        Returns
        -------
        ApplyResult

        Raises
        ------
        BookError
            Another thread is writing the book; nothing was applied.
        RecordError
            An argument is not such an array; nothing was applied.

        Examples
        --------
        >>> import numpy as np
        >>> from velox.core.order_book import OrderBook
        >>> from velox.core.records import TRANSACTION_DTYPE
        >>> orders = np.zeros(3, TRANSACTION_DTYPE)
        >>> orders["price"], orders["size"] = [100, 105, 110], 1
        >>> OrderBook(tick_size=10).apply(orders)
        ApplyResult(applied=2, rejected={'off_tick': 1}, first_rejected=1, timeouts=0)
        """
        return apply_records(self.table, transactions, statuses)

    def load(self, snapshot):
        """Make the book what a `snapshot` says; what it held before is gone.

        Raises
        ------
        RejectedError
            A level of the snapshot was refused; the book holds those before and after it.
        BookError, RecordError
            As for `apply`.
        """
        cdef Py_ssize_t limit
        transactions_of(snapshot, &limit)
        statuses = np.empty(limit, np.uint8)
        self.clear()
        result = apply_records(self.table, snapshot, statuses)
        if result.first_rejected is not None:
            reason = Rejection(statuses[result.first_rejected])
            raise RejectedError(
                reason.name, reason, field=f"snapshot[{result.first_rejected}]",
                value=snapshot[result.first_rejected].item())

    cdef object update(self, uint8_t kind, object side, object price, object size):
        """Apply one record, or raise RejectedError."""
        cdef Transaction record
        cdef uint8_t status = STATUS_APPLIED
        memset(&record, 0, sizeof(record))
        record.kind = kind
        record.side = checked_side(side)
        record.price = checked_int("price", price, -2**63, INT64_MAX)
        if kind == KIND_SET:
            wide = checked_int("size", size, 0, 2**64 - 1)
            if wide > UINT32_MAX:
                record.kind = KIND_SET_WIDE
                record.id = wide
            else:
                record.size = wide
        else:
            record.size = checked_int("size", size, 0, UINT32_MAX)
        record.flags = FLAG_LAST
        record.market = self.core.market
        if not books_begin_writing(self.table):
            raise BookError("another thread is writing the book, and writers=1 allows one")
        books_apply(self.table, &record, 1, &status)
        books_end_writing(self.table)
        if status == STATUS_TIMEOUT:
            raise TimeoutError(
                f"{Kind(record.kind).name} {Side(record.side).name} price = {price}: other writers "
                "were faster every time; try again")
        if status != STATUS_APPLIED:
            reason = Rejection(status)
            raise RejectedError(
                f"{Kind(record.kind).name} {Side(record.side).name} price = {price}, "
                f"size = {size}: {reason.name}", reason)

    def add(self, side, price, size):
        """Add `size` lots to a level.

        Raises
        ------
        RejectedError
            The book refused; `reason` says why, and the book is as before. So for every update.
        BookError
            An argument is not an integer or does not fit its field, or another thread is writing.
        """
        self.update(KIND_ADD, side, price, size)

    def cancel(self, side, price, size):
        """Take `size` lots from a level; raises as `add`."""
        self.update(KIND_CANCEL, side, price, size)

    def execute(self, side, price, size):
        """Take `size` lots from a level because they traded; raises as `add`."""
        self.update(KIND_EXECUTE, side, price, size)

    def set(self, side, price, size):
        """Make a level hold exactly `size` lots, 0 to 2**63 - 1; raises as `add`."""
        self.update(KIND_SET, side, price, size)

    def delete(self, side, price):
        """Empty a level. An empty level is not an error. Raises as `add`."""
        self.update(KIND_DELETE, side, price, 0)

    def clear(self, side=None):
        """Empty one side, or both; raises as `add`."""
        for which in (SIDE_BID, SIDE_ASK) if side is None else (side,):
            self.update(KIND_CLEAR, which, 0, 0)


cdef void fill_set(Transaction *record, uint8_t side, int64_t price,
                   int64_t quantity) noexcept nogil:
    record.side = side
    record.price = price
    if quantity > <int64_t>UINT32_MAX:
        record.kind = KIND_SET_WIDE
        record.id = <uint64_t>quantity
    else:
        record.kind = KIND_SET
        record.size = <uint32_t>quantity


cdef object average_price(object rows, uint8_t side, object wanted):
    """Exact in Python's integers; None if the rows hold fewer lots."""
    rest = wanted
    cost = 0
    name = "ask" if side else "bid"
    for price, held in zip(rows[f"{name}_price"].tolist(), rows[f"{name}_quantity"].tolist()):
        taken = min(rest, held)
        cost += taken * price
        rest -= taken
        if rest == 0:
            return cost / wanted
    return None


@cython.final
cdef class Books:
    """Order books by market id; an array of mixed records finds its books.

    Parameters
    ----------
    members : iterable of Instrument or OrderBook
        An `Instrument` gets a book of its own with the default options.

    Raises
    ------
    BookError
        Two members have the same market id, or one is neither.

    Notes
    -----
    A mapping from market id to `OrderBook`, in ascending order. Threads: as for `OrderBook`, all
    of the books being written at once.

    Examples
    --------
    >>> from velox.core.order_book import Books
    >>> from velox.core.instrument import Instrument
    >>> books = Books([Instrument(name="SOL", market=1), Instrument(name="JUP", market=4)])
    >>> list(books), books[4].name
    ([1, 4], 'JUP')
    """

    def __cinit__(self, members):
        cdef OrderBook member
        self.by_market = {}
        for each in members:
            if isinstance(each, Instrument):
                each = OrderBook.from_instrument(each)
            elif not isinstance(each, OrderBook):
                raise BookError(
                    f"{each!r} is neither an Instrument nor an OrderBook, but "
                    f"{type(each).__name__}",
                    field="members")
            if each.market in self.by_market:
                raise BookError(
                    f"{self.by_market[each.market].name!r} and {each.name!r} both have market = "
                    f"{each.market}",
                    field="members")
            self.by_market[each.market] = each
        self.by_market = dict(sorted(self.by_market.items()))
        self.table = <books *>allocate(sizeof(books))
        if self.table == NULL:
            raise MemoryError("no memory for a table of books")
        for each in self.by_market.values():
            member = each
            books_add(self.table, member.core)

    def __dealloc__(self):
        release_memory(self.table)

    def __getitem__(self, market):
        try:
            return self.by_market[market]
        except (KeyError, TypeError):
            known = ", ".join(map(str, self.by_market))
            raise UnknownMarketError(
                f"there are books of {known}" if known else "there is no book",
                field="market", value=market) from None

    def __iter__(self):
        return iter(self.by_market)

    def __len__(self):
        return len(self.by_market)

    def __contains__(self, market):
        return market in self.by_market

    def __repr__(self):
        return f"<Books {', '.join(f'{k}: {v.name!r}' for k, v in self.by_market.items())}>"

    def keys(self):
        """The market ids."""
        return self.by_market.keys()

    def values(self):
        """The books."""
        return self.by_market.values()

    def items(self):
        """Pairs of market id and book."""
        return self.by_market.items()

    def get(self, market, default=None):
        """The book of a market, or `default`."""
        return self.by_market.get(market, default)

    def apply(self, transactions, statuses=None):
        """As `OrderBook.apply`, each record to the book of its market.

        A record of a market without a book is refused with `Rejection.MARKET`.
        """
        return apply_records(self.table, transactions, statuses)
