"""Our working orders: those that rest at the venue, and those that are queued or in flight."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator
from enum import IntEnum
from heapq import heapify, heappop, heappush

from velox.core.integers import UINT64_MAX

__all__ = ["Barrier", "Leaving", "RestingOrder", "State", "WorkingOrders"]


class State(IntEnum):
    """Where an order is."""

    UNSENT = 0
    """In the queue. It can still be changed at no cost."""
    IN_FLIGHT = 1
    """Placed or changed by a transaction whose outcome is not known yet."""
    RESTING = 2
    """In the venue's book."""
    GONE = 3
    """Ended, or never placed."""


# A module global is cheaper to look up than a member of an enumeration.
_UNSENT, _GONE = State.UNSENT, State.GONE
# Higher than any price.
_FAR = UINT64_MAX + 1


class RestingOrder:
    """One of our orders, from the queue to its end.

    Attributes
    ----------
    ticket : int
        Its age: the position of its ADD among all orders.
    id, market, side, price : int
        As in its record.
    level : tuple of int
        Market, side and price. A CANCEL with the id 0 finds the order by them.
    planned : int
        Lots left once every order taken in so far has landed. Negative if other traders filled
        lots that were to be cancelled.
    taken : int
        Lots that queued or in-flight orders are to cancel.
    chain : int
        Lots in the venue's book, as far as is known; 0 before the order is there.
    sequence : int or None
        The venue's number of the order, if it has one.
    state : State
    older : RestingOrder or None
        The next older order with the same id. The id refers to it again if this order ends.
    as_of : int
        The newest slot at which the venue's account was read for this order.
    hint : int or None
        Its place in the venue's account, if it is known.
    """

    __slots__ = (
        "as_of",
        "chain",
        "hint",
        "id",
        "level",
        "market",
        "older",
        "planned",
        "price",
        "sequence",
        "side",
        "state",
        "taken",
        "ticket",
    )

    def __init__(  # noqa: PLR0917 - the fields of a record
        self, ticket: int, id: int, market: int, side: int, price: int, size: int
    ) -> None:
        self.ticket = ticket
        self.id = id
        self.market = market
        self.side = side
        self.price = price
        self.level = market, side, price
        self.planned = size
        self.taken = 0
        self.chain = 0
        self.sequence: int | None = None
        self.state = _UNSENT
        self.older: RestingOrder | None = None
        self.as_of = 0
        self.hint: int | None = None

    def __repr__(self) -> str:
        return (
            f"<RestingOrder {self.id} market={self.market} side={self.side} price={self.price} "
            f"planned={self.planned} chain={self.chain} {self.state.name}>"
        )


_NOBODY: dict[int, RestingOrder] = {}


class _Prices:
    """A multiset of prices with its minimum.

    Removed prices stay in the heap until they reach the top, or make up half of it.
    """

    __slots__ = ("_counts", "_heap", "lowest")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._heap: list[int] = []
        self.lowest = _FAR

    def add(self, price: int) -> None:
        count = self._counts.get(price, 0)
        if not count:
            heappush(self._heap, price)
            self.lowest = self._heap[0]
        self._counts[price] = count + 1

    def discard(self, price: int) -> None:
        counts = self._counts
        if counts[price] > 1:
            counts[price] -= 1
            return
        del counts[price]
        heap = self._heap
        if len(heap) > 2 * len(counts) + 8:
            heap[:] = counts
            heapify(heap)
        while heap and heap[0] not in counts:
            heappop(heap)
        self.lowest = heap[0] if heap else _FAR


class Barrier:
    """The most aggressive price of a set of orders, for each market and side.

    Orders can be added only. `Leaving` can also remove them.
    """

    __slots__ = ("_lowest",)

    def __init__(self) -> None:
        # Ask prices as they are, bid prices negated: the lowest is the most aggressive.
        self._lowest: dict[tuple[int, int], int] = {}

    def add(self, order: RestingOrder) -> None:
        """Add an order."""
        side = order.market, order.side
        price = order.price if order.side else -order.price
        if price < self._lowest.get(side, _FAR):
            self._lowest[side] = price

    def join(self, other: Barrier) -> None:
        """Add all orders of another barrier."""
        for side, price in other._lowest.items():
            if price < self._lowest.get(side, _FAR):
                self._lowest[side] = price

    def meets(self, order: RestingOrder) -> bool:
        """Return whether an order would match one of them."""
        lowest = self._lowest.get((order.market, 1 - order.side), _FAR)
        return lowest <= (-order.price if order.side else order.price)


class Leaving:
    """A barrier with removal; O(log n) amortised."""

    __slots__ = ("_sides",)

    def __init__(self) -> None:
        self._sides: dict[tuple[int, int], _Prices] = {}

    def add(self, order: RestingOrder) -> None:
        """Add an order."""
        side = order.market, order.side
        prices = self._sides.get(side)
        if prices is None:
            prices = self._sides[side] = _Prices()
        prices.add(order.price if order.side else -order.price)

    def discard(self, order: RestingOrder) -> None:
        """Remove an order that was added."""
        prices = self._sides[order.market, order.side]
        prices.discard(order.price if order.side else -order.price)

    def meets(self, order: RestingOrder) -> bool:
        """Return whether an order would match one of them."""
        prices = self._sides.get((order.market, 1 - order.side))
        if prices is None:
            return False
        return prices.lowest <= (-order.price if order.side else order.price)


class WorkingOrders:
    """Our orders by id, by level and by age.

    An id refers to the newest order that uses it and will have lots left. If that order ends, or
    never lands, the id refers to the next older one, which it replaced or would have replaced.

    Parameters
    ----------
    most_resting : int
        Resting orders that are kept. If there are more, the oldest are dropped and can no longer
        be cancelled. Fills by other traders are not seen here, so memory needs this bound.

    Attributes
    ----------
    leaving : Leaving
        Orders of which queued or in-flight orders are to cancel lots.

    Notes
    -----
    Thread-safety: one thread. Any thread may read `known`.
    """

    def __init__(self, most_resting: int = 1 << 16) -> None:
        self.most_resting = most_resting
        self.leaving = Leaving()
        # The newest order of each id; `RestingOrder.older` links the others.
        self._newest: dict[tuple[int, int], RestingOrder] = {}
        self._levels: dict[tuple[int, int, int], dict[int, RestingOrder]] = {}
        self._resting: OrderedDict[int, RestingOrder] = OrderedDict()
        self._numbered: dict[tuple[int, int], RestingOrder] = {}

    @property
    def known(self) -> Container[tuple[int, int]]:
        """container of (int, int): The market and id of each order."""
        return self._newest

    def find(self, market: int, id: int) -> RestingOrder | None:
        """Return the newest order with this id that will have lots left. The id 0 finds none."""
        order = self._newest.get((market, id)) if id else None
        while order is not None and order.planned <= 0:
            order = order.older
        return order

    def at(self, level: tuple[int, int, int]) -> Iterator[RestingOrder]:
        """Yield the orders at a level that will have lots left, newest first.

        Admit or remove no order while you iterate.
        """
        return (
            each for each in reversed(self._levels.get(level, _NOBODY).values()) if each.planned > 0
        )

    def admit(self, order: RestingOrder) -> None:
        """Add an order. Its id now refers to it."""
        if order.id:
            key = order.market, order.id
            order.older = self._newest.get(key)
            self._newest[key] = order
        level = self._levels.get(order.level)
        if level is None:
            self._levels[order.level] = {order.ticket: order}
        else:
            level[order.ticket] = order

    def claim(self, order: RestingOrder, lots: int) -> None:
        """Note that lots of a resting or in-flight order are to be cancelled."""
        if not order.taken:
            self.leaving.add(order)
        order.taken += lots
        order.planned -= lots

    def fulfil(self, order: RestingOrder, lots: int) -> None:
        """Note that claimed lots of an order have been cancelled."""
        if order.state is not _GONE:
            order.taken -= lots
            if not order.taken:
                self.leaving.discard(order)

    def restore(self, order: RestingOrder, lots: int) -> None:
        """Return claimed lots to an order: they will not be cancelled."""
        if order.state is not _GONE:
            order.planned += lots
            self.fulfil(order, lots)

    def rest(self, order: RestingOrder) -> None:
        """Note that an order rests in the book, even if it was taken to have ended."""
        if order.state is _GONE:
            order.planned = order.chain
            self.admit(order)
        order.state = State.RESTING
        self._resting[order.ticket] = order
        if order.sequence is not None:
            self._numbered[order.market, order.sequence] = order
        while len(self._resting) > self.most_resting:
            self.remove(next(iter(self._resting.values())))

    def renumber(self, order: RestingOrder, sequence: int | None) -> None:
        """Give an order another number of the venue, or none."""
        if order.sequence is not None:
            self._numbered.pop((order.market, order.sequence), None)
        order.sequence = sequence
        order.hint = None

    def fill(self, market: int, sequence: int, lots: int, slot: int = _FAR) -> None:
        """Take filled lots off an order, if it is ours and rests.

        Ignored if the venue's account was read at `slot` or later: that state has the fill already.
        """
        order = self._numbered.get((market, sequence))
        if order is not None and slot > order.as_of:
            order.chain -= lots
            order.planned -= lots
            if order.chain <= 0:
                self.remove(order)

    def numbered(self, market: int) -> frozenset[int]:
        """Return the venue's numbers of the resting orders of a market."""
        return frozenset(number for of_market, number in self._numbered if of_market == market)

    def lots(self, market: int, sequence: int) -> int:
        """Return the lots that an order has in the book, by its number; 0 if it ended."""
        order = self._numbered.get((market, sequence))
        return order.chain if order is not None else 0

    def correct(self, order: RestingOrder, lots: int, slot: int = 0) -> None:
        """Set the lots left of a resting order, as read at `slot`; 0 if it ended."""
        order.as_of = max(order.as_of, slot)
        order.planned += lots - order.chain
        order.chain = lots
        if not lots:
            self.remove(order)

    def remove(self, order: RestingOrder) -> None:
        """Remove an order. Does nothing if it has ended."""
        state = order.state
        if state is _GONE:
            return
        order.state = _GONE
        order.planned = 0
        if state is not _UNSENT:
            if order.taken:
                order.taken = 0
                self.leaving.discard(order)
            self._resting.pop(order.ticket, None)
            if order.sequence is not None:
                self._numbered.pop((order.market, order.sequence), None)
        level = self._levels[order.level]
        del level[order.ticket]
        if not level:
            del self._levels[order.level]
        if not order.id:
            return
        # The id now refers to the next older order, if there is one.
        key = order.market, order.id
        above = self._newest[key]
        if above is not order:
            while above.older is not order:
                assert above.older is not None
                above = above.older
            above.older = order.older
        elif order.older is not None:
            self._newest[key] = order.older
        else:
            del self._newest[key]

    @property
    def at_venue(self) -> int:
        """int: Orders with a number of the venue, those included whose cancel is in flight."""
        return len(self._numbered)

    def resting(self) -> list[RestingOrder]:
        """Return the resting orders, oldest first."""
        return [each for each in self._resting.values() if each.state is State.RESTING]

    def __len__(self) -> int:
        return sum(len(each) for each in self._levels.values())
