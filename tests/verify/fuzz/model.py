"""A plain order book: two dicts, and the rules of ``docs/explanation/order-book.md``."""

from __future__ import annotations

from dataclasses import dataclass, field

from velox import Kind, Rejection

__all__ = ["Model"]

RELATIVE = (Kind.ADD, Kind.CANCEL, Kind.EXECUTE)


@dataclass
class Model:
    """A book of one market that crosses freely.

    Attributes
    ----------
    tick_size, levels, cold_levels : int
    window : range or None
        Prices that a book of several writers takes; None where the window follows the best.
    most : int
        What a level may hold.
    """

    tick_size: int
    levels: int
    cold_levels: int
    window: range | None
    most: int
    sides: tuple[dict[int, int], dict[int, int]] = field(default_factory=lambda: ({}, {}))

    def apply(self, kind: int, side: int, price: int, size: int, wide: int) -> int:  # noqa: PLR0911
        """Apply one record; returns its `Rejection`, or 0."""
        if kind > Kind.TRADE:
            return Rejection.KIND
        if side > 1:
            return Rejection.SIDE
        if kind == Kind.TRADE:
            return 0
        levels = self.sides[side]
        if kind == Kind.CLEAR:
            levels.clear()
            return 0
        if price <= 0:
            return Rejection.PRICE
        if price % self.tick_size:
            return Rejection.OFF_TICK
        if kind in RELATIVE and size == 0:
            return Rejection.SIZE
        if self.window is not None and price not in self.window:
            return Rejection.OUT_OF_WINDOW
        return self.change(levels, side, price, self.after(levels.get(price, 0), kind, size, wide))

    def after(self, held: int, kind: int, size: int, wide: int) -> int:
        if kind == Kind.ADD:
            return held + size
        if kind in RELATIVE:
            return held - size
        return {Kind.SET: size, Kind.SET_WIDE: wide, Kind.DELETE: 0}[Kind(kind)]

    def change(self, levels: dict[int, int], side: int, price: int, after: int) -> int:
        if after < 0:
            return Rejection.UNDERFLOW
        if after > self.most:
            return Rejection.OVERFLOW
        if after == 0:
            levels.pop(price, None)
            return 0
        if price not in levels and not self.has_room(levels, side, price):
            return Rejection.BOOK_FULL
        levels[price] = after
        return 0

    def has_room(self, levels: dict[int, int], side: int, price: int) -> bool:
        if self.window is not None or len(levels) <= self.cold_levels:
            return True
        prices = [*levels, price]
        best = min(prices) if side else max(prices)
        far = self.levels * self.tick_size
        return sum(abs(each - best) >= far for each in prices) <= self.cold_levels
