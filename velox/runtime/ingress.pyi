import os
from collections.abc import Sequence
from typing import Any, Literal, Self, final

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from velox.core.clock import Clock
from velox.core.flow import MarketFlow
from velox.core.histogram import LatencyHistogram
from velox.core.ring import TransactionRing
from velox.runtime.stage import Control, Stage

__all__ = ["Ingress", "PoissonIngress", "PushIngress", "ReplayIngress"]

@disjoint_base
class Ingress(Stage):
    driven: bool
    @property
    def default_on_full(self) -> Literal["block", "drop"]: ...
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

@final
class PoissonIngress(Ingress):
    def __new__(
        cls,
        rate: float | Literal["max"] = 100_000,
        seed: int | Sequence[int] | np.random.SeedSequence = 0,
        **market: Any,
    ) -> Self: ...
    @property
    def rate(self) -> float | Literal["max"]: ...
    @property
    def seed(self) -> int | Sequence[int] | np.random.SeedSequence: ...
    @property
    def flow(self) -> MarketFlow: ...
    @property
    def market(self) -> int: ...
    @property
    def tick_size(self) -> int: ...
    @property
    def base_price(self) -> int: ...

@final
class ReplayIngress(Ingress):
    def __new__(
        cls,
        transactions: npt.NDArray[np.void] | str | os.PathLike[str],
        speed: float | Literal["max"] = "max",
        repeat: int = 1,
    ) -> Self: ...
    @property
    def transactions(self) -> npt.NDArray[np.void]: ...
    @property
    def speed(self) -> float | Literal["max"]: ...
    @property
    def repeat(self) -> int: ...
    @property
    def pass_length(self) -> int: ...

@final
class PushIngress(Ingress):
    def __new__(cls, *, stamp: bool = True) -> Self: ...
    def push(self, transactions: npt.NDArray[np.void], timeout: float | None = None) -> int: ...
    def close(self) -> None: ...
