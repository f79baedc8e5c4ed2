import os
from collections.abc import Sequence
from typing import Any, Literal, Self, final

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from velox.core.flow import MarketFlow
from velox.runtime.ingress import Ingress

__all__ = ["PoissonIngress", "PushIngress", "ReplayIngress"]

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

@disjoint_base
class PushIngress(Ingress):
    def __init__(self, *, stamp: bool = True) -> None: ...
    def push(self, transactions: npt.NDArray[np.void], timeout: float | None = None) -> int: ...
