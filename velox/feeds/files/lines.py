"""Recorded websocket messages: one a line, in any of the forms that recorders write.

A line is ``recv_ns JSON``, ``unix_seconds: JSON``, or the JSON alone. Lines about the connection
(``wss://… <-> …``), REST answers (``https://… -> unix_seconds: JSON``) and comments (``#``) may
stand among them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable
from pathlib import Path
from typing import Any, Protocol

from velox.feeds.decode.fields import nanoseconds
from velox.feeds.decode.levels import LevelRecorder
from velox.feeds.decode.malformed import MalformedError, shown
from velox.feeds.files.source import Place, Source, first_line, numbered_lines

__all__ = ["TIME_UNITS", "Stamps", "feed_lines", "is_rest", "payload_of"]

_UNITS = {"ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_WORDS = {"us": "microseconds", "ms": "milliseconds", "s": "seconds"}
# Units that a reader's option `time_unit` may name.
TIME_UNITS = tuple(_UNITS)

_LINE = re.compile(
    rb"(?:([0-9]{1,20})[ \t]+|([0-9]{1,20}(?:\.[0-9]{1,40})?): ?)?([\[{].*|ping|pong)", re.DOTALL
)
_CONNECTION = re.compile(rb"wss?://\S+ <->? .*|wss?://\S+ -> .*|configuration: .*", re.DOTALL)
_REST = re.compile(rb"https?://\S+ -> [0-9.]+: ?([\[{].*)", re.DOTALL)


class Stamps:
    """The timestamps of lines, in nanoseconds.

    Parameters
    ----------
    unit : str or None
        The unit. If not given it is nanoseconds, and a number with the size of a time since 1970 in
        another unit is refused.
    """

    def __init__(self, unit: str | None) -> None:
        self.factor = 1 if unit is None else _UNITS[unit]
        self.told = unit is not None

    def __call__(self, text: bytes) -> int:
        """Convert an integer."""
        stamp = int(text)
        if not self.told:
            for unit, low in (("s", 10**9), ("ms", 10**12), ("us", 10**15)):
                if low <= stamp < 10 * low:
                    raise MalformedError(
                        f"{stamp} has the size of a time in {_WORDS[unit]}, and nanoseconds are "
                        f"expected; say time_unit={unit!r}, or time_unit='ns'",
                        "timestamp",
                    )
        return stamp * self.factor

    @staticmethod
    def seconds(text: bytes) -> int:
        """Convert decimal seconds."""
        whole = text.partition(b".")[0]
        for digits, unit in ((13, "milliseconds"), (16, "microseconds"), (19, "nanoseconds")):
            if len(whole) == digits:
                raise MalformedError(
                    f"{shown(text.decode())} has the size of a time in {unit}, and is not a time "
                    "in seconds",
                    "timestamp",
                )
        return nanoseconds(text, "timestamp")


class _Session(Protocol):
    """What a line is fed to: see `velox.feeds.decode.session.BookSession`."""

    ignored: Any

    def feed(self, raw: bytes, recv_ns: int | None, origin: Hashable) -> None: ...


def is_rest(line: bytes) -> bool:
    """Whether a line is a REST answer."""
    return _REST.match(line) is not None


def payload_of(line: bytes) -> bytes:
    """The JSON of a line, a whole line with the address of a server, or else nothing.

    A format's `looks_like` asks it.
    """
    if line.startswith((b"ws://", b"wss://", b"http://", b"https://")):
        return line
    match = _LINE.match(line)
    return b"" if match is None else match[3]


def feed_lines(
    source: Source,
    session: _Session,
    recorder: LevelRecorder,
    unit: str | None = None,
    rest: Callable[[bytes, Hashable], None] | None = None,
) -> bool:
    """Feed every line of the files to a session, and return whether the limit stopped it.

    Parameters
    ----------
    source : Source
    session : BookSession
    recorder : LevelRecorder
        The session's sink.
    unit : str, optional
        The unit of integer timestamps, one of TIME_UNITS.
    rest : callable, optional
        Called with the JSON of each REST answer and its origin. Files that begin with one are read
        first. Without it, REST answers are counted as ignored.
    """
    stamps = Stamps(unit)
    paths: Iterable[Path] = source.paths
    if rest is not None:
        paths = sorted(paths, key=lambda path: not is_rest(first_line(path)))
    for path in paths:
        with numbered_lines(path, source.faults) as lines:
            for number, raw in lines:
                place = Place(path, number)
                try:
                    _feed_line(raw, session, stamps, place, rest)
                except MalformedError as error:
                    source.faults.report(place.error(error))
                if source.reached(recorder.count):
                    return True
    return False


def _feed_line(
    raw: bytes,
    session: _Session,
    stamps: Stamps,
    place: Place,
    rest: Callable[[bytes, Hashable], None] | None,
) -> None:
    match = _LINE.fullmatch(raw)
    if match is not None:
        time = None
        if match[1] is not None:
            time = stamps(match[1])
        elif match[2] is not None:
            time = stamps.seconds(match[2])
        session.feed(match[3].rstrip(), time, place)
        return
    if not raw or raw.isspace() or _CONNECTION.fullmatch(raw):
        return
    if raw.startswith(b"#"):
        session.ignored["comment"] += 1
        return
    answer = _REST.fullmatch(raw)
    if answer is None:
        raise MalformedError(
            "expected 'unix_seconds: JSON', 'recv_ns JSON' or JSON, got "
            f"{shown(raw.decode('latin-1'))}"
        )
    if rest is None:
        session.ignored["REST answer"] += 1
    else:
        rest(answer[1], place)
