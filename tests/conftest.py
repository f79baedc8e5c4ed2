"""What all tests share: Hypothesis without a clock, and a watchdog for runs that never end."""

from __future__ import annotations

import faulthandler
import sys
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A busy machine makes any deadline a coin toss.
settings.register_profile("velox", deadline=None)
settings.load_profile("velox")

# Far above what any test takes: it ends a hang in compiled code, which nothing else interrupts.
HANG_S = 120


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    faulthandler.dump_traceback_later(HANG_S, exit=True, file=sys.__stderr__)
    yield
    faulthandler.cancel_dump_traceback_later()
