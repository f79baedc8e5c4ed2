"""The stage that applies records to their books and calls the strategy."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from velox.core.atomic cimport atomic_u64
from velox.core.book cimport books
from velox.core.clock cimport clock_source
from velox.core.records cimport STATUSES, Transaction
from velox.core.ring cimport transaction_ring
from velox.runtime.stage cimport Stage, control, stage
from velox.runtime.strategy cimport STRATEGY_ROOM, Strategy, strategy_function
from velox.runtime.verify cimport Verifier, verifier

cdef struct book_stage:
    stage *stage
    transaction_ring *input
    transaction_ring *output
    books *books
    const clock_source *clock
    control *control
    uint64_t batch
    strategy_function strategy      # NULL: each applied record goes on as it is
    void *user_data
    verifier *verifier              # NULL: none
    uint64_t now_ns                 # when the batch under way was taken; for the strategy
    uint64_t taken                  # records consumed from the input
    uint32_t room                   # that the strategy has for what it emits
    uint64_t together               # records of a strategy's that are handed over at once
    uint64_t clean                  # free slots of the output, from its head on, that were wiped
    int strategy_failure            # what the strategy returned below 0, or above its room
    bint strategy_failed
    uint64_t failed_at              # the applied record at which it did
    bint stops_at_bad_order         # a bad record that it emits stops the run, and is not blocked
    uint8_t bad_reason              # why a record stopped the run; STATUS_APPLIED: none did
    uint32_t bad_index              # its place in what that call emitted
    Transaction bad_order
    atomic_u64 applied              # the stage's own thread writes these
    atomic_u64 rejected[STATUSES]
    atomic_u64 emitted              # made by the strategy: blocked and passed
    atomic_u64 blocked[STATUSES]
    atomic_u64 passed
    atomic_u64 timeouts
    Transaction aside[STRATEGY_ROOM]    # wiped; instead of slots where those end with the ring


cdef class BookStage(Stage):
    cdef book_stage *book_stage
    cdef readonly object books
    cdef readonly Strategy strategy
    cdef readonly Verifier verifier
    cdef object bad_order_error(self)
