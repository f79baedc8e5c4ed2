"""Checks that every group of settings shares, and the errors that they raise.

A group of settings is a frozen dataclass that checks its fields in ``__post_init__``. If a field
may hold a secret, name it in a class variable ``PRIVATE``: messages then name only the kind of its
value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from velox.errors import ConfigError

__all__ = [
    "check_choice",
    "check_integers",
    "check_numbers",
    "check_types",
    "kind_of",
    "refusal",
    "suggestion",
]

_KINDS: Final[Mapping[type, str]] = MappingProxyType(
    {
        str: "a string",
        int: "an integer",
        float: "a number",
        bool: "true or false",
        list: "a list",
        dict: "a table",
    }
)


def kind_of(value: object) -> str:
    """Return the kind of a value, as a TOML file names it."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def refusal(table: object, name: str, value: object, why: str) -> ConfigError:
    """Return the error for a value of a table.

    Parameters
    ----------
    table : object
        The table, or its class.
    name : str
        The field, perhaps with an index, as in ``regions[0]``.
    value : object
        Named in the message, unless `name` is in the table's ``PRIVATE``.
    why : str
        What is wrong.
    """
    is_private = name.partition("[")[0] in getattr(table, "PRIVATE", ())
    shown = f"is {kind_of(value)}" if is_private else f"= {value!r}"
    return ConfigError(f"{name} {shown}: {why}")


def check_integers(table: object, ranges: Mapping[str, tuple[int, int]]) -> None:
    """Check fields that must be integers, and not bools, within limits, both included.

    Raises
    ------
    ConfigError
        A field is not such an integer.
    """
    for name, (least, most) in ranges.items():
        value = getattr(table, name)
        if type(value) is not int or not least <= value <= most:
            raise refusal(table, name, value, f"must be an integer, {least} to {most}")


def check_numbers(table: object, ranges: Mapping[str, tuple[float, float]]) -> None:
    """Check fields that must be numbers within limits, both included.

    Raises
    ------
    ConfigError
        A field is not such a number.
    """
    for name, (least, most) in ranges.items():
        value = getattr(table, name)
        if type(value) not in (int, float) or not least <= value <= most:
            raise refusal(table, name, value, f"must be a number, {least:g} to {most:g}")


def check_types(table: object, kinds: Mapping[type, tuple[str, ...]]) -> None:
    """Check fields that must be of one type.

    Raises
    ------
    ConfigError
        A field is of another type.
    """
    for kind, names in kinds.items():
        for name in names:
            value = getattr(table, name)
            if type(value) is not kind:
                raise refusal(table, name, value, f"must be {_KINDS[kind]}")


def check_choice(table: object, name: str, choices: tuple[str | int, ...]) -> None:
    """Check a field that must be one of some words or integers.

    Raises
    ------
    ConfigError
        The field is not one of them.
    """
    value = getattr(table, name)
    if type(value) not in (str, int) or value not in choices:
        raise refusal(table, name, value, f"must be one of {', '.join(map(repr, choices))}")


def suggestion(key: str, known: Sequence[str]) -> str:
    """Return the known key nearest to an unknown one, or all known keys, as a phrase.

    Examples
    --------
    >>> suggestion("lane", ["lanes", "writers"])
    "did you mean 'lanes'?"
    >>> suggestion("x", ["lanes", "writers"])
    'the keys are lanes, writers'
    """
    near = get_close_matches(key, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(known)}"
