"""The error for one message that violates its format."""

from __future__ import annotations

__all__ = ["MalformedError", "shown"]


class MalformedError(Exception):
    """One message that cannot be read. The caller knows which one it was.

    Attributes
    ----------
    why : str
        What is wrong, with the value.
    field : str or None
        The field that is wrong; None if the whole message is wrong.
    """

    def __init__(self, why: str, field: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.field = field


def shown(value: object) -> str:
    """Format a value for an error message: short, and on one line."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
