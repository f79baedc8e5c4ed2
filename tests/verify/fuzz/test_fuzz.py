"""The seeds, the regressions, and a short search. Long searches are run by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from velox.feeds import formats

from . import targets
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


def test_every_reader_is_fuzzed_from_seeds() -> None:
    for name in formats():
        assert name in TARGETS
        folder = Path(__file__).parent / "seeds" / name
        assert folder.is_dir(), f"add seeds of {name} to tests/verify/fuzz/seed.py"


def test_a_reader_without_a_target_of_its_own_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []

    def read(format: str, data: bytes, **options: object) -> None:
        given.append((format, tuple(options.items())))

    monkeypatch.setattr(targets, "read_as", read)
    target = targets.of_format("binance")
    for first in range(256):
        target(bytes([first]))
    assert {format for format, _ in given} == {"binance"}
    # Every value of every option that it shares with others.
    assert len(set(given)) == 2 * 2 * 2 * 2


def test_a_search_finds_what_is_there() -> None:
    def fragile(data: bytes) -> None:
        assert b"x" not in data

    tried, failing = search(fragile, [b"aaaa", b"bx"], 5.0, seed=2)
    assert failing is not None
    assert tried == 2
