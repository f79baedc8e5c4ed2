"""Mutants of the program, each of which a check must find."""

from __future__ import annotations

import re

import pytest

from velox.testing.market.build import SOURCES, build

from .checks import CHECKS
from .support import needs_clang

MUTANTS = {
    # The macro, and the check that finds it.
    "MUTANT_ANY_VAULT": "hostile",
    "MUTANT_CANCELS_FOR_ANYBODY": "cancels",
    "MUTANT_EXPIRES_EARLY": "expiry",
    "MUTANT_FREE": "compute",
    "MUTANT_FREE_REVERSE": "reverse",
    "MUTANT_KEEPS_COLOUR": "trees",
    "MUTANT_LAST_IN_FIRST_OUT": "first_in_first_out",
    "MUTANT_NO_BONUS": "bonus",
    "MUTANT_NO_REPAIR": "trees",
    "MUTANT_ROUND_DOWN": "rounding",
    "MUTANT_STALE_LENGTH": "growth",
    "MUTANT_TRUSTS_HINTS": "cancels",
    "MUTANT_UNSIGNED": "hostile",
}


def test_each_mutant_has_its_check() -> None:
    text = "".join(each.read_text(encoding="utf-8") for each in SOURCES.glob("*.[ch]"))
    assert set(re.findall(r"\bMUTANT_\w+", text)) == set(MUTANTS)


@needs_clang
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_check_finds(mutant: str) -> None:
    program = build(defines=[mutant])
    with pytest.raises(AssertionError):
        CHECKS[MUTANTS[mutant]](program)
