"""A capture in pandas and polars: the lines that the how-to page shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from velox.cli.main import main
from velox.feeds import load

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "replay-a-recording.md"


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    flow, path = tmp_path / "flow.csv", tmp_path / "bundles.npy"
    rows = [f"{34200 + n}.5,1,{n + 1},{n + 100},{308700 + 100 * n},1\n" for n in range(20)]
    flow.write_text("".join(rows))
    options = ["--placement", "invoker", "--hiccups", "0", "--quiet", "--capture", str(path)]
    assert main(["replay", str(flow), *options]) == 0
    return path


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_capture_opens_in_one_documented_line(library: str, capture: Path) -> None:
    module = pytest.importorskip(library, reason=f"needs {library}")
    [line] = re.findall(rf"^frame = (.*)  # {library}$", PAGE.read_text(), re.MULTILINE)
    line = line.replace('"bundles.npy"', "path")
    names: dict[str, Any] = {"path": capture, "load": load, module.__name__: module}
    frame = eval(line, names, {"pd": module, "pl": module})
    recording = load(capture)
    assert list(frame.columns) == [*(recording.transactions.dtype.names or ()), "venue_ts_ns"]
    assert len(frame) == len(recording) == 22
    for name in recording.transactions.dtype.names or ():
        column = np.asarray(frame[name])
        assert column.tolist() == recording.transactions[name].tolist()
        assert column.dtype == recording.transactions.dtype[name]
    assert np.asarray(frame["venue_ts_ns"]).tolist() == recording.venue_ts_ns.tolist()
