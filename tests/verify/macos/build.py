"""Compiles and links every extension module for macOS on Apple Silicon, by ``setup.py``'s flags.

Usage: ``python build.py TREE ZIG NUMPY``. TREE is a copy of the sources; the modules are written
into it. ZIG and NUMPY are the folders in which ziglang and NumPy's wheel for macOS are unpacked.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy

TREE, ZIG, NUMPY = (Path(argument).resolve() for argument in sys.argv[1:])
os.chdir(TREE)
sys.path.insert(0, str(TREE))
import setup  # noqa: E402

# What a Python of python.org is built for and with on Apple Silicon, and adds to setup.py's flags.
MACOS = "11.0"
PYTHON_FLAGS = ["-DNDEBUG", "-fno-strict-overflow", "-fno-common"]
PYTHON_FLAGS += ["-Wsign-compare", "-Wunreachable-code"]
PYTHON_LINK_FLAGS = ["-bundle", "-undefined", "dynamic_lookup"]


def python_headers(target: Path) -> Path:
    """This Python's own headers, less what its ``configure`` had found on Linux alone.

    No registry has macOS's: the sizes in ``pyconfig.h`` are those of either, and the two macros
    that hide what is not POSIX are the only ones that CPython leaves undefined on macOS on purpose.
    """
    include = Path(sysconfig.get_path("include"))
    shutil.copytree(include, target)
    # Debian's pyconfig.h refers to that of the architecture, under its triplet.
    own = include.parent / (sysconfig.get_config_var("MULTIARCH") or "") / include.name
    config = (own if own.is_dir() else include) / "pyconfig.h"
    text = config.read_text(encoding="utf-8")
    text = re.sub(r"^#define (_POSIX_C_SOURCE|_XOPEN_SOURCE\w*) .*$", "", text, flags=re.M)
    (target / "pyconfig.h").write_text(text, encoding="utf-8")
    return target


def commands(module: setup.Extension, headers: Path) -> tuple[list[str], list[str]]:
    """The compilation and the link of one module."""
    (source,) = module.sources
    target = TREE / module.name.replace(".", "/")
    tag = f"cpython-{sys.version_info.major}{sys.version_info.minor}-darwin"
    own = numpy.get_include()
    include = [
        NUMPY / "numpy/_core/include" if each == own else each for each in module.include_dirs
    ]
    macros = [name if to is None else f"{name}={to}" for name, to in module.define_macros]

    compiler = [str(ZIG / "ziglang/zig"), "cc", "-target", f"aarch64-macos.{MACOS}"]
    compiler += [*PYTHON_FLAGS, *(f"-D{each}" for each in macros)]
    compiler += [*(f"-I{each}" for each in (headers, *include)), *module.extra_compile_args]
    # A warning would show a user that the port was not checked.
    compiler += ["-Werror", "-c", source, "-o", f"{target}.o"]

    linker = ["lld", "-flavor", "darwin", "-arch", "arm64"]
    linker += ["-platform_version", "macos", MACOS, MACOS, *PYTHON_LINK_FLAGS]
    linker += [f"{target}.o", *module.extra_link_args, f"-L{ZIG / 'ziglang/lib/libc/darwin'}"]
    linker += ["-lSystem", "-o", f"{target}.{tag}.so"]
    return compiler, linker


def build(module: setup.Extension, headers: Path) -> str:
    """Empty on success, else the output of the compiler or the linker."""
    for command in commands(module, headers):
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        if result.returncode or result.stderr:
            return f"{module.name}: exit status {result.returncode}\n{result.stderr}"
    return ""


def main() -> int:
    modules = setup.modules("darwin")
    headers = python_headers(TREE / "include")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = [fault for fault in pool.map(lambda each: build(each, headers), modules) if fault]
    print("\n".join(faults) or f"  {len(modules)} modules compiled and linked")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
