"""What the real program did, as digests: the differential test where the program is not at hand.

Each session of `SEEDS` is run on one program. Every `STEPS` steps a digest is taken of all errors,
events, answers and calls so far, of the market's account, and of the token accounts. The digests of
the real program are in ``recorded.json``, with what its instructions cost;
``VELOX_MANIFEST_SO=FILE python -m tests.verify.market.recorded`` makes that file.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any, Final

from .compute import TOLERANCE, measure
from .differential import Session

RECORD: Final = Path(__file__).with_name("recorded.json")
SEEDS: Final = tuple(f"recorded/{number}" for number in range(60))
STEPS, CHECKS = 50, 8
HOSTILE: Final = 0.1


def play(program: bytes, seed: str) -> list[str]:
    """Return the digests of one session."""
    session = Session([program], seed, HOSTILE)
    world = session.worlds[0]
    digest = hashlib.sha256()
    told = []
    for _ in range(CHECKS):
        for _ in range(STEPS):
            _, (outcome,) = session.step()
            digest.update(repr(outcome.seen).encode())
            if outcome.error is None:
                digest.update(world.market_data())
        for key in session.watched:
            digest.update(world.data(key))
        told.append(digest.hexdigest()[:16])
    return told


def first_difference(program: bytes, seeds: tuple[str, ...] = SEEDS) -> str | None:
    """Return the first session and step in which a program differs from the real one."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))["sessions"]
    for seed in seeds:
        for number, (real, ours) in enumerate(
            zip(recorded[seed], play(program, seed), strict=True)
        ):
            if real != ours:
                return f"{seed}: within steps {number * STEPS} to {(number + 1) * STEPS}"
    return None


def costs(program: bytes, books: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """Return units of the real program and of this one, by instruction and orders."""
    recorded = json.loads(RECORD.read_text(encoding="utf-8"))["compute"]
    return {
        f"{name}, {orders}": (recorded[f"{name}, {orders}"], units)
        for (name, orders), units in measure(program, books).items()
    }


def too_far(program: bytes, books: tuple[int, ...], tolerance: float = TOLERANCE) -> list[str]:
    """Return the instructions that cost too much or too little."""
    return [
        f"{name}: {ours} for {real}"
        for name, (real, ours) in costs(program, books).items()
        if abs(ours / real - 1) > tolerance
    ]


def main() -> int:
    real = Path(os.environ["VELOX_MANIFEST_SO"]).read_bytes()
    told: dict[str, Any] = {
        "program": hashlib.sha256(real).hexdigest(),
        "sessions": {seed: play(real, seed) for seed in SEEDS},
        "compute": {f"{name}, {orders}": units for (name, orders), units in measure(real).items()},
    }
    RECORD.write_text(json.dumps(told, indent=0) + "\n", encoding="utf-8")
    print(f"{RECORD}: {len(SEEDS) * CHECKS * STEPS} instructions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
