"""Routes: which markets share Solana transactions, and which carrier encodes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from velox.core.records import TRANSACTION_DTYPE, Kind
from velox.errors import ConfigError
from velox.solana.orders.in_flight import TransactionPlan
from velox.solana.orders.queue import OrderBatch, invalid_orders
from velox.solana.tx.carrier import Cancel, Carrier
from velox.solana.tx.signer import Signer
from velox.solana.tx.template import TransactionBuilder

__all__ = ["Route", "Routes"]

Array: TypeAlias = npt.NDArray[np.void]
MARKETS = 256


class Route:
    """The markets of one carrier, which share transactions.

    Parameters
    ----------
    carrier : Carrier
    signer : Signer

    Attributes
    ----------
    carrier : Carrier
    builder : TransactionBuilder
    """

    def __init__(self, carrier: Carrier, signer: Signer) -> None:
        self.carrier = carrier
        self.builder = TransactionBuilder(carrier, signer)

    def fits(self, records: int, cancels: int, places: int) -> bool:
        """Return whether one transaction holds so many records, cancels and placements."""
        if not self.carrier.numbers_orders:
            return self.builder.fits(records)
        most = self.carrier.max_orders_per_answer
        # Any cancel may have a hint by the time it is signed.
        return (most is None or places <= most) and self.builder.fits(places, cancels, cancels)

    def plan(self, batch: OrderBatch) -> TransactionPlan:
        """Return the plan of the transaction of a batch."""
        orders = batch.records()
        if not self.carrier.numbers_orders:
            return TransactionPlan(orders=orders, places=orders[:0])
        rest = np.array(
            [
                (each.id, each.price, left, each.side, Kind.ADD, 0, each.market, 0)
                for each, left in batch.cancels.items()
                if left
            ],
            TRANSACTION_DTYPE,
        )
        places = np.concatenate([orders[orders["kind"] == Kind.ADD], rest])
        cancels = [each.sequence for each in batch.cancels if each.sequence is not None]
        return TransactionPlan(orders=orders, places=places, cancels=tuple(cancels))

    def payload(self, plan: TransactionPlan, batch: OrderBatch) -> tuple[Array, list[Cancel]]:
        """Return the carrier's arguments: the records, and the cancels by number with hints."""
        if not self.carrier.numbers_orders:
            return plan.orders, []
        hints = {each.sequence: each.hint for each in batch.cancels}
        return plan.places, [Cancel(each, hints.get(each)) for each in plan.cancels]


class Routes:
    """The route of every market.

    Parameters
    ----------
    carriers : Carrier or sequence of Carrier
        A carrier with a `market` takes the orders of that market. One without takes all others.
    signer : Signer

    Attributes
    ----------
    trader : Pubkey
        The signer's key.
    of_market : ndarray of int64, shape (256,)
        The index of each market's route; -1 if no carrier takes it.

    Raises
    ------
    ConfigError
        There is no carrier, there are two for one market, or a carrier's attributes contradict
        each other.
    """

    def __init__(self, carriers: Carrier | Sequence[Carrier], signer: Signer) -> None:
        given = [carriers] if isinstance(carriers, Carrier) else list(carriers)
        if not given:
            raise ConfigError("carriers: at least one is needed")
        self.trader = signer.pubkey
        self._routes = [Route(each, signer) for each in given]
        general = [index for index, each in enumerate(given) if each.market is None]
        if len(general) > 1:
            raise ConfigError(f"carriers: {len(general)} carry all markets; at most one may")
        self.of_market = np.full(MARKETS, general[0] if general else -1, np.int64)
        for index, carrier in enumerate(given):
            market = carrier.market
            if carrier.numbers_orders and (market is None or carrier.lot_atoms <= 0):
                # Without a market, its numbers would be ambiguous.
                raise ConfigError(
                    f"carrier {carrier.name}: numbers_orders needs a market and lot_atoms"
                )
            if market is None:
                continue
            if not 0 <= market < MARKETS:
                raise ConfigError(f"carrier {carrier.name}: market = {market}: must be 0 to 255")
            if self.of_market[market] not in (-1, *general):
                raise ConfigError(f"carriers: two for market {market}")
            self.of_market[market] = index

    def __len__(self) -> int:
        return len(self._routes)

    def __getitem__(self, index: int) -> Route:
        return self._routes[index]

    def faults(self, orders: Array) -> list[tuple[str, npt.NDArray[np.bool_]]]:
        """Return pairs of a reason and a mask, for orders that cannot be carried.

        Each mask is over the orders that the masks before it left.
        """
        unknown = self.of_market[orders["market"]] < 0
        orders = orders[~unknown]
        invalid = invalid_orders(orders)
        orders = orders[~invalid]
        unfit = np.zeros(len(orders), np.bool_)
        route_of_order = self.of_market[orders["market"]]
        for index, route in enumerate(self._routes):
            mine = route_of_order == index
            if mine.any():
                unfit[mine] = ~route.carrier.representable(orders[mine])
        return [("unknown_market", unknown), ("invalid", invalid), ("unrepresentable", unfit)]
