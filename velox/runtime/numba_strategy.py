"""A strategy from a Python function that numba compiles. An exception in it ends the run."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from velox.errors import StrategyError
from velox.runtime.signature import strategy_signature
from velox.runtime.strategy import Strategy

__all__ = ["numba_strategy"]

# What a function that raised returns. The stage treats any negative number as a failure.
RAISED, LEAST = -1, -(2**31)
ARGUMENTS = ("record", "book", "out", "state")
LONGEST = 200

Function = Callable[..., int]


@overload
def numba_strategy(function: Function, *, state: npt.NDArray[Any] | None = None) -> Strategy: ...
@overload
def numba_strategy(
    function: None = None, *, state: npt.NDArray[Any] | None = None
) -> Callable[[Function], Strategy]: ...
def numba_strategy(
    function: Function | None = None, *, state: npt.NDArray[Any] | None = None
) -> Strategy | Callable[[Function], Strategy]:
    """Compile a Python function to a `Strategy`; a decorator, with or without arguments.

    Parameters
    ----------
    function : callable
        ``function(record, book, out)``, with `state` as a fourth argument where there is one. It
        gets what is behind the pointers of the published signature: one record of
        TRANSACTION_DTYPE, one of BOOK_VIEW_DTYPE, an array of TRANSACTION_DTYPE to write to, and
        `state` itself. It returns how many records it wrote, 0 to ``len(out)``, on every
        path. `out` is zeros, but for what an earlier call wrote there and did not return.
    state : ndarray, optional
        Writable and contiguous; shared, not copied: see `Strategy`.

    Returns
    -------
    Strategy
        Compiled; the function itself is not called by Python any more.

    Raises
    ------
    StrategyError
        numba is not installed, `state` cannot be shared, or numba cannot compile the function; its
        own error is the cause.

    Notes
    -----
    The function runs without the GIL: numba's nopython mode, with the division rules of NumPy
    (``x / 0`` is inf or nan, and raises nothing). An exception that it raises ends the run with a
    `StrategyError`, as a negative return does; which one it was cannot be told.

    Examples
    --------
    >>> @velox.numba_strategy(state=np.zeros(1, np.int64))                      # doctest: +SKIP
    ... def every_other(record, book, out, state):
    ...     state[0] += 1
    ...     if state[0] % 2:
    ...         return 0
    ...     out[0] = record
    ...     return 1
    """
    if function is None:
        return lambda given: numba_strategy(given, state=state)
    if not callable(function):
        raise StrategyError(f"{function!r} is no function that numba could compile")
    signature = strategy_signature(None if state is None else _checked(state).dtype)
    _require_arguments(function, len(ARGUMENTS) - (state is None))
    return Strategy(_compiled(function, signature, state), user_data=state)


def _checked(state: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not isinstance(state, np.ndarray) or state.dtype.hasobject:
        raise StrategyError("state must be an array of numbers or of plain records")
    return state


def _compiled(function: Function, signature: Any, state: npt.NDArray[Any] | None) -> Any:
    import numba  # noqa: PLC0415 - an extra, and slow to import; the signature has it already

    untyped: Any = numba
    carray = untyped.carray
    try:
        body = untyped.njit(error_model="numpy")(function)
        _require_integer(function, body, signature, state, untyped)
    except StrategyError:
        raise
    except Exception as error:  # whatever comes out of a compiler
        raise StrategyError(f"numba cannot compile {_name(function)}: {_gist(error)}") from error
    if state is None:

        def call(record, book, out, room, user_data):  # type: ignore[no-untyped-def]
            try:
                made = body(carray(record, 1)[0], carray(book, 1)[0], carray(out, room))
                # Before it is narrowed to 32 bits.
                return min(made, room + 1) if made >= LEAST else RAISED
            except Exception:  # numba knows no other kind
                return RAISED
    else:
        shape = state.shape

        def call(record, book, out, room, user_data):  # type: ignore[no-untyped-def]
            try:
                made = body(
                    carray(record, 1)[0],
                    carray(book, 1)[0],
                    carray(out, room),
                    carray(user_data, shape),
                )
                return min(made, room + 1) if made >= LEAST else RAISED
            except Exception:
                return RAISED

    call.__name__ = getattr(function, "__name__", "strategy")
    try:
        return untyped.cfunc(signature)(call)
    except Exception as error:  # whatever comes out of a compiler
        raise StrategyError(f"numba cannot compile {_name(function)}: {_gist(error)}") from error


def _require_integer(
    function: Function, body: Any, signature: Any, state: npt.NDArray[Any] | None, numba: Any
) -> None:
    """Compile the function by itself, and refuse it if it may return anything but an integer."""
    types, (record, book, out, _, user_data) = numba.types, signature.args
    arguments = [record.dtype, book.dtype, types.Array(out.dtype, 1, "C", aligned=False)]
    if state is not None:
        arguments.append(types.Array(user_data.dtype, state.ndim, "C", aligned=False))
    body.compile(tuple(arguments))
    returned = body.nopython_signatures[-1].return_type
    if not isinstance(returned, types.Integer | types.Boolean):
        literal = isinstance(returned, types.Literal) and isinstance(returned.literal_value, int)
        if not literal:
            raise StrategyError(
                f"{_name(function)} returns {returned}: every path of it must return how many "
                "transactions it wrote"
            )


def _require_arguments(function: Function, count: int) -> None:
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError) as error:
        raise StrategyError(
            f"{_name(function)}: {error}; a strategy takes {', '.join(ARGUMENTS[:count])}"
        ) from None


def _name(function: Function) -> str:
    return str(getattr(function, "__qualname__", repr(function)))


def _gist(error: Exception) -> str:
    """Return the line of numba's message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = next((line for line in lines if not line.startswith("Failed in")), "")
    found = f"{type(error).__name__}: {found}"
    return found if len(found) <= LONGEST else found[:LONGEST] + "…"
