"""A gateway that executes a strategy's orders on paper, and tells the pipeline what became of them.

It shows what a gateway of your own does: take bundles, execute the orders, push reports, and keep
the reports that do not fit. On paper every order is placed, and every tenth one is filled at once.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

import velox
from velox import Kind


class PaperGateway:
    """Takes a pipeline's bundles and pushes its reports. One thread calls `step`."""

    def __init__(self, pipeline: velox.Pipeline, output: velox.PullOutput) -> None:
        self._pipeline = pipeline
        self._output = output
        self._resting: dict[int, int] = {}  # id -> lots
        self._waiting: deque[Any] = deque()
        self.placed = self.filled_lots = 0

    def step(self) -> int:
        """Execute what has come out; return how many orders that were."""
        taken = 0
        with self._output.poll() as bundles:
            for bundle in bundles:
                for order in bundle["transactions"][: bundle["count"]]:
                    self._execute(order)
                    taken += 1
        self._push()
        return taken

    @property
    def waiting(self) -> int:
        """int: Reports that wait for room in the report ring."""
        return len(self._waiting)

    def _execute(self, order: Any) -> None:
        number, lots = int(order["id"]), int(order["size"])
        if order["kind"] == Kind.CANCEL:
            left = self._resting.pop(number, 0)
            self._tell(order, Kind.CANCELLED if left else Kind.CANCEL_REJECTED, left)
            return
        self._tell(order, Kind.PLACED, lots)
        self.placed += 1
        if self.placed % 10:
            self._resting[number] = lots
        else:
            self._tell(order, Kind.FILLED, lots)
            self.filled_lots += lots if order["side"] == 0 else -lots

    def _tell(self, order: Any, kind: Kind, lots: int) -> None:
        report = np.zeros(1, velox.REPORT_RECORD_DTYPE)
        for name in ("id", "price", "side", "market"):
            report[name] = order[name]
        report["kind"], report["size"], report["ahead"] = kind, lots, -1
        self._waiting.append(report)

    def _push(self) -> None:
        while self._waiting and self._pipeline.reports.push(self._waiting[0]):
            self._waiting.popleft()
