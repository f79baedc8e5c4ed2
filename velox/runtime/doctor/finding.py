"""What a check of the host found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any

__all__ = ["Evidence", "Finding", "Severity"]


class Severity(IntEnum):
    """How much a finding costs, from the least to the most.

    `UNKNOWN` stands between `FINE` and `INFO`: a fact that cannot be read is never fine.
    """

    FINE = 0
    UNKNOWN = 1
    INFO = 2
    LOW = 3
    MEDIUM = 4
    HIGH = 5


@dataclass(frozen=True, slots=True)
class Evidence:
    """A place of the host, and the text that was read there.

    Attributes
    ----------
    source : str
        A path below the root, or the name of a measurement.
    text : str
        The text, verbatim, of at most one line; ``"absent"`` if there is none.
    """

    source: str
    text: str


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes
    ----------
    id : str
        The name of the check. It never changes between versions.
    severity : Severity
    summary : str
        One sentence: what is so, and what it costs.
    evidence : tuple of Evidence
        What was read.
    remedy : str
        A command or a setting that mends it; empty if there is nothing to mend.
    """

    id: str
    severity: Severity
    summary: str
    evidence: tuple[Evidence, ...] = ()
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the finding, ready for JSON."""
        return {
            "id": self.id,
            "severity": self.severity.name.lower(),
            "summary": self.summary,
            "evidence": [{"source": each.source, "text": each.text} for each in self.evidence],
            "remedy": self.remedy,
        }
