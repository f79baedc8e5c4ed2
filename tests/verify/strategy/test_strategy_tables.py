"""A few tables of the strategy check; and that it fails where it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from . import tables
from .tables import TableError, check, draw, has_compiler, has_numba

ROOT = Path(__file__).parents[3]
needs_one = pytest.mark.skipif(
    not (has_compiler() or has_numba()), reason="there is neither gcc nor numba"
)


@needs_one
def test_a_few_hundred_tables_do_no_harm() -> None:
    command = [sys.executable, "-m", "tests.verify.strategy", "--tables", "400", "--seed", "7"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "400 tables from seed 7, 0 failed" in ended.stdout


def test_a_table_is_a_function_of_its_seed() -> None:
    for seed in range(20):
        first, second = draw(seed), draw(seed)
        assert first.config == second.config
        assert np.array_equal(first.rows, second.rows)
        assert first.records.tobytes() == second.records.tobytes()


@needs_one
@pytest.mark.parametrize("reason", ["price", "size", "side"])
def test_a_record_that_is_blocked_for_another_reason_is_noticed(
    reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = tables._fault
    monkeypatch.setattr(
        tables, "_fault", lambda order: None if right(order) == reason else right(order)
    )
    with pytest.raises(TableError):
        for seed in range(100):
            check(draw(seed), tmp_path)


@needs_one
def test_a_field_that_left_changed_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = tables._delivered

    def changed(capture: Path) -> Any:
        found = right(capture)
        found["flags"][-1:] ^= 1
        return found

    monkeypatch.setattr(tables, "_delivered", changed)
    with pytest.raises(TableError, match="flags is"):
        for seed in range(100):
            check(draw(seed), tmp_path)


@pytest.mark.skipif(not has_numba(), reason="numba is not installed")
def test_tables_of_numba_reach_outside_every_array(tmp_path: Path) -> None:
    endings = set()
    for seed in range(200):
        table = draw(seed)
        if not table.native:
            endings.add(check(table, tmp_path).failure)
    assert {IndexError, ValueError, None} <= endings
