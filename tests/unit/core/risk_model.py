"""A plain risk gate: one look at each limit, in unlimited integers and exact fractions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from tests.unit.core.order_model import Model
from velox import Block, Kind, Limits, MarketLimits

SECOND = 10**9


@dataclass
class Bucket:
    """Tokens of one order each, as an exact fraction; full at first."""

    tokens: Fraction | None = None  # None: full
    then: int = 0

    def fill(self, rate: int | None, burst: int | None, now: int) -> None:
        if rate is None:
            self.tokens = None
            return
        most = Fraction(min(rate, 10**6) if burst is None else burst)
        elapsed = max(0, now - self.then)
        self.then = max(self.then, now)
        if self.tokens is None or self.tokens >= most:
            self.tokens = most
        else:
            self.tokens = min(most, self.tokens + Fraction(elapsed * rate, SECOND))

    @property
    def has_one(self) -> bool:
        return self.tokens is None or self.tokens >= 1

    def take(self) -> None:
        if self.tokens is not None:
            self.tokens -= 1


@dataclass
class Market:
    """What the gate knows of a market."""

    bid: int = 0
    ask: int = 0
    feed_state: int = 0
    then: int = 0
    orders: Bucket = field(default_factory=Bucket)
    cancels: Bucket = field(default_factory=Bucket)
    recent: list[tuple[int, int, int, int]] = field(default_factory=list)
    equity: int = 0
    best_equity: int = 0


class Gate:
    """What a `RiskGate` promises."""

    def __init__(self, orders: Model, limits: Limits, units: dict[int, Fraction]) -> None:
        self.orders, self.limits, self.units = orders, limits, units
        self.next_limits = limits
        self.markets: dict[int, Market] = {}
        self.now = 0
        self.killed = False
        self.total_orders, self.total_cancels = Bucket(), Bucket()
        self.best_equity = 0
        self.passed = self.cancels = self.over_rate = self.kills = 0
        self.blocked = dict.fromkeys(Block, 0)

    def market(self, market: int) -> Market:
        return self.markets.setdefault(market, Market())

    def begin(self, now: int) -> None:
        self.now, self.limits = now, self.next_limits

    @property
    def marks(self) -> bool:
        """Whether any limit asks for the equity: if not, it is not looked at."""
        every = [self.limits, self.limits.each, *self.limits.markets.values()]
        return any(
            each is not None and (each.max_loss is not None or each.max_drawdown is not None)
            for each in every
        )

    def touch(self, at: int, bid: int, ask: int, feed_state: int, then: int) -> None:
        market = self.market(at)
        market.bid, market.ask, market.feed_state, market.then = bid, ask, feed_state, then
        if self.marks:
            self.mark(at)

    def mark(self, at: int) -> None:
        market, position = self.market(at), self.orders.position(at)
        price = market.ask if position.inventory < 0 else market.bid
        if price <= 0 and position.inventory:
            return
        unit = self.units.get(at, Fraction(1))
        value = int((position.inventory * price * unit).__floor__())
        market.equity = position.cash - position.fees + max(-(2**118), min(2**118, value))
        market.best_equity = max(market.best_equity, market.equity)
        total = sum(each.equity for each in self.markets.values())
        self.best_equity = max(self.best_equity, total)
        # A market without limits has those of all markets; but no order passes there.
        rows: list[tuple[Any, int, int]] = [
            (self.limits.of(at) or self.limits, market.equity, market.best_equity),
            (self.limits, total, self.best_equity),
        ]
        for limits, equity, best in rows:
            lost = limits.max_loss is not None and equity < -limits.max_loss
            fell = limits.max_drawdown is not None and best - equity > limits.max_drawdown
            if (lost or fell) and not self.killed:
                self.killed = True
                self.kills += 1

    def screen(self, row: dict[str, Any]) -> set[Block]:
        limits = self.limits.of(row["market"])
        if row["kind"] == Kind.CANCEL:
            self.cancel(row, limits)
            return set()
        if row["kind"] != Kind.ADD:
            return self.block({Block.KIND})
        refusal = self.orders.refusal(row["id"])
        if refusal is not None:
            return self.block({Block[refusal.name]})
        reasons = self.reasons(row, limits)
        if reasons:
            return self.block(reasons)
        market = self.market(row["market"])
        market.orders.take()
        self.total_orders.take()
        market.recent = [*market.recent, (row["price"], row["size"], row["side"], self.now)][-16:]
        names = ("id", "market", "side", "price", "size")
        self.orders.send(*(row[name] for name in names))
        self.passed += 1
        return set()

    def block(self, reasons: set[Block]) -> set[Block]:
        self.blocked[min(reasons)] += 1
        return reasons

    def cancel(self, row: dict[str, Any], limits: MarketLimits | None) -> None:
        self.cancels += 1
        self.orders.cancel(row["id"])
        here, total = self.market(row["market"]).cancels, self.total_cancels
        both: list[tuple[Bucket, Any]] = [(here, limits or self.limits), (total, self.limits)]
        for bucket, each in both:
            bucket.fill(each.cancels_per_second, each.cancel_burst, self.now)
        if here.has_one and total.has_one:
            here.take()
            total.take()
        else:
            self.over_rate += 1

    def reasons(self, row: dict[str, Any], given: MarketLimits | None) -> set[Block]:
        at, side, price, size = (row[name] for name in ("market", "side", "price", "size"))
        market, position = self.market(at), self.orders.position(at)
        total = self.limits
        limits: Any = given
        if limits is None:
            limits = MarketLimits(
                **{
                    name: getattr(total, name)
                    for name in ("max_open_orders", "orders_per_second", "order_burst")
                }
            )
        found = {
            Block.KILLED: self.killed,
            Block.NO_LIMITS: given is None,
            Block.ACCOUNT: position.doubtful,
            Block.FEED: bool(market.feed_state)
            or self.now - market.then > (limits.max_feed_age_ns or self.now + 1),
            Block.SIDE: side > 1,
            Block.PRICE: price <= 0,
            Block.LOTS: not 1 <= size <= (limits.max_order_lots or size),
            Block.LOT_STEP: size % (limits.lot_step or 1) != 0,
        }
        live = self.orders.live
        here = sum(order.market == at for order in live)
        for count, most in ((here, limits.max_open_orders), (len(live), total.max_open_orders)):
            if most is not None and count >= most:
                found[Block.OPEN_ORDERS] = True
        market.orders.fill(limits.orders_per_second, limits.order_burst, self.now)
        self.total_orders.fill(total.orders_per_second, total.order_burst, self.now)
        found[Block.RATE] = not (market.orders.has_one and self.total_orders.has_one)
        if side <= 1:
            found |= self.of_the_side(row, limits, market)
        return {reason for reason, applies in found.items() if applies}

    def of_the_side(
        self, row: dict[str, Any], limits: MarketLimits, market: Market
    ) -> dict[Block, bool]:
        at, side, price, size = (row[name] for name in ("market", "side", "price", "size"))
        position = self.orders.position(at)
        unit = self.orders.base_units.get(at, 1)
        sign = -1 if side else 1
        worst = sign * position.inventory + (self.orders.open(at, side) + size) * unit
        found = {
            Block.POSITION: limits.max_position is not None and worst > limits.max_position * unit,
            Block.DUPLICATE: limits.duplicate_ns is not None
            and any(
                (old_price, old_size, old_side) == (price, size, side)
                and self.now - then < limits.duplicate_ns
                for old_price, old_size, old_side, then in market.recent
            ),
        }
        if price <= 0:
            return found
        opposite = market.bid if side else market.ask
        own = self.orders.best(at, 1 - side)
        found[Block.PRICE_STEP] = price % (limits.price_step or 1) != 0
        found[Block.NOTIONAL] = price * size > (limits.max_notional or price * size)
        found[Block.COLLAR] = limits.collar is not None and (
            opposite <= 0 or abs(price - opposite) > limits.collar
        )
        found[Block.SELF_TRADE] = (
            not limits.self_trade and own is not None and sign * price >= sign * own
        )
        return found
