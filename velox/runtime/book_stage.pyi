from typing import Self, final

from velox.core.clock import Clock
from velox.core.order_book import Books
from velox.core.ring import ReportRing, TransactionRing
from velox.core.risk import RiskGate
from velox.runtime.stage import Control, Stage
from velox.runtime.strategy import Strategy
from velox.runtime.verify import Verifier

__all__ = ["BookStage"]

@final
class BookStage(Stage):
    def __new__(
        cls,
        input: TransactionRing,
        output: TransactionRing,
        books: Books,
        clock: Clock,
        control: Control,
        *,
        strategy: Strategy | None = None,
        reports: ReportRing | None = None,
        timer_ns: int | None = None,
        gate: RiskGate | None = None,
        verifier: Verifier | None = None,
        batch: int = 256,
        on_bad_order: str = "block",
        room: int = 16,
        name: str = "orderbook",
    ) -> Self: ...
    @property
    def books(self) -> Books: ...
    @property
    def strategy(self) -> Strategy | None: ...
    @property
    def verifier(self) -> Verifier | None: ...
    @property
    def applied(self) -> int: ...
    @property
    def rejected(self) -> dict[str, int]: ...
    @property
    def emitted(self) -> int: ...
    @property
    def blocked(self) -> dict[str, int]: ...
    @property
    def passed(self) -> int: ...
    @property
    def timeouts(self) -> int: ...
    @property
    def reports(self) -> ReportRing | None: ...
    @property
    def gate(self) -> RiskGate | None: ...
    @property
    def untold(self) -> int: ...
    @property
    def heard(self) -> dict[str, int]: ...
    @property
    def timers(self) -> int: ...
    def settle(self) -> int: ...
