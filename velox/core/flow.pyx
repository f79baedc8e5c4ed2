"""MarketFlow: the synthetic order flow of a market that moves and never crosses itself."""

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.math cimport M_LN2

from velox.core.memory cimport STATIC_ASSERT, allocate
from velox.core.records cimport FLAG_SNAPSHOT, KIND_SET, new_transactions, transactions_of

import operator
from math import isfinite
from typing import NamedTuple

import numpy as np
cimport numpy as cnp

from velox.core.records import TRANSACTION_DTYPE
from velox.errors import ConfigError

cnp.import_array()

__all__ = ["FlowStatistics", "MarketFlow"]

MAX_PRICE = 2**62 - 1
MAX_HALF_WIDTH = 2**32
MAX_REACH = 255
BIT_GENERATORS = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")

cdef enum:
    CERTAIN = 8192              # a probability of 1, in the tables

    # P(distance > x) ~ (24 + x)^(-2/3) in ticks, and P(size > x) ~ (24 + x)^(-3/2) in lots
    DISTANCE_SCALE = 24
    SIZE_SCALE = 24


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(market_flow_node) == 8)
    STATIC_ASSERT(<size_t>&(<market_flow_node *>NULL).previous == 2)
    STATIC_ASSERT(<size_t>&(<market_flow_node *>NULL).quantity == 4)
    STATIC_ASSERT(TRADERS + LEVELS <= 65536)            # a node has a 16-bit number
    STATIC_ASSERT(2 * 255 < LEVELS)                     # one order a side always has its slot
    STATIC_ASSERT(TRADERS == 1 << DISTANCE_SHIFT)       # the fields of a draw do not overlap
    STATIC_ASSERT(DISTANCES == 1 << (SIZE_SHIFT - DISTANCE_SHIFT))
    STATIC_ASSERT(SIZES == 1 << (BUY_SHIFT - SIZE_SHIFT))


assert_layout()


cdef uint64_t power(uint64_t base, int exponent) noexcept nogil:
    cdef uint64_t product = 1
    while exponent > 0:
        product *= base
        exponent -= 1
    return product


cdef bint likelier(uint64_t x, uint64_t probability, uint64_t scale, int p, int q) noexcept nogil:
    """Whether (scale / (scale + x))^(p / q) is at least a probability, in units of 1 / CERTAIN.

    It uses integers, so neither `pow` nor a rounding mode changes the market.
    """
    return (power(scale + x, p) * power(probability, q)
            <= power(scale, p) * power(CERTAIN, q))


cdef void tabulate_distances(market_flow *flow, uint64_t reach) noexcept nogil:
    """Distances less 1 of survival function (1 + x / scale)^(-2/3), given that x < reach."""
    cdef uint64_t least = CERTAIN
    cdef uint64_t beyond = 0
    cdef uint64_t index, probability
    while not likelier(reach, least, DISTANCE_SCALE, 2, 3):
        least -= 1
    for index in range(<uint64_t>DISTANCES):
        probability = CERTAIN - (CERTAIN - least) * (2 * index + 1) / (2 * DISTANCES)
        while beyond + 1 < reach and likelier(beyond + 1, probability, DISTANCE_SCALE, 2, 3):
            beyond += 1
        flow.distances[index] = <uint8_t>(1 + beyond)


cdef void tabulate_sizes(market_flow *flow) noexcept nogil:
    """Sizes less 1 of survival function (1 + x / scale)^(-3/2), cut where the table ends."""
    cdef uint64_t beyond = 0
    cdef uint64_t index, probability
    for index in range(<uint64_t>SIZES):
        probability = CERTAIN - CERTAIN * (2 * index + 1) / (2 * SIZES)
        while likelier(beyond + 1, probability, SIZE_SCALE, 3, 2):
            beyond += 1
        flow.sizes[index] = <uint16_t>(1 + beyond)


cdef void tabulate_logarithms(market_flow *flow) noexcept nogil:
    """log2(1 + index / LOGARITHMS) in 2^-40, a binary digit by each squaring."""
    cdef uint64_t index, digits
    cdef uint128_t mantissa
    for index in range(<uint64_t>(LOGARITHMS + 2)):
        mantissa = <uint128_t>(LOGARITHMS + index) << 55
        digits = mantissa >> 64 != 0
        mantissa >>= digits
        for _ in range(40):
            mantissa = (mantissa * mantissa) >> 63
            digits <<= 1
            if mantissa >> 64 != 0:
                mantissa >>= 1
                digits += 1
        flow.logarithms[index] = digits


cdef market_flow *market_flow_new(
        bitgen_t *generator, uint64_t first_id, int64_t tick_size, int64_t base_price,
        uint8_t market, bint drift, int64_t half_width, uint8_t reach, double rate) noexcept nogil:
    cdef market_flow *flow = <market_flow *>allocate(sizeof(market_flow))
    cdef int64_t base = base_price / tick_size
    cdef uint64_t index
    if flow == NULL:
        return NULL
    flow.best[SIDE_BID] = flow.worst[SIDE_BID] = flow.reference[SIDE_ASK] = base - 1
    flow.best[SIDE_ASK] = flow.worst[SIDE_ASK] = flow.reference[SIDE_BID] = base
    flow.twice_base = 2 * base - 1
    flow.buy_odds = EVEN_ODDS
    flow.limit[SIDE_BID] = 1
    flow.limit[SIDE_ASK] = ((<int64_t>1 << 62) - 1) / tick_size
    if half_width > 0:
        flow.limit[SIDE_BID] = base - half_width
        flow.limit[SIDE_ASK] = base + half_width
        # If the mid is half_width above its base, 9 traders sell for each 7 that buy.
        flow.pull = (<int64_t>EVEN_ODDS * 65536) / (16 * half_width)
    flow.id = flow.first_id = first_id
    flow.tick_size = tick_size
    flow.drift = drift
    flow.market = market
    flow.gap_scale = <uint64_t>(1e9 / rate * M_LN2 * 4294967296.0)
    flow.gap_state = generator.next_uint64(generator.state)
    flow.generator = generator
    flow.drawn = DRAWS
    for index in range(<uint64_t>TRADERS, <uint64_t>(TRADERS + LEVELS)):
        flow.nodes[index].next = flow.nodes[index].previous = <uint16_t>index
    tabulate_distances(flow, reach)
    tabulate_sizes(flow)
    tabulate_logarithms(flow)
    return flow


cdef void market_flow_fill(market_flow *flow, Transaction *out, size_t count) noexcept nogil:
    cdef size_t index
    for index in range(count):
        market_flow_next(flow, &out[index])


class FlowStatistics(NamedTuple):
    """Counts of the events of a `MarketFlow` so far, and the state of its book."""

    added: int
    cancelled: int
    executed: int
    orders: int
    bid_levels: int
    ask_levels: int
    bid_quantity: int
    ask_quantity: int
    best_bid: int | None
    best_ask: int | None


def whole(str name, value, least, most):
    try:
        number = operator.index(value)
    except TypeError:
        raise ConfigError("must be an integer", field=name, value=value) from None
    if not least <= number <= most:
        raise ConfigError(f"must be {least} to {most}", field=name, value=value)
    return number


def seeded(seed, bit_generator):
    if isinstance(bit_generator, np.random.BitGenerator):
        if seed is not None:
            raise ConfigError(
                "must be None beside a bit_generator, which has its own", field="seed", value=seed)
        return bit_generator
    if bit_generator not in BIT_GENERATORS:
        raise ConfigError(
            f"must be a numpy.random.BitGenerator or one of {', '.join(BIT_GENERATORS)}",
            field="bit_generator", value=bit_generator)
    try:
        return getattr(np.random, bit_generator)(seed)
    except (TypeError, ValueError) as error:
        raise ConfigError(str(error), field="seed", value=seed) from error


@cython.final
cdef class MarketFlow:
    """An endless, reproducible order flow that an exact book accepts without a rejection.

    A thousand traders have at most one order each. At the times of a Poisson process, one of them
    places an order, withdraws it, or takes from the opposite best. This is a zero-intelligence
    limit order book [1]_ [2]_ with a finite number of traders. Distances from the opposite best and
    sizes have heavy tails [3]_ [4]_. In the order generated, no event takes more than rests at its
    price, and none crosses the market. The resting quantity is bounded and stays near a mean,
    however long the flow runs.

    Parameters
    ----------
    seed : int, sequence of int, SeedSequence or None
        As NumPy's bit generators take it; None draws entropy from the operating system. The same
        seed and parameters give the same bytes on every platform.
    rate : float, default 100_000.0
        Mean events a second, 1 to 1e9.
    tick_size : int, default 100
        The price step, in units of 1e-4.
    base_price : int, default 1_000_000
        Where the market starts, in units of 1e-4: a multiple of `tick_size`.
    market : int, default 0
        `Transaction.market`, 0 to 255.
    drift : bool, default True
        Whether the mid moves. If not, bids stay below `base_price` and asks at or above it. Flows
        of different seeds can then share one book, in any interleaving, and not cross.
    half_width : int or None, default 384
        The most ticks between a price and `base_price`, to which the mid is drawn back. With None,
        the mid walks freely over positive prices.
    first_id : int, default 1
        `id` of the first event; each next one has the next.
    order_ids : bool, default False
        Whether the `id` of a ``CANCEL`` is that of the ``ADD`` which it withdraws, as a submitter
        needs it. If not, each event has an id of its own, so a lost event leaves a gap.
    reach : int, default 200
        The most ticks between a new order and the opposite best, 1 to 255; never more than
        `half_width`.
    bit_generator : str or numpy.random.BitGenerator, default "PCG64"
        The name of one in `numpy.random`, or an instance to draw from; `seed` must then be None.

    Attributes
    ----------
    bit_generator : numpy.random.BitGenerator
        The source of the flow's draws, 64 draws ahead.

    Raises
    ------
    ConfigError
        A parameter cannot be used; the message names it and its value.

    Notes
    -----
    **Thread-safety.** Methods hold the lock of the bit generator. So threads may share a flow, and
    NumPy generators may share its bit generator. C code that runs the underlying ``market_flow``
    does not hold the lock: until it is done, nothing else may use the flow or its bit generator.

    References
    ----------
    .. [1] E. Smith, J. D. Farmer, L. Gillemot and S. Krishnamurthy, "Statistical theory of the
       continuous double auction", Quantitative Finance 3 (2003) 481-514.
    .. [2] R. Cont, S. Stoikov and R. Talreja, "A stochastic model for order book dynamics",
       Operations Research 58 (2010) 549-563.
    .. [3] J.-P. Bouchaud, M. Mezard and M. Potters, "Statistical properties of stock order books:
       empirical results and models", Quantitative Finance 2 (2002) 251-256.
    .. [4] P. Gopikrishnan, V. Plerou, X. Gabaix and H. E. Stanley, "Statistical properties of
       share volume traded in financial markets", Physical Review E 62 (2000) R4493-R4496.

    Examples
    --------
    >>> from velox.core.flow import MarketFlow
    >>> flow = MarketFlow(seed=7, rate=1_000_000.0)
    >>> events = flow.generate(100_000)
    >>> events["id"][[0, -1]].tolist()
    [1, 100000]
    >>> statistics = flow.statistics()
    >>> statistics.added + statistics.cancelled + statistics.executed
    100000
    >>> statistics.best_bid < statistics.best_ask
    True
    """

    def __cinit__(
            self, seed=None, *, rate=100_000.0, tick_size=100, base_price=1_000_000, market=0,
            drift=True, half_width=384, first_id=1, order_ids=False, reach=200,
            bit_generator="PCG64"):
        for name, value in (("drift", drift), ("order_ids", order_ids)):
            if not isinstance(value, bool):
                raise ConfigError("must be True or False", field=name, value=value)
        tick_size = whole("tick_size", tick_size, 1, MAX_PRICE)
        base_price = whole("base_price", base_price, 1, MAX_PRICE)
        market = whole("market", market, 0, 255)
        first_id = whole("first_id", first_id, 0, 2**64 - 1)
        reach = whole("reach", reach, 1, MAX_REACH)
        if base_price % tick_size != 0:
            raise ConfigError(
                f"must be a multiple of tick_size = {tick_size}",
                field="base_price", value=base_price)
        base = base_price // tick_size
        if half_width is not None:
            half_width = whole("half_width", half_width, 1, MAX_HALF_WIDTH)
            reach = min(reach, half_width)
        room = half_width or 1
        if not room < base <= MAX_PRICE // tick_size - room:
            raise ConfigError(
                f"prices {room} ticks of {tick_size} either side must be 1 to {MAX_PRICE}",
                field="base_price", value=base_price)
        try:
            rate_number = float(rate)
        except (TypeError, ValueError):
            raise ConfigError("must be a number", field="rate", value=rate) from None
        if not (isfinite(rate_number) and 1.0 <= rate_number <= 1e9):
            raise ConfigError("must be 1 to 1e9 events a second", field="rate", value=rate)
        self.bit_generator = seeded(seed, bit_generator)
        with self.bit_generator.lock:
            self.flow = market_flow_new(
                <bitgen_t *>PyCapsule_GetPointer(self.bit_generator.capsule, "BitGenerator"),
                first_id, tick_size, base_price, market, drift, half_width or 0, reach, rate_number)
        if self.flow == NULL:
            raise MemoryError
        self.flow.order_ids = order_ids

    def __dealloc__(self):
        market_flow_delete(self.flow)

    def generate(self, count):
        """The next events, each with the time at which it is due.

        Parameters
        ----------
        count : int
            How many.

        Returns
        -------
        ndarray, shape (count,), dtype TRANSACTION_DTYPE
            ``ADD``, ``CANCEL`` and ``EXECUTE`` records, each a venue event of its own (``LAST``).
            ``ingress_ts_ns`` is the arrival time since the flow began, so that the array can be
            replayed at its own speed. The first array starts from an empty book.

        Raises
        ------
        ConfigError
            `count` is negative or not an integer.

        Examples
        --------
        >>> from velox.core.flow import MarketFlow
        >>> events = MarketFlow(seed=7).generate(1_000)
        >>> bool((events["ingress_ts_ns"][1:] >= events["ingress_ts_ns"][:-1]).all())
        True
        """
        cdef Py_ssize_t size = whole("count", count, 0, 2**48)
        cdef Py_ssize_t index
        transactions = new_transactions(size)
        cdef Transaction *first = transactions_of(transactions, &size)
        with self.bit_generator.lock, nogil:
            for index in range(size):
                market_flow_next(self.flow, &first[index])
                self.elapsed_ns += market_flow_gap(self.flow)
                first[index].ingress_ts_ns = self.elapsed_ns
        return transactions

    def gaps(self, count):
        """The next inter-arrival times, without their events.

        They come from a stream of their own. The events stay the same, and their times continue
        from here.

        Parameters
        ----------
        count : int
            How many.

        Returns
        -------
        ndarray, shape (count,), dtype uint64
            Nanoseconds, exponential with mean ``1e9 / rate``. The fraction of a nanosecond of a gap
            is added to the next, so that sums are exact at any rate.

        Raises
        ------
        ConfigError
            `count` is negative or not an integer.

        Examples
        --------
        >>> from velox.core.flow import MarketFlow
        >>> round(MarketFlow(seed=7, rate=1e6).gaps(100_000).mean(), -1)
        np.float64(1000.0)
        """
        cdef Py_ssize_t size = whole("count", count, 0, 2**48)
        cdef Py_ssize_t index
        cdef cnp.ndarray gaps = np.empty(size, np.uint64)
        cdef uint64_t *first = <uint64_t *>cnp.PyArray_DATA(gaps)
        with self.bit_generator.lock, nogil:
            for index in range(size):
                first[index] = market_flow_gap(self.flow)
                self.elapsed_ns += first[index]
        return gaps

    def snapshot(self):
        """The resting levels, as records that bring an empty book to this state.

        Returns
        -------
        ndarray, shape (levels,), dtype TRANSACTION_DTYPE
            One ``SET`` a level, flagged ``SNAPSHOT`` and the last of them ``LAST``: the bids, then
            the asks, each from the best outward. `id` and `ingress_ts_ns` are 0.

        Examples
        --------
        >>> from velox.core.flow import MarketFlow
        >>> flow = MarketFlow(seed=7)
        >>> events = flow.generate(1_000)
        >>> int(flow.snapshot()["price"][0]) == flow.statistics().best_bid
        True
        """
        cdef market_flow *flow = self.flow
        cdef Transaction *record
        cdef Py_ssize_t size
        cdef int64_t tick
        cdef int side
        with self.bit_generator.lock:
            transactions = np.zeros(
                flow.levels[SIDE_BID] + flow.levels[SIDE_ASK], TRANSACTION_DTYPE)
            record = transactions_of(transactions, &size)
            for side in range(2):
                tick = flow.best[side]
                for remaining in range(flow.levels[side], 0, -1):
                    record.price = tick * flow.tick_size
                    record.size = flow.nodes[TRADERS + (<uint64_t>tick & (LEVELS - 1))].quantity
                    record.side = <uint8_t>side
                    record.kind = KIND_SET
                    record.flags = FLAG_SNAPSHOT
                    record.market = flow.market
                    if remaining > 1:
                        tick = (market_flow_up(flow, tick) if side == SIDE_ASK
                                else market_flow_down(flow, tick))
                    record += 1
            if size > 0:
                (record - 1).flags |= FLAG_LAST
        return transactions

    def statistics(self):
        """Counts of the events so far, and the state of the book.

        Returns
        -------
        FlowStatistics
            Events ``added``, ``cancelled`` and ``executed``; ``orders`` at rest; for each side its
            levels, its quantity in lots and its best price in units of 1e-4, None where empty.

        Examples
        --------
        >>> from velox.core.flow import MarketFlow
        >>> MarketFlow(seed=7).statistics().best_bid is None
        True
        """
        cdef market_flow *flow = self.flow
        cdef uint64_t quantity[2]
        cdef uint64_t orders = 0
        cdef uint64_t index
        cdef int64_t tick
        cdef int64_t lowest
        quantity[SIDE_BID] = quantity[SIDE_ASK] = 0
        with self.bit_generator.lock:
            for index in range(<uint64_t>TRADERS):
                orders += flow.nodes[index].quantity != 0
            lowest = flow.worst[SIDE_BID]
            for tick in range(lowest, lowest + LEVELS):
                quantity[tick >= flow.best[SIDE_ASK]] += (
                    flow.nodes[TRADERS + (<uint64_t>tick & (LEVELS - 1))].quantity)
            return FlowStatistics(
                added=flow.added,
                cancelled=flow.id - flow.first_id - flow.added - flow.executed,
                executed=flow.executed,
                orders=orders,
                bid_levels=flow.levels[SIDE_BID],
                ask_levels=flow.levels[SIDE_ASK],
                bid_quantity=quantity[SIDE_BID],
                ask_quantity=quantity[SIDE_ASK],
                best_bid=flow.best[SIDE_BID] * flow.tick_size if flow.levels[SIDE_BID] else None,
                best_ask=flow.best[SIDE_ASK] * flow.tick_size if flow.levels[SIDE_ASK] else None)
