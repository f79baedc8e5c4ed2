from collections.abc import Iterable
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from velox.core.ring import ReportRing

__all__ = ["ReportPort"]

MARKETS: Final[int]

@final
class ReportPort:
    def __init__(self, ring: ReportRing, markets: Iterable[int]) -> None: ...
    @property
    def ring(self) -> ReportRing: ...
    def push(self, reports: npt.NDArray[np.void]) -> int: ...
    def hand_over(self) -> None: ...
    @property
    def capsule(self) -> Any: ...
    def __len__(self) -> int: ...
