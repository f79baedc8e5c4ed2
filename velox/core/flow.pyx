"""MarketFlow: synthetic order flow that lives, moves and never crosses."""

cimport cython
from cpython.pycapsule cimport PyCapsule_GetPointer

from libc.math cimport M_LN2, isfinite
from libc.stddef cimport size_t
from libc.stdint cimport INT64_MAX, UINT64_MAX

from velox.core.memory cimport STATIC_ASSERT, allocate, release_memory
from velox.core.records cimport (
    FLAG_LAST, FLAG_SNAPSHOT, KIND_SET, new_transactions, transactions_of)

import operator
from typing import NamedTuple

import numpy as np

from velox.errors import ConfigError

__all__ = ["FlowStatistics", "MarketFlow"]

cdef enum:
    MAX_REACH = 255

cdef double MIN_RATE = 1.0
cdef double MAX_RATE = 1e9


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(market_flow_node) == 8)
    STATIC_ASSERT(TRADERS + LEVELS <= 65536)        # a node's number is 16 bits
    STATIC_ASSERT(2 * MAX_REACH < LEVELS)


assert_layout()


cdef uint64_t power(uint64_t base, int exponent) noexcept nogil:
    cdef uint64_t product = 1
    while exponent > 0:
        product *= base
        exponent -= 1
    return product


cdef uint64_t quantile(uint64_t survival, uint64_t scale, int p, int q,
                       uint64_t start) noexcept nogil:
    """The largest x, searched from `start`, with P(X >= x) = (scale / (scale + x))^(p / q) at least
    survival / 8192. By integers, so that every platform draws the same market.
    """
    cdef uint64_t bound = power(scale, p) * power(8192, q)
    cdef uint64_t x = start
    while power(scale + x + 1, p) * power(survival, q) <= bound:
        x += 1
    return x


cdef void tabulate_distances(market_flow *flow, uint64_t reach) noexcept nogil:
    """Bouchaud, Mezard and Potters (2002): density ~ (scale + x)^-1.6, here -5/3, cut at `reach`.
    """
    cdef uint64_t least = 8192
    cdef uint64_t index, survival
    cdef uint64_t distance = 0
    while quantile(least, 24, 2, 3, 0) + 1 < reach + 1:
        least -= 1
    for index in range(<uint64_t>DISTANCES):
        survival = 8192 - (8192 - least) * (2 * index + 1) / (2 * DISTANCES)
        distance = quantile(survival, 24, 2, 3, distance)
        flow.distances[index] = <uint8_t>(1 + min(distance, reach - 1))


cdef void tabulate_sizes(market_flow *flow) noexcept nogil:
    cdef uint64_t index
    cdef uint64_t size = 0
    for index in range(<uint64_t>SIZES):
        size = quantile(8192 - 8 * index - 4, 24, 3, 2, size)
        flow.sizes[index] = <uint16_t>(1 + size)


cdef void tabulate_logarithms(market_flow *flow) noexcept nogil:
    """log2 of 1 + index / 256, in 2^-40, digit by digit."""
    cdef uint64_t index, digits
    cdef uint128_t mantissa
    for index in range(<uint64_t>LOGARITHMS + 2):
        digits = 0
        mantissa = <uint128_t>(LOGARITHMS + index) << 55
        if index >= LOGARITHMS:
            digits = 1
            mantissa >>= 1
        for _ in range(40):
            mantissa = mantissa * mantissa >> 63
            digits <<= 1
            if mantissa >> 64 != 0:
                digits += 1
                mantissa >>= 1
        flow.logarithms[index] = digits


cdef market_flow *market_flow_new(
        bitgen_t *generator, uint64_t first_id, int64_t tick_size, int64_t base_price,
        uint8_t market, bint drift, int64_t half_width, int reach, double rate) noexcept nogil:
    cdef market_flow *flow = <market_flow *>allocate(sizeof(market_flow))
    cdef int64_t base = base_price / tick_size
    cdef uint64_t index
    if flow == NULL:
        return NULL
    flow.generator = generator
    flow.cursor = DRAWS
    flow.id = first_id
    flow.tick_size = tick_size
    flow.market = market
    flow.drift = drift
    flow.buy_odds = EVEN_ODDS
    flow.twice_base = 2 * base - 1
    flow.best[SIDE_BID] = flow.worst[SIDE_BID] = flow.reference[SIDE_ASK] = base - 1
    flow.best[SIDE_ASK] = flow.worst[SIDE_ASK] = flow.reference[SIDE_BID] = base
    if half_width > 0:
        flow.limit[SIDE_BID] = base - half_width
        flow.limit[SIDE_ASK] = base + half_width
        flow.pull = (<int64_t>65536 * EVEN_ODDS) / (16 * half_width)
    else:
        flow.limit[SIDE_BID] = 1
        flow.limit[SIDE_ASK] = INT64_MAX / tick_size
    flow.gap_scale = <uint64_t>(1e9 / rate * M_LN2 * 4294967296.0)
    flow.gap_state = generator.next_uint64(generator.state)
    for index in range(<uint64_t>TRADERS, <uint64_t>TRADERS + LEVELS):
        flow.nodes[index].next = flow.nodes[index].previous = <uint16_t>index
    tabulate_distances(flow, <uint64_t>reach)
    tabulate_sizes(flow)
    tabulate_logarithms(flow)
    return flow


cdef void market_flow_fill(market_flow *flow, Transaction *out, size_t count) noexcept nogil:
    cdef size_t index
    for index in range(count):
        market_flow_next(flow, &out[index])


cdef class MarketFlow:
    cdef market_flow *flow
    cdef object bit_generator
    cdef uint64_t elapsed
    def __cinit__(self, seed, *, rate=1e5, tick_size=100, base_price=1000000, market=0, drift=True, half_width=384, first_id=1, reach=200):
        self.bit_generator = np.random.PCG64(seed)
        self.flow = market_flow_new(<bitgen_t*>PyCapsule_GetPointer(self.bit_generator.capsule, "BitGenerator"),
            first_id, tick_size, base_price, market, drift, half_width or 0, reach, rate)
    def fill(self, a):
        cdef Py_ssize_t n
        cdef Transaction *f = transactions_of(a, &n)
        with nogil:
            market_flow_fill(self.flow, f, n)
    def gaps(self, cnp_a, Py_ssize_t n):
        cdef Py_ssize_t i
        cdef uint64_t s = 0
        with nogil:
            for i in range(n):
                s += market_flow_gap(self.flow)
        return s
    def stats(self):
        f = self.flow
        q = [0, 0]
        for t in range(f.worst[0], f.worst[0]+512):
            qq = f.nodes[TRADERS + (t & 511)].quantity
            q[t >= f.best[1]] += qq
        n = sum(1 for i in range(TRADERS) if f.nodes[i].quantity)
        return dict(best=(f.best[0], f.best[1]), worst=(f.worst[0], f.worst[1]), levels=(f.levels[0], f.levels[1]), q=q, n=n,
            added=f.added, ex=f.executed, odds=f.buy_odds, sizes=[f.sizes[i] for i in range(SIZES)], dist=[f.distances[i] for i in range(<uint64_t>DISTANCES)], log=[f.logarithms[i] for i in range(258)])
