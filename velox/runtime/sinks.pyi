import os
from contextlib import AbstractContextManager
from typing import Self, final

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from velox.runtime.output import Output

__all__ = ["CaptureOutput", "DiscardOutput", "PullOutput"]

@final
class DiscardOutput(Output):
    def __new__(cls) -> Self: ...

@final
class CaptureOutput(Output):
    def __new__(cls, path: str | os.PathLike[str]) -> Self: ...
    @property
    def path(self) -> str: ...

@disjoint_base
class PullOutput(Output):
    def __init__(self) -> None: ...
    def poll(
        self, max_bundles: int | None = None, timeout: float | None = None
    ) -> AbstractContextManager[npt.NDArray[np.void]]: ...
    def fileno(self) -> int: ...
    @property
    def exhausted(self) -> bool: ...
