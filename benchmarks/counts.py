"""Instructions a record, tracked over the commits by asv.

Counts repeat within 0.05 % on any load, so that a step of 1 % in asv's graph is a change of the
code. They depend on the compiler and the processor: if all rows step at once, one of the two has
changed.
"""

from __future__ import annotations

from pathlib import Path

import velox
from benchmarks import instructions
from benchmarks.revisions import Tree
from benchmarks.sides import sides


class Instructions:
    """What callgrind counts inside the stages, or inside the call that the row names."""

    version = "1"
    unit = "instr/record"
    timeout = 300.0
    param_names = ("row",)
    params = (list(instructions.ROWS),)

    def setup(self, row: str) -> None:
        if instructions.valgrind_version() is None:
            raise NotImplementedError("valgrind is not installed")
        # The installed package is measured, not the tree that this file belongs to.
        installed = Tree("installed", Path(velox.__file__).resolve().parents[1])
        with sides([installed], [row]) as measured:
            [counts] = instructions.count_all(measured, [row])
        count = counts[row]
        # Here, since asv skips a benchmark only for what its setup raises.
        if isinstance(count, str):
            raise NotImplementedError(count)
        self.count = count

    def track_instructions(self, row: str) -> float:
        return self.count.per_operation
