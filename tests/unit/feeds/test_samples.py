"""Recordings of venues that are no part of the project: VELOX_SAMPLES/FORMAT/*."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.feeds.venue import failing_checks
from velox.feeds import load, recognise

SAMPLES = Path(os.environ.get("VELOX_SAMPLES", ""))


@pytest.mark.parametrize("format", ["bybit", "coinbase", "hyperliquid", "kraken"])
def test_a_recorded_session_loads_and_every_check_is_exact(format: str) -> None:
    folder = SAMPLES / format
    if "VELOX_SAMPLES" not in os.environ or not folder.is_dir():
        pytest.skip(f"VELOX_SAMPLES names no folder with a folder {format}")
    for path in sorted(folder.iterdir()):
        assert recognise([path]) == format
        recording = load(path, on_gap="stop") if format != "hyperliquid" else load(path)
        assert len(recording)
        if recording.checks is not None:
            assert failing_checks(recording) == 0, path
