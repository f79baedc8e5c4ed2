"""What all tests share: profiles of Hypothesis, markers, and interrupts that are heard."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A busy machine makes any deadline a coin toss.
settings.register_profile("velox", deadline=None)
settings.register_profile("quick", deadline=None, max_examples=20)
settings.register_profile("acceptance", deadline=None, max_examples=2000)
settings.load_profile("velox")

TESTS = Path(__file__).parent
# Folders and files whose tests are all slow: most of them start processes, servers or compilers.
SLOW = {
    *("integration", "verify", "unit/bench", "unit/cli/test_main.py", "unit/core/test_cimport.py"),
    *("unit/runtime/test_contracts.py", "unit/runtime/test_interrupts.py"),
    *("unit/runtime/test_example_strategies.py", "unit/runtime/test_strategy_namespace.py"),
    *("unit/runtime/test_numba_strategy.py", "unit/test_measuring.py", "unit/testing"),
}
# Tests that stay together on one worker: threads that spin would hold each other up, and a costly
# fixture would be made on each worker.
GROUPS = {
    "verify/stress": "threads",
    "verify/zero": "threads",
    "verify/soak": "threads",
    "verify/aarch64": "threads",
    "unit/bench": "threads",
    "unit/runtime/test_interrupts.py": "threads",
    "integration/replay/test_feeds.py": "recordings",
    "integration/replay/test_pipeline_replay.py": "recordings",
    "unit/core/test_cimport.py": "cimport",
}

# A shell starts what runs in the background deaf to interrupts, and what that starts is deaf too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# Before pytest-xdist reads the groups.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that ``make quick`` leaves out, and those that stay on one worker."""
    for item in items:
        path = item.path.relative_to(TESTS)
        for place in (path.as_posix(), *(each.as_posix() for each in path.parents)):
            if place in SLOW:
                item.add_marker(pytest.mark.slow)
            if place in GROUPS:
                item.add_marker(pytest.mark.xdist_group(GROUPS[place]))


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name a value without its address, so that parallel workers collect the same names."""
    if " at 0x" in repr(val):
        return getattr(val, "__name__", type(val).__name__)
    return None
