"""What a person reads: lines of a report, warnings, and errors of one line."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TextIO

from velox.errors import CaptureError
from velox.telemetry.files import naming

__all__ = [
    "FAILED",
    "GOOD",
    "INTERRUPTED",
    "STDERR",
    "STDOUT",
    "UNUSABLE",
    "Screen",
    "complain",
    "one_line",
    "silence",
    "warn",
]

#: The exit statuses of a command.
GOOD, FAILED, UNUSABLE, INTERRUPTED = 0, 1, 2, 130

STDOUT, STDERR = "standard output", "standard error"


class Screen:
    """Where the report goes. One that nobody reads any more ends the run, in order."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.broken = False

    def say(self, *lines: str) -> None:
        """Print at once; not at all any more where nobody reads."""
        if self.broken:
            return
        try:
            with naming(STDOUT if self.stream is sys.stdout else STDERR):
                print(*lines, sep="\n", file=self.stream, flush=True)
        except OSError as error:
            self.broken = True
            silence(self.stream)
            if not isinstance(error, BrokenPipeError):
                raise


def silence(stream: TextIO) -> None:
    """Let what is still buffered go nowhere, so that the interpreter's end does not complain."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def one_line(error: BaseException) -> str:
    """What went wrong, and with which file."""
    if isinstance(error, CaptureError):
        text = error.strerror or str(error)
    elif isinstance(error, OSError) and error.filename is not None:
        text = f"{os.fsdecode(error.filename)}: {error.strerror}"
    else:
        text = str(error) or ("out of memory" if isinstance(error, MemoryError) else repr(error))
    return " ".join(text.split())


def complain(text: str) -> None:
    """Say what failed."""
    with suppress(OSError):
        print(f"velox: error: {text}", file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Say what a person can act on."""
    with suppress(OSError):
        print(f"velox: warning: {text}", file=sys.stderr, flush=True)
