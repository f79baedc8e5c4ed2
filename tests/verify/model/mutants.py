"""Break the code in every way that it is known to be broken by, and see that a model notices.

A mutant is a change of the text of one source file, made in a copy of the tree, which is built and
checked like the original. All must die; one that lives shows a claim that no model makes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .build import BUILD, ROOT, BuildError, Tree, base_tree
from .mutations import MUTANTS, Mutant


def mutated_tree(mutant: Mutant, number: int) -> Tree:
    """A copy of the built tree, so that unchanged modules are not built again."""
    tree = Tree(BUILD / "mutants" / str(number))
    shutil.rmtree(tree.directory, ignore_errors=True)
    shutil.copytree(BUILD / "tree", tree.directory)
    path = tree.directory / mutant.file
    text = path.read_text(encoding="utf-8")
    if mutant.old not in text:
        raise BuildError(f"{mutant.name}: {mutant.file} does not hold {mutant.old!r}")
    text = text.replace(mutant.old, mutant.new)
    if mutant.imports:
        text = text.replace(
            "from velox.core.atomic cimport (",
            f"from velox.core.atomic cimport (\n    {mutant.imports},",
        )
    path.write_text(text, encoding="utf-8")
    module = ".".join(Path(mutant.file).with_suffix("").parts)
    # A function of a .pyx is compiled in its own module, an inlined one in those that use it.
    stale = [module] if path.suffix == ".pyx" else [f"models.{name}" for name in mutant.models]
    if path.suffix == ".pxd" and module == "velox.core.shared_book":
        stale.append(module)
    for each in stale:
        tree.cythonize(each)
        tree.library_of(each).unlink()
        tree.compile_module(each)
    return tree


def ask(mutant: Mutant, number: int) -> str:
    """How the mutant died; empty if it lives."""
    try:
        tree = mutated_tree(mutant, number)
        done = subprocess.run(
            [sys.executable, "-m", "tests.verify.model", "--tree", str(tree.directory),
             *(f"{name}/" for name in mutant.models)],
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        shutil.rmtree(BUILD / "mutants" / str(number), ignore_errors=True)
    if done.returncode not in (0, 1):
        raise BuildError(done.stdout + done.stderr)
    return done.stdout.strip() if done.returncode else ""


def verdict(row: tuple[int, Mutant]) -> str:
    number, mutant = row
    try:
        return ask(mutant, number)
    except BuildError as error:
        return f"CANNOT BE ASKED: {error}"


def main(only: Sequence[str]) -> int:
    base_tree()
    chosen = [
        (number, mutant)
        for number, mutant in enumerate(MUTANTS)
        if not only or any(part in mutant.name or part in mutant.file for part in only)
    ]
    alive = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        deaths = pool.map(verdict, chosen)
        for (_, mutant), death in zip(chosen, deaths, strict=True):
            print(f"{mutant.file:30} {mutant.name:52} {death or 'LIVES'}", flush=True)
            alive += not death or death.startswith("CANNOT")
    print(f"\n{len(chosen) - alive} of {len(chosen)} mutants died")
    return int(alive > 0)
