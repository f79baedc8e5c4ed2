"""The files that a command leaves, beside a capture."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import velox
from velox.cli.screen import STDOUT
from velox.errors import ConfigError
from velox.runtime.hardware import describe_machine
from velox.telemetry import HistogramLog, naming, replacing, writing

__all__ = ["histogram_log", "json_file", "refuse_overwriting", "refuse_sharing"]


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


def refuse_sharing(**paths: str | None) -> None:
    """Refuse that two results are to be written to one file."""
    taken: dict[str, str] = {}
    for name, path in paths.items():
        if path is None:
            continue
        other = taken.setdefault(os.path.realpath(path), name)
        if other != name:
            raise ConfigError(f"{other} and {name} are the same file, {path!r}")


def refuse_overwriting(name: str, path: str | None, inputs: Sequence[Path]) -> None:
    """A recording is mapped while it is replayed: writing to it would end the process."""
    for each in inputs:
        with suppress(OSError):
            if path is not None and os.path.samefile(path, each):
                raise ConfigError(f"{name} = {path!r}: is the recording itself")
