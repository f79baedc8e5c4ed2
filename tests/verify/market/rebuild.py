"""Rebuild the shipped programs, and hold them against what is shipped.

``python -m tests.verify.market.rebuild`` compares bytes where the compiler is Debian's clang-14.
Elsewhere it compares behaviour: the recorded sessions, the hostile accounts, and what instructions
cost. It says which of the two it did. ``--behaviour`` asks for the second.
"""

from __future__ import annotations

import argparse
import sys
from typing import Final

from tests.unit.testing.market.checks import CHECKS
from velox.errors import ProgramBuildError
from velox.testing.market.build import HERE, SHIPPED, SHIPPED_COMPILER, build, compiler

from .recorded import first_difference, too_far

OTHER_COMPILERS: Final = 0.25
"""How far from the real program's compute units another compiler's program may be."""


def compare_bytes(built: dict[str, bytes]) -> list[str]:
    """Return the programs that differ from the shipped ones."""
    return [
        f"{name}: {len(program)} bytes, other than the {len(shipped)} that are shipped"
        for name, program in built.items()
        if program != (shipped := (HERE / name).read_bytes())
    ]


def compare_behaviour(program: bytes) -> list[str]:
    """Return the differences in behaviour between a program and the shipped one."""
    found = []
    difference = first_difference(program)
    if difference is not None:
        found.append(difference)
    # Another compiler makes shorter or longer code.
    found += too_far(program, (0, 50, 2_000), OTHER_COMPILERS)
    for name, check in CHECKS.items():
        if name == "compute":
            continue
        try:
            check(program)
        except AssertionError as error:
            found.append(f"{name}: {error}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.verify.market.rebuild", description=__doc__
    )
    parser.add_argument("--behaviour", action="store_true", help="compare behaviour, not bytes")
    asked = parser.parse_args()
    try:
        path, version = compiler()
        built = {name: build(defines=defines, clang=path) for name, defines in SHIPPED.items()}
    except ProgramBuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    same_compiler = version.startswith(SHIPPED_COMPILER) and not asked.behaviour
    if same_compiler:
        what, found = "bytes", compare_bytes(built)
    else:
        what, found = (
            "behaviour",
            [
                f"{name}: {each}"
                for name, program in built.items()
                for each in compare_behaviour(program)
            ],
        )
    for each in found:
        print(each)
    print(
        f"compared the {what} of {', '.join(built)}, built by {version}: "
        f"{'different' if found else 'the same'}"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
