"""A report as one JSON object, and files that appear whole or not at all."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from velox.runtime.hiccups import Hiccups
from velox.runtime.report import Report

__all__ = ["document", "replacing", "write_document"]


def document(
    report: Report,
    *,
    command: str,
    version: str,
    interrupted: bool = False,
    errors: tuple[str, ...] = (),
    capture: str | None = None,
    hlog: str | None = None,
    hiccups: Sequence[Hiccups] = (),
    chain: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what ``--json`` writes: `Report.to_dict`, and how the run was asked for and ended.

    Parameters
    ----------
    report : Report
    command : str
        ``"run"`` or ``"replay"``.
    version : str
        Velox's.
    interrupted : bool
        Whether the run was stopped before it would have ended.
    errors : tuple of str
        What failed while it ran.
    capture : str, optional
        The file that holds the bundles.
    hlog : str, optional
        The file that holds the latencies of each second.
    hiccups : sequence of Hiccups
        The host's own, on the CPUs that ran the stages.
    chain : dict, optional
        `velox.solana.chain_ledger.ChainLedger.to_dict`, where orders were sent to the chain.
    """
    value = {
        "velox": version,
        "command": command,
        "passed": report.passed and not errors,
        "interrupted": interrupted,
        "errors": list(errors),
        "capture": capture,
        "hlog": hlog,
        **report.to_dict(),
        "hiccups": [each.to_dict() for each in hiccups],
    }
    if chain is not None:
        value["ledger"]["chain"] = chain
    return value


def write_document(value: dict[str, Any], file: IO[bytes]) -> None:
    """Write an object as JSON, to be read by people too.

    Text that is no UTF-8, as a path may be, is escaped; a number that JSON does not have is an
    error.
    """
    text = json.dumps(value, indent=2, allow_nan=False)
    file.write(text.encode("ascii") + b"\n")


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file that takes its name only once it is complete.

    Until then it stands beside it, as ``.NAME.PID.part``; where the block raises, it is removed and
    what `path` named before stays as it was. What is no regular file, such as a pipe or
    ``/dev/stdout``, is written directly.

    Parameters
    ----------
    path : path

    Yields
    ------
    file : binary file

    Raises
    ------
    OSError
        The file cannot be created or written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp(), "answer")
    >>> with replacing(path) as file:
    ...     _ = file.write(b"42")
    ...     path.exists()
    False
    >>> path.read_bytes()
    b'42'
    """
    # A link stays a link, to the new file.
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file() and not target.is_dir():
        with io.BufferedWriter(_File(target, "wb", path)) as file:
            yield file
        return
    if target.is_dir():
        raise IsADirectoryError(21, os.strerror(21), os.fspath(path))
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    file = io.BufferedWriter(_File(part, "xb", path))
    try:
        with file:
            yield file
            file.flush()
            with _named(path):
                os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


class _File(io.FileIO):
    """A file whose errors, that of a full disk too, bear the name that a person gave."""

    def __init__(self, path: Path, mode: str, known_as: str | os.PathLike[str]) -> None:
        self.known_as = known_as
        with _named(known_as):
            super().__init__(path, mode)

    def write(self, content: Any) -> int:
        with _named(self.known_as):
            return super().write(content)


@contextmanager
def _named(path: str | os.PathLike[str]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.filename = os.fspath(path)
        raise
