"""Reads and checks JSON text and its fields.

A missing field or a wrong type raises `MalformedError`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NoReturn

from velox.core.integers import INT64_MAX, UINT64_MAX
from velox.core.units import NS_PER_MS, NS_PER_S
from velox.feeds.decode.malformed import MalformedError, shown

__all__ = [
    "KEEP_ALIVES",
    "TIME_LIMIT",
    "epoch_ns",
    "integer",
    "integer_text",
    "member",
    "name_of",
    "nanoseconds",
    "obj",
    "parse_json",
    "parse_json_numbers",
    "rfc3339",
    "time_of_text",
]

NAME_LIMIT = 64
# Messages of some venues that are words, not JSON.
KEEP_ALIVES = (b"ping", b"pong")
# All times stay under this, so that they also fit a signed 64-bit integer.
TIME_LIMIT = INT64_MAX + 1

_SECONDS = re.compile(rb"([0-9]{1,12})(?:\.([0-9]{1,40}))?")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,18}))?(?:Z|\+00:00)"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
# The unit of an epoch time in ns, by the size of the number. Milliseconds reach the lower limit in
# the year 5138; microseconds passed it in 1973.
MICROSECONDS_FROM = 10**14
NANOSECONDS_FROM = 10**17


def _refuse_constant(name: str) -> NoReturn:
    raise MalformedError(f"{name} is not a JSON number")


# The largest exponent of a number that is written out.
_EXPONENT_LIMIT = 40


def _written_out(text: str) -> str:
    """A JSON number without an exponent, as another program may have written it."""
    if "e" not in text and "E" not in text:
        return text
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    if type(exponent) is not int or abs(exponent) > _EXPONENT_LIMIT:
        return text
    return f"{number:f}"


_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode
_decode_numbers = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_float=_written_out, parse_int=str
).decode


def parse_json(raw: bytes) -> Any:
    """Parse JSON text. Raises `MalformedError` if it is not JSON."""
    return _parsed(raw, _decode)


def parse_json_numbers(raw: bytes) -> Any:
    """Parse JSON text, and keep each number as text: its trailing zeros may count."""
    return _parsed(raw, _decode_numbers)


def _parsed(raw: bytes, decode: Callable[[str], Any]) -> Any:
    try:
        return decode(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise MalformedError(f"is not UTF-8 text at byte {error.start + 1}") from None
    except json.JSONDecodeError as error:
        raise MalformedError(f"is not JSON: {error.msg}, at column {error.colno}") from None
    except RecursionError:
        raise MalformedError("is not usable JSON: nested too deeply") from None
    except ValueError:
        raise MalformedError("is not usable JSON: a number has too many digits") from None


def member(message: dict[str, Any], field: str) -> Any:
    """A required field, of any type."""
    try:
        return message[field]
    except KeyError:
        raise MalformedError("is missing", field) from None


def integer(message: dict[str, Any], field: str, *, lowest: int = 0) -> int:
    """An id or a time: at most 64 bits."""
    value = member(message, field)
    if type(value) is not int:
        raise MalformedError(f"{shown(value)} is not an integer", field)
    if not lowest <= value <= UINT64_MAX:
        raise MalformedError(f"{shown(value)} is not from {lowest} to 2**64 - 1", field)
    return value


def integer_text(message: dict[str, Any], field: str) -> int:
    """An id that is written as text: at most 64 bits."""
    value = member(message, field)
    if type(value) is not str or not value.isdecimal() or not value.isascii():
        raise MalformedError(f"{shown(value)} is not an id", field)
    if len(value) > 20 or int(value) > UINT64_MAX:
        raise MalformedError(f"{shown(value)} does not fit 64 bits", field)
    return int(value)


def time_of_text(message: dict[str, Any], field: str) -> int:
    """A venue's time since 1970 that is written as text, in nanoseconds."""
    text = member(message, field)
    if type(text) is not str or not text.isdecimal() or not text.isascii() or len(text) > 19:
        raise MalformedError(f"{shown(text)} is not a time", field)
    return epoch_ns(int(text), field)


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


def epoch_ns(value: int, field: str) -> int:
    """Return a venue's time since 1970 in nanoseconds. Its unit is found from its size."""
    if value < MICROSECONDS_FROM:
        time = value * NS_PER_MS
    elif value < NANOSECONDS_FROM:
        time = value * 1_000
    else:
        time = value
    if time >= TIME_LIMIT:
        raise MalformedError(f"{value} does not fit 63 bits of ns", field)
    return time


def rfc3339(message: dict[str, Any], field: str) -> int:
    """A time such as ``2023-10-06T17:35:55.440295Z`` in nanoseconds.

    Digits below 1 ns are cut off.
    """
    text = member(message, field)
    match = _RFC3339.fullmatch(text) if type(text) is str else None
    if match is None:
        raise MalformedError(f"{shown(text)} is not a time in UTC", field)
    try:
        whole = datetime.fromisoformat(match[1]).replace(tzinfo=UTC)
    except ValueError:
        raise MalformedError(f"{shown(text)} is not a time in UTC", field) from None
    seconds = (whole - _EPOCH) // _SECOND
    if not 0 <= seconds < TIME_LIMIT // NS_PER_S:
        raise MalformedError(f"{shown(text)} does not fit 63 bits of ns", field)
    return seconds * NS_PER_S + int((match[2] or "")[:9].ljust(9, "0"))


def nanoseconds(seconds: bytes, field: str) -> int:
    """Return decimal seconds as integer nanoseconds, exactly. Digits below 1 ns are cut off."""
    match = _SECONDS.fullmatch(seconds)
    if match is None:
        raise MalformedError(f"{shown(seconds.decode('latin-1'))} is not a time in seconds", field)
    whole, fraction = match[1], match[2] or b""
    time = int(whole + fraction[:9].ljust(9, b"0"))
    if time >= TIME_LIMIT:
        raise MalformedError(
            f"{shown(seconds.decode('latin-1'))} does not fit 63 bits of ns", field
        )
    return time
