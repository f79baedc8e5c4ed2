# distutils: extra_compile_args = -std=c11
"""A source and a sink in Cython: a runner drives both, without the GIL."""

from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memset

from velox.core.atomic cimport atomic_u64, count, load_relaxed
from velox.core.clock cimport clock_now
from velox.core.records cimport Bundle, Transaction
from velox.core.ring cimport (
    bundle_ring_peek, bundle_ring_release, transaction_ring_claim, transaction_ring_publish,
)
from velox.runtime.ingress cimport Ingress, ingress, ingress_finish, ingress_record_late
from velox.runtime.output cimport (
    Output, output, output_finish_if_drained, output_taken, output_transactions,
)
from velox.runtime.stage cimport control_stopped

from velox import Instrument


# The struct that the runner's thread works on. Its first field is the contract's.
cdef struct ladder_source:
    ingress ingress
    int64_t next_price
    int64_t last_price


cdef int ladder_do_work(void *pointer) noexcept nogil:
    """Push one batch of bids, a tick apart; return how many."""
    cdef ladder_source *self = <ladder_source *>pointer
    cdef ingress *base = &self.ingress
    cdef Transaction *slots
    cdef uint64_t room, now_ns
    cdef uint64_t n = 0
    if self.next_price > self.last_price or control_stopped(base.control):
        return ingress_finish(base)
    slots = transaction_ring_claim(base.ring, base.batch, &room)
    now_ns = clock_now(base.clock)
    while n < room and self.next_price <= self.last_price:
        memset(&slots[n], 0, sizeof(Transaction))
        slots[n].price = self.next_price
        slots[n].size = 1
        slots[n].ingress_ts_ns = now_ns
        self.next_price += 100
        n += 1
    # Count before publishing: a reader of the counters then never sees more applied than pushed.
    count(&base.generated, n)
    count(&base.pushed, n)
    transaction_ring_publish(base.ring, n)
    ingress_record_late(base, now_ns, now_ns, n)
    return <int>n


cdef class LadderIngress(Ingress):
    """Bids of one lot at `levels` prices, a cent apart, from 1.00 upwards."""

    def __cinit__(self, levels):
        cdef ladder_source *source
        self.make(sizeof(ladder_source))
        source = <ladder_source *>self.ingress
        source.next_price = 10_000
        source.last_price = 10_000 + 100 * (levels - 1)
        self.stage.do_work = ladder_do_work
        self.stage.self = source

    @property
    def instruments(self):
        """What the pipeline makes a book for."""
        return (Instrument(name="LADDER", tick_size=100),)


cdef struct volume_sink:
    output output
    atomic_u64 lots


cdef int volume_do_work(void *pointer) noexcept nogil:
    """Take one batch of bundles and sum their sizes; return how many bundles."""
    cdef volume_sink *self = <volume_sink *>pointer
    cdef output *base = &self.output
    cdef uint64_t n, i, j
    cdef uint64_t lots = 0
    cdef const Bundle *first = bundle_ring_peek(base.ring, base.batch, &n)
    if n == 0:
        return output_finish_if_drained(base)
    output_taken(base, first, n)
    for i in range(n):
        for j in range(first[i].count):
            lots += first[i].transactions[j].size
    count(&self.lots, lots)
    count(&base.delivered_bundles, n)
    count(&base.delivered_transactions, output_transactions(first, n))
    bundle_ring_release(base.ring, n)
    return <int>n


cdef class VolumeOutput(Output):
    """Sums the lots of everything that leaves."""

    def __cinit__(self):
        self.make(sizeof(volume_sink))
        self.stage.do_work = volume_do_work
        self.stage.self = self.output

    @property
    def lots(self):
        """int: Lots so far; any thread may read it."""
        return load_relaxed(&(<volume_sink *>self.output).lots)
