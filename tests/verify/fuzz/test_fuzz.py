"""The seeds, the regressions, and a short search. Long searches are run by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from .engine import search
from .seed import seeds
from .targets import TARGETS, corpus, regressions

SEARCH_S = 1.0


@pytest.mark.parametrize(
    ("target", "path"),
    [(name, path) for name in TARGETS for path in [*corpus(name), *regressions(name)]],
    ids=lambda value: value.name if isinstance(value, Path) else value,
)
def test_what_a_target_promises_holds_for_its_seeds(target: str, path: Path) -> None:
    TARGETS[target](path.read_bytes())


@pytest.mark.parametrize("target", TARGETS)
def test_a_short_search_finds_nothing(target: str) -> None:
    inputs = [each.read_bytes() for each in corpus(target)]
    tried, failing = search(TARGETS[target], inputs, SEARCH_S, seed=1)
    assert failing is None, failing
    assert tried > len(inputs)


def test_the_seeds_in_the_tree_are_those_that_the_program_writes() -> None:
    for target, files in seeds().items():
        assert {each.name: each.read_bytes() for each in corpus(target)} == files


def test_a_search_finds_what_is_there() -> None:
    def fragile(data: bytes) -> None:
        assert b"x" not in data

    tried, failing = search(fragile, [b"aaaa", b"bx"], 5.0, seed=2)
    assert failing is not None
    assert tried == 2
