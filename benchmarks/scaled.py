"""A clock for asv that shows what one operation costs, whatever a call of the benchmark does.

asv reads its time from `timer`. Here that clock is advanced by what a measurement says that one
operation cost, in ns: console, comparison and dashboard so all show ns an operation, with asv's own
statistics over the repetitions.
"""

from __future__ import annotations

__all__ = ["NsAnOperation"]


class NsAnOperation:
    """A base of benchmarks that measure for themselves."""

    # By hand: an edit of a file must not discard the history of what it measures.
    version = "1"
    # asv would tune `number` against a clock that is not one.
    number = 1
    repeat = (5, 20, 5.0)
    warmup_time = 0.0
    timeout = 120.0

    def setup(self, *parameters: object) -> None:
        self.measured_s = 0.0
        self.timer = lambda: self.measured_s

    def add(self, ns: float) -> None:
        """Advance the clock by what one operation cost."""
        self.measured_s += ns * 1e-9
