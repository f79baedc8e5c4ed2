"""A mutator that needs only the standard library, for machines without a coverage tool."""

from __future__ import annotations

import time
from collections.abc import Callable
from random import Random

__all__ = ["mutated", "search"]

# Bytes that mean something to one of the grammars, or to an integer.
TELLING = (
    b"-", b".", b",", b"0", b"1", b"9" * 20, b"e400", b"NaN", b'"', b"{", b"}", b"[", b"]", b"\n",
    b"null", b"[]", b"{}", b"\\ud800", b"\\u0000", b"\r", b"\xff", b"\x00", b"\x80", b"\xff" * 8,
    b"\x00" * 8, b"\x7f", b"\x1f\x8b", b"\n--- next file ---\n",
)  # fmt: skip


def mutated(random: Random, data: bytes, other: bytes) -> bytes:
    """`data` with a few of its spans cut, doubled, replaced, flipped, or taken from `other`."""
    content = bytearray(data)
    for _ in range(random.choice([1, 1, 2, 3, 8])):
        start = random.randint(0, len(content))
        length = random.choice([0, 1, 1, 2, 4, 8, 32, 528])
        end = min(len(content), start + length)
        kind = random.randrange(6)
        if kind == 0 and content:
            content[start % len(content)] ^= 1 << random.randrange(8)
        elif kind == 1:
            content[start:end] = random.choice(TELLING)
        elif kind == 2:
            content[start:end] = random.randbytes(random.choice([1, 1, 2, 8]))
        elif kind == 3:
            content[start:start] = content[start:end]
        elif kind == 4:
            where = random.randint(0, len(other))
            content[start:end] = other[where : where + length]
        else:
            del content[start:end]
    return bytes(content)


def search(
    target: Callable[[bytes], None], seeds: list[bytes], seconds: float, seed: int
) -> tuple[int, bytes | None]:
    """Run a target on mutations of its seeds until it fails or its time is up.

    Returns
    -------
    int
        Inputs tried.
    bytes or None
        The one that failed, if one did. Running it again prints its exception.
    """
    random = Random(seed)
    end = time.monotonic() + seconds
    tried = 0
    for data in seeds:
        tried += 1
        if not holds(target, data):
            return tried, data
    while time.monotonic() < end:
        data = mutated(random, random.choice(seeds), random.choice(seeds))
        tried += 1
        if not holds(target, data):
            return tried, data
    return tried, None


def holds(target: Callable[[bytes], None], data: bytes) -> bool:
    try:
        target(data)
    except Exception:
        return False
    return True
