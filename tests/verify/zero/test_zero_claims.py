"""No heap, no lock, no system call, no GIL: on any stage thread, in steady state.

Everything here compares counts; nothing is timed. `count.c` says how it counts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import velox

from .__main__ import Scenario, scenarios
from .native import build, has_compiler, holder, strategies

ROOT = Path(__file__).parents[3]
LOUD = ("velox_allocates", "velox_locks", "velox_calls_the_kernel")

# System calls by number: x86-64, aarch64.
WRITE, SCHED_YIELD = {1, 64}, {24, 124}
SLEEP = {35, 230, 101, 115}
CLOCK_GETTIME = {228, 113}

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD and seccomp are Linux's"),
    pytest.mark.skipif(not has_compiler(), reason="no gcc to compile what counts"),
]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What every scenario came to, in one process of its own."""
    library = build("count", tmp_path_factory.mktemp("count"))
    ended = subprocess.run(
        [sys.executable, "-m", "tests.verify.zero"],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(library)},
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(ended.stdout))


quiet = pytest.mark.parametrize(
    "scenario",
    [each for each in scenarios() if each.strategy not in LOUD],
    ids=lambda scenario: scenario.name,
)


@quiet
def test_a_stage_thread_asks_nothing_of_the_heap(
    counted: dict[str, Any], scenario: Scenario
) -> None:
    threads = counted[scenario.name]["threads"]
    assert threads
    assert {name: each["heap"] for name, each in threads.items()} == dict.fromkeys(threads, 0)


@quiet
def test_a_stage_thread_takes_no_lock(counted: dict[str, Any], scenario: Scenario) -> None:
    threads = counted[scenario.name]["threads"]
    assert {name: each["locks"] for name, each in threads.items()} == dict.fromkeys(threads, 0)


@quiet
def test_a_stage_thread_calls_the_kernel_for_nothing_that_it_was_not_told_to(
    counted: dict[str, Any], scenario: Scenario
) -> None:
    """With `spin` no calls, except the writes of a capture; the other strategies as documented."""
    result = counted[scenario.name]
    allowed: set[int] = set()
    if result["idle"] != "spin":
        allowed |= SCHED_YIELD
    if result["idle"] == "backoff":
        allowed |= SLEEP
    if result["clock"] == "kernel":
        # In the vDSO, unless the kernel's own clock source cannot be read from there.
        allowed |= CLOCK_GETTIME
    for name, each in result["threads"].items():
        if each["refused"]:
            pytest.skip(f"no seccomp filter here: {os.strerror(each['refused'])}")
        assert each["before"] > 0, "what a thread does before it runs its stages is counted too"
        writes = name in ("velox-pipeline", "velox-output", "velox-bundle")
        mine = allowed | (WRITE if scenario.output == "capture" and writes else set())
        assert set(each["numbers"]) <= mine, name
        if not mine:
            assert each["kernel"] == 0, name


@pytest.mark.parametrize(
    ("strategy", "counter"), [*zip(LOUD, ("heap", "locks", "kernel"), strict=True)]
)
def test_a_strategy_that_is_not_quiet_is_heard(
    counted: dict[str, Any], strategy: str, counter: str
) -> None:
    """The counters do count: without this, zeros would prove nothing."""
    (result,) = (each for name, each in counted.items() if f" {strategy} " in name)
    thread = result["threads"]["velox-pipeline"]
    if thread["refused"] and counter == "kernel":
        pytest.skip(f"no seccomp filter here: {os.strerror(thread['refused'])}")
    assert thread[counter] > 10_000


@pytest.mark.parametrize("placement", ["shared", "paired", "dedicated"])
def test_a_pipeline_goes_on_while_python_holds_the_gil(placement: str) -> None:
    """A C call that keeps the GIL until the book has seen far more than all rings together hold."""
    wanted = 200_000
    counts, beat = np.zeros(1, np.uint64), np.zeros(1, np.uint64)
    ended = threading.Event()

    def live() -> None:
        # Proof that the GIL is held: this thread of Python stands still meanwhile.
        while not ended.is_set():
            beat[0] += 1

    strategy = velox.Strategy(strategies().velox_counts, counts)
    pipeline = velox.Pipeline(
        velox.PoissonIngress("max", 5),
        strategy=strategy,
        config=velox.PipelineConfig(placement=placement, idle="yield"),
    )
    heart = threading.Thread(target=live)
    heart.start()
    hold = holder()
    try:
        with pipeline:
            # Each thread takes the GIL once more before it runs its stages: let it.
            while pipeline.output.delivered_transactions == 0:
                pipeline.wait(0.001)
            before = pipeline.output.delivered_transactions
            grown = hold(counts.ctypes.data, beat.ctypes.data, wanted, 1 << 40)
            after = pipeline.output.delivered_transactions
    finally:
        ended.set()
        heart.join()
    assert grown >= wanted
    config = pipeline.config
    inside = 2 * config.transaction_capacity + 16 * (config.bundle_capacity + 1)
    assert after - before >= wanted - inside


def test_ten_million_transactions_later_the_process_has_not_grown() -> None:
    """One byte a transaction would be ten million.

    A mebibyte is for what the kernel counts late, and for pages of the histograms that a latency
    not seen before is the first to touch.
    """
    command = [sys.executable, "-m", "tests.verify.zero", "--memory"]
    ended = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    for placement, found in json.loads(ended.stdout).items():
        first, last = found["resident"]
        assert last - first <= 1 << 20, placement
        assert found["book"][0] == found["book"][1], placement
