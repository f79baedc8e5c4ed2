"""The depth mailbox: readers ask, the book's one writer answers between two transactions.

Claimed: a reader gets one whole letter, and one that was begun after it had asked; every request
is answered.
"""

from libc.stdint cimport int64_t, uint64_t

from velox.core.atomic cimport atomic_i64, load_relaxed
from velox.core.mailbox cimport (
    depth_counts, depth_row, letter_words, mailbox, mailbox_ask, mailbox_asked, mailbox_try_read,
    mailbox_write,
)

from models.model cimport check, model_allocate, model_name, model_thread, wait

cdef enum:
    MOST_ROWS = 2
    MOST_LETTERS = 16

cdef struct plan:
    mailbox *mail
    uint64_t asks                       # of all readers together
    uint64_t reads                      # of each
    uint64_t extra                      # letters without a request, after the others
    uint64_t rows
    uint64_t letters
    uint64_t answered[MOST_LETTERS]     # by letter: the request that it answers


cdef int64_t rows_of(plan *self, int64_t letter) noexcept nogil:
    """Two letters are long, the next two short: a mixture of two in one place shows."""
    return <int64_t>self.rows - (self.rows > 1 and (letter - 1) // 2 % 2 == 1)


cdef void write_letter(plan *self, uint64_t request) noexcept nogil:
    cdef depth_row rows[MOST_ROWS]
    cdef depth_counts counts
    cdef int64_t row
    self.letters += 1
    self.answered[self.letters] = request
    for row in range(<int64_t>self.rows):
        rows[row].bid_price = rows[row].bid_quantity = <int64_t>self.letters * 10 + row
        rows[row].ask_price = rows[row].ask_quantity = <int64_t>self.letters * 10 + row
    counts.bids = counts.asks = rows_of(self, self.letters)
    mailbox_write(self.mail, request, rows, counts)


cdef void answer(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef uint64_t request, _number
    # Relaxed: this thread alone writes it.
    while load_relaxed(&self.mail.have) < self.asks:
        request = mailbox_asked(self.mail)
        if request == 0:
            wait()
        else:
            write_letter(self, request)
    for _number in range(self.extra):
        write_letter(self, self.asks)


cdef void ask(void *state) noexcept nogil:
    cdef plan *self = <plan *>state
    cdef depth_row rows[MOST_ROWS]
    cdef depth_counts counts
    cdef uint64_t _number, request
    cdef int64_t letter, seen = 0, row
    for _number in range(self.reads):
        request = mailbox_ask(self.mail)
        while not mailbox_try_read(self.mail, request, MOST_ROWS, rows, &counts):
            wait()
        letter = rows[0].bid_price // 10
        check(letter > seen, "each answer is newer than the one before")
        check(self.answered[letter] >= request, "the letter was begun after the request")
        check(counts.bids == rows_of(self, letter) and counts.asks == rows_of(self, letter),
              "the counts are those of the letter")
        for row in range(counts.bids):
            check(rows[row].bid_price == letter * 10 + row
                  and rows[row].bid_quantity == letter * 10 + row
                  and rows[row].ask_price == letter * 10 + row
                  and rows[row].ask_quantity == letter * 10 + row, "a reader gets one letter")
        seen = letter


def prepare(readers, reads, rows=1, extra=0):
    cdef plan *self = <plan *>model_allocate(sizeof(plan))
    self.mail = <mailbox *>model_allocate(sizeof(mailbox))
    self.mail.capacity = rows
    self.mail.letters = <atomic_i64 *>model_allocate(2 * letter_words(rows) * 8)
    self.asks = readers * reads
    self.reads = reads
    self.extra = extra
    self.rows = rows
    model_name(self, "plan")
    model_name(self.answered, "answered")
    model_name(&self.mail.want, "want")
    model_name(&self.mail.have, "have")
    model_name(&self.mail.version, "version")
    model_name(self.mail.letters, "even letter")
    model_name(self.mail.letters + letter_words(rows), "odd letter")
    model_thread("writer", answer, self)
    model_thread("reader", ask, self)
    if readers > 1:
        model_thread("reader 2", ask, self)
