"""The C signature of a strategy, described for Python: NumPy dtypes, numba and ctypes."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from velox.core.records import TRANSACTION_DTYPE
from velox.errors import StrategyError

__all__ = ["BOOK_VIEW_DTYPE", "STRATEGY_CTYPE", "strategy_signature"]

# velox_book_view of velox/strategy.h, byte for byte.
BOOK_VIEW_DTYPE = np.dtype(
    [
        ("bid_price", "<i8"),
        ("bid_quantity", "<i8"),
        ("ask_price", "<i8"),
        ("ask_quantity", "<i8"),
        ("position", "<u8"),
        ("now_ns", "<u8"),
        ("tick_size", "<i8"),
        ("market", "<u8"),
        ("book", "<u8"),
        ("depth", "<u8"),
    ]
)

# (record, book, out, room, user_data) -> how many records were written to out
STRATEGY_CTYPE = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_void_p,
)


def strategy_signature(user_data: np.dtype[Any] | None = None) -> Any:
    """The numba signature of a strategy, for ``@numba.cfunc``.

    Parameters
    ----------
    user_data : numpy.dtype, optional
        The dtype of the elements of the strategy's `user_data`; bytes if not given.

    Returns
    -------
    numba.core.typing.Signature
        ``int32(record*, book*, out*, uint32, user_data*)``. ``numba.carray(record, 1)[0]`` is the
        record, and ``numba.carray(out, room)`` is the array into which the strategy may write.

    Raises
    ------
    StrategyError
        numba is not installed, or has no type for these elements.

    Examples
    --------
    >>> @numba.cfunc(velox.strategy_signature())                                # doctest: +SKIP
    ... def quiet(record, book, out, room, user_data):
    ...     return 0
    """
    try:
        import numba  # noqa: PLC0415 - an extra, and slow to import
        from numba import types  # noqa: PLC0415
    except ImportError as error:
        raise StrategyError("numba is not installed: pip install 'numba>=0.61'") from error
    pointer: Any = types.CPointer
    transaction = pointer(numba.from_dtype(TRANSACTION_DTYPE))
    try:
        element = types.uint8 if user_data is None else numba.from_dtype(user_data)
    except numba.core.errors.NumbaError as error:
        raise StrategyError(f"user_data of {user_data}: numba knows no such elements") from error
    return types.int32(
        transaction,
        pointer(numba.from_dtype(BOOK_VIEW_DTYPE)),
        transaction,
        types.uint32,
        pointer(element),
    )
