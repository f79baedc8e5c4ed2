"""Reads Databento's DBN files, of orders (MBO) and of levels (MBP), plain or zstd."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from velox.core.instrument import Instrument
from velox.errors import FeedError
from velox.feeds.decode.dbn import (
    PREFIX_BYTES,
    DbnMetadata,
    DbnSession,
    OnBadBook,
    Run,
    metadata_length,
    parse_metadata,
    runs,
)
from velox.feeds.decode.malformed import MalformedError
from velox.feeds.files.options import checked_choice, checked_levels, checked_name
from velox.feeds.files.registry import register
from velox.feeds.files.source import READ_ERRORS, Place, Source, open_stream
from velox.feeds.recording import Recording

__all__ = ["read"]

CHUNK_BYTES = 1 << 22


def _looks_like(line: bytes) -> bool:
    return line.startswith(b"DBN") and len(line) > 3 and line[3] < 32


@register("dbn", looks_like=_looks_like)
def read(
    source: Source,
    *,
    symbol: str | None = None,
    on_gap: str = "clear",
    trades: bool = False,
    levels: int = 8192,
) -> Recording:
    """Read DBN files of the schemas MBO, MBP-1 and MBP-10.

    Each instrument of each publisher is a market, with the name that the file gives it. A market is
    read from its first kind of records, and others are ignored.

    An order becomes an ADD. What is taken from it is an EXECUTE as far as a fill came before in the
    same event, and otherwise a CANCEL. A modification that keeps its place in the queue takes from
    the order; any other takes all of it and adds it again. A record with the flag TOB replaces its
    side. Records of MBP hold the best levels: those that change are SET, and those that leave are
    deleted.

    Parameters
    ----------
    source : Source
        Its paths are files in the order of time.
    symbol : str, optional
        Read this symbol only.
    on_gap : {'clear', 'continue', 'stop'}
        At a record with the flag MAYBE_BAD_BOOK: the book is emptied until it is cleared or a
        snapshot comes; or the records are applied on; or the load stops. `Recording.gaps` counts
        such places.
    trades : bool
        Whether trades become TRADE records of the side that rested. The id is that of the order of
        the taker, if the record has it.
    levels : int
        Levels a side that the instruments' books keep hot.

    Returns
    -------
    Recording
        `ingress_ts_ns` is `ts_recv` and `venue_ts_ns` is `ts_event`. Prices have 4 decimals, or as
        many as the market needs, up to 9. `Flags.LAST` and `Flags.SNAPSHOT` are the venue's.

    Raises
    ------
    FeedError
        A file is not DBN of the versions 1 to 3, or a record is invalid; `line` is the number of
        the record, counted from 1.
    ConfigError
        An option cannot be used.
    """
    path = source.paths[0]

    def report(error: MalformedError, record: int, *, lines: int) -> None:
        problem = Place(path, record).error(error)
        if lines:
            source.faults.report(problem, lines=lines)
        else:
            source.faults.note(problem)

    session = DbnSession(
        report,
        symbol=checked_name("symbol", symbol),
        on_gap=cast(OnBadBook, checked_choice("on_gap", on_gap, ("clear", "continue", "stop"))),
        trades=bool(trades),
    )
    levels = checked_levels(levels)
    for path in source.paths:
        if _walk(source, path, session):
            break
    if not session.count:
        left = ", ".join(f"{count} {name}" for name, count in session.ignored.items())
        raise source.nothing(f"records of MBO, MBP-1 or MBP-10{left and f' (but {left})'}")
    records = session.finish()
    return Recording(
        transactions=records.transactions,
        instruments=tuple(
            Instrument(
                name=scale.name,
                market=market,
                price_decimals=scale.places,
                tick_size=scale.tick,
                levels=levels,
            )
            for market, scale in enumerate(records.scales)
        ),
        checks=None,
        skipped=source.faults.skipped,
        problems=tuple(source.faults.problems),
        source=source.paths,
        ignored=dict(session.ignored),
        gaps=session.gaps,
        known=records.known,
        venue_ts_ns=records.venue_times,
    )


def _walk(source: Source, path: Path, session: DbnSession) -> bool:
    """Feed every record of a file, and return whether the limit stopped it."""
    try:
        with open_stream(path) as stream:
            metadata = _metadata(cast(BufferedReader, stream))
            session.names(metadata.names)
            with closing(_runs(stream)) as all_runs:
                for run in all_runs:
                    for _ in session.feed(run, metadata):
                        if source.reached(session.count):
                            return True
    except MalformedError as error:
        # Nothing after it can be read.
        source.faults.report(Place(path, session.record + 1).error(error))
    except READ_ERRORS as error:
        if isinstance(error, FeedError):
            raise
        source.faults.report(
            FeedError(f"cannot be read any further: {error}", path=path, line=session.record + 1)
        )
    return False


def _metadata(stream: BufferedReader) -> DbnMetadata:
    version, length = metadata_length(_whole(stream, PREFIX_BYTES))
    return parse_metadata(version, _whole(stream, length))


def _whole(stream: BufferedReader, count: int) -> bytes:
    content = stream.read(count)
    if len(content) < count:
        raise MalformedError("is cut off", "metadata")
    return content


def _runs(stream: Any) -> Generator[Run, None, None]:
    rest, first = b"", 0
    while chunk := stream.read1(CHUNK_BYTES):
        rest += chunk
        end = 0
        for run in runs(rest, first):
            yield run
            first, end = first + run.records, end + len(run.content)
        rest = rest[end:]
    if rest:
        raise MalformedError(f"is cut off: {len(rest)} bytes of a record", "length")
