import os
from contextlib import AbstractContextManager
from typing import Self, final

import numpy as np
import numpy.typing as npt
from typing_extensions import disjoint_base

from velox.core.clock import Clock
from velox.core.histogram import LatencyHistogram
from velox.core.ring import BundleRing
from velox.runtime.stage import Control, Stage

__all__ = ["CaptureOutput", "DiscardOutput", "Output", "PullOutput"]

@disjoint_base
class Output(Stage):
    driven: bool
    @property
    def delivery(self) -> LatencyHistogram: ...
    @property
    def total(self) -> LatencyHistogram: ...
    @property
    def ring(self) -> BundleRing: ...
    def attach(
        self, ring: BundleRing, clock: Clock, control: Control, *, batch: int = 256
    ) -> None: ...
    @property
    def delivered_bundles(self) -> int: ...
    @property
    def delivered_transactions(self) -> int: ...
    @property
    def undelivered_bundles(self) -> int: ...
    @property
    def undelivered_transactions(self) -> int: ...

@final
class DiscardOutput(Output):
    def __new__(cls) -> Self: ...

@final
class CaptureOutput(Output):
    def __new__(cls, path: str | os.PathLike[str]) -> Self: ...
    @property
    def path(self) -> str: ...

@final
class PullOutput(Output):
    def __new__(cls) -> Self: ...
    def poll(
        self, max_bundles: int | None = None
    ) -> AbstractContextManager[npt.NDArray[np.void]]: ...
    @property
    def exhausted(self) -> bool: ...
    def drain(self) -> bool: ...
