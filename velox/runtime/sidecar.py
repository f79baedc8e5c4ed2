"""Sidecars: a file beside a ``.npy`` of records that says what its markets are.

The records of a capture or of a converted recording do not say how many decimals their prices
have, nor when the venue sent them. ``NAME.npy.markets.json`` does: it holds the markets, and names
further arrays that are parallel to the records. `sidecar_of` gives its path.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from velox.core.instrument import Instrument
from velox.errors import BookError, CaptureError, FeedError

__all__ = [
    "Sidecar",
    "array_beside",
    "capture_error",
    "markets_of_capture",
    "parallel_array",
    "read_sidecar",
    "refuse_foreign_sidecar",
    "remove_sidecar",
    "replace_file",
    "sidecar_of",
    "write_all",
    "write_sidecar",
]

# What a sidecar says that it is, and the version of its keys.
SIDECAR_KIND, SIDECAR_VERSION = "velox capture", 1
# The sidecar of 256 markets with long names is far smaller.
SIDECAR_LIMIT = 1 << 20
MARKET_KEYS = {"market", "name", "price_decimals", "tick_size", "lot_size"}


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What a sidecar says.

    Attributes
    ----------
    path : str
        Of the sidecar itself.
    markets : tuple of Instrument
    levels : bool
        Whether it says how many levels the markets' books keep hot.
    transactions : int or None
        How many records its file has; None if it does not say, as for captures.
    arrays : dict of str to str
        The path of each array that is parallel to the records, by its name.
    """

    path: str
    markets: tuple[Instrument, ...]
    levels: bool = False
    transactions: int | None = None
    arrays: Mapping[str, str] = field(default_factory=dict)


def sidecar_of(path: str | os.PathLike[str]) -> str:
    """Name the file that says what the markets of a capture are.

    Examples
    --------
    >>> sidecar_of("bundles.npy")
    'bundles.npy.markets.json'
    """
    return f"{os.fsdecode(path)}.markets.json"


def array_beside(path: str | os.PathLike[str], name: str) -> str:
    """Name the file of an array that is parallel to the records of `path`.

    Examples
    --------
    >>> array_beside("flow.npy", "venue_ts_ns")
    'flow.npy.venue_ts_ns.npy'
    """
    return f"{os.fsdecode(path)}.{name}.npy"


def refuse_foreign_sidecar(path: str | os.PathLike[str]) -> None:
    """Refuse to replace a file that is no sidecar.

    Raises
    ------
    CaptureError
        There is such a file where the sidecar of `path` would be.
    """
    try:
        read_sidecar(path)
    except FeedError as error:
        raise CaptureError(
            f"is not the sidecar of a capture, and is left as it is: {error.why}", path=error.path
        ) from error


def remove_sidecar(path: str | os.PathLike[str]) -> None:
    """Remove the sidecar of `path`, if there is one.

    Raises
    ------
    OSError
        It cannot be removed.
    """
    with suppress(FileNotFoundError):
        os.unlink(sidecar_of(path))


def write_sidecar(
    path: str | os.PathLike[str],
    instruments: Sequence[Instrument],
    *,
    levels: bool = False,
    transactions: int | None = None,
    arrays: Mapping[str, str] | None = None,
) -> None:
    """Write the sidecar of `path`, or replace it.

    Parameters
    ----------
    path : path
        The file of records.
    instruments : sequence of Instrument
    levels : bool
        Whether to say how many levels the markets' books keep hot.
    transactions : int, optional
        How many records the file has.
    arrays : mapping of str to str, optional
        Paths of parallel arrays in the same folder, by name.

    Raises
    ------
    CaptureError
        It cannot be written.
    """
    value: dict[str, Any] = {
        "kind": SIDECAR_KIND,
        "version": SIDECAR_VERSION,
        "markets": [_market_value(each, levels) for each in instruments],
    }
    if transactions is not None:
        value["transactions"] = transactions
    if arrays:
        value["arrays"] = {name: os.path.basename(each) for name, each in arrays.items()}
    text = json.dumps(value, indent=2).encode("ascii") + b"\n"
    replace_file(sidecar_of(path), lambda file: write_all(file, text))


def _market_value(instrument: Instrument, levels: bool) -> dict[str, Any]:
    value: dict[str, Any] = {
        "market": instrument.market,
        "name": instrument.name,
        "price_decimals": instrument.price_decimals,
        "tick_size": instrument.tick_size,
        "lot_size": f"{instrument.lot_size:f}",
    }
    if levels:
        value["levels"] = instrument.levels
    return value


def replace_file(path: str, write: Callable[[BinaryIO], None]) -> None:
    """Write a file that takes its name once it is complete.

    Parameters
    ----------
    path : str
    write : callable
        Writes the content to a file that it is given.

    Raises
    ------
    CaptureError
        The file cannot be written; the old file at `path` is then unchanged.
    """
    part = f"{path}.{os.getpid()}.part"
    try:
        with open(part, "wb", buffering=0) as file:
            write(file)
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(part)
        raise capture_error("cannot be created", path, error) from error


def write_all(file: BinaryIO, content: bytes | memoryview) -> None:
    """Write without a buffer: a nearly full disk takes a part of the bytes and refuses the rest."""
    while content:
        content = content[file.write(content) :]


def capture_error(what: str, path: str | os.PathLike[str], error: OSError) -> CaptureError:
    """Make a `CaptureError` of an error of the system."""
    return CaptureError(f"{what}: {error.strerror or error}", path=path, number=error.errno)


def markets_of_capture(path: str | os.PathLike[str]) -> tuple[Instrument, ...] | None:
    """Read what the markets of a capture are.

    Parameters
    ----------
    path : path
        The capture.

    Returns
    -------
    tuple of Instrument, or None
        None where the capture has no sidecar, as those of earlier versions.

    Raises
    ------
    FeedError
        The sidecar cannot be read; `path` is that of the sidecar.
    """
    sidecar = read_sidecar(path)
    return None if sidecar is None else sidecar.markets


def read_sidecar(path: str | os.PathLike[str]) -> Sidecar | None:
    """Read the sidecar of a file of records.

    Parameters
    ----------
    path : path
        The file of records.

    Returns
    -------
    Sidecar or None
        None where the file has none.

    Raises
    ------
    FeedError
        The sidecar cannot be read; `path` is that of the sidecar.
    """
    sidecar = sidecar_of(path)
    value = _json_of(sidecar)
    if value is None:
        return None
    if not isinstance(value, dict) or value.get("kind") != SIDECAR_KIND:
        raise FeedError(f"must be {SIDECAR_KIND!r}", path=sidecar, field="kind")
    if value.get("version") != SIDECAR_VERSION:
        raise FeedError(
            f"{value.get('version')!r} is not known; this reader knows {SIDECAR_VERSION}",
            path=sidecar,
            field="version",
        )
    markets = value.get("markets")
    if not isinstance(markets, list) or not markets:
        raise FeedError("must be a list of at least one market", path=sidecar, field="markets")
    found = tuple(
        _market_of(each, sidecar, f"markets[{number}]") for number, each in enumerate(markets)
    )
    if len({each.market for each in found}) != len(found):
        raise FeedError("names a market twice", path=sidecar, field="markets")
    transactions = value.get("transactions")
    if transactions is not None and (type(transactions) is not int or transactions < 0):
        raise FeedError("must be a number of records", path=sidecar, field="transactions")
    return Sidecar(
        path=sidecar,
        markets=found,
        levels=all("levels" in each for each in markets),
        transactions=transactions,
        arrays=_arrays_of(value.get("arrays", {}), sidecar),
    )


def _json_of(sidecar: str) -> object:
    """The value of a file of JSON; None if there is no file."""
    try:
        # Asked before it is opened: a pipe would wait for its writer.
        if not stat.S_ISREG(os.stat(sidecar).st_mode):
            raise FeedError("is not a regular file", path=sidecar)
        with open(sidecar, "rb") as file:
            text = file.read(SIDECAR_LIMIT + 1)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, FeedError):
            raise
        raise FeedError(f"cannot be read: {error}", path=sidecar) from error
    if len(text) > SIDECAR_LIMIT:
        raise FeedError(f"is longer than {SIDECAR_LIMIT} bytes", path=sidecar)
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FeedError(f"is not JSON: {error}", path=sidecar) from error
    return [] if value is None else value


def _market_of(value: object, sidecar: str, field: str) -> Instrument:
    if not isinstance(value, dict) or set(value) - {"levels"} != MARKET_KEYS:
        raise FeedError(
            f"must have the keys {', '.join(sorted(MARKET_KEYS))}", path=sidecar, field=field
        )
    given: dict[str, Any] = dict(value)
    lot = given.pop("lot_size")
    try:
        if not isinstance(lot, str):
            raise FeedError("must be decimal text", path=sidecar, field=f"{field}.lot_size")
        return Instrument(lot_size=Decimal(lot), **given)
    except (BookError, InvalidOperation) as error:
        raise FeedError(f"is no market: {error}", path=sidecar, field=field) from error


def _arrays_of(value: object, sidecar: str) -> dict[str, str]:
    """Check the names of parallel arrays. They are files of the sidecar's own folder."""
    if not isinstance(value, dict):
        raise FeedError("must be an object", path=sidecar, field="arrays")
    for name, each in value.items():
        if not isinstance(each, str) or not each or os.path.basename(each) != each:
            raise FeedError(
                f"{each!r} is not the name of a file in the same folder",
                path=sidecar,
                field=f"arrays.{name}",
            )
    return {name: os.path.join(os.path.dirname(sidecar), each) for name, each in value.items()}


def parallel_array(
    sidecar: Sidecar, name: str, dtype: npt.DTypeLike, length: int | None
) -> npt.NDArray[Any] | None:
    """Map an array that a sidecar names.

    Parameters
    ----------
    sidecar : Sidecar
    name : str
    dtype : dtype
    length : int or None
        The length that it must have; None for any.

    Returns
    -------
    ndarray, shape (n,), or None
        Read-only; None if the sidecar names no such array.

    Raises
    ------
    FeedError
        The array cannot be read, or has another dtype or length.
    """
    path = sidecar.arrays.get(name)
    if path is None:
        return None
    try:
        if not Path(path).is_file():
            raise FeedError(f"is named by {sidecar.path}, and is no file", path=path)
        # A file of no elements cannot be mapped.
        array = np.load(path, mmap_mode="r" if length else None, allow_pickle=False)
    except FeedError:
        raise
    # NumPy parses the header as Python source, so a damaged one can raise many kinds of errors.
    except Exception as error:
        raise FeedError(f"is a damaged .npy file: {error}", path=path) from error
    if array.dtype != np.dtype(dtype):
        raise FeedError(f"has dtype {array.dtype}; expected {dtype}", path=path, field="dtype")
    if array.ndim != 1 or (length is not None and len(array) != length):
        raise FeedError(
            f"has shape {array.shape}; expected ({'any' if length is None else length},)", path=path
        )
    mapped: npt.NDArray[Any] = array.view(np.ndarray)
    return mapped
