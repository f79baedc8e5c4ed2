"""The files that a command writes, apart from a capture."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TypeAlias

import velox
from velox.cli.screen import STDOUT
from velox.errors import ConfigError
from velox.runtime.hardware import describe_machine
from velox.telemetry import HistogramLog, naming, replacing, writing

__all__ = ["histogram_log", "json_file", "refuse_sharing"]

Files: TypeAlias = Iterable[tuple[str, str | os.PathLike[str] | None]]


@contextmanager
def json_file(path: str | None) -> Iterator[IO[bytes] | None]:
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
        with replacing(path) as file:
            yield file


@contextmanager
def histogram_log(path: str | None) -> Iterator[HistogramLog | None]:
    """Open the log, whose lines can be read while it grows; yield None without a path."""
    if path is None:
        yield None
        return
    if path == "-":
        raise ConfigError("hlog = '-': --hlog needs the name of a file")
    with writing(path) as file:
        comment = f"velox {velox.__version__}, {describe_machine()}; values in ns"
        yield HistogramLog(file, time.time(), comment)


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
