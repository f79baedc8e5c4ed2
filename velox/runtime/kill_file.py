"""A kill switch in a file, for a person or another process to set.

The file is mapped by each process that uses it, so a switch that is set here is seen there at once.
"""

from __future__ import annotations

import errno
import mmap
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from velox.core.kill import KillSwitch
from velox.errors import ConfigError

__all__ = ["kill_on_signal", "open_kill_switch"]

_BYTES = 256


def open_kill_switch(path: str | os.PathLike[str], *, create: bool = True) -> KillSwitch:
    """Open the switch in a file, which stays as it was: a switch that is set stays set.

    Parameters
    ----------
    path : path-like
        A new file has mode 0600 and an armed switch. Do not shorten the file while it is in use: a
        process that maps it would be ended by the system.
    create : bool
        Whether to make the file if there is none.

    Returns
    -------
    KillSwitch

    Raises
    ------
    ConfigError
        The file is not a regular file, others may write to it, or it holds something else.
    OSError
        It cannot be opened, made or mapped.

    Notes
    -----
    Thread-safety: any thread of any process. Two processes may make the file at once.
    """
    where = Path(path)
    descriptor = _descriptor(where, create=create)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError("must be a regular file", field=str(where))
        if found.st_mode & 0o022:
            raise ConfigError("others may write to it: use mode 0600", field=str(where))
        if found.st_size < _BYTES:
            raise ConfigError("does not hold a kill switch", field=str(where))
        memory = mmap.mmap(descriptor, _BYTES)
    finally:
        os.close(descriptor)
    try:
        return KillSwitch(memory, path=where)
    except ConfigError as error:
        raise ConfigError(error.why, field=str(where)) from None


def _descriptor(path: Path, *, create: bool) -> int:
    """Open a file of a switch; make it, whole at once, if there is none."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        return os.open(path, flags)
    except FileNotFoundError:
        if not create:
            raise
    # Made beside its place and then linked, so that nobody opens a file that is half made. Zeros
    # are a new switch.
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    made = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.ftruncate(made, _BYTES)
        try:
            os.link(beside, path)
        except OSError as error:
            os.close(made)
            if error.errno != errno.EEXIST:
                raise
            made = os.open(path, flags)
        return made
    finally:
        os.unlink(beside)


def kill_on_signal(
    kill: KillSwitch, number: int = signal.SIGUSR1
) -> Callable[[int, FrameType | None], Any] | int | None:
    """Set a switch when this process gets a signal.

    Parameters
    ----------
    kill : KillSwitch
    number : int
        The signal; SIGUSR1 by default.

    Returns
    -------
    callable, int or None
        What the signal did before, for `signal.signal`.

    Raises
    ------
    ValueError
        This is not the main thread, or the signal cannot be caught.
    """

    def on_signal(number: int, frame: FrameType | None) -> None:
        kill.kill(f"signal {signal.Signals(number).name}")

    return signal.signal(number, on_signal)
