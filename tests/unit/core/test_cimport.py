"""What a program of its own may `cimport`, compiled with Cython's own defaults."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import velox

PACKAGE = Path(velox.__file__).parent
DECLARATIONS = sorted(PACKAGE.rglob("*.pxd"))
INLINE = re.compile(r"^cdef inline [^(]*?(\w+)\(", re.MULTILINE)

SETUP = """\
import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

include_dirs = [numpy.get_include(), {headers!r}]
# What Velox inlines must be clean; what else stands in the file is Cython's own.
flags = ["-std=c11", "-O2", "-Wall", "-Werror", "-Wno-unused-function", "-Wno-unreachable-code"]
module = Extension("outside", ["outside.pyx"], include_dirs=include_dirs, extra_compile_args=flags)
if {cplusplus}:
    module.language, module.extra_compile_args = "c++", []
setup(ext_modules=cythonize([module], language_level=3, include_path=[{packages!r}]))
"""

BEHAVIOUR = """
from libc.stdint cimport int64_t, uint32_t
from velox.core.bundle cimport (
    bundle_builder, bundle_builder_add, bundle_builder_init, bundle_builder_seal,
)
from velox.core.grid cimport (
    tick_grid, tick_grid_divide, tick_grid_holds, tick_grid_initialise,
)
from velox.core.histogram cimport LatencyHistogram
from velox.core.records cimport Transaction
from velox.core.ring cimport BundleRing


def add_nothing_then(BundleRing ring, LatencyHistogram hold, int times, uint32_t n):
    '''The additions that the builder remembers, and whether it has a bundle open.'''
    cdef bundle_builder builder
    cdef Transaction one
    one.id = 7
    bundle_builder_init(&builder, ring.ring, hold.histogram, 1000)
    for _ in range(times):
        assert bundle_builder_add(&builder, &one, 0, 1) == 0
    assert bundle_builder_add(&builder, &one, n, 1) == n
    return builder.additions, builder.open != NULL


def is_on_the_grid(int64_t tick_size, int64_t price):
    cdef tick_grid grid
    tick_grid_initialise(&grid, tick_size)
    return tick_grid_holds(&grid, tick_grid_divide(&grid, price))
"""


def module_of(declarations: Path) -> str:
    return ".".join(declarations.relative_to(PACKAGE.parent).with_suffix("").parts)


def uses_of_everything() -> str:
    """Every declaration is included, and the address of every inline function is taken."""
    lines = [f"cimport {module_of(path)}" for path in DECLARATIONS]
    lines += ["", "def addresses():", "    return ["]
    for path in DECLARATIONS:
        lines += [
            f"        <size_t><void *>{module_of(path)}.{name},"
            for name in INLINE.findall(path.read_text(encoding="utf-8"))
        ]
    return "\n".join([*lines, "    ]", ""])


def build(
    folder: Path, source: str, *, cplusplus: bool = False
) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    (folder / "outside.pyx").write_text(source)
    setup = SETUP.format(
        headers=velox.get_include(), packages=str(PACKAGE.parent), cplusplus=cplusplus
    )
    (folder / "setup.py").write_text(setup)
    return subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of a module that another project has built."""
    folder = tmp_path_factory.mktemp("outside")
    built = build(folder, uses_of_everything() + BEHAVIOUR)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


def told(folder: Path, program: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_every_declaration_compiles_outside_of_the_project(outside: Path) -> None:
    """Other modules compile a `.pxd` too, so it must not depend on Velox's directives."""
    functions = uses_of_everything().count("<void *>")
    assert functions > 100
    assert told(outside, "import outside; print(len(set(outside.addresses())))") == f"{functions}\n"


def test_no_inline_function_takes_the_gil_in_a_strangers_module(outside: Path) -> None:
    """Where Cython guards a division, say, it would raise, and take the GIL for that."""
    source = (outside / "outside.c").read_text(encoding="utf-8")
    bodies = re.findall(
        r"^static CYTHON_INLINE [^;{]*?(__pyx_f_5velox_\w+)\([^;{]*\) \{\n(.*?)^\}",
        source, re.MULTILINE | re.DOTALL,
    )  # fmt: skip
    count = uses_of_everything().count("<void *>")
    assert len(bodies) == count
    assert [name for name, body in bodies if re.search("PyGILState|PyErr|Unraisable", body)] == []


def test_nothing_added_to_a_builder_opens_no_bundle(outside: Path) -> None:
    program = "import outside, velox; print(outside.add_nothing_then(velox.BundleRing(), {}))"
    histogram = "velox.LatencyHistogram(), 40, "
    assert told(outside, program.format(histogram + "0")) == "(0, False)\n"
    assert told(outside, program.format(histogram + "1")) == "(1, True)\n"


def test_a_grid_may_stand_on_the_callers_stack(outside: Path) -> None:
    program = "from outside import is_on_the_grid as on; print(on(100, 500), on(100, 501))"
    assert told(outside, program) == "True False\n"


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_a_module_in_cplusplus_is_told_that_it_cannot(tmp_path: Path) -> None:
    built = build(tmp_path, "from velox.core.ring cimport TransactionRing\n", cplusplus=True)
    assert built.returncode != 0
    assert "cimport them in a module that Cython compiles as C" in built.stdout + built.stderr
