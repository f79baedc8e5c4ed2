"""``python -m tests.verify.fuzz TARGET --seconds N``: look for an input that breaks a target.

With atheris installed the search is guided by the coverage of the Python code, `velox.feeds`,
`velox.runtime.capture` and the model of the book; without it, mutations of the seeds are drawn.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
from pathlib import Path

try:
    import atheris
except ImportError:
    atheris = None

if atheris is not None:
    # Before anything imports them: only then can they be instrumented.
    with atheris.instrument_imports(
        include=["velox.feeds", "velox.runtime.capture", "tests.verify.fuzz"]
    ):
        from .targets import TARGETS, corpus, regressions
else:
    from .targets import TARGETS, corpus, regressions

from .engine import search

LONGEST_INPUT = 4096


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.verify.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*TARGETS, "all"])
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("--seed", type=int, default=None, help="drawn by chance unless told")
    parser.add_argument("--without-atheris", action="store_true", help="draw, even where it is")
    parser.add_argument("--again", type=Path, metavar="FILE", help="run one input, and end")
    parser.add_argument(
        "--corpus",
        type=Path,
        metavar="DIR",
        help="where atheris keeps what reached something new; a temporary one unless told",
    )
    return parser.parse_args()


def draw(name: str, seconds: float, seed: int) -> int:
    seeds = [each.read_bytes() for each in [*corpus(name), *regressions(name)]]
    tried, failing = search(TARGETS[name], seeds, seconds, seed)
    print(f"fuzz: {name}: {tried} inputs in {seconds} s, seed {seed}, drawn", flush=True)
    if failing is None:
        return 0
    digest = hashlib.sha256(failing).hexdigest()[:12]
    path = Path(tempfile.gettempdir(), f"velox-fuzz-{name}-{digest}")
    path.write_bytes(failing)
    print(f"FAILED: python -m tests.verify.fuzz {name} --again {path}", flush=True)
    TARGETS[name](failing)
    return 1


def guided(name: str, given: argparse.Namespace, seed: int) -> None:
    """Hand over to atheris, which ends the process by itself."""
    kept = str(given.corpus or tempfile.mkdtemp(prefix=f"velox-fuzz-{name}-"))
    seeds = os.path.dirname(corpus(name)[0])
    print(f"fuzz: {name}: guided by atheris, seed {seed}; corpus {kept}", flush=True)
    options = [f"-max_total_time={given.seconds}", f"-seed={seed}", f"-max_len={LONGEST_INPUT}"]
    options += [f"-artifact_prefix={kept}/", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, kept, seeds], TARGETS[name])
    atheris.Fuzz()


def main() -> int:
    given = arguments()
    names = list(TARGETS) if given.target == "all" else [given.target]
    if given.again is not None:
        TARGETS[given.target](given.again.read_bytes())
        return 0
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(3), "little") + 1
    if atheris is None or given.without_atheris or len(names) > 1:
        return max(draw(name, given.seconds, seed) for name in names)
    guided(names[0], given, seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
