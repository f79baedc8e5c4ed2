"""The expected state of a book at given points of a recording, as arrays that C can compare."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from velox.errors import RecordError
from velox.runtime.checksum import BookChecksum

__all__ = ["ChecksumChecks", "DepthChecks"]


def _require(
    name: str, array: object, dtype: type[np.generic], shape: tuple[int | None, ...]
) -> None:
    """Require a contiguous array of `dtype` in native byte order.

    None in `shape` allows any length.
    """
    if not isinstance(array, np.ndarray):
        raise RecordError(f"expected an array, got {type(array).__name__}", field=name)
    if array.dtype != np.dtype(dtype):
        raise RecordError(f"expected dtype {np.dtype(dtype)}, got {array.dtype}", field=name)
    fits = len(array.shape) == len(shape) and all(
        wanted is None or wanted == actual
        for wanted, actual in zip(shape, array.shape, strict=True)
    )
    if not fits or not array.flags.c_contiguous:
        wanted_shape = ", ".join("any" if length is None else str(length) for length in shape)
        raise RecordError(
            f"expected a contiguous array of shape ({wanted_shape}), got shape {array.shape}",
            field=name,
        )


def _require_first(
    name: str, array: npt.NDArray[Any], faulty: npt.NDArray[np.bool_], why: str
) -> None:
    if faulty.any():
        index = int(np.argmax(faulty))
        raise RecordError(why, field=name, index=index, value=array[index].tolist())


def _require_positions(position: npt.NDArray[np.int64]) -> None:
    _require_first("position", position, position < 0, "must not be negative")
    descends = np.zeros(position.shape, np.bool_)
    descends[1:] = position[1:] < position[:-1]
    _require_first("position", position, descends, "must not be less than the one before it")


@dataclass(frozen=True, slots=True, eq=False)
class DepthChecks:
    """The best levels of both sides, at given moments.

    Attributes
    ----------
    position : ndarray, shape (n,), dtype int64
        How many of the recording's records have been applied when the check is due; ascending.
    market : ndarray, shape (n,), dtype uint8
        Whose book.
    prices : ndarray, shape (n, 2, depth), dtype int64
        In the units of the market's records. Side 0 is the bid, side 1 the ask; the best level
        comes first.
    quantities : ndarray, shape (n, 2, depth), dtype int64
        In lots; 0 where the book has no such level. The price of that level is then ignored.

    Raises
    ------
    RecordError
        An array has the wrong dtype or shape, positions descend, or a quantity is negative.

    Examples
    --------
    >>> import numpy as np
    >>> checks = DepthChecks(
    ...     position=np.array([4]),
    ...     market=np.zeros(1, np.uint8),
    ...     prices=np.array([[[999_900], [1_000_100]]]),
    ...     quantities=np.array([[[3], [5]]]),
    ... )
    >>> len(checks), checks.depth
    (1, 1)
    """

    position: npt.NDArray[np.int64]
    market: npt.NDArray[np.uint8]
    prices: npt.NDArray[np.int64]
    quantities: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        _require("position", self.position, np.int64, (None,))
        count = len(self.position)
        _require("market", self.market, np.uint8, (count,))
        _require("prices", self.prices, np.int64, (count, 2, None))
        _require("quantities", self.quantities, np.int64, (count, 2, self.prices.shape[2]))
        _require_positions(self.position)
        negative = np.asarray((self.quantities < 0).any(axis=(1, 2)), np.bool_)
        _require_first("quantities", self.quantities, negative, "must not be negative")

    @property
    def depth(self) -> int:
        """Levels a side."""
        return int(self.prices.shape[2])

    def __len__(self) -> int:
        return len(self.position)


@dataclass(frozen=True, slots=True, eq=False)
class ChecksumChecks:
    """The venue's own checksum of its book, at given moments.

    Attributes
    ----------
    position : ndarray, shape (n,), dtype int64
        How many of the recording's records have been applied when the check is due; ascending.
    market : ndarray, shape (n,), dtype uint8
        Whose book.
    checksum : ndarray, shape (n,), dtype int32
        What the venue said.
    algorithm : BookChecksum
        How the venue computes it; a feed supplies it.

    Raises
    ------
    RecordError
        An array has the wrong dtype or shape, positions descend, or `algorithm` is not a
        `BookChecksum`.

    Examples
    --------
    >>> import numpy as np
    >>> from velox.feeds.okx_checksum import OkxChecksum
    >>> checks = ChecksumChecks(
    ...     position=np.array([4]),
    ...     market=np.zeros(1, np.uint8),
    ...     checksum=np.array([-914047754], np.int32),
    ...     algorithm=OkxChecksum(),
    ... )
    >>> len(checks), checks.algorithm.levels
    (1, 25)
    """

    position: npt.NDArray[np.int64]
    market: npt.NDArray[np.uint8]
    checksum: npt.NDArray[np.int32]
    algorithm: BookChecksum

    def __post_init__(self) -> None:
        _require("position", self.position, np.int64, (None,))
        count = len(self.position)
        _require("market", self.market, np.uint8, (count,))
        _require("checksum", self.checksum, np.int32, (count,))
        _require_positions(self.position)
        if not isinstance(self.algorithm, BookChecksum):
            raise RecordError("must be a BookChecksum", field="algorithm", value=self.algorithm)

    def __len__(self) -> int:
        return len(self.position)
