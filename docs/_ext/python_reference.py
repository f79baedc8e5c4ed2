"""The Python part of the API reference: one page a module, as reStructuredText.

Signatures come from the source: from the ``.pyi`` stub of a compiled module, whose own signatures
Cython does not embed, else from the ``.py`` file. Docstrings of compiled modules come from the
built extension, all others from the source. So nothing is imported but the compiled modules.
"""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from numpydoc.docscrape_sphinx import SphinxDocString

__all__ = ["Module", "modules", "page"]

NUMPYDOC = {"attributes_as_param_list": True, "show_class_members": False}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One public module and the statements that define its names.

    Attributes
    ----------
    name : str
        The dotted name.
    public : tuple of str
        The names in ``__all__``.
    defined : dict
        The statements that define a name in this module; several where it is overloaded.
    imported : dict
        The home module of each public name that this module only passes on.
    compiled : bool
        Whether the module is a Cython extension, described by a stub.
    doc : str
        The module's docstring.
    """

    name: str
    public: tuple[str, ...]
    defined: dict[str, list[ast.stmt]]
    imported: dict[str, str]
    compiled: bool
    doc: str
    documented: object = field(repr=False)


def modules(package: Path) -> list[Module]:
    """Find the modules below a package that have an ``__all__``.

    Parameters
    ----------
    package : Path
        The directory of the package.

    Returns
    -------
    list of Module
        Sorted by name.
    """
    found = []
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.pyi")]):
        parts = list(path.relative_to(package.parent).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        if any(part.startswith("_") for part in parts):
            continue
        module = read(".".join(parts), path)
        if module is not None:
            found.append(module)
    return sorted(found, key=lambda module: module.name)


def read(name: str, path: Path) -> Module | None:
    """Read one source file; None where it has no public names."""
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    public: tuple[str, ...] = ()
    defined: dict[str, list[ast.stmt]] = {}
    imported: dict[str, str] = {}
    for statement in statements(tree.body):
        for target in targets(statement):
            if target == "__all__" and isinstance(statement, ast.Assign):
                public = tuple(ast.literal_eval(statement.value))
            defined.setdefault(target, []).append(statement)
        if isinstance(statement, ast.ImportFrom) and statement.module is not None:
            for alias in statement.names:
                home = f"{statement.module}.{alias.name}"
                imported[alias.asname or alias.name] = home
    if not public:
        return None
    compiled = path.suffix == ".pyi"
    documented = import_module(name) if compiled else tree
    doc = inspect.getdoc(documented) if compiled else ast.get_docstring(tree)
    return Module(
        name,
        public,
        {each: where for each, where in defined.items() if each in public},
        {each: home for each, home in imported.items() if each in public and each not in defined},
        compiled,
        doc or "",
        documented,
    )


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a body, also those below an ``if`` or a ``try``."""
    for statement in body:
        yield statement
        if isinstance(statement, (ast.If, ast.Try)):
            yield from statements([*statement.body, *statement.orelse])


def targets(statement: ast.stmt) -> Iterator[str]:
    """Yield the names that a statement defines."""
    if isinstance(statement, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
        yield statement.name
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        yield statement.target.id
    elif isinstance(statement, ast.TypeAlias if hasattr(ast, "TypeAlias") else ()):
        yield statement.name.id
    elif isinstance(statement, ast.Assign):
        for target in statement.targets:
            for each in target.elts if isinstance(target, ast.Tuple) else [target]:
                if isinstance(each, ast.Name):
                    yield each.id


def page(module: Module) -> str:
    """Write the page of a module.

    Parameters
    ----------
    module : Module
        What `modules` found.

    Returns
    -------
    str
        reStructuredText with one object description for each public name.
    """
    lines = [f"{module.name}\n{'=' * len(module.name)}\n\n.. py:module:: {module.name}\n"]
    lines += [docstring(module.doc), ""]
    if module.imported:
        lines += ["Names from other modules:", ""]
        for name, home in sorted(module.imported.items()):
            lines.append(f"- ``{name}``: :py:obj:`{home}`" if "." in home else f"- ``{name}``")
        lines.append("")
    for name in sorted(module.defined, key=str.lower):
        lines += describe(module, name)
    return "\n".join(lines) + "\n"


def describe(module: Module, name: str) -> list[str]:
    """Describe one public name of a module."""
    statement = module.defined[name][-1]
    if isinstance(statement, ast.ClassDef):
        return class_lines(module, statement)
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
        functions = [each for each in module.defined[name] if isinstance(each, Function)]
        doc = doc_of(module, functions[-1], name)
        return directive("function", overloads(functions, method=False), doc)
    options = []
    if isinstance(statement, ast.AnnAssign):
        options.append(f":type: {ast.unparse(statement.annotation)}")
    return directive("data", [name], "", options)


def class_lines(module: Module, statement: ast.ClassDef) -> list[str]:
    """Describe a class and its public members."""
    name = statement.name
    decorators = {ast.unparse(each).partition("(")[0] for each in statement.decorator_list}
    bases = [ast.unparse(base) for base in statement.bases]
    functions: dict[str, list[Function]] = {}
    fields: list[ast.AnnAssign | ast.Assign] = []
    for each in statements(statement.body):
        if isinstance(each, Function):
            functions.setdefault(each.name, []).append(each)
        elif isinstance(each, (ast.AnnAssign, ast.Assign)):
            fields.append(each)
    fields = [each for each in fields if not next(targets(each), "_").startswith("_")]
    makers = functions.get("__init__") or functions.get("__new__")
    signatures = [name]
    if makers is not None:
        signatures = [f"{name}{text}" for text in arguments(makers, method=True, returns=False)]
    elif "dataclass" in decorators or "NamedTuple" in bases:
        signatures = [f"{name}({', '.join(parameters(fields))})"]
    doc = doc_of(module, statement, name)
    if bases and bases != ["NamedTuple"]:
        doc = "Bases: " + ", ".join(f":py:obj:`{base}`" for base in bases) + "\n\n" + doc
    lines = directive("class", signatures, doc, [":final:"] if "final" in decorators else [])
    body: list[str] = []
    if any("Enum" in base or "IntFlag" in base for base in bases):
        for each in fields:
            options = [f":value: {ast.unparse(each.value)}"] if each.value is not None else []
            body += directive("attribute", [next(targets(each))], "", options)
    for member, group in functions.items():
        if not member.startswith("_"):
            body += member_lines(group, doc_of(module, group[-1], f"{name}.{member}"))
    return lines + [f"   {line}" if line else line for line in body]


def parameters(fields: list[ast.AnnAssign | ast.Assign]) -> list[str]:
    """Give the parameters of a class that its fields make."""
    return [
        f"{next(targets(each))}: {ast.unparse(each.annotation)}"
        + (f" = {ast.unparse(each.value)}" if simple(each.value) else "")
        for each in fields
        if isinstance(each, ast.AnnAssign)
    ]


def member_lines(group: list[Function], doc: str) -> list[str]:
    """Describe a method or a property."""
    marks = {ast.unparse(each) for each in group[-1].decorator_list}
    if any(mark.endswith(".setter") for mark in marks):
        group, marks = group[:1], {"property"}
    if marks & {"property", "cached_property", "functools.cached_property"}:
        returns = group[0].returns
        options = [f":type: {ast.unparse(returns)}"] if returns is not None else []
        return directive("property", [group[0].name], doc, options)
    options = [f":{mark}:" for mark in ("classmethod", "staticmethod") if mark in marks]
    return directive("method", overloads(group, method="staticmethod" not in marks), doc, options)


def simple(value: ast.expr | None) -> bool:
    """Say whether a default is short enough to stand in a signature."""
    return value is not None and len(ast.unparse(value)) < 40


def overloads(group: list[Function], *, method: bool) -> list[str]:
    """Give the signatures of a function: of each overload, where there are any."""
    return [f"{group[0].name}{text}" for text in arguments(group, method=method)]


def arguments(group: list[Function], *, method: bool, returns: bool = True) -> list[str]:
    """Give the parameters, and the type of the result, of each overload."""
    marked = [
        each for each in group if any("overload" in ast.unparse(d) for d in each.decorator_list)
    ]
    found = []
    for function in marked or group[-1:]:
        copy = ast.parse(ast.unparse(function.args).join(("def f(", "): pass"))).body[0]
        assert isinstance(copy, ast.FunctionDef)
        if method:
            (copy.args.posonlyargs or copy.args.args or [None]).pop(0)
        text = f"({ast.unparse(copy.args)})"
        if returns and function.returns is not None:
            text += f" -> {ast.unparse(function.returns)}"
        found.append(text)
    return found


def doc_of(module: Module, statement: ast.stmt, path: str) -> str:
    """Give the docstring of a class, function or member, rendered by numpydoc."""
    if not module.compiled:
        doc = ast.get_docstring(statement)  # type: ignore[arg-type]
    else:
        found: object = module.documented
        for part in path.split("."):
            found = getattr(found, part, None)
        doc = inspect.getdoc(found)
    return docstring(doc or "")


def docstring(doc: str) -> str:
    """Render a numpydoc docstring as reStructuredText."""
    if not doc:
        return ""
    # The plural of a name, `Name`s, is none in reStructuredText without a separator.
    doc = re.sub(r"(?<![`\w])(`[^`\n]+`)(?=[a-z])", r"\1\\ ", doc)
    return str(SphinxDocString(doc, config=NUMPYDOC)).strip()


def directive(
    kind: str, signatures: list[str], doc: str, options: list[str] | None = None
) -> list[str]:
    """Write one object description of the Python domain."""
    first, *others = signatures
    lines = [f".. py:{kind}:: {first}"]
    lines += [f"{' ' * (len(kind) + 9)}{other}" for other in others]
    lines += [f"   {option}" for option in options or []]
    lines.append("")
    lines += [f"   {line}" if line else line for line in doc.splitlines()]
    return [*lines, ""]
