"""What we have in the markets, and what we shall have once everything under way has landed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from enum import IntEnum

__all__ = ["Desk", "Standing", "State"]


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


class Standing:
    """One order of ours, from the queue to its end.

    Attributes
    ----------
    ticket : int
        Its age: the place of its ADD among all orders.
    id, market, side, price : int
        As in its record.
    planned : int
        Lots it will have once every order that was taken in has landed.
    chain : int
        Lots it has on the chain, as far as we know; 0 before it is there.
    sequence : int or None
        Its number in the market on the chain, where it has one.
    state : State
    former : Standing or None
        What it is to replace, until that is done.
    """

    __slots__ = (
        "chain",
        "former",
        "id",
        "market",
        "planned",
        "price",
        "sequence",
        "side",
        "state",
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
        self.planned = size
        self.chain = 0
        self.sequence: int | None = None
        self.state = State.UNSENT
        self.former: Standing | None = None

    @property
    def level(self) -> tuple[int, int, int]:
        """tuple of int: Market, side and price, which a CANCEL without a known id goes by."""
        return self.market, self.side, self.price

    def __repr__(self) -> str:
        return (
            f"<Standing {self.id} market={self.market} side={self.side} price={self.price} "
            f"planned={self.planned} chain={self.chain} {self.state.name}>"
        )


_NOBODY: dict[int, Standing] = {}


class Desk:
    """Our standing orders by id, by level and by age.

    Parameters
    ----------
    most_resting : int
        Orders on the chain that are remembered; over that the oldest are forgotten, and can no
        longer be cancelled. What others fill is not seen here, so that without a bound the memory
        would only grow.

    Notes
    -----
    Thread-safety: one thread.
    """

    def __init__(self, most_resting: int = 1 << 16) -> None:
        self.most_resting = most_resting
        self.forgotten = 0
        self._by_id: dict[tuple[int, int], Standing] = {}
        self._levels: dict[tuple[int, int, int], dict[int, Standing]] = {}
        self._resting: OrderedDict[int, Standing] = OrderedDict()
        self._numbered: dict[tuple[int, int], Standing] = {}

    def find(self, market: int, id: int) -> Standing | None:
        """Return the newest order with this id that will have lots left; 0 is nobody's id."""
        standing = self._by_id.get((market, id)) if id else None
        return standing if standing is not None and standing.planned > 0 else None

    def at(self, level: tuple[int, int, int]) -> Iterator[Standing]:
        """Yield the orders at a level that will have lots left, newest first.

        None may be admitted or removed meanwhile.
        """
        return (
            each for each in reversed(self._levels.get(level, _NOBODY).values()) if each.planned
        )

    def admit(self, standing: Standing) -> None:
        """Take an order in; from now on its id means this one."""
        if standing.id:
            self._by_id[standing.market, standing.id] = standing
        self._levels.setdefault(standing.level, {})[standing.ticket] = standing

    def restore(self, standing: Standing, lots: int) -> None:
        """Give an order lots back that it was to lose, and its id where no newer order has it."""
        standing.planned += lots
        if standing.id:
            self._by_id.setdefault((standing.market, standing.id), standing)

    def rest(self, standing: Standing) -> None:
        """Note that an order is on the chain."""
        standing.state = State.RESTING
        standing.former = None
        self._resting[standing.ticket] = standing
        if standing.sequence is not None:
            self._numbered[standing.market, standing.sequence] = standing
        while len(self._resting) > self.most_resting:
            self.forgotten += 1
            self.remove(next(iter(self._resting.values())))

    def renumber(self, standing: Standing, sequence: int | None) -> None:
        """Note that the chain knows an order by another number now, or by none."""
        if standing.sequence is not None:
            self._numbered.pop((standing.market, standing.sequence), None)
        standing.sequence = sequence

    def fill(self, market: int, sequence: int, lots: int) -> None:
        """Note that so much of an order was filled, if it is ours and rests."""
        standing = self._numbered.get((market, sequence))
        if standing is not None:
            standing.chain -= lots
            standing.planned = max(0, standing.planned - lots)
            if standing.chain <= 0:
                self.remove(standing)

    def lots(self, market: int, sequence: int) -> int:
        """Return what an order of ours has on the chain, by its number; 0 of one that is gone."""
        standing = self._numbered.get((market, sequence))
        return standing.chain if standing is not None else 0

    def correct(self, standing: Standing, lots: int) -> None:
        """Note how much is left of an order that rests, as the chain says; 0 where it is gone."""
        standing.planned = max(0, standing.planned + lots - standing.chain)
        standing.chain = lots
        if not lots:
            self.remove(standing)

    def remove(self, standing: Standing) -> None:
        """Let an order go."""
        standing.state = State.GONE
        standing.planned = 0
        self._resting.pop(standing.ticket, None)
        if standing.sequence is not None:
            self._numbered.pop((standing.market, standing.sequence), None)
        level = self._levels.get(standing.level)
        if level is not None:
            level.pop(standing.ticket, None)
            if not level:
                del self._levels[standing.level]
        key = standing.market, standing.id
        if self._by_id.get(key) is standing:
            del self._by_id[key]

    def resting(self) -> list[Standing]:
        """Return what rests on the chain, oldest first."""
        return [each for each in self._resting.values() if each.state is State.RESTING]

    def __len__(self) -> int:
        return sum(len(each) for each in self._levels.values())
