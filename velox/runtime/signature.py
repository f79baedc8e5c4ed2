"""The strategy's signature for Python, for numba and for ctypes."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from velox.errors import StrategyError

__all__ = ["STRATEGY_CTYPE", "strategy_signature"]

# (record, book, out, room, user_data) -> how many records were written to out
STRATEGY_CTYPE = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_void_p,
)


def strategy_signature(user_data: np.dtype[Any] | None = None, *, reports: bool = False) -> Any:
    """The numba signature of a strategy, for ``@numba.cfunc``.

    Parameters
    ----------
    user_data : numpy.dtype, optional
        The dtype of the elements of the strategy's `user_data`; bytes if not given.
    reports : bool
        Whether the strategy takes reports and timers. `book` is then the longer view.

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
        import numba  # noqa: F401, PLC0415 - an extra, and slow to import
    except ImportError as error:
        raise StrategyError("numba is not installed: pip install 'numba>=0.61'") from error
    from velox.runtime.numba_compiler import signature  # noqa: PLC0415 - it imports numba

    return signature(user_data, reports=reports)
