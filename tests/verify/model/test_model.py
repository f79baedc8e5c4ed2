"""The quick part of the model checker, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.verify.model.checker import tidy
from tests.verify.model.mutations import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[3]
# They build in one folder, so one worker runs them all.
pytestmark = pytest.mark.xdist_group("model")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.verify.model", *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 2 and done.stdout.startswith("cannot run here"):
        pytest.skip(done.stdout.strip())
    return done


def test_the_checker_and_the_quick_models_pass() -> None:
    done = run("--quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout


def test_a_weakened_order_is_missed() -> None:
    """The checker can fail: without its acquire, the consumer races with the producer."""
    done = run("--audit", "ring/one slot")
    assert "killed by ring/one slot" in done.stdout, done.stdout + done.stderr


def test_a_name_that_nothing_has_is_refused_before_anything_is_built() -> None:
    done = run("no such model")
    assert done.returncode == 2
    assert done.stderr.endswith("error: no such model: in no configuration's name\n")
    assert "passed" not in done.stdout


def test_a_line_of_a_model_is_one_wherever_the_checkout_lies() -> None:
    assert tidy("/velox/build/tree/models/ring.pyx:7 (discriminator 3)") == "models/ring.pyx:7"
    assert tidy("/velox/build/model/tree/velox/core/ring.pxd:12") == "core/ring.pxd:12"
    assert tidy("/models/velox/core/ring.pxd:12") == "core/ring.pxd:12"
    assert tidy("/usr/include/stdlib.h:3") == "stdlib.h:3"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name)
def test_the_source_holds_what_a_mutant_changes(mutant: Mutant) -> None:
    assert mutant.old in (ROOT / mutant.file).read_text(encoding="utf-8")
