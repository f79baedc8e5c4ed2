"""The interface of a venue, which takes orders and returns execution reports.

A venue takes orders as records, and returns their results as records of `REPORT_DTYPE`. The
submitter of `velox.solana` is one; so is any other object with these methods. Code that sends
orders depends on this module, and not on a venue's class.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["REPORT_DTYPE", "ReportKind", "Venue"]

#: One execution report, 120 bytes, little-endian. ``order_id``, ``market`` and ``side`` are those
#: of the order, ``sequence`` is the venue's number of it, 0 if there is none. ``price`` is in units
#: of 1e-4; for a fill it is the maker's price, rounded down if the venue's is finer. ``lots`` are
#: those of the event; ``base_atoms`` and ``quote_atoms`` are the venue's exact amounts. ``maker``
#: is 1 if the order rested in the book. ``slot`` is the venue's time, and ``signature`` names the
#: venue's transaction.
REPORT_DTYPE: Final = np.dtype(
    [
        ("order_id", "<u8"),
        ("sequence", "<u8"),
        ("slot", "<u8"),
        ("price", "<i8"),
        ("base_atoms", "<u8"),
        ("quote_atoms", "<u8"),
        ("lots", "<u4"),
        ("kind", "u1"),
        ("market", "u1"),
        ("side", "u1"),
        ("maker", "u1"),
        ("signature", "u1", (64,)),
    ]
)


class ReportKind(IntEnum):
    """The kind of an execution report."""

    PLACED = 0
    FILLED = 1
    CANCELLED = 2
    REJECTED = 3


@runtime_checkable
class Venue(Protocol):
    """The interface of a venue.

    `submit` and `cancel` belong to one thread. Another thread may call `reports`.
    """

    def submit(self, orders: npt.NDArray[np.void]) -> None:
        """Take orders in, and return at once.

        Parameters
        ----------
        orders : ndarray of TRANSACTION_DTYPE, shape (n,)
            Copied. Records of kind ADD place an order, records of kind CANCEL cancel one. Records
            of other kinds are counted as market data and not sent.

        Raises
        ------
        VeloxError
            The venue is closed, or `orders` is not an array of records.
        """

    def cancel(self, orders: npt.NDArray[np.void]) -> None:
        """Cancel orders, and return at once.

        Parameters
        ----------
        orders : ndarray of TRANSACTION_DTYPE, shape (n,)
            The orders as they were submitted. Up to ``size`` lots of each are cancelled.

        Raises
        ------
        VeloxError
            The same errors as `submit`.
        """

    def reports(self) -> npt.NDArray[np.void]:
        """Return the execution reports since the last call, in order.

        Returns
        -------
        ndarray of REPORT_DTYPE, shape (n,)
        """
