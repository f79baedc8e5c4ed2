"""Loading a signing key from a file or a descriptor that only its owner can read.

No error and no traceback of this module holds any part of a key. A frame that raises never holds a
key. No error is raised while another error, which may hold the input, is handled.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Final

from solders.keypair import Keypair

from velox.errors import KeyFileError

__all__ = ["open_key_file", "read_keypair"]

_MAX_FILE_BYTES: Final = 4096
_KEY_TEXT: Final = re.compile(rb"\s*\[\s*([0-9]{1,3}(?:\s*,\s*[0-9]{1,3})*)\s*\]\s*")
# A seed alone, or a seed and its public key.
_SEED_BYTES, _KEYPAIR_BYTES = 32, 64


def open_key_file(path: str | os.PathLike[str]) -> int:
    """Open a file for `read_keypair`, and return its descriptor.

    Raises
    ------
    KeyFileError
        The file cannot be opened.
    """
    try:
        # O_NONBLOCK: opening a pipe must not wait for its writer.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        why = error.strerror or "cannot be opened"
    except ValueError as error:
        why = str(error)
    raise KeyFileError(why, path=os.fspath(path))


def read_keypair(fd: int, path: str, *, anonymous: bool) -> Keypair:
    """Read a key as the Solana tools write it: a JSON array of 64 bytes, or of the 32 of a seed.

    Parameters
    ----------
    fd : int
        The descriptor. The caller closes it.
    path : str
        The name of the file in errors.
    anonymous : bool
        Whether a pipe, a socket or a file without a name is allowed.

    Raises
    ------
    KeyFileError
        It is not a regular file, another user owns it, its mode is not 0600 or stricter, or it
        holds no key.
    """
    why = _refusal(fd, anonymous=anonymous)
    if why is None:
        # A list, so that the key never is a variable of this frame.
        keys: list[Keypair] = []
        why = _read(fd, keys)
        if why is None:
            return keys.pop()
    raise KeyFileError(why, path=path)


def _refusal(fd: int, *, anonymous: bool) -> str | None:
    """Return why no key may be read from `fd`; None if it may."""
    try:
        status = os.fstat(fd)
    except OSError as error:
        return error.strerror or "its status cannot be read"
    mode = status.st_mode
    if not stat.S_ISREG(mode):
        allowed = anonymous and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode))
        return None if allowed else "not a regular file"
    if anonymous and status.st_nlink == 0:
        return None
    if status.st_uid != os.geteuid():
        return f"owned by user {status.st_uid}, not by {os.geteuid()}"
    if stat.S_IMODE(mode) & ~0o600:
        return f"mode {stat.S_IMODE(mode):04o}: must be 0600 or stricter (chmod 600)"
    return None


def _read(fd: int, keys: list[Keypair]) -> str | None:
    """Append the key in `fd` to `keys`, or return why there is none, without quoting the file."""
    data = bytearray()
    try:
        while len(data) <= _MAX_FILE_BYTES:
            part = os.read(fd, _MAX_FILE_BYTES)
            if not part:
                break
            data += part
    except OSError as error:
        return error.strerror or "cannot be read"
    if len(data) > _MAX_FILE_BYTES:
        return f"longer than {_MAX_FILE_BYTES} bytes"
    match = _KEY_TEXT.fullmatch(data)
    numbers = [] if match is None else [int(each) for each in match[1].split(b",")]
    if match is None or max(numbers) > 255:
        return "not a JSON array of bytes"
    if len(numbers) not in {_SEED_BYTES, _KEYPAIR_BYTES}:
        return f"{len(numbers)} bytes: a key has {_KEYPAIR_BYTES}, a seed {_SEED_BYTES}"
    keypair = Keypair.from_seed(bytes(numbers[:_SEED_BYTES]))
    if len(numbers) == _KEYPAIR_BYTES and bytes(keypair.pubkey()) != bytes(numbers[_SEED_BYTES:]):
        return "its public half does not match its secret half"
    # Clears this one copy. Python cannot clear the others.
    data[:] = bytes(len(data))
    keys.append(keypair)
    return None
