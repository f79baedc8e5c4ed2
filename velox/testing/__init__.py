"""A Solana cluster, a market and a Jito block engine in this process, with faults to inject.

Needs ``pip install -e '.[localnet]'`` in the repository. A name is loaded when it is used first.

These modules model the chain independently. Where they state a rule, a layout or an error code that
`velox.solana` states too, they state it on purpose, from the chain's own sources: a mistake in one
of the two then shows in the tests.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from velox.testing.chain import Bundle
    from velox.testing.cluster import LocalCluster
    from velox.testing.faults import Fault, FaultPlan, Lie, Strike
    from velox.testing.statement import MarketHistory, MarketStatement, Trades
    from velox.testing.svm import Execution
    from velox.testing.venue import LocalMarket, MarketPlan

__all__ = [
    "Bundle",
    "Execution",
    "Fault",
    "FaultPlan",
    "Lie",
    "LocalCluster",
    "LocalMarket",
    "MarketHistory",
    "MarketPlan",
    "MarketStatement",
    "Strike",
    "Trades",
]

_HOMES = {
    "Bundle": "chain",
    "Execution": "svm",
    "LocalCluster": "cluster",
    "LocalMarket": "venue",
    "MarketHistory": "statement",
    "MarketPlan": "venue",
    "MarketStatement": "statement",
    "Trades": "statement",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    missing = [each for each in ("solders", "httpcore", "websockets") if find_spec(each) is None]
    if missing:
        raise ImportError(
            f"velox.testing needs {', '.join(missing)}: run pip install -e '.[localnet]'",
            name=missing[0],
        )
    return getattr(import_module(f"velox.testing.{_HOMES.get(name, 'faults')}"), name)
