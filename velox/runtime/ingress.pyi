from typing import Literal

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from velox.core.clock import Clock
from velox.core.histogram import LatencyHistogram
from velox.core.instrument import Instrument
from velox.core.ring import TransactionRing
from velox.runtime.stage import Control, Stage

__all__ = ["Ingress"]

@disjoint_base
class Ingress(Stage):
    @property
    def driven(self) -> bool: ...
    @property
    def default_on_full(self) -> Literal["block", "drop"]: ...
    @property
    def endless(self) -> bool: ...
    @property
    def instruments(self) -> tuple[Instrument, ...]: ...
    @property
    def recorded(self) -> npt.NDArray[np.void] | None: ...
    @property
    def pass_length(self) -> int: ...
    @property
    def late(self) -> LatencyHistogram: ...
    @property
    def ring(self) -> TransactionRing: ...
    def attach(
        self,
        ring: TransactionRing,
        clock: Clock,
        control: Control,
        *,
        name: str = "ingress",
        on_full: Literal["block", "drop"] | None = None,
        batch: int = 256,
    ) -> None: ...
    def close(self) -> None: ...
    def middle_price(self, market: int) -> int | None: ...
    @property
    def generated(self) -> int: ...
    @property
    def pushed(self) -> int: ...
    @property
    def dropped(self) -> int: ...
    @property
    def late_count(self) -> int: ...
    @property
    def behind_ns(self) -> int: ...
