"""A lock-free record pipeline for high-frequency trading on Solana.

Records come in from a feed and update an exact order book. They leave in bundles of 16, or after
100 us. Rings join the stages, and pinned threads run them without a lock, heap memory or the GIL.

>>> import velox
>>> report = velox.Pipeline(velox.PoissonIngress(rate=100_000, seed=1)).run(duration=0.1)
>>> report.ledger.balanced
True
"""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

if find_spec("velox.core.records") is None:
    _NOT_BUILT = "the extension modules are not built: run 'pip install -e .' in the repository"
    if sys.argv[:1] == ["-m"]:
        # `python -m velox` imports the package here, so the user sees this message.
        print(f"velox: error: {_NOT_BUILT}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(_NOT_BUILT)

from velox.config import PipelineConfig
from velox.core.bundle import BundleBuilder
from velox.core.clock import Clock
from velox.core.flow import MarketFlow
from velox.core.histogram import LatencyHistogram
from velox.core.instrument import Instrument
from velox.core.kill import KillSwitch
from velox.core.limits import Limits, MarketLimits
from velox.core.order_book import ApplyResult, Books, OrderBook
from velox.core.orders import ORDER_DTYPE, Account, OrderState, OrderTable, ReportOutcome
from velox.core.records import (
    BUNDLE_DTYPE,
    PRICE_SCALE,
    REPORT_RECORD_DTYPE,
    TRANSACTION_DTYPE,
    Flags,
    Kind,
    Rejection,
    ReportFlags,
    SealReason,
    Side,
    from_fixed,
    to_fixed,
    validate,
)
from velox.core.ring import BundleRing, ReportRing, RingStatistics, TransactionRing
from velox.core.risk import Block, RiskGate
from velox.runtime.book_view import BOOK_VIEW_DTYPE
from velox.runtime.capture import recover_capture
from velox.runtime.ingress import Ingress
from velox.runtime.ledger import Ledger
from velox.runtime.numba_strategy import numba_strategy
from velox.runtime.output import Output
from velox.runtime.pipeline import Pipeline
from velox.runtime.report import Report, Statistics
from velox.runtime.signature import STRATEGY_CTYPE, strategy_signature
from velox.runtime.sinks import CaptureOutput, DiscardOutput, PullOutput
from velox.runtime.sources import PoissonIngress, PushIngress, ReplayIngress
from velox.runtime.strategy import Strategy

__version__ = "0.1.0"

__all__ = [
    "BOOK_VIEW_DTYPE",
    "BUNDLE_DTYPE",
    "ORDER_DTYPE",
    "PRICE_SCALE",
    "REPORT_RECORD_DTYPE",
    "STRATEGY_CTYPE",
    "TRANSACTION_DTYPE",
    "Account",
    "ApplyResult",
    "Block",
    "Books",
    "BundleBuilder",
    "BundleRing",
    "CaptureOutput",
    "Clock",
    "DiscardOutput",
    "Flags",
    "Ingress",
    "Instrument",
    "KillSwitch",
    "Kind",
    "LatencyHistogram",
    "Ledger",
    "Limits",
    "MarketFlow",
    "MarketLimits",
    "OrderBook",
    "OrderState",
    "OrderTable",
    "Output",
    "Pipeline",
    "PipelineConfig",
    "PoissonIngress",
    "PullOutput",
    "PushIngress",
    "Rejection",
    "ReplayIngress",
    "Report",
    "ReportFlags",
    "ReportOutcome",
    "ReportRing",
    "RingStatistics",
    "RiskGate",
    "SealReason",
    "Side",
    "Statistics",
    "Strategy",
    "TransactionRing",
    "from_fixed",
    "get_include",
    "numba_strategy",
    "recover_capture",
    "strategy_signature",
    "to_fixed",
    "validate",
]


def __getattr__(name: str) -> ModuleType:
    # Imported on first use: a program without recordings does not import the readers.
    if name in ("feeds", "strategy"):
        return import_module(f"velox.{name}")
    raise AttributeError(f"module 'velox' has no attribute {name!r}")


def get_include() -> str:
    """Return the directory of ``velox/strategy.h``, for a C compiler.

    Returns
    -------
    str
        A directory to search for headers.
    """
    return str(Path(__file__).parent / "include")
