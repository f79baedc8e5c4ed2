"""A KeyboardInterrupt between any two steps of the code that waits for a pipeline's threads."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

from tests.support import hangs_are_broken_off, orders
from velox import CaptureOutput, OrderBook, Pipeline, PipelineConfig, ReplayIngress
from velox.runtime import pipeline as pipeline_module
from velox.runtime import threads as threads_module
from velox.runtime.threads import Latch

# Whose steps are interrupted: what a signal's handler can find the main thread in.
INTERRUPTED = {pipeline_module.__file__, threads_module.__file__, threading.__file__}


def interrupted_at(step: int, act: Callable[[], Any]) -> bool:
    """Do it, with a KeyboardInterrupt at one of its steps; returns whether it had that many."""
    left = step

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if frame.f_code.co_filename not in INTERRUPTED:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    # Python 3.12 only tells of opcodes if some frame has asked for them before.
    sys._getframe().f_trace_opcodes = True
    sys.settrace(trace)
    try:
        act()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return left <= 0


def test_an_interrupted_wait_keeps_a_latch_from_nobody() -> None:
    step = 1
    with hangs_are_broken_off(60.0):
        while True:
            latch = Latch()
            more = interrupted_at(step, lambda latch=latch: latch.wait(0.001))  # type: ignore[misc]
            setter = threading.Thread(target=latch.set)
            setter.start()
            assert latch.wait(10.0)
            setter.join()
            if not more:
                break
            step += 1
    assert step > 10


def test_a_latch_that_is_not_set_is_waited_for_no_longer_than_told() -> None:
    latch = Latch()
    assert not latch.is_set()
    assert not latch.wait(0.0)
    assert not latch.wait(0.001)
    latch.set()
    latch.set()
    assert latch.is_set()
    assert latch.wait()


@pytest.mark.parametrize("placement", ["shared", "invoker"])
def test_the_next_stop_completes_one_that_was_interrupted_anywhere(
    tmp_path: Path, placement: Any
) -> None:
    config = PipelineConfig(placement=placement, idle="yield")
    path, book, step = tmp_path / "bundles.npy", OrderBook(), 1
    with hangs_are_broken_off(100.0):
        while True:
            pipeline = Pipeline(
                ReplayIngress(orders(20)), CaptureOutput(path), books=book, config=config
            )
            pipeline.start()
            more = interrupted_at(step, pipeline.stop)
            pipeline.stop()
            assert pipeline.state == "stopped"
            ledger = pipeline.report().ledger
            assert np.load(path)["count"].sum() == ledger.delivered_transactions
            book.clear()  # which a book that is still being written would refuse
            if not more:
                break
            step += 1
    assert step > 50
