"""Each faulty program has exactly its fault."""

from __future__ import annotations

import pytest

from tests.verify.market import walker
from tests.verify.market.wire import EVENTS, IMMEDIATE_OR_CANCEL, Place
from tests.verify.market.world import MarketWorld
from velox.testing.market import FAULT_CODE, FAULTY_PROGRAM, MarketFault, faulty_program

from .checks import CHECKS, builtin, custom, place

LADDER = [Place(5, price, 0, False) for price in range(10, 15)]


def test_a_program_without_its_fault_is_the_market() -> None:
    program = FAULTY_PROGRAM.read_bytes()
    for name in ("first_in_first_out", "rounding", "cancels", "trees"):
        CHECKS[name](program)


@pytest.mark.parametrize("at", [0, 2, 4])
def test_the_nth_order_uses_up_the_compute_units(at: int) -> None:
    world = MarketWorld(faulty_program(MarketFault.OUT_OF_COMPUTE, at), deposits=10**9)
    world.limit_compute(200_000)
    done = place(world, 0, *LADDER)
    assert done.error == builtin("ProgramFailedToComplete")
    assert done.compute == 200_000
    assert len(done.events) == at
    assert walker.read(world.market_data()).asks == []
    assert place(world, 0, *LADDER[:at]).error is None


@pytest.mark.parametrize("at", [0, 3])
def test_the_nth_order_fails_and_takes_the_batch_with_it(at: int) -> None:
    world = MarketWorld(faulty_program(MarketFault.FAILS_MIDWAY, at))
    done = place(world, 0, *LADDER)
    assert done.error == custom(FAULT_CODE)
    assert [EVENTS[each[:8]] for each in done.events] == ["place"] * at
    assert walker.read(world.market_data()).asks == []


def test_true_events_are_among_false_ones() -> None:
    world = MarketWorld(faulty_program(MarketFault.GARBAGE_EVENTS))
    done = place(world, 0, *LADDER[:2])
    assert done.error is None
    told = [each for each in done.events if EVENTS.get(each[:8]) == "place" and len(each) == 120]
    assert len(told) == 2
    assert len(done.events) > 8
    assert b"" in done.events
    assert len(done.placed) == 2


def test_a_flooded_log_holds_no_event() -> None:
    world = MarketWorld(faulty_program(MarketFault.FLOODED_LOG), deposits=10**9)
    world.svm = world.svm.with_log_bytes_limit(10_000)
    done = place(world, 0, *LADDER[:2])
    assert done.error is None
    assert "Log truncated" in done.logs
    assert [each for each in done.events if EVENTS.get(each[:8]) == "place"] == []
    assert len(done.placed) == 2


@pytest.mark.parametrize("size", [1, 3, 40, 1_024])
def test_an_answer_may_be_garbage(size: int) -> None:
    world = MarketWorld(faulty_program(MarketFault.GARBAGE_ANSWER, size))
    done = place(world, 0, *LADDER[:2])
    assert done.error is None
    assert done.answer == bytes((each * 167 + 13) % 256 for each in range(size)).rstrip(b"\0") or (
        len(done.answer) == size
    )
    assert len(walker.read(world.market_data()).asks) == 2


def test_an_answer_may_be_missing_or_short() -> None:
    world = MarketWorld(faulty_program(MarketFault.NO_ANSWER))
    assert place(world, 0, *LADDER[:2]).answer == b""
    world = MarketWorld(faulty_program(MarketFault.SHORT_ANSWER))
    done = place(world, 0, *LADDER[:2])
    assert int.from_bytes(done.answer[:4], "little") == 3
    assert len(done.answer) <= 4 + 2 * 12


def test_a_changed_layout_is_no_market_of_version_0_and_still_trades() -> None:
    world = MarketWorld(faulty_program(MarketFault.CHANGED_LAYOUT))
    assert place(world, 0, *LADDER).error is None
    assert world.market_data()[8] == 1
    with pytest.raises(walker.InvalidMarketError):
        walker.read(world.market_data())
    done = place(world, 1, Place(12, 20, 0, True, 0, IMMEDIATE_OR_CANCEL))
    assert [EVENTS[each[:8]] for each in done.events] == ["fill", "fill", "fill", "place"]


def test_a_fault_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="at: -1"):
        faulty_program(MarketFault.FAILS_MIDWAY, -1)
