"""Reads LOBSTER files: a message file, and the orderbook file that belongs to it."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from velox.core.instrument import Instrument
from velox.core.integers import INT64_MAX
from velox.core.records import TRANSACTION_DTYPE
from velox.errors import FeedError
from velox.feeds.decode.levels import KNOWN_DTYPE
from velox.feeds.decode.lobster import (
    CENT,
    MessageParser,
    Record,
    Row,
    RowParser,
    Window,
    is_header,
    marked_last,
)
from velox.feeds.decode.malformed import MalformedError
from velox.feeds.files.options import checked_levels, checked_tick
from velox.feeds.files.registry import register
from velox.feeds.files.source import (
    Place,
    Source,
    first_line,
    numbered_lines,
    require_file,
)
from velox.feeds.recording import Recording
from velox.runtime.checks import DepthChecks

__all__ = ["read"]

DEFAULT_DEPTH = 10

_NUMBERS = re.compile(rb"-?[0-9]+(?:\.[0-9]+)?(?:,-?[0-9]+(?:\.[0-9]+)?){3,}\s*")

Parsed = TypeVar("Parsed")


class _Checks:
    """Collects rows in the arrays of `DepthChecks`."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.position = array("q")
        self.prices = array("q")
        self.quantities = array("q")

    def add(self, position: int, row: Row) -> None:
        self.position.append(position)
        for column, sides in ((self.prices, row.prices), (self.quantities, row.sizes)):
            for levels in sides:
                column.extend(levels[: self.depth])
                if len(levels) < self.depth:
                    column.extend((0,) * (self.depth - len(levels)))

    def finish(self) -> DepthChecks | None:
        count = len(self.position)
        if not count:
            return None
        return DepthChecks(
            position=np.array(self.position, np.int64),
            market=np.zeros(count, np.uint8),
            prices=np.array(self.prices, np.int64).reshape(count, 2, self.depth),
            quantities=np.array(self.quantities, np.int64).reshape(count, 2, self.depth),
        )


def _looks_like(line: bytes) -> bool:
    if line.startswith(b"exchange,symbol,"):
        return False  # Tardis'
    return _NUMBERS.fullmatch(line) is not None or is_header(line.strip())


@register("lobster", looks_like=_looks_like)
def read(
    source: Source, *, tick_size: int | None = None, name: str | None = None, levels: int = 1024
) -> Recording:
    """Read a LOBSTER pair, or a message file alone.

    Row 0 of the orderbook file opens the book. Message 0, which led to that row, is left out. Each
    later message is one event, followed by a depth check against its row. Types 1 to 4 are ADD,
    CANCEL, CANCEL and EXECUTE; 5 (hidden execution) and 6 (cross) change no level and are TRADE; 7
    (halt) is a TRADE of size and price 0.

    The book holds the levels of the rows, whatever their number. A level that enters this window is
    SET after the message, and one that leaves it is deleted. A message beyond the window is ignored
    and counted in `Recording.ignored`. If a row differs from the result of the messages since the
    previous row, one of them is wrong. That is counted in `Recording.contradictions`, the row's
    check fails, and the row then opens the book again.

    Without an orderbook file the book opens empty and nothing is checked. The book then rejects
    messages that take from levels which existed before.

    Parameters
    ----------
    source : Source
        Its paths are the two files in either order (told apart by ``_message_`` and
        ``_orderbook_`` in their names, or else by their columns), the message file alone, or the
        directory that holds the pair. Each may begin with a line that names its columns.
    tick_size : int, optional
        In units of 1e-4. If not given: a cent, or 1 if a price is not a whole cent.
    name : str, optional
        The instrument's name. If not given: the file's name up to its first underscore.
    levels : int
        Levels a side that the instrument's book keeps hot.

    Returns
    -------
    Recording
        `ingress_ts_ns` and `venue_ts_ns` are the same, and count from midnight, New York time.

    Raises
    ------
    FeedError
        A row is not of this format, or the files differ in their number of rows. With
        ``on_error="skip"``, the row of a bad message opens the book again, so that checks continue.
        Without an orderbook file, the book lacks that message from then on.
    ConfigError
        An option cannot be used.
    """
    tick = None if tick_size is None else checked_tick(tick_size)
    levels = checked_levels(levels)
    messages, orderbook = _pair(source.paths)
    reader = _Reader(source, tick)
    if orderbook is None:
        reader.read_messages(messages)
    else:
        reader.read_pair(messages, orderbook)
    if not reader.records:
        raise source.nothing("message")
    if tick is None:
        tick = 1 if reader.finer else CENT
    transactions = np.array(reader.records, TRANSACTION_DTYPE)
    return Recording(
        transactions=transactions,
        instruments=(
            Instrument(name=name or messages.name.partition("_")[0], tick_size=tick, levels=levels),
        ),
        checks=None if reader.checks is None else reader.checks.finish(),
        skipped=source.faults.skipped,
        problems=tuple(source.faults.problems),
        source=(messages,) if orderbook is None else (messages, orderbook),
        ignored=dict(reader.ignored),
        contradictions=reader.contradictions,
        known=np.array(reader.known, KNOWN_DTYPE),
        venue_ts_ns=transactions["ingress_ts_ns"].copy(),
    )


def _pair(paths: tuple[Path, ...]) -> tuple[Path, Path | None]:
    files: list[Path] = []
    for path in paths:
        try:
            entries = sorted(path.iterdir())
        except NotADirectoryError:
            files.append(path)
        except (OSError, ValueError) as error:
            require_file(path)  # says it better where the path itself is at fault
            raise FeedError(f"cannot be listed: {error}", path=path) from None
        else:
            files += [entry for entry in entries if _role_by_name(entry)]
    roles: dict[str, list[Path]] = {"message": [], "orderbook": []}
    for path in files:
        roles[_role_by_name(path) or _role_by_columns(path)].append(path)
    messages, orderbooks = roles["message"], roles["orderbook"]
    if len(messages) != 1 or len(orderbooks) > 1:
        raise FeedError(
            "LOBSTER needs one message file and at most one orderbook file; "
            f"found {len(messages)} and {len(orderbooks)}",
            path=paths[0],
        )
    return messages[0], orderbooks[0] if orderbooks else None


def _role_by_name(path: Path) -> str | None:
    for role in ("message", "orderbook"):
        if f"_{role}_" in path.name:
            return role
    return None


def _role_by_columns(path: Path) -> str:
    columns = first_line(path).count(b",") + 1
    return "orderbook" if columns % 4 == 0 else "message"


class _Line(NamedTuple):
    number: int
    raw: bytes


class _Reader:
    """Collects the records of one load."""

    def __init__(self, source: Source, tick: int | None) -> None:
        self.source = source
        self.faults = source.faults
        self.tick = tick
        # Messages without an orderbook file have no checks; a depth then has nothing to limit.
        self.depth = source.depth or DEFAULT_DEPTH
        self.parse_message = MessageParser(tick)
        self.parse_row: RowParser | None = None
        self.records: list[Record] = []
        self.checks: _Checks | None = None
        self.ignored: Counter[str] = Counter()
        self.contradictions = 0
        self.known: list[tuple[int, int, int, int, int]] = []

    @property
    def finer(self) -> bool:
        return self.parse_message.finer or (self.parse_row is not None and self.parse_row.finer)

    def attempt(self, parse: Callable[[bytes], Parsed], line: _Line, path: Path) -> Parsed | None:
        """Parse a line with `parse`. None if it was reported and must be left out."""
        try:
            return parse(line.raw)
        except MalformedError as error:
            self.faults.report(Place(path, line.number).error(error))
            return None

    def body(self, lines: Iterator[tuple[int, bytes]]) -> Iterator[_Line]:
        """The lines of a file after its header, if it has one."""
        for number, raw in lines:
            if number == 1 and is_header(raw):
                self.ignored["header"] += 1
                continue
            yield _Line(number, raw)

    def read_messages(self, path: Path) -> None:
        with numbered_lines(path, self.faults) as lines:
            for line in self.body(lines):
                message = self.attempt(self.parse_message, line, path)
                if message is None:
                    continue
                if not self.records:
                    self.records += Row(([], []), ([], [])).records(message.time)
                self.records.append(message.record())
                if self.source.reached(len(self.records)):
                    break

    def read_pair(self, message_path: Path, row_path: Path) -> None:
        self.parse_row = _row_parser(row_path, self.tick)
        depth = min(self.depth, self.parse_row.levels)
        pair = _Pair(self, self.parse_row, message_path, row_path, _Checks(depth))
        self.checks = pair.checks
        with (
            numbered_lines(message_path, self.faults) as messages,
            numbered_lines(row_path, self.faults) as rows,
        ):
            lines = zip_longest(self.body(messages), self.body(rows))
            for count, (message, row) in enumerate(lines):
                if message is None:
                    self.faults.report(_shorter(message_path, row_path, count))
                    break
                if row is None:
                    self.faults.report(_shorter(row_path, message_path, count))
                    break
                pair.take(message, row)
                if self.source.reached(len(self.records)):
                    break


class _Pair:
    """Read the messages and their rows in pairs."""

    def __init__(
        self, reader: _Reader, parse_row: RowParser, messages: Path, rows: Path, checks: _Checks
    ) -> None:
        self.reader = reader
        self.parse_row = parse_row
        self.messages = messages
        self.rows = rows
        self.checks = checks
        self.window = Window(parse_row.levels)
        self.time: int | None = None
        self.opened = False  # whether the book stands as the row before said

    def take(self, message_line: _Line, row_line: _Line) -> None:
        reader = self.reader
        message = reader.attempt(reader.parse_message, message_line, self.messages)
        if message is not None:
            self.time = message.time
        row = reader.attempt(self.parse_row, row_line, self.rows)
        if message is None or not self.opened:
            # Read the opening row, or the row after a message that was left out.
            self.open(row)
            return
        contradiction: FeedError | None = None
        records: list[Record] = []
        try:
            if self.window.apply(message):
                records.append(message.record(last=False))
            else:
                reader.ignored["message beyond the window"] += 1
        except MalformedError as error:
            contradiction = Place(self.messages, message_line.number).error(error)
        if row is not None and contradiction is None:
            try:
                records += self.window.follow(row, message.time)
            except MalformedError as error:
                contradiction = Place(self.rows, row_line.number).error(error)
        if records:
            reader.records += [*records[:-1], marked_last(records[-1])]
        if row is not None:
            self.checks.add(len(reader.records), row)
        if contradiction is not None:
            # The check above compares the book that the messages made. From here on the row is
            # used.
            reader.contradictions += 1
            reader.faults.note(contradiction)
            self.open(row)

    def open(self, row: Row | None) -> None:
        self.opened = row is not None and self.time is not None
        if row is not None and self.time is not None:
            reader = self.reader
            levels = self.parse_row.levels
            reader.known.append((len(reader.records), 0, 0, INT64_MAX, levels))
            reader.records += row.records(self.time)
            self.window.open(row)


def _row_parser(path: Path, tick: int | None) -> RowParser:
    columns = first_line(path).count(b",") + 1
    try:
        return RowParser(columns, tick)
    except MalformedError as error:
        raise Place(path, 1).error(error) from None


def _shorter(path: Path, other: Path, count: int) -> FeedError:
    return FeedError(f"has {count} rows, but {other.name} has more", path=path)
