"""What a program of its own may `cimport`, compiled with Cython's own defaults."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import velox

PACKAGE = Path(velox.__file__).parent

SETUP = """\
import numpy
from Cython.Build import cythonize
from setuptools import Extension, setup

include_dirs = [numpy.get_include(), {headers!r}]
flags = ["-std=c11", "-O0", "-w"]
module = Extension("outside", ["outside.pyx"], include_dirs=include_dirs, extra_compile_args=flags)
setup(ext_modules=cythonize([module], language_level=3, include_path=[{packages!r}]))
"""


def test_every_declaration_compiles_outside_of_the_project(tmp_path: Path) -> None:
    """A `.pxd` is compiled anew by whoever includes it: it must not lean on Velox's directives."""
    pytest.importorskip("Cython")
    pytest.importorskip("setuptools")
    declarations = sorted(PACKAGE.rglob("*.pxd"))
    assert len(declarations) > 10
    names = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in declarations
    ]
    source = "".join(f"cimport {name}\n" for name in names)
    (tmp_path / "outside.pyx").write_text(source + "\ndef answer():\n    return 42\n")
    setup = SETUP.format(headers=velox.get_include(), packages=str(PACKAGE.parent))
    (tmp_path / "setup.py").write_text(setup)
    built = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    told = subprocess.run(
        [sys.executable, "-c", "import outside; print(outside.answer())"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
    )  # fmt: skip
    assert told.stdout == "42\n", told.stderr
