from typing import Any, Final, final

import numpy as np
import numpy.typing as npt

__all__ = ["Strategy"]

FIRST_KEPT: Final[int]
KEPT_EXCEPTIONS: Final[int]
ROOM: Final[int]
PARAMETERS: Final[int]
ROOM_PARAMETER: Final[int]

def exception_keeper() -> int: ...

@final
class Strategy:
    def __init__(
        self, function: object, user_data: npt.NDArray[Any] | int | np.integer[Any] | None = None
    ) -> None: ...
    @property
    def name(self) -> str: ...
    def _keeps_exceptions(self, exceptions: list[BaseException]) -> None: ...
