"""The API reference has every public name: of Python, of Cython and of C.

What is public is found here in another way than by the generator: from the modules as they are
imported, by Cython's own parser, and by the C preprocessor's and compiler's words.
"""

from __future__ import annotations

import pkgutil
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import velox

pytest.importorskip("numpydoc", reason="needs the extra 'docs'")

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))

from velox_docs import reference_pages  # noqa: E402

PAGES = reference_pages(ROOT)
MODULES = sorted(
    ["velox", *(each.name for each in pkgutil.walk_packages(velox.__path__, "velox."))]
)
DECLARATIONS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "velox").rglob("*.pxd"))


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_every_public_name_of_a_module_is_described(name: str) -> None:
    try:
        module = import_module(name)
    except ImportError as error:
        pytest.skip(str(error))
    public = set(getattr(module, "__all__", ()))
    page = PAGES.get(f"python/{name}", "")
    described = set(re.findall(r"^\.\. py:\w+:: (\w+)", page, re.MULTILINE))
    passed_on = set(re.findall(r"^- ``(\w+)``", page, re.MULTILINE))
    assert public == (described | passed_on) - {"velox"}


@pytest.mark.parametrize("name", MODULES)
def test_every_public_method_of_a_class_is_described(name: str) -> None:
    page = PAGES.get(f"python/{name}")
    if page is None:
        return
    try:
        module = import_module(name)
    except ImportError as error:
        pytest.skip(str(error))
    missing = []
    for match in re.finditer(r"^\.\. py:class:: (\w+).*?(?=^\.\. py:|\Z)", page, re.M | re.S):
        members = set(re.findall(r"^   \.\. py:\w+:: (\w+)", match[0], re.MULTILINE))
        kind = getattr(module, match[1])
        for member, value in vars(kind).items():
            inherited = any(member in vars(base) for base in kind.__mro__[1:])
            own = not inherited and (callable(value) or isinstance(value, property))
            if own and not member.startswith("_") and member not in members:
                missing.append(f"{match[1]}.{member}")
    assert missing == []


def declared(node: Any) -> Iterator[str]:
    """Yield the names that the statements of a parsed ``.pxd`` declare."""
    kind = type(node).__name__
    if kind == "StatListNode":
        for each in node.stats:
            yield from declared(each)
    elif kind == "CDefExternNode":
        # A name of a system's header is not ours, unless it is given one of ours.
        for name in declared(node.body):
            yield name if node.include_file is None else f"?{name}"
    elif kind in {"CVarDefNode", "CFuncDefNode", "CTypeDefNode"}:
        for each in getattr(node, "declarators", None) or [node.declarator]:
            inner = each
            while not hasattr(inner, "name"):
                inner = inner.base
            yield inner.name
    elif kind in {"CStructOrUnionDefNode", "CEnumDefNode", "CClassDefNode"}:
        if kind == "CEnumDefNode":
            yield from (item.name for item in node.items)
        name = node.class_name if kind == "CClassDefNode" else node.name
        if name:
            yield str(name)
    elif kind == "CompilerDirectivesNode":
        yield from declared(node.body)


@pytest.mark.parametrize("path", DECLARATIONS)
def test_every_declaration_of_a_pxd_is_described(path: str) -> None:
    from Cython.Compiler.TreeFragment import parse_from_strings  # noqa: PLC0415

    # Only a .pxd may leave a default open.
    text = (ROOT / path).read_text(encoding="utf-8").replace("=*", "")

    tree = parse_from_strings("declarations", text)
    names = {name for name in declared(tree.body) if not name.startswith("?")}
    page = PAGES.get("cython/" + path.removesuffix(".pxd").replace("/", "."), "")
    assert names <= entries(page)


def entries(page: str) -> set[str]:
    """Give the names of the C domain's entries on a page."""
    found = set()
    for match in re.finditer(r"^\.\. c:(\w+):: (.*(?:\n {13}\S.*)*)", page, re.MULTILINE):
        for line in match[2].splitlines():
            text = line.strip()
            if match[1] == "function":
                found.add(re.match(r".*?(\w+)\(", text)[1])
            elif (pointer := re.search(r"\(\s*\*\s*(\w+)", text)) is not None:
                found.add(pointer[1])
            else:
                found.add(re.findall(r"\w+", re.sub(r"\[.*?\]", "", text))[-1])
    return found


def test_every_name_of_the_header_is_described() -> None:
    text = (ROOT / "velox/include/velox/strategy.h").read_text(encoding="utf-8")
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
    names = set(re.findall(r"#define\s+(\w+)[ \t]+\S", text))
    names |= set(re.findall(r"^\}\s*(\w+);", text, re.MULTILINE))
    names |= set(re.findall(r"^typedef[^{;]*\(\*(\w+)\)", text, re.MULTILINE))
    assert names == entries(PAGES["c/strategy"])
    assert len(names) == 15
