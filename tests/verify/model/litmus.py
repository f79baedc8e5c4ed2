"""What the programs of ``models/litmus.c`` must come to: the checker is checked first."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from itertools import product

from .build import Tree
from .checker import FAILED, PASSED, Finding, Options, explore_prepared, library

#: What `Finding.limits` says.
LOAD_BUFFERING, UNORDERED_STORES, SEQUENTIAL_CONSISTENCY = 1, 2, 4


def digits(count: int, *, but: str = "") -> set[int]:
    """All outcomes of so many registers of 0 and 1, but the forbidden ones."""
    return {int("".join(bits)) for bits in product("01", repeat=count)} - {
        int(word) for word in but.split()
    }


@dataclass(frozen=True)
class Expectation:
    """Of one program: its exact outcomes, how many executions tell them apart, what is noticed.

    `outcomes` is None where the program is wrong, and must be refused with this `message`.
    """

    outcomes: set[int] | None
    complete: int = 0
    limits: int = 0
    message: str = ""


EXPECTED = {
    "SB relaxed": Expectation(digits(2), 4),
    "SB release acquire": Expectation(digits(2), 4),
    "SB seq_cst": Expectation(digits(2, but="00"), 3, SEQUENTIAL_CONSISTENCY),
    "SB seq_cst fences": Expectation(digits(2, but="00"), 8, SEQUENTIAL_CONSISTENCY),
    "MP relaxed": Expectation(digits(2), 4),
    "MP release acquire": Expectation(digits(2, but="10"), 3),
    "MP release only": Expectation(digits(2), 4),
    "MP acquire only": Expectation(digits(2), 4),
    "MP fences": Expectation(digits(2, but="10"), 3),
    "MP plain data": Expectation({0, 17}, 2),
    "MP plain data, relaxed": Expectation(None, message="data race: T1 reads data"),
    "MP copied data, relaxed": Expectation(None, message="data race: T1 reads data"),
    "LB relaxed": Expectation(digits(2, but="11"), 3),
    "LB preconditions": Expectation(digits(4), 16, LOAD_BUFFERING),
    "counters in one word": Expectation(digits(2), 24),
    "WRC relaxed": Expectation(digits(3, but="010 011"), 8),
    "WRC release acquire": Expectation(digits(3, but="010 011 110"), 7),
    "ISA2 release acquire": Expectation(digits(3, but="010 011 110"), 7),
    "IRIW release acquire": Expectation(digits(4), 16),
    "IRIW seq_cst": Expectation(digits(4, but="1010"), 15, SEQUENTIAL_CONSISTENCY),
    "CoRR": Expectation({0, 1, 2, 11, 12, 22}, 6),
    "CoWR": Expectation({1}, 3, UNORDERED_STORES),
    "2+2W": Expectation({12, 21, 22}, 3, UNORDERED_STORES),
    "stores in order": Expectation({21}, 1),
    "release sequence, update": Expectation({0, 10, 27}, 6),
    "release sequence, store": Expectation(None, message="data race: T1 reads data"),
    "two updates": Expectation({20}, 2),
    "two loads and stores": Expectation({10, 20}, 4, UNORDERED_STORES),
    "strong swaps": Expectation({1, 10}, 2),
    "weak swaps": Expectation({0, 1, 10}, 5),
    "wait": Expectation({1}, 1),
    "wait for no store": Expectation(None, message="no thread can go on: T1 waits for x"),
    "relax": Expectation({1}, 2),
    "relax for no store": Expectation(None, message="T1 spins for ever"),
    "bounded relax": Expectation({0, 1}, 3),
    "plain beside atomic": Expectation(None, message="data race: T1 reads x"),
}


def programs(tree: Tree) -> tuple[ctypes.CDLL, list[str]]:
    loaded = ctypes.CDLL(str(tree.litmus_library()))
    loaded.litmus_name.restype = ctypes.c_char_p
    names: list[str] = []
    while (name := loaded.litmus_name(len(names))) is not None:
        names.append(name.decode())
    return loaded, names


def run(tree: Tree) -> list[tuple[Finding, str]]:
    """Search every program with sleep sets and without; return the faults found."""
    library()
    loaded, names = programs(tree)
    rows = []
    for number, name in enumerate(names):
        findings = []
        for naive in (False, True):
            loaded.litmus_prepare(number)
            options = Options(
                walks=0, most_executions=100_000, most_steps=60_000, spurious=1,
                patience=int(name.startswith("bounded")), naive=naive,
            )  # fmt: skip
            findings.append(explore_prepared(f"litmus/{name}", options))
        rows.append((findings[0], fault(findings[0], findings[1], EXPECTED[name])))
    missing = EXPECTED.keys() - set(names)
    if missing:
        raise LookupError(f"litmus.c has no program {', '.join(sorted(missing))}")
    return rows


def fault(found: Finding, naive: Finding, expected: Expectation) -> str:
    """What differs from the expectation; empty if nothing does."""
    if expected.outcomes is None:
        if found.verdict == FAILED and found.message.startswith(expected.message):
            return ""
        return f"must be refused with {expected.message!r}; got {found.message!r}"
    if found.verdict != PASSED:
        return found.explanation()
    comparisons = (
        ("outcomes", set(found.outcomes), expected.outcomes),
        ("outcomes without sleep sets", set(naive.outcomes), expected.outcomes),
        ("complete executions", found.complete, expected.complete),
        ("limits", found.limits, expected.limits),
    )
    return "; ".join(
        f"{what}: {got}, not {wanted}" for what, got, wanted in comparisons if got != wanted
    )
