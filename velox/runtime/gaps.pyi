from velox.core.clock import Clock
from velox.core.histogram import LatencyHistogram
from velox.runtime.stage import Control

__all__ = ["shortest_step", "watch"]

def shortest_step(clock: Clock, readings: int = 10_000) -> int: ...
def watch(
    clock: Clock,
    gaps: LatencyHistogram,
    until: Control,
    *,
    threshold_ns: int,
    duration_ns: int,
) -> tuple[int, int]: ...
