"""The stage that groups records into bundles."""

from libc.stdint cimport uint32_t, uint64_t

from velox.core.bundle cimport MAX_LANES, bundle_builder
from velox.core.clock cimport clock_source
from velox.core.histogram cimport LatencyHistogram, histogram
from velox.core.ring cimport transaction_ring
from velox.runtime.stage cimport Stage, stage

cdef struct bundle_stage:
    stage *stage
    transaction_ring *inputs[MAX_LANES]
    uint32_t input_count
    uint32_t next_input             # where the next call begins: no lane starves another
    const clock_source *clock
    uint64_t batch
    bint seal_when_idle
    histogram *transit              # due -> accepted into an open bundle, in ns
    bundle_builder builder


cdef class BundleStage(Stage):
    cdef bundle_stage *bundle_stage
    cdef readonly LatencyHistogram transit
    cdef readonly LatencyHistogram hold
