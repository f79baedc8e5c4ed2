"""A strategy from a Python function that numba compiles. An exception in it ends the run."""

from __future__ import annotations

import dis
import inspect
from collections.abc import Callable
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from velox.errors import StrategyError
from velox.runtime.signature import strategy_signature
from velox.runtime.strategy import Strategy

__all__ = ["compiled", "numba_strategy"]

ARGUMENTS = ("record", "book", "out", "state")
LONGEST = 200

Function = Callable[..., int]


@overload
def numba_strategy(
    function: Function,
    *,
    state: npt.NDArray[Any] | None = None,
    boundscheck: bool = True,
    reports: bool = False,
) -> Strategy: ...
@overload
def numba_strategy(
    function: None = None,
    *,
    state: npt.NDArray[Any] | None = None,
    boundscheck: bool = True,
    reports: bool = False,
) -> Callable[[Function], Strategy]: ...
def numba_strategy(
    function: Function | None = None,
    *,
    state: npt.NDArray[Any] | None = None,
    boundscheck: bool = True,
    reports: bool = False,
) -> Strategy | Callable[[Function], Strategy]:
    """Compile a Python function to a `Strategy`; a decorator, with or without arguments.

    Parameters
    ----------
    function : callable
        ``function(record, book, out)``, with `state` as a fourth argument if there is one. `record`
        is one record of TRANSACTION_DTYPE. `book` is one record of BOOK_VIEW_DTYPE and read-only.
        `out` is an array of 16 records of TRANSACTION_DTYPE to write to. It holds zeros, except
        what an earlier call wrote there and did not return. The function returns how many records
        it wrote, 0 to ``len(out)``, on every path.
    state : ndarray, optional
        The strategy's memory and its parameters. It must be writable and contiguous. It is shared,
        not copied: Python may change a parameter in it while the pipeline runs, as far as single
        aligned 8-byte fields go. See `Strategy`.
    boundscheck : bool
        Whether an index outside `out`, `state` or another array raises IndexError. Without it such
        an index reads or overwrites other memory: other orders, or the process.
    reports : bool
        Whether the function also takes reports of its orders, and timers. Their kinds are 16 and
        above. `book` is then one record of STRATEGY_VIEW_DTYPE, with ``order``, ``find`` and
        ``wake_at``. `velox.strategy.compile` does this by default.

    Returns
    -------
    Strategy
        Compiled. Python itself does not call the function any more.

    Raises
    ------
    StrategyError
        numba is not installed; `state` cannot be shared; numba cannot compile the function, and its
        error is the cause; or the function does something unsafe, with file and line:

        - It compares an int64 and a uint64, or makes one value of the two. numba would do that in
          floating point, which is exact only to 2**53; ids and times are larger. Use a state of
          np.uint64 for them, or convert one side: ``np.uint64(state[0])``.
        - It writes to `book`.
        - It calls a compiled function that uses arrays and checks no bounds.

    Notes
    -----
    The function runs without the GIL, in numba's nopython mode, with the division rules of NumPy:
    ``x / 0`` is inf or nan, and raises nothing.

    An exception that the function raises ends the run with a `StrategyError` that has its words.
    The exception itself is the error's ``__cause__``. Nothing of that call leaves.

    ``book.depth(side, prices, quantities)`` copies the best levels of a side, best first. The two
    int64 arrays have the same length, which says how many levels to copy. It returns how many there
    were. Slices of `state` serve: ``book.depth(0, state[8:16], state[16:24])``.

    A global array or number is frozen when the function is compiled: later changes are not seen.
    Put what may change into `state`.

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
        return lambda given: numba_strategy(
            given, state=state, boundscheck=boundscheck, reports=reports
        )
    return compiled(function, state, boundscheck=boundscheck, reports=reports)


def compiled(
    function: Function,
    state: npt.NDArray[Any] | None,
    *,
    boundscheck: bool,
    reports: bool,
    one_record: bool = False,
) -> Strategy:
    """Compile a function as `numba_strategy` says.

    Parameters
    ----------
    function : callable
    state : ndarray or None
    boundscheck, reports : bool
    one_record : bool
        Whether the function gets the state as one record, and not as an array.

    Returns
    -------
    Strategy
    """
    if not callable(function):
        raise StrategyError(
            f"{function!r} is no function that numba could compile", code="function"
        )
    for name, value in (("boundscheck", boundscheck), ("reports", reports)):
        if not isinstance(value, bool):
            raise StrategyError(f"{name} = {value!r}: must be True or False", code="argument")
    strategy_signature(None if state is None else _checked(state).dtype)
    _require_arguments(function, len(ARGUMENTS) - (state is None))
    kept: list[BaseException] = []
    made = _compiled(function, state, boundscheck, kept, reports=reports, one_record=one_record)
    strategy = Strategy(made, user_data=state)
    strategy._keeps_exceptions(kept)
    return strategy


def _checked(state: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if not isinstance(state, np.ndarray) or state.dtype.hasobject:
        raise StrategyError("state must be an array of numbers or of plain records", code="memory")
    return state


def _compiled(
    function: Function,
    state: npt.NDArray[Any] | None,
    boundscheck: bool,
    kept: list[BaseException],
    **options: bool,
) -> Any:
    from velox.runtime.numba_compiler import compiled_strategy  # noqa: PLC0415 - it imports numba

    try:
        return compiled_strategy(function, state, boundscheck, kept, **options)
    except StrategyError:
        raise
    except Exception as error:  # whatever comes out of a compiler
        raise StrategyError(
            f"numba cannot compile {_name(function)}{_place(function, error)}: {_gist(error)}",
            code="compile",
        ) from error


def _require_arguments(function: Function, count: int) -> None:
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError) as error:
        raise StrategyError(
            f"{_name(function)}: {error}; a strategy takes {', '.join(ARGUMENTS[:count])}",
            code="function",
        ) from None


def _name(function: Function) -> str:
    return str(getattr(function, "__qualname__", repr(function)))


def _place(function: Function, error: Exception) -> str:
    """Return the file and line that numba refused, as far as that is known."""
    if (loc := getattr(error, "loc", None)) is not None:
        return f" ({loc.filename}:{loc.line})"
    code = getattr(function, "__code__", None)
    if code is None or not isinstance(error, KeyError):
        return ""
    # A record has no such field, and numba says no more than its name.
    for each in dis.get_instructions(code):
        if each.opname in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR") and repr(each.argval) in str(
            error
        ):
            line = each.positions.lineno if each.positions else code.co_firstlineno
            return f" ({code.co_filename}:{line})"
    return ""


def _gist(error: Exception) -> str:
    """Return the line of numba's message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    found = next((line for line in lines if not line.startswith("Failed in")), "")
    # What a called function refuses stands further down.
    refused = (line for line in lines if line.startswith("TypingError: "))
    found = next((line for line in refused if "Failed in" not in line), found)
    if isinstance(error, KeyError):
        return f"a record has no field {lines[-1] if lines else ''}"
    found = f"{type(error).__name__}: {found.removeprefix('TypingError: ')}"
    return found if len(found) <= LONGEST else found[:LONGEST] + "…"
