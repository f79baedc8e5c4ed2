"""What we have in the markets, and what we shall have once everything under way has landed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Container, Iterator
from enum import IntEnum
from heapq import heapify, heappop, heappush

__all__ = ["Barrier", "Leaving", "RestingOrder", "State", "WorkingOrders"]


class State(IntEnum):
    """Where a standing order is."""

    UNSENT = 0
    """In the queue; it can still be changed for nothing."""
    FLYING = 1
    """In a transaction, or changed by one, whose end is not known yet: it has to wait."""
    RESTING = 2
    """On the chain."""
    GONE = 3
    """No more, or never on the chain."""


# To look a member of an enumeration up costs more.
_UNSENT, _GONE = State.UNSENT, State.GONE
# Beyond any price.
_FAR = 1 << 64


class RestingOrder:
    """One order of ours, from the queue to its end.

    Attributes
    ----------
    ticket : int
        Its age: the place of its ADD among all orders.
    id, market, side, price : int
        As in its record.
    level : tuple of int
        Market, side and price, which a CANCEL with the id 0 goes by.
    planned : int
        Lots it will have once every order that was taken in has landed. Below zero where others
        filled what was to be cancelled.
    taken : int
        Lots that orders take from it which wait or are under way: it is leaving, in part at least.
    chain : int
        Lots it has on the chain, as far as we know; 0 before it is there.
    sequence : int or None
        Its number in the market on the chain, where it has one.
    state : State
    older : RestingOrder or None
        The next older order with its id, which the id means again should this one go.
    """

    __slots__ = (
        "as_of",
        "chain",
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

    def __init__(  # noqa: PLR0917 - as many as a record has
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

    def __repr__(self) -> str:
        return (
            f"<RestingOrder {self.id} market={self.market} side={self.side} price={self.price} "
            f"planned={self.planned} chain={self.chain} {self.state.name}>"
        )


_NOBODY: dict[int, RestingOrder] = {}


class _Prices:
    """Prices that come and go, each as often as it came, and the lowest of them.

    What has gone stays in the heap until it comes up, or until it is half of it.
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
    """How far orders reach towards the other side, by market and side.

    Nothing is taken out again: see `Leaving`.
    """

    __slots__ = ("_lowest",)

    def __init__(self) -> None:
        # Asks as they are, bids negative: the lowest reaches furthest.
        self._lowest: dict[tuple[int, int], int] = {}

    def add(self, standing: RestingOrder) -> None:
        """Put an order in."""
        side = standing.market, standing.side
        price = standing.price if standing.side else -standing.price
        if price < self._lowest.get(side, _FAR):
            self._lowest[side] = price

    def join(self, other: Barrier) -> None:
        """Put in all that another holds."""
        for side, price in other._lowest.items():
            if price < self._lowest.get(side, _FAR):
                self._lowest[side] = price

    def meets(self, standing: RestingOrder) -> bool:
        """Say whether an order would match one inside."""
        lowest = self._lowest.get((standing.market, 1 - standing.side), _FAR)
        return lowest <= (-standing.price if standing.side else standing.price)


class Leaving:
    """A barrier of orders that come and go; O(log n), amortised."""

    __slots__ = ("_sides",)

    def __init__(self) -> None:
        self._sides: dict[tuple[int, int], _Prices] = {}

    def add(self, standing: RestingOrder) -> None:
        """Put an order in."""
        side = standing.market, standing.side
        prices = self._sides.get(side)
        if prices is None:
            prices = self._sides[side] = _Prices()
        prices.add(standing.price if standing.side else -standing.price)

    def discard(self, standing: RestingOrder) -> None:
        """Take an order out that is in."""
        prices = self._sides[standing.market, standing.side]
        prices.discard(standing.price if standing.side else -standing.price)

    def meets(self, standing: RestingOrder) -> bool:
        """Say whether an order would match one inside."""
        prices = self._sides.get((standing.market, 1 - standing.side))
        if prices is None:
            return False
        return prices.lowest <= (-standing.price if standing.side else standing.price)


class WorkingOrders:
    """Our standing orders by id, by level and by age.

    An id means the newest order that has it and will have lots left: should that one go, or never
    come, it means the next older one, which it replaced or was to replace.

    Parameters
    ----------
    most_resting : int
        Orders on the chain that are remembered; over that the oldest are forgotten, and can no
        longer be cancelled. What others fill is not seen here, so that without a bound the memory
        would only grow.

    Attributes
    ----------
    leaving : Leaving
        The orders in the market or under way from which others take that have no end yet.

    Notes
    -----
    Thread-safety: one thread; any may look into `known`.
    """

    def __init__(self, most_resting: int = 1 << 16) -> None:
        self.most_resting = most_resting
        self.forgotten = 0
        self.leaving = Leaving()
        # The newest of each id; the others hang on `RestingOrder.older`.
        self._newest: dict[tuple[int, int], RestingOrder] = {}
        self._levels: dict[tuple[int, int, int], dict[int, RestingOrder]] = {}
        self._resting: OrderedDict[int, RestingOrder] = OrderedDict()
        self._numbered: dict[tuple[int, int], RestingOrder] = {}

    @property
    def known(self) -> Container[tuple[int, int]]:
        """container of (int, int): Each market and id that an order has."""
        return self._newest

    def find(self, market: int, id: int) -> RestingOrder | None:
        """Return the newest order with this id that will have lots left; 0 is nobody's id."""
        standing = self._newest.get((market, id)) if id else None
        while standing is not None and standing.planned <= 0:
            standing = standing.older
        return standing

    def at(self, level: tuple[int, int, int]) -> Iterator[RestingOrder]:
        """Yield the orders at a level that will have lots left, newest first.

        None may be admitted or removed meanwhile.
        """
        return (
            each for each in reversed(self._levels.get(level, _NOBODY).values()) if each.planned > 0
        )

    def admit(self, standing: RestingOrder) -> None:
        """Take an order in; from now on its id means this one."""
        if standing.id:
            key = standing.market, standing.id
            standing.older = self._newest.get(key)
            self._newest[key] = standing
        level = self._levels.get(standing.level)
        if level is None:
            self._levels[standing.level] = {standing.ticket: standing}
        else:
            level[standing.ticket] = standing

    def claim(self, standing: RestingOrder, lots: int) -> None:
        """Note that an order in the market or under way is to lose lots."""
        if not standing.taken:
            self.leaving.add(standing)
        standing.taken += lots
        standing.planned -= lots

    def fulfil(self, standing: RestingOrder, lots: int) -> None:
        """Note that an order has lost the lots that it was to lose."""
        if standing.state is not _GONE:
            standing.taken -= lots
            if not standing.taken:
                self.leaving.discard(standing)

    def restore(self, standing: RestingOrder, lots: int) -> None:
        """Give an order the lots back that it was to lose."""
        if standing.state is not _GONE:
            standing.planned += lots
            self.fulfil(standing, lots)

    def rest(self, standing: RestingOrder) -> None:
        """Note that an order is on the chain, also one that was taken for gone."""
        if standing.state is _GONE:
            standing.planned = standing.chain
            self.admit(standing)
        standing.state = State.RESTING
        self._resting[standing.ticket] = standing
        if standing.sequence is not None:
            self._numbered[standing.market, standing.sequence] = standing
        while len(self._resting) > self.most_resting:
            self.forgotten += 1
            self.remove(next(iter(self._resting.values())))

    def renumber(self, standing: RestingOrder, sequence: int | None) -> None:
        """Note that the chain knows an order by another number now, or by none."""
        if standing.sequence is not None:
            self._numbered.pop((standing.market, standing.sequence), None)
        standing.sequence = sequence

    def fill(self, market: int, sequence: int, lots: int, slot: int = 1 << 64) -> None:
        """Note that so much of an order was filled, if it is ours and rests.

        What the market was seen to hold at `slot` or later is without that fill already.
        """
        standing = self._numbered.get((market, sequence))
        if standing is not None and slot > standing.as_of:
            standing.chain -= lots
            standing.planned -= lots
            if standing.chain <= 0:
                self.remove(standing)

    def lots(self, market: int, sequence: int) -> int:
        """Return what an order of ours has on the chain, by its number; 0 of one that is gone."""
        standing = self._numbered.get((market, sequence))
        return standing.chain if standing is not None else 0

    def correct(self, standing: RestingOrder, lots: int, slot: int = 0) -> None:
        """Note how much is left of an order that rests, as the chain says; 0 where it is gone."""
        standing.as_of = max(standing.as_of, slot)
        standing.planned += lots - standing.chain
        standing.chain = lots
        if not lots:
            self.remove(standing)

    def remove(self, standing: RestingOrder) -> None:
        """Let an order go, if it has not gone already."""
        state = standing.state
        if state is _GONE:
            return
        standing.state = _GONE
        standing.planned = 0
        if state is not _UNSENT:
            if standing.taken:
                standing.taken = 0
                self.leaving.discard(standing)
            self._resting.pop(standing.ticket, None)
            if standing.sequence is not None:
                self._numbered.pop((standing.market, standing.sequence), None)
        level = self._levels[standing.level]
        del level[standing.ticket]
        if not level:
            del self._levels[standing.level]
        if not standing.id:
            return
        # Its id means what it covered, which it still knows itself.
        key = standing.market, standing.id
        above = self._newest[key]
        if above is not standing:
            while above.older is not standing:
                assert above.older is not None
                above = above.older
            above.older = standing.older
        elif standing.older is not None:
            self._newest[key] = standing.older
        else:
            del self._newest[key]

    def resting(self) -> list[RestingOrder]:
        """Return what rests on the chain, oldest first."""
        return [each for each in self._resting.values() if each.state is State.RESTING]

    def __len__(self) -> int:
        return sum(len(each) for each in self._levels.values())
