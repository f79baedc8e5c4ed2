"""Every known mistake: a change of the text of one source file, which some model must detect.

The gate fails if a pattern is no longer in the source.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """In `file`, every `old` becomes `new`; then `models` are built and run."""

    name: str
    file: str
    old: str
    new: str
    models: tuple[str, ...]
    imports: str = ""  # of velox.core.atomic, which the change needs


RING = "velox/core/ring.pxd"
HISTOGRAM = "velox/core/histogram.pyx"
TOP = "velox/core/top.pxd"
MAILBOX = "velox/core/mailbox.pxd"
BOOK_STAGE = "velox/runtime/book_stage.pyx"
BOOK = "velox/core/shared_book"
RISK = "velox/core/risk.pxd"
KILL = "velox/core/kill.pxd"
ORDER_BOOK = "velox/core/book.pyx"
BELL = "velox/runtime/bell.pxd"

MUTANTS = [
    Mutant(
        "full check off by one", RING,
        "uint64_t free = ring.capacity - (head - ring.cached_tail)",
        "uint64_t free = ring.capacity + 1 - (head - ring.cached_tail)", ("ring",),
    ),
    Mutant(
        "full check off by one, once re-read", RING,
        "        free = ring.capacity - (head - ring.cached_tail)",
        "        free = ring.capacity + 1 - (head - ring.cached_tail)", ("ring",),
    ),
    Mutant(
        "empty check off by one", RING,
        "uint64_t available = ring.cached_head - tail",
        "uint64_t available = ring.cached_head + 1 - tail", ("ring",),
    ),
    Mutant(
        "the producer's cached index is never read again", RING,
        "        ring.cached_tail = load_acquire(&ring.tail)\n        free =", "        free =",
        ("ring",),
    ),
    Mutant(
        "the consumer's cached index is never read again", RING,
        "        ring.cached_head = load_acquire(&ring.head)\n        available =",
        "        available =", ("ring",),
    ),
    Mutant(
        "published before it is written", RING,
        "    first = min(n, ring.capacity - index)\n    memcpy(transaction_ring_slots(ring)",
        "    first = min(n, ring.capacity - index)\n    store_release(&ring.head, head + n)\n"
        "    memcpy(transaction_ring_slots(ring)", ("ring",),
    ),
    Mutant(
        "given back before it is read", RING,
        "    first = min(n, ring.capacity - index)\n"
        "    memcpy(items, transaction_ring_slots(ring)",
        "    first = min(n, ring.capacity - index)\n    store_release(&ring.tail, tail + n)\n"
        "    memcpy(items, transaction_ring_slots(ring)", ("ring",),
    ),
    Mutant(
        "a run that goes round is not split", RING,
        "    first = min(n, ring.capacity - index)\n    memcpy(items",
        "    first = n\n    memcpy(items", ("ring",),
    ),
    Mutant(
        "closed is believed without a last look", RING,
        "    ring.cached_head = load_relaxed(&ring.head)\n    return ring.cached_head ==",
        "    return ring.cached_head ==", ("ring",),
    ),
    Mutant(
        "closed is believed, empty or not", RING,
        "    return ring.cached_head == load_relaxed(&ring.tail)", "    return True", ("ring",),
    ),
    Mutant(
        "the length looks at head before tail", RING,
        "    cdef uint64_t tail = load_acquire(&ring.tail)\n"
        "    cdef uint64_t length = load_relaxed(&ring.head) - tail",
        "    cdef uint64_t length = load_relaxed(&ring.head)\n"
        "    length -= load_acquire(&ring.tail)", ("ring",),
    ),
    Mutant(
        "the version comes out before its slot", TOP,
        "    # Release: a reader that sees one of these also sees the version before this one "
        "(step 2).",
        "    store_release(&self.version, version)", ("top",),
    ),
    Mutant(
        "the slot of the present version is written", TOP,
        "slot = &self.odd if version & 1 else &self.even\n    # Release",
        "slot = &self.even if version & 1 else &self.odd\n    # Release", ("top",),
    ),
    Mutant(
        "one slot for all versions", TOP,
        "&self.odd if version & 1 else &self.even", "&self.even", ("top",),
    ),
    Mutant(
        "the version is not looked at again", TOP,
        "return load_relaxed(&self.version) == version", "return True", ("top",),
    ),
    Mutant(
        "the letter's version is not looked at again", MAILBOX,
        "return load_relaxed(&self.version) == version", "return True", ("mailbox",),
    ),
    Mutant(
        "one letter for all versions", MAILBOX,
        "letter = self.letters + (version & 1) * letter_words(self.capacity)",
        "letter = self.letters", ("mailbox",),
    ),
    Mutant(
        "answered before the version comes out", MAILBOX,
        "    # Release: a reader that sees the version sees its letter.\n",
        "    store_release(&self.have, request)\n", ("mailbox",),
    ),
    Mutant(
        "the answer to an older request is taken", MAILBOX,
        "    if load_acquire(&self.have) < request:\n        return False\n", "", ("mailbox",),
    ),
    Mutant(
        "a request is a load and a store", MAILBOX,
        "    return fetch_add_relaxed(&self.want, 1) + 1",
        "    store_release(&self.want, load_relaxed(&self.want) + 1)\n"
        "    return load_relaxed(&self.want)", ("mailbox",),
    ),
    Mutant(
        "an extreme changes without a version", HISTOGRAM,
        "    begin_change(h)\n    store_release(bucket", "    store_release(bucket", ("histogram",),
    ),
    Mutant(
        "a change that began is read", HISTOGRAM,
        "    if version & 1:\n        return False\n", "", ("histogram",),
    ),
    Mutant(
        "the idle writer's version is not looked at again", HISTOGRAM,
        "    return load_relaxed(&h.version) == version", "    return True", ("histogram",),
    ),
    Mutant(
        "the sums are taken once", HISTOGRAM,
        "                != reading.counts[index]:\n            return False",
        "                < 0:\n            return False", ("histogram",),
    ),
    Mutant(
        "the half in use is copied", HISTOGRAM,
        "    read_half(h, histogram_half_of(h, interval + 1), reading)",
        "    read_half(h, histogram_half_of(h, interval), reading)", ("histogram",),
    ),
    Mutant(
        "the writer is not waited for", HISTOGRAM,
        "        if load_acquire(&h.interval_seen) == interval + 1:",
        "        if load_acquire(&h.interval_seen) <= interval + 1:",
        ("histogram",),
    ),
    Mutant(
        "the half that the writer has left is not added", HISTOGRAM,
        "            read_half(h, histogram_half_of(h, interval), reading)\n"
        "            return True",
        "            return True", ("histogram",),
    ),
    Mutant(
        "the writer does not say which interval it is in", HISTOGRAM,
        "        store_release(&h.interval_seen, interval)", "        pass", ("histogram",),
    ),
    Mutant(
        "a half is copied before the writer has left it", HISTOGRAM,
        "    if load_acquire(&h.interval_seen) != interval:\n        return False\n", "",
        ("histogram",),
    ),
    Mutant(
        "the deadline is ignored while idle", "velox/runtime/bundle_stage.pyx",
        "        if bundle_builder_expire(&self.builder, clock_now(self.clock)):\n"
        "            return 1\n", "", ("pipeline",),
    ),
    Mutant(
        "an open bundle is forgotten at the end", "velox/runtime/bundle_stage.pyx",
        "            bundle_builder_seal(&self.builder, SEAL_DRAIN, clock_now(self.clock))\n",
        "            pass\n", ("pipeline",),
    ),
    Mutant(
        "one lane's end is everyone's", "velox/runtime/bundle_stage.pyx",
        "        if not transaction_ring_drained(self.inputs[i]):\n            return False\n"
        "    return True",
        "        if transaction_ring_drained(self.inputs[i]):\n            return True\n"
        "    return False", ("pipeline",),
    ),
    Mutant(
        "a reader does not ask who is writing", ORDER_BOOK,
        "    return cas_strong_acquire_else_relaxed(&self.access.state, &state, BOOK_READING)",
        "    return state == BOOK_IDLE", ("book",),
    ),
    Mutant(
        "a writer does not wait for the reader", ORDER_BOOK,
        "            while load_acquire(&self.access.state) != BOOK_WRITING:\n"
        "                wait_a_little(&attempts)\n", "", ("book",),
    ),
    Mutant(
        "a second writer is let in", ORDER_BOOK,
        "        if state != BOOK_READING:\n            return False\n",
        "        if state != BOOK_READING:\n            break\n", ("book",),
    ),
    Mutant(
        "a reader leaves the book idle, though a writer waits for it", ORDER_BOOK,
        "        store_release(&self.access.state, BOOK_WRITING)\n",
        "        store_release(&self.access.state, BOOK_IDLE)\n", ("book",),
    ),
    Mutant(
        "a copy that was broken off counts as whole", ORDER_BOOK,
        "quantities, 4):\n            return True\n    return False",
        "quantities, 4):\n            return True\n    return True", ("book",),
    ),
    Mutant(
        "a reader hands over before it has read", ORDER_BOOK,
        "    whole = side_gather(self, SIDE_BID",
        "    book_end_reading(self)\n    whole = side_gather(self, SIDE_BID", ("book",),
    ),
    Mutant(
        "a refused writer gives back what it has not got", ORDER_BOOK,
        "            while index > 0:\n                index -= 1\n",
        "            while index < self.count:\n                index += 1\n"
        "                store_release(&self.members[index - 1].access.state, BOOK_IDLE)\n"
        "            while index > 0:\n                index -= 1\n", ("book",),
    ),
    Mutant(
        "a book is given back before its event is published", ORDER_BOOK,
        "    book_end_event(self)\n    # Release: the thread that takes",
        "    store_release(&self.access.state, BOOK_IDLE)\n    book_end_event(self)\n"
        "    # Release: the thread that takes", ("book",),
    ),
    Mutant(
        "readers are answered within an event", ORDER_BOOK,
        "request != 0 and not self.in_event", "request != 0", ("book",),
    ),
    Mutant(
        "the top is published within an event", ORDER_BOOK,
        "    if self.by_event:\n        self.top_changed = True\n    else:\n"
        "        book_publish(self)", "    book_publish(self)", ("book",),
    ),
    Mutant(
        "a transaction that timed out is dropped", BOOK_STAGE,
        "        count(&self.timeouts, 1)\n        return 0\n",
        "        count(&self.timeouts, 1)\n        return 1\n", ("lanes",),
    ),
    Mutant(
        "a transaction that was refused is tried again", BOOK_STAGE,
        "    count(&self.rejected[status], 1)\n    return 1\n",
        "    count(&self.rejected[status], 1)\n    return 0\n", ("lanes",),
    ),
    Mutant(
        "a strategy is asked before there is room", BOOK_STAGE,
        "        if transaction_ring_room(self.output, self.room) < self.room:\n"
        "            return False\n", "        self.clean = self.clean\n", ("strategy",),
    ),
    Mutant(
        "a strategy's room goes beyond the ring's end", BOOK_STAGE,
        "    if unlikely(out.free < self.room):\n", "    if out.free == 0:\n", ("strategy",),
    ),
    Mutant(
        "a slot is lent as it was left", BOOK_STAGE,
        "    wipe(out.slots + out.filled + self.clean, wiped - self.clean)\n", "",
        ("strategy",),
    ),
    Mutant(
        "what lies aside is not wiped", BOOK_STAGE,
        "    wipe(self.aside, made)\n", "", ("strategy",),
    ),
    Mutant(
        "what was returned counts as wiped", BOOK_STAGE,
        "    self.clean -= made\n", "", ("strategy",),
    ),
    Mutant(
        "what was made before the run ended is lost", BOOK_STAGE,
        "        transaction_ring_publish(self.output, out.filled)\n        out.free =",
        "        out.free =", ("strategy",),
    ),
    Mutant(
        "reports are given back before they are heard", BOOK_STAGE,
        "    first = report_ring_peek(self.reports, most, &available)\n",
        "    first = report_ring_peek(self.reports, most, &available)\n"
        "    report_ring_release(self.reports, available)\n", ("feedback",),
    ),
    Mutant(
        "a report is heard before there is room for the answer", BOOK_STAGE,
        "(self.silent or outlet_open(self, out))", "outlet_open(self, out) < 2", ("feedback",),
    ),
    Mutant(
        "a report is heard twice", BOOK_STAGE,
        "    report_ring_release(self.reports, done)\n    if self.gate",
        "    report_ring_release(self.reports, done // 2)\n    if self.gate", ("feedback",),
    ),
    Mutant(
        "the stage ends before the last reports", BOOK_STAGE,
        "    return load_relaxed(&self.reports.tail) == self.last_report\n",
        "    return True\n", ("feedback",),
    ),
    Mutant(
        "the last report is the last one seen", BOOK_STAGE,
        "        self.last_report = load_relaxed(&self.reports.head)\n",
        "        self.last_report = self.reports.cached_head\n", ("feedback",),
    ),
    Mutant(
        "answers to reports stay unpublished", BOOK_STAGE,
        "        moved += fire_timers(self, &out)\n"
        "    transaction_ring_publish(self.output, out.filled)\n",
        "        moved += fire_timers(self, &out)\n", ("feedback",),
    ),
    Mutant(
        "the bit is set after the level", BOOK + ".pxd",
        "            if not shared_book_announce(book, words, 1, rank, &lost):\n"
        "                return STATUS_TIMEOUT\n",
        "            pass\n", ("shared_book",),
    ),
    Mutant(
        "a bit that is set already is not announced", BOOK + ".pyx",
        "        # Release: a thread that sees this bit also sees its word",
        "        if seen & <uint64_t>1 << (index & 31):\n            return True\n"
        "        # Release: a thread that sees this bit also sees its word", ("shared_book",),
    ),
    Mutant(
        "a bit is announced without a version", BOOK + ".pyx",
        "(seen | <uint64_t>1 << (index & 31)) + BITMAP_VERSION",
        "(seen | <uint64_t>1 << (index & 31))", ("shared_book",),
    ),
    Mutant(
        "the bit is cleared against what is there now", BOOK + ".pyx",
        "    while above & bit:\n        if has_grandparent:",
        "    above = load_relaxed(parent)\n    while above & bit:\n        if has_grandparent:",
        ("shared_book",),
    ),
    Mutant(
        "the bit is cleared again without a new epoch", BOOK + ".pyx",
        "if cas_weak_acq_rel_else_relaxed(word, &seen, seen + step):",
        "if load_relaxed(word) == seen:", ("shared_book",),
    ),
    Mutant(
        "a bit is never cleared", BOOK + ".pyx",
        "    withdraw(book, words, tier, index, above, &lost)\n", "    pass\n", ("shared_book",),
    ),
    Mutant(
        "a clean-up takes as many tries as an update", BOOK + ".pyx",
        "max(book.tries // CLEANUP_SHARE, <uint32_t>1)", "book.tries", ("shared_book",),
    ),
    Mutant(
        "a vacant level keeps its epoch", BOOK + ".pxd",
        "&seen, seen - held + wanted)", "&seen, (seen - held + wanted) & LEVEL_QUANTITY)",
        ("shared_book",),
    ),
    Mutant(
        "the level is a load and a store", BOOK + ".pxd",
        "        if likely(cas_weak_acq_rel_else_relaxed(words + rank, &seen,"
        " seen - held + wanted)):",
        "        store_release(words + rank, seen - held + wanted)\n        if book != NULL:",
        ("shared_book",), "store_release",
    ),
    Mutant(
        "the summary is announced after the bitmap", BOOK + ".pyx",
        "        if not seen & BITMAP_OCCUPIED and tier < book.root:\n"
        "            if not shared_book_announce(book, words, tier + 1, index >> 5, lost):\n"
        "                return False\n", "", ("shared_book",),
    ),
    Mutant(
        "the best is not looked at again", BOOK + ".pyx",
        "if walk_held(&walk):", "if walk_held(&walk) or book != NULL:", ("shared_book",),
    ),
    Mutant(
        "the gate says that it uses a block before it has taken it", RISK,
        "    self.limits = block\n", "    store_release(&self.in_use, block.number + 1)\n"
        "    self.limits = block\n", ("gate",),
    ),
    Mutant(
        "the gate never says which limits it uses", RISK,
        "    store_release(&self.in_use, block.number)\n", "    pass\n", ("gate",),
    ),
    Mutant(
        "limits are published without an order", RISK,
        "    store_release(&self.newest,", "    store_relaxed(&self.newest,", ("gate",),
        "store_relaxed",
    ),
    Mutant(
        "the gate goes on with its first limits", RISK,
        "    if likely(block == self.limits):", "    if likely(self.limits != NULL):", ("gate",),
    ),
    Mutant(
        "the kill is a load and a store", KILL,
        "    return cas_strong_release_else_relaxed(&self.state, &state, KILL_SET)",
        "    if load_relaxed(&self.state) != state:\n        return False\n"
        "    store_release(&self.state, KILL_SET)\n    return True",
        ("gate",), "store_release",
    ),
    Mutant(
        "the switch is armed whatever it is", KILL,
        "    return cas_strong_acquire_else_relaxed(&self.state, &seen, KILL_ARMED)",
        "    store_release(&self.state, KILL_ARMED)\n    return True",
        ("gate",), "store_release",
    ),
    Mutant(
        "anything but a set switch lets pass", KILL,
        "load_relaxed(&self.state) == KILL_ARMED", "load_relaxed(&self.state) != 0", ("gate",),
    ),
    Mutant(
        "an underflow is applied", "velox/core/effect.pxd",
        "    if unlikely(quantity[0] > most):\n"
        "        return STATUS_UNDERFLOW if taken else STATUS_OVERFLOW\n", "",
        ("shared_book",),
    ),
    Mutant(
        "the bell is armed before the descriptor is lowered", BELL,
        "    descriptor_lower(self.readable)\n"
        "    # Relaxed: if the last ring was lowered, the kernel has ordered `closed` before it.\n"
        "    if load_relaxed(&self.ring.closed):\n        descriptor_raise(self.raised)\n"
        "    else:\n        bell_arm(self)\n",
        "    bell_arm(self)\n    descriptor_lower(self.readable)\n"
        "    if load_relaxed(&self.ring.closed):\n        descriptor_raise(self.raised)\n",
        ("bell",),
    ),
    Mutant(
        "the last ring is taken back", BELL,
        "        descriptor_raise(self.raised)\n    else:\n", "        pass\n    else:\n",
        ("bell",),
    ),
    Mutant(
        "the last ring is only for an armed bell", BELL,
        "    if load_relaxed(&self.ring.closed):\n        descriptor_raise(self.raised)\n"
        "        self.stage.finished",
        "    if load_relaxed(&self.ring.closed):\n        self.stage.finished", ("bell",),
    ),
    Mutant(
        "the descriptor is lowered while bundles are there", BELL,
        "    if load_acquire(&self.armed) or (\n"
        "            load_relaxed(&self.ring.head) != load_relaxed(&self.ring.tail)):\n"
        "        return\n",
        "    if load_acquire(&self.armed):\n        return\n", ("bell",),
    ),
]  # fmt: skip
