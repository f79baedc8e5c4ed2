"""What a strategy in Python needs: its compiler, its state, the names of its world, its loader.

::

    import numpy as np
    from velox import strategy

    state = strategy.state(spread=2, lots=5, next_id=np.uint64(1))

    @strategy.compile(state=state)
    def quote(record, view, out, state):
        if record.kind != strategy.TIMER:
            return 0
        n = strategy.add(out, 0, state.next_id, strategy.BID,
                         view.bid_price - state.spread * view.tick_size, state.lots, record.market)
        state.next_id += np.uint64(1)
        return n

`compile` calls numba. The constants are plain integers, which compiled code may use. `add`,
`cancel` and `works` may be called in compiled code and from Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from velox.core.records import Kind, ReportFlags, Side
from velox.errors import StrategyError
from velox.runtime.feedback import StrategySource
from velox.runtime.numba_strategy import compiled
from velox.runtime.strategy import Strategy
from velox.runtime.strategy_helpers import add, cancel, works
from velox.runtime.strategy_loader import load, parameters_of
from velox.runtime.strategy_view import ORDER_DTYPE, STRATEGY_VIEW_DTYPE

__all__ = [
    "ORDER_DTYPE",
    "STRATEGY_VIEW_DTYPE",
    "StrategySource",
    "add",
    "cancel",
    "compile",
    "load",
    "parameters_of",
    "state",
    "works",
]

Function = Callable[..., int]

BID, ASK = int(Side.BID), int(Side.ASK)

ADD, CANCEL, EXECUTE = int(Kind.ADD), int(Kind.CANCEL), int(Kind.EXECUTE)
SET, SET_WIDE, DELETE = int(Kind.SET), int(Kind.SET_WIDE), int(Kind.DELETE)
CLEAR, TRADE = int(Kind.CLEAR), int(Kind.TRADE)

PLACED, FILLED, CANCELLED = int(Kind.PLACED), int(Kind.FILLED), int(Kind.CANCELLED)
REJECTED, CANCEL_REJECTED = int(Kind.REJECTED), int(Kind.CANCEL_REJECTED)
EXPIRED, BLOCKED, UNKNOWN = int(Kind.EXPIRED), int(Kind.BLOCKED), int(Kind.UNKNOWN)
TIMER, RESYNC = int(Kind.TIMER), int(Kind.RESYNC)
#: Records of this kind and above are reports and timers; those below are of the market.
FIRST_REPORT = PLACED

MAKER, LAST, AMOUNTS = int(ReportFlags.MAKER), int(ReportFlags.LAST), int(ReportFlags.AMOUNTS)

FEED_UNKNOWN, FEED_CROSSED, FEED_STALE, FEED_GAP = 1, 2, 4, 8

ORDER_FREE, ORDER_SENT, ORDER_OPEN, ORDER_PARTIAL = 0, 1, 2, 3
ORDER_CANCELLING, ORDER_UNKNOWN, ORDER_GONE = 4, 5, 6

NO_SLOT = 2**32 - 1


def state(**fields: Any) -> npt.NDArray[np.void]:
    """Make the state of a strategy: one record with these fields.

    Parameters
    ----------
    **fields : int, float, bool, NumPy number or array
        The first value of each field, which also gives its type: int64 for an int or a bool,
        float64 for a float, else NumPy's own. Ids and times are uint64: ``np.uint64(1)``. An array
        is a field of that shape.

    Returns
    -------
    ndarray, shape (1,)
        Its fields are the strategy's parameters and its memory. Python may read and write them
        while the pipeline runs, as far as single aligned 8-byte fields go: ``state["spread"][0]``.

    Raises
    ------
    StrategyError
        There are no fields, or one of them is no number.

    Examples
    --------
    >>> made = state(spread=2, share=0.5, ids=np.zeros(2, np.uint64))
    >>> made.dtype.names, made["spread"][0]
    (('spread', 'share', 'ids'), np.int64(2))
    """
    if not fields:
        raise StrategyError("a state needs at least one field")
    arrays = {name: _number(name, value) for name, value in fields.items()}
    made = np.zeros(1, [(name, each.dtype, each.shape) for name, each in arrays.items()])
    for name, each in arrays.items():
        made[name] = each
    return made


def _number(name: str, value: Any) -> npt.NDArray[Any]:
    if isinstance(value, bool | int):
        if not -(2**63) <= value < 2**63:
            raise StrategyError(f"state: {name} = {value}: must fit 64 bits; see np.uint64")
        return np.asarray(int(value), np.int64)
    array = np.asarray(value)
    if array.dtype.kind not in "iufb":
        raise StrategyError(f"state: {name} = {value!r}: must be a number or an array of numbers")
    return array


@overload
def compile(
    function: Function,
    *,
    state: npt.NDArray[Any] | None = None,
    reports: bool = True,
    boundscheck: bool = True,
) -> Strategy: ...
@overload
def compile(
    function: None = None,
    *,
    state: npt.NDArray[Any] | None = None,
    reports: bool = True,
    boundscheck: bool = True,
) -> Callable[[Function], Strategy]: ...
def compile(
    function: Function | None = None,
    *,
    state: npt.NDArray[Any] | None = None,
    reports: bool = True,
    boundscheck: bool = True,
) -> Strategy | Callable[[Function], Strategy]:
    """Compile a Python function to a strategy that takes reports and timers.

    A decorator, with or without arguments. It is `velox.numba_strategy` with two differences:
    `reports` is on by default, and a state of one record is passed as that record.

    Parameters
    ----------
    function : callable
        ``function(record, view, out)``, with `state` as a fourth argument if there is one. It
        returns how many records it wrote to `out`, on every path.
    state : ndarray, optional
        What `velox.strategy.state` makes, or any array that `velox.numba_strategy` takes.
    reports : bool
        Whether the function also gets reports of its orders, and timers.
    boundscheck : bool
        As in `velox.numba_strategy`.

    Returns
    -------
    Strategy

    Raises
    ------
    StrategyError
        As in `velox.numba_strategy`.

    Notes
    -----
    `view` has the fields of `STRATEGY_VIEW_DTYPE`, and:

    - ``view.depth(side, prices, quantities)`` as in `velox.numba_strategy`;
    - ``view.order(i)``: slot `i` of the order table, of `ORDER_DTYPE`, read-only. `i` is
      below ``view.order_capacity``; an IndexError otherwise;
    - ``view.find(id)``: the slot of a working order, or -1;
    - ``view.wake_at(ns)``: asks for a timer of this market at a time of the pipeline's clock. A
      new call moves it, and 0 takes it back.
    """
    if function is None:
        return lambda given: compile(given, state=state, reports=reports, boundscheck=boundscheck)
    one_record = (
        isinstance(state, np.ndarray) and state.dtype.names is not None and state.shape == (1,)
    )
    return compiled(
        function, state, boundscheck=boundscheck, reports=reports, one_record=one_record
    )
