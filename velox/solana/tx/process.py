"""Keeps the memory of a process that holds a key from other processes and from disk."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

__all__ = ["protect_memory"]

_PR_SET_DUMPABLE: Final = 4


def protect_memory() -> bool:
    """Forbid dumps of this process, and reading its memory by processes of the same user.

    Returns
    -------
    bool
        Whether the system did it. Only Linux can.
    """
    if not sys.platform.startswith("linux"):
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) == 0)
