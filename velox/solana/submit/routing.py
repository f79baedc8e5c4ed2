"""Which markets share transactions, and what a transaction of theirs is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from velox.core.records import TRANSACTION_DTYPE, Kind
from velox.errors import ConfigError
from velox.solana.orders.in_flight import TransactionPlan
from velox.solana.orders.queue import OrderBatch
from velox.solana.tx.carrier import Cancel, Carrier
from velox.solana.tx.signer import Signer
from velox.solana.tx.template import TransactionBuilder

__all__ = ["Route", "Routes"]

Array: TypeAlias = npt.NDArray[np.void]


class Route:
    """Markets that share transactions: their carrier, and what builds for it.

    Parameters
    ----------
    carrier : Carrier
    signer : Signer
    """

    def __init__(self, carrier: Carrier, signer: Signer) -> None:
        self.carrier = carrier
        self.builder = TransactionBuilder(carrier, signer)

    def fits(self, records: int, cancels: int, places: int) -> bool:
        """Whether one transaction holds so much."""
        if not self.carrier.numbers_orders:
            return self.builder.fits(records)
        most = self.carrier.max_orders_per_answer
        return (most is None or places <= most) and self.builder.fits(places, cancels)

    def plan(self, pack: OrderBatch) -> TransactionPlan:
        """Say what the transaction of a pack is to do."""
        orders = pack.records()
        if not self.carrier.numbers_orders:
            return TransactionPlan(orders=orders, places=orders[:0])
        rest = np.array(
            [
                (each.id, each.price, left, each.side, Kind.ADD, 0, each.market, 0)
                for each, left in pack.cancels.items()
                if left
            ],
            TRANSACTION_DTYPE,
        )
        places = np.concatenate([orders[orders["kind"] == Kind.ADD], rest])
        cancels = [each.sequence for each in pack.cancels if each.sequence is not None]
        return TransactionPlan(orders=orders, places=places, cancels=tuple(cancels))

    def payload(self, plan: TransactionPlan) -> tuple[Array, list[Cancel]]:
        """Return what the carrier's instruction is made of."""
        if not self.carrier.numbers_orders:
            return plan.orders, []
        return plan.places, [Cancel(each) for each in plan.cancels]


class Routes:
    """The lane of every market.

    Parameters
    ----------
    carriers : Carrier or sequence of Carrier
        A carrier with a `market` takes the orders of that market. One without takes all others.
    signer : Signer

    Raises
    ------
    ConfigError
        No carrier; two for the same market; or a carrier whose attributes contradict each other.
    """

    def __init__(self, carriers: Carrier | Sequence[Carrier], signer: Signer) -> None:
        given = [carriers] if isinstance(carriers, Carrier) else list(carriers)
        if not given:
            raise ConfigError("carriers: none is given")
        self._lanes = [Route(each, signer) for each in given]
        general = [index for index, each in enumerate(given) if each.market is None]
        if len(general) > 1:
            raise ConfigError(f"carriers: {len(general)} carry all markets; at most one may")
        self.of_market = np.full(256, general[0] if general else -1, np.int64)
        for index, carrier in enumerate(given):
            market = carrier.market
            if market is None:
                if carrier.numbers_orders:
                    # Its numbers would be ambiguous between markets.
                    raise ConfigError(f"carrier {carrier.name}: numbers_orders needs a market")
                continue
            if carrier.numbers_orders and carrier.lot_atoms <= 0:
                raise ConfigError(f"carrier {carrier.name}: numbers_orders needs lot_atoms")
            if not 0 <= market < 256:
                raise ConfigError(f"carrier {carrier.name}: market = {market}: must be 0 to 255")
            if self.of_market[market] not in (-1, *general):
                raise ConfigError(f"carriers: two for market {market}")
            self.of_market[market] = index

    def __len__(self) -> int:
        return len(self._lanes)

    def __getitem__(self, index: int) -> Route:
        return self._lanes[index]

    def faults(self, orders: Array) -> list[tuple[str, npt.NDArray[np.bool_]]]:
        """Name the orders that cannot be carried; each mask is of those that the last one left."""
        unknown = self.of_market[orders["market"]] < 0
        orders = orders[~unknown]
        invalid = ~((orders["side"] <= 1) & (orders["price"] > 0) & (orders["size"] > 0))
        orders = orders[~invalid]
        unfit = np.zeros(len(orders), np.bool_)
        route_of_order = self.of_market[orders["market"]]
        for index, route in enumerate(self._lanes):
            mine = route_of_order == index
            unfit[mine] = ~route.carrier.representable(orders[mine])
        return [("unknown_market", unknown), ("invalid", invalid), ("unrepresentable", unfit)]
