"""The rings: order, room, the wrap of their indices, and the owners of their ends."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from tests.support import (
    in_another_thread,
    numbered_bundles,
    numbered_reports,
    orders,
    refused,
)
from velox import (
    BUNDLE_DTYPE,
    REPORT_RECORD_DTYPE,
    TRANSACTION_DTYPE,
    BundleRing,
    ReportRing,
    RingStatistics,
    TransactionRing,
)
from velox.errors import RecordError, RingError

# ring type, its dtype, a maker of distinct items, the field that numbers them, header bytes
KINDS = [
    pytest.param(TransactionRing, TRANSACTION_DTYPE, orders, "id", id="transactions"),
    pytest.param(BundleRing, BUNDLE_DTYPE, numbered_bundles, "sealed_ts_ns", id="bundles"),
    pytest.param(ReportRing, REPORT_RECORD_DTYPE, numbered_reports, "sequence", id="reports"),
]
every_kind = pytest.mark.parametrize(("ring_type", "dtype", "make", "field"), KINDS)


def numbers(items: Any) -> list[int]:
    numbered: list[int] = items["id"].tolist()
    return numbered


# A model


class RingMachine(RuleBasedStateMachine):
    """A ring beside a deque that holds the same items."""

    @initialize(
        exponent=st.integers(0, 5),
        first_index=st.one_of(st.just(0), st.integers(2**64 - 70, 2**64 - 1)),
    )
    def make(self, exponent: int, first_index: int) -> None:
        self.ring = TransactionRing(1 << exponent, first_index=first_index)
        self.model: deque[int] = deque()
        self.closed = False
        self.pushed = self.popped = self.full = 0

    @precondition(lambda self: not self.closed)
    @rule(count=st.integers(0, 40))
    def push(self, count: int) -> None:
        items = orders(count, first_id=self.pushed + 1)
        room = self.ring.capacity - len(self.model)
        taken = self.ring.push(items)
        assert taken == min(count, room)
        self.full += count > room
        self.model.extend(items["id"][:taken].tolist())
        self.pushed += taken

    @precondition(lambda self: self.closed)
    @rule()
    def a_push_after_close_is_refused(self) -> None:
        with refused(RingError, code="closed"):
            self.ring.push(orders(1))

    @rule(most=st.none() | st.integers(0, 40))
    def pop(self, most: int | None) -> None:
        wanted = len(self.model) if most is None else most
        items = self.ring.pop(most)
        assert numbers(items) == [self.model.popleft() for _ in range(min(wanted, len(self.model)))]
        self.popped += len(items)

    @rule(most=st.none() | st.integers(0, 40), fails=st.booleans())
    def peek(self, most: int | None, fails: bool) -> None:
        wanted = self.ring.capacity if most is None else most
        seen: list[int] = []
        try:
            with self.ring.peek(most) as items:
                seen = numbers(items)
                if fails:
                    raise KeyError
        except KeyError:
            assert fails
        else:
            assert not fails
        # A peek ends where the ring wraps, but it never shows nothing where there is something.
        assert seen == list(self.model)[: len(seen)]
        assert len(seen) <= wanted
        assert bool(seen) == bool(self.model and wanted)
        if not fails:
            for _ in seen:
                self.model.popleft()
            self.popped += len(seen)

    @rule()
    def close(self) -> None:
        self.ring.close()
        self.closed = True

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert len(self.ring) == len(self.model)
        assert self.ring.closed == self.closed
        assert self.ring.statistics() == RingStatistics(self.pushed, self.popped, self.full)


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# What is passed


@every_kind
def test_every_byte_of_an_item_passes(
    ring_type: Any, dtype: Any, make: Callable[..., Any], field: str
) -> None:
    random = np.frombuffer(np.random.default_rng(1).bytes(64 * dtype.itemsize), dtype)
    ring = ring_type(64)
    assert ring.push(random) == 64
    assert ring.pop().tobytes() == random.tobytes()


@every_kind
@pytest.mark.parametrize("capacity", [1, 2, 4, 8])
@pytest.mark.parametrize("first_index", [0, 2**64 - 3, 2**64 - 1, 2**63 - 1])
def test_items_come_out_in_order_across_the_wrap_of_the_indices(
    *, ring_type: Any, dtype: Any, make: Any, field: str, capacity: int, first_index: int
) -> None:
    ring = ring_type(capacity, first_index=first_index)
    out: list[int] = []
    sent = 0
    for step in range(40):
        sent += ring.push(make(step % (capacity + 2), **first_of(make, sent + 1)))
        out += ring.pop(step % 3)[field].tolist()
    out += ring.pop()[field].tolist()
    assert out == list(range(1, sent + 1))
    assert sent > 4 * capacity
    assert ring.statistics()[:2] == (sent, sent)


def first_of(make: Any, number: int) -> dict[str, int]:
    return {"first_id": number} if make is orders else {"first": number}


@every_kind
def test_a_full_ring_takes_the_front_of_what_is_pushed(
    ring_type: Any, dtype: Any, make: Any, field: str
) -> None:
    ring = ring_type(4)
    assert ring.push(make(6)) == 4
    assert ring.push(make(1)) == 0
    assert ring.pop()[field].tolist() == [1, 2, 3, 4]
    assert ring.statistics() == RingStatistics(pushed=4, popped=4, full=2)


@every_kind
def test_popped_items_are_a_copy(ring_type: Any, dtype: Any, make: Any, field: str) -> None:
    ring = ring_type(2)
    ring.push(make(2))
    popped = ring.pop()
    before = popped.tobytes()
    ring.push(make(2, **first_of(make, 50)))
    popped.flags.writeable = True
    assert popped.tobytes() == before


@every_kind
def test_an_empty_ring_pops_and_peeks_nothing(
    ring_type: Any, dtype: Any, make: Any, field: str
) -> None:
    ring = ring_type(2)
    assert len(ring.pop()) == 0
    assert ring.pop().dtype == dtype
    with ring.peek() as items:
        assert len(items) == 0
        assert items.dtype == dtype


@every_kind
def test_the_defaults_are_those_of_the_design(
    ring_type: Any, dtype: Any, make: Any, field: str
) -> None:
    ring = ring_type()
    assert ring.capacity == (1024 if ring_type is BundleRing else 4096)
    assert ring.memory_bytes == 3 * 128 + ring.capacity * dtype.itemsize
    assert not ring.closed
    assert repr(ring) == f"<{ring_type.__name__} 0/{ring.capacity}>"
    ring.close()
    assert repr(ring).endswith(" closed>")


# Peeking


def test_a_peek_is_read_only_and_lies_in_the_ring() -> None:
    ring = TransactionRing(4)
    ring.push(orders(3))
    with ring.peek() as items:
        assert not items.flags.writeable
        assert not items.flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            items["id"] = 9
        with pytest.raises(ValueError, match="WRITEABLE"):
            items.flags.writeable = True


def test_a_peek_keeps_the_rings_memory_alive() -> None:
    ring = TransactionRing(4)
    ring.push(orders(3))
    with ring.peek() as items:
        del ring
        gc.collect()
        assert numbers(items) == [1, 2, 3]


def test_what_is_peeked_stays_until_the_block_is_left() -> None:
    ring = TransactionRing(2)
    ring.push(orders(2))
    with ring.peek():
        assert len(ring) == 2
        assert ring.push(orders(1)) == 0
    assert len(ring) == 0


def test_items_stay_where_an_exception_passes() -> None:
    ring = TransactionRing(4)
    ring.push(orders(3))
    with pytest.raises(KeyError), ring.peek() as items:
        raise KeyError(len(items))
    assert numbers(ring.pop()) == [1, 2, 3]


@pytest.mark.parametrize("act", ["pop", "peek", "hand_over"])
def test_an_open_peek_holds_the_consumers_end(act: str) -> None:
    ring = TransactionRing(4)
    ring.push(orders(3))
    acts = {
        "pop": ring.pop,
        "peek": lambda: ring.peek().__enter__(),
        "hand_over": lambda: ring.hand_over("consumer"),
    }
    with ring.peek(1), refused(RingError, code="peeking"):
        acts[act]()
    assert numbers(ring.pop()) == [2, 3]


def test_a_peek_that_was_never_entered_takes_nothing() -> None:
    ring = TransactionRing(4)
    ring.push(orders(3))
    ring.peek().__exit__(None, None, None)
    assert numbers(ring.pop()) == [1, 2, 3]


def test_a_peek_left_twice_takes_its_items_once() -> None:
    ring = TransactionRing(4)
    ring.push(orders(3))
    peek = ring.peek(1)
    peek.__enter__()
    peek.__exit__(None, None, None)
    peek.__exit__(None, None, None)
    assert numbers(ring.pop()) == [2, 3]


# Whose end


@pytest.mark.parametrize("act", ["push", "close", "hand_over"])
def test_a_second_producer_is_refused(act: str) -> None:
    ring = TransactionRing(4)
    ring.push(orders(1))
    acts = {
        "push": lambda: ring.push(orders(1)),
        "close": ring.close,
        "hand_over": lambda: ring.hand_over("producer"),
    }
    with refused(RingError, code="producer"):
        in_another_thread(acts[act])
    assert ring.push(orders(1)) == 1


@pytest.mark.parametrize("act", ["pop", "peek", "hand_over"])
def test_a_second_consumer_is_refused(act: str) -> None:
    ring = TransactionRing(4)
    ring.push(orders(2))
    ring.pop(1)
    acts = {
        "pop": ring.pop,
        "peek": lambda: ring.peek().__enter__(),
        "hand_over": lambda: ring.hand_over("consumer"),
    }
    with refused(RingError, code="consumer"):
        in_another_thread(acts[act])
    assert len(ring.pop()) == 1


def test_each_end_may_be_handed_over() -> None:
    ring = TransactionRing(4)
    ring.push(orders(1))
    ring.hand_over("producer")
    assert in_another_thread(lambda: ring.push(orders(1, first_id=2))) == 1
    assert numbers(ring.pop(1)) == [1]
    ring.hand_over("consumer")
    assert numbers(in_another_thread(ring.pop)) == [2]


def test_there_are_two_ends() -> None:
    with refused(RingError, field="side", value="both"):
        TransactionRing(4).hand_over("both")  # type: ignore[arg-type]


def test_anyone_may_look() -> None:
    ring = TransactionRing(4)
    ring.push(orders(3))
    ring.pop(1)
    seen = in_another_thread(lambda: (len(ring), ring.statistics(), ring.closed))
    assert seen == (2, RingStatistics(3, 1, 0), False)


# Closing


def test_what_is_inside_outlives_the_close() -> None:
    ring = TransactionRing(4)
    ring.push(orders(2))
    ring.close()
    ring.close()
    assert numbers(ring.pop()) == [1, 2]
    with refused(RingError, code="closed"):
        ring.push(orders(1))


# What is refused


@pytest.mark.parametrize("capacity", [0, -1, 3, 6, 2**30 + 1, 2**31, 2**64, 2**70])
def test_a_capacity_that_is_no_power_of_two_is_refused(capacity: int) -> None:
    with refused(RingError, field="capacity", value=capacity):
        TransactionRing(capacity)


@pytest.mark.parametrize("capacity", [4.0, "4", None, [4]])
def test_a_capacity_that_is_no_integer_is_refused(capacity: object) -> None:
    with refused(RingError, field="capacity", value=capacity):
        TransactionRing(capacity)  # type: ignore[arg-type]


def test_a_numpy_integer_is_a_capacity() -> None:
    assert TransactionRing(np.int64(8)).capacity == 8


@every_kind
def test_a_ring_takes_only_its_own_items(ring_type: Any, dtype: Any, make: Any, field: str) -> None:
    ring = ring_type(4)
    all_dtypes = [TRANSACTION_DTYPE, BUNDLE_DTYPE, REPORT_RECORD_DTYPE]
    others = [np.zeros(2, other) for other in all_dtypes if other != dtype]
    for wrong in (*others, [1], make(4)[::2], None):
        with pytest.raises(RecordError):
            ring.push(wrong)
    assert ring.statistics() == RingStatistics(0, 0, 0)
