"""Finds checks of prices at which the book is not known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from velox.core.instrument import Instrument
from velox.core.order_book import OrderBook
from velox.runtime.checks import DepthChecks

__all__ = ["within_the_known"]


def within_the_known(
    checks: DepthChecks,
    transactions: npt.NDArray[np.void],
    instruments: Sequence[Instrument],
    known: npt.NDArray[np.void],
) -> tuple[DepthChecks | None, int]:
    """Leave out checks that a correct book may fail.

    A snapshot has a range, and levels beyond it are known only once they change. A check of the
    best prices that lies beyond the range stays where the book agrees with it. If the book does not
    agree, a level may be missing or wrong, so the check is left out.

    Parameters
    ----------
    checks : DepthChecks
        Of one level.
    transactions : ndarray, shape (n,), dtype TRANSACTION_DTYPE
    instruments : sequence of Instrument
        By market.
    known : ndarray, shape (k,), dtype KNOWN_DTYPE

    Returns
    -------
    DepthChecks or None
        The checks that remain.
    int
        How many were left out.
    """
    keep = np.ones(len(checks), np.bool_)
    for instrument in instruments:
        own = np.flatnonzero(checks.market == instrument.market)
        beyond = own[_beyond(checks, own, known[known["market"] == instrument.market])]
        if len(beyond):
            records = transactions[transactions["market"] == instrument.market]
            # The position of each check among the records of its own market.
            due = np.searchsorted(
                np.flatnonzero(transactions["market"] == instrument.market),
                checks.position[beyond],
            )
            keep[beyond] = _agree(checks, beyond, due, records, instrument)
    unknown = len(checks) - int(np.count_nonzero(keep))
    if not unknown:
        return checks, 0
    if not keep.any():
        return None, unknown
    left = DepthChecks(
        position=checks.position[keep],
        market=checks.market[keep],
        prices=checks.prices[keep],
        quantities=checks.quantities[keep],
    )
    return left, unknown


def _beyond(
    checks: DepthChecks, own: npt.NDArray[np.intp], known: npt.NDArray[np.void]
) -> npt.NDArray[np.bool_]:
    """Whether a price of each check lies beyond the range; an empty side has no price."""
    if not len(known):
        return np.zeros(len(own), np.bool_)
    row = known[np.searchsorted(known["position"], checks.position[own], side="left") - 1]
    prices, lots = checks.prices[own, :, 0], checks.quantities[own, :, 0]
    bid = (lots[:, 0] > 0) & (prices[:, 0] < row["bid"])
    ask = (lots[:, 1] > 0) & (prices[:, 1] > row["ask"])
    return np.asarray(bid | ask, np.bool_)


def _agree(
    checks: DepthChecks,
    which: npt.NDArray[np.intp],
    due: npt.NDArray[np.intp],
    records: npt.NDArray[np.void],
    instrument: Instrument,
) -> npt.NDArray[np.bool_]:
    """For each given check, whether a book of the records has its best levels."""
    book = OrderBook(instrument.levels, instrument.tick_size, market=instrument.market)
    agree = np.zeros(len(which), np.bool_)
    applied = 0
    for index, (check, until) in enumerate(zip(which.tolist(), due.tolist(), strict=True)):
        book.apply(records[applied:until])
        applied = until
        best = book.depth(1)
        agree[index] = all(
            quantity == checks.quantities[check, side, 0]
            and (not quantity or price == checks.prices[check, side, 0])
            for side, price, quantity in (
                (0, *_best(best, "bid")),
                (1, *_best(best, "ask")),
            )
        )
    return agree


def _best(depth: npt.NDArray[np.void], side: str) -> tuple[int, int]:
    if not len(depth):
        return 0, 0
    return int(depth[f"{side}_price"][0]), int(depth[f"{side}_quantity"][0])
