"""Misuse of the API, and regressions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import assert_adds_up, hangs_are_broken_off, orders, refused
from velox import (
    TRANSACTION_DTYPE,
    BundleBuilder,
    BundleRing,
    CaptureOutput,
    Clock,
    DiscardOutput,
    Ingress,
    Instrument,
    Output,
    Pipeline,
    PipelineConfig,
    PoissonIngress,
    PullOutput,
    PushIngress,
    ReplayIngress,
    TransactionRing,
    from_fixed,
    recover_capture,
)
from velox.core.bundle import MAX_LANES
from velox.errors import CaptureError, ConfigError, PipelineError, RecordError, RingError
from velox.runtime.bundle_stage import BundleStage
from velox.runtime.runner import Runner
from velox.runtime.stage import Stage

INVOKER = PipelineConfig(placement="invoker")
SHARED = PipelineConfig(placement="shared", idle="yield")


def test_a_builder_without_an_open_bundle_expires_at_no_time() -> None:
    builder = BundleBuilder(BundleRing())
    assert not builder.expire(now_ns=2**63 - 1)
    for wrong in (2**63, 2**64 - 1, -1, 1.5, "now"):
        with refused(ConfigError, field="now_ns"):
            builder.expire(now_ns=wrong)  # type: ignore[arg-type]


def test_a_builder_at_the_end_of_time_keeps_its_bundle_open() -> None:
    builder = BundleBuilder(BundleRing(), timeout_ns=2**62 - 1)
    builder.add(orders(1), now_ns=2**63 - 1)
    assert builder.deadline_ns is not None
    assert builder.deadline_ns > 2**63 - 1
    assert not builder.expire(now_ns=2**63 - 1)


@pytest.mark.parametrize("act", ["expire", "seal"])
def test_nothing_is_published_behind_a_close(act: str) -> None:
    ring = BundleRing()
    builder = BundleBuilder(ring)
    builder.add(orders(1), now_ns=0)
    ring.close()
    with pytest.raises(RingError, match="closed"):
        getattr(builder, act)(now_ns=10**9)
    assert len(ring) == 0


@pytest.mark.parametrize("time", [2**64 - 1, 2**63, 2**62 + 1])
def test_a_recording_later_than_any_clock_is_refused(time: int) -> None:
    records = orders(4)
    records["ingress_ts_ns"] = time
    with refused(RecordError, field="ingress_ts_ns"):
        Pipeline(ReplayIngress(records), config=INVOKER).run()


def test_a_recording_whose_time_jumps_to_the_end_of_time_ends() -> None:
    records = orders(4)
    records["ingress_ts_ns"] = [1, 2, 2**64 - 1, 3]
    pipeline = Pipeline(ReplayIngress(records), config=INVOKER)
    assert pipeline.run().ledger.delivered_transactions == 4
    assert_adds_up(pipeline)


@pytest.mark.parametrize("speed", [1e-9, 1e-11, 1e-20, 1e-300])
def test_the_slowest_replay_waits_and_does_not_wrap(speed: float) -> None:
    records = orders(4)
    records["ingress_ts_ns"] = np.arange(4) * 10**9
    pipeline = Pipeline(ReplayIngress(records, speed=speed), config=SHARED)
    assert pipeline.run(duration=0.01).ledger.pushed == 1


def test_two_captures_of_one_path_at_a_time_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.npy"
    ingress = PushIngress()
    with Pipeline(ingress, CaptureOutput(path), config=SHARED):
        ingress.push(orders(40))
        with pytest.raises(CaptureError, match="another capture"):
            Pipeline(ReplayIngress(orders(1)), CaptureOutput(path), config=INVOKER).run()
        with pytest.raises(CaptureError, match="another capture"):
            recover_capture(path)
    assert recover_capture(path) == len(np.load(path))
    assert int(np.load(path)["count"].sum()) == 40


def test_a_pipe_is_no_place_for_a_capture(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with hangs_are_broken_off(), pytest.raises(CaptureError, match="pipe"):
        Pipeline(ReplayIngress(orders(1)), CaptureOutput(path), config=INVOKER).run()
    with hangs_are_broken_off(), pytest.raises(CaptureError, match="pipe"):
        recover_capture(path)


def test_a_push_after_a_start_that_failed_is_refused() -> None:
    ingress = PushIngress()
    pipeline = Pipeline(ingress, CaptureOutput("/nonexistent/run.npy"), config=SHARED)
    with pytest.raises(CaptureError):
        pipeline.start()
    with hangs_are_broken_off(), pytest.raises(PipelineError, match="stopped"):
        ingress.push(orders(10_000))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_process_neither_pushes_to_its_parents_pipeline_nor_polls_nor_closes_it() -> None:
    program = """if True:
        import os, sys
        import numpy as np
        import velox
        config = velox.PipelineConfig(placement="shared", idle="backoff")
        ingress, output = velox.PushIngress(), velox.PullOutput()
        pipeline = velox.Pipeline(ingress, output, config=config)
        pipeline.start()
        child = os.fork()
        if child == 0:
            refused = []
            try:
                ingress.push(np.zeros(10_000, velox.TRANSACTION_DTYPE))
            except velox.errors.PipelineError as error:
                refused.append(error)
            try:
                with output.poll():
                    pass
            except velox.errors.PipelineError as error:
                refused.append(error)
            try:
                ingress.close()
            except velox.errors.PipelineError as error:
                refused.append(error)
            os._exit(len(refused))
        _, status = os.waitpid(child, 0)
        pipeline.stop()
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    command = [sys.executable, "-W", "ignore", "-c", program]
    assert subprocess.run(command, timeout=60, check=False).returncode == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("kind", ["TransactionRing", "BundleRing"])
@pytest.mark.parametrize("fork", ["os.fork", "ctypes.CDLL(None).fork"])
@pytest.mark.parametrize("used", [True, False])
def test_a_child_process_uses_no_ring_of_its_parent(kind: str, fork: str, used: bool) -> None:
    program = f"""if True:
        import ctypes, os, sys
        import numpy as np
        import velox
        items = np.zeros(3, velox.{kind.removesuffix("Ring").upper()}_DTYPE)
        ring = velox.{kind}(8)
        if {used}:
            ring.push(items)
            ring.pop(1)
        child = {fork}()
        if child == 0:
            refused = 0
            for use in (lambda: ring.push(items), ring.pop, ring.peek().__enter__, ring.close,
                        lambda: ring.hand_over("producer")):
                try:
                    use()
                except velox.errors.RingError:
                    refused += 1
            own = velox.{kind}(8)
            os._exit(10 * own.push(items) + refused)
        _, status = os.waitpid(child, 0)
        before = len(ring)
        assert ring.push(items) == 3 and len(ring) == before + 3 and not ring.closed
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    command = [sys.executable, "-W", "ignore", "-c", program]
    assert subprocess.run(command, timeout=60, check=False).returncode == 35


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_process_records_into_a_histogram_that_its_parent_was_recording_into() -> None:
    program = """if True:
        import os, sys, threading
        import numpy as np
        import velox
        histogram = velox.LatencyHistogram()
        values = np.full(20_000_000, 100, np.uint64)
        thread = threading.Thread(target=histogram.record_many, args=(values,))
        thread.start()
        child = os.fork()
        if child == 0:
            histogram.record(100)
            histogram.record_many(values[:10])
            os._exit(7)
        _, status = os.waitpid(child, 0)
        thread.join()
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    command = [sys.executable, "-W", "ignore", "-c", program]
    assert subprocess.run(command, timeout=60, check=False).returncode == 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_process_ends_without_its_parents_threads() -> None:
    program = """if True:
        import os, sys
        import velox
        config = velox.PipelineConfig(placement="shared", idle="backoff")
        pipeline = velox.Pipeline(velox.PushIngress(), config=config)
        pipeline.start()
        child = os.fork()
        if child == 0:
            pipeline.stop()
            sys.exit(7)
        _, status = os.waitpid(child, 0)
        pipeline.stop()
        assert pipeline.state == "stopped"
        sys.exit(os.waitstatus_to_exitcode(status))
    """
    command = [sys.executable, "-W", "ignore", "-c", program]
    assert subprocess.run(command, timeout=60, check=False).returncode == 7


def test_the_window_of_a_shared_book_lies_where_most_prices_are() -> None:
    records = np.zeros(101, TRANSACTION_DTYPE)
    records["size"] = 1
    records["price"] = 61_000_0000
    records["price"][100] = 560_000_0000
    pipeline = Pipeline(
        ReplayIngress(records),
        books=[Instrument(tick_size=1000)],
        config=PipelineConfig(placement="invoker", writers=2),
    )
    assert pipeline.run().ledger.applied == 100


@pytest.mark.parametrize("wrong", [float("nan"), -1, "x", 1e300, 10**400, None])
def test_a_duration_is_a_number_of_seconds(wrong: object) -> None:
    pipeline = Pipeline(ReplayIngress(orders(1)), config=INVOKER)
    if wrong is None:
        assert pipeline.run(duration=wrong).ledger.applied == 1
    else:
        with refused(ConfigError, field="duration"):
            pipeline.run(duration=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY", b"not a recording"])
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "flow.npy"
    path.write_bytes(content)
    with pytest.raises(RecordError, match=r"flow\.npy"):
        ReplayIngress(path)
    with pytest.raises(RecordError, match="missing"):
        ReplayIngress(tmp_path / "missing.npy")


@pytest.mark.parametrize("wrong", [1.5, "1", None])
def test_a_price_that_is_no_integer_has_no_decimal(wrong: object) -> None:
    with pytest.raises(RecordError):
        from_fixed(wrong)


def test_a_ring_gives_no_negative_number_of_items() -> None:
    ring = TransactionRing(4)
    ring.push(orders(3))
    for wrong in (-1, "all", 1.5):
        with refused(RingError, field="max_items"):
            ring.pop(wrong)  # type: ignore[arg-type]
    assert len(ring.pop(2**70)) == 3
    for wrong in (True, -1, 3, "4"):
        with refused(RingError, field="capacity"):
            TransactionRing(wrong)  # type: ignore[arg-type]
    with refused(RingError, field="first_index"):
        TransactionRing(4, first_index=-1)


class MyIngress(Ingress):
    """What a reader may take for the way to write an ingress in Python."""


class MyOutput(Output):
    """The same, of an output."""


@pytest.mark.parametrize("kind", [Ingress, MyIngress])
def test_an_ingress_without_work_counts_nothing_and_joins_no_pipeline(kind: type[Ingress]) -> None:
    ingress = kind()
    assert (ingress.generated, ingress.pushed, ingress.dropped, ingress.late_count) == (0, 0, 0, 0)
    with pytest.raises(PipelineError, match=rf"^{kind.__name__} has no do_work"):
        Pipeline(ingress)


@pytest.mark.parametrize("kind", [Output, MyOutput])
def test_an_output_without_work_counts_nothing_and_joins_no_pipeline(kind: type[Output]) -> None:
    output = kind()
    assert (output.delivered_bundles, output.undelivered_transactions) == (0, 0)
    with pytest.raises(PipelineError, match=rf"^{kind.__name__} has no do_work"):
        Pipeline(PoissonIngress(), output)


def test_a_pull_that_no_pipeline_has_is_not_drained() -> None:
    with pytest.raises(PipelineError, match="drain of an output that no pipeline has"):
        PullOutput().drain()


def test_a_replay_that_no_pipeline_has_taken_does_not_begin() -> None:
    with pytest.raises(PipelineError, match="begin of an ingress that no pipeline has taken"):
        ReplayIngress(orders(1)).begin()


@pytest.mark.parametrize(
    ("stage", "why"),
    [
        (PoissonIngress(), "ingress: no pipeline has taken it"),
        (DiscardOutput(), "output: no pipeline has taken it"),
        (PushIngress(), "ingress: no runner drives it"),
        (PullOutput(), "output: no runner drives it"),
        (Stage(), "Stage: no runner drives it"),
    ],
)
def test_a_runner_refuses_a_stage_that_cannot_be_called(stage: Stage, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^{why}$"):
        Runner("velox-test", [stage], Clock("virtual"))


@pytest.mark.parametrize("stage", [None, 5, "book"])
def test_a_runner_takes_nothing_but_stages(stage: Any) -> None:
    with refused(ConfigError, field="stages[0]"):
        Runner("velox-test", [stage], Clock("virtual"))


@pytest.mark.parametrize("count", [0, 17, 60, 4000])
def test_a_bundle_stage_takes_no_more_rings_than_it_has_places(count: int) -> None:
    rings = [TransactionRing(4) for _ in range(count)]
    with refused(ConfigError, field="inputs"):
        BundleStage(rings, BundleRing(), Clock())


def test_a_bundle_stage_takes_as_many_rings_as_a_pipeline_has_lanes() -> None:
    rings = [TransactionRing(4) for _ in range(MAX_LANES)]
    stage = BundleStage(iter(rings), BundleRing(), Clock())  # type: ignore[arg-type]
    assert stage.sealed_transactions == 0


@pytest.mark.parametrize("ring", [None, 5, BundleRing()])
def test_a_bundle_stage_takes_nothing_but_rings_of_transactions(ring: Any) -> None:
    with refused(ConfigError, field="inputs[1]"):
        BundleStage([TransactionRing(4), ring], BundleRing(), Clock())


@pytest.mark.parametrize("make", [TransactionRing, BundleRing])
def test_a_peek_is_of_a_ring(make: Any) -> None:
    with pytest.raises(TypeError, match="ring"):
        type(make().peek())(None, None)


def test_checks_of_another_kind_are_refused_by_name() -> None:
    with refused(ConfigError, field="checks", value=5):
        Pipeline(ReplayIngress(orders(1)), checks=5)  # type: ignore[arg-type]
