"""Run random instructions: ``python -m tests.verify.market --count N --seed S``.

With the real program, both run side by side and everything they do is compared. With ``--alone``,
ours runs alone: after each instruction its account must be whole and its funds in the vaults.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from tests.unit.testing.market.checks import check_session
from velox.testing.market import MARKET_PROGRAM

from .differential import STEPS_A_SESSION, Session, Tally

REAL = os.environ.get("VELOX_MANIFEST_SO")


def alone(program: bytes, count: int, seed: int, hostile: float) -> int:
    """Hold one program against the walker and its vaults."""
    began, done = time.perf_counter(), 0
    while done < count:
        steps = min(STEPS_A_SESSION, count - done)
        try:
            check_session(program, f"{seed}/{done // STEPS_A_SESSION}", steps, hostile)
        except AssertionError as error:
            print(error)
            return 1
        done += steps
    print(
        f"{done} instructions, all accounts whole and funded, {time.perf_counter() - began:.0f} s"
    )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.verify.market",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=10**6, help="instructions")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--real",
        type=Path,
        default=Path(REAL) if REAL else None,
        help="the real program (default: VELOX_MANIFEST_SO)",
    )
    parser.add_argument("--ours", type=Path, default=MARKET_PROGRAM, help="ours")
    parser.add_argument("--keep-going", type=int, default=1, help="stop at so many differences")
    parser.add_argument("--hostile", type=float, default=0.04, help="share of damaged steps")
    parser.add_argument("--alone", action="store_true", help="without the real program")
    asked = parser.parse_args()
    if asked.alone:
        return alone(asked.ours.read_bytes(), asked.count, asked.seed, asked.hostile)
    if asked.real is None:
        parser.error("name the real program, with --real FILE or VELOX_MANIFEST_SO; or --alone")
    real, ours = asked.real.read_bytes(), asked.ours.read_bytes()
    tally, found, session = Tally(), 0, 0
    began = time.perf_counter()
    while tally.steps < asked.count and found < asked.keep_going:
        steps = min(STEPS_A_SESSION, asked.count - tally.steps)
        difference = Session((real, ours), f"{asked.seed}/{session}", asked.hostile).run(
            steps, tally
        )
        session += 1
        if difference is not None:
            found += 1
            print(difference, flush=True)
    seconds = time.perf_counter() - began
    print(f"{tally.steps} instructions, {session} sessions, {found} differences, {seconds:.0f} s")
    for title, counts in (
        ("kinds", tally.kinds),
        ("results", tally.errors),
        ("events", tally.events),
        ("known differences", tally.known),
    ):
        print(f"{title}:")
        for name, count in counts.most_common():
            print(f"  {count:9d}  {name}")
    print("compute, ours / real (least, 1st, 50th, 99th percentile, most):")
    for name, ratios in sorted(tally.compute.items()):
        ratios.sort()
        shown = [ratios[int(part * (len(ratios) - 1))] for part in (0, 0.01, 0.5, 0.99, 1)]
        print(f"  {len(ratios):9d}  {name:10} " + " ".join(f"{each:.3f}" for each in shown))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
