"""A lock-free transaction pipeline for high-frequency trading on Solana."""

from velox.core.instrument import Instrument
from velox.core.records import (
    BUNDLE_DTYPE,
    PRICE_SCALE,
    TRANSACTION_DTYPE,
    Flags,
    Kind,
    Rejection,
    SealReason,
    Side,
    from_fixed,
    to_fixed,
    validate,
)
from velox.core.ring import BundleRing, RingStatistics, TransactionRing

__all__ = [
    "BUNDLE_DTYPE",
    "PRICE_SCALE",
    "TRANSACTION_DTYPE",
    "BundleRing",
    "Flags",
    "Instrument",
    "Kind",
    "Rejection",
    "RingStatistics",
    "SealReason",
    "Side",
    "TransactionRing",
    "from_fixed",
    "to_fixed",
    "validate",
]
