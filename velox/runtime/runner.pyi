from collections.abc import Sequence
from typing import Literal, Self, final

from velox.core.clock import Clock
from velox.runtime.stage import Stage

__all__ = ["Runner"]

@final
class Runner:
    def __new__(
        cls,
        name: str,
        stages: Sequence[Stage],
        clock: Clock,
        *,
        idle: Literal["spin", "yield", "backoff"] = "spin",
        cpu: int | None = None,
        alone: bool = False,
    ) -> Self: ...
    @property
    def name(self) -> str: ...
    @property
    def cpu(self) -> int | None: ...
    @property
    def stages(self) -> tuple[Stage, ...]: ...
    def settle(self) -> None: ...
    def run(self) -> None: ...
    def step(self) -> int: ...
    def drive(self, steps: int | None = None) -> bool: ...
    @property
    def cycles(self) -> int: ...
    @property
    def idle_cycles(self) -> int: ...
