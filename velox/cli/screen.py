"""The output for the user: the report, and warnings and errors of one line each."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO, TypeAlias

from velox.errors import CaptureError
from velox.telemetry.files import naming

__all__ = [
    "FAILED",
    "GOOD",
    "INTERRUPTED",
    "STDERR",
    "STDOUT",
    "UNUSABLE",
    "Say",
    "Screen",
    "complain",
    "one_line",
    "silence",
    "warn",
]

#: The exit statuses of a command.
GOOD, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130

STDOUT, STDERR = "standard output", "standard error"

#: Prints lines.
Say: TypeAlias = Callable[..., None]


class Screen:
    """The stream of the report. If its reader goes away, the run stops normally.

    Parameters
    ----------
    stream : text file
    errors : list of str, optional
        Gets a line if the stream cannot be written, such as on a full disk. The run then goes on
        without it. If not given, `say` raises the error.
    """

    def __init__(self, stream: TextIO, errors: list[str] | None = None) -> None:
        self.stream = stream
        self.broken = False
        self._errors = errors
        self._lost = False

    def say(self, *lines: str) -> None:
        """Print lines without buffering; do nothing once the reader has gone."""
        if self.broken or self._lost:
            return
        try:
            with naming(STDOUT if self.stream is sys.stdout else STDERR):
                print(*lines, sep="\n", file=self.stream, flush=True)
        except OSError as error:
            silence(self.stream)
            if isinstance(error, BrokenPipeError):
                self.broken = True
                return
            self._lost = True
            if self._errors is None:
                raise
            self._errors.append(f"{one_line(error)}; the rest of the report is lost")


def silence(stream: TextIO) -> None:
    """Discard buffered output, so that the interpreter does not report it when it exits."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def one_line(error: BaseException) -> str:
    """Describe an error and its file in one line."""
    if isinstance(error, CaptureError):
        text = error.strerror or str(error)
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    else:
        text = str(error) or ("out of memory" if isinstance(error, MemoryError) else repr(error))
    return " ".join(text.split())


def complain(text: str) -> None:
    """Print an error."""
    with suppress(OSError):
        print(f"velox: error: {text}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Print a warning."""
    with suppress(OSError):
        print(f"velox: warning: {text}", file=sys.stderr, flush=True)
