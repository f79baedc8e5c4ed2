"""Builds the extension modules; everything else stands in ``pyproject.toml``.

Environment
-----------
VELOX_NATIVE : ``1`` compiles for this machine's own CPU (never for a wheel).
VELOX_SANITIZE : ``thread`` or ``address,undefined`` builds with gcc's sanitizers.
VELOX_TRACE : ``1`` builds with line tracing, for coverage of the Cython code.
"""

import os
import platform
import struct
import sys
from pathlib import Path

import numpy
from Cython import Tempita
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
SANITIZE = os.environ.get("VELOX_SANITIZE", "")
NATIVE = os.environ.get("VELOX_NATIVE") == "1"
TRACE = os.environ.get("VELOX_TRACE") == "1"

# One row a ring: what it carries, the prefix of its C functions, the dtype of what it carries, how
# many slots by default.
RINGS = [
    # (item, prefix, dtype, default capacity)
    ("Transaction", "transaction", "TRANSACTION_DTYPE", 4096),
    ("Bundle", "bundle", "BUNDLE_DTYPE", 1024),
    ("Report", "report", "REPORT_RECORD_DTYPE", 4096),
]


def refuse_unsupported_platforms() -> None:
    if sys.platform not in ("linux", "darwin"):
        sys.exit(f"velox runs on Linux and macOS; this is {sys.platform!r}")
    if platform.machine() not in ("x86_64", "aarch64", "arm64"):
        sys.exit(f"velox runs on x86-64 and aarch64; this is {platform.machine()!r}")
    if struct.calcsize("P") != 8 or sys.byteorder != "little":
        sys.exit("velox needs a 64-bit little-endian Python")


def render_templates() -> None:
    for template in sorted((HERE / "velox").rglob("*.in")):
        target = template.with_suffix("")
        text = Tempita.Template.from_filename(str(template), encoding="utf-8").substitute(
            RINGS=RINGS
        )
        # Unchanged text keeps its mtime, so that an unchanged module is not compiled again.
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.write_text(text, encoding="utf-8")


def flags(system: str) -> tuple[list[str], list[str]]:
    compile_flags = ["-std=c11", "-fvisibility=hidden", "-Wall", "-Wno-unreachable-code"]
    link_flags: list[str] = []
    if system == "linux":
        compile_flags += ["-fno-semantic-interposition"]
    if system == "darwin":
        # clang, unlike gcc, expects each module to call every inline function that it is given.
        compile_flags += ["-Wno-unused-function"]
    if SANITIZE:
        compile_flags += ["-O1", "-g", "-fno-omit-frame-pointer", f"-fsanitize={SANITIZE}"]
        link_flags += [f"-fsanitize={SANITIZE}"]
    else:
        compile_flags += ["-O3", "-g0"]
    if NATIVE:
        compile_flags += ["-march=native"]
    return compile_flags, link_flags


def extensions(system: str) -> list[Extension]:
    compile_flags, link_flags = flags(system)
    macros = [("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"), ("_GNU_SOURCE", None)]
    if TRACE:
        macros += [("CYTHON_TRACE_NOGIL", "1"), ("CYTHON_USE_SYS_MONITORING", "0")]
    return [
        Extension(
            ".".join(source.relative_to(HERE).with_suffix("").parts),
            [str(source.relative_to(HERE))],
            include_dirs=[numpy.get_include(), "velox/include"],
            define_macros=macros,
            extra_compile_args=compile_flags,
            extra_link_args=link_flags,
        )
        for source in sorted((HERE / "velox").rglob("*.pyx"))
    ]


def modules(system: str = sys.platform) -> list[Extension]:
    """Translate every module to C; each comes with the flags that compile it on ``system``."""
    render_templates()
    return cythonize(
        extensions(system),
        # Coverage looks for the C file beside its source; everything else keeps the tree clean.
        build_dir=None if TRACE else "build/cython",
        emit_linenums=bool(SANITIZE),
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "initializedcheck": False,
            "cdivision": True,
            "embedsignature": False,
            # The interpreter keeps its GIL: whose a ring's ends are is looked up and then written
            # (ring.pyx.in), which two threads may do at once where nothing keeps them apart.
            "freethreading_compatible": False,
            "linetrace": TRACE,
        },
    )


class ParallelBuildExt(build_ext):
    def finalize_options(self) -> None:
        super().finalize_options()
        if self.parallel is None:
            self.parallel = os.cpu_count()


# Imported, it tells what a build would do: the cross-compilations under tests/ ask for that.
if __name__ == "__main__":
    refuse_unsupported_platforms()
    os.chdir(HERE)
    setup(cmdclass={"build_ext": ParallelBuildExt}, ext_modules=modules())
