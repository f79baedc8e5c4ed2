"""The book that several threads write: levels by compare-and-swap, and the bitmap over them.

It checks these claims:

- The results of all updates, and the levels at the end, equal those of some sequential order of the
  updates. That order keeps the order of each thread's own updates.
- When all threads have returned, every level that holds a quantity is found. A thread that learns
  of a finished update finds its level even while other threads go on.
- The best is a level that existed during the read. It is never worse than a level that existed
  during all of the read.
- An update that was not applied says so. With enough tries every update is applied, whatever the
  clean-ups of other threads do.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from velox.core.atomic cimport atomic_u64, load_acquire, load_relaxed, store_release
from velox.core.memory cimport HUGE_PAGES_AUTO
from velox.core.records cimport (
    KIND_ADD, KIND_CANCEL, KIND_CLEAR, KIND_DELETE, KIND_SET, SIDE_ASK, STATUS_APPLIED,
    STATUS_TIMEOUT, STATUS_UNDERFLOW,
)
from velox.core.shared_book cimport (
    BITMAP_OCCUPIED, LEVEL_QUANTITY, shared_book, shared_book_best, shared_book_depth,
    shared_book_new, shared_book_quantity, shared_book_update, shared_book_words,
)

from models.model cimport check, model_allocate, model_finish, model_name, model_thread

cdef enum:
    WRITERS = 3
    MOST_STEPS = 4
    MOST_LEVELS = 64

cdef struct step:
    uint8_t kind
    int64_t tick
    uint64_t quantity

cdef struct writer:
    plan *plan
    uint64_t steps
    step step[MOST_STEPS]
    uint8_t status[MOST_STEPS]
    atomic_u64 done                     # steps that are complete; the reader reads it

cdef struct plan:
    shared_book *book
    uint64_t writers
    writer writer[WRITERS]
    uint64_t reads
    bint told                           # the writers tell the reader what is complete
    int64_t looked_at                   # a level whose quantity the reader asks for first, or -1
    bint never_empty                    # at every instant some level holds something
    bint filled_before[MOST_LEVELS]
    int64_t before[MOST_LEVELS]         # what each level held
    bint clears                         # a thread empties a side, which is several updates
    bint tidy                           # no clean-up runs out of tries
    bint never_late                     # nor does an update


cdef void write(void *state) noexcept nogil:
    cdef writer *self = <writer *>state
    cdef uint64_t number
    for number in range(self.steps):
        self.status[number] = shared_book_update(
            self.plan.book, SIDE_ASK, self.step[number].kind, self.step[number].tick,
            self.step[number].quantity)
        # Release, of the model's own: the update is told of.
        store_release(&self.done, number + 1)


cdef bint stays(plan *self, const uint64_t *done, int64_t tick) noexcept nogil:
    """Whether the level was filled by steps that are done, and no thread ever takes from it."""
    cdef bint filled = False
    cdef uint64_t number, index
    cdef step *each
    for number in range(self.writers):
        for index in range(self.writer[number].steps):
            each = &self.writer[number].step[index]
            if each.kind == KIND_CLEAR:
                return False
            if each.tick == tick:
                if each.kind != KIND_ADD and each.kind != KIND_SET:
                    return False
                if index < done[number] and self.writer[number].status[index] == STATUS_APPLIED:
                    filled = True
    return filled


cdef bint only_grows(plan *self, int64_t tick) noexcept nogil:
    """Whether a thread adds to the level, and no thread ever takes from it."""
    cdef uint64_t number, index
    cdef bint added = False
    cdef step *each
    for number in range(self.writers):
        for index in range(self.writer[number].steps):
            each = &self.writer[number].step[index]
            if each.kind == KIND_CLEAR or each.tick == tick and each.kind != KIND_ADD:
                return False
            added = added or each.tick == tick
    return added


cdef bint only_shrinks(plan *self, int64_t tick) noexcept nogil:
    """Whether the level was there at the beginning, and no thread adds to it."""
    cdef uint64_t number, index
    cdef step *each
    for number in range(self.writers):
        for index in range(self.writer[number].steps):
            each = &self.writer[number].step[index]
            if each.tick == tick and (each.kind == KIND_ADD or each.kind == KIND_SET):
                return False
    return self.filled_before[tick]


cdef bint ever(plan *self, int64_t tick) noexcept nogil:
    cdef uint64_t number, index
    for number in range(self.writers):
        for index in range(self.writer[number].steps):
            if self.writer[number].step[index].tick == tick:
                return True
    return self.filled_before[tick]


cdef void read(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t done[WRITERS]
    cdef uint64_t number
    cdef int64_t tick, quantity, level, _read, seen = MOST_LEVELS
    cdef bint found
    for _read in range(<int64_t>self.reads):
        for number in range(self.writers):
            done[number] = load_acquire(&self.writer[number].done) if self.told else 0
        if self.looked_at >= 0 and only_grows(self, self.looked_at) \
                and shared_book_quantity(self.book, SIDE_ASK, self.looked_at) > 0:
            seen = min(seen, self.looked_at)
        found = shared_book_best(self.book, SIDE_ASK, &tick, &quantity)
        if found:
            check(quantity > 0, "the best holds something")
            check(ever(self, tick), "the best is a level that a thread filled")
        check(seen == MOST_LEVELS or found and tick <= seen,
              "the best misses no level that this reader has seen, and that stays")
        check(found or not self.never_empty, "a side that is never empty has a best")
        for level in range(<int64_t>self.book.levels):
            if only_shrinks(self, level) and not (found and tick <= level):
                check(shared_book_quantity(self.book, SIDE_ASK, level) == 0,
                      "what the best has passed over is empty")
        if found and only_grows(self, tick):
            seen = min(seen, tick)
        for level in range(<int64_t>self.book.levels):
            if stays(self, done, level):
                check(found and tick <= level, "the best misses no level that was there before")


cdef uint8_t result_of(const step *each, uint64_t held, uint64_t *wanted) noexcept nogil:
    """What a step makes of a level that holds `held`: said here again, for the product to be held
    against it."""
    if each.kind == KIND_ADD:
        wanted[0] = held + each.quantity
    elif each.kind == KIND_CANCEL:
        if each.quantity > held:
            return STATUS_UNDERFLOW
        wanted[0] = held - each.quantity
    else:
        wanted[0] = each.quantity if each.kind == KIND_SET else 0
    return STATUS_APPLIED


cdef bint some_order(plan *self, uint64_t *next, int64_t *held, const int64_t *end) noexcept nogil:
    """Whether the steps from `next` on, in some order, make of levels that hold `held` those at the
    end."""
    cdef uint64_t number
    cdef uint8_t status
    cdef int64_t before
    cdef uint64_t wanted
    cdef step *each
    cdef bint fits, all_done = True
    for number in range(self.writers):
        if next[number] == self.writer[number].steps:
            continue
        all_done = False
        each = &self.writer[number].step[next[number]]
        before = held[each.tick]
        status = self.writer[number].status[next[number]]
        if status != STATUS_TIMEOUT:
            wanted = before
            if result_of(each, before, &wanted) != status:
                continue
            held[each.tick] = wanted
        next[number] += 1
        fits = some_order(self, next, held, end)
        next[number] -= 1
        held[each.tick] = before
        if fits:
            return True
    if not all_done:
        return False
    for number in range(self.book.levels):
        if held[number] != end[number]:
            return False
    return True


cdef void check_bitmap(shared_book *book) noexcept nogil:
    """That no bit is left over a vacant word."""
    cdef atomic_u64 *words = shared_book_words(book, SIDE_ASK)
    cdef uint64_t value, index
    cdef uint32_t tier
    for tier in range(book.root):
        value = LEVEL_QUANTITY if tier == 0 else BITMAP_OCCUPIED
        for index in range(book.levels >> 5 * tier):
            check(load_relaxed(words + book.tier[tier] + index) & value != 0
                  or load_relaxed(words + book.tier[tier + 1] + (index >> 5))
                  & <uint64_t>1 << (index & 31) == 0,
                  "at rest no bit is left over a vacant word")


cdef void check_book(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t number, index
    cdef uint64_t next[WRITERS]
    cdef int64_t held[MOST_LEVELS]
    cdef int64_t end[MOST_LEVELS]
    cdef int64_t ticks[MOST_LEVELS]
    cdef int64_t quantities[MOST_LEVELS]
    cdef int64_t level, tick, quantity, best = -1
    cdef Py_ssize_t count, row = 0
    cdef uint8_t status
    for number in range(self.writers):
        next[number] = 0
        for index in range(self.writer[number].steps):
            status = self.writer[number].status[index]
            check(status == STATUS_APPLIED or status == STATUS_UNDERFLOW
                  or status == STATUS_TIMEOUT and not self.never_late,
                  "an update is refused for a reason")
    for level in range(<int64_t>self.book.levels):
        held[level] = self.before[level]
        end[level] = shared_book_quantity(self.book, SIDE_ASK, level)
    check(self.clears or some_order(self, next, held, end),
          "what was told and what is there come of some order of the updates")
    if self.tidy:
        check_bitmap(self.book)
    count = shared_book_depth(self.book, SIDE_ASK, MOST_LEVELS, ticks, quantities, 1)
    for level in range(<int64_t>self.book.levels):
        if end[level] > 0:
            if best < 0:
                best = level
            check(row < count and ticks[row] == level and quantities[row] == end[level],
                  "at rest every level that holds something is found")
            row += 1
    check(row == count, "at rest no level is found that holds nothing")
    if shared_book_best(self.book, SIDE_ASK, &tick, &quantity):
        check(tick == best and quantity == end[tick],
              "at rest the best is the best")
    else:
        check(best < 0, "at rest a side with a level has a best")


KINDS = {"add": KIND_ADD, "cancel": KIND_CANCEL, "set": KIND_SET, "delete": KIND_DELETE,
         "clear": KIND_CLEAR}
NAMES = [b"writer 1", b"writer 2", b"writer 3"]


def prepare(writers, levels=32, before=(), reads=0, tries=100, told=True, looked_at=-1,
            never_empty=False, tidy=False, never_late=False):
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    cdef writer *each
    cdef atomic_u64 *words
    self.book = shared_book_new(levels, 0, HUGE_PAGES_AUTO)
    self.book.tries = tries
    self.writers = len(writers)
    self.reads = reads
    self.told = told
    self.looked_at = looked_at
    self.never_empty = never_empty
    self.tidy = tidy
    self.never_late = never_late
    for kind, tick, quantity in before:
        shared_book_update(self.book, SIDE_ASK, KINDS[kind], tick, quantity)
        self.filled_before[<int>tick] = True
        self.before[<int>tick] = shared_book_quantity(self.book, SIDE_ASK, tick)
    model_name(self, "plan")
    model_name(self.book, "book")
    words = shared_book_words(self.book, SIDE_ASK)
    model_name(words, "level")
    model_name(words + self.book.tier[1], "bitmap")
    if self.book.root > 1:
        model_name(words + self.book.tier[2], "summary")
    for number, steps in enumerate(writers):
        each = &self.writer[number]
        each.plan = self
        each.steps = len(steps)
        for index, (kind, tick, quantity) in enumerate(steps):
            each.step[index].kind = KINDS[kind]
            each.step[index].tick = tick
            each.step[index].quantity = quantity
            self.clears = self.clears or kind == "clear"
        model_thread(<const char *>NAMES[number], write, each)
    if reads:
        model_thread("reader", read, self)
    model_finish(check_book, self)
