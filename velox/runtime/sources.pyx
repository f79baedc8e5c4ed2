"""Sources of records: a synthetic market, a recording, and Python code that pushes."""

import operator
import os
import time
from math import isfinite

import numpy as np
cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.string cimport memcpy

from velox.core.atomic cimport count, give_core_away, relax
from velox.core.bundle cimport NO_DEADLINE
from velox.core.clock cimport CLOCK_VIRTUAL, clock_now
from velox.core.flow cimport market_flow_fill, market_flow_gap, market_flow_next
from velox.core.latency cimport elapsed_ns
from velox.core.records cimport transactions_of
from velox.core.ring cimport transaction_ring_claim, transaction_ring_publish
from velox.runtime.ingress cimport ingress_finish, ingress_is_full, ingress_record_late
from velox.runtime.stage cimport checked_timeout, control_stopped

from velox.core.instrument import Instrument
from velox.core.records import TRANSACTION_DTYPE, Kind, Side
from velox.errors import ConfigError, PipelineError, RecordError

__all__ = ["PoissonIngress", "PushIngress", "ReplayIngress"]


# Poisson

cdef int poisson_do_work(void *pointer) noexcept nogil:
    cdef poisson_ingress *self = <poisson_ingress *>pointer
    cdef ingress *base = &self.ingress
    cdef Transaction *slots
    cdef Transaction unwanted
    cdef uint64_t room, now_ns
    cdef uint64_t n = 0
    cdef uint64_t dropped = 0
    cdef uint64_t i, _
    cdef bint may_drop
    if control_stopped(base.control):
        return ingress_finish(base)
    if not self.started:
        self.started = True
        self.next_due_ns = clock_now(base.clock)
        if not self.unpaced:
            self.next_due_ns += market_flow_gap(self.flow)
    now_ns = clock_now(base.clock)
    base.blocked = False
    if not self.unpaced and self.next_due_ns > now_ns:
        return 0
    slots = transaction_ring_claim(base.ring, base.batch, &room)
    if self.unpaced:
        n = room
        market_flow_fill(self.flow, slots, n)
        for i in range(n):
            slots[i].ingress_ts_ns = now_ns
        if n == 0 and base.drop:
            dropped = base.batch
            for _ in range(dropped):
                market_flow_next(self.flow, &unwanted)
    else:
        while n < room and self.next_due_ns <= now_ns:
            market_flow_next(self.flow, &slots[n])
            slots[n].ingress_ts_ns = self.next_due_ns
            self.next_due_ns += market_flow_gap(self.flow)
            n += 1
        # With `block`, due records wait for room. That makes them late; their due time does not
        # change.
        may_drop = base.drop and ingress_is_full(base, n)
        while may_drop and n + dropped < base.batch and self.next_due_ns <= now_ns:
            market_flow_next(self.flow, &unwanted)
            self.next_due_ns += market_flow_gap(self.flow)
            dropped += 1
    base.blocked = n + dropped == 0
    # Counted first, so that a look at the counters does not find more applied than pushed.
    count(&base.generated, n + dropped)
    count(&base.pushed, n)
    count(&base.dropped, dropped)
    transaction_ring_publish(base.ring, n)
    now_ns = clock_now(base.clock)
    # Published slots may still be read here: only this thread ever writes them.
    if self.unpaced:
        if n > 0:
            ingress_record_late(base, slots[0].ingress_ts_ns, now_ns, n)
    else:
        for i in range(n):
            ingress_record_late(base, slots[i].ingress_ts_ns, now_ns, 1)
    return <int>(n + dropped)


cdef uint64_t poisson_deadline(void *pointer) noexcept nogil:
    cdef poisson_ingress *self = <poisson_ingress *>pointer
    return NO_DEADLINE if self.ingress.blocked else self.next_due_ns


@cython.final
cdef class PoissonIngress(Ingress):
    """Synthetic order flow at a given rate, open loop.

    Arrivals are a Poisson process: each record is due an exponential time after the one before.
    `ingress_ts_ns` is that due time, however late the thread makes the record. The generator never
    slows down; `late` says how late it was. `velox.MarketFlow` describes the market.

    Parameters
    ----------
    rate : float or "max"
        Records a second, 1 to 1e9; ``"max"`` makes each one due when there is room for it.
    seed : int
        The same seed gives the same transactions.
    **market
        `tick_size`, `base_price`, `market`, `drift`, ... of `velox.MarketFlow`.

    Attributes
    ----------
    rate, seed
    flow : MarketFlow
        The market; its statistics may be read once the pipeline has stopped.

    Notes
    -----
    ``on_full="drop"`` is the default unless the rate is ``"max"``. A full ring then drops the
    newest record, and the book may reject records that refer to it.
    """

    def __cinit__(self, rate=100_000, seed=0, **market):
        self.make(sizeof(poisson_ingress))
        self.poisson = <poisson_ingress *>self.ingress
        unpaced = rate == "max"
        if not unpaced:
            try:
                valid = not isinstance(rate, bool) and 1 <= rate <= 1e9
            except TypeError:
                valid = False
            if not valid:
                raise ConfigError("must be 'max', or 1 to 1e9 a second", field="rate", value=rate)
        self.rate = rate
        self.seed = seed
        self.flow = MarketFlow(seed, rate=1e9 if unpaced else float(rate), **market)
        self.poisson.flow = self.flow.flow
        self.poisson.unpaced = unpaced
        self.stage.do_work = poisson_do_work
        self.stage.deadline = poisson_deadline
        self.stage.self = self.poisson

    @property
    def market(self):
        """int: The market that it makes."""
        return self.poisson.flow.market

    @property
    def tick_size(self):
        """int: The market's price step, in 1e-4."""
        return self.poisson.flow.tick_size

    @property
    def base_price(self):
        """int: The price around which the market moves, in 1e-4."""
        return self.poisson.flow.twice_base // 2 * self.poisson.flow.tick_size

    @property
    def default_on_full(self):
        """str: ``"drop"``; ``"block"`` if the rate is ``"max"``."""
        return "block" if self.rate == "max" else "drop"

    @property
    def endless(self):
        """bool: Whether the rate is ``"max"``: then every record is due at once."""
        return bool(self.poisson.unpaced)

    @property
    def instruments(self):
        """tuple of Instrument: The one market that it makes."""
        return (Instrument(market=self.market, tick_size=self.tick_size),)

    def middle_price(self, market):
        """Return `base_price` for its own market, and None for others."""
        return self.base_price if market == self.market else None

    @property
    def behind_ns(self):
        """int: How far behind its schedule the ingress is, in ns."""
        if self.poisson.unpaced or not self.poisson.started:
            return 0
        return elapsed_ns(self.poisson.next_due_ns, clock_now(self.ingress.clock))


# Replay

cdef bint replay_next_run(replay_ingress *self) noexcept nogil:
    """Start the next pass of records; False if the last one has ended."""
    if self.clearing:
        self.clearing = False
    elif self.passes_left == 0:
        return False
    else:
        self.passes_left -= 1
        self.pass_start_ns = self.last_due_ns
        self.clearing = self.clears_length > 0
    self.position = 0
    return True


cdef inline uint64_t replay_due(const replay_ingress *self) noexcept nogil:
    """When the next record is due. This time never goes back, even if the recording's does."""
    cdef uint64_t span_ns
    if self.clearing:
        return self.last_due_ns
    span_ns = elapsed_ns(self.records[0].ingress_ts_ns,
                         self.records[self.position].ingress_ts_ns)
    if self.ns_per_ns != 1.0:
        # The result saturates: no replay takes longer than 146 years.
        span_ns = <uint64_t>min(<double>span_ns * self.ns_per_ns, <double>LONGEST_NS)
    return max(self.last_due_ns, self.pass_start_ns + min(span_ns, <uint64_t>LONGEST_NS))


cdef int replay_do_work(void *pointer) noexcept nogil:
    cdef replay_ingress *self = <replay_ingress *>pointer
    cdef ingress *base = &self.ingress
    cdef const Transaction *run
    cdef Transaction *slots
    cdef uint64_t room, end, now_ns, due_ns, i
    cdef uint64_t n = 0
    cdef uint64_t dropped = 0
    if control_stopped(base.control):
        return ingress_finish(base)
    now_ns = clock_now(base.clock)
    if self.last_due_ns == 0:
        self.pass_start_ns = self.last_due_ns = now_ns
    while self.position == (self.clears_length if self.clearing else self.length):
        if not replay_next_run(self):
            return ingress_finish(base)
    run = self.clears if self.clearing else self.records
    end = min(self.clears_length if self.clearing else self.length, self.position + base.batch)
    slots = transaction_ring_claim(base.ring, base.batch, &room)
    base.blocked = False
    if not self.scheduled:
        n = min(end - self.position, room)
        memcpy(slots, &run[self.position], n * sizeof(Transaction))
        for i in range(n):
            slots[i].ingress_ts_ns = now_ns
        if base.drop and self.position + n < end and ingress_is_full(base, n):
            dropped = end - self.position - n
        self.last_due_ns = now_ns
        self.position += n + dropped
        base.blocked = n + dropped == 0
    while self.scheduled and self.position < end:
        due_ns = replay_due(self)
        if due_ns > now_ns:
            break
        if n < room:
            memcpy(&slots[n], &run[self.position], sizeof(Transaction))
            slots[n].ingress_ts_ns = due_ns
            n += 1
        elif base.drop and (dropped > 0 or ingress_is_full(base, n)):
            dropped += 1
        else:
            base.blocked = True
            break
        self.last_due_ns = due_ns
        self.position += 1
    # Counted first, so that a look at the counters does not find more applied than pushed.
    count(&base.generated, n + dropped)
    count(&base.pushed, n)
    count(&base.dropped, dropped)
    transaction_ring_publish(base.ring, n)
    if n == 0:
        return <int>dropped
    now_ns = clock_now(base.clock)
    # Published slots may still be read here: only this thread ever writes them.
    if self.scheduled:
        for i in range(n):
            ingress_record_late(base, slots[i].ingress_ts_ns, now_ns, 1)
    else:
        ingress_record_late(base, slots[0].ingress_ts_ns, now_ns, n)
    return <int>(n + dropped)


cdef uint64_t replay_deadline(void *pointer) noexcept nogil:
    cdef replay_ingress *self = <replay_ingress *>pointer
    if self.ingress.blocked:
        return NO_DEADLINE
    if not self.scheduled or self.position == (
            self.clears_length if self.clearing else self.length):
        return 0
    return replay_due(self)


cdef object clears_for(object transactions):
    """Return records that empty each book of `transactions`, unless they begin with such.
    """
    markets = np.unique(transactions["market"])
    clears = np.zeros(2 * len(markets), TRANSACTION_DTYPE)
    clears["kind"] = Kind.CLEAR
    clears["market"] = np.repeat(markets, 2)
    clears["side"] = np.tile([Side.BID, Side.ASK], len(markets))
    head = transactions[:len(clears)]
    if len(head) == len(clears):
        fields = ["kind", "market", "side"]
        if set(head[fields].tolist()) == set(clears[fields].tolist()):
            return clears[:0]
    return clears


@cython.final
cdef class ReplayIngress(Ingress):
    """Recorded records, once or several times over.

    Parameters
    ----------
    transactions : ndarray or path
        An array of TRANSACTION_DTYPE, or a ``.npy`` file of them, which is mapped, not read.
    speed : float or "max"
        1.0 keeps the recording's own time, 2.0 halves it; with ``"max"`` each record is due
        when there is room for it.
    repeat : int
        How many passes. Before each pass but the first, records of `Kind.CLEAR` empty the books.
        They count like any other record. They are left out if the recording begins with such
        records.

    Attributes
    ----------
    records, speed, repeat

    Raises
    ------
    ConfigError, RecordError

    Notes
    -----
    `ingress_ts_ns` of a pushed record is the time at which it was due, on the pipeline's clock. On
    a virtual clock, as in ``"invoker"`` placement, that is the recording's own time, whatever the
    speed.
    """

    def __cinit__(self, transactions, speed="max", repeat=1):
        cdef Py_ssize_t length, clears_length
        self.make(sizeof(replay_ingress))
        self.replay = <replay_ingress *>self.ingress
        if isinstance(transactions, (str, os.PathLike)):
            try:
                transactions = np.load(transactions, mmap_mode="r")
            except (OSError, ValueError, EOFError) as error:
                raise RecordError(
                    f"cannot map {os.fspath(transactions)}: {error}") from error
        if isinstance(transactions, np.memmap):
            transactions = transactions.view(np.ndarray)
        self.replay.records = transactions_of(transactions, &length)
        self.replay.length = length
        if speed != "max":
            try:
                valid = isfinite(speed) and speed > 0
            except TypeError:
                valid = False
            if not valid:
                raise ConfigError("must be 'max' or a positive number", field="speed", value=speed)
        try:
            passes = 0 if isinstance(repeat, bool) else operator.index(repeat)
        except TypeError:
            passes = 0
        if not 1 <= passes < 2**63:
            raise ConfigError("must be an integer, 1 to 2**63 - 1", field="repeat", value=repeat)
        self.transactions = transactions
        self.speed = speed
        self.repeat = passes
        self.replay.scheduled = speed != "max"
        self.replay.ns_per_ns = 1.0 if speed == "max" else 1.0 / float(speed)
        self.replay.passes_left = passes - 1
        clears = clears_for(transactions) if passes > 1 else transactions[:0]
        self.replay.clears = transactions_of(clears, &clears_length)
        self.replay.clears_length = clears_length
        self.kept.append(clears)
        self.stage.do_work = replay_do_work
        self.stage.deadline = replay_deadline
        self.stage.self = self.replay

    def begin(self):
        if self.ring is None:
            raise PipelineError("begin of an ingress that no pipeline has taken")
        if self.clock.clock.kind == CLOCK_VIRTUAL and self.replay.length > 0:
            self.replay.scheduled = True
            self.replay.ns_per_ns = 1.0
            first_ns = int(self.transactions["ingress_ts_ns"][0])
            if first_ns > LONGEST_NS:
                raise RecordError(
                    "later than a clock can be", array="transactions", index=0,
                    field="ingress_ts_ns", value=first_ns)
            self.clock.set(max(first_ns, self.clock.now(), 1))

    @property
    def recorded(self):
        """ndarray: The recording."""
        return self.transactions

    @property
    def pass_length(self):
        """int: Records of each pass but the first, with those that empty the books."""
        return self.replay.length + self.replay.clears_length

    def middle_price(self, market):
        """Return the median price of the market's records; None if the recording has none."""
        prices = self.transactions["price"][self.transactions["market"] == market]
        prices = prices[prices > 0]
        # The median is used, since a book's outermost levels lie far away.
        return int(np.median(prices)) if len(prices) else None


# Push

# How often a push looks for room before it checks for signals and for its timeout.
cdef enum:
    PATIENCE = 10_000
    SHORT_PATIENCE = 200


cdef class PushIngress(Ingress):
    """Records that Python pushes, from one thread at a time.

    Parameters
    ----------
    stamp : bool
        Whether `ingress_ts_ns` becomes the moment of the push; otherwise the caller has set it, in
        ns of the pipeline's `Clock`.

    Examples
    --------
    >>> import numpy as np, velox
    >>> orders = np.zeros(100, velox.TRANSACTION_DTYPE)
    >>> orders["price"], orders["size"] = 1_000_000, 1
    >>> ingress = velox.PushIngress()
    >>> with velox.Pipeline(ingress) as pipeline:
    ...     pushed = ingress.push(orders)
    >>> pushed, pipeline.report().ledger.delivered_transactions
    (100, 100)
    """

    driven = False

    def __cinit__(self, *args, **kwargs):
        self.turn = Turn()
        self.stamp = True

    def __init__(self, *, stamp=True):
        self.stamp = stamp

    def begin(self):
        self.running = True
        self.turn.stay()

    def push(self, transactions, timeout=None):
        """Push records into the pipeline.

        Parameters
        ----------
        transactions : ndarray, shape (n,), dtype TRANSACTION_DTYPE
        timeout : float, optional
            The longest to wait for room, in seconds; 0 does not wait. Set it if the same thread
            polls the output: the pipeline has room for about 25 000 records, and a push waits when
            it is full.

        Returns
        -------
        int
            How many records were pushed. With ``on_full="block"``, the default, the call waits for
            room, without the GIL. It returns fewer than n only if the pipeline was stopped or the
            timeout has passed; push the rest again. With ``"drop"`` it returns at once and counts
            the rest as dropped.

        Raises
        ------
        PipelineError
            The pipeline does not run, or belongs to another process; or another thread is pushing.
        RecordError
            `transactions` is not a contiguous array of that dtype.
        ConfigError
            `timeout` is negative or not a number.

        Notes
        -----
        Thread-safety: one thread at a time; several may take turns.
        """
        cdef Py_ssize_t n
        cdef const Transaction *first = transactions_of(transactions, &n)
        cdef uint64_t done = 0
        cdef uint64_t due_ns
        cdef double end = 0.0
        cdef uint32_t patience = PATIENCE
        if timeout is not None:
            end = time.monotonic() + checked_timeout(timeout)
            patience = SHORT_PATIENCE if timeout > 0 else 0
        if self.ring is None:
            raise PipelineError("push to an ingress that no pipeline has taken")
        if not self.running:
            raise PipelineError("push to a pipeline that is not running: start it first")
        if self.turn.is_forked():
            raise PipelineError("push in a fork of the pipeline's process, which has its threads")
        if not self.turn.take():
            raise PipelineError("another thread is pushing; an ingress takes one at a time")
        try:
            if self.stage.finished:
                raise PipelineError("push to a pipeline that has been stopped")
            due_ns = clock_now(self.ingress.clock)
            while True:
                with nogil:
                    done += self.push_for_a_while(first + done, n - done, due_ns, patience)
                # Ctrl-C may interrupt the wait.
                PyErr_CheckSignals()
                if done == <uint64_t>n or self.ingress.drop or control_stopped(
                        self.ingress.control):
                    break
                if timeout is not None and time.monotonic() >= end:
                    break
            if self.ingress.drop:
                count(&self.ingress.generated, n - done)
                count(&self.ingress.dropped, n - done)
        finally:
            self.turn.leave()
        return done

    cdef uint64_t push_for_a_while(
            self, const Transaction *first, uint64_t n, uint64_t due_ns,
            uint32_t patience) noexcept nogil:
        cdef ingress *base = self.ingress
        cdef uint64_t done = 0
        cdef uint64_t now_ns, room, i
        cdef uint32_t waits = 0
        cdef Transaction *slots
        while done < n:
            slots = transaction_ring_claim(base.ring, n - done, &room)
            if room == 0:
                waits += 1
                if base.drop or waits > patience or control_stopped(base.control):
                    break
                if waits < 100:
                    relax()
                else:
                    give_core_away()
                continue
            memcpy(slots, first + done, room * sizeof(Transaction))
            if self.stamp:
                for i in range(room):
                    slots[i].ingress_ts_ns = due_ns
            count(&base.generated, room)
            count(&base.pushed, room)
            transaction_ring_publish(base.ring, room)
            now_ns = clock_now(base.clock)
            for i in range(room):
                ingress_record_late(base, slots[i].ingress_ts_ns, now_ns, 1)
            done += room
        return done

    def close(self):
        """End the input: the pipeline drains and ends. A second call does nothing."""
        if self.ring is None:
            raise PipelineError("close of an ingress that no pipeline has taken")
        if self.turn.is_forked():
            raise PipelineError("close in a fork of the pipeline's process, which has its threads")
        # A push on another thread sees the pipeline's stop and returns soon.
        while not self.turn.take():
            PyErr_CheckSignals()
            with nogil:
                give_core_away()
        if not self.stage.finished:
            ingress_finish(self.ingress)
        self.turn.leave()
