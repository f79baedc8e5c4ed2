"""The records that benchmarks share: the same for everything that is compared."""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

import velox
from velox import feeds

__all__ = [
    "BASE_PRICE",
    "TICK_SIZE",
    "binance",
    "clears",
    "interleaved",
    "recorded",
    "synthetic",
]

SEED = 1
TICK_SIZE = 100
BASE_PRICE = 1_000_000
# In the folder that VELOX_DATA names.
RECORDED = {
    "lobster": ["lobster"],
    "binance": ["binance_usdm/btcusdt_20240808.gz"],
    "okx": ["okx/OKX.ws.1.0", "okx/OKX.0.gz"],
}


def clears(market: int = 0) -> npt.NDArray[np.void]:
    """Return the two records that empty the book of a market."""
    records = np.zeros(2, velox.TRANSACTION_DTYPE)
    records["kind"] = velox.Kind.CLEAR
    records["side"] = velox.Side.BID, velox.Side.ASK
    records["market"] = market
    return records


@cache
def synthetic(count: int = 100_000) -> npt.NDArray[np.void]:
    """Return a synthetic market that begins with an empty book: it can be replayed back to back."""
    flow = velox.MarketFlow(SEED, tick_size=TICK_SIZE, base_price=BASE_PRICE)
    return np.concatenate([clears(), flow.generate(count - 2)])


@cache
def interleaved(markets: int = 64, count: int = 204_800) -> npt.NDArray[np.void]:
    """Return the flows of several markets, mixed record by record at random.

    It begins with empty books: it can be replayed back to back.
    """
    owners = np.repeat(np.arange(markets), count // markets)
    np.random.default_rng(SEED).shuffle(owners)
    mixed = np.zeros(len(owners), velox.TRANSACTION_DTYPE)
    for market in range(markets):
        flow = velox.MarketFlow(
            SEED + market, tick_size=TICK_SIZE, base_price=BASE_PRICE, market=market
        )
        mixed[owners == market] = flow.generate(count // markets)
    return np.concatenate([*(clears(market) for market in range(markets)), mixed])


@cache
def binance() -> feeds.Recording | None:
    """Return the recorded Binance stream in the folder that VELOX_DATA names, if it is there."""
    paths = recorded("binance")
    return feeds.load(paths, "binance") if paths else None


@cache
def recorded(format: str) -> list[str]:
    """Return the files of a recorded feed; none where they are not there.

    ``npy`` is the synthetic market, written once to a file of this process's own.
    """
    if format == "npy":
        path = Path(_folder().name, "flow.npy")
        np.save(path, synthetic())
        return [str(path)]
    folder = os.environ.get("VELOX_DATA")
    paths = [] if folder is None else [Path(folder, each) for each in RECORDED[format]]
    return [str(path) for path in paths] if all(path.exists() for path in paths) else []


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()
