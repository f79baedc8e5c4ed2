"""Checks of the best levels, from tickers that state a book by its id."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from velox.feeds.decode.levels import Grid, Market
from velox.runtime.checks import DepthChecks

__all__ = ["numbers_of", "ticker_checks", "tickers_of"]

Tickers = dict[int, npt.NDArray[np.int64]]


class _Ticked(Protocol):
    """A book and its tickers: see `velox.feeds.decode.session.BookState`."""

    market: Market
    ids: array[int]
    positions: array[int]
    ticker_ids: array[int]
    tickers: array[int]


def tickers_of(books: Iterable[_Ticked]) -> Tickers:
    """By market id: arrays of shape (n, 2 sides, price and size), in the units of the market."""
    return {
        book.market.id: np.frombuffer(book.tickers, np.int64).reshape(-1, 2, 2) for book in books
    }


def numbers_of(
    tickers: Tickers,
) -> dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """By market id: all prices and all sizes, for `LevelRecorder.grids`."""
    return {
        market: (each[:, :, 0].ravel(), each[:, :, 1].ravel()) for market, each in tickers.items()
    }


def ticker_checks(
    books: Iterable[_Ticked],
    tickers: Tickers,
    grids: list[Grid],
    moved: Callable[[Any], npt.NDArray[np.int64]],
) -> DepthChecks | None:
    """Return the tickers whose id is that of a state of the book.

    Parameters
    ----------
    books : iterable
    tickers : dict
        What `tickers_of` returns for them.
    grids : list of Grid
    moved : callable
        What `LevelRecorder.transactions` returns beside the records.

    Returns
    -------
    DepthChecks or None
        Of one level a side, in the order of their positions.
    """
    columns: list[tuple[npt.NDArray[Any], ...]] = []
    for book in books:
        market, grid = book.market.id, grids[book.market.id]
        _, at, of = np.intersect1d(
            np.frombuffer(book.ids, np.uint64),
            np.frombuffer(book.ticker_ids, np.uint64),
            return_indices=True,
        )
        best = tickers[market][of]
        position = moved(np.frombuffer(book.positions, np.int64)[at])
        columns.append(
            (
                position,
                np.full(len(at), market, np.uint8),
                best[:, :, 0] // grid.divisor,
                grid.lots(best[:, :, 1]),
            )
        )
    if not sum(len(each[0]) for each in columns):
        return None
    position, markets, prices, lots = (
        np.concatenate(parts) for parts in zip(*columns, strict=True)
    )
    order = np.argsort(position, kind="stable")
    return DepthChecks(
        position=position[order],
        market=markets[order],
        prices=np.ascontiguousarray(prices[order][:, :, np.newaxis]),
        quantities=np.ascontiguousarray(lots[order][:, :, np.newaxis]),
    )
