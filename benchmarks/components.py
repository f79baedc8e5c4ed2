"""Each part of Velox, and the whole pipeline, as `velox.bench` measures them.

The loops run in C and check their result before they say how long they took. asv reads its time
from `timer`, and that clock is advanced by what one operation cost: its console, its comparisons
and its dashboard so show ns an operation, with its own statistics over the repetitions.
"""

from velox import bench


class Components:
    # By hand: an edit of this file must not discard the history.
    version = "1"
    # asv would tune `number` against a clock that is not one.
    number = 1
    repeat = (5, 20, 5.0)
    warmup_time = 0.0
    param_names = ("component",)
    params = (list(bench.names()),)

    def setup(self, component: str) -> None:
        self.measured_s = 0.0
        self.timer = lambda: self.measured_s
        bench.measure(component)

    def time_one_operation(self, component: str) -> None:
        self.measured_s += bench.measure(component) * 1e-9
