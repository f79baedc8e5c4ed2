"""Outputs: the bundles that each takes, and the counters."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from tests.support import (
    hangs_are_broken_off,
    inside,
    numbered_bundles,
    orders,
    pass_the_time_until,
    refused,
)
from velox import (
    BUNDLE_DTYPE,
    BundleRing,
    Clock,
    DiscardOutput,
    Output,
    Pipeline,
    PipelineConfig,
    PullOutput,
    PushIngress,
    ReplayIngress,
)
from velox.errors import PipelineError, RingError
from velox.runtime.runner import Runner
from velox.runtime.stage import Control

NOW_NS = 1_000_000


class Bench:
    """One output on a virtual clock, fed by the test."""

    def __init__(self, output: Output, *, capacity: int = 64, **options: Any) -> None:
        self.output = output
        self.clock = Clock("virtual")
        self.clock.set(NOW_NS)
        self.control = Control()
        self.ring = BundleRing(capacity)
        output.attach(self.ring, self.clock, self.control, **options)
        output.begin()

    def runner(self) -> Runner:
        return Runner("bench", [self.output], self.clock)

    def delivered(self) -> tuple[int, int]:
        return self.output.delivered_bundles, self.output.delivered_transactions


def timed_bundles(count: int) -> Any:
    bundles = numbered_bundles(count)
    bundles["sealed_ts_ns"] = NOW_NS - 100
    bundles["transactions"]["ingress_ts_ns"] = NOW_NS - 2_000
    return bundles


# Discard


def test_what_is_discarded_is_counted_and_timed() -> None:
    bench = Bench(DiscardOutput())
    bundles = timed_bundles(20)
    bench.ring.push(bundles)
    runner = bench.runner()
    assert runner.step() == 20
    assert bench.delivered() == (20, int(bundles["count"].sum()))
    assert (bench.output.delivery.count, bench.output.delivery.max) == (20, 100)
    assert bench.output.total.count == bundles["count"].sum()
    assert bench.output.total.min == bench.output.total.max == 2_000
    assert len(bench.ring) == 0


def test_a_time_that_lies_ahead_is_no_time_at_all() -> None:
    bench = Bench(DiscardOutput())
    bundles = timed_bundles(1)
    bundles["sealed_ts_ns"] = NOW_NS + 5
    bundles["transactions"]["ingress_ts_ns"] = 2**64 - 1
    bench.ring.push(bundles)
    bench.runner().step()
    assert bench.output.delivery.max == bench.output.total.max == 0


def test_an_output_ends_once_its_ring_is_closed_and_empty() -> None:
    bench = Bench(DiscardOutput(), batch=3)
    bench.ring.push(timed_bundles(5))
    bench.ring.close()
    runner = bench.runner()
    assert [runner.step() for _ in range(3)] == [3, 2, -1]
    assert bench.output.finished


def test_an_output_waits_for_a_ring_that_is_only_empty() -> None:
    bench = Bench(DiscardOutput())
    runner = bench.runner()
    assert runner.step() == 0
    assert not bench.output.finished


# Pull


def test_a_poll_shows_what_there_is_and_gives_it_back_when_left() -> None:
    bench = Bench(PullOutput(), capacity=4)
    bench.ring.push(timed_bundles(3))
    with bench.output.poll() as bundles:
        assert bundles.tobytes() == timed_bundles(3).tobytes()
        assert not bundles.flags.writeable
        assert len(bench.ring) == 3
    assert len(bench.ring) == 0
    with bench.output.poll() as bundles:
        assert len(bundles) == 0
        assert bundles.dtype == BUNDLE_DTYPE
    assert bench.delivered() == (3, int(timed_bundles(3)["count"].sum()))
    assert bench.output.delivery.count == 3


@pytest.mark.parametrize("most", [0, 1, 2, 3, 100])
def test_a_poll_takes_at_most_what_it_is_told(most: int) -> None:
    bench = Bench(PullOutput())
    bench.ring.push(timed_bundles(3))
    with bench.output.poll(most) as bundles:
        assert len(bundles) == max(0, min(most, 3))
    assert len(bench.ring) == 3 - max(0, min(most, 3))


def test_bundles_are_delivered_once_even_where_the_block_raises() -> None:
    bench = Bench(PullOutput())
    bench.ring.push(timed_bundles(3))
    with pytest.raises(KeyError), bench.output.poll(2):
        raise KeyError
    assert bench.delivered()[0] == 2
    with bench.output.poll() as bundles:
        assert bundles["transactions"]["id"][:, 0].tolist() == [3]
    assert bench.delivered()[0] == 3


def test_an_open_poll_is_a_turn() -> None:
    bench = Bench(PullOutput())
    bench.ring.push(timed_bundles(3))
    with (
        bench.output.poll(1),
        pytest.raises(PipelineError, match="one at a time"),
        bench.output.poll(),
    ):
        pass
    with bench.output.poll() as bundles:
        assert len(bundles) == 2


def test_a_poll_that_was_never_entered_ends_nobodys_turn() -> None:
    bench = Bench(PullOutput())
    with bench.output.poll():
        bench.output.poll().__exit__(None, None, None)
        with pytest.raises(PipelineError, match="one at a time"), bench.output.poll():
            pass


def test_a_poll_across_the_wrap_takes_two() -> None:
    bench = Bench(PullOutput(), capacity=4)
    bench.ring.push(timed_bundles(3))
    with bench.output.poll():
        pass
    bench.ring.push(timed_bundles(4))
    lengths = []
    for _ in range(2):
        with bench.output.poll() as bundles:
            lengths.append(len(bundles))
    assert lengths == [1, 3]


def test_what_is_inside_at_the_stop_is_kept_for_later_polls() -> None:
    bench = Bench(PullOutput())
    bench.ring.push(timed_bundles(5))
    bench.ring.close()
    while not bench.output.drain():
        pass
    assert bench.delivered()[0] == 5
    assert not bench.output.exhausted
    numbers = []
    while not bench.output.exhausted:
        with bench.output.poll(2) as bundles:
            numbers += bundles["transactions"]["id"][:, 0].tolist()
    assert numbers == [1, 2, 3, 4, 5]
    assert bench.delivered()[0] == 5


def test_a_kept_bundle_is_as_read_only_as_one_in_the_ring() -> None:
    bench = Bench(PullOutput())
    bench.ring.push(timed_bundles(2))
    bench.output.drain()
    with bench.output.poll() as bundles:
        assert not bundles.flags.writeable


def test_a_poll_of_no_pipeline_is_refused() -> None:
    with pytest.raises(PipelineError, match="no pipeline"), PullOutput().poll():
        pass


def test_a_poll_of_something_else_than_a_number_is_refused() -> None:
    bench = Bench(PullOutput())
    for wrong in ("all", -1):
        with (
            refused(RingError, field="max_bundles", value=wrong),
            bench.output.poll(wrong),  # type: ignore[arg-type]
        ):
            pass
    with bench.output.poll():
        pass


def test_everything_that_is_pushed_can_be_polled_while_it_runs() -> None:
    ingress, output = PushIngress(), PullOutput()
    config = PipelineConfig(
        placement="shared", idle="yield", transaction_capacity=8, bundle_capacity=2, seal="idle"
    )
    sent = orders(500)
    out = []
    with Pipeline(ingress, output, config=config) as pipeline:

        def feed() -> None:
            assert ingress.push(sent) == 500
            ingress.close()

        feeder = threading.Thread(target=feed)
        feeder.start()
        while not output.exhausted:
            with output.poll() as bundles:
                out.append(inside(bundles))
        feeder.join()
    assert np.concatenate(out)["id"].tolist() == sent["id"].tolist()
    assert pipeline.ledger().delivered_transactions == 500


def test_a_stop_from_within_a_poll_says_so_instead_of_waiting_for_itself() -> None:
    output = PullOutput()
    config = PipelineConfig(placement="shared", idle="yield")
    pipeline = Pipeline(ReplayIngress(orders(32)), output, config=config)
    pipeline.start()
    pass_the_time_until(lambda: pipeline.statistics().sealed_bundles == 2)
    with (
        hangs_are_broken_off(),
        pytest.raises(PipelineError, match="poll"),
        output.poll(),
    ):
        pipeline.stop()
    pipeline.stop()
    assert pipeline.state == "stopped"


# All


@pytest.mark.parametrize("make", [DiscardOutput, PullOutput])
def test_an_output_belongs_to_one_pipeline(make: Any) -> None:
    output = make()
    Bench(output)
    with pytest.raises(PipelineError, match="already belongs to a pipeline"):
        Bench(output)
