from typing import Self, final

from velox.runtime.checksum import BookChecksum

__all__ = ["OkxChecksum"]

@final
class OkxChecksum(BookChecksum):
    def __new__(cls, price_decimals: int = 4) -> Self: ...
