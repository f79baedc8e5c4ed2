"""Two real threads on one ring, without the GIL inside each push and pop: order and content."""

from __future__ import annotations

import itertools
import os
import threading
from typing import Any

import numpy as np
import pytest

from tests.support import Array, rounds
from velox import (
    BUNDLE_DTYPE,
    REPORT_RECORD_DTYPE,
    TRANSACTION_DTYPE,
    BundleRing,
    ReportRing,
    RingStatistics,
    TransactionRing,
)

# Any slot that is read before it was written, or overwritten before it was read, breaks these.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def patterned(first: int, count: int) -> Array:
    records = np.zeros(count, TRANSACTION_DTYPE)
    numbers = np.arange(first, first + count, dtype=np.uint64)
    mixed = numbers * MULTIPLIER
    records["id"] = numbers
    records["price"] = mixed.view(np.int64)
    records["size"] = mixed >> np.uint64(32)
    records["ingress_ts_ns"] = ~mixed
    return records


def patterned_bundles(first: int, count: int) -> Array:
    bundles = np.zeros(count, BUNDLE_DTYPE)
    numbers = np.arange(first, first + count, dtype=np.uint64)
    mixed = numbers * MULTIPLIER
    bundles["transactions"]["id"] = numbers[:, np.newaxis] + np.arange(16, dtype=np.uint64)
    bundles["transactions"]["price"] = mixed.view(np.int64)[:, np.newaxis]
    bundles["count"] = mixed & np.uint64(15)
    bundles["sealed_ts_ns"] = ~mixed
    return bundles


def patterned_reports(first: int, count: int) -> Array:
    reports = np.zeros(count, REPORT_RECORD_DTYPE)
    numbers = np.arange(first, first + count, dtype=np.uint64)
    mixed = numbers * MULTIPLIER
    reports["id"], reports["sequence"] = numbers, ~numbers
    reports["base_amount"] = mixed.view(np.int64)
    reports["reserved"] = mixed[:, np.newaxis] + np.arange(4, dtype=np.uint64)
    return reports


@pytest.mark.parametrize("taking", ["pop", "peek"])
@pytest.mark.parametrize("capacity", [1, 2, 8, 512, 4096])
@pytest.mark.parametrize(
    ("ring_type", "make", "total"),
    [
        (TransactionRing, patterned, 100_000),
        (BundleRing, patterned_bundles, 10_000),
        (ReportRing, patterned_reports, 40_000),
    ],
    ids=["transactions", "bundles", "reports"],
)
def test_what_one_thread_pushes_the_other_takes_byte_for_byte(
    ring_type: Any, make: Any, total: int, capacity: int, taking: str
) -> None:
    total = rounds(min(total, 4_000 * capacity))
    ring = ring_type(capacity, first_index=2**64 - total // 2)
    items = make(1, total)
    batches = np.random.default_rng(capacity).integers(1, 2 * capacity + 2, 64).tolist()

    def produce() -> None:
        sent = turn = 0
        while sent < total:
            pushed = ring.push(items[sent : sent + batches[turn % 64]])
            sent += pushed
            turn += 1
            if pushed == 0:
                os.sched_yield()  # lets go of the GIL, which else stays for 5 ms
        ring.close()

    producer = threading.Thread(target=produce)
    producer.start()
    taken: list[Array] = []
    got = turn = 0
    while got < total:
        if taking == "pop":
            batch = ring.pop(batches[-turn % 64])
        else:
            with ring.peek(batches[-turn % 64]) as seen:
                batch = seen.copy()
        turn += 1
        if len(batch) == 0:
            os.sched_yield()
            continue
        taken.append(batch)
        got += len(batch)
    producer.join()
    assert np.concatenate(taken).tobytes() == items.tobytes()
    assert ring.closed
    assert len(ring.pop()) == 0
    assert ring.statistics()[:2] == (total, total)


def test_who_looks_on_never_sees_more_popped_than_pushed() -> None:
    ring = TransactionRing(64)
    items = patterned(1, rounds(50_000))
    done = threading.Event()
    seen: list[RingStatistics] = []

    def look() -> None:
        while not done.is_set():
            statistics = ring.statistics()
            assert 0 <= len(ring) <= 64
            seen.append(statistics)
            os.sched_yield()

    def produce() -> None:
        sent = 0
        while sent < len(items):
            pushed = ring.push(items[sent : sent + 50])
            sent += pushed
            if pushed == 0:
                os.sched_yield()

    threads = [threading.Thread(target=look), threading.Thread(target=produce)]
    for thread in threads:
        thread.start()
    got = 0
    while got < len(items):
        popped = len(ring.pop())
        got += popped
        if popped == 0:
            os.sched_yield()
    done.set()
    for thread in threads:
        thread.join()
    for before, after in itertools.pairwise(seen):
        assert before.pushed <= after.pushed
        assert before.popped <= after.popped
    assert all(each.popped <= each.pushed for each in seen)
