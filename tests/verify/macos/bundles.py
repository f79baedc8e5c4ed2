"""Reads the linked modules: would Python on Apple Silicon find what it needs, and nothing else?

``python bundles.py PACKAGE``: a directory of cross-compiled modules.
"""

from __future__ import annotations

import ctypes
import re
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

# Words 1, 2 and 4 of <mach-o/loader.h>'s header: MH_MAGIC_64, CPU_TYPE_ARM64, MH_BUNDLE.
HEADER = struct.Struct("<II4xI")
BUNDLE_FOR_ARM64 = (0xFEEDFACF, 0x0100000C, 8)
# A line of llvm-nm -m: 00000000000006f8 (__TEXT,__text) external _PyInit_ring
#                                        (undefined) external _free (from libSystem)
SYMBOL = re.compile(r".*?\((?P<section>.+?)\).* external _(?P<name>\S+)(?: \((?P<found>.+)\))?$")


def is_of_python(name: str) -> bool:
    # The name too: this process has a C library, whose functions the look-up finds as well.
    return name.startswith(("Py", "_Py")) and hasattr(ctypes.pythonapi, name)


def faults_of(module: Path, used: Counter[str]) -> list[str]:
    faults = []
    header = HEADER.unpack(module.read_bytes()[: HEADER.size])
    if header != BUNDLE_FOR_ARM64:
        faults.append(f"magic, processor and type are {header}, not {BUNDLE_FOR_ARM64}")
    listing = subprocess.run(
        ["llvm-nm", "-m", str(module)], check=True, capture_output=True, text=True
    ).stdout
    symbols = [found for line in listing.splitlines() if (found := SYMBOL.match(line))]
    exported = [each["name"] for each in symbols if each["section"] != "undefined"]
    if exported != [due := f"PyInit_{module.name.partition('.')[0]}"]:
        faults.append(f"exports {exported}, not {due} alone")
    for each in symbols:
        # The linker has found what libSystem has; it believes that all else comes at run time.
        if each["found"] == "from libSystem":
            used[each["name"]] += 1
        elif each["section"] == "undefined" and not is_of_python(each["name"]):
            faults.append(f"{each['name']} is neither in libSystem nor in Python")
    return faults


def main() -> int:
    used: Counter[str] = Counter()
    modules = sorted(Path(sys.argv[1]).rglob("*.so"))
    faults = [f"{module.name}: {each}" for module in modules for each in faults_of(module, used)]
    print(f"  of libSystem they call {', '.join(sorted(used))}")
    print("\n".join(faults) or f"  {len(modules)} bundles for arm64, each exports PyInit_* alone")
    return 1 if faults or not modules else 0


if __name__ == "__main__":
    sys.exit(main())
