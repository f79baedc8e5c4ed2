"""A plain order table and account: dictionaries, unlimited integers, and the rules written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from velox import Kind
from velox.core.orders import OrderRefusal, OrderState, ReportOutcome

REMEMBERED = 4096  # numbers of reports
LAST, AMOUNTS, BEGIN = 2, 4, 8
TERMINAL = {Kind.CANCELLED, Kind.REJECTED, Kind.EXPIRED, Kind.BLOCKED}


@dataclass
class Order:
    """One order."""

    id: int
    market: int
    side: int
    price: int
    leaves: int
    filled: int = 0
    state: OrderState = OrderState.SENT
    placed: bool = False
    cancelling: bool = False
    adopted: bool = False
    unnamed: bool = False

    @property
    def live(self) -> bool:
        return self.state != OrderState.GONE

    def rest(self) -> None:
        if self.cancelling:
            self.state = OrderState.CANCELLING
        else:
            self.state = OrderState.PARTIAL if self.filled else OrderState.OPEN


@dataclass
class Position:
    """One market's account."""

    inventory: int = 0
    cash: int = 0
    fees: int = 0
    doubtful: bool = False
    covered: int = 0
    forgotten: int = 0
    resyncing: bool = False


@dataclass
class Model:
    """What an `OrderTable` promises."""

    capacity: int
    base_units: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.orders: dict[int, Order] = {}
        self.memory: list[Order] = []  # gone orders, the oldest first, of which one may be heard
        self.used = 0
        self.positions: dict[int, Position] = {}
        self.seen: dict[tuple[int, int], None] = {}  # the oldest first
        self.sent = self.placed = self.rejected = self.adopted = self.finished = self.cancels = 0
        self.outcomes = dict.fromkeys(ReportOutcome, 0)

    def position(self, market: int) -> Position:
        return self.positions.setdefault(market, Position())

    @property
    def live(self) -> list[Order]:
        return [order for order in self.orders.values() if order.live]

    def open(self, market: int, side: int) -> int:
        return sum(o.leaves for o in self.live if (o.market, o.side) == (market, side))

    def best(self, market: int, side: int) -> int | None:
        prices = [o.price for o in self.live if (o.market, o.side) == (market, side)]
        if not prices:
            return None
        return min(prices) if side else max(prices)

    def refusal(self, id: int) -> OrderRefusal | None:
        if id == 0:
            return OrderRefusal.ID_ZERO
        if id in self.orders and self.orders[id].live:
            return OrderRefusal.ID_IN_USE
        return OrderRefusal.TABLE_FULL if len(self.live) == self.capacity else None

    def put(self, order: Order) -> None:
        """Give an order a slot, for which the oldest that is gone may have to be forgotten."""
        if self.used < self.capacity:
            self.used += 1
        else:
            oldest = self.memory.pop(0)
            if self.orders.get(oldest.id) is oldest:
                del self.orders[oldest.id]
        self.orders[order.id] = order

    def send(self, id: int, market: int, side: int, price: int, size: int) -> None:
        self.put(Order(id, market, side, price, size))
        self.sent += 1

    def cancel(self, id: int) -> None:
        self.cancels += 1
        order = self.orders.get(id)
        if order is not None and order.live:
            order.cancelling = True
            if order.state != OrderState.UNKNOWN:
                order.state = OrderState.CANCELLING

    def decide(self, order: Order, *, placed: bool) -> None:
        if order.placed or order.adopted:
            return
        if placed:
            order.placed = True
            self.placed += 1
        else:
            self.rejected += 1

    def finish(self, order: Order) -> None:
        order.state, order.leaves = OrderState.GONE, 0
        self.memory.append(order)
        self.finished += 1

    def report(self, row: dict[str, Any]) -> ReportOutcome:
        outcome = self.take(row)
        self.outcomes[outcome] += 1
        return outcome

    def take(self, row: dict[str, Any]) -> ReportOutcome:  # noqa: PLR0911
        position = self.position(row["market"])
        order = self.orders.get(row["id"]) if row["id"] else None
        wrong = self.malformed(row) or (
            order is not None and (order.side, order.market) != (row["side"], row["market"])
        )
        if wrong:
            position.doubtful |= row["kind"] == Kind.FILLED
            return ReportOutcome.MALFORMED
        if row["kind"] == Kind.RESYNC:
            return self.resync(row, order, position)
        known = self.recognise(row, position)
        if known is not None:
            if known == ReportOutcome.STALE:
                position.doubtful |= row["kind"] == Kind.FILLED
            return known
        if row["kind"] == Kind.FILLED:
            return self.fill(row, order, position)
        if order is None:
            return ReportOutcome.UNKNOWN_ID
        if not order.live:
            return ReportOutcome.LATE
        return self.change(row, order)

    def malformed(self, row: dict[str, Any]) -> bool:
        if row["kind"] == Kind.TIMER or not Kind.PLACED <= row["kind"] <= Kind.RESYNC:
            return True
        if row["side"] > 1:
            return True
        if row["kind"] == Kind.RESYNC:
            return bool(row["id"]) and (row["price"] <= 0 or row["size"] == 0)
        if row["kind"] != Kind.FILLED:
            return False
        if row["flags"] & AMOUNTS:
            return row["base_amount"] < 0 or row["quote_amount"] < 0
        return row["price"] <= 0 or row["size"] == 0 or self.base_units.get(row["market"], 1) != 1

    def recognise(self, row: dict[str, Any], position: Position) -> ReportOutcome | None:
        number = row["sequence"]
        if number == 0:
            return None
        if number <= position.covered or (number, row["market"]) in self.seen:
            return ReportOutcome.DOUBLED
        if number <= position.forgotten:
            return ReportOutcome.STALE
        if len(self.seen) == REMEMBERED:
            oldest, market = next(iter(self.seen))
            del self.seen[oldest, market]
            old = self.position(market)
            old.forgotten = max(old.forgotten, oldest)
        self.seen[number, row["market"]] = None
        return None

    def fill(self, row: dict[str, Any], order: Order | None, at: Position) -> ReportOutcome:
        exact = row["flags"] & AMOUNTS
        base = row["base_amount"] if exact else row["size"]
        quote = row["quote_amount"] if exact else row["price"] * row["size"]
        sign = -1 if row["side"] else 1
        at.inventory += sign * base
        at.cash -= sign * quote
        at.fees += row["fee"]
        if order is None:
            return ReportOutcome.FOREIGN_FILL
        order.filled = min(order.filled + row["size"], 2**32 - 1)
        if not order.live:
            return ReportOutcome.LATE_FILL
        over = row["size"] > order.leaves
        self.decide(order, placed=True)
        order.leaves = max(0, order.leaves - row["size"])
        if order.leaves == 0 or row["flags"] & LAST:
            self.finish(order)
        else:
            order.rest()
        return ReportOutcome.OVERFILLED if over else ReportOutcome.TAKEN

    def change(self, row: dict[str, Any], order: Order) -> ReportOutcome:
        kind = row["kind"]
        if kind == Kind.PLACED:
            if order.placed or order.adopted:
                if order.state != OrderState.UNKNOWN:
                    return ReportOutcome.REPEATED
                order.rest()
                return ReportOutcome.TAKEN
            self.decide(order, placed=True)
            if row["price"] > 0:
                order.price = row["price"]
            order.rest()
        elif kind == Kind.CANCEL_REJECTED:
            if not order.cancelling:
                return ReportOutcome.REPEATED
            order.cancelling = False
            if order.state == OrderState.CANCELLING:
                if order.placed or order.adopted:
                    order.rest()
                else:
                    order.state = OrderState.SENT
        elif kind == Kind.UNKNOWN:
            if order.state == OrderState.UNKNOWN:
                return ReportOutcome.REPEATED
            order.state = OrderState.UNKNOWN
        else:
            assert kind in TERMINAL
            self.decide(order, placed=kind == Kind.CANCELLED)
            self.finish(order)
        return ReportOutcome.TAKEN

    def resync(self, row: dict[str, Any], order: Order | None, at: Position) -> ReportOutcome:
        here = [each for each in self.orders.values() if each.market == row["market"]]
        if row["flags"] & BEGIN:
            at.resyncing = True
            for each in here:
                answered = each.state not in (OrderState.SENT, OrderState.GONE)
                if answered and (
                    each.state != OrderState.CANCELLING or each.placed or each.adopted
                ):
                    each.unnamed = True
            return ReportOutcome.TAKEN
        if not at.resyncing:
            return ReportOutcome.MALFORMED
        if row["id"]:
            return self.name(row, order, at)
        if not row["flags"] & LAST:
            return ReportOutcome.MALFORMED
        at.resyncing = False
        for each in self.in_slots(here):
            if each.live and each.unnamed:
                each.unnamed = False
                self.decide(each, placed=False)
                self.finish(each)
        if row["flags"] & AMOUNTS:
            at.inventory, at.cash, at.fees = row["base_amount"], row["quote_amount"], row["fee"]
            at.covered = max(at.covered, row["sequence"])
            at.doubtful = False
        return ReportOutcome.TAKEN

    def in_slots(self, orders: list[Order]) -> list[Order]:
        """Put orders into the order of their slots: the one thing that the model is told."""
        return orders

    def name(self, row: dict[str, Any], order: Order | None, at: Position) -> ReportOutcome:
        if order is not None and order.live:
            self.decide(order, placed=True)
            order.unnamed = False
            order.leaves, order.price = row["size"], row["price"]
            order.rest()
            return ReportOutcome.TAKEN
        if len(self.live) == self.capacity:
            at.doubtful = True
            return ReportOutcome.NO_SLOT
        new = Order(row["id"], row["market"], row["side"], row["price"], row["size"])
        new.adopted, new.state = True, OrderState.OPEN
        self.put(new)
        self.adopted += 1
        return ReportOutcome.TAKEN
