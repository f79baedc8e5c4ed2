"""Writes recordings: as ``.npy`` files that `load` reads back equal."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from velox.core.records import TRANSACTION_DTYPE
from velox.errors import CaptureError, ConfigError
from velox.feeds.files.hftbacktest import save_hftbacktest
from velox.feeds.recording import Recording
from velox.runtime.sidecar import (
    array_beside,
    read_sidecar,
    refuse_foreign_sidecar,
    replace_file,
    sidecar_of,
    write_all,
    write_sidecar,
)

__all__ = ["keep_venue_times", "save", "written_by_save"]

VENUE_TIMES, KNOWN = "venue_ts_ns", "known"

PathLike = str | os.PathLike[str]


def written_by_save(path: PathLike) -> tuple[str, ...]:
    """Name all files that `save` may write for `path`.

    Examples
    --------
    >>> written_by_save("flow.npy")[1:]
    ('flow.npy.markets.json', 'flow.npy.venue_ts_ns.npy', 'flow.npy.known.npy')
    """
    name = os.fsdecode(path)
    if name.endswith(".npz"):
        return (name,)
    return (name, sidecar_of(path), array_beside(path, VENUE_TIMES), array_beside(path, KNOWN))


def save(recording: Recording, path: PathLike) -> None:
    """Write a recording to a ``.npy`` file and its sidecar, or as hftbacktest's ``.npz``.

    ``NAME.npy`` holds the records. ``NAME.npy.markets.json`` holds the markets: names, scales,
    ticks, lots and levels. It names the arrays beside it: ``NAME.npy.venue_ts_ns.npy`` has the
    venue's times, unless all are unknown, and ``NAME.npy.known.npy`` how deep the books are known.
    `load` reads all of them. Checks, gaps and what was left aside are not kept.

    Parameters
    ----------
    recording : Recording
    path : path
        Its name must end with ``.npy``, or with ``.npz``: see
        `velox.feeds.hftbacktest.save_hftbacktest`.

    Raises
    ------
    CaptureError
        A file cannot be written, or another file is where the sidecar would be. The file at `path`
        is written last, so an old one is unchanged then.
    ConfigError
        The name has another ending, or the recording cannot be hftbacktest's.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from velox.feeds import load
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "orders.csv").write_text("34200.5,1,17,200,308700,1\\n")
    >>> save(load(folder / "orders.csv"), folder / "orders.npy")
    >>> load(folder / "orders.npy").instruments[0].tick_size
    100
    """
    name = os.fsdecode(path)
    if not name.endswith((".npy", ".npz")):
        raise ConfigError(f"path = {name!r}: must end with .npy or .npz")
    _refuse_irregular(name)
    if name.endswith(".npz"):
        save_hftbacktest(recording, name)
        return
    refuse_foreign_sidecar(path)
    old = read_sidecar(path)
    arrays: dict[str, str] = {}
    for key, array in ((VENUE_TIMES, recording.venue_ts_ns), (KNOWN, recording.known)):
        if array.view(np.uint8).any():
            arrays[key] = array_beside(path, key)
            replace_file(arrays[key], _writer(array))
    write_sidecar(
        path,
        recording.instruments,
        levels=True,
        transactions=len(recording),
        arrays=arrays,
    )
    replace_file(name, _writer(recording.transactions))
    for key in (VENUE_TIMES, KNOWN):
        if old is not None and key in old.arrays and key not in arrays:
            with suppress(OSError):
                os.unlink(old.arrays[key])


def keep_venue_times(recording: Recording, capture: PathLike) -> bool:
    """Add the venue's times of a recording to the capture of its replay.

    The records of the capture must be those of the recording, one by one, in any number of passes.
    Only `ingress_ts_ns` may differ. This is so if no strategy changed them and no book rejected
    one. Otherwise nothing is written, since it is unknown which record came from which.

    Parameters
    ----------
    recording : Recording
        What was replayed.
    capture : path
        A complete capture of the replay, with its sidecar.

    Returns
    -------
    bool
        Whether the times were added.

    Raises
    ------
    CaptureError
        A file cannot be written.
    FeedError
        The sidecar cannot be read.
    """
    sidecar = read_sidecar(capture)
    if sidecar is None or not len(recording) or not recording.venue_ts_ns.any():
        return False
    bundles = np.load(capture, mmap_mode="r", allow_pickle=False)
    filled = np.arange(bundles.dtype["transactions"].shape[0]) < bundles["count"][:, np.newaxis]
    transactions = bundles["transactions"][filled]
    columns = [name for name in TRANSACTION_DTYPE.names or () if name != "ingress_ts_ns"]
    for begin in range(0, len(transactions), len(recording)):
        part = transactions[begin : begin + len(recording)]
        if any((part[name] != recording.transactions[name][: len(part)]).any() for name in columns):
            return False
    array = array_beside(capture, VENUE_TIMES)
    replace_file(array, _writer(np.resize(recording.venue_ts_ns, len(transactions))))
    write_sidecar(
        capture,
        sidecar.markets,
        levels=sidecar.levels,
        transactions=len(transactions),
        arrays={**sidecar.arrays, VENUE_TIMES: array},
    )
    return True


def _refuse_irregular(name: str) -> None:
    try:
        mode = os.stat(name).st_mode
    except (OSError, ValueError):
        return  # it does not exist, or opening it says what is wrong
    if not stat.S_ISREG(mode):
        raise CaptureError("is not a regular file", path=name)


def _writer(array: npt.NDArray[Any]) -> Callable[[BinaryIO], None]:
    def write(file: BinaryIO) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(array.dtype),
            "fortran_order": False,
            "shape": array.shape,
        }
        np.lib.format.write_array_header_1_0(file, header)
        write_all(file, np.ascontiguousarray(array).view(np.uint8).data)

    return write
