"""The files that a command writes, apart from a capture."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import velox
from velox.cli.screen import STDOUT, one_line
from velox.errors import ConfigError
from velox.runtime.hardware import describe_machine
from velox.telemetry import HistogramLog, naming, replacing, write_document, writing

if TYPE_CHECKING:
    from velox.cli.signals import Signals
    from velox.core.histogram import LatencyHistogram

__all__ = ["JsonResult", "LogResult", "histogram_log", "json_file", "refuse_sharing"]

Files: TypeAlias = Iterable[tuple[str, str | os.PathLike[str] | None]]


@contextmanager
def json_file(path: str | None, signals: Signals) -> Iterator[IO[bytes] | None]:
    """Open the JSON document before the command runs, so that a bad path fails at once."""
    if path is None:
        yield None
    elif path == "-":
        if sys.stdout is None:
            raise ConfigError("json = '-': standard output is closed")
        yield (whole := io.BytesIO())
        with naming(STDOUT):
            sys.stdout.buffer.write(whole.getbuffer())
            sys.stdout.flush()
    else:
        with replacing(path, requests=lambda: signals.requests) as file:
            yield file


@contextmanager
def histogram_log(path: str | None, signals: Signals) -> Iterator[HistogramLog | None]:
    """Open the log, whose lines can be read while it grows; yield None without a path."""
    if path is None:
        yield None
        return
    if path == "-":
        raise ConfigError("hlog = '-': --hlog needs the name of a file")
    with writing(path, requests=lambda: signals.requests) as file:
        comment = f"velox {velox.__version__}, {describe_machine()}; values in ns"
        yield HistogramLog(file, time.time(), comment)


class JsonResult:
    """The JSON document of a run, open from the start and written at its end.

    Leaving the context without a document leaves no file.
    """

    def __init__(self, path: str | None, signals: Signals) -> None:
        self._open = ExitStack()
        self._file = self._open.enter_context(json_file(path, signals))
        self._to_stdout = path == "-"

    def __enter__(self) -> JsonResult:
        return self

    def __exit__(self, *exception: object) -> None:
        # Nothing is open any more if the document was written. Else: as if writing it had failed.
        with suppress(_UnwrittenError), self._open:
            raise _UnwrittenError

    def write(self, make: Callable[[], dict[str, Any]], errors: list[str]) -> None:
        """Write what `make` returns. If that fails, add to `errors` that it is lost."""
        if self._file is None:
            return
        try:
            with self._open.pop_all():
                write_document(make(), self._file)
        except OSError as error:
            if self._to_stdout and isinstance(error, BrokenPipeError):
                raise
            errors.append(f"{one_line(error)}; the JSON document is lost")


class _UnwrittenError(Exception):
    """Ends the context of a document that was not written."""


class LogResult:
    """The log of a run's latencies. Once it cannot be written, the run goes on without it.

    Parameters
    ----------
    path : str or None
        None: there is no log.
    signals : Signals
    errors : list of str
        Gets a line if the rest of the log is lost.
    """

    def __init__(self, path: str | None, signals: Signals, errors: list[str]) -> None:
        self._errors = errors
        self._open = ExitStack()
        self._log = self._open.enter_context(histogram_log(path, signals))

    def __enter__(self) -> LogResult:
        return self

    def __exit__(self, *exception: object) -> None:
        with self._or_lost():
            self._open.close()

    def write_interval(self, latency: Mapping[str, LatencyHistogram], until_s: float) -> None:
        """Log what has been measured since the last interval; see `HistogramLog`."""
        if self._log is not None:
            with self._or_lost():
                self._log.write_interval(latency, until_s=max(until_s, self._log.until_s))

    @contextmanager
    def _or_lost(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._errors.append(f"{one_line(error)}; the rest of the log is lost")
            self._log = None
            # What is left in the buffer cannot be written, and close would try again.
            with suppress(OSError):
                self._open.close()


def refuse_sharing(outputs: Files, inputs: Files = ()) -> None:
    """Raise ConfigError if an output is also an input or another output. Opens none of them.

    Parameters
    ----------
    outputs, inputs : iterable of (str, path or None)
        A name for each, and its path. None and ``"-"`` are skipped.
    """
    taken = {mark: name for name, path in inputs for mark in _marks(path)}
    for name, path in outputs:
        for mark in _marks(path):
            other = taken.setdefault(mark, name)
            if other != name:
                raise ConfigError(f"{other} and {name} are the same file, {str(path)!r}")


def _marks(path: str | os.PathLike[str] | None) -> Iterator[object]:
    """Yield what identifies a file under any name, whether or not it exists yet."""
    if path is None or path == "-":
        return
    yield os.path.realpath(path)
    with suppress(OSError):
        found = os.stat(path)
        yield found.st_dev, found.st_ino
