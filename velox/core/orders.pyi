from collections.abc import Mapping
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple, Self, SupportsIndex, final

import numpy as np
import numpy.typing as npt

__all__ = [
    "ORDER_DTYPE",
    "Account",
    "OrderCounts",
    "OrderFlags",
    "OrderRefusal",
    "OrderState",
    "OrderTable",
    "ReportOutcome",
]

class OrderState(IntEnum):
    FREE = 0
    SENT = 1
    OPEN = 2
    PARTIAL = 3
    CANCELLING = 4
    UNKNOWN = 5
    GONE = 6

class OrderFlags(IntFlag):
    NONE = 0
    PLACED = 1
    CANCEL_SENT = 2
    ADOPTED = 4
    UNNAMED = 8

class OrderRefusal(IntEnum):
    ID_ZERO = 1
    ID_IN_USE = 2
    TABLE_FULL = 3

class ReportOutcome(IntEnum):
    TAKEN = 0
    LATE_FILL = 1
    FOREIGN_FILL = 2
    OVERFILLED = 3
    DOUBLED = 4
    REPEATED = 5
    LATE = 6
    UNKNOWN_ID = 7
    STALE = 8
    MALFORMED = 9
    NO_SLOT = 10

class Account(NamedTuple):
    inventory: int
    cash: int
    fees: int
    open_bid: int
    open_ask: int
    doubtful: bool

class OrderCounts(NamedTuple):
    sent: int
    in_flight: int
    placed: int
    rejected: int
    adopted: int
    finished: int
    live: int
    cancels: int

ORDER_DTYPE: Final[np.dtype[np.void]]

@final
class OrderTable:
    def __new__(
        cls, capacity: SupportsIndex = 64, *, base_units: Mapping[int, int] | None = None
    ) -> Self: ...
    def send(self, orders: npt.NDArray[np.void], *, now_ns: int = 0) -> int: ...
    def refusal(self, id: int) -> OrderRefusal | None: ...
    def report(self, reports: npt.NDArray[np.void]) -> npt.NDArray[np.uint8]: ...
    def account(self, market: int) -> Account: ...
    def best(self, market: int, side: int) -> int | None: ...
    def orders(self, *, gone: bool = False) -> npt.NDArray[np.void]: ...
    def counts(self) -> OrderCounts: ...
    def outcomes(self) -> dict[str, int]: ...
    @property
    def capacity(self) -> int: ...
    @property
    def live(self) -> int: ...
