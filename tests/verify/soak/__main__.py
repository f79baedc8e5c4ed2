"""``python -m tests.verify.soak``: makes runs until its time is up, and prints their results."""

from __future__ import annotations

import argparse
import faulthandler
import os
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

from velox.runtime.hardware import describe_machine

from .draws import Draw, draw
from .interrupts import InterruptedProcess, serve
from .runs import perform

# A run that takes this long hangs: every wait of a run is bounded well below it.
HANGS_AFTER_S = 30.0


class Watchdog:
    """Ends the process, and says in which run, if a run never comes back."""

    def __init__(self, other: InterruptedProcess) -> None:
        self.other = other
        self.timer: threading.Timer | None = None

    def watch(self, run: Draw | None) -> None:
        if self.timer is not None:
            self.timer.cancel()
        if run is not None:
            self.timer = threading.Timer(HANGS_AFTER_S, self.bark, (run,))
            self.timer.daemon = True
            self.timer.start()

    def bark(self, run: Draw) -> None:
        report(run, f"hangs: not done after {HANGS_AFTER_S:.0f} s\n")
        faulthandler.dump_traceback()
        self.other.abort()
        os._exit(1)


def report(run: Draw, what: str, full_rate: bool = False) -> None:
    mode = " --full-rate" if full_rate else ""
    print(
        f"\nFAILED: run {run.index} of seed {run.seed}\n{run.to_json()}\n{what}"
        f"again: python -m tests.verify.soak --seed {run.seed} --only {run.index}{mode}",
        flush=True,
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.verify.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long; 10 unless told")
    parser.add_argument("--seed", type=int, default=None, help="drawn by chance unless told")
    parser.add_argument("--full-rate", action="store_true", help="only runs that carry the most")
    parser.add_argument("--only", type=int, metavar="RUN", help="one run of the seed, again")
    parser.add_argument("--keep-going", action="store_true", help="do not end at a failure")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not 0 < given.seconds < float("inf"):
        parser.error(f"--seconds {given.seconds:g}: must be above 0, and finite")
    return given


def main() -> int:
    given = arguments()
    if given.serve:
        serve()
        return 0
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(4), "little")
    print(f"soak: seed {seed}, {given.seconds:g} s, {describe_machine()}", flush=True)
    begin = time.monotonic()
    runs = transactions = interrupted = failures = 0
    with InterruptedProcess() as other, tempfile.TemporaryDirectory() as directory:
        watchdog = Watchdog(other)
        index = given.only if given.only is not None else 0
        while True:
            run = draw(seed, index, full_rate=given.full_rate)
            watchdog.watch(run)
            try:
                if run.interrupts:
                    transactions += other.perform(run)
                    interrupted += 1
                else:
                    transactions += perform(run, Path(directory))
            except Exception:
                failures += 1
                report(run, traceback.format_exc(), given.full_rate)
                if not given.keep_going:
                    break
            runs += 1
            index += 1
            if given.only is not None or time.monotonic() - begin >= given.seconds:
                break
        watchdog.watch(None)
    elapsed = time.monotonic() - begin
    print(
        f"soak: {runs} runs, {interrupted} of them interrupted, {transactions} transactions in "
        f"{elapsed:.1f} s, {failures} failed",
        flush=True,
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
