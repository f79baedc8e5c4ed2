"""The view of a book that a strategy gets, as a NumPy dtype."""

import numpy as np

__all__ = ["BOOK_VIEW_DTYPE"]

# velox_book_view of velox/strategy.h, byte for byte.
BOOK_VIEW_DTYPE = np.dtype(
    [
        ("bid_price", "<i8"),
        ("bid_quantity", "<i8"),
        ("ask_price", "<i8"),
        ("ask_quantity", "<i8"),
        ("position", "<u8"),
        ("now_ns", "<u8"),
        ("tick_size", "<i8"),
        ("market", "<u8"),
        ("book", "<u8"),
        ("depth", "<u8"),
    ]
)
