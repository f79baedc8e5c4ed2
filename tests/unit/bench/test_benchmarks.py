"""What the benchmarks say of their own figures, and that they check before they time."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest

import velox

pytest.importorskip("benchmarks", reason="the benchmarks stand beside the repository's tests alone")

from benchmarks import baseline, measures, peers, records, targets
from benchmarks.sampling import Sample, alternate

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler named cc")


# Samples


@pytest.mark.parametrize(
    ("rounds", "repeats"),
    [
        ((10.0, 10.0, 10.0, 10.0), True),
        ((10.0, 10.0, 11.0, 11.0), True),
        ((10.0, 10.0, 11.2, 11.2), False),
        ((11.2, 11.2, 10.0, 10.0), False),
        # One round that the host spoilt is not the median of its half.
        ((10.0, 90.0, 10.0, 10.0, 10.0, 10.0), True),
        ((0.0, 0.0), True),
        ((10.0,), False),
    ],
)
def test_a_figure_repeats_if_both_halves_say_the_same(
    rounds: tuple[float, ...], repeats: bool
) -> None:
    assert Sample(rounds).repeats is repeats


def test_a_figure_is_the_median_between_its_quartiles() -> None:
    sample = Sample((5.0, 1.0, 3.0, 2.0, 4.0))
    assert (sample.median, sample.spread) == (3.0, (2.0, 4.0))
    assert Sample((7.0,)).spread == (7.0, 7.0)


def test_measures_take_turns_after_a_round_that_does_not_count() -> None:
    order: list[str] = []

    def measure(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = alternate({"a": lambda: measure("a"), "b": lambda: measure("b")}, 2)
    assert order == ["a", "b"] * 3
    assert found == {"a": Sample((3.0, 5.0)), "b": Sample((4.0, 6.0))}


# Targets


@pytest.mark.parametrize(
    ("median", "at_least", "verdict"),
    [(9.0, False, "met"), (11.0, False, "missed"), (11.0, True, "met"), (9.0, True, "missed")],
)
def test_a_target_is_met_on_its_own_side(median: float, at_least: bool, verdict: str) -> None:
    steady = targets.Figure("x", "ns", 10, Sample((median,) * 4), at_least)
    assert steady.verdict == verdict
    shaken = targets.Figure("x", "ns", 10, Sample((median, median * 2, median, median)), at_least)
    assert shaken.verdict == f"{verdict}, does not repeat"


def test_a_target_that_was_not_measured_is_not_met() -> None:
    figure = targets.Figure("x", "ns", 10, None, note="no data")
    assert not figure.met
    assert figure.row() == "| x | at most 10 ns | | | | not measured (no data) |"


# The C loop


@needs_cc
@pytest.mark.parametrize("variant", baseline.VARIANTS, ids=lambda each: each.name)
def test_the_loop_and_the_pipeline_make_the_same_bundles(variant: baseline.Variant) -> None:
    baseline.check(baseline.Baseline(), records.synthetic(10_000), variant)


@needs_cc
def test_a_loop_that_makes_other_bundles_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    def another(*arguments: Any, **options: Any) -> Any:
        bundles = theirs(*arguments, **options)
        bundles["transactions"]["size"][3, 5] += 1
        return bundles

    loop = baseline.Baseline()
    theirs = loop.bundles
    monkeypatch.setattr(loop, "bundles", another)
    with pytest.raises(RuntimeError, match="do not make the same bundles"):
        baseline.check(loop, records.synthetic(1_000), baseline.VARIANTS[0])


@needs_cc
def test_a_loop_that_rejects_has_no_speed() -> None:
    far = records.synthetic(1_000).copy()
    far["price"][-1] = 10**9
    with pytest.raises(RuntimeError, match="applied is 999, but must be 1000"):
        baseline.Baseline().ns_a_transaction(far, 1, baseline.VARIANTS[0])


def test_without_a_compiler_there_is_no_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", "no-such-compiler -O3")
    with pytest.raises(RuntimeError, match="no C compiler: 'no-such-compiler' was not found"):
        baseline.Baseline()


# Books


def test_the_reference_of_levels_is_what_a_book_holds() -> None:
    given = peers.absolute(5_000)
    book = velox.OrderBook(1024, records.TICK_SIZE)
    assert book.apply(given).applied == len(given)
    assert measures.held_by(book) == measures.levels_of(given)
    assert (book.best_bid, book.best_ask) == peers.best_of(measures.levels_of(given))


def test_what_a_peer_drops_is_told() -> None:
    expected = {(0, 99): 5, (0, 98): 1, (1, 101): 7}
    assert peers.judged(dict(expected), (99, 101), expected) == "every level right"
    assert peers.judged({(0, 99): 5, (1, 101): 7}, (99, 101), expected) == "kept 2 of 3 levels"
    assert peers.judged(expected | {(0, 97): 2}, (99, 101), expected) == ("1 levels that are none")
    assert "best prices (98, 101), not (99, 101)" in peers.judged(expected, (98, 101), expected)


def test_a_peer_that_is_not_there_is_named_and_the_others_are_measured() -> None:
    here = peers.Entrant("here", lambda count: (lambda: float(count), "right"), "")
    absent = peers.Entrant("absent", lambda count: peers.needed("no_such_module"), "")
    rows = list(peers.compare([here, absent], 8, 1))
    assert rows[0].sample == Sample((8.0,))
    assert rows[1].sample is None
    assert rows[1].found.startswith("not here: ModuleNotFoundError")


# The writer


def test_the_best_price_is_read_while_it_moves() -> None:
    ns, again = measures.top_under_writer(2)
    assert ns > 0
    assert again >= 0


@pytest.mark.parametrize("wrong", [False, True])
def test_a_wrong_answer_has_no_speed(wrong: bool) -> None:
    if not wrong:
        measures.require("the answer", 42, 42)
        return
    with pytest.raises(RuntimeError, match="the answer is 41, but must be 42"):
        measures.require("the answer", 41, 42)


def test_the_parts_state_what_a_pipeline_takes() -> None:
    pipeline = velox.Pipeline(velox.PoissonIngress())
    rings = 2 * 4096 * 32 + 1024 * 528
    histograms = 5 * velox.LatencyHistogram().memory_bytes
    stated = measures.memory_stated(pipeline)
    books = sum(each.memory_bytes for each in pipeline.books.values())
    assert rings + histograms + books <= stated <= rings + histograms + books + 3 * 4096
    assert np.isfinite(stated)
