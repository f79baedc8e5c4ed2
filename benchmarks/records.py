"""The records that benchmarks share: the same for everything that is compared."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

import velox
from velox import feeds

__all__ = ["BASE_PRICE", "TICK_SIZE", "binance", "clears", "synthetic"]

SEED = 1
TICK_SIZE = 100
BASE_PRICE = 1_000_000
BINANCE = Path("binance_usdm", "btcusdt_20240808.gz")


def clears() -> npt.NDArray[np.void]:
    """Return the two records that empty the book of market 0."""
    records = np.zeros(2, velox.TRANSACTION_DTYPE)
    records["kind"] = velox.Kind.CLEAR
    records["side"] = velox.Side.BID, velox.Side.ASK
    return records


@cache
def synthetic(count: int = 100_000) -> npt.NDArray[np.void]:
    """Return a synthetic market that begins with an empty book: it can be replayed back to back."""
    flow = velox.MarketFlow(SEED, tick_size=TICK_SIZE, base_price=BASE_PRICE)
    return np.concatenate([clears(), flow.generate(count - 2)])


@cache
def binance() -> feeds.Recording | None:
    """Return the recorded Binance stream in the folder that VELOX_DATA names, if it is there."""
    folder = os.environ.get("VELOX_DATA")
    if folder is None or not (path := Path(folder, BINANCE)).exists():
        return None
    return feeds.load([str(path)], "binance")
