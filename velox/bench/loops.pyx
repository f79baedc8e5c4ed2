"""The loops that `velox.bench` times. They run in C without the GIL, and check their results.

Every function returns the nanoseconds that its loop took on the kernel's clock. It raises
`LedgerError` if the result is wrong.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memset

from velox.core.atomic cimport give_core_away, kernel_ns, relax
from velox.core.order_book cimport OrderBook
from velox.core.bundle cimport bundle_builder, bundle_builder_add, bundle_builder_init
from velox.core.clock cimport Clock, clock_now
from velox.core.histogram cimport LatencyHistogram, histogram_record
from velox.core.records cimport (
    BUNDLE_CAPACITY,
    SIDE_BID,
    Bundle,
    Transaction,
    transactions_of,
)
from velox.core.risk cimport RiskGate, risk_check, risk_gate
from velox.core.ring cimport (
    BundleRing,
    TransactionRing,
    bundle_ring_peek,
    bundle_ring_release,
    transaction_ring,
    transaction_ring_claim,
    transaction_ring_peek,
    transaction_ring_pop,
    transaction_ring_publish,
    transaction_ring_push,
    transaction_ring_release,
)
from velox.core.top cimport book_top, top_line_try_read
from velox.runtime.idle cimport PAUSE_TOGETHER_NS, pauses_within

from velox.errors import ConfigError, LedgerError

__all__ = [
    "book_best",
    "bundle_add",
    "clock_read",
    "consume",
    "gate_check",
    "histogram_fill",
    "produce",
    "ring_push_pop",
    "round_trips",
    "send_back",
]

cdef enum:
    # Pauses before a waiting thread gives up its core. Reached only on a machine with one core.
    PATIENCE = 1024


cdef uint32_t PAUSES = pauses_within(PAUSE_TOGETHER_NS)


cdef inline void number(Transaction *slot, uint64_t index) noexcept nogil:
    """Make a record that has its number in its first and in its last word."""
    slot.id = index
    slot.price = 1
    slot.ingress_ts_ns = ~index


cdef inline bint is_numbered(const Transaction *slot, uint64_t index) noexcept nogil:
    return slot.id == index and slot.ingress_ts_ns == ~index


cdef inline void wait(uint64_t *waits, uint32_t pauses) noexcept nogil:
    cdef uint32_t _
    waits[0] += 1
    if waits[0] < PATIENCE:
        for _ in range(pauses):
            relax()
    else:
        give_core_away()


cdef uint32_t pauses_of(bint tight) noexcept nogil:
    """Pauses between two polls: one, or as many as a runner makes."""
    return 1 if tight else PAUSES


def ring_push_pop(TransactionRing ring not None, uint64_t operations):
    """Push one record and pop it again, on one thread."""
    cdef Transaction pushed, popped
    cdef uint64_t index, start_ns, end_ns
    cdef uint64_t right = 0
    memset(&pushed, 0, sizeof(pushed))
    with nogil:
        start_ns = kernel_ns()
        for index in range(operations):
            number(&pushed, index)
            if transaction_ring_push(ring.ring, &pushed, 1) == 1 \
                    and transaction_ring_pop(ring.ring, &popped, 1) == 1:
                right += is_numbered(&popped, index)
        end_ns = kernel_ns()
    require("pops", right, operations)
    return end_ns - start_ns


cdef void produce_singly(
        transaction_ring *ring, uint64_t operations, uint32_t pauses) noexcept nogil:
    cdef Transaction pushed
    cdef uint64_t index
    cdef uint64_t waits = 0
    memset(&pushed, 0, sizeof(pushed))
    for index in range(operations):
        number(&pushed, index)
        while transaction_ring_push(ring, &pushed, 1) == 0:
            wait(&waits, pauses)
        waits = 0


cdef void produce_in_batches(
        transaction_ring *ring, uint64_t operations, uint64_t batch,
        uint32_t pauses) noexcept nogil:
    cdef Transaction *slots
    cdef uint64_t granted, i
    cdef uint64_t index = 0
    cdef uint64_t waits = 0
    while index < operations:
        slots = transaction_ring_claim(ring, min(batch, operations - index), &granted)
        if granted == 0:
            wait(&waits, pauses)
            continue
        waits = 0
        for i in range(granted):
            number(&slots[i], index + i)
        transaction_ring_publish(ring, granted)
        index += granted


def produce(TransactionRing ring not None, uint64_t operations, uint64_t batch, bint tight=False):
    """Push numbered records, `batch` at a time, while another thread runs `consume`.

    A thread that finds the ring full or empty waits as a runner does; with `tight`, for one pause.
    """
    cdef uint32_t pauses = pauses_of(tight)
    with nogil:
        if batch == 1:
            produce_singly(ring.ring, operations, pauses)
        else:
            produce_in_batches(ring.ring, operations, batch, pauses)


cdef uint64_t consume_singly(
        transaction_ring *ring, uint64_t operations, uint64_t *start_ns,
        uint32_t pauses) noexcept nogil:
    cdef Transaction popped
    cdef uint64_t index
    cdef uint64_t right = 0
    cdef uint64_t waits = 0
    for index in range(operations):
        while transaction_ring_pop(ring, &popped, 1) == 0:
            wait(&waits, pauses)
        waits = 0
        if index == 0:
            start_ns[0] = kernel_ns()
        right += is_numbered(&popped, index)
    return right


cdef uint64_t consume_in_batches(
        transaction_ring *ring, uint64_t operations, uint64_t batch,
        uint64_t *start_ns, uint32_t pauses) noexcept nogil:
    cdef const Transaction *slots
    cdef uint64_t available, i
    cdef uint64_t index = 0
    cdef uint64_t right = 0
    cdef uint64_t waits = 0
    while index < operations:
        slots = transaction_ring_peek(ring, batch, &available)
        if available == 0:
            wait(&waits, pauses)
            continue
        waits = 0
        if index == 0:
            start_ns[0] = kernel_ns()
        for i in range(available):
            right += is_numbered(&slots[i], index + i)
        transaction_ring_release(ring, available)
        index += available
    return right


def consume(TransactionRing ring not None, uint64_t operations, uint64_t batch, bint tight=False):
    """Take and check the records that another thread pushes. Timed from the first that arrives."""
    cdef uint32_t pauses = pauses_of(tight)
    cdef uint64_t right, end_ns
    cdef uint64_t start_ns = 0
    with nogil:
        if batch == 1:
            right = consume_singly(ring.ring, operations, &start_ns, pauses)
        else:
            right = consume_in_batches(ring.ring, operations, batch, &start_ns, pauses)
        end_ns = kernel_ns()
    require("transactions handed over", right, operations)
    return end_ns - start_ns


def round_trips(TransactionRing there not None, TransactionRing back not None, uint64_t operations,
                LatencyHistogram trips not None, Clock clock not None):
    """Push one record, and wait for it to come back: another thread runs `send_back`.

    Each trip is recorded from one reading of the clock to the next, and so includes one reading.
    """
    cdef Transaction pushed, popped
    cdef uint64_t index, before_ns, now_ns
    cdef uint64_t elapsed_ns = 0
    cdef uint64_t right = 0
    cdef uint64_t waits = 0
    memset(&pushed, 0, sizeof(pushed))
    with nogil:
        before_ns = clock_now(clock.clock)
        # The first one waits for the other thread to start, and does not count.
        for index in range(operations + 1):
            number(&pushed, index)
            transaction_ring_push(there.ring, &pushed, 1)
            while transaction_ring_pop(back.ring, &popped, 1) == 0:
                wait(&waits, 1)
            waits = 0
            right += is_numbered(&popped, index)
            now_ns = clock_now(clock.clock)
            if index > 0:
                histogram_record(trips.histogram, now_ns - before_ns)
                elapsed_ns += now_ns - before_ns
            before_ns = now_ns
    require("round trips", right, operations + 1)
    return elapsed_ns


def send_back(TransactionRing there not None, TransactionRing back not None, uint64_t operations):
    """Take each record that comes, and push it back to its sender."""
    cdef Transaction item
    cdef uint64_t waits = 0
    with nogil:
        for _ in range(operations + 1):
            while transaction_ring_pop(there.ring, &item, 1) == 0:
                wait(&waits, 1)
            waits = 0
            transaction_ring_push(back.ring, &item, 1)


def book_best(OrderBook book not None, uint64_t operations, int64_t bid, int64_t ask):
    """Read the best prices as a thread other than the writer does."""
    cdef book_top top
    cdef uint64_t start_ns, end_ns
    cdef uint64_t right = 0
    with nogil:
        start_ns = kernel_ns()
        for _ in range(operations):
            if top_line_try_read(book.core.top, &top):
                right += top.bid_price == bid and top.ask_price == ask
        end_ns = kernel_ns()
    require("reads of the best prices", right, operations)
    return end_ns - start_ns


def bundle_add(BundleRing ring not None, LatencyHistogram hold not None, uint64_t operations):
    """Add records one by one; each full bundle is sealed, and taken from its ring at once."""
    cdef bundle_builder builder
    cdef Transaction added
    cdef const Bundle *bundle
    cdef uint64_t index, available, start_ns, end_ns
    cdef uint64_t right = 0
    memset(&added, 0, sizeof(added))
    with nogil:
        bundle_builder_init(&builder, ring.ring, hold.histogram, 100_000)
        start_ns = kernel_ns()
        for index in range(operations):
            number(&added, index)
            bundle_builder_add(&builder, &added, 1, 1_000_000)
            bundle = bundle_ring_peek(ring.ring, 1, &available)
            if available == 1:
                if bundle.count == BUNDLE_CAPACITY and is_numbered(
                        &bundle.transactions[BUNDLE_CAPACITY - 1], index):
                    right += BUNDLE_CAPACITY
                bundle_ring_release(ring.ring, 1)
        end_ns = kernel_ns()
    require("transactions bundled", right, operations // BUNDLE_CAPACITY * BUNDLE_CAPACITY)
    return end_ns - start_ns


def clock_read(Clock clock not None, uint64_t operations):
    """Read the clock, and check that time does not go back."""
    cdef uint64_t now_ns, start_ns, end_ns
    cdef uint64_t right = 0
    cdef uint64_t last_ns = 0
    with nogil:
        start_ns = kernel_ns()
        for _ in range(operations):
            now_ns = clock_now(clock.clock)
            right += now_ns >= last_ns
            last_ns = now_ns
        end_ns = kernel_ns()
    require("readings in order", right, operations)
    return end_ns - start_ns


def histogram_fill(LatencyHistogram histogram not None, uint64_t operations):
    """Record values from 1 ns to 1 ms; the caller compares what the histogram then holds."""
    cdef uint64_t start_ns, end_ns
    cdef uint64_t state = 1
    with nogil:
        start_ns = kernel_ns()
        for _ in range(operations):
            # A cheap sequence that a processor cannot predict: Knuth's MMIX generator.
            state = state * <uint64_t>6364136223846793005 + <uint64_t>1442695040888963407
            histogram_record(histogram.histogram, 1 + (state >> 44))
        end_ns = kernel_ns()
    require("records", histogram.count, operations)
    return end_ns - start_ns


def require(what, found, expected):
    if found != expected:
        raise LedgerError(f"{found} {what} were right, of {expected}")


cdef inline uint64_t check(risk_gate *gate, const Transaction *order) noexcept nogil:
    return risk_check(gate, order, 0) if order.side == SIDE_BID else risk_check(gate, order, 1)


def gate_check(RiskGate gate not None, orders):
    """Check orders against the limits, without sending them.

    Parameters
    ----------
    gate : RiskGate
        All of the orders must pass.
    orders : ndarray, shape (n,), dtype TRANSACTION_DTYPE
        A multiple of 8 of them.

    Returns
    -------
    int
        Nanoseconds for all of them.
    """
    cdef Py_ssize_t n, index
    cdef const Transaction *first = transactions_of(orders, &n)
    cdef risk_gate *checked = gate.gate
    cdef bint is_blocked = False
    cdef uint64_t start_ns
    if n % 8:
        raise ConfigError("must be a multiple of 8", field="len(orders)", value=n)
    with nogil:
        start_ns = kernel_ns()
        for index in range(0, n, 8):
            # Eight at a time, so that the loop itself hardly counts.
            if check(checked, &first[index]) or check(checked, &first[index + 1]) \
                    or check(checked, &first[index + 2]) or check(checked, &first[index + 3]) \
                    or check(checked, &first[index + 4]) or check(checked, &first[index + 5]) \
                    or check(checked, &first[index + 6]) or check(checked, &first[index + 7]):
                is_blocked = True
                break
        start_ns = kernel_ns() - start_ns
    if is_blocked:
        raise LedgerError(f"the gate blocked one of the orders {index} to {index + 7}")
    return start_ns
