from decimal import Decimal
from enum import IntEnum, IntFlag
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = [
    "BUNDLE_DTYPE",
    "PRICE_SCALE",
    "REPORT_RECORD_DTYPE",
    "TRANSACTION_DTYPE",
    "Flags",
    "Kind",
    "Rejection",
    "ReportFlags",
    "SealReason",
    "Side",
    "from_fixed",
    "to_fixed",
    "validate",
]

class Side(IntEnum):
    BID = 0
    ASK = 1

class Kind(IntEnum):
    ADD = 0
    CANCEL = 1
    EXECUTE = 2
    SET = 3
    SET_WIDE = 4
    DELETE = 5
    CLEAR = 6
    TRADE = 7
    PLACED = 16
    FILLED = 17
    CANCELLED = 18
    REJECTED = 19
    CANCEL_REJECTED = 20
    EXPIRED = 21
    BLOCKED = 22
    UNKNOWN = 23
    TIMER = 24
    RESYNC = 25

class Flags(IntFlag):
    NONE = 0
    MBP = 16
    SNAPSHOT = 32
    TOB = 64
    LAST = 128

class ReportFlags(IntFlag):
    NONE = 0
    MAKER = 1
    LAST = 2
    AMOUNTS = 4
    BEGIN = 8

class SealReason(IntEnum):
    SIZE = 0
    TIMEOUT = 1
    IDLE = 2
    DRAIN = 3

class Rejection(IntEnum):
    KIND = 1
    SIDE = 2
    MARKET = 3
    SIZE = 4
    PRICE = 5
    OFF_TICK = 6
    OUT_OF_WINDOW = 7
    UNDERFLOW = 8
    OVERFLOW = 9
    CROSSED = 10
    BOOK_FULL = 11

TRANSACTION_DTYPE: Final[np.dtype[np.void]]
BUNDLE_DTYPE: Final[np.dtype[np.void]]
REPORT_RECORD_DTYPE: Final[np.dtype[np.void]]
PRICE_SCALE: Final[int]

def validate(transactions: npt.NDArray[np.void]) -> None: ...
def to_fixed(value: str | int | float | Decimal, decimals: int = 4) -> int: ...
def from_fixed(fixed: Any, decimals: int = 4) -> Decimal: ...
