import numpy as np
import numpy.typing as npt

from velox.core.clock import Clock
from velox.core.histogram import LatencyHistogram
from velox.core.order_book import OrderBook
from velox.core.ring import BundleRing, TransactionRing
from velox.core.risk import RiskGate

__all__ = [
    "book_best",
    "bundle_add",
    "clock_read",
    "consume",
    "gate_check",
    "histogram_fill",
    "produce",
    "ring_push_pop",
    "round_trips",
    "send_back",
]

def ring_push_pop(ring: TransactionRing, operations: int) -> int: ...
def produce(ring: TransactionRing, operations: int, batch: int, tight: bool = False) -> None: ...
def consume(ring: TransactionRing, operations: int, batch: int, tight: bool = False) -> int: ...
def round_trips(
    there: TransactionRing,
    back: TransactionRing,
    operations: int,
    trips: LatencyHistogram,
    clock: Clock,
) -> int: ...
def send_back(there: TransactionRing, back: TransactionRing, operations: int) -> None: ...
def book_best(book: OrderBook, operations: int, bid: int, ask: int) -> int: ...
def bundle_add(ring: BundleRing, hold: LatencyHistogram, operations: int) -> int: ...
def clock_read(clock: Clock, operations: int) -> int: ...
def histogram_fill(histogram: LatencyHistogram, operations: int) -> int: ...
def gate_check(gate: RiskGate, orders: npt.NDArray[np.void]) -> int: ...
