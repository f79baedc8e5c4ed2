"""The entry point of the command line."""

from __future__ import annotations

import errno
import io
import sys
from collections.abc import Sequence

from velox.cli.parser import parse
from velox.cli.screen import (
    FAILED,
    INTERRUPTED,
    STDOUT,
    UNUSABLE,
    complain,
    one_line,
    silence,
)
from velox.cli.signals import Signals
from velox.errors import LedgerError, ThreadError, VeloxError

__all__ = ["main"]

# Failures of the system, not of the arguments.
SYSTEM_FAILURES = {errno.ENOSPC, errno.EDQUOT, errno.EIO}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Parameters
    ----------
    arguments : sequence of str, optional
        ``sys.argv[1:]`` if not given.

    Returns
    -------
    int
        The exit status: 0 good, 1 a check or a stage failed, 2 bad usage or bad input, 130
        interrupted before there was a report.

    Raises
    ------
    SystemExit
        After ``--help`` and ``--version``, and for usage errors: as argparse does it.
    """
    # A path may not be valid text, and a terminal may not support UTF-8.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    with Signals() as signals:
        try:
            options = parse(sys.argv[1:] if arguments is None else arguments)
            status: int = options.command(options, signals)
        except KeyboardInterrupt:
            complain("interrupted; nothing was done")
            return INTERRUPTED
        except BrokenPipeError as error:
            silence(sys.stdout)
            if error.filename not in (None, STDOUT):
                complain(one_line(error))
            return FAILED
        except (VeloxError, OSError, MemoryError) as error:
            if getattr(error, "filename", None) == STDOUT:
                # What is buffered cannot be written either.
                silence(sys.stdout)
            complain(one_line(error))
            failed = isinstance(error, LedgerError | ThreadError | MemoryError)
            failed = failed or getattr(error, "errno", None) in SYSTEM_FAILURES
            return FAILED if failed else UNUSABLE
        except BaseException as error:
            # A panic of an extension in Rust is not an Exception.
            if type(error).__module__ != "pyo3_runtime":
                raise
            complain(one_line(error))
            return FAILED
    return status
