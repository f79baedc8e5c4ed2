"""LatencyHistogram: the Python API of the histogram, and the reader's part of its protocol."""

cimport cython
cimport numpy as cnp
from cpython.exc cimport PyErr_CheckSignals
from libc.stdint cimport INT64_MAX, int64_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset

from velox.core.atomic cimport (
    give_core_away, load_acquire, load_relaxed, relax, store_relaxed, store_release,
)
from velox.core.memory cimport STATIC_ASSERT, allocate
from velox.core.process cimport forks

from math import nan
from threading import Lock

import numpy as np

from velox.errors import ConfigError, RecordError

cnp.import_array()

__all__ = ["HOUR_NS", "LatencyHistogram"]

cdef enum:
    # How often a reader checks `interval_seen` before it assumes that the writer is idle.
    LOOKS = 4096
    ROUNDS = 64

cdef uint64_t NONE_YET = <uint64_t>-1
# The percentiles of `to_dict`.
cdef dict FIGURES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9}
cdef uint64_t LARGEST = <uint64_t>INT64_MAX

HOUR_NS = 3_600_000_000_000


cdef void assert_layout() noexcept nogil:
    STATIC_ASSERT(sizeof(histogram) == 256)
    STATIC_ASSERT(<size_t>&(<histogram *>NULL).interval < 128)
    STATIC_ASSERT(<size_t>&(<histogram *>NULL).interval_seen == 128)
    STATIC_ASSERT(<size_t>&(<histogram *>NULL).version == 136)
    STATIC_ASSERT(<size_t>&(<histogram_half *>NULL).minimum == 0)
    STATIC_ASSERT(<size_t>&(<histogram_half *>NULL).ceiling == 8)
    STATIC_ASSERT(<size_t>&(<histogram_half *>NULL).maximum == 16)
    STATIC_ASSERT(<size_t>&(<histogram_half *>NULL).saturated == 24)
    STATIC_ASSERT(<size_t>&(<histogram_half *>NULL).counts == 128)


assert_layout()


cdef histogram *histogram_new(
        uint64_t lowest, uint64_t highest, unsigned int significant_digits) noexcept nogil:
    cdef unsigned int unit = highest_bit(lowest)
    cdef unsigned int magnitude = 0
    cdef uint64_t resolved = 1
    cdef unsigned int _digit, buckets
    cdef uint64_t half_bytes
    cdef histogram *h
    # Twice 10**digits sub-buckets, the upper half of which divides each power of two.
    for _digit in range(significant_digits):
        resolved *= 10
    while (<uint64_t>1 << magnitude) < resolved:
        magnitude += 1
    buckets = 1
    while magnitude + unit + buckets < 63 and highest >> (magnitude + unit + buckets) != 0:
        buckets += 1
    half_bytes = sizeof(histogram_half) + (<uint64_t>(buckets + 1) << magnitude) * 8
    half_bytes = (half_bytes + 127) & ~<uint64_t>127
    h = <histogram *>allocate(sizeof(histogram) + 2 * half_bytes)
    if h == NULL:
        return NULL
    h.lowest = lowest
    h.highest = highest
    h.significant_digits = significant_digits
    h.unit = unit
    h.magnitude = magnitude
    h.sub_bucket_mask = ((<uint64_t>2 << magnitude) - 1) << unit
    h.counts_length = <uint64_t>(buckets + 1) << magnitude
    h.limit = (<uint64_t>1 << (magnitude + unit + buckets)) - 1
    h.half_bytes = half_bytes
    h.block_bytes = sizeof(histogram) + 2 * half_bytes
    # Relaxed: no other thread knows the block yet.
    store_relaxed(&histogram_half_of(h, 0).minimum, NONE_YET)
    store_relaxed(&histogram_half_of(h, 1).minimum, NONE_YET)
    return h


cdef void histogram_free(histogram *h) noexcept nogil:
    free(h)


cdef void begin_change(histogram *h) noexcept nogil:
    # Relaxed: each store of the change is a release, before which this one is seen.
    store_relaxed(&h.version, load_relaxed(&h.version) + 1)


cdef void end_change(histogram *h) noexcept nogil:
    # Release: a thread that sees this sees the whole change.
    store_release(&h.version, load_relaxed(&h.version) + 1)


cdef void enter(histogram *h, uint64_t interval) noexcept nogil:
    if load_relaxed(&h.interval_seen) != interval:
        # Release: all records in the half that the writer leaves come before this.
        store_release(&h.interval_seen, interval)


cdef void widen(histogram *h, histogram_half *half, uint64_t minimum, uint64_t maximum,
                uint64_t saturated) noexcept nogil:
    if minimum < load_relaxed(&half.minimum):
        store_release(&half.minimum, minimum)
    if maximum > load_relaxed(&half.maximum):
        store_release(&half.maximum, maximum)
        # Relaxed: the writer alone reads it.
        store_relaxed(&half.ceiling, min(maximum, h.limit))
    if saturated != 0:
        store_release(&half.saturated, load_relaxed(&half.saturated) + saturated)


cdef void histogram_record_rare(
        histogram *h, uint64_t interval, uint64_t value_ns, uint64_t n) noexcept nogil:
    cdef histogram_half *half = histogram_half_of(h, interval)
    cdef atomic_u64 *bucket = &half.counts[histogram_index(h, min(value_ns, h.limit))]
    if n == 0:
        return
    enter(h, interval)
    begin_change(h)
    store_release(bucket, load_relaxed(bucket) + n)
    widen(h, half, value_ns, value_ns, n if value_ns > h.limit else 0)
    end_change(h)


cdef void histogram_add(histogram *h, const histogram_reading *reading) noexcept nogil:
    # Acquire as in histogram_record_n.
    cdef uint64_t interval = load_acquire(&h.interval)
    cdef histogram_half *half = histogram_half_of(h, interval)
    cdef uint64_t index
    if reading.count == 0:
        return
    enter(h, interval)
    begin_change(h)
    for index in range(h.counts_length):
        if reading.counts[index] != 0:
            store_release(&half.counts[index],
                          load_relaxed(&half.counts[index]) + reading.counts[index])
    widen(h, half, reading.minimum, reading.maximum, reading.saturated)
    end_change(h)


cdef void clear_reading(histogram *h, histogram_reading *reading) noexcept nogil:
    reading.count = 0
    reading.minimum = NONE_YET
    reading.maximum = 0
    reading.saturated = 0
    memset(reading.counts, 0, h.counts_length * sizeof(uint64_t))


cdef void read_half(
        histogram *h, histogram_half *half, histogram_reading *reading) noexcept nogil:
    # Acquire throughout: if the writer is idle, each later load of the reader is no older than
    # this.
    cdef uint64_t minimum = load_acquire(&half.minimum)
    cdef uint64_t maximum = load_acquire(&half.maximum)
    cdef uint64_t count, index
    reading.saturated += load_acquire(&half.saturated)
    reading.minimum = min(reading.minimum, minimum)
    reading.maximum = max(reading.maximum, maximum)
    for index in range(h.counts_length):
        count = load_acquire(&half.counts[index])
        reading.counts[index] += count
        reading.count += count


cdef bint read_idle(histogram *h, histogram_reading *reading) noexcept nogil:
    """Add up both halves twice.

    False if the writer recorded meanwhile, or is in the middle of a change.
    """
    # Acquire: the changes up to this version are seen whole.
    cdef uint64_t version = load_acquire(&h.version)
    cdef histogram_half *first = histogram_half_of(h, 0)
    cdef histogram_half *second = histogram_half_of(h, 1)
    cdef uint64_t index
    if version & 1:
        return False
    clear_reading(h, reading)
    read_half(h, first, reading)
    read_half(h, second, reading)
    for index in range(h.counts_length):
        # Relaxed: two counts that only grow have equal sums only if both are equal. The acquires of
        # the first pass keep these loads after it, and make all earlier stores visible.
        if load_relaxed(&first.counts[index]) + load_relaxed(&second.counts[index]) \
                != reading.counts[index]:
            return False
    # Relaxed: every load of the first pass was an acquire, so this one is after them.
    return load_relaxed(&h.version) == version


cdef bint read_busy(histogram *h, histogram_reading *reading) noexcept nogil:
    """Switch the writer to the other half. False if the writer did not reach it."""
    # Relaxed: readers take turns, and only they write it.
    cdef uint64_t interval = load_relaxed(&h.interval)
    cdef int _look
    # Acquire: this thread sees what the writer did before it left the other half.
    if load_acquire(&h.interval_seen) != interval:
        return False
    clear_reading(h, reading)
    read_half(h, histogram_half_of(h, interval + 1), reading)
    # Release: the copy is finished before the writer may record over what it copied.
    store_release(&h.interval, interval + 1)
    for _look in range(LOOKS):
        # Acquire, as above.
        if load_acquire(&h.interval_seen) == interval + 1:
            read_half(h, histogram_half_of(h, interval), reading)
            return True
        relax()
    return False


cdef bint histogram_read(histogram *h, histogram_reading *reading) noexcept nogil:
    cdef int _attempt
    for _attempt in range(ROUNDS):
        if read_idle(h, reading) or read_busy(h, reading):
            return True
        give_core_away()
    return False


cdef void reset(histogram *h) noexcept nogil:
    # Relaxed: the caller is writer and reader in one.
    cdef uint64_t side, index
    cdef histogram_half *half
    for side in range(2):
        half = histogram_half_of(h, side)
        store_relaxed(&half.minimum, NONE_YET)
        store_relaxed(&half.ceiling, 0)
        store_relaxed(&half.maximum, 0)
        store_relaxed(&half.saturated, 0)
        for index in range(h.counts_length):
            store_relaxed(&half.counts[index], 0)


cdef uint64_t lowest_of(const histogram *h, uint64_t index) noexcept nogil:
    """The lowest value of a bucket. For the bucket after the last, it is the limit + 1."""
    cdef uint64_t half_count = <uint64_t>1 << h.magnitude
    cdef uint64_t bucket = index >> h.magnitude
    if bucket == 0:
        return index << h.unit
    return ((index & (half_count - 1)) + half_count) << (bucket - 1 + h.unit)


cdef uint64_t value_at(
        const histogram *h, const histogram_reading *reading, double percentile) noexcept nogil:
    """Return the upper end of the bucket with the percentile's rank, as HdrHistogram does."""
    cdef uint64_t rank = <uint64_t>(percentile * <double>reading.count / 100.0 + 0.5)
    cdef uint64_t total = 0
    cdef uint64_t index
    if rank == 0:
        rank = 1
    for index in range(h.counts_length):
        total += reading.counts[index]
        if total >= rank:
            return lowest_of(h, index + 1) - 1 if percentile > 0.0 else lowest_of(h, index)
    return 0


cdef double mean_of(const histogram *h, const histogram_reading *reading) noexcept nogil:
    cdef double total = 0.0
    cdef uint64_t index, lowest
    for index in range(h.counts_length):
        if reading.counts[index] != 0:
            lowest = lowest_of(h, index)
            total += <double>reading.counts[index] * (
                lowest + ((lowest_of(h, index + 1) - lowest) >> 1))
    return total / reading.count if reading.count != 0 else 0.0


def checked_layout(lowest, highest, significant_digits):
    """Validate the parameters of a histogram."""
    for field, value in (("lowest", lowest), ("highest", highest),
                         ("significant_digits", significant_digits)):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ConfigError("must be an integer", field=field, value=value)
    if not 1 <= significant_digits <= 5:
        raise ConfigError("must be 1 to 5", field="significant_digits", value=significant_digits)
    if lowest < 1:
        raise ConfigError("must be at least 1", field="lowest", value=lowest)
    if not 2 * lowest <= highest <= LARGEST:
        raise ConfigError(
            f"must be at least twice lowest = {lowest}, and below 2**63",
            field="highest", value=highest)
    if (int(lowest) * 10 ** int(significant_digits)).bit_length() > 60:
        raise ConfigError(
            f"too large for {significant_digits} digits", field="lowest", value=lowest)


def checked_percentile(percentile):
    """Return it as a float from 0 to 100."""
    try:
        # Text is no number here, though float() reads it.
        number = nan if isinstance(percentile, str | bytes | bool) else float(percentile)
    except (TypeError, ValueError, OverflowError):
        number = nan
    if not 0.0 <= number <= 100.0:
        raise ConfigError("must be a number from 0 to 100", field="percentile", value=percentile)
    return number


cdef cnp.ndarray checked_array(object values, str name, tuple dtypes):
    if not isinstance(values, np.ndarray) or values.dtype not in dtypes:
        raise RecordError(
            f"expected an array of {' or '.join(str(dtype) for dtype in dtypes)}; got "
            f"{values.dtype if isinstance(values, np.ndarray) else type(values).__name__}",
            field=name)
    if values.ndim != 1 or not values.flags.c_contiguous:
        raise RecordError(
            f"expected a contiguous one-dimensional array; got shape {values.shape}, strides "
            f"{values.strides}",
            field=name)
    return values


UNSIGNED = np.dtype(np.uint64)
SIGNED = np.dtype(np.int64)


@cython.final
cdef class Reading:
    """A snapshot's figures, with the memory that its counts lie in."""


@cython.final
cdef class LatencyHistogram:
    """A histogram of latencies, with buckets of constant relative width (HDR).

    Parameters
    ----------
    lowest : int, default 1
        The smallest difference of interest, in nanoseconds; at least 1.
    highest : int, default one hour
        The largest value of interest, in nanoseconds; at least ``2 * lowest``, below ``2**63``.
    significant_digits : int, default 2
        1 to 5. A bucket is never wider than ``10**-significant_digits`` of its values.

    Raises
    ------
    ConfigError
        A parameter out of its range; the message names it and its value.

    Notes
    -----
    **Memory**: fixed. Two halves of 36 KiB by default, one of which is in use between snapshots.

    **Thread-safety**: one thread records at a time (`record`, `record_many`, `merge` into this one,
    `reset`). Another thread that records waits for the end of a `record_many`. A stage that records
    in C is not detected: no call waits for it. Any number of threads may read meanwhile. A reading
    covers exactly the first ``n`` records, for an ``n`` that never falls. Call `reset` only while
    no thread reads.

    Buckets, percentiles and `mean` are those of HdrHistogram (G. Tene,
    https://github.com/HdrHistogram). `min` and `max` are exact.

    Examples
    --------
    >>> from velox.core.histogram import LatencyHistogram
    >>> latency = LatencyHistogram()
    >>> for ns in (80, 90, 100, 5_000):
    ...     latency.record(ns)
    >>> latency.count, latency.min, latency.max
    (4, 80, 5000)
    >>> latency.percentile(50)
    90
    """

    def __cinit__(self, lowest=1, highest=HOUR_NS, significant_digits=2):
        checked_layout(lowest, highest, significant_digits)
        self.histogram = histogram_new(lowest, highest, significant_digits)
        if self.histogram == NULL:
            raise MemoryError
        self.reading_lock = Lock()
        self.recording_lock = Lock()
        self.process = forks

    def __dealloc__(self):
        histogram_free(self.histogram)

    def __repr__(self):
        return (f"LatencyHistogram(lowest={self.lowest}, highest={self.highest}, "
                f"significant_digits={self.significant_digits}, count={self.count})")

    def __eq__(self, other):
        """Whether two histograms have the same layout and the same counts."""
        if not isinstance(other, LatencyHistogram):
            return NotImplemented
        mine, theirs = self.__reduce__()[1], other.__reduce__()[1]
        return mine[1:] == theirs[1:] and np.array_equal(mine[0], theirs[0])

    __hash__ = None

    def __reduce__(self):
        cdef Reading reading = self.read()
        cdef bint empty = reading.values.count == 0
        return LatencyHistogram.from_counts, (
            reading.counts, self.lowest, self.highest, self.significant_digits,
            None if empty else reading.values.minimum,
            None if empty else reading.values.maximum,
            reading.values.saturated)

    cdef Reading read(self):
        """Take a snapshot. Wait for the writer while it is within a record."""
        cdef Reading reading = Reading()
        cdef bint read
        reading.counts = np.empty(self.histogram.counts_length, UNSIGNED)
        reading.values.counts = <uint64_t *>cnp.PyArray_DATA(reading.counts)
        with self.reading_lock:
            while True:
                with nogil:
                    read = histogram_read(self.histogram, &reading.values)
                if read:
                    return reading
                PyErr_CheckSignals()

    cdef int wait_for_turn(self) except -1:
        if self.process != forks:
            # A thread that was recording when this process was forked does not exist here.
            self.process, self.recording, self.recording_lock = forks, False, Lock()
        # This thread holds the GIL and no thread records without it: so it is alone.
        while self.recording:
            with self.recording_lock:
                pass
        return 0

    @classmethod
    def from_counts(cls, counts, lowest=1, highest=HOUR_NS, significant_digits=2,
                    min=None, max=None, saturated=0):
        """Make a histogram from counts, such as `counts` returns.

        Parameters
        ----------
        counts : ndarray, shape (n,), dtype uint64 or int64
            How many values each bucket holds; n must be that of the layout.
        lowest, highest, significant_digits : int
            The layout, as above.
        min, max : int, optional
            The exact extremes; by default the ends of the outermost buckets in use.
        saturated : int, default 0
            How many values of the last bucket were over its end.

        Returns
        -------
        LatencyHistogram

        Raises
        ------
        ConfigError
            The layout is not possible, or the length of `counts` is not the layout's.
        RecordError
            A count is negative, or `min`, `max` or `saturated` contradict the counts.
        """
        cdef LatencyHistogram made = cls(lowest, highest, significant_digits)
        cdef histogram *h = made.histogram
        cdef cnp.ndarray array = checked_array(counts, "counts", (UNSIGNED, SIGNED))
        cdef histogram_reading reading
        if <uint64_t>array.size != h.counts_length:
            raise ConfigError(
                f"has {array.size} elements, but this layout has {h.counts_length}",
                field="counts")
        if array.dtype == SIGNED and array.size and array.min() < 0:
            index = int(np.argmax(array < 0))
            raise RecordError(
                "must not be negative", field="counts", index=index, value=array[index].item())
        used = np.flatnonzero(array)
        if used.size == 0:
            if min is not None or max is not None or saturated != 0:
                raise RecordError(
                    f"there are no counts, but min = {min}, max = {max}, saturated = {saturated}",
                    field="counts")
            return made
        cdef uint64_t first = used[0]
        cdef uint64_t last = used[used.size - 1]
        cdef bint ends_open = last == h.counts_length - 1
        total = sum(array[used].tolist())
        if total >= 2**64:
            raise RecordError(f"their sum is {total}, but must be below 2**64", field="counts")
        min = lowest_of(h, first) if min is None else min
        max = lowest_of(h, last + 1) - 1 if max is None else max
        if not 0 <= min < 2**64 or histogram_index(h, clamped(h, min)) != first:
            raise RecordError("not in the first bucket in use", field="min", value=min)
        if not min <= max < 2**64 or histogram_index(h, clamped(h, max)) != last:
            raise RecordError("not in the last bucket in use", field="max", value=max)
        # The largest value is over the limit exactly if some value is.
        if not 0 <= saturated <= (array[last] if ends_open else 0) \
                or (saturated > 0) != (max > h.limit):
            raise RecordError(
                f"contradicts max = {max} and the counts", field="saturated", value=saturated)
        reading.count = total
        reading.minimum, reading.maximum, reading.saturated = min, max, saturated
        reading.counts = <uint64_t *>cnp.PyArray_DATA(array)
        histogram_add(h, &reading)
        return made

    def record(self, value):
        """Record one value.

        Parameters
        ----------
        value : int
            Nanoseconds, 0 to ``2**64 - 1``; above `limit` it is counted in the last bucket and
            in `saturated`.

        Raises
        ------
        RecordError
            The value is not an integer, is negative, or does not fit 64 bits.
        """
        if not hasattr(value, "__index__"):
            raise RecordError("must be an integer", field="value", value=value)
        if not 0 <= value < 2**64:
            raise RecordError("must be 0 to 2**64 - 1", field="value", value=value)
        self.wait_for_turn()
        histogram_record(self.histogram, value)

    def record_many(self, values):
        """Record an array of values, without the GIL. If one is negative, nothing is recorded.

        Parameters
        ----------
        values : ndarray, shape (n,), dtype uint64 or int64
            Nanoseconds. No other thread may write them meanwhile.

        Raises
        ------
        RecordError
            A value is negative; `index` says which. Or `values` is not such an array.
        """
        cdef cnp.ndarray array = checked_array(values, "values", (UNSIGNED, SIGNED))
        cdef const uint64_t *first = <const uint64_t *>cnp.PyArray_DATA(array)
        cdef Py_ssize_t count = cnp.PyArray_SIZE(array)
        cdef Py_ssize_t index = 0
        cdef bint is_signed = array.dtype == SIGNED
        cdef bint negative = False
        self.wait_for_turn()
        with self.recording_lock:
            self.recording = True
            with nogil:
                if is_signed:
                    for index in range(count):
                        if <int64_t>first[index] < 0:
                            negative = True
                            break
                if not negative:
                    for index in range(count):
                        histogram_record(self.histogram, first[index])
            self.recording = False
        if negative:
            raise RecordError(
                "must not be negative", field="values", index=index, value=array[index].item())

    def merge(self, LatencyHistogram other not None):
        """Add what another histogram holds.

        Parameters
        ----------
        other : LatencyHistogram
            A histogram of the same layout. Another thread may record into it meanwhile: a snapshot
            is added.

        Raises
        ------
        ConfigError
            The layouts differ; the message names the first parameter that does.
        """
        cdef Reading reading
        for field in ("lowest", "highest", "significant_digits"):
            mine, theirs = getattr(self, field), getattr(other, field)
            if mine != theirs:
                raise ConfigError(
                    f"cannot be merged into {field} = {mine}", field=field, value=theirs)
        reading = other.read()
        self.wait_for_turn()
        histogram_add(self.histogram, &reading.values)

    def snapshot(self):
        """Return a separate histogram of all values recorded until now.

        Returns
        -------
        LatencyHistogram
        """
        cdef Reading reading
        cdef LatencyHistogram taken = LatencyHistogram(
            self.lowest, self.highest, self.significant_digits)
        reading = self.read()
        histogram_add(taken.histogram, &reading.values)
        return taken

    def reset(self):
        """Forget everything. No other thread may record into it or read it meanwhile."""
        with self.reading_lock:
            self.wait_for_turn()
            reset(self.histogram)

    def percentile(self, percentile):
        """The value that `percentile` per cent of the records do not exceed.

        Parameters
        ----------
        percentile : float
            0 to 100.

        Returns
        -------
        int
            Nanoseconds: the largest value of the bucket (for 0, the smallest), so it may lie above
            `max` by the width of a bucket. 0 for an empty histogram.

        Raises
        ------
        ConfigError
            `percentile` is not within 0 to 100.
        """
        return self.percentiles([percentile])[0]

    def percentiles(self, percentiles):
        """Several percentiles of one and the same snapshot.

        Parameters
        ----------
        percentiles : sequence of float
            0 to 100 each.

        Returns
        -------
        list of int
            The results of `percentile`, in the order of `percentiles`.

        Raises
        ------
        ConfigError
            One is not within 0 to 100.
        """
        cdef Reading reading
        try:
            wanted = [checked_percentile(each) for each in percentiles]
        except TypeError:
            raise ConfigError(
                "must be a sequence of numbers", field="percentiles", value=percentiles) from None
        reading = self.read()
        return [value_at(self.histogram, &reading.values, percentile) for percentile in wanted]

    def counts(self):
        """How many values each bucket holds.

        Returns
        -------
        ndarray, shape (n,), dtype uint64
            A copy. Bucket ``i`` holds the values ``edges()[i] <= value < edges()[i + 1]``.
        """
        return self.read().counts

    def edges(self):
        """The ends of the buckets, as `numpy.histogram` takes them.

        Returns
        -------
        ndarray, shape (n + 1,), dtype uint64
            Nanoseconds.
        """
        cdef cnp.ndarray edges = np.empty(self.histogram.counts_length + 1, UNSIGNED)
        cdef uint64_t *first = <uint64_t *>cnp.PyArray_DATA(edges)
        cdef uint64_t index
        for index in range(self.histogram.counts_length + 1):
            first[index] = lowest_of(self.histogram, index)
        return edges

    def to_dict(self):
        """The usual figures, of one and the same snapshot.

        Returns
        -------
        dict of str to int or None
            ``count``, and in nanoseconds ``p50``, ``p90``, ``p99``, ``p99_9``, ``max``. A
            percentile is that of `percentile`. It may therefore lie above ``max``, which is exact,
            by the width of a bucket. In an empty histogram ``count`` is 0 and the others are None,
            since 0 is a time.
        """
        cdef Reading reading = self.read()
        if reading.values.count == 0:
            return {"count": 0, **dict.fromkeys(FIGURES), "max": None}
        return {
            "count": reading.values.count,
            **{
                name: value_at(self.histogram, &reading.values, percentile)
                for name, percentile in FIGURES.items()
            },
            "max": reading.values.maximum,
        }

    @property
    def count(self):
        """How many values have been recorded (int)."""
        return self.read().values.count

    @property
    def min(self):
        """int: The smallest value recorded, exact, in ns; 0 while the histogram is empty."""
        cdef Reading reading = self.read()
        return reading.values.minimum if reading.values.count else 0

    @property
    def max(self):
        """int: The largest value recorded, exact, in ns; 0 while the histogram is empty."""
        cdef Reading reading = self.read()
        return reading.values.maximum

    @property
    def mean(self):
        """The mean, in nanoseconds (float). Each value counts as the middle of its bucket."""
        cdef Reading reading = self.read()
        return mean_of(self.histogram, &reading.values)

    @property
    def saturated(self):
        """How many values were above `limit` (int)."""
        cdef Reading reading = self.read()
        return reading.values.saturated

    @property
    def lowest(self):
        """The smallest difference of interest, in nanoseconds (int)."""
        return self.histogram.lowest

    @property
    def highest(self):
        """The largest value of interest, in nanoseconds (int)."""
        return self.histogram.highest

    @property
    def significant_digits(self):
        """The number of significant digits (int)."""
        return self.histogram.significant_digits

    @property
    def limit(self):
        """The largest value with a bucket of its own: `highest`, rounded up (int)."""
        return self.histogram.limit

    @property
    def memory_bytes(self):
        """The size of the block, both halves and header (int)."""
        return self.histogram.block_bytes


cdef uint64_t clamped(const histogram *h, uint64_t value) noexcept nogil:
    return min(value, h.limit)
