"""Sends orders as signed Solana transactions, and finds one known outcome for each order.

::

    bundles ─▶ OrderQueue ─▶ Carrier ─▶ Signer ─▶ SubmissionJournal ─▶ RPC node or block engine
                   ▲                                     │                        │
                   │                                     ▼                        ▼
                   └───────── working orders ◀── transactions in flight ◀── chain (statuses, logs)
                                                         │
                                                         ▼
                                        outcomes (ChainLedger) and execution reports

`Submitter` runs this cycle, and `SubmissionWorkers` gives it threads beside a pipeline. A venue is
a `Carrier` in a folder of its own. `open_submission` assembles everything from a TOML file.

The extra ``solana`` must be installed. The import checks that, and loads nothing else. A name is
loaded when it is used first.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

_MISSING = [name for name in ("solders", "httpcore") if find_spec(name) is None]
if _MISSING:
    raise ImportError(
        f"velox.solana needs {', '.join(_MISSING)}: run pip install -e '.[solana]'",
        name=_MISSING[0],
    )

if TYPE_CHECKING:
    from velox.solana.assembly import Submission, open_submission
    from velox.solana.config import ChainConfig, load_config
    from velox.solana.journal.file import SubmissionJournal, read_journal
    from velox.solana.net.block_engine import BlockEngineClient
    from velox.solana.net.rpc import RpcClient
    from velox.solana.net.tips import (
        FixedTip,
        FloorPercentileTip,
        TipAccounts,
        TipFloorClient,
        TipPolicy,
    )
    from velox.solana.orders.outcomes import ChainLedger, Observer, Outcome, Tally
    from velox.solana.orders.queue import OrderQueue
    from velox.solana.submit.options import SubmitOptions
    from velox.solana.submit.submitter import Submitter, SubmitterStatistics
    from velox.solana.submit.workers import Source, Stopping, SubmissionWorkers
    from velox.solana.tx.carrier import (
        Cancel,
        Carrier,
        Fill,
        OrderNumber,
        TransactionResult,
        VenueOrder,
        VenueState,
    )
    from velox.solana.tx.signer import KeypairSigner, Signer
    from velox.solana.tx.spend import SignerPolicy, SpendSummary
    from velox.solana.tx.template import TransactionBuilder, WireTransaction
    from velox.solana.venues.manifest.carrier import ManifestCarrier
    from velox.solana.venues.manifest.instructions import OrderType
    from velox.solana.venues.manifest.market import MarketSpec
    from velox.solana.venues.memo import MemoCarrier, decode_memo, memos_in
    from velox.venue import REPORT_DTYPE, ReportKind

__all__ = [
    "REPORT_DTYPE",
    "BlockEngineClient",
    "Cancel",
    "Carrier",
    "ChainConfig",
    "ChainLedger",
    "Fill",
    "FixedTip",
    "FloorPercentileTip",
    "KeypairSigner",
    "ManifestCarrier",
    "MarketSpec",
    "MemoCarrier",
    "Observer",
    "OrderNumber",
    "OrderQueue",
    "OrderType",
    "Outcome",
    "ReportKind",
    "RpcClient",
    "Signer",
    "SignerPolicy",
    "Source",
    "SpendSummary",
    "Stopping",
    "Submission",
    "SubmissionJournal",
    "SubmissionWorkers",
    "SubmitOptions",
    "Submitter",
    "SubmitterStatistics",
    "Tally",
    "TipAccounts",
    "TipFloorClient",
    "TipPolicy",
    "TransactionBuilder",
    "TransactionResult",
    "VenueOrder",
    "VenueState",
    "WireTransaction",
    "decode_memo",
    "load_config",
    "memos_in",
    "open_submission",
    "read_journal",
]

_HOMES = {
    "velox.solana.assembly": (
        "Submission",
        "open_submission",
    ),
    "velox.solana.config": (
        "ChainConfig",
        "SubmitOptions",
        "load_config",
    ),
    "velox.solana.journal.file": (
        "SubmissionJournal",
        "read_journal",
    ),
    "velox.solana.net.block_engine": ("BlockEngineClient",),
    "velox.solana.net.rpc": ("RpcClient",),
    "velox.solana.net.tips": (
        "FixedTip",
        "FloorPercentileTip",
        "TipAccounts",
        "TipFloorClient",
        "TipPolicy",
    ),
    "velox.solana.orders.outcomes": (
        "ChainLedger",
        "Observer",
        "Outcome",
        "Tally",
    ),
    "velox.solana.orders.queue": ("OrderQueue",),
    "velox.solana.submit.options": ("SubmitOptions",),
    "velox.solana.submit.submitter": (
        "Submitter",
        "SubmitterStatistics",
    ),
    "velox.solana.submit.workers": (
        "Source",
        "Stopping",
        "SubmissionWorkers",
    ),
    "velox.solana.tx.carrier": (
        "Cancel",
        "Carrier",
        "Fill",
        "OrderNumber",
        "TransactionResult",
        "VenueOrder",
        "VenueState",
    ),
    "velox.solana.tx.signer": (
        "KeypairSigner",
        "Signer",
    ),
    "velox.solana.tx.spend": (
        "SignerPolicy",
        "SpendSummary",
    ),
    "velox.solana.tx.template": (
        "TransactionBuilder",
        "WireTransaction",
    ),
    "velox.solana.venues.manifest.carrier": ("ManifestCarrier",),
    "velox.solana.venues.manifest.instructions": ("OrderType",),
    "velox.solana.venues.manifest.market": ("MarketSpec",),
    "velox.solana.venues.memo": (
        "MemoCarrier",
        "decode_memo",
        "memos_in",
    ),
    "velox.venue": ("REPORT_DTYPE", "ReportKind"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME_OF[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
