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
from dataclasses import dataclass

from .build import BUILD, PRODUCT, ROOT, BuildError, Tree, base_tree


@dataclass(frozen=True)
class Mutant:
    """In `file`, `old` becomes `new`, wherever it stands; `models` are built and asked."""

    name: str
    file: str
    old: str
    new: str
    models: tuple[str, ...]
    imports: str = ""  # of velox.core.atomic, which the change needs


RING = "velox/core/ring.pxd"
HISTOGRAM = "velox/core/histogram.pyx"
TOP = "velox/core/top.pxd"
MAILBOX = "velox/core/mailbox.pxd"
BOOK = "velox/core/shared_book"

MUTANTS = [
    Mutant(
        "full check off by one", RING,
        "uint64_t free = ring.capacity - (head - ring.cached_tail)",
        "uint64_t free = ring.capacity + 1 - (head - ring.cached_tail)", ("ring",),
    ),
    Mutant(
        "full check off by one, once re-read", RING,
        "        free = ring.capacity - (head - ring.cached_tail)",
        "        free = ring.capacity + 1 - (head - ring.cached_tail)", ("ring",),
    ),
    Mutant(
        "empty check off by one", RING,
        "uint64_t available = ring.cached_head - tail",
        "uint64_t available = ring.cached_head + 1 - tail", ("ring",),
    ),
    Mutant(
        "the producer's cached index is never read again", RING,
        "        ring.cached_tail = load_acquire(&ring.tail)\n        free =", "        free =",
        ("ring",),
    ),
    Mutant(
        "the consumer's cached index is never read again", RING,
        "        ring.cached_head = load_acquire(&ring.head)\n        available =",
        "        available =", ("ring",),
    ),
    Mutant(
        "published before it is written", RING,
        "    first = min(n, ring.capacity - index)\n    memcpy(transaction_ring_slots(ring)",
        "    first = min(n, ring.capacity - index)\n    store_release(&ring.head, head + n)\n"
        "    memcpy(transaction_ring_slots(ring)", ("ring",),
    ),
    Mutant(
        "given back before it is read", RING,
        "    first = min(n, ring.capacity - index)\n"
        "    memcpy(items, transaction_ring_slots(ring)",
        "    first = min(n, ring.capacity - index)\n    store_release(&ring.tail, tail + n)\n"
        "    memcpy(items, transaction_ring_slots(ring)", ("ring",),
    ),
    Mutant(
        "a run that goes round is not split", RING,
        "    first = min(n, ring.capacity - index)\n    memcpy(items",
        "    first = n\n    memcpy(items", ("ring",),
    ),
    Mutant(
        "closed is believed without a last look", RING,
        "    ring.cached_head = load_acquire(&ring.head)\n    return ring.cached_head ==",
        "    return ring.cached_head ==", ("ring",),
    ),
    Mutant(
        "closed is believed, empty or not", RING,
        "    return ring.cached_head == load_relaxed(&ring.tail)", "    return True", ("ring",),
    ),
    Mutant(
        "the length looks at head before tail", RING,
        "    cdef uint64_t tail = load_acquire(&ring.tail)\n"
        "    cdef uint64_t length = load_acquire(&ring.head) - tail",
        "    cdef uint64_t length = load_acquire(&ring.head)\n"
        "    length -= load_acquire(&ring.tail)", ("ring",),
    ),
    Mutant(
        "the version comes out before its slot", TOP,
        "    # Release: a reader that sees one of these also sees the version before this one "
        "(step 2).",
        "    store_release(&self.version, version)", ("top",),
    ),
    Mutant(
        "the slot of the present version is written", TOP,
        "slot = &self.odd if version & 1 else &self.even\n    # Release",
        "slot = &self.even if version & 1 else &self.odd\n    # Release", ("top",),
    ),
    Mutant(
        "one slot for all versions", TOP,
        "&self.odd if version & 1 else &self.even", "&self.even", ("top",),
    ),
    Mutant(
        "the version is not looked at again", TOP,
        "return load_relaxed(&self.version) == version", "return True", ("top",),
    ),
    Mutant(
        "the letter's version is not looked at again", MAILBOX,
        "return load_relaxed(&self.version) == version", "return True", ("mailbox",),
    ),
    Mutant(
        "one letter for all versions", MAILBOX,
        "letter = self.letters + (version & 1) * letter_words(self.capacity)",
        "letter = self.letters", ("mailbox",),
    ),
    Mutant(
        "answered before the version comes out", MAILBOX,
        "    # Release: a reader that sees the version sees its letter.\n",
        "    store_release(&self.have, request)\n", ("mailbox",),
    ),
    Mutant(
        "the answer to an older request is taken", MAILBOX,
        "    if load_acquire(&self.have) < request:\n        return False\n", "", ("mailbox",),
    ),
    Mutant(
        "a request is a load and a store", MAILBOX,
        "    return fetch_add_relaxed(&self.want, 1) + 1",
        "    store_release(&self.want, load_relaxed(&self.want) + 1)\n"
        "    return load_relaxed(&self.want)", ("mailbox",),
    ),
    Mutant(
        "an extreme changes without a version", HISTOGRAM,
        "    begin_change(h)\n    store_release(bucket", "    store_release(bucket", ("histogram",),
    ),
    Mutant(
        "a change that began is read", HISTOGRAM,
        "    if version & 1:\n        return False\n", "", ("histogram",),
    ),
    Mutant(
        "the idle writer's version is not looked at again", HISTOGRAM,
        "    return load_relaxed(&h.version) == version", "    return True", ("histogram",),
    ),
    Mutant(
        "the sums are taken once", HISTOGRAM,
        "                != reading.counts[index]:\n            return False",
        "                < 0:\n            return False", ("histogram",),
    ),
    Mutant(
        "the half in use is copied", HISTOGRAM,
        "    read_half(h, histogram_half_of(h, interval + 1), reading)",
        "    read_half(h, histogram_half_of(h, interval), reading)", ("histogram",),
    ),
    Mutant(
        "the writer is not waited for", HISTOGRAM,
        "        if load_acquire(&h.interval_seen) == interval + 1:",
        "        if load_acquire(&h.interval_seen) <= interval + 1:",
        ("histogram",),
    ),
    Mutant(
        "the half that the writer has left is not added", HISTOGRAM,
        "            read_half(h, histogram_half_of(h, interval), reading)\n"
        "            return True",
        "            return True", ("histogram",),
    ),
    Mutant(
        "the bit is set after the level", BOOK + ".pxd",
        "            if not shared_book_announce(book, words, 1, rank, &lost):\n"
        "                return STATUS_TIMEOUT\n",
        "            pass\n", ("shared_book",),
    ),
    Mutant(
        "a bit that is set already is not announced", BOOK + ".pyx",
        "        # Release: who sees this bit sees its word announced above.",
        "        if seen & <uint64_t>1 << (index & 31):\n            return True\n"
        "        # Release: who sees this bit sees its word announced above.", ("shared_book",),
    ),
    Mutant(
        "a bit is announced without a version", BOOK + ".pyx",
        "(seen | <uint64_t>1 << (index & 31)) + BITMAP_VERSION",
        "(seen | <uint64_t>1 << (index & 31))", ("shared_book",),
    ),
    Mutant(
        "the bit is cleared against what is there now", BOOK + ".pyx",
        "    while above & bit:\n        if has_grandparent:",
        "    above = load_relaxed(parent)\n    while above & bit:\n        if has_grandparent:",
        ("shared_book",),
    ),
    Mutant(
        "the bit is cleared again without a new epoch", BOOK + ".pyx",
        "if cas_weak_acq_rel_else_relaxed(word, &seen, seen + step):",
        "if load_relaxed(word) == seen:", ("shared_book",),
    ),
    Mutant(
        "a vacant level keeps its epoch", BOOK + ".pxd",
        "&seen, seen - held + wanted)", "&seen, (seen - held + wanted) & LEVEL_QUANTITY)",
        ("shared_book",),
    ),
    Mutant(
        "the level is a load and a store", BOOK + ".pxd",
        "        if likely(cas_weak_acq_rel_else_relaxed(words + rank, &seen,"
        " seen - held + wanted)):",
        "        store_release(words + rank, seen - held + wanted)\n        if book != NULL:",
        ("shared_book",), "store_release",
    ),
    Mutant(
        "the summary is announced after the bitmap", BOOK + ".pyx",
        "        if not seen & BITMAP_OCCUPIED and tier < book.root:\n"
        "            if not shared_book_announce(book, words, tier + 1, index >> 5, lost):\n"
        "                return False\n", "", ("shared_book",),
    ),
    Mutant(
        "the best is not looked at again", BOOK + ".pyx",
        "if walk_held(&walk):", "if walk_held(&walk) or book != NULL:", ("shared_book",),
    ),
    Mutant(
        "an underflow is applied", "velox/core/effect.pxd",
        "    if unlikely(quantity[0] > most):\n"
        "        return STATUS_UNDERFLOW if taken else STATUS_OVERFLOW\n", "",
        ("shared_book",),
    ),
]  # fmt: skip


def mutated_tree(mutant: Mutant, number: int) -> Tree:
    """A copy of the tree that was built, so that what did not change is not built again."""
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
    source = path.with_suffix(".pyx")
    stale = [f"models.{name}" for name in mutant.models]
    module = ".".join(source.relative_to(tree.directory).with_suffix("").parts)
    # An inlined function changes its users; another one only its own module.
    if module in PRODUCT and (path.suffix == ".pyx" or module.endswith("shared_book")):
        stale.append(module)
    if path.suffix == ".pyx":
        stale.remove(f"models.{mutant.models[0]}")
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
            [sys.executable, "-m", "tests.model", "--tree", str(tree.directory),
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
