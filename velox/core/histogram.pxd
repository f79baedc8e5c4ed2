"""A histogram of latencies: one thread records, and any other takes exact snapshots.

Buckets are those of HDR histograms. Within each power of two they are equally wide, so that a
bucket is never wider than its values times 10**-digits. With `magnitude` = log2 of half the
sub-buckets and `unit` = log2(lowest), the bucket of v, whose highest bit is e (no less than
magnitude + unit)::

    index = ((e - magnitude - unit) << magnitude) + (v >> (e - magnitude))

One block of 128-byte units, sized when it is made::

    +--------------------------------------------------------------+
  0 | constants of the layout              | interval               |  reader: one store a snapshot
    +--------------------------------------------------------------+
128 | interval_seen | version                                      |  writer: rarely
    +--------------------------------------------------------------+
256 | half 0: minimum | ceiling | maximum | saturated              |  writer: rarely
384 |         counts[counts_length]                                |  writer: every record
    +--------------------------------------------------------------+
    | half 1: the same                                             |
    +--------------------------------------------------------------+

A snapshot is the histogram of exactly the first n records, for some n that never falls
--------------------------------------------------------------------------------------
What has been recorded is the sum of the two halves. The lowest bit of `interval` names the half
into which the writer records. The writer stores the interval that it has reached in
`interval_seen`. The reader copies the half that is not in use and starts the next interval. It
waits until the writer has reached that, and adds the half that the writer has left. So the copy
holds everything written before the switch and nothing written after it.

An idle writer never sees the switch, but then neither half changes. The reader adds them up twice.
Counts only grow, so two equal sums held at the same time. Each count is stored with release, so a
reader that saw one record saw all records before it. Equal sums are therefore the sums of the first
n records, for some n. A record that changes an extreme stores more than one word. It marks its
beginning and its end in `version`, as a sequence lock does.

The writer never waits and executes no locked instruction. Almost every record is one store.
"""

from cython cimport unlikely
from libc.stdint cimport uint64_t

from velox.core.atomic cimport atomic_u64, load_acquire, load_relaxed, store_release

cdef extern from *:
    """
    #ifndef VELOX_HISTOGRAM_INCLUDED
    #define VELOX_HISTOGRAM_INCLUDED
    typedef struct {
        _Alignas(128) _Atomic(uint64_t) minimum;
        _Atomic(uint64_t) ceiling;
        _Atomic(uint64_t) maximum;
        _Atomic(uint64_t) saturated;
        _Alignas(128) _Atomic(uint64_t) counts[];
    } velox_histogram_half;

    typedef struct {
        _Alignas(128) uint64_t lowest;
        uint64_t highest;
        uint64_t limit;
        uint64_t sub_bucket_mask;
        uint64_t counts_length;
        uint64_t half_bytes;
        uint64_t block_bytes;
        uint32_t significant_digits;
        uint32_t unit;
        uint32_t magnitude;
        _Atomic(uint64_t) interval;
        _Alignas(128) _Atomic(uint64_t) interval_seen;
        _Atomic(uint64_t) version;
    } velox_histogram;

    #define velox_highest_bit(v) (63 - __builtin_clzll(v))
    #endif
    """
    ctypedef struct histogram_half "velox_histogram_half":
        atomic_u64 minimum           # UINT64_MAX while the half is empty
        atomic_u64 ceiling           # the maximum, or the limit if that is less
        atomic_u64 maximum
        atomic_u64 saturated
        atomic_u64 counts[]

    ctypedef struct histogram "velox_histogram":
        uint64_t lowest
        uint64_t highest
        uint64_t limit               # the largest value that has a bucket of its own
        uint64_t sub_bucket_mask
        uint64_t counts_length
        uint64_t half_bytes
        uint64_t block_bytes
        unsigned int significant_digits
        unsigned int unit
        unsigned int magnitude
        atomic_u64 interval
        atomic_u64 interval_seen
        atomic_u64 version           # odd within a record that changes an extreme

    int highest_bit "velox_highest_bit"(uint64_t value) noexcept nogil

# NULL where there is no memory; the arguments are checked by `histogram_arguments_fault`.
cdef histogram *histogram_new(
    uint64_t lowest, uint64_t highest, unsigned int significant_digits) noexcept nogil
cdef void histogram_free(histogram *h) noexcept nogil


cdef inline histogram_half *histogram_half_of(histogram *h, uint64_t interval) noexcept nogil:
    return <histogram_half *>(<char *>h + sizeof(histogram) + (interval & 1) * h.half_bytes)


cdef inline uint64_t histogram_index(const histogram *h, uint64_t value) noexcept nogil:
    """The bucket of a value, which must not be over `h.limit`."""
    cdef int exponent = highest_bit(value | h.sub_bucket_mask)
    cdef int shift = exponent - h.magnitude
    return (<uint64_t>(shift - h.unit) << h.magnitude) + (value >> shift)


# Add a record that changes more than its bucket, or is the first of an interval.
cdef void histogram_record_rare(
    histogram *h, uint64_t interval, uint64_t value_ns, uint64_t n) noexcept nogil


cdef inline void histogram_record_n(histogram *h, uint64_t value_ns, uint64_t n) noexcept nogil:
    """Record a value `n` times. A value over `h.limit` counts in the last bucket, as saturated."""
    # Acquire pairs with the reader's switch: its copy of this half is finished.
    cdef uint64_t interval = load_acquire(&h.interval)
    cdef histogram_half *half = histogram_half_of(h, interval)
    cdef atomic_u64 *bucket
    # Relaxed loads throughout: the writer reads what it alone writes.
    if unlikely(value_ns < load_relaxed(&half.minimum) or value_ns > load_relaxed(&half.ceiling)
                or load_relaxed(&h.interval_seen) != interval):
        histogram_record_rare(h, interval, value_ns, n)
        return
    bucket = &half.counts[histogram_index(h, value_ns)]
    # Release: a thread that sees this record sees all before it.
    store_release(bucket, load_relaxed(bucket) + n)


cdef inline void histogram_record(histogram *h, uint64_t value_ns) noexcept nogil:
    """Record a value. One thread records into a histogram."""
    histogram_record_n(h, value_ns, 1)


# What a snapshot read: `counts` belongs to the caller and has `counts_length` elements.
cdef struct histogram_reading:
    uint64_t count
    uint64_t minimum
    uint64_t maximum
    uint64_t saturated
    uint64_t *counts

# False if a busy writer stopped in the middle of a record; the caller then tries again. One thread
# reads at a time.
cdef bint histogram_read(histogram *h, histogram_reading *reading) noexcept nogil
# As the writer.
cdef void histogram_add(histogram *h, const histogram_reading *reading) noexcept nogil


cdef class Reading:
    cdef histogram_reading values
    cdef object counts


cdef class LatencyHistogram:
    cdef histogram *histogram
    cdef object reading_lock
    cdef object recording_lock
    cdef bint recording                 # a thread records without the GIL
    cdef unsigned long process          # which process, counted by forks, that thread is in
    cdef Reading read(self)
    cdef int wait_for_turn(self) except -1
