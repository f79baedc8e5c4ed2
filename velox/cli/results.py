"""The files that a command leaves, beside a capture."""

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
    """Where the document goes; opened before anything runs, so that it does not run for nothing."""
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
    """Open the log, whose lines can be read while they come; None where there is to be none."""
    if path is None:
        yield None
        return
    if path == "-":
        raise ConfigError("hlog = '-': an .hlog file needs a name")
    with writing(path) as file:
        comment = f"velox {velox.__version__}, {describe_machine()}; values in ns"
        yield HistogramLog(file, time.time(), comment)


def refuse_sharing(outputs: Files, inputs: Files = ()) -> None:
    """Refuse, before any is opened, an output that is also an input or another output.

    Parameters
    ----------
    outputs, inputs : iterable of (str, path or None)
        What each is, and where. None and ``"-"`` are no files.
    """
    taken = {mark: name for name, path in inputs for mark in _marks(path)}
    for name, path in outputs:
        for mark in _marks(path):
            other = taken.setdefault(mark, name)
            if other != name:
                raise ConfigError(f"{other} and {name} are the same file, {str(path)!r}")


def _marks(path: str | os.PathLike[str] | None) -> Iterator[object]:
    """By what a file is known, whatever it is called and whether or not it is there yet."""
    if path is None or path == "-":
        return
    yield os.path.realpath(path)
    with suppress(OSError):
        found = os.stat(path)
        yield found.st_dev, found.st_ino
