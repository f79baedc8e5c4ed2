"""The two sides of a comparison: one tree each, the same inputs, one program for both.

`workloads` is that program. This module writes its inputs, and starts it in either tree.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import records, workloads
from benchmarks.revisions import Tree

__all__ = ["MeasureError", "Side", "chosen", "sides"]

TIMEOUT_S = 600.0


class MeasureError(RuntimeError):
    """A measurement failed.

    Attributes
    ----------
    label : str
        The side that failed.
    workload : str
        What was measured there.
    reason : str
    """

    def __init__(self, label: str, workload: str, reason: str) -> None:
        super().__init__(f"{label}, {workload}: {reason}")
        self.label = label
        self.workload = workload
        self.reason = reason


@dataclass(frozen=True)
class Side:
    """A tree, and a folder with the inputs and the strategies compiled for it."""

    tree: Tree
    folder: Path

    @property
    def label(self) -> str:
        """str: What tables call it."""
        return self.tree.label

    def run(self, action: str, *names: str, under: Sequence[str] = ()) -> dict[str, Any]:
        """Start the program in this tree and return what it prints.

        Parameters
        ----------
        action : {"count", "time"}
        *names : str
            Of `workloads.WORKLOADS`; done in this order.
        under : sequence of str
            A command that takes the program as its arguments, such as valgrind.

        Returns
        -------
        dict
            By the workload's name: ``operations`` or ``ns``; or ``unavailable`` and why. And
            ``process``, its id.

        Raises
        ------
        MeasureError
            The program failed.
        """
        done = self._start(" ".join(names), [*under, *self._program(action), *names])
        found: dict[str, Any] = json.loads(done.splitlines()[-1])
        return found

    def prepare(self) -> None:
        """Compile what this side alone needs."""
        self._start("prepare", self._program("prepare"))

    def _program(self, action: str) -> list[str]:
        # -P: the modules beside the program are not found as if they were installed.
        return [sys.executable, "-P", workloads.__file__, action, str(self.folder)]

    def _start(self, workload: str, command: Sequence[str]) -> str:
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=environment(os.environ, self.tree.folder),
                capture_output=True,
                text=True,
                check=False,
                timeout=TIMEOUT_S,
            )
        except subprocess.TimeoutExpired as late:
            raise MeasureError(self.label, workload, f"no result in {TIMEOUT_S:g} s") from late
        if done.returncode:
            tail = "\n".join(done.stderr.splitlines()[-12:])
            raise MeasureError(self.label, workload, f"exit status {done.returncode}\n{tail}")
        return done.stdout


def environment(given: Mapping[str, str], tree: Path) -> dict[str, str]:
    """Return the environment of a child that imports Velox from a tree."""
    # A fixed hash seed: dicts of the interpreter are then laid out alike in every child.
    return dict(given) | {"PYTHONPATH": str(tree), "PYTHONHASHSEED": "0"}


def chosen(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """Return the names, or all that are known where none is given.

    Raises
    ------
    ValueError
        A name is not known.
    """
    for name in names:
        if name not in known:
            raise ValueError(f"unknown measure {name!r}: choose from {', '.join(known)}")
    return list(names or known)


@contextmanager
def sides(trees: Sequence[Tree], names: Sequence[str]) -> Iterator[list[Side]]:
    """Write the inputs once, and prepare each tree to use them; delete them at the end.

    Parameters
    ----------
    trees : sequence of Tree
    names : sequence of str
        The workloads that will run; only their inputs are written.
    """
    with tempfile.TemporaryDirectory(prefix="velox-measures-") as folder:
        inputs = Path(folder, "inputs")
        inputs.mkdir()
        _write_inputs(inputs, {workloads.WORKLOADS[name].reads for name in names})
        made = []
        for number, tree in enumerate(trees):
            mine = Path(folder, str(number))
            mine.mkdir()
            for path in inputs.iterdir():
                (mine / path.name).symlink_to(path)
            side = Side(tree, mine)
            side.prepare()
            made.append(side)
        yield made


def _write_inputs(folder: Path, needed: Set[str]) -> None:
    facts: dict[str, Any] = {
        "tick_size": records.TICK_SIZE,
        "base_price": records.BASE_PRICE,
        # Absolute: the program runs in another folder.
        "binance_paths": [os.path.abspath(each) for each in records.recorded("binance")],
    }
    if "flow" in needed:
        np.save(folder / "flow.npy", records.synthetic())
    if "markets" in needed:
        np.save(folder / "markets.npy", records.interleaved(workloads.MARKETS))
    recording = records.binance() if "binance" in needed else None
    if recording is not None:
        np.save(folder / "binance.npy", recording.transactions)
        facts["binance_tick_size"] = recording.instruments[0].tick_size
        facts["binance_records"] = len(recording)
    (folder / "inputs.json").write_text(json.dumps(facts), "utf-8")
