from typing_extensions import disjoint_base

from velox.core.order_book import OrderBook

__all__ = ["BookChecksum"]

@disjoint_base
class BookChecksum:
    @property
    def levels(self) -> int: ...
    @property
    def price_decimals(self) -> int: ...
    def of(self, book: OrderBook, *, timeout: float = 1.0) -> int: ...
