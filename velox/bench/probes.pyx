"""Loops that measure the processor's counter, reads beside a writer, and hand-overs.

As in `velox.bench.loops`, each checks its results.
"""

cimport cython
from libc.stdint cimport int64_t, uint64_t

from velox.core.atomic cimport (
    FALSE_SHARING,
    atomic_u64,
    give_core_away,
    kernel_ns,
    load_acquire,
    load_relaxed,
    relax,
    store_relaxed,
    store_release,
    ticks_ordered,
)
from velox.core.order_book cimport OrderBook
from velox.core.clock cimport Clock, clock_now, clock_source
from velox.core.memory cimport STATIC_ASSERT, allocate, release_memory
from velox.core.top cimport book_top, top_line_try_read

from velox.errors import ConfigError, LedgerError

__all__ = ["HandOver", "ticks_read", "top_reads"]

cdef enum:
    # Checks that one side of a HandOver makes before it yields its processor between two of them.
    PATIENCE = 1024

cdef struct hand_over_ball:
    atomic_u64 turn
    atomic_u64 stamp


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(hand_over_ball) <= FALSE_SHARING)


assert_layout()


def ticks_read(uint64_t operations):
    """Read the processor's counter, ordered and unscaled, and check that it does not go back.

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
        A reading was lower than the previous one.
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
        The time of all reads; how many attempts were repeated because a new version was published
        meanwhile; and how many reads found a new version. If `changes` is 0, the writer did not
        write.

    Raises
    ------
    ConfigError
        The book has several writers, and therefore no top line.
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
        raise ConfigError("a book with several writers publishes no top line", field="book")
    with nogil:
        start_ns = kernel_ns()
        for _ in range(operations):
            while not top_line_try_read(book.core.top, &top):
                again += 1
                relax()
            right += (top.bid_price == low_price and top.bid_quantity == low_quantity) \
                or (top.bid_price == high_price and top.bid_quantity == high_quantity)
            # Relaxed: the value only counts changes, and orders nothing.
            version = load_relaxed(&book.core.top.version)
            changes += version != last
            last = version
        end_ns = kernel_ns()
    if right != operations:
        raise LedgerError(f"{right} reads of the best bid were right, of {operations}")
    return end_ns - start_ns, again, changes


@cython.final
cdef class HandOver:
    """Two threads throw a ball to each other, each time stamped by the clock.

    It shows whether a clock is monotonic across the processors of a host: the time of each catch
    must not be earlier than the time of its throw.

    Parameters
    ----------
    clock : Clock

    Examples
    --------
    >>> from threading import Thread
    >>> from velox.bench.probes import HandOver
    >>> from velox.core.clock import Clock
    >>> game = HandOver(Clock())
    >>> other = Thread(target=game.play, args=(1, 1000))
    >>> other.start()
    >>> throws, backwards = game.play(0, 1000)
    >>> other.join()
    >>> throws, backwards
    (1000, 0)
    """

    cdef readonly Clock clock
    cdef hand_over_ball *balls

    def __cinit__(self, Clock clock not None):
        self.clock = clock
        # Each side's ball is on cache lines of its own, and only one side writes it.
        self.balls = <hand_over_ball *>allocate(2 * FALSE_SHARING)
        if self.balls == NULL:
            raise MemoryError

    def __dealloc__(self):
        release_memory(self.balls)

    def play(self, side, throws, *, patience=1_000_000):
        """Throw and catch `throws` times, without the GIL.

        Parameters
        ----------
        side : {0, 1}
            0 throws first. Each side is played by one thread, once.
        throws : int
        patience : int, default 1_000_000
            How often to check for the other side's ball before giving up.

        Returns
        -------
        caught : int
            Throws caught; fewer than `throws` if `patience` was used up.
        backwards : int
            How many of them were caught before they were thrown.

        Raises
        ------
        ConfigError
            `side` is neither 0 nor 1.
        """
        if side not in (0, 1):
            raise ConfigError("must be 0 or 1", field="side", value=side)
        cdef char *first = <char *>self.balls
        cdef hand_over_ball *mine = <hand_over_ball *>(first + <int>side * FALSE_SHARING)
        cdef hand_over_ball *theirs = <hand_over_ball *>(first + (1 - <int>side) * FALSE_SHARING)
        cdef const clock_source *clock = self.clock.clock
        cdef bint throws_first = side == 0
        cdef uint64_t asked = throws
        cdef uint64_t looks_allowed = patience
        cdef uint64_t caught = 0
        cdef uint64_t backwards = 0
        with nogil:
            if throws_first:
                throw(mine, clock, 1)
            while caught < asked:
                if not seen(theirs, caught + 1, looks_allowed):
                    break
                # Relaxed, since the acquire load of the turn came before it.
                if clock_now(clock) < load_relaxed(&theirs.stamp):
                    backwards += 1
                caught += 1
                if not throws_first or caught < asked:
                    throw(mine, clock, caught + throws_first)
        return caught, backwards


cdef void throw(hand_over_ball *ball, const clock_source *clock, uint64_t turn) noexcept nogil:
    # The release of the turn publishes the stamp, which can therefore be relaxed.
    store_relaxed(&ball.stamp, clock_now(clock))
    store_release(&ball.turn, turn)


cdef bint seen(hand_over_ball *ball, uint64_t turn, uint64_t looks_allowed) noexcept nogil:
    cdef uint64_t look
    for look in range(looks_allowed):
        # Acquire pairs with the release in throw.
        if load_acquire(&ball.turn) >= turn:
            return True
        if look < PATIENCE:
            relax()
        else:
            give_core_away()
    return False
