"""The outside world's bytes → arrays of `Transaction`, exactly or not at all."""

from velox.feeds import binance, lobster, npy, okx
from velox.feeds.recording import Recording
from velox.feeds.registry import formats, load, register

__all__ = [
    "Recording",
    "binance",
    "formats",
    "load",
    "lobster",
    "npy",
    "okx",
    "register",
]
