"""The Cython and C part of the API reference: one page a ``.pxd`` or ``.h``, as reStructuredText.

Declarations are read from the source text. Structures are shown as they stand there, with their
comments and their layout; functions become entries of Sphinx's C domain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from textwrap import dedent

__all__ = ["Declaration", "cython_declarations", "header_declarations", "page"]

QUALIFIERS = re.compile(r"\b(inline|public|api|readonly|packed)\s+")
ALIAS = re.compile(r'(\w+)\s+"[^"]*"')
AFTER = re.compile(r"\)\s*(noexcept|except[^:]*?|nogil|with gil)?\s*(nogil)?\s*:?\s*$")
DRAWING = re.compile(r"^\s*[0-9.]*\s*(\+[-=]{2,}|\|\s.*\|)", re.MULTILINE)
ENUMERATOR = re.compile(r'^\s+(\w+)(?:\s+"[^"]*")?\s*(?:=\s*([^,#]+?))?,?\s*(?:#.*)?$')


@dataclass
class Declaration:
    """One name, or the names of one enumeration, that C code may use.

    Attributes
    ----------
    kind : str
        ``function``, ``struct``, ``class``, ``enum``, ``type``, ``var`` or ``macro``.
    names : list of str
        What it declares.
    signature : str
        The declaration in C, where it has one line.
    notes : str
        What follows the parameters in Cython: ``noexcept nogil`` and the like.
    doc : str
        The docstring, or the comment before it.
    source : str
        The text as it stands in the file, for structures, classes and enumerations.
    """

    kind: str
    names: list[str]
    signature: str = ""
    notes: str = ""
    doc: str = ""
    source: str = ""


def blocks(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """Split a ``.pxd`` into its top-level statements, each with the comment before it."""
    comment: list[str] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("#"):
            comment.append(line)
            at += 1
        elif not line.strip():
            comment = []
            at += 1
        elif line.startswith("@"):
            at += 1
        else:
            end = at + 1
            depth = bracket_depth(line)
            while end < len(lines) and (
                depth > 0 or lines[end][:1] in {" ", ""} or lines[end].startswith(")")
            ):
                depth += bracket_depth(lines[end])
                end += 1
            while not lines[end - 1].strip():
                end -= 1
            yield comment, lines[at:end]
            comment = []
            at = end


def bracket_depth(line: str) -> int:
    """Count the brackets that a line of a declaration opens and does not close."""
    code = line.partition("#")[0]
    return code.count("(") - code.count(")")


def uncomment(lines: list[str]) -> str:
    """Take the comment signs away."""
    return dedent("\n".join(line.strip().lstrip("#") for line in lines)).strip()


def cython_declarations(text: str) -> tuple[str, list[Declaration]]:
    """Read a ``.pxd``.

    Parameters
    ----------
    text : str
        The source.

    Returns
    -------
    tuple of str and list of Declaration
        The module's docstring, and what the module declares.
    """
    doc = ""
    match = re.match(r'\s*"""(.*?)"""', text, re.DOTALL)
    if match is not None:
        doc = dedent(match[1]).strip()
        text = text[match.end() :]
    found: list[Declaration] = []
    for comment, lines in blocks(text):
        first = lines[0]
        if first.startswith("cdef extern from"):
            # A name of a system's header is not ours, unless it is given a name of ours.
            found += externs(lines, ours=first.startswith("cdef extern from *"))
        elif first.startswith(("cdef", "ctypedef", "cpdef")):
            found += declaration(uncomment(comment), lines)
    return doc, found


def externs(lines: list[str], *, ours: bool) -> Iterator[Declaration]:
    """Read the declarations inside a ``cdef extern from`` block."""
    body = dedent("\n".join(lines[1:]))
    body = re.sub(r'^\s*""".*?"""', "", body, count=1, flags=re.DOTALL)
    for comment, inner in blocks(dedent(body)):
        named = ALIAS.search(inner[0]) is not None
        if ours or named:
            yield from declaration(uncomment(comment), inner)


def declaration(comment: str, lines: list[str]) -> Iterator[Declaration]:
    """Read one statement."""
    head, rest = split_head(lines)
    code = QUALIFIERS.sub("", re.sub(r"^(cdef|cpdef|ctypedef)\s+", "", head))
    code = re.sub(r"^ctypedef\s+", "", code)
    aliased = ALIAS.sub(r"\1", code)
    source = dedent("\n".join(lines))
    if re.match(r"enum\b", code):
        names = [match[1] for match in map(ENUMERATOR.match, rest) if match]
        name = re.match(r"enum\s+(\w+)", aliased)
        yield Declaration("enum", ([name[1]] if name else []) + names, doc=comment, source=source)
    elif match := re.match(r"(struct|union)\s+(\w+)", aliased):
        yield Declaration("struct", [match[2]], doc=comment, source=source)
    elif match := re.match(r"class\s+(\w+)", aliased):
        yield Declaration("class", [match[1]], doc=comment, source=source)
    elif match := re.match(r"fused\s+(\w+)", aliased):
        yield Declaration("type", [match[1]], doc=comment, source=source)
    elif match := re.match(r"(.*\(\s*\*\s*(\w+)\s*\)\s*\(.*\))", aliased):
        notes = aliased[match.end() :].strip(" :")
        yield Declaration("type", [match[2]], match[1], notes, comment)
    elif "(" in aliased:
        yield function(comment, aliased, rest)
    elif match := re.match(r"(.*?)(\w+)\s*(\[.*\])?\s*$", aliased.rstrip(" :")):
        kind = "type" if head.startswith("ctypedef") else "var"
        yield Declaration(kind, [match[2]], aliased.strip(), doc=comment)


def split_head(lines: list[str]) -> tuple[str, list[str]]:
    """Join the lines of a declaration's head into one, without comments."""
    depth = bracket_depth(lines[0])
    count = 1
    while depth > 0:
        depth += bracket_depth(lines[count])
        count += 1
    head = " ".join(re.sub(r"\s*#.*", "", line).strip() for line in lines[:count])
    return head, lines[count:]


def function(comment: str, code: str, body: list[str]) -> Declaration:
    """Read a function: its C signature, its notes, and its docstring or the comment before it."""
    end = closing(code)
    notes = code[end + 1 :].strip().rstrip(":").strip()
    signature = code[: end + 1]
    signature = re.sub(r"\s+not None\b|\s*=\s*(\*|[\w.]+)(?=[,)])", "", signature)
    signature = re.sub(r"\(\s+", "(", signature)
    match = re.match(r"(.*?)(\w+)\s*\(", signature)
    assert match is not None, code
    if not match[1].strip():
        signature = f"object {signature}"
    text = "\n".join(body)
    doc = re.match(r'\s*"""(.*?)"""', text, re.DOTALL)
    if doc is not None:
        first, _, others = doc[1].partition("\n")
        comment = f"{first}\n{dedent(others)}".strip()
    return Declaration("function", [match[2]], signature, notes, comment)


def closing(code: str) -> int:
    """Find the bracket that closes the parameters."""
    depth = 0
    for at in range(code.index("("), len(code)):
        depth += {"(": 1, ")": -1}.get(code[at], 0)
        if depth == 0:
            return at
    raise ValueError(f"no end of the parameters: {code}")


def header_declarations(text: str) -> tuple[str, list[Declaration]]:
    """Read a C header.

    Parameters
    ----------
    text : str
        The source.

    Returns
    -------
    tuple of str and list of Declaration
        The comment at the beginning, and what the header declares.
    """
    doc = ""
    match = re.match(r"\s*/\*(.*?)\*/", text, re.DOTALL)
    if match is not None:
        doc = unstar(match[1])
        text = text[match.end() :]
    found = []
    pattern = re.compile(
        r"(?:/\*(?P<comment>(?:(?!\*/).)*)\*/\s*\n)?"
        r"(?:#define[ \t]+(?P<macro>\w+)[ \t]+(?P<value>[^\n]+)"
        r"|typedef\s+struct[^{]*\{(?P<fields>[^}]*)\}\s*(?P<struct>\w+)\s*;"
        r"|typedef\s+(?P<type>[^;{]*?\(\s*\*\s*(?P<name>\w+)\s*\)\s*\([^;]*\))\s*;)",
        re.DOTALL,
    )
    for match in pattern.finditer(text):
        comment = unstar(match["comment"] or "")
        if match["macro"]:
            value = re.sub(r"/\*.*?\*/", "", match["value"]).strip()
            found.append(Declaration("macro", [match["macro"]], doc=comment, source=value))
        elif match["struct"]:
            source = match[0][match[0].index("typedef") :]
            found.append(Declaration("struct", [match["struct"]], doc=comment, source=source))
        else:
            signature = " ".join(match["type"].split())
            found.append(Declaration("type", [match["name"]], signature, doc=comment))
    return doc, found


def unstar(comment: str) -> str:
    """Take the indentation of a C comment away."""
    first, _, others = comment.strip().partition("\n")
    return f"{first}\n{dedent(others)}".strip()


def page(title: str, doc: str, declarations: list[Declaration], *, language: str) -> str:
    """Write the page of a ``.pxd`` or of a header.

    Parameters
    ----------
    title : str
        The module's name as one would ``cimport`` it, or the header's as one would include it.
    doc : str
        What the file says of itself.
    declarations : list of Declaration
        What it declares.
    language : str
        ``cython`` or ``c``: how sources are coloured.

    Returns
    -------
    str
        reStructuredText with one object description for each name.
    """
    lines = [title, "=" * len(title), ""]
    lines += [prose(doc) if language == "c" else drawn(doc), ""]
    for each in declarations:
        doc = each.doc if language == "cython" else prose(each.doc)
        body = [doc, ""] if doc else []
        if each.notes:
            body += [f"Declared ``{each.notes}``.", ""]
        if each.source and each.kind != "macro":
            body += [f".. code-block:: {language}", ""]
            body += [f"   {line}" if line else "" for line in each.source.splitlines()] + [""]
        elif each.kind == "macro":
            body += [f"Value: ``{each.source}``", ""]
        head = {
            "function": lambda each: [f".. c:function:: {each.signature}"],
            "struct": lambda each: [f".. c:struct:: {each.names[0]}"],
            "class": lambda each: [f".. c:type:: {each.names[0]}"],
            "type": lambda each: [f".. c:type:: {each.signature or each.names[0]}"],
            "var": lambda each: [f".. c:var:: {each.signature}"],
            "macro": lambda each: [f".. c:macro:: {each.names[0]}"],
            "enum": lambda each: [
                f"{'.. c:macro:: ' if at == 0 else ' ' * 13}{name}"
                for at, name in enumerate(each.names)
            ],
        }[each.kind](each)
        lines += [*head, ""]
        for text in body:
            lines += [f"   {line}" if line else "" for line in text.split("\n")]
        lines.append("")
    return "\n".join(lines) + "\n"


def drawn(doc: str) -> str:
    """Make a module's docstring safe inside a page: drawings keep their shape, titles go."""
    doc = re.sub(r"^(\S[^\n]*)\n([-=~])\2{3,}$", r".. rubric:: \1", doc, flags=re.MULTILINE)
    doc = re.sub(r"^(\.\. rubric:: [^\n]*)\n(?=\S)", r"\1\n\n", doc, flags=re.MULTILINE)
    paragraphs = re.split(r"\n[ \t]*\n", doc)
    found: list[str] = []
    for paragraph in paragraphs:
        if DRAWING.search(paragraph):
            found.append("\n".join(f"       {line}" for line in paragraph.splitlines()))
        else:
            found.append(paragraph)
    return "\n\n".join(found)


def prose(comment: str) -> str:
    """Turn a C comment into reStructuredText: a paragraph with a drawing stays as it is."""
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", comment):
        if any(line.startswith("  ") for line in paragraph.splitlines()):
            indented = "\n".join(f"   {line}" for line in paragraph.splitlines())
            paragraphs.append(f".. code-block:: text\n\n{indented}")
        else:
            paragraphs.append(re.sub(r"([*`|_\\])", r"\\\1", paragraph))
    return "\n\n".join(paragraphs)
