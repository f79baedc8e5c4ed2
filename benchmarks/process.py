"""What the process takes: time to start, memory, CPU while nothing comes."""

from __future__ import annotations

import velox
from benchmarks import measures
from benchmarks.scaled import NsAnOperation


class Start(NsAnOperation):
    """From nothing, in a new interpreter."""

    def time_import(self) -> None:
        self.add(measures.import_velox())

    def time_to_first_bundle(self) -> None:
        self.add(measures.first_bundle())


class Memory:
    version = "1"

    def peakmem_run(self) -> None:
        """The whole process, interpreter and NumPy included."""
        measures.run_max(0.5)

    def track_rings_books_and_histograms(self) -> int:
        return measures.memory_stated(velox.Pipeline(velox.PoissonIngress()))

    track_rings_books_and_histograms.unit = "bytes"  # type: ignore[attr-defined]

    def track_growth_in_steady_state(self) -> int:
        return measures.memory_growth()[1]

    track_growth_in_steady_state.unit = "bytes"  # type: ignore[attr-defined]


class Idle:
    version = "1"
    unit = "%"
    param_names = ("idle",)
    params = (["backoff", "yield"],)

    def track_cpu_of_a_quiet_pipeline(self, idle: str) -> float:
        return 100 * measures.idle_cpu(idle)
