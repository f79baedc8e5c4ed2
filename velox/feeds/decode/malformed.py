"""The error of one message that is not what its format says."""

from __future__ import annotations

__all__ = ["MalformedError", "shown"]


class MalformedError(Exception):
    """One message that cannot be read. The caller knows which one it was.

    Attributes
    ----------
    why : str
        What is wrong, with the value.
    field : str or None
        The field that is wrong; None where the whole message is.
    """

    def __init__(self, why: str, field: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.field = field


def shown(value: object) -> str:
    """A value as an error message shows it: on one line, and short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
