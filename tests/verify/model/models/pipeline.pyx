"""Three stages and their end: a source, the pipeline's own bundle stage, and a taker of bundles.

The middle is the object that `velox.Pipeline` runs, called through its C function. Claimed: stopped
at any moment, each thread ends; what was pushed is delivered, once, in order, in bundles that say
how many they hold, and once its time is up, without an end; the stage's counts agree.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from velox.core.atomic cimport atomic_u64, load_acquire, load_relaxed, store_release
from velox.core.clock cimport Clock, clock_set_virtual, clock_source
from velox.core.records cimport BUNDLE_CAPACITY, SEAL_REASONS, Bundle, Transaction
from velox.core.ring cimport (
    BundleRing, TransactionRing, bundle_ring, bundle_ring_drained, bundle_ring_peek,
    bundle_ring_release, transaction_ring, transaction_ring_claim, transaction_ring_close,
    transaction_ring_length, transaction_ring_publish,
)
from velox.runtime.bundle_stage cimport BundleStage, bundle_stage
from velox.runtime.stage cimport control, control_stop, control_stopped, stage

from models.model cimport (
    check, model_allocate, model_finish, model_name, model_thread, wait,
)

from velox.core.clock import Clock
from velox.core.ring import BundleRing, TransactionRing
from velox.runtime.bundle_stage import BundleStage

cdef enum:
    LANES = 2

cdef struct plan:
    uint32_t lanes
    transaction_ring *transactions[LANES]
    bundle_ring *bundles
    bundle_stage *middle
    stage stage                     # the stage's own lies in a Python object
    control control
    clock_source *clock
    uint64_t now_ns
    uint64_t items                  # of each lane
    uint64_t pushed[LANES]
    uint64_t delivered[LANES]
    uint64_t bundle_count
    bint stays_open                 # the source ends only when all has been delivered
    atomic_u64 told                 # transactions delivered, for the source


cdef void source(plan *self, uint32_t lane) noexcept nogil:
    cdef transaction_ring *ring = self.transactions[lane]
    cdef uint64_t granted
    cdef Transaction *slot
    while self.pushed[lane] < self.items and not control_stopped(&self.control):
        slot = transaction_ring_claim(ring, 1, &granted)
        if granted == 0:
            wait()
            continue
        memset(slot, 0, sizeof(Transaction))
        slot.id = self.pushed[lane]
        slot.market = lane
        transaction_ring_publish(ring, 1)
        self.pushed[lane] += 1
    if self.stays_open:
        # Their timeout begins when they are accepted, and seals the bundle when it has passed.
        while transaction_ring_length(ring) > 0:
            wait()
        clock_set_virtual(self.clock, self.now_ns)
        while load_acquire(&self.told) < self.items:
            wait()
    transaction_ring_close(ring)


cdef void first_source(void *state) noexcept nogil:
    source(<plan *>state, 0)


cdef void second_source(void *state) noexcept nogil:
    source(<plan *>state, 1)


cdef void bundle(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    while not self.stage.finished:
        if self.stage.do_work(self.stage.self) == 0 and not self.stage.finished:
            wait()


cdef void take(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t granted
    cdef uint32_t index, lane
    cdef Bundle *first
    while True:
        first = bundle_ring_peek(self.bundles, 1, &granted)
        if granted == 0:
            if bundle_ring_drained(self.bundles):
                break
            wait()
            continue
        check(1 <= first.count <= BUNDLE_CAPACITY, "a bundle holds 1 to 16 transactions")
        for index in range(first.count):
            lane = first.transactions[index].market
            check(lane < self.lanes and first.transactions[index].id == self.delivered[lane],
                  "what was pushed arrives once and in order")
            self.delivered[lane] += 1
        for index in range(first.count, BUNDLE_CAPACITY):
            check(first.transactions[index].id == 0 and first.transactions[index].market == 0,
                  "nothing of an older bundle leaves with a newer one")
        self.bundle_count += 1
        # Release, of the model's own.
        store_release(&self.told, self.delivered[0])
        bundle_ring_release(self.bundles, 1)


cdef void stop(void *state) noexcept nogil:
    control_stop(&(<plan *>state).control)


cdef void pass_time(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    clock_set_virtual(self.clock, self.now_ns)


cdef void balance(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t pushed = 0, sealed = 0
    cdef uint32_t index
    for index in range(self.lanes):
        pushed += self.pushed[index]
        check(self.delivered[index] == self.pushed[index], "what was pushed was delivered")
    for index in range(SEAL_REASONS):
        sealed += load_relaxed(&self.middle.builder.sealed[index])
    check(sealed == self.bundle_count, "each bundle that was sealed was taken")
    check(load_relaxed(&self.middle.builder.sealed_transactions) == pushed,
          "the stage counts what it sealed")
    check(self.middle.builder.open == NULL, "no bundle is left open")


def prepare(items, transactions=2, bundles=1, lanes=1, seal_when_idle=True, stopped=False,
            timed=False, stays_open=False):
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    cdef BundleRing output = BundleRing(bundles)
    cdef Clock clock = Clock("virtual")
    cdef TransactionRing ring
    cdef BundleStage middle
    inputs = [TransactionRing(transactions) for _ in range(lanes)]
    middle = BundleStage(
        inputs, output, clock, timeout_ns=100, seal_when_idle=seal_when_idle, batch=2)
    self.items = items
    self.lanes = lanes
    self.stays_open = stays_open
    self.clock = clock.clock
    self.now_ns = clock.now() + 100
    self.bundles = output.ring
    self.middle = middle.bundle_stage
    self.stage = middle.stage
    self.middle.stage = &self.stage
    model_name(self, "plan")
    model_name(&self.control, "control")
    model_name(&self.clock.virtual_ns, "time")
    model_name(self.middle, "stage")
    for index, ring in enumerate(inputs):
        self.transactions[index] = ring.ring
        model_name(&ring.ring.head, "input.head")
        model_name(&ring.ring.closed, "input.closed")
        model_name(&ring.ring.tail, "input.tail")
    model_name(&self.bundles.head, "output.head")
    model_name(&self.bundles.closed, "output.closed")
    model_name(&self.bundles.tail, "output.tail")
    model_thread("source", first_source, self)
    if lanes > 1:
        model_thread("source 2", second_source, self)
    model_thread("bundle", bundle, self)
    model_thread("taker", take, self)
    if stopped:
        model_thread("stopper", stop, self)
    if timed:
        model_thread("time", pass_time, self)
    model_finish(balance, self)
    return inputs, output, clock, middle
