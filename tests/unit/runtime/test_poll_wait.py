"""Polls that wait, and the file descriptor that says that there are bundles."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support import hangs_are_broken_off, orders, refused
from velox import CaptureOutput, Pipeline, PipelineConfig, PoissonIngress, PullOutput, PushIngress
from velox.errors import CaptureError, ConfigError, PipelineError, RingError

ROOT = Path(__file__).resolve().parents[3]
SHARED = PipelineConfig(placement="shared", idle="backoff", bundle_timeout_ns=1000)


def readable(output: PullOutput) -> bool:
    return bool(select.select([output.fileno()], [], [], 0)[0])


def wait_until_readable(output: PullOutput) -> None:
    with hangs_are_broken_off():
        select.select([output.fileno()], [], [])


def joined(config: PipelineConfig = SHARED) -> tuple[PushIngress, PullOutput, Pipeline]:
    ingress, output = PushIngress(), PullOutput()
    return ingress, output, Pipeline(ingress, output, config=config)


@pytest.mark.parametrize("timeout", [None, 0, 0.0, 0.01])
def test_a_poll_ends_without_bundles_when_its_time_is_up(timeout: float | None) -> None:
    _, output, pipeline = joined()
    with pipeline, hangs_are_broken_off(), output.poll(timeout=timeout) as bundles:
        assert len(bundles) == 0


@pytest.mark.parametrize("timeout", [-1, float("nan"), "1", True, [1]])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    _, output, pipeline = joined()
    with pipeline:
        with refused(ConfigError, field="timeout"), output.poll(timeout=timeout):
            pass
        # The turn is free again.
        with output.poll(timeout=0) as bundles:
            assert len(bundles) == 0


@pytest.mark.parametrize("idle", ["spin", "yield", "backoff"])
@pytest.mark.parametrize("timeout", [60.0, math.inf, 1 << 80])
def test_a_poll_waits_for_a_bundle(idle: Any, timeout: float) -> None:
    ingress, output, pipeline = joined(PipelineConfig(placement="shared", idle=idle))
    with pipeline, hangs_are_broken_off():
        for number in range(1, 30):
            pushing = threading.Thread(target=ingress.push, args=(orders(3, first_id=number),))
            pushing.start()
            with output.poll(timeout=timeout) as bundles:
                assert bundles["count"].sum() > 0
                taken = int(bundles["count"].sum())
            while taken < 3:
                with output.poll(timeout=timeout) as bundles:
                    taken += int(bundles["count"].sum())
            pushing.join()


def test_a_poll_that_waits_returns_when_the_pipeline_ends() -> None:
    ingress, output, pipeline = joined()
    with pipeline, hangs_are_broken_off():
        closing = threading.Thread(target=ingress.close)
        closing.start()
        with output.poll(timeout=math.inf) as bundles:
            assert len(bundles) == 0
        assert output.exhausted
        closing.join()


def test_a_poll_that_waits_ends_with_a_stop_on_another_thread() -> None:
    _, output, pipeline = joined()
    pipeline.start()
    with hangs_are_broken_off():
        stopping = threading.Thread(target=pipeline.stop)
        stopping.start()
        while not output.exhausted:
            with output.poll(timeout=math.inf):
                pass
        stopping.join()
    with output.poll(timeout=math.inf) as bundles:
        assert len(bundles) == 0


def test_a_signal_is_handled_during_the_wait_and_ends_it_with_its_exception() -> None:
    _, output, pipeline = joined()

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pipeline:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(KeyboardInterrupt), output.poll(timeout=math.inf):
                pass
            # The turn is free again.
            with output.poll() as bundles:
                assert len(bundles) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_poll_that_waits_has_the_turn() -> None:
    ingress, output, pipeline = joined()
    entered = threading.Event()

    def wait() -> None:
        entered.set()
        with output.poll(timeout=math.inf):
            pass

    with pipeline:
        waiting = threading.Thread(target=wait)
        waiting.start()
        entered.wait()
        refusals = 0
        with hangs_are_broken_off():
            while not refusals:
                try:
                    with output.poll(max_bundles=0):
                        pass
                except PipelineError:
                    refusals += 1
        ingress.push(orders(1))
        waiting.join()


def test_the_descriptor_is_readable_while_bundles_are_ready() -> None:
    ingress, output, pipeline = joined()
    with refused(PipelineError), PullOutput().poll(timeout=1):
        pass
    with pytest.raises(PipelineError, match="no pipeline"):
        PullOutput().fileno()
    with pipeline:
        assert not readable(output)
        assert output.fileno() == output.fileno()
        for _ in range(50):
            ingress.push(orders(40))
            wait_until_readable(output)
            taken = 0
            while taken < 40:
                wait_until_readable(output)
                with output.poll(1) as bundles:
                    taken += int(bundles["count"].sum())
            # It may ring once more for nothing, but not for ever.
            with hangs_are_broken_off():
                while readable(output):
                    with output.poll() as bundles:
                        assert len(bundles) == 0
    assert readable(output)
    with output.poll():
        pass
    assert output.exhausted
    assert readable(output)


def test_bundles_that_come_before_the_first_question_are_rung_for() -> None:
    ingress, output, pipeline = joined()
    with pipeline:
        ingress.push(orders(5))
        with hangs_are_broken_off():
            while not output.ring.statistics().pushed:
                pass
        wait_until_readable(output)
        # Neither does an open poll hide those that come meanwhile.
        with output.poll() as bundles:
            assert bundles["count"].sum() == 5
            ingress.push(orders(5, first_id=6))
            with hangs_are_broken_off():
                while output.ring.statistics().pushed < 2:
                    pass
        wait_until_readable(output)


def test_bundles_that_a_stop_took_are_still_announced() -> None:
    ingress, output, pipeline = joined()
    with pipeline:
        output.fileno()
        ingress.push(orders(100))
    assert readable(output)
    taken = 0
    while not output.exhausted:
        with output.poll(1, timeout=math.inf) as bundles:
            taken += int(bundles["count"].sum())
        assert readable(output)
    assert taken == 100


def test_the_descriptor_is_readable_after_a_start_that_failed(tmp_path: Any) -> None:
    class Failing(PullOutput):
        def begin(self) -> None:
            super().begin()
            raise CaptureError("no", path="x", number=1, bundles=0)

    output = Failing()
    pipeline = Pipeline(PushIngress(), output, config=SHARED)
    assert not readable(output)
    with pytest.raises(CaptureError):
        pipeline.start()
    # Stages that had begun are ended; this one had not.
    output.end()
    assert readable(output)
    with hangs_are_broken_off(), output.poll(timeout=math.inf) as bundles:
        assert len(bundles) == 0
    assert readable(output)


def test_the_descriptors_are_closed_with_the_output() -> None:
    gc.collect()
    before = len(os.listdir("/dev/fd"))
    for _ in range(20):
        _, output, pipeline = joined()
        output.fileno()
        with pipeline:
            pass
        del output, pipeline
    gc.collect()
    assert len(os.listdir("/dev/fd")) == before


def test_only_an_output_that_python_polls_has_a_follower() -> None:
    assert CaptureOutput("unused.npy").follower is None
    output = PullOutput()
    assert output.follower is None
    Pipeline(PushIngress(), output, config=SHARED)
    assert output.follower is not None
    with pytest.raises(RingError), output.poll(max_bundles=-1, timeout=1):
        pass


def test_asyncio_takes_every_bundle() -> None:
    output = PullOutput()
    pipeline = Pipeline(PoissonIngress(rate=20_000, seed=3), output, config=SHARED)

    async def consume() -> int:
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        taken = 0

        def ready() -> None:
            nonlocal taken
            with output.poll() as bundles:
                taken += int(bundles["count"].sum())
            if output.exhausted:
                loop.remove_reader(output.fileno())
                done.set_result(None)

        loop.add_reader(output.fileno(), ready)
        pipeline.start()
        await asyncio.sleep(0)
        stopping = loop.run_in_executor(None, lambda: (pipeline.wait(0.3), pipeline.stop()))
        await done
        await stopping
        return taken

    with hangs_are_broken_off(30):
        taken = asyncio.run(consume())
    assert taken == pipeline.report().ledger.delivered_transactions > 1000


def test_the_example_for_asyncio_runs() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "asyncio_polling.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "balanced: True" in done.stdout
