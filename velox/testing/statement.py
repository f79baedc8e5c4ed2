"""What a trader has on the local market, and what others traded with it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from solders.pubkey import Pubkey

from velox.errors import LedgerError
from velox.runtime.ledger import Equation
from velox.solana.venues.manifest.account import (
    MarketAccount,
    MarketOrder,
    Seat,
    locked_quote,
)
from velox.solana.venues.manifest.events import (
    FillLog,
    PlaceOrderLog,
    TransferLog,
    decode_event,
    events_of,
)
from velox.solana.venues.manifest.instructions import NO_INDEX
from velox.solana.venues.manifest.market import MarketSpec
from velox.testing.svm import Execution

__all__ = ["MarketHistory", "MarketStatement", "Trades", "history_of", "statement_of"]

# A cancellation: its discriminant, market, trader and the order's number.
_CANCELLED: Final = bytes.fromhex("16414721f4ebffd7")
_CANCEL = struct.Struct("<8x32s32sQ")


@dataclass(frozen=True, slots=True)
class Trades:
    """Fills between a trader and some counterparties, from the trader's side. Amounts in atoms.

    Attributes
    ----------
    fills : int
    maker_fills : int
        Those of the trader's resting orders.
    base_bought, quote_paid : int
    base_sold, quote_received : int
    """

    fills: int = 0
    maker_fills: int = 0
    base_bought: int = 0
    quote_paid: int = 0
    base_sold: int = 0
    quote_received: int = 0

    def with_fill(self, fill: FillLog, *, maker: bool) -> Trades:
        """Return these and one more, in which the trader was the maker or the taker."""
        more = {"fills": self.fills + 1, "maker_fills": self.maker_fills + maker}
        if fill.taker_is_buyer != maker:
            more["base_bought"] = self.base_bought + fill.base_atoms
            more["quote_paid"] = self.quote_paid + fill.quote_atoms
        else:
            more["base_sold"] = self.base_sold + fill.base_atoms
            more["quote_received"] = self.quote_received + fill.quote_atoms
        return replace(self, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketHistory:
    """What happened to a trader's orders, from the program's events.

    Attributes
    ----------
    placed, rested, cancelled : int
        Orders that the program placed; those of them that rested; those that the trader cancelled.
    crowd, others : Trades
        Fills with the crowd, and with other traders.
    self_fills, self_quote_atoms : int
        Fills between two orders of the trader, and their quote atoms.
    """

    placed: int
    rested: int
    cancelled: int
    crowd: Trades
    others: Trades
    self_fills: int
    self_quote_atoms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketStatement:
    """A trader's account with the local market. Balances are of the accounts, in atoms.

    Attributes
    ----------
    market, trader : Pubkey
    slot : int
        The block that it is of.
    history : MarketHistory
    bids, asks : int
        The trader's resting orders.
    base_in_orders, quote_in_orders : int
        What those lock.
    base_atoms, quote_atoms : int
        What the trader's seat has besides.
    quote_volume : int
        What the seat says it has traded.
    base_deposited, quote_deposited : int
    base_vault, quote_vault : int
        What the market's vaults hold.
    base_owed, quote_owed : int
        What all seats have and all orders lock.
    """

    market: Pubkey
    trader: Pubkey
    slot: int
    history: MarketHistory
    bids: int
    asks: int
    base_in_orders: int
    quote_in_orders: int
    base_atoms: int
    quote_atoms: int
    quote_volume: int
    base_deposited: int
    quote_deposited: int
    base_vault: int
    quote_vault: int
    base_owed: int
    quote_owed: int

    def equations(self) -> list[Equation]:
        """Return the equations that must hold between blocks."""
        crowd, others = self.history.crowd, self.history.others
        traded = sum(each.quote_paid + each.quote_received for each in (crowd, others))
        return [
            Equation("base vault = seats + asks", self.base_vault, self.base_owed),
            Equation("quote vault = seats + bids", self.quote_vault, self.quote_owed),
            Equation(
                "our base = deposits + bought - sold",
                self.base_atoms + self.base_in_orders,
                self.base_deposited
                + sum(each.base_bought - each.base_sold for each in (crowd, others)),
            ),
            Equation(
                "our quote = deposits + received - paid",
                self.quote_atoms + self.quote_in_orders,
                self.quote_deposited
                + sum(each.quote_received - each.quote_paid for each in (crowd, others)),
            ),
            Equation(
                "volume of our seat = quote of our fills",
                self.quote_volume,
                traded + 2 * self.history.self_quote_atoms,
            ),
        ]

    @property
    def balanced(self) -> bool:
        """bool: Whether all `equations` hold."""
        return all(each.holds for each in self.equations())

    def check(self) -> None:
        """Raise an error if an equation does not hold.

        Raises
        ------
        LedgerError
            The message lists each failing equation with both numbers.
        """
        failing = [each for each in self.equations() if not each.holds]
        if failing:
            raise LedgerError("the market does not balance: " + "; ".join(map(str, failing)))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and `balanced` as a dictionary for JSON."""
        values = asdict(self)
        values["market"], values["trader"] = str(self.market), str(self.trader)
        values["balanced"] = self.balanced
        return values

    def format(self) -> str:
        """Return an aligned table for a terminal."""
        history, crowd = self.history, self.history.crowd
        others = history.others
        rows = [
            ("orders placed on the market", history.placed),
            ("  rested", history.rested),
            ("  cancelled by us", history.cancelled),
            ("fills with the crowd", crowd.fills),
            ("  of our resting orders", crowd.maker_fills),
            ("  of orders that crossed", crowd.fills - crowd.maker_fills),
            ("  base atoms bought", crowd.base_bought),
            ("  for quote atoms", crowd.quote_paid),
            ("  base atoms sold", crowd.base_sold),
            ("  for quote atoms", crowd.quote_received),
            *((("fills with others", others.fills),) if others.fills else ()),
            *((("fills with ourselves", history.self_fills),) if history.self_fills else ()),
            ("our orders that rest now", self.bids + self.asks),
            ("  bids, lock quote atoms", self.quote_in_orders),
            ("  asks, lock base atoms", self.base_in_orders),
            ("our seat, base atoms", self.base_atoms),
            ("our seat, quote atoms", self.quote_atoms),
            ("vaults, base atoms", self.base_vault),
            ("vaults, quote atoms", self.quote_vault),
        ]
        label_width = max(len(label) for label, _ in rows)
        count_width = max(len(f"{count:,}") for _, count in rows)
        lines = [f"{label:<{label_width}}  {count:>{count_width},}" for label, count in rows]
        failing = [each for each in self.equations() if not each.holds]
        lines.append(f"{'balanced':<{label_width}}  {'no' if failing else 'yes':>{count_width}}")
        lines += [f"  {each}" for each in failing]
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.format()


def history_of(
    executions: Iterable[Execution], spec: MarketSpec, trader: Pubkey, crowd: frozenset[Pubkey]
) -> MarketHistory:
    """Return what happened to the orders of a trader."""
    placed = rested = cancelled = self_fills = self_quote = 0
    with_crowd = with_others = Trades()
    market, own = bytes(spec.market), bytes(trader)
    for data in _events(executions, spec.market):
        if data[:8] == _CANCELLED:
            cancelled += _CANCEL.unpack(data)[:2] == (market, own)
            continue
        event = decode_event(data)
        if event is None or isinstance(event, TransferLog) or event.market != spec.market:
            continue
        if isinstance(event, PlaceOrderLog):
            if event.trader == trader:
                placed += 1
                rested += event.order_index != NO_INDEX
        elif event.maker == event.taker == trader:
            self_fills += 1
            self_quote += event.quote_atoms
        elif trader in (event.maker, event.taker):
            is_maker = event.maker == trader
            if (event.taker if is_maker else event.maker) in crowd:
                with_crowd = with_crowd.with_fill(event, maker=is_maker)
            else:
                with_others = with_others.with_fill(event, maker=is_maker)
    return MarketHistory(
        placed=placed,
        rested=rested,
        cancelled=cancelled,
        crowd=with_crowd,
        others=with_others,
        self_fills=self_fills,
        self_quote_atoms=self_quote,
    )


def statement_of(
    account: MarketAccount,
    history: MarketHistory,
    *,
    market: Pubkey,
    trader: Pubkey,
    slot: int,
    deposited: tuple[int, int],
    vaults: tuple[int, int],
) -> MarketStatement:
    """Return the statement of a trader, who has a seat."""
    seats, orders = account.seats(), list(account.orders())
    seat: Seat = seats[trader]
    own = [each for each in orders if each.trader == trader]
    bids = sum(each.is_bid for each in own)
    return MarketStatement(
        market=market,
        trader=trader,
        slot=slot,
        history=history,
        bids=bids,
        asks=len(own) - bids,
        base_in_orders=_locked(own, bids=False),
        quote_in_orders=_locked(own, bids=True),
        base_atoms=seat.base_atoms,
        quote_atoms=seat.quote_atoms,
        quote_volume=seat.quote_volume,
        base_deposited=deposited[0],
        quote_deposited=deposited[1],
        base_vault=vaults[0],
        quote_vault=vaults[1],
        base_owed=sum(each.base_atoms for each in seats.values()) + _locked(orders, bids=False),
        quote_owed=sum(each.quote_atoms for each in seats.values()) + _locked(orders, bids=True),
    )


def _locked(orders: Iterable[MarketOrder], *, bids: bool) -> int:
    """Return what bids lock in quote atoms, each rounded up, or asks in base atoms."""
    return sum(
        locked_quote(each.price, each.base_atoms) if bids else each.base_atoms
        for each in orders
        if each.is_bid == bids
    )


def _events(executions: Iterable[Execution], market: Pubkey) -> Iterator[bytes]:
    """Yield the events of the transactions that succeeded and name a market."""
    for each in executions:
        if each.err is None and market in each.keys:
            yield from events_of(each.whole_logs)
