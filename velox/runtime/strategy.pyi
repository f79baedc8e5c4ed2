from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

from velox.runtime.feedback import StrategySource

__all__ = ["Strategy"]

FIRST_KEPT: Final[int]
KEPT_EXCEPTIONS: Final[int]
ROOM: Final[int]
PARAMETERS: Final[int]
VIEW_PARAMETER: Final[int]
ROOM_PARAMETER: Final[int]

def exception_keeper() -> int: ...

@final
class Strategy:
    def __init__(
        self,
        function: object,
        user_data: npt.NDArray[Any] | int | np.integer[Any] | None = None,
        *,
        reports: bool | None = None,
    ) -> None: ...
    @property
    def name(self) -> str: ...
    @property
    def reports(self) -> bool: ...
    @property
    def source(self) -> StrategySource | None: ...
    @property
    def state(self) -> npt.NDArray[Any] | None: ...
    def _keeps(self, owner: object) -> None: ...
    def _comes_from(self, source: StrategySource) -> None: ...
    def _keeps_exceptions(self, exceptions: list[BaseException]) -> None: ...
