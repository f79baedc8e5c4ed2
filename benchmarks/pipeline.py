"""The whole pipeline, in ns a transaction: from the start of its threads to the last bundle."""

from __future__ import annotations

from benchmarks import measures
from benchmarks.scaled import NsAnOperation


class Replay(NsAnOperation):
    """Records in an array → bundles out, as fast as they are taken."""

    param_names = ("pipeline",)
    params = (["shared", "shared, CAS book", "paired", "paired, CAS book"],)

    def setup(self, pipeline: str) -> None:
        super().setup()
        self.placement, _, self.book = pipeline.partition(", ")

    def time_transaction(self, pipeline: str) -> None:
        self.add(measures.replay(self.placement, writers=2 if self.book else 1, passes=20))


class Run(NsAnOperation):
    """``velox run --rate max``: the flow is generated on the fly."""

    def time_transaction(self) -> None:
        self.add(measures.run_max())
