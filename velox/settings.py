"""What every group of settings shares: the message for a key that is not a setting."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

__all__ = ["suggestion"]


def suggestion(key: str, known: Sequence[str]) -> str:
    """Return the known key nearest to an unknown one, or all known keys, as a phrase.

    Examples
    --------
    >>> suggestion("lane", ["lanes", "writers"])
    "did you mean 'lanes'?"
    >>> suggestion("x", ["lanes", "writers"])
    'the keys are lanes, writers'
    """
    near = get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
