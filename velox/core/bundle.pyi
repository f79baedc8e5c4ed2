from typing import Final, final

import numpy as np
import numpy.typing as npt

from velox.core.histogram import LatencyHistogram
from velox.core.records import SealReason
from velox.core.ring import BundleRing

__all__ = ["BundleBuilder"]

MAX_LANES: Final[int]

@final
class BundleBuilder:
    ring: BundleRing
    hold: LatencyHistogram
    def __new__(cls, ring: BundleRing, *, timeout_ns: int = 100_000) -> BundleBuilder: ...
    def add(self, transactions: npt.NDArray[np.void], *, now_ns: int) -> int: ...
    def expire(self, *, now_ns: int) -> bool: ...
    def seal(self, *, now_ns: int, reason: SealReason = ...) -> bool: ...
    @property
    def deadline_ns(self) -> int | None: ...
    @property
    def sealed(self) -> dict[SealReason, int]: ...
