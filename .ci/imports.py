"""Checks that each room of velox imports only rooms below it, and that no modules form a circle.

It reads Python, Cython and stub files alike: an import linter that reads only ``.py`` files misses
every ``cimport``, and with them most of the core. Imports inside functions and under
``TYPE_CHECKING`` count like any other, except for a circle of names that only annotations use.

    python .ci/imports.py [ROOT]     exit status: 0 in order, 1 not; each fault is on a line
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parents[1])

# From the ground up. A room may import its own modules and those of lower floors; rooms of one
# floor do not import each other.
FLOORS = [
    {"errors"},
    {"core"},
    {"settings"},
    {"config", "venue"},
    {"runtime"},
    {"feeds", "telemetry", "bench", "strategy"},
    {"solana"},
    {"live", "sim"},
    {"testing"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# `velox` itself is a front door: it may import the rooms up to here, and they may not import it.
# Rooms above use it like any other program.
FRONT_DOOR = FLOOR["runtime"]

STRINGS = re.compile(r'("""|\'\'\').*?\1', re.DOTALL)
IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+(velox[\w.]*)[ \t]+c?import[ \t]+(\([^)]*\)|[^\n#]*)"
    r"|c?import[ \t]+(velox[\w.]*))",
    re.MULTILINE,
)


class Import(NamedTuple):
    importer: str
    imported: str
    runs: bool  # False where only a type checker reads it

    def __str__(self) -> str:
        return f"{self.importer} -> {self.imported}"


def module_of(path: Path) -> str:
    parts = list(path.relative_to(ROOT).parts)
    parts[-1] = parts[-1].split(".")[0]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path: Path, modules: set[str]) -> Iterator[Import]:
    importer = module_of(path)
    text = path.read_text(encoding="utf-8")
    found = python(text) if path.suffix in (".py", ".pyi") else cython(text)
    for base, names, runs in found:
        # A name of a package may be one of its modules.
        for name in names or [""]:
            deeper = f"{base}.{name}"
            imported = deeper if deeper in modules else base
            if imported != importer:
                yield Import(importer, imported, runs and path.suffix != ".pyi")


def python(text: str) -> Iterator[tuple[str, list[str], bool]]:
    tree = ast.parse(text)
    typing_only = {
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.unparse(test.test)
        for statement in test.body
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        runs = node not in typing_only
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise SystemExit(f"relative import: {ast.unparse(node)}")
            if (node.module or "").split(".")[0] == "velox":
                yield node.module or "", [alias.name for alias in node.names], runs
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "velox":
                    yield alias.name, [], runs


def cython(text: str) -> Iterator[tuple[str, list[str], bool]]:
    for base, names, whole in IMPORT.findall(STRINGS.sub("", text)):
        yield base or whole, re.findall(r"(\w+)(?: +as +\w+)?", names), True


def points_upwards(found: Import) -> bool:
    importer, imported = (
        name.split(".")[1] if "." in name else "" for name in (found.importer, found.imported)
    )
    if importer == "":
        return FLOOR[imported] > FRONT_DOOR
    if imported == "":
        return FLOOR[importer] <= FRONT_DOOR
    return imported != importer and FLOOR[imported] >= FLOOR[importer]


def circle(imports: set[Import]) -> list[str]:
    graph: dict[str, set[str]] = {}
    for found in imports:
        if found.runs:
            graph.setdefault(found.importer, set()).add(found.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        around: list[str] = error.args[1]
        return around[::-1]
    return []


def main() -> int:
    sources = [
        path
        for path in sorted((ROOT / "velox").rglob("*"))
        if path.suffix in (".py", ".pyi", ".pyx", ".pxd", ".in") and "include" not in path.parts
    ]
    modules = {module_of(path) for path in sources}
    unknown = {name.split(".")[1] for name in modules if "." in name} - set(FLOOR)
    if unknown:
        print(f"rooms without a floor: {', '.join(sorted(unknown))}")
        return 1
    imports = {found for path in sources for found in imports_of(path, modules)}
    faults = {str(found) for found in imports if points_upwards(found)}
    for fault in sorted(faults):
        print(f"upwards: {fault}")
    around = circle(imports)
    if around:
        print(f"circle: {' -> '.join(around)}")
    print(f"{len(modules)} modules, {len(imports)} imports")
    return int(bool(faults or around))


if __name__ == "__main__":
    sys.exit(main())
