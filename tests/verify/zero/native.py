"""Compiles this directory's C files, if there is a compiler."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import velox

__all__ = ["build", "has_compiler", "holder", "strategies"]

HERE = Path(__file__).parent


def has_compiler() -> bool:
    return shutil.which("gcc") is not None


def build(name: str, directory: Path) -> Path:
    library = directory / f"{name}.so"
    command = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command += [f"-I{velox.get_include()}", str(HERE / f"{name}.c"), "-o", str(library), "-ldl"]
    subprocess.run(command, check=True)
    return library


@functools.cache
def strategies() -> ctypes.CDLL:
    """The library of strategies."""
    with tempfile.TemporaryDirectory() as directory:
        # The mapping outlives the file.
        return ctypes.CDLL(str(build("strategies", Path(directory))))


def holder() -> Callable[..., int]:
    """``velox_hold``, which keeps the GIL while it runs."""
    address = ctypes.cast(strategies().velox_hold, ctypes.c_void_p).value
    word = ctypes.c_void_p
    return ctypes.PYFUNCTYPE(ctypes.c_int64, word, word, ctypes.c_uint64, ctypes.c_uint64)(address)
