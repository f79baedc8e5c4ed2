"""The rings: one producer, one consumer, every way in and every way out.

Claimed: items come out in the order in which they went in, whole, none lost and none invented; no
slot is written while it is read; after the close the consumer takes what is left, and then ends.
"""

from libc.stdint cimport uint64_t
from libc.string cimport memset

from velox.core.memory cimport HUGE_PAGES_AUTO
from velox.core.records cimport Bundle, Report, Transaction
from velox.core.ring cimport (
    bundle_ring, bundle_ring_claim, bundle_ring_close, bundle_ring_drained, bundle_ring_length,
    bundle_ring_new, bundle_ring_peek, bundle_ring_pop, bundle_ring_publish, bundle_ring_push,
    bundle_ring_release, bundle_ring_room, bundle_ring_slots,
    report_ring, report_ring_claim, report_ring_close, report_ring_drained, report_ring_length,
    report_ring_new, report_ring_peek, report_ring_pop, report_ring_publish, report_ring_push,
    report_ring_release, report_ring_room, report_ring_slots,
    transaction_ring, transaction_ring_claim, transaction_ring_close, transaction_ring_drained,
    transaction_ring_length, transaction_ring_new, transaction_ring_peek, transaction_ring_pop,
    transaction_ring_publish, transaction_ring_push, transaction_ring_release,
    transaction_ring_room, transaction_ring_slots,
)

from models.model cimport (
    check, model_allocate, model_finish, model_name, model_thread, wait,
)

cdef enum:
    MOST = 8                        # items or batches of one model

cdef struct plan:
    transaction_ring *transactions
    bundle_ring *bundles
    report_ring *reports
    uint64_t items
    uint64_t batch
    uint64_t taken
    uint64_t length


cdef void pattern(Transaction *item, uint64_t number) noexcept nogil:
    """Every byte depends on the number, so that a torn item shows."""
    memset(item, <int>(17 * number + 1), sizeof(Transaction))
    item.id = number


cdef bint is_pattern(const Transaction *item, uint64_t number) noexcept nogil:
    cdef const unsigned char *bytes = <const unsigned char *>item
    cdef uint64_t index
    for index in range(sizeof(uint64_t), sizeof(Transaction)):
        if bytes[index] != <unsigned char>(17 * number + 1):
            return False
    return item.id == number


# Transactions: copied in and out, or written and read in place.

cdef void push_transactions(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Transaction items[MOST]
    cdef uint64_t number, done = 0, n
    for number in range(self.items):
        pattern(&items[number], number)
    while done < self.items:
        n = transaction_ring_push(
            self.transactions, &items[done], min(self.batch, self.items - done))
        check(n <= self.batch, "a push takes no more than it is given")
        if n == 0:
            wait()
        done += n
    transaction_ring_close(self.transactions)


cdef void claim_transactions(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Transaction *slots
    cdef uint64_t done = 0, granted, index, room
    while done < self.items:
        room = transaction_ring_room(self.transactions, 1)
        slots = transaction_ring_claim(
            self.transactions, min(self.batch, self.items - done), &granted)
        check(granted > 0 or room == 0, "where there is room, there is a slot")
        if granted == 0:
            wait()
            continue
        for index in range(granted):
            pattern(&slots[index], done + index)
        transaction_ring_publish(self.transactions, granted)
        done += granted
    transaction_ring_close(self.transactions)


cdef void pop_transactions(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Transaction items[MOST]
    cdef uint64_t n, index
    while True:
        n = transaction_ring_pop(self.transactions, items, self.batch)
        check(n <= self.batch, "a pop gives no more than it is asked for")
        for index in range(n):
            check(is_pattern(&items[index], self.taken), "the items come whole and in order")
            self.taken += 1
        if n == 0:
            if transaction_ring_drained(self.transactions):
                break
            wait()


cdef void peek_transactions(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Transaction *slots
    cdef uint64_t granted, index
    while True:
        slots = transaction_ring_peek(self.transactions, self.batch, &granted)
        for index in range(granted):
            check(is_pattern(&slots[index], self.taken), "the items come whole and in order")
            self.taken += 1
        if granted > 0:
            transaction_ring_release(self.transactions, granted)
        elif transaction_ring_drained(self.transactions):
            break
        else:
            wait()


cdef void watch_transactions(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    self.length = transaction_ring_length(self.transactions)


cdef void all_transactions_taken(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    check(self.taken == self.items, "every item is taken")
    check(self.length <= self.items, "the length is never more than was pushed")
    check(transaction_ring_length(self.transactions) == 0, "the ring ends empty")


# Bundles: the same template, other lines of C.

cdef void push_bundles(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Bundle items[MOST]
    cdef uint64_t number, done = 0, n
    memset(items, 0, sizeof(items))
    for number in range(self.items):
        pattern(&items[number].transactions[15], number)
    while done < self.items:
        n = bundle_ring_push(self.bundles, &items[done], min(self.batch, self.items - done))
        if n == 0:
            wait()
        done += n
    bundle_ring_close(self.bundles)


cdef void claim_bundles(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Bundle *slots
    cdef uint64_t done = 0, granted, index, room
    while done < self.items:
        room = bundle_ring_room(self.bundles, 1)
        slots = bundle_ring_claim(self.bundles, min(self.batch, self.items - done), &granted)
        check(granted > 0 or room == 0, "where there is room, there is a slot")
        if granted == 0:
            wait()
            continue
        for index in range(granted):
            pattern(&slots[index].transactions[15], done + index)
        bundle_ring_publish(self.bundles, granted)
        done += granted
    bundle_ring_close(self.bundles)


cdef void pop_bundles(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Bundle items[MOST]
    cdef uint64_t n, index
    while True:
        n = bundle_ring_pop(self.bundles, items, self.batch)
        for index in range(n):
            check(is_pattern(&items[index].transactions[15], self.taken),
                  "the items come whole and in order")
            self.taken += 1
        if n == 0:
            if bundle_ring_drained(self.bundles):
                break
            wait()


cdef void peek_bundles(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Bundle *slots
    cdef uint64_t granted, index
    while True:
        slots = bundle_ring_peek(self.bundles, self.batch, &granted)
        for index in range(granted):
            check(is_pattern(&slots[index].transactions[15], self.taken),
                  "the items come whole and in order")
            self.taken += 1
        if granted > 0:
            bundle_ring_release(self.bundles, granted)
        elif bundle_ring_drained(self.bundles):
            break
        else:
            wait()


cdef void watch_bundles(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    self.length = bundle_ring_length(self.bundles)


cdef void all_bundles_taken(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    check(self.taken == self.items, "every item is taken")
    check(self.length <= self.items, "the length is never more than was pushed")
    check(bundle_ring_length(self.bundles) == 0, "the ring ends empty")


# Reports: the same.

cdef void push_reports(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Report items[MOST]
    cdef uint64_t number, done = 0, n
    memset(items, 0, sizeof(items))
    for number in range(self.items):
        pattern(&items[number].record, number)
    while done < self.items:
        n = report_ring_push(self.reports, &items[done], min(self.batch, self.items - done))
        if n == 0:
            wait()
        done += n
    report_ring_close(self.reports)


cdef void claim_reports(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Report *slots
    cdef uint64_t done = 0, granted, index, room
    while done < self.items:
        room = report_ring_room(self.reports, 1)
        slots = report_ring_claim(self.reports, min(self.batch, self.items - done), &granted)
        check(granted > 0 or room == 0, "where there is room, there is a slot")
        if granted == 0:
            wait()
            continue
        for index in range(granted):
            pattern(&slots[index].record, done + index)
        report_ring_publish(self.reports, granted)
        done += granted
    report_ring_close(self.reports)


cdef void pop_reports(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Report items[MOST]
    cdef uint64_t n, index
    while True:
        n = report_ring_pop(self.reports, items, self.batch)
        for index in range(n):
            check(is_pattern(&items[index].record, self.taken),
                  "the items come whole and in order")
            self.taken += 1
        if n == 0:
            if report_ring_drained(self.reports):
                break
            wait()


cdef void peek_reports(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef Report *slots
    cdef uint64_t granted, index
    while True:
        slots = report_ring_peek(self.reports, self.batch, &granted)
        for index in range(granted):
            check(is_pattern(&slots[index].record, self.taken),
                  "the items come whole and in order")
            self.taken += 1
        if granted > 0:
            report_ring_release(self.reports, granted)
        elif report_ring_drained(self.reports):
            break
        else:
            wait()


cdef void watch_reports(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    self.length = report_ring_length(self.reports)


cdef void all_reports_taken(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    check(self.taken == self.items, "every item is taken")
    check(self.length <= self.items, "the length is never more than was pushed")
    check(report_ring_length(self.reports) == 0, "the ring ends empty")


def prepare(record, capacity, items, batch=1, in_place=False, first=0, watched=False):
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    self.items = items
    self.batch = batch
    model_name(self, "plan")
    if record == "transactions":
        self.transactions = transaction_ring_new(capacity, first % 2**64, HUGE_PAGES_AUTO)
        model_name(self.transactions, "ring")
        model_name(&self.transactions.head, "ring.head")
        model_name(&self.transactions.closed, "ring.closed")
        model_name(&self.transactions.full, "ring.full")
        model_name(&self.transactions.tail, "ring.tail")
        model_name(transaction_ring_slots(self.transactions), "ring.slots")
        model_thread("producer", claim_transactions if in_place else push_transactions, self)
        model_thread("consumer", peek_transactions if in_place else pop_transactions, self)
        if watched:
            model_thread("watcher", watch_transactions, self)
        model_finish(all_transactions_taken, self)
    elif record == "bundles":
        self.bundles = bundle_ring_new(capacity, first % 2**64, HUGE_PAGES_AUTO)
        model_name(self.bundles, "ring")
        model_name(&self.bundles.head, "ring.head")
        model_name(&self.bundles.closed, "ring.closed")
        model_name(&self.bundles.full, "ring.full")
        model_name(&self.bundles.tail, "ring.tail")
        model_name(bundle_ring_slots(self.bundles), "ring.slots")
        model_thread("producer", claim_bundles if in_place else push_bundles, self)
        model_thread("consumer", peek_bundles if in_place else pop_bundles, self)
        if watched:
            model_thread("watcher", watch_bundles, self)
        model_finish(all_bundles_taken, self)
    else:
        self.reports = report_ring_new(capacity, first % 2**64, HUGE_PAGES_AUTO)
        model_name(self.reports, "ring")
        model_name(&self.reports.head, "ring.head")
        model_name(&self.reports.closed, "ring.closed")
        model_name(&self.reports.full, "ring.full")
        model_name(&self.reports.tail, "ring.tail")
        model_name(report_ring_slots(self.reports), "ring.slots")
        model_thread("producer", claim_reports if in_place else push_reports, self)
        model_thread("consumer", peek_reports if in_place else pop_reports, self)
        if watched:
            model_thread("watcher", watch_reports, self)
        model_finish(all_reports_taken, self)
