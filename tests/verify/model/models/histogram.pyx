"""The histogram: one thread records, another takes snapshots.

Claimed: a snapshot is the histogram of exactly the first n records, for an n that never falls;
where it cannot be had, the reader is told; a record brings the writer to the reader's interval.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memset

from velox.core.atomic cimport load_relaxed, store_release
from velox.core.histogram cimport (
    histogram, histogram_add, histogram_half_of, histogram_index, histogram_new, histogram_read,
    histogram_reading, histogram_record_n,
)

from models.model cimport check, model_allocate, model_finish, model_name, model_thread

cdef enum:
    MOST_RECORDS = 8
    MOST_COUNTS = 64

cdef struct plan:
    histogram *recorded
    uint64_t before                     # of the records: made before the threads start
    uint64_t records
    uint64_t values[MOST_RECORDS]
    uint64_t times[MOST_RECORDS]        # 0: added as a reading of this one value, all at once
    uint64_t snapshots
    uint64_t taken
    bint given_up                       # there was a snapshot before these, which failed
    histogram_reading reading
    uint64_t counts[MOST_COUNTS]
    histogram_reading added
    uint64_t added_counts[MOST_COUNTS]


cdef void record(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t number, value
    for number in range(self.before, self.records):
        value = self.values[number]
        if self.times[number] > 0:
            histogram_record_n(self.recorded, value, self.times[number])
            continue
        memset(self.added_counts, 0, sizeof(self.added_counts))
        self.added.counts = self.added_counts
        self.added.count = 1
        self.added.minimum = self.added.maximum = value
        self.added.saturated = value > self.recorded.limit
        self.added_counts[histogram_index(
            self.recorded, min(value, self.recorded.limit))] = 1
        histogram_add(self.recorded, &self.added)


cdef void check_prefix(plan *self, uint64_t least) noexcept nogil:
    """That `reading` is what the first so many records come to, and no fewer than `least`."""
    cdef uint64_t counts[MOST_COUNTS]
    cdef uint64_t number = 0, count = 0, minimum = <uint64_t>-1, maximum = 0, saturated = 0
    cdef uint64_t value, times, index
    memset(counts, 0, sizeof(counts))
    while count < self.reading.count and number < self.records:
        value = self.values[number]
        times = max(self.times[number], <uint64_t>1)
        counts[histogram_index(self.recorded, min(value, self.recorded.limit))] += times
        count += times
        minimum = min(minimum, value)
        maximum = max(maximum, value)
        if value > self.recorded.limit:
            saturated += times
        number += 1
    check(count == self.reading.count, "a snapshot has seen a number of whole records")
    check(count >= least, "a later snapshot has seen no less")
    check(self.reading.saturated == saturated, "the saturated are those of the records seen")
    check(self.reading.minimum == minimum, "the minimum is that of the records seen")
    check(self.reading.maximum == maximum, "the maximum is that of the records seen")
    for index in range(self.recorded.counts_length):
        check(self.reading.counts[index] == counts[index], "the counts are of the records seen")


cdef void take_snapshots(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t _number, seen = 0
    if self.given_up:
        # As a snapshot that has ended with no news of the writer leaves it.
        store_release(&self.recorded.interval, 1)
    for _number in range(self.snapshots):
        if histogram_read(self.recorded, &self.reading):
            self.taken += 1
            check_prefix(self, seen)
            seen = self.reading.count


cdef void take_last(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t number, total = 0
    for number in range(self.records):
        total += max(self.times[number], <uint64_t>1)
    check(histogram_read(self.recorded, &self.reading), "a histogram that rests can be read")
    check_prefix(self, total)
    histogram_record_n(self.recorded, self.values[0], 1)
    check(load_relaxed(&self.recorded.interval_seen) == load_relaxed(&self.recorded.interval),
          "a record brings the writer to the reader's interval")


# Names that traces use: they must outlive the preparation.
KEPT = []


def prepare(values, times=None, snapshots=1, before=0, given_up=False):
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    self.recorded = histogram_new(1, 2, 1)
    self.records = len(values)
    for number, value in enumerate(values):
        self.values[number] = value
        self.times[number] = 1 if times is None else times[number]
    self.snapshots = snapshots
    self.before = before
    for number in range(before):
        histogram_record_n(self.recorded, self.values[number], self.times[number])
    self.given_up = given_up
    self.reading.counts = self.counts
    model_name(self, "plan")
    model_name(self.recorded, "histogram")
    model_name(&self.recorded.interval, "interval")
    model_name(&self.recorded.interval_seen, "interval_seen")
    model_name(&self.recorded.version, "version")
    for half, name in enumerate((b"half 0", b"half 1")):
        KEPT.append(name)
        model_name(histogram_half_of(self.recorded, half), <const char *>name)
        name = name + b".counts"
        KEPT.append(name)
        model_name(&histogram_half_of(self.recorded, half).counts, <const char *>name)
    model_thread("writer", record, self)
    model_thread("reader", take_snapshots, self)
    model_finish(take_last, self)
