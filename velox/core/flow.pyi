from collections.abc import Sequence
from typing import NamedTuple, Self, SupportsFloat, SupportsIndex, final

import numpy as np
import numpy.typing as npt

__all__ = ["FlowStatistics", "MarketFlow"]

class FlowStatistics(NamedTuple):
    added: int
    cancelled: int
    executed: int
    orders: int
    bid_levels: int
    ask_levels: int
    bid_quantity: int
    ask_quantity: int
    best_bid: int | None
    best_ask: int | None

@final
class MarketFlow:
    def __new__(
        cls,
        seed: int | Sequence[int] | np.random.SeedSequence | None = None,
        *,
        rate: SupportsFloat = 100_000.0,
        tick_size: SupportsIndex = 100,
        base_price: SupportsIndex = 1_000_000,
        market: SupportsIndex = 0,
        drift: bool = True,
        half_width: SupportsIndex | None = 384,
        first_id: SupportsIndex = 1,
        order_ids: bool = False,
        reach: SupportsIndex = 200,
        bit_generator: str | np.random.BitGenerator = "PCG64",
    ) -> Self: ...
    @property
    def bit_generator(self) -> np.random.BitGenerator: ...
    def generate(self, count: SupportsIndex) -> npt.NDArray[np.void]: ...
    def gaps(self, count: SupportsIndex) -> npt.NDArray[np.uint64]: ...
    def snapshot(self) -> npt.NDArray[np.void]: ...
    def statistics(self) -> FlowStatistics: ...
