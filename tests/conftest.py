"""What all tests share: Hypothesis without a clock, and interrupts that are heard."""

from __future__ import annotations

import signal

from hypothesis import settings

# A busy machine makes any deadline a coin toss.
settings.register_profile("velox", deadline=None)
settings.load_profile("velox")

# A shell starts what runs in the background deaf to interrupts, and what that starts is deaf too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
