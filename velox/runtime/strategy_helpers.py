"""Functions that a compiled strategy calls: they write orders and read the table.

numba compiles them into the strategy. Python itself can call them too, with arrays of
`TRANSACTION_DTYPE` and records of `ORDER_DTYPE`. They check their own indices, whatever the
strategy's `boundscheck` is.
"""

from __future__ import annotations

from typing import Any

from velox.core.records import Kind

__all__ = ["COMPILED", "add", "cancel", "works"]

ADD, CANCEL = int(Kind.ADD), int(Kind.CANCEL)
FREE, GONE = 0, 6


def add(  # noqa: PLR0917 - as in a compiled strategy
    out: Any, n: int, id: Any, side: int, price: int, size: int, market: int, flags: int = 0
) -> int:
    """Write an order into ``out[n]``.

    Parameters
    ----------
    out : array of TRANSACTION_DTYPE
        The strategy's room.
    n : int
        How many records are in it.
    id : int
        The order's number: not 0, and not that of a working order.
    side : int
        `BID` or `ASK`.
    price : int
        On the market's tick grid.
    size : int
        In lots.
    market : int
    flags : int

    Returns
    -------
    int
        How many records are in `out` now.

    Raises
    ------
    IndexError
        `out` has no room.
    """
    if n < 0 or n >= len(out):
        raise IndexError("velox.strategy.add: out has no room for another record")
    order = out[n]
    order["id"] = id
    order["price"] = price
    order["size"] = size
    order["side"] = side
    order["kind"] = ADD
    order["flags"] = flags
    order["market"] = market
    order["ingress_ts_ns"] = 0
    return n + 1


def cancel(  # noqa: PLR0917 - as in a compiled strategy
    out: Any, n: int, id: Any, side: int, price: int, size: int, market: int
) -> int:
    """Write the cancel of an order into ``out[n]``.

    Parameters
    ----------
    out : array of TRANSACTION_DTYPE
    n : int
        How many records are in it.
    id : int
        The number of the order to cancel.
    side, price, size, market : int
        Those of the order. `size` is how many lots to take away.

    Returns
    -------
    int
        How many records are in `out` now.

    Raises
    ------
    IndexError
        `out` has no room.
    """
    n = add(out, n, id, side, price, size, market)
    out[n - 1]["kind"] = CANCEL
    return n


def works(order: Any) -> bool:
    """Whether an order of the table can still be filled: no end of it has been reported.

    Parameters
    ----------
    order : record of ORDER_DTYPE

    Returns
    -------
    bool
    """
    return bool(FREE < order["state"] < GONE)


# What compiled code may call.
COMPILED = (add, cancel, works)
