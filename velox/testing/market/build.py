"""Build the programs for the Solana VM from their C sources.

``python -m velox.testing.market.build`` compiles and links the two programs that are shipped, and
writes them: ``market.elf``, and ``faulty.elf``, which is the same with faults. With ``--output``
it writes one program, with the macros that ``-D`` gives.

Debian's clang-14 makes the shipped bytes. Another clang makes other bytes with the same behaviour.
``python -m tests.verify.market.rebuild`` checks both.

The compiler is ``clang-14`` or ``clang``, or what the environment variable ``VELOX_CLANG`` names.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from velox.errors import ProgramBuildError
from velox.testing.market.link import link

__all__ = ["SHIPPED", "SHIPPED_COMPILER", "build", "compiler", "main"]

HERE: Final = Path(__file__).parent
SOURCES: Final = HERE / "program"
SHIPPED: Final[dict[str, tuple[str, ...]]] = {"market.elf": (), "faulty.elf": ("FAULTS",)}
"""The programs of the package, and the macros of each."""
PARTS: Final = (
    "entry",
    "matching",
    "tree",
    "market",
    "price",
    "wide",
    "accounts",
    "fees",
    "events",
    "fault",
)
"""The C files of the market, in the order in which they are linked."""

SHIPPED_COMPILER: Final = "Debian clang version 14."
"""How ``clang --version`` begins for the compiler that makes the shipped bytes."""

FLAGS: Final = (
    "-target",
    "bpf",
    "-mcpu=v2",
    "-std=c11",
    "-O2",
    "-g0",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-strict-aliasing",
    "-Wall",
    "-Wextra",
)
_COMPILE_TIMEOUT_S = 120


def compiler() -> tuple[str, str]:
    """Find the compiler.

    Returns
    -------
    tuple of str and str
        Its path, and the first line of ``--version``.

    Raises
    ------
    ProgramBuildError
        There is none.
    """
    wanted = os.environ.get("VELOX_CLANG")
    for name in [wanted] if wanted else ["clang-14", "clang"]:
        path = shutil.which(name)
        if path is not None:
            told = subprocess.run(
                [path, "--version"], capture_output=True, text=True, check=False, timeout=60
            )
            if told.returncode == 0:
                return path, told.stdout.partition("\n")[0]
    raise ProgramBuildError(
        "no such compiler: install clang (Debian: apt-get install clang-14), "
        "or name one in VELOX_CLANG",
        path=wanted or "clang",
    )


def build(
    sources: Sequence[Path] | None = None,
    *,
    defines: Sequence[str] = (),
    clang: str | None = None,
) -> bytes:
    """Compile and link a program.

    Parameters
    ----------
    sources : sequence of Path, optional
        C files; the market's by default.
    defines : sequence of str
        Macros, as ``NAME`` or ``NAME=VALUE``.
    clang : str, optional
        The compiler; `compiler` finds one by default.

    Returns
    -------
    bytes
        The ELF file.

    Raises
    ------
    ProgramBuildError
        There is no compiler, a source does not compile, or the objects do not link.
    """
    chosen = [SOURCES / f"{part}.c" for part in PARTS] if sources is None else list(sources)
    for source in chosen:
        if not source.is_file():
            raise ProgramBuildError(
                "no such source; an installed wheel holds none: build from the repository",
                path=source,
            )
    path = compiler()[0] if clang is None else clang
    objects = []
    with tempfile.TemporaryDirectory() as folder:
        for number, source in enumerate(chosen):
            made = Path(folder) / f"{number}.o"
            # By its name, from its folder: no path of this machine gets into an object.
            done = subprocess.run(
                [
                    path,
                    *FLAGS,
                    f"-I{SOURCES}",
                    *(f"-D{each}" for each in defines),
                    "-c",
                    source.name,
                    "-o",
                    str(made),
                ],
                cwd=source.parent,
                capture_output=True,
                text=True,
                check=False,
                timeout=_COMPILE_TIMEOUT_S,
            )
            if done.returncode != 0:
                raise ProgramBuildError(done.stderr.strip(), path=source)
            objects.append((source.name, made.read_bytes()))
    return link(objects)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m velox.testing.market.build",
        description="Build the programs for the Solana VM that are shipped, or one other.",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="build one program to here")
    parser.add_argument(
        "-D",
        dest="defines",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="a macro for --output: FAULTS, or one of the mutants",
    )
    asked = parser.parse_args(arguments)
    if asked.defines and asked.output is None:
        parser.error("-D needs --output: the shipped programs have their own macros")
    wanted: dict[Path, Sequence[str]] = {asked.output: asked.defines}
    if asked.output is None:
        wanted = {HERE / name: defines for name, defines in SHIPPED.items()}
    try:
        path, version = compiler()
        print(f"{path}: {version}")
        for output, defines in wanted.items():
            program = build(defines=defines, clang=path)
            output.write_bytes(program)
            print(f"{output}: {len(program)} bytes")
    except (ProgramBuildError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
