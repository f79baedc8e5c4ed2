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

__all__ = ["REPORT_DTYPE", "Reason", "ReportKind", "Venue"]

#: One execution report, 152 bytes, little-endian. ``order_id``, ``market`` and ``side`` are those
#: of the order, ``sequence`` is the venue's number of it, 0 if there is none. ``price`` is in units
#: of 1e-4; for a fill it is the maker's price, rounded down if the venue's is finer. ``lots`` are
#: those of the event, rounded down; ``base_atoms`` and ``quote_atoms`` are the venue's exact
#: amounts. ``number`` is that of the report, from 0: a gap is a loss. ``fee_atoms`` is the venue's
#: fee of a fill in quote atoms, negative for a rebate. ``left_atoms`` are the base atoms left of
#: the order, and ``last`` is 1 if nothing is left. ``maker`` is 1 if the order rested in the book.
#: ``reason`` is a `Reason`. ``slot`` is the venue's time. ``signature`` names the venue's
#: transaction; it is zeros if that is not known.
#:
#: ::
#:
#:     0 order_id u64   | 8 sequence u64     | 16 slot u64    | 24 price i64
#:     32 base_atoms u64 | 40 quote_atoms u64 | 48 number u64  | 56 fee_atoms i64
#:     64 left_atoms u64 | 72 lots u32 | 76 kind u8 | 77 market u8 | 78 side u8 | 79 maker u8
#:     80 reason u16    | 82 last u8 | 83 unused 5 | 88 signature 64
REPORT_DTYPE: Final = np.dtype(
    [
        ("order_id", "<u8"),
        ("sequence", "<u8"),
        ("slot", "<u8"),
        ("price", "<i8"),
        ("base_atoms", "<u8"),
        ("quote_atoms", "<u8"),
        ("number", "<u8"),
        ("fee_atoms", "<i8"),
        ("left_atoms", "<u8"),
        ("lots", "<u4"),
        ("kind", "u1"),
        ("market", "u1"),
        ("side", "u1"),
        ("maker", "u1"),
        ("reason", "<u2"),
        ("last", "u1"),
        ("unused", "u1", (5,)),
        ("signature", "u1", (64,)),
    ]
)


class ReportKind(IntEnum):
    """The kind of an execution report. The numbers are those of the pipeline's own reports."""

    PLACED = 16
    FILLED = 17
    CANCELLED = 18
    REJECTED = 19
    EXPIRED = 21


class Reason(IntEnum):
    """Why a report has its kind; 0 for a report that needs no reason."""

    NONE = 0
    OTHER = 1
    WOULD_CROSS = 2
    """A post-only order would have matched."""
    NO_FUNDS = 3
    NO_SEAT = 4
    EXPIRED = 5
    """The order had expired before it was placed."""
    NO_SUCH_ORDER = 6
    """An order to cancel does not rest any more."""
    OUT_OF_COMPUTE = 7
    ELSEWHERE = 8
    """Another program ended the order."""
    SUMMARISED = 9
    """The venue's log was cut: one report stands for several fills."""


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
