from collections.abc import Sequence
from typing import Self, final

from velox.core.clock import Clock
from velox.core.histogram import LatencyHistogram
from velox.core.ring import BundleRing, TransactionRing
from velox.runtime.stage import Stage

__all__ = ["BundleStage"]

@final
class BundleStage(Stage):
    def __new__(
        cls,
        inputs: Sequence[TransactionRing],
        output: BundleRing,
        clock: Clock,
        *,
        timeout_ns: int = 100_000,
        seal_when_idle: bool = False,
        batch: int = 256,
    ) -> Self: ...
    @property
    def transit(self) -> LatencyHistogram: ...
    @property
    def hold(self) -> LatencyHistogram: ...
    @property
    def sealed(self) -> dict[str, int]: ...
    @property
    def sealed_transactions(self) -> int: ...
