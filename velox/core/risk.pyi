from collections.abc import Mapping
from enum import IntEnum
from fractions import Fraction
from typing import Self, SupportsIndex, final

import numpy as np
import numpy.typing as npt

from velox.core.kill import KillSwitch
from velox.core.limits import Limits
from velox.core.orders import OrderTable

__all__ = ["Block", "RiskGate"]

class Block(IntEnum):
    KILLED = 1
    NO_LIMITS = 2
    KIND = 3
    ID_ZERO = 4
    ID_IN_USE = 5
    TABLE_FULL = 6
    ACCOUNT = 7
    FEED = 8
    SIDE = 9
    PRICE = 10
    PRICE_STEP = 11
    LOTS = 12
    LOT_STEP = 13
    NOTIONAL = 14
    COLLAR = 15
    POSITION = 16
    OPEN_ORDERS = 17
    RATE = 18
    DUPLICATE = 19
    SELF_TRADE = 20

@final
class RiskGate:
    def __new__(
        cls,
        orders: OrderTable,
        limits: Limits | None = None,
        kill: KillSwitch | None = None,
        *,
        value_units: Mapping[int, Fraction] | None = None,
    ) -> Self: ...
    def set_limits(self, limits: Limits) -> None: ...
    def begin(self, now_ns: SupportsIndex) -> None: ...
    def touch(
        self, market: int, bid: int, ask: int, *, feed_state: int = 0, market_ns: int = 0
    ) -> None: ...
    def screen(self, orders: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]: ...
    def report(self, reports: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]: ...
    @property
    def orders(self) -> OrderTable: ...
    @property
    def kill(self) -> KillSwitch: ...
    @property
    def limits(self) -> Limits: ...
    @property
    def blocks_kept(self) -> int: ...
    @property
    def reasons(self) -> set[Block]: ...
    @property
    def equity(self) -> int: ...
    @property
    def passed(self) -> int: ...
    @property
    def cancels(self) -> int: ...
    @property
    def cancels_over_rate(self) -> int: ...
    @property
    def kills(self) -> int: ...
    @property
    def blocked(self) -> dict[str, int]: ...
