"""Builds what is checked: the extension modules as they are, over the checker instead of a runtime.

A copy of ``velox`` is laid out in a directory of its own, its modules are compiled by Cython and by
gcc with ``-fsanitize=thread``, and linked without it to ``libvmodel.so``, which answers the calls
that the compiler put in. Nothing is written into the source tree.
"""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import numpy
from Cython import Tempita

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BUILD = Path(os.environ.get("VELOX_MODEL_BUILD", ROOT / "build" / "model"))

#: Modules whose functions the models call, and therefore run instrumented.
PRODUCT = (
    "velox.core.process",
    "velox.core.records",
    "velox.core.ring",
    "velox.core.histogram",
    "velox.core.shared_book",
    "velox.core.book",
    "velox.core.order_book",
    "velox.core.clock",
    "velox.core.kill",
    "velox.core.orders",
    "velox.core.risk",
    "velox.runtime.stage",
    "velox.runtime.strategy",
    "velox.runtime.checksum",
    "velox.runtime.verify",
    "velox.runtime.book_stage",
    "velox.runtime.bundle_stage",
    "velox.runtime.bell",
)
RUNTIME = ("memory.c", "search.c", "interface.c")
WRAPPED = ("memcpy", "memmove", "memset", "sched_yield", "posix_memalign", "free")

COMPILE = (
    "gcc", "-O1", "-g", "-fPIC", "-fno-omit-frame-pointer", "-fvisibility=hidden",
    "-Wall", "-Wno-unused-function",
)  # fmt: skip
# Without the builtins gcc copies and clears in place, where the checker does not see it.
INSTRUMENT = (
    "-fsanitize=thread", "-Wno-tsan", "-fno-builtin-memcpy", "-fno-builtin-memmove",
    "-fno-builtin-memset", "-D_GNU_SOURCE", "-DNPY_NO_DEPRECATED_API=NPY_1_7_API_VERSION",
)  # fmt: skip
DIRECTIVES = {
    "language_level": 3,
    "boundscheck": False,
    "wraparound": False,
    "initializedcheck": False,
    "cdivision": True,
    "freethreading_compatible": False,
}


class BuildError(Exception):
    """The compiler refused."""


def refusal() -> str | None:
    """Why this machine cannot run the checker; None where it can."""
    if sys.platform != "linux":
        return f"the checker needs Linux; this is {sys.platform}"
    if platform.machine() != "x86_64":
        return f"the pause of {platform.machine()} is assembly, which the checker cannot replace"
    if sys.implementation.name != "cpython":
        return f"the checker needs CPython; this is {sys.implementation.name}"
    for tool in ("gcc", "addr2line"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    return None


def model_names() -> list[str]:
    return sorted(path.stem for path in (HERE / "models").glob("*.pyx"))


def rings() -> object:
    """The table of rings in ``setup.py``, which is not imported because that needs setuptools."""
    for statement in ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "RINGS":
            return ast.literal_eval(statement.value)
    raise BuildError("setup.py has no table RINGS")


def write_if_changed(path: Path, text: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


class Tree:
    """One build: a copy of the sources, perhaps changed, and the compiled modules."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def lay_out(self) -> None:
        """Copy the sources; a package's own ``__init__`` would import all of Velox."""
        for source in sorted((ROOT / "velox").rglob("*")):
            name = source.relative_to(ROOT)
            if source.suffix not in {".pyx", ".pxd", ".in", ".py"}:
                continue
            # A rendered template of the tree may be older than its template.
            if source.with_name(source.name + ".in").exists():
                continue
            text = source.read_text(encoding="utf-8")
            if source.suffix == ".in":
                text = Tempita.Template(text, name=str(name)).substitute(RINGS=rings())
                name = name.with_suffix("")
            if name.name == "__init__.py":
                text = ""
            write_if_changed(self.directory / name, text)
        for source in sorted((HERE / "models").glob("*.p*")):
            write_if_changed(
                self.directory / "models" / source.name, source.read_text(encoding="utf-8")
            )
        write_if_changed(self.directory / "models" / "__init__.pxd", "")

    def path_of(self, module: str, suffix: str) -> Path:
        return self.directory / Path(*module.split(".")).with_suffix(suffix)

    def library_of(self, module: str) -> Path:
        return self.path_of(module, EXTENSION_SUFFIXES[0])

    def compile(self, modules: Iterable[str]) -> None:
        """Compile modules that are out of date."""
        modules = list(modules)
        self.run_cython(modules)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.compile_module, modules))

    def run_cython(self, modules: Sequence[str]) -> None:
        newest = max(path.stat().st_mtime for path in self.directory.rglob("*.pxd"))
        stale = []
        for module in modules:
            source, target = self.path_of(module, ".pyx"), self.path_of(module, ".c")
            if not target.exists() or target.stat().st_mtime < max(newest, source.stat().st_mtime):
                stale.append(module)
        if not stale:
            return
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(self.cythonize, stale))

    def cythonize(self, module: str) -> None:
        options = [f"{name}={value}" for name, value in DIRECTIVES.items()]
        source = self.path_of(module, ".pyx").relative_to(self.directory)
        command = [sys.executable, "-m", "cython", "--line-directives"]
        for option in options:
            command += ["-X", option]
        run([*command, "-I", ".", str(source)], self.directory)

    def compile_module(self, module: str) -> None:
        source, target = self.path_of(module, ".c"), self.library_of(module)
        if target.exists() and target.stat().st_mtime > source.stat().st_mtime:
            return
        self.compile_instrumented(
            source,
            target,
            [
                f"-I{sysconfig.get_path('include')}",
                f"-I{numpy.get_include()}",
                f"-I{ROOT / 'velox' / 'include'}",
                "-std=c11",
            ],
        )

    def compile_instrumented(self, source: Path, target: Path, flags: Sequence[str]) -> None:
        runtime = runtime_library()
        made = target.with_suffix(".o")
        seam = HERE / "runtime" / "seam.h"
        run([*COMPILE, *INSTRUMENT, *flags, "-include", str(seam), f"-I{HERE / 'runtime'}",
             "-c", str(source.relative_to(self.directory)), "-o", str(made)],
            self.directory)  # fmt: skip
        run(["gcc", "-shared", str(made), "-o", str(target),
             "-Wl," + ",".join(f"--wrap={name}" for name in WRAPPED),
             str(runtime), f"-Wl,-rpath,{runtime.parent}"],
            self.directory)  # fmt: skip
        made.unlink()

    def litmus_library(self) -> Path:
        source, target = self.directory / "models" / "litmus.c", self.directory / "litmus.so"
        write_if_changed(source, (HERE / "models" / "litmus.c").read_text(encoding="utf-8"))
        if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
            self.compile_instrumented(
                source, target, ["-std=gnu11", "-Wextra", "-fvisibility=default"]
            )
        return target


def runtime_library() -> Path:
    """The checker itself; named after its sources, for modules are linked to one of them."""
    sources = [HERE / "runtime" / name for name in RUNTIME]
    headers = sorted((HERE / "runtime").glob("*.h"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in [*sources, *headers]))
    target = BUILD / "libvmodel.so"
    stamp = BUILD / "libvmodel.sha256"
    if not target.exists() or not stamp.exists() or stamp.read_text() != digest.hexdigest():
        BUILD.mkdir(parents=True, exist_ok=True)
        run(["gcc", "-std=gnu11", "-O2", "-g", "-fPIC", "-Wall", "-Wextra", "-shared",
             *map(str, sources), "-o", str(target)], BUILD)  # fmt: skip
        stamp.write_text(digest.hexdigest())
    return target


def run(command: Sequence[str], directory: Path) -> None:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0 or done.stderr.strip():
        raise BuildError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")


def base_tree() -> Tree:
    """Compile the sources unchanged."""
    tree = Tree(BUILD / "tree")
    tree.lay_out()
    runtime_library()
    tree.compile([*PRODUCT, *(f"models.{name}" for name in model_names())])
    tree.litmus_library()
    return tree
