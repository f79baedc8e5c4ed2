"""Reads the disassembly: are the memory orders that the source asks for in the instructions?

``python instructions.py PACKAGE ORDERS OBJDUMP``: a directory of cross-compiled modules, the one of
them that `orders.pyx` became, and the command that disassembles.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

# What each operation must contain, and how often; nothing else that orders memory may be there.
DUE = {
    "velox_order_publish": {"stlr": 1},
    "velox_order_release": {"stlr": 1},
    "velox_order_close": {"stlr": 1},
    "velox_order_claim": {"ldar": 1},
    "velox_order_peek": {"ldar": 1},
    "velox_order_drained": {"ldar": 1},
}
# Read where a whole stage runs: at least one of each there, and no fence.
STAGES = {
    "runtime/book_stage": ("stlr", "ldar"),
    "runtime/bundle_stage": ("stlr", "ldar"),
    "runtime/sources": ("stlr", "ldar"),
    "runtime/sinks": ("stlr", "ldar"),
    "core/ring": ("stlr", "ldar"),
    "core/clock": ("isb",),
    "runtime/runner": ("isb",),
}
# Without the size that it ends in.
ORDERING = re.compile(r"\t(dmb|dsb|isb|stlu?r|stlxr|ldar|ldapu?r|ldaxr)[bh]?\b")
# What newer processors have beside: with an offset; and an acquire that may overtake an earlier
# release, as C11's may.
NEWER = {"stlur": "stlr", "ldapr": "ldar", "ldapur": "ldar"}


def disassembled(module: Path) -> str:
    command = [*sys.argv[3:], "-d", "--no-show-raw-insn", str(module)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def functions(listing: str) -> dict[str, str]:
    found = {}
    for part in listing.split("\n\n"):
        head = re.match(r"\n?[0-9a-f]+ <([^>]+)>:\n", part)
        if head:
            found[head[1].removeprefix("_")] = part  # which Mach-O puts before C's names
    return found


def ordering(text: str) -> Counter[str]:
    """Ordering instructions, the newer ones by the names of the older."""
    return Counter(NEWER.get(name, name) for name in ORDERING.findall(text))


def main() -> int:
    package, orders = map(Path, sys.argv[1:3])
    faults = []
    bodies = functions(disassembled(orders))
    for name, due in DUE.items():
        found = dict(ordering(bodies[name]))
        print(f"  {name.removeprefix('velox_order_'):8} {found}")
        if found != due:
            faults.append(f"{name}: has {found}, and is due {due}")
    for name, due_there in STAGES.items():
        (module,) = package.glob(f"{name}.*.so")
        counts = ordering(disassembled(module))
        print(f"  {name:22} {dict(counts)}")
        faults += [f"{name}: has no {each}" for each in due_there if not counts[each]]
    for module in sorted(package.rglob("*.so")):
        if fences := ordering(disassembled(module))["dmb"]:
            faults.append(f"{module.name}: has {fences} fences (dmb)")
    print("\n".join(faults) or "  every order is there, and not one fence")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
