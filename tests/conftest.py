"""What all tests share: Hypothesis without a clock, and interrupts that are heard."""

from __future__ import annotations

import signal

import pytest
from hypothesis import settings

# A busy machine makes any deadline a coin toss.
settings.register_profile("velox", deadline=None)
settings.load_profile("velox")

# A shell starts what runs in the background deaf to interrupts, and what that starts is deaf too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_make_parametrize_id(config: pytest.Config, val: object, argname: str) -> str | None:
    """Name a value without its address, so that parallel workers collect the same names."""
    if " at 0x" in repr(val):
        return getattr(val, "__name__", type(val).__name__)
    return None
