from typing import Self, final

from velox.runtime.checksum import BookChecksum

__all__ = ["KrakenChecksum"]

@final
class KrakenChecksum(BookChecksum):
    def __new__(cls) -> Self: ...
