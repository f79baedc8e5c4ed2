"""The bundle builder: sizes, deadlines and reasons, under a clock that the test drives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import in_another_thread, inside, orders, refused
from velox import BUNDLE_DTYPE, BundleBuilder, BundleRing, SealReason
from velox.errors import ConfigError, RecordError, RingError

TIMEOUT_NS = 1_000


def built(capacity: int = 64, *, timeout_ns: int = TIMEOUT_NS) -> BundleBuilder:
    return BundleBuilder(BundleRing(capacity), timeout_ns=timeout_ns)


def shape(bundles: Any) -> list[tuple[int, SealReason]]:
    """How many are in each, and why it was sealed."""
    return [(int(each["count"]), SealReason(each["reason"])) for each in bundles]


# Sizes


@pytest.mark.parametrize("count", [1, 15, 16, 17, 32, 33, 255])
def test_every_sixteenth_transaction_seals_a_bundle(count: int) -> None:
    builder = built()
    assert builder.add(orders(count), now_ns=5) == count
    bundles = builder.ring.pop()
    assert shape(bundles) == [(16, SealReason.SIZE)] * (count // 16)
    assert inside(bundles)["id"].tolist() == list(range(1, count // 16 * 16 + 1))
    assert (bundles["sealed_ts_ns"] == 5).all()
    assert builder.deadline_ns == (None if count % 16 == 0 else 5 + TIMEOUT_NS)


def test_sixteen_singles_make_one_bundle_that_is_held_since_each_came() -> None:
    builder = built()
    for now_ns in range(16):
        assert builder.add(orders(1, first_id=now_ns + 1), now_ns=now_ns) == 1
    (bundle,) = builder.ring.pop()
    assert bundle["transactions"]["id"].tolist() == list(range(1, 17))
    assert bundle["sealed_ts_ns"] == 15
    assert (builder.hold.count, builder.hold.min, builder.hold.max) == (16, 0, 15)


def test_nothing_opens_no_bundle() -> None:
    builder = built()
    assert builder.add(orders(0), now_ns=5) == 0
    assert builder.deadline_ns is None
    assert not builder.seal(now_ns=6)
    assert not builder.expire(now_ns=10**9)
    assert len(builder.ring) == 0


def test_a_full_ring_takes_whole_bundles_and_says_how_many_transactions() -> None:
    builder = built(2)
    assert builder.add(orders(100), now_ns=0) == 32
    assert builder.add(orders(1), now_ns=1) == 0
    assert builder.deadline_ns is None
    builder.ring.pop(1)
    assert builder.add(orders(100, first_id=33), now_ns=2) == 16
    assert inside(builder.ring.pop())["id"].tolist() == list(range(17, 49))


def test_an_open_bundle_is_not_yet_in_the_ring() -> None:
    builder = built(1)
    builder.add(orders(15), now_ns=0)
    assert len(builder.ring) == 0
    builder.add(orders(1), now_ns=0)
    assert len(builder.ring) == 1


def test_what_is_left_of_an_older_bundle_does_not_leave_with_a_smaller_one() -> None:
    builder = built(1)
    builder.add(orders(16, size=77), now_ns=0)
    builder.ring.pop()
    builder.add(orders(3), now_ns=0)
    builder.seal(now_ns=0)
    (bundle,) = builder.ring.pop()
    assert bundle["transactions"]["size"].tolist() == [1] * 3 + [0] * 13
    assert not bundle["transactions"][3:].tobytes().strip(b"\0")


# Deadlines


def test_a_bundle_expires_its_timeout_after_its_first_transaction() -> None:
    builder = built()
    builder.add(orders(1), now_ns=100)
    builder.add(orders(1), now_ns=900)
    assert builder.deadline_ns == 100 + TIMEOUT_NS
    assert not builder.expire(now_ns=100 + TIMEOUT_NS - 1)
    assert builder.expire(now_ns=100 + TIMEOUT_NS)
    assert not builder.expire(now_ns=100 + TIMEOUT_NS)
    assert shape(builder.ring.pop()) == [(2, SealReason.TIMEOUT)]
    assert builder.deadline_ns is None
    assert (builder.hold.min, builder.hold.max) == (200, TIMEOUT_NS)


def test_what_comes_at_the_deadline_goes_into_the_next_bundle() -> None:
    builder = built()
    builder.add(orders(1), now_ns=0)
    builder.add(orders(1, first_id=2), now_ns=TIMEOUT_NS)
    (bundle,) = builder.ring.pop()
    assert bundle["transactions"]["id"][:2].tolist() == [1, 0]
    assert builder.deadline_ns == 2 * TIMEOUT_NS


@pytest.mark.parametrize("timeout_ns", [0, -1, 2**62, 2**64])
def test_a_timeout_out_of_range_is_refused(timeout_ns: int) -> None:
    with refused(ConfigError, field="timeout_ns", value=timeout_ns):
        built(timeout_ns=timeout_ns)


# Reasons


@pytest.mark.parametrize("reason", [SealReason.IDLE, SealReason.DRAIN])
def test_the_owner_seals_when_it_wants(reason: SealReason) -> None:
    builder = built()
    builder.add(orders(3), now_ns=0)
    assert builder.seal(now_ns=7, reason=reason)
    assert not builder.seal(now_ns=7, reason=reason)
    bundles = builder.ring.pop()
    assert shape(bundles) == [(3, reason)]
    assert bundles["sealed_ts_ns"].tolist() == [7]
    assert builder.sealed == {each: int(each is reason) for each in SealReason}


@pytest.mark.parametrize("reason", [SealReason.SIZE, SealReason.TIMEOUT, 4, -1, "drain", None])
def test_the_owner_cannot_claim_a_reason_that_is_not_his(reason: Any) -> None:
    builder = built()
    builder.add(orders(3), now_ns=0)
    with refused(ConfigError, field="reason"):
        builder.seal(now_ns=0, reason=reason)
    assert len(builder.ring) == 0


# All of it, against a model

steps = st.lists(
    st.tuples(
        st.sampled_from(["add", "expire", "idle", "drain", "pop"]),
        st.integers(0, 40),
        st.integers(0, 2 * TIMEOUT_NS),
    ),
    max_size=60,
)


class Model:
    """The same rules in lists."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.ring: list[tuple[list[int], SealReason, int]] = []
        self.open: list[tuple[int, int]] = []
        self.held: list[int] = []

    @property
    def deadline_ns(self) -> int | None:
        return self.open[0][1] + TIMEOUT_NS if self.open else None

    def seal(self, reason: SealReason, now_ns: int) -> bool:
        if not self.open:
            return False
        self.ring.append(([number for number, _ in self.open], reason, now_ns))
        self.held += [now_ns - since for _, since in self.open]
        self.open = []
        return True

    def expire(self, now_ns: int) -> bool:
        due = self.deadline_ns
        return due is not None and now_ns >= due and self.seal(SealReason.TIMEOUT, now_ns)

    def add(self, ids: list[int], now_ns: int) -> int:
        self.expire(now_ns)
        for taken, number in enumerate(ids):
            if not self.open and len(self.ring) == self.capacity:
                return taken
            self.open.append((number, now_ns))
            if len(self.open) == 16:
                self.seal(SealReason.SIZE, now_ns)
        return len(ids)


@given(capacity=st.sampled_from([1, 2, 4, 8]), script=steps)
def test_the_builder_does_what_its_model_does(
    capacity: int, script: list[tuple[str, int, int]]
) -> None:
    builder, model = built(capacity), Model(capacity)
    now_ns, sent = 0, 0
    sealed = dict.fromkeys(SealReason, 0)
    for act, count, gap_ns in script:
        now_ns += gap_ns
        if act == "add":
            items = orders(count, first_id=sent + 1)
            accepted = builder.add(items, now_ns=now_ns)
            assert accepted == model.add(items["id"].tolist(), now_ns)
            sent += accepted
        elif act == "expire":
            assert builder.expire(now_ns=now_ns) == model.expire(now_ns)
        elif act == "pop":
            popped = builder.ring.pop(count % 3)
            expected, model.ring = model.ring[: count % 3], model.ring[count % 3 :]
            for bundle, (ids, reason, sealed_ns) in zip(popped, expected, strict=True):
                assert bundle["transactions"]["id"][: bundle["count"]].tolist() == ids
                assert (bundle["count"], bundle["reason"]) == (len(ids), reason)
                assert bundle["sealed_ts_ns"] == sealed_ns
                sealed[reason] += 1
        else:
            reason = SealReason[act.upper()]
            assert builder.seal(now_ns=now_ns, reason=reason) == model.seal(reason, now_ns)
        assert builder.deadline_ns == model.deadline_ns
        assert len(builder.ring) == len(model.ring)
    for _, reason, _ in model.ring:
        sealed[reason] += 1
    assert builder.sealed == sealed
    assert builder.hold.count == len(model.held)
    if model.held:
        assert (builder.hold.min, builder.hold.max) == (min(model.held), max(model.held))


# Its ring


def test_the_builder_is_its_rings_producer() -> None:
    builder = built()
    builder.add(orders(1), now_ns=0)
    for act in (
        lambda: builder.add(orders(1), now_ns=0),
        lambda: builder.expire(now_ns=0),
        lambda: builder.seal(now_ns=0),
    ):
        with pytest.raises(RingError, match="another thread is this ring's producer"):
            in_another_thread(act)


def test_a_builder_refuses_a_closed_ring() -> None:
    ring = BundleRing(2)
    builder = BundleBuilder(ring)
    ring.close()
    with pytest.raises(RingError, match="closed"):
        builder.add(orders(16), now_ns=0)


def test_a_builder_takes_only_transactions() -> None:
    builder = built()
    with pytest.raises(RecordError):
        builder.add(np.zeros(2, BUNDLE_DTYPE), now_ns=0)
    assert builder.deadline_ns is None


def test_a_builder_needs_a_ring() -> None:
    with pytest.raises(TypeError):
        BundleBuilder(None)  # type: ignore[arg-type]
