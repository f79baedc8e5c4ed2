from velox.core.book import OrderBook

__all__ = ["ticks_read", "top_reads"]

def ticks_read(operations: int) -> int: ...
def top_reads(
    book: OrderBook, operations: int, *, low: tuple[int, int], high: tuple[int, int]
) -> tuple[int, int, int]: ...
