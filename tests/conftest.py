"""What all tests share: Hypothesis without a clock."""

from __future__ import annotations

from hypothesis import settings

# A busy machine makes any deadline a coin toss.
settings.register_profile("velox", deadline=None)
settings.load_profile("velox")
