"""Fields of a JSON message, checked: whatever is missing or of another type is `MalformedError`."""

from __future__ import annotations

from typing import Any

from velox.feeds.source import MalformedError, shown

__all__ = ["integer", "member", "name_of", "obj"]

NAME_LIMIT = 64


def member(message: dict[str, Any], field: str) -> Any:
    """A field that must be there, of whatever type."""
    try:
        return message[field]
    except KeyError:
        raise MalformedError("is missing", field) from None


def integer(message: dict[str, Any], field: str, *, lowest: int = 0) -> int:
    """An id or a time: at most 64 bits."""
    value = member(message, field)
    if type(value) is not int:
        raise MalformedError(f"{shown(value)} is not an integer", field)
    if not lowest <= value < 2**64:
        raise MalformedError(f"{shown(value)} is not from {lowest} to 2**64 - 1", field)
    return value


def name_of(message: dict[str, Any], field: str) -> str:
    """The name of an instrument or a channel."""
    value = member(message, field)
    if type(value) is not str or not value.isprintable() or not 0 < len(value) <= NAME_LIMIT:
        raise MalformedError(f"{shown(value)} is not a name", field)
    return value


def obj(message: dict[str, Any], field: str) -> dict[str, Any]:
    """A nested object."""
    value = member(message, field)
    if type(value) is not dict:
        raise MalformedError(f"{shown(value)} is not an object", field)
    return value
