"""Every configuration that is explored, and how many complete executions it has."""

from __future__ import annotations

from .checker import Configuration


def ring(name: str, complete: int, **parameters: object) -> Configuration:
    quick = bool(parameters.pop("quick", False))
    return Configuration(
        "ring", name, {"record": "transactions", **parameters}, complete, quick=quick
    )


CONFIGURATIONS = [
    ring("one slot", 0, capacity=1, items=3),
    ring("two slots", 0, capacity=2, items=4),
    ring("two slots, wrap at 2^64", 0, capacity=2, items=3, first=-2),
    ring("four slots, batches", 0, capacity=4, items=6, batch=3),
    ring("in place, one slot", 0, capacity=1, items=3, in_place=True),
    ring("in place, batches", 0, capacity=4, items=6, batch=3, in_place=True),
    ring("in place, wrap at 2^64", 0, capacity=2, items=3, in_place=True, first=-2),
    ring("watched", 0, capacity=1, items=2, watched=True),
    ring("bundles", 0, record="bundles", capacity=2, items=3, batch=2),
    ring("bundles in place", 0, record="bundles", capacity=2, items=3, batch=2, in_place=True),
    ring("bundles watched", 0, record="bundles", capacity=1, items=2, watched=True),
]
