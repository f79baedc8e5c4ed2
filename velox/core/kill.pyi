from pathlib import Path
from typing import Self, final

from _typeshed import WriteableBuffer

__all__ = ["KillSwitch"]

@final
class KillSwitch:
    def __new__(
        cls, memory: WriteableBuffer | None = None, *, path: Path | None = None
    ) -> Self: ...
    def kill(self, why: str = "") -> bool: ...
    def arm(self, person: str) -> bool: ...
    @property
    def path(self) -> Path | None: ...
    @property
    def killed(self) -> bool: ...
    @property
    def why(self) -> str: ...
