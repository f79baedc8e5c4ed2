"""Figures that are worth comparing: measured in turns, with a word on whether they repeat.

On a shared machine no single figure means much. What is compared is measured alternately in one
run, so that the host affects all of it in the same way; a figure is the median of its rounds; and
where the first and the second half of them disagree by more than 10 %, it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median, quantiles

__all__ = ["REPEATS_WITHIN", "Sample", "alternate"]

REPEATS_WITHIN = 0.10


@dataclass(frozen=True)
class Sample:
    """Rounds of one measurement, in the order in which they were made."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """float: What the measurement comes to."""
        return median(self.rounds)

    @property
    def spread(self) -> tuple[float, float]:
        """tuple of float: The first and the third quartile."""
        if len(self.rounds) < 2:
            return self.rounds[0], self.rounds[0]
        low, _, high = quantiles(self.rounds, n=4, method="inclusive")
        return low, high

    @property
    def repeats(self) -> bool:
        """bool: Whether the halves' medians are within 10 % of each other."""
        half = len(self.rounds) // 2
        if half == 0:
            return False
        first, second = median(self.rounds[:half]), median(self.rounds[-half:])
        return abs(first - second) <= REPEATS_WITHIN * min(abs(first), abs(second))

    def to_dict(self) -> dict[str, object]:
        """Return the figures, ready for JSON."""
        low, high = self.spread
        return {
            "median": self.median,
            "first_quartile": low,
            "third_quartile": high,
            "repeats": self.repeats,
            "rounds": list(self.rounds),
        }


def alternate(
    measures: Mapping[str, Callable[[], float]], rounds: int, *, warm_up: bool = True
) -> dict[str, Sample]:
    """Measure each in turn, `rounds` times, after one round that does not count.

    Parameters
    ----------
    measures : mapping of str to callable
        Each makes one measurement and returns it.
    rounds : int
    warm_up : bool
        Whether the round that does not count is made.
    """
    if warm_up:
        for measure in measures.values():
            measure()
    made: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(rounds):
        for name, measure in measures.items():
            made[name].append(measure())
    return {name: Sample(tuple(values)) for name, values in made.items()}
