"""Checks what an sdist and a wheel hold: what they must, and nothing that they should not."""

import sys
import tarfile
import zipfile

REQUIRED = {
    "velox/py.typed",
    "velox/include/velox/strategy.h",
    "velox/core/ring.pyi",
    "velox/core/atomic.pxd",
    "velox/runtime/strategy.pxd",
    "velox/testing/market/faulty.elf",
    "velox/testing/market/market.elf",
}
REQUIRED_OF_A_SDIST = {
    "velox/core/ring.pxd.in",
    "tests/verify/stress/patterns.c",
    "tests/verify/model/orders.toml",
    "velox/testing/market/program/entry.c",
    "velox/testing/market/program/layout.h",
}
WRITTEN_C = ("tests/", "velox/testing/market/program/")


def names(path: str) -> set[str]:
    if path.endswith(".whl"):
        with zipfile.ZipFile(path) as wheel:
            return set(wheel.namelist())
    with tarfile.open(path) as sdist:
        return {name.partition("/")[2] for name in sdist.getnames()}


for path in sys.argv[1:]:
    wheel = path.endswith(".whl")
    held = names(path)
    required = REQUIRED | ({"velox/core/ring.pxd"} if wheel else REQUIRED_OF_A_SDIST)
    missing = required - held
    # C is what Cython made of velox; that of the tests and of the market program is written.
    unwanted = {
        name
        for name in held
        if name.endswith((".o", ".pyx", ".in") if wheel else (".o", ".so"))
        or (name.endswith(".c") and (wheel or not name.startswith(WRITTEN_C)))
    }
    print(f"{path}: {len(held)} files, missing {sorted(missing)}, unwanted {sorted(unwanted)}")
    if missing or unwanted:
        sys.exit(1)
