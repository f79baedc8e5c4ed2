from typing import final

from velox.core.ring import BundleRing
from velox.runtime.stage import Stage

__all__ = ["Bell"]

@final
class Bell(Stage):
    def __new__(cls, ring: BundleRing) -> Bell: ...
    def fileno(self) -> int: ...
