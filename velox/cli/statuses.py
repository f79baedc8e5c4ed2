"""The statuses that a command ends with."""

__all__ = ["FAILED", "GOOD", "INTERRUPTED", "UNUSABLE"]

GOOD, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
