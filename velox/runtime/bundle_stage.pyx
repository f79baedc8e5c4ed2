"""The stage that groups records into bundles."""

cimport cython

from velox.core.atomic cimport load_relaxed
from velox.core.bundle cimport (
    bundle_builder_add,
    bundle_builder_expire,
    bundle_builder_init,
    bundle_builder_seal,
)
from velox.core.clock cimport Clock, clock_now
from velox.core.latency cimport record_since_due
from velox.core.memory cimport allocate, release_memory
from velox.core.records cimport BUNDLE_CAPACITY, SEAL_DRAIN, SEAL_IDLE, Transaction
from velox.core.ring cimport (
    BundleRing,
    TransactionRing,
    bundle_ring_close,
    transaction_ring_drained,
    transaction_ring_peek,
    transaction_ring_release,
)

from velox.core.records import SealReason
from velox.errors import ConfigError

__all__ = ["BundleStage"]

cdef enum:
    # Records that share a reading of the clock.
    ACCEPTED_TOGETHER = 4 * BUNDLE_CAPACITY


cdef uint64_t bundle_from(bundle_stage *self, transaction_ring *input, uint64_t most) \
        noexcept nogil:
    """Accept up to `most` records of one lane, and return how many were accepted."""
    cdef uint64_t available, start, end, now_ns
    cdef uint64_t done = 0
    cdef uint32_t accepted = 1
    cdef const Transaction *first = transaction_ring_peek(input, most, &available)
    while done < available and accepted > 0:
        # One clock reading serves all records that are accepted together. A reading costs as much
        # as a bundle, so a backlog of a few bundles shares one. The last of them is then dated some
        # tens of ns too early.
        now_ns = clock_now(self.clock)
        bundle_builder_expire(&self.builder, now_ns)
        start = done
        end = min(available, start + ACCEPTED_TOGETHER)
        while done < end and accepted > 0:
            accepted = bundle_builder_add(&self.builder, first + done, end - done, now_ns)
            done += accepted
        record_since_due(self.transit, first + start, done - start, now_ns)
    transaction_ring_release(input, done)
    return done


cdef bint all_drained(bundle_stage *self) noexcept nogil:
    cdef uint32_t i
    for i in range(self.input_count):
        if not transaction_ring_drained(self.inputs[i]):
            return False
    return True


cdef int bundle_do_work(void *pointer) noexcept nogil:
    cdef bundle_stage *self = <bundle_stage *>pointer
    cdef uint64_t done = 0
    cdef uint32_t _
    for _ in range(self.input_count):
        done += bundle_from(self, self.inputs[self.next_input], self.batch)
        self.next_input = (self.next_input + 1) % self.input_count
    if done > 0:
        return <int>done
    if self.builder.open != NULL:
        if self.seal_when_idle:
            bundle_builder_seal(&self.builder, SEAL_IDLE, clock_now(self.clock))
            return 1
        if bundle_builder_expire(&self.builder, clock_now(self.clock)):
            return 1
    if all_drained(self):
        if self.builder.open != NULL:
            bundle_builder_seal(&self.builder, SEAL_DRAIN, clock_now(self.clock))
        bundle_ring_close(self.builder.ring)
        self.stage.finished = True
    return 0


cdef uint64_t bundle_deadline(void *pointer) noexcept nogil:
    return (<bundle_stage *>pointer).builder.deadline_ns


@cython.final
cdef class BundleStage(Stage):
    """Seals bundles of sixteen, or what there is by the deadline.

    Parameters
    ----------
    inputs : sequence of TransactionRing
        One a lane, 1 to 16; each call takes from all of them, in turn.
    output : BundleRing
    clock : Clock
    timeout_ns : int
        How long a bundle stays open after its first transaction.
    seal_when_idle : bool
        Whether a bundle is also sealed as soon as no lane has a record.
    batch : int
        The most records that one call takes from a lane.

    Attributes
    ----------
    transit : LatencyHistogram
        Due to accepted, in ns, one value a transaction.
    hold : LatencyHistogram
        Accepted to sealed, in ns, one value a transaction.

    Raises
    ------
    ConfigError
        There are too few or too many inputs, or one is not a TransactionRing.
    """

    def __cinit__(self, inputs, BundleRing output not None, Clock clock not None, *,
                  timeout_ns=100_000, seal_when_idle=False, batch=256):
        cdef TransactionRing ring
        inputs = tuple(inputs)
        if not 1 <= len(inputs) <= MAX_LANES:
            raise ConfigError(
                f"a bundle stage takes 1 to {MAX_LANES} rings, not {len(inputs)}", field="inputs")
        for index, each in enumerate(inputs):
            if not isinstance(each, TransactionRing):
                raise ConfigError(
                    f"must be a TransactionRing, not {type(each).__name__}",
                    field=f"inputs[{index}]")
        self.name = "bundle"
        self.kept = [inputs, output, clock]
        self.transit = LatencyHistogram()
        self.hold = LatencyHistogram()
        self.bundle_stage = <bundle_stage *>allocate(sizeof(bundle_stage))
        if self.bundle_stage == NULL:
            raise MemoryError("no memory for a bundle stage")
        self.bundle_stage.stage = &self.stage
        output.attach_producer()
        for index, ring in enumerate(inputs):
            ring.attach_consumer()
            self.bundle_stage.inputs[index] = ring.ring
        self.bundle_stage.input_count = len(inputs)
        self.bundle_stage.clock = clock.clock
        self.bundle_stage.batch = batch
        self.bundle_stage.seal_when_idle = seal_when_idle
        self.bundle_stage.transit = self.transit.histogram
        bundle_builder_init(&self.bundle_stage.builder, output.ring, self.hold.histogram,
                            timeout_ns)
        self.stage.do_work = bundle_do_work
        self.stage.deadline = bundle_deadline
        self.stage.self = self.bundle_stage

    def __dealloc__(self):
        release_memory(self.bundle_stage)

    @property
    def sealed(self):
        """dict of str to int: Bundles sealed, by the lower-case name of the `SealReason`."""
        return {
            reason.name.lower(): load_relaxed(&self.bundle_stage.builder.sealed[<int>reason])
            for reason in SealReason
        }

    @property
    def sealed_transactions(self):
        """int: Records in the bundles sealed."""
        return load_relaxed(&self.bundle_stage.builder.sealed_transactions)
