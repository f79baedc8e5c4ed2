"""The stage that applies records to their books and calls the strategy."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from velox.core.atomic cimport atomic_u64
from velox.core.book cimport books
from velox.core.clock cimport clock_source
from velox.core.order_book cimport Books
from velox.core.records cimport STATUSES, Report, Transaction
from velox.core.risk cimport RiskGate, risk_gate
from velox.core.ring cimport ReportRing, report_ring, transaction_ring
from velox.runtime.stage cimport Stage, control, stage
from velox.runtime.strategy cimport (
    STRATEGY_ROOM,
    Strategy,
    feedback_function,
    strategy_function,
    strategy_view,
)
from velox.runtime.verify cimport Verifier, verifier

cdef enum:
    VIEWS = 256                     # one for each market that there can be

cdef enum:
    TOLD_BLOCKS = 1024              # blocks that the strategy has not heard of yet; a power of two

# Why a report did not reach the strategy.
cdef enum:
    REPORT_HEARD = 0
    REPORT_KIND = 1                 # no kind of report, or one that the pipeline makes itself
    REPORT_MARKET = 2               # there is no such market
    REPORT_STATUSES = 3

# Where a strategy's records go: a run of free slots of the output, of which the first `filled` are
# written and not yet published.
cdef struct outlet:
    Transaction *slots
    uint64_t free
    uint64_t filled

cdef struct book_stage:
    stage *stage
    transaction_ring *input
    transaction_ring *output
    books *books
    const clock_source *clock
    control *control
    uint64_t batch
    strategy_function strategy      # NULL: each applied record goes on as it is, or `feedback`
    feedback_function feedback      # NULL: the strategy sees market records alone
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
    strategy_view *views            # one for each market, in the order of the markets
    uint32_t view_count
    strategy_view *view_of[VIEWS]   # by market; NULL: no such market
    # With `feedback` alone:
    report_ring *reports
    uint64_t last_report            # the report ring's head when the input had ended
    bint silent                     # reports are taken, and the strategy is not called
    bint ending                     # the input has ended: reports to `last_report`, no more timers
    uint64_t period_ns              # between two timers of a market; 0: there is no period
    uint64_t period_due_ns          # when the next is due, or NO_DEADLINE
    uint64_t periods                # that the timer under way stands for
    uint32_t period_view            # the next view in this round of timers
    uint64_t wanted_ns              # no view asks for a timer before, or NO_DEADLINE
    uint64_t timers                 # fired so far
    atomic_u64 heard[REPORT_STATUSES]   # reports taken; the stage's own thread writes these
    atomic_u64 fired
    # With a gate alone:
    risk_gate *gate                 # NULL: what the strategy emits is neither limited nor tracked
    Report *blocks                  # a ring of TOLD_BLOCKS: what the strategy is to hear of
    uint64_t blocks_head
    uint64_t blocks_tail
    atomic_u64 untold               # blocks that found no room in it


cdef class BookStage(Stage):
    cdef book_stage *book_stage
    cdef readonly object books
    cdef readonly Strategy strategy
    cdef readonly Verifier verifier
    cdef readonly ReportRing reports
    cdef readonly RiskGate gate
    cdef int make_views(self, Books books) except -1
    cdef int use_gate(self, RiskGate gate) except -1
    cdef object bad_order_error(self)
