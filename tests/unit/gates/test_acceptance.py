"""The acceptance run records the rounds that passed, and names those that did not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import acceptance
from tests.acceptance import Check, Log, run

PASSES = Check("passes", "", "python -c 'import sys; print({seed})'", rounds=3)
FAILS_AT_21 = Check("fails", "", "python -c 'import sys; sys.exit({seed} == 21)'", rounds=3)
CANNOT_RUN = Check("cannot", "", "python -c 'import sys; sys.exit(77)'", rounds=1)
READS = Check(
    "reads",
    "",
    'python -c \'import os, sys; sys.exit(os.environ["VELOX_ROUND"] != "{seed}")\'',
    rounds=1,
    environment={"VELOX_ROUND": "{seed}"},
)


def results(log: Log) -> list[tuple[str, int, str]]:
    return [(each["check"], each["seed"], each["result"]) for each in log.entries()]


def test_every_round_is_in_the_log_with_its_seed_commit_and_output(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    assert run([PASSES], log, "c1") == 0
    assert results(log) == [("passes", seed, "passed") for seed in (20, 21, 22)]
    assert {each["commit"] for each in log.entries()} == {"c1"}
    assert [log.output_of(PASSES, seed).read_text() for seed in (20, 22)] == ["20\n", "22\n"]


def test_a_second_run_makes_only_the_rounds_that_have_not_passed(tmp_path: Path) -> None:
    log = Log(tmp_path)
    assert run([PASSES, FAILS_AT_21], log, "c1") == 1
    before = len(results(log))
    assert run([PASSES, FAILS_AT_21], log, "c1") == 1
    assert results(log)[before:] == [("fails", 21, "failed")]


@pytest.mark.parametrize(("first", "second"), [("c1", "c2"), ("c1+", "c1+")])
def test_another_commit_or_a_changed_tree_starts_anew(
    tmp_path: Path, first: str, second: str
) -> None:
    log = Log(tmp_path)
    run([PASSES], log, first)
    run([PASSES], log, second)
    assert len(results(log)) == 6


def test_the_short_form_is_the_first_round_whatever_the_log_says(tmp_path: Path) -> None:
    log = Log(tmp_path)
    run([PASSES], log, "c1", short=True, seed=5)
    run([PASSES], log, "c1", short=True, seed=5)
    assert results(log) == [("passes", 5, "passed")] * 2


def test_what_cannot_run_here_is_skipped_and_not_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(tmp_path)
    monkeypatch.delenv("VELOX_NOWHERE", raising=False)
    needs = Check("needs", "", "python -c 1/0", rounds=1, needs="VELOX_NOWHERE")
    assert run([CANNOT_RUN, needs], log, "c1") == 0
    assert results(log) == [("cannot", 20, "skipped")]


def test_a_round_has_its_seed_in_the_environment_too(tmp_path: Path) -> None:
    assert run([READS], Log(tmp_path), "c1") == 0


def test_the_checks_have_names_of_their_own_and_commands_that_take_a_seed() -> None:
    names = [check.name for check in acceptance.CHECKS]
    assert len(set(names)) == len(names)
    for check in acceptance.CHECKS:
        assert "{" not in " ".join(check.command_of(1))
