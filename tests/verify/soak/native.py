"""Compiles the strategies of the soak, once a process."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import velox

__all__ = ["has_compiler", "soak_strategy"]

SOURCE = Path(__file__).with_name("strategies.c")


def has_compiler() -> bool:
    return shutil.which("gcc") is not None


@functools.cache
def soak_strategy() -> Any:
    """The C function ``velox_soak_strategy``, for `velox.Strategy`."""
    with tempfile.TemporaryDirectory() as directory:
        library = Path(directory, "strategies.so")
        command = ["gcc", "-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
        command += [f"-I{velox.get_include()}", str(SOURCE), "-o", str(library)]
        subprocess.run(command, check=True)
        # The mapping outlives the file.
        return ctypes.CDLL(str(library)).velox_soak_strategy
