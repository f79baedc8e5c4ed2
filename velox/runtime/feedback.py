"""What a strategy was, and what it was told of its orders, for the report of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["Feedback", "StrategySource"]


class StrategySource(NamedTuple):
    """What a strategy is, and what it was given.

    Attributes
    ----------
    name : str
        As it was asked for, such as ``quotes.py:quote``; or the function's name.
    digest : str or None
        SHA-256 of the file that it comes from, in hexadecimal digits; None if no file is known.
    parameters : mapping of str to int or float
        The parameters in its state, with their values when the strategy was loaded.
    """

    name: str
    digest: str | None = None
    parameters: Mapping[str, int | float] = {}

    def __str__(self) -> str:
        text = self.name if self.digest is None else f"{self.name}, sha256 {self.digest[:16]}…"
        if not self.parameters:
            return text
        given = " ".join(f"{name}={value}" for name, value in self.parameters.items())
        return f"{text}; {given}"

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {"name": self.name, "digest": self.digest, "parameters": dict(self.parameters)}


@dataclass(frozen=True, slots=True)
class Feedback:
    """The reports and timers of a run.

    Attributes
    ----------
    pushed : int
        Reports that the executor pushed.
    heard : int
        Reports that the book's stage took: for the strategy, or after it had ended.
    refused : dict of str to int
        Reports that it took and refused, by reason: ``kind``, ``market``.
    left : int
        Reports that still lie in the ring. `Pipeline.settle` takes them.
    full : int
        How often the executor found less room than it needed.
    timers : int
        Timers given to the strategy.
    """

    pushed: int
    heard: int
    refused: dict[str, int] = field(default_factory=dict)
    left: int = 0
    full: int = 0
    timers: int = 0

    @property
    def balanced(self) -> bool:
        """bool: Whether every report that was pushed is heard, refused or left."""
        return self.pushed == self.heard + sum(self.refused.values()) + self.left

    def __str__(self) -> str:
        text = f"{self.pushed:,} reports, {self.heard:,} heard"
        for reason, count in self.refused.items():
            if count:
                text += f", {count:,} refused by {reason}"
        if self.left:
            text += f", {self.left:,} left"
        return f"{text}; {self.timers:,} timers"

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {
            "pushed": self.pushed,
            "heard": self.heard,
            "refused": dict(self.refused),
            "left": self.left,
            "full": self.full,
            "timers": self.timers,
            "balanced": self.balanced,
        }
