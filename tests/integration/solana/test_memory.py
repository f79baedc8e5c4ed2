"""The memory of a submitter does not grow with time."""

from __future__ import annotations

import gc
import os
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from velox import BUNDLE_DTYPE

from .support import ADD, CANCEL
from .test_numbered import Trader

BUNDLES = int(os.environ.get("VELOX_BUNDLES", "1000"))
# An order more or less in a dictionary that grows by doubling.
SLACK_BYTES = 128 << 10


def pair(number: int) -> Any:
    """Sixteen orders, and the bundle that cancels them."""
    bundles = np.zeros(2, BUNDLE_DTYPE)
    bundles["count"] = 16
    orders = bundles["transactions"]
    orders["id"] = 1 + 16 * number + np.arange(16)
    orders["price"] = 1_000_000 + 100 * np.arange(16)
    orders["size"] = 5
    orders["kind"] = [[ADD], [CANCEL]]
    return bundles


def test_memory_is_steady_however_many_bundles_are_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The disk is not measured here.
    monkeypatch.setattr(os, "fsync", lambda fd: None)
    trader = Trader(tmp_path / "journal")
    sizes = []
    tracemalloc.start()
    try:
        for number in range(BUNDLES // 2):
            for bundle in pair(number):
                trader.submitter.intake(bundle[np.newaxis])
                trader.settle()
            trader.submitter.reports()
            trader.ends.clear()
            # The chain's memory is not ours.
            for kept in (trader.chain.raws, trader.chain.statuses, trader.chain.infos):
                kept.clear()
            if number in (BUNDLES // 4, BUNDLES // 2 - 1):
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    first, last = sizes
    assert last - first < SLACK_BYTES
    ledger = trader.submitter.close()
    ledger.check(delivered_transactions=16 * BUNDLES)
    assert ledger.landed == 16 * BUNDLES
