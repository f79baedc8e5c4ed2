"""Where the real recordings are: they are never part of the project's own tree."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data() -> Path:
    """The directory of recorded market data, or a skip that says what is missing."""
    root = Path(__file__).resolve().parents[3]
    directory = Path(os.environ.get("VELOX_DATA") or root.parent / "shared" / "data")
    if not directory.is_dir():
        pytest.skip(f"no recorded market data at {directory}; VELOX_DATA may name another place")
    return directory
