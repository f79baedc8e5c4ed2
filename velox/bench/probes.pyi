from typing import Literal, final

from velox.core.clock import Clock
from velox.core.order_book import OrderBook

__all__ = ["HandOver", "ticks_read", "top_reads"]

def ticks_read(operations: int) -> int: ...
def top_reads(
    book: OrderBook, operations: int, *, low: tuple[int, int], high: tuple[int, int]
) -> tuple[int, int, int]: ...

@final
class HandOver:
    def __new__(cls, clock: Clock) -> HandOver: ...
    @property
    def clock(self) -> Clock: ...
    def play(
        self, side: Literal[0, 1], throws: int, *, patience: int = 1_000_000
    ) -> tuple[int, int]: ...
