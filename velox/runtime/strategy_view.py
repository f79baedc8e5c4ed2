"""The view of a strategy that takes reports, as a NumPy dtype."""

import numpy as np

from velox.core.orders import ORDER_DTYPE
from velox.runtime.book_view import BOOK_VIEW_DTYPE

__all__ = ["ORDER_DTYPE", "STRATEGY_VIEW_DTYPE"]

# velox_view of velox/strategy.h, byte for byte; the book view is its head.
STRATEGY_VIEW_DTYPE = np.dtype(
    [
        *((name, BOOK_VIEW_DTYPE[name]) for name in BOOK_VIEW_DTYPE.names or ()),
        ("size", "<u4"),
        ("version", "<u4"),
        ("price_decimals", "<u4"),
        ("feed_state", "<u4"),
        ("inventory", "<i8"),
        ("cash", "<i8"),
        ("fees", "<i8"),
        ("open_bid", "<i8"),
        ("open_ask", "<i8"),
        ("orders", "<u8"),
        ("order_capacity", "<u4"),
        ("order_slot", "<u4"),
        ("timer_at_ns", "<u8"),
        ("market_ns", "<u8"),
        ("inventory_lots", "<i8"),
        ("reserved", "<u8", (10,)),
    ]
)
