"""Limits, prices and units of the chain and of Jito's block engine: one definition of each."""

from __future__ import annotations

from typing import Final

__all__ = [
    "LAMPORTS_PER_SIGNATURE",
    "LAMPORTS_PER_SOL",
    "MAX_BUNDLE_TRANSACTIONS",
    "MAX_COMPUTE_UNITS",
    "MAX_TRANSACTION_BYTES",
    "MIN_TIP_LAMPORTS",
]

LAMPORTS_PER_SOL: Final = 1_000_000_000
#: What the chain charges for each signature of a transaction.
LAMPORTS_PER_SIGNATURE: Final = 5_000
#: The longest transaction: an IPv6 packet that no router splits, less its headers.
MAX_TRANSACTION_BYTES: Final = 1232
#: The largest compute unit limit of a transaction.
MAX_COMPUTE_UNITS: Final = 1_400_000
#: The most transactions in one Jito bundle.
MAX_BUNDLE_TRANSACTIONS: Final = 5
#: The smallest tip that Jito's block engine accepts, in lamports.
MIN_TIP_LAMPORTS: Final = 1_000
