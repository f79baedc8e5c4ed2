"""``python -m tests.verify.strategy``: drive strategies by random tables, until all were run."""

from __future__ import annotations

import argparse
import collections
import sys
import tempfile
from pathlib import Path

from velox.runtime.hardware import describe_machine

from .tables import TableError, check, draw


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.verify.strategy", description=__doc__)
    parser.add_argument(
        "--tables", type=int, default=100_000, help="how many (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="begin at table SEED * TABLES")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    endings: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        first = options.seed * options.tables
        for seed in range(first, first + options.tables):
            table = draw(seed)
            try:
                model = check(table, Path(folder))
            except TableError as error:
                again = f"python -m tests.verify.strategy --tables 1 --seed {seed}"
                print(f"FAILED: {error}\nagain: {again}")
                return 1
            failure = model.failure
            what = "right" if failure is None else getattr(failure, "__name__", str(failure))
            endings[f"{'C' if table.native else 'numba'}: {what}"] += 1
    print(f"{options.tables} tables from seed {options.seed}, 0 failed; {describe_machine()}")
    for what, count in sorted(endings.items()):
        print(f"{count:9,} {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
