"""The whole pipeline, in ns a transaction: from the start of its threads to the last bundle."""

from __future__ import annotations

from benchmarks import measures, records
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


class Strategy(NsAnOperation):
    """The same, of what a strategy makes of each record; an operation is a record that came in."""

    param_names = ("strategy", "placement")
    params = (["nothing", "forward", "market_maker"], ["shared", "paired"])

    def setup(self, strategy: str, placement: str) -> None:
        super().setup()
        # Imported here, since asv also runs commits that lack this name.
        from benchmarks import baseline  # noqa: PLC0415

        [variant] = (each for each in baseline.VARIANTS if each.strategy == strategy)
        self.measure = lambda: baseline.velox_ns_a_transaction(
            records.synthetic(), 20, variant, placement
        )

    def time_transaction(self, strategy: str, placement: str) -> None:
        self.add(self.measure())


class Run(NsAnOperation):
    """``velox run --rate max``: the flow is generated on the fly."""

    def time_transaction(self) -> None:
        self.add(measures.run_max())
